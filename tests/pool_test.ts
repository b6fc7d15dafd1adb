/**
 * The consumer's flow on real databases: every scenario runs on a file and on a libSQL server. The invariants are
 * those of the design, by number.
 */

import assert from "node:assert/strict";
import { createClient } from "npm:@libsql/client@0.18.0";
import {
  createPool,
  type Database,
  type GetTokenOptions,
  type Pool,
  PoolError,
  type PoolOptions,
  type RateLimitInfo,
} from "../lib/pool.ts";
import { Consumer } from "../lib/consumer.ts";
import { type Donation, Vault } from "../lib/vault.ts";
import {
  badCredentials,
  Clock,
  donate,
  donation,
  draw,
  KEY,
  limitHeaders,
  OTHER_KEY,
  response,
  temporaryFolder,
} from "./support/fixtures.ts";
import { startSqld } from "./support/sqld.ts";

interface World {
  pool: Pool;
  clock: Clock;
  url: string;
  /** Another pool on the same database, as another process has it. */
  another(options?: PoolOptions): Pool;
  /** Rows of the database, past the pool. */
  rows(sql: string): Promise<Record<string, unknown>[]>;
}

/** Runs a scenario on both kinds of database. */
function scenario(name: string, run: (world: World) => Promise<void>, options: PoolOptions = {}): void {
  Deno.test(`${name} (file)`, async () => {
    await using folder = await temporaryFolder();
    await inWorld(`file:${folder.path}/pool.db`, run, options);
  });
  Deno.test(`${name} (server)`, async () => {
    await using server = await startSqld();
    await inWorld(server.url, run, options);
  });
}

async function inWorld(url: string, run: (world: World) => Promise<void>, options: PoolOptions): Promise<void> {
  const clock = new Clock();
  await using pools = new AsyncDisposableStack();
  const another = (more: PoolOptions = {}) =>
    pools.use(createPool({ database: url, encryptionKey: KEY, now: clock.now, ...options, ...more }));
  const rows = async (sql: string) => {
    const client = createClient({ url });
    const { rows } = await client.execute(sql);
    client.close();
    return rows as unknown as Record<string, unknown>[];
  };
  await run({ pool: another(), clock, url, another, rows });
}

/** What GitHub says: `remaining` of `limit`, until `reset` in epoch seconds. */
function report(limit: number, remaining: number, reset: number, resource = "core"): RateLimitInfo {
  return { limit, remaining, used: limit - remaining, reset_at: reset, resource, retry_after: null };
}

const HOUR_MS = 3_600_000;

scenario("getToken() returns the least recently used token, charged and opened", async ({ pool, clock }) => {
  const ids = await donate(pool, 3);
  const first = await pool.getToken();
  assert.deepEqual(first, {
    id: ids[0],
    github_user_id: "1001",
    github_username: "user1",
    token: "gho_token1",
    resource: "core",
    rate_limit_limit: null,
    rate_limit_remaining: 4999,
    rate_limit_reset_at: null,
  });
  clock.advance(1);
  assert.deepEqual(await draw(pool, 5), [ids[1], ids[2], ids[0], ids[1], ids[2]]);
});

scenario(
  "getToken() favours no token while the clock stands still, and a new donation joins at the end (5)",
  async (world) => {
    const { pool } = world;
    const [a, b, c] = await donate(pool, 3);
    assert.deepEqual(await draw(pool, 4), [a, b, c, a]);
    const d = await pool.addToken(donation(4));
    assert.deepEqual(await draw(pool, 8), [b, c, a, d, b, c, a, d]);
  },
);

scenario("getToken() returns null for an empty pool", async ({ pool }) => {
  assert.equal(await pool.getToken(), null);
  assert.deepEqual(await pool.availability(), { resource: "core", usable: 0, tokens: 0, next_available_at: null });
});

scenario(
  "a token at its reserve is not handed out before reset + 1 s, and exactly then it is (4)",
  async ({ pool, clock }) => {
    const [id] = await donate(pool, 1);
    const reset = clock.seconds + 600;
    await pool.reportUsage(id!, report(5000, 1252, reset));
    assert.equal((await pool.getToken())?.rate_limit_remaining, 1251);
    const last = await pool.getToken();
    assert.equal(last?.rate_limit_remaining, 1250);
    assert.equal(last?.rate_limit_reset_at, reset);
    assert.equal(await pool.getToken(), null);
    const readyAt = (reset + 1) * 1000;
    assert.deepEqual(await pool.availability(), { resource: "core", usable: 0, tokens: 1, next_available_at: readyAt });
    clock.time = readyAt - 1;
    assert.equal(await pool.getToken(), null);
    clock.time = readyAt;
    const renewed = await pool.getToken();
    assert.equal(renewed?.rate_limit_remaining, 4999, "the window is full again");
    assert.equal(renewed?.rate_limit_limit, 5000);
    assert.equal(renewed?.rate_limit_reset_at, null, "and provisional until GitHub says");
  },
);

scenario("no claim goes below the reserve, whatever its cost (4)", async ({ pool, clock }) => {
  const [id] = await donate(pool, 1);
  await pool.reportUsage(id!, report(5000, 1260, clock.seconds + 600));
  assert.equal(await pool.getToken({ cost: 11 }), null);
  assert.equal((await pool.getToken({ cost: 10 }))?.rate_limit_remaining, 1250);
  assert.equal(await pool.getToken({ cost: 1 }), null);
});

