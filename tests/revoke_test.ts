/** Taking donations out at the operator's word: one by name, and in an emergency all of them. */

import assert from "node:assert/strict";
import { OTHER_KEY } from "./support/fixtures.ts";
import { counter, donors, everything, find, lend, operate, operateSealed } from "./support/operator.ts";
import { report, type Service, temporaryService, upkeep, visit } from "./support/service.ts";

const BULK = /^POST \/credentials\/revoke$/;
const ONE = /^DELETE \/applications\/\w+\/token$/;
const GRANT = /^DELETE \/applications\/\w+\/grant$/;

const GONE = ["remove", "cyd", "--reason", "asked by mail"];

Deno.test("remove deletes the one that is named by login, user id or #id, kills its grant, and counts why", async () => {
  for (const who of ["cyd", "CYD", "9001", "#1"]) {
    await using service = await temporaryService();
    const { github } = service;
    github.addUser("someone", { id: 9000 });
    const cyd = github.addUser("cyd", { id: 9001 });
    const token = github.grantToken("cyd");
    await service.vault.deposit({ github_user_id: String(cyd.id), github_username: "cyd", token });
    const { dee } = await lend(service, ["dee"]);
    const { code, found } = await find(service, ["remove", who, "--reason", "asked by mail"]);
    assert.equal(code, 0);
    assert.deepEqual(found, {
      ...{ id: 1, login: "cyd", github_user_id: "9001", reason: "asked by mail" },
      ...{ removed: true, revocation: "done" },
    });
    assert.deepEqual(await donors(service), ["dee"]);
    assert.deepEqual([github.isLive(token), github.isLive(dee!)], [false, true]);
    assert.equal(await counter(service, "removed.by_operator"), 1);
    assert.equal(await counter(service, "because.asked by mail"), 1);
    assert.equal(await service.database.count("revocations"), 0);
    assert.equal(github.count(GRANT), 1);
  }
});

Deno.test("remove keeps a backup from bringing the donation back, but not a donation that is made after it", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd", "dee"]);
  const { out: backup } = await operateSealed(service, ["export"]);
  await find(service, GONE);
  service.clock.advance(1000);
  const { code, found } = await find(service, ["import"], { input: backup + "\n" });
  assert.deepEqual([code, found.donations], [0, { added: 0, replaced: 0, kept: 1, withdrawn: 1, unreadable: 0 }]);
  assert.deepEqual(await donors(service), ["dee"]);
  const token = service.github.grantToken("cyd");
  const { id } = (await service.client.user(token))!;
  await service.vault.deposit({ github_user_id: String(id), github_username: "cyd", token });
  const { out: later } = await operateSealed(service, ["export"]);
  await find(service, ["import"], { input: later + "\n" });
  assert.deepEqual(await donors(service), ["dee", "cyd"]);
});

Deno.test("remove refuses a name that nobody or more than one has, does not repeat it, and changes nothing", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd"]);
  await service.vault.deposit({
    github_user_id: "77",
    github_username: "eve",
    token: service.github.grantToken("ada"),
  });
  await service.vault.deposit({ github_user_id: "78", github_username: "77", token: service.github.grantToken("bob") });
  const before = await everything(service);
  const cases: [who: string, said: RegExp][] = [
    ["nobody", /no donation of that name: `list` shows/],
    ["#99", /no donation of that name/],
    ["c%", /no donation of that name/],
    ["77", /may mean #2 \(eve, user 77\) or #3 \(77, user 78\): name it by its #id/],
    [service.github.grantToken("cyd"), /no donation of that name/],
  ];
  for (const [who, said] of cases) {
    const { code, out, err } = await operate(service, ["remove", who, "--reason", "x"]);
    assert.deepEqual([code, out], [1, ""]);
    assert.match(err, said);
  }
  assert.deepEqual(await everything(service), before);
  assert.equal((await operate(service, ["remove", "#2", "--reason", "x"])).code, 0);
  assert.deepEqual(await donors(service), ["cyd", "77"]);
});

