/**
 * Backups: what is in them, that a restored pool is the pool that was lost, and that nobody who has left comes back.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { hkdfSync } from "node:crypto";
import { type Backup, exportPool, importPool, type ImportReport } from "../lib/backup.ts";
import { Keyring, sha256Base64Url } from "../lib/crypto.ts";
import { createPool } from "../lib/pool.ts";
import { WITHDRAWALS_KEPT_MS } from "../lib/records.ts";
import { rotateKey } from "../lib/rotate.ts";
import { openVault } from "../lib/service.ts";
import { Stats } from "../lib/stats.ts";
import type { Vault } from "../lib/vault.ts";
import { cutDatabase, dieAtEveryCall } from "./support/cut_database.ts";
import { donation, draw, environment, KEY, OTHER_KEY, temporaryFolder } from "./support/fixtures.ts";
import { linesOf } from "./support/processes.ts";
import { report as upkeepReport, temporaryService, upkeep, visit, WatchedDatabase } from "./support/service.ts";
import { startSqld } from "./support/sqld.ts";

const THIRD_KEY = "b2".repeat(32);

/** A service with donors, and further databases beside its own, by the same clock and the same GitHub. */
async function world(github = {}) {
  const service = await temporaryService({ github });
  const folder = await temporaryFolder();
  const databases: WatchedDatabase[] = [];
  const vaultOf = (database: ServiceDatabase, key = KEY, previous = "") =>
    openVault({
      ...service.options,
      database,
      environment: environment({ TOKEN_ENCRYPTION_KEY: key, TOKEN_ENCRYPTION_KEYS_PREVIOUS: previous }),
    });
  return {
    ...service,
    vaultOf,
    /** An empty database. */
    fresh(): WatchedDatabase {
      const database = new WatchedDatabase(`file:${folder.path}/${databases.length}.db`);
      databases.push(database);
      return database;
    },
    /** What a consumer draws from a database now. */
    async drawn(database: WatchedDatabase): Promise<(string | null)[]> {
      const pool = createPool({ database, encryptionKey: KEY, now: service.clock.now });
      const logins: (string | null)[] = [];
      for (let n = 0; n < 3; n++) logins.push((await pool.getToken())?.github_username ?? null);
      return [...new Set(logins)];
    },
    async [Symbol.asyncDispose]() {
      for (const database of databases) database.close();
      await folder[Symbol.asyncDispose]();
      await service[Symbol.asyncDispose]();
    },
  };
}

type ServiceDatabase = WatchedDatabase | ReturnType<typeof cutDatabase>;

async function backUp(vault: Vault): Promise<Blob> {
  return toBlob(await Array.fromAsync(exportPool(vault)));
}

function toBlob(lines: string[]): Blob {
  return new Blob(lines.map((line) => `${line}\n`));
}

async function rowsOf(backup: Blob): Promise<Record<string, unknown>[]> {
  return (await backup.text()).trim().split("\n").map((line) => JSON.parse(line));
}

/** A report, where it differs from nothing at all. */
function report(
  donations: Partial<ImportReport["donations"]> = {},
  revocations: Partial<ImportReport["revocations"]> = {},
): ImportReport {
  return {
    donations: { added: 0, replaced: 0, kept: 0, withdrawn: 0, unreadable: 0, ...donations },
    revocations: { added: 0, kept: 0, unreadable: 0, ...revocations },
  };
}

/** All that a backup could change. */
async function dump(database: WatchedDatabase): Promise<unknown> {
  const tables = await database.look(
    "SELECT name FROM sqlite_schema WHERE name LIKE 'token_pool_%' AND type = 'table'",
  );
  return await Promise.all(tables.map(({ name }) => database.look(`SELECT * FROM ${name}`)));
}

