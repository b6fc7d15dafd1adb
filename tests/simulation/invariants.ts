/**
 * The twelve promises of the hand-out engine, one function each, told in observable facts: rows read past the pool,
 * what clients were told, and what GitHub knows. Most are looked at after every round trip to the database, since
 * nothing else changes what is stored.
 *
 * @module
 */

import type { DatabaseEvent, Facts } from "./facts.ts";
import { type ModelUser, type ModelWindow, reservedCalls } from "./github_model.ts";
import {
  isNamed,
  isUsable,
  keyOf,
  type LimitRow,
  mayServe,
  remainingAt,
  type Snapshot,
  type TokenRow,
} from "./snapshot.ts";

/** A promise that was not kept. */
export class Violation extends Error {
  override readonly name = "Violation";
  /** Its number, 1 to 12; 0 = the simulator itself is wrong. */
  readonly invariant: number;

  /**
   * @param invariant Its number.
   * @param expected What should be.
   * @param found What is.
   */
  constructor(invariant: number, expected: string, found: string) {
    super(`Invariant ${invariant}: expected ${expected}; found ${found}`);
    this.invariant = invariant;
  }
}

/** Where a row goes that no time brings back; larger than any clock. */
const NEVER = Number.MAX_SAFE_INTEGER;

/** The name of the operation that a process with a wrong key is up to. */
export const WRONG_KEY = "wrong key";

/** A lease ends after 10 s, counted from when its answer came, which took 2 s at most. */
export const LEASE_MS = 12_000;

/** A window may seem to end so much too early: a printed reset is off by 1 s, a clock by 0.5 s. */
const BOUNDARY_MS = 2_000;

/** 1. One row for each user, and none without a donation. */
export function oneRowPerUser({ after }: DatabaseEvent): void {
  const users = new Set([...after.tokens.values()].map(({ user }) => user));
  if (users.size !== after.rows.tokens) {
    throw new Violation(1, "one row for each user", `${after.rows.tokens} rows of ${users.size} users`);
  }
  if (after.limits.size !== after.rows.limits) {
    throw new Violation(1, "one window for each donation and resource", `${after.rows.limits} of ${after.limits.size}`);
  }
  const orphan = [...after.limits.values()].find(({ id }) => !after.tokens.has(id));
  if (orphan !== undefined) {
    throw new Violation(1, "no window without its donation", `${orphan.resource} of donation ${orphan.id}`);
  }
}

/**
 * 2. What was acknowledged is there: usable, benched with a time, or removed with a recorded reason; and what was
 * withdrawn is not.
 */
export function acknowledgedIsThere({ after }: DatabaseEvent, facts: Facts): void {
  const byUser = new Map([...after.tokens.values()].map((row) => [row.user, row]));
  for (const [userId, { state, secret, user }] of facts.donors) {
    const row = byUser.get(userId);
    if (state === "none" && row !== undefined) {
      throw new Violation(2, `no donation of user ${userId}, whose withdrawal was acknowledged`, "one");
    }
    if (state !== "donated") continue;
    if (row === undefined) {
      if (facts.disowned.has(secret!) || user.isSuspended) continue;
      throw new Violation(2, `the acknowledged donation of user ${userId}`, "no row, and no reason for that");
    }
    if (facts.spoilt.has(row.id)) continue;
    const opened = facts.opened.get(row.token) ?? null;
    if (opened === null) throw new Violation(2, `a token of user ${userId} that opens`, "one that does not");
    if (opened !== secret && !facts.disowned.has(secret!)) {
      throw new Violation(2, `the token that user ${userId} gave last`, "another one");
    }
    hasAPlace(row, after);
  }
  const { "donations.new": given = 0, ...others } = after.counters;
  const removed = Object.entries(others).filter(([name]) => name.startsWith("removed."));
  const left = given - removed.reduce((sum, [, count]) => sum + count, 0);
  if (left !== after.rows.tokens) {
    throw new Violation(2, `a reason on record for each removal, so ${left} donations`, `${after.rows.tokens}`);
  }
}

