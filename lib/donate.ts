/**
 * The contributor's flow: a person lends a token, or takes it back. No account, no session: GitHub says who it is.
 *
 *     begin: state, PKCE verifier, purpose → sealed into a cookie; the person goes to GitHub
 *     finish: cookie and state match → exchange → no scope → who is it → store or delete → tell GitHub
 *
 * Who only wants to look at a donation goes the same way, and the fresh token is revoked as soon as it has told who
 * that is (lib/donation.ts has the rest).
 *
 * The cookie is all that is remembered of a person between the two, for ten minutes. Whatever is not clear ends with
 * nothing stored, and with the fresh token revoked.
 *
 * @module
 */

import { z } from "npm:zod@4.6.7";
import { MAX_RESERVE } from "./config.ts";
import { isSameText, randomText, sha256Base64Url } from "./crypto.ts";
import { PoolError } from "./errors.ts";
import type { GitHub, GitHubUser, Grant } from "./github.ts";
import type { Vault } from "./vault.ts";

/** As long as GitHub's code lives (docs: "the code will expire after 10 minutes"). */
export const TRANSACTION_SECONDS = 600;

/** Shares that a donor can keep, of which the page offers one each. */
export const RESERVES: readonly number[] = [0.25, 0.5, 0.75, 0.9];

/** What the page has chosen beforehand: half is the donor's. */
export const SUGGESTED_RESERVE = 0.5;

/** What a person set out to do. */
export type Purpose = "donate" | "withdraw" | "manage";

/** How it ended. */
export type Outcome =
  | { kind: "donated"; login: string; reserve: number; isUpdate: boolean; expires: boolean }
  | { kind: "withdrawn"; wasDonor: boolean; isRevoked: boolean }
  | { kind: "identified"; githubUserId: string; login: string; isRevoked: boolean }
  | { kind: "failed"; reason: FailureReason };

/** Why nothing was stored. Each has a page of its own. */
export type FailureReason =
  | "expired"
  | "mismatch"
  | "disabled"
  | "cancelled"
  | "code_refused"
  | "misconfigured"
  | "email_unverified"
  | "has_scopes"
  | "grant_ends"
  | "github_away"
  | "database_away"
  | "wrong_key";

const transactionSchema = z.object({
  state: z.string(),
  verifier: z.string(),
  purpose: z.enum(["donate", "withdraw", "manage"]),
  reserve: z.number().min(0).max(MAX_RESERVE),
  /** Epoch milliseconds. */
  expiresAt: z.number(),
});

type Transaction = z.output<typeof transactionSchema>;

const TRANSACTION_PLACE = { column: "transaction", githubUserId: "" };

/** What the flow is made of. */
export interface DonationFlowOptions {
  vault: Vault;
  github: GitHub;
  /** Where GitHub sends the person back to; exactly what is registered there. */
  redirectUri: string;
}

/** Lending and taking back. */
export class DonationFlow {
  readonly #options: DonationFlowOptions;

  constructor(options: DonationFlowOptions) {
    this.#options = options;
  }

  /**
   * Begins a transaction.
   *
   * @returns Where to send the person, and what to remember: a sealed text, to be found again by the state.
   */
  async begin(purpose: Purpose, reserve: number): Promise<{ location: string; state: string; sealed: string }> {
    const { vault, github, redirectUri } = this.#options;
    const [state, verifier] = [randomText(), randomText()];
    const expiresAt = vault.now() + TRANSACTION_SECONDS * 1000;
    const transaction: Transaction = { state, verifier, purpose, reserve, expiresAt };
    const sealed = await (await vault.keyring()).seal(JSON.stringify(transaction), TRANSACTION_PLACE);
    const location = github.authorizeUrl({ state, challenge: await sha256Base64Url(verifier), redirectUri });
    return { location, state, sealed };
  }

