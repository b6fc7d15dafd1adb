/**
 * A strict GitHub for tests: one OAuth App, its web flow, its token endpoints, and an API with real rate limits, all by
 * an injected clock. What GitHub refuses is refused here; what is not modelled is a surprise that fails the test.
 *
 * Facts: docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps, its two troubleshooting pages,
 * docs.github.com/rest/apps/oauth-applications and docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { MARK, plant } from "./canaries.ts";

/** What a fake is made of; each has a default. */
export interface FakeGitHubOptions {
  /** Epoch milliseconds. */
  now?: () => number;
  clientId?: string;
  clientSecret?: string;
  /** The one that is registered for the app. */
  callbackUrl?: string;
  /** Of the web flow. */
  url?: string;
  apiUrl?: string;
  /** Whether the app has opted in to tokens that expire. */
  expiringTokens?: boolean;
  /** GitHub Enterprise Server: no bulk revocation. */
  isEnterprise?: boolean;
  /** Calls per window, by resource, where they are not GitHub's own. */
  limits?: Record<string, number>;
}

/** Somebody with an account. */
export interface FakeUser {
  readonly id: number;
  login: string;
  /** What this user has granted the app before; a new grant includes it, asked for or not. */
  grantedScopes: string[];
  hasVerifiedEmail: boolean;
}

/** Requests that are not answered as they should be. */
export interface Outage {
  /** `nothing` = fetch throws; else the status of an answer that is not JSON. */
  answer: "nothing" | number;
  /** Matched against `METHOD /path`; by default everything. */
  only?: RegExp;
}

/** What was asked. */
export interface FakeRequest {
  method: string;
  path: string;
}

interface Token {
  user: FakeUser;
  scopes: string[];
  /** Whether the app was granted it, or another, or its user made it in the settings. */
  kind: "of the app" | "of another app" | "personal";
  /** Null = never. */
  expiresAt: number | null;
}

interface Code {
  user: FakeUser;
  scopes: string[];
  redirectUri: string | null;
  challenge: string | null;
  expiresAt: number;
}

interface RateWindow {
  used: number;
  /** Epoch seconds. */
  reset: number;
}

/** docs.github.com/rest/credentials/revoke */
const REVOKABLE = /^(?:ghp_|github_pat_|gho_|ghu_|ghr_)\w+$/;
const CREDENTIALS_AT_MOST = 1000;
const REVOCATIONS_AN_HOUR = 60;

const CODE_MS = 600_000;
const TOKEN_SECONDS = 28_800;
const REFRESH_TOKEN_SECONDS = 15_897_600;

/** "There is a limit of ten tokens that are issued per user/application/scope combination"; the oldest goes. */
const TOKENS_AT_MOST = 10;

const LIMITS: Record<string, { limit: number; seconds: number }> = {
  core: { limit: 5000, seconds: 3600 },
  graphql: { limit: 5000, seconds: 3600 },
  search: { limit: 30, seconds: 60 },
  code_search: { limit: 10, seconds: 60 },
};
const ANONYMOUS = { limit: 60, seconds: 3600 };

const AUTHORIZE_PARAMETERS = [
  "client_id",
  "redirect_uri",
  "scope",
  "state",
  "code_challenge",
  "code_challenge_method",
  "login",
  "allow_signup",
  "prompt",
];
const EXCHANGE_PARAMETERS = ["client_id", "client_secret", "code", "redirect_uri", "code_verifier", "grant_type"];
const REFRESH_PARAMETERS = ["client_id", "client_secret", "grant_type", "refresh_token"];

/** GitHub's own descriptions: pages and logs must not repeat them, so they carry a word that is easy to find. */
const DESCRIPTIONS: Record<string, string> = {
  access_denied: "The user has denied your application access.",
  application_suspended: "Your application has been suspended. Contact support@github.com.",
  bad_refresh_token: "The refresh token passed is incorrect or expired.",
  bad_verification_code: "The code passed is incorrect or expired.",
  incorrect_client_credentials: "The client_id and/or client_secret passed are incorrect.",
  redirect_uri_mismatch: "The redirect_uri MUST match the registered callback URL for this application.",
  unverified_user_email: "The user must have a verified primary email.",
};

