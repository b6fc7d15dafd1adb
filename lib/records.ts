/**
 * What the store takes and gives: shapes, and what is derived of a row. Pure.
 *
 * Units as in `lib/store.ts`: epoch milliseconds, but for `resetAt`, which is epoch seconds as GitHub has it.
 *
 * @module
 */

import type { CompleteReport } from "./rate_limit.ts";

/** Later than any clock: the largest integer that JavaScript and SQLite agree on. */
export const NEVER = Number.MAX_SAFE_INTEGER;

/** An hour. */
export const HOUR_MS = 3_600_000;

/** A day of UTC. */
export const DAY_MS = 24 * HOUR_MS;

/** How many days of calls a donor is shown, today among them. */
const DAYS_SHOWN = 30;

/**
 * How long a withdrawal is remembered, and so how old a backup may be: 13 months. GitHub itself revokes a token that has
 * not been used for a year (docs: "Token expiration and revocation"), so what an older backup holds is not worth more.
 */
export const WITHDRAWALS_KEPT_MS: number = 396 * DAY_MS;

/** What a claim returns: the donation, still sealed, and the row's window after the charge. */
export interface Claim {
  id: number;
  githubUserId: string;
  githubUsername: string | null;
  /** Sealed. */
  token: string;
  strikes: number;
  /** Calls per window; null until GitHub has said. */
  limit: number | null;
  remaining: number;
  /** Epoch seconds; null while the window is provisional. */
  resetAt: number | null;
  /** End of the window, epoch milliseconds. */
  windowEnds: number;
  /** Calls that were charged. */
  granted: number;
  /** The donor's, in calls. */
  floor: number;
}

/** A token with no more calls to give than this is nearly used up. */
export const FEW_CALLS = 50;

/** Several calls of one token at once, for one process to spend. */
export interface Lease extends Claim {
  resource: string;
}

/** What a process has for the store at once. */
export interface Exchange {
  /** What GitHub said, null = no numbers; `forgive` after a success that followed a refusal. */
  reports: { id: number; report: CompleteReport | null; forgive: boolean }[];
  /** Leased calls that were not used. */
  unused: {
    id: number;
    resource: string;
    calls: number;
    windowEnds: number;
    /** Of the window, if GitHub has named it since; epoch seconds. */
    resetAt: number | null;
    /** What GitHub has said remains at most. */
    ceiling: number | null;
    /** Whether the lease had ended before: nobody knows what its donor has drawn since. */
    isLate: boolean;
  }[];
  /** A lease: of any token, or of one. */
  wanted: { resource: string; most: number; id?: number } | null;
}

/** A donation as it is stored. */
export interface SealedDonation {
  githubUserId: string;
  githubUsername: string | null;
  token: string;
  refreshToken: string | null;
  /** Epoch milliseconds. */
  expiresAt: number | null;
  reserve: number;
}

/** A donation as a backup has it: what its donor gave and chose, and nothing that is learnt anew. Names as in the table. */
export interface BackedUpDonation {
  github_user_id: string;
  github_username: string | null;
  token: string;
  refresh_token: string | null;
  expires_at: number | null;
  reserve: number;
  donated_at: number;
  /** Null = not paused. */
  paused_at: number | null;
  /** GitHub has asked to leave the user alone until then. */
  held_until: number;
}

/** A revocation that is still to be made, as a backup has it. */
export interface BackedUpRevocation {
  /** Empty when GitHub had not said whose the token is. */
  github_user_id: string;
  token: string;
  kind: "token" | "grant";
}

/** What came of donations that were to be restored. */
export interface RestoredDonations {
  /** The donor had none. */
  added: number;
  /** The donor had an older one. */
  replaced: number;
  /** The donor has this one, or a newer one. */
  kept: number;
  /** The donor has withdrawn since. */
  withdrawn: number;
}

/** What came of revocations that were to be restored. */
export interface RestoredRevocations {
  added: number;
  kept: number;
}

/** Texts that were sealed anew, and what they are to take the place of. */
export interface Resealed {
  id: number;
  old: Pick<SealedDonation, "token" | "refreshToken">;
  renewed: Pick<SealedDonation, "token" | "refreshToken">;
}

/** Rows by the key that they are sealed under. */
export interface KeyUse {
  kid: string;
  donations: number;
  refresh_tokens: number;
  /** That are still to be made. */
  revocations: number;
  /** Whether processes with this key, and no other, are let in. */
  canary: boolean;
}

/** A sealed token that something is to be done about at GitHub. */
export interface SealedToken {
  id: number;
  githubUserId: string;
  token: string;
}

/** A donation with all that is sealed of it, for the operator's commands. */
export interface StoredDonation extends SealedToken {
  login: string | null;
  /** Sealed. */
  refreshToken: string | null;
  /** Epoch milliseconds; null = it does not expire. */
  expiresAt: number | null;
  isSuspect: boolean;
}

/** A stored donation as its statement returns it. */
export type StoredRow = [
  ...[id: number, githubUserId: string, login: string | null, token: string, refreshToken: string | null],
  ...[expiresAt: number | null, suspectAt: number | null],
];

/** What the operator asks of the tables. */
export interface StoredFigures {
  /** The database's clock, epoch milliseconds. */
  now: number;
  donations: number;
  /** Still to be revoked at GitHub. */
  revocations: number;
  /** Of these, tried three times in vain, or due for an hour. */
  stuck: number;
  /** Donations whose token expires and can be refreshed. */
  expiring: number;
  /** Of these, those whose token has expired. */
  expired: number;
  /** Donations that upkeep should have seen to by now. */
  overdue: number;
}

