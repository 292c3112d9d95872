/** Heatmaps: what full colour stands for, and where their layers are. */
import type { Explanation } from "./types";

/** Values are shown per hundredth of the scan, and full colour stands for at least this much of it. */
const PERCENT = 100;
const MIN_OF_CLASS = 1;
const MIN_OF_PAIR = 0.1;

export function reference(...maps: (Explanation | null | undefined)[]): number {
  let most = 0;
  for (const map of maps) {
    if (!map) continue;
    const floor = map.target.includes(":") ? MIN_OF_PAIR : MIN_OF_CLASS;
    most = Math.max(most, floor, (map.peak * map.shape[0] * map.shape[1]) / PERCENT);
  }
  return most || MIN_OF_CLASS;
}

export interface Layers {
  warm: string;
  cool: string;
}

/** Addresses of the two layers below `base`, both on one scale; `view`: of several, from 0. */
export function layers(base: string, full: number, size: number, view = 0): Layers {
  const query = `?size=${size}&reference=${full.toPrecision(6)}${view ? `&view=${view}` : ""}`;
  return { warm: `${base}/warm${query}`, cool: `${base}/cool${query}` };
}