function hasAPlace(token: TokenRow, { limits, resources }: Snapshot): void {
  if (!mayServe(token)) {
    const isAsked = token.isPaused || token.checkAt !== null;
    if (!isAsked) throw new Violation(2, `a time to ask about suspect ${token.id}`, "none");
    return;
  }
  for (const resource of resources) {
    const row = limits.get(keyOf(token.id, resource));
    if (row === undefined) throw new Violation(2, `a window of ${resource} for donation ${token.id}`, "none");
    if (row.readyAt >= NEVER && row.cap > row.floor) {
      throw new Violation(2, `a time at which donation ${token.id} may be used for ${resource}`, "never");
    }
  }
}

/** 3. What was withdrawn, removed, suspected, paused or replaced is not drawn. */
export function departedIsNotDrawn({ before, claims }: DatabaseEvent): void {
  for (const { id, sealed } of claims) {
    const row = before.tokens.get(id);
    if (row === undefined) throw new Violation(3, `no hand-out of donation ${id}, which is gone`, "one");
    if (row.suspectAt !== null) throw new Violation(3, `no hand-out of suspect ${id}`, "one");
    if (row.isPaused) throw new Violation(3, `no hand-out of donation ${id}, which is paused`, "one");
    if (row.token !== sealed) throw new Violation(3, `a hand-out of the token that donation ${id} has now`, "another");
  }
}

/** 3, of leases: not later than ten seconds after the database knew. */
export function departedIsNotSent(secret: string, now: number, facts: Facts): void {
  const since = facts.barredSince.get(secret);
  if (since === undefined || now - since <= LEASE_MS) return;
  throw new Violation(3, "no call with a token that left more than 10 s ago", `one after ${(now - since) / 1000} s`);
}

/** 4. Not before its time, and at its time: what may be used is at hand, and what may not is not drawn. */
export function notBeforeItsTime({ now, before, after, claims, refused }: DatabaseEvent, facts: Facts): void {
  for (const { id, resource, calls } of claims) {
    const [token, left] = [before.tokens.get(id), after.limits.get(keyOf(id, resource))];
    if (token === undefined || left === undefined) continue; // 3 has it
    // As it was when it was drawn: what else the transaction took in and gave back came before.
    const row = { ...left, remaining: left.remaining + calls };
    if (!isUsable(token, row, 1, now)) throw new Violation(4, `no hand-out of ${tell(row, now)}`, `${calls} calls`);
    if (remainingAt(row, now) - calls < row.floor) {
      throw new Violation(4, `the reserve kept of ${tell(row, now)}`, `a hand-out of ${calls} calls`);
    }
    const until = Math.max(facts.benched.get(String(id)) ?? 0, facts.benched.get(keyOf(id, resource)) ?? 0);
    if (now < until) throw new Violation(4, `donation ${id} benched for ${until - now} ms more`, "a hand-out");
    const said = facts.said.get(keyOf(id, resource));
    if (said !== undefined && now < (said.reset + 1) * 1000 && said.remaining <= row.floor) {
      throw new Violation(4, `no hand-out of donation ${id}: GitHub said ${said.remaining} remain`, "one");
    }
  }
  for (const { resource, cost } of refused) {
    for (const row of after.limits.values()) {
      const token = after.tokens.get(row.id);
      if (row.resource !== resource || token === undefined || !isUsable(token, row, cost, now)) continue;
      throw new Violation(4, `a hand-out of ${tell(row, now)}`, "none");
    }
  }
  for (const row of after.limits.values()) {
    const token = after.tokens.get(row.id);
    if (token === undefined) continue;
    const isAtHand = row.readyAt <= now;
    if (isAtHand !== isUsable(token, row, 1, now)) {
      throw new Violation(
        4,
        `${isAtHand ? "no place" : "a place"} at hand for ${tell(row, now)}`,
        isAtHand ? "one" : "none",
      );
    }
  }
}

function tell(row: LimitRow, now: number): string {
  const { id, resource, floor, windowEnds, heldUntil, readyAt } = row;
  const ready = readyAt >= NEVER ? "never" : `${readyAt - now} ms`;
  return `donation ${id} (${resource}: ${remainingAt(row, now)} remain, ${floor} reserved, window ends in ` +
    `${windowEnds - now} ms, held for ${Math.max(0, heldUntil - now)} ms, ready in ${ready})`;
}

/** 5. Among equal tokens uses differ by at most 1. */
export function usesAreEven({ after }: DatabaseEvent, { fairFrom }: Facts): void {
  if (fairFrom === null) return;
  const uses = [...fairFrom].map(([id, from]) => (after.limits.get(keyOf(id, "core"))?.calls ?? 0) - from);
  const spread = Math.max(...uses) - Math.min(...uses);
  if (uses.length > 0 && spread > 1) throw new Violation(5, "uses that differ by at most 1", uses.join(", "));
}

