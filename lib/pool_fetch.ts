/**
 * A `fetch` over the pool: takes a call of a lease, sends, takes in what GitHub answered, and goes on with the next token
 * when one is refused.
 *
 * @module
 */

import { AnswerDeadline, answerTo, discard, type Signal, wait } from "./abort.ts";
import { withoutDonorHeaders } from "./api_response.ts";
import type { Consumer } from "./consumer.ts";
import { PoolError } from "./errors.ts";
import type { Verdict } from "./health.ts";
import type { Leases, Ticket } from "./leases.ts";
import { assertResource, resourceOf } from "./rate_limit.ts";
import { type ApiRequest, assertAllowed, isApi, toApiRequest } from "./request_rules.ts";
import type { ResponseCache } from "./response_cache.ts";
import { SharedReads } from "./shared_reads.ts";
import type { Vault } from "./vault.ts";

/** How one request is to be made; given as `init.pool`. */
export interface PoolFetchOptions {
  /** The bucket; by default inferred from the path. */
  resource?: string;
  /** How many tokens are tried at most. Default 3. */
  maxAttempts?: number;
  /** How long to wait for a token when none is usable, in milliseconds. Default 0: not at all. */
  maxWaitMs?: number;
  /** Told what happens on the way. */
  onEvent?: (event: PoolFetchEvent) => void;
}

/** What happens on the way; never holds a secret. */
export type PoolFetchEvent =
  | { type: "sent"; tokenId: number; attempt: number }
  | { type: "answered"; tokenId: number; attempt: number; status: number }
  | { type: "rotated"; tokenId: number; attempt: number; reason: string }
  | { type: "waiting"; resource: string; untilMs: number }
  | { type: "cached"; tokenId: number };

/** `RequestInit`, and how the pool is to make the request. */
export type PoolRequestInit = RequestInit & { pool?: PoolFetchOptions };

/** What the function is made of. */
export interface PoolFetchParts {
  vault: Vault;
  consumer: Consumer;
  leases: Leases;
  /** Null = nothing is remembered. */
  cache: ResponseCache | null;
  fetch: typeof fetch;
  /** How long an answer may take to begin, in milliseconds. Default 15,000. */
  answerTimeoutMs?: number;
}

/** The other settings matter only when a lease is taken, which reads all of them. */
const READ_AT_EACH_CALL = ["GITHUB_API_URL", "TOKEN_POOL_DISABLED"] as const;

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const REDIRECTS_AT_MOST = 5;
const ATTEMPTS = 3;

/**
 * GitHub ends what takes it longer than 10 s (docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api), so
 * what takes longer than this never comes. Three attempts end within the minute that Val Town gives a run.
 */
const ANSWER_TIMEOUT_MS = 15_000;

/** While the pool is dry it is asked again no sooner than after the first of these, doubling up to the second. */
const FIRST_WAIT_MS = 10;
const LONGEST_FIRST_WAIT_MS = 1_000;

/** A longer timer goes off at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** What says who asks: none of another origin's business. */
const PRIVATE_HEADERS = ["authorization", "proxy-authorization", "cookie"];

/** A redirect that is not followed; another token would not help. */
class RedirectError extends TypeError {}

/** A call, answered. */
interface Answer {
  response: Response;
  /** Where it came from in the end, and whether that is elsewhere than was asked. */
  url: string;
  redirected: boolean;
  /** Whose ETag the answer has. */
  tokenId: number;
  /** Why another token should be tried; null = the answer is the caller's. */
  refusal: string | null;
}

