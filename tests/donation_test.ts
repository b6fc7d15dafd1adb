/**
 * My donation: what a donor sees and can change, from the button to the pool of another process, on real files. Who
 * that is, is known for ten minutes and for this page only, and no token is kept to know it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { CHANGES, DonorView, understandChange } from "../lib/donation.ts";
import { createPool, type Pool } from "../lib/pool.ts";
import { openVault } from "../lib/service.ts";
import { Stats } from "../lib/stats.ts";
import { SCHEMA_VERSION } from "../lib/store.ts";
import type { OwnDonation } from "../lib/records.ts";
import handler, { createApp } from "../main.http.ts";
import {
  badCredentials,
  Clock,
  donation,
  draw,
  environment,
  KEY,
  limitHeaders,
  response,
  START,
  temporaryFolder,
} from "./support/fixtures.ts";
import { startSqld } from "./support/sqld.ts";
import { Browser, parseCookie, report, type Service, temporaryService, upkeep, visit } from "./support/service.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const IDENTITY = "__Host-token_pool_identity";
const ADA = "583231";

/** A pool of the same database, as another process has it. */
function anotherProcess({ path, clock }: Service): Pool {
  return createPool({ database: `file:${path}`, encryptionKey: KEY, now: clock.now });
}

/** The donor's button: to GitHub, back, and to the clean address. */
async function identify(browser: Browser, { github }: Service, login = "ada", scope = ""): Promise<Response> {
  const away = await browser.submit("/donation");
  assert.equal(away.status, 303);
  const back = await browser.go(github.authorize(away.headers.get("location")!, login, { scope }));
  assert.equal(back.status, 303, await back.clone().text());
  assert.equal(back.headers.get("location"), "/donation");
  return await browser.go("/donation");
}

/** Presses a button of the page. */
async function press(browser: Browser, fields: Record<string, string>, headers: HeadersInit = {}): Promise<Response> {
  return await browser.go("/donation", {
    method: "POST",
    body: new URLSearchParams(fields),
    headers: { origin: "https://pool.example", "sec-fetch-site": "same-origin", ...headers },
  });
}

async function textOf(page: Response): Promise<string> {
  return (await page.text()).replace(/<[^>]*>/g, " ").replace(/&#39;/g, "'").replace(/\s+/g, " ");
}

/** What stands in the page by these ids. */
async function shown(page: Response): Promise<Record<string, string>> {
  const html = await page.text();
  const names = ["state", "calls-today", "calls-30-days", "last-used", "reserve"];
  return Object.fromEntries(names.map((id) => {
    const [, text = "absent"] = new RegExp(`id="${id}"[^>]*>(.*?)</dd>`, "s").exec(html) ?? [];
    return [id, text.replace(/<[^>]*>/g, "").replace(/\s+/g, " ").trim()];
  }));
}

async function own({ vault }: Service, user = ADA): Promise<OwnDonation> {
  return (await (await vault.store()).donationOf(user))!;
}

async function tokensOf({ vault }: Service) {
  return (await new Stats(vault).snapshot()).status.tokens;
}

Deno.test("GET /donation explains, with one button, and asks nobody", async () => {
  await using service = await temporaryService();
  const page = await service.app.request("/donation");
  assert.equal(page.status, 200);
  assert.equal(page.headers.get("cache-control"), "no-store");
  const html = await page.text();
  assert.equal(html.match(/<button/g)?.length, 1);
  assert.match(html, /<form action="\/donation" method="post">/);
  assert.doesNotMatch(html, /<script/);
  assert.deepEqual([service.github.requests, service.database.statements], [[], []]);
});

Deno.test("POST /donation keeps no token: the fresh one is revoked as soon as it has said who it is", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const donated = service.github.liveTokens("ada");
  const before = service.github.requests.length;
  const page = await identify(new Browser(service.app), service);
  assert.match(await textOf(page), /You are ada at GitHub/);
  assert.deepEqual(service.github.calls.slice(before), [
    "POST /login/oauth/access_token",
    "GET /user",
    `DELETE /applications/${service.github.clientId}/token`,
  ]);
  assert.deepEqual(service.github.liveTokens("ada"), donated, "the donation lives on, the other does not");
  assert.equal(service.github.count(/grant$/), 0);
  assert.equal(await service.database.count("tokens"), 1);
  assert.equal(await service.database.count("revocations"), 0);
});

Deno.test("POST /donation works for who granted the app scopes before, and revokes only that token", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const donated = service.github.liveTokens("ada");
  assert.match(await textOf(await identify(new Browser(service.app), service, "ada", "repo")), /Serving/);
  assert.deepEqual(service.github.liveTokens("ada"), donated);
});

Deno.test("POST /donation says so when GitHub does not confirm the revocation, and upkeep finishes it", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const donated = service.github.liveTokens("ada");
  service.github.down = { answer: 502, only: /^DELETE / };
  assert.match(await textOf(await identify(new Browser(service.app), service)), /did not confirm/);
  const [row] = await service.database.look("SELECT kind, token FROM token_pool_revocations");
  assert.equal(row?.["kind"], "token", "never the grant");
  assert.match(String(row?.["token"]), /^v1\./, "sealed");
  service.github.down = null;
  assert.deepEqual(await upkeep(service), report({ revoked: 1 }));
  assert.deepEqual(service.github.liveTokens("ada"), donated);
});

