/** What tests are made of: keys, clocks, databases, donations, responses. */

import type { Environment } from "../../lib/config.ts";
import { createPool, type Pool, type PoolOptions } from "../../lib/pool.ts";
import type { Donation } from "../../lib/vault.ts";
import { assertNoCanaryIn, plant } from "./canaries.ts";

/** Keys of 64 hex digits. */
export const KEY = plant("0f".repeat(32));
export const OTHER_KEY = plant("a1".repeat(32));

/** Some Monday, epoch milliseconds, on a whole second. */
export const START = 1_795_000_000_000;

/** A clock that moves only when it is told to. */
export class Clock {
  time: number = START;
  readonly now = (): number => this.time;

  /** Epoch seconds. */
  get seconds(): number {
    return Math.floor(this.time / 1000);
  }

  advance(ms: number): void {
    this.time += ms;
  }
}

/** A fresh directory, gone with the test; no file in it may hold a secret. */
export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "token-pool-" });
  return {
    path,
    async [Symbol.asyncDispose]() {
      try {
        await assertNoCanaryIn(path);
      } finally {
        await Deno.remove(path, { recursive: true });
      }
    },
  };
}

/** A pool in a fresh file, with a clock of its own. */
export async function temporaryPool(
  options: PoolOptions = {},
): Promise<{ pool: Pool; clock: Clock; url: string } & AsyncDisposable> {
  const folder = await temporaryFolder();
  const clock = new Clock();
  const url = `file:${folder.path}/pool.db`;
  const pool = createPool({ database: url, encryptionKey: KEY, now: clock.now, ...options });
  return {
    pool,
    clock,
    url,
    async [Symbol.asyncDispose]() {
      await pool.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** A donation of user number `n`. */
export function donation(n: number, changes: Partial<Donation> = {}): Donation {
  return { github_user_id: String(1000 + n), github_username: `user${n}`, token: `gho_token${n}`, ...changes };
}

/** Adds donations 1 to `count` and returns their ids. */
export async function donate(pool: Pool, count: number, changes: Partial<Donation> = {}): Promise<number[]> {
  const ids: number[] = [];
  for (let n = 1; n <= count; n++) ids.push(await pool.addToken(donation(n, changes)));
  return ids;
}

/** Draws `count` tokens and returns their ids; null where there was none. */
export async function draw(pool: Pool, count: number, resource?: string): Promise<(number | null)[]> {
  const ids: (number | null)[] = [];
  for (let n = 0; n < count; n++) {
    ids.push((await pool.getToken(resource === undefined ? {} : { resource }))?.id ?? null);
  }
  return ids;
}

/** Headers that hold a number, and the property of `RateLimitInfo` that each is read into. */
export const NUMBER_HEADERS = [
  ["x-ratelimit-limit", "limit"],
  ["x-ratelimit-remaining", "remaining"],
  ["x-ratelimit-used", "used"],
  ["x-ratelimit-reset", "reset_at"],
  ["retry-after", "retry_after"],
] as const;

/** The headers of GitHub's rate limits. */
export function limitHeaders(
  limit: number,
  remaining: number,
  reset: number,
  resource = "core",
): Record<string, string> {
  return {
    "x-ratelimit-limit": String(limit),
    "x-ratelimit-remaining": String(remaining),
    "x-ratelimit-used": String(limit - remaining),
    "x-ratelimit-reset": String(reset),
    "x-ratelimit-resource": resource,
    "x-oauth-scopes": "",
  };
}

/** A response of the API. */
export function response(status: number, headers: Record<string, string> = {}, body: unknown = {}): Response {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return new Response([204, 304].includes(status) ? null : text, { status, headers });
}

/** GitHub's answer to a token that it does not know. */
export function badCredentials(): Response {
  return response(401, limitHeaders(60, 59, START / 1000 + 3600), { message: "Bad credentials" });
}

/** An environment of these variables only. */
export function environment(variables: Record<string, string | undefined>): Environment {
  return (name) => variables[name];
}