/** GitHub, as far as this project knows it. */
export class FakeGitHub {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly callbackUrl: string;
  readonly url: string;
  readonly apiUrl: string;

  /** Takes the place of the global one; knows GitHub's two hosts and no other. */
  readonly fetch: typeof fetch = (input, init) => this.#fetch(new Request(input, init));

  /** Whether new tokens expire. */
  expiringTokens: boolean;
  /** GitHub is away, wholly or in part. */
  down: Outage | null = null;
  /** The incident of June 2026: whatever comes with a token is answered with 401. */
  outage401 = false;
  /** The worse incident: the app is told that its tokens are unknown. */
  outage404 = false;
  /** The app is suspended. */
  isAppSuspended = false;
  /** The token endpoint says nothing of scopes, the API does. */
  concealsScopes = false;
  /** Who is signed in where {@linkcode handler} is served, and grants at once what is asked. */
  signedIn: string | null = null;
  /** Called before each answer with `METHOD /path`: here something may happen in between. */
  before: ((call: string) => void | Promise<void>) | null = null;

  /** Everything that was asked, in order. */
  readonly requests: FakeRequest[] = [];
  /** All that must never be seen anywhere: the client secret, codes, verifiers, tokens, refresh tokens. */
  readonly secrets = new Set<string>();

  readonly #now: () => number;
  readonly #limits: typeof LIMITS;
  readonly #users = new Map<string, FakeUser>();
  readonly #codes = new Map<string, Code>();
  readonly #tokens = new Map<string, Token>();
  readonly #refreshTokens = new Map<string, { token: string; expiresAt: number }>();
  readonly #windows = new Map<string, RateWindow>();
  /** When there were bulk revocations. */
  readonly #bulkRevocations: number[] = [];
  readonly #isEnterprise: boolean;
  readonly #surprises: string[] = [];

