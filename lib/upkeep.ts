/**
 * Upkeep: what has to be done although nobody asks for it. Each round takes a bounded number of things that are due,
 * and taking one puts off the next attempt, so a round can be cut off anywhere and two can run at once.
 *
 * | due | GitHub says | then |
 * |---|---|---|
 * | a suspect | does not know the token | the donation is deleted; only when it says so twice during an incident, and of a personal token |
 * | | knows it | back into rotation |
 * | | anything else | asked again after 1, 5, then 15 minutes; during an incident every minute |
 * | a token that expires within the hour | gives a new one | it takes the old one's place |
 * | | the refresh token is no good | the donation is deleted; during an incident only when it says so twice |
 * | a revocation that failed | done, or already gone | forgotten |
 * | a token that nobody used for 300 days | what is left of its limits | it has been used, and does not expire for want of it |
 * | a window with claims and without a report | the same | taken in, see lib/probe.ts |
 * | a window a quarter of which is used up without a report, or which was asked about a quarter of an hour ago | the same | taken in, and what its donor may need is set aside |
 * | | anything else, or refuses the token | as after any other call |
 * | a snapshot of the hour | is not asked | taken, once, for the charts |
 * | counts and snapshots of more than 31 days ago, withdrawals of more than 13 months ago | is not asked | forgotten |
 *
 * @module
 */

import { PoolError } from "./errors.ts";
import { type GitHub, isOfApp } from "./github.ts";
import { tokenExpiry } from "./health.ts";
import { judgeProbe, type ProbeVerdict } from "./probe.ts";
import type { SealedToken } from "./records.ts";
import type { Store } from "./store.ts";
import type { Vault } from "./vault.ts";

/** How many things of each kind a round takes, to stay within the time that a request has. */
const ROUND_AT_MOST = 20;

/** What a round has done. */
export interface UpkeepReport {
  /** Suspects that GitHub knows. */
  restored: number;
  /** Donations that are gone because GitHub does not know their token any more. */
  removed: number;
  /** Suspects that are still to be asked about. */
  waiting: number;
  refreshed: number;
  revoked: number;
  /** Donations with whose token GitHub was asked what is left, and answered. */
  asked: number;
  /** 1 when this round took the snapshot of the hour. */
  snapshots: number;
}

/** What upkeep is made of. */
export interface UpkeepOptions {
  vault: Vault;
  github: GitHub;
}

/**
 * One round.
 *
 * @returns What was done; all zeros when nothing was due.
 * @throws {PoolError} With code `config`, `database` or `wrong_key`.
 */
export async function runUpkeep(options: UpkeepOptions): Promise<UpkeepReport> {
  const report: UpkeepReport = {
    restored: 0,
    removed: 0,
    waiting: 0,
    refreshed: 0,
    revoked: 0,
    asked: 0,
    snapshots: 0,
  };
  await refreshExpiring(options, report);
  await confirmSuspects(options, report);
  await revokeDue(options, report);
  await askForLimits(options, report);
  if (await (await options.vault.store()).keepHistory()) report.snapshots++;
  return report;
}

/** Whether a round has done anything, so that another may be worthwhile. */
export function hasDone(report: UpkeepReport): boolean {
  return Object.values(report).some((count) => count > 0);
}

async function confirmSuspects({ vault, github }: UpkeepOptions, report: UpkeepReport): Promise<void> {
  const { store } = await vault.unlock();
  const suspects = await store.takeSuspects(ROUND_AT_MOST);
  const confirm = async ({ id, githubUserId, token: sealed }: typeof suspects[number]): Promise<keyof UpkeepReport> => {
    const token = await vault.openText(sealed, "token", githubUserId);
    const answer = token === null ? "unclear" : await unlessAway(github.checkToken(token), "unclear" as const);
    if (answer === "unclear") return "waiting";
    if (answer === "unknown") {
      // Of a personal token GitHub has only said 401 again, which it says of good ones as well when it is ill.
      const outcome = await store.notFound(id, sealed, { isSure: isOfApp(token!) });
      return outcome === "removed" ? "removed" : "waiting";
    }
    await store.acquit(id, sealed);
    return "restored";
  };
  for (const outcome of await Promise.all(suspects.map(confirm))) report[outcome]++;
}

/**
 * All that are taken are asked about at once: they are locked for a minute, which 20 answers of a slow GitHub, one after
 * the other, would outlast. And each answer is stored whatever became of the others: the old token is dead by then.
 */
