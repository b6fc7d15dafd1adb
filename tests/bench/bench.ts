/**
 * How fast, as ratios: each pair is measured interleaved in one run, because machines differ and are noisy, and the
 * median of the rounds is compared. `deno task bench`, or `deno task bench --json`.
 */

import { createClient } from "npm:@libsql/client@0.18.0";
import { Hono } from "npm:hono@4.13.19";
import { createPool, type Database } from "../../lib/pool.ts";
import { Leases } from "../../lib/leases.ts";
import { Vault } from "../../lib/vault.ts";
import { createApp } from "../../main.http.ts";
import { environment, KEY, temporaryFolder } from "../support/fixtures.ts";

const ROUNDS = 15;

/** A figure: how often `ours` fits into the time of `floor`; 1 = as fast. */
interface Ratio {
  name: string;
  ratio: number;
  oursMicroseconds: number;
  floorMicroseconds: number;
}

type Run = () => Promise<unknown>;

/** Measures two ways in turn, `times` calls a round. */
async function compare(name: string, times: number, ours: Run, floor: Run): Promise<Ratio> {
  const samples: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS + 2; round++) {
    for (const [index, run] of [ours, floor].entries()) {
      const start = performance.now();
      for (let n = 0; n < times; n++) await run();
      if (round >= 2) samples[index]!.push((performance.now() - start) / times * 1000); // two rounds to warm up
    }
  }
  const [oursMicroseconds, floorMicroseconds] = samples.map(median) as [number, number];
  return { name, ratio: floorMicroseconds / oursMicroseconds, oursMicroseconds, floorMicroseconds };
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