Deno.test("remove wants a reason that can be shown", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd"]);
  const before = await everything(service);
  for (const args of [["remove", "cyd"], ["remove", "cyd", "--reason"], ["remove", "cyd", "--reason", "--dry-run"]]) {
    const { code, err } = await operate(service, args);
    assert.equal(code, 2);
    assert.match(err, /needs (?:a value: )?--reason <text>/);
  }
  for (const reason of [service.github.grantToken("cyd"), OTHER_KEY, "two\nlines", "x".repeat(81)]) {
    const { code, err } = await operate(service, ["remove", "cyd", "--reason", reason]);
    assert.equal(code, 1);
    assert.match(err, /--reason must be 1 to 80/);
  }
  assert.deepEqual(await everything(service), before);
  assert.equal(service.github.requests.length, 0);
});

Deno.test("remove leaves the grant to upkeep when GitHub is away", async () => {
  for (const answer of ["nothing", 503] as const) {
    await using service = await temporaryService();
    const { cyd } = await lend(service, ["cyd"]);
    service.github.down = { answer };
    const { code, found } = await find(service, GONE);
    assert.deepEqual([code, found.removed, found.revocation], [0, true, "queued"]);
    assert.deepEqual(await donors(service), []);
    service.github.down = null;
    assert.ok(service.github.isLive(cyd!));
    assert.deepEqual(await upkeep(service), report({ revoked: 1 }));
    assert.ok(!service.github.isLive(cyd!));
  }
});

Deno.test("remove asks GitHub while the row is still there, so that a run that is cut off can be repeated", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd"]);
  const rows: number[] = [];
  service.github.before = async () => void rows.push(await service.database.count("tokens"));
  await find(service, GONE);
  assert.deepEqual(rows, [1]);
});

Deno.test("remove deletes what does not open, and what only its owner can revoke, and says so", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd", "dee"]);
  await service.database.look("UPDATE token_pool_tokens SET token = token || 'x' WHERE github_username = 'cyd'");
  const token = service.github.foreignToken("ada");
  await service.vault.deposit({ github_user_id: "1", github_username: "ada", token });
  assert.equal((await find(service, GONE)).found.revocation, "queued");
  assert.equal((await find(service, ["remove", "ada", "--reason", "x"])).found.revocation, "impossible");
  assert.deepEqual(await donors(service), ["dee"]);
  assert.equal(service.github.requests.length, 0);
});

Deno.test("remove does not delete what its donor gives at that very moment", async () => {
  await using service = await temporaryService();
  const { github } = service;
  await visit(service, "ada");
  let isFirst = true;
  github.before = async (call) => {
    if (!GRANT.test(call) || !isFirst) return;
    isFirst = false;
    await visit(service, "ada");
  };
  const { found } = await find(service, ["remove", "ada", "--reason", "x"]);
  assert.equal(found.removed, true);
  assert.equal(github.count(GRANT), 2, "it was found again, with its new token");
  assert.deepEqual([await donors(service), github.liveTokens("ada")], [[], []]);
});

Deno.test("remove and revoke-all with --dry-run change nothing", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd", "dee"]);
  const before = await everything(service);
  const removal = await find(service, [...GONE, "--dry-run"]);
  assert.deepEqual([removal.code, removal.found.removed, removal.found.revocation], [0, false, null]);
  const all = await find(service, ["revoke-all", "--dry-run"]);
  assert.deepEqual([all.code, all.found], [0, { donations: 2, revoked: 0, removed: 0, left: 0 }]);
  assert.equal((await find(service, ["revoke-all", "--dry-run", "--yes", "--one-by-one"])).code, 0);
  assert.deepEqual(await everything(service), before);
  assert.equal(service.github.requests.length, 0);
});

