/**
 * A `fetch` over the pool: takes a call of a lease, sends, takes in what GitHub answered, and goes on with the next token
 * when one is refused.
 *
 * @module
 */

import type { Consumer } from "./consumer.ts";
import { PoolError } from "./errors.ts";
import type { Verdict } from "./health.ts";
import type { Leases, Ticket } from "./leases.ts";
import { resourceOf } from "./rate_limit.ts";
import { assertAllowed, isApi, toApiRequest, withoutDonorHeaders } from "./request_rules.ts";
import type { ResponseCache } from "./response_cache.ts";
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
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const REDIRECTS_AT_MOST = 5;
const ATTEMPTS = 3;

/** A call, answered. */
interface Answer {
  response: Response;
  /** Why another token should be tried; null = the answer is the caller's. */
  refusal: string | null;
}

/** Makes the function. */
export function createPoolFetch(
  parts: PoolFetchParts,
): (input: RequestInfo | URL, init?: PoolRequestInit) => Promise<Response> {
  const { vault, cache, fetch } = parts;
  /** Equal reads that are under way. */
  const underWay = new Map<string, { answer: Promise<Response>; signal: AbortSignal; guests: number }>();
  /** Why there was nothing, asked once for all who wait. */
  const dry = new Map<string, Promise<PoolError>>();

  async function poolFetch(input: RequestInfo | URL, init: PoolRequestInit = {}): Promise<Response> {
    const { pool: options = {}, ...rest } = init;
    const apiUrl = vault.settings.read().GITHUB_API_URL;
    const request = toApiRequest(input, rest, apiUrl);
    const body = request.body === null ? "" : await request.clone().text();
    assertAllowed(request, body, apiUrl);
    // Who brings a token of their own does not need one of the pool's.
    if (request.headers.has("authorization")) return await fetch(request);
    if (request.method !== "GET") return await attempt(request, body, apiUrl, options);
    const call = () => attempt(request, body, apiUrl, options);
    return options.onEvent === undefined ? await shared(request, call) : await call();
  }

  /** Equal reads in flight are one call; each caller has an answer of its own, and may give up on its own. */
  async function shared(request: Request, call: () => Promise<Response>): Promise<Response> {
    const { signal } = request;
    signal.throwIfAborted();
    const key = JSON.stringify([request.url, [...request.headers], request.redirect]);
    const joined = underWay.get(key);
    if (joined !== undefined) {
      joined.guests++;
      try {
        return cloneOf(await orAborted(joined.answer, signal));
      } catch (error) {
        if (!joined.signal.aborted || signal.aborted) throw error;
        return await call(); // who began it has given up, not we
      }
    }
    const own = { answer: call(), signal, guests: 0 };
    underWay.set(key, own);
    try {
      const response = await own.answer;
      return own.guests > 0 ? cloneOf(response) : response;
    } finally {
      underWay.delete(key);
    }
  }

  async function attempt(request: Request, body: string, apiUrl: string, options: PoolFetchOptions): Promise<Response> {
    const resource = options.resource ?? resourceOf(request.url);
    const attempts = Math.max(1, options.maxAttempts ?? ATTEMPTS);
    const cached = cache?.find(request) ?? null;
    for (let n = 1;; n++) {
      const ticket = await takeTicket(resource, n === 1 ? cached?.tokenId : undefined, request.signal, options);
      const isRevalidation = n === 1 && cached !== null && ticket.id === cached.tokenId;
      options.onEvent?.({ type: "sent", tokenId: ticket.id, attempt: n });
      const outgoing = new Request(request, body === "" ? {} : { body });
      outgoing.headers.set("authorization", `Bearer ${ticket.token}`);
      if (isRevalidation) outgoing.headers.set("if-none-match", cached.etag);
      let answer: Answer;
      try {
        answer = await send(outgoing, ticket, apiUrl);
      } catch (error) {
        if (n >= attempts || request.signal.aborted || error instanceof PoolError) throw error;
        options.onEvent?.({ type: "rotated", tokenId: ticket.id, attempt: n, reason: "no answer" });
        continue;
      }
      const { response, refusal } = answer;
      options.onEvent?.({ type: "answered", tokenId: ticket.id, attempt: n, status: response.status });
      if (refusal !== null && n < attempts) {
        options.onEvent?.({ type: "rotated", tokenId: ticket.id, attempt: n, reason: refusal });
        await response.body?.cancel();
        continue;
      }
      if (isRevalidation && response.status === 304) {
        options.onEvent?.({ type: "cached", tokenId: ticket.id });
        return cached.toResponse(response);
      }
      const clean = withoutDonorHeaders(response);
      return cache === null ? clean : await cache.keep(request, clean, ticket.id);
    }
  }

  /** A call of a lease: of the wanted token if it may be used, else of any; waits as long as the caller allows. */
  async function takeTicket(
    resource: string,
    tokenId: number | undefined,
    signal: AbortSignal,
    options: PoolFetchOptions,
  ): Promise<Ticket> {
    const { leases } = parts;
    if (tokenId !== undefined) {
      const wanted = await leases.take(resource, tokenId);
      if (wanted !== null) return wanted;
    }
    const givesUpAt = vault.now() + (options.maxWaitMs ?? 0);
    for (;;) {
      signal.throwIfAborted();
      const ticket = leases.takeAtHand(resource) ?? await leases.take(resource);
      if (ticket !== null) return ticket;
      const exhausted = await whyDry(resource);
      const { retryAt } = exhausted;
      if (retryAt === null || retryAt > givesUpAt) throw exhausted;
      options.onEvent?.({ type: "waiting", resource, untilMs: retryAt });
      await waitUntil(retryAt, signal);
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

  async function waitUntil(time: number, signal: AbortSignal): Promise<void> {
    const delayMs = Math.max(10, time - vault.now()); // never a busy loop
    let timer: ReturnType<typeof setTimeout> | undefined;
    const elapsed = new Promise<void>((resolve) => timer = setTimeout(resolve, delayMs));
    try {
      await orAborted(elapsed, signal);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends, and follows redirects: with the token only within the API, where each hop is a call of its own. */
  async function send(request: Request, ticket: Ticket, apiUrl: string): Promise<Answer> {
    let hop = request;
    let paid: Ticket | null = ticket;
    for (let redirects = 0;; redirects++) {
      const response = await sendOnce(hop, paid);
      const verdict = paid === null ? null : await settle(paid, response, hop.url);
      const refusal = verdict === null ? null : refusalIn(verdict, response.status);
      const location = response.headers.get("location");
      const isFollowed = REDIRECTS.has(response.status) && location !== null && request.redirect === "follow";
      if (!isFollowed || redirects >= REDIRECTS_AT_MOST) return { response, refusal };
      await response.body?.cancel();
      const next = new URL(location, hop.url).href;
      hop = new Request(next, { method: hop.method, headers: hop.headers, signal: hop.signal, redirect: "manual" });
      if (isApi(next, apiUrl)) {
        assertAllowed(hop, "", apiUrl);
        paid = await takeTicket(ticket.resource, ticket.id, request.signal, {});
        hop.headers.set("authorization", `Bearer ${paid.token}`);
      } else {
        hop.headers.delete("authorization");
        paid = null;
      }
    }
  }

  async function sendOnce(request: Request, ticket: Ticket | null): Promise<Response> {
    try {
      return await fetch(new Request(request, { redirect: "manual" }));
    } catch (error) {
      if (ticket !== null) parts.leases.failed(ticket);
      throw error;
    }
  }

  async function settle(ticket: Ticket, response: Response, url: string): Promise<Verdict> {
    const { consumer, leases } = parts;
    const verdict = await consumer.judge(response, url);
    switch (verdict.kind) {
      case "ignore":
        leases.answered(ticket, null, { isFree: false, isSuccess: false });
        break;
      case "usage":
        leases.answered(ticket, verdict.report, verdict);
        await consumer.noteExpiry(ticket.id, response);
        break;
      default:
        leases.drop(ticket);
        await consumer.carryOut(ticket.id, verdict);
    }
    return verdict;
  }

  return poolFetch;
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

async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let abort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort!);
  }
}

function cloneOf(response: Response): Response {
  const clone = response.clone();
  Object.defineProperty(clone, "url", { value: response.url });
  return clone;
}
