/** Asking GitHub whether tokens are still good: what is done on each answer, and what never is. */

import assert from "node:assert/strict";
import { OTHER_KEY } from "./support/fixtures.ts";
import { counter, donors, everything, find, lend, operate } from "./support/operator.ts";
import { report, type Service, temporaryService, upkeep, visit } from "./support/service.ts";

const CHECK = /^POST \/applications\/\w+\/token$/;

/** Takes donations out of rotation as a consumer's 401 does. */
async function suspect({ database, vault }: Service, ...logins: string[]): Promise<void> {
  const store = await vault.store();
  for (const login of logins) {
    const [row] = await database.look("SELECT id FROM token_pool_tokens WHERE github_username = ?", [login]);
    await store.suspect(Number(row!["id"]));
  }
}

async function suspects({ database }: Service): Promise<unknown[]> {
  return (await database.look("SELECT github_username AS login FROM token_pool_tokens WHERE suspect_at IS NOT NULL"))
    .map(({ login }) => login);
}

Deno.test("verify asks about the suspects only: valid ones serve again, unknown ones go", async () => {
  await using service = await temporaryService();
  const { github } = service;
  const tokens = await lend(service, ["cyd", "dee", "eve"]);
  await suspect(service, "cyd", "dee");
  github.revokeToken(tokens["cyd"]!);
  const { code, found } = await find(service, ["verify"]);
  assert.equal(code, 0);
  assert.deepEqual(found, {
    ...{ valid: 1, unknown: 1, unclear: 0, expired: 0, unreadable: 0, restored: 1, removed: 1 },
    ...{ incident: false, stopped: false, unknown_donations: [{ id: 1, login: "cyd" }] },
  });
  assert.equal(github.count(CHECK), 2, "nobody asks about eve");
  assert.deepEqual(await donors(service), ["dee", "eve"]);
  assert.deepEqual(await suspects(service), []);
  assert.equal(await counter(service, "removed.revoked"), 1);
  assert.notEqual(await service.pool.getToken(), null);
});

Deno.test("verify --all finds tokens that died unnoticed", async () => {
  await using service = await temporaryService();
  const tokens = await lend(service, ["cyd", "dee", "eve"]);
  service.github.revokeToken(tokens["eve"]!);
  assert.deepEqual((await find(service, ["verify"])).found.unknown, 0, "no suspect, no question");
  const { code, found, err } = await find(service, ["verify", "--all"]);
  assert.deepEqual([code, found.valid, found.unknown, found.removed, found.restored], [0, 2, 1, 1, 0]);
  assert.match(err, /^3 of 3, 100 %$/m, "how far it has come");
  assert.deepEqual(await donors(service), ["cyd", "dee"]);
});

Deno.test("verify takes five unknown within a minute for an incident: nothing goes, nothing new is suspect", async () => {
  await using service = await temporaryService();
  const logins = Array.from({ length: 25 }, (_, n) => `u${n}`);
  await lend(service, logins);
  await suspect(service, "u3");
  service.github.outage404 = true;
  const { code, found, err } = await find(service, ["verify", "--all"]);
  assert.deepEqual([code, found.incident, found.stopped, found.removed], [1, true, true, 0]);
  assert.match(err, /taken for an incident/);
  assert.ok(service.github.count(CHECK) < 25, "the questions end");
  assert.deepEqual(await donors(service), logins);
  assert.deepEqual(await suspects(service), ["u3"], "the pool is not taken out of rotation by a false alarm");

  // The one that was suspect already goes only when GitHub says so twice.
  assert.deepEqual(await upkeep(service), report({ waiting: 1 }));
  service.github.outage404 = false;
  service.clock.advance(600_000);
  assert.deepEqual(await upkeep(service), report({ restored: 1 }));
});