/** A row of a donation with whose token GitHub is asked what is left. */
export interface ProbedRow {
  resource: string;
  /** Whose window is open: one that GitHub has named, the pool's own guess, or none. */
  window: "github" | "provisional" | "none";
}

/** How long to bench: a time that GitHub named, or one that doubles. */
export interface Bench {
  /** What GitHub asked for; null = it did not say. */
  seconds: number | null;
  /** The first wait when it did not say, in seconds. */
  baseSeconds: number;
  /** The longest such wait, in seconds. */
  mostSeconds: number;
}

/** A donation, as the operator sees it. */
export interface ListedDonation {
  id: number;
  login: string | null;
  /** Epoch milliseconds. */
  donated_at: number;
  reserve: number;
  state: "healthy" | "exhausted" | "cooling" | "suspended" | "paused";
  /** Of `core`, as the next three. */
  limit: number;
  remaining: number;
  floor: number;
  /** Ever claimed, of all resources. */
  calls: number;
  /** The key that its token is sealed under. */
  kid: string;
}

/** A donation, as its donor sees it; no token among it. */
export interface OwnDonation {
  /** As the database's clock has it, epoch milliseconds. */
  now: number;
  /** Epoch milliseconds. */
  donatedAt: number;
  reserve: number;
  /** Of `core`, as the next three. `resting` until `restsUntil`; `unused` when the reserve leaves nothing to draw. */
  state: "serving" | "resting" | "unused" | "suspended" | "paused";
  /** Epoch milliseconds; null unless it is resting. */
  restsUntil: number | null;
  limit: number;
  /** Calls of a window that are never drawn. */
  floor: number;
  /** Calls drawn, of all resources: ever, since midnight UTC, and in 30 days, today among them. */
  calls: { total: number; today: number; last30Days: number };
  /**
   * The day on which a call was drawn last, epoch milliseconds of its midnight UTC: that is all that is known, because
   * the moment is not stored. Null = not in the days that are counted.
   */
  lastUsedOn: number | null;
}

/** A donation as the store has it, before what is derived of it. */
export interface OwnDonationRow extends Pick<OwnDonation, "now" | "donatedAt" | "reserve"> {
  suspended: boolean;
  paused: boolean;
  readyAt: number | null;
  limit: number | null;
  floor: number | null;
  calls: number | null;
  /** Days with a claim of anybody, in order. */
  opened: number[];
  /** Calls ever drawn as of the first claim of a day; a day that is missing had none before it. */
  days: [day: number, calls: number][];
}

/** What the aggregate query returns. */
export interface PoolFigures {
  now: number;
  incident: number;
  due: number;
  calls: [total: number, last24Hours: number | null];
  /** By name, see `token_pool_counters`; what has not happened yet is absent. */
  counters: Record<string, number>;
  /** Calls ever drawn, as of the first claim in each of the last 24 hours (epoch hours) that had one, in order. */
  hours: [hour: number, calls: number][];
  /** The same of each of the last 30 days (epoch days). */
  days: [day: number, calls: number][];
  /** Donations as of the last snapshot of each of the last 30 days (epoch days) that had one, in order. */
  donations: [day: number, count: number][];
  tokens: { total: number; healthy: number; exhausted: number; cooling: number; suspended: number; paused: number };
  resources: [
    resource: string,
    cap: number,
    remaining: number,
    usable: number,
    shared: number,
    resets: number | null,
  ][];
}

/** A claim as its statement returns it. */
export type ClaimRow = [
  ...[id: number, githubUserId: string, githubUsername: string | null, token: string, strikes: number],
  ...[cap: number, remaining: number, resetAt: number | null, windowEnds: number, granted: number, floor: number],
];

/** Reads a claim: a window is GitHub's own exactly if it ends a second after the reset that GitHub has named. */
export function claimOf(row: ClaimRow): Claim {
  const [id, githubUserId, githubUsername, token, strikes, cap, remaining, saidReset, windowEnds, granted, floor] = row;
  const limit = saidReset === null ? null : cap;
  const resetAt = saidReset !== null && windowEnds === (saidReset + 1) * 1000 ? saidReset : null;
  return { id, githubUserId, githubUsername, token, strikes, limit, remaining, resetAt, windowEnds, granted, floor };
}

/** Derives what a donor is shown. */
export function ownDonation({ now, donatedAt, reserve, suspended, paused, ...row }: OwnDonationRow): OwnDonation {
  const { readyAt, limit, floor, calls: total, opened } = row;
  const before = new Map(row.days);
  const calls = total ?? 0;
  // What was drawn on a day = what had been at the next one that had a claim, less what had been at this one.
  const drawn = opened.map((day, index) => {
    const after = index + 1 < opened.length ? before.get(opened[index + 1]!) ?? 0 : calls;
    return { day, calls: Math.max(0, after - (before.get(day) ?? 0)) }; // fewer, if unused calls were given back
  });
  const today = Math.floor(now / DAY_MS);
  const since = (first: number) => drawn.filter(({ day }) => day >= first).reduce((sum, { calls }) => sum + calls, 0);
  const last = drawn.findLast(({ calls }) => calls > 0);
  const isResting = readyAt !== null && readyAt > now;
  const state = paused
    ? "paused"
    : suspended
    ? "suspended"
    : !isResting
    ? "serving"
    : readyAt < NEVER
    ? "resting"
    : "unused";
  return {
    now,
    donatedAt,
    reserve,
    state,
    restsUntil: state === "resting" ? readyAt : null,
    limit: limit ?? 0,
    floor: floor ?? 0,
    calls: { total: calls, today: since(today), last30Days: since(today - DAYS_SHOWN + 1) },
    lastUsedOn: last === undefined ? null : last.day * DAY_MS,
  };
}
