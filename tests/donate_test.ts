/**
 * The contributor's flow against a strict GitHub: every way to fail stores nothing and leaves no live token behind,
 * and what was acknowledged is in the database.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { OAuth2Server } from "npm:oauth2-mock-server@8.2.3";
import { DonationFlow, type FailureReason, type Outcome, RESERVES } from "../lib/donate.ts";
import { GitHub } from "../lib/github.ts";
import { openVault } from "../lib/service.ts";
import { environment, KEY, OTHER_KEY, START } from "./support/fixtures.ts";
import { report, type Service, temporaryService, upkeep, visit } from "./support/service.ts";

const failed = (reason: FailureReason): Outcome => ({ kind: "failed", reason });

/** Begins a donation and lets GitHub answer; what comes back can be bent before it is handed in. */
async function begun({ flow, github }: Service, login = "ada") {
  const { location, state, sealed } = await flow.begin("donate", 0.5);
  return { state, sealed, callback: new URL(github.authorize(location, login)).searchParams };
}

/** Runs something and asserts that meanwhile neither GitHub nor the database was asked. */
async function silently<T>({ github, database }: Service, run: () => Promise<T>): Promise<T> {
  const before = [github.requests.length, database.statements.length];
  const result = await run();
  assert.deepEqual([github.requests.length, database.statements.length], before, "asked nobody");
  return result;
}

async function assertNothingStored({ database, github }: Service): Promise<void> {
  const tables = await database.look("SELECT name FROM sqlite_master WHERE name = 'token_pool_tokens'");
  if (tables.length > 0) assert.equal(await database.count("tokens"), 0, "rows");
  assert.deepEqual(github.liveTokens("ada"), [], "live tokens");
}

Deno.test("begin() sends the person to GitHub with state and PKCE, and asks for no scope", async () => {
  await using service = await temporaryService();
  const { location, state, sealed } = await service.flow.begin("donate", 0.5);
  const url = new URL(location);
  assert.equal(url.origin + url.pathname, "https://github.com/login/oauth/authorize");
  assert.deepEqual([...url.searchParams.keys()].sort(), [
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "redirect_uri",
    "state",
  ]);
  assert.equal(url.searchParams.get("client_id"), service.github.clientId);
  assert.equal(url.searchParams.get("redirect_uri"), "https://pool.example/callback");
  assert.equal(url.searchParams.get("code_challenge_method"), "S256");
  assert.equal(url.searchParams.get("state"), state);
  assert.match(state, /^[\w-]{43}$/, "256 bits");
  assert.ok(!sealed.includes(state), "the state is sealed");
});

Deno.test("begin() challenges with the S256 of a verifier that only the exchange names", async () => {
  await using service = await temporaryService();
  const { location, sealed } = await service.flow.begin("donate", 0.5);
  const callback = new URL(service.github.authorize(location, "ada")).searchParams;
  const before = new Set(service.github.secrets);
  await service.flow.finish(callback, sealed);
  const challenge = new URL(location).searchParams.get("code_challenge");
  const news = [...service.github.secrets].filter((secret) => !before.has(secret));
  const [verifier] = news.filter((secret) => createHash("sha256").update(secret).digest("base64url") === challenge);
  assert.match(verifier ?? "", /^[\w.~-]{43,128}$/);
  assert.ok(!location.includes(verifier!) && !sealed.includes(verifier!));
});

Deno.test("begin() makes state, challenge and sealed text anew each time", async () => {
  await using service = await temporaryService();
  const begins = await Promise.all(Array.from({ length: 50 }, () => service.flow.begin("donate", 0.5)));
  const challenges = begins.map(({ location }) => new URL(location).searchParams.get("code_challenge"));
  for (const values of [challenges, begins.map(({ state }) => state), begins.map(({ sealed }) => sealed)]) {
    assert.equal(new Set(values).size, 50);
  }
});

Deno.test("begin() asks neither the database nor GitHub", async () => {
  await using service = await temporaryService();
  await silently(service, () => service.flow.begin("withdraw", 0.5));
});

Deno.test("finish() stores a donation that can be drawn", async () => {
  await using service = await temporaryService();
  const outcome = await visit(service, "ada", { reserve: 0.75 });
  assert.deepEqual(outcome, { kind: "donated", login: "ada", reserve: 0.75, isUpdate: false, expires: false });
  const token = await service.pool.getToken();
  assert.equal(token?.github_user_id, "583231");
  assert.equal(token?.github_username, "ada");
  assert.deepEqual(service.github.liveTokens("ada"), [token?.token]);
  const [row] = await service.database.look("SELECT reserve, expires_at, refresh_token FROM token_pool_tokens");
  assert.deepEqual(row, { reserve: 0.75, expires_at: null, refresh_token: null });
});

