/**
 * The only caller of github.com: the OAuth web flow and the token endpoints.
 *
 * Each method sends one request and understands its answer. GitHub reports OAuth errors with status 200 and an `error`
 * key; the text beside it is neither logged nor shown. The token endpoints draw on the OAuth App's own rate
 * limit, not on the donor's, and a wrong token there is no failed login
 * (docs.github.com/rest/apps/oauth-applications).
 *
 * @module
 */

import { z } from "npm:zod@4.6.7";
import { PoolError } from "./errors.ts";
import type { Observation } from "./health.ts";

/** GitHub answers or gives up within 10 s; the platform gives a request 60 s. */
const TIMEOUT_MS = 10_000;

/** Characters of an answer; the longest that is read, of limits, has some 3,000. */
const BODY_AT_MOST = 1_000_000;

const USER_AGENT = "github-token-pool";

/** What is needed to speak for the OAuth App. */
export interface GitHubOptions {
  /** Of the web flow, without a slash at the end. */
  url: string;
  /** Of the API, without a slash at the end. */
  apiUrl: string;
  clientId: string;
  clientSecret: string;
  fetch: typeof fetch;
}

const grantSchema = z.object({
  access_token: z.string().min(1),
  scope: z.string().default(""),
  token_type: z.string().regex(/^bearer$/i),
  expires_in: z.number().int().positive().optional(),
  refresh_token: z.string().min(1).optional(),
});

const refusalSchema = z.object({ error: z.string() });

const userSchema = z.object({ id: z.number().int().positive(), login: z.string().min(1).max(100) });

/** What GitHub grants. */
export interface Grant {
  token: string;
  /** Empty when the token has no scope. */
  scope: string;
  refreshToken: string | null;
  /** Seconds until the token expires; null = it does not. */
  expiresInSeconds: number | null;
}

/** A grant, or GitHub's code for why there is none. */
export type GrantAnswer = { kind: "granted"; grant: Grant } | { kind: "refused"; error: string };

/** Who a token belongs to, and what it may do. */
export interface GitHubUser {
  /** Stable; the login is not. */
  id: number;
  login: string;
  scopes: string;
}

/** What GitHub says of the app. */
export interface AppInspection {
  /** Of `GITHUB_CLIENT_ID` and `GITHUB_CLIENT_SECRET`. */
  credentials: "right" | "wrong" | "unclear";
  /** GitHub's clock by whole seconds, epoch milliseconds; null = it did not say. */
  date: number | null;
  /** Of its answer. */
  status: number;
}

/** "A max of 1000 tokens per API request" (docs.github.com/rest/credentials/revoke). */
export const CREDENTIALS_AT_MOST = 1000;

/** Whether an OAuth App may have issued a token: personal ones say by their prefix that they are nobody's but a person's. */
export function isOfApp(token: string): boolean {
  return !/^(?:ghp_|github_pat_)/.test(token);
}

/** GitHub, as one OAuth App sees it. All methods throw {@linkcode PoolError} with code `github` when it is away. */
export class GitHub {
  readonly #options: GitHubOptions;

  constructor(options: GitHubOptions) {
    this.#options = options;
  }

  /** Where a person is sent to grant a token. No scope is asked for. */
  authorizeUrl(request: { state: string; challenge: string; redirectUri: string }): string {
    const url = new URL(`${this.#options.url}/login/oauth/authorize`);
    url.search = new URLSearchParams({
      client_id: this.#options.clientId,
      redirect_uri: request.redirectUri,
      state: request.state,
      code_challenge: request.challenge,
      code_challenge_method: "S256",
    }).toString();
    return url.href;
  }

  /** Where a person finds this app's grant, and can revoke it. */
  get grantUrl(): string {
    return `${this.#options.url}/settings/connections/applications/${encodeURIComponent(this.#options.clientId)}`;
  }

