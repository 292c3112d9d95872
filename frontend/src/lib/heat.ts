/** Heatmaps: what full colour stands for, and where their layers are. */
import type { Explanation } from "./types";

/** Values are shown per hundredth of the scan, and full colour stands for at least this much of it. */
const PARTS = 100;
const FLOOR_OF_A_CLASS = 1;
const FLOOR_OF_A_PAIR = 0.1;

export function reference(...maps: (Explanation | null | undefined)[]): number {
  let most = 0;
  for (const map of maps) {
    if (!map) continue;
    const floor = map.target.includes(":") ? FLOOR_OF_A_PAIR : FLOOR_OF_A_CLASS;
    most = Math.max(most, floor, (map.peak * map.shape[0] * map.shape[1]) / PARTS);
  }
  return most || FLOOR_OF_A_CLASS;
}

export interface Layers {
  warm: string;
  cool: string;
}

/** Addresses of the two layers below `base`, both on one scale. */
export function layers(base: string, full: number, size: number): Layers {
  const query = `?size=${size}&reference=${full.toPrecision(6)}`;
  return { warm: `${base}/warm${query}`, cool: `${base}/cool${query}` };
}

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
export function lasting(minutes: number): string {
  const [count, unit] = minutes < 90 ? [minutes, "minute"] : [minutes / 60, "hour"];
  const told = Number(count.toFixed(1));
  return `${told} ${unit}${told === 1 ? "" : "s"}`;
}

/** A number with its sign, a true minus, and no negative zero. */
export function signed(value: number, digits: number): string {
  const text = value.toFixed(digits);
  if (Number(text) === 0) return text.replace("-", "");
  return value < 0 ? text.replace("-", "−") : `+${text}`;
}
