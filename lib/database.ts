/**
 * Opens the database, and springs the driver's traps so that nobody else has to know them.
 *
 * | where | client |
 * |---|---|
 * | `file:` | `@libsql/client`, native, imported only then: it cannot load on Val Town |
 * | `http(s):`, `libsql:`, `ws(s):` | `@libsql/client/web` |
 * | Val Town | `std/sqlite/global.ts`, shared by all vals of an account (`main.ts` is private to each val) |
 * | given | anything with `execute` and `batch` |
 *
 * The traps, all measured with @libsql/client 0.18.0:
 *
 * 1. In `file:` mode one SQLITE_BUSY leaves its statement open. From then on the connection says "ok" and commits
 *    nothing, until it is reopened (tursodatabase/libsql-client-ts#352). So any failure reopens it, before anything else.
 * 2. The client has a pool, and per-connection settings do not follow. So one connection, and one statement at a time.
 * 3. `PRAGMA journal_mode` inside a batch is ignored without a word. So it is executed by itself.
 * 4. `batch` is deferred by default, and a deferred batch that reads first cannot wait for a lock. So always "write".
 * 5. The remote client waits for ever. So every call is bounded in time.
 * 6. Named arguments are not documented for Val Town's client. So names are turned into positions here.
 * 7. A WebSocket whose other end fell silent stays open, and every later call on it waits as well. So a call that was
 *    too late ends its client, and the next call gets a new one.
 * 8. Val Town documents two row shapes, objects and arrays. So rows are read through `columns`.
 * 9. The native client answers before the event loop turns, and the memory of a statement (some 25 KB for a claim) is
 *    freed only when the loop turns (tursodatabase/libsql-js#153). A program that waits for nothing but its database
 *    would grow until it is killed, and no timer, signal or request would get through to it. So the loop gets a turn
 *    after every thousand calls.
 *
 * @module
 */

import { PoolError } from "./errors.ts";

/** A value that a statement can bind; booleans and bytes are not stored. */
export type SqlValue = string | number | null;

/** What the pool needs of a database: two methods, which any libSQL client has. */
export interface Database {
  /** Runs one statement. */
  execute(statement: { sql: string; args: SqlValue[] }): Promise<ResultSet>;
  /** Runs statements in one transaction, all or none. */
  batch(statements: { sql: string; args: SqlValue[] }[], mode: "write"): Promise<ResultSet[]>;
}

/** What a statement returns: rows as objects or as arrays. */
export interface ResultSet {
  /** Names of the columns, in order. */
  columns: string[];
  /** The rows. */
  rows: ArrayLike<unknown>;
}

/**
 * A statement with named arguments. A function is asked for its value when an attempt is sent: after every wait but the
 * driver's own for a lock, anew for each attempt, once for all statements of a batch.
 */
export interface Statement {
  sql: string;
  args?: Readonly<Record<string, SqlValue | (() => SqlValue)>>;
}

/** How a call is to be made. */
export interface CallOptions {
  /** Survives a power cut once acknowledged; costs an fsync. */
  durable?: boolean;
  /** May be repeated, so it is tried once more when a server fails. */
  repeatable?: boolean;
}

/** What a connection takes from outside, so that tests neither wait nor guess. */
export interface ConnectionOptions {
  authToken?: string | undefined;
  /** Longest wait for an answer, in milliseconds. Default 8,000: below every platform's own limit. */
  timeoutMs?: number;
  /** How long the native client waits for a lock, in milliseconds; after twice that it is an error. Default 5,000. */
  lockTimeoutMs?: number;
  sleep?: (ms: number) => Promise<void>;
  random?: () => number;
}

/** Where the database is. */
export type DatabaseSource =
  | { kind: "given"; database: Database }
  | { kind: "url"; url: string; authToken?: string | undefined }
  | { kind: "val town" };

/** A driver may have more than the two methods; what is there is used. */
type Driver = Database & {
  /** What libSQL's own clients speak: "file", which is the native one, "http" or "ws". */
  protocol?: string;
  reconnect?: () => Promise<void> | void;
  close?: () => void;
};

/**
 * Calls of the native client until the event loop gets a turn: some 150 ms, and 25 MB. Not sooner, since their statements
 * are freed then, at some 20 µs each, and a burst of calls need not wait for that.
 */
const CALLS_PER_TURN = 1000;

