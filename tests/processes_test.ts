/**
 * Several processes on one database file, and processes that are killed: nothing that was acknowledged is lost, no
 * claim passes a limit, and the use of tokens stays even.
 */

import assert from "node:assert/strict";
import { createPool } from "../lib/pool.ts";
import { donate, KEY, temporaryFolder } from "./support/fixtures.ts";
import { linesOf, lockElsewhere, readElsewhere, spawn } from "./support/processes.ts";

async function untilLine(lines: AsyncGenerator<string>, wanted: string): Promise<void> {
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error(`The process ended before it said ${wanted}`);
    if (value === wanted) return;
  }
}

Deno.test("eight processes draw from one file: no error, no claim past a limit, uses within 1 (5, 11)", async () => {
  await using folder = await temporaryFolder();
  const [file, processes, tokens, perToken, each] = [`${folder.path}/pool.db`, 8, 5, 60, 50];
  await using pool = createPool({ database: `file:${file}`, encryptionKey: KEY });
  const ids = await donate(pool, tokens);
  const reset = Math.floor(Date.now() / 1000) + 3600;
  // A quarter of 80 is the donor's: 60 calls of each token may be claimed, 300 of the 400 that are asked for.
  for (const id of ids) {
    await pool.reportUsage(id, {
      limit: 80,
      remaining: 80,
      used: 0,
      reset_at: reset,
      resource: "core",
      retry_after: null,
    });
  }
  const children = Array.from({ length: processes }, () => spawn("draw", `file:${file}`, KEY, String(each)));
  const outputs = children.map(linesOf);
  await Promise.all(outputs.map((lines) => untilLine(lines, "ready")));
  for (const child of children) await child.stdin.close(); // all start at once
  const results = await Promise.all(outputs.map(async (lines) => {
    const { value } = await lines.next();
    await lines.return(undefined);
    return JSON.parse(value as string) as { ids: number[]; delays: number[] };
  }));
  for (const child of children) assert.equal((await child.status).code, 0);

  const drawn = results.flatMap((result) => result.ids);
  assert.equal(drawn.length, tokens * perToken, "every call that may be claimed was, and none besides");
  for (const id of ids) assert.equal(drawn.filter((other) => other === id).length, perToken);
  const rows = await readElsewhere(file, "SELECT remaining, calls FROM token_pool_limits WHERE resource = 'core'");
  assert.deepEqual(rows, ids.map(() => ({ remaining: 20, calls: perToken })));
});

Deno.test("eight processes with tokens to spare use each within 1 of the others (5)", async () => {
  await using folder = await temporaryFolder();
  const file = `${folder.path}/pool.db`;
  await using pool = createPool({ database: `file:${file}`, encryptionKey: KEY });
  await donate(pool, 7);
  const children = Array.from({ length: 8 }, () => spawn("draw", `file:${file}`, KEY, "40"));
  const outputs = children.map(linesOf);
  await Promise.all(outputs.map((lines) => untilLine(lines, "ready")));
  for (const child of children) await child.stdin.close();
  for (const [index, lines] of outputs.entries()) {
    assert.equal(JSON.parse((await lines.next()).value as string).ids.length, 40);
    await lines.return(undefined);
    assert.equal((await children[index]!.status).code, 0);
  }
  const calls = (await readElsewhere(file, "SELECT calls FROM token_pool_limits")).map((row) => row["calls"] as number);
  assert.equal(calls.reduce((sum, count) => sum + count), 320);
  assert.ok(Math.max(...calls) - Math.min(...calls) <= 1, `uses per token: ${calls}`);
});

Deno.test("donations that were acknowledged survive kill -9 (2)", async () => {
  await using folder = await temporaryFolder();
  const file = `${folder.path}/pool.db`;
  const acknowledged: number[] = [];
  for (let round = 0; round < 5; round++) {
    const writers = [0, 1].map((index) =>
      spawn("donate", `file:${file}`, KEY, String(1 + round * 20_000 + index * 10_000))
    );
    await Promise.all(writers.map(async (writer) => {
      await writer.stdin.close();
      const lines = linesOf(writer);
      for (let n = 0; n < 10 + round; n++) acknowledged.push(Number((await lines.next()).value));
      writer.kill("SIGKILL");
      for await (const line of lines) acknowledged.push(Number(line)); // what it said before it died
      await writer.status;
    }));
  }
  const stored = await readElsewhere(file, "SELECT github_user_id FROM token_pool_tokens");
  const users = new Set(stored.map((row) => Number(row["github_user_id"])));
  assert.ok(acknowledged.length >= 120);
  assert.deepEqual(acknowledged.filter((user) => !users.has(user)), [], "acknowledged, but lost");
  const [{ integrity_check: integrity }] = await readElsewhere(file, "PRAGMA integrity_check") as [
    Record<string, unknown>,
  ];
  assert.equal(integrity, "ok");
  await using pool = createPool({ database: `file:${file}`, encryptionKey: KEY });
  assert.notEqual(await pool.getToken(), null);
});

Deno.test("a foreign lock that outlasts every wait loses nothing that was acknowledged", async () => {
  await using folder = await temporaryFolder();
  const file = `${folder.path}/pool.db`;
  await using pool = createPool({ database: `file:${file}`, encryptionKey: KEY });
  await donate(pool, 2);
  let acknowledged = 0;
  for (let n = 0; n < 5; n++) if (await pool.getToken() !== null) acknowledged++;
  const { release } = await lockElsewhere(file);
  await assert.rejects(pool.getToken(), { code: "database" });
  await release();
  for (let n = 0; n < 20; n++) if (await pool.getToken() !== null) acknowledged++;
  await pool.addToken({ github_user_id: "after", token: "gho_after" });
  const [{ calls }] = await readElsewhere(file, "SELECT sum(calls) AS calls FROM token_pool_limits") as [
    { calls: number },
  ];
  assert.equal(calls, acknowledged);
  assert.equal(acknowledged, 25);
  const donors = await readElsewhere(file, "SELECT github_user_id AS id FROM token_pool_tokens ORDER BY id");
  assert.deepEqual(donors.map(({ id }) => id), ["1001", "1002", "after"]);
});
