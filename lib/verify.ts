/**
 * The operator's question whether tokens are still good: of the suspects, or of every donation.
 *
 * GitHub's word is acted upon by upkeep's own rules, and more slowly: first everybody is asked about, then those that
 * GitHub does not know become suspects, all of them, and only then does any go that is not braked. If GitHub does not
 * know 5 tokens within a minute that is taken for an incident: the questions end, nothing is deleted, nothing new is
 * taken out of rotation, and whatever is suspect goes only when upkeep has been told so twice.
 *
 * | GitHub says | of a suspect | of another |
 * |---|---|---|
 * | valid | back into rotation | nothing changes |
 * | unknown | deleted, unless braked | made a suspect, then the same |
 * | unknown, and it can be refreshed | left to upkeep, which refreshes it | made a suspect, then the same |
 * | anything else | nothing changes | nothing changes |
 *
 * Who has been asked about is noted page by page, but never beyond one that is still to be dealt with. So a run that was
 * cut off is gone on with by the next, for a day.
 *
 * @module
 */

import { PoolError } from "./errors.ts";
import type { GitHub } from "./github.ts";
import type { StoredDonation } from "./records.ts";
import { INCIDENT_TOKENS, INCIDENT_WITHIN_MS, type Store } from "./store.ts";
import type { Vault } from "./vault.ts";

/** How many tokens are asked about at once: GitHub allows an app a hundred. */
const AT_ONCE = 10;

const PAGE = 100;

/** What a check has found and done. */
export interface VerifyReport {
  valid: number;
  unknown: number;
  /** GitHub gave no clear answer, or none; they are as they were. */
  unclear: number;
  /** Not asked about, because they have expired and can be refreshed, which upkeep does. */
  expired: number;
  /** Not asked about, because no key at hand opens them. */
  unreadable: number;
  /** Suspects that are back in rotation. */
  restored: number;
  /** Donations that were deleted. */
  removed: number;
  /** Whether so many were unknown at once that nothing was deleted. */
  incident: boolean;
  /** Whether it ended before everybody was asked about: an incident, or GitHub does not answer. */
  stopped: boolean;
  /** Those that GitHub does not know. */
  unknown_donations: { id: number; login: string | null }[];
}

/** What to check, and with what. */
export interface VerifyOptions {
  vault: Vault;
  github: GitHub;
  /** Every donation, not the suspects only. */
  all: boolean;
  /** Ask, and change nothing. */
  dryRun: boolean;
  /** Called after each page, with the number of donations that were looked at so far, and of those there are. */
  onProgress?: (done: number, total: number | null) => void;
}

/**
 * Asks GitHub, and acts on the answers.
 *
 * @throws {PoolError} With code `config`, `database` or `wrong_key`.
 */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  const { store } = await options.vault.unlock();
  const check = new Check(options, store);
  await check.run();
  return check.report;
}

class Check {
  readonly report: VerifyReport = {
    ...{ valid: 0, unknown: 0, unclear: 0, expired: 0, unreadable: 0, restored: 0, removed: 0 },
    ...{ incident: false, stopped: false, unknown_donations: [] },
  };
  readonly #options: VerifyOptions;
  readonly #store: Store;
  /** Not known to GitHub, and nothing has been done about it yet. */
  readonly #unknown: StoredDonation[] = [];
  /** When GitHub said so, epoch milliseconds. */
  readonly #unknownAt: number[] = [];
  #done = 0;

  constructor(options: VerifyOptions, store: Store) {
    this.#options = options;
    this.#store = store;
  }

  async run(): Promise<void> {
    const { all, dryRun } = this.#options;
    const total = all ? (await this.#store.figures()).donations : null;
    await this.#askAbout({ suspects: true, after: 0, total });
    if (all && !this.report.stopped) {
      const after = dryRun ? 0 : await this.#store.verifiedUpTo();
      await this.#askAbout({ suspects: false, after, total });
    }
    if (dryRun) return;
    if (this.report.incident) return await this.#store.brakeSuspects();
    await this.#settle();
    if (all && !this.report.stopped) await this.#store.keepVerified(null);
  }

  /** All suspects, or all others. */
  async #askAbout(which: { suspects: boolean; after: number; total: number | null }): Promise<void> {
    const { suspects, total } = which;
    for (let after = which.after; !this.report.stopped;) {
      const page = await this.#store.donations(after, PAGE, { suspects });
      if (page.length === 0) return;
      after = page.at(-1)!.id;
      const asked = page.filter(({ isSuspect }) => isSuspect === suspects);
      for (let first = 0; first < asked.length && !this.report.stopped; first += AT_ONCE) {
        await this.#askAtOnce(asked.slice(first, first + AT_ONCE));
      }
      this.#done += asked.length;
      this.#options.onProgress?.(this.#done, total);
      if (suspects || this.#options.dryRun || this.report.stopped) continue;
      const waiting = this.#unknown.find(({ isSuspect }) => !isSuspect);
      await this.#store.keepVerified(waiting === undefined ? after : waiting.id - 1);
    }
  }

  async #askAtOnce(donations: StoredDonation[]): Promise<void> {
    const answers = await Promise.all(donations.map((donation) => this.#ask(donation)));
    for (const [index, answer] of answers.entries()) await this.#note(donations[index]!, answer);
    // A GitHub that answers none of ten, or has had enough of the app's questions, will not answer the next ten.
    if (answers.length === AT_ONCE && answers.every((answer) => answer === "unclear")) this.report.stopped = true;
  }

  async #ask({ githubUserId, token: sealed, refreshToken, expiresAt }: StoredDonation) {
    const { vault, github } = this.#options;
    if (refreshToken !== null && expiresAt !== null && expiresAt <= vault.now()) return "expired";
    const token = await vault.openText(sealed, "token", githubUserId);
    if (token === null) return "unreadable";
    try {
      return await github.checkToken(token);
    } catch (error) {
      if (error instanceof PoolError && error.code === "github") return "unclear";
      throw error;
    }
  }

  async #note(donation: StoredDonation, answer: "valid" | "unknown" | "unclear" | "expired" | "unreadable") {
    const { id, login, token, isSuspect } = donation;
    this.report[answer]++;
    if (answer === "unknown") {
      this.report.unknown_donations.push({ id, login });
      this.#unknown.push(donation);
      this.#unknownAt.push(this.#options.vault.now());
      if (this.#isIncident()) this.report.incident = this.report.stopped = true;
    } else if (answer === "valid" && isSuspect && !this.#options.dryRun) {
      await this.#store.acquit(id, token);
      this.report.restored++;
    }
  }

  #isIncident(): boolean {
    const first = this.#unknownAt.at(-INCIDENT_TOKENS);
    return first !== undefined && this.#unknownAt.at(-1)! - first <= INCIDENT_WITHIN_MS;
  }

  /** Suspects first, all of them: 5 at once brake each other. */
  async #settle(): Promise<void> {
    for (const { id, token, isSuspect } of this.#unknown) if (!isSuspect) await this.#store.suspect(id, token);
    for (const { id, token, refreshToken } of this.#unknown) {
      if (refreshToken !== null) continue; // upkeep asks for a new one
      if (await this.#store.notFound(id, token) === "removed") this.report.removed++;
    }
  }
}
