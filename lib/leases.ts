/**
 * Leases: several calls of one token at once, spent by one process, so that a call to GitHub needs no round trip to
 * the database.
 *
 * - A lease is as large as the process is busy: it should last a second. It ends after ten, and what is left goes back,
 *   but for the last calls of a token that is nearly used up: those may be its donor's by then.
 * - Every response trims it: what GitHub says remains, less the donor's reserve and our own calls in flight, is the most
 *   that it can still give.
 * - Reports wait for the next lease and travel with it, in one transaction. Of a token that is nearly used up they do not
 *   wait: what its donor has drawn meanwhile is not to be lent by another process.
 *
 * A process that dies loses nothing but its unused calls, and those only until the window ends.
 *
 * @module
 */

import { PoolError } from "./errors.ts";
import { LastTold } from "./last_told.ts";
import {
  assumedWindow,
  bringsNews,
  type CompleteReport,
  hasBegun,
  type KnownWindow,
  SAME_WINDOW_SECONDS,
} from "./rate_limit.ts";
import { type Exchange, FEW_CALLS, type Lease } from "./records.ts";
import type { Vault } from "./vault.ts";

/** When a lease ends, used up or not: so a token that was withdrawn is used no longer than this. */
const LEASE_MS = 10_000;

/** The time that a lease is meant to last. */
const RATE_WINDOW_MS = 1_000;

/** Of a token that is nearly used up it must not last longer: its donor may draw meanwhile what is held here. */
const SHORT_LEASE_MS = RATE_WINDOW_MS;

const MOST_CALLS = 50;

/** Of resources whose windows are a minute, a lease may take only little. */
const MOST_CALLS_OF_SEARCH = 2;

/** Over about so many answers the cost of a query is averaged. */
const QUERIES_REMEMBERED = 8;

/** How many leases are claimed in a row when their tokens do not open. */
const CLAIMS_AT_MOST = 20;

/** How many reports travel with one lease. */
const REPORTS_AT_MOST = 50;

interface Holding extends Lease {
  secret: string;
  /** Calls that may still be made. */
  left: number;
  /** Calls that were made and not answered, of all leases of this token and resource: GitHub will count them all. */
  inFlight: { calls: number };
  endsAt: number;
  /** The least that GitHub has said remains of the window; null until it has said anything. */
  said: KnownWindow | null;
  /** What the database knows, or will once the reports that wait have travelled. */
  known: KnownWindow;
}

/** One call that may be made now. */
export interface Ticket {
  readonly id: number;
  readonly token: string;
  /** The token as it is stored. */
  readonly sealed: string;
  readonly resource: string;
  /** @internal */
  readonly holding: object;
}

/** Somebody who waits for a call. */
interface Waiter {
  resolve: (ticket: Ticket | null) => void;
  reject: (error: unknown) => void;
}

/** The leases of one process. */
export class Leases {
  readonly #vault: Vault;
  readonly #holdings = new Map<string, Holding[]>();
  /** Who waits for the next lease, by resource, or by resource and token; some have been served by the last one. */
  readonly #queues = new Map<string, Waiter[]>();
  #reports = new Map<string, Exchange["reports"][number]>();
  #unused: Exchange["unused"] = [];
  /** Whether a report is of a token that is nearly used up. */
  #isUrgent = false;
  readonly #inFlight = new Map<string, { calls: number }>();
  readonly #told = new LastTold();
  /** What a call of GraphQL costs: GitHub tells only what is left, so it is what became of that lately, per answer. */
  #pointsPerQuery = 1;
  /** When calls were wanted lately, by what they wanted; the size of the next lease follows from it. */
  readonly #starts = new Map<string, number[]>();

  /** @param vault Where the tokens are. */
  constructor(vault: Vault) {
    this.#vault = vault;
  }

