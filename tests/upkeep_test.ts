/**
 * Upkeep against a strict GitHub: only GitHub's clear word deletes a donation, an incident deletes none, and two rounds
 * at once do everything once.
 *
 * @module
 */

import assert from "node:assert/strict";
import cron from "../lib/upkeep.cron.ts";
import { DonationFlow } from "../lib/donate.ts";
import { GitHub } from "../lib/github.ts";
import { createPool } from "../lib/pool.ts";
import { hasDone } from "../lib/upkeep.ts";
import { openVault } from "../lib/service.ts";
import { Stats, statusSchema } from "../lib/stats.ts";
import { FakeGitHub } from "./support/fake_github.ts";
import { KEY, OTHER_KEY, response, temporaryFolder } from "./support/fixtures.ts";
import { report, type Service, temporaryService, upkeep, variablesOf, visit } from "./support/service.ts";
import { createApp } from "../main.http.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const CHECK = /^POST \/applications\/\w+\/token$/;
const REFRESH = /^POST \/login\/oauth\/access_token$/;
const STORE_REFRESHED = /SET token = .+ refresh_after = 0/s;

/** Donors `user1` to `user<count>`, each with a token that GitHub knows; returns the ids of their donations. */
async function lend({ github, pool }: Service, count: number): Promise<number[]> {
  const ids: number[] = [];
  for (let n = 1; n <= count; n++) {
    const { id, login } = github.addUser(`user${n}`, { id: 1000 + n });
    const token = github.grantToken(login);
    ids.push(await pool.addToken({ github_user_id: String(id), github_username: login, token }));
  }
  return ids;
}

/** A consumer draws a token, asks GitHub with it, and reports; false if there was none to draw. */
async function use({ github, pool }: Service): Promise<boolean> {
  const token = await pool.getToken();
  if (token === null) return false;
  const headers = { authorization: `Bearer ${token.token}`, "user-agent": "consumer" };
  const answer = await github.fetch("https://api.github.com/repos/denoland/deno", { headers });
  await pool.syncTokenHealth(token.id, answer);
  await answer.body?.cancel();
  return true;
}

/** All tokens turn suspect at once. */
async function storm(service: Service, count: number): Promise<void> {
  service.github.outage401 = true;
  for (let n = 0; n < count; n++) assert.ok(await use(service));
  service.github.outage401 = false;
}

async function statusOf({ vault }: Service): Promise<string> {
  return (await new Stats(vault).snapshot()).status.status;
}

Deno.test("runUpkeep() does nothing when nothing is due", async () => {
  await using service = await temporaryService();
  assert.deepEqual(await upkeep(service), report());
  await lend(service, 2);
  await use(service);
  const before = service.github.requests.length;
  assert.deepEqual(await upkeep(service), report());
  assert.equal(service.github.requests.length, before, "GitHub is not asked");
});

Deno.test("runUpkeep() deletes a donation and its ciphertext when GitHub does not know the token", async () => {
  await using service = await temporaryService();
  const [id] = await lend(service, 1);
  const [{ token: sealed }] = await service.database.look("SELECT token FROM token_pool_tokens") as [{ token: string }];
  service.github.revoke("user1");
  await use(service);
  assert.equal(await service.pool.getToken(), null, "out of rotation before GitHub is asked");
  assert.equal(await service.database.count("tokens"), 1, "the library does not delete");

  assert.deepEqual(await upkeep(service), report({ removed: 1 }));
  for (const table of ["tokens", "limits", "revocations", "suspicions", "meta", "resources", "canaries"]) {
    const rows = await service.database.look(`SELECT * FROM token_pool_${table}`);
    assert.ok(!JSON.stringify(rows).includes(sealed), table);
  }
  assert.equal(await service.database.count("tokens"), 0);
  assert.equal(await service.database.count("limits"), 0);
  await service.pool.syncTokenHealth(id!, response(401)); // late news of it meets nobody
  assert.deepEqual(await upkeep(service), report());
});

Deno.test("runUpkeep() puts a suspect back that GitHub knows, with what is left of its limit", async () => {
  await using service = await temporaryService();
  await lend(service, 1);
  await use(service);
  await storm(service, 1);
  assert.equal(await service.pool.getToken(), null);
  assert.deepEqual(await upkeep(service), report({ restored: 1 }));
  const token = await service.pool.getToken();
  assert.ok(service.github.isLive(token!.token));
  assert.equal(token?.rate_limit_remaining, 4997, "three hand-outs, none forgotten");
  assert.equal(token?.rate_limit_limit, 5000, "not the anonymous caller's 60");
});

