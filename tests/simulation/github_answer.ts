/**
 * What the model of GitHub answers: a plain object, and the same as it goes over the wire.
 *
 * @module
 */

import type { ModelUser } from "./github_model.ts";

/** Why an answer is what it is. */
export type AnswerKind =
  | "ok"
  | "not_modified"
  | "server_error"
  | "forbidden"
  | "unknown_token"
  | "false_unauthorized"
  | "outage"
  | "suspended"
  | "primary_limit"
  | "secondary_limit";

/** An answer, as far as the pool looks at it. Numbers are null where GitHub does not say. */
export interface ModelAnswer {
  readonly kind: AnswerKind;
  readonly status: number;
  readonly resource: string;
  readonly limit: number | null;
  readonly remaining: number | null;
  /** Epoch seconds of GitHub's clock, as printed. */
  readonly reset: number | null;
  /** Seconds. */
  readonly retryAfter: number | null;
  /** Whose token it was, if it is anybody's. */
  readonly user: ModelUser | null;
}

const MESSAGES: Readonly<Record<AnswerKind, string>> = {
  ok: "",
  not_modified: "",
  server_error: "Server Error",
  forbidden: "Resource protected by organization SAML enforcement. You must grant your OAuth token access.",
  unknown_token: "Bad credentials",
  false_unauthorized: "Bad credentials",
  outage: "Bad credentials",
  suspended: "Sorry. Your account was suspended.",
  primary_limit: "API rate limit exceeded for user ID 1.",
  secondary_limit: "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
};

/** An answer as it goes over the wire. */
export function toResponse({ kind, status, resource, limit, remaining, reset, retryAfter }: ModelAnswer): Response {
  const headers: Record<string, string> = { "content-type": "application/json; charset=utf-8" };
  if (limit !== null && remaining !== null && reset !== null) {
    headers["x-ratelimit-limit"] = String(limit);
    headers["x-ratelimit-remaining"] = String(remaining);
    headers["x-ratelimit-used"] = String(limit - remaining);
    headers["x-ratelimit-reset"] = String(reset);
    headers["x-ratelimit-resource"] = resource;
  }
  if (retryAfter !== null) headers["retry-after"] = String(retryAfter);
  if (status === 200) headers["x-oauth-scopes"] = "";
  const body = status === 304 ? null : JSON.stringify(kind === "ok" ? { ok: true } : { message: MESSAGES[kind] });
  return new Response(body, { status, headers });
}

/** An answer that names no limit. */
export function withoutNumbers(
  kind: AnswerKind,
  status: number,
  resource: string,
  user: ModelUser,
  retryAfter: number | null,
): ModelAnswer {
  return { kind, status, resource, limit: null, remaining: null, reset: null, retryAfter, user };
}

/** A count for each kind of answer. */
export function noCounts(): Record<AnswerKind, number> {
  return {
    ok: 0,
    not_modified: 0,
    server_error: 0,
    forbidden: 0,
    unknown_token: 0,
    false_unauthorized: 0,
    outage: 0,
    suspended: 0,
    primary_limit: 0,
    secondary_limit: 0,
  };
}