  /**
   * Finishes a transaction.
   *
   * @param callback The parameters of the callback.
   * @param sealed What {@linkcode begin} gave to remember, if it is still there. Without it nothing is asked of
   * anybody, neither the database nor GitHub.
   */
  async finish(callback: URLSearchParams, sealed: string | undefined): Promise<Outcome> {
    const transaction = sealed === undefined ? null : await this.#open(sealed);
    if (transaction === null) return failed("expired");
    const state = once(callback, "state");
    if (state === null || !await isSameText(state, transaction.state)) return failed("mismatch");
    if (callback.has("error")) return failed(reasonOf(once(callback, "error")));
    const code = once(callback, "code");
    if (code === null) return failed("code_refused");
    try {
      return await this.#exchange(code, transaction);
    } catch (error) {
      return failed(reasonOfError(error));
    }
  }

  async #open(sealed: string): Promise<Transaction | null> {
    const { vault } = this.#options;
    const text = await (await vault.keyring()).open(sealed, TRANSACTION_PLACE);
    const parsed = transactionSchema.safeParse(text === null ? null : JSON.parse(text));
    return parsed.success && parsed.data.expiresAt > vault.now() ? parsed.data : null;
  }

  async #exchange(code: string, transaction: Transaction): Promise<Outcome> {
    const { vault, github, redirectUri } = this.#options;
    // Who set out before the pool was switched off: a code that is not exchanged leaves no token behind.
    if (transaction.purpose === "donate" && vault.settings.read().TOKEN_POOL_DISABLED) return failed("disabled");
    const answer = await github.exchangeCode({ code, verifier: transaction.verifier, redirectUri });
    if (answer.kind === "refused") return failed(reasonOf(answer.error));
    const { grant } = answer;
    try {
      const user = await github.user(grant.token);
      if (transaction.purpose === "withdraw") return await this.#withdraw(grant, user);
      if (transaction.purpose === "manage") return await this.#identify(grant, user);
      if (grant.scope !== "" || user.scopes !== "") return await this.#refuse(grant, user);
      return await this.#donate(grant, user, transaction.reserve);
    } catch (error) {
      await this.#revokeSurely("token", "", grant.token);
      throw error;
    }
  }

  /**
   * An earlier grant of this app had scopes, or the address was tampered with. The next donation starts clean. One that
   * there is has died with the grant, so it rests until upkeep has heard that from GitHub.
   */
  async #refuse(grant: Grant, user: GitHubUser): Promise<Outcome> {
    const githubUserId = String(user.id);
    await this.#revokeSurely("grant", githubUserId, grant.token);
    await this.#unlessAway(async () => {
      const store = await this.#options.vault.store();
      const earlier = (await store.find(githubUserId)).find((donation) => donation.githubUserId === githubUserId);
      if (earlier !== undefined) await store.suspect(earlier.id, earlier.token);
    });
    return failed("has_scopes");
  }

  async #donate(grant: Grant, user: GitHubUser, reserve: number): Promise<Outcome> {
    const { vault } = this.#options;
    const githubUserId = String(user.id);
    const lifetimeSeconds = grant.expiresInSeconds;
    const donation = {
      github_user_id: githubUserId,
      github_username: user.login,
      token: grant.token,
      reserve,
      refresh_token: grant.refreshToken,
      expires_at: lifetimeSeconds === null ? null : vault.now() + lifetimeSeconds * 1000,
    };
    const deposited = await this.#unlessGrantEnds(vault.deposit(donation, { revokeReplaced: true }));
    if (deposited === null) {
      await this.#revokeSurely("token", githubUserId, grant.token);
      return failed("grant_ends");
    }
    const { replaced, isUpdate } = deposited;
    // It is queued already; upkeep has to do it only if this fails.
    if (replaced !== null && await this.#revoke("token", replaced.token)) {
      await this.#unlessAway(async () => (await vault.store()).unqueueRevocation(githubUserId, replaced.sealed));
    }
    return { kind: "donated", login: user.login, reserve, isUpdate, expires: lifetimeSeconds !== null };
  }

  /** Null while GitHub is revoking the grant of this user; a vault has nothing else to do with GitHub. */
  async #unlessGrantEnds<T>(deposit: Promise<T>): Promise<T | null> {
    try {
      return await deposit;
    } catch (error) {
      if (error instanceof PoolError && error.code === "github") return null;
      throw error;
    }
  }

  /**
   * First the pool, then GitHub: once the row is gone nobody hands the token out again, whatever GitHub answers. What it
   * is to be asked is queued with that, so that neither a crash nor another tab's donation comes in between unnoticed.
   */
  async #withdraw({ token }: Grant, user: GitHubUser): Promise<Outcome> {
    const { vault } = this.#options;
    const githubUserId = String(user.id);
    const sealed = await this.#sealed(token, githubUserId);
    const wasDonor = await vault.withdraw(githubUserId, sealed);
    const isRevoked = await this.#revoke("grant", token);
    if (sealed !== null) {
      await this.#unlessAway(async () => {
        const store = await vault.store();
        await (isRevoked
          ? store.unqueueRevocation(githubUserId, sealed)
          : store.hastenRevocation(githubUserId, sealed));
      });
    }
    return { kind: "withdrawn", wasDonor, isRevoked };
  }

  /** The fresh token has done its work. Never the grant, which would take the donation along. */
  async #identify(grant: Grant, { id, login }: GitHubUser): Promise<Outcome> {
    const githubUserId = String(id);
    const isRevoked = await this.#revokeSurely("token", githubUserId, grant.token);
    return { kind: "identified", githubUserId, login, isRevoked };
  }

  /** A text for the outbox; null with a key that is not the pool's, which is no reason not to let anybody go. */
  async #sealed(token: string, githubUserId: string): Promise<string | null> {
    try {
      const { keyring } = await this.#options.vault.unlock();
      return await keyring.seal(token, { column: "token", githubUserId });
    } catch (error) {
      if (error instanceof PoolError && error.code === "wrong_key") return null;
      throw error;
    }
  }

  async #revoke(what: "token" | "grant", token: string): Promise<boolean> {
    const { github } = this.#options;
    try {
      return await (what === "grant" ? github.deleteGrant(token) : github.deleteToken(token));
    } catch {
      return false; // the caller decides whether it is tried again
    }
  }

  /** Revokes now, or leaves it to upkeep. Returns whether GitHub has confirmed it. */
  async #revokeSurely(what: "token" | "grant", githubUserId: string, token: string): Promise<boolean> {
    const isRevoked = await this.#revoke(what, token);
    if (!isRevoked) {
      await this.#unlessAway(async () => {
        const sealed = await this.#sealed(token, githubUserId);
        if (sealed !== null) await (await this.#options.vault.store()).addRevocation(githubUserId, sealed, what);
      });
    }
    return isRevoked;
  }

  /** What is done for good measure: if it fails, what was done for the donor stands, and the page names the way out. */
  async #unlessAway(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
    }
  }
}

function failed(reason: FailureReason): Outcome {
  return { kind: "failed", reason };
}

/** A parameter that occurs exactly once; twice is nobody's honest callback. */
function once(parameters: URLSearchParams, name: string): string | null {
  const [value, ...more] = parameters.getAll(name);
  return value === undefined || value === "" || more.length > 0 ? null : value;
}

/** GitHub's error codes: docs.github.com/apps/oauth-apps/maintaining-oauth-apps, the two troubleshooting pages. */
function reasonOf(error: string | null): FailureReason {
  switch (error) {
    case "access_denied":
      return "cancelled";
    case "redirect_uri_mismatch":
    case "incorrect_client_credentials":
    case "application_suspended":
      return "misconfigured";
    case "unverified_user_email":
      return "email_unverified";
    default:
      return "code_refused";
  }
}

function reasonOfError(error: unknown): FailureReason {
  if (!(error instanceof PoolError)) throw error;
  switch (error.code) {
    case "github":
      return "github_away";
    case "wrong_key":
      return "wrong_key";
    case "config":
      return "misconfigured";
    default:
      return "database_away";
  }
}