  /**
   * Takes one call: of the lease at hand, or of a new one.
   *
   * @param resource The bucket.
   * @param id Only of this token.
   * @returns The call, or null when nothing is usable now.
   * @throws {PoolError} With code `config`, `wrong_key` or `database`.
   */
  async take(resource: string, id?: number): Promise<Ticket | null> {
    const key = keyOf(resource, id);
    this.#noteStart(key);
    const ticket = this.#takeAtHand(resource, id);
    if (ticket !== null) return ticket;
    return await new Promise<Ticket | null>((resolve, reject) => {
      const queue = this.#queues.get(key) ?? [];
      queue.push({ resolve, reject });
      if (this.#queues.has(key)) return;
      this.#queues.set(key, queue);
      void this.#serve(queue, resource, id);
    });
  }

  /** Takes one call of the lease at hand, or returns null when there is none; needs no waiting. */
  takeAtHand(resource: string, id?: number): Ticket | null {
    const ticket = this.#takeAtHand(resource, id);
    if (ticket !== null) this.#noteStart(keyOf(resource, id)); // else take() will
    return ticket;
  }

  #takeAtHand(resource: string, id: number | undefined): Ticket | null {
    const holdings = this.#holdings.get(resource);
    if (holdings === undefined) return null;
    const now = this.#vault.now();
    for (const holding of holdings) {
      if (isOver(holding, now) || (id !== undefined && holding.id !== id)) continue;
      holding.left--;
      holding.inFlight.calls++;
      return { id: holding.id, token: holding.secret, sealed: holding.token, resource, holding };
    }
    return null;
  }

