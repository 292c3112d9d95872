/** The page's state: the address, the report for it, and the requests that are running. A singleton. */
import * as api from "./api";
import { format, keyOf, EMPTY_QUERY, parse, subjectOf, type Address, type QueryAddress } from "./address";
import { batch } from "./batch.svelte";
import { asFolder, tooLarge } from "./folder";
import { nameOf } from "./format";
import { session } from "./session.svelte";
import { add, toSearch, lossText, stepsOf, withoutDrawings, type Search, type Step } from "./steps";
import type { About, Archive, Match, Report, ReportText } from "./types";

class AppState {
  address = $state<Address>(parse(location.hash));
  about = $state.raw<About | null>(null);
  report = $state.raw<Report | null>(null);
  reportUrl = $state("");
  reportText = $state.raw<ReportText | null>(null);
  busy = $state(false);
  #problem = $state("");
  /** Make the failed request again, where the problem may be temporary: the server does not answer, or is too busy. */
  again = $state.raw<(() => void) | undefined>(undefined);
  /** A filter that the server refused: it stays in its field, to be corrected. */
  refusedFilter = $state("");
  /** Address of the last search, for links back to it. */
  lastSearch = $state("#/read");
  /** The address is about a scan that the server does not have: it must be sent. */
  needsScan = $state(false);
  notice = $state("");
  /** Evidence on the similar cases' thumbnails too; off at first, since it covers them. */
  heatOnMatches = $state(false);
  /** Drawings that were removed as the query changed, with the query before. */
  removedDrawings = $state.raw<{ text: string; back: QueryAddress; key: string } | null>(null);
  help = $state(false);
  /** Counts up when an evicted report is there again, so that its pictures are loaded again. */
  pictureRound = $state(0);
  /** The similar case that was compared last: the focus returns to it. */
  lastCompared = "";
  /** Milliseconds from the query to the prediction, of the last query. */
  queryMs = $state(0);
  archive = $state.raw<Archive | null>(null);

  #files: File[] = [];
  #fileIds: string[] = [];
  #answeredKey = "";
  #request: AbortController | null = null;
  #renewing = false;
  /** Pictures of the report did not load, and the server was away. */
  #broken = false;
  /** Subject and address of the report that is shown. */
  #subject = "";
  #shownQuery: QueryAddress = EMPTY_QUERY;

  get problem(): string {
    return this.#problem;
  }

