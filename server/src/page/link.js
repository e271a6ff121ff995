// The WebSocket: one connection that reconnects by itself, and one response for every requested frame.

import { Problem, address, get, token } from "./api.js";

/** Waits between attempts to connect, in milliseconds; the last one repeats. */
const PAUSES = [300, 1000, 2000, 4000, 8000, 15000];
/** The server answers within its deadline. An older request has been lost on the way. */
const LOST_MS = 45_000;
/** Least lifetime of a connection that counts as good: after a shorter one, the next attempt waits longer. */
const GOOD_MS = 3000;
/** Close code of a WebSocket that was idle. */
const IDLE = 1008;

const base64url = (text) =>
  btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");

/**
 * Events: `state` (see `state`), `video` (detail: the server's response to the video that was set).
 *
 * Every requested frame gets one response, through the function given with it: `{ok: true, head, blob, sent}` or
 * `{ok: false, error, message}`, where `error` is one of the protocol's words, or `disconnected`.
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

  /** Sets the video of the frames that follow, for this connection and later ones. */
  setVideo(video) {
    this.#video = video;
    if (video !== null && this.isOpen) this.#send({ type: "SetVideo", path: video });
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN && this.state.is === "open";
  }

  /** Requests frames in one message: `{frame}` or `{time}` each. `answer` gets the position and the response of each. */
  request(frames, options, answer) {
    if (!this.isOpen) {
      queueMicrotask(() => frames.forEach((_, place) => answer(place, { ok: false, error: "disconnected" })));
      // The server may have closed the connection because it was idle.
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

  /** Cancels all requests. Each still gets its response. */
  cancel() {
    if (this.isOpen && this.#waiting.size > 0) this.#send({ type: "Cancel" });
  }

  /** Connects now instead of at the next attempt's time. */
  connectNow() {
    const isDown = this.state.is === "lost" || this.state.is === "asleep" || (this.state.is === "locked" && token.get());
    if (!isDown) return;
    clearTimeout(this.#timer);
    this.connect();
  }

  /** Tries to connect. */
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
        // The server closes idle connections. The next request reconnects.
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
    // A page does not learn why a WebSocket was refused; an ordinary request does.
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

  /** The server requires a token, and there is none. */
  lock() {
    this.#become({ is: "locked" });
  }

  /** Tries again after the user has been asked for a token. */
  async unlock() {
    this.#become({ is: "lost", why: "the server requires a token", until: performance.now() });
    await this.#probe();
  }

  /** Gives up a connection that is dead without notice (a phone that changes networks). */
  #lookForLost() {
    const now = performance.now();
    const isLost = [...this.#waiting.values()].some(({ sent }) => now - sent > LOST_MS);
    if (!isLost || !this.#socket) return;
    const socket = this.#socket;
    this.#socket = null;
    socket.onmessage = null;
    socket.close();
    this.#lose("the server stopped answering");
  }
}

function told(code, reason) {
  if (reason) return reason;
  return code === 1006 ? "the connection broke" : `the server closed it (${code})`;
}
