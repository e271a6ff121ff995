// The page: creates its parts, and translates keys and pointers into their calls.

import { onTokenWanted, token } from "./api.js";
import { Details } from "./details.js";
import { Library } from "./library.js";
import { Link } from "./link.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";

const element = (id) => document.getElementById(id);
/** Pixels of pointer movement over the picture for one frame. */
const PIXELS_A_FRAME = 8;

/** The canvas of the picture. It has the picture's own pixels; the style sheet fits it into its place. */
const screen = {
  draw(bitmap) {
    const canvas = element("picture");
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    }
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
  },
  /** The width in screen pixels of a picture with this aspect ratio. */
  width(aspect) {
    const { clientWidth, clientHeight } = element("stage");
    return Math.max(1, Math.min(clientWidth, clientHeight * aspect) * devicePixelRatio);
  },
};

const link = new Link();
const player = new Player(link, screen);
new Timeline(player);
new Details(player);
const library = new Library((video) => choose(video));

// The address of a view, for bookmarks, links and the history

function fromAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const [frame, time] = [Number(parts.get("frame")), parts.get("time")];
  return { video: parts.get("video"), frame: Number.isInteger(frame) && frame > 0 ? frame : 0, time };
}

const hashOf = (video, frame) => `#video=${encodeURIComponent(video).replaceAll("%2F", "/")}&frame=${frame}`;

let noting = 0;
/** Delayed: browsers refuse pages that change their address at every frame. */
function noteAddress() {
  clearTimeout(noting);
  noting = setTimeout(() => {
    if (player.video === null || !player.info || player.isPlaying) return;
    const hash = hashOf(player.video, player.wanted);
    if (location.hash !== hash) history.replaceState(null, "", hash);
  }, 200);
}

function choose(video) {
  history.pushState(null, "", hashOf(video, 0));
  show();
  showLibrary(false);
}

function show() {
  const { video, frame, time } = fromAddress();
  if (video === null) player.close();
  else if (video === player.video && player.info && time === null) player.goTo(frame);
  else player.open(video, { frame, time });
  library.mark(video);
  element("welcome").hidden = video !== null;
}

addEventListener("hashchange", show);
player.addEventListener("want", noteAddress);
player.addEventListener("play", noteAddress);

// The picture, and the notice over it

player.addEventListener("info", () => {
  const canvas = element("picture");
  document.body.classList.toggle("has-video", player.info !== null);
  const [width, height] = player.size;
  // A new video: the old picture must not be taken for its own.
  delete canvas.dataset.frame;
  delete canvas.dataset.tier;
  if (!player.shown) [canvas.width, canvas.height] = [Math.round(width), Math.round(height)];
});

player.addEventListener("picture", ({ detail: { picture } }) => {
  const canvas = element("picture");
  canvas.dataset.frame = picture.frame;
  canvas.dataset.tier = picture.tier;
  canvas.setAttribute("aria-label", `Frame ${picture.frame} of ${player.video}`);
});

let counting = 0;
player.addEventListener("trouble", () => {
  const { trouble } = player;
  clearInterval(counting);
  element("notice").hidden = trouble === null;
  element("stage").classList.toggle("in-trouble", trouble !== null);
  if (!trouble) return;
  element("notice-words").textContent = trouble.words;
  element("notice-detail").textContent = trouble.detail;
  countDown(element("notice-wait"), trouble.until);
});

/** Shows the time until the next attempt. */
function countDown(target, until) {
  clearInterval(counting);
  const tell = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    target.textContent = until === null ? "" : left > 0 ? `Trying again in ${left} s` : "Trying again";
  };
  tell();
  if (until !== null) counting = setInterval(tell, 500);
}

element("notice-again").addEventListener("click", () => (link.state.is === "locked" ? link.unlock() : player.again()));

player.addEventListener("play", () => {
  document.body.classList.toggle("is-playing", player.isPlaying);
  element("play").setAttribute("aria-label", player.isPlaying ? "Pause" : "Play");
});

// The connection

let telling = 0;
link.addEventListener("state", () => {
  clearInterval(telling);
  const { is, why, until } = link.state;
  const words = {
    connecting: () => "connecting",
    open: () => "connected",
    asleep: () => "resting",
    locked: () => "the server requires a token",
    lost: () => {
      const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      return `${why ?? "the server cannot be reached"}; trying again${left > 0 ? ` in ${left} s` : ""}`;
    },
  }[is];
  const tell = () => (element("connection-words").textContent = words());
  tell();
  if (is === "lost") telling = setInterval(tell, 1000);
  element("connection").dataset.is = is;
  element("connect-now").hidden = is !== "lost" && is !== "locked";
  element("connect-now").textContent = is === "locked" ? "Enter token" : "Now";
});
element("connect-now").addEventListener("click", () => (link.state.is === "locked" ? link.unlock() : link.connectNow()));

