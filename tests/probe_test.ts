/**
 * `GET /rate_limit`: what its answer says, as a table; which donations are asked with, and how often; and that a token
 * that nobody uses is used in time. Against a strict GitHub and a real database.
 *
 * @module
 */

import assert from "node:assert/strict";
import { judgeProbe } from "../lib/probe.ts";
import type { ProbedRow } from "../lib/records.ts";
import { Stats } from "../lib/stats.ts";
import { limitHeaders, START } from "./support/fixtures.ts";
import { report, type Service, temporaryService, upkeep, visit } from "./support/service.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const ASK = /^GET \/rate_limit$/;
const API = "https://api.github.com";
const RESET = START / 1000 + 3600;

const observed = (status: number, body: unknown, headers: Record<string, string> = { "x-oauth-scopes": "" }) => ({
  status,
  headers: new Headers(headers),
  body: typeof body === "string" ? body : JSON.stringify(body),
  url: `${API}/rate_limit`,
});
const core = (window: ProbedRow["window"]): ProbedRow[] => [{ resource: "core", window }];
const reading = (limit: unknown, remaining: unknown, used?: unknown, reset: unknown = RESET) => ({
  resources: { core: { limit, remaining, used, reset } },
});

Deno.test("judgeProbe() takes in what was used in part, and what is full only in the place of a guess", () => {
  const table: [name: string, body: unknown, window: ProbedRow["window"], remaining: number | null][] = [
    ["part of it, no window", reading(5000, 4000, 1000), "none", 4000],
    ["part of it, a guess", reading(5000, 4000, 1000), "provisional", 4000],
    ["part of it, GitHub's window", reading(5000, 4000, 1000), "github", 4000],
    ["nothing left", reading(5000, 0, 5000), "github", 0],
    ["full, no window", reading(5000, 5000, 0), "none", null],
    ["full, a guess", reading(5000, 5000, 0), "provisional", 5000],
    ["full, GitHub's window", reading(5000, 5000, 0), "github", null],
    ["full by used alone", reading(5000, 4999, 0), "github", null],
    ["full by remaining alone", reading(5000, 5000, 1), "github", null],
    ["full, of an answer without used", reading(5000, 5000), "github", null],
    ["part of it, of an answer without used", reading(5000, 4000), "github", 4000],
    ["more left than there is", reading(5000, 6000, 0), "provisional", 5000],
    ["a reset in milliseconds", reading(5000, 4000, 1000, RESET * 1000), "none", null],
    ["a limit of nothing", reading(0, 0, 0), "provisional", null],
    ["a fraction", reading(5000, 0.5, 4999), "none", null],
    ["less than nothing", reading(5000, -1, 5001), "none", null],
    ["a text", reading(5000, "4000", 1000), "none", null],
    ["no number", reading(5000, null, 1000), "none", null],
  ];
  for (const [name, body, window, remaining] of table) {
    const reports = remaining === null ? [] : [{ resource: "core", limit: 5000, remaining, resetAt: RESET }];
    assert.deepEqual(judgeProbe(observed(200, body), API, core(window)), { kind: "readings", reports }, name);
  }
});

Deno.test("judgeProbe() reads what the pool has rows for, under `resources` only", () => {
  const used = { limit: 5000, remaining: 4000, used: 1000, reset: RESET };
  const rows = ["core", "search", "constructor", "graphql"].map((resource): ProbedRow => ({
    resource,
    window: "none",
  }));
  const body = { resources: { core: used, search: "?", integration_manifest: used, graphql: used }, rate: used };
  const verdict = judgeProbe(observed(200, body), API, rows);
  assert.deepEqual(verdict.kind === "readings" && verdict.reports.map(({ resource }) => resource), ["core", "graphql"]);
  for (
    const nothing of ["", "<html>", "null", "[]", "{}", { rate: used }, { resources: [used] }, { resources: null }]
  ) {
    assert.deepEqual(judgeProbe(observed(200, nothing), API, rows), { kind: "readings", reports: [] });
  }
});

