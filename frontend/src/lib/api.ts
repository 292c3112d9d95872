/** The server, over HTTP. Addresses are relative to the page: it may lie behind any prefix. */
import type { About, Archive, ArchiveProjection, ArchivedCase, Job, JobKind, JobRow, OpenedRow, Report, ReportText, Upload, WorklistDecision, WorklistEntry, WorklistPage } from "./types";
import type { Search } from "./steps";
import { boxText } from "./steps";

/** A problem document of the server, as an error. */
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
  /** URL of the report, below which its pictures are. */
  reportUrl: string;
  uploads: string[];
  frames: number;
}

export const UNREACHABLE = "The server does not answer. Check that it runs and that the network is up, then try again.";

let tokenRequired = () => {};

/** Call `act` when the server requires its token. */
export function onTokenRequired(act: () => void): void {
  tokenRequired = act;
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
  if (answer.status === 401) tokenRequired();
  let detail = `The server answered ${answer.status}.`;
  try {
    const body: unknown = await answer.json();
    if (body && typeof body === "object" && "detail" in body) detail = String(body.detail);
  } catch {
    // not a problem document: from a proxy
  }
  throw new Problem(answer.status, detail);
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await call(path, signal ? { signal } : undefined);
  return (await answer.json()) as T;
}

/** What a query is about: new files, files that the server has, a case of its archive, or a row of a batch job. */
export interface Source {
  files?: File[];
  uploads?: string[];
  case?: string;
  row?: string;
  /** A picture of a study, "UID/NUMBER". */
  picture?: string;
}

/** The source that an address names. */
export function sourceOf(read: { uploads: string[]; row: string; study: string; picture: string; case: string }): Source {
  if (read.uploads.length) return { uploads: read.uploads };
  if (read.study && read.picture) return { picture: `${read.study}/${read.picture}` };
  return read.row ? { row: read.row } : { case: read.case };
}

export async function query(source: Source, search: Search, signal?: AbortSignal): Promise<Answer> {
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
    reportUrl: answer.headers.get("Content-Location") ?? "",
    uploads: uploads ? uploads.split(",") : [],
    frames: Number(answer.headers.get("Sonoseek-Frames") ?? 1),
  };
}

/** Download a file, under the name that the server gives it. */
export async function save(address: string): Promise<void> {
  const answer = await call(address);
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "sonoseek";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const reportText = (reportUrl: string, signal?: AbortSignal) => get<ReportText>(`${reportUrl}/text`, signal);
export const about = () => get<About>("api/about");
export const archive = () => get<Archive>("api/archive");
export const archiveProjection = () => get<ArchiveProjection>("api/archive/projection");
export const projectedPoint = (reportUrl: string) => get<{ x: number; y: number }>(`${reportUrl}/projection`);
export const getCase = (name: string) => get<ArchivedCase>(casePath(name));
export const examples = () => get<string[]>("api/examples");
export const jobs = () => get<Job[]>("api/jobs");
export const job = (id: string) => get<Job>(`api/jobs/${id}`);

/** Rows by the likelihood of malignancy, the highest first, then scans without a prediction, refused files last. */
export const rows = (id: string, limit: number, refused: boolean) =>
  get<JobRow[]>(`api/jobs/${id}/rows?order=malignancy&limit=${limit}&refused=${refused}`);

/** Load the scan of a row, "JOB/NUMBER". */
export async function openRow(row: string, signal: AbortSignal): Promise<OpenedRow> {
  const [id, number] = row.split("/");
  return (await (await call(`api/jobs/${id}/rows/${number}/open`, { method: "POST", signal })).json()) as OpenedRow;
}

export const worklist = () => get<WorklistPage>("api/worklist");
export const study = (uid: string) => get<WorklistEntry>(`api/worklist/${uid}`);

/** Load a picture of a study, "UID/NUMBER". */
export async function openPicture(picture: string, signal: AbortSignal): Promise<Upload> {
  const [uid, number] = picture.split("/");
  return (await (await call(`api/worklist/${uid}/pictures/${number}/open`, { method: "POST", signal })).json()) as Upload;
}

export async function decide(uid: string, reader: string, corrected: string | null): Promise<WorklistDecision> {
  return (await (await call(`api/worklist/${uid}/decision`, json({ reader, corrected }))).json()) as WorklistDecision;
}

/** Send files without a query. */
export async function upload(files: File[]): Promise<Upload[]> {
  const form = new FormData();
  for (const file of files) form.append("file", file, file.name);
  return (await (await call("api/uploads", { method: "POST", body: form })).json()) as Upload[];
}

export async function signIn(token: string): Promise<void> {
  await call("api/session", json({ token }));
}

export async function signOut(): Promise<void> {
  await call("api/session", { method: "DELETE" });
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

/** A scan of the archive; JPEG is the quickest to make, and what the archive stores. */
export function picture(scanId: string, size: number): string {
  return `api/pictures/${scanId}?size=${size}&form=jpeg`;
}

function json(body: unknown): RequestInit {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/** The sign-in takes the page's place: nothing else is to be shown. */
export const isSignedOut = (error: unknown) => error instanceof Problem && error.status === 401;
