// The shown frame, and the requests that fetch the next ones ahead. `link.js` sends them, `store.js` keeps pictures.

import { Problem, videoInfo } from "./api.js";
import { Store } from "./store.js";

/** Request options of a frame that the user looks at. */
const FULL = { quality: 92 };
/** Quality of a frame that is shown only for a moment. */
const DRAFT_QUALITY = 75;
/** Time without a move after which the picture is fetched in full. */
const SETTLE_MS = 140;
/** Frames fetched ahead of single steps, ahead of larger ones, and around a picture at rest. */
const AHEAD = { step: 24, leap: 6, around: 8 };
/** Waits before a frame is requested again after a temporary failure. */
const AGAIN_MS = [1000, 2000, 4000, 8000];

const WORDS = {
  decode_failed: (frame) => `Frame ${frame} cannot be decoded`,
  not_found: (frame) => `There is no frame ${frame}`,
  overloaded: () => "The server is overloaded",
  deadline: (frame) => `Frame ${frame} took too long`,
  fetch_failed: () => "The video's bytes cannot be fetched",
};

/**
 * Events: `want` (another frame is wanted), `picture` (detail: the drawn picture), `trouble` (see `trouble`), `marks`
 * (another frame is known to be damaged), `play`, `info`.
 */
export class Player extends EventTarget {
  video = null;
  info = null;
  store = new Store();
  /** The frame that is to be shown. */
  wanted = 0;
  /** The picture that is shown: `{frame, tier, bitmap, head}`. */
  shown = null;
  /** The current problem, as text: `{words, detail, again, until}`; null without one. */
  trouble = null;
  isPlaying = false;
  isScrubbing = false;
  /** Frames shown in the last second of playing. */
  rate = 0;

  #link;
  #screen;
  /** Responses to requests from before another video was opened are dropped. */
  #generation = 0;
  #inflight = new Map();
  #step = 0;
  #wish = null;
  #time = null;
  #isBroken = false;
  #attempts = 0;
  #settling = 0;
  #retrying = 0;
  #abort = new AbortController();
  #clock = null;
  #ticks = [];