  /**
   * A call was answered, with numbers or without.
   *
   * @param ticket The call.
   * @param report What GitHub said remains; null when it did not.
   * @param isFree Whether the call cost nothing, as a 304.
   * @param isSuccess Whether it ends a row of refusals.
   */
  answered(
    ticket: Ticket,
    report: CompleteReport | null,
    { isFree, isSuccess }: { isFree: boolean; isSuccess: boolean },
  ): void {
    const holding = ticket.holding as Holding;
    holding.inFlight.calls--;
    const forgive = isSuccess && holding.strikes > 0;
    if (forgive) holding.strikes = 0;
    const isBeforeWindow = isFree && report !== null && !hasBegun(report);
    if (isBeforeWindow) this.#refund(holding);
    if (report === null || isBeforeWindow) {
      if (forgive) this.#note(holding.id, null, forgive);
      return;
    }
    const isMine = report.resource === holding.resource;
    if (isMine) {
      if (report.resource === "graphql") this.#learnCost(holding.said, report);
      holding.said = narrower(holding.said, report);
      holding.resetAt ??= report.resetAt; // the window that it was charged to has a name now
    }
    if (isFree) this.#refund(holding);
    if (isMine) this.#trim(holding, report);
    const isNews = forgive || !isMine || bringsNews(report, holding.known);
    if (!isNews && !this.#told.isLongAgo(keyOf(report.resource, holding.id), report)) return;
    this.#note(holding.id, report, forgive);
    if (isMine) holding.known = afterMerge(holding.known, report);
    if (isMine && isNews && report.remaining - floorAt(report.limit, holding) <= FEW_CALLS) this.#isUrgent = true;
  }

  /** Tells the database at once what cannot wait for the next lease. If it is away, that waits all the same. */
  async hurry(): Promise<void> {
    if (!this.#isUrgent) return;
    try {
      await this.#exchange(null);
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
    }
  }

  /** A call was not answered at all: GitHub may have counted it. */
  failed(ticket: Ticket): void {
    (ticket.holding as Holding).inFlight.calls--;
  }

  /** A call was not made after all. */
  unused(ticket: Ticket): void {
    const holding = ticket.holding as Holding;
    holding.inFlight.calls--;
    this.#refund(holding);
  }

  /**
   * A token must not be used any more: its leases end here, and what is left of them is not given back.
   *
   * @param ticket The call that was refused.
   * @param limited The bucket, if it was refused for what remains of that one: calls of others may still be made.
   */
  drop(ticket: Ticket, limited: string | null): void {
    (ticket.holding as Holding).inFlight.calls--;
    for (const [resource, holdings] of this.#holdings) {
      if (limited !== null && resource !== limited && resource !== ticket.resource) continue;
      this.#holdings.set(resource, holdings.filter(({ id }) => id !== ticket.id));
    }
  }

  /** Gives everything back and reports what has not been. */
  async close(): Promise<void> {
    const now = this.#vault.now();
    for (const [resource, holdings] of this.#holdings) {
      for (const holding of holdings) this.#end(holding, isOver(holding, now));
      this.#holdings.delete(resource);
    }
    if (this.#reports.size === 0 && this.#unused.length === 0) return;
    await this.#exchange(null, Infinity);
  }

  /** Serves who waits, in order, as leases come in: no more are woken than there are calls. */
  async #serve(queue: Waiter[], resource: string, id: number | undefined): Promise<void> {
    let served = 0;
    try {
      while (served < queue.length && await this.#claim(resource, id)) {
        for (; served < queue.length; served++) {
          const ticket = this.#takeAtHand(resource, id);
          if (ticket === null) break;
          queue[served]!.resolve(ticket);
        }
      }
      for (const { resolve } of queue.slice(served)) resolve(null);
    } catch (error) {
      for (const { reject } of queue.slice(served)) reject(error);
    } finally {
      this.#queues.delete(keyOf(resource, id));
    }
  }

  async #claim(resource: string, id: number | undefined): Promise<boolean> {
    const { config } = await this.#vault.unlock();
    if (config.TOKEN_POOL_DISABLED) return false;
    const seen = new Set<number>();
    while (seen.size < CLAIMS_AT_MOST) {
      this.#sweep(resource);
      const lease = await this.#exchange({
        resource,
        most: this.#size(resource, id),
        ...(id === undefined ? {} : { id }),
      });
      if (lease === null || seen.has(lease.id)) return false;
      seen.add(lease.id);
      const secret = await this.#vault.openText(lease.token, "token", lease.githubUserId);
      if (secret !== null) {
        this.#hold(lease, secret);
        return true;
      }
      await this.#vault.noteUnreadable(lease);
    }
    return false;
  }

  /** One round trip, with what has gathered meanwhile. */
  async #exchange(wanted: Exchange["wanted"], reportsAtMost = REPORTS_AT_MOST): Promise<Lease | null> {
    const { store } = await this.#vault.unlock();
    const luggage = this.#luggage(reportsAtMost);
    try {
      return await store.exchange({ ...luggage, wanted });
    } catch (error) {
      // What was unused may have been given back already; to do so twice would give away the donor's own.
      for (const { id, report, forgive } of luggage.reports) this.#note(id, report, forgive);
      throw error;
    }
  }

  #hold(lease: Lease, secret: string): void {
    const { id, limit, remaining, floor, resetAt, granted, resource } = lease;
    const key = keyOf(resource, id);
    const inFlight = this.#inFlight.get(key) ?? { calls: 0 };
    this.#inFlight.set(key, inFlight);
    this.#told.see(key, { remaining, resetAt });
    const holding: Holding = {
      ...lease,
      secret,
      left: granted,
      inFlight,
      endsAt: this.#vault.now() + (remaining - floor <= FEW_CALLS ? SHORT_LEASE_MS : LEASE_MS),
      said: null,
      known: { limit, remaining, resetAt },
    };
    this.#holdings.set(resource, [...this.#holdings.get(resource) ?? [], holding]);
  }

  /** Ends the leases of a resource that are used up or too old. */
  #sweep(resource: string): void {
    const now = this.#vault.now();
    const [ended, kept]: [Holding[], Holding[]] = [[], []];
    for (const holding of this.#holdings.get(resource) ?? []) {
      (isOver(holding, now) ? ended : kept).push(holding);
    }
    this.#holdings.set(resource, kept);
    for (const holding of ended) {
      this.#end(holding, true);
      const isLast = holding.inFlight.calls === 0 && !kept.some(({ id }) => id === holding.id);
      if (isLast) this.#inFlight.delete(keyOf(resource, holding.id));
    }
  }

  #end(holding: Holding, isLate: boolean): void {
    if (holding.left <= 0) return;
    const { id, resource, left: calls, windowEnds, resetAt, said } = holding;
    const ceiling = said === null ? null : said.remaining - holding.inFlight.calls;
    // By the window that they were charged to: what GitHub has said since may be of the next one.
    this.#unused.push({ id, resource, calls, windowEnds, resetAt, ceiling, isLate });
    holding.left = 0;
  }

  /** A free call goes back into its lease, or into the pool if the lease has ended meanwhile. */
  #refund(holding: Holding): void {
    holding.left++;
    if (this.#holdings.get(holding.resource)?.includes(holding) !== true) this.#end(holding, false);
  }

  #trim(holding: Holding, { limit, remaining, resetAt }: CompleteReport): void {
    const isOlder = holding.resetAt !== null && resetAt < holding.resetAt - SAME_WINDOW_SECONDS;
    if (!isOlder) {
      const points = holding.resource === "graphql" ? this.#pointsPerQuery : 1;
      const calls = Math.floor((remaining - floorAt(limit, holding)) / points) - holding.inFlight.calls;
      holding.left = Math.min(holding.left, Math.max(0, calls));
    }
  }

  #learnCost(said: KnownWindow | null, { remaining, resetAt }: CompleteReport): void {
    if (said?.resetAt == null || Math.abs(resetAt - said.resetAt) > SAME_WINDOW_SECONDS) return;
    const points = Math.max(0, said.remaining - remaining);
    this.#pointsPerQuery = Math.max(1, this.#pointsPerQuery + (points - this.#pointsPerQuery) / QUERIES_REMEMBERED);
  }

  #note(id: number, report: CompleteReport | null, forgive: boolean): void {
    const key = keyOf(report?.resource ?? "", id);
    if (report !== null) this.#told.tell(key, report);
    const noted = this.#reports.get(key);
    const merged = noted?.report && report ? merge(noted.report, report) : report;
    this.#reports.set(key, { id, report: merged, forgive: forgive || noted?.forgive === true });
  }

  #luggage(most: number): Pick<Exchange, "reports" | "unused"> {
    const reports = [...this.#reports.entries()].slice(0, most);
    for (const [key] of reports) this.#reports.delete(key);
    this.#isUrgent = false;
    const unused = this.#unused;
    this.#unused = [];
    return { reports: reports.map(([, report]) => report), unused };
  }

  #noteStart(key: string): void {
    let starts = this.#starts.get(key);
    if (starts === undefined) this.#starts.set(key, starts = []);
    starts.push(this.#vault.now());
    if (starts.length > MOST_CALLS) starts.shift();
  }

  #size(resource: string, id: number | undefined): number {
    const since = this.#vault.now() - RATE_WINDOW_MS;
    const recent = (this.#starts.get(keyOf(resource, id)) ?? []).filter((start) => start > since).length;
    const most = resource === "search" || resource === "code_search" ? MOST_CALLS_OF_SEARCH : MOST_CALLS;
    return Math.max(1, Math.min(most, recent));
  }
}

