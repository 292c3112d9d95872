/** What the page knows: the address, the answer to it, and what is on its way. One of it. */
import * as api from "./api";
import { format, keyOf, NOTHING, parse, subjectOf, type Address, type Read } from "./address";
import { loose, tooHeavy } from "./folder";
import { store, stored } from "./looks.svelte";
import { add, fold, lossWords, stepsOf, undrawn, type Search, type Step } from "./steps";
import type { About, Archive, Match, Report, Said } from "./types";

type Theme = "dark" | "light";
class Room {
  address = $state<Address>(parse(location.hash));
  about = $state.raw<About | null>(null);
  /** Whether the server asks for its token. */
  locked = $state(false);
  report = $state.raw<Report | null>(null);
  place = $state("");
  said = $state.raw<Said | null>(null);
  busy = $state(false);
  problem = $state("");
  /** Whether it may pass: the server does not answer, or is too busy. */
  passing = $state(false);
  /** A filter that was refused: it stays where it was typed, to be mended. */
  draft = $state("");
  /** Of the folder that was sent last: what the server refused, and why the sending ended. */
  unsent = $state.raw<string[]>([]);
  broken = $state("");
  /** Address of the search that was looked at last, for links back to it. */
  searched = $state("#/read");
  /** The address is about a scan that the server does not have: it must be sent. */
  wanted = $state(false);
  notice = $state("");
  /** Evidence on the similar cases' small pictures too: it hides what they show, so it is asked for. */
  heatBelow = $state(false);
  /** What was drawn and taken away as the question changed, with the question as it was before. */
  taken = $state.raw<{ text: string; back: Read; key: string } | null>(null);
  help = $state(false);
  theme = $state<Theme>(stored("theme") === "light" ? "light" : "dark");
  /** Counts up when a report that had left the server is there again: its pictures are asked for anew. */
  round = $state(0);
  /** The similar case that was compared last: the way back leads to it. */
  looked = "";
  /** Milliseconds from the query to the prediction, of the last question. */
  took = $state(0);
  counts = $state.raw<Archive | null>(null);
  /** A folder that is being sent to the batch; it goes on while other views are looked at. */
  sending = $state.raw<{ done: number; total: number; name: string; stop: () => void } | null>(null);
  /** Files that were dropped as a folder, for the batch view. */
  folder = $state.raw<{ name: string; files: { name: string; file: File }[] } | null>(null);

  #files: File[] = [];
  #fileIds: string[] = [];
  #answered = "";
  #going: AbortController | null = null;
  #renewing = false;
  /** What the report that is shown is about, and the address of it. */
  #subject = "";
  #shown: Read = NOTHING;

  get read(): Read {
    return this.address.view === "read" ? this.address : NOTHING;
  }

  get search(): Search {
    return fold(this.read.steps);
  }

  get asked(): boolean {
    return this.read.uploads.length > 0 || this.read.case !== "" || this.read.row !== "";
  }

  /** What was taken away on the way to the question that is shown. */
  get loss(): { text: string; back: Read } | null {
    return this.taken?.key === keyOf(this.read) ? this.taken : null;
  }

  get compared(): Match | null {
    return this.report?.matches[this.read.compare - 1] ?? null;
  }

