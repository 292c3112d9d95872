import { describe, expect, it } from "vitest";
import { layers } from "../src/lib/heat";
import type { Report } from "../src/lib/types";
import { pairsOf, strongestView } from "../src/lib/views";

const explanation = (target: string, sum: number) => ({ target, sum });
const REPORT = {
  explanations: [explanation("benign", 9), explanation("match:a", 0.2), explanation("match:b", 0.5)],
  views: [{ explanations: [explanation("benign", 9), explanation("match:b", 0.1), explanation("match:a", 0.4)] }],
} as unknown as Report;

describe("why these two, of several views", () => {
  it("is each view's own explanation, and begins at the strongest", () => {
    const pairs = pairsOf(REPORT, "a");
    expect(pairs.map((pair) => [pair?.number, pair?.explanation.sum])).toEqual([[1, 0.2], [2, 0.4]]);
    expect(strongestView(pairs)).toBe(1);
    expect(strongestView(pairsOf(REPORT, "b"))).toBe(0);
  });

  it("begins at the first view where the pair was not explained", () => {
    expect(pairsOf(REPORT, "c")).toEqual([null, null]);
    expect(strongestView(pairsOf(REPORT, "c"))).toBe(0);
  });

  it("asks for the map of the view", () => {
    expect(layers("/x", 1, 640, 1).cool).toBe("/x/cool?size=640&reference=1.00000&view=1");
    expect(layers("/x", 1, 640, 0).cool).toBe("/x/cool?size=640&reference=1.00000");
  });
});