scenario("a costly claim passes by tokens that have less, and leaves them their turn", async ({ pool, clock }) => {
  const [a, b] = await donate(pool, 2);
  await pool.reportUsage(a!, report(5000, 1255, clock.seconds + 600));
  assert.equal((await pool.getToken({ cost: 100 }))?.id, b);
  assert.deepEqual(await draw(pool, 2), [a, b]);
});

scenario("the floor is ceil(reserve × limit), rounded to six digits first", async ({ pool, clock }) => {
  const [id] = await donate(pool, 1, { reserve: 0.07 });
  await pool.reportUsage(id!, report(100, 9, clock.seconds + 600));
  assert.equal((await pool.availability()).usable, 2, "0.07 × 100 is 7, although it is 7.000000000000001");
  const other = await pool.addToken(donation(2, { reserve: 0.071 }));
  await pool.reportUsage(other, report(100, 9, clock.seconds + 600));
  assert.equal((await pool.availability()).usable, 3, "7.1 is 8");
});

scenario("what a consumer sets never lowers a donor's reserve", async ({ pool, clock, another }) => {
  const [id] = await donate(pool, 1, { reserve: 0.9 });
  await pool.reportUsage(id!, report(5000, 4500, clock.seconds + 600));
  assert.equal(await another({ reserve: 0 }).getToken(), null);
  const generous = another({ reserve: 0 });
  await generous.addToken(donation(2));
  assert.equal((await generous.availability()).usable, 5000, "it is the default of its own donations only");
});

scenario("a reserve may be as small as one likes", async ({ another }) => {
  const pool = another({ reserve: 1e-7 });
  await pool.addToken(donation(1));
  assert.equal((await pool.availability()).usable, 4999, "a call that is begun is kept");
});

scenario(
  "a donor who keeps all of a small limit is never asked for it, and does not block the queue",
  async ({ pool }) => {
    await donate(pool, 2, { reserve: 0.95 });
    await pool.addToken(donation(3, { reserve: 0 }));
    assert.equal((await pool.getToken({ resource: "code_search" }))?.github_user_id, "1003", "0.95 × 9 leaves nothing");
    assert.deepEqual(await pool.availability("code_search"), {
      resource: "code_search",
      usable: 8,
      tokens: 3,
      next_available_at: null,
    });
  },
);

scenario(
  "no time is promised for a resource of which a donor keeps all, though a bench of theirs will end",
  async ({ pool }) => {
    const [id] = await donate(pool, 1, { reserve: 0.95 });
    await pool.syncTokenHealth(id!, response(403, { "retry-after": "60" }, { message: "secondary rate limit" }));
    const never = { resource: "code_search", usable: 0, tokens: 1, next_available_at: null };
    assert.deepEqual(await pool.availability("code_search"), never, "before its first use");
    assert.equal(await pool.getToken({ resource: "code_search" }), null);
    assert.deepEqual(await pool.availability("code_search"), never, "and after");
  },
);

scenario("resources are apart, and each has its limit until GitHub says otherwise", async ({ pool }) => {
  await donate(pool, 2, { reserve: 0 });
  for (const [resource, limit] of Object.entries({ core: 5000, graphql: 5000, search: 30, code_search: 9, sbom: 60 })) {
    assert.equal((await pool.availability(resource)).usable, 2 * limit, resource);
    assert.equal((await pool.getToken({ resource }))?.rate_limit_remaining, limit - 1, resource);
    assert.equal((await pool.getToken({ resource }))?.rate_limit_remaining, limit - 1, resource);
    assert.equal((await pool.availability(resource)).usable, 2 * limit - 2, resource);
  }
});

scenario(
  "the first use of a resource seeds it for all, in the order of donation, and a donation for every resource",
  async (world) => {
    const { pool, another } = world;
    const [a, b] = await donate(pool, 2);
    assert.deepEqual(await draw(pool, 1), [a]);
    assert.deepEqual(await draw(pool, 3, "search"), [a, b, a]);
    const c = await pool.addToken(donation(3));
    assert.deepEqual(await draw(another(), 3, "search"), [b, a, c]);
    // A report may be the first that is heard of a resource.
    await pool.reportUsage(b!, report(10, 10, world.clock.seconds + 60, "code_search"));
    assert.deepEqual((await draw(pool, 3, "code_search")).toSorted(), [a, b, c].toSorted());
  },
);

scenario(
  "claims that are never reported neither drain a donor nor dry the pool for ever (8)",
  async ({ pool, clock }) => {
    const ids = await donate(pool, 2, { reserve: 0.5 });
    const drawn = (await draw(pool, 40, "search")).filter((id) => id !== null);
    assert.equal(drawn.length, 30, "15 of 30 each");
    assert.deepEqual(ids.map((id) => drawn.filter((other) => other === id).length), [15, 15]);
    const { next_available_at: next } = await pool.availability("search");
    assert.equal(next, clock.time + 61_000, "a window of 60 s from the first claim, and a second of slack");
    clock.time = next! - 1;
    assert.equal(await pool.getToken({ resource: "search" }), null);
    clock.time = next!;
    assert.equal((await draw(pool, 40, "search")).filter((id) => id !== null).length, 30);
  },
);