/** A database that can be relied upon: serialised, bounded in time, recovering, with one kind of error. */
export class Connection {
  #driver: Driver;
  /** Makes a client like the one that there is; null for one that was given. */
  readonly #makeDriver: (() => Promise<Driver>) | null;
  readonly #isFile: boolean;
  readonly #timeoutMs: number;
  readonly #lockTimeoutMs: number;
  readonly #sleep: (ms: number) => Promise<void>;
  readonly #random: () => number;
  /** The last call: the next one starts when it has ended. */
  #tail: Promise<unknown> = Promise.resolve();
  /** What `PRAGMA synchronous` is on the one connection; null = it was just opened. */
  #synchronous: "NORMAL" | "FULL" | null = null;
  #callsSinceTurn = 0;

  private constructor(
    driver: Driver,
    options: ConnectionOptions & { isFile: boolean; makeDriver: (() => Promise<Driver>) | null },
  ) {
    this.#driver = driver;
    this.#makeDriver = options.makeDriver;
    this.#isFile = options.isFile;
    this.#timeoutMs = options.timeoutMs ?? 8_000;
    this.#lockTimeoutMs = options.lockTimeoutMs ?? 5_000;
    this.#sleep = options.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
    this.#random = options.random ?? Math.random;
  }

  /**
   * Opens a database.
   *
   * @throws {PoolError} With code `database` when it cannot be opened.
   */
  static async open(source: DatabaseSource, options: ConnectionOptions = {}): Promise<Connection> {
    if (source.kind === "given") {
      // What was given is its owner's to configure and to close; it is only reopened when trap 1 has it.
      return new Connection(source.database, { ...options, isFile: false, makeDriver: null });
    }
    try {
      if (source.kind === "val town") {
        const { sqlite } = await import("https://esm.town/v/std/sqlite/global.ts") as { sqlite: Driver };
        return new Connection(sqlite, { ...options, isFile: false, makeDriver: null });
      }
      const makeDriver = () => openUrl(source, options);
      return new Connection(await makeDriver(), { ...options, isFile: isFileUrl(source.url), makeDriver });
    } catch (error) {
      throw new PoolError("database", "The token pool's database cannot be opened: check TOKEN_POOL_DATABASE_URL", {
        cause: error,
      });
    }
  }

  /**
   * Runs one statement.
   *
   * @returns The rows, each an array in the order of the columns.
   * @throws {PoolError} With code `database`; what was asked for may or may not have happened if the answer was lost.
   */
  async execute(statement: Statement, options: CallOptions = {}): Promise<unknown[][]> {
    return await this.#call(async () => rowsOf(await this.#driver.execute(bind([statement])[0]!)), options);
  }

  /**
   * Runs statements in one write transaction, all or none.
   *
   * @returns The rows of each statement.
   * @throws {PoolError} With code `database`.
   */
  async batch(statements: readonly Statement[], options: CallOptions = {}): Promise<unknown[][][]> {
    return await this.#call(async () => (await this.#driver.batch(bind(statements), "write")).map(rowsOf), options);
  }

  /** Closes what was opened here; a database that was given stays open. */
  close(): void {
    if (this.#makeDriver !== null) this.#driver.close?.();
  }

  #call<T>(run: () => Promise<T>, options: CallOptions): Promise<T> {
    const result = this.#tail.then(() => this.#persist(run, options));
    this.#tail = result.catch(() => {});
    return result;
  }