  constructor(options: FakeGitHubOptions = {}) {
    this.#now = options.now ?? Date.now;
    this.clientId = options.clientId ?? "Ov23liFakeClientId01";
    this.clientSecret = options.clientSecret ?? randomName("", 40);
    this.callbackUrl = options.callbackUrl ?? "https://pool.example/callback";
    this.url = options.url ?? "https://github.com";
    this.apiUrl = options.apiUrl ?? "https://api.github.com";
    this.expiringTokens = options.expiringTokens ?? false;
    this.#isEnterprise = options.isEnterprise ?? false;
    const limits = Object.entries(options.limits ?? {});
    this.#limits = {
      ...LIMITS,
      ...Object.fromEntries(limits.map(([name, limit]) => [name, { ...LIMITS[name]!, limit }])),
    };
    this.secrets.add(plant(this.clientSecret));
  }

  /** Everything that was asked, as `METHOD /path`. */
  get calls(): string[] {
    return this.requests.map(({ method, path }) => `${method} ${path}`);
  }

  /** How many requests match, as `METHOD /path`. */
  count(pattern: RegExp): number {
    return this.calls.filter((call) => pattern.test(call)).length;
  }

  /** Throws if anything was asked that this fake does not know: a catch elsewhere may have swallowed the first error. */
  assertNoSurprises(): void {
    if (this.#surprises.length > 0) throw new Error(`The fake GitHub was surprised: ${this.#surprises.join("; ")}`);
  }

  /** Opens an account. */
  addUser(
    login: string,
    options: { id?: number; grantedScopes?: string[]; hasVerifiedEmail?: boolean } = {},
  ): FakeUser {
    const { id = 583_231 + this.#users.size, grantedScopes = [], hasVerifiedEmail = true } = options;
    const user: FakeUser = { id, login, grantedScopes, hasVerifiedEmail };
    this.#users.set(login, user);
    return user;
  }

  /** Somebody takes another login; the id stays. */
  rename(login: string, to: string): void {
    const user = this.#user(login);
    this.#users.delete(login);
    user.login = to;
    this.#users.set(to, user);
  }

  /** Makes a token without the web flow. */
  grantToken(login: string, scopes: string[] = []): string {
    return this.#issue(this.#user(login), scopes).token;
  }

  /** Makes a token that is not the app's: a classic personal one, or of another app. */
  foreignToken(
    login: string,
    { scopes = [], kind = "personal" }: Partial<Pick<Token, "scopes" | "kind">> = {},
  ): string {
    const token = randomName(kind === "personal" ? "ghp_" : "gho_", 36);
    this.secrets.add(plant(token));
    this.#tokens.set(token, { user: this.#user(login), scopes, kind, expiresAt: null });
    return token;
  }

  /** The same, with what renews it. */
  grantExpiringToken(login: string): { token: string; refreshToken: string } {
    const { token, answer } = this.#issue(this.#user(login), [], true);
    return { token, refreshToken: String(answer["refresh_token"]) };
  }

  /** The user takes the app off their list: all its tokens die. */
  revoke(login: string): void {
    this.#endGrant(this.#user(login));
  }

  /** One token dies, as when GitHub finds it in a public repository. */
  revokeToken(token: string): void {
    this.#kill(token);
  }

  /** The user cuts or extends what a token may do. */
  setScopes(token: string, scopes: string[]): void {
    this.#live(token)!.scopes = scopes;
  }

  /** Whether GitHub would accept a token now. */
  isLive(token: string): boolean {
    return this.#live(token) !== null;
  }

  /** All tokens of a user that GitHub would accept now. */
  liveTokens(login: string): string[] {
    const user = this.#user(login);
    return [...this.#tokens].filter(([token]) => this.#live(token)?.user === user).map(([token]) => token);
  }

  /** Leaves a user so many calls in the current window, which begins now if there is none. */
  drain(login: string, remaining: number, resource = "core"): void {
    const { limit } = this.#limits[resource]!;
    this.#window(`user ${this.#user(login).id}`, resource).used = limit - remaining;
  }

  /** Calls that a user has made in the current window. */
  used(login: string, resource = "core"): number {
    return this.#window(`user ${this.#user(login).id}`, resource).used;
  }

  /**
   * A person follows a link to GitHub, signed in as `login`, and answers the question there.
   *
   * @param scope Scopes that GitHub grants whatever was asked: of an earlier grant, or of an address tampered with.
   * @returns Where GitHub sends the person.
   * @throws {Error} When GitHub would show an error page of its own.
   */
  authorize(url: string, login: string, { deny = false, scope = "" }: { deny?: boolean; scope?: string } = {}): string {
    const { origin, pathname, searchParams } = new URL(url);
    if (origin !== new URL(this.url).origin || pathname !== "/login/oauth/authorize") {
      throw this.#surprise("GET", origin + pathname);
    }
    const asked = this.#parameters(searchParams, AUTHORIZE_PARAMETERS, "GET", pathname);
    if (asked["client_id"] !== this.clientId) throw new Error("GitHub shows 404: there is no such app");
    const state: Record<string, string> = asked["state"] === undefined ? {} : { state: asked["state"] };
    const { code_challenge: challenge, code_challenge_method: method, redirect_uri: redirectUri } = asked;
    if (redirectUri !== undefined && !this.#isRegistered(redirectUri)) {
      return this.#callback(this.callbackUrl, { ...oauthError("redirect_uri_mismatch"), ...state });
    }
    const back = redirectUri ?? this.callbackUrl;
    if (this.isAppSuspended) return this.#callback(back, { ...oauthError("application_suspended"), ...state });
    if (challenge !== undefined || method !== undefined) {
      if (method !== "S256") throw new Error("GitHub refuses: code_challenge_method must be S256");
      if (!/^[\w-]{43}$/.test(challenge ?? "")) throw new Error("GitHub refuses: code_challenge must be 43 characters");
    }
    const user = this.#user(login);
    if (deny) return this.#callback(back, { ...oauthError("access_denied"), ...state });
    user.grantedScopes = [...new Set([...user.grantedScopes, ...words(asked["scope"] ?? ""), ...words(scope)])];
    const code = randomName("", 20);
    this.secrets.add(plant(code));
    this.#codes.set(code, {
      user,
      scopes: user.grantedScopes,
      redirectUri: redirectUri ?? null,
      challenge: challenge ?? null,
      expiresAt: this.#now() + CODE_MS,
    });
    return this.#callback(back, { code, ...state });
  }

  /** Answers a request wherever it was sent to, so that the fake can be served. */
  handler(request: Request): Promise<Response> {
    return this.#answer(request, { isWeb: true, isApi: true });
  }

  async #fetch(request: Request): Promise<Response> {
    request.signal.throwIfAborted();
    const { origin } = new URL(request.url);
    const place = { isWeb: origin === new URL(this.url).origin, isApi: origin === new URL(this.apiUrl).origin };
    if (!place.isWeb && !place.isApi) throw this.#surprise(request.method, request.url.split("?")[0]!);
    const response = await this.#answer(request, place);
    // A response that was made by hand does not know where it came from; one that was fetched does.
    return Object.defineProperty(response, "url", { value: request.url });
  }

  async #answer(request: Request, { isWeb, isApi }: { isWeb: boolean; isApi: boolean }): Promise<Response> {
    const { method } = request;
    const { pathname: path } = new URL(request.url);
    const call = `${method} ${path}`;
    this.requests.push({ method, path });
    await this.before?.(call);
    if (this.down !== null && (this.down.only ?? /^/).test(call)) {
      if (this.down.answer === "nothing") throw new TypeError("error sending request");
      return new Response("<html><title>Unicorn!</title></html>", { status: this.down.answer });
    }
    if (isWeb && call === "POST /login/oauth/access_token") return await this.#accessToken(request);
    if (isWeb && call === "GET /login/oauth/authorize" && this.signedIn !== null) {
      return Response.redirect(this.authorize(this.url + path + new URL(request.url).search, this.signedIn), 302);
    }
    if (!isApi || path.startsWith("/login/")) throw this.#surprise(method, path);

    if (!request.headers.get("user-agent")?.trim()) {
      const text = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header";
      return new Response(text, { status: 403 });
    }
    const version = request.headers.get("x-github-api-version");
    if (version !== null && !["2022-11-28", "2026-03-10"].includes(version)) {
      return api(400, { message: `"${version}" is not a valid API version` });
    }
    const response = call === "POST /credentials/revoke"
      ? await this.#revokeCredentials(request)
      : path.startsWith("/applications/")
      ? await this.#application(request, path)
      : await this.#api(request, path);
    response.headers.set("date", new Date(this.#now()).toUTCString());
    return response;
  }

  /** POST /login/oauth/access_token: errors come with status 200. */
  async #accessToken(request: Request): Promise<Response> {
    const text = await request.text();
    const isJson = /^application\/json/.test(request.headers.get("content-type") ?? "");
    const sent = new URLSearchParams(isJson ? JSON.parse(text) as Record<string, string> : text);
    const answer = sent.get("grant_type") === "refresh_token"
      ? this.#refresh(this.#parameters(sent, REFRESH_PARAMETERS, "POST", "/login/oauth/access_token"))
      : this.#exchange(this.#parameters(sent, EXCHANGE_PARAMETERS, "POST", "/login/oauth/access_token"));
    if (/\bapplication\/json\b/.test(request.headers.get("accept") ?? "")) return Response.json(answer);
    const form = Object.entries(answer).map(([name, value]): [string, string] => [name, String(value)]);
    return new Response(new URLSearchParams(form));
  }

  #exchange(asked: Record<string, string>): Record<string, string | number> {
    const { code: text = "", redirect_uri: redirectUri, code_verifier: verifier } = asked;
    if (verifier !== undefined) this.secrets.add(plant(verifier));
    if (!this.#isApp(asked)) return oauthError("incorrect_client_credentials");
    if (this.isAppSuspended) return oauthError("application_suspended");
    const code = this.#codes.get(text);
    if (code === undefined || code.expiresAt <= this.#now()) return oauthError("bad_verification_code");
    if (redirectUri !== undefined && redirectUri !== (code.redirectUri ?? this.callbackUrl)) {
      return oauthError("redirect_uri_mismatch");
    }
    this.#codes.delete(text);
    const isProven = code.challenge === null ||
      (/^[\w.~-]{43,128}$/.test(verifier ?? "") &&
        createHash("sha256").update(verifier!).digest("base64url") === code.challenge);
    if (!isProven) return oauthError("bad_verification_code");
    if (!code.user.hasVerifiedEmail) return oauthError("unverified_user_email");
    return this.#issue(code.user, code.scopes).answer;
  }

  /** The old refresh token and the old access token die at once. */
  #refresh(asked: Record<string, string>): Record<string, string | number> {
    if (!this.#isApp(asked)) return oauthError("incorrect_client_credentials");
    if (this.isAppSuspended) return oauthError("application_suspended");
    const old = this.#refreshTokens.get(asked["refresh_token"] ?? "");
    const token = old === undefined || old.expiresAt <= this.#now() ? undefined : this.#tokens.get(old.token);
    if (old === undefined || token === undefined) return oauthError("bad_refresh_token");
    this.#kill(old.token);
    return this.#issue(token.user, token.scopes, true).answer;
  }

  #issue(user: FakeUser, scopes: string[], expires = this.expiringTokens) {
    const token = randomName("gho_", 36);
    this.secrets.add(plant(token));
    this.#tokens.set(token, {
      user,
      scopes,
      kind: "of the app",
      expiresAt: expires ? this.#now() + TOKEN_SECONDS * 1000 : null,
    });
    const answer: Record<string, string | number> = {
      access_token: token,
      scope: this.concealsScopes ? "" : scopes.join(","),
      token_type: "bearer",
    };
    if (expires) {
      const refreshToken = randomName("ghr_", 76);
      this.secrets.add(plant(refreshToken));
      this.#refreshTokens.set(refreshToken, { token, expiresAt: this.#now() + REFRESH_TOKEN_SECONDS * 1000 });
      answer["expires_in"] = TOKEN_SECONDS;
      answer["refresh_token"] = refreshToken;
      answer["refresh_token_expires_in"] = REFRESH_TOKEN_SECONDS;
    }
    const same = [...this.#tokens].filter(([, other]) =>
      other.kind === "of the app" && other.user === user && `${other.scopes}` === `${scopes}`
    );
    for (const [oldest] of same.slice(0, Math.max(0, same.length - TOKENS_AT_MOST))) this.#kill(oldest);
    return { token, answer };
  }

  /** POST and DELETE /applications/{client_id}/token, DELETE …/grant: as the app, on the app's own limit. */
  async #application(request: Request, path: string): Promise<Response> {
    const [, , clientId, what, ...more] = path.split("/");
    const call = `${request.method} ${what}`;
    if (more.length > 0 || !["POST token", "DELETE token", "DELETE grant"].includes(call)) {
      throw this.#surprise(request.method, path);
    }
    const basic = `Basic ${Buffer.from(`${this.clientId}:${this.clientSecret}`).toString("base64")}`;
    if (request.headers.get("authorization") !== basic) {
      return api(401, { message: "Bad credentials" }, this.#charge("anonymous", "core", 1).headers);
    }
    const { headers } = this.#charge("app", "core", 1);
    if (clientId !== this.clientId) return api(404, { message: "Not Found" }, headers);
    const { access_token: token } = await request.json() as { access_token?: unknown };
    if (typeof token !== "string" || token === "") return api(422, { message: "Validation Failed" }, headers);
    const known = this.#live(token);
    if (known === null || known.kind !== "of the app" || (this.outage404 && request.method === "POST")) {
      return api(404, { message: "Not Found" }, headers);
    }
    if (call === "POST token") {
      const { user: { id, login }, scopes, expiresAt } = known;
      const app = { name: "GitHub Token Pool", client_id: this.clientId };
      const expiry = expiresAt === null ? null : new Date(expiresAt).toISOString();
      return api(200, { id, scopes, token, app, expires_at: expiry, user: { id, login } }, headers);
    }
    if (what === "token") this.#kill(token);
    else this.#endGrant(known.user);
    return api(204, null, headers);
  }

  /** POST /credentials/revoke: for everybody, so for nobody who says who they are. */
  async #revokeCredentials(request: Request): Promise<Response> {
    if (this.#isEnterprise) return api(404, { message: "Not Found" });
    if (request.headers.has("authorization")) return api(403, { message: "Forbidden" });
    const now = this.#now();
    const isSpam = this.#bulkRevocations.filter((at) => at > now - 3_600_000).length >= REVOCATIONS_AN_HOUR;
    const { credentials, ...more } = await request.json() as Record<string, unknown>;
    const isValid = Array.isArray(credentials) && credentials.length > 0 &&
      credentials.length <= CREDENTIALS_AT_MOST && Object.keys(more).length === 0 &&
      credentials.every((text) => typeof text === "string" && REVOKABLE.test(text));
    if (isSpam || !isValid) return api(422, { message: "Validation failed, or the endpoint has been spammed." });
    this.#bulkRevocations.push(now);
    for (const credential of credentials as string[]) {
      this.#kill(this.#refreshTokens.get(credential)?.token ?? credential);
    }
    return Response.json({}, { status: 202 });
  }

  async #api(request: Request, path: string): Promise<Response> {
    const [scheme, token, ...more] = (request.headers.get("authorization") ?? "").split(" ");
    const isToken = /^(bearer|token)$/i.test(scheme ?? "") && token !== undefined && more.length === 0;
    const known = isToken && !this.outage401 ? this.#live(token) : null;
    if (known === null && scheme !== "") {
      // A token that is not known is nobody's: the numbers are those of the caller's address.
      return api(401, { message: "Bad credentials" }, this.#charge("anonymous", "core", 1).headers);
    }
    const owner = known === null ? "anonymous" : `user ${known.user.id}`;
    const found = await this.#resource(request, path, known);
    const scopes: Record<string, string> = known === null ? {} : { "x-oauth-scopes": known.scopes.join(", ") };
    const etag = `"${createHash("sha256").update(`${path} ${token}`).digest("hex")}"`;
    const isUnchanged = known !== null && request.headers.get("if-none-match") === etag;
    const isFree = isUnchanged || path === "/rate_limit";
    const { headers, isExceeded } = this.#charge(owner, found.resource, isFree ? 0 : 1);
    if (isExceeded && !isFree) {
      const message = known === null
        ? "API rate limit exceeded for 192.0.2.1. (But here's the good news: Authenticated requests get a higher limit.)"
        : `API rate limit exceeded for user ID ${known.user.id}.`;
      return found.resource === "graphql"
        ? api(200, { errors: [{ type: "RATE_LIMITED", message }] }, { ...headers, ...scopes })
        : api(403, { message }, { ...headers, ...scopes });
    }
    if (isUnchanged) return api(304, null, { ...headers, etag });
    return api(found.status, found.body, { ...headers, ...scopes, etag });
  }

  /** What there is to be had, and from which bucket. */
  async #resource(
    request: Request,
    path: string,
    known: Token | null,
  ): Promise<{ status: number; body: unknown; resource: string }> {
    const { method } = request;
    if (method === "POST" && path === "/graphql") {
      await request.json();
      return { status: 200, body: { data: { viewer: { login: known?.user.login } } }, resource: "graphql" };
    }
    if (method !== "GET" && method !== "HEAD") throw this.#surprise(method, path);
    if (path === "/user") {
      const { id, login } = known?.user ?? {};
      return known === null
        ? { status: 401, body: { message: "Requires authentication" }, resource: "core" }
        : { status: 200, body: { id, login, type: "User", site_admin: false }, resource: "core" };
    }
    if (path === "/rate_limit") return { status: 200, body: { resources: this.#limitsOf(known) }, resource: "core" };
    if (path === "/search/code") return { status: 200, body: { items: [] }, resource: "code_search" };
    if (/^\/search\/\w+$/.test(path)) return { status: 200, body: { items: [] }, resource: "search" };
    if (/^\/repos\/missing\//.test(path)) return { status: 404, body: { message: "Not Found" }, resource: "core" };
    if (/^\/(repos\/[\w.-]+\/[\w.-]+(\/.*)?|users\/[\w-]+|orgs\/[\w-]+)$/.test(path)) {
      return { status: 200, body: { url: this.apiUrl + path }, resource: "core" };
    }
    throw this.#surprise(method, path);
  }

  #limitsOf(known: Token | null) {
    const owner = known === null ? "anonymous" : `user ${known.user.id}`;
    return Object.fromEntries(
      Object.keys(LIMITS).map((resource) => {
        const { used, reset } = this.#window(owner, resource);
        const limit = this.#limitOf(owner, resource).limit;
        return [resource, { limit, used, remaining: limit - used, reset }];
      }),
    );
  }

  #charge(owner: string, resource: string, cost: number): { headers: Record<string, string>; isExceeded: boolean } {
    const { limit } = this.#limitOf(owner, resource);
    const window = this.#window(owner, resource);
    const isExceeded = window.used + cost > limit;
    if (!isExceeded) window.used += cost;
    const headers = {
      "x-ratelimit-limit": String(limit),
      "x-ratelimit-remaining": String(limit - window.used),
      "x-ratelimit-used": String(window.used),
      "x-ratelimit-reset": String(window.reset),
      "x-ratelimit-resource": resource,
    };
    return { headers, isExceeded };
  }

  /** A window begins with the first call in it, and has a fixed length. */
  #window(owner: string, resource: string): RateWindow {
    const now = Math.floor(this.#now() / 1000);
    const key = `${owner} ${resource}`;
    const open = this.#windows.get(key);
    if (open !== undefined && open.reset > now && open.used > 0) return open;
    const window = { used: 0, reset: now + this.#limitOf(owner, resource).seconds };
    this.#windows.set(key, window);
    return window;
  }

  #limitOf(owner: string, resource: string): { limit: number; seconds: number } {
    return owner === "anonymous" ? ANONYMOUS : this.#limits[resource]!;
  }

  #live(token: string): Token | null {
    const known = this.#tokens.get(token);
    return known === undefined || (known.expiresAt ?? Infinity) <= this.#now() ? null : known;
  }

  #kill(token: string): void {
    this.#tokens.delete(token);
    for (const [refreshToken, { token: of }] of this.#refreshTokens) {
      if (of === token) this.#refreshTokens.delete(refreshToken);
    }
  }

  #endGrant(user: FakeUser): void {
    user.grantedScopes = [];
    for (const [token, { user: owner, kind }] of this.#tokens) {
      if (owner === user && kind === "of the app") this.#kill(token);
    }
    for (const [code, { user: owner }] of this.#codes) if (owner === user) this.#codes.delete(code);
  }

  #user(login: string): FakeUser {
    const user = this.#users.get(login);
    if (user === undefined) throw new Error(`The fake GitHub has no user ${login}`);
    return user;
  }

  #isApp(asked: Record<string, string>): boolean {
    return asked["client_id"] === this.clientId && asked["client_secret"] === this.clientSecret;
  }

  /** Host and port as registered, any port of a loopback address, the path or one below it. */
  #isRegistered(redirectUri: string): boolean {
    if (!URL.canParse(redirectUri)) return false;
    const [asked, registered] = [new URL(redirectUri), new URL(this.callbackUrl)];
    const isLoopback = /^(127\.0\.0\.1|\[::1\])$/.test(asked.hostname);
    const isHost = isLoopback ? asked.hostname === registered.hostname : asked.host === registered.host;
    const isPath = asked.pathname === registered.pathname || asked.pathname.startsWith(`${registered.pathname}/`);
    return isHost && isPath && asked.protocol === registered.protocol;
  }

  #callback(to: string, parameters: Record<string, string>): string {
    const url = new URL(to);
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    return url.href;
  }

  /** Parameters by name; one that is unknown, or comes twice, is a surprise. */
  #parameters(sent: URLSearchParams, known: string[], method: string, path: string): Record<string, string> {
    for (const name of sent.keys()) {
      if (!known.includes(name)) throw this.#surprise(method, path, `the parameter ${name}`);
      if (sent.getAll(name).length > 1) throw this.#surprise(method, path, `the parameter ${name} twice`);
    }
    return Object.fromEntries(sent);
  }

  #surprise(method: string, path: string, what = "that request"): Error {
    const text = `${method} ${path}: ${what} is not known here`;
    this.#surprises.push(text);
    return new Error(text);
  }
}

function oauthError(error: string): Record<string, string> {
  const page = "https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting";
  return { error, error_description: DESCRIPTIONS[error]!, error_uri: `${page}#${error}` };
}

function api(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  if (body === null) return new Response(null, { status, headers });
  return Response.json(body, { status, headers });
}

function words(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== "");
}

/** As GitHub's tokens look, a prefix and letters and digits; but for the mark. */
function randomName(prefix: string, length: number): string {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  const bytes = crypto.getRandomValues(new Uint8Array(length - MARK.length));
  return prefix + MARK + Array.from(bytes, (byte) => letters[byte % letters.length]).join("");
}
