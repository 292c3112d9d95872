/** Whether this reader is signed in. A singleton. */
import { tokenOf } from "./address";
import * as api from "./api";

class Session {
  /** Whether the server asks for its token. */
  needsToken = $state(false);
  /** Why the token of a link was not taken, or "". */
  problem = $state("");

  constructor() {
    api.onTokenRequired(() => (this.needsToken = true));
  }

  /**
   * Sign in with the token of a link, and remove it from the address: it stays in no history and on no screen.
   * Returns whether the address had one.
   */
  async enter(): Promise<boolean> {
    const token = tokenOf(location.hash);
    if (!token) return false;
    history.replaceState(null, "", location.pathname + location.search);
    this.problem = "";
    try {
      await api.signIn(token);
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
    }
    return true;
  }

  /** End the session, and load the page anew: nothing of this reader stays in it. */
  async signOut(): Promise<void> {
    const jobs = await api.jobs().catch(() => []);
    if (jobs.length && !confirm(jobsAreLeft(jobs.length))) return;
    try {
      await api.signOut();
      location.replace(location.pathname + location.search);
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
    }
  }
}

const jobsAreLeft = (count: number) =>
  `You have ${count} batch ${count === 1 ? "job" : "jobs"} on the server, and after you sign out this browser does not find ` +
  `${count === 1 ? "it" : "them"} again. On the page Batch you can save tables and delete jobs first. Sign out now?`;

export const session = new Session();