Deno.test("finish() keeps each reserve that can be chosen for the donor", async () => {
  await using service = await temporaryService();
  for (const reserve of RESERVES) {
    await visit(service, "ada", { reserve });
    const [row] = await service.database.look("SELECT reserve, floor FROM token_pool_tokens, token_pool_limits");
    assert.deepEqual(row, { reserve, floor: 5000 * reserve });
  }
});

Deno.test("finish() asks GitHub for the token, then for its owner, and for nothing else", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  assert.deepEqual(service.github.calls, ["POST /login/oauth/access_token", "GET /user"]);
});

/** Has a donor come back while GitHub deletes the grant: what came of that. */
async function donateDuring(
  service: Service,
  deleteGrant: (service: Service) => Promise<unknown>,
): Promise<Outcome[]> {
  const { github } = service;
  await visit(service, "ada");
  const outcomes: Outcome[] = [];
  github.before = async (call) => {
    if (!call.endsWith("/grant")) return;
    github.before = null;
    outcomes.push(await visit(service, "ada"));
  };
  await deleteGrant(service);
  return outcomes;
}

Deno.test("finish() fails in each of its ways with nothing stored and no live token", async (t) => {
  const ways: Record<FailureReason, (service: Service) => Promise<Outcome>> = {
    expired: async (service) => await service.flow.finish((await begun(service)).callback, undefined),
    mismatch: async (service) => {
      const { callback, sealed } = await begun(service);
      callback.set("state", "A".repeat(43));
      return await service.flow.finish(callback, sealed);
    },
    cancelled: (service) => visit(service, "ada", { deny: true }),
    code_refused: async (service) => {
      const { callback, sealed } = await begun(service);
      callback.set("code", "0123456789abcdef0123");
      return await service.flow.finish(callback, sealed);
    },
    misconfigured: (service) => {
      service.github.isAppSuspended = true;
      return visit(service, "ada");
    },
    email_unverified: (service) => {
      service.github.addUser("ada", { hasVerifiedEmail: false });
      return visit(service, "ada");
    },
    has_scopes: (service) => visit(service, "ada", { scope: "repo" }),
    disabled: async (service) => {
      const { callback, sealed } = await begun(service);
      service.variables["TOKEN_POOL_DISABLED"] = "1";
      return await silently(service, () => service.flow.finish(callback, sealed));
    },
    grant_ends: async (service) => {
      const [outcome] = await donateDuring(service, (service) => visit(service, "ada", { purpose: "withdraw" }));
      return outcome!;
    },
    github_away: (service) => {
      service.github.down = { answer: 502 };
      return visit(service, "ada");
    },
    database_away: (service) => {
      service.database.failing = /^/;
      return visit(service, "ada");
    },
    wrong_key: async (service) => {
      // Another donor has made the database one of KEY; the service has come to another key since.
      await visit(service, "bob");
      await service.pool.getToken();
      await service.database.look("DELETE FROM token_pool_limits");
      await service.database.look("DELETE FROM token_pool_tokens");
      service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
      return await visit(service, "ada");
    },
  };
  for (const [reason, go] of Object.entries(ways)) {
    await t.step(reason, async () => {
      await using service = await temporaryService();
      assert.deepEqual(await go(service), failed(reason as FailureReason));
      await assertNothingStored(service);
    });
  }
});

Deno.test("finish() asks nobody without a transaction that it has sealed itself", async (t) => {
  const foreign = openVault({
    environment: environment({ TOKEN_ENCRYPTION_KEY: OTHER_KEY }),
    database: "file::memory:",
  });
  const forgeries: Record<string, (service: Service, sealed: string) => Promise<string | undefined> | string> = {
    "no cookie": () => Promise.resolve(undefined),
    "an empty cookie": () => "",
    "something else": () => "v1.00000000.AAAA.AAAA",
    "one bit changed": (_, sealed) => sealed.slice(0, -2) + (sealed.at(-2) === "A" ? "B" : "A") + sealed.at(-1),
    "cut off": (_, sealed) => sealed.slice(0, -4),
    "sealed under another key": async () => {
      const github = new GitHub({ url: "https://github.com", apiUrl: "", clientId: "", clientSecret: "", fetch });
      return (await new DonationFlow({ vault: foreign, github, redirectUri: "" }).begin("donate", 0.5)).sealed;
    },
    "sealed for another place": async ({ vault }) =>
      await (await vault.keyring()).seal(
        JSON.stringify({ state: "x", verifier: "x", purpose: "donate", reserve: 0.5, expiresAt: START * 2 }),
        { column: "flash", githubUserId: "" },
      ),
    "sealed, but no transaction": async ({ vault }) =>
      await (await vault.keyring()).seal("{}", { column: "transaction", githubUserId: "" }),
  };
  for (const [name, forge] of Object.entries(forgeries)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const { callback, sealed } = await begun(service);
      const forged = await forge(service, sealed);
      assert.deepEqual(await silently(service, () => service.flow.finish(callback, forged)), failed("expired"));
    });
  }
});

