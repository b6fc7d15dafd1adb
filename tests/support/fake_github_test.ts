/**
 * The fake GitHub itself: a fake that is laxer than GitHub would let everything pass that is tested with it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { FakeGitHub, type FakeGitHubOptions } from "./fake_github.ts";
import { Clock } from "./fixtures.ts";

const VERIFIER = "v".repeat(43);
const CHALLENGE = createHash("sha256").update(VERIFIER).digest("base64url");
const UA = { "user-agent": "test" };

function fake(options: FakeGitHubOptions = {}): { github: FakeGitHub; clock: Clock } {
  const clock = new Clock();
  const github = new FakeGitHub({ now: clock.now, ...options });
  github.addUser("ada");
  github.addUser("bob");
  return { github, clock };
}

function authorizeUrl({ clientId, callbackUrl }: FakeGitHub, changes: Record<string, string> = {}): string {
  const parameters = {
    client_id: clientId,
    redirect_uri: callbackUrl,
    state: "some-state",
    code_challenge: CHALLENGE,
    code_challenge_method: "S256",
    ...changes,
  };
  return `https://github.com/login/oauth/authorize?${new URLSearchParams(parameters)}`;
}

function codeOf(github: FakeGitHub, login = "ada"): string {
  return new URL(github.authorize(authorizeUrl(github), login)).searchParams.get("code")!;
}

async function exchange(github: FakeGitHub, changes: Record<string, string>): Promise<Record<string, unknown>> {
  const response = await github.fetch("https://github.com/login/oauth/access_token", {
    method: "POST",
    headers: { accept: "application/json" },
    body: new URLSearchParams({ client_id: github.clientId, client_secret: github.clientSecret, ...changes }),
  });
  assert.equal(response.status, 200, "also with an error");
  return await response.json();
}

function ask(github: FakeGitHub, path: string, token: string, headers: Record<string, string> = {}) {
  const authorization: Record<string, string> = token === "" ? {} : { authorization: `Bearer ${token}` };
  return github.fetch(`https://api.github.com${path}`, { headers: { ...UA, ...authorization, ...headers } });
}

function asApp(github: FakeGitHub, method: string, what: string, token: string, secret = github.clientSecret) {
  return github.fetch(`https://api.github.com/applications/${github.clientId}/${what}`, {
    method,
    headers: { ...UA, authorization: `Basic ${btoa(`${github.clientId}:${secret}`)}` },
    body: JSON.stringify({ access_token: token }),
  });
}

Deno.test("authorize() sends back with a code and the state, or with GitHub's error", () => {
  const { github } = fake();
  const granted = new URL(github.authorize(authorizeUrl(github), "ada"));
  assert.equal(granted.origin + granted.pathname, "https://pool.example/callback");
  assert.deepEqual([...granted.searchParams.keys()], ["code", "state"]);
  const denied = new URL(github.authorize(authorizeUrl(github), "ada", { deny: true })).searchParams;
  assert.deepEqual([denied.get("error"), denied.get("state"), denied.has("code")], [
    "access_denied",
    "some-state",
    false,
  ]);
});

Deno.test("authorize() refuses what GitHub refuses", () => {
  const { github } = fake();
  const attempt = (changes: Record<string, string>) => github.authorize(authorizeUrl(github, changes), "ada");
  assert.throws(() => attempt({ client_id: "another" }), /no such app/);
  assert.throws(() => attempt({ code_challenge_method: "plain" }), /S256/);
  assert.throws(() => attempt({ code_challenge: CHALLENGE.slice(1) }), /43 characters/);
  for (
    const redirect_uri of ["https://evil.example/callback", "https://pool.example/", "https://pool.example:8/callback"]
  ) {
    const url = new URL(attempt({ redirect_uri }));
    assert.equal(url.origin, "https://pool.example", "only ever the registered address");
    assert.equal(url.searchParams.get("error"), "redirect_uri_mismatch");
  }
  assert.throws(() => attempt({ response_type: "code" }), /response_type/);
  assert.throws(() => github.assertNoSurprises(), /response_type/);
});

Deno.test("a code works once, for ten minutes, with its verifier and its address", async () => {
  const { github, clock } = fake();
  const error = async (changes: Record<string, string>) => (await exchange(github, changes))["error"];
  const right = { code_verifier: VERIFIER, redirect_uri: github.callbackUrl };

  const code = codeOf(github);
  assert.equal(await error({ code, ...right, client_secret: "another" }), "incorrect_client_credentials");
  assert.equal(await error({ code, ...right, redirect_uri: "https://pool.example/x" }), "redirect_uri_mismatch");
  const granted = await exchange(github, { code, ...right });
  assert.deepEqual(Object.keys(granted), ["access_token", "scope", "token_type"]);
  assert.equal(await error({ code, ...right }), "bad_verification_code");
  assert.equal(await error({ code: codeOf(github), ...right, code_verifier: "w".repeat(43) }), "bad_verification_code");
  assert.equal(await error({ code: codeOf(github), redirect_uri: github.callbackUrl }), "bad_verification_code");
  const late = codeOf(github);
  clock.advance(600_000);
  assert.equal(await error({ code: late, ...right }), "bad_verification_code");
});

Deno.test("an earlier grant's scopes come back unasked, separated by commas, until the grant is gone", async () => {
  const { github } = fake();
  github.authorize(authorizeUrl(github), "ada", { scope: "repo gist" });
  const scopes = async () => {
    const granted = await exchange(github, { code: codeOf(github), code_verifier: VERIFIER });
    const answer = await ask(github, "/user", String(granted["access_token"]));
    await answer.body?.cancel();
    return [granted["scope"], answer.headers.get("x-oauth-scopes")];
  };
  assert.deepEqual(await scopes(), ["repo,gist", "repo, gist"]);
  github.revoke("ada");
  assert.deepEqual(await scopes(), ["", ""]);
});

Deno.test("a refresh kills the old refresh token and the old access token at once", async () => {
  const { github, clock } = fake({ expiringTokens: true });
  const first = await exchange(github, { code: codeOf(github), code_verifier: VERIFIER });
  const old = String(first["access_token"]);
  const refresh = { grant_type: "refresh_token", refresh_token: String(first["refresh_token"]) };
  const second = await exchange(github, refresh);
  assert.ok(!github.isLive(old) && github.isLive(String(second["access_token"])));
  assert.equal((await exchange(github, refresh))["error"], "bad_refresh_token");
  clock.advance(28_800_000);
  assert.ok(!github.isLive(String(second["access_token"])), "eight hours");
  const third = await exchange(github, { ...refresh, refresh_token: String(second["refresh_token"]) });
  assert.ok(github.isLive(String(third["access_token"])), "a refresh token outlives its access token");
});

Deno.test("limits are per user and resource, in windows that begin with the first call", async () => {
  const { github, clock } = fake();
  const [one, two, other] = [github.grantToken("ada"), github.grantToken("ada"), github.grantToken("bob")];
  const numbers = async (path: string, token: string) => {
    const { headers, body } = await ask(github, path, token);
    await body?.cancel();
    return ["limit", "remaining", "used", "reset", "resource"].map((name) => headers.get(`x-ratelimit-${name}`));
  };
  clock.advance(5000);
  const reset = String(clock.seconds + 3600);
  assert.deepEqual(await numbers("/repos/a/b", one), ["5000", "4999", "1", reset, "core"]);
  clock.advance(60_000);
  assert.deepEqual(await numbers("/repos/a/b", two), ["5000", "4998", "2", reset, "core"]);
  assert.deepEqual((await numbers("/repos/a/b", other))[1], "4999");
  assert.deepEqual((await numbers("/search/issues", one)).slice(0, 2), ["30", "29"]);
  clock.time = Number(reset) * 1000;
  assert.deepEqual((await numbers("/repos/a/b", one)).slice(1, 3), ["4999", "1"]);

  github.drain("ada", 1);
  assert.equal((await ask(github, "/repos/a/b", one)).status, 200);
  const exceeded = await ask(github, "/repos/a/b", two);
  assert.deepEqual([exceeded.status, exceeded.headers.get("x-ratelimit-remaining")], [403, "0"]);
  assert.match(await exceeded.text(), /API rate limit exceeded for user ID/);
});

Deno.test("a 304 and /rate_limit cost nothing", async () => {
  const { github } = fake();
  const token = github.grantToken("ada");
  const first = await ask(github, "/repos/a/b", token);
  const again = await ask(github, "/repos/a/b", token, { "if-none-match": first.headers.get("etag")! });
  assert.equal(again.status, 304);
  await ask(github, "/rate_limit", token);
  assert.equal(github.used("ada"), 1);
});

Deno.test("an unknown token gets 401 with the numbers of an anonymous caller", async () => {
  const { github } = fake();
  const answer = await ask(github, "/user", "gho_unknown");
  assert.equal(answer.status, 401);
  assert.equal(answer.headers.get("x-ratelimit-limit"), "60");
  assert.equal(answer.headers.has("x-oauth-scopes"), false);
  assert.equal((await answer.json()).message, "Bad credentials");
});

Deno.test("the app checks and deletes tokens and grants, with its own secret only", async () => {
  const { github } = fake();
  const [one, two] = [github.grantToken("ada"), github.grantToken("ada")];
  const status = async (...call: [string, string, string, string?]) => (await asApp(github, ...call)).status;
  assert.equal(await status("POST", "token", one, "another"), 401);
  assert.equal(await status("POST", "token", one), 200);
  assert.equal(await status("POST", "token", ""), 422);
  assert.equal(await status("DELETE", "token", one), 204);
  assert.equal(await status("DELETE", "token", one), 404);
  assert.equal(await status("POST", "token", one), 404);
  assert.ok(github.isLive(two));
  const three = github.grantToken("ada");
  assert.equal(await status("DELETE", "grant", three), 204);
  assert.deepEqual(github.liveTokens("ada"), []);
  assert.equal(github.used("ada"), 0, "on the app's own limit");
});

Deno.test("what is not modelled is a surprise that is remembered", async () => {
  const { github } = fake();
  await assert.rejects(ask(github, "/emojis", ""), /GET \/emojis/);
  await assert.rejects(github.fetch("https://elsewhere.example/user"), /elsewhere/);
  await assert.rejects(github.fetch("https://github.com/user", { headers: UA }), /GET \/user/, "not on that host");
  await assert.rejects(asApp(github, "PATCH", "token", "x"), /PATCH/);
  assert.throws(() => github.assertNoSurprises(), /emojis.*elsewhere.*user.*PATCH/);
});

Deno.test("who does not say who is asking is refused", async () => {
  const { github } = fake();
  const response = await github.fetch("https://api.github.com/users/ada");
  assert.equal(response.status, 403);
  assert.match(await response.text(), /User-Agent/);
});

Deno.test("handler() serves both hosts on one address", async () => {
  const { github } = fake();
  github.signedIn = "ada";
  const away = await github.handler(new Request(authorizeUrl(github).replace("github.com", "127.0.0.1")));
  assert.equal(away.status, 302);
  assert.match(away.headers.get("location")!, /^https:\/\/pool\.example\/callback\?code=/);
  const answer = await github.handler(new Request("http://127.0.0.1:1234/users/ada", { headers: UA }));
  assert.equal(answer.status, 200);
  github.assertNoSurprises();
});

Deno.test("the switches take effect", async () => {
  const { github } = fake();
  const token = github.grantToken("ada");
  const status = async () => (await ask(github, "/user", token)).status;
  github.down = { answer: 502 };
  assert.equal(await status(), 502);
  github.down = { answer: "nothing", only: /^GET \/user$/ };
  await assert.rejects(status(), TypeError);
  assert.equal((await ask(github, "/users/ada", token)).status, 200);
  github.down = null;
  github.outage401 = true;
  assert.equal(await status(), 401);
  github.outage401 = false;
  assert.equal(await status(), 200);
});

/** The token of a grant with a refresh token. */
async function expiringGrant(github: FakeGitHub): Promise<{ token: string; refreshToken: string }> {
  const granted = await exchange(github, { code: codeOf(github), code_verifier: VERIFIER });
  return { token: String(granted["access_token"]), refreshToken: String(granted["refresh_token"]) };
}

