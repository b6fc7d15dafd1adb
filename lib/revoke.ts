/**
 * Taking donations out at the operator's word: one by name, or in an emergency all of them.
 *
 * GitHub first, then the pool: a run that is cut off in between leaves a row whose token is dead, which the next run
 * finds again, asks GitHub to revoke once more, and deletes. The other way round it would leave a token that is alive
 * and that nobody knows of.
 *
 * @module
 */

import { PoolError } from "./errors.ts";
import { CREDENTIALS_AT_MOST, type GitHub, isOfApp } from "./github.ts";
import type { SealedToken, StoredDonation } from "./records.ts";
import type { Store } from "./store.ts";
import type { Vault } from "./vault.ts";

/** What both are made of. */
export interface RevokeOptions {
  vault: Vault;
  github: GitHub;
  /** Look, and change nothing. */
  dryRun: boolean;
}

/** What became of a donation that the operator removed. */
export interface RemoveReport {
  id: number;
  login: string | null;
  github_user_id: string;
  reason: string;
  removed: boolean;
  /**
   * `done`; `queued`, for upkeep to do because GitHub was away or the token does not open; `impossible`, because it is
   * a personal token that only its owner can revoke; null when it was only looked at.
   */
  revocation: "done" | "queued" | "impossible" | null;
}

/** How often a donation is looked up again whose donor gives another token at this very moment. */
const TRIES = 3;

/**
 * Deletes one donation, revokes its grant at GitHub, and counts the reason.
 *
 * @param who A login, GitHub's id of the user, or `#` and the id of the donation.
 * @param reason Why, for the counters.
 * @throws {RangeError} When nobody is meant, or more than one.
 * @throws {PoolError} With code `config`, `database` or `wrong_key`.
 */
export async function remove(who: string, reason: string, options: RevokeOptions): Promise<RemoveReport> {
  const { vault, github, dryRun } = options;
  const { store } = await vault.unlock();
  for (let attempt = 1; attempt <= TRIES; attempt++) {
    const donation = await theOne(store, who);
    const { id, login, githubUserId } = donation;
    const report = { id, login, github_user_id: githubUserId, reason };
    if (dryRun) return { ...report, removed: false, revocation: null };
    const revocation = await revokeGrant(donation, vault, github);
    const [tombstone] = await vault.tombstones(githubUserId);
    if (await store.dismiss(donation, reason, { queueGrant: revocation === "queued", tombstone: tombstone! })) {
      return { ...report, removed: true, revocation };
    }
  }
  throw new PoolError("database", "The donation was changed again and again while it was removed; try again");
}

/** The name is not repeated: it may be a token that somebody has put there. */
async function theOne(store: Store, who: string): Promise<StoredDonation> {
  const found = await store.find(who);
  if (found.length === 1) return found[0]!;
  if (found.length === 0) {
    throw new RangeError("There is no donation of that name: `list` shows those there are");
  }
  const names = found.map(({ id, login, githubUserId }) => `#${id} (${login ?? "no login"}, user ${githubUserId})`);
  throw new RangeError(`That name may mean ${names.join(" or ")}: name it by its #id`);
}

async function revokeGrant({ githubUserId, token: sealed }: StoredDonation, vault: Vault, github: GitHub) {
  const token = await vault.openText(sealed, "token", githubUserId);
  if (token === null) return "queued"; // until the key is back that it was sealed with
  if (!isOfApp(token)) return "impossible";
  try {
    return await github.deleteGrant(token) ? "done" : "queued";
  } catch (error) {
    if (error instanceof PoolError && error.code === "github") return "queued";
    throw error;
  }
}

/** What became of all donations. */
export interface RevokeAllReport {
  /** Donations that there were. */
  donations: number;
  /** Tokens and refresh tokens that GitHub was told to revoke. */
  revoked: number;
  /** Donations that were deleted. */
  removed: number;
  /** Donations and earlier tokens that are there still, because they could not be revoked. */
  left: number;
}