Deno.test("judgeProbe() judges the answer itself as any other", () => {
  const used = reading(5000, 4000, 1000);
  const anonymous = limitHeaders(60, 59, RESET);
  delete anonymous["x-oauth-scopes"];
  const table: [name: string, answer: ReturnType<typeof observed>, kind: string][] = [
    ["401", observed(401, { message: "Bad credentials" }, anonymous), "suspect"],
    ["a suspended account", observed(403, { message: "Sorry. Your account was suspended." }), "remove"],
    ["a token with scopes", observed(200, used, { "x-oauth-scopes": "repo" }), "remove"],
    ["a secondary limit", observed(403, { message: "secondary rate limit" }, { "retry-after": "60" }), "bench_user"],
    ["an anonymous caller's numbers", observed(200, used, anonymous), "ignore"],
    ["the same, of the body alone", observed(200, reading(60, 50, 10), {}), "ignore"],
    ["a small limit of somebody's own", observed(200, reading(60, 50, 10)), "readings"],
    ["404, where limits are off", observed(404, { message: "Rate limiting is not enabled." }), "readings"],
    ["a redirect", observed(302, ""), "readings"],
    ["502", observed(502, "<html>"), "ignore"],
  ];
  for (const [name, answer, kind] of table) assert.equal(judgeProbe(answer, API, core("none")).kind, kind, name);
  const notEnabled = judgeProbe(observed(404, used), API, core("none"));
  assert.deepEqual(notEnabled, { kind: "readings", reports: [] }, "nothing is read from what is no answer");
});

/** The only donor, who keeps half. */
async function lend(service: Service): Promise<void> {
  assert.equal((await visit(service, "ada")).kind, "donated");
}

/** A consumer that never reports: its calls reach GitHub, and nobody hears of the answers. */
async function call({ github, pool }: Service, count: number, resource = "core"): Promise<void> {
  for (let n = 0; n < count; n++) {
    const token = await pool.getToken({ resource });
    const headers = { authorization: `Bearer ${token!.token}`, "user-agent": "consumer" };
    const path = resource === "core" ? "/repos/denoland/deno" : "/search/issues";
    await (await github.fetch(API + path, { headers })).body?.cancel();
  }
}

async function row({ database }: Service, resource = "core"): Promise<Record<string, unknown>> {
  const [found] = await database.look(
    `SELECT cap, remaining, reset_at, window_ends, ready_at FROM token_pool_limits WHERE resource = ?`,
    [resource],
  );
  return found!;
}

Deno.test("runUpkeep() asks what is left where a consumer does not report, and from then on consumers know", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await lend(service);
  github.drain("ada", 4000); // what the donor used on their own, which no claim can know of
  const { seconds } = clock;
  await call(service, 3);
  assert.deepEqual(await upkeep(service), report(), "a report may still be under way");
  clock.advance(MINUTE - 1);
  assert.deepEqual(await upkeep(service), report());
  clock.advance(1);
  const used = github.used("ada");
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal(github.used("ada"), used, "asking is free");
  const token = await pool.getToken();
  assert.deepEqual(
    [token?.rate_limit_limit, token?.rate_limit_remaining, token?.rate_limit_reset_at],
    [5000, 3996, seconds + 3600],
  );
  clock.advance(15 * MINUTE - 1);
  assert.deepEqual(await upkeep(service), report(), "nothing has been drawn since but one call");
  clock.advance(1);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  clock.advance(20 * MINUTE);
  assert.deepEqual(await upkeep(service), report(), "nothing at all has been drawn since");
  assert.equal(github.count(ASK), 2);
});

Deno.test("runUpkeep() does not ask where consumers report, where nothing was drawn, nor of windows of a minute", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await lend(service);
  const search = (await pool.getToken({ resource: "search" }))!;
  const ofAMinute = limitHeaders(30, 29, clock.seconds + 60, "search");
  await pool.syncTokenHealth(search.id, new Response("{}", { headers: ofAMinute }));
  assert.deepEqual(await readings(service), []);
  const store = await service.vault.store();
  const lease = (await store.exchange({ reports: [], unused: [], wanted: { resource: "core", most: 5 } }))!;
  const back = {
    id: lease.id,
    resource: "core",
    calls: 5,
    windowEnds: lease.windowEnds,
    resetAt: null,
    ceiling: null,
    isLate: false,
  };
  await store.exchange({ reports: [], unused: [back], wanted: null });
  for (const minutes of [0.5, 1, 5]) {
    clock.advance(minutes * MINUTE);
    assert.deepEqual(await upkeep(service), report());
  }
  const reset = clock.seconds + 3600;
  for (const [cost, remaining] of [[1, 4999], [2000, 2999]] as const) {
    const { id } = (await pool.getToken({ cost }))!;
    await pool.syncTokenHealth(id, new Response("{}", { headers: limitHeaders(5000, remaining, reset) }));
  }
  await pool.getToken({ cost: 100 });
  clock.advance(30 * MINUTE);
  assert.deepEqual(await upkeep(service), report());
  assert.equal(github.count(ASK), 0);
});