  /** `screen` is `{draw(bitmap), width(aspect)}`. */
  constructor(link, screen) {
    super();
    this.#link = link;
    this.#screen = screen;
    link.addEventListener("open", () => this.#reconnected());
    link.addEventListener("video", ({ detail }) => this.#videoSet(detail));
  }

  get last() {
    return this.info ? this.info.frames - 1 : 0;
  }

  get fps() {
    return this.info?.average_frame_rate || 25;
  }

  /** Whether the shown picture is the wanted one. */
  get isThere() {
    return this.shown?.frame === this.wanted || this.store.failed.has(this.wanted);
  }

  /** Width and height of pictures as they arrive. */
  get size() {
    const { width = 16, height = 9, rotation = 0, sample_aspect_ratio: shape } = this.info ?? {};
    const [across, down] = /^\d+:[1-9]\d*$/.test(shape ?? "") ? shape.split(":").map(Number) : [1, 1];
    const size = [width * (across / down || 1), height];
    return rotation % 180 === 0 ? size : size.reverse();
  }

  /** Opens a video at a frame or a time. */
  async open(video, { frame = 0, time = null } = {}) {
    this.close();
    this.video = video;
    this.wanted = frame;
    this.#time = time;
    const generation = this.#generation;
    this.#emit("info");
    try {
      const info = await videoInfo(video, { signal: this.#abort.signal });
      if (generation !== this.#generation) return;
      this.info = info;
    } catch (problem) {
      if (generation === this.#generation) this.#cannotOpen(problem, { frame, time });
      return;
    }
    this.#say(null);
    this.wanted = this.#clamp(frame);
    this.#link.setVideo(video);
    this.#emit("info");
    this.#want(this.wanted, 0);
    this.#present();
  }

  /** Closes the video. */
  close() {
    this.pause();
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#generation++;
    this.#forget();
    clearTimeout(this.#settling);
    clearTimeout(this.#retrying);
    this.store.clear();
    [this.video, this.info, this.shown, this.#time] = [null, null, null, null];
    [this.wanted, this.#step, this.#attempts, this.#isBroken, this.isScrubbing] = [0, 0, 0, false, false];
    this.#link.setVideo(null);
    this.#say(null);
  }

  /**
   * Goes to a frame. `step` says that this is one of several moves: then frames in that direction are fetched ahead,
   * and the full picture only after the last move.
   */
  goTo(frame, { step = 0 } = {}) {
    if (!this.info) return;
    this.#stop();
    this.#time = null;
    this.#want(this.#clamp(frame), step);
    this.#present();
  }

  /** Goes to the frame that is shown at this time. */
  goToTime(seconds) {
    if (!this.info) return;
    this.#stop();
    this.#time = seconds;
    this.#present();
  }

  /** Moves by some frames. A key that is held down waits for each picture, so that none is skipped. */
  move(step, { isRepeat = false } = {}) {
    if (!this.info || (isRepeat && !this.isThere)) return;
    const frame = this.#clamp(this.wanted + step);
    if (frame === this.wanted && !this.isPlaying) return;
    this.goTo(frame, { step });
  }

  /** Shows the frame at the pointer, which may move on at once. */
  scrub(frame) {
    if (!this.info) return;
    this.#stop();
    if (!this.isScrubbing) this.#forget();
    this.isScrubbing = true;
    clearTimeout(this.#settling);
    this.#want(this.#clamp(frame), 0);
    const picture = this.store.get(this.wanted);
    if (picture) this.#show(picture);
    else this.#scrubOn();
  }

  /** The pointer was released. */
  scrubEnd() {
    if (!this.isScrubbing) return;
    this.isScrubbing = false;
    this.goTo(this.wanted);
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  play() {
    if (!this.info || this.isPlaying) return;
    const from = this.wanted >= this.last ? 0 : this.wanted;
    clearTimeout(this.#settling);
    this.isPlaying = true;
    this.#clock = null;
    this.#ticks = [];
    this.#want(from, 1);
    this.#present();
    this.#emit("play");
    requestAnimationFrame((now) => this.#tick(now));
  }

  pause() {
    if (!this.isPlaying) return;
    this.#stop();
    this.goTo(this.wanted);
  }

  /** Tries again after a failure. */
  again() {
    clearTimeout(this.#retrying);
    if (!this.info && this.video !== null) {
      this.open(this.video, { frame: this.wanted, time: this.#time });
      return;
    }
    this.store.failed.delete(this.wanted);
    this.#emit("marks");
    if (this.#isBroken) {
      this.#isBroken = false;
      this.#link.setVideo(this.video);
    }
    this.#say(null);
    this.#present();
  }

  // The shown picture

  #want(frame, step) {
    this.wanted = frame;
    this.#step = step;
    this.#wish = { frame, at: performance.now() };
    this.#emit("want");
  }

  /** Shows the wanted frame, or requests it. */
  #present() {
    if (!this.info || this.#isBroken) return;
    clearTimeout(this.#settling);
    if (this.#time !== null) {
      this.#findTime();
      return;
    }
    const frame = this.wanted;
    const picture = this.store.get(frame);
    const failure = this.store.failed.get(frame);
    if (picture) {
      this.#show(picture);
      if (picture.tier === "draft" && !this.isPlaying) {
        this.#settling = setTimeout(() => this.#settle(), this.#step === 0 ? 0 : SETTLE_MS);
      }
    } else if (failure) {
      this.#tell(frame, failure.error, failure.message);
    } else if (!this.#isInFlight(frame)) {
      // The wanted frame comes before frames fetched ahead, and frames fetched for another position must not delay it.
      const useful = new Set(this.#window());
      if ([...this.#inflight.keys()].some((key) => !useful.has(parseInt(key, 10)))) this.#forget();
      this.#ask([frame], { order: "latest", isFull: this.#step === 0 });
    }
    this.#ahead();
  }

  #show(picture) {
    const isNew = this.shown !== picture;
    this.shown = picture;
    if (isNew) this.#screen.draw(picture.bitmap);
    this.#attempts = 0;
    this.#say(null);
    // The latency is from the request to the picture; a better picture of the same frame does not count.
    const wish = this.#wish?.frame === picture.frame ? this.#wish : null;
    if (wish) this.#wish = null;
    const took = wish && performance.now() - wish.at;
    const found = wish && picture.sent >= wish.at - 1 ? picture.head.cache : "page";
    if (isNew || wish) this.#emit("picture", { picture, took, found, isPlaying: this.isPlaying });
  }

  /** After the last move: fetches the picture in full, and then the frames around it. */
  #settle() {
    this.#step = 0;
    if (this.shown?.frame === this.wanted && this.shown.tier === "draft" && !this.#inflight.has(`${this.wanted} full`)) {
      this.#ask([this.wanted], { order: "latest", isFull: true });
    }
  }

  // Requests

  /** The frames that are likely to be wanted next, the most likely first. */
  #window() {
    const step = this.#step;
    const room = this.store.room(this.#draftBytes());
    const inside = (frame) => frame >= 0 && frame <= this.last;
    const row = (from, by, count) => Array.from({ length: count }, (_, i) => from + by * (i + 1)).filter(inside);
    if (this.isPlaying) return row(this.wanted, 1, Math.min(room, Math.max(16, Math.min(64, Math.round(this.fps)))));
    if (step === 0) {
      const count = Math.min(AHEAD.around, room >> 1);
      return [...row(this.wanted, 1, count), ...row(this.wanted, -1, count)];
    }
    return row(this.wanted, step, Math.min(room, Math.abs(step) === 1 ? AHEAD.step : AHEAD.leap));
  }

  /** Fetches ahead in the direction of movement, in batches: the server decodes shared frames once. */
  #ahead() {
    const isResting = this.#step === 0 && !this.isPlaying;
    // The shown frame comes before frames that might be shown.
    if (isResting && (this.shown?.frame !== this.wanted || this.shown.tier === "draft") && !this.store.failed.has(this.wanted)) return;
    const frames = this.#window();
    const missing = frames.filter((frame) => !this.store.has(frame) && !this.#isInFlight(frame));
    if (missing.length === 0) return;
    const isUrgent = frames.indexOf(missing[0]) < 3;
    if (isUrgent || missing.length * 2 >= frames.length) this.#ask(missing, { order: "fifo" });
  }

  /** Requests one frame at a time: a newer request would supersede one whose picture is nearly there. */
  #scrubOn() {
    if (this.#inflight.size > 0 || this.store.has(this.wanted)) return;
    this.#wish = { frame: this.wanted, at: performance.now() };
    this.#ask([this.wanted], { order: "latest" });
  }

  #findTime() {
    const generation = this.#generation;
    this.#link.request([{ time: this.#time }], { order: "latest", ...FULL }, async (_, told) => {
      if (generation !== this.#generation || this.#time === null || told.error === "disconnected") return;
      this.#time = null;
      this.goTo(told.ok ? told.head.frame : this.last);
    });
  }

  #draft() {
    const [width, height] = this.size;
    // In steps, so that windows of nearly the same size share stills in the server's cache.
    const needed = Math.ceil(this.#screen.width(width / height) / 160) * 160;
    return needed < width * 0.8 ? { width: needed, quality: DRAFT_QUALITY } : null;
  }

  #draftBytes() {
    const [width, height] = this.size;
    const shrunk = (this.#draft()?.width ?? width) / width;
    return width * height * 4 * shrunk * shrunk;
  }

  #isInFlight(frame) {
    return this.#inflight.has(`${frame} full`) || this.#inflight.has(`${frame} draft`);
  }

  #ask(frames, { order, isFull = false }) {
    const draft = isFull ? null : this.#draft();
    const tier = draft ? "draft" : "full";
    const generation = this.#generation;
    const request = {};
    for (const frame of frames) this.#inflight.set(`${frame} ${tier}`, request);
    this.#link.request(frames.map((frame) => ({ frame })), { order, ...(draft ?? FULL) }, async (place, told) => {
      const frame = frames[place];
      let bitmap = null;
      if (told.ok) {
        // A picture that the browser cannot read counts as a failure.
        bitmap = await createImageBitmap(told.blob).catch(() => null);
      }
      if (generation !== this.#generation) {
        bitmap?.close();
        return;
      }
      const isCurrent = this.#inflight.get(`${frame} ${tier}`) === request;
      if (isCurrent) this.#inflight.delete(`${frame} ${tier}`);
      if (bitmap) {
        const wasCorrupt = this.store.corrupt.has(frame);
        this.store.put({ frame, tier, bitmap, head: told.head, sent: told.sent });
        if (!wasCorrupt && this.store.corrupt.has(frame)) this.#emit("marks");
        this.#arrived(frame);
      } else {
        const { error, message } = told.ok ? { error: "decode_failed", message: "the picture cannot be read" } : told;
        this.#refused(frame, error, message, isCurrent);
      }
    });
  }

  #arrived(frame) {
    if (this.isScrubbing) {
      // Shows any picture that arrives: it is near the pointer.
      this.#show(this.store.get(frame));
      this.#scrubOn();
    } else if (this.isPlaying) {
      if (frame === this.wanted && !this.#clock) this.#show(this.store.get(frame));
    } else if (frame === this.wanted) {
      this.#present();
    }
  }

  #refused(frame, error, message, isCurrent) {
    if (this.#isBroken || !isCurrent) return;
    const isWanted = frame === this.wanted && !this.isPlaying;
    if (["cancelled", "superseded", "disconnected"].includes(error)) {
      // Requested again if the frame is still wanted; without a connection, when there is a new one.
      if (error === "disconnected") return;
      if (this.isScrubbing) this.#scrubOn();
      else if (frame === this.wanted) this.#present();
      return;
    }
    if (this.store.fail(frame, error, message)) {
      this.#emit("marks");
      if (isWanted) this.#tell(frame, error, message);
      if (this.isScrubbing) this.#scrubOn();
      else if (isWanted) this.#ahead();
    } else if (frame === this.wanted) {
      const pause = AGAIN_MS[Math.min(this.#attempts++, AGAIN_MS.length - 1)];
      this.#tell(frame, error, message, performance.now() + pause);
      clearTimeout(this.#retrying);
      this.#retrying = setTimeout(() => (this.isScrubbing ? this.#scrubOn() : this.#present()), pause);
    }
  }

  /** Drops all requests in flight. Pictures that still arrive are kept. */
  #forget() {
    if (this.#inflight.size === 0) return;
    this.#inflight.clear();
    this.#link.cancel();
  }

  // Playing

  #stop() {
    if (!this.isPlaying) return;
    this.isPlaying = false;
    this.rate = 0;
    this.#emit("play");
  }

  /** At each refresh of the screen: shows the next frame if its time has come. Frames have their own times. */
  #tick(now) {
    if (!this.isPlaying) return;
    requestAnimationFrame((next) => this.#tick(next));
    // No screen is assumed to be faster than this; of faster videos some frames are skipped.
    const most = Math.ceil(this.fps / 60);
    let picture = null;
    for (let i = 0; i < most && this.isThere; i++) {
      if (this.wanted >= this.last) {
        this.pause();
        return;
      }
      const next = this.wanted + 1;
      const failure = this.store.failed.has(next);
      const ready = this.store.get(next);
      if (!ready && !failure) break;
      this.#clock ??= { at: now, time: this.shown?.head.time_s ?? 0, frame: this.wanted };
      const time = ready ? ready.head.time_s : this.#clock.time + (next - this.#clock.frame) / this.fps;
      const due = this.#clock.at + (time - this.#clock.time) * 1000;
      if (now < due - 3) break;
      // Late playback slows down instead of skipping frames.
      if (now - due > 120) this.#clock = { at: now, time, frame: next };
      this.#want(next, 1);
      this.#ticks.push(now);
      if (ready) {
        this.shown = ready;
        picture = ready;
      } else {
        this.#tell(next, ...Object.values(this.store.failed.get(next)));
      }
    }
    while (this.#ticks[0] < now - 1000) this.#ticks.shift();
    this.rate = this.#ticks.length;
    if (picture) {
      this.shown = null;
      this.#show(picture);
    }
    if (this.isThere) this.#ahead();
    else if (this.#link.isOpen && !this.#isInFlight(this.wanted) && this.#attempts === 0) this.#present();
  }

  // Problems

  #say(trouble) {
    if (trouble === null && this.trouble === null) return;
    this.trouble = trouble;
    this.#emit("trouble");
  }

  #tell(frame, error, message, until = null) {
    const words = (WORDS[error] ?? (() => `Frame ${frame}: ${error}`))(frame.toLocaleString("en"));
    this.#say({ words, detail: message ?? "", again: true, until, frame });
  }

  #cannotOpen(problem, from) {
    if (problem.name === "AbortError") return;
    if (!(problem instanceof Problem)) throw problem;
    const isPassing = [502, 503, 504].includes(problem.status) || problem.kind === "unreachable";
    const words = {
      404: "There is no such video",
      422: "This video cannot be read",
      401: "The server requires a token",
      502: WORDS.fetch_failed(),
      503: "The server is overloaded",
      504: "The video took too long to open",
    };
    const pause = problem.retryAfter * 1000 || AGAIN_MS[Math.min(this.#attempts++, AGAIN_MS.length - 1)];
    this.#say({
      words: words[problem.status] ?? "This video cannot be shown",
      detail: problem.message,
      again: true,
      until: isPassing ? performance.now() + pause : null,
    });
    if (!isPassing) return;
    const attempts = this.#attempts;
    this.#retrying = setTimeout(() => {
      this.open(this.video, from);
      this.#attempts = attempts;
    }, pause);
  }

  #videoSet({ path, ok, error }) {
    if (path !== this.video || ok) return;
    this.#isBroken = true;
    this.#forget();
    this.#say({ words: "This video cannot be read", detail: error ?? "", again: true, until: null });
  }

  /** The connection is open (again). The video may have changed meanwhile. */
  async #reconnected() {
    if (this.video === null) return;
    this.#inflight.clear();
    this.#isBroken = false;
    if (!this.info) {
      if (this.trouble) this.again();
      return;
    }
    this.#present();
    if (this.isScrubbing) this.#scrubOn();
    const generation = this.#generation;
    const info = await videoInfo(this.video, { signal: this.#abort.signal }).catch(() => null);
    if (!info || generation !== this.#generation || info.etag === this.info.etag) return;
    this.open(this.video, { frame: this.wanted });
  }

  #clamp(frame) {
    return Math.max(0, Math.min(this.last, Math.round(frame) || 0));
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
