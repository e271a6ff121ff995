// Numbers in a readable form.

/** hh:mm:ss.mmm */
export function clock(seconds) {
  const ms = Math.max(0, Math.round(seconds * 1000));
  const part = (value, digits) => String(Math.floor(value)).padStart(digits, "0");
  return `${part(ms / 3_600_000, 2)}:${part((ms / 60_000) % 60, 2)}:${part((ms / 1000) % 60, 2)}.${part(ms % 1000, 3)}`;
}

/** Parses a time as it is typed: `12.5`, `0:12.5`, `1:02:03`. */
export function parseClock(text) {
  if (!/^(\d+:){0,2}\d+(\.\d*)?$/.test(text)) return null;
  return text.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
}

export function bytes(count) {
  if (count === undefined || count === null) return "";
  if (count < 1000) return `${count} B`;
  const power = Math.min(4, Math.floor(Math.log10(count) / 3));
  const value = count / 1000 ** power;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${["", "kB", "MB", "GB", "TB"][power]}`;
}

export function milliseconds(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 2000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export const count = (number) => Number(number).toLocaleString("en");