Deno.test("finish() accepts a transaction for ten minutes and not a moment longer", async () => {
  await using service = await temporaryService();
  const { location, sealed } = await service.flow.begin("donate", 0.5);
  service.clock.advance(599_999);
  const callback = new URL(service.github.authorize(location, "ada")).searchParams;
  service.clock.advance(1);
  assert.deepEqual(await silently(service, () => service.flow.finish(callback, sealed)), failed("expired"));
  service.clock.advance(-1);
  assert.equal((await service.flow.finish(callback, sealed)).kind, "donated");
});

Deno.test("finish() refuses a state that is not the transaction's, and asks nobody", async (t) => {
  const bends: Record<string, (callback: URLSearchParams, other: string) => void> = {
    "missing": (callback) => callback.delete("state"),
    "empty": (callback) => callback.set("state", ""),
    "wrong": (callback) => callback.set("state", callback.get("state")!.slice(0, -1) + "-"),
    "shorter": (callback) => callback.set("state", callback.get("state")!.slice(0, -1)),
    "longer": (callback) => callback.set("state", callback.get("state") + "A"),
    "of another transaction": (callback, other) => callback.set("state", other),
    "repeated": (callback) => callback.append("state", callback.get("state")!),
    "beside a second one": (callback) => callback.append("state", "A".repeat(43)),
    "wrong beside an error": (callback, other) => {
      callback.set("error", "access_denied");
      callback.set("state", other);
    },
  };
  for (const [name, bend] of Object.entries(bends)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const { callback, sealed } = await begun(service);
      bend(callback, (await begun(service)).state);
      assert.deepEqual(await silently(service, () => service.flow.finish(callback, sealed)), failed("mismatch"));
    });
  }
});

Deno.test("finish() refuses a code that is missing or repeated, and asks nobody", async (t) => {
  const bends: Record<string, (callback: URLSearchParams) => void> = {
    "missing": (callback) => callback.delete("code"),
    "empty": (callback) => callback.set("code", ""),
    "repeated": (callback) => callback.append("code", callback.get("code")!),
    "beside a second one": (callback) => callback.append("code", "0123456789abcdef0123"),
  };
  for (const [name, bend] of Object.entries(bends)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const { callback, sealed } = await begun(service);
      bend(callback);
      assert.deepEqual(await silently(service, () => service.flow.finish(callback, sealed)), failed("code_refused"));
    });
  }
});

Deno.test("finish() tells GitHub's errors apart, and asks nobody", async (t) => {
  const reasons: [error: string[], reason: FailureReason][] = [
    [["access_denied"], "cancelled"],
    [["redirect_uri_mismatch"], "misconfigured"],
    [["application_suspended"], "misconfigured"],
    [["incorrect_client_credentials"], "misconfigured"],
    [["unverified_user_email"], "email_unverified"],
    [["something_new"], "code_refused"],
    [[""], "code_refused"],
    [["access_denied", "access_denied"], "code_refused"],
  ];
  for (const [errors, reason] of reasons) {
    await t.step(`${errors.join(" and ") || "empty"}: ${reason}`, async () => {
      await using service = await temporaryService();
      const { callback, sealed } = await begun(service); // the code is there as well: an error wins
      for (const error of errors) callback.append("error", error);
      callback.set("error_description", "Click https://evil.example");
      assert.deepEqual(await silently(service, () => service.flow.finish(callback, sealed)), failed(reason));
    });
  }
});