Deno.test("runUpkeep() does not ask where consumers report what their hand-outs implied, by getToken or by poolFetch", async () => {
  for (const way of ["getToken", "poolFetch"] as const) {
    await using service = await temporaryService();
    const { github, clock, pool } = service;
    await lend(service);
    for (let n = 0; n < 700; n++) {
      if (way === "poolFetch") {
        await (await pool.fetch("/repos/denoland/deno")).body?.cancel();
        continue;
      }
      const { id, token } = (await pool.getToken())!;
      const headers = { authorization: `Bearer ${token}`, "user-agent": "consumer" };
      await pool.syncTokenHealth(id, await github.fetch(`${API}/repos/denoland/deno`, { headers }));
    }
    clock.advance(30 * MINUTE);
    assert.deepEqual(await upkeep(service), report(), way);
    assert.equal(github.count(ASK), 0);
  }
});

Deno.test("runUpkeep() asks where a consumer has reported, and then uses up a quarter without a word", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await lend(service);
  const { id } = (await pool.getToken())!;
  const reset = clock.seconds + 3600;
  await pool.syncTokenHealth(id, new Response("{}", { headers: limitHeaders(5000, 4999, reset) }));
  await spend(service, 624, 100);
  clock.advance(15 * MINUTE);
  assert.deepEqual(await upkeep(service), report(), "a report may come yet");
  await spend(service, 1, 0);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal((await row(service))["remaining"], 5000 - github.used("ada"));
  await spend(service, 1, 500);
  clock.advance(15 * MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }), "it is read on like any other");
});

/** So many calls are drawn and made, and nobody hears of them; the donor makes some of their own. */
async function spend({ github, pool }: Service, drawn: number, own: number): Promise<void> {
  assert.ok(await pool.getToken({ cost: drawn }));
  github.drain("ada", 5000 - github.used("ada") - drawn - own);
}

/** A donation with a window that nobody has reported on, which upkeep has read. */
async function lendSilently(service: Service): Promise<void> {
  await lend(service);
  await spend(service, 1, 0);
  service.clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
}

const readings = ({ database }: Service) => database.look("SELECT remaining, aside FROM token_pool_readings");

Deno.test("runUpkeep() asks again as a window is used up that nobody reports on, and leaves donors what they may need", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  const left = async () => Number((await row(service))["remaining"]);
  await lend(service);
  await spend(service, 1, 0);
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal(await left(), 4998, "2,498 of them can be drawn");

  await spend(service, 624, 25);
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report(), "less than a quarter of what could be drawn is gone");
  await spend(service, 1, 0);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal(await left(), 4348, "what the donor used is known now");

  await spend(service, 1500, 30);
  clock.advance(MINUTE - 1);
  assert.deepEqual(await upkeep(service), report(), "once a minute at most");
  clock.advance(1);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal(
    await left(),
    2818 - 63,
    "so near the end, twice what the donor used since, and three calls, are theirs",
  );
  assert.deepEqual(await readings(service), [{ remaining: 2755, aside: 63 }]);

  await spend(service, 100, 40);
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal(await left(), 2678 - 83, "what was set aside before is not counted twice");
  await spend(service, 95, 83);
  assert.equal(await pool.getToken(), null);
  assert.equal(5000 - github.used("ada"), 2500, "of the reserve the pool has used nothing");
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report(), "nothing more can be drawn");

  clock.advance(60 * MINUTE);
  await upkeep(service);
  assert.deepEqual(await readings(service), []);
  assert.equal((await pool.getToken())?.rate_limit_remaining, 4999, "the next window is whole");
});

Deno.test("runUpkeep() asks again within a quarter of an hour of whom little is drawn: donors may use most of it", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await lendSilently(service);
  const lefts: number[] = [];
  for (let quarter = 0; quarter < 3; quarter++) {
    if (await pool.getToken({ cost: 100 }) !== null) {
      github.drain("ada", 4900 - github.used("ada"));
      lefts.push(5000 - github.used("ada"));
    }
    github.drain("ada", 4100 - github.used("ada"));
    clock.advance(15 * MINUTE - 10_000);
    await upkeep(service);
    clock.advance(10_000);
    await upkeep(service);
  }
  assert.ok(lefts.every((left) => left >= 2500), `calls of the pool left ${lefts}`);
  assert.equal(await pool.getToken(), null, "what is left is the donor's");
});