Deno.test("runUpkeep() asks again after 1, 5 and 15 minutes while GitHub's answer is unclear", async () => {
  await using service = await temporaryService();
  await lend(service, 1);
  await storm(service, 1);
  const { github, clock } = service;
  github.down = { answer: 502 };
  assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
  for (const [index, minutes] of [1, 5, 15, 15].entries()) {
    clock.advance(minutes * MINUTE - 1);
    assert.deepEqual(await upkeep(service), report(), `not before ${minutes} minutes`);
    clock.advance(1);
    assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
    assert.equal(github.count(CHECK), index + 2);
  }
  github.down = null;
  clock.advance(15 * MINUTE);
  assert.deepEqual(await upkeep(service), report({ restored: 1, asked: 1 }));

  // The next suspicion starts anew.
  await storm(service, 1);
  github.down = { answer: 502 };
  assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
});

Deno.test("runUpkeep() asks every minute during an incident, so that the pool is back soon after GitHub is", async () => {
  await using service = await temporaryService();
  await lend(service, 5);
  await storm(service, 5);
  const { github, clock } = service;
  github.down = { answer: 401, only: CHECK };
  assert.deepEqual(await upkeep(service), report({ waiting: 5 }));
  for (let minutes = 1; minutes <= 10; minutes++) {
    clock.advance(MINUTE - 1);
    assert.deepEqual(await upkeep(service), report());
    clock.advance(1);
    assert.deepEqual(await upkeep(service), report({ waiting: 5 }));
  }
  github.down = null;
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ restored: 5, asked: 5 }));
});

Deno.test("runUpkeep() never deletes on any answer but 404", async (t) => {
  for (const answer of ["nothing", 200, 204, 301, 400, 401, 403, 410, 422, 429, 500, 503] as const) {
    await t.step(String(answer), async () => {
      await using service = await temporaryService();
      await lend(service, 1);
      service.github.revoke("user1");
      await use(service);
      service.github.down = { answer, only: CHECK };
      assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
      assert.equal(await service.database.count("tokens"), 1);
      assert.equal(await service.pool.getToken(), null, "and it does not serve either");
    });
  }
});

Deno.test("runUpkeep() deletes nothing while the app's own credentials are wrong", async () => {
  await using service = await temporaryService();
  await lend(service, 2);
  service.github.revoke("user1");
  for (let n = 0; n < 2; n++) await use(service);
  service.variables["GITHUB_CLIENT_SECRET"] = "another";
  await service.app.request("/status");
  assert.equal(service.github.count(CHECK), 1);
  assert.equal(await service.database.count("tokens"), 2);
});

Deno.test("runUpkeep() takes five suspects within a minute for an incident at GitHub", async (t) => {
  const incidents: [name: string, seconds: number[]][] = [
    ["at once", [0, 0, 0, 0, 0]],
    ["a quarter of a minute apart", [0, 15, 15, 15, 15]],
  ];
  for (const [name, gaps] of incidents) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      await lend(service, 6);
      const { github, clock } = service;
      for (const seconds of gaps) {
        clock.advance(seconds * 1000);
        await storm(service, 1);
      }
      assert.equal(await statusOf(service), "degraded");

      github.outage404 = true;
      assert.deepEqual(await upkeep(service), report({ waiting: 5 }), "GitHub says 404 once");
      clock.advance(10 * MINUTE - 1);
      assert.deepEqual(await upkeep(service), report(), "not asked again before 10 minutes");
      assert.equal(await service.database.count("tokens"), 6);
      clock.advance(1);
      assert.deepEqual(await upkeep(service), report({ removed: 5 }), "GitHub says 404 twice");
      assert.equal(await service.database.count("tokens"), 1);
      assert.equal(await statusOf(service), "ok");
    });
  }
});

Deno.test("runUpkeep() loses nothing in an incident that GitHub mends within ten minutes", async () => {
  await using service = await temporaryService();
  await lend(service, 8);
  const { github, clock } = service;
  await storm(service, 8);
  assert.equal(await service.pool.getToken(), null);
  github.outage404 = true;
  assert.deepEqual(await upkeep(service), report({ waiting: 8 }));
  clock.advance(9 * MINUTE);
  assert.deepEqual(await upkeep(service), report());
  github.outage404 = false;
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ restored: 8, asked: 8 }));
  assert.equal(await statusOf(service), "ok");
  for (let n = 0; n < 8; n++) assert.ok(await use(service));
});

Deno.test("runUpkeep() needs GitHub to say 404 twice, however unclear it is in between", async () => {
  await using service = await temporaryService();
  await lend(service, 5);
  const { github, clock } = service;
  await storm(service, 5);
  github.outage404 = true;
  await upkeep(service);
  clock.advance(10 * MINUTE);
  github.down = { answer: 502 };
  assert.deepEqual(await upkeep(service), report({ waiting: 5 }));
  github.down = null;
  clock.advance(15 * MINUTE);
  assert.deepEqual(await upkeep(service), report({ removed: 5 }));
});

