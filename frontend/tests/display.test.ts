import { describe, expect, it } from "vitest";
import { EMPTY_QUERY, parse, rowAddress } from "../src/lib/address";
import { tooLarge } from "../src/lib/folder";
import { parseDisplay, DEFAULTS } from "../src/lib/display.svelte";
import { add, toSearch, lossText, stepsOf, type Step } from "../src/lib/steps";

const BOX = { top: 1, left: 2, bottom: 30, right: 40 };

describe("how evidence is shown", () => {
  it("begins as an outline with a faint map", () => {
    expect(parseDisplay(null)).toEqual(DEFAULTS);
    expect(DEFAULTS.outline && DEFAULTS.heat).toBe(true);
    expect(DEFAULTS.opacity).toBeLessThanOrEqual(30);
  });

  it("is as the reader left it", () => {
    const left = { heat: false, outline: false, opacity: 0, pairOpacity: 100 };
    expect(parseDisplay(JSON.stringify(left))).toEqual(left);
  });

  it.each(["", "no", "null", "3", "[]", '{"opacity": 101, "heat": 1, "outline": "x", "pairOpacity": -1}', '{"opacity": null}'])(
    "is not led astray by %s",
    (text) => expect(parseDisplay(text)).toEqual(DEFAULTS),
  );
});

describe("what is lost with another view or frame", () => {
  const region: Step = { kind: "region", box: BOX };
  const crop: Step = { kind: "crop", box: BOX };

  it("is reported", () => {
    expect(lossText(toSearch([region]), "view")).toContain("The region was taken away as a second view was added");
    expect(lossText(toSearch([crop]), "view")).toContain("The area was taken away as a second view");
    const lesion: Step = { kind: "lesion", box: BOX };
    expect(lossText(toSearch([lesion]), "frame")).toContain("The mark was taken away as another frame was chosen");
    expect(lossText(toSearch([lesion, crop]), "view")).toContain("The area and the mark were taken away");
    expect(lossText(toSearch([crop, region]), "frame")).toContain("The region and the area were taken away as another frame");
  });

  it("is nothing where nothing was drawn, or it was taken back", () => {
    expect(lossText(toSearch([]), "view")).toBe("");
    expect(lossText(toSearch([region, { kind: "region", box: null }]), "view")).toBe("");
    expect(toSearch(add([region, crop], { kind: "frame", frame: 3 }))).toMatchObject({ region: null, crop: null, frame: 3 });
  });
});

describe("a row of a batch", () => {
  it("has an address", () => {
    const address = rowAddress("0123456789abcdef", 7);
    expect(parse(address)).toEqual({ ...EMPTY_QUERY, row: "0123456789abcdef/7" });
    for (const wrong of ["x/1", "0123456789abcdef/", "0123456789abcdef/-1", "../../1", ""]) {
      expect(parse(`#/read?row=${encodeURIComponent(wrong)}`)).toEqual(EMPTY_QUERY);
    }
  });

  it("is asked as its job asked", () => {
    const options = { k: 20, where: "age < 40", per_patient: false, deduplicate: false };
    expect(toSearch(stepsOf(options))).toMatchObject({ k: 20, where: "age < 40", perPatient: false, deduplicate: false });
    expect(stepsOf({ k: 10, where: null, per_patient: true, deduplicate: true })).toEqual([]);
  });
});

describe("files that are too heavy", () => {
  it("are named, with both numbers", () => {
    const file = new File([new Uint8Array(3 << 20)], "a.dcm");
    expect(tooLarge([file], 4 << 20)).toBe("");
    expect(tooLarge([file])).toBe("");
    expect(tooLarge([file], 2 << 20)).toContain("a.dcm: 3 MiB are more than the 2 MiB");
  });
});