  async begin(): Promise<void> {
    api.whenLocked(() => (this.locked = true));
    addEventListener("hashchange", () => this.follow());
    addEventListener("error", (event) => this.#missed(event.target), true); // of pictures; these do not bubble
    this.follow(); // before anything is waited for: a scan may be dropped meanwhile
    await this.meet();
  }

  /** Who answers here; and whether a token is asked for. */
  async meet(): Promise<void> {
    try {
      const about = await api.about();
      if (about.gallery_state !== this.about?.gallery_state) this.counts = null; // counted again when they are needed
      this.about = about;
      this.locked = false;
      if (this.problem === UNMET) this.problem = "";
    } catch (error) {
      if (error instanceof api.Problem && error.status === 401) this.locked = true;
      else this.problem = error instanceof Error ? error.message : UNMET;
    }
  }

  async count(): Promise<void> {
    this.counts = await api.archive();
  }

  /** Ask about files that were dropped, pasted or picked. */
  async open(files: File[]): Promise<void> {
    const most = this.about?.max_views ?? 8;
    if (!files.length) return;
    if (files.length > most) {
      this.folder = loose(files);
      this.go({ view: "batch" });
      return;
    }
    this.problem = tooHeavy(files, this.about?.max_upload_bytes);
    if (this.problem) return;
    const before = this.read;
    const steps = this.wanted ? this.read.steps : [];
    const expected = this.wanted ? this.read.uploads : [];
    // What is shown now keeps its place in the history; a refusal is said where the scan would have been. The address
    // itself changes once, with the answer: at each change the browser asks for the icon and draws it anew.
    const fresh = !this.wanted && location.hash !== format(NOTHING) && location.hash !== "";
    if (!this.wanted) this.address = NOTHING;
    this.#files = files;
    this.#fileIds = [];
    this.notice = "";
    const done = await this.#ask({ files }, { ...NOTHING, steps }, fresh);
    if (done && expected.length && expected.join() !== this.read.uploads.join()) {
      this.notice = "This is another scan than the one that the link was made with.";
    }
    const [{ uploads: now }, { uploads: then }] = [this.read, before];
    const added = then.length > 0 && now.length > then.length && then.every((id) => now.includes(id));
    if (done && !expected.length && added) this.#tellLoss(before, "view");
  }

  /** Send files as further views of the lesion that is asked about. */
  async addViews(files: File[]): Promise<void> {
    const read = this.read;
    const most = this.about?.max_views ?? 8;
    if (!files.length || !read.uploads.length) return;
    const count = read.uploads.length + files.length;
    const many = count > most ? `${count} views are more than the ${most} of one question. Add fewer.` : "";
    this.problem = many || tooHeavy(files, this.about?.max_upload_bytes);
    if (this.problem) return;
    try {
      const sent = await api.upload(files);
      if (keyOf(this.read) !== keyOf(read)) return; // the reader has gone on
      const uploads = [...new Set([...read.uploads, ...sent.map((each) => each.upload_id)])];
      if (uploads.length === read.uploads.length) {
        this.problem = "This scan is among the views already; the same picture twice is one view.";
        return;
      }
      if (this.#fileIds.join() === read.uploads.join()) [this.#files, this.#fileIds] = [[...this.#files, ...files], uploads];
      this.go({ ...read, uploads, steps: undrawn(read.steps), compare: 0 });
      this.#tellLoss(read, "view");
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
    }
  }

  /** Ask with one of the views alone; a frame was chosen of the first one. */
  askAlone(view: number): void {
    const upload = this.read.uploads[view];
    if (!upload) return;
    const steps = view ? this.read.steps.filter((step) => step.kind !== "frame") : this.read.steps;
    this.go({ ...this.read, uploads: [upload], steps, compare: 0 });
  }

  /** Say what was drawn before, and is not any more, with the way back. */
  #tellLoss(before: Read, what: "view" | "frame"): void {
    const text = lossWords(fold(before.steps), what);
    if (text) this.taken = { text, back: before, key: keyOf(this.read) };
  }

  /** Go to an address; a new entry in the browser's history unless it only mends the present one. */
  go(address: Address, { replace = false } = {}): void {
    const hash = format(address);
    if (hash === location.hash) return;
    history[replace ? "replaceState" : "pushState"](null, "", hash);
    this.follow();
  }

  /** Ask the same, changed by one step. */
  step(step: Step): void {
    const before = this.read;
    const steps = add(this.read.steps, step);
    // what takes the last step's place takes its place in the history too: a walk through a loop is one way back
    this.go({ ...this.read, steps, compare: 0 }, { replace: steps.length === this.read.steps.length });
    if (step.kind === "frame") this.#tellLoss(before, "frame");
  }

  /** Take a step back out; by default the last. */
  undo(index = this.read.steps.length - 1): void {
    if (index < 0) return;
    this.go({ ...this.read, steps: this.read.steps.filter((_, place) => place !== index), compare: 0 });
  }

  /** Like or dislike a case; the same again takes it back. */
  judge(kind: "like" | "dislike", name: string): void {
    const marked = this.search[kind === "like" ? "liked" : "disliked"].includes(name);
    const others = this.read.steps.filter((step) => !((step.kind === "like" || step.kind === "dislike") && step.name === name));
    this.go({ ...this.read, steps: marked ? others : [...others, { kind, name }], compare: 0 });
  }

  compare(rank: number): void {
    const match = this.report?.matches[rank - 1] ?? this.compared;
    if (match) this.looked = nameOf(match);
    this.go({ ...this.read, compare: rank }, { replace: this.read.compare > 0 && rank > 0 });
  }

  askCase(name: string): void {
    this.go({ ...NOTHING, case: name });
  }

  clear(): void {
    this.#going?.abort();
    this.#files = [];
    this.#fileIds = [];
    this.go(NOTHING);
  }

  turn(theme: Theme): void {
    this.theme = theme;
    document.documentElement.dataset.theme = theme;
    store("theme", theme);
  }

  /** Ask once more what could not be answered. */
  again(): void {
    this.#answered = "";
    this.follow();
  }

  /** A click on a link to a file of the report. */
  keep = (event: MouseEvent): void => {
    event.preventDefault();
    void this.#save((event.currentTarget as HTMLAnchorElement).href);
  };

  /** Save what an address of the report gives; ask again first if the report has left the server. */
  async #save(address: string): Promise<void> {
    try {
      await api.save(address);
    } catch (error) {
      if (error instanceof api.Problem && error.status === 404 && (await this.renew())) {
        await this.#save(address.replace(/^.*\/(?=report\.)/, `${this.place}/`));
        return;
      }
      this.problem = error instanceof Error ? error.message : String(error);
    }
  }