function revokeAll(github: FakeGitHub, body: unknown, headers: Record<string, string> = {}) {
  return github.fetch("https://api.github.com/credentials/revoke", {
    method: "POST",
    headers: { ...UA, ...headers },
    body: JSON.stringify(body),
  });
}

Deno.test("bulk revocation kills tokens of any kind, and those of a refresh token, whether or not it knows them all", async () => {
  const { github } = fake({ expiringTokens: true });
  const [granted, other] = [await expiringGrant(github), await expiringGrant(github)];
  const personal = github.foreignToken("bob");
  const credentials = [granted.token, other.refreshToken, personal, "gho_unknown"];
  assert.equal((await revokeAll(github, { credentials })).status, 202);
  assert.deepEqual([granted.token, other.token, personal].map((token) => github.isLive(token)), [false, false, false]);
  assert.equal(
    (await exchange(github, { grant_type: "refresh_token", refresh_token: granted.refreshToken }))["error"],
    "bad_refresh_token",
  );
});

Deno.test("bulk revocation is for nobody who says who they are, for at most 1,000, of known forms, 60 times an hour", async () => {
  const { github, clock } = fake();
  const token = github.grantToken("ada");
  const status = async (body: unknown, headers = {}) => (await revokeAll(github, body, headers)).status;
  assert.equal(await status({ credentials: [token] }, { authorization: `Bearer ${token}` }), 403);
  const many = Array.from({ length: 1001 }, (_, n) => `gho_${n}`);
  for (const credentials of [[], "gho_1", ["v1.x"], [1], many]) assert.equal(await status({ credentials }), 422);
  assert.equal(await status({ credentials: [token], more: true }), 422);
  assert.ok(github.isLive(token));
  for (let n = 0; n < 60; n++) assert.equal(await status({ credentials: many.slice(1) }), 202);
  assert.equal(await status({ credentials: [token] }), 422);
  clock.advance(3_600_000);
  assert.equal(await status({ credentials: [token] }), 202);
  assert.equal((await revokeAll(fake({ isEnterprise: true }).github, { credentials: [token] })).status, 404);
});

Deno.test("the app is told that there is no token that is not the app's", async () => {
  const { github } = fake();
  for (const kind of ["personal", "of another app"] as const) {
    const token = github.foreignToken("ada", { kind, scopes: ["gist"] });
    for (const [method, what] of [["POST", "token"], ["DELETE", "token"], ["DELETE", "grant"]] as const) {
      assert.equal((await asApp(github, method, what, token)).status, 404);
    }
    const response = await ask(github, "/user", token);
    assert.deepEqual([response.status, response.headers.get("x-oauth-scopes")], [200, "gist"]);
    assert.equal(Date.parse(response.headers.get("date")!), new Clock().time);
    github.revoke("ada");
    assert.ok(github.isLive(token), "it is not of the grant");
  }
});
