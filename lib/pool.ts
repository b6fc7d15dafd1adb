/**
 * The public API of the pool, for programs that draw on it.
 *
 * Importing this module does nothing: the environment is read and the database opened on first use.
 *
 * @example Ask GitHub with a donated token
 * ```ts ignore
 * import { getToken, syncTokenHealth } from "https://esm.town/v/<user>/token-pool@1-main/lib/pool.ts";
 *
 * const token = await getToken();
 * if (token === null) throw new Error("The pool is exhausted");
 * const response = await fetch("https://api.github.com/repos/denoland/deno", {
 *   headers: { authorization: `Bearer ${token.token}`, "user-agent": "my-app" },
 * });
 * await syncTokenHealth(token.id, response);
 * ```
 *
 * @module
 */

import { processEnvironment } from "./config.ts";
import { type Availability, Consumer, type GetTokenOptions, type TokenWithSecret } from "./consumer.ts";
import type { Database } from "./database.ts";
import { PoolError } from "./errors.ts";
import { Leases } from "./leases.ts";
import { createPoolFetch, type PoolRequestInit } from "./pool_fetch.ts";
import { parseRateLimitHeaders, type RateLimitInfo } from "./rate_limit.ts";
import { DEFAULT_CACHE_BYTES, ResponseCache } from "./response_cache.ts";
import { type Donation, Vault } from "./vault.ts";

export { PoolError, type PoolErrorCode, type PoolErrorOptions } from "./errors.ts";
export { parseRateLimitHeaders, type RateLimitInfo };
export type { Availability, GetTokenOptions, TokenWithSecret } from "./consumer.ts";
export type { Database, ResultSet, SqlValue } from "./database.ts";
export type { PoolFetchEvent, PoolFetchOptions, PoolRequestInit } from "./pool_fetch.ts";
export type { Donation } from "./vault.ts";

/** What a pool is made of; what is absent comes from the environment. */
export interface PoolOptions {
  /** A libSQL client, anything else with `execute` and `batch`, or a libSQL URL. */
  database?: Database | string;
  /** Of the database, when it is a URL. */
  authToken?: string;
  /** 64 hex digits. */
  encryptionKey?: string;
  /** Keys that still open, but no longer seal. */
  previousEncryptionKeys?: string[];
  /** Share of a donor's limit that stays the donor's when the donation does not say: 0 to 0.95. Default 0.25. */
  reserve?: number;
  /** Epoch milliseconds. Default: the database's own clock, which all processes share. */
  now?: () => number;
  /** Default: the global one. */
  fetch?: typeof fetch;
  /** Default `https://api.github.com`. */
  githubApiUrl?: string;
  /** Remembers answers, to ask about them again for free: a size in bytes, or true for 16 MiB. Default: not at all. */
  cache?: boolean | number;
}

/** A pool: the functions of this module, bound to one database. */
export interface Pool extends AsyncDisposable {
  /** See {@linkcode getToken}. */
  getToken(options?: GetTokenOptions): Promise<TokenWithSecret | null>;
  /** See {@linkcode syncTokenHealth}. */
  syncTokenHealth(tokenId: number, response: Response): Promise<void>;
  /** See {@linkcode syncTokenHealth}. */
  handleResponse(tokenId: number, response: Response): Promise<void>;
  /** See {@linkcode reportUsage}. */
  reportUsage(tokenId: number, rateLimit: RateLimitInfo): Promise<void>;
  /** See {@linkcode parseRateLimitHeaders}. */
  parseRateLimitHeaders(headers: Headers): RateLimitInfo;
  /** See {@linkcode addToken}. */
  addToken(donation: Donation): Promise<number>;
  /** See {@linkcode availability}. */
  availability(resource?: string): Promise<Availability>;
  /** See {@linkcode poolFetch}. A function of its own: `const { fetch } = pool` works. */
  fetch(input: RequestInfo | URL, init?: PoolRequestInit): Promise<Response>;
  /** The same as {@linkcode Pool.fetch}. */
  poolFetch(input: RequestInfo | URL, init?: PoolRequestInit): Promise<Response>;
  /**
   * Gives back what was leased and not used, and closes the database if the pool opened it. `await using` does the same,
   * but does not throw when the database is away.
   *
   * @throws {PoolError} With code `database`, when what was leased could not be given back.
   */
  close(): Promise<void>;
}

/**
 * Makes a pool. It opens its database on first use.
 *
 * @param options What the pool is made of; what is absent comes from the environment.
 * @returns The same functions as this module's, and `close()`.
 * @throws {TypeError | RangeError} When the database is none, the reserve is not between 0 and 0.95, or the cache has no
 * size.
 *
 * @example A pool in a file, with a donation
 * ```ts
 * import { createPool } from "./pool.ts";
 * import assert from "node:assert/strict";
 *
 * await using pool = createPool({ database: "file::memory:", encryptionKey: "0f".repeat(32) });
 * await pool.addToken({ github_user_id: "583231", github_username: "octocat", token: "gho_example" });
 * const token = await pool.getToken();
 * assert.equal(token?.rate_limit_remaining, 4999);
 * ```
 */