Deno.test("revoke-all asks for the number of donations, and does nothing without it", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd", "dee"]);
  const before = await everything(service);
  for (const input of ["", "y", "yes", "1", "3", "02"]) {
    const { code, found, err } = await find(service, ["revoke-all"], { input });
    assert.deepEqual([code, found.removed], [3, 0]);
    assert.match(err, /tokens of 2 donations.*Type the number of donations to go on: 2\nNothing was changed/s);
  }
  assert.deepEqual(await everything(service), before);
  assert.equal(service.github.requests.length, 0);
  assert.equal((await find(service, ["revoke-all"], { input: "2" })).code, 0);
  assert.deepEqual(await donors(service), []);
});

Deno.test("revoke-all kills every token and refresh token, also those still to be revoked, by one call", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { github, database } = service;
  await visit(service, "ada");
  await visit(service, "bob");
  const { cyd } = await lend(service, ["cyd"]);
  const personal = github.foreignToken("cyd");
  await service.vault.deposit({ github_user_id: "5", github_username: "dee", token: personal });
  github.down = { answer: 503 };
  await find(service, ["remove", "cyd", "--reason", "x"]);
  github.down = null;
  assert.equal(await database.count("revocations"), 1);

  const { code, found } = await find(service, ["revoke-all", "--yes"]);
  assert.deepEqual([code, found], [0, { donations: 3, revoked: 6, removed: 3, left: 0 }]);
  assert.equal(github.count(BULK), 2, "one for the donations, one for the rest");
  assert.deepEqual([...github.liveTokens("ada"), ...github.liveTokens("bob")], []);
  assert.deepEqual([github.isLive(cyd!), github.isLive(personal)], [false, false]);
  assert.deepEqual([await database.count("tokens"), await database.count("revocations")], [0, 0]);
  assert.equal(await counter(service, "removed.revoke_all"), 3);
  assert.equal(await counter(service, "removed.by_operator"), 1);
});

Deno.test("revoke-all sends no more than 1,000 credentials at a call", async () => {
  await using service = await temporaryService();
  const { store, keyring } = await service.vault.unlockToSeal();
  for (let n = 0; n < 501; n++) {
    const githubUserId = String(n);
    await store.donate({
      ...{ githubUserId, githubUsername: null, expiresAt: null, reserve: 0.25 },
      token: await keyring.seal(`gho_${n}`, { column: "token", githubUserId }),
      refreshToken: await keyring.seal(`ghr_${n}`, { column: "refresh_token", githubUserId }),
    }, { revokeReplaced: false });
  }
  const { code, found, err } = await find(service, ["revoke-all", "--yes"]);
  assert.deepEqual([code, found], [0, { donations: 501, revoked: 1002, removed: 501, left: 0 }]);
  assert.equal(service.github.count(BULK), 2);
  assert.equal(err, "500 of 501, 99 %\n501 of 501, 100 %");
});

Deno.test("revoke-all asks GitHub while the rows are still there", async () => {
  for (const more of [[], ["--one-by-one"]]) {
    await using service = await temporaryService();
    const tokens = await lend(service, ["cyd", "dee"]);
    const strays: boolean[] = [];
    service.github.before = async () => {
      const rows = await service.database.count("tokens");
      strays.push(Object.values(tokens).filter((token) => service.github.isLive(token)).length > rows);
    };
    await find(service, ["revoke-all", "--yes", ...more]);
    assert.ok(strays.length > 0 && !strays.includes(true), "no token is alive that is not stored");
  }
});

