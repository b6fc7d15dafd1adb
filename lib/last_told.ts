/**
 * What a process has told the database of each window, and how long ago: most reports say nothing that a hand-out did
 * not imply, but if none were told for long, upkeep would take the consumer for one that does not report.
 *
 * @module
 */

import { type CompleteReport, type KnownWindow, SAME_WINDOW_SECONDS } from "./rate_limit.ts";

/** After so much of a limit a window is told of again: much less than makes upkeep ask (lib/store.ts). */
const AGAIN_AFTER_SHARE = 1 / 20;
/** Of a small limit, or one of a minute, it would be told of at every other call. */
const AGAIN_AFTER_AT_LEAST = 50;

/** How many windows a process remembers; of one that is forgotten it tells once too often. */
const WINDOWS_AT_MOST = 10_000;

type Told = Pick<KnownWindow, "remaining" | "resetAt">;

/** The windows of one process, by a key of the caller's. */
export class LastTold {
  readonly #windows = new Map<string, Told>();

  /** A window was handed out of, and others may have told of it. */
  see(key: string, window: Told): void {
    if (!this.#windows.has(key)) this.#set(key, window);
  }

  /** The database is told of it. */
  tell(key: string, report: CompleteReport): void {
    this.#set(key, report);
  }

  /** Whether it is time to tell of it again, whatever the report says. */
  isLongAgo(key: string, { limit, remaining, resetAt }: CompleteReport): boolean {
    const told = this.#windows.get(key);
    if (told === undefined || resetAt > (told.resetAt ?? 0) + SAME_WINDOW_SECONDS) return true;
    return told.remaining - remaining >= Math.max(AGAIN_AFTER_AT_LEAST, limit * AGAIN_AFTER_SHARE);
  }

  #set(key: string, told: Told): void {
    if (this.#windows.size >= WINDOWS_AT_MOST) this.#windows.clear();
    this.#windows.set(key, told);
  }
}
