/**
 * The database and the keys, together: tokens go in sealed and come out opened, here and nowhere else.
 *
 * Opens on first use and keeps what it opened only as a cache: a setting that changes takes effect at once. Before a
 * donation is read or written the canary tells whether the key is the right one; because of a wrong key nothing is
 * ever changed.
 *
 * @module
 */

import { assertReserve, type Config, type Environment, Settings, type Variable } from "./config.ts";
import { Keyring, type Mac } from "./crypto.ts";
import { assertDatabase, Connection, type ConnectionOptions, type Database, type DatabaseSource } from "./database.ts";
import { PoolError } from "./errors.ts";
import type { SealedDonation } from "./records.ts";
import { Store } from "./store.ts";

/** What a donor gives. */
export interface Donation {
  /** GitHub's numeric id of the user, as text: it stays when the login changes. One donation per user is kept. */
  github_user_id: string;
  /** The login, for the operator's lists. */
  github_username?: string | null;
  /** The token, in plain text; it is sealed before it is stored. */
  token: string;
  /** Share of each limit that stays the donor's, 0 to 0.95; by default the pool's. */
  reserve?: number;
  /** When the token expires, in epoch milliseconds; null or absent = it does not. */
  expires_at?: number | null;
  /** What a new token can be had for, of an OAuth App whose tokens expire. */
  refresh_token?: string | null;
}

/** What a vault is made of; what is absent comes from the environment. */
export interface VaultOptions {
  database?: Database | string | undefined;
  authToken?: string | undefined;
  encryptionKey?: string | undefined;
  previousEncryptionKeys?: string[] | undefined;
  reserve?: number | undefined;
  githubApiUrl?: string | undefined;
  now?: (() => number) | undefined;
  environment: Environment;
  /** The database when nothing names one. A consumer has none, and is told so. */
  defaultDatabaseUrl?: string | undefined;
  connection?: ConnectionOptions | undefined;
}

/** The columns that hold sealed texts; part of what a text is bound to. */
export type SealedColumn = "token" | "refresh_token";

const CANARY_TEXT = "github-token-pool";
const CANARY_PLACE = { column: "canary", githubUserId: "" };

/** How many opened texts are kept in memory. */
const OPENED_AT_MOST = 1000;

/** How many tokens that did not open one process counts; a pool with more has another trouble than counting. */
const UNREADABLE_AT_MOST = 1000;

/** How many answers are timed, of which the median counts. */
const LOOKS = 5;

/** GitHub told integrators to allow for 255 characters and has issued tokens of 520: a bound, not a format. */
export const TOKEN_PATTERN = /^[\x21-\x7e]{1,2048}$/;
const USER_ID_PATTERN = /^[\x21-\x7e]{1,64}$/;

/** What decides which tables and which keys, and whether they may be used: read anew each time. */
const WHAT_UNLOCKS: readonly Variable[] = [
  "TOKEN_ENCRYPTION_KEY",
  "TOKEN_ENCRYPTION_KEYS_PREVIOUS",
  "TOKEN_POOL_DATABASE_URL",
  "TOKEN_POOL_DATABASE_AUTH_TOKEN",
  "TOKEN_POOL_DISABLED",
];

/** The canaries of a pool. */
export type Canaries = [kid: string, sealed: string][];

interface Opened {
  /** Where: another place needs another. */
  source: string;
  tables: Promise<{ store: Store; canaries: Canaries }>;
}

/** The tables and the keys that open them. */
export interface Unlocked {
  store: Store;
  keyring: Keyring;
  /** kid and sealed text of each. */
  canaries: Canaries;
  /** What they were opened with. */
  config: Config;
}

/** Sealed donations in a database. */
export class Vault {
  readonly #options: VaultOptions;
  readonly #settings: Settings;
  #opened: Opened | null = null;
  #unlocked: Unlocked | null = null;
  #keys: { texts: string; keyring: Promise<Keyring> } | null = null;
  readonly #openedTexts = new Map<string, string>();
  /** Tokens that did not open and were counted, by row and sealed text. */
  readonly #unreadable = new Set<string>();