/** Makes the function. */
export function createPoolFetch(
  parts: PoolFetchParts,
): (input: RequestInfo | URL, init?: PoolRequestInit) => Promise<Response> {
  const { vault, cache, fetch } = parts;
  const deadline = new AnswerDeadline(parts.answerTimeoutMs ?? ANSWER_TIMEOUT_MS);
  const reads = new SharedReads();
  /** Why there was nothing, asked once for all who wait. */
  const dry = new Map<string, Promise<PoolError>>();

  async function poolFetch(input: RequestInfo | URL, given?: PoolRequestInit | null): Promise<Response> {
    const init = given ?? {}; // to fetch, null says as little as undefined
    const options = init.pool ?? {};
    assertOptions(options);
    const config = vault.settings.glance(READ_AT_EACH_CALL) ?? vault.settings.read();
    const { GITHUB_API_URL: apiUrl, TOKEN_POOL_DISABLED: isDisabled } = config;
    const request = await toApiRequest(input, init, apiUrl);
    assertAllowed(request, apiUrl);
    // Who brings a token of their own does not need one of the pool's.
    if ("authorization" in request.headers) return await fetchInTime(request.target, {}, request.signal);
    if (isDisabled) throw new PoolError("exhausted", "The pool is switched off: TOKEN_POOL_DISABLED is set");
    const call = () => attempt(request, apiUrl, options);
    if (request.method !== "GET" || options.onEvent !== undefined) return await answerTo(call(), request.signal);
    return await reads.share(keyOf(request, options), request.signal, call);
  }

  async function attempt(request: ApiRequest, apiUrl: string, options: PoolFetchOptions): Promise<Response> {
    const resource = options.resource ?? resourceOf(request.url);
    const { signal } = request;
    const attempts = options.maxAttempts ?? ATTEMPTS;
    const { maxWaitMs = 0, onEvent } = options;
    const patience = { leftMs: maxWaitMs, signal, onEvent };
    const cached = cache?.find(request) ?? null;
    for (let n = 1;; n++) {
      const ticket = await takeTicket(resource, n === 1 ? cached?.tokenId : undefined, patience);
      const isRevalidation = n === 1 && cached !== null && ticket.id === cached.tokenId;
      tell({ type: "sent", tokenId: ticket.id, attempt: n }, onEvent, () => parts.leases.unused(ticket));
      let answer: Answer;
      try {
        answer = await send(isRevalidation ? onlyIfChanged(request, cached.etag) : request, ticket, apiUrl, patience);
      } catch (error) {
        const isFinal = error instanceof PoolError || error instanceof RedirectError;
        if (n >= attempts || signal?.aborted === true || isFinal) throw error;
        onEvent?.({ type: "rotated", tokenId: ticket.id, attempt: n, reason: "no answer" });
        continue;
      }
      const { response, url, redirected, refusal, tokenId } = answer;
      const { status } = response;
      tell({ type: "answered", tokenId: ticket.id, attempt: n, status }, onEvent, () => discard(response));
      if (refusal !== null && n < attempts) {
        await discard(response);
        onEvent?.({ type: "rotated", tokenId: ticket.id, attempt: n, reason: refusal });
        continue;
      }
      if (isRevalidation && status === 304) {
        onEvent?.({ type: "cached", tokenId: ticket.id });
        return cached.toResponse(response);
      }
      const clean = withoutDonorHeaders(response, url, redirected);
      return cache === null ? clean : await cache.keep(request, clean, tokenId);
    }
  }

  /** A call of a lease: of the wanted token if it may be used, else of any; waits as long as the caller allows. */
  async function takeTicket(
    resource: string,
    tokenId: number | undefined,
    patience: Patience,
  ): Promise<Ticket> {
    const { leases } = parts;
    const { signal, onEvent } = patience;
    for (let turn = 0;; turn++) {
      signal?.throwIfAborted();
      const wanted = tokenId === undefined || turn > 0 ? null : await leases.take(resource, tokenId);
      const ticket = wanted ?? leases.takeAtHand(resource) ?? await leases.take(resource);
      if (ticket !== null) {
        if (signal?.aborted === true) leases.unused(ticket);
        signal?.throwIfAborted();
        return ticket;
      }
      const exhausted = await whyDry(resource);
      const { retryAt } = exhausted;
      if (retryAt === null || patience.leftMs <= 0) throw exhausted;
      const untilRetryMs = Math.max(0, retryAt - vault.now());
      if (untilRetryMs > patience.leftMs) throw exhausted;
      onEvent?.({ type: "waiting", resource, untilMs: retryAt });
      // The database's clock may be behind ours, so that it says "now" more than once: never a busy loop.
      const leastMs = Math.min(LONGEST_FIRST_WAIT_MS, FIRST_WAIT_MS * 2 ** turn);
      const ms = Math.min(patience.leftMs, LONGEST_TIMER_MS, Math.max(leastMs, untilRetryMs));
      await wait(ms, signal);
      patience.leftMs -= ms;
    }
  }

  function whyDry(resource: string): Promise<PoolError> {
    const known = dry.get(resource);
    if (known !== undefined) return known;
    const asked = parts.consumer.availability(resource).then(({ tokens, usable, next_available_at: next }) => {
      const message = tokens === 0
        ? "The pool has no tokens"
        : `The pool has no ${resource} calls left` + (next === null ? "" : ` until ${new Date(next).toISOString()}`);
      // Something may have come back between the claim and this question.
      return new PoolError("exhausted", message, { retryAt: usable > 0 ? vault.now() : next });
    }).finally(() => dry.delete(resource));
    dry.set(resource, asked);
    return asked;
  }

  /** Sends, and follows redirects: with the token only within the API, where each hop is a call of its own. */
  async function send(request: ApiRequest, ticket: Ticket, apiUrl: string, patience: Patience): Promise<Answer> {
    const { method, redirect } = request;
    let hop = request;
    let paid: Ticket | null = ticket;
    let tokenId = ticket.id;
    for (let redirects = 0;; redirects++) {
      let response = await sendOnce(hop, paid);
      const { href: url } = hop.url;
      if (paid !== null && method === "HEAD" && isUnexplained(response)) {
        response = await sendOnce({ ...hop, method: "GET" }, paid);
      }
      const verdict = paid === null ? null : await settle(paid, response, url, apiUrl);
      if (method === "HEAD" && response.body !== null) {
        await discard(response);
        response = new Response(null, response);
      }
      const refusal = verdict === null ? null : refusalIn(verdict, response.status);
      const location = REDIRECTS.has(response.status) ? response.headers.get("location") : null;
      const isLeft = redirect === "manual" || (redirect === "follow" && method === "POST");
      if (location === null || isLeft) return { response, url, redirected: redirects > 0, tokenId, refusal };
      await discard(response);
      if (redirect === "error") throw new RedirectError("Cannot follow a redirect: the request forbids it");
      if (redirects >= REDIRECTS_AT_MOST) throw new RedirectError("Cannot follow more redirects: they may not end");
      const next = URL.canParse(location, url) ? new URL(location, url) : null;
      // Deno's fetch also reads file:, data: and blob:
      if (!/^https?:$/.test(next?.protocol ?? "")) {
        throw new RedirectError("Cannot follow a redirect to what is no site");
      }
      hop = { ...hop, target: next!.href, url: next! };
      if (isApi(hop.url, apiUrl)) {
        assertAllowed(hop, apiUrl);
        paid = await takeTicket(ticket.resource, tokenId, patience);
        tokenId = paid.id;
      } else {
        hop = { ...hop, headers: withoutPrivateHeaders(hop.headers) };
        paid = null;
      }
    }
  }

  async function sendOnce(
    { target, method, headers, body, signal }: ApiRequest,
    ticket: Ticket | null,
  ): Promise<Response> {
    const init: RequestInit = { method, headers, redirect: "manual" };
    if (ticket !== null) init.headers = { ...headers, authorization: `Bearer ${ticket.token}` };
    if (body !== "") init.body = body;
    try {
      return await fetchInTime(target, init, signal);
    } catch (error) {
      if (ticket !== null) parts.leases.failed(ticket);
      throw error;
    }
  }

  async function fetchInTime(target: RequestInfo | URL, init: RequestInit, signal: Signal): Promise<Response> {
    const late = deadline.begin();
    init.signal = signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]);
    try {
      return await fetch(target, init);
    } finally {
      deadline.end(late); // the body may take as long as it likes
    }
  }

  async function settle(ticket: Ticket, response: Response, url: string, apiUrl: string): Promise<Verdict> {
    const { consumer, leases } = parts;
    const verdict = await consumer.judge(response, url, apiUrl);
    switch (verdict.kind) {
      case "ignore":
        leases.answered(ticket, null, { isFree: false, isSuccess: false });
        break;
      case "usage":
        leases.answered(ticket, verdict.report, verdict);
        await leases.hurry();
        await noteExpiry(ticket.id, response);
        break;
      default:
        leases.drop(ticket, limitedIn(verdict));
        try {
          await consumer.carryOut(ticket.id, verdict, ticket.sealed);
        } catch (error) {
          await discard(response);
          throw error;
        }
    }
    return verdict;
  }

  /** If the database is away, the next answer says it again; this one is the caller's all the same. */
  async function noteExpiry(tokenId: number, response: Response): Promise<void> {
    try {
      await parts.consumer.noteExpiry(tokenId, response);
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
    }
  }

  return poolFetch;
}