export function createPool(options: PoolOptions = {}): Pool {
  const vault = new Vault({ ...options, environment: processEnvironment });
  const consumer = new Consumer(vault);
  const leases = new Leases(vault);
  const poolFetch = createPoolFetch({
    vault,
    consumer,
    leases,
    cache: cacheOf(options.cache),
    fetch: options.fetch ?? ((input, init) => fetch(input, init)),
  });
  const close = async () => {
    try {
      await leases.close();
    } finally {
      await vault.close();
    }
  };
  // Plain functions, so that they can be taken out of the object and passed on.
  return {
    getToken: (options) => consumer.getToken(options),
    syncTokenHealth: (tokenId, response) => consumer.syncTokenHealth(tokenId, response),
    handleResponse: (tokenId, response) => consumer.syncTokenHealth(tokenId, response),
    reportUsage: (tokenId, rateLimit) => consumer.reportUsage(tokenId, rateLimit),
    parseRateLimitHeaders,
    addToken: async (donation) => (await vault.deposit(donation)).id,
    availability: (resource) => consumer.availability(resource),
    fetch: poolFetch,
    poolFetch,
    close,
    // What is lost is told or lent again anyway, and must not take the place of what went wrong in the block.
    [Symbol.asyncDispose]: () => close().catch(unlessPoolError),
  };
}

function unlessPoolError(error: unknown): void {
  if (!(error instanceof PoolError)) throw error;
}

function cacheOf(size: boolean | number | undefined): ResponseCache | null {
  if (size === undefined || size === false) return null;
  return new ResponseCache(size === true ? DEFAULT_CACHE_BYTES : size);
}

let defaultPool: Pool | null = null;

/** Made from the environment on first use; only ever a cache, since all state is in the database. */
function pool(): Pool {
  return defaultPool ??= createPool();
}

/**
 * Draws a token: the least recently used one that may be used, charged at once.
 *
 * @param options The resource and the cost.
 * @returns The token, or null when nothing is usable now; {@linkcode availability} tells when something will be.
 * @throws {TypeError | RangeError} When an option is not of the right shape.
 * @throws {PoolError} With code `config`, `wrong_key` or `database`.
 *
 * @example
 * ```ts ignore
 * const token = await getToken({ resource: "search" });
 * ```
 */
export function getToken(options?: GetTokenOptions): Promise<TokenWithSecret | null> {
  return pool().getToken(options);
}

/**
 * Tells the pool what GitHub answered: limits, refusals, a token that died. The caller can still read the body.
 *
 * @param tokenId The `id` of the token; one that is not known any more is ignored.
 * @param response GitHub's response, with its body not read yet.
 * @throws {TypeError} When the id is not a number, or there is no response.
 * @throws {PoolError} With code `config` or `database`.
 *
 * @example
 * ```ts ignore
 * const response = await fetch(url, { headers: { authorization: `Bearer ${token.token}` } });
 * await syncTokenHealth(token.id, response);
 * ```
 */
export function syncTokenHealth(tokenId: number, response: Response): Promise<void> {
  return pool().syncTokenHealth(tokenId, response);
}

/** The same as {@linkcode syncTokenHealth}, by its other name. */
export const handleResponse: typeof syncTokenHealth = syncTokenHealth;

/**
 * Tells the pool what is left, for callers that have the numbers but not the response.
 *
 * @param tokenId The `id` of the token; one that is not known any more is ignored.
 * @param rateLimit The numbers; they count only if limit, remaining and reset are all known and the reset is to come.
 * @throws {TypeError} When the id is not a number, or there are no numbers.
 * @throws {PoolError} With code `config` or `database`.
 *
 * @example
 * ```ts ignore
 * await reportUsage(token.id, parseRateLimitHeaders(response.headers));
 * ```
 */
export function reportUsage(tokenId: number, rateLimit: RateLimitInfo): Promise<void> {
  return pool().reportUsage(tokenId, rateLimit);
}

/**
 * Adds a donation, in the place of an earlier one of the same user.
 *
 * @param donation Who gives which token, and what stays theirs.
 * @returns The pool's id of the donation.
 * @throws {TypeError | RangeError} When the donation is not of the right shape; then nothing was stored.
 * @throws {PoolError} With code `config`, `wrong_key` or `database`; then nothing was acknowledged. With `github` for a
 * minute after GitHub was asked to revoke the grant of this user, which would take the token along.
 *
 * @example
 * ```ts ignore
 * await addToken({ github_user_id: "583231", token: "gho_…", reserve: 0.5 });
 * ```
 */
export function addToken(donation: Donation): Promise<number> {
  return pool().addToken(donation);
}

/**
 * Tells what can be had now, and when more can.
 *
 * @param resource The bucket; `core` by default.
 * @returns Calls, donations, and a time in epoch milliseconds.
 * @throws {TypeError | RangeError} When the resource is not a name that GitHub could have.
 * @throws {PoolError} With code `config` or `database`.
 *
 * @example
 * ```ts ignore
 * const { usable, next_available_at } = await availability("search");
 * ```
 */
export function availability(resource?: string): Promise<Availability> {
  return pool().availability(resource);
}

/**
 * A `fetch` over the pool: draws a token, sends, tells the pool what GitHub answered, and goes on with the next token when
 * one is refused. It reads public data and nothing else.
 *
 * @param input A path such as `/repos/denoland/deno`, a URL of the API, or a Request.
 * @param init As of `fetch`; `init.pool` says how the pool is to make the request.
 * @returns GitHub's answer, without what tells about the donor's token.
 * @throws {PoolError} With code `exhausted` (and `retryAt`) when nothing is usable, `forbidden_request` for writes, other
 * origins and what is about the donor, and with `config`, `wrong_key` or `database`.
 * @throws {TypeError | RangeError} When the input is not a URL or an option is not of the right shape; a TypeError also, as
 * of `fetch`, when no connection comes about or a redirect cannot be followed.
 * @throws {DOMException} `TimeoutError` when no attempt was answered within 15 s. With a signal: what it was aborted with.
 *
 * @example
 * ```ts ignore
 * const response = await poolFetch("/repos/denoland/deno");
 * ```
 */
export function poolFetch(input: RequestInfo | URL, init?: PoolRequestInit): Promise<Response> {
  return pool().fetch(input, init);
}