Deno.test("a pool that was lost is restored from its backup, and serves once GitHub has confirmed each token", async () => {
  await using service = await world();
  const { vault, database, github, clock } = service;
  await visit(service, "ada", { reserve: 0.75 });
  await visit(service, "bob");
  github.addUser("eve");
  await visit(service, "eve");
  const store = await vault.store();
  await store.pause(await idOf(database, "bob"));
  await store.holdUser(1, { seconds: 600, baseSeconds: 1, mostSeconds: 1 });
  await draw(service.pool, 3, "search");
  const backup = await backUp(vault);

  const empty = service.fresh();
  const restored = service.vaultOf(empty);
  assert.deepEqual(await importPool(restored, backup), report({ added: 3 }));
  assert.deepEqual(await service.drawn(empty), [null], "nobody has asked GitHub yet");
  const columns = "github_user_id, github_username, token, refresh_token, expires_at, reserve, donated_at, held_until";
  const all = (from: WatchedDatabase) => from.look(`SELECT ${columns} FROM token_pool_tokens ORDER BY id`);
  assert.deepEqual(await all(empty), await all(database));
  assert.deepEqual((await empty.look("SELECT id FROM token_pool_tokens")).map(({ id }) => id), [4, 5, 6]);

  assert.deepEqual(await upkeep({ vault: restored, client: service.client }), upkeepReport({ restored: 3 }));
  assert.deepEqual(await service.drawn(empty), ["eve"], "ada is benched, bob has paused");
  clock.advance(600_000);
  assert.deepEqual((await service.drawn(empty)).sort(), ["ada", "eve"]);
  assert.ok(await (await restored.store()).resume(await idOf(database, "bob")));
  assert.deepEqual((await service.drawn(empty)).sort(), ["ada", "bob", "eve"]);
  const [floor] = await empty.look(
    "SELECT floor FROM token_pool_limits JOIN token_pool_tokens ON id = token_id WHERE github_username = 'ada'",
  );
  assert.equal(floor!["floor"], 3750);
});

async function idOf(database: WatchedDatabase, login: string): Promise<string> {
  const [row] = await database.look("SELECT github_user_id FROM token_pool_tokens WHERE github_username = ?", [login]);
  return String(row!["github_user_id"]);
}

Deno.test("a backup holds sealed texts and no other secret, and says when it was made", async () => {
  await using service = await world({ expiringTokens: true });
  await visit(service, "ada");
  service.github.down = { answer: 503, only: /DELETE/ };
  await visit(service, "ada", { purpose: "withdraw" });
  service.github.down = null;
  await visit(service, "bob");
  const backup = await backUp(service.vault);
  const text = await backup.text();
  for (const secret of [...service.github.secrets, KEY]) assert.ok(!text.includes(secret));
  const [head, donation, revocation, end, ...more] = await rowsOf(backup);
  assert.deepEqual(more, []);
  assert.deepEqual({ ...head, canaries: [] }, {
    format: "github-token-pool-backup",
    version: 1,
    exported_at: service.clock.now(),
    last_id: 2,
    canaries: [],
  });
  assert.equal(donation!["github_username"], "bob");
  for (const sealed of [donation!["token"], donation!["refresh_token"], revocation!["token"]]) {
    assert.match(sealed as string, /^v1\./);
  }
  assert.equal(revocation!["kind"], "grant");
  assert.equal(end!["rows"], 2);
});

Deno.test("a donor who has withdrawn since is not brought back, not even as a suspect", async () => {
  await using service = await world();
  await visit(service, "ada");
  await visit(service, "bob");
  const backup = await backUp(service.vault);
  await visit(service, "ada", { purpose: "withdraw" }); // within the same millisecond
  assert.deepEqual(await importPool(service.vault, backup), report({ kept: 1, withdrawn: 1 }));
  assert.equal(await service.database.count("tokens"), 1);

  service.clock.advance(1);
  await visit(service, "ada");
  assert.deepEqual(await importPool(service.vault, backup), report({ kept: 1, withdrawn: 1 }), "nor over a newer one");
  service.clock.advance(1000);
  const newer = await backUp(service.vault);
  const [ada] = await service.database.look("SELECT id FROM token_pool_tokens WHERE github_username = 'ada'");
  await (await service.vault.store()).remove(Number(ada!["id"]));
  assert.deepEqual(await importPool(service.vault, newer), report({ added: 1, kept: 1 }), "what came later is fine");
});