Deno.test("finish() says that the app is not set up right when GitHub does not know its secret or address", async () => {
  await using service = await temporaryService();
  for (const bent of [{ clientSecret: "another" }, { clientId: service.github.clientId, clientSecret: "" }]) {
    const github = new GitHub({ ...service.github, ...bent });
    const flow = new DonationFlow({ vault: service.vault, github, redirectUri: service.github.callbackUrl });
    assert.deepEqual(await visit({ ...service, flow }, "ada"), failed("misconfigured"));
  }
  const redirectUri = "https://elsewhere.example/callback";
  const flow = new DonationFlow({ vault: service.vault, github: service.client, redirectUri });
  assert.deepEqual(await visit({ ...service, flow }, "ada"), failed("misconfigured"));
  await assertNothingStored(service);
});

Deno.test("finish() stores nothing when a callback is played a second time", async () => {
  await using service = await temporaryService();
  const { callback, sealed } = await begun(service);
  assert.equal((await service.flow.finish(callback, sealed)).kind, "donated");
  assert.deepEqual(await service.flow.finish(callback, sealed), failed("code_refused"));
  assert.equal(await service.database.count("tokens"), 1);
  assert.equal(service.github.liveTokens("ada").length, 1, "the donation lives on");
});

Deno.test("finish() cannot be given the code of somebody else's transaction", async () => {
  await using service = await temporaryService();
  const mine = await begun(service, "ada");
  const stolen = await begun(service, "bob");
  mine.callback.set("code", stolen.callback.get("code")!);
  assert.deepEqual(await service.flow.finish(mine.callback, mine.sealed), failed("code_refused"));
  assert.equal(await service.database.look("SELECT 1 FROM sqlite_master").then((rows) => rows.length), 0);
});

Deno.test("finish() revokes the fresh token when GitHub does not say whose it is", async () => {
  for (const answer of ["nothing", 500, 404] as const) {
    await using service = await temporaryService();
    service.github.down = { answer, only: /^GET \/user$/ };
    assert.deepEqual(await visit(service, "ada"), failed("github_away"));
    assert.equal(service.github.count(/^DELETE \/applications\/\w+\/token$/), 1);
    assert.equal(service.github.count(/grant$/), 0, "a grant may hold an earlier donation");
    await assertNothingStored(service);
  }
});

Deno.test("finish() leaves the fresh token to upkeep when GitHub neither says whose it is nor revokes it", async () => {
  for (const purpose of ["donate", "withdraw", "manage"] as const) {
    await using service = await temporaryService();
    service.github.down = { answer: 502, only: /^(?:GET \/user|DELETE .*)$/ };
    assert.deepEqual(await visit(service, "ada", { purpose }), failed("github_away"));
    service.github.down = null;
    assert.deepEqual(await upkeep(service), report({ revoked: 1 }), purpose);
    await assertNothingStored(service);
  }
});

Deno.test("finish() takes an answer that is not GitHub's form for GitHub being away", async () => {
  const answers = [
    "",
    "null",
    "<html>",
    "{}",
    `{"access_token":"","token_type":"bearer","scope":""}`,
    `{"access_token":"gho_x","token_type":"mac","scope":""}`,
    `{"access_token":"gho_x","token_type":"bearer","scope":["repo"]}`,
    `{"access_token":"gho_x","token_type":"bearer","scope":"","expires_in":-1}`,
  ];
  for (const answer of answers) {
    await using service = await temporaryService();
    const github = new GitHub({ ...service.github, fetch: () => Promise.resolve(new Response(answer)) });
    const flow = new DonationFlow({ vault: service.vault, github, redirectUri: service.github.callbackUrl });
    assert.deepEqual(await visit({ ...service, flow }, "ada"), failed("github_away"), answer);
    await assertNothingStored(service);
  }
});

Deno.test("finish() follows no redirect, since a secret is in each of its requests", async () => {
  await using service = await temporaryService();
  const modes = new Set<RequestRedirect | undefined>();
  const github = new GitHub({
    ...service.github,
    fetch: (to, init) => (modes.add(init?.redirect), service.github.fetch(to, init)),
  });
  const flow = new DonationFlow({ vault: service.vault, github, redirectUri: service.github.callbackUrl });
  assert.equal((await visit({ ...service, flow }, "ada")).kind, "donated");
  assert.equal((await visit({ ...service, flow }, "ada", { purpose: "withdraw" })).kind, "withdrawn");
  assert.deepEqual([...modes], ["manual"]);
});