Deno.test("POST /donation leaves no token behind when GitHub does not say whose it is", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const donated = service.github.liveTokens("ada");
  service.github.down = { answer: 502, only: /^GET \/user$/ };
  assert.deepEqual(await visit(service, "ada", { purpose: "manage" }), { kind: "failed", reason: "github_away" });
  assert.deepEqual(service.github.liveTokens("ada"), donated);
});

Deno.test("GET /donation is honest when there is no donation", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  assert.match(await textOf(await identify(browser, service)), /There is no donation of yours here/);
  for (const change of CHANGES) {
    const answer = await press(browser, { do: change, reserve: "0.9" });
    assert.equal(answer.status, 303);
    assert.match(await textOf(await browser.go("/donation")), /There is no donation of yours here/);
  }
  assert.equal(await service.database.count("tokens"), 0);
  assert.deepEqual(await service.database.look("SELECT * FROM token_pool_pauses"), []);
  assert.deepEqual(service.github.liveTokens("ada"), []);
});

Deno.test("GET /donation shows the state: serving, resting until when, suspended, paused", async () => {
  await using service = await temporaryService();
  await visit(service, "ada", { reserve: 0.5 });
  const { pool, clock } = service;
  const browser = new Browser(service.app);
  const state = async () => (await shown(await browser.go("/donation")))["state"] ?? "";
  assert.deepEqual(await shown(await identify(browser, service)), {
    state: "Serving: programs are given its calls in turn.",
    "calls-today": "0",
    "calls-30-days": "0",
    "last-used": "never",
    reserve: "50 % of your limit: at least 2,500 of 5,000 calls an hour.",
  });
  const { id } = (await pool.getToken())!;
  const reset = clock.seconds + 600;
  await pool.syncTokenHealth(id, response(200, limitHeaders(5000, 2500, reset)));
  assert.match(
    await state(),
    new RegExp(`^Resting until ${new Date((reset + 1) * 1000).toISOString().slice(11, 19)} UTC`),
  );
  clock.time = (reset + 1) * 1000;
  await identify(browser, service);
  assert.match(await state(), /^Serving/);
  await pool.syncTokenHealth(id, badCredentials());
  assert.match(await state(), /^Suspended/);
  await press(browser, { do: "pause" });
  assert.match(await state(), /^Paused by you/);
});

Deno.test("GET /donation shows nothing of others", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  await visit(service, "bob");
  await draw(service.pool, 7);
  const html = await (await identify(new Browser(service.app), service)).text();
  assert.doesNotMatch(html, /bob|583232/);
  assert.match(html, /<dd id="calls-today">4<\/dd>/);
});

Deno.test("donationOf() counts the calls of today and of 30 days, and the day of the last one, by the clock", async () => {
  await using service = await temporaryService();
  const { clock, pool } = service;
  clock.time = Math.floor(START / DAY) * DAY + 23 * HOUR; // 23:00 UTC
  const start = clock.time;
  const midnight = (time: number) => Math.floor(time / DAY) * DAY;
  await visit(service, "ada");
  const counts = async () => {
    const { calls, lastUsedOn } = await own(service);
    return [calls.today, calls.last30Days, calls.total, lastUsedOn];
  };
  assert.deepEqual(await counts(), [0, 0, 0, null]);
  await draw(pool, 5);
  assert.deepEqual(await counts(), [5, 5, 5, midnight(start)], "the day of the donation counts");
  clock.advance(HOUR - 1);
  await pool.getToken({ resource: "search" });
  assert.deepEqual(await counts(), [6, 6, 6, midnight(start)], "every resource");
  clock.advance(1);
  assert.deepEqual(await counts(), [0, 6, 6, midnight(start)], "a new day, and nobody has drawn yet");
  await pool.getToken({ cost: 10 });
  assert.deepEqual(await counts(), [10, 16, 16, midnight(clock.time)]);
  clock.advance(3 * DAY); // days without a claim
  assert.deepEqual(await counts(), [0, 16, 16, midnight(start + HOUR)]);
  await draw(anotherProcess(service), 2);
  assert.deepEqual(await counts(), [2, 18, 18, midnight(clock.time)], "of another process too");

  clock.time = midnight(start) + 29 * DAY;
  assert.deepEqual((await counts())[1], 18, "the day of the donation is the first of thirty");
  clock.advance(DAY);
  assert.deepEqual((await counts())[1], 12, "and falls out the day after");
  clock.advance(DAY);
  assert.deepEqual((await counts())[1], 2);
  clock.advance(40 * DAY);
  assert.deepEqual((await counts()).slice(0, 3), [0, 0, 18]);
  await pool.getToken();
  assert.deepEqual(await counts(), [1, 1, 19, midnight(clock.time)]);
});