/** 6. What does not open keeps its ciphertext and its health, and a wrong key changes nothing at all. */
export function unreadableIsLeftAlone({ before, after, operation }: DatabaseEvent, facts: Facts): void {
  if (operation?.what === WRONG_KEY) {
    const rows = ({ tokens, limits }: Snapshot) => JSON.stringify([[...tokens.values()], [...limits.values()]]);
    if (rows(before) !== rows(after)) throw new Violation(6, "nothing changed by a wrong key", "a change");
  }
  for (const [id, then] of facts.spoilt) {
    const row = after.tokens.get(id);
    if (row === undefined) throw new Violation(6, `donation ${id}, which does not open, as it was`, "no row");
    for (const name of ["token", "heldUntil", "strikes", "suspectAt", "checkAt", "isPaused"] as const) {
      if (row[name] !== then[name]) throw new Violation(6, `the ${name} of donation ${id} as it was`, "another");
    }
    for (const resource of after.resources) {
      const [old, limit] = [before.limits.get(keyOf(id, resource)), after.limits.get(keyOf(id, resource))];
      if (limit === undefined || old === undefined) continue;
      if (limit.heldUntil > old.heldUntil || limit.cap !== old.cap || limit.resetAt !== old.resetAt) {
        throw new Violation(6, `the health of donation ${id}, which does not open, as it was`, "a change");
      }
    }
  }
}

/** 7. Within a window the remaining count does not rise, but for what is given back. Keeps the books of that. */
export function remainingDoesNotRise(event: DatabaseEvent, facts: Facts): void {
  const { before, after, claims, now, process } = event;
  for (const [key, row] of after.limits) {
    const old = before.limits.get(key);
    const drawn = claims.filter(({ id, resource }) => keyOf(id, resource) === key);
    if (old !== undefined && isSameWindow(old, row, now)) {
      const calls = drawn.reduce((sum, claim) => sum + claim.calls, 0);
      const isLimitNew = row.cap !== old.cap;
      const rise = row.remaining + calls - old.remaining - (isLimitNew ? Math.max(0, row.cap - old.cap) : 0);
      if (rise > 0 && rise > facts.givable(key)) {
        throw new Violation(
          7,
          `the remaining count of donation ${key} to rise by at most ${facts.givable(key)}, from ${old.remaining}`,
          `${row.remaining} after a claim of ${calls}`,
        );
      }
      if (rise > 0) facts.addGivable(process, key, -rise);
    }
    for (const { calls, isLease } of drawn) if (isLease) facts.addGivable(process, key, calls);
  }
}

function isSameWindow(old: LimitRow, row: LimitRow, now: number): boolean {
  if (old.windowEnds <= now) return false;
  return !isNamed(old) || row.resetAt! - old.resetAt! <= 5;
}

/** 8. A dry pool recovers by itself: given time, every donation that may serve is drawn again. */
export function poolRecovers(resource: string, drawn: ReadonlySet<number>, facts: Facts, now: number): void {
  const { tokens, limits } = facts.latest;
  for (const { user, state } of facts.donors.values()) {
    const token = [...tokens.values()].find((row) => row.user === String(user.id));
    if (state !== "donated" || token === undefined || token.isPaused || facts.spoilt.has(token.id)) continue;
    const row = limits.get(keyOf(token.id, resource));
    if (row === undefined || row.cap <= row.floor) continue;
    if (!drawn.has(token.id)) {
      const why = token.suspectAt === null ? tell(row, now) : `suspect ${token.id}`;
      throw new Violation(8, `donation ${token.id} drawn again after hours without trouble`, why);
    }
  }
}

