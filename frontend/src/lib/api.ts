/** The server, over HTTP. Addresses are relative to the page: it may lie behind any prefix. */
import type { About, Archive, ArchiveMap, CaseInfo, Job, JobKind, JobOptions, JobRow, Report, Said, Upload } from "./types";
import type { Search } from "./steps";
import { boxText } from "./steps";

/** An error in the server's own words. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

export interface Answer {
  report: Report;
  /** Address of the report, for its pictures. */
  place: string;
  uploads: string[];
  frames: number;
}

const UNREACHABLE = "The server does not answer. Look whether it runs and the line is up, then try again.";

let locked = () => {};

/** What to do when the server asks for its token. */
export function whenLocked(act: () => void): void {
  locked = act;
}

export async function call(path: string, init?: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, UNREACHABLE);
  }
  if (answer.ok) return answer;
  if (answer.status === 401) locked();
  let detail = `The server answered ${answer.status}.`;
  try {
    const told: unknown = await answer.json();
    if (told && typeof told === "object" && "detail" in told) detail = String(told.detail);
  } catch {
    // not a problem document: a proxy spoke
  }
  throw new Problem(answer.status, detail);
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await call(path, signal ? { signal } : undefined);
  return (await answer.json()) as T;
}

/** What is asked about: files sent now, files that the server has, a case of its archive, or a row of a batch job. */
export interface Source {
  files?: File[];
  uploads?: string[];
  case?: string;
  row?: string;
}

/** Of an address: the files that it names, the row, or the case. */
export function sourceOf(read: { uploads: string[]; row: string; case: string }): Source {
  if (read.uploads.length) return { uploads: read.uploads };
  return read.row ? { row: read.row } : { case: read.case };
}

export async function ask(source: Source, search: Search, signal?: AbortSignal): Promise<Answer> {
  const form = new FormData();
  if (source.uploads?.length) for (const id of source.uploads) form.append("upload", id);
  else if (source.case) form.append("case", source.case);
  else for (const file of source.files ?? []) form.append("file", file, file.name);
  form.append("k", String(search.k));
  if (search.frame) form.append("frame", String(search.frame));
  if (search.where) form.append("where", search.where);
  if (!search.perPatient) form.append("per_patient", "false");
  if (!search.deduplicate) form.append("deduplicate", "false");
  if (search.region) form.append("region", boxText(search.region));
  if (search.crop) form.append("crop", boxText(search.crop));
  if (search.lesion) form.append("lesion", boxText(search.lesion));
  for (const name of search.liked) form.append("liked", name);
  for (const name of search.disliked) form.append("disliked", name);
  const answer = await call("api/query", { method: "POST", body: form, ...(signal ? { signal } : {}) });
  const uploads = answer.headers.get("Sonoseek-Uploads");
  return {
    report: (await answer.json()) as Report,
    place: answer.headers.get("Content-Location") ?? "",
    uploads: uploads ? uploads.split(",") : [],
    frames: Number(answer.headers.get("Sonoseek-Frames") ?? 1),
  };
}

/** Save what an address gives as a file, under the name that the server gives it. */
export async function save(address: string): Promise<void> {
  const answer = await call(address);
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "sonoseek";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const said = (place: string, signal?: AbortSignal) => get<Said>(`${place}/text`, signal);
export const about = () => get<About>("api/about");
export const archive = () => get<Archive>("api/archive");
export const archiveMap = () => get<ArchiveMap>("api/archive/projection");
export const placeOnMap = (place: string) => get<{ x: number; y: number }>(`${place}/projection`);
export const getCase = (name: string) => get<CaseInfo>(casePath(name));
export const examples = () => get<string[]>("api/examples");
export const jobs = () => get<Job[]>("api/jobs");
export const job = (id: string) => get<Job>(`api/jobs/${id}`);

/** Rows by the likelihood of malignancy, the highest first, then scans without a prediction, refused files last. */
export const rows = (id: string, limit: number, refused: boolean) =>
  get<JobRow[]>(`api/jobs/${id}/rows?order=malignancy&limit=${limit}&refused=${refused}`);

/** Bring the scan of a row, "JOB/NUMBER", to hand. */
export async function openRow(row: string, signal: AbortSignal): Promise<Upload & { options: JobOptions }> {
  const [id, number] = row.split("/");
  return (await (await call(`api/jobs/${id}/rows/${number}/open`, { method: "POST", signal })).json()) as Upload & {
    options: JobOptions;
  };
}

/** Send files without asking yet. */
export async function upload(files: File[]): Promise<Upload[]> {
  const form = new FormData();
  for (const file of files) form.append("file", file, file.name);
  return (await (await call("api/uploads", { method: "POST", body: form })).json()) as Upload[];
}

export async function signIn(token: string): Promise<void> {
  await call("api/session", json({ token }));
}

export async function createJob(kind: JobKind, title: string, total: number, extend: boolean): Promise<Job> {
  return (await (await call("api/jobs", json({ kind, title, total, extend }))).json()) as Job;
}

export async function sendFile(id: string, name: string, file: Blob, signal: AbortSignal): Promise<void> {
  const path = name.split("/").map(encodeURIComponent).join("/");
  await call(`api/jobs/${id}/files/${path}`, { method: "PUT", body: file, signal });
}

export async function startJob(id: string): Promise<Job> {
  return (await (await call(`api/jobs/${id}/start`, { method: "POST" })).json()) as Job;
}

export async function stopJob(id: string): Promise<Job> {
  return (await (await call(`api/jobs/${id}/stop`, { method: "POST" })).json()) as Job;
}

export async function deleteJob(id: string): Promise<void> {
  await call(`api/jobs/${id}`, { method: "DELETE" });
}

export function casePath(name: string): string {
  return `api/cases/${name.split("/").map(encodeURIComponent).join("/")}`;
}

/** A scan of the archive; JPEG is the quickest to make, and what the archive keeps. */
export function picture(scanId: string, size: number): string {
  return `api/pictures/${scanId}?size=${size}&form=jpeg`;
}

function json(body: unknown): RequestInit {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}