Deno.test("verify does not take four for an incident", async () => {
  await using service = await temporaryService();
  const logins = Array.from({ length: 15 }, (_, n) => `u${n}`);
  const tokens = await lend(service, logins);
  for (const login of logins.slice(0, 4)) service.github.revokeToken(tokens[login]!);
  const { code, found } = await find(service, ["verify", "--all"]);
  assert.deepEqual([code, found.incident, found.removed], [0, false, 4]);
  assert.deepEqual(await donors(service), logins.slice(4));
});

Deno.test("verify brakes five that are found slowly, as upkeep does: they go when GitHub says so twice", async () => {
  await using service = await temporaryService();
  const { github, clock } = service;
  const logins = Array.from({ length: 60 }, (_, n) => `u${n}`);
  const tokens = await lend(service, logins);
  for (const n of [0, 10, 20, 30, 40]) github.revokeToken(tokens[`u${n}`]!);
  github.before = () => clock.advance(2000);
  const { code, found } = await find(service, ["verify", "--all"]);
  assert.deepEqual([code, found.incident, found.unknown, found.removed], [0, false, 5, 0]);
  github.before = null;
  assert.equal((await donors(service)).length, 60);
  assert.equal((await suspects(service)).length, 5);
  clock.advance(600_001);
  assert.deepEqual(await upkeep(service), report({ removed: 5 }));
});

Deno.test("verify --dry-run asks and changes nothing", async () => {
  for (const incident of [false, true]) {
    await using service = await temporaryService();
    const tokens = await lend(service, ["cyd", "dee", "eve", "fay", "gus", "hal"]);
    await suspect(service, "cyd", "dee");
    for (const login of incident ? ["cyd", "eve", "fay", "gus", "hal"] : ["cyd", "eve"]) {
      service.github.revokeToken(tokens[login]!);
    }
    const before = await everything(service);
    const { code, found } = await find(service, ["verify", "--all", "--dry-run"]);
    assert.deepEqual([code, found.incident, found.removed, found.restored], [incident ? 1 : 0, incident, 0, 0]);
    assert.equal(found.unknown, incident ? 5 : 2);
    assert.deepEqual(await everything(service), before);
  }
});

Deno.test("verify leaves what can be refreshed to upkeep, and does not ask about what has expired", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, vault, clock } = service;
  for (const login of ["cyd", "dee"]) {
    const { id } = github.addUser(login);
    const { answer } = await grant(service, login);
    await vault.deposit({
      github_user_id: String(id),
      github_username: login,
      token: answer.token,
      refresh_token: answer.refreshToken,
      expires_at: clock.time + (login === "cyd" ? 7_200_000 : 60_000),
    });
  }
  await suspect(service, "cyd");
  clock.advance(60_000);
  github.outage404 = true;
  const { found } = await find(service, ["verify", "--all"]);
  assert.deepEqual([found.unknown, found.expired, found.removed], [1, 1, 0]);
  github.outage404 = false;
  assert.deepEqual(await upkeep(service), report({ refreshed: 2 }));
  assert.deepEqual(await donors(service), ["cyd", "dee"]);
});

/** A token with its refresh token, by the web flow. */
async function grant({ github, client, flow }: Service, login: string) {
  const { location } = await flow.begin("donate", 0.5);
  const url = new URL(location);
  url.searchParams.delete("code_challenge");
  url.searchParams.delete("code_challenge_method");
  const back = new URL(github.authorize(url.href, login));
  const granted = await client.exchangeCode({
    code: back.searchParams.get("code")!,
    verifier: "v".repeat(43),
    redirectUri: github.callbackUrl,
  });
  assert.ok(granted.kind === "granted");
  return { answer: granted.grant };
}

Deno.test("verify asks about what has expired and cannot be refreshed", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd"]);
  await (await service.vault.store()).noteExpiry(1, service.clock.time);
  const { found } = await find(service, ["verify", "--all"]);
  assert.deepEqual([found.expired, found.valid], [0, 1]);
});

