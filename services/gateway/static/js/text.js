// Text for people. What personas say is data: it is shown, never obeyed.

const CONTROL =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]/g;
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const WHOLE = new Intl.NumberFormat();

// Control and direction characters become visible: \x1b, \u202e.
export const plain = (text) => String(text).replace(CONTROL, escaped);

function escaped(character) {
  const code = character.charCodeAt(0);
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
}

export const clock = (timestamp) => CLOCK.format(new Date(timestamp));
export const whole = (number) => WHOLE.format(number);

// Few digits, as many as tell something: 0.50, 7.3, 512.
export function rateText(rate) {
  if (rate === 0) return "0";
  return rate < 1 ? rate.toFixed(2) : rate < 100 ? rate.toFixed(1) : whole(Math.round(rate));
}

export function span(seconds) {
  for (const [size, unit] of [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
  ]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

export const every = (ms) => (ms % 1000 === 0 ? span(ms / 1000) : `${whole(ms)} ms`);

export const some = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;
