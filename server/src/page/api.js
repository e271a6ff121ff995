// HTTP requests of the page: addresses, the token, and errors as text. `link.js` has the WebSocket.

const TOKEN = "bucket-streamer token";

/** An error with a text for the user. */
export class Problem extends Error {
  constructor(words, { status = 0, kind = "", retryAfter = 0 } = {}) {
    super(words);
    this.status = status;
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

/** The server's token, for the lifetime of this tab: not in localStorage, where it would outlast its use. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(TOKEN, value),
};

let asking = null;
let ask = async () => false;

/** Sets the function that asks the user for a token; it resolves to whether there is one now. */
export function onTokenWanted(asker) {
  ask = asker;
}

/** Asks the user for a token, once for all requests that need it at this time. */
function wantToken() {
  asking ??= ask(token.get() !== "").finally(() => (asking = null));
  return asking;
}

/** An address of the server, relative to the page: the page may lie below a path of a proxy. */
export function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  url.hash = "";
  return url;
}

/** A video's name as a part of an address; its slashes stay. */
export const inPath = (video) => video.split("/").map(encodeURIComponent).join("/");

const headers = () => (token.get() ? { Authorization: `Bearer ${token.get()}` } : {});

/** GET; throws a Problem unless the response is a success. Asks the user for a token if the server requires one. */
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
    // The user may have given another token in the meantime.
    if (token.get() !== used || (await wantToken())) return get(url, { signal });
    throw new Problem("The server requires a token", { status: 401, kind: "unauthorized" });
  }
  throw await problemOf(response);
}

async function problemOf(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  let body = {};
  try {
    body = await response.json();
  } catch {
    // The response does not come from this server; perhaps from a proxy.
  }
  const words = body.detail ?? body.title ?? `The server answered ${response.status} ${response.statusText}`.trim();
  return new Problem(words, { status: response.status, kind: body.type, retryAfter });
}

export const listVideos = async (query, options) => (await get(address("videos", query), options)).json();
export const videoInfo = async (video, options) => (await get(address(`videos/${inPath(video)}`), options)).json();

/** The address of a still. With the version in it, caches may keep the still forever. */
export const stillAddress = (video, query) => address(`frame/${inPath(video)}`, query);

/** Whether the server marks its response as damaged. */
export const isDamaged = (response) => response.headers.get("X-Frame-Corrupt") === "true";

/** The storyboard: its cues (place in the sheet and time of each tile), its sheet, and whether a picture is damaged. */
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
