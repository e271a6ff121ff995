// The timeline: a slider over all frames, with a filmstrip from the storyboard and the picture at the pointer.

import { storyboard } from "./api.js";
import { clock } from "./words.js";

const TILES = 100;
const TILE_WIDTH = 192;
/** Most pixels to decode for a sheet of exact frames; above, the sheet of key frames is enough. */
const EXACT_PIXELS = 1.2e9;

export class Timeline {
  #player;
  #box = document.getElementById("timeline");
  #film = document.getElementById("film");
  #marks = document.getElementById("marks");
  #needle = document.getElementById("needle");
  #peek = document.getElementById("peek");
  #board = null;
  #loading = null;
  #pointer = null;
  #isDue = false;

  constructor(player) {
    this.#player = player;
    player.addEventListener("info", () => this.#reset());
    player.addEventListener("want", () => this.#place());
    player.addEventListener("marks", () => this.#mark());
    player.addEventListener("picture", () => {
      this.#mark();
      // Only now, so that the storyboard does not delay the first picture.
      if (!this.#loading && player.info) this.#load();
    });
    new ResizeObserver(() => {
      this.#drawFilm();
      this.#mark();
      this.#place();
    }).observe(this.#box);
    const box = this.#box;
    box.addEventListener("pointerdown", (event) => this.#down(event));
    box.addEventListener("pointermove", (event) => this.#move(event));
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
      box.addEventListener(type, (event) => this.#up(event));
    }
    box.addEventListener("pointerleave", () => this.#pointer ?? this.#hidePeek());
  }

  #down(event) {
    // A second finger zooms, it does not drag.
    if (this.#pointer !== null) {
      this.#end();
      return;
    }
    if (event.button !== 0 || !this.#player.info) return;
    this.#box.setPointerCapture(event.pointerId);
    this.#box.focus({ preventScroll: true });
    event.preventDefault();
    this.#pointer = event.pointerId;
    this.#player.scrub(this.#frameAt(event));
    this.#showPeek(event);
  }

  #move(event) {
    if (!this.#player.info) return;
    if (this.#pointer === event.pointerId) {
      const frame = this.#frameAt(event);
      if (frame !== this.#player.wanted) this.#player.scrub(frame);
      this.#showPeek(event);
    } else if (event.pointerType === "mouse") {
      this.#showPeek(event);
    }
  }

  #up(event) {
    if (this.#pointer !== event.pointerId) return;
    // The position of the release counts, even without a move event there.
    if (event.type === "pointerup") this.#move(event);
    this.#end();
    if (event.pointerType !== "mouse") this.#hidePeek();
  }

  #end() {
    this.#pointer = null;
    this.#player.scrubEnd();
  }

  /** The frame at the pointer. Each frame has a cell of its own. */
  #frameAt({ clientX }) {
    const { left, width } = this.#box.getBoundingClientRect();
    const { last } = this.#player;
    return Math.max(0, Math.min(last, Math.floor(((clientX - left) / width) * (last + 1))));
  }

  #place() {
    const { info, wanted, last, fps } = this.#player;
    const box = this.#box;
    box.setAttribute("aria-disabled", String(!info));
    box.setAttribute("aria-valuemax", String(last));
    box.setAttribute("aria-valuenow", String(wanted));
    box.setAttribute("aria-valuetext", info ? `Frame ${wanted} of ${last + 1}, about ${clock(this.#timeOf(wanted) ?? wanted / fps)}` : "no video");
    this.#needle.hidden = !info;
    this.#needle.style.left = `${((wanted + 0.5) / (last + 1)) * 100}%`;
  }

  // The storyboard

  #reset() {
    this.#loading?.abort();
    this.#loading = null;
    this.#board?.image.close();
    this.#board = null;
    this.#box.title = "";
    this.#hidePeek();
    this.#drawFilm();
    this.#mark();
    this.#place();
  }

  async #load() {
    const { video, info } = this.#player;
    const loading = new AbortController();
    this.#loading = loading;
    const query = { count: Math.min(TILES, info.frames), columns: 10, width: TILE_WIDTH, v: info.etag };
    const isCheap = info.keyframes < query.count && info.frames * info.width * info.height < EXACT_PIXELS;
    // A sheet of key frames is there at once. Where there are few of them, exact frames show more.
    for (const mode of isCheap ? [undefined, "exact"] : [undefined]) {
      try {
        const board = await storyboard(video, { ...query, mode }, { signal: loading.signal });
        if (this.#loading !== loading) {
          board.image.close();
          return;
        }
        this.#board?.image.close();
        this.#board = { ...board, frames: info.frames };
        this.#box.dataset.storyboard = mode ?? "keyframe";
        this.#box.title = board.isDamaged ? "Some of these small pictures are damaged" : "";
        this.#drawFilm();
        this.#place();
      } catch (problem) {
        // The timeline works without pictures; the next picture tries again.
        if (this.#loading === loading && (problem.status >= 500 || problem.kind === "unreachable")) {
          setTimeout(() => this.#loading === loading && (this.#loading = null), 5000);
        }
        return;
      }
    }
  }

  /** The tile whose part of the video contains a frame. Parts begin at the nearest whole frame. */
  #cueOf(frame) {
    if (!this.#board) return null;
    const { cues, frames } = this.#board;
    const count = cues.length;
    const begins = (i) => Math.floor((2 * i * frames + count) / (2 * count));
    let at = Math.min(count - 1, Math.floor((frame * count) / frames) + 1);
    while (at > 0 && begins(at) > frame) at--;
    return { ...cues[at], first: begins(at), end: at + 1 < count ? begins(at + 1) : frames };
  }

  /** The time of a frame from the cues: exact at their borders, also for variable frame rates. */
  #timeOf(frame) {
    const cue = this.#cueOf(frame);
    return cue && cue.from + ((cue.to - cue.from) * (frame - cue.first)) / Math.max(1, cue.end - cue.first);
  }

  #drawFilm() {
    const [context, width, height] = canvasOf(this.#film);
    delete this.#film.dataset.drawn;
    if (!this.#board) {
      context.clearRect(0, 0, width, height);
      return;
    }
    const { cues, image, frames } = this.#board;
    const aspect = cues[0].width / cues[0].height;
    const count = Math.max(1, Math.round(width / (height * aspect)));
    const slot = width / count;
    // Tiles fill their slots: the rest above and below, or left and right, is cropped.
    const cut = Math.min(1, slot / height / aspect);
    for (let i = 0; i < count; i++) {
      const { x, y, width: w, height: h } = this.#cueOf(Math.floor(((i + 0.5) / count) * frames));
      const [sw, sh] = cut < 1 ? [w * cut, h] : [w, Math.min(h, (w * height) / slot)];
      context.drawImage(image, x + (w - sw) / 2, y + (h - sh) / 2, sw, sh, i * slot, 0, Math.ceil(slot), height);
    }
    this.#film.dataset.drawn = count;
  }

  // Marks of frames: available, damaged, failed

  #mark() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#drawMarks();
    });
  }

  #drawMarks() {
    const [context, width, height] = canvasOf(this.#marks);
    context.clearRect(0, 0, width, height);
    const { store, last, info } = this.#player;
    if (!info) return;
    const style = getComputedStyle(this.#box);
    const cell = width / (last + 1);
    const ratio = devicePixelRatio;
    const paint = (frames, colour, least, tall) => {
      context.fillStyle = style.getPropertyValue(colour);
      for (const frame of frames) {
        const wide = Math.max(least * ratio, cell);
        context.fillRect(frame * cell + (cell - wide) / 2, height - tall * ratio, wide, tall * ratio);
      }
    };
    paint(store.frames(), "--here", 1, 3);
    paint(store.corrupt, "--warn", 3, 10);
    paint(store.failed.keys(), "--bad", 3, 10);
    this.#marks.dataset.failed = [...store.failed.keys()].join(" ");
  }

  // The picture at the pointer

  #showPeek(event) {
    const frame = this.#frameAt(event);
    const cue = this.#cueOf(frame);
    const [canvas, text] = this.#peek.children;
    canvas.hidden = !cue;
    this.#peek.hidden = false;
    if (cue) {
      [canvas.width, canvas.height] = [cue.width, cue.height];
      canvas.getContext("2d").drawImage(this.#board.image, cue.x, cue.y, cue.width, cue.height, 0, 0, cue.width, cue.height);
    }
    text.textContent = `${frame.toLocaleString("en")} · ${clock(this.#timeOf(frame) ?? frame / this.#player.fps)}`;
    const { left, width } = this.#box.getBoundingClientRect();
    const half = this.#peek.offsetWidth / 2;
    const at = Math.max(half, Math.min(width - half, event.clientX - left));
    this.#peek.style.left = `${at}px`;
  }

  #hidePeek() {
    this.#peek.hidden = true;
  }
}

/** A canvas with as many pixels as it covers on the screen. */
function canvasOf(canvas) {
  const width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  const height = Math.max(1, Math.round(canvas.clientHeight * devicePixelRatio));
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  return [canvas.getContext("2d"), width, height];
}
