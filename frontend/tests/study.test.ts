import { cleanup, render, screen } from "@testing-library/svelte";
import { afterEach, describe, expect, it, vi } from "vitest";
import { EMPTY_QUERY } from "../src/lib/address";
import { app } from "../src/lib/app.svelte";
import { toSearch, type Step } from "../src/lib/steps";
import type { WorklistStudy } from "../src/lib/types";
import { otherReading, resultName } from "../src/lib/worklist";
import StudyBar from "../src/parts/StudyBar.svelte";

const STUDY: WorklistStudy = {
  study_uid: "1.2.3",
  accession: "A1",
  decision: null,
  frame: 0,
  malignant: 0.04,
  message: "",
  patient_id: "7",
  patient_name: "Curie, Marie",
  picture: 0,
  pictures: 2,
  queried: 1,
  received: 1,
  state: "sent",
  study_date: "20250105",
};
const BOX = { top: 1, left: 1, bottom: 9, right: 9 };

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  app.address = EMPTY_QUERY;
});

async function bar(picture: string, study: Partial<WorklistStudy> = {}, steps: Step[] = []) {
  const prior = { ...STUDY, study_uid: "1.2.2", study_date: "20240105", malignant: 0.45 };
  const entry = { study: { ...STUDY, ...study }, available: [true, true], priors: [prior] };
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify(entry)));
  app.address = { ...EMPTY_QUERY, study: STUDY.study_uid, picture, uploads: ["ab".repeat(32)], steps };
  render(StudyBar, { uid: STUDY.study_uid });
  await screen.findByText("Curie, Marie");
}
const text = () => screen.getByRole("region").textContent?.replaceAll(/[\s\u00a0]+/g, " ") ?? "";
const accept = () => screen.getByRole("button", { name: /^Accept/ }).textContent?.replaceAll(/[\s\u00a0]+/g, " ").trim();

describe("a study with one picture", () => {
  it("has no gap where the number of the picture would stand", async () => {
    await bar("0", { pictures: 1 });
    expect(text()).toContain("Report: likelihood of malignancy 4 %.");
    expect(accept()).toBe("Accept 4 %");
    cleanup();
    await bar("0", { pictures: 1, malignant: null, decision: { reader: "Ada", corrected: null, decided: 1 } });
    expect(text()).toContain("Accepted by Ada: likelihood of malignancy unknown. A verified report");
  });
});

describe("a study with two pictures", () => {
  it("names what is accepted, and marks the picture that is open", async () => {
    await bar("0");
    expect(accept()).toBe("Accept 4 % (picture 1)");
    expect(screen.queryByRole("note")).toBeNull();
    const marked = [...document.querySelectorAll(".strip a")].map((each) => each.getAttribute("aria-current"));
    expect(marked).toEqual(["true", null]);
  });

  it("says when another picture is open than the report's", async () => {
    await bar("1");
    expect(accept()).toBe("Accept 4 % (picture 1)");
    expect(screen.getByRole("note").textContent).toBe("Picture 2 is open; the report is of picture 1.");
  });

  it("says when the reading has a mark and the report none", async () => {
    await bar("0", {}, [{ kind: "lesion", box: BOX }]);
    expect(screen.getByRole("note").textContent).toBe("The prediction shown is with the reader's mark; the report is without.");
  });

  it("names the figure of a prior", async () => {
    await bar("0");
    const prior = screen.getByRole("button", { name: /^2024-01-05/ });
    expect(prior.textContent?.replace("\u00a0", " ")).toBe("2024-01-05, malignancy 45 %");
  });

  it("keeps the figure after the decision", async () => {
    await bar("1", { decision: { reader: "Ada", corrected: null, decided: 1 } });
    expect(text()).toContain("Accepted by Ada: likelihood of malignancy 4 % (picture 1).");
    expect(screen.getByRole("note")).toBeTruthy();
  });
});

it("the result of a loop is of a frame", () => {
  const loop = { ...STUDY, pictures: 1, frame: 6 };
  expect(resultName(loop)).toBe("frame 7");
  expect(otherReading(loop, { picture: 0, views: 1, search: toSearch([]) })).toBe("Frame 1 is open; the report is of frame 7.");
  expect(otherReading(loop, { picture: 0, views: 1, search: toSearch([{ kind: "frame", frame: 6 }]) })).toBe("");
  expect(otherReading(loop, { picture: null, views: 1, search: toSearch([]) })).toContain("may be another");
});
