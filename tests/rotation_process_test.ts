/**
 * Key rotation while programs draw: real processes on one file, whose keys change under them, and a job that is killed.
 * Every claim that should have been answered was.
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Keyring } from "../lib/crypto.ts";
import { createPool } from "../lib/pool.ts";
import { auditKeys } from "../lib/rotate.ts";
import { openVault } from "../lib/service.ts";
import { donate, donation, environment, KEY, OTHER_KEY, temporaryFolder } from "./support/fixtures.ts";
import { linesOf, spawn } from "./support/processes.ts";

const ADMIN = fileURLToPath(new URL("../lib/admin.ts", import.meta.url));
const KILLER = fileURLToPath(new URL("support/dies_when_it_speaks.ts", import.meta.url));
const DONATIONS = 450;

/** What a consumer has seen. */
interface Seen {
  asked: number;
  answered: number;
  refused: string[];
}

/** A process that draws by claims and by leases in turn, until it is ended. */
function startConsumer(url: string) {
  const child = spawn("consume", url);
  const lines = linesOf(child);
  const input = child.stdin.getWriter();
  const command = async (text: string): Promise<Seen> => {
    await input.write(new TextEncoder().encode(`${text}\n`));
    const { value } = await lines.next();
    assert.ok(value, "The consumer has ended");
    return JSON.parse(value);
  };
  return {
    /** Gives it other keys. Returns what it has seen with the ones before. */
    keys: (...keys: string[]) => command(["keys", ...keys].join(" ")),
    /** Waits until it has drawn so often. */
    async untilDrawn(count: number): Promise<Seen> {
      const sum: Seen = { asked: 0, answered: 0, refused: [] };
      while (sum.asked < count) {
        const { asked, answered, refused } = await command("report");
        sum.asked += asked;
        sum.answered += answered;
        sum.refused.push(...refused);
      }
      return sum;
    },
    async [Symbol.asyncDispose]() {
      await input.close();
      await lines.return(undefined);
      await child.status;
    },
  };
}

/** Runs the job; it may be killed when it has resealed its first hundred. Returns its report, or null when it has none. */
async function rotate(url: string, { isKilled = false } = {}): Promise<{ remaining: number } | null> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--quiet", ...isKilled ? ["--preload", KILLER] : [], ADMIN, "rotate-key", "--json"],
    env: { TOKEN_POOL_DATABASE_URL: url, TOKEN_ENCRYPTION_KEY: OTHER_KEY, TOKEN_ENCRYPTION_KEYS_PREVIOUS: KEY },
    stderr: "null",
  }).output();
  return success ? JSON.parse(new TextDecoder().decode(stdout)) : null;
}

Deno.test("keys are rotated under four programs that draw, by a job that is killed: no hand-out is lost", async () => {
  await using folder = await temporaryFolder();
  const url = `file:${folder.path}/pool.db`;
  const vaultOf = (key: string, previous = "") =>
    openVault({
      database: url,
      environment: environment({ TOKEN_ENCRYPTION_KEY: key, TOKEN_ENCRYPTION_KEYS_PREVIOUS: previous }),
    });
  await using service = createPool({ database: url, encryptionKey: KEY });
  await donate(service, DONATIONS);
  await using a = startConsumer(url);
  await using b = startConsumer(url);
  await using c = startConsumer(url);
  await using d = startConsumer(url);
  const consumers = [a, b, c, d];
  let handOuts = 0;
  const assertAllAnswered = (seen: Seen[], when: string) => {
    for (const { asked, answered, refused } of seen) {
      assert.deepEqual({ answered, refused }, { answered: asked, refused: [] }, when);
      handOuts += answered;
    }
  };
  const drawn = (count = 20) => Promise.all(consumers.map((consumer) => consumer.untilDrawn(count)));

  for (const consumer of consumers) await consumer.keys(KEY);
  assertAllAnswered(await drawn(), "all with the old key");

  // 1. One after the other gets the new key; the service too, and what it takes is sealed under the new key already.
  const changed = [await a.keys(OTHER_KEY, KEY), await b.keys(OTHER_KEY, KEY)];
  const vault = vaultOf(OTHER_KEY, KEY);
  for (const n of [1, 2, 3]) await vault.deposit(donation(n));
  assertAllAnswered([...changed, ...await drawn(40)], "some with the old key, some with both");
  changed.push(await c.keys(OTHER_KEY, KEY), await d.keys(OTHER_KEY, KEY));
  assertAllAnswered([...changed.slice(2), ...await drawn()], "all with both keys");

  // 2. The job, killed on its way again and again, while a service that was forgotten goes on with the old key.
  let kills = 0;
  for (let round = 1; await rotate(url, { isKilled: true }) === null && round <= 10; round++) {
    const kids = (await auditKeys(vault)).keys.filter(({ donations }) => donations > 0).map(({ kid }) => kid);
    if (kids.length < 2) break; // it had nothing left to do
    kills++;
    await service.addToken(donation(round));
    assertAllAnswered(await drawn(5), `after the job was killed ${kills} times`);
  }
  assert.ok(kills >= 2, `killed ${kills} times on its way`);
  assert.equal((await rotate(url))?.remaining, 0);
  assertAllAnswered(await drawn(), "after the job");

  // 3. The old key goes.
  const dropped = [await a.keys(OTHER_KEY), await b.keys(OTHER_KEY)];
  assertAllAnswered([...dropped, ...await drawn()], "some with both keys, some with the new one");
  dropped.push(await c.keys(OTHER_KEY), await d.keys(OTHER_KEY));
  assertAllAnswered([...dropped.slice(2), ...await drawn()], "all with the new key");
  assert.ok(handOuts > 400, `${handOuts} hand-outs`);

  // Whoever was forgotten is told, and nothing is sealed under the old key any more.
  await using forgotten = startConsumer(url);
  await forgotten.keys(KEY);
  const { answered, refused } = await forgotten.untilDrawn(10);
  assert.equal(answered, 0);
  assert.deepEqual(new Set(refused), new Set(["wrong_key"]));
  await assert.rejects(service.addToken(donation(1)), { code: "wrong_key" });
  const { kid } = await Keyring.from(OTHER_KEY);
  assert.deepEqual((await auditKeys(vault)).keys, [
    { kid, donations: DONATIONS, refresh_tokens: 0, revocations: 0, canary: true },
  ]);
  await vault.close();
});