Deno.test("donationOf() counts for each donor by itself, also for who comes in the middle of a day", async () => {
  await using service = await temporaryService();
  const { clock, pool } = service;
  await visit(service, "ada");
  await draw(pool, 4);
  clock.advance(HOUR);
  await visit(service, "bob");
  await draw(pool, 4); // ada's next use is as old as bob's donation, so both take part
  clock.advance(DAY);
  await draw(pool, 6);
  const [ada, bob] = [await own(service), await own(service, "583232")];
  assert.equal(ada.calls.total + bob.calls.total, 14);
  assert.deepEqual([ada.calls.today, bob.calls.today], [3, 3]);
  assert.deepEqual([ada.calls.last30Days, bob.calls.last30Days], [ada.calls.total, bob.calls.total]);
});

Deno.test("donationOf() never counts below nothing when leased calls come back the day after", async () => {
  await using service = await temporaryService();
  const { clock, vault } = service;
  await visit(service, "ada");
  const store = await vault.store();
  clock.time = Math.floor(START / DAY) * DAY + DAY - 1000;
  const lease = (await store.exchange({ reports: [], unused: [], wanted: { resource: "core", most: 40 } }))!;
  clock.advance(2000);
  await service.pool.getToken();
  const unused = {
    id: lease.id,
    resource: "core",
    calls: 39,
    windowEnds: lease.windowEnds,
    resetAt: null,
    ceiling: null,
    isLate: false,
  };
  await store.exchange({ reports: [], unused: [unused], wanted: null });
  const { calls } = await own(service);
  assert.deepEqual(calls, { total: 2, today: 0, last30Days: 40 });
});

Deno.test("the count of days costs a claim nothing after the first one of an hour", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  await draw(service.pool, 1);
  const before = service.database.statements.length;
  await draw(service.pool, 10);
  assert.equal(service.database.statements.length, before + 10);
  assert.ok(!service.database.statements.slice(before).some((sql) => /token_pool_(?:days|pauses)/.test(sql)));
});

Deno.test("runUpkeep() forgets daily counts after 31 days, and a passing request finds that due", async () => {
  await using service = await temporaryService();
  const { clock, database, pool } = service;
  await visit(service, "ada");
  const days = async () => (await database.look("SELECT DISTINCT day FROM token_pool_days ORDER BY day")).length;
  for (let day = 0; day < 40; day++) {
    await draw(pool, 1);
    clock.advance(DAY);
  }
  assert.equal(await days(), 40);
  const shownBefore = (await own(service)).calls;
  assert.deepEqual(await upkeep(service), report());
  assert.equal(await days(), 31, "as of today, which nobody has used yet");
  assert.deepEqual((await own(service)).calls, shownBefore, "of what is shown nothing is forgotten");
  assert.equal((await new Stats(service.vault).snapshot()).isUpkeepDue, false);
  clock.advance(2 * DAY);
  await service.app.request("/status");
  assert.equal(await days(), 29);
});

Deno.test("a paused token is not handed out by any process, in no resource, whatever happens to it", async () => {
  await using service = await temporaryService();
  const { clock, pool, vault, database, github } = service;
  await visit(service, "ada");
  const other = anotherProcess(service);
  const { id, token } = (await other.getToken())!;
  await other.getToken({ resource: "search" });
  const store = await vault.store();
  assert.equal(await store.pause(ADA), true);

  const assertPaused = async (when: string) => {
    for (const process of [pool, other, anotherProcess(service)]) {
      for (const resource of ["core", "search", "graphql", "some_new_one"]) {
        assert.equal(await process.getToken({ resource }), null, `${resource} ${when}`);
        const { usable, tokens, next_available_at } = await process.availability(resource);
        assert.deepEqual([usable, tokens, next_available_at], [0, 1, null], `${resource} ${when}`);
      }
    }
    assert.equal(
      await store.exchange({ reports: [], unused: [], wanted: { resource: "core", most: 5, id } }),
      null,
      when,
    );
    assert.deepEqual(await tokensOf(service), {
      total: 1,
      healthy: 0,
      exhausted: 0,
      cooling: 0,
      suspended: 0,
      paused: 1,
    }, when);
    const { usable, limit } = (await new Stats(vault).snapshot()).status.resources["core"]!;
    assert.deepEqual([usable, limit], [0, 0], "what is not lent is not counted as capacity");
  };
  assert.equal((await pool.availability("never_seen")).usable, 0, "a resource without rows");
  await assertPaused("at once");
  await assertPaused("when seeded again");
  await pool.syncTokenHealth(id, response(200, limitHeaders(5000, 4000, clock.seconds + 600)));
  await pool.syncTokenHealth(id, response(200, limitHeaders(30, 20, clock.seconds + 30, "code_search")));
  await assertPaused("after a report");
  assert.equal(await pool.getToken({ resource: "code_search" }), null);
  clock.advance(HOUR);
  await assertPaused("after the reset");
  await pool.syncTokenHealth(id, response(200, limitHeaders(5000, 5000, clock.seconds + 3600)));
  await assertPaused("in the next window");
  await pool.syncTokenHealth(id, response(200, limitHeaders(5000, 0, clock.seconds + 60)));
  clock.advance(2 * MINUTE);
  await assertPaused("after it was exhausted");
  await pool.syncTokenHealth(id, response(429, { "retry-after": "1" }));
  clock.advance(MINUTE);
  await assertPaused("after a bench");
  await pool.syncTokenHealth(id, badCredentials());
  await assertPaused("as a suspect");
  assert.deepEqual(await upkeep(service), report({ restored: 1 }));
  await assertPaused("after GitHub has vouched for it");
  const windowEnds = clock.time + HOUR;
  await store.exchange({
    reports: [],
    unused: [{ id, resource: "core", calls: 1, windowEnds, resetAt: null, ceiling: null, isLate: false }],
    wanted: null,
  });
  await assertPaused("after calls were given back");
  assert.equal(await store.setReserve(ADA, 0.25), true);
  await assertPaused("after another reserve was chosen");
  const [{ token: sealed }] = await database.look("SELECT token FROM token_pool_tokens") as [{ token: string }];
  assert.ok(await store.replaceToken(id, sealed, { token: sealed, refreshToken: null, expiresAt: null }));
  await assertPaused("after a refresh");
  assert.ok(github.isLive(token), "and it is not revoked either");

  assert.equal(await store.resume(ADA), true);
  for (const resource of ["core", "search", "graphql", "some_new_one", "code_search"]) {
    assert.equal((await other.getToken({ resource }))?.id, id, resource);
  }
});