Deno.test("finish() reads no more of an answer than GitHub's can have", async () => {
  await using service = await temporaryService();
  let bytes = 0;
  const endless = () =>
    new ReadableStream<Uint8Array>({
      pull(controller) {
        if ((bytes += 65_536) > 100_000_000) controller.close();
        else controller.enqueue(new Uint8Array(65_536).fill(32));
      },
    });
  const github = new GitHub({ ...service.github, fetch: () => Promise.resolve(new Response(endless())) });
  const flow = new DonationFlow({ vault: service.vault, github, redirectUri: service.github.callbackUrl });
  assert.deepEqual(await visit({ ...service, flow }, "ada"), failed("github_away"));
  assert.deepEqual((await github.rateLimit("gho_x")).body, "");
  assert.ok(bytes < 5_000_000, `${bytes} bytes`);
});

Deno.test("finish() deletes the grant of a token that has scopes, so that the next donation starts clean", async () => {
  await using service = await temporaryService();
  assert.deepEqual(await visit(service, "ada", { scope: "repo gist" }), failed("has_scopes"));
  assert.equal(service.github.count(/^DELETE \/applications\/\w+\/grant$/), 1);
  await assertNothingStored(service);
  assert.equal((await visit(service, "ada")).kind, "donated");
});

Deno.test("finish() has an earlier donation rest that died with the grant of a token with scopes", async () => {
  for (const concealsScopes of [false, true]) {
    await using service = await temporaryService();
    const { github, database, pool } = service;
    await visit(service, "bob");
    await visit(service, "ada");
    github.concealsScopes = concealsScopes;
    assert.deepEqual(await visit(service, "ada", { scope: "repo" }), failed("has_scopes"));
    assert.deepEqual(github.liveTokens("ada"), []);
    for (let n = 0; n < 2; n++) assert.equal((await pool.getToken())?.github_username, "bob");
    assert.deepEqual(await upkeep(service), report({ removed: 1 }));
    assert.equal(await database.count("tokens"), 1);
  }
});

Deno.test("finish() refuses scopes that only the API names", async () => {
  await using service = await temporaryService();
  service.github.concealsScopes = true;
  assert.deepEqual(await visit(service, "ada", { scope: "repo" }), failed("has_scopes"));
  assert.equal(service.github.count(/^DELETE \/applications\/\w+\/grant$/), 1);
  await assertNothingStored(service);
});

Deno.test("finish() replaces a donation of the same user and revokes the token that it replaces, never the grant", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const [old] = service.github.liveTokens("ada");
  const before = await service.pool.getToken();
  assert.deepEqual(await visit(service, "ada", { reserve: 0.9 }), {
    kind: "donated",
    login: "ada",
    reserve: 0.9,
    isUpdate: true,
    expires: false,
  });
  assert.ok(!service.github.isLive(old!));
  assert.equal(service.github.count(/^DELETE \/applications\/\w+\/token$/), 1);
  assert.equal(service.github.count(/grant$/), 0);
  const after = await service.pool.getToken();
  assert.equal(after?.id, before?.id);
  assert.ok(service.github.isLive(after!.token));
  assert.equal(await service.database.count("tokens"), 1);
});

Deno.test("finish() knows a user by the id, whatever the login", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  service.github.rename("ada", "countess");
  assert.equal((await visit(service, "countess")).kind, "donated");
  service.github.addUser("ada", { id: 99 });
  await visit(service, "ada");
  const rows = await service.database.look("SELECT github_user_id, github_username FROM token_pool_tokens ORDER BY id");
  assert.deepEqual(rows, [
    { github_user_id: "583231", github_username: "countess" },
    { github_user_id: "99", github_username: "ada" },
  ]);
});

Deno.test("finish() leaves a revocation that GitHub does not confirm to upkeep", async (t) => {
  for (const answer of ["nothing", 500, 401, 403, 429] as const) {
    await t.step(String(answer), async () => {
      await using service = await temporaryService();
      await visit(service, "ada");
      const [old] = service.github.liveTokens("ada");
      service.github.down = { answer, only: /^DELETE / };
      assert.equal((await visit(service, "ada")).kind, "donated", "the donation stands");
      assert.equal(await service.database.count("revocations"), 1);

      assert.deepEqual(await upkeep(service), report());
      assert.ok(service.github.isLive(old!));
      service.github.down = null;
      assert.deepEqual(await upkeep(service), report(), "asked again after a minute, not before");
      service.clock.advance(60_000);
      assert.deepEqual(await upkeep(service), report({ revoked: 1 }));
      assert.ok(!service.github.isLive(old!));
      assert.equal(service.github.liveTokens("ada").length, 1, "the donation lives on");
      assert.equal(await service.database.count("revocations"), 0);
    });
  }
});