Deno.test("runUpkeep() brakes also for who turns suspect later, while an incident lasts", async (t) => {
  await t.step("while it lasts", async () => {
    await using service = await temporaryService();
    await lend(service, 7);
    const { github, clock } = service;
    await storm(service, 5);
    clock.advance(2 * MINUTE);
    await storm(service, 1);
    github.outage404 = true;
    assert.deepEqual(await upkeep(service), report({ waiting: 6 }));
    clock.advance(10 * MINUTE);
    assert.deepEqual(await upkeep(service), report({ removed: 6 }));
    await storm(service, 1);
    assert.deepEqual(await upkeep(service), report({ removed: 1 }), "it is over");
  });
  await t.step("not for ever, because of one that no key opens", async () => {
    await using service = await temporaryService();
    const [unreadable] = await lend(service, 6);
    const { github, clock, database } = service;
    await storm(service, 5);
    await database.look("UPDATE token_pool_tokens SET token = 'v1.00000000.A.A' WHERE id = ?", [unreadable!]);
    assert.deepEqual(await upkeep(service), report({ restored: 4, waiting: 1 }));
    clock.advance(HOUR + 1);
    github.revoke("user6");
    await use(service);
    assert.deepEqual(await upkeep(service), report({ removed: 1, waiting: 1 }));
  });
});

Deno.test("runUpkeep() wants to hear twice of a personal token, since the app cannot be asked and a 401 may be GitHub's", async (t) => {
  async function lendPersonal({ github, pool }: Service): Promise<void> {
    await pool.addToken({ github_user_id: "583231", github_username: "ada", token: github.foreignToken("ada") });
  }
  await t.step("one that is dead goes when it is refused again", async () => {
    await using service = await temporaryService();
    await lendPersonal(service);
    const { github, clock, database } = service;
    github.revokeToken((await service.pool.getToken())!.token);
    await use(service);
    assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
    clock.advance(10 * MINUTE - 1);
    assert.deepEqual(await upkeep(service), report());
    clock.advance(1);
    assert.deepEqual(await upkeep(service), report({ removed: 1 }));
    assert.equal(await database.count("tokens"), 0);
  });
  await t.step("one that GitHub knows again by then serves", async () => {
    await using service = await temporaryService();
    await lendPersonal(service);
    const { github, clock } = service;
    github.outage401 = true;
    await use(service);
    assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
    github.outage401 = false;
    clock.advance(10 * MINUTE);
    assert.deepEqual(await upkeep(service), report({ restored: 1, asked: 1 }));
  });
});

Deno.test("runUpkeep() does not brake for four suspects, nor for five over more than a minute", async (t) => {
  const harmless: [name: string, gaps: number[]][] = [
    ["four at once", [0, 0, 0, 0]],
    ["five over a minute and a millisecond", [0, 15_000, 15_000, 15_000, 15_001]],
    ["two and three, an hour apart", [0, 0, HOUR, 0, 0]],
  ];
  for (const [name, gaps] of harmless) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      await lend(service, 6);
      for (const ms of gaps) {
        service.clock.advance(ms);
        await storm(service, 1);
      }
      assert.equal(await statusOf(service), "ok");
      service.github.outage404 = true;
      assert.deepEqual(await upkeep(service), report({ removed: gaps.length }));
    });
  }
});

Deno.test("runUpkeep() counts tokens, not refusals, towards an incident", async () => {
  await using service = await temporaryService();
  const [id] = await lend(service, 2);
  for (let n = 0; n < 10; n++) await service.pool.syncTokenHealth(id!, response(401));
  assert.equal(await statusOf(service), "ok");
  service.github.outage404 = true;
  assert.deepEqual(await upkeep(service), report({ removed: 1 }));
});

Deno.test("runUpkeep() counts suspects that are gone already towards an incident", async () => {
  await using service = await temporaryService();
  await lend(service, 6);
  service.github.outage404 = true;
  await storm(service, 3);
  assert.deepEqual(await upkeep(service), report({ removed: 3 }));
  await storm(service, 2);
  assert.deepEqual(await upkeep(service), report({ waiting: 2 }), "the brake is on from the fifth");
});

