import { describe, expect, it } from "vitest";
import { caseAddress, format, EMPTY_QUERY, parse, tokenOf, type Address } from "../src/lib/address";

const UPLOAD = "ab".repeat(32);

describe("an address", () => {
  const all: Address[] = [
    EMPTY_QUERY,
    { view: "archive" },
    { view: "batch" },
    { view: "case", name: "folder/benign/a b?c#d%25 ü.png" },
    {
      view: "read",
      uploads: [UPLOAD, "cd".repeat(32)],
      case: "",
      row: "",
      study: "1.2.840.113619.2",
      picture: "",
      steps: [
        { kind: "where", text: "device = 'a&b=c' and margin = '50 % #1'" },
        { kind: "like", name: "x/y z" },
      ],
      compare: 3,
      at: "64c09870/11-fb6a5e",
    },
    { ...EMPTY_QUERY, case: "busi/benign (1)" },
    { ...EMPTY_QUERY, study: "1.2.3", picture: "4", steps: [{ kind: "frame", frame: 7 }] },
    { view: "worklist" },
    { ...EMPTY_QUERY, row: "0123456789abcdef/12" },
  ];
  it.each(all)("comes back as it was", (address) => expect(parse(format(address))).toEqual(address));

  it("of anything else is the empty page", () => {
    for (const hash of ["", "#", "#/", "#/nowhere?x=1", "#/read?u=nonsense&s=zz&m=-1", "#/read?m=1.5"]) {
      expect(parse(hash)).toEqual(EMPTY_QUERY);
    }
  });

  it("of a case keeps its slashes", () => {
    expect(caseAddress("folder/benign/a.png")).toBe("#/case/folder/benign/a.png");
    expect(parse("#/case/a/%zz")).toEqual({ view: "case", name: "a/%zz" });
  });
});

describe("the token of a link", () => {
  it("is read from the fragment alone, as it is written there", () => {
    expect(tokenOf("#token=a-B_9%20x")).toBe("a-B_9 x");
    for (const hash of ["", "#", "#/read?token=a", "#token", "token=a", "#/token=a"]) expect(tokenOf(hash)).toBe("");
    expect(parse("#token=abc")).toEqual(EMPTY_QUERY);
  });
});