  /** The report has left the server, which was started anew or needed the room: ask again. Says whether it is there. */
  async renew(): Promise<boolean> {
    if (!this.report || this.busy || this.#renewing || this.address.view !== "read") return false;
    this.#renewing = true;
    try {
      await api.said(this.place);
      return false; // it is there: whatever is wrong, asking again does not mend it
    } catch (error) {
      if (!(error instanceof api.Problem) || error.status !== 404) return false;
      const done = await this.#ask(api.sourceOf(this.read), this.read);
      if (done) this.round += 1;
      return done;
    } finally {
      this.#renewing = false;
    }
  }

  #missed(target: EventTarget | null): void {
    if (target instanceof HTMLImageElement && /\/api\/(reports|uploads)\//.test(target.src)) void this.renew();
  }

  /** Bring what is shown in line with the address. */
  follow(): void {
    this.address = parse(location.hash);
    const read = this.read;
    if (this.address.view !== "read") {
      this.#leave();
      return;
    }
    if (!this.asked) {
      this.#leave();
      Object.assign(this, { report: null, said: null, problem: "", wanted: false, notice: "", busy: false });
      this.#answered = this.#subject = "";
      return;
    }
    if (keyOf(read) === this.#answered && (this.report || this.busy)) return;
    void this.#ask(api.sourceOf(read), read);
  }

  /** Nobody waits for the answer that is on its way: it must not bring the reader back. Coming back asks again. */
  #leave(): void {
    if (!this.busy) return;
    this.#going?.abort();
    this.busy = false;
    this.#answered = "";
  }

  async #ask(source: api.Source, read: Read, fresh = false): Promise<boolean> {
    this.#going?.abort();
    const going = (this.#going = new AbortController());
    const started = performance.now();
    Object.assign(this, { busy: true, problem: "", wanted: false });
    this.#answered = keyOf(read);
    // the answer that is shown stays until the next is here, if both are about one scan
    if (subjectOf(read) !== this.#subject) {
      Object.assign(this, { report: null, said: null, notice: "", draft: "", looked: "" });
    }
    try {
      if (source.row) {
        const opened = await api.openRow(source.row, going.signal);
        const steps = read.steps.length ? read.steps : stepsOf(opened.options);
        return await this.#ask({ uploads: [opened.upload_id] }, { ...read, row: "", uploads: [opened.upload_id], steps });
      }
      const { answer, sent } = await this.#send(source, fold(read.steps), going.signal);
      const said = await api.said(answer.place, going.signal);
      if (going.signal.aborted) return false;
      if (sent) this.#fileIds = answer.uploads;
      this.#show(answer, said, read, started, fresh); // together: a headline never stands beside another question's figures
      return true;
    } catch (error) {
      if (going.signal.aborted) return false;
      this.#answered = "";
      if (fresh) history.pushState(null, "", format(NOTHING));
      this.#fail(error, source);
      return false;
    } finally {
      if (this.#going === going) this.busy = false;
    }
  }

  /** Ask; a scan that the server has let go is sent again if this page has it still. */
  async #send(
    source: api.Source,
    search: Search,
    signal: AbortSignal,
  ): Promise<{ answer: api.Answer; sent: boolean }> {
    try {
      return { answer: await api.ask(source, search, signal), sent: source.files !== undefined };
    } catch (error) {
      const gone = error instanceof api.Problem && error.status === 404 && source.uploads;
      if (!gone || source.uploads?.join() !== this.#fileIds.join() || !this.#files.length) throw error;
      return { answer: await api.ask({ files: this.#files }, search, signal), sent: true };
    }
  }

  #show(answer: api.Answer, said: Said, read: Read, started: number, fresh: boolean): void {
    const at = `${answer.report.gallery_id?.slice(0, 8)}/${answer.report.gallery_state}`;
    this.notice =
      read.at && read.at !== at
        ? `The link was made with index ${read.at}; it is ${at} now. The matches may be others.`
        : "";
    this.report = answer.report;
    this.place = answer.place;
    this.said = said;
    const compare = keyOf(this.read) === keyOf(read) ? this.read.compare : 0; // opened while the answer was on its way
    const settled: Read = { ...read, uploads: answer.uploads, case: answer.uploads.length ? "" : read.case, at, compare };
    this.#answered = keyOf(settled);
    this.#subject = subjectOf(settled);
    this.#shown = settled;
    this.draft = "";
    history[fresh ? "pushState" : "replaceState"](null, "", format(settled));
    this.address = settled;
    this.took = performance.now() - started;
  }

  #fail(error: unknown, source: api.Source): void {
    if (error instanceof api.Problem && error.status === 401) {
      this.locked = true;
      return;
    }
    const gone = error instanceof api.Problem && error.status === 404 && source.uploads !== undefined;
    if (gone && error.message.startsWith("scan ")) {
      Object.assign(this, { report: null, said: null, wanted: true });
      return;
    }
    if (source.row && error instanceof api.Problem && error.status === 404) {
      Object.assign(this, { report: null, said: null, wanted: true });
    }
    if (source.files) Object.assign(this, { report: null, said: null });
    const status = error instanceof api.Problem ? error.status : 500;
    this.passing = status === 0 || status >= 500;
    if (this.report && status === 422) {
      // a step that the server refuses is not taken: the address stays that of what is shown
      this.draft = this.search.where === fold(this.#shown.steps).where ? "" : this.search.where;
      this.#answered = keyOf(this.#shown);
      history.replaceState(null, "", format(this.#shown));
      this.address = this.#shown;
    }
    this.problem = error instanceof Error ? error.message : String(error);
  }
}

const UNMET = "The server does not answer.";

/** A match by what it is, wherever it stands in the next answer. */
export const nameOf = (match: Match) => `${match.scan_id} ${match.dataset}/${match.case_id}`;

export const room = new Room();