  set problem(text: string) {
    [this.#problem, this.again] = [text, undefined];
  }

  get read(): QueryAddress {
    return this.address.view === "read" ? this.address : EMPTY_QUERY;
  }

  get search(): Search {
    return toSearch(this.read.steps);
  }

  get hasQuery(): boolean {
    return this.read.uploads.length > 0 || this.read.case !== "" || this.read.row !== "" || this.read.picture !== "";
  }

  /** Drawings that were removed on the way to the query that is shown. */
  get loss(): { text: string; back: QueryAddress } | null {
    return this.removedDrawings?.key === keyOf(this.read) ? this.removedDrawings : null;
  }

  get compared(): Match | null {
    return this.report?.matches[this.read.compare - 1] ?? null;
  }

  async start(): Promise<void> {
    addEventListener("hashchange", async () => {
      if (await session.enter()) await this.loadAbout();
      this.route();
    });
    addEventListener("error", (event) => this.#onImageError(event.target), true); // of pictures; these do not bubble
    await session.enter();
    this.route(); // before anything is waited for: a scan may be dropped meanwhile
    await this.loadAbout();
  }

  /** Load the server's description; find out whether it asks for a token. */
  async loadAbout(): Promise<void> {
    try {
      const about = await api.about();
      if (about.gallery_state !== this.about?.gallery_state) this.archive = null; // counted again when they are needed
      this.about = about;
      session.needsToken = false;
      if (this.problem === api.UNREACHABLE) this.problem = "";
    } catch (error) {
      this.#tell(error, () => this.loadAbout());
    }
  }

  async loadArchive(): Promise<void> {
    this.archive = await api.archive();
  }

  /** Query with files that were dropped, pasted or picked. */
  async open(files: File[]): Promise<void> {
    const most = this.about?.max_views ?? 8;
    if (!files.length) return;
    if (files.length > most) {
      batch.folder = asFolder(files);
      return this.navigate({ view: "batch" });
    }
    this.problem = tooLarge(files, this.about?.max_upload_bytes);
    if (this.problem) return;
    const before = this.read;
    const steps = this.needsScan ? this.read.steps : [];
    const expected = this.needsScan ? this.read.uploads : [];
    // The present address stays in the history; an error is shown in place of the scan. The address changes once, with
    // the answer: at each change the browser loads the icon again.
    const fresh = !this.needsScan && location.hash !== format(EMPTY_QUERY) && location.hash !== "";
    if (!this.needsScan) this.address = EMPTY_QUERY;
    [this.#files, this.#fileIds] = [files, []];
    this.notice = "";
    const done = await this.#query({ files }, { ...EMPTY_QUERY, steps }, fresh);
    if (done && expected.length && expected.join() !== this.read.uploads.join()) {
      this.notice = "This is another scan than the one that the link was made with.";
    }
    const [{ uploads: now }, { uploads: then }] = [this.read, before];
    const added = then.length > 0 && now.length > then.length && then.every((id) => now.includes(id));
    if (done && !expected.length && added) this.#reportLoss(before, "view");
  }

  /** Send files as further views of the same lesion. */
  async addViews(files: File[]): Promise<void> {
    const read = this.read;
    const most = this.about?.max_views ?? 8;
    if (!files.length || !read.uploads.length) return;
    const count = read.uploads.length + files.length;
    const many = count > most ? `${count} views are more than the ${most} of one query. Add fewer.` : "";
    this.problem = many || tooLarge(files, this.about?.max_upload_bytes);
    if (this.problem) return;
    try {
      const sent = await api.upload(files);
      if (keyOf(this.read) !== keyOf(read)) return; // the address has changed meanwhile
      const uploads = [...new Set([...read.uploads, ...sent.map((each) => each.upload_id)])];
      if (uploads.length === read.uploads.length) {
        this.problem = "This scan is among the views already; the same picture twice is one view.";
        return;
      }
      if (this.#fileIds.join() === read.uploads.join()) [this.#files, this.#fileIds] = [[...this.#files, ...files], uploads];
      this.navigate({ ...read, uploads, steps: withoutDrawings(read.steps), compare: 0 });
      this.#reportLoss(read, "view");
    } catch (error) {
      this.#tell(error, () => this.addViews(files));
    }
  }

  /** Query with one of the views alone; a frame was chosen for the first one. */
  queryAlone(view: number): void {
    const upload = this.read.uploads[view];
    if (!upload) return;
    const steps = view ? this.read.steps.filter((step) => step.kind !== "frame") : this.read.steps;
    this.navigate({ ...this.read, uploads: [upload], picture: view ? "" : this.read.picture, steps, compare: 0 });
  }

  /** Report which drawings were removed, with the way back. */
  #reportLoss(before: QueryAddress, what: "view" | "frame"): void {
    const text = lossText(toSearch(before.steps), what);
    if (text) this.removedDrawings = { text, back: before, key: keyOf(this.read) };
  }

  /** Go to an address; a new entry in the browser's history unless it only corrects the present one. */
  navigate(address: Address, { replace = false } = {}): void {
    const hash = format(address);
    if (hash === location.hash) return;
    history[replace ? "replaceState" : "pushState"](null, "", hash);
    this.route();
  }

  /** Query again, changed by one step. */
  step(step: Step): void {
    const before = this.read;
    const steps = add(this.read.steps, step);
    // a step that replaces the last one replaces it in the history too: moving through a loop is one entry
    this.navigate({ ...this.read, steps, compare: 0 }, { replace: steps.length === this.read.steps.length });
    if (step.kind === "frame") this.#reportLoss(before, "frame");
  }

  /** Remove a step; by default the last. */
  undo(index = this.read.steps.length - 1): void {
    if (index < 0) return;
    this.navigate({ ...this.read, steps: this.read.steps.filter((_, place) => place !== index), compare: 0 });
  }

  /** Like or dislike a case; the same again undoes it. */
  rate(kind: "like" | "dislike", name: string): void {
    const marked = this.search[kind === "like" ? "liked" : "disliked"].includes(name);
    const others = this.read.steps.filter((step) => !((step.kind === "like" || step.kind === "dislike") && step.name === name));
    this.navigate({ ...this.read, steps: marked ? others : [...others, { kind, name }], compare: 0 });
  }

  compare(rank: number): void {
    const match = this.report?.matches[rank - 1] ?? this.compared;
    if (match) this.lastCompared = nameOf(match);
    this.navigate({ ...this.read, compare: rank }, { replace: this.read.compare > 0 && rank > 0 });
  }

  queryCase(name: string): void {
    this.navigate({ ...EMPTY_QUERY, case: name });
  }

  clear(): void {
    this.#request?.abort();
    [this.#files, this.#fileIds] = [[], []];
    this.navigate(EMPTY_QUERY);
  }

  /** A click on a link to a file of the report. */
  saveFile = (event: MouseEvent): void => {
    event.preventDefault();
    void this.#save((event.currentTarget as HTMLAnchorElement).href);
  };

  /** Save a file of the report; if the report was evicted, query again first. */
  async #save(address: string): Promise<void> {
    try {
      await api.save(address);
    } catch (error) {
      if (error instanceof api.Problem && error.status === 404 && (await this.renew())) {
        await this.#save(address.replace(/^.*\/(?=report\.)/, `${this.reportUrl}/`));
        return;
      }
      this.#tell(error, () => this.#reload().then(() => (this.problem ? undefined : this.#save(address))));
    }
  }

  /** The server has evicted the report or was restarted: query again. Returns whether the report is there. */
  async renew(): Promise<boolean> {
    if (!this.report || this.busy || this.#renewing || this.address.view !== "read") return false;
    this.#renewing = true;
    try {
      await api.reportText(this.reportUrl);
      return false; // it is there: another query would not help
    } catch (error) {
      if (!(error instanceof api.Problem) || error.status !== 404) {
        this.#broken = true;
        this.#tell(error, () => this.#reload());
        return false;
      }
      const done = await this.#query(api.sourceOf(this.read), this.read);
      if (done) this.pictureRound += 1;
      return done;
    } finally {
      this.#renewing = false;
    }
  }

  /** Load pictures that did not load again, and the report itself where it was evicted. */
  async #reload(): Promise<void> {
    if (!this.#broken) return;
    this.#broken = false;
    if (!(await this.renew()) && !this.problem) this.pictureRound += 1;
  }

  #onImageError(target: EventTarget | null): void {
    if (target instanceof HTMLImageElement && /\/api\/(reports|uploads)\//.test(target.src)) void this.renew();
  }

  /** Show what the address names. */
  route(): void {
    this.address = parse(location.hash);
    const read = this.read;
    if (this.address.view !== "read") return this.#cancel();
    if (!this.hasQuery) {
      this.#cancel();
      Object.assign(this, { report: null, reportText: null, problem: "", needsScan: false, notice: "", busy: false });
      this.#answeredKey = this.#subject = "";
      return;
    }
    if (keyOf(read) === this.#answeredKey && (this.report || this.busy)) return;
    void this.#query(api.sourceOf(read), read);
  }

  /** Cancel the running query: its answer must not change the view. Coming back queries again. */
  #cancel(): void {
    if (!this.busy) return;
    this.#request?.abort();
    this.busy = false;
    this.#answeredKey = "";
  }

  async #query(source: api.Source, read: QueryAddress, fresh = false): Promise<boolean> {
    this.#request?.abort();
    const going = (this.#request = new AbortController());
    const started = performance.now();
    Object.assign(this, { busy: true, problem: "", needsScan: false });
    this.#answeredKey = keyOf(read);
    // the present report stays until the next one is there, if both are of the same scan
    if (subjectOf(read) !== this.#subject) {
      Object.assign(this, { report: null, reportText: null, notice: "", refusedFilter: "", lastCompared: "" });
    }
    try {
      if (source.row) {
        const opened = await api.openRow(source.row, going.signal);
        const steps = read.steps.length ? read.steps : stepsOf(opened.options);
        return await this.#query({ uploads: [opened.upload_id] }, { ...read, row: "", uploads: [opened.upload_id], steps });
      }
      if (source.picture) {
        const opened = await api.openPicture(source.picture, going.signal);
        return await this.#query({ uploads: [opened.upload_id] }, { ...read, uploads: [opened.upload_id] });
      }
      const { answer, sent } = await this.#send(source, toSearch(read.steps), going.signal);
      const reportText = await api.reportText(answer.reportUrl, going.signal);
      if (going.signal.aborted) return false;
      if (sent) this.#fileIds = answer.uploads;
      this.#show(answer, reportText, read, started, fresh); // together: a headline must not stand beside another query's numbers
      return true;
    } catch (error) {
      if (going.signal.aborted) return false;
      this.#answeredKey = "";
      if (fresh) history.pushState(null, "", format(EMPTY_QUERY));
      this.#fail(error, source, read);
      return false;
    } finally {
      if (this.#request === going) this.busy = false;
    }
  }

  /** Send a query; a scan that the server has evicted is sent again if the page still has it. */
  async #send(
    source: api.Source,
    search: Search,
    signal: AbortSignal,
  ): Promise<{ answer: api.Answer; sent: boolean }> {
    try {
      return { answer: await api.query(source, search, signal), sent: source.files !== undefined };
    } catch (error) {
      const gone = error instanceof api.Problem && error.status === 404 && source.uploads;
      if (!gone || source.uploads?.join() !== this.#fileIds.join() || !this.#files.length) throw error;
      return { answer: await api.query({ files: this.#files }, search, signal), sent: true };
    }
  }

  #show(answer: api.Answer, reportText: ReportText, read: QueryAddress, started: number, fresh: boolean): void {
    const at = `${answer.report.gallery_id?.slice(0, 8)}/${answer.report.gallery_state}`;
    this.notice =
      read.at && read.at !== at
        ? `The link was made with index ${read.at}; it is ${at} now. The matches may be others.`
        : "";
    this.report = answer.report;
    this.reportUrl = answer.reportUrl;
    this.reportText = reportText;
    const compare = keyOf(this.read) === keyOf(read) ? this.read.compare : 0; // opened while the query was running
    const settled: QueryAddress = { ...read, uploads: answer.uploads, case: answer.uploads.length ? "" : read.case, at, compare };
    this.#answeredKey = keyOf(settled);
    this.#subject = subjectOf(settled);
    this.#shownQuery = settled;
    this.refusedFilter = "";
    history[fresh ? "pushState" : "replaceState"](null, "", format(settled));
    this.address = settled;
    this.queryMs = performance.now() - started;
  }

  #fail(error: unknown, source: api.Source, read: QueryAddress): void {
    if (api.isSignedOut(error)) return;
    const gone = error instanceof api.Problem && error.status === 404 && source.uploads !== undefined;
    if (gone && error.message.startsWith("scan ")) {
      Object.assign(this, { report: null, reportText: null, needsScan: true });
      return;
    }
    if (source.row && error instanceof api.Problem && error.status === 404) {
      Object.assign(this, { report: null, reportText: null, needsScan: true });
    }
    if (source.files) Object.assign(this, { report: null, reportText: null });
    if (this.report) {
      // the address stays that of the report that is shown; of a refused step only the filter is left, to be corrected
      const refused = error instanceof api.Problem && error.status === 422;
      const { where } = toSearch(read.steps);
      this.refusedFilter = !refused || where === toSearch(this.#shownQuery.steps).where ? "" : where;
      this.#answeredKey = keyOf(this.#shownQuery);
      history.replaceState(null, "", format(this.#shownQuery));
      this.address = this.#shownQuery;
    }
    this.#tell(error, () => this.#query(source, read));
  }

  /** Say what failed, and offer it again where that may help. */
  #tell(error: unknown, again: () => Promise<unknown>): void {
    if (api.isSignedOut(error)) return;
    const status = error instanceof api.Problem ? error.status : 500;
    this.problem = error instanceof Error ? error.message : String(error);
    if (status === 0 || status >= 500) this.again = () => ((this.problem = ""), void again());
  }
}

export const app = new AppState();
