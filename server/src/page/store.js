// Decoded pictures that are kept, and the frames that cannot be made.

/** Bytes of decoded pictures, by the memory that the browser reports. */
const budget = ((navigator.deviceMemory ?? 4) >= 4 ? 320 : 128) << 20;

/** Error words of the protocol that are temporary. */
const PASSING = new Set(["overloaded", "deadline", "fetch_failed"]);

/**
 * Pictures of one video. Each may be there twice: as a draft at about the size at which it is shown, and in full. They
 * are ImageBitmaps: drawing one needs no decoding, so that going backward costs as much as going forward.
 */
export class Store {
  /** Frames that failed permanently: number to `{error, message}`. */
  failed = new Map();
  /** Frames that were made from damaged data. */
  corrupt = new Set();

  #pictures = new Map();
  #bytes = 0;

  /** The best picture of a frame. The lookup makes it the most recently used. */
  get(frame) {
    const key = this.#pictures.has(`${frame} full`) ? `${frame} full` : `${frame} draft`;
    const picture = this.#pictures.get(key);
    if (picture) {
      this.#pictures.delete(key);
      this.#pictures.set(key, picture);
    }
    return picture;
  }

  /** Whether the frame need not be requested. */
  has(frame, { full = false } = {}) {
    return this.failed.has(frame) || this.#pictures.has(`${frame} full`) || (!full && this.#pictures.has(`${frame} draft`));
  }

  put(picture) {
    const key = `${picture.frame} ${picture.tier}`;
    this.#drop(key);
    if (picture.tier === "full") this.#drop(`${picture.frame} draft`);
    picture.bytes = picture.bitmap.width * picture.bitmap.height * 4;
    this.#pictures.set(key, picture);
    this.#bytes += picture.bytes;
    this.failed.delete(picture.frame);
    if (picture.head.corrupt) this.corrupt.add(picture.frame);
    // The least recently used pictures go; never the one that has just arrived.
    for (const oldest of this.#pictures.keys()) {
      if (this.#bytes <= budget || oldest === key) break;
      this.#drop(oldest);
    }
  }

  /** Notes that a frame failed. Returns whether that is permanent. */
  fail(frame, error, message) {
    if (PASSING.has(error)) return false;
    this.failed.set(frame, { error, message });
    return true;
  }

  /** How many frames of this many bytes may be fetched ahead without evicting each other. */
  room(bytes) {
    return Math.max(4, Math.floor(budget / 2 / Math.max(1, bytes)));
  }

  get held() {
    return { pictures: this.#pictures.size, bytes: this.#bytes };
  }

  /** Numbers of the frames that are kept. */
  frames() {
    return [...this.#pictures.values()].map(({ frame }) => frame);
  }

  clear() {
    for (const key of [...this.#pictures.keys()]) this.#drop(key);
    this.failed.clear();
    this.corrupt.clear();
  }

  #drop(key) {
    const picture = this.#pictures.get(key);
    if (!picture) return;
    this.#pictures.delete(key);
    this.#bytes -= picture.bytes;
    picture.bitmap.close();
  }
}