Deno.test("runUpkeep() reads each new window after a minute, however lately it asked about the one before", async () => {
  await using service = await temporaryService();
  const { github, clock } = service;
  await lendSilently(service);
  await spend(service, 1000, 0);
  clock.advance(57 * MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  clock.advance(3 * MINUTE);
  await spend(service, 1500, 500);
  clock.advance(MINUTE - 1);
  assert.deepEqual(await upkeep(service), report());
  clock.advance(1);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal((await row(service))["remaining"], 3000);
  assert.equal(github.count(ASK), 3);
});

Deno.test("runUpkeep() goes on to read a window that only its own question has opened", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await lendSilently(service); // what it reads of this window is no measure of the next
  clock.advance(60 * MINUTE);
  await pool.getToken({ resource: "graphql" });
  github.drain("ada", 4000); // of core the pool has used nothing yet
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal((await row(service))["remaining"], 4000);
  await spend(service, 500, 600);
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal((await row(service))["remaining"], 2900 - 1203);
});

Deno.test("runUpkeep() does not name a window of a minute that GitHub has not begun: the calls under way would be forgotten", async () => {
  await using service = await temporaryService();
  const { clock, pool } = service;
  await lend(service);
  await pool.getToken();
  clock.advance(MINUTE - 1000);
  const { id } = (await pool.getToken({ resource: "search" }))!;
  clock.advance(1000);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  await pool.getToken({ resource: "search" });
  clock.advance(8000);
  await pool.getToken({ resource: "search" });
  const headers = limitHeaders(30, 29, clock.seconds + 60, "search"); // GitHub has seen one of them
  await pool.syncTokenHealth(id, new Response("{}", { headers }));
  assert.equal((await row(service, "search"))["remaining"], 27);
});

Deno.test("runUpkeep() goes on to read a window that GitHub counts from later, since the calls were made later", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await pool.addToken({ github_user_id: "583231", token: github.grantToken("ada"), reserve: 0.5 });
  assert.ok(await pool.getToken({ cost: 100 })); // claimed, and not used yet
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  clock.advance(MINUTE);
  for (const [own, asideAndOwn] of [[25, 0], [800, 1603]]) {
    await spend(service, 600, own!);
    clock.advance(MINUTE);
    assert.deepEqual(await upkeep(service), report({ asked: 1 }));
    assert.equal((await row(service))["remaining"], 5000 - github.used("ada") - asideAndOwn!);
  }
});

Deno.test("Store.endProbe() is as careful as it was when answers and reports come twice, late, or the earlier one last", async (t) => {
  const answer = async ({ vault }: Service, remaining: number, { resetAt = RESET, limit = 5000 } = {}) =>
    await (await vault.store()).endProbe(1, [{ resource: "core", limit, remaining, resetAt }]);
  const tell = async ({ vault }: Service, remaining: number, resetAt = RESET) =>
    await (await vault.store()).merge(1, { resource: "core", limit: 5000, remaining, resetAt });
  const steps: Record<string, [befall: (service: Service) => Promise<unknown>, remaining: number, aside: number]> = {
    "nothing": [() => Promise.resolve(), 2617, 83],
    "the same again": [(service) => answer(service, 2700), 2617, 83],
    "an earlier one": [(service) => answer(service, 4200), 2617, 83],
    "one of a window that is over": [(service) => answer(service, 100, { resetAt: RESET - 3610 }), 2617, 83],
    "one of a window that is over sooner": [(service) => answer(service, 100, { resetAt: RESET - 600 }), 2617, 83],
    "one with a reset a second later": [(service) => answer(service, 2690, { resetAt: RESET + 1 }), 2617, 73],
    "one with a reset a second earlier": [(service) => answer(service, 2690, { resetAt: RESET - 1 }), 2617, 73],
    "one of the next, in the second for which this one is held to be open": [
      (service) => {
        service.clock.time = RESET * 1000 + 500;
        return answer(service, 4990, { resetAt: RESET + 3600 });
      },
      4990,
      0,
    ],
    "one of a smaller limit": [(service) => answer(service, 50, { limit: 60 }), 0, 50],
    "a late report": [(service) => tell(service, 2900), 2617, 83],
    "a report of the donor's calls": [(service) => tell(service, 2650), 2617, 33],
    "a report of more of them than were set aside": [(service) => tell(service, 2600), 2600, 0],
    "a report with a reset a second later": [(service) => tell(service, 2650, RESET + 1), 2617, 33],
    "a report of the next window, of which some was drawn": [
      async (service) => {
        service.clock.time = RESET * 1000 + 1001;
        assert.ok(await service.pool.getToken({ cost: 100 }));
        await tell(service, 4990, RESET + 3600);
      },
      4900,
      0,
    ],
    "a late report of a window that is over": [(service) => tell(service, 100, RESET - 600), 2617, 83],
  };
  for (const [name, [befall, remaining, aside]] of Object.entries(steps)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const { clock, pool } = service;
      await lend(service);
      assert.ok(await pool.getToken({ cost: 1 }));
      clock.advance(MINUTE);
      await answer(service, 4999);
      assert.ok(await pool.getToken({ cost: 2259 }));
      await answer(service, 2700); // 40 of them are the donor's
      await befall(service);
      assert.deepEqual(await readings(service), [{ remaining, aside }]);
      assert.equal((await row(service))["remaining"], remaining);
      const isLeft = await pool.getToken({ cost: Math.max(1, Math.ceil((remaining - 2500) / 4)) }) !== null;
      clock.advance(MINUTE);
      assert.equal((await (await service.vault.store()).stats()).due, Number(isLeft), "and is read on");
    });
  }
});

