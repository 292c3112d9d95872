import { expect, it, vi } from "vitest";
import { edges } from "../src/lib/edges";

it("a row says on which sides it is cut", () => {
  vi.stubGlobal("ResizeObserver", class { observe() {} disconnect() {} });
  const row = document.createElement("div");
  let scrollLeft = 0;
  Object.defineProperties(row, {
    clientWidth: { value: 100 },
    scrollWidth: { value: 250 },
    scrollLeft: { get: () => scrollLeft },
  });
  const end = edges(row);
  const seen = [0, 60, 150].map((left) => {
    scrollLeft = left;
    row.dispatchEvent(new Event("scroll"));
    return row.dataset.cut;
  });
  expect(seen).toEqual(["right", "left right", "left"]);
  end();
  vi.unstubAllGlobals();
});
