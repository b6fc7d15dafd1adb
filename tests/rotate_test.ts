/**
 * Key rotation: the job that is cut off at every call, donations and refreshes that happen while it runs, what no key
 * opens, and keys that are wrong. What consumers see of it is in rotation_process_test.ts.
 */

import assert from "node:assert/strict";
import { Keyring } from "../lib/crypto.ts";
import { createPool } from "../lib/pool.ts";
import { auditKeys, rotateKey } from "../lib/rotate.ts";
import { openVault } from "../lib/service.ts";
import type { Vault } from "../lib/vault.ts";
import { cutDatabase, dieAtEveryCall } from "./support/cut_database.ts";
import { Clock, donate, donation, environment, KEY, OTHER_KEY, temporaryFolder } from "./support/fixtures.ts";
import { report as upkeepReport, temporaryService, upkeep, visit, WatchedDatabase } from "./support/service.ts";
import { startSqld } from "./support/sqld.ts";

const THIRD_KEY = "b2".repeat(32);
const [OLD_KID, NEW_KID] = await Promise.all([KEY, OTHER_KEY].map(async (key) => (await Keyring.from(key)).kid));

/** Three donations, one with a refresh token, and a revocation, all under the old key. */
async function oldPool(count = 3) {
  const folder = await temporaryFolder();
  const database = new WatchedDatabase(`file:${folder.path}/pool.db`);
  const clock = new Clock();
  const vaultOf = (key: string, previous = "", at: typeof database | ReturnType<typeof cutDatabase> = database) =>
    openVault({
      database: at,
      environment: environment({ TOKEN_ENCRYPTION_KEY: key, TOKEN_ENCRYPTION_KEYS_PREVIOUS: previous }),
      now: clock.now,
      connection: { sleep: () => Promise.resolve() },
    });
  const old = createPool({ database, encryptionKey: KEY, now: clock.now });
  await donate(old, count);
  await old.addToken(donation(2, { refresh_token: "ghr_2", expires_at: clock.now() + 28_800_000 }));
  const { store, keyring } = await vaultOf(KEY).unlock();
  await store.addRevocation("1009", await keyring.seal("gho_9", { column: "token", githubUserId: "1009" }), "grant");
  return {
    database,
    clock,
    old,
    vaultOf,
    /** What is sealed, as the given keys open it. */
    async opened(keys: string[]): Promise<Record<string, string | null>> {
      const keyring = await Keyring.from(keys[0]!, keys.slice(1));
      const rows = await database.look(
        `SELECT github_user_id AS user, 'token' AS name, token AS sealed FROM token_pool_tokens
          UNION ALL SELECT github_user_id, 'refresh_token', refresh_token FROM token_pool_tokens WHERE refresh_token <> ''
          UNION ALL SELECT github_user_id, 'token', token FROM token_pool_revocations`,
      ) as { user: string; name: string; sealed: string }[];
      return Object.fromEntries(
        await Promise.all(rows.map(async ({ user, name, sealed }) => [
          `${user} ${name}`,
          await keyring.open(sealed, { column: name, githubUserId: user }),
        ])),
      );
    },
    /** All that the tables hold. */
    async dump(): Promise<unknown> {
      const tables = ["tokens", "revocations", "canaries", "limits", "counters", "tombstones"];
      return await Promise.all(tables.map((table) => database.look(`SELECT * FROM token_pool_${table}`)));
    },
    async canaries(): Promise<unknown[]> {
      return (await database.look("SELECT kid FROM token_pool_canaries")).map(({ kid }) => kid);
    },
    async [Symbol.asyncDispose]() {
      database.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const ALL = {
  "1001 token": "gho_token1",
  "1002 token": "gho_token2",
  "1002 refresh_token": "ghr_2",
  "1003 token": "gho_token3",
  "1009 token": "gho_9",
};

Deno.test("rotateKey() that dies at any call leaves everything readable, and run again it finishes", async () => {
  const calls = await dieAtEveryCall(async (cut) => {
    await using pool = await oldPool();
    const dying = pool.vaultOf(OTHER_KEY, KEY, cutDatabase(pool.database, cut));
    const died = await rotateKey(dying).then(() => false, () => true);
    assert.deepEqual(await pool.opened([OTHER_KEY, KEY]), ALL, `died at ${JSON.stringify(cut)}`);
    const { unreadable, remaining } = await rotateKey(pool.vaultOf(OTHER_KEY, KEY));
    assert.deepEqual({ unreadable, remaining }, { unreadable: 0, remaining: 0 });
    assert.deepEqual(await pool.opened([OTHER_KEY]), ALL);
    assert.deepEqual(await pool.canaries(), [NEW_KID]);
    return died;
  });
  assert.ok(calls >= 8, `${calls} calls`);
});

Deno.test("a donation under the old key, made at any moment of rotateKey(), ends under the new one", async () => {
  for (let moment = 1;; moment++) {
    await using pool = await oldPool();
    const vault = pool.vaultOf(OTHER_KEY, KEY);
    const service = createPool({ database: pool.database, encryptionKey: KEY, now: pool.clock.now });
    await service.addToken(donation(3)); // so that it has learnt the canaries long before
    let calls = 0;
    let outcome: Promise<unknown> = Promise.resolve("not yet");
    pool.database.before = async () => {
      if (++calls !== moment) return;
      pool.database.before = null;
      const before = pool.database.statements.length;
      outcome = service.addToken(donation(1, { token: "gho_another" })).catch(({ code }) => code);
      await outcome;
      assert.ok(pool.database.statements.length > before);
    };
    const report = await rotateKey(vault);
    const donated = await outcome;
    if (donated === "not yet") break;
    assert.deepEqual({ ...report, resealed: 0 }, { resealed: 0, unreadable: 0, remaining: 0 }, `at call ${moment}`);
    assert.equal(typeof donated, "number", "while the job runs the old key is good");
    assert.deepEqual(await pool.opened([OTHER_KEY]), { ...ALL, "1001 token": "gho_another" }, `at call ${moment}`);
  }
});

Deno.test("once rotateKey() is done a service with the old key stores nothing, whatever it remembers", async () => {
  await using pool = await oldPool();
  const service = pool.vaultOf(KEY);
  await service.deposit(donation(3));
  await rotateKey(pool.vaultOf(OTHER_KEY, KEY));
  const before = await pool.dump();
  await assert.rejects(service.deposit(donation(1, { token: "gho_another" }), { revokeReplaced: true }), {
    code: "wrong_key",
  });
  await assert.rejects(pool.old.addToken(donation(8)), { code: "wrong_key" });
  assert.deepEqual(await pool.dump(), before);
});

Deno.test("a service that has the two keys the wrong way round is let in, seen by auditKeys(), and made good", async () => {
  await using pool = await oldPool();
  const reversed = pool.vaultOf(KEY, OTHER_KEY);
  await reversed.deposit(donation(3));
  const vault = pool.vaultOf(OTHER_KEY, KEY);
  await rotateKey(vault);
  await reversed.deposit(donation(4));
  const use = { donations: 0, refresh_tokens: 0, revocations: 0, canary: true };
  assert.deepEqual((await auditKeys(vault)).keys.find(({ kid }) => kid === OLD_KID), {
    ...use,
    kid: OLD_KID,
    donations: 1,
  });
  assert.deepEqual(await rotateKey(vault), { resealed: 1, unreadable: 0, remaining: 0 });
  assert.deepEqual(await pool.canaries(), [NEW_KID]);
});

Deno.test("auditKeys() counts rows by key and changes nothing", async () => {
  await using pool = await oldPool();
  const mixed = pool.vaultOf(OTHER_KEY, KEY);
  await mixed.deposit(donation(1, { refresh_token: "ghr_1" }));
  await pool.database.look("UPDATE token_pool_tokens SET token = 'gho_never_sealed' WHERE github_user_id = '1003'");
  const before = await pool.dump();
  const audit = await auditKeys(mixed);
  assert.deepEqual(await pool.dump(), before);
  assert.equal(audit.current, NEW_KID);
  assert.deepEqual(Object.fromEntries(audit.keys.map(({ kid, ...use }) => [kid, Object.values(use)])), {
    [NEW_KID!]: [1, 1, 0, true],
    [OLD_KID!]: [1, 1, 1, true],
    none: [1, 0, 0, false],
  });
});

Deno.test("rotateKey() keeps what no key opens, reports it, and keeps the old canary", async () => {
  await using pool = await oldPool();
  const lost = (await Keyring.from(THIRD_KEY)).seal("gho_lost", { column: "token", githubUserId: "1001" });
  await pool.database.look("UPDATE token_pool_tokens SET token = ? WHERE github_user_id = '1001'", [await lost]);
  await pool.database.look("UPDATE token_pool_tokens SET refresh_token = 'v1.x.y.z' WHERE github_user_id = '1002'");
  const before = await pool.database.look("SELECT * FROM token_pool_tokens WHERE github_user_id IN ('1001', '1002')");
  const progress: number[] = [];
  const report = await rotateKey(pool.vaultOf(OTHER_KEY, KEY), (done) => progress.push(done));
  assert.deepEqual(report, { resealed: 2, unreadable: 2, remaining: 2 });
  assert.deepEqual(
    await pool.database.look("SELECT * FROM token_pool_tokens WHERE github_user_id IN ('1001', '1002')"),
    before,
  );
  assert.deepEqual((await pool.canaries()).sort(), [NEW_KID, OLD_KID].sort());
  assert.equal(progress.at(-1), 4);
  const withAll = pool.vaultOf(OTHER_KEY, `${KEY},${THIRD_KEY}`);
  assert.deepEqual(await rotateKey(withAll), { resealed: 1, unreadable: 1, remaining: 1 });
});

Deno.test("rotateKey() with keys that are not the pool's changes nothing", async () => {
  await using pool = await oldPool();
  const before = await pool.dump();
  for (const [key, previous] of [[OTHER_KEY, ""], [OTHER_KEY, THIRD_KEY]] as const) {
    await assert.rejects(rotateKey(pool.vaultOf(key, previous)), { code: "wrong_key" });
    await assert.rejects(auditKeys(pool.vaultOf(key, previous)), { code: "wrong_key" });
  }
  assert.deepEqual(await pool.dump(), before);
  assert.deepEqual(await rotateKey(pool.vaultOf(KEY)), { resealed: 0, unreadable: 0, remaining: 0 });
});

Deno.test("a token that is being refreshed while rotateKey() runs is neither lost nor left under the old key", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  await visit(service, "ada");
  service.clock.advance(7.5 * 3_600_000);
  const rotating: Vault = openVault({
    ...service.options,
    environment: environment({ TOKEN_ENCRYPTION_KEY: OTHER_KEY, TOKEN_ENCRYPTION_KEYS_PREVIOUS: KEY }),
  });
  let during: unknown = null;
  service.github.before = async (call) => {
    if (call.startsWith("POST /login/oauth/access_token")) during ??= await rotateKey(rotating);
  };
  assert.deepEqual(await upkeep(service), upkeepReport({ refreshed: 1 }));
  service.github.before = null;
  assert.deepEqual(during, { resealed: 0, unreadable: 0, remaining: 1 }, "it says that it is not done");
  assert.deepEqual(await rotateKey(rotating), { resealed: 1, unreadable: 0, remaining: 0 });
  await using renewed = createPool({ database: service.database, encryptionKey: OTHER_KEY, now: service.clock.now });
  const { token } = (await renewed.getToken())!;
  assert.ok(service.github.isLive(token), "GitHub has killed the one before");
  assert.deepEqual(service.github.liveTokens("ada"), [token]);
});

Deno.test("reseal() leaves what has changed, or was taken to be refreshed, since it was looked at", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  await visit(service, "ada");
  service.clock.advance(7.5 * 3_600_000);
  const store = await service.vault.store();
  const [row] = await store.underOtherKeys("00000000", 0);
  const { id, token, refreshToken } = row!;
  const renewed = { token: "sealed anew", refreshToken: "likewise" };
  assert.equal(await store.reseal([{ id, old: { token, refreshToken: "another" }, renewed }]), 0);
  assert.equal((await store.takeExpiring(1)).length, 1);
  assert.equal(await store.reseal([{ id, old: { token, refreshToken }, renewed }]), 0);
  service.clock.advance(60_000);
  assert.equal(await store.reseal([{ id, old: { token, refreshToken }, renewed }]), 1);
});

Deno.test("keepCanary() keeps all canaries while a revocation is sealed under another key", async () => {
  await using service = await temporaryService();
  const { store, keyring } = await service.vault.unlockToSeal();
  await store.addCanary("00000000", "the old key's", { onlyIfFirst: false });
  await store.addRevocation("583231", "v1.00000000.AAAA.AAAA", "token");
  assert.equal(await store.keepCanary(keyring.kid), 1);
  assert.equal((await store.open()).length, 2);
});

Deno.test("rotateKey() ends although somebody does not stop donating under the old key, and says what is left", async () => {
  await using pool = await oldPool();
  const vault = pool.vaultOf(OTHER_KEY, KEY);
  const service = createPool({ database: pool.database, encryptionKey: KEY, now: pool.clock.now });
  let isBusy = false;
  pool.database.before = async () => {
    if (isBusy) return;
    isBusy = true;
    await service.addToken(donation(1));
    isBusy = false;
  };
  const report = await rotateKey(vault);
  pool.database.before = null;
  assert.equal(report.remaining, 1);
  assert.deepEqual((await pool.canaries()).sort(), [NEW_KID, OLD_KID].sort());
  assert.equal((await rotateKey(vault)).remaining, 0);
});

Deno.test("a warm process that gets the new key only after rotateKey(), or loses the old one, goes on", async () => {
  await using pool = await oldPool();
  const variables: Record<string, string> = { TOKEN_ENCRYPTION_KEY: KEY };
  const warm = openVault({ database: pool.database, environment: environment(variables), now: pool.clock.now });
  assert.equal((await warm.unlock()).canaries.length, 1);
  await rotateKey(pool.vaultOf(OTHER_KEY, KEY));
  variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  assert.deepEqual((await warm.unlock()).canaries.map(([kid]) => kid), [NEW_KID]);
  assert.equal((await warm.deposit(donation(3))).isUpdate, true);
  variables["TOKEN_ENCRYPTION_KEY"] = KEY;
  await assert.rejects(warm.unlock(), { code: "wrong_key" });
  variables["TOKEN_ENCRYPTION_KEYS_PREVIOUS"] = OTHER_KEY;
  await warm.unlock();
});

Deno.test("a consumer that was left with the old key is told without a charge to any donor, but for the first", async () => {
  await using pool = await oldPool();
  assert.ok(await pool.old.getToken());
  await rotateKey(pool.vaultOf(OTHER_KEY, KEY));
  for (let n = 0; n < 5; n++) await assert.rejects(pool.old.getToken(), { code: "wrong_key" });
  assert.deepEqual(await pool.database.look("SELECT sum(calls) AS calls FROM token_pool_limits"), [{ calls: 2 }]);
});

Deno.test("rotateKey() does the same on a libSQL server, where a dropped key is refused as well", async () => {
  await using sqld = await startSqld();
  const vaultOf = (key: string, previous = "") =>
    openVault({
      database: sqld.url,
      environment: environment({ TOKEN_ENCRYPTION_KEY: key, TOKEN_ENCRYPTION_KEYS_PREVIOUS: previous }),
    });
  const [old, mixed] = [vaultOf(KEY), vaultOf(OTHER_KEY, KEY)];
  for (const n of [1, 2, 3]) await old.deposit(donation(n, { refresh_token: `ghr_${n}` }));
  assert.deepEqual(await rotateKey(mixed), { resealed: 3, unreadable: 0, remaining: 0 });
  await assert.rejects(old.deposit(donation(4)), { code: "wrong_key" });
  const use = { donations: 3, refresh_tokens: 3, revocations: 0, canary: true };
  assert.deepEqual((await auditKeys(mixed)).keys, [{ kid: NEW_KID, ...use }]);
  await Promise.all([old.close(), mixed.close()]);
});
