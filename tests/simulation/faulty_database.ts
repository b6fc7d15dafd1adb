/**
 * A process's way to the database, with what may go wrong on it. Each call is carried out at one moment, by the real
 * client; before and after it time passes, the process may crash, and the connection may be lost.
 *
 * A busy database leaves the connection as the native client does: from then on it says "ok" and commits nothing, until it is
 * reopened (tursodatabase/libsql-client-ts#352).
 *
 * @module
 */

import type { Client } from "npm:@libsql/client@0.18.0";
import type { Database, ResultSet } from "../../lib/pool.ts";
import type { Claimed } from "./facts.ts";
import type { SimulatedProcess } from "./process.ts";
import type { World } from "./world.ts";

type Statement = Parameters<Database["execute"]>[0];

/** The database's own clock, as the pool asks for it. */
const DATABASE_CLOCK = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/** What a claim says: see `charge` in lib/store.ts. Should that change, the world notices that it sees no claims. */
const CLAIM = /^UPDATE token_pool_limits SET\s+granted = /;
const LEASE = /^UPDATE token_pool_limits SET\s+granted = min\(/;

/** The driver's error when somebody else holds the lock. */
class BusyError extends Error {
  readonly code = "SQLITE_BUSY";
}

/** The driver's error when there is no connection any more. */
class ConnectionError extends Error {
  readonly code = "ECONNRESET";
}

/** Makes the way of one process. */
export function faultyDatabase(world: World, client: Client, process: SimulatedProcess): Database {
  const { scheduler, profile: { database: faults } } = world;
  let commitsNothing = false;

  async function call(statements: Statement[]): Promise<ResultSet[]> {
    const random = world.random.database;
    const operation = world.operation();
    const isIn = (probability: number) => random.chance(world.isCalm ? 0 : probability);
    // A clock that is given is read when an attempt is sent, so then the attempt is carried out in that very moment.
    await world.travel(process, world.profile.hasDatabaseClock ? random.int(1, 10) : 0, "asking the database");
    if (isIn(faults.busy)) {
      world.count("busy");
      commitsNothing = true;
      throw new BusyError("SQLITE_BUSY: database is locked");
    }
    if (isIn(faults.droppedBefore)) {
      world.count("dropped before commit");
      throw new ConnectionError("connection reset");
    }
    const ready = statements.map(({ sql, args }) => ({
      sql: sql.replaceAll(DATABASE_CLOCK, String(scheduler.now())),
      args,
    }));
    const results = await carryOut(ready);
    await world.committed(process, operation, claimsIn(statements, results, scheduler.now()));
    if (isIn(faults.droppedAfter)) {
      world.count("dropped after commit");
      await world.travel(process, random.int(1, 10), "losing the database's answer");
      throw new ConnectionError("connection reset");
    }
    if (isIn(faults.silent)) {
      world.count("never answered");
      return await new Promise(() => {}); // the pool does not wait for ever
    }
    await world.travel(process, random.int(1, isIn(faults.slow) ? 2000 : 10), "the database's answer");
    return results;
  }

  async function carryOut(statements: Statement[]): Promise<ResultSet[]> {
    if (!commitsNothing) {
      return statements.length === 1 ? [await client.execute(statements[0]!)] : await client.batch(statements, "write");
    }
    const transaction = await client.transaction("write");
    try {
      return await transaction.batch(statements);
    } finally {
      await transaction.rollback();
    }
  }

  const database = {
    execute: async (statement: Statement) => (await call([statement]))[0]!,
    batch: (statements: Statement[]) => call(statements),
    reconnect: () => void (commitsNothing = false),
  };
  return database;
}

/** What a round trip drew, and what it asked for in vain. */
export interface Draws {
  claims: Claimed[];
  refused: { resource: string; cost: number }[];
  attempts: number;
}

function claimsIn(statements: Statement[], results: ResultSet[], at: number): Draws {
  const draws: Draws = { claims: [], refused: [], attempts: 0 };
  for (const [index, { sql, args }] of statements.entries()) {
    if (!CLAIM.test(sql)) continue;
    draws.attempts++;
    const isLease = LEASE.test(sql);
    const resource = String(args.find((value) => typeof value === "string"));
    const row = results[index]!.rows[0] as { [column: number]: unknown } | undefined;
    if (row === undefined) {
      // A lease of one token in particular may be refused although others are free.
      if (!sql.includes("token_id = ?")) draws.refused.push({ resource, cost: isLease ? 1 : Number(args[0]) });
      continue;
    }
    const [id, , , sealed, , , , , , calls] = JSON.parse(String(row[0])) as [
      number,
      string,
      string,
      string,
      ...number[],
    ];
    draws.claims.push({ id, sealed, resource, calls: calls!, isLease, at });
  }
  return draws;
}
