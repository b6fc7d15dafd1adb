/**
 * Pure judgement: what a response of GitHub says of the token that it was asked with.
 *
 * The rows of the decision table, first match wins; facts in docs.github.com/rest/using-the-rest-api
 * (rate-limits-for-the-rest-api, troubleshooting-the-rest-api, best-practices).
 *
 * | row | response | verdict |
 * |---|---|---|
 * | 1 | of an OAuth endpoint, or of a host that is not the API and names no limits | ignore |
 * | 2 | 401 that blames the request: no credentials sent, one-time password, JWT | ignore |
 * | 3, 4 | any other 401 | suspect: out of rotation until GitHub has been asked; its numbers are not the token's |
 * | 5 | 403, account suspended | remove |
 * | 6 | 403, too many failed logins | bench the user 15 min, doubling to 6 h |
 * | 7 | the limits of an anonymous caller | ignore: the token was not used |
 * | 8 | 403, 429 or GraphQL: a secondary limit that says how long | bench the user that long |
 * | 9 | 403 or 429 with nothing remaining | exhausted until the reset |
 * | 10 | GraphQL: rate limited; what merely has nothing remaining is row 16 | exhausted until the reset |
 * | 11, 12 | 403, 429 or GraphQL: a secondary limit that does not say how long | bench the user 60 s, doubling to 1 h |
 * | 13 | primary limit exceeded, without usable numbers | bench the resource 60 s, doubling to 1 h |
 * | 14 | any other 403 | the caller's problem: take in the numbers |
 * | 15 | 304 | take in the numbers; the call was free |
 * | 16, 17 | 2xx, 3xx and other 4xx | take in the numbers, if there are any; a success |
 * | 18 | 5xx | take in the numbers, if there are any |
 * | 19 | 2xx of a token that has scopes | remove, and revoke: the pool promises that tokens have none |
 * | 20 | any with an expiry of the token | note it |
 *
 * @module
 */

import {
  type CompleteReport,
  completeReport,
  DEFAULT_RESOURCE,
  isResource,
  parseRateLimitHeaders,
  pathOf,
  type RateLimitInfo,
  resourceOf,
} from "./rate_limit.ts";

/** A response, as far as it matters. */
export interface Observation {
  status: number;
  headers: Headers;
  /** What {@linkcode needsBody} asks for; empty when it was not or could not be read. */
  body: string;
  /** Where the response came from; null when that is not known. */
  url: string | null;
}

/** How long to bench when GitHub does not say. */
export interface Backoff {
  baseSeconds: number;
  mostSeconds: number;
}

/** What a response does to a token. */
export type Verdict =
  | { kind: "ignore" }
  | { kind: "suspect" }
  | { kind: "remove"; reason: "account_suspended" | "has_scopes" }
  | { kind: "bench_user"; seconds: number | null; backoff: Backoff; report: CompleteReport | null }
  | { kind: "bench_resource"; resource: string; seconds: number | null; backoff: Backoff }
  | { kind: "exhausted"; report: CompleteReport }
  | { kind: "usage"; report: CompleteReport | null; isFree: boolean; isSuccess: boolean };

/** "Otherwise, wait for at least one minute […] exponentially increasing" (GitHub's rate limit page). */
const SECONDARY_BACKOFF: Backoff = { baseSeconds: 60, mostSeconds: 3600 };
const LOGIN_BACKOFF: Backoff = { baseSeconds: 900, mostSeconds: 21_600 };
const LONGEST_WAIT_SECONDS = 86_400;

/** Nobody who is logged in has so few calls an hour; anybody who is not has (docs: 60 for unauthenticated requests). */
export const ANONYMOUS_LIMIT = 60;

/** Whether the verdict depends on the body, so that it is read only then. */
export function needsBody(status: number, headers: Headers, url: string | null): boolean {
  return status === 401 || status === 403 || status === 429 || (status === 200 && isGraphql(headers, url));
}

/**
 * Judges a response.
 *
 * @param observation The response.
 * @param apiUrl Where the API is, so that answers of other hosts are not taken for GitHub's.
 */
export function judge(observation: Observation, apiUrl: string): Verdict {
  const { status, headers, url } = observation;
  const info = parseRateLimitHeaders(headers);
  if (isForeign(url, apiUrl, info)) return { kind: "ignore" };

  const resource = info.resource ?? resourceOf(url);
  const report = completeReport(info, resource);
  const isRefusal = status === 403 || status === 429;
  const isGraphqlAnswer = status === 200 && resource === "graphql";
  const said = status === 401 || isRefusal || isGraphqlAnswer
    ? readBody(observation.body, isGraphqlAnswer)
    : NOTHING_SAID;

  if (status === 401) return blamesRequest(headers, said) ? { kind: "ignore" } : { kind: "suspect" };
  if (
    (status === 403 && /account was suspended/i.test(said.message)) ||
    /^sorry\. your account was suspended/im.test(said.message)
  ) {
    return { kind: "remove", reason: "account_suspended" };
  }
  if (status === 403 && /login attempts exceeded/i.test(said.message)) {
    return { kind: "bench_user", seconds: null, backoff: LOGIN_BACKOFF, report: null };
  }
  if (isAnonymous(info, headers, resource, said)) return { kind: "ignore" };
  if (isRefusal || isGraphqlAnswer) {
    const refused = judgeRefusal(observation, info, resource, report, said);
    if (refused !== null) return refused;
  }
  if (status >= 200 && status < 300 && (headers.get("x-oauth-scopes") ?? "").trim() !== "") {
    return { kind: "remove", reason: "has_scopes" };
  }
  return { kind: "usage", report, isFree: status === 304, isSuccess: !isRefusal && status < 500 };
}

