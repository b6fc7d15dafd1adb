/**
 * The pool, as sections 5 and 6 of the design describe it, in plain objects: what is handed out, to whom it is charged,
 * who is next, who rests and until when. Written from those rules and not from the SQL: there is no sort key here, only
 * donations, windows and benches, so that the two can disagree.
 *
 * Times are epoch milliseconds, resets are epoch seconds.
 *
 * @module
 */

import type { CompleteReport } from "../../lib/rate_limit.ts";
import type { Bench } from "../../lib/records.ts";

/** What GitHub grants until it says otherwise. */
export const ASSUMED: Record<string, { calls: number; windowMs: number }> = {
  core: { calls: 5000, windowMs: 3_600_000 },
  graphql: { calls: 5000, windowMs: 3_600_000 },
  search: { calls: 30, windowMs: 60_000 },
  code_search: { calls: 9, windowMs: 60_000 },
};

/**
 * A place in a queue: since when it is waiting, and in which order those stand who came in the same millisecond. Who
 * came back from a bench in just that millisecond stands anywhere among them: null.
 */
interface Place {
  since: number;
  order: number | null;
}

/** One donation's share of one resource. */
export class Bucket {
  limit: number;
  remaining: number;
  /** The latest reset that GitHub has said. */
  reset: number | null = null;
  /** Whose the window is; "none" before the first. */
  window: "none" | "provisional" | "github" = "none";
  windowEnds = 0;
  heldUntil = 0;
  calls = 0;
  place: Place;

  constructor(limit: number, place: Place) {
    this.limit = this.remaining = limit;
    this.place = place;
  }
}

/** One donation. */
export interface Donated {
  id: number;
  user: string;
  /** Sealed. */
  token: string;
  reserve: number;
  isPaused: boolean;
  isSuspect: boolean;
  suspectAt: number;
  isBraked: boolean;
  notFoundAt: number | null;
  /** Of the whole user. */
  heldUntil: number;
  strikes: number;
  buckets: Map<string, Bucket>;
}

/** Calls that a process holds. */
export interface HeldLease {
  id: number;
  resource: string;
  calls: number;
  windowEnds: number;
  reset: number | null;
}

/** The pool. */
export class PoolModel {
  now: number;
  readonly donations = new Map<string, Donated>();
  /** Every resource that was ever used. */
  readonly resources = new Set(["core"]);
  readonly counters: Record<string, number> = {};
  /** Calls of donations that have left. */
  retiredCalls = 0;
  leases: HeldLease[] = [];
  #order = 0;
  #suspicions: { at: number; id: number }[] = [];

  constructor(now: number) {
    this.now = now;
  }

  // What is so now.

  floorOf({ reserve }: Donated, { limit }: { limit: number }): number {
    return Math.ceil(Number((reserve * limit).toFixed(6)));
  }

  /** What remains: all of it once the window has ended. */
  left(bucket: Bucket): number {
    return bucket.windowEnds <= this.now ? bucket.limit : bucket.remaining;
  }

  /** Calls that a lease takes: of an hour's last calls a 16th, of windows that are too small to be divided all. */
  leased(donation: Donated, resource: string, most: number): number {
    const bucket = donation.buckets.get(resource)!;
    const usable = this.usable(donation, bucket);
    return Math.min(most, bucket.limit < 1000 ? usable : Math.max(1, Math.floor(usable / 16)));
  }

  usable(donation: Donated, bucket: Bucket): number {
    return this.#availableAt(donation, bucket) <= this.now
      ? Math.max(0, this.left(bucket) - this.floorOf(donation, bucket))
      : 0;
  }