scenario("reports merge alike in any order, repeated or late (7, 10)", async ({ pool, clock, rows }) => {
  const reset = clock.seconds + 1800;
  const reports = [
    report(5000, 4000, reset),
    report(5000, 3990, reset + 1),
    report(5000, 3995, reset - 1),
    report(5000, 3990, reset),
  ];
  const orders = permutations(reports);
  const ids = await donate(pool, orders.length);
  for (const [index, order] of orders.entries()) {
    for (const info of [...order, order[0]!]) await pool.reportUsage(ids[index]!, info);
  }
  const states = await rows("SELECT DISTINCT remaining, reset_at, cap FROM token_pool_limits WHERE resource = 'core'");
  assert.deepEqual(states.map((row) => ({ ...row })), [{ remaining: 3990, reset_at: reset + 1, cap: 5000 }]);
});

scenario(
  "of two limits within a window the one counts that the smaller remaining is of, in any order (10)",
  async ({ pool, clock, rows }) => {
    const reset = clock.seconds + 1800;
    const sets = [
      { reports: [report(5000, 4000, reset), report(15_000, 12_000, reset)], end: { cap: 5000, remaining: 4000 } },
      { reports: [report(5000, 4000, reset), report(100, 90, reset + 1)], end: { cap: 100, remaining: 90 } },
      // The larger limit has the larger reserve.
      { reports: [report(5000, 4000, reset), report(15_000, 4000, reset)], end: { cap: 15_000, remaining: 4000 } },
    ];
    const ids = await donate(pool, 6);
    for (const { reports, end } of sets) {
      for (const order of permutations(reports)) {
        const id = ids.pop()!;
        for (const info of [...order, order[0]!]) await pool.reportUsage(id, info);
        const [row] = await rows(`SELECT cap, remaining FROM token_pool_limits WHERE token_id = ${id}`);
        assert.deepEqual({ ...row }, end);
      }
    }
    await pool.reportUsage(1, report(60, 59, reset + 3600));
    const [row] = await rows("SELECT cap, remaining FROM token_pool_limits WHERE token_id = 1");
    assert.deepEqual({ ...row }, { cap: 60, remaining: 59 }, "a newer window has its own");
  },
);

scenario(
  "a newer window replaces, an older one is dropped, one that is past counts for nothing",
  async ({ pool, clock }) => {
    const [id] = await donate(pool, 1, { reserve: 0 });
    const usable = async () => (await pool.availability()).usable;
    await pool.reportUsage(id!, report(5000, 100, clock.seconds + 100));
    assert.equal(await usable(), 100);
    await pool.reportUsage(id!, report(5000, 4000, clock.seconds + 106));
    assert.equal(await usable(), 4000);
    await pool.reportUsage(id!, report(5000, 50, clock.seconds + 100));
    assert.equal(await usable(), 4000);
    await pool.reportUsage(id!, report(5000, 0, clock.seconds - 10));
    assert.equal(await usable(), 4000);
    await pool.reportUsage(id!, report(5000, 4500, clock.seconds + 106));
    assert.equal(await usable(), 4000, "within a window the count never rises");
  },
);

scenario("GitHub's window replaces a provisional one, less what was charged in it", async ({ pool, clock }) => {
  const [id] = await donate(pool, 1, { reserve: 0 });
  await draw(pool, 10);
  await pool.reportUsage(id!, report(5000, 4999, clock.seconds + 3600));
  const token = await pool.getToken();
  assert.equal(token?.rate_limit_remaining, 4989, "ten calls are under way, of which GitHub has seen one");
  assert.equal(token?.rate_limit_reset_at, clock.seconds + 3600);
});

scenario(
  "what was charged in a provisional window counts against a limit that turns out smaller",
  async ({ pool, clock }) => {
    const [id] = await donate(pool, 1, { reserve: 0 });
    await draw(pool, 10);
    await pool.reportUsage(id!, report(100, 99, clock.seconds + 3600));
    assert.equal((await pool.getToken())?.rate_limit_remaining, 89);
  },
);

scenario("a report whose numbers cannot be true is dropped", async ({ pool, clock }) => {
  const [id] = await donate(pool, 1, { reserve: 0 });
  const reset = clock.seconds + 100;
  const odd = [NaN, -1, 1.5, 1e15, Infinity, null, "5", undefined, {}] as unknown as number[];
  for (const number of odd) {
    await pool.reportUsage(id!, { ...report(5000, 0, reset), limit: number });
    await pool.reportUsage(id!, { ...report(5000, 0, reset), remaining: number });
    await pool.reportUsage(id!, { ...report(5000, 0, reset), reset_at: number });
  }
  await pool.reportUsage(id!, { ...report(5000, 0, reset), resource: "No such resource" });
  assert.equal((await pool.availability()).usable, 5000);
});

scenario(
  "a 401 takes a token out of rotation at once and everywhere, and its numbers are not kept (3)",
  async (world) => {
    const { pool, another, clock, rows } = world;
    const [a, b] = await donate(pool, 2);
    const elsewhere = another();
    await draw(elsewhere, 2);
    await pool.syncTokenHealth(a!, badCredentials());
    assert.deepEqual(await draw(elsewhere, 3), [b, b, b]);
    clock.advance(100 * HOUR_MS);
    assert.deepEqual(await draw(elsewhere, 2), [b, b], "time alone does not bring it back");
    assert.deepEqual(await draw(pool, 2, "search"), [b, b], "nor does a resource that was never used");
    const caps = await rows(`SELECT DISTINCT cap FROM token_pool_limits WHERE token_id = ${a} AND resource = 'core'`);
    assert.deepEqual(caps.map((row) => row["cap"]), [5000]);
    assert.equal((await pool.availability()).tokens, 2, "the library never deletes on a 401");
    await pool.reportUsage(a!, report(5000, 4000, clock.seconds + 3600));
    assert.deepEqual(await draw(pool, 2), [b, b], "a late success does not clear it");
  },
);

