/** Numbers and words as a reader wants them. */

import type { Match } from "./types";

export function percent(probability: number): string {
  if (probability > 0 && probability < 0.01) return "< 1 %";
  if (probability > 0.99 && probability < 1) return "> 99 %";
  return `${Math.round(probability * 100)} %`;
}

/** A number and its percent sign stay on one line. */
export function unbroken(text: string): string {
  return text.replaceAll(" %", "\u00a0%");
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function duration(seconds: number): string {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** A time limit in words. */
export function durationText(minutes: number): string {
  const [count, unit] = minutes < 90 ? [minutes, "minute"] : [minutes / 60, "hour"];
  const rounded = Number(count.toFixed(1));
  return `${rounded} ${unit}${rounded === 1 ? "" : "s"}`;
}

/** A number with its sign, a true minus, and no negative zero. */
export function signed(value: number, digits: number): string {
  const text = value.toFixed(digits);
  if (Number(text) === 0) return text.replace("-", "");
  return value < 0 ? text.replace("-", "−") : `+${text}`;
}

/** A name that two lines of a card can hold; of a longer one without the middle, since a case is known by the end. */
export function elided(name: string): string {
  return name.length <= 18 ? name : `${name.slice(0, 6)}…${name.slice(-9)}`;
}

/** Date and time, local, to the minute: "2026-01-31 13:05". */
export function localTime(time: string | number): string {
  return new Date(time).toLocaleString("sv").slice(0, 16);
}

/** A match by its content, whatever its rank in the next answer. */
export const nameOf = (match: Match) => `${match.scan_id} ${match.dataset}/${match.case_id}`;