/** How long a call waits for a token, and who is told. */
interface Patience {
  /** What may still be waited. Not a time to give up at: a clock may be set meanwhile, or be ahead of the database's. */
  leftMs: number;
  signal: Signal;
  onEvent: PoolFetchOptions["onEvent"];
}

/** What makes two reads equal. */
function keyOf({ url, headers, redirect, cache }: ApiRequest, options: PoolFetchOptions): string {
  const { resource, maxAttempts, maxWaitMs } = options;
  return `${url.href} ${JSON.stringify([headers, redirect, cache, resource, maxAttempts, maxWaitMs])}`;
}

function assertOptions(options: PoolFetchOptions): void {
  if (typeof options !== "object") {
    throw new TypeError(
      `Cannot use an init.pool of type ${typeof options}: give options such as { resource: "search" }`,
    );
  }
  const { resource, maxAttempts, maxWaitMs } = options;
  if (resource !== undefined) assertResource(resource);
  if (maxAttempts !== undefined && !(Number.isSafeInteger(maxAttempts) && maxAttempts >= 1)) {
    throw new RangeError(`Cannot try so many tokens: give a positive whole number: current value is ${maxAttempts}`);
  }
  if (maxWaitMs !== undefined && !(maxWaitMs >= 0)) {
    throw new RangeError(`Cannot wait so long: give milliseconds, 0 or more: current value is ${maxWaitMs}`);
  }
}