Deno.test("finish() revokes the fresh token when the donation cannot be stored, and the earlier one stays", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const first = await service.pool.getToken();
  service.database.failing = /INSERT INTO token_pool_tokens/;
  assert.deepEqual(await visit(service, "ada"), failed("database_away"));
  assert.deepEqual(service.github.liveTokens("ada"), [first?.token]);
  service.database.failing = null;
  assert.equal((await service.pool.getToken())?.token, first?.token);
});

Deno.test("finish() changes nothing because of a wrong key", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const before = await service.database.look("SELECT * FROM token_pool_tokens");
  const donated = service.github.liveTokens("ada");
  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  assert.deepEqual(await visit(service, "ada"), failed("wrong_key"));
  assert.deepEqual(await service.database.look("SELECT * FROM token_pool_tokens"), before);
  assert.deepEqual(service.github.liveTokens("ada"), donated);
});

Deno.test("finish() stores the donation when only the answer of the database was lost", async () => {
  await using service = await temporaryService();
  service.database.losing = /INSERT INTO token_pool_tokens/;
  assert.equal((await visit(service, "ada")).kind, "donated");
  assert.deepEqual(service.github.liveTokens("ada"), [(await service.pool.getToken())?.token]);
});

Deno.test("finish() revokes the replaced token also when the answer of the database was lost", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  service.database.losing = /INSERT INTO token_pool_tokens/;
  assert.equal((await visit(service, "ada")).kind, "donated");
  // What was replaced is not known any more when the database is asked again, but it was queued in the same transaction.
  service.clock.advance(60_000);
  await upkeep(service);
  assert.deepEqual(service.github.liveTokens("ada"), [(await service.pool.getToken())?.token]);
});

Deno.test("finish() stores a token that expires with its refresh token, both sealed", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const outcome = await visit(service, "ada");
  assert.deepEqual(outcome, { kind: "donated", login: "ada", reserve: 0.5, isUpdate: false, expires: true });
  const [row] = await service.database.look("SELECT token, refresh_token, expires_at FROM token_pool_tokens");
  assert.equal(row?.["expires_at"], START + 28_800_000);
  const refreshToken = await service.vault.openText(String(row?.["refresh_token"]), "refresh_token", "583231");
  assert.match(refreshToken ?? "", /^ghr_/);
  for (const secret of service.github.secrets) assert.ok(!JSON.stringify(row).includes(secret));
});

Deno.test("finish() replaces the refresh token and the expiry along with the token", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  const { clock, database, github, pool } = service;
  const expiry = () => database.look("SELECT expires_at, refresh_token IS NULL AS is_last FROM token_pool_tokens");
  await visit(service, "ada");
  clock.advance(4 * 3_600_000);
  await visit(service, "ada");
  assert.deepEqual(await expiry(), [{ expires_at: START + 12 * 3_600_000, is_last: 0 }]);
  clock.advance(7.5 * 3_600_000);
  assert.deepEqual(await upkeep(service), report({ refreshed: 1 }));
  assert.ok(github.isLive((await pool.getToken())!.token));
  await pool.addToken({ github_user_id: "583231", token: github.grantToken("ada") });
  assert.deepEqual(await expiry(), [{ expires_at: null, is_last: 1 }]);
});

Deno.test("finish() of one user many times at once ends with one row and one live token", async () => {
  for (const count of [2, 5]) {
    await using service = await temporaryService();
    const tabs: Awaited<ReturnType<typeof begun>>[] = [];
    for (let n = 0; n < count; n++) tabs.push(await begun(service));
    const outcomes = await Promise.all(tabs.map(({ callback, sealed }) => service.flow.finish(callback, sealed)));
    assert.deepEqual(outcomes.map(({ kind }) => kind), Array(count).fill("donated"));
    assert.equal(await service.database.count("tokens"), 1);
    assert.deepEqual(service.github.liveTokens("ada"), [(await service.pool.getToken())?.token]);
  }
});

Deno.test("finish() of a withdrawal deletes the row before it asks GitHub to delete the grant", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  await visit(service, "bob");
  const seen: number[] = [];
  service.github.before = async (call) => {
    if (call.endsWith("/grant")) seen.push(await service.database.count("tokens"));
  };
  assert.deepEqual(await visit(service, "ada", { purpose: "withdraw" }), {
    kind: "withdrawn",
    wasDonor: true,
    isRevoked: true,
  });
  assert.deepEqual(seen, [1], "bob's row is left");
  assert.deepEqual(service.github.liveTokens("ada"), []);
  assert.equal((await service.pool.getToken())?.github_username, "bob");
  assert.equal(service.github.liveTokens("bob").length, 1);
  assert.equal(await service.database.count("limits"), 1);
});

