/**
 * The first release's schema and statements, as they were, for whoever has stayed on it: recorded from its lib/store.ts
 * with a clock given, by what they do. Do not change the record; it is what is still out there.
 *
 * @module
 */

import { createClient } from "npm:@libsql/client@0.18.0";
import record from "../fixtures/first_release.json" with { type: "json" };

type Call = keyof typeof record;
type Values = Record<string, string | number | null>;

const DATABASE_CLOCK = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
const WINDOW_MS = 3_601_000;

/** A process with the first release of the library, as far as it speaks to the database. */
export class FirstRelease {
  readonly #client: ReturnType<typeof createClient>;
  readonly #clock: (() => number) | undefined;

  /** @param clock Epoch milliseconds; without it the database's own clock is used, as it was then. */
  constructor(url: string, clock?: () => number) {
    this.#client = createClient({ url, timeout: 10_000, concurrency: 1 });
    this.#clock = clock;
  }

  /** Makes its tables if they are not there, as it did on opening. */
  async open(): Promise<void> {
    await this.call("open", { resource: "core", assumed: 5000 });
  }

  /** Runs the statements of a call in one transaction. Returns the rows of the last: each has one column, JSON. */
  async call(name: Call, args: Values = {}): Promise<unknown[]> {
    const values: Values = this.#clock === undefined ? args : { ...args, now: this.#clock() };
    const statements = record[name].map((text) => {
      const sql = this.#clock === undefined ? text.replaceAll(":now", DATABASE_CLOCK) : text;
      const names = new Set(Array.from(sql.matchAll(/:([a-z_]+)/g), ([, found]) => found!));
      return { sql, args: Object.fromEntries([...names].map((found) => [found, values[found] ?? null])) };
    });
    const results = await this.#client.batch(statements, "write");
    return results.at(-1)!.rows.map((row) => typeof row[0] === "string" ? JSON.parse(row[0]) : row[0]);
  }

  /** The first use of `core` by a process. */
  async firstUse(): Promise<void> {
    await this.call("firstUse", { resource: "core", assumed: 5000 });
  }

  /** Claims a call of `core`. Returns the id and the sealed text, or null when there is none. */
  async claim(): Promise<{ id: number; token: string } | null> {
    const [row] = await this.call("claim", { resource: "core", cost: 1, window: WINDOW_MS }) as [
      [id: number, user: string, login: string, token: string] | undefined,
    ];
    return row === undefined ? null : { id: row[0], token: row[3] };
  }

  /** Reports what GitHub said. */
  async merge(id: number, limit: number, remaining: number, reset: number): Promise<void> {
    await this.call("merge", { id, resource: "core", limit, remaining, reset, free: 0 });
  }

  /** Stores a sealed donation. */
  async donate(user: string, token: string, reserve = 0.25): Promise<void> {
    await this.call("donate", { user, username: `user${user}`, token, refresh_token: null, expires_at: null, reserve });
  }

  /** Deletes a donation. Returns whether there was one. */
  async withdraw(user: string): Promise<boolean> {
    return (await this.call("withdraw", { user })).length > 0;
  }

  close(): void {
    this.#client.close();
  }
}