scenario(
  "a resource that was never used starts in the order of donation, whoever was benched before and reports first",
  async ({ pool, clock }) => {
    const [a, b] = await donate(pool, 2);
    await pool.syncTokenHealth(a!, response(403, { "retry-after": "60" }, { message: "secondary rate limit" }));
    clock.advance(HOUR_MS);
    await pool.reportUsage(a!, report(30, 29, clock.seconds + 60, "search"));
    assert.deepEqual(await draw(pool, 2, "search"), [a, b]);
  },
);

scenario("donating again clears suspicion; limits and a bench stay", async ({ pool, clock }) => {
  const [a] = await donate(pool, 1);
  await pool.reportUsage(a!, report(5000, 3000, clock.seconds + 1800));
  await pool.syncTokenHealth(a!, badCredentials());
  assert.equal(await pool.getToken(), null);
  assert.equal(await pool.addToken(donation(1, { token: "gho_new" })), a, "one row per user (1)");
  const token = await pool.getToken();
  assert.equal(token?.token, "gho_new");
  assert.equal(token?.rate_limit_remaining, 2999);
  await pool.syncTokenHealth(a!, response(403, { "retry-after": "600" }, { message: "secondary rate limit" }));
  await pool.addToken(donation(1));
  assert.equal(await pool.getToken(), null);
  clock.advance(600_000);
  assert.equal((await pool.getToken())?.id, a);
});

scenario("donating again with another reserve moves the floor", async ({ pool, clock }) => {
  const [a] = await donate(pool, 1, { reserve: 0.25 });
  await pool.reportUsage(a!, report(5000, 3000, clock.seconds + 1800));
  await pool.addToken(donation(1, { reserve: 0.75 }));
  assert.equal(await pool.getToken(), null);
  await pool.addToken(donation(1, { reserve: 0.5 }));
  assert.equal((await pool.availability()).usable, 500);
  assert.equal((await pool.getToken())?.rate_limit_remaining, 2999);
});

scenario(
  "a secondary limit benches the user for all resources: retry-after, else 60 s doubling to 1 h (4)",
  async (world) => {
    const { pool, clock } = world;
    const [a] = await donate(pool, 1);
    await pool.getToken({ resource: "search" });
    const secondary = () => response(403, {}, { message: "You have exceeded a secondary rate limit." });
    const isBenchedFor = async (seconds: number, resource: string) => {
      clock.advance(seconds * 1000 - 1);
      assert.equal(await pool.getToken({ resource }), null, `benched for ${seconds} s`);
      clock.advance(1);
      assert.equal((await pool.getToken({ resource }))?.id, a, `back after ${seconds} s`);
    };
    for (const seconds of [60, 120, 240, 480, 960, 1920, 3600, 3600]) {
      await pool.syncTokenHealth(a!, secondary());
      await pool.syncTokenHealth(a!, secondary()); // an echo of a call that was under way: no doubling
      await isBenchedFor(seconds, "core");
      await pool.syncTokenHealth(a!, response(502)); // no success, which would reset the doubling
    }
    const { reset_at } = report(5000, 4000, clock.seconds + 3600);
    await pool.syncTokenHealth(a!, response(200, limitHeaders(5000, 4000, reset_at!)));
    await pool.syncTokenHealth(a!, secondary());
    await isBenchedFor(60, "search"); // a success resets the doubling
    await pool.syncTokenHealth(a!, response(429, { "retry-after": "30" }));
    await pool.syncTokenHealth(a!, response(429, { "retry-after": "10" }));
    await pool.syncTokenHealth(a!, response(200, limitHeaders(5000, 3999, reset_at!)));
    await isBenchedFor(30, "core"); // the longest bench wins, and a success does not shorten it
  },
);

scenario("a success resets the doubling without another hand-out between", async ({ pool, clock }) => {
  const [a] = await donate(pool, 1);
  const free = () => response(304, limitHeaders(5000, 4000, clock.seconds + 3600));
  for (const message of ["You have exceeded a secondary rate limit.", "API rate limit exceeded for user ID 1001."]) {
    for (const success of [() => response(200), free, free, () => response(200)]) {
      await pool.syncTokenHealth(a!, response(403, {}, { message }));
      clock.advance(60_000);
      await pool.syncTokenHealth(a!, success());
    }
    assert.equal((await pool.getToken())?.id, a, message);
  }
});

scenario(
  "a success that was under way when the bench began leaves the doubling to one after it",
  async ({ pool, clock }) => {
    const [a] = await donate(pool, 1);
    const free = () => response(304, limitHeaders(5000, 5000, clock.seconds + 3600)); // its window has not begun
    const counted = () => response(200, limitHeaders(5000, 4000, clock.seconds + 600));
    for (const success of [free, counted, () => response(200), free]) {
      await pool.syncTokenHealth(a!, response(403, {}, { message: "You have exceeded a secondary rate limit." }));
      assert.equal((await pool.availability()).next_available_at, clock.time + 60_000);
      await pool.syncTokenHealth(a!, success());
      assert.equal((await pool.availability()).next_available_at, clock.time + 60_000);
      clock.advance(60_000);
      await pool.syncTokenHealth(a!, success());
    }
  },
);

