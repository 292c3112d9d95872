import { describe, expect, it } from "vitest";
import { add, decode, describe as words, encode, toSearch, parseBox, type Step } from "../src/lib/steps";

const BOX = { top: 10, left: 20, bottom: 110.5, right: 220 };
const ALL: Step[] = [
  { kind: "frame", frame: 7 },
  { kind: "crop", box: BOX },
  { kind: "crop", box: null },
  { kind: "lesion", box: BOX },
  { kind: "lesion", box: null },
  { kind: "region", box: BOX },
  { kind: "region", box: null },
  { kind: "like", name: "busi/benign (12)" },
  { kind: "dislike", name: "a/b/c:d" },
  { kind: "where", text: "device = 'x:y' and age < 40" },
  { kind: "where", text: "" },
  { kind: "k", k: 30 },
  { kind: "perPatient", on: true },
  { kind: "deduplicate", on: false },
];

describe("a step in an address", () => {
  it.each(ALL)("comes back as it was: $kind", (step) => {
    expect(decode(encode(step))).toEqual(step);
    expect(words(step)).not.toBe("");
  });

  it.each(["", "r", "q:1", "k:x", "k:-1", "f:1.5", "r:1,2,3", "r:5,5,1,9", "m:1,2,3", "c:a,b,c,d", "l:", "d:", "k:99999999"])(
    "is left out when it is none: %s",
    (text) => expect(decode(text)).toBeNull(),
  );
});

describe("steps", () => {
  it("make a search, the later over the earlier", () => {
    const search = toSearch([
      { kind: "like", name: "a/1" },
      { kind: "like", name: "a/2" },
      { kind: "dislike", name: "a/1" },
      { kind: "where", text: "age < 40" },
      { kind: "k", k: 20 },
      { kind: "perPatient", on: true },
      { kind: "perPatient", on: false },
    ]);
    expect(search).toMatchObject({ liked: ["a/2"], disliked: ["a/1"], where: "age < 40", k: 20, perPatient: false });
  });

  it("let boxes go with another frame: they were drawn on another picture", () => {
    const search = toSearch([
      { kind: "region", box: BOX },
      { kind: "crop", box: BOX },
      { kind: "lesion", box: BOX },
      { kind: "frame", frame: 3 },
    ]);
    expect(search).toMatchObject({ frame: 3, region: null, crop: null, lesion: null });
  });

  it("count more matches, or another frame, once", () => {
    let steps: Step[] = [];
    for (const k of [20, 30, 40]) steps = add(steps, { kind: "k", k });
    steps = add(steps, { kind: "like", name: "a/1" });
    steps = add(steps, { kind: "like", name: "a/2" });
    expect(steps.map((step) => step.kind)).toEqual(["k", "like", "like"]);
  });

  it("another frame takes away what was drawn on the one before", () => {
    const drawn: Step[] = [
      { kind: "region", box: { top: 1, left: 1, bottom: 9, right: 9 } },
      { kind: "like", name: "a/1" },
      { kind: "crop", box: { top: 1, left: 1, bottom: 9, right: 9 } },
      { kind: "lesion", box: { top: 1, left: 1, bottom: 9, right: 9 } },
    ];
    expect(add(drawn, { kind: "frame", frame: 2 }).map((step) => step.kind)).toEqual(["like", "frame"]);
  });

  it("undone one by one lead back to the beginning", () => {
    const nothing = toSearch([]);
    for (let count = ALL.length; count >= 0; count--) toSearch(ALL.slice(0, count));
    expect(toSearch([])).toEqual(nothing);
  });
});

it("a box needs four numbers in order", () => {
  expect(parseBox("1,2,3,4")).toEqual({ top: 1, left: 2, bottom: 3, right: 4 });
  expect(parseBox("3,2,1,4")).toBeNull();
  expect(parseBox("1,2,3,Infinity")).toBeNull();
});
