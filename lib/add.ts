/**
 * A token of the operator's own, which did not come by the web flow: so it is asked first whose it is, and that it can
 * read nothing but what is public.
 *
 * @module
 */

import { assertReserve } from "./config.ts";
import { PoolError } from "./errors.ts";
import { type GitHub, isOfApp } from "./github.ts";
import { type Donation, TOKEN_PATTERN, type Vault } from "./vault.ts";

/** What became of the token. */
export interface AddReport {
  login: string;
  github_user_id: string;
  /** The donation; null when it was only looked at. */
  id: number | null;
  /** Whether it took the place of an earlier one, whose token upkeep revokes, if it was another. */
  updated: boolean;
  /** Whether the pool's app issued it. A personal token stays its owner's to revoke. */
  revocable: boolean;
}

/** What a token is added with. */
export interface AddOptions {
  vault: Vault;
  github: GitHub;
  /** Share of each limit that is never used; by default the pool's. */
  reserve?: number | undefined;
  /** Look, and change nothing. */
  dryRun: boolean;
}

/**
 * Checks a token with GitHub and stores it.
 *
 * @throws {RangeError} When it is not of a token's form, or the reserve not a share.
 * @throws {PoolError} With code `github` when GitHub does not know it, or it can do more than read what is public; with
 * code `config`, `database` or `wrong_key`. Then nothing was stored.
 */
export async function add(token: string, { vault, github, reserve, dryRun }: AddOptions): Promise<AddReport> {
  if (!TOKEN_PATTERN.test(token)) {
    throw new RangeError("What came on standard input is not a token: give one, and nothing else");
  }
  if (reserve !== undefined) assertReserve(reserve);
  await vault.unlock();
  const user = await github.owner(token);
  if (user === null) throw new PoolError("github", "GitHub does not know this token; nothing was stored");
  if (user.scopes !== "") {
    const found = user.scopes === null ? "GitHub does not say what this token may do" : "This token has scopes";
    throw new PoolError("github", `${found}: make a classic one without any scope. Nothing was stored`);
  }
  if (isOfApp(token) && await github.checkToken(token) !== "valid") {
    // It would be deleted at the first doubt: the app is told that there is no such token.
    throw new PoolError(
      "github",
      "This token is of another OAuth App than the pool's, or GitHub would not say. " +
        "Give a personal access token (classic) without any scope. Nothing was stored",
    );
  }
  const donation: Donation = { github_user_id: String(user.id), github_username: user.login, token };
  if (reserve !== undefined) donation.reserve = reserve;
  const earlier = await tokenOf(donation.github_user_id, vault);
  const report = { login: user.login, github_user_id: donation.github_user_id, revocable: isOfApp(token) };
  if (dryRun) return { ...report, id: null, updated: earlier !== undefined };
  // The same one again, as after a run that was cut off, must not even be queued to be revoked.
  const { id, isUpdate } = await vault.deposit(donation, { revokeReplaced: earlier !== token });
  return { ...report, id, updated: isUpdate };
}

/** What a user has donated: null when it does not open, undefined when there is nothing. */
async function tokenOf(githubUserId: string, vault: Vault): Promise<string | null | undefined> {
  const found = await (await vault.store()).find(githubUserId);
  const earlier = found.find((donation) => donation.githubUserId === githubUserId);
  return earlier === undefined ? undefined : await vault.openText(earlier.token, "token", githubUserId);
}
