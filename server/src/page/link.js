// The WebSocket: one connection that comes back by itself, and an answer for every frame that is asked for.

import { Problem, address, get, token } from "./api.js";

/** Waits between attempts to connect, in milliseconds; the last one is for all further ones. */
const PAUSES = [300, 1000, 2000, 4000, 8000, 15000];
/** The server answers within its deadline. What is older than this has been lost on the way. */
const LOST_MS = 45_000;
/** So long must a connection stand before it counts as good: one that breaks at once is not tried again at once. */
const GOOD_MS = 3000;
/** What a WebSocket is closed with that nobody uses. */
const IDLE = 1008;

const base64url = (text) =>
  btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");

/**
 * Events: `state` (see `state`), `video` (detail: what the server said of the video that was set).
 *
 * Every frame that is asked for is answered once, through the function given with it: with
 * `{ok: true, head, blob, sent}` or `{ok: false, error, message}`, where `error` is one of the protocol's words, or
 * `disconnected`.
 */
export class Link extends EventTarget {
  /** `{is: "connecting" | "open" | "lost" | "asleep" | "locked", why, until}`. */
  state = { is: "connecting" };

  #socket = null;
  #video = null;
  #next = 0;
  #waiting = new Map();
  #head = null;
  #attempts = 0;
  #timer = 0;

  constructor() {
    super();
    addEventListener("online", () => this.connectNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.connectNow());
    setInterval(() => this.#lookForLost(), 5000);
  }

  /** Frames are of this video from now on, on this connection and on those after it. */
  setVideo(video) {
    this.#video = video;
    if (video !== null && this.isOpen) this.#send({ type: "SetVideo", path: video });
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN && this.state.is === "open";
  }

  /** Asks for frames, in one message. `frames` are `{frame}` or `{time}`; answers go to `answer(place, told)`. */
  request(frames, options, answer) {
    if (!this.isOpen) {
      queueMicrotask(() => frames.forEach((_, place) => answer(place, { ok: false, error: "disconnected" })));
      // It may have been closed because nothing was asked for.
      this.connectNow();
      return;
    }
    const sent = performance.now();
    const wishes = frames.map((frame, place) => {
      const index = this.#next++;
      this.#waiting.set(index, { sent, answer: (told) => answer(place, told) });
      return { ...frame, index };
    });
    this.#send({ type: "RequestFrames", frames: wishes, ...options });
  }

  /** What was asked for is not wanted any more. It is answered all the same. */
  cancel() {
    if (this.isOpen && this.#waiting.size > 0) this.#send({ type: "Cancel" });
  }

  /** Connects without waiting for the next attempt's turn. */
  connectNow() {
    const isDown = this.state.is === "lost" || this.state.is === "asleep" || (this.state.is === "locked" && token.get());
    if (!isDown) return;
    clearTimeout(this.#timer);
    this.connect();
  }

  /** Connects, or tries to. */
  connect() {
    this.#become({ is: "connecting", again: this.#attempts > 0 });
    const url = address("ws");
    url.protocol = url.protocol.replace("http", "ws");
    const offered = ["bucket-streamer"];
    if (token.get()) offered.push(`bearer.${base64url(token.get())}`);
    const socket = new WebSocket(url, offered);
    this.#socket = socket;
    let opened = 0;
    socket.onopen = () => {
      opened = performance.now();
      this.#head = null;
      this.#become({ is: "open" });
      if (this.#video !== null) this.#send({ type: "SetVideo", path: this.#video });
      this.dispatchEvent(new Event("open"));
    };
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      if (opened && performance.now() - opened > GOOD_MS) this.#attempts = 0;
      if (code === IDLE && this.#waiting.size === 0) {
        // The server sends away who asks for nothing. The next frame that is wanted wakes us.
        this.#become({ is: "asleep" });
        return;
      }
      this.#lose(opened ? told(code, reason) : null);
    };
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #hear(data) {
    if (typeof data !== "string") {
      const { head, waiting } = this.#head ?? {};
      this.#head = null;
      waiting?.answer({ ok: true, head, blob: data, sent: waiting.sent });
      return;
    }
    const message = JSON.parse(data);
    const take = () => {
      const waiting = this.#waiting.get(message.index);
      this.#waiting.delete(message.index);
      return waiting;
    };
    switch (message.type) {
      case "Frame":
        this.#head = { head: message, waiting: take() };
        break;
      case "FrameError":
        take()?.answer({ ok: false, error: message.error, message: message.message });
        break;
      case "VideoSet":
        this.dispatchEvent(new CustomEvent("video", { detail: message }));
        break;
      default:
        console.warn("The server said", message);
    }
  }

  #lose(why) {
    const waiting = [...this.#waiting.values(), this.#head?.waiting].filter(Boolean);
    this.#waiting.clear();
    this.#head = null;
    const pause = PAUSES[Math.min(this.#attempts, PAUSES.length - 1)] * (0.8 + 0.4 * Math.random());
    this.#attempts++;
    this.#become({ is: "lost", why, until: performance.now() + pause });
    for (const one of waiting) one.answer({ ok: false, error: "disconnected" });
    // A page hears nothing of why a WebSocket was refused; an ordinary request does.
    const isRefused = why === null;
    this.#timer = setTimeout(() => (isRefused ? this.#probe() : this.connect()), pause);
  }

  async #probe() {
    try {
      await get(address("videos", { limit: 1 }));
    } catch (problem) {
      if (this.state.is !== "lost") return;
      if (problem.status === 401) {
        this.lock();
        return;
      }
      if (problem instanceof Problem && problem.kind === "unreachable") {
        this.#lose(null);
        return;
      }
      this.#become({ ...this.state, why: problem.message });
    }
    if (this.state.is === "lost") this.connect();
  }

  /** The server lets nobody in without a token, and there is none. */
  lock() {
    this.#become({ is: "locked" });
  }

  /** A new attempt to be let in. */
  async unlock() {
    this.#become({ is: "lost", why: "the server wants a token", until: performance.now() });
    await this.#probe();
  }

  /** A connection that is dead without knowing it (a telephone between two networks) is given up. */
  #lookForLost() {
    const now = performance.now();
    const isLost = [...this.#waiting.values()].some(({ sent }) => now - sent > LOST_MS);
    if (!isLost || !this.#socket) return;
    const socket = this.#socket;
    this.#socket = null;
    socket.onmessage = null;
    socket.close();
    this.#lose("no answers came any more");
  }
}

function told(code, reason) {
  if (reason) return reason;
  return code === 1006 ? "the connection broke" : `the server closed it (${code})`;
}