/** 9. Nothing is benched, suspected or removed but for an answer that says so: a 403 that is no limit is none. */
export function onlyLimitsBench({ before, after, operation, now }: DatabaseEvent): void {
  const kinds = (id: number) => (operation?.answers ?? []).filter((answer) => answer.id === id).map(({ kind }) => kind);
  for (const [id, row] of after.tokens) {
    const old = before.tokens.get(id);
    if (old === undefined) continue;
    const said = kinds(id);
    const isHeld = row.heldUntil > old.heldUntil || row.strikes > old.strikes;
    if (isHeld && !said.some((kind) => kind === "secondary_limit" || kind === "primary_limit")) {
      throw new Violation(9, `donation ${id} not benched by ${told(operation?.what, said)}`, "a bench");
    }
    const isSuspect = row.suspectAt !== null && old.suspectAt === null;
    if (isSuspect && !said.some((kind) => ["unknown_token", "false_unauthorized", "outage"].includes(kind))) {
      throw new Violation(9, `donation ${id} not suspected for ${told(operation?.what, said)}`, "a suspicion");
    }
  }
  for (const [key, row] of after.limits) {
    const old = before.limits.get(key);
    if (old === undefined || row.heldUntil <= old.heldUntil || row.heldUntil <= now) continue;
    const said = kinds(row.id);
    if (!said.some((kind) => kind === "secondary_limit" || kind === "primary_limit")) {
      throw new Violation(
        9,
        `${row.resource} of donation ${row.id} not benched by ${told(operation?.what, said)}`,
        "a bench",
      );
    }
  }
}

function told(what: string | undefined, kinds: string[]): string {
  return `${what ?? "nobody"} (${kinds.join(", ") || "no answer"})`;
}

/** 10. Any order, repetition or loss of reports ends in the same or a more careful state, `free` calls aside. */
export function ordersEndAlike(
  inOrder: LimitRow,
  other: LimitRow,
  how: string,
  { mustBeEqual, free }: { mustBeEqual: boolean; free: number },
): void {
  const state = ({ remaining, readyAt, resetAt }: LimitRow) => `${remaining} until ${resetAt}, ready at ${readyAt}`;
  const isCareful = other.remaining <= inOrder.remaining + free && other.readyAt >= inOrder.readyAt;
  const isEqual = other.remaining === inOrder.remaining && other.resetAt === inOrder.resetAt;
  if (isCareful && (isEqual || !mustBeEqual)) return;
  const wanted = mustBeEqual ? "the same" : "no less careful";
  throw new Violation(10, `${wanted} when ${how}: ${state(inOrder)}, ${free} free`, state(other));
}

/** 11. Our own calls alone never take a donor below the reserve. */
export function reserveIsKept(user: ModelUser, window: ModelWindow, reserve: number, facts: Facts): void {
  const shared = window.limit - reservedCalls(reserve, window.limit);
  if (window.ours <= shared || facts.shifted.has(window)) return;
  throw new Violation(11, `at most ${shared} of ${window.limit} calls of user ${user.id} by us`, `${window.ours}`);
}

/** 11, when the pool takes a window to have ended: that of GitHub must have, unless the pool was never told of it. */
export function windowHasEnded(row: LimitRow, window: ModelWindow | null, now: number, facts: Facts): void {
  if (window === null || window.ours === 0) return;
  if (!isNamed(row)) facts.shifted.add(window); // it began with a later call than the pool had to take it for
  else if (window.endsAt - now > BOUNDARY_MS && window.endsAt - row.windowEnds < BOUNDARY_MS) {
    throw new Violation(
      11,
      `donation ${row.id} full again when GitHub's window has ended`,
      `${window.endsAt - now} ms early`,
    );
  }
}

/**
 * Whether a call that was drawn at `drawnAt` may have been charged to another window than the one that it came to: to the
 * one before, which the pool takes to end a second later, or, by clocks that differ, to the one after.
 */
export function isAtBoundary(window: ModelWindow, endOfLast: number, drawnAt: number, now: number): boolean {
  return window.endsAt - now <= BOUNDARY_MS || drawnAt < endOfLast + BOUNDARY_MS;
}

/** 12. Nothing that comes out holds a secret. */
export function tellsNoSecret(text: string, secrets: readonly string[], where: string): void {
  const secret = secrets.find((secret) => text.includes(secret));
  if (secret !== undefined) {
    throw new Violation(12, `no secret in ${where}`, `one that begins with ${secret.slice(0, 4)}`);
  }
}

/** What is looked at after every round trip to the database. */
export const AFTER_EVERY_ROUND_TRIP: readonly ((event: DatabaseEvent, facts: Facts) => void)[] = [
  oneRowPerUser,
  acknowledgedIsThere,
  departedIsNotDrawn,
  notBeforeItsTime,
  usesAreEven,
  unreadableIsLeftAlone,
  remainingDoesNotRise,
  onlyLimitsBench,
];
