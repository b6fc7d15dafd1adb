/**
 * The dashboard's figures: they add up, they follow the clock, and however many ask, the database is asked once.
 *
 * @module
 */

import assert from "node:assert/strict";
import { checkHealth, Stats, type Status, statusSchema } from "../lib/stats.ts";
import { createPool } from "../lib/pool.ts";
import { openVault } from "../lib/service.ts";
import { donate, donation, draw, KEY, limitHeaders, OTHER_KEY, response, START } from "./support/fixtures.ts";
import { type Service, temporaryService, upkeep } from "./support/service.ts";

const HOUR = 3_600_000;

/** The figures as of now, whatever was cached. */
async function figures({ vault }: Service): Promise<Status> {
  const { status, json } = await new Stats(vault).snapshot();
  assert.deepEqual(statusSchema.parse(JSON.parse(json)), status);
  const { total, ...states } = status.tokens;
  assert.equal(Object.values(states).reduce((sum, count) => sum + count), total, "states add up to the total");
  return status;
}

Deno.test("snapshot() of an empty pool is empty", async () => {
  await using service = await temporaryService();
  assert.deepEqual(await figures(service), {
    schema_version: 1,
    status: "empty",
    updated_at: new Date(START).toISOString(),
    tokens: { total: 0, healthy: 0, exhausted: 0, cooling: 0, suspended: 0, paused: 0 },
    resources: { core: { limit: 0, remaining: 0, usable: 0, percent: 0, next_reset_at: null } },
    calls: { total: 0, last_24h: 0 },
  });
});

Deno.test("snapshot() of fresh donations is ok, and full", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 2, { reserve: 0.25 });
  await service.pool.addToken(donation(3, { reserve: 0.5 }));
  const { status, tokens, resources } = await figures(service);
  assert.equal(status, "ok");
  assert.deepEqual(tokens, { total: 3, healthy: 3, exhausted: 0, cooling: 0, suspended: 0, paused: 0 });
  const usable = 2 * 3750 + 2500;
  assert.deepEqual(resources, {
    core: { limit: 15_000, remaining: 15_000, usable, percent: 100, next_reset_at: null },
  });
});

Deno.test("snapshot() counts a donation that GitHub has refused until its reset as exhausted, at once", async () => {
  await using service = await temporaryService();
  const [refused] = await donate(service.pool, 1);
  const { pool, clock } = service;
  await pool.syncTokenHealth(refused!, response(403, limitHeaders(5000, 0, clock.seconds + 600)));
  const { tokens } = await figures(service);
  assert.deepEqual(tokens, { total: 1, healthy: 0, exhausted: 1, cooling: 0, suspended: 0, paused: 0 });
});

Deno.test("snapshot() counts donations by state", async () => {
  await using service = await temporaryService();
  const [, exhausted, cooling, suspended, cooled] = await donate(service.pool, 5);
  const { pool, clock } = service;
  const reset = clock.seconds + 600;
  await pool.syncTokenHealth(exhausted!, response(200, limitHeaders(5000, 1250, reset)));
  await pool.syncTokenHealth(cooling!, response(403, { "retry-after": "60" }));
  await pool.syncTokenHealth(suspended!, response(401));
  await pool.syncTokenHealth(suspended!, response(403, { "retry-after": "60" }));
  await pool.syncTokenHealth(cooled!, response(403, { "retry-after": "1" }));
  clock.advance(1000);
  const { status, tokens, resources } = await figures(service);
  assert.equal(status, "ok");
  assert.deepEqual(tokens, { total: 5, healthy: 2, exhausted: 1, cooling: 1, suspended: 1, paused: 0 });
  assert.deepEqual(resources["core"], {
    limit: 25_000,
    remaining: 4 * 5000 + 1250,
    usable: 2 * 3750,
    percent: 40,
    next_reset_at: reset,
  });
});

Deno.test("snapshot() is exhausted when nothing can be claimed, until the window ends", async () => {
  await using service = await temporaryService();
  const { pool, clock } = service;
  const ids = await donate(pool, 2);
  const reset = clock.seconds + 600;
  await pool.syncTokenHealth(ids[0]!, response(200, limitHeaders(5000, 0, reset)));
  await pool.syncTokenHealth(ids[1]!, response(429, { "retry-after": "1200" }));
  assert.equal((await figures(service)).status, "exhausted");
  assert.equal(await pool.getToken(), null);
  clock.time = (reset + 1) * 1000 - 1;
  assert.equal((await figures(service)).status, "exhausted");
  clock.advance(1);
  const { status, tokens, resources } = await figures(service);
  assert.equal(status, "ok");
  assert.deepEqual(tokens, { total: 2, healthy: 1, exhausted: 0, cooling: 1, suspended: 0, paused: 0 });
  assert.equal(resources["core"]?.next_reset_at, null, "the window is over");
});

