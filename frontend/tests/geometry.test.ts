import { describe, expect, it } from "vitest";
import {
  aspectOf,
  boxBetween,
  measure,
  MAX_ZOOM,
  nudge,
  panBy,
  scaleBar,
  toPicture,
  FULL_VIEW,
  windowing,
  zoomAt,
} from "../src/lib/geometry";

describe("viewport", () => {
  it("keeps the point under the pointer where it is", () => {
    const at = { x: 0.7, y: 0.4 };
    const before = toPicture(FULL_VIEW, at);
    const after = toPicture(zoomAt(FULL_VIEW, 3, at), at);
    expect(after.x).toBeCloseTo(before.x, 9);
    expect(after.y).toBeCloseTo(before.y, 9);
  });

  it("never leaves the picture and never zooms without end", () => {
    let viewport = zoomAt(FULL_VIEW, 1e6, { x: 0, y: 1 });
    expect(viewport.zoom).toBe(MAX_ZOOM);
    viewport = panBy(viewport, 50, -50);
    const [low, high] = [toPicture(viewport, { x: 0, y: 0 }), toPicture(viewport, { x: 1, y: 1 })];
    for (const value of [low.x, low.y, high.x, high.y]) {
      expect(value).toBeGreaterThanOrEqual(-1e-9);
      expect(value).toBeLessThanOrEqual(1 + 1e-9);
    }
    expect(zoomAt(viewport, 1e-6, { x: 0.5, y: 0.5 })).toEqual(FULL_VIEW);
  });
});

describe("lengths", () => {
  it("are in millimetres where the spacing is known, by axis", () => {
    expect(measure([0, 0], [30, 40], [0.1, 0.1])).toBe("5.0 mm");
    expect(measure([0, 0], [10, 0], [0.5, 0.1])).toBe("5.0 mm");
    expect(measure([0, 0], [30, 40], null)).toBe("50 px");
  });

  it("have a bar that follows the zoom and fits", () => {
    expect(scaleBar(500, null, 1)).toBeNull();
    expect(scaleBar(500, [0.1, 0.1], 1)).toEqual({ share: 0.2, words: "10 mm" });
    expect(scaleBar(500, [0.1, 0.1], 10)?.words).toBe("1 mm");
    for (const zoom of [1, 2.3, 7, 12]) expect(scaleBar(700, [0.07, 0.07], zoom)!.share).toBeLessThanOrEqual(1 / 3);
  });

  it("make shapes true, and a broken spacing does not break the page", () => {
    expect(aspectOf(400, 200, [0.2, 0.1])).toBe(1);
    expect(aspectOf(400, 200, [1e9, 1])).toBe(0.1);
  });
});

describe("boxes", () => {
  it("are drawn in any direction and held within the scan", () => {
    expect(boxBetween([50, 90], [-20, 500], 100, 200)).toEqual({ top: 0, left: 90, bottom: 50, right: 200 });
    expect(boxBetween([50, 90], [52, 92], 100, 200)).toBeNull();
  });

  it("move and stretch by keys without leaving the scan or vanishing", () => {
    const box = { top: 10, left: 10, bottom: 60, right: 60 };
    expect(nudge(box, -50, 5, false, 100, 100)).toEqual({ top: 0, left: 15, bottom: 50, right: 65 });
    expect(nudge(box, 500, -500, true, 100, 100)).toEqual({ top: 10, left: 10, bottom: 100, right: 18 });
  });
});

it("window and level are a linear map of grey", () => {
  expect(windowing(255, 127.5)).toEqual({ slope: 1, intercept: 0 });
  const { slope, intercept } = windowing(51, 102);
  expect(slope * (102 / 255) + intercept).toBeCloseTo(0.5);
  expect(slope * (76.5 / 255) + intercept).toBeCloseTo(0);
});