async function refreshExpiring({ vault, github }: UpkeepOptions, report: UpkeepReport): Promise<void> {
  const { store, keyring } = await vault.unlock();
  const refused: SealedToken[] = [];
  const refresh = async (donation: Awaited<ReturnType<Store["takeExpiring"]>>[number]): Promise<void> => {
    const { id, githubUserId, token: old } = donation;
    const refreshToken = await vault.openText(donation.refreshToken, "refresh_token", githubUserId);
    const answer = refreshToken === null ? null : await unlessAway(github.refresh(refreshToken), null);
    if (answer === null) return;
    if (answer.kind === "refused") {
      if (answer.error === "bad_refresh_token") refused.push(donation); // else it is the app's own trouble
      return;
    }
    const { grant } = answer;
    const token = await keyring.seal(grant.token, { column: "token", githubUserId });
    const isReplaced = await store.replaceToken(id, old, {
      token,
      refreshToken: grant.refreshToken === null
        ? null
        : await keyring.seal(grant.refreshToken, { column: "refresh_token", githubUserId }),
      expiresAt: grant.expiresInSeconds === null ? null : vault.now() + grant.expiresInSeconds * 1000,
    });
    if (isReplaced) report.refreshed++;
    // Else its donor has given another one meanwhile, or left.
    else if (!await unlessAway(github.deleteToken(grant.token), false)) {
      await store.addRevocation(githubUserId, token, "token");
    }
  };
  await allOf((await store.takeExpiring(ROUND_AT_MOST)).map(refresh));
  // All of them, before any goes: 5 at once are an incident.
  for (const { id, token } of refused) await store.suspect(id, token);
  for (const { id, token } of refused) {
    report[await store.refreshRefused(id, token) === "removed" ? "removed" : "waiting"]++;
  }
}

async function revokeDue({ vault, github }: UpkeepOptions, report: UpkeepReport): Promise<void> {
  const { store } = await vault.unlock();
  const revoke = async (
    { id, githubUserId, token: sealed, kind }: Awaited<ReturnType<Store["takeRevocations"]>>[number],
  ): Promise<void> => {
    const token = await vault.openText(sealed, "token", githubUserId);
    if (token === null) return;
    const isGone = await unlessAway(kind === "grant" ? github.deleteGrant(token) : github.deleteToken(token), false);
    if (!isGone) return;
    await store.endRevocation(id);
    report.revoked++;
  };
  // At once, since a minute after they were taken nobody reckons with GitHub's still being asked.
  await allOf((await store.takeRevocations(ROUND_AT_MOST)).map(revoke));
}

async function askForLimits({ vault, github }: UpkeepOptions, report: UpkeepReport): Promise<void> {
  const { store } = await vault.unlock();
  const ask = async (donation: Awaited<ReturnType<Store["takeProbes"]>>[number]): Promise<boolean> => {
    const token = await vault.openText(donation.token, "token", donation.githubUserId);
    const answer = token === null ? null : await unlessAway(github.rateLimit(token), null);
    if (answer === null) return false;
    const verdict = judgeProbe(answer, github.apiUrl, donation.rows);
    await carryOut(store, donation, verdict);
    const expiresAt = verdict.kind === "readings" ? tokenExpiry(answer.headers) : null;
    if (expiresAt !== null) await store.noteExpiry(donation.id, expiresAt);
    return verdict.kind !== "ignore";
  };
  const donations = await store.takeProbes(ROUND_AT_MOST);
  report.asked += (await Promise.all(donations.map(ask))).filter(Boolean).length;
}

async function carryOut(store: Store, { id, token }: SealedToken, verdict: ProbeVerdict): Promise<void> {
  switch (verdict.kind) {
    case "ignore":
      return;
    case "readings":
      return await store.endProbe(id, verdict.reports);
    case "suspect":
      return await store.suspect(id, token);
    case "remove":
      return await (verdict.reason === "has_scopes" ? store.condemn(id, token) : store.remove(id, token));
    case "bench_user":
      return await store.holdUser(id, { seconds: verdict.seconds, ...verdict.backoff });
    case "bench_resource":
      return await store.holdResource(id, verdict.resource, { seconds: verdict.seconds, ...verdict.backoff });
    case "exhausted":
      return await store.exhaust(id, verdict.report);
  }
}

/** Waits for all, also when one of them fails: what the others are about to store must not be cut off. */
async function allOf<T>(work: Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work);
  return await Promise.all(work);
}

/** GitHub being away is not an error here: what was taken comes due again. */
async function unlessAway<T>(answer: Promise<T>, fallback: T): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof PoolError && error.code === "github") return fallback;
    throw error;
  }
}
