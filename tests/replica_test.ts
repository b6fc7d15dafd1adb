/**
 * A real libSQL primary and its replica: claims through both pass no limit, a replica that lags does no harm, and a
 * primary that is killed under load loses nothing that it acknowledged. At most four write at once, and every wait has
 * an end.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createClient } from "npm:@libsql/client@0.18.0/web";
import { createPool, type Pool, type PoolOptions } from "../lib/pool.ts";
import { openVault } from "../lib/service.ts";
import type { Vault, VaultOptions } from "../lib/vault.ts";
import { Clock, donation, environment, KEY, limitHeaders } from "./support/fixtures.ts";
import { type Sqld, startSqld } from "./support/sqld.ts";
import { startTcpProxy } from "./support/tcp_proxy.ts";
import { until } from "./support/until.ts";

/** How long a call to the database may take here. */
const TIMEOUT_MS = 4_000;

/** A call that may be repeated is, once, after a short pause; the rest is for a busy machine. */
const BOUND_MS = 2 * TIMEOUT_MS + 12_000;

/** A pool that does not wait for the database as long as usual. */
function poolOn(database: string, options: PoolOptions = {}): Pool {
  const connection: VaultOptions["connection"] = { timeoutMs: TIMEOUT_MS };
  return createPool({ database, encryptionKey: KEY, ...options, ...{ connection } });
}

/** The service's view of a database. */
function serviceOn(url: string): Vault {
  return openVault({ environment: environment({ TOKEN_ENCRYPTION_KEY: KEY, TOKEN_POOL_DATABASE_URL: url }) });
}

/** Both URLs of each server. */
function urlsOf(...servers: Sqld[]): string[] {
  return servers.flatMap(({ url, wsUrl }) => [url, wsUrl]);
}

/** Looks at the tables past the pool. */
async function rows({ url }: Sqld, sql: string): Promise<Record<string, unknown>[]> {
  const client = createClient({
    url,
    fetch: (request: Request) => fetch(request, { signal: AbortSignal.timeout(BOUND_MS) }),
  });
  try {
    const { columns, rows } = await client.execute(sql);
    return rows.map((row) => Object.fromEntries(columns.map((column) => [column, row[column]])));
  } finally {
    client.close();
  }
}

async function closeAll(pools: Pool[]): Promise<void> {
  for (const pool of pools) await pool.close();
}

Deno.test("claims through a primary and its replica at once pass no limit, and use all alike (5, 11)", async () => {
  await using primary = await startSqld();
  await using replica = await startSqld({ primaryGrpcPort: primary.grpcPort });
  const pools = urlsOf(primary, replica).map((url) => poolOn(url));
  const ids: number[] = [];
  for (let n = 1; n <= 3; n++) ids.push(await pools[n]!.addToken(donation(n))); // through each of the others
  const reset_at = Math.floor(Date.now() / 1000) + 3600;
  // A quarter of 80 is the donor's: 60 calls of each token may be claimed, 180 of the 240 that are asked for.
  for (const id of ids) {
    await pools[0]!.reportUsage(id, {
      limit: 80,
      remaining: 80,
      used: 0,
      reset_at,
      resource: "core",
      retry_after: null,
    });
  }
  const drawn: number[] = [];
  const spread: number[] = [];
  await Promise.all(pools.map(async (pool) => {
    for (let n = 0; n < 60; n++) {
      const token = await pool.getToken();
      if (token === null) continue;
      drawn.push(token.id);
      const counts = ids.map((id) => drawn.filter((other) => other === id).length);
      spread.push(Math.max(...counts) - Math.min(...counts));
    }
  }));
  await closeAll(pools);
  assert.equal(drawn.length, 180, "every call that may be claimed was, and none besides");
  const limits = await rows(primary, "SELECT remaining, calls FROM token_pool_limits ORDER BY token_id");
  assert.deepEqual(limits, ids.map(() => ({ remaining: 20, calls: 60 })));
  assert.ok(Math.max(...spread) <= pools.length, "answers cross on the way, and no more than that");
});