scenario("a primary limit exhausts its resource until the reset, and no other", async ({ pool, clock }) => {
  const [a] = await donate(pool, 1);
  const reset = clock.seconds + 900;
  const exceeded = { message: "API rate limit exceeded for user ID 1001." };
  await pool.syncTokenHealth(a!, response(403, limitHeaders(5000, 0, reset), exceeded));
  assert.equal(await pool.getToken(), null);
  assert.equal((await pool.getToken({ resource: "search" }))?.id, a);
  clock.time = (reset + 1) * 1000;
  assert.equal((await pool.getToken())?.id, a);
  // A reset that is past already, because clocks differ: one second from now.
  await pool.syncTokenHealth(a!, response(403, limitHeaders(5000, 0, clock.seconds - 30), exceeded));
  clock.advance(999);
  assert.equal(await pool.getToken(), null);
  clock.advance(1);
  assert.equal((await pool.getToken())?.id, a);
});

scenario("a primary limit without a reset benches its resource alone: 60 s doubling", async ({ pool, clock }) => {
  const [a] = await donate(pool, 1);
  const exceeded = () => response(403, {}, { message: "API rate limit exceeded for user ID 1001." });
  for (const seconds of [60, 120, 240]) {
    await pool.syncTokenHealth(a!, exceeded());
    await pool.syncTokenHealth(a!, exceeded()); // an echo of a call that was under way: no doubling
    clock.advance(seconds * 1000 - 1);
    assert.equal(await pool.getToken(), null, `benched for ${seconds} s`);
    assert.equal((await pool.getToken({ resource: "search" }))?.id, a);
    clock.advance(1);
    assert.equal((await pool.getToken())?.id, a, `back after ${seconds} s`);
  }
});

scenario("a 403 that is not a limit benches nothing (9)", async ({ pool, clock }) => {
  const [a] = await donate(pool, 1);
  const reset = clock.seconds + 900;
  await pool.syncTokenHealth(a!, response(403, limitHeaders(5000, 4321, reset), { message: "Must have push access" }));
  assert.equal((await pool.getToken())?.rate_limit_remaining, 4320, "but its numbers count");
});

scenario("a 304 gives its call back, never above what GitHub says remains", async ({ pool, clock }) => {
  const [a] = await donate(pool, 1);
  const reset = clock.seconds + 900;
  await pool.reportUsage(a!, report(5000, 4000, reset));
  const token = await pool.getToken();
  assert.equal(token?.rate_limit_remaining, 3999);
  await pool.syncTokenHealth(a!, response(304, limitHeaders(5000, 4000, reset)));
  await pool.syncTokenHealth(a!, response(304, limitHeaders(5000, 4000, reset)));
  assert.equal((await pool.getToken())?.rate_limit_remaining, 3999);
  await pool.syncTokenHealth(a!, response(304, limitHeaders(5000, 3000, reset)));
  assert.equal((await pool.getToken())?.rate_limit_remaining, 2999);
  await pool.syncTokenHealth(a!, response(304));
  assert.equal((await pool.getToken())?.rate_limit_remaining, 2998, "without numbers nothing is given back");
});

scenario(
  "a 304 that is told twice gives its call back once, while others of the token are out",
  async ({ pool, clock }) => {
    const [a] = await donate(pool, 1);
    const reset = clock.seconds + 3600;
    await pool.syncTokenHealth(a!, response(200, limitHeaders(5000, 4000, reset)));
    await draw(pool, 5);
    const unchanged = response(304, limitHeaders(5000, 4000, reset));
    for (let n = 0; n < 3; n++) await pool.syncTokenHealth(a!, unchanged);
    assert.equal((await pool.getToken())?.rate_limit_remaining, 3995, "4000 less six calls, of which one was free");
  },
);

scenario("a 304 before GitHub's window has begun gives its call back, and names no window", async ({ pool, clock }) => {
  const [a] = await donate(pool, 1);
  const reset = clock.seconds + 3600;
  await draw(pool, 1);
  const unchanged = response(304, limitHeaders(5000, 5000, reset));
  for (let n = 0; n < 2; n++) await pool.syncTokenHealth(a!, unchanged);
  await draw(pool, 2);
  const token = await pool.getToken();
  assert.deepEqual([token?.rate_limit_remaining, token?.rate_limit_reset_at], [4997, null]);
  // The window begins with the first of the three; the two others are under way, and must not be forgotten.
  await pool.syncTokenHealth(a!, response(200, limitHeaders(5000, 4999, reset + 10)));
  assert.equal((await pool.getToken())?.rate_limit_remaining, 4996);
});

scenario(
  "a 304 from before the window began gives its call back, also when it is told of last",
  async ({ pool, clock }) => {
    const [a] = await donate(pool, 1);
    const reset = clock.seconds + 3600;
    await draw(pool, 2);
    await pool.syncTokenHealth(a!, response(200, limitHeaders(5000, 4999, reset)));
    await pool.syncTokenHealth(a!, response(304, limitHeaders(5000, 5000, reset - 1)));
    assert.equal((await pool.getToken())?.rate_limit_remaining, 4998);
    // One that was printed for another window was not charged to this one.
    await pool.syncTokenHealth(a!, response(304, limitHeaders(5000, 5000, reset + 6)));
    assert.equal((await pool.getToken())?.rate_limit_remaining, 4997);
  },
);

