/**
 * Upkeep that is cut off, and upkeep that is not alone: a round that dies at any of its calls loses nothing that the
 * next one does not make good, and however many rounds run at once, in one process or several, each thing is done once.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Database } from "../lib/database.ts";
import { GitHub } from "../lib/github.ts";
import { createPool } from "../lib/pool.ts";
import { openVault } from "../lib/service.ts";
import { hasDone, runUpkeep, type UpkeepReport } from "../lib/upkeep.ts";
import { FakeGitHub } from "./support/fake_github.ts";
import { KEY, response, temporaryFolder } from "./support/fixtures.ts";
import { linesOf, readElsewhere, spawn } from "./support/processes.ts";
import { type Service, temporaryService, variablesOf, visit } from "./support/service.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const CHECK = /^POST \/applications\/\w+\/token$/;
const REFRESH = /^POST \/login\/oauth\/access_token$/;
const GRANT = /^DELETE \/applications\/\w+\/grant$/;
const ASK = /^GET \/rate_limit$/;

/** What a round finds: one of everything. */
const EVERYTHING: UpkeepReport = {
  restored: 1,
  removed: 1,
  waiting: 0,
  refreshed: 1,
  revoked: 1,
  asked: 2,
  snapshots: 1,
};

/** Somebody gives a token, without the pages. */
async function lend({ github, pool }: Service, login: string): Promise<number> {
  const { id } = github.addUser(login);
  return await pool.addToken({ github_user_id: String(id), github_username: login, token: github.grantToken(login) });
}

/** One of everything that upkeep has to do. */
async function everythingIsDue(service: Service): Promise<void> {
  const { github, clock, pool, vault } = service;
  await lend(service, "idle");
  clock.advance(300 * DAY);
  github.expiringTokens = true;
  await visit(service, "ada");
  github.expiringTokens = false;
  clock.advance(7 * HOUR);
  const ids = { good: 0, dead: 0, silent: 0, scoped: 0 };
  for (const login of ["good", "dead", "silent", "scoped"] as const) ids[login] = await lend(service, login);
  const store = await vault.store();
  await store.exchange({ reports: [], unused: [], wanted: { resource: "core", most: 3, id: ids.silent } });
  clock.advance(MINUTE);
  github.revoke("dead");
  for (const id of [ids.good, ids.dead]) await pool.syncTokenHealth(id, response(401));
  await store.condemn(ids.scoped);
}

/** A process that dies at its `at`th call to anybody: before the call is made, or once it was and nobody hears of it. */
function mortal({ options, github, database }: Service, at: number, when: "before" | "after") {
  let calls = 0;
  async function unlessDead<T>(call: () => Promise<T>): Promise<T> {
    calls++;
    if (calls > at || (calls === at && when === "before")) throw new Error("cut off");
    const answer = await call();
    if (calls >= at) throw new Error("cut off");
    return answer;
  }
  const cut: Database = {
    execute: (statement) => unlessDead(() => database.execute(statement)),
    batch: (statements, mode) => unlessDead(() => database.batch(statements, mode)),
  };
  const vault = openVault({ ...options, database: cut });
  const client = new GitHub({
    url: github.url,
    apiUrl: github.apiUrl,
    clientId: github.clientId,
    clientSecret: github.clientSecret,
    fetch: (input, init) => unlessDead(() => github.fetch(input, init)),
  });
  return { round: () => runUpkeep({ vault, github: client }), isDead: () => calls >= at };
}

/** Rounds until nothing is due. */
async function rounds({ vault, client: github }: Service): Promise<UpkeepReport[]> {
  const reports: UpkeepReport[] = [];
  do reports.push(await runUpkeep({ vault, github })); while (hasDone(reports.at(-1)!));
  assert.ok(reports.length < 10);
  return reports;
}

async function assertMadeGood(service: Service, name: string): Promise<void> {
  const { github, clock, database, pool } = service;
  clock.advance(20 * MINUTE);
  await rounds(service);
  const donors = await database.look(
    `SELECT github_username AS login, suspect_at, reset_at FROM token_pool_tokens t
      JOIN token_pool_limits l ON l.token_id = t.id ORDER BY login`,
  );
  const of = (login: string) => donors.find((donor) => donor["login"] === login);
  assert.deepEqual(
    donors.filter(({ login }) => login !== "ada").map(({ login }) => login),
    ["good", "idle", "silent"],
    name,
  );
  assert.ok(donors.every(({ suspect_at }) => suspect_at === null), name);
  assert.notEqual(of("silent")!["reset_at"], null, `${name}: its window is known`);
  assert.equal(await database.count("revocations"), 0, name);
  assert.deepEqual(github.liveTokens("scoped"), [], name);
  const [{ n }] = await database.look("SELECT count(*) AS n FROM token_pool_snapshots") as [{ n: number }];
  assert.ok(n >= 1, name);

  clock.advance(DAY);
  await rounds(service);
  const [idle] = await database.look(
    `SELECT used_at FROM token_pool_probes JOIN token_pool_tokens ON id = token_id WHERE github_username = 'idle'`,
  );
  assert.notEqual(idle?.["used_at"] ?? null, null, `${name}: used in time`);
  for (let n = 0; n < donors.length; n++) {
    const token = await pool.getToken();
    if (token !== null) assert.ok(github.isLive(token.token), `${name}: ${token.github_username} serves`);
  }
}

