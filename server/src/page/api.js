// What the page asks the server over HTTP: addresses, the token, and problems told in words.

const TOKEN = "bucket-streamer token";

/** Something went wrong, in words that can be shown. */
export class Problem extends Error {
  constructor(words, { status = 0, kind = "", retryAfter = 0 } = {}) {
    super(words);
    this.status = status;
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

/** The server's token, as long as this tab lives: not in localStorage, where it would outlast its use. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(TOKEN, value),
};

let asking = null;
let ask = async () => false;

/** Who asks for a token when the server wants one; answers whether there is one now. */
export function onTokenWanted(asker) {
  ask = asker;
}

/** Asks for a token, once for everybody who needs it at this time. */
function wantToken() {
  asking ??= ask(token.get() !== "").finally(() => (asking = null));
  return asking;
}

/** An address of the server. The page may lie below some path of a proxy, so all are relative to it. */
export function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  url.hash = "";
  return url;
}

/** A video's name as a part of an address: its slashes stay. */
export const inPath = (video) => video.split("/").map(encodeURIComponent).join("/");

const headers = () => (token.get() ? { Authorization: `Bearer ${token.get()}` } : {});

/** GET; throws a Problem unless the answer is a good one. Asks for a token where one is wanted. */
export async function get(url, { signal } = {}) {
  const used = token.get();
  let response;
  try {
    response = await fetch(url, { headers: headers(), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached", { kind: "unreachable" });
  }
  if (response.ok) return response;
  if (response.status === 401) {
    // Somebody may have given another one in the meantime.
    if (token.get() !== used || (await wantToken())) return get(url, { signal });
    throw new Problem("The server wants a token", { status: 401, kind: "unauthorized" });
  }
  throw await problemOf(response);
}

async function problemOf(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  let told = {};
  try {
    told = await response.json();
  } catch {
    // Not one of the server's own answers: a proxy's, perhaps.
  }
  const words = told.detail ?? told.title ?? `The server answered ${response.status} ${response.statusText}`.trim();
  return new Problem(words, { status: response.status, kind: told.type, retryAfter });
}

export const listVideos = async (query, options) => (await get(address("videos", query), options)).json();
export const videoInfo = async (video, options) => (await get(address(`videos/${inPath(video)}`), options)).json();

/** The address of a still. With the version it may be kept by caches for good. */
export const stillAddress = (video, query) => address(`frame/${inPath(video)}`, query);

/** The server says that damage has touched what it sends. */
export const isDamaged = (response) => response.headers.get("X-Frame-Corrupt") === "true";

/** The storyboard's cues: where each tile is in its sheet, and when it is on show; and whether a picture in it is damaged. */
export async function storyboard(video, query, options) {
  const url = address(`storyboard/${inPath(video)}.vtt`, query);
  const text = await (await get(url, options)).text();
  const cues = [];
  let sheet = null;
  for (const block of text.split(/\r?\n\r?\n/)) {
    const found = /(\S+) --> (\S+)[^\n]*\n([^#\s]+)#xywh=(\d+),(\d+),(\d+),(\d+)/.exec(block);
    if (!found) continue;
    const [from, to, at, x, y, width, height] = found.slice(1);
    sheet ??= new URL(at, url);
    cues.push({ from: seconds(from), to: seconds(to), x: +x, y: +y, width: +width, height: +height });
  }
  if (!sheet) throw new Problem("The storyboard has no pictures");
  const response = await get(sheet, options);
  const image = await createImageBitmap(await response.blob());
  return { cues, image, isDamaged: isDamaged(response) };
}

const seconds = (clock) => clock.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
