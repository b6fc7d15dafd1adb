/**
 * The consumer's flow: draw a token, use it, say what GitHub answered.
 *
 *     getToken → claim (one SQL statement) → open → GitHub → syncTokenHealth → judge → merge
 *
 * @module
 */

import { judge, needsBody, tokenExpiry, type Verdict } from "./health.ts";
import { LastTold } from "./last_told.ts";
import {
  assertResource,
  bringsNews,
  type CompleteReport,
  completeReport,
  DEFAULT_RESOURCE,
  hasBegun,
  type KnownWindow,
  type RateLimitInfo,
} from "./rate_limit.ts";
import type { Claim } from "./records.ts";
import type { Vault } from "./vault.ts";

/** A token, ready to use, and what the pool knows of it after this hand-out. */
export interface TokenWithSecret {
  /** The pool's own id of the donation, for {@linkcode syncTokenHealth}. */
  id: number;
  /** GitHub's id of the donor, as text. */
  github_user_id: string;
  /** The donor's login when the donation was made. */
  github_username: string | null;
  /** The token. Send it to GitHub's API and nowhere else; do not log it. */
  token: string;
  /** The bucket that this hand-out was charged to. */
  resource: string;
  /** Calls per window; null until GitHub has said. */
  rate_limit_limit: number | null;
  /** GitHub's own counter after this hand-out, as the pool sees it; the donor's reserve is part of it. */
  rate_limit_remaining: number;
  /** End of the window, in epoch seconds as in GitHub's header; null until GitHub has said. */
  rate_limit_reset_at: number | null;
}

/** What is to be claimed. */
export interface GetTokenOptions {
  /** The bucket that the call draws on: `core` (default), `search`, `graphql`, `code_search` or another of GitHub's. */
  resource?: string;
  /** Calls, or points of GraphQL, that the hand-out is charged. Default 1. */
  cost?: number;
}

/** What can be had now. */
export interface Availability {
  /** The bucket. */
  resource: string;
  /** Calls that can be claimed now, of all tokens together. */
  usable: number;
  /** Donations, in any state. */
  tokens: number;
  /** When more can be claimed, in epoch milliseconds; null if something is usable now, or nothing comes by itself. */
  next_available_at: number | null;
}

/** How many tokens are claimed in a row when their ciphertexts do not open. */
const CLAIMS_AT_MOST = 20;

/** How many hand-outs a process remembers; only to spare the database reports that say nothing new. */
const KNOWN_AT_MOST = 10_000;

const BODY_BYTES_AT_MOST = 65_536;
const BODY_TIMEOUT_MS = 2_000;

/** Draws tokens, and takes in what GitHub answered. */
export class Consumer {
  readonly #vault: Vault;
  /** By token and resource: the window as of this process's latest claim. */
  readonly #known = new Map<string, KnownWindow>();
  readonly #told = new LastTold();
  /** By token and resource: reports that are no news, but are to be told again; they travel with the next claim. */
  readonly #luggage = new Map<string, { id: number; report: CompleteReport }>();
  /**
   * Tokens whose latest claim said that they were refused before, or that were refused since. Only a claim takes one out:
   * a success does not tell whether it counted, which it does not while the bench is under way.
   */
  readonly #refusedBefore = new Set<number>();
  readonly #knownExpiries = new Map<number, number>();
  /** Free answers that were told. */
  readonly #freeAnswers = new WeakSet<Response>();

  /** @param vault Where the tokens are. */
  constructor(vault: Vault) {
    this.#vault = vault;
  }