Deno.test("snapshot() is exhausted when all tokens are suspects, and degraded when they are many at once", async () => {
  await using service = await temporaryService();
  const { pool } = service;
  const ids = await donate(pool, 6);
  for (const id of ids.slice(0, 4)) await pool.syncTokenHealth(id, response(401));
  assert.equal((await figures(service)).status, "ok");
  await pool.syncTokenHealth(ids[4]!, response(401));
  const { status, tokens } = await figures(service);
  assert.equal(status, "degraded");
  assert.deepEqual(tokens, { total: 6, healthy: 1, exhausted: 0, cooling: 0, suspended: 5, paused: 0 });

  await using other = await temporaryService();
  const [only] = await donate(other.pool, 1);
  await other.pool.syncTokenHealth(only!, response(401));
  assert.equal((await figures(other)).status, "exhausted");
});

Deno.test("snapshot() sums each resource by itself", async () => {
  await using service = await temporaryService();
  const { pool, clock } = service;
  await donate(pool, 3, { reserve: 0.5 });
  const first = await pool.getToken({ resource: "search" });
  const reset = clock.seconds + 42;
  await pool.syncTokenHealth(first!.id, response(200, limitHeaders(30, 18, reset, "search")));
  await pool.getToken({ resource: "graphql", cost: 1000 });
  const { resources } = await figures(service);
  assert.deepEqual(Object.keys(resources), ["core", "graphql", "search"]);
  assert.deepEqual(resources["search"], {
    limit: 90,
    remaining: 78,
    usable: 33,
    percent: 73,
    next_reset_at: reset,
  });
  assert.deepEqual(resources["graphql"], {
    limit: 15_000,
    remaining: 14_000,
    usable: 6500,
    percent: 87,
    next_reset_at: clock.seconds + 3600,
  });
  assert.equal(resources["core"]?.usable, 7500, "untouched");
});

Deno.test("snapshot() names the earliest reset of all", async () => {
  await using service = await temporaryService();
  const { pool, clock } = service;
  const ids = await donate(pool, 3);
  const resets = [900, 300, 600].map((seconds) => clock.seconds + seconds);
  for (const [index, id] of ids.entries()) {
    await pool.syncTokenHealth(id, response(200, limitHeaders(5000, 4000, resets[index]!)));
  }
  const next = async () => (await figures(service)).resources["core"]?.next_reset_at;
  assert.equal(await next(), resets[1]);
  clock.time = (resets[1]! + 1) * 1000;
  assert.equal(await next(), resets[2]);
});

Deno.test("snapshot() counts calls for ever, and those of the last day", async () => {
  await using service = await temporaryService();
  const { pool, clock } = service;
  await donate(pool, 2);
  const calls = async () => (await figures(service)).calls;
  await draw(pool, 10);
  assert.deepEqual(await calls(), { total: 10, last_24h: 10 });
  clock.advance(23 * HOUR);
  assert.deepEqual(await calls(), { total: 10, last_24h: 10 });
  clock.advance(2 * HOUR);
  assert.deepEqual(await calls(), { total: 10, last_24h: 0 });
  await draw(pool, 5);
  assert.deepEqual(await calls(), { total: 15, last_24h: 5 });
});

/** Calls by hour and by day as of now, without the zeros: how long ago, and how many. */
async function history({ vault }: Service) {
  const { history: { hours, days }, status } = await new Stats(vault).snapshot();
  assert.equal(hours.length, 24);
  assert.equal(days.length, 30);
  const sum = (points: typeof hours) => points.reduce((total, { calls }) => total + calls, 0);
  assert.equal(sum(hours), status.calls.last_24h, "the hours add up to what /status says");
  const [now, DAY] = [vault.now(), 24 * HOUR];
  for (const [index, { at }] of hours.entries()) assert.equal(at, now - now % HOUR + (index - 23) * HOUR);
  for (const [index, { at }] of days.entries()) assert.equal(at, now - now % DAY + (index - 29) * DAY);
  const told = (points: typeof hours) =>
    points.map(({ calls }, index) => [points.length - 1 - index, calls]).filter(([, calls]) => calls !== 0);
  return { hours: told(hours), days: told(days) };
}

