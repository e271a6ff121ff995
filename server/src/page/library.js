// The list of videos: loaded in pages, filtered while the user types.

import { listVideos } from "./api.js";
import { bytes, count } from "./words.js";

const PAGE = 200;

export class Library {
  #find = document.getElementById("find");
  #list = document.getElementById("list");
  #note = document.getElementById("list-note");
  #more = document.getElementById("more");
  #unlisted = document.getElementById("unlisted");
  #choose;
  #current = null;
  /** Names to sizes: of listed videos, and of those found by prefix. */
  #known = new Map();
  #next = null;
  #loading = null;
  #typing = 0;

  constructor(choose) {
    this.#choose = choose;
    this.#more.addEventListener("click", () => this.#page());
    this.#find.addEventListener("input", () => {
      this.#draw();
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#search(), 250);
    });
    this.#find.addEventListener("keydown", (event) => {
      const first = this.#list.querySelector("a");
      if (event.key === "Enter" && first) first.click();
      if (event.key === "ArrowDown" && first) {
        event.preventDefault();
        first.focus();
      }
    });
    this.#list.addEventListener("keydown", (event) => this.#arrows(event));
  }

  /** Loads the list from the beginning. Returns the problem, or null. */
  async load() {
    this.#known.clear();
    this.#next = null;
    return this.#page();
  }

  get isEmpty() {
    return this.#known.size === 0;
  }

  /** Marks the open video. */
  mark(video) {
    this.#current = video;
    for (const link of this.#list.querySelectorAll("a")) {
      if (link.dataset.video === video) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    this.#list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  async #page() {
    this.#more.disabled = true;
    try {
      const page = await listVideos({ limit: PAGE, after: this.#next });
      this.#take(page);
      this.#next = page.next;
      this.#tellUnlisted(page.unlisted ?? []);
      this.#draw();
      return null;
    } catch (problem) {
      this.#note.textContent = `The videos cannot be listed: ${problem.message}`;
      this.#note.classList.add("bad");
      this.#more.hidden = false;
      this.#more.textContent = "Try again";
      return problem;
    } finally {
      this.#more.disabled = false;
    }
  }

  #take(page) {
    for (const { video, size_bytes } of page.videos) this.#known.set(video, size_bytes);
  }

  /** Requests names that begin with the typed text: the loaded pages may not contain them yet. */
  async #search() {
    const prefix = this.#find.value.trim();
    this.#loading?.abort();
    if (!prefix || this.#next === null) return;
    this.#loading = new AbortController();
    try {
      this.#take(await listVideos({ limit: PAGE, prefix }, { signal: this.#loading.signal }));
      this.#draw();
    } catch {
      // The search still covers the videos that are listed.
    }
  }

  #tellUnlisted(unlisted) {
    const told = unlisted.map(({ root, why }) => {
      const item = document.createElement("li");
      const name = document.createElement("b");
      name.textContent = root || "the unnamed root";
      item.append(name, ` is not listed: ${why}. Its videos can be opened by name.`);
      return item;
    });
    this.#unlisted.replaceChildren(...told);
  }

  #draw() {
    const words = this.#find.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const names = [...this.#known.keys()].filter((name) => words.every((word) => name.toLowerCase().includes(word)));
    names.sort((one, other) => (one < other ? -1 : 1));
    const items = [];
    let folder = null;
    for (const name of names) {
      const cut = name.lastIndexOf("/") + 1;
      if (name.slice(0, cut) !== folder) {
        folder = name.slice(0, cut);
        if (folder) items.push(heading(folder.slice(0, -1)));
      }
      items.push(this.#item(name, name.slice(cut)));
    }
    // A name that is not listed can still be opened: not all stores can be listed.
    const typed = this.#find.value.trim();
    if (names.length === 0 && typed) items.push(this.#item(typed, `Open “${typed}”`));
    this.#list.replaceChildren(...items);
    this.#note.classList.remove("bad");
    const more = this.#next === null ? "" : " so far";
    this.#note.textContent =
      words.length > 0 ? `${count(names.length)} of ${count(this.#known.size)}${more}` : `${count(this.#known.size)} videos${more}`;
    this.#more.hidden = this.#next === null;
    this.#more.textContent = "More videos";
    this.mark(this.#current);
  }

  #item(name, text) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `#video=${encodeURIComponent(name).replaceAll("%2F", "/")}`;
    link.dataset.video = name;
    link.title = name;
    const label = document.createElement("span");
    label.textContent = text;
    const size = document.createElement("small");
    size.textContent = bytes(this.#known.get(name));
    link.append(label, size);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.#choose(name);
    });
    item.append(link);
    return item;
  }

  #arrows(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const links = [...this.#list.querySelectorAll("a")];
    const next = links[links.indexOf(document.activeElement) + by];
    (next ?? this.#find).focus();
  }
}

function heading(text) {
  const item = document.createElement("li");
  item.className = "folder";
  item.textContent = text;
  return item;
}
