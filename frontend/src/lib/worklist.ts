/** Words of the worklist. */
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