/** Kills a round at each of its calls in turn, and has the next ones make it good; returns how many calls there are. */
async function killAtEachCall(when: "before" | "after", { inCompany = false } = {}): Promise<number> {
  for (let at = 1;; at++) {
    await using service = await temporaryService();
    await service.database.look("PRAGMA synchronous = OFF"); // nobody cuts the power here
    await everythingIsDue(service);
    const one = mortal(service, at, when);
    const dying = one.round().catch(() => {});
    if (inCompany) await runUpkeep({ vault: service.vault, github: service.client });
    await dying;
    await assertMadeGood(service, `${when} call ${at}`);
    if (!one.isDead()) return at - 1;
  }
}

Deno.test("a round that dies before any of its calls is made good by the next ones", async () => {
  assert.ok(await killAtEachCall("before") > 15);
});

Deno.test("a round that dies after any of its calls is made good by the next ones", async () => {
  assert.ok(await killAtEachCall("after") > 15);
});

Deno.test("a round that dies beside another one is made good by that or by the next ones", async () => {
  assert.ok(await killAtEachCall("after", { inCompany: true }) > 5);
});

Deno.test("three rounds at once on one database do everything once", async () => {
  await using service = await temporaryService();
  await everythingIsDue(service);
  const { github, vault, client } = service;
  const refreshes = github.count(REFRESH);
  const others = [0, 1].map(() => openVault(service.options));
  const reports = await Promise.all([vault, ...others].map((vault) => runUpkeep({ vault, github: client })));
  for (const other of others) await other.close();
  assert.deepEqual(sumOf(reports), EVERYTHING);
  assert.deepEqual([CHECK, GRANT, ASK].map((what) => github.count(what)), [2, 1, 2]);
  assert.equal(github.count(REFRESH), refreshes + 1);
  assert.deepEqual(await rounds(service), [sumOf([])], "and nothing is left");
});

Deno.test("four processes at once refresh a token once, and do everything else once", async () => {
  await using folder = await temporaryFolder();
  const github = new FakeGitHub();
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, github.handler.bind(github));
  const origin = `http://127.0.0.1:${server.addr.port}`;
  const database = `file:${folder.path}/pool.db`;
  const variables = variablesOf(github, origin, database);
  {
    await using pool = createPool({ database, encryptionKey: KEY });
    for (const login of ["ada", "bob", "eve"]) {
      const { id } = github.addUser(login);
      const { token, refreshToken } = github.grantExpiringToken(login);
      const expiring = { expires_at: Date.now() + 30 * MINUTE, refresh_token: refreshToken };
      const donation = { github_user_id: String(id), github_username: login, token };
      const stored = await pool.addToken(login === "ada" ? { ...donation, ...expiring } : donation);
      if (login === "ada") continue;
      if (login === "bob") github.revoke(login);
      await pool.syncTokenHealth(stored, response(401));
    }
  }
  const children = [1, 2, 3, 4].map(() => spawn("upkeep", JSON.stringify(variables)));
  const outputs = children.map(linesOf);
  for (const lines of outputs) assert.equal((await lines.next()).value, "ready");
  for (const child of children) await child.stdin.close(); // all start at once
  const reports: UpkeepReport[] = [];
  for (const [index, lines] of outputs.entries()) {
    reports.push(JSON.parse((await lines.next()).value as string));
    await lines.return(undefined);
    assert.equal((await children[index]!.status).code, 0);
  }
  // Of each hour one: the clock is the real one, and may strike meanwhile.
  const hours = await readElsewhere(`${folder.path}/pool.db`, "SELECT hour FROM token_pool_snapshots");
  assert.ok(hours.length >= 1);
  assert.deepEqual(sumOf(reports), {
    ...sumOf([]),
    ...{ refreshed: 1, restored: 1, removed: 1, snapshots: hours.length },
  });
  assert.equal(github.count(REFRESH), 1);
  assert.equal(github.count(CHECK), 2);
  github.assertNoSurprises();
  await using pool = createPool({ database, encryptionKey: KEY });
  const tokens = [await pool.getToken(), await pool.getToken()];
  for (const token of tokens) assert.ok(github.isLive(token!.token), token!.github_username!);
  assert.deepEqual(tokens.map((token) => token!.github_username).sort(), ["ada", "eve"]);
});

function sumOf(reports: UpkeepReport[]): UpkeepReport {
  const sum: UpkeepReport = { restored: 0, removed: 0, waiting: 0, refreshed: 0, revoked: 0, asked: 0, snapshots: 0 };
  for (const report of reports) {
    for (const [name, count] of Object.entries(report)) sum[name as keyof UpkeepReport] += count;
  }
  return sum;
}
