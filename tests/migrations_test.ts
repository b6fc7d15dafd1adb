/**
 * The schema only grows. Programs stay on the library that they have imported, so the first release works on the newest
 * tables, the newest library on the first release's, and either beside the other in several processes.
 */

import { createClient } from "npm:@libsql/client@0.18.0";
import assert from "node:assert/strict";
import { Keyring } from "../lib/crypto.ts";
import { openVault } from "../lib/service.ts";
import { FirstRelease } from "./support/first_release.ts";
import { Clock, donate, donation, draw, environment, KEY, temporaryFolder, temporaryPool } from "./support/fixtures.ts";
import { createPool } from "../lib/pool.ts";
import { linesOf, readElsewhere, spawn } from "./support/processes.ts";
import { WatchedDatabase } from "./support/service.ts";
import { startSqld } from "./support/sqld.ts";

const NEWEST = 4;

const sealedToken = async (n: number) =>
  await (await Keyring.from(KEY)).seal(`gho_token${n}`, { column: "token", githubUserId: String(1000 + n) });

/** A database that the first release has made, with donations 1 to `count`, of which the first was used. */
async function firstDatabase(count: number) {
  const folder = await temporaryFolder();
  const file = `${folder.path}/pool.db`;
  const clock = new Clock();
  const first = new FirstRelease(`file:${file}`, clock.now);
  await first.open();
  await first.call("addCanary", {
    kid: (await Keyring.from(KEY)).kid,
    sealed: await (await Keyring.from(KEY)).seal("github-token-pool", { column: "canary", githubUserId: "" }),
  });
  for (let n = 1; n <= count; n++) await first.donate(String(1000 + n), await sealedToken(n));
  await first.firstUse();
  const client = createClient({ url: `file:${file}` });
  return {
    file,
    url: `file:${file}`,
    clock,
    first,
    async look(sql: string): Promise<unknown[]> {
      return (await client.execute(sql)).rows.map((row) => row[0]);
    },
    async [Symbol.asyncDispose]() {
      first.close();
      client.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

Deno.test("the newest library upgrades the first release's database, and nothing is lost", async () => {
  await using old = await firstDatabase(3);
  const { first, clock, url } = old;
  const { id } = (await first.claim())!;
  await first.merge(id, 5000, 4000, clock.seconds + 3600);
  await first.call("suspect", { id: 3 });
  await first.call("addRevocation", { user: "1009", token: await sealedToken(9), kind: "grant" });
  const contents = async () => [
    await old.look(
      "SELECT json_array(id, github_user_id, token, reserve, donated_at, suspect_at) FROM token_pool_tokens",
    ),
    await old.look(
      "SELECT json_array(token_id, cap, remaining, floor, reset_at, ready_at, calls) FROM token_pool_limits",
    ),
    await old.look("SELECT json_array(github_user_id, token, kind, due_at) FROM token_pool_revocations"),
    await old.look("SELECT kid FROM token_pool_canaries"),
  ];
  const before = await contents();
  assert.deepEqual(await old.look("SELECT value FROM token_pool_meta WHERE key = 'schema_version'"), [1]);

  await using pool = createPool({ database: url, encryptionKey: KEY, now: clock.now });
  await pool.availability();
  assert.deepEqual(await contents(), before);
  assert.deepEqual(await old.look("SELECT value FROM token_pool_meta WHERE key = 'schema_version'"), [NEWEST]);
  const token = (await pool.getToken())!;
  assert.equal(token.token, "gho_token2");
  const vault = openVault({ database: url, environment: environment({ TOKEN_ENCRYPTION_KEY: KEY }), now: clock.now });
  const store = await vault.store();
  const [lease, report] = [{ resource: "core", most: 5 }, { reports: [], unused: [] }];
  assert.deepEqual((await store.exchange({ ...report, wanted: lease }))?.granted, 5, "leases need the added column");
  assert.ok(await store.pause("1001"), "and pauses the added table");
  await vault.close();
});

Deno.test("two processes that upgrade at once do not meet: who comes second finds it done, at whatever moment", async () => {
  for (let moment = 1;; moment++) {
    await using old = await firstDatabase(2);
    const database = new WatchedDatabase(old.url);
    let calls = 0;
    database.before = async () => {
      if (++calls !== moment) return;
      await using other = createPool({ database: old.url, encryptionKey: KEY, now: old.clock.now });
      assert.ok(await other.getToken());
    };
    await using pool = createPool({ database, encryptionKey: KEY, now: old.clock.now });
    assert.ok(await pool.getToken(), `at call ${moment}`);
    assert.deepEqual(await old.look("SELECT value FROM token_pool_meta WHERE key = 'schema_version'"), [NEWEST]);
    database.close();
    if (calls < moment) break;
  }
});

Deno.test("the newest library upgrades the first release's tables on a libSQL server", async () => {
  await using sqld = await startSqld();
  const first = new FirstRelease(sqld.url);
  await first.open();
  await first.donate("1001", await sealedToken(1));
  await first.firstUse();
  await using pool = createPool({ database: sqld.url, encryptionKey: KEY });
  assert.equal((await pool.getToken())?.token, "gho_token1");
  assert.ok(await first.claim());
  first.close();
});

Deno.test("the first release's statements do on the newest schema what they did on their own", async () => {
  const run = async (isNewest: boolean) => {
    await using old = await firstDatabase(6);
    const { first, clock } = old;
    if (isNewest) await createPool({ database: old.url, encryptionKey: KEY, now: clock.now }).availability();
    const seen: unknown[] = [];
    const note = async (what: Promise<unknown>) => void seen.push(await what);
    const report = { resource: "core", limit: 5000, remaining: 3000, reset: clock.seconds + 3600, free: 0 };
    const bench = { seconds: null, base: 60, most: 3600 };
    await note(first.claim().then((claim) => claim?.id));
    await note(first.call("merge", { id: 1, ...report }));
    await note(
      first.call("claimMany", { resource: "core", cost: 4000, window: 3_601_000 }).then((rows) => rows.length),
    );
    await note(first.call("holdUser", { id: 2, ...bench }));
    await note(first.call("holdResource", { id: 3, resource: "core", ...bench }));
    await note(first.call("forgiveStrikes", { id: 2 }));
    await note(first.call("suspect", { id: 4 }));
    await note(first.call("takeSuspects", { count: 5 }).then((rows) => rows.length));
    const [sealed] = await old.look("SELECT token FROM token_pool_tokens WHERE id = 4");
    await note(first.call("acquit", { id: 4, token: sealed as string }));
    await note(first.call("remove", { id: 5 }));
    await note(first.call("condemn", { id: 6 }).then((rows) => rows.length));
    await note(first.call("takeRevocations", { count: 5 }).then((rows) => rows.length));
    await note(first.call("endRevocation", { id: 1 }));
    await note(first.call("noteExpiry", { id: 1, expires_at: clock.now() }));
    await note(first.donate("1001", "v1.again", 0.9));
    await note(first.donate("1007", "v1.seventh"));
    await note(first.withdraw("1002"));
    await note(first.withdraw("1002"));
    await note(first.call("availability", { resource: "core", assumed: 5000 }));
    await note(first.call("stats"));
    await note(first.call("list"));
    await note(
      old.look("SELECT json_array(id, reserve, held_until, strikes, suspect_at, checks) FROM token_pool_tokens"),
    );
    await note(
      old.look("SELECT json_array(token_id, cap, remaining, floor, ready_at, turn, calls) FROM token_pool_limits"),
    );
    return seen;
  };
  assert.deepEqual(await run(true), await run(false));
});

Deno.test("what the first release knows nothing of is put right by upkeep: a pause that its late report has ended", async () => {
  await using old = await firstDatabase(1);
  const { first, clock, url } = old;
  const vault = openVault({ database: url, environment: environment({ TOKEN_ENCRYPTION_KEY: KEY }), now: clock.now });
  const store = await vault.store();
  const claim = (await first.claim())!;
  assert.ok(await store.pause("1001"));
  assert.equal(await first.claim(), null, "its claims know the queue, and that is enough");
  await first.merge(claim.id, 5000, 4000, clock.seconds + 3600);
  await store.keepHistory();
  assert.equal(await first.claim(), null);
  assert.equal((await store.availability("core")).usable, 0);
  assert.ok(await store.resume("1001"));
  await store.keepHistory();
  assert.equal((await first.claim())?.id, claim.id);
  await vault.close();
});

Deno.test("a donation that the first release deletes while GitHub is asked about it leaves nothing behind", async () => {
  await using old = await firstDatabase(1);
  const { first, clock, url } = old;
  const vault = openVault({ database: url, environment: environment({ TOKEN_ENCRYPTION_KEY: KEY }), now: clock.now });
  const store = await vault.store();
  const { id } = (await first.claim())!;
  const readings = [{ resource: "core", limit: 5000, remaining: 4999, resetAt: clock.seconds + 3600 }];
  await store.endProbe(id, readings);
  assert.deepEqual(await old.look("SELECT token_id FROM token_pool_readings"), [id]);
  assert.ok(await first.withdraw("1001"));
  assert.equal((await store.stats()).due, 0);
  await store.endProbe(id, readings);
  assert.deepEqual(await old.look("SELECT token_id FROM token_pool_limits"), []);
  await store.keepHistory();
  assert.deepEqual(await old.look("SELECT token_id FROM token_pool_readings"), []);
  await vault.close();
});

Deno.test("a library works on with tables of a later version, and leaves its number alone", async () => {
  await using temporary = await temporaryPool();
  await donate(temporary.pool, 2);
  const client = createClient({ url: temporary.url });
  await client.execute("CREATE TABLE token_pool_of_the_future (id INTEGER PRIMARY KEY, what TEXT)");
  await client.execute("UPDATE token_pool_meta SET value = 99 WHERE key = 'schema_version'");
  await using other = createPool({ database: temporary.url, encryptionKey: KEY, now: temporary.clock.now });
  await other.addToken(donation(3));
  assert.deepEqual(await draw(other, 4), [1, 2, 3, 1]);
  const { rows } = await client.execute("SELECT value FROM token_pool_meta WHERE key = 'schema_version'");
  assert.equal(rows[0]![0], 99);
  client.close();
});

Deno.test("processes of the first and the newest release draw, donate and withdraw on one file, upgrading it under way", async () => {
  await using old = await firstDatabase(6);
  const each = 40;
  const children = ["first", "draw", "first", "draw", "draw"].map((kind, index) =>
    kind === "first"
      ? spawn("first", old.url, KEY, String(each), String(5000 + index))
      : spawn("draw", old.url, KEY, String(each))
  );
  const outputs = children.map(linesOf);
  for (const lines of outputs) await lines.next(); // ready: those of the newest release have upgraded it by now
  for (const child of children) await child.stdin.close(); // all start at once
  const drawn: number[] = [];
  for (const [index, lines] of outputs.entries()) {
    const { ids } = JSON.parse((await lines.next()).value as string) as { ids: number[] };
    assert.equal(ids.length, each, "every claim was answered");
    drawn.push(...ids);
    await lines.return(undefined);
    assert.equal((await children[index]!.status).code, 0);
  }
  const total =
    "(SELECT sum(calls) FROM token_pool_limits) + (SELECT value FROM token_pool_meta WHERE key = 'retired_calls')";
  assert.deepEqual(await readElsewhere(old.file, `SELECT ${total} AS calls`), [{ calls: drawn.length }]);
  assert.deepEqual(await readElsewhere(old.file, "SELECT count(*) AS n FROM token_pool_tokens"), [{ n: 6 }]);
  assert.deepEqual(await readElsewhere(old.file, "SELECT value FROM token_pool_meta WHERE key = 'schema_version'"), [
    { value: NEWEST },
  ]);
});
