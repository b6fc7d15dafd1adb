/**
 * A real libSQL database as a process sees it over a network: each call takes a while of virtual time each way, and is
 * counted. Its clock is the simulation's, in the place of SQLite's own: so the statements run as in production, where no
 * clock is given.
 *
 * @module
 */

import { createClient } from "npm:@libsql/client@0.18.0";
import type { Database, ResultSet, SqlValue } from "../../../lib/pool.ts";
import type { Random } from "../random.ts";
import type { Scheduler } from "../scheduler.ts";

const ITS_CLOCK = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

type Statement = { sql: string; args: SqlValue[] };

/** The database itself, in memory; its processes come and go. */
export class DatabaseServer {
  readonly #client = createClient({ url: "file::memory:", concurrency: 1 });
  readonly #scheduler: Scheduler;
  readonly #texts = new Map<string, { sql: string; hasClock: boolean }>();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  execute(statement: Statement): Promise<ResultSet> {
    return this.#client.execute(this.#onTime(statement)) as Promise<ResultSet>;
  }

  batch(statements: Statement[], mode: "write"): Promise<ResultSet[]> {
    return this.#client.batch(statements.map((statement) => this.#onTime(statement)), mode) as Promise<ResultSet[]>;
  }

  close(): void {
    this.#client.close();
  }

  #onTime({ sql, args }: Statement): Statement {
    let known = this.#texts.get(sql);
    if (known === undefined) {
      const text = sql.replaceAll(ITS_CLOCK, `?${args.length + 1}`);
      if (/unixepoch|strftime|datetime|CURRENT_T/i.test(text)) {
        throw new Error(`A clock that is not simulated: ${text}`);
      }
      known = { sql: text, hasClock: text !== sql };
      this.#texts.set(sql, known);
    }
    return { sql: known.sql, args: known.hasClock ? [...args, this.#scheduler.now()] : args };
  }
}

/** The way to it. */
export class DistantDatabase implements Database {
  /** Calls so far. */
  roundTrips = 0;
  readonly #server: DatabaseServer;
  readonly #scheduler: Scheduler;
  readonly #oneWayMs: () => number;

  constructor(server: DatabaseServer, scheduler: Scheduler, random: Random) {
    this.#server = server;
    this.#scheduler = scheduler;
    this.#oneWayMs = () => random.int(2, 10);
  }

  execute(statement: Statement): Promise<ResultSet> {
    return this.#travel(() => this.#server.execute(statement));
  }

  batch(statements: Statement[], mode: "write"): Promise<ResultSet[]> {
    return this.#travel(() => this.#server.batch(statements, mode));
  }

  #travel<T>(work: () => Promise<T>): Promise<T> {
    this.roundTrips++;
    const backMs = this.#oneWayMs();
    return new Promise((resolve, reject) => {
      this.#scheduler.after(this.#oneWayMs(), () => {
        work().then((result) => this.#scheduler.after(backMs, () => resolve(result)), reject);
      });
    });
  }
}