// The token

onTokenWanted((isWrong) => {
  const dialog = element("token");
  const value = element("token-value");
  element("token-wrong").hidden = !isWrong;
  value.value = "";
  dialog.showModal();
  value.focus();
  return new Promise((resolve) => {
    const done = new AbortController();
    const answer = (given) => {
      done.abort();
      dialog.close();
      if (given) token.set(given);
      resolve(Boolean(given));
    };
    const { signal } = done;
    dialog.querySelector("form").addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        answer(value.value.trim());
      },
      { signal },
    );
    element("token-cancel").addEventListener("click", () => answer(""), { signal });
    dialog.addEventListener("cancel", () => answer(""), { signal });
  });
});

// Moves

const second = () => Math.max(1, Math.round(player.fps));
const MOVES = {
  first: () => player.goTo(0),
  last: () => player.goTo(player.last),
  second: (is) => player.move(second(), is),
  "-second": (is) => player.move(-second(), is),
  1: (is) => player.move(1, is),
  "-1": (is) => player.move(-1, is),
  10: (is) => player.move(10, is),
  "-10": (is) => player.move(-10, is),
  play: () => player.toggle(),
};
const KEYS = {
  ArrowLeft: "-1",
  ArrowRight: "1",
  ",": "-1",
  ".": "1",
  "<": "-10",
  ">": "10",
  ArrowDown: "-1",
  ArrowUp: "1",
  Home: "first",
  End: "last",
  PageUp: "-second",
  PageDown: "second",
  " ": "play",
};
const LARGE = { 1: "10", "-1": "-10" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !player.info || element("token").open) return;
  const { target, key } = event;
  if (target.closest("input, select, textarea, #library")) return;
  // Buttons and links use the space bar themselves, and the page uses up and down for scrolling.
  const isSlider = target === element("timeline");
  if (key === " " && target.closest("button, a")) return;
  if ((key === "ArrowUp" || key === "ArrowDown") && !isSlider) return;
  let move = KEYS[key];
  if (!move) return;
  if (event.shiftKey) move = LARGE[move] ?? move;
  event.preventDefault();
  if (move === "play" && event.repeat) return;
  MOVES[move]({ isRepeat: event.repeat });
});

/** A button that is held down repeats, as a key does. */
function holdable(button, move) {
  let timer = 0;
  const stop = () => clearTimeout(timer);
  button.addEventListener("pointerdown", ({ button: which }) => {
    if (which !== 0) return;
    const go = () => {
      move({ isRepeat: true });
      timer = setTimeout(go, 33);
    };
    timer = setTimeout(go, 400);
  });
  for (const type of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(type, stop);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("click", () => move({}));
}

for (const button of document.querySelectorAll("[data-move]")) {
  const move = MOVES[button.dataset.move];
  if (/\d|second/.test(button.dataset.move)) holdable(button, move);
  else button.addEventListener("click", move);
}
element("play").addEventListener("click", MOVES.play);

// Dragging the picture moves frame by frame: on a phone, a finger is wider than many frames of the timeline.
{
  const stage = element("stage");
  let from = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button") || !player.info || event.button !== 0) return;
    from = from === null ? { id: event.pointerId, x: event.clientX } : null;
    if (from) stage.setPointerCapture(event.pointerId);
  });
  const follow = (event) => {
    const moved = Math.trunc((event.clientX - from.x) / PIXELS_A_FRAME);
    if (moved === 0) return;
    from.x += moved * PIXELS_A_FRAME;
    player.move(moved);
  };
  stage.addEventListener("pointermove", (event) => {
    // If the pointer is faster than pictures arrive, the steps get larger, and each of them is shown.
    if (from?.id === event.pointerId && player.isThere) follow(event);
  });
  stage.addEventListener("pointerup", (event) => {
    if (from?.id === event.pointerId) follow(event);
  });
  for (const type of ["pointerup", "pointercancel"]) stage.addEventListener(type, () => (from = null));
}

// The list of videos, which lies over the page on narrow screens

function showLibrary(isShown) {
  document.body.classList.toggle("shows-library", isShown);
  element("open-library").setAttribute("aria-expanded", String(isShown));
  // Not with touch: the keyboard would cover the list.
  if (isShown && matchMedia("(pointer: fine)").matches) element("find").focus({ preventScroll: true });
}
element("open-library").addEventListener("click", () => showLibrary(!document.body.classList.contains("shows-library")));
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape" && document.body.classList.contains("shows-library")) {
    showLibrary(false);
    element("open-library").focus();
  }
});

// The list loads first: its response shows whether the server requires a token. A page does not learn why a WebSocket
// was refused.
show();
library.load().then((problem) => {
  if (problem?.status === 401) link.lock();
  else link.connect();
});
link.addEventListener("open", () => library.isEmpty && library.load());