Deno.test("pause() lets the others serve on, and a lease that is out when it comes is the last one", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  await visit(service, "bob");
  const store = await service.vault.store();
  const [ada, bob] = await draw(service.pool, 2);
  await store.pause(ADA);
  assert.deepEqual(await draw(anotherProcess(service), 4), [bob, bob, bob, bob]);
  assert.deepEqual(await tokensOf(service), {
    total: 2,
    healthy: 1,
    exhausted: 0,
    cooling: 0,
    suspended: 0,
    paused: 1,
  });
  assert.notEqual(ada, bob);
});

Deno.test("resume() puts a token at the end of the queue, also while the clock stands still", async () => {
  await using service = await temporaryService();
  const { pool } = service;
  await visit(service, "ada");
  await pool.addToken(donation(1));
  await pool.addToken(donation(2));
  const store = await service.vault.store();
  const [ada, one, two] = await draw(pool, 3);
  assert.deepEqual(await draw(pool, 1), [ada]);
  await store.pause(ADA);
  assert.deepEqual(await draw(pool, 3), [one, two, one]);
  await store.resume(ADA);
  assert.deepEqual(await draw(pool, 6), [two, one, ada, two, one, ada]);
  service.clock.advance(1);
  await store.pause(ADA);
  service.clock.advance(1);
  await store.resume(ADA);
  assert.deepEqual(await draw(pool, 3), [two, one, ada]);
});

Deno.test("pause() and resume() can be repeated, and a resume of what is not paused moves nothing", async () => {
  await using service = await temporaryService();
  const { pool, database } = service;
  await visit(service, "ada");
  await visit(service, "bob");
  const store = await service.vault.store();
  await draw(pool, 3);
  const rows = () =>
    database.look("SELECT token_id, ready_at, turn, remaining FROM token_pool_limits ORDER BY token_id");
  const before = await rows();
  assert.equal(await store.resume(ADA), true);
  assert.deepEqual(await rows(), before);
  for (let n = 0; n < 2; n++) assert.equal(await store.pause(ADA), true);
  for (let n = 0; n < 2; n++) assert.equal(await store.resume(ADA), true);
  assert.equal((await own(service)).state, "serving");
  assert.equal(await store.pause("1"), false);
  assert.equal(await store.resume("1"), false);
  assert.equal(await store.setReserve("1", 0.5), false);
});

Deno.test("on a libSQL server too a paused token is not handed out, and its calls are counted by day", async () => {
  await using server = await startSqld();
  const clock = new Clock();
  const variables = environment({ TOKEN_ENCRYPTION_KEY: KEY, TOKEN_POOL_DATABASE_URL: server.url });
  const vault = openVault({ environment: variables, now: clock.now });
  await using pool = createPool({ database: server.url, encryptionKey: KEY, now: clock.now });
  await using other = createPool({ database: server.url, encryptionKey: KEY, now: clock.now });
  await pool.addToken(donation(1));
  await draw(pool, 3);
  clock.advance(DAY);
  await draw(other, 2);
  const store = await vault.store();
  assert.deepEqual((await store.donationOf("1001"))?.calls, { total: 5, today: 2, last30Days: 5 });
  assert.equal(await store.pause("1001"), true);
  assert.deepEqual(await draw(other, 1), [null]);
  assert.deepEqual((await store.stats()).tokens.paused, 1);
  assert.equal(await store.resume("1001"), true);
  assert.ok(await other.getToken());
  await store.keepHistory();
  await vault.close();
});

Deno.test("by the database's own clock, too, calls are counted and a pause holds", async () => {
  await using folder = await temporaryFolder();
  const url = `file:${folder.path}/pool.db`;
  await using pool = createPool({ database: url, encryptionKey: KEY });
  const vault = openVault({ environment: environment({ TOKEN_ENCRYPTION_KEY: KEY, TOKEN_POOL_DATABASE_URL: url }) });
  await pool.addToken(donation(1));
  await draw(pool, 3);
  const store = await vault.store();
  const { calls, now, lastUsedOn } = (await store.donationOf("1001"))!;
  assert.equal(calls.last30Days, 3);
  assert.ok(lastUsedOn !== null && now - lastUsedOn < 2 * DAY && now >= lastUsedOn);
  await store.pause("1001");
  assert.equal(await pool.getToken(), null);
  await store.resume("1001");
  assert.ok(await pool.getToken());
  await vault.close();
});