Deno.test("a donation clears the suspicion of an earlier one, and the brake", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  await lend(service, 4);
  await storm(service, 5);
  assert.equal(await statusOf(service), "degraded");
  assert.equal((await visit(service, "ada")).kind, "donated");
  assert.equal((await service.pool.getToken())?.github_username, "ada");
  service.github.outage404 = true;
  assert.deepEqual(await upkeep(service), report({ waiting: 4 }), "nobody asks about the new token");
  service.clock.advance(10 * MINUTE);
  assert.deepEqual(await upkeep(service), report({ removed: 4, asked: 1 }), "of the new one no consumer has reported");
  assert.equal((await service.pool.getToken())?.github_username, "ada");
  assert.equal(await statusOf(service), "ok", "the incident is over");
});

Deno.test("a donation that comes between the question and the answer is not deleted", async () => {
  await using service = await temporaryService();
  const { github } = service;
  await visit(service, "ada");
  github.revoke("ada");
  await use(service);
  github.before = async (call) => {
    if (!CHECK.test(call)) return;
    github.before = null;
    await visit(service, "ada");
  };
  assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
  const token = await service.pool.getToken();
  assert.ok(github.isLive(token!.token));
  await use(service);
  assert.deepEqual(await upkeep(service), report());
});

Deno.test("a donation that comes between the question and the answer is not deleted though it is suspect too", async () => {
  await using service = await temporaryService();
  const { github } = service;
  await visit(service, "ada");
  github.revoke("ada");
  await use(service);
  github.before = async (call) => {
    if (!CHECK.test(call)) return;
    github.before = null;
    await visit(service, "ada");
    await storm(service, 1);
  };
  assert.deepEqual(await upkeep(service), report({ waiting: 1 }), "the 404 is the old token's");
  assert.equal(await service.database.count("tokens"), 1);
  service.clock.advance(10 * MINUTE);
  assert.deepEqual(await upkeep(service), report({ restored: 1, asked: 1 }));
});

Deno.test("a withdrawal that comes between the question and the answer stands", async () => {
  await using service = await temporaryService();
  const { github } = service;
  await visit(service, "ada");
  await storm(service, 1);
  github.before = async (call) => {
    if (!CHECK.test(call)) return;
    github.before = null;
    await visit(service, "ada", { purpose: "withdraw" });
  };
  await upkeep(service);
  assert.equal(await service.database.count("tokens"), 0);
  assert.equal(await service.pool.getToken(), null);
});

Deno.test("two rounds at once ask once and delete once", async () => {
  await using service = await temporaryService();
  await lend(service, 3);
  for (let n = 1; n <= 3; n++) service.github.revoke(`user${n}`);
  while (await use(service));
  await using other = openVaultOf(service);
  const reports = await Promise.all([upkeep(service), upkeep({ ...service, vault: other.vault }), upkeep(service)]);
  assert.equal(reports.reduce((sum, { removed }) => sum + removed, 0), 3);
  assert.equal(reports.reduce((sum, { waiting }) => sum + waiting, 0), 0);
  assert.equal(service.github.count(CHECK), 3);
  assert.equal(await service.database.count("tokens"), 0);
});

Deno.test("a round takes a bounded number of suspects, and the next ones the rest", async () => {
  await using service = await temporaryService();
  await lend(service, 45);
  await storm(service, 45);
  const counts: number[] = [];
  for (let round = 0; round < 4; round++) counts.push((await upkeep(service)).restored);
  assert.deepEqual(counts, [20, 20, 5, 0]);
});

Deno.test("runUpkeep() leaves a suspect alone that does not open", async () => {
  await using service = await temporaryService();
  await lend(service, 1);
  await storm(service, 1);
  await service.database.look("UPDATE token_pool_tokens SET token = 'v1.00000000.AAAA.AAAA'");
  const before = service.github.requests.length;
  assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
  assert.equal(service.github.requests.length, before);
  assert.equal(await service.database.count("tokens"), 1);
});

Deno.test("runUpkeep() changes nothing because of a wrong key", async () => {
  await using service = await temporaryService();
  await lend(service, 1);
  service.github.revoke("user1");
  await use(service);
  const before = await service.database.look("SELECT * FROM token_pool_tokens");
  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  await assert.rejects(upkeep(service), { name: "PoolError", code: "wrong_key" });
  assert.deepEqual(await service.database.look("SELECT * FROM token_pool_tokens"), before);
  assert.equal(service.github.count(CHECK), 0);
});

Deno.test("runUpkeep() refreshes a token an hour before it expires", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock, pool } = service;
  await visit(service, "ada");
  const seen = new Set(github.liveTokens("ada"));
  for (let time = 1; time <= 3; time++) {
    clock.advance(7 * HOUR - 1);
    assert.deepEqual(await upkeep(service), report());
    clock.advance(1);
    assert.deepEqual(await upkeep(service), report({ refreshed: 1 }));
    const token = await pool.getToken();
    assert.deepEqual(github.liveTokens("ada"), [token?.token]);
    assert.ok(!seen.has(token!.token), "a new one each time");
    seen.add(token!.token);
    const [row] = await service.database.look("SELECT expires_at, refresh_token FROM token_pool_tokens");
    assert.equal(row?.["expires_at"], clock.time + 8 * HOUR);
    assert.match(String(row?.["refresh_token"]), /^v1\./, "sealed");
  }
});