Deno.test("Store.endProbe() tells the resources of a token apart, also when their windows end together", async () => {
  await using service = await temporaryService();
  const { clock, pool, vault } = service;
  const answer = async (resource: string, remaining: number) =>
    await (await vault.store()).endProbe(1, [{ resource, limit: 5000, remaining, resetAt: RESET }]);
  await lend(service);
  for (const resource of ["core", "graphql"]) assert.ok(await pool.getToken({ resource }));
  clock.advance(MINUTE);
  await answer("core", 4999);
  await answer("graphql", 2750);
  assert.ok(await pool.getToken({ cost: 2259 }));
  await answer("core", 2700); // 40 of them are the donor's
  assert.equal((await row(service))["remaining"], 2617, "as much is set aside as without the other");
});

Deno.test("readings are looked through before limits are, of which there may be a hundred thousand", async () => {
  await using service = await temporaryService();
  await upkeep(service);
  await new Stats(service.vault).snapshot();
  const asking = service.database.statements.filter((sql) => /token_pool_readings r /.test(sql));
  const plans = [];
  for (const sql of new Set(asking)) {
    const names = new Set(sql.match(/:[a-z_]+/g));
    const steps = await service.database.look(`EXPLAIN QUERY PLAN ${sql}`, [...names].map(() => 1));
    plans.push(steps.map(({ detail }) => String(detail)).filter((detail) => /^SCAN [rl]$/.test(detail)));
  }
  assert.deepEqual(plans, [["SCAN r"], ["SCAN r"]]);
});

Deno.test("runUpkeep() leaves a window to those who report on it, though it has read the one before", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await lendSilently(service);
  clock.advance(60 * MINUTE);
  const { id } = (await pool.getToken())!;
  await pool.syncTokenHealth(id, new Response("{}", { headers: limitHeaders(5000, 4999, clock.seconds + 3600) }));
  await pool.getToken({ cost: 600 });
  clock.advance(30 * MINUTE);
  assert.deepEqual(await upkeep(service), report());
  assert.equal(github.count(ASK), 1);
});

Deno.test("a window is read again by who passes by, unless its donor is to be left in peace", async (t) => {
  const befalls: Record<string, [befall: (service: Service, id: number) => Promise<unknown>, asked: number]> = {
    "nothing": [() => Promise.resolve(), 2],
    "it is paused": [async ({ vault }) => (await vault.store()).pause("583231"), 1],
    "it is benched": [
      async ({ vault }, id) => (await vault.store()).holdUser(id, { seconds: 600, baseSeconds: 60, mostSeconds: 3600 }),
      1,
    ],
    "it is a suspect, for as long as GitHub is ill": [({ github, pool }, id) => {
      github.down = { answer: 502, only: /^POST / };
      return pool.syncTokenHealth(id, new Response("{}", { status: 401 }));
    }, 1],
    "its window is over soon": [({ clock }) => Promise.resolve(clock.advance(57 * MINUTE)), 1],
    "it is withdrawn": [async ({ vault }) => (await vault.store()).withdraw("583231"), 1],
  };
  for (const [name, [befall, asked]] of Object.entries(befalls)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const { github, clock, app, vault } = service;
      await lendSilently(service);
      await spend(service, 1000, 0);
      await befall(service, 1);
      clock.advance(MINUTE);
      for (let n = 0; n < 2; n++) {
        await app.request("/status");
        clock.advance(20_000);
      }
      assert.equal(github.count(ASK), asked);
      assert.equal((await new Stats(vault).snapshot()).isUpkeepDue, false);
      if (name === "it is withdrawn") assert.deepEqual(await readings(service), []);
    });
  }
});