Deno.test("a database of schema version 1 gets the new tables, and counts from then on", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  await draw(service.pool, 4);
  for (const table of ["days", "pauses", "probes", "snapshots", "readings"]) {
    await service.database.look(`DROP TABLE token_pool_${table}`);
  }
  await service.database.look("UPDATE token_pool_meta SET value = 1 WHERE key = 'schema_version'");
  await using upgraded = anotherProcess(service);
  await draw(upgraded, 2);
  assert.deepEqual((await own(service)).calls, { total: 6, today: 2, last30Days: 2 });
  assert.deepEqual(await service.database.look("SELECT value FROM token_pool_meta WHERE key = 'schema_version'"), [{
    value: SCHEMA_VERSION,
  }]);
});

Deno.test("pause() and resume() whose answer is lost have happened once", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const store = await service.vault.store();
  service.database.losing = /token_pool_pauses/;
  assert.equal(await store.pause(ADA), true);
  assert.equal(await service.pool.getToken(), null);
  service.database.losing = /token_pool_pauses/;
  assert.equal(await store.resume(ADA), true);
  assert.ok(await service.pool.getToken());
});

Deno.test("resume() does not end a bench, nor a suspicion, nor a window", async () => {
  await using service = await temporaryService();
  const { clock, pool, vault } = service;
  await visit(service, "ada");
  const store = await vault.store();
  const { id } = (await pool.getToken())!;
  await store.pause(ADA);
  await pool.syncTokenHealth(id, response(403, { "retry-after": "120" }));
  await store.resume(ADA);
  assert.equal(await pool.getToken(), null);
  clock.advance(2 * MINUTE - 1);
  assert.equal(await pool.getToken(), null);
  clock.advance(1);
  assert.ok(await pool.getToken());

  await store.pause(ADA);
  const reset = clock.seconds + 600;
  await pool.syncTokenHealth(id, response(200, limitHeaders(5000, 2500, reset)));
  await store.resume(ADA);
  assert.equal((await own(service)).restsUntil, (reset + 1) * 1000);
  assert.equal(await pool.getToken(), null);
  clock.time = (reset + 1) * 1000;
  assert.ok(await pool.getToken());

  await pool.syncTokenHealth(id, badCredentials());
  await store.pause(ADA);
  await store.resume(ADA);
  assert.equal(await pool.getToken(), null, "GitHub has not been asked yet");
  assert.equal((await own(service)).state, "suspended");
  assert.deepEqual(await upkeep(service), report({ restored: 1 }));
  assert.ok(await pool.getToken());
});

Deno.test("donating again resumes, by the page and by the library", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const store = await service.vault.store();
  await store.pause(ADA);
  await visit(service, "ada");
  assert.equal((await own(service)).state, "serving");
  assert.ok(await anotherProcess(service).getToken());
  await store.pause(ADA);
  await service.pool.addToken({ github_user_id: ADA, token: service.github.grantToken("ada") });
  assert.ok(await service.pool.getToken());
  assert.deepEqual(await service.database.look("SELECT * FROM token_pool_pauses"), []);
});

Deno.test("leaving takes the pause, the daily counts and what GitHub said along", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  await draw(service.pool, 3);
  service.clock.advance(DAY);
  await draw(service.pool, 3);
  service.clock.advance(MINUTE);
  await upkeep(service); // which asks GitHub what is left
  await (await service.vault.store()).pause(ADA);
  const tables = ["tokens", "limits", "pauses", "probes", "readings"];
  const rowsOf = (table: string) => service.database.look(`SELECT * FROM token_pool_${table}`);
  for (const table of tables) assert.equal((await rowsOf(table)).length, 1, table);
  await visit(service, "ada", { purpose: "withdraw" });
  for (const table of tables) assert.deepEqual(await rowsOf(table), [], table);
  assert.deepEqual(await service.database.look("SELECT * FROM token_pool_days WHERE token_id <> 0"), []);
  assert.equal((await new Stats(service.vault).snapshot()).status.calls.total, 6, "what was given stays counted");
});

Deno.test("another reserve moves the floor and the place in the queue", async () => {
  await using service = await temporaryService();
  const { pool, clock } = service;
  await visit(service, "ada", { reserve: 0.25 });
  const { id } = (await pool.getToken())!;
  const reset = clock.seconds + 600;
  await pool.syncTokenHealth(id, response(200, limitHeaders(5000, 2000, reset)));
  assert.equal((await pool.availability()).usable, 750);
  const browser = new Browser(service.app);
  await identify(browser, service);
  for (const [reserve, floor, state] of [["0.5", 2500, "resting"], ["0.25", 1250, "serving"]] as const) {
    const answer = await press(browser, { do: "reserve", reserve });
    assert.deepEqual([answer.status, answer.headers.get("location")], [303, "/donation"]);
    const donation = await own(service);
    assert.deepEqual([donation.reserve, donation.floor, donation.state], [Number(reserve), floor, state]);
    assert.equal(await pool.getToken() === null, state === "resting");
  }
  for (const reserve of ["0.9", "0.9"]) await press(browser, { do: "reserve", reserve });
  const { reserve } = await shown(await browser.go("/donation"));
  assert.match(reserve!, /^90 % of your limit: at least 4,500 of 5,000/);
  clock.time = (reset + 1) * 1000;
  for (let n = 0; n < 500; n++) assert.ok(await pool.getToken());
  assert.equal(await pool.getToken(), null, "500 of 5,000 and no more");
});

