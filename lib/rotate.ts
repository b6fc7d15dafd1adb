/**
 * Key rotation, the job in its middle: everything that is sealed under an older key is sealed anew under the current.
 *
 *     1. every process gets the new key as current and the old one as previous
 *     2. this job: each row by itself, only if it has not changed meanwhile, so it can be cut off and run again
 *     3. every process drops the old key; who still has no other is told `wrong_key`
 *
 * @module
 */

import type { Keyring } from "./crypto.ts";
import type { SealedColumn, Vault } from "./vault.ts";

/** What the job has done. */
export interface RotationReport {
  /** Donations and revocations that are sealed under the current key since. */
  resealed: number;
  /** Rows that no key at hand opens; they are as they were, and the old canaries are kept. */
  unreadable: number;
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
  const report: RotationReport = { resealed: 0, unreadable: 0 };
  const note = (isResealed: boolean | null) => {
    if (isResealed === null) report.unreadable++;
    else if (isResealed) report.resealed++; // else somebody else has changed it, under the current key
  };

  for (let after = 0;;) {
    const page = await store.underOtherKeys(keyring.kid, after);
    if (page.length === 0) break;
    for (const { id, githubUserId, token, refreshToken } of page) {
      const renewed = await sealAnew(vault, keyring, githubUserId, "token", token);
      const renewedRefresh = refreshToken === null
        ? null
        : await sealAnew(vault, keyring, githubUserId, "refresh_token", refreshToken);
      const isReadable = renewed !== null && (refreshToken === null || renewedRefresh !== null);
      note(
        isReadable
          ? await store.reseal(id, { token, refreshToken }, { token: renewed, refreshToken: renewedRefresh })
          : null,
      );
      after = id;
    }
    onProgress(report.resealed + report.unreadable);
  }
  for (let after = 0;;) {
    const page = await store.revocationsUnderOtherKeys(keyring.kid, after);
    if (page.length === 0) break;
    for (const { id, githubUserId, token } of page) {
      const renewed = await sealAnew(vault, keyring, githubUserId, "token", token);
      note(renewed === null ? null : await store.resealRevocation(id, token, renewed));
      after = id;
    }
  }
  if (report.unreadable === 0) await store.keepCanary(keyring.kid);
  return report;
}

async function sealAnew(
  vault: Vault,
  keyring: Keyring,
  githubUserId: string,
  column: SealedColumn,
  sealed: string,
): Promise<string | null> {
  const text = await vault.openText(sealed, column, githubUserId);
  return text === null ? null : await keyring.seal(text, { column, githubUserId });
}
