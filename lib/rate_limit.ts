/**
 * Pure knowledge of GitHub's rate limits: headers in, numbers out.
 *
 * Units as GitHub has them: `x-ratelimit-reset` is epoch **seconds**, `retry-after` is seconds; the pool's own clock
 * is epoch **milliseconds**. Unclear means "not known" (null), never 0.
 *
 * Merge rule (done by `lib/store.ts` in one statement; {@linkcode bringsNews} is its fixed point):
 *
 * | the report's reset is | then |
 * |---|---|
 * | within 5 s of the known one | same window: the smaller remaining with the limit that it is of, the later reset |
 * | later | a newer window: it replaces |
 * | earlier | an older window: the report is dropped |
 *
 * @module
 */

/** What the rate limit headers of a response say; null = GitHub did not say. */
export interface RateLimitInfo {
  /** Calls per window. */
  limit: number | null;
  /** Calls left in the window. */
  remaining: number | null;
  /** Calls used in the window. */
  used: number | null;
  /** End of the window, epoch seconds. */
  reset_at: number | null;
  /** Name of the bucket, such as `core`, `search` or `graphql`. */
  resource: string | null;
  /** Seconds to wait, sent with most secondary limits. */
  retry_after: number | null;
}

/** A report that counts: limit, remaining and reset are all known. */
export interface CompleteReport {
  resource: string;
  limit: number;
  remaining: number;
  /** Epoch seconds. */
  resetAt: number;
}

/** What a process remembers of its latest hand-out of a token. */
export interface KnownWindow {
  limit: number | null;
  remaining: number;
  /** Epoch seconds; null while the window is provisional. */
  resetAt: number | null;
}

/** The bucket of everything that has none of its own. */
export const DEFAULT_RESOURCE = "core";

/** GitHub's reset jitters by a second between calls (badges/shields PR #4590); closer than this is the same window. */
export const SAME_WINDOW_SECONDS = 5;

/** After the printed reset a limit may need one more second (octokit/plugin-throttling waits as long). */
export const RESET_SLACK_MS = 1000;

/** Ten digits are enough until the year 2286; a larger reset is milliseconds or garbage. */
const RESET_CEILING_SECONDS = 1e11;

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

/**
 * Calls per window of a resource until GitHub says otherwise.
 * Sources: docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api, …/rest/search/search (search 30 and
 * code search 9 per minute). An unknown resource gets the smallest limit that GitHub grants anybody.
 */
const ASSUMED_WINDOWS: ReadonlyMap<string, { calls: number; windowMs: number }> = new Map([
  ["core", { calls: 5000, windowMs: HOUR_MS }],
  ["graphql", { calls: 5000, windowMs: HOUR_MS }],
  ["search", { calls: 30, windowMs: MINUTE_MS }],
  ["code_search", { calls: 9, windowMs: MINUTE_MS }],
]);

/** The limit and window that a resource is taken to have until GitHub has said. */
export function assumedWindow(resource: string): { calls: number; windowMs: number } {
  return ASSUMED_WINDOWS.get(resource) ?? { calls: 60, windowMs: HOUR_MS };
}

const RESOURCE_PATTERN = /^[a-z0-9_]{1,64}$/;

/** Whether GitHub could have a bucket of that name. */
export function isResource(name: string): boolean {
  return RESOURCE_PATTERN.test(name);
}

/**
 * Checks the name of a resource that a caller asks for.
 *
 * @throws {TypeError} When it is not a string.
 * @throws {RangeError} When GitHub could not have a bucket of that name.
 */
export function assertResource(resource: unknown): asserts resource is string {
  if (typeof resource !== "string") {
    throw new TypeError(`Cannot use a resource of type ${typeof resource}: give a name such as "core"`);
  }
  if (!isResource(resource)) {
    throw new RangeError(
      'Cannot use this resource: a name is 1 to 64 of a-z, 0-9 and "_", such as "core" or "code_search"',
    );
  }
}