Deno.test("another reserve does not make a suspect serve", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  await service.pool.syncTokenHealth((await service.pool.getToken())!.id, badCredentials());
  await (await service.vault.store()).setReserve(ADA, 0.25);
  assert.equal(await service.pool.getToken(), null);
});

Deno.test("POST /donation refuses what the page does not offer, and changes nothing", async () => {
  await using service = await temporaryService();
  await visit(service, "ada", { reserve: 0.5 });
  const browser = new Browser(service.app);
  await identify(browser, service);
  const before = await service.database.look("SELECT * FROM token_pool_tokens JOIN token_pool_limits ON id = token_id");
  const forms: Record<string, string>[] = [
    { do: "reserve" },
    { do: "reserve", reserve: "" },
    { do: "reserve", reserve: "0" },
    { do: "reserve", reserve: "0.5 " },
    { do: "reserve", reserve: "0.50" },
    { do: "reserve", reserve: "1" },
    { do: "reserve", reserve: "-0.5" },
    { do: "reserve", reserve: "NaN" },
    { do: "delete" },
    { do: "" },
    { do: "pause".padEnd(2000) },
    { do: "pause", and: "more".padEnd(1000) },
    { do: "constructor" },
  ];
  for (const form of forms) {
    const answer = await press(browser, form);
    assert.equal(answer.status, 400, JSON.stringify(form));
    assert.match(await textOf(answer), /Nothing was stored/);
  }
  const after = await service.database.look("SELECT * FROM token_pool_tokens JOIN token_pool_limits ON id = token_id");
  assert.deepEqual(after, before);
  assert.deepEqual(understandChange(new URLSearchParams("do=pause&do=resume")), {
    kind: "change",
    change: "pause",
    reserve: 0,
  });
});

Deno.test("the buttons lead back to the clean page, which says once what was done, and /status shows it at once", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const browser = new Browser(service.app);
  await identify(browser, service);
  const status = async () => (await (await service.app.request("/status")).json()).tokens;
  assert.equal((await status()).paused, 0);
  for (const [change, says, paused] of [["pause", /Your token is paused/, 1], ["resume", /serves again/, 0]] as const) {
    const answer = await press(browser, { do: change });
    assert.deepEqual([answer.status, answer.headers.get("location")], [303, "/donation"]);
    assert.equal((await status()).paused, paused);
    assert.match(await textOf(await browser.go("/donation")), says);
    assert.doesNotMatch(await textOf(await browser.go("/donation")), says);
  }
});

Deno.test("who somebody is lies in a sealed cookie of its own, for ten minutes and not a moment longer", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const browser = new Browser(service.app);
  const away = await browser.submit("/donation");
  const back = await browser.go(service.github.authorize(away.headers.get("location")!, "ada"));
  const cookie = back.headers.getSetCookie().map(parseCookie).find(({ name }) => name === IDENTITY)!;
  assert.deepEqual(Object.fromEntries(cookie.attributes), {
    "max-age": "600",
    path: "/",
    secure: "",
    httponly: "",
    samesite: "Lax",
  });
  // Sealed from its first to its last character, or it would not open; so nothing can be read in it.
  const opened = await (await service.vault.keyring()).open(cookie.value, { column: "identity", githubUserId: "" });
  assert.equal(JSON.parse(opened!).githubUserId, ADA);
  assert.deepEqual([...browser.cookies.keys()], [IDENTITY], "the transaction is gone");

  service.clock.advance(10 * MINUTE - 1);
  assert.match(await textOf(await browser.go("/donation")), /You are ada/);
  service.clock.advance(1);
  const statements = service.database.statements.length;
  assert.match(await textOf(await browser.go("/donation")), /Show my donation/);
  const late = await press(browser, { do: "pause" });
  assert.equal(late.status, 403);
  assert.match(await textOf(late), /do not know any more who you are.*Nothing was stored/);
  assert.equal(service.database.statements.length, statements, "nobody was asked");
  assert.equal((await own(service)).state, "serving");
});