scenario(
  "errors of GitHub's and unknown tokens change nothing, and the body stays the caller's",
  async ({ pool, clock }) => {
    const [a] = await donate(pool, 1);
    await pool.syncTokenHealth(a!, response(502, {}, "<html>"));
    await pool.syncTokenHealth(999, badCredentials());
    await pool.reportUsage(999, report(5000, 0, clock.seconds + 60));
    const mine = response(403, limitHeaders(5000, 4000, clock.seconds + 60), { message: "mine to read" });
    await pool.syncTokenHealth(a!, mine);
    assert.deepEqual(await mine.json(), { message: "mine to read" });
    await pool.handleResponse(a!, mine); // consumed: counts as empty
    assert.equal((await pool.getToken())?.rate_limit_remaining, 3999);
  },
);

scenario("a body that the caller is reading counts as empty, and is read to its end", async ({ pool }) => {
  const [a, b] = await donate(pool, 2);
  for (const [id, status, reading] of [[a!, 403, "plain"], [b!, 401, "Bad credentials"]] as const) {
    const answer = response(status, {}, reading);
    const reader = answer.body!.getReader();
    await pool.syncTokenHealth(id, answer);
    assert.equal(new TextDecoder().decode((await reader.read()).value), reading);
  }
  assert.deepEqual(await draw(pool, 2), [a, a], "a 401 counts whatever its body says, and a 403 does not without one");
});

scenario("a body that cannot be let go of is no failure of anybody's", async ({ pool }) => {
  await donate(pool, 1);
  const { id } = (await pool.getToken())!;
  const body = new ReadableStream({
    pull: (stream) => stream.enqueue(new Uint8Array(65_536)),
    cancel: () => Promise.reject(new TypeError("connection reset")),
  });
  const answer = new Response(body, { status: 403 });
  await pool.syncTokenHealth(id, answer);
  await assert.rejects(answer.body!.cancel(), /connection reset/);
});

scenario("a suspended account leaves the pool, and late news of it meets nobody", async ({ pool, clock }) => {
  const [a, b] = await donate(pool, 2);
  await pool.syncTokenHealth(a!, response(403, {}, { message: "Sorry. Your account was suspended." }));
  assert.deepEqual(await draw(pool, 2), [b, b]);
  assert.equal((await pool.availability()).tokens, 1);
  const again = await pool.addToken(donation(1));
  assert.notEqual(again, a, "ids are not used again");
  await pool.reportUsage(a!, report(5000, 0, clock.seconds + 60));
  await pool.syncTokenHealth(a!, badCredentials());
  assert.deepEqual(await draw(pool, 2), [b, again]);
});

scenario(
  "a report that says no more than the hand-out did is not written; claims are one round trip",
  async (world) => {
    const { pool, another, clock, url } = world;
    const [a] = await donate(pool, 1);
    const client = createClient({ url });
    let trips = 0;
    const counted: Database = {
      execute: (statement) => (trips++, client.execute(statement)),
      batch: (statements, mode) => (trips++, client.batch(statements, mode)),
    };
    const consumer = another({ database: counted });
    const tripsOf = async (run: () => Promise<unknown>) => {
      const before = trips;
      await run();
      return trips - before;
    };
    const reset = clock.seconds + 900;
    assert.equal(
      await tripsOf(() => consumer.getToken()),
      2,
      "a cold process looks at the schema and the canary first",
    );
    assert.equal(await tripsOf(() => consumer.reportUsage(a!, report(5000, 4000, reset))), 1);
    assert.equal(await tripsOf(() => consumer.getToken()), 1);
    assert.equal(
      await tripsOf(() => consumer.reportUsage(a!, report(5000, 3999, reset))),
      0,
      "that is what it was told",
    );
    assert.equal(await tripsOf(() => consumer.syncTokenHealth(a!, response(200, limitHeaders(5000, 4000, reset)))), 0);
    assert.equal(
      await tripsOf(() => consumer.reportUsage(a!, report(5000, 3998, reset))),
      1,
      "the donor's own calls are news",
    );
    assert.equal((await pool.getToken())?.rate_limit_remaining, 3997);

    const b = await pool.addToken(donation(2));
    await pool.reportUsage(b, report(5000, 4000, reset));
    assert.deepEqual(new Set(await draw(consumer, 2)), new Set([a, b]));
    for (const id of [a!, b]) {
      assert.equal(await tripsOf(() => consumer.reportUsage(id, report(5000, 4000, reset))), 0, "of neither of two");
    }

    const { id, rate_limit_remaining: left } = (await consumer.getToken())!;
    await consumer.syncTokenHealth(id, response(304, limitHeaders(5000, left + 1, reset)));
    assert.equal(
      await tripsOf(() => consumer.reportUsage(id, report(5000, left, reset))),
      1,
      "what was given back for a free call is drawn after all",
    );
    client.close();
  },
);

scenario(
  "what is told again although the hand-out implied it goes with the next claim of its resource, and is no round trip",
  async ({ pool, another, clock, url, rows }) => {
    const [a] = await donate(pool, 1);
    const client = createClient({ url });
    let trips = 0;
    const database: Database = {
      execute: (statement) => (trips++, client.execute(statement)),
      batch: (statements, mode) => (trips++, client.batch(statements, mode)),
    };
    const consumer = another({ database });
    const reset = clock.seconds + 900;
    const heard = async () =>
      (await rows("SELECT remaining FROM token_pool_readings")).map(({ remaining }) => remaining);
    await consumer.getToken();
    await consumer.getToken({ resource: "search" });
    await consumer.reportUsage(a!, report(5000, 4000, reset));
    assert.deepEqual(await heard(), [4000]);
    await consumer.getToken({ cost: 300 });
    trips = 0;
    await consumer.reportUsage(a!, report(5000, 3700, reset));
    assert.equal(trips, 0);
    await consumer.getToken({ resource: "search" });
    assert.deepEqual([trips, await heard()], [1, [4000]]);
    await consumer.getToken();
    assert.deepEqual([trips, await heard()], [2, [3700]]);
    await consumer.getToken();
    assert.deepEqual([trips, await heard()], [3, [3700]], "once");
    client.close();
  },
);