Deno.test("verify does not suspect what a donor gives while others are asked about", async () => {
  await using service = await temporaryService();
  const { github, vault } = service;
  await visit(service, "ada");
  github.revoke("ada");
  github.before = async (call) => {
    if (!CHECK.test(call)) return;
    github.before = null;
    const donation = { github_user_id: "583231", github_username: "ada", token: github.grantToken("ada") };
    assert.equal((await vault.deposit(donation)).isUpdate, true);
  };
  const { found } = await find(service, ["verify", "--all"]);
  assert.deepEqual([found.unknown, found.removed], [1, 0]);
  assert.deepEqual([await donors(service), await suspects(service)], [["ada"], []]);
});

Deno.test("verify asks about a personal token by itself, since the app would be told that there is none", async () => {
  await using service = await temporaryService();
  const { github, vault } = service;
  const tokens = ["ada", "bob"].map((login) => github.foreignToken(login));
  for (const [index, token] of tokens.entries()) {
    await vault.deposit({ github_user_id: String(index + 1), github_username: ["ada", "bob"][index]!, token });
  }
  github.revokeToken(tokens[1]!);
  await suspect(service, "ada", "bob");
  const { found } = await find(service, ["verify"]);
  assert.deepEqual([found.valid, found.unknown], [1, 1]);
  assert.deepEqual(await donors(service), ["ada"]);
  assert.equal(github.count(/^GET \/user$/), 2);
});

Deno.test("verify ends, and changes nothing, when GitHub does not answer clearly", async () => {
  for (const answer of ["nothing", 503, 429] as const) {
    await using service = await temporaryService();
    await lend(service, Array.from({ length: 25 }, (_, n) => `u${n}`));
    await suspect(service, "u1");
    const before = await everything(service);
    service.github.down = { answer };
    const { code, found } = await find(service, ["verify", "--all"]);
    assert.deepEqual([code, found.stopped, found.incident, found.unclear], [1, true, false, 11]);
    assert.deepEqual(await everything(service), before);
  }
});

Deno.test("verify --all goes on where it ended within a day, and then begins anew", async () => {
  await using service = await temporaryService();
  const { github, clock } = service;
  await lend(service, Array.from({ length: 130 }, (_, n) => `u${n}`));
  github.before = () => void (github.down = github.count(CHECK) > 110 ? { answer: 503 } : null);
  const first = await find(service, ["verify", "--all"]);
  assert.deepEqual([first.code, first.found.stopped, first.found.valid], [1, true, 110]);
  github.before = github.down = null;
  const second = await find(service, ["verify", "--all"]);
  assert.deepEqual([second.code, second.found.valid], [0, 30], "a page is not asked about again");
  assert.equal((await find(service, ["verify", "--all"])).found.valid, 130, "what has come to its end begins anew");

  github.before = () => void (github.down = github.count(CHECK) > 380 ? { answer: 503 } : null);
  assert.equal((await find(service, ["verify", "--all"])).found.stopped, true);
  github.before = github.down = null;
  clock.advance(86_400_001);
  assert.equal((await find(service, ["verify", "--all"])).found.valid, 130, "what is of the day before yesterday too");
});

Deno.test("verify does not touch a row that no key opens", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd", "dee"]);
  await suspect(service, "cyd", "dee");
  await service.database.look("UPDATE token_pool_tokens SET token = token || 'x' WHERE github_username = 'dee'");
  const { code, found } = await find(service, ["verify"]);
  assert.deepEqual([code, found.unreadable, found.restored], [0, 1, 1]);
  assert.deepEqual(await suspects(service), ["dee"]);
});

Deno.test("verify with a wrong key asks nobody and changes nothing", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd"]);
  const before = await everything(service);
  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  const { code, out, err } = await operate(service, ["verify", "--all"]);
  assert.deepEqual([code, out], [1, ""]);
  assert.match(err, /is not the key that this pool's tokens are sealed with/);
  assert.equal(service.github.requests.length, 0);
  assert.deepEqual(await everything(service), before);
});