Deno.test("the cookie of who somebody is can do nothing else, and no other cookie can do its work", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const browser = new Browser(service.app);
  const away = await browser.go("/auth");
  const state = new URL(away.headers.get("location")!).searchParams.get("state")!;
  const [transaction] = [...browser.cookies.values()];
  await identify(browser, service);
  const identity = browser.cookies.get(IDENTITY)!;
  const flashBrowser = new Browser(service.app);
  const other = await flashBrowser.go("/auth");
  await flashBrowser.go(service.github.authorize(other.headers.get("location")!, "ada"));
  const flash = flashBrowser.cookies.get("__Host-token_pool_flash")!;
  const [{ token: sealed }] = await service.database.look("SELECT token FROM token_pool_tokens") as [{ token: string }];

  const as = (name: string, value: string) => ({ headers: { cookie: `${name}=${value}` } });
  // Another character, whatever it was: one of 256 ends in "AA" already.
  const changed = identity.slice(0, -2) + (identity.at(-2) === "A" ? "B" : "A") + identity.at(-1);
  for (const value of [transaction!, flash, sealed, "v1.00000000.AAAA.AAAA", "", changed]) {
    const page = await service.app.request("/donation", as(IDENTITY, value));
    assert.match(await textOf(page), /Show my donation/);
    const post = { method: "POST", body: new URLSearchParams({ do: "pause" }), ...as(IDENTITY, value) };
    assert.equal((await service.app.request("/donation", post)).status, 403);
  }
  assert.match(await textOf(await service.app.request("/donation", as("token_pool_identity", identity))), /Show my/);
  assert.equal((await service.app.request("/thanks", as("__Host-token_pool_flash", identity))).status, 303);
  const name = `__Host-token_pool_transaction_${state.slice(0, 8)}`;
  const requests = service.github.requests.length;
  const callback = await service.app.request(`/callback?code=x&state=${state}`, as(name, identity));
  assert.equal(callback.status, 400);
  const withdrawal = await service.app.request("/withdraw", { method: "POST", ...as(IDENTITY, identity) });
  assert.equal(
    new URL(withdrawal.headers.get("location")!).origin,
    "https://github.com",
    "GitHub is asked all the same",
  );
  assert.equal(service.github.requests.length, requests);
  assert.equal(await service.database.count("tokens"), 1);
  assert.equal((await own(service)).state, "serving");
});

Deno.test("a transaction that was begun to look can neither donate nor withdraw", async () => {
  await using service = await temporaryService();
  assert.deepEqual(await visit(service, "ada", { purpose: "manage" }), {
    kind: "identified",
    githubUserId: ADA,
    login: "ada",
    isRevoked: true,
  });
  assert.deepEqual(service.github.liveTokens("ada"), []);
  assert.deepEqual(service.database.statements, [], "not even the database is asked");
});

Deno.test("leaving deletes the cookie, and so does the button for it", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const browser = new Browser(service.app);
  await identify(browser, service);
  assert.ok(browser.cookies.has(IDENTITY));
  assert.equal((await press(browser, { do: "forget" })).status, 303);
  assert.deepEqual([...browser.cookies], []);
  await identify(browser, service);
  assert.match(await (await browser.go("/donation")).text(), /href="\/withdraw"/);
  const away = await browser.submit("/withdraw");
  await browser.go(service.github.authorize(away.headers.get("location")!, "ada"));
  assert.ok(!browser.cookies.has(IDENTITY));
  assert.match(await textOf(await browser.go("/withdraw")), /out of the pool/);
  assert.deepEqual([...browser.cookies], []);
});

Deno.test("POST /donation refuses other sites, also with the cookie", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const browser = new Browser(service.app);
  await identify(browser, service);
  const foreign: Record<string, string>[] = [
    { origin: "https://evil.example", "sec-fetch-site": "cross-site" },
    { origin: "https://other.pool.example", "sec-fetch-site": "same-site" },
    { origin: "null", "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "cross-site" },
  ];
  const requests = service.github.requests.length;
  for (const headers of foreign) {
    for (const fields of [{ do: "pause" }, { do: "forget" }, { do: "reserve", reserve: "0.9" }, {}]) {
      const answer = await press(browser, fields as Record<string, string>, headers);
      assert.equal(answer.status, 403, JSON.stringify([headers, fields]));
      assert.deepEqual(answer.headers.getSetCookie(), []);
      assert.match(await textOf(answer), /did not come from this site/);
    }
  }
  assert.equal(service.github.requests.length, requests);
  assert.equal((await own(service)).state, "serving");
});

Deno.test("/donation says 503 while nothing is set up, or the database is away, and changes nothing", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const browser = new Browser(service.app);
  await identify(browser, service);
  service.database.failing = /^/;
  for (const answer of [await browser.go("/donation"), await press(browser, { do: "pause" })]) {
    assert.equal(answer.status, 503);
    assert.ok(Number(answer.headers.get("retry-after")) > 0);
    assert.match(await textOf(answer), /Nothing was stored or changed/);
  }
  service.database.failing = null;
  assert.equal((await own(service)).state, "serving");
  service.variables["GITHUB_CLIENT_ID"] = undefined;
  for (const answer of [await browser.go("/donation"), await press(browser, { do: "pause" })]) {
    assert.equal(answer.status, 503);
    assert.match(await textOf(answer), /not set up yet/);
  }
});

Deno.test("/donation is open while the pool is switched off, and says that it is", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  service.variables["TOKEN_POOL_DISABLED"] = "1";
  const browser = new Browser(service.app);
  assert.match(await textOf(await identify(browser, service)), /operator has switched the pool off/);
  assert.equal((await press(browser, { do: "pause" })).status, 303);
  assert.equal((await own(service)).state, "paused");
});

