/** A token of the operator's own: what is asked of it before it is stored, and what is refused. */

import assert from "node:assert/strict";
import { donors, everything, find, operate } from "./support/operator.ts";
import { report, temporaryService, upkeep } from "./support/service.ts";

Deno.test("add stores a token from standard input, under the name that GitHub gives, with the reserve that is asked", async () => {
  await using service = await temporaryService();
  const { github, database } = service;
  const { code, found } = await find(service, ["add", "--reserve", "0.5"], { input: github.grantToken("ada") });
  const { id } = github.addUser("ada2");
  assert.equal(code, 0);
  assert.deepEqual(found, { login: "ada", github_user_id: String(id - 2), revocable: true, id: 1, updated: false });
  assert.deepEqual(
    await database.look("SELECT github_username, reserve, substr(token, 1, 3) AS v FROM token_pool_tokens"),
    [
      { github_username: "ada", reserve: 0.5, v: "v1." },
    ],
  );
  assert.equal((await service.pool.getToken())?.github_username, "ada");
});

Deno.test("add takes a personal token without scopes, and says that the pool cannot revoke it", async () => {
  await using service = await temporaryService();
  const { code, found } = await find(service, ["add"], { input: service.github.foreignToken("bob") });
  assert.deepEqual([code, found.login, found.revocable], [0, "bob", false]);
});

Deno.test("add refuses what is not a token without scopes, and stores nothing", async () => {
  await using service = await temporaryService();
  const { github } = service;
  const before = async () => await service.vault.unlock().then(() => everything(service));
  const empty = await before();
  const dead = github.grantToken("ada");
  github.revokeToken(dead);
  const cases: [what: string, input: string, said: RegExp][] = [
    ["nothing", "", /is not a token/],
    ["words", "not a token", /is not a token/],
    ["a dead token", dead, /does not know this token/],
    ["scopes", github.grantToken("ada", ["repo"]), /has scopes/],
    ["a personal token with scopes", github.foreignToken("ada", { scopes: ["gist"] }), /has scopes/],
    ["another app's", github.foreignToken("ada", { kind: "of another app" }), /another OAuth App/],
  ];
  for (const [what, input, said] of cases) {
    const { code, out, err } = await operate(service, ["add"], { input });
    assert.deepEqual([code, out], [1, ""], what);
    assert.match(err, said, what);
  }
  const silent: typeof fetch = async (input, init) => {
    const response = await github.fetch(input, init);
    response.headers.delete("x-oauth-scopes");
    return response;
  };
  const { code, err } = await operate(service, ["add"], {
    input: github.grantToken("ada"),
    options: { fetch: silent },
  });
  assert.equal(code, 1);
  assert.match(err, /GitHub does not say what this token may do/);
  assert.deepEqual(await everything(service), empty);
});

Deno.test("add refuses a reserve that is not a share", async () => {
  await using service = await temporaryService();
  for (const reserve of ["1", "0.96", "half", "1e-1"]) {
    const { code, err } = await operate(service, ["add", "--reserve", reserve], {
      input: service.github.grantToken("ada"),
    });
    assert.equal(code, 1);
    assert.match(err, /must be between 0 and 0.95/);
  }
  assert.equal(service.github.requests.length, 0);
});

Deno.test("add does not take a token from the command line, and does not repeat it", async () => {
  await using service = await temporaryService();
  const token = service.github.grantToken("ada");
  for (
    const args of [["add", token], ["add", "--token", token], ["add", `--token=${token}`], [token], [`--${token}`]]
  ) {
    assert.equal((await operate(service, args)).code, 2);
  }
});

Deno.test("add --dry-run asks GitHub and stores nothing", async () => {
  await using service = await temporaryService();
  await service.vault.unlock();
  const before = await everything(service);
  const { code, found } = await find(service, ["add", "--dry-run"], { input: service.github.grantToken("ada") });
  assert.deepEqual([code, found.login, found.id], [0, "ada", null]);
  assert.deepEqual(await everything(service), before);
});

Deno.test("add revokes the token that it replaces, and never the one that it adds", async () => {
  await using service = await temporaryService();
  const { github, clock } = service;
  const [first, second] = [github.grantToken("ada"), github.grantToken("ada")];
  await find(service, ["add"], { input: first });
  assert.equal((await find(service, ["add"], { input: first })).found.updated, true);
  clock.advance(60_001);
  assert.deepEqual(await upkeep(service), report(), "the same token again is nothing to revoke");
  await find(service, ["add"], { input: second });
  clock.advance(60_001);
  assert.deepEqual(await upkeep(service), report({ revoked: 1 }));
  assert.deepEqual([github.isLive(first), github.isLive(second)], [false, true]);
  assert.deepEqual(await donors(service), ["ada"]);
});