/** Why the next token should be tried: this one was refused, or GitHub stumbled. A plain 403 is the caller's. */
function refusalIn(verdict: Verdict, status: number): string | null {
  if (status >= 500) return `status ${status}`;
  switch (verdict.kind) {
    case "ignore":
    case "usage":
      return null;
    case "remove":
      return verdict.reason === "account_suspended" ? verdict.reason : null;
    default:
      return verdict.kind;
  }
}

/** Whether only a body can say if the token was refused or this request alone; the answer to a HEAD has none. */
function isUnexplained({ status, headers }: Response): boolean {
  return status === 403 && headers.get("x-ratelimit-remaining") !== "0" && !headers.has("retry-after");
}

/** The bucket that a refusal is of; null = it is of the token, whatever it is used for. */
function limitedIn(verdict: Verdict): string | null {
  switch (verdict.kind) {
    case "exhausted":
      return verdict.report.resource;
    case "bench_resource":
      return verdict.resource;
    default:
      return null;
  }
}

function onlyIfChanged(request: ApiRequest, etag: string): ApiRequest {
  return { ...request, headers: { ...request.headers, "if-none-match": etag } };
}

function withoutPrivateHeaders(headers: ApiRequest["headers"]): ApiRequest["headers"] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !PRIVATE_HEADERS.includes(name)));
}

/** Tells the caller what happens. If the caller throws, what is held is let go first. */
function tell(event: PoolFetchEvent, onEvent: PoolFetchOptions["onEvent"], letGo: () => void): void {
  try {
    onEvent?.(event);
  } catch (error) {
    letGo();
    throw error;
  }
}