scenario("a wrong key is told at once, and changes nothing (6)", async ({ pool, another, rows }) => {
  await donate(pool, 2);
  await draw(pool, 2);
  const before = await rows("SELECT * FROM token_pool_tokens JOIN token_pool_limits ON token_id = id ORDER BY id");
  const wrong = another({ encryptionKey: OTHER_KEY });
  for (
    const attempt of [() => wrong.getToken(), () => wrong.addToken(donation(3)), () => wrong.addToken(donation(1))]
  ) {
    await assert.rejects(attempt, (error) => {
      assert.ok(error instanceof PoolError);
      assert.equal(error.code, "wrong_key");
      assert.ok(!error.message.includes(OTHER_KEY));
      return true;
    });
  }
  const after = await rows("SELECT * FROM token_pool_tokens JOIN token_pool_limits ON token_id = id ORDER BY id");
  assert.deepEqual(after, before);
});

scenario(
  "of two processes with different keys on an empty database the second to donate is refused",
  async ({ pool, another }) => {
    const other = another({ encryptionKey: OTHER_KEY });
    assert.equal(await other.getToken(), null);
    await donate(pool, 1);
    await assert.rejects(other.addToken(donation(2)), { code: "wrong_key" });
    await assert.rejects(other.getToken(), { code: "wrong_key" });
    assert.equal((await pool.availability()).tokens, 1);
  },
);

scenario(
  "a token sealed under the previous key opens, and new ones are sealed under the current",
  async ({ pool, another }) => {
    await donate(pool, 1);
    const rotating = another({ encryptionKey: OTHER_KEY, previousEncryptionKeys: [KEY] });
    assert.equal((await rotating.getToken())?.token, "gho_token1");
    await rotating.addToken(donation(2));
    const renewed = another({ encryptionKey: OTHER_KEY });
    assert.equal((await renewed.getToken())?.token, "gho_token2", "a row that does not open is passed over");
    assert.equal((await pool.getToken())?.token, "gho_token1", "and so is a newer one by who has the old key only");
  },
);

scenario(
  "a row that does not open keeps its text and health, and the next one is tried (6)",
  async ({ pool, rows }) => {
    const ids = await donate(pool, 3);
    await rows(`UPDATE token_pool_tokens SET token = (SELECT token FROM token_pool_tokens WHERE id = ${ids[2]})
    WHERE id IN (${ids[0]}, ${ids[1]}) RETURNING id`);
    const before = await rows("SELECT token, suspect_at, held_until FROM token_pool_tokens ORDER BY id");
    assert.deepEqual(
      await draw(pool, 3),
      [ids[2], ids[2], ids[2]],
      "a text that was moved to another row does not open",
    );
    assert.deepEqual(await rows("SELECT token, suspect_at, held_until FROM token_pool_tokens ORDER BY id"), before);
    await rows(`DELETE FROM token_pool_tokens WHERE id = ${ids[2]} RETURNING id`);
    await rows(`DELETE FROM token_pool_limits WHERE token_id = ${ids[2]} RETURNING token_id`);
    assert.equal(await pool.getToken(), null, "null when an id comes twice");
  },
);

scenario("getToken() tries 20 tokens that do not open, and ends with null", async ({ pool, rows }) => {
  const ids = await donate(pool, 21);
  await rows(`UPDATE token_pool_tokens SET token = (SELECT token FROM token_pool_tokens WHERE id = ${ids[20]})
    WHERE id <> ${ids[20]} RETURNING id`);
  assert.equal(await pool.getToken(), null);
  const drawn = "SELECT token_id AS id, calls FROM token_pool_limits WHERE resource = 'core' AND calls > 0 ORDER BY id";
  const charged = ids.slice(0, 20).map((id) => ({ id, calls: 1 }));
  assert.deepEqual((await rows(drawn)).map((row) => ({ ...row })), charged, "their claims' charge stays");
  assert.equal((await pool.getToken())?.id, ids[20], "the next call goes on with the next one");
});

Deno.test("Vault.openText() keeps at most 1,000 opened texts in memory", async () => {
  const vault = new Vault({ environment: () => undefined, database: ":memory:", encryptionKey: KEY });
  const keyring = await vault.keyring();
  const place = (n: number) => ({ column: "token", githubUserId: `${n}` } as const);
  const sealed = await Promise.all(Array.from({ length: 1001 }, (_, n) => keyring.seal(`gho_${n}`, place(n))));
  const { decrypt } = crypto.subtle;
  let decryptions = 0;
  crypto.subtle.decrypt = (...args) => (decryptions++, decrypt.apply(crypto.subtle, args));
  try {
    const open = (n: number) => vault.openText(sealed[n]!, "token", `${n}`);
    for (let n = 0; n <= 1000; n++) assert.equal(await open(n), `gho_${n}`);
    for (let n = 1; n <= 1000; n++) await open(n);
    assert.equal(decryptions, 1001, "what is remembered is not opened again");
    assert.equal(await open(0), "gho_0");
    assert.equal(decryptions, 1002, "the oldest was forgotten");
  } finally {
    crypto.subtle.decrypt = decrypt;
    await vault.close();
  }
});