Deno.test("a donor who withdraws from a pool that was lost, before the backup is restored, is not brought back", async () => {
  await using service = await world();
  await visit(service, "ada");
  const backup = await backUp(service.vault);
  service.clock.advance(1000);
  const restored = service.vaultOf(service.fresh());
  assert.equal(await restored.withdraw(await idOf(service.database, "ada")), false);
  assert.deepEqual(await importPool(restored, backup), report({ withdrawn: 1 }));
});

Deno.test("a withdrawal that was lost with the database is GitHub's to tell: nothing of it is ever handed out", async () => {
  await using service = await world();
  await visit(service, "ada");
  await visit(service, "bob");
  const backup = await backUp(service.vault);
  await visit(service, "ada", { purpose: "withdraw" });
  const empty = service.fresh();
  const restored = service.vaultOf(empty);
  assert.deepEqual(await importPool(restored, backup), report({ added: 2 }));
  assert.deepEqual(await service.drawn(empty), [null]);
  const done = await upkeep({ vault: restored, client: service.client });
  assert.deepEqual(done, upkeepReport({ restored: 1, removed: 1 }));
  assert.deepEqual(await service.drawn(empty), ["bob"]);
});

Deno.test("a withdrawal holds whichever key it was remembered by, and without that key nothing is restored", async () => {
  const attempt = async (
    keys: [current: string, previous: string],
    withdrawnBy: [current: string, previous: string],
  ) => {
    await using service = await world();
    const { database, clock } = service;
    await visit(service, "ada");
    await visit(service, "bob");
    const backup = await backUp(service.vault);
    clock.advance(1000);
    await service.vaultOf(database, ...withdrawnBy).withdraw(await idOf(database, "ada"));
    const before = await dump(database);
    try {
      return await importPool(service.vaultOf(database, ...keys), backup);
    } catch (error) {
      assert.deepEqual(await dump(database), before);
      return (error as { code: string }).code;
    }
  };
  const expected = report({ kept: 1, withdrawn: 1 });
  assert.deepEqual(await attempt([OTHER_KEY, KEY], [KEY, ""]), expected, "withdrawn before the rotation");
  assert.deepEqual(await attempt([OTHER_KEY, KEY], [OTHER_KEY, KEY]), expected, "withdrawn after it");
  assert.deepEqual(await attempt([THIRD_KEY, `${KEY},${OTHER_KEY}`], [OTHER_KEY, KEY]), expected, "two rotations ago");
  assert.equal(await attempt([THIRD_KEY, KEY], [OTHER_KEY, KEY]), "wrong_key", "the one between is missing");
});

Deno.test("a withdrawal and what keeps it from being undone are stored together or not at all", async () => {
  const calls = await dieAtEveryCall(async (cut) => {
    await using service = await world();
    await visit(service, "ada");
    const id = await idOf(service.database, "ada");
    const died = await service.vaultOf(cutDatabase(service.database, cut)).withdraw(id).then(() => false, () => true);
    const graves = (await service.database.look("SELECT * FROM token_pool_tombstones")).length;
    assert.equal(graves + await service.database.count("tokens"), 1);
    return died;
  });
  assert.equal(calls, 2, "the schema is looked at, and it is done");
});