Deno.test("runUpkeep() keeps what was charged when GitHub has not seen the calls yet, and asks once", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await pool.addToken({ github_user_id: "583231", token: github.grantToken("ada"), reserve: 0.5 });
  await pool.getToken({ cost: 100 }); // claimed, and not used yet
  const before = await row(service);
  clock.advance(10 * MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  const after = await row(service);
  assert.equal(after["remaining"], 4900);
  assert.equal(after["reset_at"], clock.seconds + 3600, "the window that GitHub named, though it rolls");
  assert.ok(Number(after["window_ends"]) > Number(before["window_ends"]), "never sooner");
  clock.advance(20 * MINUTE);
  assert.deepEqual(await upkeep(service), report());
  assert.deepEqual(await row(service), after);
  assert.equal(github.count(ASK), 1);
});

Deno.test("runUpkeep() takes in what GitHub says of the other resources, but opens no window for what is full", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await lend(service);
  for (const resource of ["graphql", "search"]) await pool.getToken({ resource });
  clock.advance(61 * MINUTE); // those windows are over
  github.drain("ada", 21, "search");
  await call(service, 1);
  clock.advance(MINUTE - 1000);
  const graphql = await row(service, "graphql");
  clock.advance(1000);
  github.drain("ada", 20, "search");
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.deepEqual(await row(service, "graphql"), graphql, "nobody has used it: it stays closed");
  assert.deepEqual(
    await service.database.look("SELECT resource FROM token_pool_readings"),
    [{ resource: "core" }],
    "a window of a minute is over before it could be read again",
  );
  const search = await row(service, "search");
  assert.deepEqual([search["remaining"], search["window_ends"]], [20, (Number(search["reset_at"]) + 1) * 1000]);
});

Deno.test("runUpkeep() asks again after a quarter of an hour, not before, while GitHub is away or has limits off", async (t) => {
  for (const [answer, asked] of [["nothing", 0], [502, 0], [404, 1]] as const) {
    await t.step(String(answer), async () => {
      await using service = await temporaryService();
      const { github, clock } = service;
      await lend(service);
      await call(service, 1);
      clock.advance(MINUTE);
      github.down = { answer, only: ASK };
      for (let time = 1; time <= 3; time++) {
        assert.deepEqual(await upkeep(service), report({ asked }));
        clock.advance(15 * MINUTE - 1);
        assert.deepEqual(await upkeep(service), report(), "put off");
        assert.equal(github.count(ASK), time);
        clock.advance(1);
      }
      assert.equal((await row(service))["reset_at"], null);
      assert.ok(await service.pool.getToken(), "and it serves on");
    });
  }
});

Deno.test("runUpkeep() takes a token that GitHub refuses for a suspect, and a suspended donor's out", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  await lend(service);
  await call(service, 1);
  clock.advance(MINUTE);
  github.outage401 = true;
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal(await pool.getToken(), null, "out of rotation");
  assert.equal((await row(service))["cap"], 5000, "not the anonymous caller's");
  github.outage401 = false;
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ restored: 1 }));

  github.setScopes(github.liveTokens("ada")[0]!, ["repo"]);
  clock.advance(15 * MINUTE);
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal(await service.database.count("tokens"), 0);
  assert.deepEqual(await upkeep(service), report({ revoked: 1 }));
  assert.deepEqual(github.liveTokens("ada"), []);
  assert.deepEqual(await service.database.look("SELECT * FROM token_pool_probes"), [], "nothing of it is kept");
});

Deno.test("an answer about the old token does no harm to a donation that came meanwhile", async (t) => {
  const harms: Record<string, (service: Service) => void> = {
    "the old one is unknown": ({ github }) => github.revoke("ada"),
    "the old one has scopes": ({ github }) => github.setScopes(github.liveTokens("ada")[0]!, ["repo"]),
  };
  for (const [name, befall] of Object.entries(harms)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const { clock, vault } = service;
      await lend(service);
      await call(service, 1);
      clock.advance(MINUTE);
      befall(service);
      const { rateLimit } = service.client;
      service.client.rateLimit = async (token) => {
        const answer = await rateLimit.call(service.client, token);
        await service.pool.addToken({ github_user_id: "583231", token: "gho_new" }); // between answer and verdict
        return answer;
      };
      assert.deepEqual(await upkeep(service), report({ asked: 1 }));
      assert.equal((await service.pool.getToken())?.token, "gho_new");
      assert.equal((await new Stats(vault).snapshot()).status.tokens.healthy, 1);
    });
  }
});