/** How all are to be revoked. */
export interface RevokeAllOptions extends RevokeOptions {
  /** As the app, a token at a call, not by the bulk call. GitHub Enterprise has no other way. */
  oneByOne: boolean;
  /** Called after each call, with the number of donations that are done so far, and of those there were. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Revokes every token there is: of donations, with their refresh tokens, and those that were still to be revoked. What
 * has been revoked is deleted.
 *
 * @throws {PoolError} With code `config`, `database`, `wrong_key` or `github`; running it again goes on.
 */
export async function revokeAll(options: RevokeAllOptions): Promise<RevokeAllReport> {
  const { vault, github, dryRun, oneByOne } = options;
  const { store } = await vault.unlock();
  const { donations } = await store.figures();
  const report: RevokeAllReport = { donations, revoked: 0, removed: 0, left: 0 };
  if (dryRun) return report;
  const run: Run = { ...options, store, report, oneByOne: oneByOne || !github.hasBulkRevocation, done: 0 };
  for (let pass = 1; pass <= TRIES; pass++) {
    const { revoked } = report;
    await each((after) => store.donations(after, CREDENTIALS_AT_MOST), run);
    await each((after) => store.revocations(after, CREDENTIALS_AT_MOST), run);
    const { donations, revocations } = await store.figures();
    report.left = donations + revocations;
    if (report.left === 0 || report.revoked === revoked) break; // else some may have come meanwhile
  }
  return report;
}

interface Run extends RevokeAllOptions {
  store: Store;
  report: RevokeAllReport;
  done: number;
}

/** A row of either table. */
interface Sealed extends SealedToken, Partial<Pick<StoredDonation, "refreshToken" | "expiresAt">> {
  kind?: "token" | "grant";
}

/** What a row holds, opened. */
interface Opened {
  sealed: string;
  token: string;
  refreshToken: string | null;
  isExpired: boolean;
  /** Of what was to be revoked anyway. */
  kind: "token" | "grant";
}

async function each(page: (after: number) => Promise<Sealed[]>, run: Run): Promise<void> {
  for (let after = 0;;) {
    const rows = await page(after);
    if (rows.length === 0) return;
    after = rows.at(-1)!.id;
    const opened = await Promise.all(rows.map((row) => open(row, run.vault)));
    for (const batch of batches(opened.filter((row) => row !== null))) {
      await revokeBatch(batch, run);
      run.done += batch.length;
      run.onProgress?.(Math.min(run.done, run.report.donations), run.report.donations);
    }
  }
}

async function open(
  { githubUserId, token: sealed, kind = "token", ...row }: Sealed,
  vault: Vault,
): Promise<Opened | null> {
  const token = await vault.openText(sealed, "token", githubUserId);
  const refreshToken = row.refreshToken == null
    ? null
    : await vault.openText(row.refreshToken, "refresh_token", githubUserId);
  if (token === null || (row.refreshToken != null && refreshToken === null)) return null;
  return { sealed, token, refreshToken, isExpired: row.expiresAt != null && row.expiresAt <= vault.now(), kind };
}

/** As many rows at a time as one call takes the tokens of. */
function* batches(rows: Opened[]): Generator<Opened[]> {
  let batch: Opened[] = [];
  for (const row of rows) {
    if (credentialsOf([...batch, row]).length > CREDENTIALS_AT_MOST) {
      yield batch;
      batch = [];
    }
    batch.push(row);
  }
  if (batch.length > 0) yield batch;
}

function credentialsOf(rows: Opened[]): string[] {
  return rows.flatMap(({ token, refreshToken }) => refreshToken === null ? [token] : [token, refreshToken]);
}

async function revokeBatch(batch: Opened[], run: Run): Promise<void> {
  if (!run.oneByOne) {
    const answer = await run.github.revokeCredentials(credentialsOf(batch));
    if (answer === "accepted") return await forget(batch, run);
    if (answer === "absent") run.oneByOne = true;
    // else one of them is of a form that GitHub does not take, and nobody knows which
  }
  for (const row of batch) {
    if (await revokeOne(row, run.github)) await forget([row], run);
  }
}

async function forget(batch: Opened[], { store, report }: Run): Promise<void> {
  report.removed += await store.removeRevoked(batch.map(({ sealed }) => sealed));
  report.revoked += credentialsOf(batch).length;
}

async function revokeOne({ token, refreshToken, isExpired, kind }: Opened, github: GitHub): Promise<boolean> {
  if (!isOfApp(token)) return false;
  if (kind === "grant") return await github.deleteGrant(token);
  if (!isExpired || refreshToken === null) return await github.deleteToken(token);
  // GitHub does not know it any more, and so would not revoke the refresh token with it. Using that up does.
  const answer = await github.refresh(refreshToken);
  if (answer.kind === "refused") return answer.error === "bad_refresh_token";
  return await github.deleteToken(answer.grant.token);
}