Deno.test("what is remembered of a withdrawal is a keyed hash, and for 13 months", async () => {
  await using service = await world();
  await visit(service, "ada");
  const id = await idOf(service.database, "ada");
  await visit(service, "ada", { purpose: "withdraw" });
  const graves = () => service.database.look("SELECT * FROM token_pool_tombstones");
  const root = hkdfSync("sha256", Buffer.from(KEY, "hex"), new Uint8Array(), "token-pool|v1|tombstone", 32);
  const key = await crypto.subtle.importKey("raw", root, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const mac = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(id));
  assert.deepEqual(await graves(), [{
    donor_hash: Buffer.from(mac).toString("base64url"),
    kid: (await Keyring.from(KEY)).kid,
    withdrawn_at: service.clock.now(),
  }]);
  const backup = await backUp(service.vault);
  service.clock.advance(WITHDRAWALS_KEPT_MS);
  await upkeep(service);
  assert.equal((await graves()).length, 1);
  assert.deepEqual(await importPool(service.vault, backup), report(), "a backup of that age can still be trusted");
  service.clock.advance(1);
  await upkeep(service);
  assert.deepEqual(await graves(), []);
  await assert.rejects(importPool(service.vault, backup), { code: "config", message: /older than 13 months/ });
});

Deno.test("importPool() keeps what is newer, replaces what is older, and what was chosen since stays", async () => {
  await using service = await world();
  const { vault, clock, database } = service;
  await vault.deposit(donation(1, { reserve: 0.5 }));
  await vault.deposit(donation(2));
  const older = await backUp(vault);
  clock.advance(1000);
  await vault.deposit(donation(2, { token: "gho_newer", reserve: 0.9 }));
  const newer = await backUp(vault);
  const store = await vault.store();
  await store.setReserve("1001", 0.75);
  await store.pause("1001");
  const before = await dump(database);
  assert.deepEqual(await importPool(vault, older), report({ kept: 2 }));
  assert.deepEqual(await importPool(vault, newer), report({ kept: 2 }));
  assert.deepEqual(await dump(database), before, "twice, and nothing has changed");

  const other = service.fresh();
  const restored = service.vaultOf(other);
  assert.deepEqual(await importPool(restored, older), report({ added: 2 }));
  const acquitted = await restored.store();
  for (const { id, token } of await acquitted.takeSuspects(5)) await acquitted.acquit(id, token);
  await acquitted.pause("1002");
  await acquitted.pause("1001");
  assert.deepEqual(await importPool(restored, newer), report({ replaced: 1, kept: 1 }));
  assert.deepEqual(
    await other.look(
      `SELECT github_user_id AS user, reserve, suspect_at IS NOT NULL AS suspect, floor, paused_at IS NOT NULL AS paused
        FROM token_pool_tokens t JOIN token_pool_limits l ON t.id = l.token_id
        LEFT JOIN token_pool_pauses p ON p.token_id = t.id ORDER BY 1`,
    ),
    [
      { user: "1001", reserve: 0.5, suspect: 0, floor: 2500, paused: 1 },
      { user: "1002", reserve: 0.9, suspect: 1, floor: 4500, paused: 0 },
    ],
  );
});

Deno.test("importPool() does not end the grant of a donor who has come back, and ends what else is due", async () => {
  await using service = await world();
  const { github } = service;
  await visit(service, "ada");
  await visit(service, "bob");
  const id = await idOf(service.database, "ada");
  github.down = { answer: 503, only: /DELETE/ };
  await visit(service, "ada", { purpose: "withdraw" });
  await visit(service, "bob", { purpose: "withdraw" });
  const backup = await backUp(service.vault);
  github.down = null;

  const vault = service.vaultOf(service.fresh());
  const token = github.grantToken("ada");
  await vault.deposit({ github_user_id: id, token });
  assert.deepEqual(await importPool(vault, backup), report({}, { added: 2 }));
  assert.deepEqual(await importPool(vault, backup), report({}, { kept: 2 }));
  assert.equal((await upkeep({ vault, client: service.client })).revoked, 2);
  assert.ok(github.isLive(token));
  assert.deepEqual(github.liveTokens("bob"), []);
});

