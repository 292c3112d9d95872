import { describe, expect, it } from "vitest";
import { fromWhere, NO_FILTER, toWhere, type Filter } from "../src/lib/filters";

describe("a filter", () => {
  const all: [Filter, string][] = [
    [NO_FILTER, ""],
    [{ ...NO_FILTER, labels: ["benign"] }, "label in ('benign')"],
    [{ ...NO_FILTER, labels: ["malignant", "normal"] }, "label in ('normal', 'malignant')"],
    [{ ...NO_FILTER, birads: "4A", device: "GE Logiq 7" }, "birads >= '4A' and device = 'GE Logiq 7'"],
    [{ ...NO_FILTER, device: "O'Neill" }, "device = 'O''Neill'"],
    [{ ...NO_FILTER, more: "age < 40 or age > 70" }, "age < 40 or age > 70"],
    [{ ...NO_FILTER, birads: "3", more: "age < 40 or age > 70" }, "birads >= '3' and (age < 40 or age > 70)"],
  ];
  it.each(all)("is written in the filter language", (filter, where) => expect(toWhere(filter)).toBe(where));
  it.each(all)("is read back into its controls", (filter, where) => {
    const labels = [...filter.labels].sort();
    const back = fromWhere(where);
    expect({ ...back, labels: [...back.labels].sort() }).toEqual({ ...filter, labels });
  });

  it.each([
    "label in ('benign', 'malignant') and not histology contains 'phyllodes'",
    "birads >= '4A' or device = 'x'",
    "label in ('other')",
    "(a = 1) and (b = 2)",
    "birads >= '3' and (age < 40) and (age > 20)",
  ])("that the controls cannot show loses nothing: %s", (where) => expect(toWhere(fromWhere(where))).toBe(where));

  it("with all three diagnoses is none", () => {
    expect(toWhere({ ...NO_FILTER, labels: ["normal", "benign", "malignant"] })).toBe("");
  });
});
