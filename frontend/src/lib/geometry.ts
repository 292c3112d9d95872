/** Zoom and pan, lengths in millimetres, boxes. Coordinates on a scan are in its own pixels. */
import type { Box } from "./types";

/** (row, column) distance of pixel centres in millimetres; null where it is not known. */
export type Spacing = readonly number[] | null;

/** The visible part of a picture: `zoom` 1 shows all of it; `x` and `y` are the picture's point at the centre, 0 … 1. */
export interface Viewport {
  zoom: number;
  x: number;
  y: number;
}

export const FULL_VIEW: Viewport = { zoom: 1, x: 0.5, y: 0.5 };
export const MAX_ZOOM = 12;

/** Zoom by a factor, so that the point under the pointer (0 … 1 of the frame) stays where it is. */
export function zoomAt(viewport: Viewport, factor: number, at: { x: number; y: number }): Viewport {
  const zoom = Math.min(Math.max(viewport.zoom * factor, 1), MAX_ZOOM);
  const keep = (centre: number, at: number) => centre + (at - 0.5) / viewport.zoom - (at - 0.5) / zoom;
  return clampViewport({ zoom, x: keep(viewport.x, at.x), y: keep(viewport.y, at.y) });
}

/** Move by parts of the frame. */
export function panBy(viewport: Viewport, dx: number, dy: number): Viewport {
  return clampViewport({ zoom: viewport.zoom, x: viewport.x - dx / viewport.zoom, y: viewport.y - dy / viewport.zoom });
}

/** The picture never leaves the frame. */
export function clampViewport(viewport: Viewport): Viewport {
  const half = 0.5 / viewport.zoom;
  const within = (centre: number) => Math.min(Math.max(centre, half), 1 - half);
  return { zoom: viewport.zoom, x: within(viewport.x), y: within(viewport.y) };
}

/** A point of the frame (0 … 1) as a point of the picture (0 … 1). */
export function toPicture(viewport: Viewport, at: { x: number; y: number }): { x: number; y: number } {
  return { x: viewport.x + (at.x - 0.5) / viewport.zoom, y: viewport.y + (at.y - 0.5) / viewport.zoom };
}

/** Width to height of a scan as it is to be shown: in millimetres where they are known. */
export function aspectOf(width: number, height: number, spacing: Spacing): number {
  const [row = 1, column = 1] = spacing ?? [];
  return Math.min(Math.max((width * column) / (height * row), 0.1), 10);
}

/** The longest round length that takes at most a third of what is seen: its share of the frame, and its words. */
export function scaleBar(width: number, spacing: Spacing, zoom: number): { share: number; words: string } | null {
  if (!spacing) return null;
  const seen = (width * (spacing[1] ?? 1)) / zoom;
  const fitting = [200, 100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1].find((mm) => mm <= seen / 3);
  return fitting === undefined ? null : { share: fitting / seen, words: `${fitting} mm` };
}

/** The length of a line on a scan, in words: millimetres where the spacing is known, else pixels. */
export function measure(a: [number, number], b: [number, number], spacing: Spacing): string {
  const [row = 1, column = 1] = spacing ?? [];
  const length = Math.hypot((a[0] - b[0]) * row, (a[1] - b[1]) * column);
  return spacing ? `${length.toFixed(1)} mm` : `${Math.round(length)} px`;
}

/** A box between two corners, held within the scan; null where nothing is left of it. */
export function boxBetween(a: [number, number], b: [number, number], height: number, width: number): Box | null {
  const clamp = (value: number, most: number) => Math.min(Math.max(value, 0), most);
  const box = {
    top: clamp(Math.min(a[0], b[0]), height),
    left: clamp(Math.min(a[1], b[1]), width),
    bottom: clamp(Math.max(a[0], b[0]), height),
    right: clamp(Math.max(a[1], b[1]), width),
  };
  return box.bottom - box.top < 4 || box.right - box.left < 4 ? null : box;
}

/** Move a box, or its lower right corner, by so many pixels, within the scan. */
export function nudge(box: Box, dy: number, dx: number, stretch: boolean, height: number, width: number): Box {
  if (stretch) {
    return {
      ...box,
      bottom: Math.min(Math.max(box.bottom + dy, box.top + 8), height),
      right: Math.min(Math.max(box.right + dx, box.left + 8), width),
    };
  }
  const down = Math.min(Math.max(dy, -box.top), height - box.bottom);
  const across = Math.min(Math.max(dx, -box.left), width - box.right);
  return { top: box.top + down, left: box.left + across, bottom: box.bottom + down, right: box.right + across };
}

/** Window and level as a linear map of grey 0 … 1: out = slope · in + intercept. */
export function windowing(window: number, level: number): { slope: number; intercept: number } {
  const slope = 255 / Math.max(window, 1);
  return { slope, intercept: 0.5 - (level / 255) * slope };
}