Deno.test("importPool() refuses a backup that was cut off anywhere, before anything is written", async () => {
  await using service = await world();
  await visit(service, "ada");
  await visit(service, "bob");
  const whole = await (await backUp(service.vault)).bytes();
  const empty = service.fresh();
  const vault = service.vaultOf(empty);
  await vault.unlock();
  const before = await dump(empty);
  for (let length = 0; length < whole.length - 1; length++) {
    await assert.rejects(importPool(vault, new Blob([whole.slice(0, length)])), { code: "config" }, `${length} bytes`);
  }
  assert.deepEqual(await dump(empty), before);
  const withoutLastLineEnd = new Blob([whole.slice(0, -1)]);
  assert.deepEqual(await importPool(vault, withoutLastLineEnd), report({ added: 2 }));
});

Deno.test("importPool() refuses a backup that was changed by somebody without the key", async () => {
  await using service = await world();
  await visit(service, "ada");
  await visit(service, "bob");
  const lines = (await (await backUp(service.vault)).text()).trim().split("\n");
  const empty = service.fresh();
  const vault = service.vaultOf(empty);
  await vault.unlock();
  const before = await dump(empty);
  const forged = async (rows: string[]) => {
    let sha256 = "";
    for (const row of rows) sha256 = await sha256Base64Url(`${sha256}\n${row}`);
    return toBlob([
      ...rows,
      JSON.stringify({ ...JSON.parse(lines.at(-1)!), rows: rows.length - 1, sha256 }),
    ]);
  };
  const [head, ada, bob, end] = lines as [string, string, string, string];
  const cases: [string, Blob, RegExp][] = [
    ["a later donation", toBlob([head, ada.replace(/"donated_at":1/, '"donated_at":2'), bob, end]), /digest/],
    [
      "the same with a new digest",
      await forged([head, ada.replace('"donated_at":1', '"donated_at":2'), bob]),
      /without the key/,
    ],
    ["a smaller reserve", await forged([head, ada.replace('"reserve":0.5', '"reserve":0'), bob]), /without the key/],
    ["a row less", await forged([head, bob]), /without the key/],
    ["a row twice", toBlob([head, ada, ada, bob, end]), /digest/],
    ["another order", toBlob([head, bob, ada, end]), /digest/],
    ["no head", toBlob([ada, bob, end]), /first line/],
    ["another version", toBlob([head.replace('"version":1', '"version":2'), ada, bob, end]), /another version/],
    ["a token in the open", await forged([head, ada.replace(/"token":"[^"]+"/, '"token":"gho_open"'), bob]), /line 2/],
    ["something else", new Blob(["<html>"]), /first line/],
    ["nothing", new Blob([]), /empty/],
    ["a line without an end", new Blob(["x".repeat(200_000)]), /longer/],
  ];
  for (const [what, backup, message] of cases) {
    await assert.rejects(importPool(vault, backup), { code: "config", message }, what);
    await assert.rejects(importPool(vault, backup, { dryRun: true }), { code: "config", message }, what);
  }
  assert.deepEqual(await dump(empty), before);
});

Deno.test("importPool() refuses a backup that no key at hand opens, and a pool that it does not open, and writes nothing", async () => {
  await using service = await world();
  await visit(service, "ada");
  const backup = await backUp(service.vault);
  const empty = service.fresh();
  const stranger = service.vaultOf(empty, OTHER_KEY);
  await assert.rejects(importPool(stranger, backup), { code: "wrong_key", message: /TOKEN_ENCRYPTION_KEYS_PREVIOUS/ });
  assert.deepEqual(await empty.look("SELECT * FROM token_pool_canaries"), []);
  assert.equal(await empty.count("tokens"), 0);

  await stranger.deposit(donation(1));
  const before = await dump(empty);
  await assert.rejects(importPool(service.vaultOf(empty), backup), { code: "wrong_key" });
  assert.deepEqual(await dump(empty), before);
});

Deno.test("a backup under an older key is restored under it, for all who have that key, until keys are rotated", async () => {
  await using service = await world();
  await visit(service, "ada");
  const backup = await backUp(service.vault);
  const empty = service.fresh();
  const renewed = service.vaultOf(empty, OTHER_KEY, KEY);
  await renewed.deposit(donation(1));
  assert.deepEqual(await importPool(renewed, backup), report({ added: 1 }));
  await upkeep({ vault: renewed, client: service.client });
  assert.deepEqual((await service.drawn(empty)).includes("ada"), true, "a consumer with the older key only");
  assert.deepEqual(await rotateKey(renewed), { resealed: 1, unreadable: 0, remaining: 0 });
  await assert.rejects(service.drawn(empty), { code: "wrong_key" });

  await service.vault.deposit(donation(2, { refresh_token: "ghr_2" }));
  const lost = (await Keyring.from(THIRD_KEY)).seal("gho_lost", { column: "token", githubUserId: "583231" });
  await service.database.look("UPDATE token_pool_tokens SET token = ? WHERE github_username = 'ada'", [await lost]);
  await service.database.look("UPDATE token_pool_tokens SET refresh_token = 'ghr_open' WHERE github_user_id = '1002'");
  await service.vault.deposit(donation(3));
  const unreadable = await backUp(service.vault);
  assert.doesNotMatch(await unreadable.text(), /ghr_open/, "what was never sealed is not shown");
  const expected = report({ added: 1, unreadable: 2 });
  assert.deepEqual(
    await importPool(service.vaultOf(service.fresh()), unreadable),
    expected,
    "and keeps nobody else out",
  );
});

Deno.test("importPool() with dryRun tells what would come of it, and changes nothing", async () => {
  await using service = await world();
  const { vault, database, clock } = service;
  for (const n of [1, 2, 3]) await vault.deposit(donation(n));
  const { store, keyring } = await vault.unlock();
  await store.addRevocation("1009", await keyring.seal("gho_9", { column: "token", githubUserId: "1009" }), "token");
  const backup = await backUp(vault);
  clock.advance(1000);
  await vault.withdraw("1001");
  await store.remove(2);
  const before = await dump(database);
  const told = await importPool(vault, backup, { dryRun: true });
  assert.deepEqual(await dump(database), before);
  assert.deepEqual(told, report({ added: 1, kept: 1, withdrawn: 1 }, { kept: 1 }));
  assert.deepEqual(await importPool(vault, backup), told);
});

Deno.test("importPool() that dies at any call restores no half donations, and run again it finishes", async () => {
  await using service = await world();
  for (let n = 1; n <= 120; n++) await service.vault.deposit(donation(n));
  await (await service.vault.store()).pause("1003");
  const { store, keyring } = await service.vault.unlock();
  await store.addRevocation("1009", await keyring.seal("gho_9", { column: "token", githubUserId: "1009" }), "token");
  const backup = await backUp(service.vault);
  const state = async (database: WatchedDatabase) => {
    const columns =
      "SELECT github_user_id, token, donated_at, checks, ready_at, floor, cap, paused_at FROM token_pool_tokens";
    return await database.look(`${columns} JOIN token_pool_limits l ON id = l.token_id
      LEFT JOIN token_pool_pauses p ON p.token_id = id ORDER BY github_user_id`);
  };
  const whole = service.fresh();
  await importPool(service.vaultOf(whole), backup);
  const expected = await state(whole);
  assert.equal(expected.length, 120);
  assert.deepEqual(new Set(expected.map(({ checks }) => checks)), new Set([0]));
  const calls = await dieAtEveryCall(async (cut) => {
    const database = service.fresh();
    const died = await importPool(service.vaultOf(cutDatabase(database, cut)), backup).then(() => false, () => true);
    const vault = service.vaultOf(database);
    await vault.unlock();
    assert.equal((await state(database)).length, await database.count("tokens"), `died at ${JSON.stringify(cut)}`);
    const { donations, revocations } = await importPool(vault, backup);
    assert.equal(donations.added + donations.kept, 120);
    assert.equal(revocations.added + revocations.kept, 1);
    assert.deepEqual(await state(database), expected, `died at ${JSON.stringify(cut)}`);
    return died;
  });
  assert.ok(calls >= 10, `${calls} calls`);
});

Deno.test("an import is no incident, and upkeep works it off in rounds of 20", async () => {
  await using service = await world();
  const { github, client } = service;
  for (let n = 1; n <= 45; n++) {
    github.addUser(`user${n}`, { id: 1000 + n });
    await service.vault.deposit(donation(n, { token: github.grantToken(`user${n}`) }));
  }
  const backup = await backUp(service.vault);
  for (let n = 1; n <= 10; n++) github.revoke(`user${n}`);
  const empty = service.fresh();
  const vault = service.vaultOf(empty);
  await importPool(vault, backup);
  const { status } = await new Stats(vault).snapshot();
  assert.deepEqual({ status: status.status, suspended: status.tokens.suspended }, {
    status: "exhausted",
    suspended: 45,
  });
  const rounds = [];
  for (let round = 0; round < 4; round++) {
    const asked = github.count(/POST \/applications/);
    const { restored, removed } = await upkeep({ vault, client });
    rounds.push([restored + removed, github.count(/POST \/applications/) - asked]);
  }
  assert.deepEqual(rounds, [[20, 20], [20, 20], [5, 5], [0, 0]]);
  assert.deepEqual((await new Stats(vault).snapshot()).status.tokens, {
    ...(await new Stats(vault).snapshot()).status.tokens,
    total: 35,
    healthy: 35,
  });
  assert.deepEqual(await empty.look("SELECT * FROM token_pool_suspicions"), []);
});

Deno.test("a token that expires is refreshed after an import before it is handed out", async () => {
  await using service = await world({ expiringTokens: true });
  await visit(service, "ada");
  const backup = await backUp(service.vault);
  service.clock.advance(86_400_000);
  const empty = service.fresh();
  const vault = service.vaultOf(empty);
  await importPool(vault, backup);
  assert.deepEqual(await upkeep({ vault, client: service.client }), upkeepReport({ refreshed: 1 }));
  const pool = createPool({ database: empty, encryptionKey: KEY, now: service.clock.now });
  assert.ok(service.github.isLive((await pool.getToken())!.token));
});

const ADMIN = new URL("../lib/admin.ts", import.meta.url);

/** Runs the command line, as an operator does. */
async function admin(url: string, args: string[], input: Backup | null = null) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--quiet", ADMIN.href, ...args],
    env: { TOKEN_POOL_DATABASE_URL: url, TOKEN_ENCRYPTION_KEY: KEY },
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  if (input === null) await child.stdin.close();
  else await input.stream().pipeTo(child.stdin);
  const out = await Array.fromAsync(linesOf(child));
  return { out, code: (await child.status).code };
}

Deno.test("export > file and import < file take a pool from a file to a libSQL server", async () => {
  await using service = await temporaryService();
  await using sqld = await startSqld();
  await visit(service, "ada");
  await visit(service, "bob");
  const { out, code } = await admin(`file:${service.path}`, ["export"]);
  assert.equal(code, 0);
  const backup = toBlob(out);
  const told = await admin(sqld.url, ["import", "--json", "--dry-run"], backup);
  const done = await admin(sqld.url, ["import", "--json"], backup);
  assert.deepEqual(JSON.parse(done.out.join("")), report({ added: 2 }));
  assert.deepEqual(told, done);
  const cutOff = await admin(sqld.url, ["import"], toBlob(out.slice(0, -1)));
  assert.equal(cutOff.code, 1);
  const vault = openVault({ environment: environment({ TOKEN_ENCRYPTION_KEY: KEY }), database: sqld.url });
  assert.deepEqual(await upkeep({ vault, client: service.client }), upkeepReport({ restored: 2 }));
  assert.deepEqual(await importPool(vault, backup), report({ kept: 2 }));
  await vault.close();
});
