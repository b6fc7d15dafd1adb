/** The front must be as strict as GitHub, or the tests before it prove nothing. */

import assert from "node:assert/strict";
import { type GitHubFront, startGitHub } from "./github_front.ts";

const [CLIENT_ID, CLIENT_SECRET, CALLBACK] = [
  "front-test",
  "secret of the front's test",
  "http://localhost:1/callback",
];
const VERIFIER = "a-verifier-of-more-than-forty-three-characters";

function start(): Promise<GitHubFront> {
  return startGitHub({
    users: ["ada", "bob"],
    clientId: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    redirectUris: [CALLBACK],
  });
}

async function challengeOf(verifier: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  return new Uint8Array(digest).toBase64({ alphabet: "base64url", omitPadding: true });
}

/** Goes through the web flow, with PKCE; answers what the exchange answers. */
async function exchange(
  github: GitHubFront,
  login: string,
  verifier: string = VERIFIER,
): Promise<Record<string, string>> {
  const query = new URLSearchParams({
    client_id: CLIENT_ID,
    redirect_uri: CALLBACK,
    state: crypto.randomUUID(),
    code_challenge: await challengeOf(VERIFIER),
    code_challenge_method: "S256",
  });
  const back = new URL(await github.authorize(`${github.url}/login/oauth/authorize?${query}`, login));
  assert.equal(back.searchParams.get("state"), query.get("state"));
  const code = back.searchParams.get("code")!;
  const body = new URLSearchParams({
    client_id: CLIENT_ID,
    client_secret: CLIENT_SECRET,
    code,
    code_verifier: verifier,
  });
  const headers = { accept: "application/json" };
  return await (await fetch(`${github.url}/login/oauth/access_token`, { method: "POST", headers, body })).json();
}

function user(github: GitHubFront, token: string): Promise<Response> {
  return fetch(`${github.url}/user`, { headers: { authorization: `Bearer ${token}` } });
}

function asApp(github: GitHubFront, method: string, what: string, token: string, secret = CLIENT_SECRET) {
  return fetch(`${github.url}/applications/${CLIENT_ID}/${what}`, {
    method,
    headers: { authorization: `Basic ${btoa(`${CLIENT_ID}:${secret}`)}` },
    body: JSON.stringify({ access_token: token }),
  });
}

/** The status, with the body read to its end. */
async function statusOf(answer: Promise<Response>): Promise<number> {
  const response = await answer;
  await response.body?.cancel();
  return response.status;
}

Deno.test("a token that was granted says whose it is, and its calls are counted", async () => {
  await using github = await start();
  const { access_token: token, scope } = await exchange(github, "bob");
  assert.equal(scope, "");
  const response = await user(github, token!);
  assert.equal((await response.json()).login, "bob");
  assert.equal(response.headers.get("x-ratelimit-remaining"), "4999");
  await github.spend("bob", 41);
  assert.equal(await statusOf(user(github, token!)), 200);
  assert.deepEqual(github.callsOf("bob"), { answered: 2, refused: 0, remaining: 4957 });
  assert.deepEqual(github.callsOf("ada"), { answered: 0, refused: 0, remaining: null });
});

Deno.test("an unknown token gets a 401 with the limits of an anonymous caller", async () => {
  await using github = await start();
  const response = await user(github, "gho_unknown");
  assert.equal(response.status, 401);
  assert.equal((await response.json()).message, "Bad credentials");
  assert.equal(response.headers.get("x-ratelimit-limit"), "60");
});

Deno.test("a code is worth nothing without its verifier", async () => {
  await using github = await start();
  assert.equal((await exchange(github, "ada", "another-verifier")).error, "bad_verification_code");
});

Deno.test("the app can check a token and delete it, but only with its secret", async () => {
  await using github = await start();
  const { access_token: token } = await exchange(github, "ada");
  const checked = await asApp(github, "POST", "token", token!);
  assert.equal((await checked.json()).user.login, "ada");
  assert.equal(await statusOf(asApp(github, "POST", "token", token!, "a guess")), 401);
  assert.equal(await statusOf(asApp(github, "POST", "token", "gho_unknown")), 404);
  assert.equal(await statusOf(asApp(github, "DELETE", "token", token!)), 204);
  assert.equal(await statusOf(asApp(github, "DELETE", "token", token!)), 404);
  assert.equal(await statusOf(user(github, token!)), 401);
});

Deno.test("a grant ends all tokens of its user and nobody else's, whoever ends it", async () => {
  await using github = await start();
  const { access_token: first } = await exchange(github, "ada");
  const { access_token: second } = await exchange(github, "ada");
  const { access_token: other } = await exchange(github, "bob");
  assert.equal(await statusOf(asApp(github, "DELETE", "grant", second!)), 204);
  assert.deepEqual(await Promise.all([first!, second!, other!].map((token) => statusOf(user(github, token)))), [
    401,
    401,
    200,
  ]);
  await github.revoke("bob");
  assert.equal(await statusOf(user(github, other!)), 401);
  assert.equal(await statusOf(asApp(github, "POST", "token", other!)), 404);
});