Deno.test("two rounds at once refresh a token once", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock } = service;
  await visit(service, "ada");
  clock.advance(7 * HOUR);
  const before = github.count(REFRESH);
  await using other = openVaultOf(service);
  const reports = await Promise.all([upkeep(service), upkeep({ ...service, vault: other.vault })]);
  assert.equal(reports.reduce((sum, { refreshed }) => sum + refreshed, 0), 1);
  assert.equal(github.count(REFRESH), before + 1);
  assert.deepEqual(github.liveTokens("ada"), [(await service.pool.getToken())?.token]);
});

Deno.test("runUpkeep() asks for all new tokens at once, so that no lock ends before GitHub's answer", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock } = service;
  const logins = Array.from({ length: 20 }, (_, n) => github.addUser(`user${n}`, { id: 1000 + n }).login);
  for (const login of logins) await visit(service, login);
  clock.advance(7 * HOUR);
  const { promise: answer, resolve: beginToAnswer } = Promise.withResolvers<void>();
  let asked = 0;
  github.before = (call) => {
    if (!REFRESH.test(call)) return;
    if (++asked === logins.length) beginToAnswer();
    return answer;
  };
  assert.deepEqual(await upkeep(service), report({ refreshed: 20 }));
});

Deno.test("runUpkeep() stores each new token, also when the database fails with another one's", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock, database } = service;
  for (const login of ["ada", "bob"]) await visit(service, login);
  clock.advance(7 * HOUR);
  const { promise: failure, resolve: fail } = Promise.withResolvers<void>();
  let asked = 0;
  github.before = (call) => REFRESH.test(call) && ++asked === 2 ? failure : undefined;
  let stores = 0;
  database.before = () => {
    const isStore = STORE_REFRESHED.test(database.statements.at(-2) ?? "");
    const fails = isStore && ++stores <= 2; // and once more when it is tried again
    database.failing = fails ? /^/ : null;
    if (fails && stores === 2) fail();
    return Promise.resolve();
  };
  await assert.rejects(upkeep(service), { name: "PoolError", code: "database" });
  const stored = await database.look("SELECT 1 FROM token_pool_tokens WHERE expires_at > ?", [clock.time + HOUR]);
  assert.equal(stored.length, 1, "before the round has ended, for then its process may end as well");
});

Deno.test("runUpkeep() keeps a new token whose storing the database has carried out without an answer", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock, database, pool } = service;
  await visit(service, "ada");
  clock.advance(7 * HOUR);
  database.losing = STORE_REFRESHED;
  assert.deepEqual(await upkeep(service), report({ refreshed: 1 }));
  assert.deepEqual(github.liveTokens("ada"), [(await pool.getToken())?.token]);
});

Deno.test("runUpkeep() tries to store a new token once more when the database fails: there is no other", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock, database, pool } = service;
  await visit(service, "ada");
  clock.advance(7 * HOUR);
  let stores = 0;
  database.before = () => {
    const isStore = STORE_REFRESHED.test(database.statements.at(-2) ?? "");
    database.failing = isStore && ++stores === 1 ? /^/ : null;
    return Promise.resolve();
  };
  assert.deepEqual(await upkeep(service), report({ refreshed: 1 }));
  assert.deepEqual(github.liveTokens("ada"), [(await pool.getToken())?.token]);
});

Deno.test("runUpkeep() does not let tokens that cannot be refreshed keep others from their turn", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock, database } = service;
  for (let n = 1; n <= 21; n++) await visit(service, github.addUser(`user${n}`, { id: 1000 + n }).login);
  await database.look("UPDATE token_pool_tokens SET refresh_token = 'v1.00000000.A.A' WHERE github_user_id < '1021'");
  clock.advance(7 * HOUR);
  assert.deepEqual(await upkeep(service), report());
  clock.advance(MINUTE);
  assert.deepEqual(await upkeep(service), report({ refreshed: 1 }));
});

Deno.test("runUpkeep() refreshes a suspect that can be refreshed instead of asking about it", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock, pool } = service;
  await visit(service, "ada");
  clock.advance(8 * HOUR); // nobody came by in time
  await use(service);
  assert.equal(await pool.getToken(), null);
  assert.deepEqual(await upkeep(service), report({ refreshed: 1 }));
  assert.equal(github.count(CHECK), 0);
  assert.ok(github.isLive((await pool.getToken())!.token));
});

