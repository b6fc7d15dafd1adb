/**
 * Key rotation, the job in its middle: everything that is sealed under an older key is sealed anew under the current.
 *
 *     1. every process gets the new key as current and the old one as previous
 *     2. this job: each row only if it has not changed meanwhile, so it can be cut off anywhere and run again
 *     3. every process drops the old key; who still has no other is told `wrong_key`
 *
 * What a process with the old key stores while the job runs is found by the next pass. When nothing is left under
 * another key the old canaries go, in the same transaction as that is looked at, and from then on no donation is taken
 * under an old key: who seals under it is told `wrong_key`, and the donor that nothing was stored.
 *
 * The hashes of who has withdrawn stay as they are, since nobody can tell whose they are: a backup is compared with
 * them by every key at hand, and asks for the key of those that it may need (lib/backup.ts).
 *
 * @module
 */

import type { Keyring } from "./crypto.ts";
import type { KeyUse, Resealed, SealedToken } from "./records.ts";
import type { Store } from "./store.ts";
import type { SealedColumn, Vault } from "./vault.ts";

/** What the job has done. */
export interface RotationReport {
  /** Donations and revocations that are sealed under the current key since. */
  resealed: number;
  /** Rows that no key at hand opens; they are as they were. */
  unreadable: number;
  /**
   * Rows that have something under another key still, the unreadable among them. 0 = the old key can be dropped. Else
   * the old canaries are kept; what was being refreshed at GitHub can be resealed a minute later, by another run.
   */
  remaining: number;
}

/** What is sealed under which key. */
export interface KeyAudit {
  /** The id of the key that seals. */
  current: string;
  keys: KeyUse[];
}

/** Rows that come while the job runs are found by another pass; bounded, lest a process that does not stop keeps it going. */
const PASSES_AT_MOST = 10;

/**
 * Counts rows by key, and changes nothing.
 *
 * @throws {PoolError} With code `config`, `database` or `wrong_key`.
 */
export async function auditKeys(vault: Vault): Promise<KeyAudit> {
  const { store, keyring } = await vault.unlock();
  return { current: keyring.kid, keys: await store.keyUse() };
}

/**
 * Seals everything under the current key.
 *
 * @param vault A vault that has the new key as current and the old one as previous.
 * @param onProgress Called after each hundred rows, with the number so far.
 * @throws {PoolError} With code `config`, `database` or `wrong_key`.
 */
export async function rotateKey(vault: Vault, onProgress: (done: number) => void = () => {}): Promise<RotationReport> {
  const { store, keyring } = await vault.unlockToSeal();
  let resealed = 0;
  for (let pass = 1;; pass++) {
    let unreadable = 0;
    for (const kind of [donationsOf(store), revocationsOf(store)]) {
      for (let after = 0;;) {
        const page = await kind.page(keyring.kid, after);
        if (page.length === 0) break;
        const renewed = (await Promise.all(page.map((row) => sealAnew(vault, keyring, row))))
          .filter((row) => row !== null);
        resealed += await kind.reseal(renewed);
        unreadable += page.length - renewed.length;
        after = page.at(-1)!.id;
        onProgress(resealed + unreadable);
      }
    }
    const remaining = await store.keepCanary(keyring.kid);
    if (remaining <= unreadable || pass === PASSES_AT_MOST) return { resealed, unreadable, remaining };
  }
}

type Sealed = SealedToken & { refreshToken: string | null };

/** What is sealed, where it is found, and how it is put back. */
interface Kind {
  page(kid: string, after: number): Promise<Sealed[]>;
  reseal(resealed: readonly Resealed[]): Promise<number>;
}

function donationsOf(store: Store): Kind {
  return {
    page: (kid, after) => store.underOtherKeys(kid, after),
    reseal: (resealed) => store.reseal(resealed),
  };
}

function revocationsOf(store: Store): Kind {
  return {
    page: (kid, after) => store.revocationsUnderOtherKeys(kid, after),
    reseal: (resealed) => store.resealRevocations(resealed),
  };
}

/** Both texts of a row under the current key, or null when one of them does not open. */
async function sealAnew(vault: Vault, keyring: Keyring, row: Sealed): Promise<Resealed | null> {
  const { id, githubUserId, token: oldToken, refreshToken: oldRefresh } = row;
  const anew = async (column: SealedColumn, sealed: string) => {
    const text = await vault.openText(sealed, column, githubUserId);
    return text === null ? null : await keyring.seal(text, { column, githubUserId });
  };
  const token = await anew("token", oldToken);
  const refreshToken = oldRefresh === null ? null : await anew("refresh_token", oldRefresh);
  if (token === null || (oldRefresh !== null && refreshToken === null)) return null;
  return { id, old: { token: oldToken, refreshToken: oldRefresh }, renewed: { token, refreshToken } };
}