  /** From when on it may be used, if nothing happens until then; -Infinity = it may be used. */
  #availableAt(donation: Donated, bucket: Bucket): number {
    const floor = this.floorOf(donation, bucket);
    if (donation.isPaused || donation.isSuspect || bucket.limit <= floor) return Infinity;
    const isHeld = bucket.heldUntil > this.now;
    const isExhausted = this.left(bucket) <= floor;
    return Math.max(isHeld ? bucket.heldUntil : -Infinity, isExhausted ? bucket.windowEnds : -Infinity);
  }

  stateOf(donation: Donated): "paused" | "suspended" | "cooling" | "exhausted" | "healthy" {
    const bucket = donation.buckets.get("core")!;
    if (donation.isPaused) return "paused";
    if (donation.isSuspect) return "suspended";
    if (bucket.heldUntil > this.now) return "cooling";
    return this.#availableAt(donation, bucket) > this.now ? "exhausted" : "healthy";
  }

  /** What can be claimed now, and when more can. */
  availability(resource: string): { tokens: number; usable: number; nextAt: number | null } {
    let [usable, nextAt] = [0, Infinity];
    for (const donation of this.donations.values()) {
      const bucket = donation.buckets.get(resource) ?? this.#fresh(donation, resource);
      usable += this.usable(donation, bucket);
      const at = this.#availableAt(donation, bucket);
      if (at > this.now) nextAt = Math.min(nextAt, at);
    }
    return { tokens: this.donations.size, usable, nextAt: nextAt === Infinity ? null : nextAt };
  }

  /** Who may be claimed next for this many calls: one, or several who came in the same millisecond in no fixed order. */
  heads(resource: string, cost: number): Donated[] {
    const able = [...this.donations.values()].filter((donation) => {
      const bucket = donation.buckets.get(resource);
      return bucket !== undefined && this.usable(donation, bucket) >= cost;
    });
    const placeOf = (donation: Donated) => donation.buckets.get(resource)!.place;
    const first = Math.min(...able.map((donation) => placeOf(donation).since));
    const together = able.filter((donation) => placeOf(donation).since === first);
    const isBehind = ({ order }: Place) =>
      order !== null && together.some((other) => (placeOf(other).order ?? Infinity) < order);
    return together.filter((donation) => !isBehind(placeOf(donation)));
  }

  byId(id: number): Donated | undefined {
    return [...this.donations.values()].find((donation) => donation.id === id);
  }

  /** Every moment to come at which something comes back or a window ends. */
  moments(): number[] {
    const all = [...this.donations.values()].flatMap((donation) =>
      [...donation.buckets.values()].flatMap((bucket) => [
        this.#availableAt(donation, bucket),
        bucket.windowEnds,
        bucket.heldUntil,
      ])
    );
    return [...new Set(all)].filter((time) => time > this.now && time < Infinity).sort((a, b) => a - b);
  }

  /** Does something, and puts whoever is back from where it could not be used behind those who have waited longer. */
  change(what: () => void, isInOrder = false): void {
    const before = this.#availabilities();
    what();
    for (const [bucket, after] of this.#availabilities()) {
      const was = before.get(bucket);
      if (was !== undefined && was !== -Infinity && after === -Infinity) {
        // Its time has come, or an event has brought it back before.
        bucket.place = { since: Math.min(was, this.now), order: isInOrder ? ++this.#order : null };
      }
    }
  }

  #availabilities(): Map<Bucket, number> {
    return new Map(
      [...this.donations.values()].flatMap((donation) =>
        [...donation.buckets.values()].map((bucket): [Bucket, number] => [bucket, this.#availableAt(donation, bucket)])
      ),
    );
  }

  // What can happen.

  advanceTo(time: number): void {
    this.change(() => this.now = time);
  }

  donate(user: string, id: number, token: string, reserve: number): void {
    const known = this.donations.get(user);
    this.#count(known === undefined ? "donations.new" : "donations.updated");
    if (known !== undefined) {
      const fresh = { token, reserve, isPaused: false, isSuspect: false, isBraked: false, notFoundAt: null };
      this.change(() => Object.assign(known, fresh));
      return;
    }
    const donation: Donated = {
      ...{ id, user, token, reserve, isPaused: false, isSuspect: false, suspectAt: 0, isBraked: false },
      ...{ notFoundAt: null, heldUntil: 0, strikes: 0, buckets: new Map() },
    };
    for (const resource of this.resources) {
      const place = { since: this.now, order: ++this.#order };
      donation.buckets.set(resource, new Bucket(ASSUMED[resource]!.calls, place));
    }
    this.donations.set(user, donation);
  }

  remove(user: string, reason: string): void {
    const donation = this.donations.get(user);
    if (donation === undefined) return;
    for (const { calls } of donation.buckets.values()) this.retiredCalls += calls;
    this.donations.delete(user);
    this.#count(`removed.${reason}`);
  }

  /** Never-used tokens come in the order of donation. */
  firstUse(resource: string): void {
    if (this.resources.has(resource)) return;
    this.resources.add(resource);
    for (const donation of this.donations.values()) donation.buckets.set(resource, this.#fresh(donation, resource));
  }

  #fresh(donation: Donated, resource: string): Bucket {
    const bucket = new Bucket(ASSUMED[resource]!.calls, { since: 0, order: donation.id });
    bucket.heldUntil = donation.heldUntil;
    return bucket;
  }

  charge({ buckets }: Donated, resource: string, calls: number): Bucket {
    const bucket = buckets.get(resource)!;
    bucket.remaining = this.left(bucket) - calls;
    if (bucket.windowEnds <= this.now) {
      bucket.window = "provisional";
      bucket.windowEnds = this.now + ASSUMED[resource]!.windowMs + 1000;
    }
    bucket.calls += calls;
    bucket.place = { since: this.now, order: ++this.#order };
    return bucket;
  }

  report(id: number, { resource, limit, remaining, resetAt }: CompleteReport, free = 0): void {
    this.firstUse(resource);
    const bucket = this.byId(id)?.buckets.get(resource);
    const endsAt = (resetAt + 1) * 1000;
    if (bucket === undefined || endsAt <= this.now) return;
    const newer = bucket.reset === null ? Infinity : resetAt - bucket.reset;
    const hasEnded = bucket.windowEnds <= this.now;
    // Of the window before the provisional one, or of one before that.
    if (bucket.window === "provisional" ? newer <= 5 : newer < -5) return;
    this.change(() => {
      const isSame = !hasEnded && bucket.window === "github" && newer <= 5;
      if (!isSame) {
        const charged = !hasEnded && bucket.window === "provisional" ? bucket.limit - bucket.remaining : -Infinity;
        bucket.remaining = Math.max(0, Math.min(remaining, limit - charged + free));
        bucket.limit = limit;
      } else {
        // The smaller remaining, with the limit that it is of.
        const mine = bucket.remaining + free;
        if (remaining < mine) bucket.limit = limit;
        else if (remaining === mine) bucket.limit = Math.max(bucket.limit, limit);
        bucket.remaining = Math.min(mine, remaining);
      }
      bucket.reset = Math.max(bucket.reset ?? 0, resetAt);
      bucket.window = "github";
      bucket.windowEnds = (bucket.reset + 1) * 1000;
    });
    for (const lease of this.leases) if (lease.id === id && lease.resource === resource) lease.reset ??= resetAt;
  }

  /** A call was free, and was charged to the window that is open, unless that one has another name. */
  refund(id: number, { resource, resetAt }: CompleteReport): void {
    const bucket = this.byId(id)?.buckets.get(resource);
    if (bucket === undefined || bucket.windowEnds <= this.now) return;
    if (bucket.window === "github" && Math.abs(bucket.reset! - resetAt) > 5) return;
    this.change(() => bucket.remaining = Math.min(bucket.limit, bucket.remaining + 1));
  }

  /** Of an hour's last calls nothing comes back that is late. */
  giveBack(
    { id, resource, calls, windowEnds, reset }: HeldLease,
    ceiling: number | null,
    isLate: boolean,
  ): void {
    const donation = this.byId(id);
    const bucket = donation?.buckets.get(resource);
    if (donation === undefined || bucket === undefined || bucket.windowEnds <= this.now) return;
    const isItsWindow = bucket.windowEnds === windowEnds ||
      bucket.window === "github" && reset !== null && Math.abs(bucket.reset! - reset) <= 5;
    if (!isItsWindow) return;
    const isKept = isLate && bucket.limit >= 1000 && bucket.remaining - this.floorOf(donation, bucket) <= 50;
    this.change(() => {
      const most = Math.min(bucket.limit, ceiling ?? Infinity, bucket.remaining + (isKept ? 0 : calls));
      bucket.remaining = Math.max(bucket.remaining, most);
      bucket.calls = Math.max(0, bucket.calls - calls);
    });
  }

  setReserve(user: string, reserve: number): void {
    const donation = this.donations.get(user);
    if (donation !== undefined) this.change(() => donation.reserve = reserve);
  }

  pause(user: string): void {
    const donation = this.donations.get(user);
    if (donation !== undefined) this.change(() => donation.isPaused = true);
  }

  /** At the end of each queue. */
  resume(user: string): void {
    const donation = this.donations.get(user);
    if (donation !== undefined) this.change(() => donation.isPaused = false, true);
  }

  benchUser(id: number, bench: Bench): void {
    const donation = this.byId(id);
    if (donation === undefined) return;
    const until = this.#benchedUntil(donation, bench, donation.heldUntil > this.now);
    donation.heldUntil = Math.max(donation.heldUntil, until);
    for (const bucket of donation.buckets.values()) bucket.heldUntil = Math.max(bucket.heldUntil, donation.heldUntil);
  }

  benchResource(id: number, resource: string, bench: Bench): void {
    this.firstUse(resource);
    const donation = this.byId(id);
    const bucket = donation?.buckets.get(resource);
    if (donation === undefined || bucket === undefined) return;
    const until = this.#benchedUntil(donation, bench, bucket.heldUntil > this.now);
    bucket.heldUntil = Math.max(bucket.heldUntil, until);
  }

  /** Refused until the reset; only where that lets it back sooner is it benched, for a second. */
  exhaust(id: number, report: CompleteReport): void {
    this.report(id, { ...report, remaining: 0 });
    const donation = this.byId(id);
    const bucket = donation?.buckets.get(report.resource);
    if (donation === undefined || bucket === undefined) return;
    const until = this.now + 1000;
    if (this.#availableAt(donation, bucket) < until) bucket.heldUntil = Math.max(bucket.heldUntil, until);
  }

  /** As long as GitHub says, else a time that doubles with each refusal, but not while it is benched already. */
  #benchedUntil(donation: Donated, { seconds, baseSeconds, mostSeconds }: Bench, isBenched: boolean): number {
    if (seconds !== null) return this.now + seconds * 1000;
    if (donation.strikes === 0 || !isBenched) donation.strikes++;
    return this.now + Math.min(mostSeconds, baseSeconds * 2 ** (donation.strikes - 1)) * 1000;
  }

  /** A success, which counts only when no bench is under way. */
  forgive(id: number): void {
    const donation = this.byId(id);
    if (donation === undefined || donation.heldUntil > this.now) return;
    if (![...donation.buckets.values()].some(({ heldUntil }) => heldUntil > this.now)) donation.strikes = 0;
  }

  suspect(id: number): void {
    const donation = this.byId(id);
    if (donation === undefined || donation.isSuspect) return;
    Object.assign(donation, { isSuspect: true, suspectAt: this.now, notFoundAt: null });
    this.#suspicions.push({ at: this.now, id });
    const lately = this.now - 60_000;
    const suspects = new Set(this.#suspicions.filter(({ at }) => at >= lately).map(({ id }) => id));
    const lasts = [...this.donations.values()].some((other) =>
      other.isBraked && other.isSuspect && other.suspectAt >= this.now - 3_600_000
    );
    if (suspects.size < 5 && !lasts) return;
    for (const other of this.donations.values()) {
      if (other.isSuspect && other.suspectAt >= lately) other.isBraked = true;
    }
  }

  acquit(id: number, token: string): void {
    const donation = this.byId(id);
    if (donation?.token !== token) return;
    this.change(() => Object.assign(donation, { isSuspect: false, isBraked: false, notFoundAt: null }));
  }

  notFound(id: number, token: string): "removed" | "kept" {
    const donation = this.byId(id);
    if (donation?.token !== token) return "kept";
    const isCertain = !donation.isBraked ||
      (donation.notFoundAt !== null && donation.notFoundAt <= this.now - 600_000);
    if (donation.isSuspect && isCertain) {
      this.remove(donation.user, "revoked");
      return "removed";
    }
    donation.notFoundAt ??= this.now;
    return "kept";
  }

  #count(name: string): void {
    this.counters[name] = (this.counters[name] ?? 0) + 1;
  }
}