  /** @throws {TypeError | RangeError} When the database is none, or the reserve is not between 0 and 0.95. */
  constructor(options: VaultOptions) {
    if (options.database !== undefined) assertDatabase(options.database);
    if (options.reserve !== undefined) assertReserve(options.reserve);
    this.#options = options;
    this.#settings = new Settings({
      environment: options.environment,
      overrides: {
        TOKEN_POOL_DATABASE_URL: typeof options.database === "string" ? options.database : undefined,
        TOKEN_POOL_DATABASE_AUTH_TOKEN: options.authToken,
        TOKEN_ENCRYPTION_KEY: options.encryptionKey,
        TOKEN_ENCRYPTION_KEYS_PREVIOUS: options.previousEncryptionKeys?.join(","),
        TOKEN_POOL_RESERVE: options.reserve?.toFixed(20), // a variable has no exponent, as in 1e-7
        GITHUB_API_URL: options.githubApiUrl,
      },
    });
  }

  /** The settings; they also tell what is missing. */
  get settings(): Settings {
    return this.#settings;
  }

  /** The address of the database, where it has one; undefined when it was given as an object, or by nobody. */
  get databaseUrl(): string | undefined {
    if (typeof this.#options.database === "object") return undefined;
    return this.#settings.read().TOKEN_POOL_DATABASE_URL ??
      (this.#settings.onValTown ? undefined : this.#options.defaultDatabaseUrl);
  }

  /** Epoch milliseconds. */
  now(): number {
    return (this.#options.now ?? Date.now)();
  }

  /**
   * The tables. No key is needed for what does not open anything.
   *
   * @throws {PoolError} With code `config` or `database`.
   */
  async store(): Promise<Store> {
    return (await this.#open(this.#read([])).tables).store;
  }

  /**
   * The tables and the keys, once a canary has shown that they belong together.
   *
   * @throws {PoolError} With code `config`, `database` or `wrong_key`.
   */
  async unlock(): Promise<Unlocked> {
    const known = this.#settings.glance(WHAT_UNLOCKS);
    if (known !== null && this.#unlocked?.config === known) return this.#unlocked;
    const config = this.#read(["TOKEN_ENCRYPTION_KEY"]);
    const [{ store, canaries }, keyring] = await Promise.all([this.#open(config).tables, this.#keyring(config)]);
    // Keys may have been rotated since the canaries were looked at, and this process has been given the new one now.
    if (!await isRightKey(keyring, canaries)) await relearn(canaries, { store, keyring });
    return this.#unlocked = { store, keyring, canaries, config };
  }

  /**
   * What is there, without making or changing anything.
   *
   * @param elapsed Milliseconds that only ever go up, to measure with.
   * @returns The version of the tables, null where there are none; whether a key at hand is theirs, null where nothing
   * can tell; and the median time of an answer once the connection is there, in milliseconds.
   * @throws {PoolError} With code `config` or `database`.
   */
  async look(elapsed: () => number): Promise<{ version: number | null; isRightKey: boolean | null; ms: number }> {
    const config = this.#read([]);
    const connection = await Connection.open(this.#place(config), this.#options.connection);
    try {
      const store = new Store(connection, this.#options.now);
      const found = await store.look();
      const times: number[] = [];
      while (times.length < LOOKS) {
        const start = elapsed();
        await store.look();
        times.push(elapsed() - start);
      }
      const mayTell = found !== null && found.canaries.length > 0 && config.TOKEN_ENCRYPTION_KEY !== undefined;
      return {
        version: found?.version ?? null,
        isRightKey: mayTell ? await isRightKey(await this.#keyring(config), found.canaries) : null,
        ms: times.sort((a, b) => a - b)[LOOKS >> 1]!,
      };
    } finally {
      connection.close();
    }
  }

  /**
   * The same as {@linkcode unlock}, before something is sealed: from then on a canary tells this key from a wrong one.
   *
   * @throws {PoolError} With code `config`, `database` or `wrong_key`.
   */
  async unlockToSeal(): Promise<Unlocked> {
    this.#read(["TOKEN_ENCRYPTION_KEY"]); // all settings anew: a donation is made of more than what unlocks
    const unlocked = await this.unlock();
    const { store, keyring, canaries } = unlocked;
    if (canaries.some(([kid]) => kid === keyring.kid)) return unlocked;
    const sealed = await keyring.seal(CANARY_TEXT, CANARY_PLACE);
    // Two processes with different keys may both find none. The first wins, and the other is told.
    const all = await store.addCanary(keyring.kid, sealed, { onlyIfFirst: canaries.length === 0 });
    canaries.splice(0, canaries.length, ...all);
    if (!await isRightKey(keyring, all)) throw wrongKey();
    return unlocked;
  }

  /**
   * The same as {@linkcode unlockToSeal}, and lets in who has only the key of one of these canaries.
   *
   * @throws {PoolError} With code `config`, `database` or `wrong_key`.
   */
  async admit(canaries: Canaries): Promise<void> {
    const { store, keyring, canaries: known } = await this.unlockToSeal();
    for (const [kid, sealed] of canaries) {
      if (known.some(([other]) => other === kid) || await keyring.open(sealed, CANARY_PLACE) !== CANARY_TEXT) continue;
      const all = await store.addCanary(kid, sealed, { onlyIfFirst: false });
      known.splice(0, known.length, ...all);
    }
  }

  /**
   * The keys by themselves, for what is sealed but not stored here.
   *
   * @throws {PoolError} With code `config`.
   */
  async keyring(): Promise<Keyring> {
    return await this.#keyring(this.#settings.read(["TOKEN_ENCRYPTION_KEY"]));
  }

  /**
   * Seals and stores a donation, in the place of an earlier one of the same user.
   *
   * @param options `revokeReplaced`: whether the token that it replaces is to be revoked at GitHub.
   * @returns Its id, whether there was an earlier one, and what it replaced, if that was another token and opens.
   * @throws {TypeError | RangeError} When the donation is not of the right shape.
   * @throws {PoolError} With code `config`, `database` or `wrong_key`, or `github` while GitHub is revoking the user's
   * grant, which would take the token along; then nothing was stored.
   */
  async deposit(
    donation: Donation,
    { revokeReplaced = false } = {},
  ): Promise<{ id: number; isUpdate: boolean; replaced: { sealed: string; token: string } | null }> {
    assertDonation(donation);
    const { github_user_id: githubUserId, token } = donation;
    const { store } = await this.unlockToSeal();
    let stored = await store.donate(await this.#seal(donation), { revokeReplaced });
    if (stored === null) {
      // The canary of this key is gone: somebody has rotated keys since it was looked at.
      await this.recheckKey();
      stored = await store.donate(await this.#seal(donation), { revokeReplaced });
      if (stored === null) throw wrongKey();
    }
    const { id, replaced } = stored;
    const old = replaced === null ? null : await this.openText(replaced, "token", githubUserId);
    // Donating the same token again must not revoke it.
    if (old === token && revokeReplaced) await store.unqueueRevocation(githubUserId, replaced!);
    const other = replaced === null || old === null || old === token ? null : { sealed: replaced, token: old };
    return { id, isUpdate: replaced !== null, replaced: other };
  }

  async #seal(donation: Donation): Promise<SealedDonation> {
    const { keyring, config } = await this.unlockToSeal();
    const { github_user_id: githubUserId } = donation;
    const refreshToken = donation.refresh_token || null;
    return {
      githubUserId,
      githubUsername: donation.github_username ?? null,
      token: await keyring.seal(donation.token, { column: "token", githubUserId }),
      refreshToken: refreshToken === null
        ? null
        : await keyring.seal(refreshToken, { column: "refresh_token", githubUserId }),
      expiresAt: donation.expires_at ?? null,
      reserve: donation.reserve ?? config.TOKEN_POOL_RESERVE,
    };
  }

  /**
   * Deletes the donation of a user, and remembers by a keyed hash that no backup may bring it back. A wrong key is no
   * reason not to.
   *
   * @param grantToken A token of the user, sealed, whose grant is about to be revoked.
   * @returns Whether there was a donation.
   * @throws {PoolError} With code `config` or `database`.
   */
  async withdraw(githubUserId: string, grantToken: string | null = null): Promise<boolean> {
    const [tombstone] = await this.tombstones(githubUserId);
    return await (await this.store()).withdraw(githubUserId, tombstone, grantToken);
  }

  /**
   * What a user's withdrawal is remembered by, under every key at hand, the current first.
   *
   * @throws {PoolError} With code `config`.
   */
  async tombstones(githubUserId: string): Promise<Mac[]> {
    return await (await this.keyring()).macs("tombstone", githubUserId);
  }

  /** Opens a text from the database, or returns null when no key at hand opens it. */
  async openText(sealed: string, column: SealedColumn, githubUserId: string): Promise<string | null> {
    // By its place as well: a text that was moved to another row must not open, remembered or not.
    const name = `${column} ${githubUserId} ${sealed}`;
    const known = this.#openedTexts.get(name);
    if (known !== undefined) return known;
    const text = await (await this.keyring()).open(sealed, { column, githubUserId });
    if (text === null) return null;
    const oldest = this.#openedTexts.size >= OPENED_AT_MOST ? this.#openedTexts.keys().next().value : undefined;
    if (oldest !== undefined) this.#openedTexts.delete(oldest);
    this.#openedTexts.set(name, text);
    return text;
  }

  /** A text did not open: was that one bad row, or has the pool got another key since? Throws in the second case. */
  async recheckKey(): Promise<void> {
    const { canaries, ...rest } = await this.unlock();
    this.#unlocked = null; // a wrong key is found out before the next claim, not by it
    await relearn(canaries, rest);
  }

  /**
   * A text did not open: throws if that is because the pool has got another key since. Else it is one bad row, which is
   * counted once, and only as far as the database lets that be done: the caller goes on to the next one anyway.
   */
  async noteUnreadable({ id, token: sealed }: { id: number; token: string }): Promise<void> {
    await this.recheckKey();
    const name = `${id} ${sealed}`;
    if (this.#unreadable.has(name) || this.#unreadable.size >= UNREADABLE_AT_MOST) return;
    this.#unreadable.add(name);
    try {
      await (await this.store()).countDecryptFailure();
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
    }
  }

  /** Closes the database, if it was opened here. */
  async close(): Promise<void> {
    const opened = this.#opened;
    this.#opened = this.#unlocked = null;
    this.#openedTexts.clear();
    await opened?.tables.then(({ store }) => store.close(), () => {});
  }

  #read(required: Variable[]): Config {
    const { database, defaultDatabaseUrl } = this.#options;
    const mayDefault = typeof database === "object" || defaultDatabaseUrl !== undefined || this.#settings.onValTown;
    return this.#settings.read(mayDefault ? required : [...required, "TOKEN_POOL_DATABASE_URL"]);
  }

  #open(config: Config): Opened {
    const place = this.#place(config);
    const source = place.kind === "given" ? place.kind : JSON.stringify(place);
    if (this.#opened?.source === source) return this.#opened;

    const opened: Opened = { source, tables: openTables(place, this.#options) };
    this.#opened = opened;
    opened.tables.catch(() => {
      if (this.#opened === opened) this.#opened = null; // so that the next use tries again
    });
    return opened;
  }

  #place(config: Config): DatabaseSource {
    const { database, defaultDatabaseUrl } = this.#options;
    return typeof database === "object" ? { kind: "given", database } : sourceOf(config, defaultDatabaseUrl);
  }

  #keyring(config: Config): Promise<Keyring> {
    const { TOKEN_ENCRYPTION_KEY: current, TOKEN_ENCRYPTION_KEYS_PREVIOUS: previous } = config;
    const texts = [current, ...previous].join();
    if (this.#keys?.texts !== texts) {
      this.#openedTexts.clear();
      this.#keys = { texts, keyring: Keyring.from(current!, previous) };
    }
    return this.#keys.keyring;
  }
}

async function openTables(
  source: DatabaseSource,
  options: VaultOptions,
): Promise<{ store: Store; canaries: Canaries }> {
  const connection = await Connection.open(source, options.connection);
  const store = new Store(connection, options.now);
  try {
    return { store, canaries: await store.open() };
  } catch (error) {
    store.close();
    throw error;
  }
}

async function isRightKey(keyring: Keyring, canaries: Canaries): Promise<boolean> {
  const opened = await Promise.all(canaries.map(([, sealed]) => keyring.open(sealed, CANARY_PLACE)));
  return canaries.length === 0 || opened.includes(CANARY_TEXT);
}

/** Looks at the canaries anew, and throws if the key is none of theirs. */
async function relearn(canaries: Canaries, { store, keyring }: Pick<Unlocked, "store" | "keyring">): Promise<void> {
  const all = await store.open();
  canaries.splice(0, canaries.length, ...all);
  if (!await isRightKey(keyring, all)) throw wrongKey();
}

function wrongKey(): PoolError {
  return new PoolError(
    "wrong_key",
    "TOKEN_ENCRYPTION_KEY is not the key that this pool's tokens are sealed with: set the key that the service has. " +
      "Nothing was changed",
  );
}

function sourceOf(config: Config, defaultDatabaseUrl: string | undefined): DatabaseSource {
  const authToken = config.TOKEN_POOL_DATABASE_AUTH_TOKEN;
  if (config.TOKEN_POOL_DATABASE_URL !== undefined) {
    return { kind: "url", url: config.TOKEN_POOL_DATABASE_URL, authToken };
  }
  return config.onValTown ? { kind: "val town" } : { kind: "url", url: defaultDatabaseUrl!, authToken };
}

function assertDonation(donation: Donation): void {
  if (typeof donation !== "object" || donation === null) throw new TypeError("Cannot add a token without a donation");
  assertText("github_user_id", donation.github_user_id, USER_ID_PATTERN, "1 to 64 visible ASCII characters");
  assertText("token", donation.token, TOKEN_PATTERN, "1 to 2048 visible ASCII characters");
  const { github_username: username, refresh_token: refreshToken, expires_at: expiresAt, reserve } = donation;
  if (username !== undefined && username !== null && typeof username !== "string") {
    throw new TypeError(`Cannot add a token with a github_username of type ${typeof username}`);
  }
  if (refreshToken) assertText("refresh_token", refreshToken, TOKEN_PATTERN, "1 to 2048 visible ASCII characters");
  if (expiresAt !== undefined && expiresAt !== null && !Number.isSafeInteger(expiresAt)) {
    throw new RangeError("Cannot add a token with this expires_at: it must be whole epoch milliseconds");
  }
  if (reserve !== undefined) assertReserve(reserve);
}

/** The value is not in the message: it may be a secret. */
function assertText(name: string, value: unknown, pattern: RegExp, form: string): void {
  if (typeof value !== "string") throw new TypeError(`Cannot add a token with a ${name} of type ${typeof value}`);
  if (!pattern.test(value)) throw new RangeError(`Cannot add a token with this ${name}: it must be ${form}`);
}