Deno.test("revoke-all goes one by one when told to, on GitHub Enterprise, and when the list is refused", async () => {
  const ways: { name: string; prepare: (service: Service) => void; more?: string[]; bulk: number }[] = [
    { name: "told to", prepare: () => {}, more: ["--one-by-one"], bulk: 0 },
    {
      name: "data residency",
      prepare: ({ variables }) => variables["GITHUB_API_URL"] = "https://api.x.ghe.com",
      bulk: 0,
    },
    { name: "no such call", prepare: ({ github }) => github.down = { answer: 404, only: BULK }, bulk: 1 },
    { name: "refused", prepare: ({ github }) => github.down = { answer: 422, only: BULK }, bulk: 1 },
  ];
  for (const { name, prepare, more = [], bulk } of ways) {
    const apiUrl = name === "data residency" ? { apiUrl: "https://api.x.ghe.com" } : {};
    await using service = await temporaryService({ github: apiUrl });
    const tokens = await lend(service, ["cyd", "dee"]);
    prepare(service);
    const { code, found } = await find(service, ["revoke-all", "--yes", ...more]);
    assert.deepEqual([code, found], [0, { donations: 2, revoked: 2, removed: 2, left: 0 }], name);
    assert.deepEqual([service.github.count(BULK), service.github.count(ONE)], [bulk, 2], name);
    assert.ok(!Object.values(tokens).some((token) => service.github.isLive(token)), name);
  }
});

Deno.test("revoke-all one by one uses up the refresh token of what has expired, which GitHub knows no more", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  await visit(service, "ada");
  await visit(service, "bob");
  service.clock.advance(28_800_001);
  const { code, found } = await find(service, ["revoke-all", "--yes", "--one-by-one"]);
  assert.deepEqual([code, found.removed, found.left], [0, 2, 0]);
  assert.equal(service.github.count(/access_token$/), 4, "two donations, two refreshed");
  assert.deepEqual([...service.github.liveTokens("ada"), ...service.github.liveTokens("bob")], []);
});

Deno.test("revoke-all also revokes what donors give meanwhile", async () => {
  for (const more of [[], ["--one-by-one"]]) {
    await using service = await temporaryService();
    const { github } = service;
    await visit(service, "ada");
    github.before = async (call) => {
      if (!BULK.test(call) && !ONE.test(call)) return;
      github.before = null;
      await visit(service, "ada");
      await visit(service, "bob");
    };
    const { code, found } = await find(service, ["revoke-all", "--yes", ...more]);
    assert.deepEqual([code, found.donations, found.left], [0, 1, 0]);
    assert.deepEqual([await donors(service), github.liveTokens("ada"), github.liveTokens("bob")], [[], [], []]);
  }
});

Deno.test("revoke-all leaves what it could not revoke, and says so by its exit code", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd", "dee"]);
  await service.vault.deposit({
    github_user_id: "5",
    github_username: "eve",
    token: service.github.foreignToken("ada"),
  });
  await service.database.look("UPDATE token_pool_tokens SET token = token || 'x' WHERE github_username = 'cyd'");
  const { code, found, err } = await find(service, ["revoke-all", "--yes", "--one-by-one"]);
  assert.deepEqual([code, found], [1, { donations: 3, revoked: 1, removed: 1, left: 2 }]);
  assert.match(err, /2 could not be revoked/);
  assert.deepEqual(await donors(service), ["cyd", "eve"]);
});

Deno.test("revoke-all that GitHub cuts short goes on when it is run again", async () => {
  for (const answer of ["nothing", 500, 429] as const) {
    await using service = await temporaryService();
    const { cyd } = await lend(service, ["cyd"]);
    service.github.down = { answer };
    const { code, out, err } = await operate(service, ["revoke-all", "--yes"]);
    assert.deepEqual([code, out], [1, ""]);
    assert.match(err, /GitHub/);
    assert.deepEqual(await donors(service), ["cyd"]);
    service.github.down = null;
    assert.equal((await find(service, ["revoke-all", "--yes"])).code, 0);
    assert.ok(!service.github.isLive(cyd!));
  }
});

Deno.test("remove and revoke-all with a wrong key ask nobody and change nothing", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd"]);
  const before = await everything(service);
  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  for (const args of [GONE, ["revoke-all", "--yes"]]) {
    const { code, err } = await operate(service, args);
    assert.equal(code, 1);
    assert.match(err, /is not the key that this pool's tokens are sealed with/);
  }
  assert.equal(service.github.requests.length, 0);
  assert.deepEqual(await everything(service), before);
});