Deno.test("finish() of a withdrawal can be repeated", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  await visit(service, "ada", { purpose: "withdraw" });
  const again = await visit(service, "ada", { purpose: "withdraw" });
  assert.deepEqual(again, { kind: "withdrawn", wasDonor: false, isRevoked: true });
  assert.deepEqual(service.github.liveTokens("ada"), []);
});

Deno.test("finish() of a withdrawal works with a token that has scopes", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const outcome = await visit(service, "ada", { purpose: "withdraw", scope: "repo" });
  assert.deepEqual(outcome, { kind: "withdrawn", wasDonor: true, isRevoked: true });
  await assertNothingStored(service);
});

Deno.test("finish() of a withdrawal leaves to upkeep what GitHub does not confirm", async (t) => {
  for (const answer of ["nothing", 502, 403] as const) {
    await t.step(String(answer), async () => {
      await using service = await temporaryService();
      await visit(service, "ada");
      service.github.down = { answer, only: /^DELETE / };
      const outcome = await visit(service, "ada", { purpose: "withdraw" });
      assert.deepEqual(outcome, { kind: "withdrawn", wasDonor: true, isRevoked: false });
      assert.equal(await service.database.count("tokens"), 0);
      assert.equal(await service.pool.getToken(), null);
      assert.equal(service.github.liveTokens("ada").length, 2);

      service.github.down = null;
      assert.deepEqual(await upkeep(service), report({ revoked: 1 }));
      assert.deepEqual(service.github.liveTokens("ada"), []);
      assert.deepEqual(await upkeep(service), report());
      assert.equal(await service.database.count("revocations"), 0);
    });
  }
});

Deno.test("finish() of a donation outlives a withdrawal that GitHub has not confirmed yet", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  service.github.down = { answer: 502, only: /^DELETE / };
  await visit(service, "ada", { purpose: "withdraw" });
  service.github.down = null;
  assert.equal((await visit(service, "ada")).kind, "donated", "thought better of it");
  await upkeep(service);
  const token = await service.pool.getToken();
  assert.ok(service.github.isLive(token!.token), "the deletion of the old grant must not take the new donation");
});

Deno.test("finish() stores no donation that the deletion of a grant under way would kill, and does so after it", async (t) => {
  const ways: Record<string, (service: Service) => Promise<unknown>> = {
    "by the withdrawal itself": (service) => visit(service, "ada", { purpose: "withdraw" }),
    "by upkeep": async (service) => {
      service.github.down = { answer: 502, only: /^DELETE / };
      const { before } = service.github;
      service.github.before = null;
      await visit(service, "ada", { purpose: "withdraw" });
      [service.github.down, service.github.before] = [null, before];
      await upkeep(service);
    },
    "by upkeep, at last": async (service) => {
      service.github.down = { answer: 502, only: /^DELETE / };
      const { before } = service.github;
      service.github.before = null;
      await visit(service, "ada", { purpose: "withdraw" });
      for (const minutes of [0, 1, 2, 4]) {
        service.clock.advance(minutes * 60_000);
        await upkeep(service);
      }
      [service.github.down, service.github.before] = [null, before];
      service.clock.advance(8 * 60_000);
      await upkeep(service);
    },
  };
  for (const [name, deleteGrant] of Object.entries(ways)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const { github, database } = service;
      const meanwhile = await donateDuring(service, deleteGrant);
      assert.deepEqual(meanwhile, [failed("grant_ends")]);
      await assertNothingStored(service);
      assert.equal(await database.count("revocations"), 0);
      assert.equal((await visit(service, "ada")).kind, "donated");
      assert.ok(github.isLive((await service.pool.getToken())!.token));
    });
  }
});

Deno.test("finish() of a donation need not wait for long when GitHub does not answer the deletion of a grant", async () => {
  await using service = await temporaryService();
  const { github, clock } = service;
  await visit(service, "ada");
  github.down = { answer: "nothing", only: /^DELETE / };
  await visit(service, "ada", { purpose: "withdraw" });
  for (const minutes of [0, 1, 2, 4]) {
    clock.advance(minutes * 60_000);
    await upkeep(service);
    assert.deepEqual(await visit(service, "ada"), failed("grant_ends"));
  }
  assert.equal((await visit(service, "bob")).kind, "donated", "nobody else need wait at all");
  clock.advance(60_000);
  assert.equal((await visit(service, "ada")).kind, "donated");
  github.down = null;
  clock.advance(24 * 3_600_000);
  await upkeep(service);
  assert.ok(github.isLive((await service.pool.getToken())!.token), "the grant is spared");
  assert.equal(await service.database.count("revocations"), 0);
});

