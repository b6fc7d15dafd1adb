/** A claim: against its bare statement, against the client as it comes, among many tokens, and from a lease. */

import { createClient } from "npm:@libsql/client@0.18.0";
import { Leases } from "../../lib/leases.ts";
import { createPool, type Database } from "../../lib/pool.ts";
import { Vault } from "../../lib/vault.ts";
import { donate, KEY, temporaryFolder } from "../support/fixtures.ts";
import { compare, type Figure, median, type Run } from "./measure.ts";

type Question = Parameters<Database["execute"]>[0];

/** A pool in a fresh file with so many donations, of which a share is exhausted. */
export async function filledPool(folder: string, name: string, tokens: number, exhausted = 0) {
  const url = `file:${folder}/${name}.db`;
  const pool = createPool({ database: url, encryptionKey: KEY });
  await pool.addToken({ github_user_id: "0", token: "gho_0" });
  const client = createClient({ url });
  // The rows are copies of a real donation, so they do not open; only the one that is claimed has to.
  await client.execute(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${tokens - 1})
    INSERT INTO token_pool_tokens (github_user_id, token, reserve, donated_at)
    SELECT i, token, reserve, donated_at FROM n, token_pool_tokens WHERE i > 0`);
  await client.execute(`INSERT INTO token_pool_limits (token_id, resource, cap, remaining, floor, ready_at, window_ends)
    SELECT id, 'core', 1000000000, 1000000000, 1250, iif(id % 1000 < ${exhausted * 1000}, 9e12, 0), 9e12
    FROM token_pool_tokens WHERE true ON CONFLICT DO UPDATE SET cap = excluded.cap, remaining = excluded.remaining,
    ready_at = excluded.ready_at, window_ends = excluded.window_ends`);
  client.close();
  return { pool, url };
}

/** The statement of a claim, as the pool sends it, and a client as the pool has it. */
async function bareClaim(url: string): Promise<{ bare: Run; statement: Question; close(): void }> {
  const client = createClient({ url, timeout: 5000, concurrency: 1 });
  await client.execute("PRAGMA synchronous = NORMAL");
  let last: Question | null = null;
  const recorder: Database = {
    execute(statement) {
      if (statement.sql.startsWith("UPDATE token_pool_limits")) last = statement;
      return client.execute(statement);
    },
    batch: (statements, mode) => client.batch(statements, mode),
  };
  const recording = createPool({ database: recorder, encryptionKey: KEY });
  await recording.getToken();
  await recording.getToken();
  const statement = last!;
  return { bare: () => client.execute(statement), statement, close: () => client.close() };
}

const DONATIONS = 500;

/** getToken() on an embedded file with hundreds of tokens, each of which opens. */
export async function measureClaim(): Promise<Figure[]> {
  await using folder = await temporaryFolder();
  const url = `file:${folder.path}/claims.db`;
  const pool = createPool({ database: url, encryptionKey: KEY });
  await donate(pool, DONATIONS);
  for (let n = 0; n < DONATIONS; n++) await pool.getToken(); // each is opened once
  const { bare, close, statement } = await bareClaim(url);
  const figures = [
    await compare({
      name: "getToken() against its bare statement by the same client",
      ours: () => pool.getToken(),
      floor: bare,
      target: { atLeast: 0.75 },
      times: 300,
    }),
  ];
  close();

  // The same rows in a file as it comes: with a rollback journal, and synchronous FULL.
  const file = `${folder.path}/as-it-comes.db`;
  const copying = createClient({ url });
  await copying.execute(`VACUUM INTO '${file}'`);
  copying.close();
  const asItComes = createClient({ url: `file:${file}` });
  figures.push(
    await compare({
      name: "getToken() against its bare statement by the client in its default settings",
      ours: () => pool.getToken(),
      floor: () => asItComes.execute(statement),
      target: { atLeast: 8 },
      times: 60,
    }),
  );
  asItComes.close();
  await pool.close();
  return figures;
}

const SIZES: [tokens: number, exhausted: number][] = [
  [10, 0],
  [1_000, 0],
  [1_000, 0.99],
  [10_000, 0.99],
  [100_000, 0],
  [100_000, 0.999],
];

/** A claim among many tokens, all usable or nearly none, against one among a hundred. */
export async function measureSizes(): Promise<Figure[]> {
  await using folder = await temporaryFolder();
  const hundred = await filledPool(folder.path, "100", 100);
  const few = await bareClaim(hundred.url);
  const figures: Figure[] = [];
  for (const [tokens, exhausted] of SIZES) {
    const { pool, url } = await filledPool(folder.path, `${tokens}-${exhausted}`, tokens, exhausted);
    const many = await bareClaim(url);
    const share = `${(exhausted * 100).toFixed(1).replace(".0", "")} % exhausted`;
    figures.push(
      await compare({
        name: `a claim among ${tokens.toLocaleString("en")} tokens, ${share}, against 100 tokens`,
        ours: many.bare,
        floor: few.bare,
        target: { atLeast: 0.7 },
        times: 200,
      }),
    );
    many.close();
    await pool.close();
  }
  few.close();
  await hundred.pool.close();
  return figures;
}

const CALLS_FROM_A_LEASE = 50_000;

/** How many calls a second a lease at hand gives; only the pool's own work, no GitHub. */
export async function measureLease(): Promise<Figure[]> {
  await using folder = await temporaryFolder();
  const database = `file:${folder.path}/lease.db`;
  const vault = new Vault({ environment: () => undefined, database, encryptionKey: KEY });
  await vault.deposit({ github_user_id: "1", token: "gho_1" });
  const leases = new Leases(vault);
  for (let n = 0; n < 50; n++) await leases.take("core"); // so busy that the next lease is a large one
  const perSecond: number[] = [];
  for (let round = 0; round < 15; round++) {
    const first = await leases.take("core");
    const start = performance.now();
    for (let n = 0; n < CALLS_FROM_A_LEASE; n++) {
      const ticket = leases.takeAtHand("core");
      if (ticket === null) throw new Error("The lease is used up although every call is given back");
      leases.unused(ticket);
    }
    perSecond.push(CALLS_FROM_A_LEASE / (performance.now() - start) * 1000);
    leases.unused(first!);
  }
  await leases.close();
  await vault.close();
  return [{
    name: "calls from a lease at hand",
    value: median(perSecond),
    unit: "per second",
    target: { atLeast: 1_000_000 },
    detail: "taken and given back in memory",
  }];
}