Deno.test("runUpkeep() removes a donation whose refresh token GitHub does not know", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  await visit(service, "ada");
  service.github.revoke("ada");
  service.clock.advance(7 * HOUR);
  assert.deepEqual(await upkeep(service), report({ removed: 1 }));
  assert.equal(await service.database.count("tokens"), 0);
});

Deno.test("runUpkeep() takes five refused refresh tokens within a minute for an incident as well", async (t) => {
  /** Donors of tokens that are due to be refreshed, and a GitHub that may say that it knows none of them. */
  async function donors(service: Service, count: number) {
    const { github, clock } = service;
    for (let n = 1; n <= count; n++) await visit(service, github.addUser(`user${n}`, { id: 1000 + n }).login);
    clock.advance(7 * HOUR);
    const incident = { isOn: true, asked: 0 };
    const fetch: typeof globalThis.fetch = (input, init) => {
      if (!String(input).endsWith("/login/oauth/access_token") || !incident.isOn) return github.fetch(input, init);
      incident.asked++;
      return Promise.resolve(Response.json({ error: "bad_refresh_token" }));
    };
    return { incident, service: { ...service, client: new GitHub({ ...github, fetch }) } };
  }
  await t.step("four are deleted", async () => {
    await using whole = await temporaryService({ github: { expiringTokens: true } });
    const { service } = await donors(whole, 4);
    assert.deepEqual(await upkeep(service), report({ removed: 4 }));
    assert.equal(await service.database.count("tokens"), 0);
  });
  await t.step("five are deleted when GitHub says so twice", async () => {
    await using whole = await temporaryService({ github: { expiringTokens: true } });
    const { service, incident } = await donors(whole, 5);
    assert.deepEqual(await upkeep(service), report({ waiting: 5 }));
    assert.equal(await statusOf(service), "degraded");
    service.clock.advance(10 * MINUTE - 1);
    assert.deepEqual(await upkeep(service), report());
    assert.equal(incident.asked, 5, "not asked again before 10 minutes");
    service.clock.advance(1);
    assert.deepEqual(await upkeep(service), report({ removed: 5 }));
  });
  await t.step("none is lost when GitHub mends it by then", async () => {
    await using whole = await temporaryService({ github: { expiringTokens: true } });
    const { service, incident } = await donors(whole, 5);
    await upkeep(service);
    incident.isOn = false;
    service.clock.advance(10 * MINUTE);
    assert.deepEqual(await upkeep(service), report({ refreshed: 5 }));
    assert.equal(await statusOf(service), "ok");
    for (let n = 0; n < 5; n++) assert.ok(service.github.isLive((await service.pool.getToken())!.token));
  });
});

Deno.test("runUpkeep() keeps a donation that cannot be refreshed for any other reason", async (t) => {
  const troubles: Record<string, (service: Service) => void> = {
    "the app is suspended": ({ github }) => github.isAppSuspended = true,
    "GitHub is away": ({ github }) => github.down = { answer: "nothing" },
    "GitHub is ill": ({ github }) => github.down = { answer: 500 },
  };
  for (const [name, befall] of Object.entries(troubles)) {
    await t.step(name, async () => {
      await using service = await temporaryService({ github: { expiringTokens: true } });
      const { github, clock } = service;
      await visit(service, "ada");
      clock.advance(7 * HOUR);
      befall(service);
      assert.deepEqual(await upkeep(service), report());
      assert.ok(github.isLive((await service.pool.getToken())!.token), "it serves while it lasts");
      [github.isAppSuspended, github.down] = [false, null];
      clock.advance(MINUTE);
      assert.deepEqual(await upkeep(service), report({ refreshed: 1, asked: 1 }));
    });
  }
});

Deno.test("runUpkeep() keeps a new donation when the refresh token of the one before is refused", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock } = service;
  await visit(service, "ada");
  clock.advance(7 * HOUR);
  github.before = async (call) => {
    if (!REFRESH.test(call)) return;
    github.before = null;
    await visit(service, "ada"); // which revokes the token that is just being refreshed
  };
  await upkeep(service);
  assert.equal(await service.database.count("tokens"), 1, "the new donation stands");
  assert.deepEqual(github.liveTokens("ada"), [(await service.pool.getToken())?.token]);
});

Deno.test("runUpkeep() does not overwrite a new donation with the refreshed token of the one before", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock, pool } = service;
  await visit(service, "ada");
  clock.advance(7 * HOUR);
  const token = github.grantToken("ada");
  github.before = async (call) => {
    if (REFRESH.test(call)) await pool.addToken({ github_user_id: "583231", token });
  };
  await upkeep(service);
  assert.equal((await pool.getToken())?.token, token);
});