  /** See `getToken` in lib/pool.ts. */
  async getToken(options: GetTokenOptions = {}): Promise<TokenWithSecret | null> {
    assertOptions(options);
    const { resource = DEFAULT_RESOURCE, cost = 1 } = options;
    assertResource(resource);
    assertCost(cost);
    // Without the key and without the database, so that the switch works whatever else is broken.
    if (this.#vault.settings.isDisabled) return null;
    const { store } = await this.#vault.unlock();
    const seen = new Set<number>();
    while (seen.size < CLAIMS_AT_MOST) {
      const claim = await store.claim(resource, cost, this.#takeLuggage(resource));
      if (claim === null || seen.has(claim.id)) return null;
      seen.add(claim.id);
      const token = await this.#vault.openText(claim.token, "token", claim.githubUserId);
      if (token !== null) return this.#handOut(claim, resource, token);
      await this.#vault.noteUnreadable(claim);
    }
    return null;
  }

  /** See `syncTokenHealth` in lib/pool.ts. */
  async syncTokenHealth(tokenId: number, response: Response): Promise<void> {
    assertTokenId(tokenId);
    if (typeof response !== "object" || response === null) {
      throw new TypeError("Cannot report on a token without a response: give what fetch() returned");
    }
    const verdict = await this.judge(response, response.url);
    if (verdict.kind === "ignore") return;
    if (verdict.kind === "usage" && verdict.isFree && verdict.report !== null) {
      await this.#takeInFree(tokenId, verdict.report, verdict.isSuccess, response);
    } else await this.carryOut(tokenId, verdict);
    if (verdict.kind === "usage") await this.noteExpiry(tokenId, response);
  }

  /** What a response says of the token that it was asked with; its body can still be read. */
  async judge(
    response: Response,
    responseUrl: string,
    apiUrl: string = this.#vault.settings.read().GITHUB_API_URL,
  ): Promise<Verdict> {
    const { status, headers } = response;
    const url = responseUrl === "" ? null : responseUrl;
    const body = needsBody(status, headers, url) ? await readBody(response) : "";
    return judge({ status, headers, body, url }, apiUrl);
  }

  /** See `reportUsage` in lib/pool.ts. */
  async reportUsage(tokenId: number, rateLimit: RateLimitInfo): Promise<void> {
    assertTokenId(tokenId);
    if (typeof rateLimit !== "object" || rateLimit === null) {
      throw new TypeError("Cannot report usage without numbers: give what parseRateLimitHeaders returns");
    }
    const report = completeReport(rateLimit, DEFAULT_RESOURCE);
    if (report !== null) await this.#takeIn(tokenId, report, { isFree: false, isSuccess: false });
  }

  /** See `availability` in lib/pool.ts. */
  async availability(resource: string = DEFAULT_RESOURCE): Promise<Availability> {
    assertResource(resource);
    const { tokens, usable, nextAt } = await (await this.#vault.store()).availability(resource);
    return { resource, usable, tokens, next_available_at: usable > 0 ? null : nextAt };
  }

  #handOut(claim: Claim, resource: string, token: string): TokenWithSecret {
    const { limit, remaining, resetAt } = claim;
    this.#remember(claim.id, resource, { limit, remaining, resetAt });
    if (claim.strikes > 0) this.#refusedBefore.add(claim.id);
    else this.#refusedBefore.delete(claim.id);
    return {
      id: claim.id,
      github_user_id: claim.githubUserId,
      github_username: claim.githubUsername,
      token,
      resource,
      rate_limit_limit: limit,
      rate_limit_remaining: remaining,
      rate_limit_reset_at: resetAt,
    };
  }

  /**
   * Does to a token what a verdict says.
   *
   * @param sealed The token as it is stored, if that is known: what is said of one that was replaced since, by its donor
   * or because it expires, is not said of the one in its place.
   */
  async carryOut(id: number, verdict: Exclude<Verdict, { kind: "ignore" }>, sealed?: string): Promise<void> {
    const store = await this.#vault.store();
    switch (verdict.kind) {
      case "suspect":
        return await store.suspect(id, sealed);
      case "remove":
        return await (verdict.reason === "has_scopes" ? store.condemn(id, sealed) : store.remove(id, sealed));
      case "bench_user":
        this.#refusedBefore.add(id);
        await store.holdUser(id, { seconds: verdict.seconds, ...verdict.backoff });
        if (verdict.report !== null) await store.merge(id, verdict.report);
        return;
      case "bench_resource":
        this.#refusedBefore.add(id);
        return await store.holdResource(id, verdict.resource, { seconds: verdict.seconds, ...verdict.backoff });
      case "exhausted":
        return await store.exhaust(id, verdict.report);
      case "usage":
        if (verdict.report !== null) return await this.#takeIn(id, verdict.report, verdict);
        if (verdict.isSuccess && this.#refusedBefore.has(id)) await store.forgiveStrikes(id);
    }
  }

  /** Gives a call back once, however often its answer is told. Not after a try that failed: its write may have happened. */
  async #takeInFree(id: number, report: CompleteReport, isSuccess: boolean, response: Response): Promise<void> {
    const isFree = !this.#freeAnswers.has(response);
    this.#freeAnswers.add(response);
    if (hasBegun(report)) return await this.#takeIn(id, report, { isFree, isSuccess });
    const store = await this.#vault.store();
    if (isFree) await store.refund(id, report);
    if (isSuccess && this.#refusedBefore.has(id)) await store.forgiveStrikes(id);
  }

  async #takeIn(
    id: number,
    report: CompleteReport,
    { isFree, isSuccess }: { isFree: boolean; isSuccess: boolean },
  ): Promise<void> {
    const forgive = isSuccess && this.#refusedBefore.has(id);
    const key = `${id} ${report.resource}`;
    const isNews = isFree || forgive || bringsNews(report, this.#known.get(key));
    if (!isNews && !this.#told.isLongAgo(key, report)) return;
    this.#told.tell(key, report);
    if (!isNews) return void this.#luggage.set(key, { id, report });
    this.#known.delete(key);
    await (await this.#vault.store()).merge(id, report, { free: isFree ? 1 : 0, forgive });
  }

  #takeLuggage(resource: string): { id: number; report: CompleteReport }[] {
    if (this.#luggage.size === 0) return []; // nearly always
    const taken = [...this.#luggage].filter(([, { report }]) => report.resource === resource);
    for (const [key] of taken) this.#luggage.delete(key);
    return taken.map(([, told]) => told);
  }

  /** Notes when a token expires, if its response says so, and only if that is new. */
  async noteExpiry(id: number, { headers }: Response): Promise<void> {
    const expiresAt = tokenExpiry(headers);
    if (expiresAt === null || this.#knownExpiries.get(id) === expiresAt) return;
    await (await this.#vault.store()).noteExpiry(id, expiresAt);
    if (this.#knownExpiries.size >= KNOWN_AT_MOST) this.#knownExpiries.clear();
    this.#knownExpiries.set(id, expiresAt);
  }

  #remember(id: number, resource: string, window: KnownWindow): void {
    if (this.#known.size >= KNOWN_AT_MOST) this.#known.clear();
    const key = `${id} ${resource}`;
    this.#known.set(key, window);
    this.#told.see(key, window);
  }
}

/** A name by itself, which `availability` takes, would be charged to core without a word. */
function assertOptions(options: unknown): void {
  if (typeof options === "object" && options !== null) return;
  const type = options === null ? "null" : `of type ${typeof options}`;
  throw new TypeError(
    `Cannot draw a token with options that are ${type}: give an object such as { resource: "search" }`,
  );
}

function assertCost(cost: unknown): asserts cost is number {
  if (typeof cost !== "number") throw new TypeError(`Cannot charge a cost of type ${typeof cost}: give a number`);
  if (!Number.isSafeInteger(cost) || cost < 1) {
    throw new RangeError(`Cannot charge this cost: it must be a positive whole number: current value is ${cost}`);
  }
}

function assertTokenId(id: unknown): asserts id is number {
  if (Number.isFinite(id)) return;
  const found = typeof id === "number" ? `that is ${id}` : `of type ${typeof id}`;
  throw new TypeError(`Cannot report on a token id ${found}: give its number`);
}

/** The beginning of a body, without taking it from the caller; a body that cannot be read counts as empty. */
async function readBody(response: Response): Promise<string> {
  if (response.bodyUsed || response.body === null || response.body.locked) return "";
  const reader = response.clone().body!.getReader();
  const timer = setTimeout(() => reader.cancel().catch(() => {}), BODY_TIMEOUT_MS);
  const decoder = new TextDecoder();
  let text = "";
  try {
    while (text.length < BODY_BYTES_AT_MOST) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
    return text;
  } catch {
    return "";
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => {});
  }
}