Deno.test("runUpkeep() benches as after any other call when GitHub refuses the question", async (t) => {
  const spent = limitHeaders(5000, 0, RESET);
  const refusals: [name: string, refusal: ReturnType<typeof observed>, seconds: number][] = [
    ["the user", observed(403, { message: "secondary rate limit" }, { "retry-after": "600" }), 600],
    ["the resource", observed(403, { message: "API rate limit exceeded for user ID 1." }, {}), 60],
    ["until the reset", observed(403, { message: "API rate limit exceeded for user ID 1." }, spent), 3600 - 60 + 1],
  ];
  for (const [name, refusal, seconds] of refusals) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const { clock, client, pool } = service;
      await lend(service);
      await call(service, 1);
      clock.advance(MINUTE);
      client.rateLimit = () => Promise.resolve(refusal);
      assert.deepEqual(await upkeep(service), report({ asked: 1 }));
      clock.advance(seconds * 1000 - 1);
      assert.equal(await pool.getToken(), null);
      clock.advance(1);
      assert.ok(await pool.getToken());
    });
  }
});

Deno.test("runUpkeep() notes when a token expires, if the answer says so", async () => {
  await using service = await temporaryService();
  const { clock, client, database } = service;
  await lend(service);
  await call(service, 1);
  clock.advance(MINUTE);
  const headers = { "x-oauth-scopes": "", "github-authentication-token-expiration": "2026-12-24 18:00:00 UTC" };
  client.rateLimit = () => Promise.resolve(observed(200, reading(5000, 4000, 1000), headers));
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.deepEqual(await database.look("SELECT expires_at FROM token_pool_tokens"), [
    { expires_at: Date.UTC(2026, 11, 24, 18) },
  ]);
});

Deno.test("when the pool asked is forgotten with the donation, whoever removes it", async () => {
  await using service = await temporaryService();
  const { clock, vault, database } = service;
  const times = () => database.look("SELECT * FROM token_pool_probes");
  await lend(service);
  clock.advance(300 * DAY);
  await upkeep(service);
  assert.equal((await times()).length, 1);
  await (await vault.store()).withdraw("583231");
  assert.deepEqual(await times(), []);
  await database.look("INSERT INTO token_pool_probes (token_id, asked_at) VALUES (1, 1)"); // an older library left it
  await upkeep(service);
  assert.deepEqual(await times(), []);
});

Deno.test("runUpkeep() leaves suspects, paused donors and benched ones in peace", async (t) => {
  const reasons: Record<string, (service: Service, id: number) => Promise<unknown>> = {
    "paused": async ({ vault }) => (await vault.store()).pause("583231"),
    "benched": ({ pool }, id) =>
      pool.syncTokenHealth(
        id,
        new Response("secondary rate limit", { status: 403, headers: { "retry-after": "600" } }),
      ),
  };
  for (const [name, befall] of Object.entries(reasons)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      await lend(service);
      const token = await service.pool.getToken();
      await befall(service, token!.id);
      service.clock.advance(5 * MINUTE);
      assert.deepEqual(await upkeep(service), report());
      assert.equal(service.github.count(ASK), 0);
    });
  }
});

Deno.test("runUpkeep() uses a token that nobody used for 300 days, so that GitHub does not let it expire", async (t) => {
  const idle: Record<string, (service: Service) => Promise<unknown>> = {
    "of an idle pool": () => Promise.resolve(),
    "paused": async ({ vault }) => (await vault.store()).pause("583231"),
    "whose reserve leaves nothing": async ({ vault }) => (await vault.store()).setReserve("583231", 1),
    "paused, and resumed on the last day": async ({ vault, clock }) => {
      const store = await vault.store();
      await store.pause("583231");
      clock.advance(299 * DAY);
      await store.resume("583231");
      clock.advance(-299 * DAY);
    },
  };
  for (const [name, befall] of Object.entries(idle)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const { github, clock } = service;
      await lend(service);
      await befall(service);
      const before = await row(service);
      for (let year = 1; year <= 2; year++) {
        clock.advance(300 * DAY - 1);
        assert.deepEqual(await upkeep(service), report());
        clock.advance(1);
        assert.deepEqual(await upkeep(service), report({ asked: 1 }));
        assert.equal(github.count(ASK), year);
      }
      assert.deepEqual(await row(service), before, "it is neither charged nor moved");
    });
  }
});

