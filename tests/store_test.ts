/**
 * At which time the store's statements happen, by a clock that was given: when they are carried out, also if they had to
 * wait. What they do is held by property/store_test.ts and by the tests of the flows, but for what these make good.
 */

import assert from "node:assert/strict";
import { createClient } from "npm:@libsql/client@0.18.0";
import { Connection } from "../lib/database.ts";
import { assumedWindow, RESET_SLACK_MS } from "../lib/rate_limit.ts";
import { Store } from "../lib/store.ts";
import { Clock, START, temporaryFolder } from "./support/fixtures.ts";
import { readElsewhere } from "./support/processes.ts";

const BENCH_MS = 60_000;
const BENCH = { seconds: BENCH_MS / 1000, baseSeconds: 60, mostSeconds: 3600 };
const DONATION = {
  githubUserId: "1",
  githubUsername: null,
  token: "sealed",
  refreshToken: null,
  expiresAt: null,
  reserve: 0.25,
};

/**
 * A store with one donation in a fresh file, and a clock that moves on by `tickMs` whenever it is read. Whoever has to
 * wait for `lock()` waits until the bench has just ended.
 */
async function temporaryStore({ tickMs = 0 } = {}) {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const file = `${folder.path}/pool.db`;
  const clock = new Clock();
  const other = stack.adopt(createClient({ url: `file:${file}` }), (client) => client.close());
  let release = () => Promise.resolve();
  let waits = 0;
  const sleep = () => {
    waits++;
    clock.time = START + BENCH_MS;
    return release();
  };
  const connection = await Connection.open({ kind: "url", url: `file:${file}` }, { lockTimeoutMs: 2_000, sleep });
  const store = stack.adopt(new Store(connection, () => clock.time += tickMs), (store) => store.close());
  await store.open();
  const { id } = (await store.donate(DONATION, { revokeReplaced: false }))!;
  const resources = stack.move();
  return {
    store,
    clock,
    file,
    id,
    waits: () => waits,
    async lock() {
      const transaction = await other.transaction("write");
      release = () => transaction.rollback();
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

Deno.test("a clock that was given is read when an attempt is sent, anew when a lock was in the way", async () => {
  await using temporary = await temporaryStore();
  const { store, clock, id } = temporary;
  await store.holdUser(id, BENCH);
  clock.advance(BENCH_MS - 1);
  assert.equal(await store.claim("core", 1), null, "benched for a millisecond more");
  await temporary.lock();
  const claim = await store.claim("core", 1);
  assert.equal(temporary.waits(), 1);
  assert.equal(claim?.id, id, "benched until exactly then");
  assert.equal(claim.windowEnds, START + BENCH_MS + assumedWindow("core").windowMs + RESET_SLACK_MS);
});

Deno.test("a clock that was given is read when its turn has come, not when a call begins to wait for another", async () => {
  await using temporary = await temporaryStore();
  const { store, id } = temporary;
  await store.claim("core", 1);
  await store.holdUser(id, BENCH);
  await temporary.lock();
  const [, claim, core] = await Promise.all([
    store.holdResource(id, "search", BENCH), // meets the lock, and the first bench ends meanwhile
    store.claim("core", 1),
    store.availability("core"),
  ]);
  assert.equal(temporary.waits(), 1);
  assert.equal(claim?.id, id);
  assert.deepEqual([core.usable, core.nextAt], [5000 - 1250 - 2, null]);
  assert.equal((await store.availability("search")).nextAt, START + 2 * BENCH_MS, "benched from when that was stored");
});

Deno.test("donate() that is repeated because its answer was lost does not have its own token revoked", async () => {
  await using temporary = await temporaryStore();
  const { store, clock } = temporary;
  const again = { ...DONATION, token: "sealed anew" };
  for (let n = 0; n < 2; n++) await store.donate(again, { revokeReplaced: true });
  clock.advance(60_000);
  assert.deepEqual((await store.takeRevocations(9)).map(({ token }) => token), [DONATION.token]);
});

Deno.test("notFound() and remove() leave who was acquitted, or gave another token, while GitHub was asked", async () => {
  await using temporary = await temporaryStore();
  const { store, id } = temporary;
  await store.suspect(id);
  await store.acquit(id, DONATION.token);
  assert.equal(await store.notFound(id, DONATION.token), "kept");
  await store.remove(id, "the one before");
  assert.equal((await store.claim("core", 1))?.id, id);
});

Deno.test("all statements of a transaction see the same instant of a clock that was given", async () => {
  await using temporary = await temporaryStore({ tickMs: 1 });
  const { store, clock, file, id } = temporary;
  const before = clock.time;
  await store.suspect(id);
  const [row] = await readElsewhere(
    file,
    "SELECT suspect_at, check_at, at FROM token_pool_tokens, token_pool_suspicions",
  );
  assert.deepEqual(row, { suspect_at: before + 1, check_at: before + 1, at: before + 1 });
});
