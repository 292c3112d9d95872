import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { afterEach, describe, expect, it, vi } from "vitest";
import { duration, elided, percent, signed } from "../src/lib/format";
import { layers, reference } from "../src/lib/heat";
import type { Job, Match } from "../src/lib/types";
import MatchCard from "../src/parts/MatchCard.svelte";
import Counts from "../src/parts/Counts.svelte";
import JobCard from "../src/parts/JobCard.svelte";
import ErrorMessage from "../src/parts/ErrorMessage.svelte";

afterEach(cleanup);

const MATCH: Match = {
  rank: 2,
  case_id: "benign (1)",
  scan_id: "ab".repeat(32),
  dataset: "busi",
  label: "benign",
  similarity: 0.8764,
  distance: 0.1236,
  birads: "4A",
  histology: "<b>fibroadenoma</b>",
  device: null,
  group: null,
  pathology_proven: true,
  near_duplicates: 3,
  same_patient: 1,
  descriptors: [],
  explanation: null,
};

function card(extra: Partial<Record<string, unknown>> = {}) {
  const calls = { onopen: vi.fn(), onlike: vi.fn(), ondislike: vi.fn(), onfocus: vi.fn() };
  const props = { match: MATCH, reportUrl: "/api/reports/x", heat: true, opacity: 50, mark: null, current: true, tabindex: 0 };
  render(MatchCard, { ...props, ...calls, ...extra } as never);
  return calls;
}

describe("a similar case", () => {
  it("says what it is, and takes text as text", () => {
    card();
    expect(screen.getByRole("article").getAttribute("aria-label")).toBe("Match 2: benign");
    expect(screen.getByText("0.876")).toBeTruthy();
    expect(screen.getByText("BI-RADS 4A")).toBeTruthy();
    expect(document.querySelector(".details b")).toBeNull();
    expect(screen.getByText("3 near-duplicates, 1 more of the patient")).toBeTruthy();
    expect(screen.getByRole("link").getAttribute("href")).toBe("#/case/busi/benign%20(1)");
  });

  it("keeps the end of a long name, by which a case is known", () => {
    card({ match: { ...MATCH, case_id: "c-30a548bed0f1c2d3e4f5a6b7" } });
    const link = screen.getByRole("link");
    expect(link.textContent).toBe("c-30a5…3e4f5a6b7");
    expect(link.getAttribute("title")).toBe("busi/c-30a548bed0f1c2d3e4f5a6b7");
    expect(["benign (1)", "phantom-0000068-1"].map(elided)).toEqual(["benign (1)", "phantom-0000068-1"]);
  });

  it("opens, is liked and disliked by its buttons", () => {
    const calls = card();
    screen.getByRole("button", { name: /Compare with match 2/ }).click();
    screen.getByRole("button", { name: "More like match 2" }).click();
    screen.getByRole("button", { name: "Less like match 2" }).click();
    expect([calls.onopen, calls.onlike, calls.ondislike].map((call) => call.mock.calls.length)).toEqual([1, 1, 1]);
  });

  it("shows that it was liked", () => {
    card({ mark: "liked" });
    expect(screen.getByRole("button", { name: "More like match 2" }).getAttribute("aria-pressed")).toBe("true");
  });
});

describe("counts", () => {
  it("stand in clinical order, whatever their keys", () => {
    render(Counts, { title: "BI-RADS", counts: { "5": 1, "3": 2, "4C": 4, "4A": 3, unknown: 9 } });
    expect([...document.querySelectorAll("dt")].map((each) => each.textContent?.trim())).toEqual(["3", "4A", "4C", "5", "unknown"]);
  });
});

it("an error is announced and can be closed", () => {
  const onclose = vi.fn();
  render(ErrorMessage, { text: "k is 'x'; it must be a whole number.", onclose });
  expect(screen.getByRole("alert").textContent).toContain("k is 'x'");
  screen.getByRole("button", { name: "Close this message" }).click();
  expect(onclose).toHaveBeenCalledOnce();
});

describe("numbers", () => {
  const map = (target: string, peak: number) =>
    ({ target, peak, shape: [100, 100], method: "", exact: true, value: 0, bias: 0, sum: 0 }) as const;

  it("of a heatmap have one scale for both, and never less than the floor", () => {
    expect(reference(map("malignant", 0.001) as never)).toBe(1);
    expect(reference(map("malignant", 0.05) as never)).toBe(5);
    expect(reference(map("match:a", 0.00001) as never, map("query:b", 0.004) as never)).toBeCloseTo(0.4);
    expect(reference(null, undefined)).toBe(1);
    expect(layers("/x", 0.4, 320).warm).toBe("/x/warm?size=320&reference=0.400000");
  });

  it("are written as a reader wants them", () => {
    expect([0, 0.004, 0.5, 0.996, 1].map(percent)).toEqual(["0 %", "< 1 %", "50 %", "> 99 %", "100 %"]);
    expect([0.12345, -0.5, -0.0001].map((value) => signed(value, 3))).toEqual(["+0.123", "−0.500", "0.000"]);
    expect([0.2, 59, 61, 7300].map(duration)).toEqual(["1 s", "59 s", "1 min", "2 h 2 min"]);
  });
});

describe("a batch job", () => {
  const JOB: Job = {
    job_id: "0123456789abcdef",
    kind: "evaluate",
    state: "done",
    title: "monday",
    total: 5,
    done: 5,
    refused: 0,
    seconds_left: null,
    created: "2026-01-01T00:00:00Z",
    started: null,
    finished: null,
    error: "",
    summary: {
      predictions: { benign: 3, "not sure": 2 },
      seen_in_training: 2,
      scored: 3,
      confusion: [[0, 0, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0]],
      accuracy: [1, 0.9, 1],
      auroc_malignant: null,
    },
    openable: true,
  };

  it("is opened as it was left when the view is shown again", async () => {
    const row = { name: "a.png", number: 1, outcome: {}, refused: "no scan" };
    vi.stubGlobal("fetch", async () => new Response(JSON.stringify([row])));
    const job = { ...JOB, job_id: "fedcba9876543210", refused: 1 };
    const show = () => render(JobCard, { job, onchange: vi.fn() });
    show();
    await fireEvent.click(screen.getByRole("button", { name: /^Show/ }));
    await fireEvent.click(await screen.findByRole("checkbox"));
    await screen.findByText("a.png");
    cleanup();
    show();
    expect(screen.getByRole<HTMLInputElement>("checkbox").checked).toBe(true);
    expect(screen.getByText("a.png")).toBeTruthy();
    cleanup();
    render(JobCard, { job: JOB, onchange: vi.fn() });
    expect(screen.queryByText("a.png")).toBeNull();
    vi.unstubAllGlobals();
  });

  it("says what it does not score, and why it gives no figure", () => {
    render(JobCard, { job: JOB, onchange: vi.fn() });
    expect(screen.getByText("3 scans with a reference standard; not scored: 2 that were in the training data")).toBeTruthy();
    cleanup();
    const text = "4 of 5 scans with a reference label were in the training data";
    render(JobCard, { job: { ...JOB, summary: { scored: 0, no_figures: text } }, onchange: vi.fn() });
    expect(screen.getByText(text)).toBeTruthy();
    expect(screen.queryByText("Accuracy")).toBeNull();
  });

  it("says when it was made, in the reader's time", () => {
    const created = new Date(2026, 0, 31, 13, 5).toISOString();
    render(JobCard, { job: { ...JOB, created }, onchange: vi.fn() });
    expect(screen.getByText("2026-01-31 13:05").getAttribute("datetime")).toBe(created);
  });
});