  /** Exchanges the code of a callback for a token. */
  exchangeCode(request: { code: string; verifier: string; redirectUri: string }): Promise<GrantAnswer> {
    return this.#grant({
      code: request.code,
      code_verifier: request.verifier,
      redirect_uri: request.redirectUri,
    });
  }

  /** Exchanges a refresh token for new tokens; the old ones die at once. */
  refresh(refreshToken: string): Promise<GrantAnswer> {
    return this.#grant({ grant_type: "refresh_token", refresh_token: refreshToken });
  }

  /** Asks who a token belongs to. */
  async user(token: string): Promise<GitHubUser> {
    const { response, user, scopes } = await this.#askUser(token);
    if (user === null) throw unexpected("who a token belongs to", response);
    return { ...user, scopes: scopes ?? "" };
  }

  /**
   * Asks who a token belongs to that was not made by the web flow.
   *
   * @returns Null when GitHub does not know the token; `scopes` is null when GitHub does not say what it may do, as of
   * fine-grained tokens and those of GitHub Apps.
   */
  async owner(token: string): Promise<Omit<GitHubUser, "scopes"> & { scopes: string | null } | null> {
    const { response, user, scopes } = await this.#askUser(token);
    if (response.status === 401) return null;
    if (user === null) throw unexpected("who a token belongs to", response);
    return { ...user, scopes };
  }

  /** Asks, with a token, what is left of its limits; that is free. What the answer means is for lib/probe.ts to say. */
  async rateLimit(token: string): Promise<Observation> {
    const url = `${this.#options.apiUrl}/rate_limit`;
    const response = await this.#send(url, {
      headers: { authorization: `Bearer ${token}`, accept: "application/vnd.github+json" },
    });
    const { status, headers } = response;
    return { status, headers, body: await textOf(response), url };
  }

  /** Where the API is. */
  get apiUrl(): string {
    return this.#options.apiUrl;
  }

  /** Asks whether a token is still good. Anything but a clear answer is "unclear". */
  async checkToken(token: string): Promise<"valid" | "unknown" | "unclear"> {
    if (!isOfApp(token)) {
      // The app would be told that there is no such token, although there is.
      const { response, user } = await this.#askUser(token);
      return user !== null ? "valid" : response.status === 401 ? "unknown" : "unclear";
    }
    const response = await this.#sendAsApp("POST", "token", token);
    const checked = z.object({ user: z.unknown() }).safeParse(await bodyOf(response));
    if (response.status === 200 && checked.success) return "valid";
    return response.status === 404 ? "unknown" : "unclear";
  }

  /** Revokes one token. True when it is gone, be it since now or since before. */
  deleteToken(token: string): Promise<boolean> {
    return this.#delete("token", token);
  }

  /** Revokes all of this app's tokens of a user, and takes the app off the user's list. */
  deleteGrant(token: string): Promise<boolean> {
    return this.#delete("grant", token);
  }

  /** Asks about a token that there is not: GitHub tells the app from a stranger first. */
  async inspectApp(): Promise<AppInspection> {
    const response = await this.#sendAsApp("POST", "token", `gho_${"0".repeat(36)}`);
    await response.body?.cancel();
    const date = Date.parse(response.headers.get("date") ?? "");
    const { status } = response;
    return {
      credentials: status === 404 ? "right" : status === 401 ? "wrong" : "unclear",
      date: Number.isNaN(date) ? null : date,
      status,
    };
  }

  /** Whether GitHub revokes many tokens at a call: GitHub Enterprise does so with personal ones only. */
  get hasBulkRevocation(): boolean {
    const { hostname, pathname } = new URL(this.#options.apiUrl);
    return !pathname.startsWith("/api/v3") && !hostname.endsWith(".ghe.com");
  }

  /**
   * Revokes up to {@linkcode CREDENTIALS_AT_MOST} tokens and refresh tokens at once, and for ever. Their owners get a
   * message. It is for everybody, so no app is named; 60 calls an hour (docs.github.com/rest/credentials/revoke).
   *
   * @returns `refused` when GitHub does not take one of them, `absent` where there is no such call.
   */
  async revokeCredentials(credentials: string[]): Promise<"accepted" | "refused" | "absent"> {
    const response = await this.#send(`${this.#options.apiUrl}/credentials/revoke`, {
      method: "POST",
      headers: { accept: "application/vnd.github+json", "content-type": "application/json" },
      body: JSON.stringify({ credentials }),
    });
    await response.body?.cancel();
    switch (response.status) {
      case 202:
        return "accepted";
      case 422:
        return "refused";
      case 404:
        return "absent";
      default:
        throw unexpected("a bulk revocation", response);
    }
  }

  async #askUser(token: string) {
    const response = await this.#send(`${this.#options.apiUrl}/user`, {
      headers: { authorization: `Bearer ${token}`, accept: "application/vnd.github+json" },
    });
    const parsed = userSchema.safeParse(await bodyOf(response));
    const user = response.status === 200 && parsed.success ? parsed.data : null;
    return { response, user, scopes: response.headers.get("x-oauth-scopes")?.trim() ?? null };
  }

  async #delete(what: "token" | "grant", token: string): Promise<boolean> {
    const response = await this.#sendAsApp("DELETE", what, token);
    await response.body?.cancel();
    return response.status === 204 || response.status === 404;
  }

  async #grant(parameters: Record<string, string>): Promise<GrantAnswer> {
    const { url, clientId, clientSecret } = this.#options;
    const response = await this.#send(`${url}/login/oauth/access_token`, {
      method: "POST",
      headers: { accept: "application/json" },
      body: new URLSearchParams({ client_id: clientId, client_secret: clientSecret, ...parameters }),
    });
    const body = await bodyOf(response);
    const refused = refusalSchema.safeParse(body);
    if (refused.success) return { kind: "refused", error: refused.data.error };
    const granted = grantSchema.safeParse(body);
    if (!response.ok || !granted.success) throw unexpected("a token", response);
    const { access_token: token, scope, refresh_token: refreshToken, expires_in: expiresInSeconds } = granted.data;
    return {
      kind: "granted",
      grant: {
        token,
        scope: scope.trim(),
        refreshToken: refreshToken ?? null,
        expiresInSeconds: expiresInSeconds ?? null,
      },
    };
  }

  #sendAsApp(method: "POST" | "DELETE", what: "token" | "grant", token: string): Promise<Response> {
    const { apiUrl, clientId, clientSecret } = this.#options;
    return this.#send(`${apiUrl}/applications/${encodeURIComponent(clientId)}/${what}`, {
      method,
      headers: {
        authorization: `Basic ${btoa(`${clientId}:${clientSecret}`)}`,
        accept: "application/vnd.github+json",
        "content-type": "application/json",
      },
      body: JSON.stringify({ access_token: token }),
    });
  }

  async #send(url: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("user-agent", USER_AGENT);
    headers.set("x-github-api-version", "2022-11-28");
    try {
      // A secret is in every one of these requests, so none of them follows a redirect.
      const options: RequestInit = { ...init, headers, redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) };
      return await this.#options.fetch(url, options);
    } catch (cause) {
      throw new PoolError("github", `GitHub did not answer at ${new URL(url).origin}; try again later`, { cause });
    }
  }
}

async function bodyOf(response: Response): Promise<unknown> {
  try {
    return JSON.parse(await textOf(response));
  } catch {
    return null; // not JSON: no answer that is understood
  }
}

async function textOf({ body }: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  try {
    for await (const chunk of body ?? []) {
      text += decoder.decode(chunk, { stream: true });
      if (text.length > BODY_AT_MOST) return ""; // which ends the transfer
    }
    return text;
  } catch {
    return ""; // cut off: the status still counts
  }
}

function unexpected(asked: string, response: Response): PoolError {
  return new PoolError(
    "github",
    `GitHub was asked for ${asked} and answered with status ${response.status}; try again later`,
  );
}
