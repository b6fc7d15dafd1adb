/**
 * A model of GitHub's rate limits that is cheap enough for millions of calls, and that knows the truth: who used what
 * of each window, what was refused and why, and what went into a part that a donor keeps.
 *
 * `arrive` and `depart` are a call's two ends, in between it is in flight; its answer is a plain object. The true time
 * is the scheduler's; GitHub's own clock may differ from it. Where the figures come from:
 * docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api (limits, secondary limits), and
 * badges/shields PR #4590 (the printed reset jitters by a second).
 *
 * A window starts at the first call that counts and ends on a whole second of GitHub's clock. A call counts when it is
 * neither refused nor a 304. What is refused, in this order: a token that is not known (401), an account that is
 * suspended (403), too many calls in flight or in a minute (secondary limit), nothing left of the window (primary).
 *
 * @module
 */

import { type AnswerKind, type ModelAnswer, noCounts, withoutNumbers } from "./github_answer.ts";
import type { Random } from "./random.ts";

export { type AnswerKind, type ModelAnswer, toResponse } from "./github_answer.ts";

/** How GitHub behaves; what is absent is how it is on a good day. */
export interface GitHubModelOptions {
  random: Random;
  /** The true time, epoch milliseconds. */
  now: () => number;
  /** GitHub's clock less the true time, in milliseconds. */
  skewMs?: number;
  /** Probability that a printed reset is off by a second, either way. */
  resetJitter?: number;
  /** Probability that a good token is answered with 401, with the numbers of an anonymous caller. */
  falseUnauthorized?: number;
  /** Probability of a 403 that is no limit. */
  forbidden?: number;
  /** Probability of a 502, without numbers. */
  serverError?: number;
  /** Probability that an answer has no numbers. */
  noNumbers?: number;
  /** Probability that a secondary limit says how long. Default 0.5. */
  retryAfter?: number;
  /** Calls per window by resource, where they are not GitHub's. */
  limits?: Record<string, number>;
  /** Calls in flight of one user. Default 100. */
  inFlightAtMost?: number;
  /** Calls of one user in a minute. Default 900. */
  pointsPerMinute?: number;
}

/** One window of one user and resource. */
export interface ModelWindow {
  /** Epoch milliseconds of the true time, like the next. */
  readonly startsAt: number;
  readonly endsAt: number;
  readonly limit: number;
  /** Calls that counted, by whom they were made. */
  ours: number;
  donors: number;
  /** Our calls that left fewer than the donor keeps, whoever used the rest. */
  intoReserve: number;
}

/** Somebody with an account, and the truth about it. */
export interface ModelUser {
  readonly id: number;
  readonly login: string;
  /** The share of each limit that this user keeps; only to count by. Null = not a donor. */
  reserve: number | null;
  isSuspended: boolean;
  readonly windows: Map<string, ModelWindow>;
  readonly tokens: Set<string>;
  inFlight: number;
  peakInFlight: number;
  /** Calls since `minuteStartsAt`, for a minute. */
  points: number;
  minuteStartsAt: number;
  peakPoints: number;
  /** Under a secondary limit until then; epoch milliseconds. */
  heldUntil: number;
}

/** What has happened so often. `ours` are calls with a token of the pool, `donors` the users' own. */
export interface ModelCounts {
  ours: Record<AnswerKind, number>;
  donors: Record<AnswerKind, number>;
  /** Our calls that left fewer than the donor keeps. */
  intoReserve: number;
  /** Of these, the ones that our calls alone explain: the donor's own use left aside. */
  ownOverdraft: number;
}

/** A call. */
export interface ModelCall {
  token: string;
  resource: string;
  /** Whether the answer is the same as one that the caller has: then it is a 304, and free. */
  isUnchanged?: boolean;
  /** What it counts: points, of a GraphQL query. Default 1. */
  cost?: number;
}

const LIMITS: Readonly<Record<string, { limit: number; seconds: number }>> = {
  core: { limit: 5000, seconds: 3600 },
  graphql: { limit: 5000, seconds: 3600 },
  search: { limit: 30, seconds: 60 },
  code_search: { limit: 10, seconds: 60 },
};
const OTHER_LIMIT = { limit: 60, seconds: 3600 };
const ANONYMOUS = { limit: 60, remaining: 59 };

const MINUTE_MS = 60_000;

/** GitHub, its users and their windows. */
export class GitHubModel {
  readonly counts: ModelCounts = { ours: noCounts(), donors: noCounts(), intoReserve: 0, ownOverdraft: 0 };
  readonly users: ModelUser[] = [];
  /** Until then whatever comes with a token is answered with 401; epoch milliseconds. */
  outageUntil = 0;
  #options: Required<Omit<GitHubModelOptions, "limits">>;
  readonly #limits: Record<string, number>;
  readonly #byToken = new Map<string, ModelUser>();

