/**
 * The model of GitHub's OAuth endpoints: codes, tokens that may expire, questions about tokens, and revocations.
 *
 * @module
 */

import type { Facts, Operation } from "./facts.ts";
import type { GitHubModel, ModelUser } from "./github_model.ts";
import { Violation } from "./invariants.ts";
import type { Random } from "./random.ts";

/** What every secret of the simulation holds, so that a leak is found. */
export const SECRET_MARK = "Zq7Secret";

const TOKEN_SECONDS = 28_800;

/** What the model is made of. */
export interface OAuthModelOptions {
  model: GitHubModel;
  facts: Facts;
  random: Random;
  now: () => number;
  /** Whether tokens expire. */
  expires: boolean;
  /** Lets a token die after so many seconds. */
  after: (ms: number, run: () => void) => void;
  /** Something went wrong that must not. */
  fail: (violation: Violation) => void;
}

/** GitHub, as the OAuth App's endpoints show it. */
export class OAuthModel {
  readonly #options: OAuthModelOptions;
  readonly #codes = new Map<string, ModelUser>();
  /** What each code was exchanged for. */
  readonly #granted = new Map<string, string>();
  readonly #refreshTokens = new Map<string, { user: ModelUser; token: string }>();
  /** The app's tokens by user: a grant that is revoked takes all along. */
  readonly #tokens = new Map<ModelUser, Set<string>>();
  #count = 0;

  constructor(options: OAuthModelOptions) {
    this.#options = options;
  }

  /** A user agrees. Returns the code of the callback. */
  authorize(user: ModelUser): string {
    const code = this.#secret("code");
    this.#codes.set(code, user);
    return code;
  }

  /** The token that a code was exchanged for; null = it was not. */
  grantedFor(code: string): string | null {
    return this.#granted.get(code) ?? null;
  }

  /** A user revokes what was granted, in the settings of GitHub. */
  revokeByUser(user: ModelUser): void {
    for (const token of this.#tokens.get(user) ?? []) this.#die(token);
  }

  /** Answers a request of the service. */
  answer(request: Request, path: string, body: string, operation: Operation | null): Response {
    if (path === "/login/oauth/access_token") return this.#exchange(new URLSearchParams(body));
    if (path === "/user") return this.#user(request.headers.get("authorization")!.replace(/^Bearer /, ""));
    if (this.#options.now() < this.#options.model.outageUntil) {
      return Response.json({ message: "Bad credentials" }, { status: 401 });
    }
    const token = (JSON.parse(body) as { access_token: string }).access_token;
    const user = this.#options.model.ownerOf(token);
    if (request.method === "POST") {
      if (user !== null) return Response.json({ user: { id: user.id, login: user.login } });
      this.#options.facts.disowned.add(token);
      return Response.json({ message: "Not Found" }, { status: 404 });
    }
    if (user === null) return Response.json({ message: "Not Found" }, { status: 404 });
    const dying = path.endsWith("/grant") ? [...this.#tokens.get(user) ?? []] : [token];
    this.#expectUnused(user, dying, operation);
    for (const each of dying) this.#die(each);
    return new Response(null, { status: 204 });
  }

  #exchange(parameters: URLSearchParams): Response {
    if (parameters.get("grant_type") === "refresh_token") {
      const old = this.#refreshTokens.get(parameters.get("refresh_token")!);
      if (old === undefined) {
        return Response.json({ error: "bad_refresh_token" });
      }
      this.#refreshTokens.delete(parameters.get("refresh_token")!);
      this.#die(old.token);
      return this.#grant(old.user, this.#secret("gho"));
    }
    const code = parameters.get("code")!;
    const user = this.#codes.get(code);
    this.#codes.delete(code);
    if (user === undefined) return Response.json({ error: "bad_verification_code" });
    const token = this.#secret("gho");
    this.#granted.set(code, token);
    return this.#grant(user, token);
  }

  #grant(user: ModelUser, token: string): Response {
    this.#options.model.grant(user, token);
    const tokens = this.#tokens.get(user) ?? new Set();
    this.#tokens.set(user, tokens.add(token));
    const granted = { access_token: token, scope: "", token_type: "bearer" };
    if (!this.#options.expires) return Response.json(granted);
    const refreshToken = this.#secret("ghr");
    this.#refreshTokens.set(refreshToken, { user, token });
    this.#options.after(TOKEN_SECONDS * 1000, () => this.#die(token));
    return Response.json({ ...granted, expires_in: TOKEN_SECONDS, refresh_token: refreshToken });
  }

  #user(token: string): Response {
    const user = this.#options.model.ownerOf(token);
    if (user === null || this.#options.now() < this.#options.model.outageUntil) {
      return Response.json({ message: "Bad credentials" }, { status: 401 });
    }
    return Response.json({ id: user.id, login: user.login }, { headers: { "x-oauth-scopes": "" } });
  }

  #die(token: string): void {
    const user = this.#options.model.ownerOf(token);
    if (user !== null) this.#tokens.get(user)?.delete(token);
    this.#options.model.revoke(token);
    this.#options.facts.disowned.add(token); // whoever asks from now on is told so
  }

  /** The service must not revoke a token that was acknowledged before it set out to. */
  #expectUnused(user: ModelUser, dying: string[], operation: Operation | null): void {
    const fact = this.#options.facts.donors.get(String(user.id));
    if (fact?.state !== "donated" || !dying.includes(fact.secret!)) return;
    if (operation === null || operation.startedAt <= fact.acknowledgedAt) return;
    this.#options.fail(
      new Violation(2, `the donation of user ${user.id} left alive at GitHub`, `${operation.what} revoked its token`),
    );
  }

  #secret(kind: string): string {
    return `${kind}_${SECRET_MARK}${++this.#count}x${this.#options.random.uint32().toString(36)}`;
  }
}