/** A pool in a fresh file with so many donations, of which a share is exhausted. */
async function filledPool(folder: string, name: string, tokens: number, exhausted = 0) {
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
async function bareClaim(url: string): Promise<{ bare: Run; close(): void }> {
  const client = createClient({ url, timeout: 5000, concurrency: 1 });
  await client.execute("PRAGMA synchronous = NORMAL");
  let last: Parameters<Database["execute"]>[0] | null = null;
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
  return { bare: () => client.execute(statement), close: () => client.close() };
}

async function measure(): Promise<Ratio[]> {
  await using folder = await temporaryFolder();
  const ratios: Ratio[] = [];
  const one = await filledPool(folder.path, "one", 1);
  const { bare, close } = await bareClaim(one.url);
  ratios.push(
    await compare("getToken() against its bare statement by the same client", 300, () => one.pool.getToken(), bare),
  );

  const slow = createClient({ url: `file:${folder.path}/defaults.db` });
  await slow.execute("CREATE TABLE tokens (id INTEGER PRIMARY KEY, token TEXT, used_at REAL)");
  await slow.execute("INSERT INTO tokens (token, used_at) VALUES ('sealed', 0)");
  const lru =
    `UPDATE tokens SET used_at = unixepoch('subsec') WHERE id = (SELECT id FROM tokens ORDER BY used_at LIMIT 1)
    RETURNING id, token`;
  ratios.push(
    await compare(
      "getToken() against a bare UPDATE in the client's default settings",
      60,
      () => one.pool.getToken(),
      () => slow.execute(lru),
    ),
  );
  slow.close();
  close();

  const few = await bareClaim((await filledPool(folder.path, "100", 100)).url);
  for (const [tokens, exhausted] of [[10_000, 0], [10_000, 0.99], [100_000, 0], [100_000, 0.999]] as const) {
    const many = await bareClaim((await filledPool(folder.path, `${tokens}-${exhausted}`, tokens, exhausted)).url);
    const name = `a claim among ${tokens.toLocaleString("en")} tokens, ${
      exhausted * 100
    } % exhausted, against 100 tokens`;
    ratios.push(await compare(name, 200, many.bare, few.bare));
    many.close();
  }
  few.close();

  const app = createApp({ environment: environment({ TOKEN_ENCRYPTION_KEY: KEY }), database: one.url });
  for (const path of ["/status", "/"]) {
    const answer = await app.request(path);
    const [body, headers] = [await answer.text(), [...answer.headers] as [string, string][]];
    const plain = new Hono().get(path, (c) => {
      for (const [name, value] of headers) c.header(name, value);
      return c.body(body);
    });
    const read = (hono: Hono) => async () => await (await hono.request(path)).text();
    ratios.push(await compare(`${path} against a bare route with the same bytes`, 300, read(app), read(plain)));
  }
  await one.pool.close();
  return ratios;
}

/** A call through the pool with a lease at hand against the same call alone, on loopback. */
async function measureFetch(): Promise<Ratio[]> {
  await using folder = await temporaryFolder();
  const reset = Math.floor(Date.now() / 1000) + 3600;
  const body = JSON.stringify({ full_name: "denoland/deno", description: "x".repeat(4000) });
  let remaining = 10_000_000;
  const headers = () => ({
    "content-type": "application/json",
    "x-ratelimit-limit": "10000000",
    "x-ratelimit-remaining": String(--remaining),
    "x-ratelimit-reset": String(reset),
    "x-ratelimit-resource": "core",
    "x-oauth-scopes": "",
  });
  let delayMs = 0;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async () => {
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    return new Response(body, { headers: headers() });
  });
  const githubApiUrl = `http://127.0.0.1:${server.addr.port}`;
  await using pool = createPool({ database: `file:${folder.path}/fetch.db`, encryptionKey: KEY, githubApiUrl });
  await pool.addToken({ github_user_id: "1", token: "gho_1" });
  const url = `${githubApiUrl}/repos/denoland/deno`;
  const plain = { authorization: "Bearer gho_1", "user-agent": "bench", accept: "application/vnd.github+json" };
  const pooled = async () => await (await pool.fetch("/repos/denoland/deno")).text();
  const alone = async () => await (await fetch(url, { headers: plain })).text();
  const name = "a call through poolFetch() against the call alone, on loopback";
  const ratios = [await compare(`${name}, answered at once`, 300, pooled, alone)];
  delayMs = 1; // far less than GitHub ever takes
  ratios.push(await compare(`${name}, answered after 1 ms`, 100, pooled, alone));
  await server.shutdown();
  return ratios;
}

/** How many calls a second a lease at hand gives; only the pool's own work, no GitHub. */
async function measureLease(): Promise<string> {
  await using folder = await temporaryFolder();
  const database = `file:${folder.path}/lease.db`;
  const vault = new Vault({ environment: () => undefined, database, encryptionKey: KEY });
  await vault.deposit({ github_user_id: "1", token: "gho_1" });
  const leases = new Leases(vault);
  for (let n = 0; n < 50; n++) await leases.take("core"); // so busy that the next lease is a large one
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const first = await leases.take("core");
    const start = performance.now();
    for (let n = 0; n < 50_000; n++) {
      const ticket = leases.takeAtHand("core");
      if (ticket === null) throw new Error("The lease is used up although every call is given back");
      leases.unused(ticket);
    }
    rounds.push(50_000 / (performance.now() - start) * 1000);
    leases.unused(first!);
  }
  await leases.close();
  await vault.close();
  return `${Math.round(median(rounds)).toLocaleString("en")} calls a second from a lease at hand`;
}

const ratios = [...await measure(), ...await measureFetch()];
const lease = await measureLease();
if (Deno.args.includes("--json")) {
  console.log(JSON.stringify({ ratios, lease }));
} else {
  for (const { name, ratio, oursMicroseconds, floorMicroseconds } of ratios) {
    console.log(
      `${ratio.toFixed(2).padStart(6)}  ${name} (${oursMicroseconds.toFixed(0)} µs, floor ${
        floorMicroseconds.toFixed(0)
      } µs)`,
    );
  }
  console.log(lease);
}