  constructor({ limits = {}, ...options }: GitHubModelOptions) {
    this.#limits = limits;
    this.#options = {
      skewMs: 0,
      resetJitter: 0,
      falseUnauthorized: 0,
      forbidden: 0,
      serverError: 0,
      noNumbers: 0,
      retryAfter: 0.5,
      inFlightAtMost: 100,
      pointsPerMinute: 900,
      ...options,
    };
  }

  /** It behaves otherwise from now on. */
  behave(changes: Omit<GitHubModelOptions, "random" | "now" | "limits">): void {
    this.#options = { ...this.#options, ...changes };
  }

  /** Somebody signs up. */
  addUser(reserve: number | null = null): ModelUser {
    const id = 1001 + this.users.length;
    const user: ModelUser = {
      id,
      login: `user${id}`,
      reserve,
      isSuspended: false,
      windows: new Map(),
      tokens: new Set(),
      inFlight: 0,
      peakInFlight: 0,
      points: 0,
      minuteStartsAt: 0,
      peakPoints: 0,
      heldUntil: 0,
    };
    this.users.push(user);
    return user;
  }

  /** A user grants a token. */
  grant(user: ModelUser, token: string): void {
    user.tokens.add(token);
    this.#byToken.set(token, user);
  }

  /** A token dies. Returns whether it was alive. */
  revoke(token: string): boolean {
    this.#byToken.get(token)?.tokens.delete(token);
    return this.#byToken.delete(token);
  }

  /** Whose token it is; null when it is nobody's, or not any more. */
  ownerOf(token: string): ModelUser | null {
    return this.#byToken.get(token) ?? null;
  }

  /** A call with a token arrives, and is in flight until it departs. */
  arrive(call: ModelCall): ModelAnswer {
    const answer = this.#answer(call);
    this.counts.ours[answer.kind]++;
    return answer;
  }

  /** An answer is on its way back. */
  depart({ user }: ModelAnswer): void {
    if (user !== null) user.inFlight--;
  }

  /** A call that arrives and departs at once. */
  ask(call: ModelCall): ModelAnswer {
    const answer = this.arrive(call);
    this.depart(answer);
    return answer;
  }

  /** A user's own call, past the pool. */
  useOwn(user: ModelUser, resource: string): AnswerKind {
    const kind = this.#useOwn(user, resource);
    this.counts.donors[kind]++;
    return kind;
  }

  /** The window that is open, or null when the next call starts one. */
  windowOf(user: ModelUser, resource: string): ModelWindow | null {
    const window = user.windows.get(resource);
    return window !== undefined && window.endsAt > this.#options.now() ? window : null;
  }

  /** What is left of all limits, as `GET /rate_limit` tells it. */
  limitsOf(user: ModelUser): Record<string, { limit: number; remaining: number; used: number; reset: number }> {
    return Object.fromEntries([...new Set([...Object.keys(LIMITS), ...user.windows.keys()])].map((resource) => {
      const window = this.windowOf(user, resource);
      const limit = window?.limit ?? this.limitOf(resource);
      const used = Math.min(limit, window === null ? 0 : window.ours + window.donors);
      return [resource, { limit, remaining: limit - used, used, reset: this.#printedReset(window, resource) }];
    }));
  }

  /** Calls per window. */
  limitOf(resource: string): number {
    return this.#limits[resource] ?? (LIMITS[resource] ?? OTHER_LIMIT).limit;
  }

  /** What is printed of a window: the end of an open one, or of one that would start now. */
  #printedReset(window: ModelWindow | null, resource: string): number {
    const { random, resetJitter, skewMs } = this.#options;
    const endsAt = window?.endsAt ?? this.#endOf(resource);
    const jitter = resetJitter > 0 && random.chance(resetJitter) ? (random.chance(0.5) ? 1 : -1) : 0;
    return Math.round((endsAt + skewMs) / 1000) + jitter;
  }

  #answer({ token, resource, isUnchanged = false, cost = 1 }: ModelCall): ModelAnswer {
    const { random, now, falseUnauthorized, forbidden, serverError, noNumbers } = this.#options;
    const user = this.#byToken.get(token) ?? null;
    if (user !== null) user.peakInFlight = Math.max(user.peakInFlight, ++user.inFlight);
    if (now() < this.outageUntil) return this.#unauthorized("outage", user);
    if (user === null) return this.#unauthorized("unknown_token", user);
    if (falseUnauthorized > 0 && random.chance(falseUnauthorized)) {
      return this.#unauthorized("false_unauthorized", user);
    }
    if (user.isSuspended) return withoutNumbers("suspended", 403, resource, user, null);
    const waitSeconds = this.#secondary(user);
    if (waitSeconds !== null) {
      const retryAfter = random.chance(this.#options.retryAfter) ? waitSeconds : null;
      return withoutNumbers("secondary_limit", random.chance(0.5) ? 403 : 429, resource, user, retryAfter);
    }
    const window = this.windowOf(user, resource);
    const used = window === null ? 0 : window.ours + window.donors;
    if (window !== null && used >= window.limit) {
      return this.#withNumbers("primary_limit", random.chance(0.5) ? 403 : 429, resource, user, window);
    }
    if (isUnchanged) return this.#withNumbers("not_modified", 304, resource, user, window);
    if (serverError > 0 && random.chance(serverError)) return withoutNumbers("server_error", 502, resource, user, null);
    const counted = window ?? this.#open(user, resource);
    counted.ours += cost;
    this.#countReserve(user, counted);
    if (noNumbers > 0 && random.chance(noNumbers)) return withoutNumbers("ok", 200, resource, user, null);
    const isForbidden = forbidden > 0 && random.chance(forbidden);
    return this.#withNumbers(isForbidden ? "forbidden" : "ok", isForbidden ? 403 : 200, resource, user, counted);
  }

  #useOwn(user: ModelUser, resource: string): AnswerKind {
    if (user.isSuspended) return "suspended";
    const window = this.windowOf(user, resource) ?? this.#open(user, resource);
    if (window.ours + window.donors >= window.limit) return "primary_limit";
    window.donors++;
    return "ok";
  }

  #open(user: ModelUser, resource: string): ModelWindow {
    const window: ModelWindow = {
      startsAt: this.#options.now(),
      endsAt: this.#endOf(resource),
      limit: this.limitOf(resource),
      ours: 0,
      donors: 0,
      intoReserve: 0,
    };
    user.windows.set(resource, window);
    return window;
  }

  /** When a window that starts now ends: on a whole second of GitHub's clock. */
  #endOf(resource: string): number {
    const { now, skewMs } = this.#options;
    const { seconds } = LIMITS[resource] ?? OTHER_LIMIT;
    return (Math.floor((now() + skewMs) / 1000) + seconds) * 1000 - skewMs;
  }

  #countReserve(user: ModelUser, window: ModelWindow): void {
    if (user.reserve === null) return;
    const shared = window.limit - reservedCalls(user.reserve, window.limit);
    if (window.ours + window.donors > shared) {
      window.intoReserve++;
      this.counts.intoReserve++;
    }
    if (window.ours > shared) this.counts.ownOverdraft++;
  }

  /** Seconds to wait if a secondary limit refuses the call, else null. */
  #secondary(user: ModelUser): number | null {
    const { inFlightAtMost, pointsPerMinute } = this.#options;
    const now = this.#options.now();
    if (now >= user.minuteStartsAt + MINUTE_MS) {
      user.minuteStartsAt = now;
      user.points = 0;
    }
    user.peakPoints = Math.max(user.peakPoints, ++user.points);
    const isTooMuch = user.inFlight > inFlightAtMost || user.points > pointsPerMinute;
    if (isTooMuch && now >= user.heldUntil) user.heldUntil = now + MINUTE_MS;
    return now < user.heldUntil ? Math.ceil((user.heldUntil - now) / 1000) : null;
  }

  #unauthorized(kind: AnswerKind, user: ModelUser | null): ModelAnswer {
    const reset = Math.floor((this.#options.now() + this.#options.skewMs) / 1000) + 3600;
    return { kind, status: 401, resource: "core", ...ANONYMOUS, reset, retryAfter: null, user };
  }

  #withNumbers(
    kind: AnswerKind,
    status: number,
    resource: string,
    user: ModelUser,
    window: ModelWindow | null,
  ): ModelAnswer {
    const limit = window?.limit ?? this.limitOf(resource);
    const remaining = window === null ? limit : Math.max(0, limit - window.ours - window.donors);
    const reset = this.#printedReset(window, resource);
    return { kind, status, resource, limit, remaining, reset, retryAfter: null, user };
  }
}

/** The part of a limit that stays the donor's. Rounded to 6 digits first: 0.07 of 100 is 7. */
export function reservedCalls(reserve: number, limit: number): number {
  return Math.ceil(Math.round(reserve * limit * 1e6) / 1e6);
}
