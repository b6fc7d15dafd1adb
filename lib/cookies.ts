/**
 * The service's cookies: the transaction with GitHub that is under way, who a donor has shown to be, and what a page is to
 * show once. Each is sealed, and read by nobody but the service.
 *
 * @module
 */

import type { Context } from "npm:hono@4.13.19";
import { deleteCookie, getCookie, setCookie } from "npm:hono@4.13.19/cookie";
import { isThisMachine } from "./config.ts";
import type { Keyring } from "./crypto.ts";

const TRANSACTION = "token_pool_transaction_";
const IDENTITY = "token_pool_identity";
const FLASH = "token_pool_flash";
const FLASH_PLACE = { column: "flash", githubUserId: "" };
const FLASH_SECONDS = 300;

/** What the cookies are made of. */
export interface CookieParts {
  /** What seals what is shown once. */
  keyring: () => Promise<Keyring>;
  /** Where the public finds the service. */
  publicOrigin: (c: Context) => string;
}

/** The cookies; `Flash` is what a page is to show once, as JSON can say it. */
export class Cookies<Flash> {
  readonly #parts: CookieParts;

  constructor(parts: CookieParts) {
    this.#parts = parts;
  }

  /** Keeps a transaction, sealed, until GitHub sends its visitor back with this state, or for so many seconds. */
  keepTransaction(c: Context, state: string, sealed: string, seconds: number): void {
    setCookie(c, transactionName(state), sealed, { ...this.#options(c), maxAge: seconds });
  }

  /** The transaction that a callback belongs to; used once, and gone whatever happens next. */
  takeTransaction(c: Context): string | undefined {
    const options = this.#options(c);
    const prefix = ("prefix" in options ? "__Host-" : "") + TRANSACTION;
    const mine = transactionName(c.req.query("state") ?? "");
    const names = Object.keys(getCookie(c)).filter((name) => name.startsWith(prefix))
      .map((name) => TRANSACTION + name.slice(prefix.length));
    // Another tab's transaction is left alone, unless this callback fits none at all.
    const [sealed] = (names.includes(mine) ? [mine] : names).map((name) => deleteCookie(c, name, options));
    return sealed;
  }

  /** Keeps, sealed, who a donor has shown to be, for so many seconds. */
  keepIdentity(c: Context, sealed: string, seconds: number): void {
    setCookie(c, IDENTITY, sealed, { ...this.#options(c), maxAge: seconds });
  }

  /** Who a donor has shown to be, sealed. */
  identity(c: Context): string | undefined {
    return getCookie(c, IDENTITY, "prefix" in this.#options(c) ? "host" : undefined);
  }

  /** Forgets who a donor has shown to be. */
  forgetIdentity(c: Context): void {
    deleteCookie(c, IDENTITY, this.#options(c));
  }

  /** Keeps what the next page is to show once. */
  async keepFlash(c: Context, content: Flash): Promise<void> {
    const sealed = await (await this.#parts.keyring()).seal(JSON.stringify(content), FLASH_PLACE);
    setCookie(c, FLASH, sealed, { ...this.#options(c), maxAge: FLASH_SECONDS });
  }

  /** What this page is to show once, or null; gone with that. */
  async takeFlash(c: Context): Promise<Flash | null> {
    const sealed = deleteCookie(c, FLASH, this.#options(c));
    const text = sealed === undefined ? null : await (await this.#parts.keyring()).open(sealed, FLASH_PLACE);
    return text === null ? null : JSON.parse(text) as Flash;
  }

  #options(c: Context) {
    const common = { httpOnly: true, sameSite: "Lax", path: "/" } as const;
    const { protocol, hostname } = new URL(this.#parts.publicOrigin(c));
    const isTrial = protocol === "http:" && isThisMachine(hostname); // where browsers may refuse the strict ones
    return isTrial ? common : { ...common, secure: true, prefix: "host" as const };
  }
}

function transactionName(state: string): string {
  return TRANSACTION + state.slice(0, 8);
}