Deno.test("what a replica has not heard of yet does no harm: secrets, withdrawals and pauses are those of the primary", async () => {
  await using primary = await startSqld();
  await using replica = await startSqld({ primaryGrpcPort: primary.grpcPort });
  const [near, far] = [poolOn(primary.url), poolOn(replica.url)];
  for (let round = 1; round <= 30; round++) {
    await near.addToken(donation(1, { token: `gho_${round}` }));
    assert.equal((await far.getToken())?.token, `gho_${round}`, "from what the claim returned, not from what was read");
  }
  const service = serviceOn(primary.url);
  const store = await service.store();
  for (let round = 1; round <= 10; round++) {
    await store.pause("1001");
    assert.equal(await far.getToken(), null);
    await store.resume("1001");
    assert.notEqual(await far.getToken(), null);
    await store.withdraw("1001");
    assert.equal(await far.getToken(), null);
    await near.addToken(donation(1));
  }
  await service.close();
  await closeAll([near, far]);
});

Deno.test("a replica that is cut off reads what was, claims nothing, and is right again by itself", async () => {
  await using primary = await startSqld();
  await using wire = startTcpProxy(primary.grpcPort);
  await using replica = await startSqld({ primaryGrpcPort: wire.port });
  const near = poolOn(primary.url);
  const far = [replica.url, replica.wsUrl].map((url) => poolOn(url));
  await near.addToken(donation(1));
  await near.addToken(donation(2));
  for (const pool of far) assert.notEqual(await pool.getToken(), null);
  await until("the replica has both", async () => (await far[0]!.availability()).tokens === 2);

  wire.cut();
  await near.addToken(donation(3));
  const service = serviceOn(primary.url);
  await (await service.store()).withdraw("1001");
  await service.close();
  const callsOf = async () => Number((await rows(primary, "SELECT sum(calls) AS n FROM token_pool_limits"))[0]!["n"]);
  const before = await callsOf();
  await Promise.all(far.map(async (pool) => {
    assert.equal((await pool.availability()).tokens, 2, "what was: two, though one of them has left");
    const start = performance.now();
    await assert.rejects(pool.getToken(), { name: "PoolError", code: "database" });
    assert.ok(performance.now() - start < BOUND_MS);
  }));
  assert.equal((await near.getToken())?.id, 2, "through the primary all goes on");

  wire.mend();
  const drawn: number[] = [2];
  let unknown = far.length; // the answer never came, so the claim may have been carried out
  for (const pool of far) {
    await until("the replica serves again", async () => {
      const token = await pool.getToken().catch(() => null);
      if (token === null) unknown++;
      else drawn.push(token.id);
      return token !== null;
    });
  }
  assert.ok(!drawn.includes(1), "whoever has left is not handed out");
  await until(
    "the replica knows of all",
    async () =>
      (await rows(replica, "SELECT id FROM token_pool_tokens ORDER BY id")).map(({ id }) => id).join() === "2,3",
  );
  const made = await callsOf() - before;
  assert.ok(
    made >= drawn.length && made <= drawn.length + unknown,
    `${made} claims, of ${drawn.length} and ${unknown}`,
  );
  await closeAll([near, ...far]);
});

