/** Where things lie: zoom and pan, lengths in millimetres, boxes. Coordinates on a scan are in its own pixels. */
import type { Box } from "./types";

/** What of a picture is seen: `zoom` 1 shows all of it; `x` and `y` are the picture's point at the centre, 0 … 1. */
export interface Sight {
  zoom: number;
  x: number;
  y: number;
}

export const WHOLE: Sight = { zoom: 1, x: 0.5, y: 0.5 };
export const MOST_ZOOM = 12;

/** Zoom by a factor, so that the point under the pointer (0 … 1 of the frame) stays where it is. */
export function zoomAt(sight: Sight, factor: number, at: { x: number; y: number }): Sight {
  const zoom = Math.min(Math.max(sight.zoom * factor, 1), MOST_ZOOM);
  const keep = (centre: number, place: number) => centre + (place - 0.5) / sight.zoom - (place - 0.5) / zoom;
  return settled({ zoom, x: keep(sight.x, at.x), y: keep(sight.y, at.y) });
}

/** Move by parts of the frame. */
export function panBy(sight: Sight, dx: number, dy: number): Sight {
  return settled({ zoom: sight.zoom, x: sight.x - dx / sight.zoom, y: sight.y - dy / sight.zoom });
}

/** The picture never leaves the frame. */
export function settled(sight: Sight): Sight {
  const half = 0.5 / sight.zoom;
  const within = (centre: number) => Math.min(Math.max(centre, half), 1 - half);
  return { zoom: sight.zoom, x: within(sight.x), y: within(sight.y) };
}

/** A point of the frame (0 … 1) as a point of the picture (0 … 1). */
export function toPicture(sight: Sight, at: { x: number; y: number }): { x: number; y: number } {
  return { x: sight.x + (at.x - 0.5) / sight.zoom, y: sight.y + (at.y - 0.5) / sight.zoom };
}

/** Width to height of a scan as it is to be shown: in millimetres where they are known. */
export function aspectOf(width: number, height: number, spacing: [number, number] | null): number {
  const [row, column] = spacing ?? [1, 1];
  return Math.min(Math.max((width * column) / (height * row), 0.1), 10);
}

/** The longest round length that takes at most a third of what is seen: its share of the frame, and its words. */
export function scaleBar(width: number, spacing: [number, number] | null, zoom: number): { share: number; words: string } | null {
  if (!spacing) return null;
  const seen = (width * spacing[1]) / zoom;
  const fitting = [200, 100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1].find((mm) => mm <= seen / 3);
  return fitting === undefined ? null : { share: fitting / seen, words: `${fitting} mm` };
}

/** The length of a line on a scan, in words: millimetres where the spacing is known, else pixels. */
export function measure(a: [number, number], b: [number, number], spacing: [number, number] | null): string {
  const [row, column] = spacing ?? [1, 1];
  const length = Math.hypot((a[0] - b[0]) * row, (a[1] - b[1]) * column);
  return spacing ? `${length.toFixed(1)} mm` : `${Math.round(length)} px`;
}

/** A box between two corners, held within the scan; null where nothing is left of it. */
export function boxBetween(a: [number, number], b: [number, number], height: number, width: number): Box | null {
  const hold = (value: number, most: number) => Math.min(Math.max(value, 0), most);
  const box = {
    top: hold(Math.min(a[0], b[0]), height),
    left: hold(Math.min(a[1], b[1]), width),
    bottom: hold(Math.max(a[0], b[0]), height),
    right: hold(Math.max(a[1], b[1]), width),
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
