/** The page's address: its view, and the query with its steps. */
import { decode, encode, type Step } from "./steps";

export interface QueryAddress {
  view: "read";
  uploads: string[];
  case: string;
  /** A row of a batch job's table, "JOB/NUMBER", whose scan is to be opened, or "". */
  row: string;
  /** A study of the worklist, and the number of a picture of it, from 0, or ""; it is opened unless there are uploads. */
  study: string;
  picture: string;
  steps: Step[];
  /** Rank of the match that is compared, or 0. */
  compare: number;
  /** The archive's state when the link was made: "gallery/state", or "". */
  at: string;
}

export type Address = QueryAddress | { view: "archive" } | { view: "case"; name: string } | { view: "batch" } | { view: "worklist" };

/** The token of a link that the server printed, "#token=…"; "" where the address has none. */
export function tokenOf(hash: string): string {
  return hash.startsWith("#token=") ? safeDecode(hash.slice(7)) : "";
}

export const EMPTY_QUERY: QueryAddress = { view: "read", uploads: [], case: "", row: "", study: "", picture: "", steps: [], compare: 0, at: "" };

export function parse(hash: string): Address {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  if (path === "archive") return { view: "archive" };
  if (path === "batch" || path === "worklist") return { view: path };
  if (path.startsWith("case/")) {
    return { view: "case", name: path.slice(5).split("/").map(safeDecode).join("/") };
  }
  const given = new URLSearchParams(query);
  const compare = Number(given.get("m") ?? 0);
  return {
    view: "read",
    uploads: given.getAll("u").filter((id) => /^[0-9a-f]{64}$/.test(id)),
    case: given.get("case") ?? "",
    row: /^[0-9a-f]{16}\/\d{1,9}$/.test(given.get("row") ?? "") ? given.get("row")! : "",
    study: /^[0-9.]{1,64}$/.test(given.get("study") ?? "") ? given.get("study")! : "",
    picture: /^\d{1,6}$/.test(given.get("picture") ?? "") ? given.get("picture")! : "",
    steps: given
      .getAll("s")
      .map(decode)
      .filter((step) => step !== null),
    compare: Number.isInteger(compare) && compare > 0 ? compare : 0,
    at: given.get("at") ?? "",
  };
}

export function format(address: Address): string {
  if (address.view === "archive" || address.view === "batch" || address.view === "worklist") return `#/${address.view}`;
  if (address.view === "case") return caseAddress(address.name);
  const given = new URLSearchParams();
  for (const id of address.uploads) given.append("u", id);
  if (address.case) given.append("case", address.case);
  if (address.row) given.append("row", address.row);
  if (address.study) given.append("study", address.study);
  if (address.picture) given.append("picture", address.picture);
  for (const step of address.steps) given.append("s", encode(step));
  if (address.compare) given.append("m", String(address.compare));
  if (address.at) given.append("at", address.at);
  const query = given.toString();
  return query ? `#/read?${query}` : "#/read";
}

export function rowAddress(job: string, number: number): string {
  return format({ ...EMPTY_QUERY, row: `${job}/${number}` });
}

/** A picture of a study, both from 0; `frame` of a loop. */
export function studyAddress(study: string, picture: number, frame = 0): string {
  return format({ ...EMPTY_QUERY, study, picture: String(picture), steps: frame ? [{ kind: "frame", frame }] : [] });
}

export function caseAddress(name: string): string {
  return `#/case/${name.split("/").map(encodeURIComponent).join("/")}`;
}

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What the report depends on: two addresses of one key are one query. */
export function keyOf(read: QueryAddress): string {
  return JSON.stringify([read.uploads, read.case, read.row, read.picture, read.steps]);
}

/** The scan or case of a query. */
export function subjectOf(read: QueryAddress): string {
  return JSON.stringify([read.uploads, read.case, read.row, read.picture]);
}