Deno.test("a primary that is killed under load loses nothing acknowledged, and pools recover by themselves (2)", async () => {
  await using primary = await startSqld();
  await using replica = await startSqld({ primaryGrpcPort: primary.grpcPort });
  const pools = [primary.url, primary.wsUrl, replica.wsUrl].map((url) => poolOn(url));
  const donor = poolOn(primary.url);
  for (let n = 1; n <= 4; n++) await donor.addToken(donation(n));
  const claims = { acknowledged: 0, unknown: 0 };
  const donors = { acknowledged: [1, 2, 3, 4], last: 4 };
  const errors: { whose: Pool; code: unknown; ms: number }[] = [];
  let isOver = false;
  async function attempt<T>(whose: Pool, call: (pool: Pool) => Promise<T>): Promise<T | null> {
    const start = performance.now();
    try {
      return await call(whose);
    } catch (error) {
      errors.push({ whose, code: (error as { code?: unknown }).code, ms: performance.now() - start });
      await new Promise((resolve) => setTimeout(resolve, 50)); // as callers do
      return null;
    }
  }
  const served = pools.map(() => 0);
  const claiming = pools.map(async (pool, index) => {
    while (!isOver) {
      const token = await attempt(pool, (pool) => pool.getToken());
      if (token === null) claims.unknown++;
      else {
        claims.acknowledged++;
        served[index]!++;
      }
    }
  });
  const donating = (async () => {
    while (!isOver) {
      const n = ++donors.last;
      if (await attempt(donor, (donor) => donor.addToken(donation(n))) !== null) donors.acknowledged.push(n);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();

  const isServing = (from: number[]) => () => served.every((count, index) => count > from[index]! + 20);
  try {
    for (let round = 1; round <= 2; round++) {
      await until(`all serve, round ${round}`, isServing([...served]));
      const known = errors.length;
      await primary.kill();
      const haveFailed = () => new Set(errors.slice(known).map(({ whose }) => whose)).size === pools.length + 1;
      await until("all have noticed", haveFailed);
      await primary.restart();
      await until(`all serve again, round ${round}`, isServing([...served]));
    }
  } finally {
    isOver = true;
    await Promise.all([...claiming, donating]);
  }
  await closeAll([...pools, donor]);

  for (const { code, ms } of errors) {
    assert.equal(code, "database");
    assert.ok(ms < BOUND_MS, `an error after ${ms} ms`);
  }
  const stored = await rows(primary, "SELECT github_user_id AS user FROM token_pool_tokens");
  const users = new Set(stored.map(({ user }) => Number(user) - 1000));
  assert.deepEqual(donors.acknowledged.filter((n) => !users.has(n)), [], "acknowledged, but lost");
  const [{ calls }] = await rows(primary, "SELECT sum(calls) AS calls FROM token_pool_limits") as [{ calls: number }];
  assert.ok(claims.acknowledged >= 100);
  assert.ok(calls >= claims.acknowledged, `${calls} claims are there, ${claims.acknowledged} were acknowledged`);
  assert.ok(calls <= claims.acknowledged + claims.unknown, `${calls} claims are there, and nobody asked for them`);
});

for (const protocol of ["http", "ws"]) {
  Deno.test(`a lease serves on while the primary is away, and afterwards all is told, over ${protocol}`, async () => {
    await using primary = await startSqld();
    let remaining = 5000;
    const clock = new Clock(); // it stands still, so that the calls are many a second, however long they take
    const reset = clock.seconds + 3600;
    await using pool = poolOn(protocol === "ws" ? primary.wsUrl : primary.url, {
      now: clock.now,
      fetch: () => Promise.resolve(new Response("{}", { headers: limitHeaders(5000, --remaining, reset) })),
    });
    await pool.addToken(donation(1));
    const call = async () => await (await pool.fetch("/repos/denoland/deno")).body?.cancel();
    for (let n = 0; n < 34; n++) await call(); // so busy that the lease at hand has calls left
    await primary.kill();
    for (let n = 0; n < 10; n++) await call();
    await primary.restart();
    const remains = async () => (await rows(primary, "SELECT remaining, reset_at FROM token_pool_limits"))[0]!;
    await until("what GitHub said is in the database", async () => {
      await call().catch((error) => assert.equal(error.code, "database"));
      const row = await remains();
      return row["reset_at"] === reset && Number(row["remaining"]) < 5000 - 44;
    });
    await pool.close();
    assert.ok(Number((await remains())["remaining"]) <= remaining, "never more than GitHub says");
  });
}