/** Used up or too old; by a clock that was set back it would otherwise be as young again as that. */
function isOver({ left, endsAt }: Holding, now: number): boolean {
  return left <= 0 || now >= endsAt || now < endsAt - LEASE_MS;
}

/** The donor's part of a limit that GitHub names, which need not be the one that the lease was taken by. */
function floorAt(limit: number, lease: Lease): number {
  return Math.ceil(lease.floor * limit / (lease.limit ?? assumedWindow(lease.resource).calls));
}

/** What is wanted: calls of any token, or of one. */
function keyOf(resource: string, id: number | undefined): string {
  return id === undefined ? resource : `${resource} ${id}`;
}

/** Of two reports of one token the one that says less remains (the larger limit of equals), or the newer window. */
function merge(one: CompleteReport, other: CompleteReport): CompleteReport {
  const newer = other.resetAt - one.resetAt;
  if (Math.abs(newer) > SAME_WINDOW_SECONDS) return newer > 0 ? other : one;
  const lessBy = one.remaining - other.remaining || other.limit - one.limit;
  return { ...(lessBy > 0 ? other : one), resetAt: Math.max(one.resetAt, other.resetAt) };
}

function narrower(known: KnownWindow | null, { limit, remaining, resetAt }: CompleteReport): KnownWindow {
  if (known === null || known.resetAt === null || resetAt > known.resetAt + SAME_WINDOW_SECONDS) {
    return { limit, remaining, resetAt };
  }
  if (resetAt < known.resetAt - SAME_WINDOW_SECONDS) return known;
  return { limit, remaining: Math.min(known.remaining, remaining), resetAt: Math.max(known.resetAt, resetAt) };
}

/** What the database will know after a merge; the smaller count, because the lease is charged there already. */
function afterMerge(known: KnownWindow, { resource, limit, remaining, resetAt }: CompleteReport): KnownWindow {
  if (known.resetAt !== null && resetAt < known.resetAt - SAME_WINDOW_SECONDS) return known; // it is dropped there
  const isSameLimit = (known.limit ?? assumedWindow(resource).calls) === limit;
  const isSameWindow = known.resetAt === null || resetAt <= known.resetAt + SAME_WINDOW_SECONDS;
  return {
    limit,
    remaining: isSameLimit && isSameWindow ? Math.min(known.remaining, remaining) : remaining,
    resetAt: Math.max(known.resetAt ?? 0, resetAt),
  };
}