Deno.test("runUpkeep() revokes a new token that came too late, later if GitHub does not confirm it now", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock, database } = service;
  await visit(service, "ada");
  clock.advance(7 * HOUR);
  database.before = async () => {
    if (!STORE_REFRESHED.test(database.statements.at(-2) ?? "")) return;
    database.before = null;
    await using other = openVaultOf(service);
    const flow = new DonationFlow({ ...other, github: service.client, redirectUri: github.callbackUrl });
    await visit({ ...service, flow }, "ada");
    github.down = { answer: 502, only: /^DELETE / };
  };
  await upkeep(service);
  github.down = null;
  clock.advance(MINUTE);
  await upkeep(service);
  assert.deepEqual(github.liveTokens("ada"), [(await service.pool.getToken())?.token]);
  assert.equal(await database.count("revocations"), 0);
});

Deno.test("a withdrawal during a refresh leaves neither a row nor a live token", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, clock } = service;
  await visit(service, "ada");
  clock.advance(7 * HOUR);
  github.before = async (call) => {
    if (!REFRESH.test(call)) return;
    github.before = null;
    await visit(service, "ada", { purpose: "withdraw" });
  };
  await upkeep(service);
  assert.equal(await service.database.count("tokens"), 0);
  assert.deepEqual(github.liveTokens("ada"), []);
});

Deno.test("a token that turns out to have scopes leaves the pool at once, and upkeep deletes its grant", async () => {
  await using service = await temporaryService();
  await lend(service, 2);
  const { github, clock } = service;
  const [token] = github.liveTokens("user1");
  github.setScopes(token!, ["repo", "gist"]);
  await use(service);
  assert.equal(await service.database.count("tokens"), 1);
  assert.equal((await service.pool.getToken())?.github_username, "user2");

  github.down = { answer: 502, only: /^DELETE / };
  assert.deepEqual(await upkeep(service), report());
  for (const minutes of [1, 2, 4]) {
    clock.advance(minutes * MINUTE - 1);
    const asked = github.count(/grant$/);
    assert.deepEqual(await upkeep(service), report());
    assert.equal(github.count(/grant$/), asked, `not before ${minutes} minutes`);
    clock.advance(1);
    await upkeep(service);
    assert.equal(github.count(/grant$/), asked + 1);
  }
  github.down = null;
  clock.advance(8 * MINUTE);
  assert.deepEqual(await upkeep(service), report({ revoked: 1 }));
  assert.deepEqual(github.liveTokens("user1"), []);
  assert.equal(github.liveTokens("user2").length, 1);
  assert.equal(await service.database.count("revocations"), 0);
});

Deno.test("a passing request confirms suspects, and shows what came of it", async (t) => {
  for (const path of ["/", "/status", "/healthz"]) {
    await t.step(path, async () => {
      await using service = await temporaryService();
      await lend(service, 3);
      const { app, github, clock, database } = service;
      github.revoke("user1");
      for (let n = 0; n < 3; n++) await use(service);
      assert.equal(await database.count("tokens"), 3);
      const responses = await Promise.all(Array.from({ length: 10 }, () => app.request(path)));
      for (const answer of responses) await answer.body?.cancel();
      assert.equal(github.count(CHECK), 1, "asked once, however many pass");
      assert.equal(database.statements.filter((sql) => /SET checks = checks \+ 1/.test(sql)).length, 1, "one round");
      assert.equal(await database.count("tokens"), 2);
      const status = statusSchema.parse(await (await app.request("/status")).json());
      assert.deepEqual([status.tokens.total, status.tokens.suspended], [2, 0]);

      const asked = github.requests.length;
      clock.advance(HOUR);
      await (await app.request(path)).body?.cancel();
      assert.equal(github.requests.length, asked, "nothing is left to ask");
    });
  }
});

Deno.test("a passing request does not wait for a GitHub that is slow, and what it began is done all the same", async () => {
  await using service = await temporaryService();
  await lend(service, 1);
  const { github, database, options } = service;
  github.revoke("user1");
  await use(service);
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  const { promise: over, resolve: end } = Promise.withResolvers<void>();
  const app = createApp({
    ...options,
    fetch: async (...call) => {
      await answered;
      return await github.fetch(...call);
    },
    upkeepWaitMs: 1,
    log: (line) => JSON.parse(line).event === "upkeep" && end(),
  });
  const status = statusSchema.parse(await (await app.request("/status")).json());
  assert.equal(status.tokens.suspended, 1, "what is known so far");
  answer();
  await over;
  assert.equal(await database.count("tokens"), 0);
});