/** When the token of a response expires, in epoch milliseconds; null when the response does not say. */
export function tokenExpiry(headers: Headers): number | null {
  // "2022-01-19 07:08:40 UTC", also seen with a numeric offset (google/go-github#2649)
  const text = headers.get("github-authentication-token-expiration") ?? "";
  const parts = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) (UTC|[+-]\d{4})$/.exec(text);
  const time = parts === null ? NaN : Date.parse(`${parts[1]}T${parts[2]}${parts[3]!.replace("UTC", "Z")}`);
  return Number.isNaN(time) ? null : time;
}

/** Rows 8 to 13: what kind of limit refused the call, if it was one. */
function judgeRefusal(
  { status, headers }: Observation,
  info: RateLimitInfo,
  resource: string,
  report: CompleteReport | null,
  said: Said,
): Verdict | null {
  const isGraphqlAnswer = status === 200;
  // A GraphQL error may quote the caller's own query, so only GitHub's phrases count there.
  const phrase = isGraphqlAnswer
    ? /^you have (?:exceeded|triggered) an? (?:secondary rate|abuse detection)/im
    : /\bsecondary rate\b|abuse detection/i;
  const isSecondary = phrase.test(said.message) ||
    /secondary-rate-limits$|#abuse-rate-limits$/.test(said.documentationUrl) || headers.has("gh-limited-by");
  const waitSeconds = info.retry_after === null ? null : Math.min(LONGEST_WAIT_SECONDS, Math.max(1, info.retry_after));

  if (waitSeconds !== null && (isSecondary || !isGraphqlAnswer)) {
    return { kind: "bench_user", seconds: waitSeconds, backoff: SECONDARY_BACKOFF, report };
  }
  const isPrimary = isGraphqlAnswer
    ? said.errorTypes.some((type) => type === "RATE_LIMITED" || type === "RATE_LIMIT")
    : /API rate limit (?:already )?exceeded(?! for app ID)/i.test(said.message);
  // A GraphQL answer that took the last point is an answer: its numbers say the rest.
  if (info.remaining === 0 && report !== null && (!isGraphqlAnswer || isPrimary)) return { kind: "exhausted", report };
  if (isSecondary || (status === 429 && !isPrimary)) {
    return { kind: "bench_user", seconds: null, backoff: SECONDARY_BACKOFF, report };
  }
  if (isPrimary && isGraphqlAnswer && report !== null) {
    return { kind: "exhausted", report: { ...report, remaining: 0 } };
  }
  if (isPrimary || (info.remaining === 0 && !isGraphqlAnswer)) {
    return { kind: "bench_resource", resource, seconds: null, backoff: SECONDARY_BACKOFF };
  }
  return null;
}

/** What GitHub says in a body, as far as it is about limits. */
interface Said {
  message: string;
  documentationUrl: string;
  errorTypes: unknown[];
}

const NOTHING_SAID: Said = { message: "", documentationUrl: "", errorTypes: [] };

/**
 * Reads a body. A body that is not JSON counts as its own message, but not the answer to a GraphQL query, nor any
 * such answer with data: what repositories contain must not be taken for GitHub's words.
 */
function readBody(body: string, isGraphqlAnswer: boolean): Said {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return isGraphqlAnswer ? NOTHING_SAID : { ...NOTHING_SAID, message: body };
  }
  if (typeof parsed !== "object" || parsed === null) return NOTHING_SAID;
  const { message, documentation_url: documentationUrl, errors, data } = parsed as Record<string, unknown>;
  const listed = (Array.isArray(errors) ? errors : []) as { type?: unknown; message?: unknown }[];
  const messages = [message, ...(isGraphqlAnswer && !data ? listed.map((error) => error?.message) : [])];
  return {
    message: messages.filter((text) => typeof text === "string").join("\n"),
    documentationUrl: typeof documentationUrl === "string" ? documentationUrl : "",
    errorTypes: listed.map((error) => error?.type),
  };
}

function blamesRequest(headers: Headers, { message }: Said): boolean {
  return headers.has("x-github-otp") || /requires authentication|JSON web token|one-time password/i.test(message);
}

function isAnonymous(info: RateLimitInfo, headers: Headers, resource: string, { message }: Said): boolean {
  if (/API rate limit exceeded for .+\(But here's the good news/is.test(message)) return true;
  const isCore = resource === DEFAULT_RESOURCE;
  return isCore && info.limit !== null && info.limit <= ANONYMOUS_LIMIT && !headers.has("x-oauth-scopes");
}

function isGraphql(headers: Headers, url: string | null): boolean {
  const named = headers.get("x-ratelimit-resource");
  return (named !== null && isResource(named) ? named : resourceOf(url)) === "graphql";
}

/** Of the endpoints that are asked by the app, not by a token of the pool. */
const OAUTH_PATH = /^\/(?:(?:applications|login)\/|credentials\/revoke(?:[?#]|$))/;

/** Row 1. What is not the API says nothing of a token, unless it names limits. */
function isForeign(url: string | null, apiUrl: string, info: RateLimitInfo): boolean {
  if (url === null) return false;
  // Taking a URL apart takes as long as the rest of the judgement, so that is spared where it is plainly the API's.
  const isPlainlyApi = url.startsWith(`${apiUrl}/`);
  if (OAUTH_PATH.test(isPlainlyApi ? url.slice(apiUrl.length) : pathOf(url))) return true;
  if (isPlainlyApi || !URL.canParse(url)) return false;
  const { origin, hostname, pathname } = new URL(url);
  const isApi = origin === new URL(apiUrl).origin || hostname.startsWith("api.") || pathname.startsWith("/api/") ||
    /^(?:localhost|127\.0\.0\.1|\[::1\])$/.test(hostname); // an emulator, or a tunnel to GitHub Enterprise
  return !isApi && info.limit === null;
}
