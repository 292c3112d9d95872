/** A search as the list of steps that led to it: each can be undone, and the list stands in the address. */
import type { Box, JobOptions } from "./types";

export interface Search {
  frame: number;
  crop: Box | null;
  lesion: Box | null;
  region: Box | null;
  liked: string[];
  disliked: string[];
  where: string;
  k: number;
  perPatient: boolean;
  deduplicate: boolean;
}

export type Step =
  | { kind: "frame"; frame: number }
  | { kind: "crop"; box: Box | null }
  | { kind: "lesion"; box: Box | null }
  | { kind: "region"; box: Box | null }
  | { kind: "like"; name: string }
  | { kind: "dislike"; name: string }
  | { kind: "where"; text: string }
  | { kind: "k"; k: number }
  | { kind: "perPatient"; on: boolean }
  | { kind: "deduplicate"; on: boolean };

export const FIRST_K = 10;
const LETTERS = {
  frame: "f",
  crop: "c",
  lesion: "m",
  region: "r",
  like: "l",
  dislike: "d",
  where: "w",
  k: "k",
  perPatient: "p",
  deduplicate: "v",
} as const;

export function toSearch(steps: readonly Step[]): Search {
  const search: Search = {
    frame: 0,
    crop: null,
    lesion: null,
    region: null,
    liked: [],
    disliked: [],
    where: "",
    k: FIRST_K,
    perPatient: true,
    deduplicate: true,
  };
  const without = (names: string[], name: string) => names.filter((each) => each !== name);
  for (const step of steps) {
    switch (step.kind) {
      case "frame": // boxes were drawn on another picture
        Object.assign(search, { frame: step.frame, crop: null, lesion: null, region: null });
        break;
      case "crop":
        search.crop = step.box;
        break;
      case "lesion":
        search.lesion = step.box;
        break;
      case "region":
        search.region = step.box;
        break;
      case "like":
        search.disliked = without(search.disliked, step.name);
        search.liked = [...without(search.liked, step.name), step.name];
        break;
      case "dislike":
        search.liked = without(search.liked, step.name);
        search.disliked = [...without(search.disliked, step.name), step.name];
        break;
      case "where":
        search.where = step.text;
        break;
      case "k":
        search.k = step.k;
        break;
      case "perPatient":
        search.perPatient = step.on;
        break;
      case "deduplicate":
        search.deduplicate = step.on;
        break;
    }
  }
  return search;
}

/**
 * The list with one step more. "More matches" twice in a row is one step, not two; another frame removes drawings
 * on the one before.
 */
export function add(before: readonly Step[], step: Step): Step[] {
  const steps = step.kind === "frame" ? withoutDrawings(before) : before;
  const last = steps.at(-1);
  const replaces = last?.kind === step.kind && (step.kind === "k" || step.kind === "frame");
  return [...(replaces ? steps.slice(0, -1) : steps), step];
}

/** The steps without drawings on one scan. */
export function withoutDrawings(steps: readonly Step[]): Step[] {
  return steps.filter((step) => step.kind !== "region" && step.kind !== "crop" && step.kind !== "lesion");
}

/** Which drawings are removed with another view or frame, as a sentence; "" where nothing was drawn. */
export function lossText(search: Search, added: "view" | "frame"): string {
  const drawn = [search.region ? "region" : "", search.crop ? "area" : "", search.lesion ? "mark" : ""].filter(Boolean);
  if (!drawn.length) return "";
  const what = `The ${drawn.join(" and the ")} ${drawn.length > 1 ? "were" : "was"} taken away`;
  return added === "view"
    ? `${what} as a second view was added: what is drawn is of one scan.`
    : `${what} as another frame was chosen: what is drawn is of one frame.`;
}

/** The options of a batch job as steps, so that its rows are queried as the job did. */
export function stepsOf(options: JobOptions): Step[] {
  const steps: Step[] = [];
  if (options.where) steps.push({ kind: "where", text: options.where });
  if (options.per_patient === false) steps.push({ kind: "perPatient", on: false });
  if (options.deduplicate === false) steps.push({ kind: "deduplicate", on: false });
  if (options.k != null && options.k !== FIRST_K) steps.push({ kind: "k", k: options.k });
  return steps;
}

export function describe(step: Step): string {
  switch (step.kind) {
    case "frame":
      return `Frame ${step.frame + 1}`;
    case "crop":
      return step.box ? `Scan area drawn: ${describeBox(step.box)}` : "Scan area found by preprocessing again";
    case "lesion":
      return step.box ? `Lesion marked: ${describeBox(step.box)}` : "Read without a mark";
    case "region":
      return step.box ? `Region: ${describeBox(step.box)}` : "Region left out";
    case "like":
      return `More like ${step.name}`;
    case "dislike":
      return `Less like ${step.name}`;
    case "where":
      return step.text ? `Only ${step.text}` : "No filter";
    case "k":
      return `${step.k} matches`;
    case "perPatient":
      return step.on ? "One match per patient" : "Any number per patient";
    case "deduplicate":
      return step.on ? "Near-duplicates behind the better match" : "Near-duplicates listed";
  }
}

export function encode(step: Step): string {
  return `${LETTERS[step.kind]}:${valueOf(step)}`;
}

/** A step of an address, or null where it is invalid. */
export function decode(text: string): Step | null {
  const value = text.slice(2);
  if (text[1] !== ":") return null;
  switch (text[0]) {
    case "f":
      return whole(value) === null ? null : { kind: "frame", frame: Number(value) };
    case "k":
      return whole(value) === null ? null : { kind: "k", k: Number(value) };
    case "c":
    case "m":
    case "r": {
      const kind = text[0] === "c" ? "crop" : text[0] === "m" ? "lesion" : "region";
      if (!value) return { kind, box: null };
      const box = parseBox(value);
      return box ? { kind, box } : null;
    }
    case "l":
      return value ? { kind: "like", name: value } : null;
    case "d":
      return value ? { kind: "dislike", name: value } : null;
    case "w":
      return { kind: "where", text: value };
    case "p":
      return { kind: "perPatient", on: value === "1" };
    case "v":
      return { kind: "deduplicate", on: value === "1" };
    default:
      return null;
  }
}

export function boxText(box: Box): string {
  return [box.top, box.left, box.bottom, box.right].map((side) => String(Math.round(side * 10) / 10)).join(",");
}

export function parseBox(text: string): Box | null {
  const sides = text.split(",").map(Number);
  if (sides.length !== 4 || !sides.every(Number.isFinite)) return null;
  const [top, left, bottom, right] = sides as [number, number, number, number];
  return top < bottom && left < right ? { top, left, bottom, right } : null;
}

function describeBox(box: Box): string {
  const [top, left, bottom, right] = [box.top, box.left, box.bottom, box.right].map(Math.round);
  return `rows ${top} to ${bottom}, columns ${left} to ${right}`;
}

function valueOf(step: Step): string {
  switch (step.kind) {
    case "frame":
      return String(step.frame);
    case "k":
      return String(step.k);
    case "crop":
    case "lesion":
    case "region":
      return step.box ? boxText(step.box) : "";
    case "like":
    case "dislike":
      return step.name;
    case "where":
      return step.text;
    case "perPatient":
    case "deduplicate":
      return step.on ? "1" : "0";
  }
}

function whole(text: string): number | null {
  return /^\d{1,6}$/.test(text) ? Number(text) : null;
}
