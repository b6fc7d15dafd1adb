/**
 * What is known for certain from outside: who did what, what was acknowledged, what GitHub answered. The invariants
 * hold the pool to these facts, not to what it believes itself.
 *
 * @module
 */

import type { AnswerKind, ModelAnswer } from "./github_answer.ts";
import type { ModelUser, ModelWindow } from "./github_model.ts";
import { keyOf, mayServe, NOTHING, type Snapshot, type TokenRow } from "./snapshot.ts";

/** One thing that somebody asks of a process, and what came of it so far. */
export interface Operation {
  readonly what: string;
  readonly startedAt: number;
  /** What GitHub answered that this operation is about, by donation. */
  /** `secret`: the token that was refused or not; null when the pool is told of a donation. */
  readonly answers: { id: number; kind: AnswerKind; answer: ModelAnswer; at: number; secret: string | null }[];
  /** What the database let it draw. */
  readonly claims: Claimed[];
  /** How often it asked the database for a claim. */
  attempts: number;
}

/** A claim, as it was committed. */
export interface Claimed {
  id: number;
  /** The ciphertext that was meant. */
  sealed: string;
  resource: string;
  calls: number;
  isLease: boolean;
  at: number;
}

/** One round trip to the database that was carried out. */
export interface DatabaseEvent {
  now: number;
  process: string;
  operation: Operation | null;
  before: Snapshot;
  after: Snapshot;
  claims: Claimed[];
  /** Claims that came back empty. */
  refused: { resource: string; cost: number }[];
}

/** What a donor knows of the own donation. */
export interface DonorFact {
  readonly user: ModelUser;
  /** `uncertain` = something was asked for and not acknowledged yet; `none` = nothing was, or the withdrawal was. */
  state: "none" | "uncertain" | "donated";
  /** The token that was acknowledged. */
  secret: string | null;
  acknowledgedAt: number;
}

/** The least that GitHub has said remains of a window, to somebody who was told that the pool has taken it in. */
interface SaidWindow {
  remaining: number;
  /** Epoch seconds, the earliest that was printed. */
  reset: number;
}

const SAME_WINDOW_SECONDS = 5;

/** The facts of one run. */
export class Facts {
  /** By GitHub's id of the user, as text. */
  readonly donors = new Map<string, DonorFact>();
  /** Plain texts by ciphertext, opened past the pool. */
  readonly opened = new Map<string, string | null>();
  /** Tokens that GitHub has said it does not know, and refresh tokens that it refused. */
  readonly disowned = new Set<string>();
  /** Rows whose ciphertext was spoilt past the pool, as they were then. */
  readonly spoilt = new Map<number, TokenRow>();
  /** Since when a token is not served any more; epoch milliseconds. */
  readonly barredSince = new Map<string, number>();
  /** By donation, and by donation and resource: not before then; epoch milliseconds. */
  readonly benched = new Map<string, number>();
  readonly said = new Map<string, SaidWindow>();
  /** By donation: when it was last seen out of rotation or gone; epoch milliseconds. */
  readonly lastOut = new Map<number, { at: number }>();
  /** By user: when the terms of the donation changed last; epoch milliseconds. */
  readonly changedAt = new Map<string, number>();
  /** Windows of GitHub that the pool could not know to have begun so late. */
  readonly shifted = new WeakSet<ModelWindow>();
  /** By process, donation and resource: calls that may be given back. */
  readonly #givable = new Map<string, Map<string, number>>();
  /** By user and resource: the window that calls came to last, and when the one before it ended. */
  readonly #windows = new Map<string, { window: ModelWindow; endOfLast: number }>();
  /** Uses of each donation when the fair phase began; null = it is not on. */
  fairFrom: ReadonlyMap<number, number> | null = null;
  latest: Snapshot = NOTHING;

  /** Calls that may be given back of a donation and resource, of all processes. */
  givable(key: string): number {
    return [...this.#givable.values()].reduce((sum, keys) => sum + (keys.get(key) ?? 0), 0);
  }

  /** Calls were leased, or were free after all (more), were made or given back (fewer). */
  addGivable(process: string, key: string, calls: number): void {
    let keys = this.#givable.get(process);
    if (keys === undefined) this.#givable.set(process, keys = new Map());
    keys.set(key, (keys.get(key) ?? 0) + calls);
  }

  /** A process has crashed: what it had leased is not given back. */
  forgetProcess(process: string): void {
    this.#givable.delete(process);
  }

  /** The pool has acknowledged that it took in an answer, which it was given at `since`. */
  noteTaken(id: number, { kind, remaining, reset, retryAfter, resource, limit }: ModelAnswer, since: number): void {
    const bench = (key: string, until: number) => {
      this.benched.set(key, Math.max(this.benched.get(key) ?? 0, until));
    };
    if (kind === "secondary_limit") bench(String(id), since + (retryAfter ?? 60) * 1000);
    if (kind === "primary_limit") bench(keyOf(id, resource), since + 1000);
    const isOwn = kind === "ok" || kind === "forbidden" || kind === "not_modified" || kind === "primary_limit";
    if (isOwn && limit !== null && remaining !== null && reset !== null) {
      this.#noteWindow(keyOf(id, resource), remaining, reset);
    }
  }

  /** After each round trip: what has changed that others will be held to. */
  follow({ now, before, after }: DatabaseEvent): void {
    this.latest = after;
    for (const [id, row] of before.tokens) {
      const next = after.tokens.get(id);
      const secret = this.opened.get(row.token) ?? null;
      const isServed = next !== undefined && next.token === row.token && mayServe(next);
      if (secret !== null && mayServe(row) && !isServed) this.barredSince.set(secret, now);
      if (next === undefined || row.suspectAt !== null) this.lastOut.set(id, { at: now });
      if (next === undefined || next.reserve !== row.reserve || next.token !== row.token) {
        this.#changeTerms(row.user, now);
      }
    }
    for (const [id, row] of after.tokens) {
      if (!before.tokens.has(id)) this.#changeTerms(row.user, now);
      if (row.suspectAt !== null) this.lastOut.set(id, { at: now });
      const secret = this.opened.get(row.token) ?? null;
      if (secret !== null && mayServe(row)) this.barredSince.delete(secret);
    }
  }

  #noteWindow(key: string, remaining: number, reset: number): void {
    const known = this.said.get(key);
    if (known === undefined || reset > known.reset + SAME_WINDOW_SECONDS) {
      this.said.set(key, { remaining, reset });
    } else if (reset >= known.reset - SAME_WINDOW_SECONDS) {
      this.said.set(key, {
        remaining: Math.min(known.remaining, remaining),
        reset: Math.min(known.reset, reset),
      });
    }
  }

  /** When the window before this one ended; epoch milliseconds, 0 = there was none. */
  endOfLast(user: ModelUser, window: ModelWindow, resource: string): number {
    const key = keyOf(user.id, resource);
    const known = this.#windows.get(key);
    if (known?.window === window) return known.endOfLast;
    const endOfLast = known?.window.endsAt ?? 0;
    this.#windows.set(key, { window, endOfLast });
    return endOfLast;
  }

  /** From now on other terms hold: what the pool used before is not counted against them. */
  #changeTerms(userId: string, now: number): void {
    this.changedAt.set(userId, now);
    for (const window of this.donors.get(userId)?.user.windows.values() ?? []) {
      window.donors += window.ours;
      window.ours = 0;
    }
  }
}
