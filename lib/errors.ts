/**
 * The one error that callers act on: a {@linkcode PoolError} with a stable `code`.
 *
 * Programmer mistakes are `TypeError` (wrong shape) or `RangeError` (out of range) instead. No message and no
 * property of an error ever holds a token, a key or a code.
 *
 * @module
 */

/**
 * What went wrong, by what the caller can do about it.
 *
 * | code | meaning | what to do |
 * |---|---|---|
 * | `config` | a setting is missing or malformed | the message lists every problem and its remedy |
 * | `wrong_key` | the encryption key is not the one the database was sealed with | set the right key; nothing was changed |
 * | `database` | the database did not answer, or refused | try again later; nothing was acknowledged |
 * | `exhausted` | no token is usable now | wait until `retryAt` |
 * | `forbidden_request` | a request that a pooled token must not make | do not send it through the pool |
 * | `github` | GitHub did not answer, or refused | see the message |
 */
export type PoolErrorCode =
  | "config"
  | "wrong_key"
  | "database"
  | "exhausted"
  | "forbidden_request"
  | "github";

/** Options of {@linkcode PoolError}. */
export interface PoolErrorOptions {
  /** When trying again makes sense, in epoch milliseconds. */
  retryAt?: number | null | undefined;
  /** What caused it. */
  cause?: unknown;
}

/**
 * An error that a caller of the pool can act on.
 *
 * @example Tell a wrong key from a database that is away
 * ```ts
 * import { PoolError } from "./pool.ts";
 *
 * const error: unknown = new PoolError("database", "The database did not answer");
 * if (error instanceof PoolError && error.code === "wrong_key") {
 *   throw new Error("TOKEN_ENCRYPTION_KEY is not the one of this pool");
 * }
 * ```
 */
export class PoolError extends Error {
  /** Always `PoolError`, so that it can be told across two copies of this module. */
  override readonly name = "PoolError";
  /** Stable, for a `switch`. */
  readonly code: PoolErrorCode;
  /** When trying again makes sense, in epoch milliseconds; null when that is not known. */
  readonly retryAt: number | null;

  /**
   * Makes an error.
   *
   * @param code What went wrong.
   * @param message What was asked, what was found and what to do; never a secret.
   * @param options `retryAt` and `cause`.
   */
  constructor(code: PoolErrorCode, message: string, options: PoolErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryAt = options.retryAt ?? null;
  }
}