/**
 * Reads the rate limit headers of a GitHub response.
 *
 * Never throws and never invents a number: what is absent, or not written in at most 15 digits, is null.
 *
 * @param headers The headers of a response; a plain object or a list of pairs does as well.
 * @returns What GitHub said.
 *
 * @example What is left of the hour
 * ```ts
 * import { parseRateLimitHeaders } from "./pool.ts";
 * import assert from "node:assert/strict";
 *
 * const headers = new Headers({ "x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999" });
 * const info = parseRateLimitHeaders(headers);
 * assert.equal(info.remaining, 4999);
 * assert.equal(info.reset_at, null); // GitHub did not say
 * ```
 */
export function parseRateLimitHeaders(headers: Headers): RateLimitInfo {
  const read = readerOf(headers);
  const resetAt = wholeNumber(read("x-ratelimit-reset"));
  const resource = read("x-ratelimit-resource");
  return {
    limit: wholeNumber(read("x-ratelimit-limit")),
    remaining: wholeNumber(read("x-ratelimit-remaining")),
    used: wholeNumber(read("x-ratelimit-used")),
    reset_at: resetAt !== null && resetAt < RESET_CEILING_SECONDS ? resetAt : null,
    resource: resource !== null && isResource(resource) ? resource : null,
    retry_after: wholeNumber(read("retry-after")),
  };
}

/** Whatever is given, reading it does not throw: what cannot be read is not there. */
function readerOf(headers: unknown): (name: string) => string | null {
  return (name) => {
    try {
      const known = headers instanceof Headers ? headers : new Headers(headers as HeadersInit);
      const text: unknown = known.get(name);
      return typeof text === "string" ? text : null;
    } catch {
      return null;
    }
  };
}

function wholeNumber(text: string | null): number | null {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/**
 * The report in a {@linkcode RateLimitInfo}, or null when it does not count because a number is missing or absurd.
 *
 * @param info What GitHub said.
 * @param fallbackResource The bucket to charge when GitHub did not name one.
 */
export function completeReport(info: RateLimitInfo, fallbackResource: string): CompleteReport | null {
  const resource = info.resource ?? fallbackResource;
  const { limit, remaining, reset_at: resetAt } = info;
  if (!isCount(limit) || limit < 1 || !isCount(remaining) || !isCount(resetAt)) return null;
  if (resetAt >= RESET_CEILING_SECONDS || !isResource(resource)) return null;
  return { resource, limit, remaining: Math.min(remaining, limit), resetAt };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value < 1e15;
}

/**
 * Whether a report is of a window that has begun. Before the first call that counts GitHub prints one that would begin
 * now, so what it prints moves on with every free call, and says nothing of what is charged meanwhile.
 */
export function hasBegun({ limit, remaining }: CompleteReport): boolean {
  return remaining < limit;
}

/**
 * Whether a report could change the row that a hand-out of this process came from. The database only ever knows the
 * same or worse than that hand-out, so a report that says no more than it already knew need not be written.
 */
export function bringsNews(report: CompleteReport, known: KnownWindow | undefined): boolean {
  if (known === undefined || known.resetAt === null || known.limit !== report.limit) return true;
  return report.resetAt > known.resetAt || report.remaining < known.remaining;
}

/**
 * The bucket that a request to the API draws on, by its path; the header, where there is one, knows better.
 *
 * @param url The URL of the request or of its response; null or an empty string when it is not known.
 */
export function resourceOf(url: string | URL | null): string {
  const path = pathOf(url);
  if (path === "/graphql") return "graphql";
  if (path === "/search/code") return "code_search";
  return path.startsWith("/search/") ? "search" : DEFAULT_RESOURCE;
}

/** The path of an API URL, without the prefix that GitHub Enterprise Server puts before it. */
export function pathOf(url: string | URL | null): string {
  const known = typeof url === "string" && URL.canParse(url) ? new URL(url) : url;
  return (known instanceof URL ? known.pathname : "").replace(/^\/api(?:\/v3)?(?=\/)/, "");
}