Deno.test("snapshot() tells the calls of each hour and day, gaps among them", async () => {
  await using service = await temporaryService();
  const { pool, clock } = service;
  clock.time -= clock.time % (24 * HOUR); // midnight, UTC
  await donate(pool, 3);
  assert.deepEqual(await history(service), { hours: [], days: [] });
  await draw(pool, 4);
  assert.deepEqual(await history(service), { hours: [[0, 4]], days: [[0, 4]] });
  clock.advance(HOUR);
  await draw(pool, 2);
  clock.advance(3 * HOUR - 1);
  assert.deepEqual(await history(service), { hours: [[3, 4], [2, 2]], days: [[0, 6]] });
  clock.advance(1);
  await draw(pool, 1);
  assert.deepEqual(await history(service), { hours: [[4, 4], [3, 2], [0, 1]], days: [[0, 7]] });
  clock.advance(20 * HOUR); // midnight again
  assert.deepEqual(await history(service), { hours: [[23, 2], [20, 1]], days: [[1, 7]] });
  await draw(pool, 5);
  clock.advance(29 * 24 * HOUR);
  assert.deepEqual(await history(service), { hours: [], days: [[29, 5]] });
  await draw(pool, 3);
  clock.advance(24 * HOUR);
  assert.deepEqual(await history(service), { hours: [], days: [[1, 3]] });
});

Deno.test("keepHistory() takes one snapshot in an hour, of what the pool is then, and forgets it after 31 days", async () => {
  await using service = await temporaryService();
  const { pool, clock, vault, database } = service;
  clock.time -= clock.time % (24 * HOUR);
  const ids = await donate(pool, 5, { reserve: 0.5 });
  await draw(pool, 10);
  const store = await vault.store();
  await store.pause("1001");
  await store.suspect(ids[1]!);
  await store.holdUser(ids[2]!, { seconds: 600, baseSeconds: 60, mostSeconds: 3600 });
  await pool.syncTokenHealth(ids[3]!, response(200, limitHeaders(5000, 2500, clock.seconds + 3600)));
  const other = openVault(service.options);
  const stores = [store, await other.store(), store];
  const taking = await Promise.all(stores.map((store) => store.keepHistory()));
  assert.equal(taking.filter(Boolean).length, 1);
  await other.close();
  const first = { hour: clock.time / HOUR, donations: 5, healthy: 1, usable: 2498, lendable: 10_000 };
  const taken = () => database.look("SELECT * FROM token_pool_snapshots ORDER BY hour");
  assert.deepEqual(await taken(), [first]);
  const { tokens, resources } = (await new Stats(vault).snapshot()).status;
  assert.deepEqual([first.healthy, first.usable], [tokens.healthy, resources["core"]!.usable], "as the dashboard says");

  clock.advance(HOUR - 1);
  await store.withdraw("1005");
  assert.equal(await store.keepHistory(), false);
  assert.deepEqual(await taken(), [first], "the first of the hour stands");
  clock.advance(1);
  assert.equal(await store.keepHistory(), true);
  assert.deepEqual((await taken()).map(({ donations }) => donations), [5, 4]);

  clock.advance(31 * 24 * HOUR);
  await store.keepHistory();
  assert.deepEqual((await taken()).map(({ hour }) => hour), [first.hour + 1, first.hour + 1 + 31 * 24]);
  clock.advance(HOUR);
  await store.keepHistory();
  assert.equal((await taken()).length, 2);
});

Deno.test("snapshot() tells the donations as of the last snapshot of each day, and null of days without one", async () => {
  await using service = await temporaryService();
  const { pool, clock, vault } = service;
  clock.time -= clock.time % (24 * HOUR);
  const told = async () =>
    (await new Stats(vault).snapshot()).history.donations.map(({ at, count }, index) => {
      assert.equal(at, clock.time - clock.time % (24 * HOUR) + (index - 29) * 24 * HOUR);
      return count;
    });
  const nothing = (days: number) => Array<null>(days).fill(null);
  assert.deepEqual(await told(), nothing(30));
  await upkeep(service);
  clock.advance(HOUR);
  await donate(pool, 3);
  await upkeep(service);
  assert.deepEqual(await told(), [...nothing(29), 3]);
  clock.advance(24 * HOUR);
  await (await vault.store()).withdraw("1001");
  await upkeep(service);
  clock.advance(2 * 24 * HOUR);
  assert.deepEqual(await told(), [...nothing(26), 3, 2, null, null]);
  clock.advance(27 * 24 * HOUR);
  assert.deepEqual(await told(), [2, ...nothing(29)], "30 days are told of");
});

