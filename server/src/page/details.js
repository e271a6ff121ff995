// The texts beside the picture: the frame, its latency, the video's properties, and the still's address.

import { get, isDamaged, stillAddress, token } from "./api.js";
import { bytes, clock, count, milliseconds, parseClock } from "./words.js";

const element = (id) => document.getElementById(id);
/** Latencies in the small chart. */
const BARS = 48;
const FOUND = {
  hit: "from the server's memory",
  miss: "decoded for this request",
  joined: "decoded for another client at the same time",
  page: "from this page's memory",
};

export class Details {
  #player;
  #latencies = [];

  constructor(player) {
    this.#player = player;
    player.addEventListener("want", () => this.#want());
    player.addEventListener("info", () => this.#info());
    player.addEventListener("trouble", () => this.#want());
    player.addEventListener("picture", ({ detail }) => this.#picture(detail));
    element("go").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go();
    });
    element("frame").addEventListener("focus", (event) => event.target.select());
    element("frame").addEventListener("blur", () => this.#want());
    element("format").addEventListener("change", () => this.#still());
    for (const id of ["still", "download"]) {
      element(id).addEventListener("click", (event) => this.#fetched(event, id === "download"));
    }
    element("copy-still").addEventListener("click", () => this.#copy(element("still").href, "Address copied"));
    element("copy-view").addEventListener("click", () => this.#copy(location.href, "Link copied"));
    this.#info();
  }

  /** Shows the frame's number: of the picture while the user drags, else of the requested frame. */
  #want() {
    const { wanted, shown, isScrubbing, isThere } = this.#player;
    const input = element("frame");
    if (document.activeElement !== input) input.value = String(isScrubbing && shown ? shown.frame : wanted);
    document.body.classList.toggle("is-waiting", Boolean(this.#player.info) && !isThere);
    const time = element("time");
    time.classList.toggle("stale", !isThere);
    element("pts").classList.toggle("stale", !isThere);
    if (this.#player.store.failed.has(wanted)) {
      time.value = "–";
      element("pts").value = "–";
    }
    this.#still();
  }

  #picture({ picture, took, found, isPlaying }) {
    const { head, bitmap, tier } = picture;
    element("time").value = clock(head.time_s);
    element("pts").value = String(head.pts);
    const badges = [head.key && ["key", "key frame"], head.corrupt && ["warn", "damaged"]].filter(Boolean);
    element("badges").replaceChildren(
      ...badges.map(([kind, words]) => {
        const badge = document.createElement("span");
        badge.className = kind;
        badge.textContent = words;
        return badge;
      }),
    );
    list(element("of-frame"), [
      ["Key frame", head.key ? "yes" : "no"],
      ["Damaged", head.corrupt ? "yes: it, or a picture that it refers to" : "no"],
      ["Shown at", `${bitmap.width} × ${bitmap.height}${tier === "draft" ? ", reduced while moving" : ""}`],
      ["Sent as", `JPEG, ${bytes(head.size)}`],
      ["Byte in the file", head.offset === undefined ? "" : count(head.offset)],
    ]);
    element("latency-what").textContent = isPlaying ? "Frames a second" : "Request to picture";
    if (isPlaying) {
      element("latency").value = String(this.#player.rate);
      element("found").textContent = `of ${rate(this.#player.fps)} in the video`;
    } else if (took !== null) {
      element("latency").value = milliseconds(took);
      element("found").textContent = FOUND[found] ?? found ?? "";
      element("found").dataset.cache = found;
      this.#latencies.push({ took, found });
      if (this.#latencies.length > BARS) this.#latencies.shift();
      this.#spark();
    }
    this.#want();
  }

  #spark() {
    const [width, height] = [192, 40];
    const all = this.#latencies.map(({ took }) => took);
    // Logarithmic: a picture from memory and one from a distant bucket are four orders of magnitude apart.
    const [low, high] = [0.5, Math.max(200, ...all)];
    const tall = (ms) => Math.max(2, (Math.log(Math.max(ms, low) / low) / Math.log(high / low)) * height);
    const wide = width / BARS;
    const bars = this.#latencies.map(({ took, found }, i) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const place = { x: (BARS - all.length + i) * wide, y: height - tall(took), width: wide - 1, height: tall(took) };
      for (const [name, value] of Object.entries(place)) bar.setAttribute(name, value);
      bar.setAttribute("class", found);
      return bar;
    });
    element("spark").replaceChildren(...bars);
    const middle = all.toSorted((one, other) => one - other)[all.length >> 1];
    element("spark").setAttribute("aria-label", `Latencies of the last ${all.length} pictures, half of them within ${milliseconds(middle)}`);
  }

  #info() {
    const { info, video, last } = this.#player;
    element("of").textContent = info ? `of ${count(last + 1)}` : "";
    for (const id of ["time", "pts"]) element(id).value = "–";
    element("badges").replaceChildren();
    element("of-frame").replaceChildren();
    element("name").textContent = video ?? "";
    element("name").title = video ?? "";
    document.title = video ? `${video.split("/").at(-1)} – bucket-streamer` : "bucket-streamer";
    list(element("about"), info ? about(info) : []);
    this.#want();
  }

  // The still

  #still() {
    const { info, video, wanted } = this.#player;
    const format = element("format").value;
    for (const id of ["still", "download"]) element(id).toggleAttribute("hidden", !info);
    element("address").textContent = "";
    if (!info) return;
    const url = stillAddress(video, { frame: wanted, format, v: info.etag });
    for (const id of ["still", "download"]) element(id).href = url.href;
    element("download").download = this.#fileName(format);
    const shown = stillAddress(video, { frame: wanted, format });
    element("address").textContent = `GET ${decodeURI(shown.pathname)}${shown.search}`;
  }

  #fileName(format) {
    const { video, wanted } = this.#player;
    const stem = video.split("/").at(-1).replace(/\.[^.]*$/, "");
    return `${stem}_${String(wanted).padStart(6, "0")}.${format === "jpeg" ? "jpg" : format}`;
  }

  /** Links carry no token: with one, the page fetches the still and opens the result. */
  async #fetched(event, isDownload) {
    if (!token.get()) return;
    event.preventDefault();
    const name = element("download").download;
    // Before any await: browsers open windows only in response to a click.
    const opened = isDownload ? null : open("about:blank");
    try {
      const response = await get(new URL(event.currentTarget?.href ?? element("still").href));
      if (isDamaged(response)) this.#tell("This still is damaged");
      const blob = URL.createObjectURL(await response.blob());
      if (opened) opened.location = blob;
      else Object.assign(document.createElement("a"), { href: blob, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(blob), 60_000);
    } catch (problem) {
      opened?.close();
      this.#tell(problem.message);
    }
  }

  async #copy(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      this.#tell(done);
    } catch {
      // The clipboard is not allowed, as over plain HTTP: the user copies by hand.
      prompt("Copy this:", text);
    }
  }

  #tell(words) {
    element("copied").textContent = words;
    setTimeout(() => (element("copied").textContent = ""), 3000);
  }