  /** Tries until it works, the lock's time is up, or it fails for a reason that waiting does not mend. */
  async #persist<T>(run: () => Promise<T>, { durable = false, repeatable = false }: CallOptions): Promise<T> {
    if (this.#driver.protocol === "file") await this.#giveWay();
    const givesUpAt = performance.now() + 2 * this.#lockTimeoutMs;
    for (let attempt = 1;; attempt++) {
      try {
        if (this.#isFile) await this.#prepare(durable);
        // The native call is over before it returns, so there is nothing to bound.
        return await (this.#isFile ? run() : this.#bounded(run()));
      } catch (error) {
        await this.#reopen(error);
        const isLocked = isBusy(error);
        const again = isLocked ? performance.now() < givesUpAt : repeatable && attempt === 1 && !this.#isFile;
        if (!again) throw databaseError(error, isLocked);
        await this.#sleep(Math.min(1000, 25 * 2 ** (attempt - 1)) * (0.5 + this.#random() / 2));
      }
    }
  }

  /** Lets the event loop turn when it is time: trap 9. */
  async #giveWay(): Promise<void> {
    if (++this.#callsSinceTurn < CALLS_PER_TURN) return;
    this.#callsSinceTurn = 0;
    await new Promise<void>((resolve) => setImmediate(resolve)); // a timer of 0 ms would take 2 ms
  }

  /** Sets what does not survive a new connection to a file. */
  async #prepare(durable: boolean): Promise<void> {
    if (this.#synchronous === null) await this.#driver.execute({ sql: "PRAGMA journal_mode = WAL", args: [] });
    // In WAL, NORMAL survives a killed process but not a power cut; FULL survives both (sqlite.org/pragma.html).
    const wanted = durable ? "FULL" : "NORMAL";
    if (this.#synchronous === wanted) return;
    await this.#driver.execute({ sql: `PRAGMA synchronous = ${wanted}`, args: [] });
    this.#synchronous = wanted;
  }

  async #reopen(error: unknown): Promise<void> {
    // Trap 1. A given client may be a file too, so it is reopened as well, but only for what poisons it: its owner may
    // be using it at the same time, and an in-memory database would not survive.
    if (this.#isFile || isBusy(error)) await this.#driver.reconnect?.();
    if (this.#makeDriver !== null && isTooLate(error)) { // trap 7
      this.#driver.close?.();
      this.#driver = await this.#makeDriver();
    }
    this.#synchronous = null;
  }

  async #bounded<T>(answer: Promise<T>): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      const late = () => reject(new DOMException(`No answer within ${this.#timeoutMs} ms`, "TimeoutError"));
      timer = setTimeout(late, this.#timeoutMs);
    });
    try {
      return await Promise.race([answer, tooLate]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Checks what a caller gives for a database, which is only used much later. */
export function assertDatabase(value: unknown): asserts value is Database | string {
  const { execute, batch } = (value ?? {}) as Partial<Database>;
  if (typeof value === "string" || (typeof execute === "function" && typeof batch === "function")) return;
  throw new TypeError("Cannot use this database: give a libSQL URL, or a client with execute() and batch()");
}

/** Whether the database is a file; one in memory would be gone if its connection were reopened. */
function isFileUrl(url: string): boolean {
  return url.startsWith("file:") && !url.includes(":memory:") && !url.includes("mode=memory");
}

async function openUrl(source: { url: string; authToken?: string | undefined }, options: ConnectionOptions) {
  const { url, authToken } = source;
  if (url.startsWith("file:") || url === ":memory:") {
    const { createClient } = await import("npm:@libsql/client@0.18.0/sqlite3");
    return createClient({ url, timeout: options.lockTimeoutMs ?? 5_000, concurrency: 1 }) as Driver;
  }
  const { createClient } = await import("npm:@libsql/client@0.18.0/web");
  const timeoutMs = options.timeoutMs ?? 8_000;
  const boundedFetch = (request: Request) => fetch(request, { signal: AbortSignal.timeout(timeoutMs) });
  return createClient({ url, ...(authToken === undefined ? {} : { authToken }), fetch: boundedFetch }) as Driver;
}

/** Binds the statements of one attempt. */
function bind(statements: readonly Statement[]): { sql: string; args: SqlValue[] }[] {
  const answers = new Map<() => SqlValue, SqlValue>();
  const valueOf = (arg: SqlValue | (() => SqlValue) = null): SqlValue => {
    if (typeof arg !== "function") return arg;
    let answer = answers.get(arg);
    if (answer === undefined) answers.set(arg, answer = arg());
    return answer;
  };
  return statements.map(({ sql, args = {} }) => {
    const positional = toPositional(sql);
    return { sql: positional.sql, args: positional.names.map((name) => valueOf(args[name])) };
  });
}

const positions = new Map<string, { sql: string; names: string[] }>();

/** `:name` becomes `?1`, `?2`, …; a name that occurs twice keeps its number. The few texts there are are remembered. */
function toPositional(sql: string): { sql: string; names: string[] } {
  let known = positions.get(sql);
  if (known === undefined) {
    const names: string[] = [];
    const text = sql.replace(/:([a-z_]+)/g, (_, name: string) => {
      if (!names.includes(name)) names.push(name);
      return `?${names.indexOf(name) + 1}`;
    });
    known = { sql: text, names };
    positions.set(sql, known);
  }
  return known;
}

function rowsOf({ columns, rows }: ResultSet): unknown[][] {
  return Array.from(rows, (row) => {
    if (Array.isArray(row)) return row;
    const record = row as Record<string, unknown>;
    return columns.map((column) => record[column]);
  });
}

function isTooLate(error: unknown): boolean {
  return error instanceof DOMException && error.name === "TimeoutError";
}

function isBusy(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^SQLITE_(BUSY|LOCKED)/.test(code);
}

function databaseError(cause: unknown, isLocked: boolean): PoolError {
  const why = isLocked
    ? "is locked by another process; nothing was changed"
    : `did not carry out what was asked (${describe(cause)})`;
  return new PoolError("database", `The token pool's database ${why}; try again later`, { cause });
}

/** The driver's own code, or the kind of error: never its text, which may quote an address. */
function describe(error: unknown): string {
  const { code, name } = error as { code?: unknown; name?: unknown };
  return String(typeof code === "string" && code !== "" ? code : name); // the driver's may be empty
}