Deno.test("snapshot() keeps the history of donations that have left", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  await draw(service.pool, 4);
  await (await service.vault.store()).withdraw("1001");
  assert.deepEqual(await history(service), { hours: [[0, 4]], days: [[0, 4]] });
});

Deno.test("snapshot() never tells of less than no calls, when what was leased is given back in the next hour", async () => {
  await using service = await temporaryService();
  const { pool, clock, vault } = service;
  await donate(pool, 1);
  const store = await vault.store();
  clock.time += HOUR - clock.time % HOUR - 1000; // a second before the full hour
  const lease = (await store.exchange({ reports: [], unused: [], wanted: { resource: "core", most: 40 } }))!;
  clock.advance(2000);
  await draw(pool, 1);
  const { id, windowEnds } = lease;
  const back = { id, resource: "core", calls: 40, windowEnds, resetAt: null, ceiling: null, isLate: false };
  await store.exchange({ reports: [], unused: [back], wanted: null });
  const { history: { hours }, status } = await new Stats(vault).snapshot();
  assert.equal(status.calls.total, 1, "it was taken back");
  assert.ok(hours.every(({ calls }) => calls >= 0));
});

Deno.test("snapshot() keeps the history it knew while the database is away", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  await draw(service.pool, 4);
  const stats = new Stats(service.vault);
  const known = await stats.snapshot();
  assert.equal(known.capacity, 3750);
  service.database.failing = /^/;
  service.clock.advance(15_000);
  const away = await stats.snapshot();
  assert.deepEqual([away.history, away.capacity], [known.history, known.capacity]);
  service.database.failing = null;
});

Deno.test("snapshot() counts calls of every resource, by their cost", async () => {
  await using service = await temporaryService();
  const { pool } = service;
  await donate(pool, 1);
  await pool.getToken({ cost: 7 });
  await pool.getToken({ resource: "search" });
  await pool.getToken({ resource: "graphql", cost: 100 });
  assert.deepEqual((await figures(service)).calls, { total: 108, last_24h: 108 });
});

Deno.test("snapshot() counts on after a withdrawal and after a removal", async () => {
  await using service = await temporaryService();
  const { pool, vault, clock } = service;
  const ids = await donate(pool, 2);
  await draw(pool, 10);
  await (await vault.store()).withdraw("1001");
  assert.deepEqual((await figures(service)).calls, { total: 10, last_24h: 10 });
  await (await vault.store()).remove(ids[1]!);
  assert.deepEqual((await figures(service)).calls, { total: 10, last_24h: 10 });
  clock.advance(25 * HOUR);
  await donate(pool, 1);
  await draw(pool, 5);
  assert.deepEqual((await figures(service)).calls, { total: 15, last_24h: 5 });
});

Deno.test("snapshot() counts the calls of other processes too", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  for (let process = 0; process < 3; process++) {
    const pool = createPool({ database: service.database, encryptionKey: KEY, now: service.clock.now });
    await draw(pool, 4);
  }
  assert.equal((await figures(service)).calls.total, 12);
});

Deno.test("snapshot() asks once, however many ask at once", async () => {
  await using service = await temporaryService();
  await service.vault.store();
  const stats = new Stats(service.vault);
  const before = service.database.statements.length;
  const snapshots = await Promise.all(Array.from({ length: 100 }, () => stats.snapshot()));
  assert.equal(service.database.statements.length, before + 1);
  assert.equal(new Set(snapshots).size, 1);
});

Deno.test("snapshot() asks again after 15 s, and not before", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const stats = new Stats(service.vault);
  const first = await stats.snapshot();
  const before = service.database.statements.length;
  service.clock.advance(14_999);
  assert.equal(await stats.snapshot(), first);
  assert.equal(service.database.statements.length, before);
  service.clock.advance(1);
  const second = await stats.snapshot();
  assert.equal(service.database.statements.length, before + 1);
  assert.equal(second.status.updated_at, new Date(START + 15_000).toISOString());
  assert.notEqual(second.etag, first.etag);
});

Deno.test("snapshot() does not keep figures for ever when the clock is set back", async () => {
  await using service = await temporaryService();
  const stats = new Stats(service.vault);
  await stats.snapshot();
  service.clock.advance(-HOUR);
  assert.equal((await stats.snapshot()).status.updated_at, new Date(START - HOUR).toISOString());
});