Deno.test("runUpkeep() does not touch what is in use, is renewed anyway, or was given anew", async (t) => {
  await t.step("drawn within 300 days", async () => {
    await using service = await temporaryService();
    await lend(service);
    service.clock.advance(200 * DAY);
    await call(service, 1);
    service.clock.advance(299 * DAY);
    assert.deepEqual(await upkeep(service), report());
    service.clock.advance(DAY + 61 * MINUTE);
    assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  });
  await t.step("donated again", async () => {
    await using service = await temporaryService();
    await lend(service);
    service.clock.advance(200 * DAY);
    await lend(service);
    service.clock.advance(299 * DAY);
    assert.deepEqual(await upkeep(service), report());
  });
  await t.step("renewed by refreshing", async () => {
    await using service = await temporaryService({ github: { expiringTokens: true } });
    await lend(service);
    await service.database.look("UPDATE token_pool_tokens SET expires_at = ?", [service.clock.time + 1000 * DAY]);
    service.clock.advance(400 * DAY);
    assert.deepEqual(await upkeep(service), report());
  });
});

Deno.test("runUpkeep() tries an idle token again each day until GitHub answers: asking in vain does not count", async () => {
  await using service = await temporaryService();
  const { github, clock, database } = service;
  await lend(service);
  clock.advance(300 * DAY);
  for (const [index, answer] of [503, "nothing", 503].entries()) {
    const day = index + 1;
    github.down = { answer: answer as 503 | "nothing", only: ASK };
    assert.deepEqual(await upkeep(service), report());
    assert.deepEqual(await upkeep(service), report(), "put off");
    assert.equal(github.count(ASK), day);
    clock.advance(DAY);
  }
  github.down = null;
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.deepEqual(await database.look("SELECT asked_at, used_at FROM token_pool_probes"), [
    { asked_at: clock.time, used_at: clock.time },
  ]);
});

Deno.test("runUpkeep() takes an idle token that has expired all the same for a suspect, and deletes it on GitHub's word", async () => {
  await using service = await temporaryService();
  await lend(service);
  service.clock.advance(366 * DAY);
  service.github.revoke("ada");
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
  assert.equal(await service.database.count("tokens"), 1);
  assert.deepEqual(await upkeep(service), report({ removed: 1 }));
});

Deno.test("a round asks with a bounded number of tokens, and the next ones with the rest, each once", async () => {
  await using service = await temporaryService();
  const { github, clock, pool } = service;
  for (let n = 1; n <= 45; n++) {
    const { id, login } = github.addUser(`user${n}`);
    await pool.addToken({ github_user_id: String(id), token: github.grantToken(login) });
  }
  clock.advance(300 * DAY);
  const counts: number[] = [];
  for (let round = 0; round < 4; round++) counts.push((await upkeep(service)).asked);
  assert.deepEqual(counts, [20, 20, 5, 0]);
  assert.equal(github.count(ASK), 45);
});

Deno.test("a token that does not open is passed by, and does not keep others from their turn", async () => {
  await using service = await temporaryService();
  const { github, clock, pool, database } = service;
  for (let n = 1; n <= 21; n++) {
    const { id, login } = github.addUser(`user${n}`);
    await pool.addToken({ github_user_id: String(id), token: github.grantToken(login) });
  }
  await database.look("UPDATE token_pool_tokens SET token = 'v1.00000000.AAAA.AAAA' WHERE id <= 20");
  clock.advance(300 * DAY);
  assert.deepEqual(await upkeep(service), report());
  clock.advance(DAY); // when the turn of all has come
  assert.deepEqual(await upkeep(service), report({ asked: 1 }));
});

Deno.test("a passing request does not wait for GitHub's numbers", async () => {
  await using service = await temporaryService();
  await lend(service);
  await call(service, 1);
  service.clock.advance(5 * MINUTE);
  for (const path of ["/", "/status", "/healthz"]) await (await service.app.request(path)).body?.cancel();
  assert.equal(service.github.count(ASK), 0);
  assert.equal((await new Stats(service.vault).snapshot()).isUpkeepDue, false);
});
