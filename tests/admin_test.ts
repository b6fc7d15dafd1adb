/** The operator's command line, as far as it goes, on a real file; and key rotation with consumers of every keyring. */

import assert from "node:assert/strict";
import { runAdmin } from "../lib/admin.ts";
import { createPool } from "../lib/pool.ts";
import { statusSchema } from "../lib/stats.ts";
import { donate, donation, draw, environment, KEY, OTHER_KEY, temporaryPool } from "./support/fixtures.ts";

/** Runs a command and returns what it printed. */
async function admin(args: string[], variables: Record<string, string>) {
  const out: string[] = [];
  const err: string[] = [];
  const output = { log: (line: string) => void out.push(line), error: (line: string) => void err.push(line) };
  const code = await runAdmin(args, { environment: environment(variables) }, output);
  return { code, out: out.join("\n"), err: err.join("\n") };
}

Deno.test("admin prints its usage and exits with 2 when it does not understand", async () => {
  for (const args of [[], ["nonsense"], ["list", "more"], ["list", "--nonsense"], ["constructor"]]) {
    const { code, err } = await admin(args, {});
    assert.equal(code, 2);
    assert.match(err, /rotate-key/);
  }
});

Deno.test("admin list and stats show states and figures, and no token", async () => {
  await using temporary = await temporaryPool();
  const { pool, url } = temporary;
  await donate(pool, 2);
  await draw(pool, 3);
  const variables = { TOKEN_POOL_DATABASE_URL: url, TOKEN_ENCRYPTION_KEY: KEY };
  const list = await admin(["list", "--json"], variables);
  assert.equal(list.code, 0);
  const rows = JSON.parse(list.out);
  assert.deepEqual(rows.map(({ login, calls, floor }: Record<string, unknown>) => ({ login, calls, floor })), [
    { login: "user1", calls: 2, floor: 1250 },
    { login: "user2", calls: 1, floor: 1250 },
  ]);
  const stats = await admin(["stats", "--json"], variables);
  assert.equal(statusSchema.parse(JSON.parse(stats.out)).calls.total, 3);
  assert.equal(JSON.parse(stats.out).counters["donations.new"], 2, "what was counted is for scripts as well");
  const plain = await admin(["list"], variables);
  assert.match(plain.out, /^id +login .*\n +1 +user1 .* healthy /);
  for (const { out } of [list, stats, plain]) assert.doesNotMatch(out, /gho_|v1\./);
});

Deno.test("admin stats exits with 1 when there are no figures, and says why", async () => {
  for (
    const [url, why] of [["http://127.0.0.1:9", /did not carry out/], ["mysql://x", /URL must be a URL such/]] as const
  ) {
    const { code, out, err } = await admin(["stats", "--json"], { TOKEN_POOL_DATABASE_URL: url });
    assert.deepEqual([code, JSON.parse(out).status], [1, "down"]);
    assert.match(err, why);
  }
});

Deno.test("admin says what is missing, and exits with 1", async () => {
  const { code, err } = await admin(["upkeep"], { TOKEN_POOL_DATABASE_URL: ":memory:" });
  assert.equal(code, 1);
  for (const name of ["GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET", "TOKEN_ENCRYPTION_KEY"]) {
    assert.match(err, new RegExp(name));
  }
});

Deno.test("admin shows of an error that nobody foresaw only where it happened", async () => {
  const err: string[] = [];
  const output = { log: () => assert.fail("nothing was found"), error: (line: string) => void err.push(line) };
  const variables = {
    TOKEN_POOL_DATABASE_URL: ":memory:",
    TOKEN_ENCRYPTION_KEY: KEY,
    GITHUB_CLIENT_ID: "id",
    GITHUB_CLIENT_SECRET: "secret",
  };
  const broken = () => Promise.reject(new TypeError("gho_canary"));
  const input = { line: broken, all: broken };
  assert.equal(await runAdmin(["add"], { environment: environment(variables) }, output, input), 1);
  assert.match(err.join("\n"), /^Unforeseen TypeError\n\s+at /);
  assert.doesNotMatch(err.join("\n"), /gho_/);
});

Deno.test("rotate-key leaves nothing under the old key, while consumers of old, mixed and new keyrings go on", async () => {
  await using temporary = await temporaryPool();
  const { pool: old, url, clock } = temporary;
  await donate(old, 150, { refresh_token: "ghr_refresh" });
  const rotating = {
    TOKEN_POOL_DATABASE_URL: url,
    TOKEN_ENCRYPTION_KEY: OTHER_KEY,
    TOKEN_ENCRYPTION_KEYS_PREVIOUS: KEY,
  };
  await using mixed = createPool({
    database: url,
    encryptionKey: OTHER_KEY,
    previousEncryptionKeys: [KEY],
    now: clock.now,
  });
  assert.equal((await mixed.getToken())?.token, "gho_token1");
  assert.equal((await old.getToken())?.token, "gho_token2", "the old keyring serves until the job runs");

  const job = await admin(["rotate-key", "--json"], rotating);
  assert.deepEqual({ code: job.code, report: JSON.parse(job.out) }, {
    code: 0,
    report: { resealed: 150, unreadable: 0, remaining: 0 },
  });
  const again = await admin(["rotate-key", "--json"], rotating);
  assert.deepEqual(
    JSON.parse(again.out),
    { resealed: 0, unreadable: 0, remaining: 0 },
    "a second run has nothing to do",
  );

  assert.equal((await mixed.getToken())?.token, "gho_token3");
  await using renewed = createPool({ database: url, encryptionKey: OTHER_KEY, now: clock.now });
  assert.equal((await renewed.getToken())?.token, "gho_token4");
  await assert.rejects(old.getToken(), { code: "wrong_key" }, "who has the old key only is told");
  await assert.rejects(createPool({ database: url, encryptionKey: KEY }).addToken(donation(999)), {
    code: "wrong_key",
  });
  const kids = JSON.parse((await admin(["list", "--json"], rotating)).out).map((row: { kid: string }) => row.kid);
  assert.equal(new Set(kids).size, 1);
});

Deno.test("rotate-key with a key that opens nothing changes nothing", async () => {
  await using temporary = await temporaryPool();
  await donate(temporary.pool, 3);
  const { code, err } = await admin(["rotate-key"], {
    TOKEN_POOL_DATABASE_URL: temporary.url,
    TOKEN_ENCRYPTION_KEY: OTHER_KEY,
  });
  assert.equal(code, 1);
  assert.match(err, /not the key that this pool's tokens are sealed with/);
  assert.deepEqual(await draw(temporary.pool, 3), [1, 2, 3]);
});