Deno.test("invalidate() makes a change of this process show at once", async () => {
  await using service = await temporaryService();
  const stats = new Stats(service.vault);
  assert.equal((await stats.snapshot()).status.tokens.total, 0);
  await service.pool.addToken(donation(1));
  stats.invalidate();
  assert.equal((await stats.snapshot()).status.tokens.total, 1);
});

Deno.test("invalidate() makes an answer that is under way one that is not kept", async () => {
  await using service = await temporaryService();
  const stats = new Stats(service.vault);
  const early = stats.snapshot();
  stats.invalidate();
  assert.equal((await early).status.tokens.total, 0);
  await service.pool.addToken(donation(1));
  assert.equal((await stats.snapshot()).status.tokens.total, 1);
});

Deno.test("invalidate() leaves it at one query for all who ask after it", async () => {
  await using service = await temporaryService();
  await service.vault.store();
  const stats = new Stats(service.vault);
  const { database } = service;
  const asked = database.statements.length;
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const early = stats.snapshot();
  stats.invalidate();
  database.before = () => database.statements.length === asked + 2 ? held : Promise.resolve();
  const late = stats.snapshot();
  await early; // the late one is still under way, so whoever comes now joins it
  const others = [stats.snapshot(), stats.snapshot()];
  release();
  await Promise.all([late, ...others]);
  assert.equal(database.statements.length, asked + 2, "one before the change, one after it");
});

Deno.test("snapshot() says down while the database is away, with the last figures, and recovers by itself", async () => {
  await using service = await temporaryService();
  const { database, clock, pool } = service;
  await donate(pool, 2);
  await draw(pool, 3);
  const stats = new Stats(service.vault);
  const known = (await stats.snapshot()).status;
  database.failing = /^/;
  clock.advance(15_000);
  const down = await stats.snapshot();
  statusSchema.parse(JSON.parse(down.json));
  assert.deepEqual(down.status, { ...known, status: "down", updated_at: new Date(clock.time).toISOString() });
  assert.equal(down.isUpkeepDue, false);
  database.failing = null;
  clock.advance(15_000);
  assert.equal((await stats.snapshot()).status.status, "ok");
});

Deno.test("snapshot() of a process that never saw the database says down, with zeros", async () => {
  await using service = await temporaryService();
  service.database.failing = /^/;
  const { status, json } = await new Stats(service.vault).snapshot();
  statusSchema.parse(JSON.parse(json));
  assert.equal(status.status, "down");
  assert.equal(status.tokens.total, 0);
  service.database.failing = null;
  assert.equal((await figures(service)).status, "empty");
});

Deno.test("snapshot() needs no key", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  service.variables["TOKEN_ENCRYPTION_KEY"] = undefined;
  assert.equal((await figures(service)).tokens.total, 1);
  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  assert.equal((await figures(service)).tokens.total, 1);
});

Deno.test("snapshot() names no donor", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 2);
  const { json } = await new Stats(service.vault).snapshot();
  assert.doesNotMatch(json, /user1|user2|1001|1002|gho_/);
});

Deno.test("checkHealth() is in the common form of health checks", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const time = new Date(START).toISOString();
  assert.deepEqual(await checkHealth(service.vault, new Stats(service.vault)), {
    status: "pass",
    description: "github token pool: ok",
    checks: {
      "database:connection": [{ componentType: "datastore", status: "pass", time }],
      "pool:usable": [{ componentType: "component", status: "pass", time }],
    },
  });
});

Deno.test("checkHealth() tells in public only what kind of trouble it is", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const output = async () => {
    const health = await checkHealth(service.vault, new Stats(service.vault));
    assert.equal(health.status, "fail");
    return health.checks["database:connection"]?.[0]?.output;
  };
  service.database.failing = /^/;
  assert.equal(await output(), "database does not answer");
  service.database.failing = null;
  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  assert.equal(await output(), "wrong encryption key");
  service.variables["TOKEN_ENCRYPTION_KEY"] = "canary";
  assert.equal(await output(), "not configured");
});

Deno.test("checkHealth() warns of an incident", async () => {
  await using service = await temporaryService();
  for (const id of (await donate(service.pool, 6)).slice(1)) await service.pool.syncTokenHealth(id, response(401));
  const { status, description } = await checkHealth(service.vault, new Stats(service.vault));
  assert.deepEqual([status, description], ["warn", "github token pool: degraded"]);
});
