/**
 * The pool as an Octokit auth strategy: every request of an Octokit goes through the pool's `fetch`, so tokens rotate
 * inside, and what Octokit's plugins see is GitHub's answer or a dry pool.
 *
 * @example
 * ```ts ignore
 * import { createPoolAuth } from "./octokit.ts";
 * import { createPool } from "./pool.ts";
 *
 * const octokit = new Octokit({ authStrategy: createPoolAuth, auth: { pool: createPool() } });
 * ```
 *
 * @module
 */

import { PoolError } from "./errors.ts";
import { availability, getToken, type Pool, poolFetch } from "./pool.ts";

/** What Octokit passes on from its `auth` option. */
export interface PoolAuthOptions {
  /** The pool; by default the one of the environment. */
  pool?: Pick<Pool, "fetch" | "getToken"> & Partial<Pick<Pool, "availability">>;
}

/** What `octokit.auth()` resolves to. */
export interface PoolAuthentication {
  /** As of any token. */
  type: "token";
  /** Donated tokens are an OAuth App's. */
  tokenType: "oauth";
  /** A token of the pool, charged for one call. */
  token: string;
}

/** Octokit's `request`, as far as the strategy needs it. */
export interface OctokitRequest {
  /** Sends a request. */
  // deno-lint-ignore no-explicit-any -- Octokit's own types are a dependency that a consumer should not pay for
  (options: any): Promise<any>;
  /** What knows the defaults of a request. */
  endpoint: {
    /** Fills a request up with its defaults. */
    // deno-lint-ignore no-explicit-any -- as above
    merge(route: any, parameters?: any): Record<string, unknown>;
  };
}

/** An Octokit auth strategy's function and hook (octokit/types.ts, AuthInterface). */
export interface PoolAuth {
  /** Draws a token. */
  (): Promise<PoolAuthentication>;
  /** Makes a request of Octokit's through the pool. */
  // deno-lint-ignore no-explicit-any -- as above
  hook(request: OctokitRequest, route: any, parameters?: any): Promise<any>;
}

/**
 * The strategy.
 *
 * @param options Octokit's `auth` option.
 * @returns A function that resolves to a token, with the hook that Octokit calls for each request. Both throw
 * {@linkcode PoolError} with code `exhausted` when nothing is usable.
 */
export function createPoolAuth(
  { pool = { fetch: poolFetch, getToken, availability } }: PoolAuthOptions = {},
): PoolAuth {
  async function auth(): Promise<PoolAuthentication> {
    const token = await pool.getToken();
    if (token !== null) return { type: "token", tokenType: "oauth", token: token.token };
    const retryAt = (await pool.availability?.())?.next_available_at;
    throw new PoolError("exhausted", "The pool has no core calls left", { retryAt });
  }

  async function hook(request: OctokitRequest, route: unknown, parameters?: unknown): Promise<unknown> {
    const endpoint = request.endpoint.merge(route, parameters);
    try {
      return await request({ ...endpoint, request: { ...endpoint["request"] as object, fetch: pool.fetch } });
    } catch (error) {
      // Octokit takes what fetch throws for a failure of GitHub's, and its retry plugin would try again.
      // By name, because the pool may be of another copy of this library.
      throw error instanceof Error && (error.cause as Error | undefined)?.name === "PoolError" ? error.cause : error;
    }
  }

  return Object.assign(auth, { hook });
}