  #go() {
    const { player, text } = { player: this.#player, text: element("frame").value.trim() };
    const seconds = text.includes(":") || text.includes(".") ? parseClock(text) : null;
    element("frame").blur();
    if (seconds !== null) player.goToTime(seconds);
    else if (/^\d+$/.test(text)) player.goTo(Number(text));
  }
}

const rate = (fps) => (Number.isInteger(fps) ? String(fps) : fps.toFixed(2));

function about(info) {
  const { color } = info;
  const kind = [info.codec?.toUpperCase(), info.profile].filter(Boolean).join(" ");
  const assumed = Object.keys(color.assumed ?? {}).length > 0 ? " (partly assumed)" : "";
  const part = (name) => color.assumed?.[name] ?? color[name];
  const colours = [...new Set([part("primaries"), part("transfer"), part("matrix")])].join(", ");
  return [
    ["Codec", `${kind}${info.bit_depth ? `, ${info.bit_depth} bit` : ""}`],
    ["Size", `${info.width} × ${info.height}${info.rotation ? `, turned by ${info.rotation}°` : ""}`],
    ["Frames", `${count(info.frames)}, ${count(info.keyframes)} of them key frames`],
    ["Rate", `${info.average_frame_rate ? rate(info.average_frame_rate) : "?"} a second${info.variable_frame_rate ? " on average, varying" : ""}`],
    ["Length", clock(info.duration_s ?? 0)],
    ["Colour", `${colours}, ${part("range") === "pc" ? "full" : "limited"} range${assumed}`],
    ["Pixels", info.pixel_format ?? "unknown"],
    ["File", [info.container, bytes(info.size_bytes)].filter(Boolean).join(", ")],
  ];
}

function list(target, rows) {
  target.replaceChildren(
    ...rows.map(([name, value]) => {
      const row = document.createElement("div");
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      text.textContent = value;
      row.append(term, text);
      return row;
    }),
  );
}
