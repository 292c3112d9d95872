/** Words of the worklist. */
import type { Search } from "./steps";
import type { WorklistStudy } from "./types";

export const STATES: Record<WorklistStudy["state"], string> = {
  waiting: "Waiting",
  querying: "Being queried",
  queried: "Queried",
  sent: "Sent",
  committed: "Committed",
  failed: "Failed",
  alarm: "Not committed",
};

/** DICOM's YYYYMMDD as YYYY-MM-DD; what is no date stays as it is. */
export function dicomDate(text: string): string {
  return /^\d{8}$/.test(text) ? `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}` : text;
}

/** What a study's result is of: "picture 2", "picture 1, frame 7", "frame 7", or "" for the only picture. */
export function resultName(study: WorklistStudy): string {
  const words = [study.pictures > 1 ? `picture ${(study.picture ?? 0) + 1}` : "", study.frame ? `frame ${study.frame + 1}` : ""];
  return words.filter(Boolean).join(", ");
}

/** How the reading that is open differs from the study's report, as a sentence; "" where it is the same. */
export function otherReading(study: WorklistStudy, open: { picture: number | null; views: number; search: Search }): string {
  const { picture, views, search } = open;
  const report = resultName(study) || "the study's picture";
  if (picture === null) return `The scan that is open may be another; the report is of ${report}.`;
  if (picture !== (study.picture ?? 0)) return `Picture ${picture + 1} is open; the report is of ${report}.`;
  if (search.frame !== (study.frame ?? 0)) return `Frame ${search.frame + 1} is open; the report is of ${resultName(study) || "frame 1"}.`;
  const changes = [search.lesion ? "the reader's mark" : "", search.crop ? "the drawn scan area" : "", views > 1 ? "further views" : ""];
  const changed = changes.filter(Boolean).join(" and ");
  return changed ? `The prediction shown is with ${changed}; the report is without.` : "";
}