Deno.test("finish() of a withdrawal whose process dies before it has asked GitHub is finished by upkeep", async () => {
  await using service = await temporaryService();
  const { github, clock } = service;
  await visit(service, "ada");
  const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
  github.before = (call) => {
    if (!call.endsWith("/grant")) return;
    ask();
    return new Promise<void>(() => {});
  };
  visit(service, "ada", { purpose: "withdraw" });
  await asked;
  github.before = null;
  assert.equal(await service.database.count("tokens"), 0);
  assert.deepEqual(await upkeep(service), report(), "it may be asking");
  clock.advance(60_000);
  assert.deepEqual(await upkeep(service), report({ revoked: 1 }));
  assert.deepEqual(github.liveTokens("ada"), []);
  assert.equal(await service.database.count("revocations"), 0);
});

Deno.test("finish() of a withdrawal queues the grant once when the answer of the database was lost", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  service.database.losing = /DELETE FROM token_pool_tokens/;
  service.github.down = { answer: 502, only: /^DELETE / };
  assert.equal((await visit(service, "ada", { purpose: "withdraw" })).kind, "withdrawn");
  assert.equal(await service.database.count("revocations"), 1);
});

Deno.test("finish() of a withdrawal changes nothing while GitHub does not say who asks", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const donated = service.github.liveTokens("ada");
  service.github.down = { answer: 502, only: /^GET \/user$/ };
  assert.deepEqual(await visit(service, "ada", { purpose: "withdraw" }), failed("github_away"));
  assert.equal(await service.database.count("tokens"), 1);
  assert.deepEqual(service.github.liveTokens("ada"), donated, "the fresh token is revoked");
});

Deno.test("finish() of a withdrawal revokes the fresh token when the database is away", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const donated = service.github.liveTokens("ada");
  service.database.failing = /^/;
  assert.deepEqual(await visit(service, "ada", { purpose: "withdraw" }), failed("database_away"));
  service.database.failing = null;
  assert.deepEqual(service.github.liveTokens("ada"), donated);
  assert.equal(await service.database.count("tokens"), 1);
});

Deno.test("finish() of a withdrawal needs no right key", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  const outcome = await visit(service, "ada", { purpose: "withdraw" });
  assert.deepEqual(outcome, { kind: "withdrawn", wasDonor: true, isRevoked: true });
  await assertNothingStored(service);
});

Deno.test("exchangeCode() proves itself by PKCE to a server that is not of this project", async () => {
  const server = new OAuth2Server(undefined, undefined, {
    endpoints: { authorize: "/login/oauth/authorize", token: "/login/oauth/access_token" },
  });
  await server.issuer.keys.generate("RS256");
  await server.start(0, "127.0.0.1");
  try {
    const url = server.issuer.url!;
    const exchange = async (bend: (sent: URLSearchParams) => void) => {
      let status = 0;
      const github = new GitHub({
        url,
        apiUrl: url,
        clientId: "client",
        clientSecret: "secret",
        fetch: async (to, init) => {
          const sent = new URLSearchParams(init?.body as URLSearchParams);
          sent.set("grant_type", "authorization_code"); // that server demands it; GitHub does not
          bend(sent);
          const response = await fetch(to, { ...init!, body: sent });
          status = response.status;
          await response.body?.cancel();
          return new Response(); // its token is not GitHub's, and not what this is about
        },
      });
      const vault = openVault({ environment: environment({ TOKEN_ENCRYPTION_KEY: KEY }), database: ":memory:" });
      const flow = new DonationFlow({ vault, github, redirectUri: "https://pool.example/callback" });
      const { location, sealed } = await flow.begin("donate", 0.5);
      const response = await fetch(`${location}&response_type=code&scope=openid`, { redirect: "manual" });
      await response.body?.cancel();
      await flow.finish(new URL(response.headers.get("location")!).searchParams, sealed);
      return status;
    };
    assert.equal(await exchange(() => {}), 200, "the verifier fits the challenge");
    const other = createHash("sha256").update("another verifier").digest("base64url");
    assert.equal(await exchange((sent) => sent.set("code_verifier", other)), 400, "another does not");
  } finally {
    await server.stop();
  }
});