Deno.test("recall() knows nobody by a text that was not sealed for it", async () => {
  await using service = await temporaryService();
  const donors = new DonorView(service.vault);
  const identity = { githubUserId: ADA, login: "ada", isRevoked: true };
  const sealed = await donors.remember(identity);
  assert.deepEqual(await donors.recall(sealed), identity);
  const keyring = await service.vault.keyring();
  for (const column of ["token", "flash", "transaction", "canary"]) {
    const text = await keyring.seal(JSON.stringify({ ...identity, expiresAt: START * 2 }), {
      column,
      githubUserId: "",
    });
    assert.equal(await donors.recall(text), null, column);
  }
  for (const content of ["null", "{}", `{"githubUserId":"","login":"","isRevoked":true,"expiresAt":9e15}`]) {
    assert.equal(
      await donors.recall(await keyring.seal(content, { column: "identity", githubUserId: "" })),
      null,
      content,
    );
  }
  assert.equal(await donors.recall(undefined), null);
});

/** Requests as a server hands them over, from an address. */
function from(app: Service["app"], address: string | null) {
  const info = address === null ? {} : { remoteAddr: { transport: "tcp", hostname: address, port: 4711 } };
  return (path: string, init: RequestInit = {}) => app.request(`https://pool.example${path}`, init, info);
}

Deno.test("/auth, /callback and the forms are limited by address and in all, by the clock, each by itself", async (t) => {
  const routes: [path: string, method: string][] = [
    ["/auth", "GET"],
    ["/callback?code=x&state=y", "GET"],
    ["/withdraw", "POST"],
    ["/donation", "POST"],
  ];
  for (const [path, method] of routes) {
    await t.step(`${method} ${path}`, async () => {
      await using service = await temporaryService();
      const [one, two] = [from(service.app, "203.0.113.1"), from(service.app, "203.0.113.2")];
      const usual = (await two(path, { method })).status;
      assert.notEqual(usual, 429);
      for (let n = 0; n < 30; n++) assert.equal((await one(path, { method })).status, usual);
      service.clock.advance(20_000);
      const [asked, queried] = [service.github.requests.length, service.database.statements.length];
      for (let n = 0; n < 100; n++) {
        const refused = await one(path, { method, headers: { "x-forwarded-for": `198.51.100.${n}`, cookie: "a=b" } });
        assert.equal(refused.status, 429);
        assert.equal(refused.headers.get("retry-after"), "40");
        assert.deepEqual(refused.headers.getSetCookie(), []);
        const text = await textOf(refused);
        assert.match(text, /Too many requests.*Nothing was stored.*Reference: [0-9a-f]{8}/);
        assert.ok(service.log.at(-1)!.includes(/Reference: (\w+)/.exec(text)![1]!));
        const { ms: _, ...line } = JSON.parse(service.log.at(-1)!); // a time may be any number
        assert.doesNotMatch(JSON.stringify(line), /203\.0|198\.51/);
      }
      assert.deepEqual([service.github.requests.length, service.database.statements.length], [asked, queried]);
      assert.equal((await two(path, { method })).status, usual, "another address is not affected");
      for (const [other, otherMethod] of routes) {
        if (other !== path) assert.notEqual((await one(other, { method: otherMethod })).status, 429, other);
      }
      for (const free of ["/", "/status", "/withdraw", "/donation", "/thanks"]) {
        assert.notEqual((await one(free)).status, 429, free);
      }
      service.clock.advance(40_000);
      assert.equal((await one(path, { method })).status, usual, "after a minute all is well");
    });
  }
});

Deno.test("without a known address the budget in all counts, and a proxy's address is none", async (t) => {
  for (const address of [null, "127.0.0.1", "::1", "10.1.2.3"]) {
    await t.step(String(address), async () => {
      await using service = await temporaryService();
      const ask = from(service.app, address);
      for (let n = 0; n < 600; n++) assert.equal((await ask("/callback")).status, 400);
      const refused = await ask("/callback");
      assert.deepEqual([refused.status, refused.headers.get("retry-after")], [429, "60"]);
      assert.equal((await from(service.app, "203.0.113.1")("/callback")).status, 429, "for all");
      service.clock.advance(MINUTE);
      assert.equal((await ask("/callback")).status, 400);
    });
  }
});

Deno.test("a donor whose /auth is limited can still finish, and leave", async () => {
  await using service = await temporaryService();
  const app = createApp({ ...service.options, log: () => {}, rates: { inAll: 1 } });
  const browser = new Browser(app);
  const away = await browser.go("/auth");
  assert.equal((await browser.go("/auth")).status, 429);
  assert.equal((await browser.go(service.github.authorize(away.headers.get("location")!, "ada"))).status, 303);
  assert.equal((await browser.submit("/withdraw")).status, 303);
});

Deno.test("the handler tells the app where a server says that a request came from", async () => {
  const info = { remoteAddr: { transport: "tcp", hostname: "203.0.113.1", port: 4711 } } as const;
  const ask = async (about?: typeof info) => {
    const answer = await handler(new Request("https://pool.example/callback"), about);
    await answer.body?.cancel();
    return answer.status;
  };
  const statuses = new Set<number>();
  const { log } = console;
  console.log = () => {}; // its log goes there
  try {
    for (let n = 0; n < 31; n++) statuses.add(await ask(info));
    assert.ok(statuses.has(429));
    assert.notEqual(await ask(), 429);
  } finally {
    console.log = log;
  }
});