scenario("the database's own clock is used when none was given", async ({ url }) => {
  await using pool = createPool({ database: url, encryptionKey: KEY });
  const [a] = await donate(pool, 1);
  await pool.reportUsage(a!, report(5000, 0, Math.floor(Date.now() / 1000) + 60));
  assert.equal(await pool.getToken(), null);
  await pool.reportUsage(a!, report(5000, 4000, Math.floor(Date.now() / 1000) + 3600));
  assert.equal((await pool.getToken())?.rate_limit_remaining, 3999);
});

scenario("what is asked for must make sense", async ({ pool, clock, another }) => {
  for (const cost of [0, -1, 1.5, NaN, Infinity, 2 ** 53]) await assert.rejects(pool.getToken({ cost }), RangeError);
  await assert.rejects(pool.getToken({ cost: "1" as unknown as number }), TypeError);
  for (const resource of ["", "Core", "a b", "x".repeat(65), "core'; --"]) {
    await assert.rejects(pool.getToken({ resource }), RangeError);
    await assert.rejects(pool.availability(resource), RangeError);
  }
  await assert.rejects(pool.getToken({ resource: 1 as unknown as string }), TypeError);
  for (const options of ["search", null, 1]) {
    await assert.rejects(pool.getToken(options as unknown as GetTokenOptions), TypeError, "options are an object");
  }
  for (const id of ["1" as unknown as number, NaN, Infinity]) {
    await assert.rejects(pool.syncTokenHealth(id, response(200)), TypeError);
    await assert.rejects(pool.reportUsage(id, report(5000, 4000, clock.seconds + 600)), TypeError);
  }
  for (const database of [null, 1, {}, { execute() {} }]) {
    assert.throws(() => another({ database: database as unknown as Database }), TypeError);
  }
  for (const numbers of [null, undefined, "5000"]) {
    const refusal = { name: "TypeError", message: /usage without numbers/ };
    await assert.rejects(pool.reportUsage(1, numbers as unknown as RateLimitInfo), refusal);
  }
  for (const nothing of [undefined, null, 200]) {
    const told = pool.syncTokenHealth(1, nothing as unknown as Response);
    await assert.rejects(told, { name: "TypeError", message: /without a response: give what fetch\(\) returned/ });
  }
  for (const reserve of [-0.1, 0.96, NaN]) {
    assert.throws(() => another({ reserve }), RangeError);
    await assert.rejects(pool.addToken(donation(1, { reserve })), RangeError);
  }
  for (const text of ["", "a b", "a\nb", "x".repeat(2049), "grün"]) {
    for (const bad of [{ token: text }, { refresh_token: text || " " }]) {
      await assert.rejects(pool.addToken(donation(1, bad)), (error) => {
        assert.ok(error instanceof RangeError);
        assert.ok(text === "" || !error.message.includes(text));
        return true;
      });
    }
  }
  for (const expires_at of [1.5, NaN, 2 ** 53]) {
    await assert.rejects(pool.addToken(donation(1, { expires_at })), RangeError);
  }
  const nobody = pool.addToken(null as unknown as Donation);
  await assert.rejects(nobody, { name: "TypeError", message: /without a donation/ });
  await assert.rejects(pool.addToken(donation(1, { github_user_id: 5 as unknown as string })), TypeError);
  assert.equal((await pool.availability()).tokens, 0);
});

function permutations<T>(items: T[]): T[][] {
  if (items.length < 2) return [items];
  return items.flatMap((item, index) => permutations(items.toSpliced(index, 1)).map((rest) => [item, ...rest]));
}

Deno.test("a pool in use sees a changed switch, key, database and reserve at its next call", async () => {
  await using folder = await temporaryFolder();
  const first = `file:${folder.path}/first.db`;
  const variables: Record<string, string> = { TOKEN_ENCRYPTION_KEY: KEY, TOKEN_POOL_DATABASE_URL: first };
  const vault = new Vault({ environment: (name) => variables[name] });
  const consumer = new Consumer(vault);
  await vault.deposit(donation(1));
  assert.equal((await consumer.getToken())?.token, "gho_token1");
  variables["TOKEN_POOL_DISABLED"] = "1";
  assert.equal(await consumer.getToken(), null);
  variables["TOKEN_POOL_RESERVE"] = "much";
  assert.equal(await consumer.getToken(), null, "the switch works whatever else is wrong");
  variables["TOKEN_POOL_DISABLED"] = "off";
  await assert.rejects(consumer.getToken(), { code: "config" });
  for (const name of ["TOKEN_POOL_DISABLED", "TOKEN_POOL_RESERVE"]) delete variables[name];
  variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  await assert.rejects(consumer.getToken(), { code: "wrong_key" });
  variables["TOKEN_ENCRYPTION_KEY"] = KEY;
  variables["TOKEN_POOL_DATABASE_URL"] = `file:${folder.path}/second.db`;
  assert.equal(await consumer.getToken(), null, "the second database is empty");
  variables["TOKEN_POOL_RESERVE"] = "0.9";
  await vault.deposit(donation(2));
  assert.equal((await consumer.availability()).usable, 500, "a tenth of 5,000 is not the donor's");
  await vault.close();
});
