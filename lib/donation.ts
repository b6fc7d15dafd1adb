/**
 * A donor's own view: what a donation does, and the ways to change it. Who has shown at GitHub who they are is known
 * for ten minutes, by a sealed cookie that is good for this and for nothing else; nothing of it is stored.
 *
 * @module
 */

import { z } from "npm:zod@4.6.7";
import { RESERVES } from "./donate.ts";
import type { OwnDonation } from "./records.ts";
import type { Vault } from "./vault.ts";

/** How long a donor is known. */
export const IDENTITY_SECONDS = 600;

/** Its own place: no other sealed text opens as an identity, and an identity opens as nothing else. */
const IDENTITY_PLACE = { column: "identity", githubUserId: "" };

const identitySchema = z.object({
  githubUserId: z.string().min(1),
  login: z.string(),
  /** Whether GitHub has confirmed that the token which told who this is has been revoked. */
  isRevoked: z.boolean(),
});

/** Who somebody is, as GitHub said. */
export type Identity = z.output<typeof identitySchema>;

const sealedIdentitySchema = identitySchema.extend({ expiresAt: z.number() });

/** What a donor can do. Each can be done twice without harm. */
export const CHANGES = ["reserve", "pause", "resume"] as const;

/** One of them. */
export type Change = typeof CHANGES[number];

/** A change, or what is wrong with the form. */
export type ChangeForm =
  | { kind: "change"; change: Change; reserve: number }
  | { kind: "bad_form" }
  | { kind: "bad_reserve" };

/** Donations, as their donors see them. */
export class DonorView {
  readonly #vault: Vault;

  constructor(vault: Vault) {
    this.#vault = vault;
  }

  /** Seals who somebody is, to be known for ten minutes. */
  async remember(identity: Identity): Promise<string> {
    const expiresAt = this.#vault.now() + IDENTITY_SECONDS * 1000;
    return await (await this.#vault.keyring()).seal(JSON.stringify({ ...identity, expiresAt }), IDENTITY_PLACE);
  }

  /** Who it is, or null when that is not known or not any more. */
  async recall(sealed: string | undefined): Promise<Identity | null> {
    const text = sealed === undefined ? null : await (await this.#vault.keyring()).open(sealed, IDENTITY_PLACE);
    const parsed = sealedIdentitySchema.safeParse(text === null ? null : JSON.parse(text));
    return parsed.success && parsed.data.expiresAt > this.#vault.now() ? identitySchema.parse(parsed.data) : null;
  }

  /** Somebody's donation, or null when there is none. */
  async look({ githubUserId }: Identity): Promise<OwnDonation | null> {
    return await (await this.#vault.store()).donationOf(githubUserId);
  }

  /** Carries out a change. Returns whether there was a donation to change. */
  async change({ githubUserId }: Identity, { change, reserve }: ChangeForm & { kind: "change" }): Promise<boolean> {
    const store = await this.#vault.store();
    switch (change) {
      case "reserve":
        return await store.setReserve(githubUserId, reserve);
      case "pause":
        return await store.pause(githubUserId);
      case "resume":
        return await store.resume(githubUserId);
    }
  }
}

/** Understands the form. */
export function understandChange(form: URLSearchParams): ChangeForm {
  const change = CHANGES.find((name) => name === form.get("do"));
  if (change === undefined) return { kind: "bad_form" };
  const chosen = form.get("reserve");
  const reserve = RESERVES.find((share) => String(share) === chosen);
  if (change === "reserve" && reserve === undefined) return { kind: "bad_reserve" };
  return { kind: "change", change, reserve: reserve ?? 0 };
}