Deno.test("a passing request also refreshes what has expired or is about to", async (t) => {
  const cases: [name: string, wait: number, prepare: (service: Service) => Promise<unknown>][] = [
    ["a suspect that has expired", 8 * HOUR, use],
    ["a token that expires within the hour", 7.5 * HOUR, () => Promise.resolve()],
  ];
  for (const [name, wait, prepare] of cases) {
    await t.step(name, async () => {
      await using service = await temporaryService({ github: { expiringTokens: true } });
      await visit(service, "ada");
      service.clock.advance(wait);
      await prepare(service);
      await (await service.app.request("/status")).body?.cancel();
      service.clock.advance(HOUR);
      assert.ok(service.github.isLive((await service.pool.getToken())?.token ?? ""));
    });
  }
});

Deno.test("a passing request is answered although upkeep cannot be done", async () => {
  await using service = await temporaryService();
  await lend(service, 1);
  service.github.revoke("user1");
  await use(service);
  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  const answer = await service.app.request("/status");
  assert.equal(answer.status, 200);
  assert.equal(statusSchema.parse(await answer.json()).tokens.suspended, 1);
  assert.equal(service.log.length, 2, "the round's line and the request's");
  assert.match(service.log[0]!, /upkeep failed.*wrong_key/);
  service.variables["TOKEN_ENCRYPTION_KEY"] = undefined;
  service.clock.advance(15_000);
  assert.equal((await service.app.request("/status")).status, 200);
  assert.ok(!service.log.slice(2).join().includes("upkeep"), "what is not set up is not tried");
  service.variables["TOKEN_ENCRYPTION_KEY"] = KEY;
  service.clock.advance(15_000);
  await (await service.app.request("/status")).body?.cancel();
  assert.equal(await service.database.count("tokens"), 0);
});

Deno.test("lib/upkeep.cron.ts runs rounds until nothing is due, with the process's environment", async () => {
  await using folder = await temporaryFolder();
  const github = new FakeGitHub();
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, github.handler.bind(github));
  const origin = `http://127.0.0.1:${server.addr.port}`;
  const url = `file:${folder.path}/pool.db`;
  {
    await using pool = createPool({ database: url, encryptionKey: KEY });
    for (const [login, isKnown] of [["ada", true], ["bob", false]] as const) {
      const { id } = github.addUser(login);
      const token = github.grantToken(login);
      const donation = await pool.addToken({ github_user_id: String(id), github_username: login, token });
      if (!isKnown) github.revoke(login);
      await pool.syncTokenHealth(donation, response(401));
    }
  }
  const variables = variablesOf(github, origin, url);
  const before = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const);
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
  const { log } = console;
  const lines: string[] = [];
  console.log = (line) => lines.push(line);
  const { now } = performance;
  try {
    let at = 0;
    performance.now = () => at += 10_000; // whatever is done takes long
    const cutShort = await cron();
    performance.now = now;
    assert.deepEqual(cutShort.map(hasDone), [true], "no other round is begun when time is up");
    const reports = await cron();
    assert.equal(hasDone(reports.at(-1)!), false, "the last round found nothing");
    const ofDonations = [...cutShort, ...reports, ...await cron()].map(({ snapshots: _, ...rest }) => rest);
    const [first, ...others] = ofDonations;
    assert.deepEqual(first, report({ restored: 1, removed: 1 }));
    assert.ok(others.length >= 2);
    for (const other of others) assert.deepEqual(other, report());
    const said = lines.map((line) => JSON.parse(line)).map(({ event, counts }) => [event, counts.removed]);
    assert.deepEqual(said, ofDonations.map(({ removed }) => ["upkeep", removed]));
  } finally {
    console.log = log;
    performance.now = now;
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
  github.assertNoSurprises();
  await using pool = createPool({ database: url, encryptionKey: KEY });
  assert.equal((await pool.getToken())?.github_username, "ada");
  assert.equal((await pool.availability()).tokens, 1);
});

Deno.test("lib/upkeep.cron.ts names every setting that is missing", async () => {
  const names = ["GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET", "TOKEN_ENCRYPTION_KEY", "TOKEN_POOL_DATABASE_URL"];
  const before = names.map((name) => [name, Deno.env.get(name)] as const);
  for (const name of names) Deno.env.delete(name);
  Deno.env.set("TOKEN_POOL_DATABASE_URL", "file::memory:"); // or it would make a file
  try {
    await assert.rejects(cron(), (error: Error & { code?: string }) => {
      assert.equal(error.code, "config");
      for (const name of names.slice(0, 3)) assert.ok(error.message.includes(name), name);
      return true;
    });
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
});

/** Another process's view of the same database. */
function openVaultOf({ options }: Service): { vault: ReturnType<typeof openVault> } & AsyncDisposable {
  const vault = openVault(options);
  return { vault, [Symbol.asyncDispose]: () => vault.close() };
}
