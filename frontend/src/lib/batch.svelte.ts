/** Batch jobs as the page shows them, and the folder that is being sent. They outlive the batch view. A singleton. */
import type { Folder } from "./folder";
import type { Job, JobRow } from "./types";

/** Rows of a job that are fetched at first, and again with each "more". */
const PAGE = 100;

/** How a job's card is shown: opened or not, which rows, and how far its table is scrolled. */
class CardView {
  open = $state(false);
  refusedOnly = $state(false);
  wanted = $state(PAGE);
  rows = $state.raw<JobRow[]>([]);
  scrollTop = 0;
}

class Batch {
  jobs = $state.raw<Job[] | null>(null);
  /** A folder that is being sent as a batch job; it continues while other views are open. */
  sending = $state.raw<{ done: number; total: number; name: string; stop: () => void } | null>(null);
  /** Files that were dropped as a folder. */
  folder = $state.raw<Folder | null>(null);
  /** Of the last folder: files that the server refused, and why the sending ended. */
  unsent = $state.raw<string[]>([]);
  sendError = $state("");
  /** How far the view is scrolled. */
  scrollTop = 0;

  #cards = new Map<string, CardView>();

  card(job: string): CardView {
    const found = this.#cards.get(job) ?? new CardView();
    this.#cards.set(job, found);
    return found;
  }
}

export const batch = new Batch();
