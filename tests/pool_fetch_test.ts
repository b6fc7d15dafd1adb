/**
 * `poolFetch` against a strict GitHub: what goes wrong with a token is not the caller's, and what is the caller's comes
 * at once.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Consumer } from "../lib/consumer.ts";
import { Leases } from "../lib/leases.ts";
import { createPool, type Database, PoolError, type PoolFetchEvent, type PoolRequestInit } from "../lib/pool.ts";
import { createPoolFetch } from "../lib/pool_fetch.ts";
import { Vault } from "../lib/vault.ts";
import { badCredentials, donate, KEY, limitHeaders, response, temporaryFolder } from "./support/fixtures.ts";
import {
  type FetchWorld,
  fetchWorld,
  type FetchWorldOptions,
  inParallel,
  secondaryLimit,
  tokenOf,
} from "./support/fetch_world.ts";
import { startSqld } from "./support/sqld.ts";
import { until } from "./support/until.ts";

const REPO = "/repos/denoland/deno";

/** Runs a scenario in a world of its own. */
function scenario(name: string, run: (world: FetchWorld) => Promise<void>, options: FetchWorldOptions = {}): void {
  Deno.test(name, async () => {
    await using world = await fetchWorld(options);
    await run(world);
  });
}

/** Asks for a different repository each time, so that no two calls are one. */
function repo(n: number): string {
  return `/repos/denoland/deno${n}`;
}

async function statusOf(answer: Promise<Response>): Promise<number> {
  const { status, body } = await answer;
  await body?.cancel();
  return status;
}

/** The function alone, which gives up sooner than a pool's. */
function impatient({ url, clock }: FetchWorld, answerTimeoutMs: number, fetch: typeof globalThis.fetch) {
  const vault = new Vault({ environment: () => undefined, database: url, encryptionKey: KEY, now: () => clock.time });
  const [consumer, leases] = [new Consumer(vault), new Leases(vault)];
  const poolFetch = createPoolFetch({ vault, consumer, leases, cache: null, fetch, answerTimeoutMs });
  return { poolFetch, [Symbol.asyncDispose]: () => vault.close() };
}

const QUERY: RequestInit = { method: "POST", body: JSON.stringify({ query: "{ rateLimit { remaining } }" }) };

const LOAD: FetchWorldOptions = { donors: 5, isRealTime: true, github: { limits: { core: 100 } } };

async function underLoad(world: FetchWorld): Promise<void> {
  const statuses = await inParallel(400, 16, (n) => statusOf(world.pool.fetch(repo(n))));
  assert.deepEqual(new Set(statuses), new Set([200]));
  assert.deepEqual(new Set(world.statuses), new Set([200]), "GitHub refused nothing");
  assert.ok(world.trips.length / 400 <= 0.15, `${world.trips.length / 400} round trips per call`);
  assert.ok(world.sent.length <= 1.05 * 400, `${world.sent.length} calls to GitHub`);
  world.github.assertNoSurprises();
}

scenario("400 calls, 16 at a time, over 5 tokens of 100: none refused, few round trips (file)", underLoad, LOAD);

Deno.test("400 calls, 16 at a time, over 5 tokens of 100: none refused, few round trips (server)", async () => {
  await using server = await startSqld();
  await using world = await fetchWorld({ ...LOAD, url: server.url });
  await underLoad(world);
});

scenario("5,000 calls take at most 0.06 round trips each", async (world) => {
  const statuses = await inParallel(5000, 16, (n) => statusOf(world.pool.fetch(repo(n))));
  assert.deepEqual(new Set(statuses), new Set([200]));
  assert.ok(world.trips.length / 5000 <= 0.06, `${world.trips.length / 5000} round trips per call`);
  assert.equal(world.sent.length, 5000);
}, { donors: 5, isRealTime: true });

scenario("500 calls over 5 tokens of 100 use up all, and not one more is sent", async (world) => {
  const statuses = await inParallel(500, 16, (n) => statusOf(world.pool.fetch(repo(n))));
  assert.deepEqual(new Set(statuses), new Set([200]));
  await assert.rejects(world.pool.fetch(REPO), { code: "exhausted" });
  assert.equal(world.sent.length, 500);
}, { ...LOAD, isRealTime: false }); // of the last calls, those that are held for more than a second do not come back

scenario(
  "of a limit that nobody knew, all is served but the reserve, whatever the limit was taken for",
  async (world) => {
    const statuses = await inParallel(5 * 75, 16, (n) => statusOf(world.pool.fetch(repo(n))));
    assert.deepEqual(new Set(statuses), new Set([200]));
    await assert.rejects(world.pool.fetch(REPO), { code: "exhausted" });
    assert.equal(world.sent.length, 5 * 75);
  },
  { ...LOAD, isRealTime: false, reserve: 0.25 },
);

/** What a token may do in the middle of a run, and how it shows in the database. */
const MISHAPS: Record<string, (world: FetchWorld, request: Request) => Response | null> = {
  "a token that dies": (world) => {
    world.github.revokeToken(world.tokens[0]!);
    return null;
  },
  "a token that is used up elsewhere": (world) => {
    world.github.drain("user1", 0);
    return null;
  },
  "a secondary limit that says how long": () => secondaryLimit(30),
  "a secondary limit that does not say how long": () => secondaryLimit(),
  "a 429": () => response(429, { "retry-after": "5" }),
  "a suspended account": () => response(403, {}, { message: "Sorry. Your account was suspended." }),
  "a 500": () => response(500, {}, "<html>"),
  "a 502": () => response(502, {}, "<html>"),
};

for (const [what, happens] of Object.entries(MISHAPS)) {
  for (const method of ["GET", "HEAD"]) {
    scenario(`${what} in the middle of 60 calls is invisible to the caller of a ${method}`, async (world) => {
      let calls = 0;
      world.intercept = (request) => ++calls === 20 ? happens(world, request) : null;
      const statuses = await inParallel(60, 6, (n) => statusOf(world.pool.fetch(repo(n), { method })));
      assert.deepEqual(new Set(statuses), new Set([200]));
      // Calls in flight on the same token may all be refused, and no more than those.
      const refused = world.statuses.filter((status) => status !== 200).length;
      assert.ok(refused >= 1 && refused <= 6, `${refused} were refused`);
      assert.equal(world.sent.length, 60 + refused);
    });
  }
}

scenario("a HEAD that was refused is asked why, since its answer has no body", async (world) => {
  const methods = () => world.sent.map(({ method }) => method);
  const [first] = world.tokens;
  world.intercept = (request) => tokenOf(request) === first ? secondaryLimit() : null;
  assert.equal(await statusOf(world.pool.fetch(REPO, { method: "HEAD" })), 200);
  assert.deepEqual(methods(), ["HEAD", "GET", "HEAD"]);
  for (let n = 0; n < 10; n++) await statusOf(world.pool.fetch(repo(n), { method: "HEAD" }));
  assert.equal(world.statuses.filter((status) => status === 403).length, 2, "the token rests");

  world.sent.length = 0;
  world.intercept = () => response(403, { "x-mine": "yes" }, { message: "Must have push access to repository" });
  const plain = await world.pool.fetch(REPO, { method: "HEAD" });
  assert.deepEqual([plain.status, plain.headers.get("x-mine"), await plain.text()], [403, "yes", ""]);
  assert.deepEqual(methods(), ["HEAD", "GET"], "a plain 403 is the caller's");

  world.sent.length = 0;
  world.intercept = () => response(403, { "retry-after": "30" });
  assert.equal(await statusOf(world.pool.fetch(REPO, { method: "HEAD", pool: { maxAttempts: 1 } })), 403);
  assert.deepEqual(methods(), ["HEAD"], "headers have said why");
});

scenario("a token that died is out of rotation for every process, and no other is", async (world) => {
  world.github.revokeToken(world.tokens[0]!);
  assert.equal(await statusOf(world.pool.fetch(REPO)), 200);
  const suspects = await world.rows("SELECT id FROM token_pool_tokens WHERE suspect_at IS NOT NULL");
  assert.deepEqual(suspects.map(({ id }) => id), [world.ids[0]]);
  const other = world.another();
  for (let n = 0; n < 10; n++) await statusOf(other.fetch(repo(n)));
  assert.equal(world.statuses.filter((status) => status === 401).length, 1);
});

scenario("a token that has nothing left of one resource goes on with the lease of another", async (world) => {
  await inParallel(60, 16, (n) => statusOf(world.pool.fetch(repo(n))));
  const leased = 5000 - (await world.another().availability()).usable;
  assert.ok(leased > 60);
  const limits = { ...limitHeaders(30, 0, world.clock.seconds + 30), "x-ratelimit-resource": "search" };
  world.intercept = (request) => request.url.includes("/search/") ? response(403, limits) : null;
  await assert.rejects(world.pool.fetch("/search/issues?q=x"), { code: "exhausted" });
  world.trips.length = 0;
  for (let n = 60; n < leased; n++) assert.equal(await statusOf(world.pool.fetch(repo(n))), 200);
  assert.equal(world.trips.length, 0, "what was leased is used");
}, { donors: 1 });

scenario("a token that has nothing left of what GitHub counts a call as is not tried again for it", async (world) => {
  await inParallel(60, 16, (n) => statusOf(world.pool.fetch(repo(n))));
  const limits = { ...limitHeaders(100, 0, world.clock.seconds + 30), "x-ratelimit-resource": "dependency_sbom" };
  let spent: string | null = null;
  world.intercept = (request) => tokenOf(request) === (spent ??= tokenOf(request)) ? response(403, limits) : null;
  assert.equal(await statusOf(world.pool.fetch(`${REPO}/dependency-graph/sbom`)), 200);
  assert.equal(world.statuses.filter((status) => status === 403).length, 1);
}, { donors: 2 });

scenario("a plain 403, a 404 and a 401 for the request are the caller's, at once, and bench nobody", async (world) => {
  const message = "Although you appear to have the correct authorization credentials, access is restricted.";
  world.intercept = ({ url }) => {
    if (url.endsWith("/events")) return response(401, {}, { message: "Requires authentication" });
    return url.endsWith("/stargazers") ? response(403, {}, { message }) : null;
  };
  const refused = await world.pool.fetch(`${REPO}/stargazers`);
  assert.equal(refused.status, 403);
  assert.deepEqual(await refused.json(), { message }, "the body can be read");
  assert.equal(await statusOf(world.pool.fetch("/repos/missing/missing")), 404);
  assert.equal(await statusOf(world.pool.fetch(`${REPO}/events`)), 401);
  assert.equal(world.sent.length, 3);
  assert.equal((await world.rows("SELECT 1 FROM token_pool_limits WHERE held_until > 0")).length, 0);
});

scenario("a network error is tried again, and thrown when it stays", async (world) => {
  const failure = new TypeError("error sending request");
  world.intercept = () => {
    if (world.sent.length === 1) throw failure;
    return null;
  };
  assert.equal(await statusOf(world.pool.fetch(REPO)), 200);
  assert.equal(world.sent.length, 2);
  world.intercept = () => {
    throw failure;
  };
  await assert.rejects(world.pool.fetch(REPO), failure);
  assert.equal(world.sent.length, 2 + 3);
});

scenario("a call that was lost is not in flight any more", async (world) => {
  world.intercept = () => {
    throw new TypeError("error sending request");
  };
  const pool = { maxAttempts: 1 };
  for (let n = 0; n < 150; n++) await assert.rejects(world.pool.fetch(repo(n), { pool }), TypeError);
  world.intercept = null;
  world.github.drain("user1", 180);
  world.trips.length = 0;
  for (let n = 0; n < 50; n++) assert.equal(await statusOf(world.pool.fetch(repo(n))), 200);
  // Of what is left a lease takes a 16th.
  assert.ok(world.trips.length <= 10, `${world.trips.length} round trips for 50 calls`);
}, { donors: 1 });

scenario("what is left of a token that is nearly used up is told before the call is over", async (world) => {
  world.github.drain("user1", 1301);
  await statusOf(world.pool.fetch(REPO));
  assert.equal((await world.another().availability()).usable, 50, "the reserve is 1,250");
}, { donors: 1, reserve: 0.25 });

scenario("at most maxAttempts tokens are tried, and the last answer is the caller's", async (world) => {
  world.intercept = () => badCredentials();
  for (const [maxAttempts, expected] of [[undefined, 3], [1, 1], [2, 2], [5, 5]] as const) {
    world.sent.length = 0;
    const pool = maxAttempts === undefined ? {} : { maxAttempts };
    assert.equal(await statusOf(world.pool.fetch(REPO, { pool })), 401);
    assert.equal(world.sent.length, expected);
    assert.equal(new Set(world.sent.map(tokenOf)).size, expected, "each with another token");
  }
}, { donors: 11 });

scenario("options that cannot be meant are refused before anything is sent", async (world) => {
  for (const maxAttempts of [0, -1, 1.5, NaN]) {
    await assert.rejects(world.pool.fetch(REPO, { pool: { maxAttempts } }), RangeError);
  }
  for (const maxWaitMs of [-1, NaN]) await assert.rejects(world.pool.fetch(REPO, { pool: { maxWaitMs } }), RangeError);
  await assert.rejects(world.pool.fetch(REPO, { pool: { resource: "Core!" } }), RangeError);
  for (const pool of ["search", 5, true] as unknown[] as object[]) {
    await assert.rejects(world.pool.fetch(REPO, { pool }), TypeError);
  }
  assert.equal(world.sent.length, 0);
  assert.equal(world.trips.length, 0);
});

scenario("GraphQL queries go through, and rotate when they are rate limited", async (world) => {
  world.github.drain("user1", 0, "graphql");
  const answer = await world.pool.fetch("/graphql", QUERY);
  assert.equal(answer.status, 200);
  assert.ok("data" in await answer.json());
  assert.deepEqual(world.sent.map(({ method }) => method), ["POST", "POST"]);
  assert.deepEqual(await Promise.all(world.sent.map((request) => request.text())), [QUERY.body, QUERY.body]);
  assert.notEqual(tokenOf(world.sent[0]!), tokenOf(world.sent[1]!));
  const { usable } = await world.pool.availability("graphql");
  assert.ok(usable < 2 * 5000, "the first token is known to be dry");
});

scenario("two equal GraphQL queries are two calls", async (world) => {
  await Promise.all([1, 2].map(() => statusOf(world.pool.fetch("/graphql", QUERY))));
  assert.equal(world.sent.length, 2);
});

scenario("the resource follows from the path, or from the caller", async (world) => {
  const charged = async (path: string, init?: Parameters<typeof world.pool.fetch>[1]) => {
    await statusOf(world.pool.fetch(path, init));
    return (await world.rows("SELECT resource FROM token_pool_limits WHERE calls > 0")).map((row) => row["resource"]);
  };
  assert.deepEqual(new Set(await charged(REPO)), new Set(["core"]));
  assert.deepEqual(new Set(await charged("/search/issues?q=x")), new Set(["core", "search"]));
  assert.deepEqual(new Set(await charged("/search/code?q=x")), new Set(["core", "search", "code_search"]));
  const all = ["core", "search", "code_search", "graphql"];
  assert.deepEqual(new Set(await charged("/graphql", QUERY)), new Set(all));
  const overridden = await charged(`${REPO}/dependency-graph/sbom`, { pool: { resource: "dependency_sbom" } });
  assert.deepEqual(new Set(overridden), new Set([...all, "dependency_sbom"]));
});

scenario("a dry pool throws `exhausted` with a time, after one question for all who wait", async (world) => {
  const { clock, github, pool } = world;
  github.drain("user1", 1);
  assert.equal(await statusOf(pool.fetch(REPO)), 200);
  world.trips.length = 0;
  const errors = await inParallel(8, 8, (n) => pool.fetch(repo(n)).catch((error: unknown) => error));
  const retryAt = (clock.seconds + 3600 + 1) * 1000;
  for (const error of errors) {
    assert.ok(error instanceof PoolError);
    assert.deepEqual([error.code, error.retryAt], ["exhausted", retryAt]);
    assert.match(error.message, /no core calls left until 20/);
  }
  assert.equal(world.trips.filter(([sql]) => /json_array\(count/.test(sql!)).length, 1);
  assert.equal(world.trips.length, 2, "and one try for all");
  assert.equal(world.sent.length, 1);
  clock.time = retryAt;
  assert.equal(await statusOf(pool.fetch(REPO)), 200, "it recovers by itself");
}, { donors: 1 });

scenario("an empty pool says so, and that waiting is of no use", async (world) => {
  const error: PoolError = await world.pool.fetch(REPO, { pool: { maxWaitMs: 60_000 } }).catch((error) => error);
  assert.deepEqual([error.code, error.retryAt, error.message], ["exhausted", null, "The pool has no tokens"]);
}, { donors: 0 });

/** Uses up the only token, and puts the clock so many milliseconds before it comes back. */
async function shortlyBeforeReset(world: FetchWorld, ms: number): Promise<void> {
  world.github.drain("user1", 1);
  await statusOf(world.pool.fetch(REPO));
  world.clock.time = (world.clock.seconds + 3600 + 1) * 1000 - ms;
}

scenario("maxWaitMs waits for the next token, of all who wait at the same time", async (world) => {
  await shortlyBeforeReset(world, 40);
  const start = performance.now();
  let waiting = 0;
  const onEvent = ({ type }: PoolFetchEvent) => {
    if (type === "waiting" && ++waiting === 4) setTimeout(() => world.clock.advance(40), 20);
  };
  const pool = { maxWaitMs: 60_000, onEvent };
  const statuses = await inParallel(4, 4, (n) => statusOf(world.pool.fetch(repo(n), { pool })));
  assert.deepEqual(statuses, [200, 200, 200, 200]);
  assert.ok(performance.now() - start >= 35);
  assert.equal(waiting, 4);
}, { donors: 1 });

scenario("what would take longer than maxWaitMs is not waited for", async (world) => {
  await shortlyBeforeReset(world, 60_001);
  const start = performance.now();
  await assert.rejects(world.pool.fetch(REPO, { pool: { maxWaitMs: 60_000 } }), { code: "exhausted" });
  assert.ok(performance.now() - start < 30_000);
}, { donors: 1 });

scenario("while nothing comes at the time that the pool names, it is asked ever more seldom", async (world) => {
  // A pool that says that something is usable, and gives nothing: another's key opens none of its tokens.
  await world.rows("UPDATE token_pool_tokens SET token = token || 'x'");
  world.trips.length = 0;
  const start = performance.now();
  await assert.rejects(world.pool.fetch(REPO, { pool: { maxWaitMs: 200 } }), { code: "exhausted" });
  const asked = world.trips.filter(([sql]) => /json_array\(count/.test(sql!)).length;
  assert.ok(asked >= 3 && asked <= 6, `asked ${asked} times`);
  assert.ok(
    performance.now() - start < 20_000,
    "and for no longer than the caller allows, though our clock stands still",
  );
}, { donors: 1 });

scenario("a clock that is set back while one waits does not make the wait longer", async (world) => {
  await shortlyBeforeReset(world, 50);
  const onEvent = ({ type }: PoolFetchEvent) => {
    if (type === "waiting") world.clock.advance(-3_600_000);
  };
  const call = world.pool.fetch(REPO, { signal: AbortSignal.timeout(20_000), pool: { maxWaitMs: 100, onEvent } });
  await assert.rejects(call, { code: "exhausted" });
}, { donors: 1 });

scenario("a reset in the far future is waited for without asking again and again", async (world) => {
  world.intercept = () => response(200, limitHeaders(5000, 0, 9_999_999_999));
  await statusOf(world.pool.fetch(REPO));
  world.trips.length = 0;
  const controller = new AbortController();
  const onEvent = ({ type }: PoolFetchEvent) => {
    if (type === "waiting") setTimeout(() => controller.abort(new Error("enough")), 100);
  };
  const pool = { maxWaitMs: Infinity, onEvent };
  await assert.rejects(world.pool.fetch(REPO, { signal: controller.signal, pool }), /enough/);
  assert.equal(world.trips.length, 2);
}, { donors: 1 });

scenario("waiting obeys the AbortSignal, and leaves the others waiting", async (world) => {
  await shortlyBeforeReset(world, 60);
  const controller = new AbortController();
  const pool = { maxWaitMs: 60_000 };
  const stays = statusOf(world.pool.fetch(repo(1), { pool }));
  const goes = world.pool.fetch(repo(2), { pool, signal: controller.signal });
  setTimeout(() => controller.abort(new Error("enough")), 20);
  setTimeout(() => world.clock.advance(60), 40);
  await assert.rejects(goes, /enough/);
  assert.equal(await stays, 200);
  assert.equal(world.sent.length, 2, "only the other was sent");
}, { donors: 1 });

scenario("who gives up before a token is there sends nothing, and the call goes back", async (world) => {
  const controller = new AbortController();
  const call = world.pool.fetch(REPO, { signal: controller.signal, pool: { onEvent() {} } });
  controller.abort(new Error("enough"));
  await assert.rejects(call, /enough/);
  await assert.rejects(world.pool.fetch(REPO, { signal: controller.signal }), /enough/);
  assert.equal(world.sent.length, 0);
  await world.pool.close();
  assert.equal((await world.another().availability()).usable, 3 * 5000);
});

/** Holds every answer back until it is told to let go. */
function gate(world: FetchWorld): () => void {
  const { promise, resolve } = Promise.withResolvers<null>();
  world.intercept = () => promise;
  return () => resolve(null);
}

/** An answer that goes on for ever, and whether somebody has let go of it. */
function endless(status: number, headers: HeadersInit = {}): { answer: Response; isLetGo: () => boolean } {
  let isLetGo = false;
  const body = new ReadableStream({
    start: (controller) => controller.enqueue(new Uint8Array(70_000)), // more than is read to judge it
    cancel: () => void (isLetGo = true),
  });
  return { answer: new Response(body, { status, headers }), isLetGo: () => isLetGo };
}

/** Gives what has been started a few turns of the event loop; what other threads do may take longer. */
async function settled(): Promise<void> {
  for (let n = 0; n < 5; n++) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Waits until so many requests have left the pool, and for what follows from that. */
async function untilSent({ sent }: FetchWorld, count: number): Promise<void> {
  await until(`${count} requests are sent`, () => sent.length >= count);
  await settled();
}

scenario("equal GETs in flight are one call, and each caller can read the answer", async (world) => {
  const open = gate(world);
  const calls = [1, 2, 3].map(() => world.pool.fetch(REPO));
  await untilSent(world, 1);
  open();
  const answers = await Promise.all(calls);
  const url = "https://api.github.com/repos/denoland/deno";
  for (const answer of answers) assert.deepEqual([answer.url, await answer.json()], [url, { url }]);
  assert.equal(world.sent.length, 1);
  await statusOf(world.pool.fetch(REPO));
  assert.equal(world.sent.length, 2, "what comes later is a call of its own");
});

scenario("GETs that differ in what they ask for or how are calls of their own", async (world) => {
  const open = gate(world);
  const calls = [
    world.pool.fetch(REPO),
    world.pool.fetch(`${REPO}?page=2`),
    world.pool.fetch(REPO, { headers: { accept: "application/json" } }),
    world.pool.fetch(REPO, { redirect: "manual" }),
    world.pool.fetch(REPO, { pool: { maxAttempts: 1 } }),
    world.pool.fetch(REPO, { pool: { resource: "search" } }),
    world.pool.fetch(REPO, { method: "HEAD" }),
  ];
  await untilSent(world, calls.length);
  open();
  await Promise.all(calls.map(statusOf));
  assert.equal(world.sent.length, calls.length);
});

scenario("an impatient caller does not make a patient one fail", async (world) => {
  await shortlyBeforeReset(world, 30);
  const impatient = world.pool.fetch(REPO);
  const patient = statusOf(world.pool.fetch(REPO, { pool: { maxWaitMs: 60_000 } }));
  await assert.rejects(impatient, { code: "exhausted" });
  world.clock.advance(30);
  assert.equal(await patient, 200);
}, { donors: 1 });

scenario("a GitHub that does not answer is given up, and the next token tried", async (world) => {
  const connection = setInterval(() => {}, 1000); // keeps the process up, as an open one does
  const never = ({ signal }: RequestInit) =>
    new Promise<never>((_, reject) => signal!.addEventListener("abort", () => reject(signal!.reason)));
  let unanswered = 1;
  // What is answered is answered at once, so that no slow machine makes it late.
  await using pool = impatient(
    world,
    20,
    (_, init) => unanswered-- > 0 ? never(init!) : Promise.resolve(response(200)),
  );
  const { poolFetch } = pool;
  const events: PoolFetchEvent[] = [];
  const onEvent = (event: PoolFetchEvent) => void events.push(event);
  assert.equal(await statusOf(poolFetch(REPO, { pool: { onEvent } })), 200);
  assert.deepEqual(events.filter(({ type }) => type === "rotated").map((event) => ({ ...event, tokenId: 0 })), [
    { type: "rotated", tokenId: 0, attempt: 1, reason: "no answer" },
  ]);

  unanswered = 1;
  const together = [poolFetch(REPO), poolFetch(REPO)];
  assert.deepEqual(await Promise.all(together.map(statusOf)), [200, 200], "nobody waits for ever with who began");

  unanswered = 3;
  await assert.rejects(poolFetch(REPO), { name: "TimeoutError", message: "No answer within 20 ms" });

  unanswered = 1;
  const own = poolFetch(REPO, { headers: { authorization: "Bearer own" } });
  await assert.rejects(own, { name: "TimeoutError" }, "nor with a token of the caller's own");

  unanswered = 1;
  const controller = new AbortController();
  const goes = poolFetch(REPO, { signal: controller.signal });
  setTimeout(() => controller.abort(new Error("enough")), 5);
  await assert.rejects(goes, /enough/);
  clearInterval(connection);
});

scenario("an answer may take as long as it likes once it has begun", async (world) => {
  const { promise, resolve } = Promise.withResolvers<string>();
  await using pool = impatient(world, 5, (_, init) => {
    const body = new ReadableStream({
      async start(stream) {
        init!.signal!.addEventListener("abort", () => stream.error(init!.signal!.reason));
        stream.enqueue(new TextEncoder().encode(await promise));
        stream.close();
      },
    });
    return Promise.resolve(new Response(body));
  });
  const answer = await pool.poolFetch(REPO);
  setTimeout(() => resolve("whole"), 20);
  assert.equal(await answer.text(), "whole");
});

Deno.test({
  name: "when a call is over, nothing of it is under way",
  sanitizeOps: true,
  sanitizeResources: true,
  async fn() {
    await using world = await fetchWorld({ donors: 1 });
    world.intercept = () => response(403, {}, { message: "which is read, to see whose fault it is" });
    await statusOf(world.pool.fetch(REPO));
    world.intercept = null;
    world.github.drain("user1", 1);
    await statusOf(world.pool.fetch(REPO));
    const controller = new AbortController();
    const onEvent = ({ type }: PoolFetchEvent) => {
      if (type === "waiting") controller.abort(new Error("enough"));
    };
    const pool = { maxWaitMs: Infinity, onEvent };
    await assert.rejects(world.pool.fetch(REPO, { signal: controller.signal, pool }), /enough/, "nor of one given up");
  },
});

Deno.test("a program ends when its calls are over, not when they would have been given up", async () => {
  await using folder = await temporaryFolder();
  const program = `import { createPool } from "${import.meta.resolve("../lib/pool.ts")}";
    const fetch = () => Promise.resolve(new Response("whole"));
    const pool = createPool({ database: "file:${folder.path}/pool.db", encryptionKey: "${KEY}", fetch });
    await pool.addToken({ github_user_id: "1", token: "gho_1" });
    console.log(await (await pool.fetch("${REPO}")).text());`;
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", "--quiet", `data:text/javascript,${encodeURIComponent(program)}`],
    signal: AbortSignal.timeout(12_000), // they would have been after 15 s
  }).output();
  assert.deepEqual([success, new TextDecoder().decode(stdout)], [true, "whole\n"]);
});

scenario("who gives up does not wait for the database", async (world) => {
  const { promise, reject } = Promise.withResolvers<never>();
  const hangs: Database = { execute: () => promise, batch: () => promise };
  const pool = world.another({ database: hangs });
  const start = performance.now();
  for (const method of ["GET", "HEAD"]) {
    const init = { method, signal: AbortSignal.timeout(20) };
    await assert.rejects(pool.fetch(REPO, init), { name: "TimeoutError" });
    await assert.rejects(pool.fetch(new Request(`https://api.github.com${REPO}`, init)), { name: "TimeoutError" });
  }
  assert.ok(performance.now() - start < 8_000, "which is the time that the database has");
  reject(new Error("no answer"));
  await settled();
});

scenario("who has given up before costs neither a call nor a round trip", async (world) => {
  for (const method of ["GET", "HEAD"]) {
    const signal = AbortSignal.abort(new Error("enough"));
    await assert.rejects(world.pool.fetch(REPO, { method, signal }), /enough/);
  }
  await settled();
  assert.deepEqual([world.trips, world.sent], [[], []]);
});

scenario("an answer that comes after its caller has given up is let go of, and in nobody's way", async (world) => {
  let resolves: ((answer: Response) => void)[] = [];
  const pool = world.another({ fetch: () => new Promise((resolve) => resolves.push(resolve)) }); // deaf to signals
  for (const method of ["GET", "HEAD"]) {
    resolves = [];
    const controller = new AbortController();
    const goes = pool.fetch(REPO, { method, signal: controller.signal });
    await until("the call is under way", () => resolves.length === 1);
    controller.abort(new Error("enough"));
    await assert.rejects(goes, /enough/);
    const next = [pool.fetch(REPO)];
    await until("the next call is under way", () => resolves.length === 2);
    const { answer, isLetGo } = endless(200);
    resolves[0]!(answer);
    await until(`the late answer to a ${method} is let go of`, isLetGo);
    next.push(pool.fetch(REPO));
    await settled();
    assert.equal(resolves.length, 2, "who comes later begins anew, together");
    resolves[1]!(new Response("{}"));
    assert.deepEqual(await Promise.all(next.map(statusOf)), [200, 200]);
  }
});

scenario("when one of those who share a call gives up, the others are not disturbed", async (world) => {
  for (const leaver of [0, 1, 2]) {
    world.sent.length = 0;
    const open = gate(world);
    const controllers = [0, 1, 2].map(() => new AbortController());
    const calls = controllers.map(({ signal }) => world.pool.fetch(REPO, { signal }));
    await untilSent(world, 1);
    controllers[leaver]!.abort(new Error("enough"));
    await assert.rejects(calls[leaver]!, /enough/);
    await untilSent(world, leaver === 0 ? 2 : 1);
    open();
    const others = calls.filter((_, index) => index !== leaver);
    for (const answer of await Promise.all(others)) assert.ok("url" in await answer.json());
    // If it was the one who began, the others begin anew, together.
    assert.equal(world.sent.length, leaver === 0 ? 2 : 1);
  }
});

scenario(
  "a call that is given up while it is under way is not tried again, and its token is not to blame",
  async (world) => {
    gate(world);
    const controller = new AbortController();
    const types: string[] = [];
    const pool = { onEvent: ({ type }: PoolFetchEvent) => void types.push(type) };
    const call = world.pool.fetch(REPO, { signal: controller.signal, pool });
    await untilSent(world, 1);
    controller.abort(new Error("enough"));
    await assert.rejects(call, /enough/);
    assert.deepEqual(types, ["sent"]);
    assert.equal(world.sent.length, 1);
  },
);

scenario("nobody holds on to the answer for one who has given up", async (world) => {
  const open = gate(world);
  const gated = world.intercept!;
  let isCancelled = false;
  world.intercept = async (request) => {
    await gated(request);
    return new Response(new ReadableStream({ cancel: () => void (isCancelled = true) }));
  };
  const controller = new AbortController();
  const stays = world.pool.fetch(REPO);
  const goes = world.pool.fetch(REPO, { signal: controller.signal });
  await untilSent(world, 1);
  controller.abort(new Error("enough"));
  await assert.rejects(goes, /enough/);
  open();
  await (await stays).body!.cancel();
  assert.ok(isCancelled);
});

scenario("nor for one who gives up just when the answer comes", async (world) => {
  for (let turns = 0; turns < 40; turns++) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { answer, isLetGo } = endless(200);
    world.intercept = async () => {
      await promise;
      return answer;
    };
    const controller = new AbortController();
    const stays = world.pool.fetch(REPO);
    const goes = world.pool.fetch(REPO, { signal: controller.signal });
    const left = goes.then((answer) => answer.body!.cancel(), () => {});
    await untilSent(world, turns + 1);
    resolve();
    for (let turn = 0; turn < turns; turn++) await null;
    controller.abort(new Error("enough"));
    await Promise.all([left, stays.then((answer) => answer.body!.cancel())]);
    assert.ok(isLetGo(), `${turns} turns of the event loop`);
  }
});

scenario(
  "the body of a shared answer is each caller's: one may give up in its middle, or let go of it",
  async (world) => {
    let end: () => void;
    let bodies = 0;
    const untilBegun = async (count: number) => {
      await until(`${count} bodies are begun`, () => bodies >= count);
      await settled();
    };
    world.intercept = () => {
      const body = new ReadableStream({
        start(body) {
          bodies++;
          body.enqueue(new TextEncoder().encode('{"a":'));
          end = () => {
            body.enqueue(new TextEncoder().encode("1}"));
            body.close();
          };
          world.sent.at(-1)!.signal.addEventListener(
            "abort",
            ({ target }) => body.error((target as AbortSignal).reason),
          );
        },
      });
      return new Response(body, { headers: { "content-type": "application/json" } });
    };
    for (const leaver of [0, 1, 2]) {
      const controllers = [0, 1, 2].map(() => new AbortController());
      const before = bodies;
      const calls = controllers.map(({ signal }) => world.pool.fetch(REPO, { signal }));
      await untilBegun(before + 1);
      controllers[leaver]!.abort(new Error("enough"));
      await assert.rejects(calls[leaver]!.then((answer) => answer.json()), /enough/);
      await untilBegun(before + (leaver === 0 ? 2 : 1));
      end!();
      const [first, second] = await Promise.all(calls.filter((_, index) => index !== leaver));
      await first!.body!.cancel();
      for (const controller of controllers) controller.abort(new Error("all of it"));
      assert.deepEqual(await second!.json(), { a: 1 });
    }
  },
);

scenario("an answer without a body can be shared as well", async (world) => {
  const headers = { ...limitHeaders(5000, 4000, world.clock.seconds + 60), "content-type": "application/json" };
  for (const status of [204, 304]) {
    world.sent.length = 0;
    world.intercept = () => response(status, headers);
    assert.deepEqual(await inParallel(3, 3, () => statusOf(world.pool.fetch(REPO))), [status, status, status]);
    assert.equal(world.sent.length, 1);
  }
});

scenario("the body of a shared answer can be left unread by anybody", async (world) => {
  const open = gate(world);
  const calls = [1, 2, 3].map(() => world.pool.fetch(REPO));
  await untilSent(world, 1);
  open();
  const [first, second, third] = await Promise.all(calls);
  await first!.body!.cancel();
  await third!.body!.cancel();
  assert.ok("url" in await second!.json());
});

Deno.test("what is said of a token that was replaced meanwhile is not said of the one in its place", async () => {
  for (
    const [status, headers, message] of [
      [401, {}, "Bad credentials"],
      [403, {}, "Sorry. Your account was suspended."],
      [200, { "x-oauth-scopes": "repo" }, "of an old grant"],
    ] as const
  ) {
    await using world = await fetchWorld({ donors: 1 });
    const [id] = world.ids;
    world.intercept = async () => {
      world.intercept = null;
      const [row] = await world.rows("SELECT github_user_id FROM token_pool_tokens");
      const token = world.github.grantToken("user1");
      assert.equal(await world.pool.addToken({ github_user_id: String(row!["github_user_id"]), token }), id);
      return Response.json({ message }, { status, headers });
    };
    assert.equal(await statusOf(world.pool.fetch(REPO, { pool: { maxAttempts: 1 } })), status);
    assert.equal((await world.pool.getToken())?.id, id, message);
  }
});

Deno.test("the kill switch stops it at once, with calls left in the lease", async () => {
  await using world = await fetchWorld({ donors: 1 });
  await inParallel(20, 4, (n) => statusOf(world.pool.fetch(repo(n))));
  world.sent.length = 0;
  Deno.env.set("TOKEN_POOL_DISABLED", "1");
  try {
    const error: PoolError = await world.pool.fetch(REPO, { pool: { maxWaitMs: 1000 } }).catch((error) => error);
    assert.deepEqual([error.code, error.retryAt], ["exhausted", null]);
    assert.match(error.message, /TOKEN_POOL_DISABLED/);
  } finally {
    Deno.env.delete("TOKEN_POOL_DISABLED");
  }
  assert.equal(world.sent.length, 0);
  assert.equal(await statusOf(world.pool.fetch(REPO)), 200);
});

Deno.test("an address of the API that has changed is where the next call goes", async () => {
  await using world = await fetchWorld();
  world.intercept = () => response(200);
  await statusOf(world.pool.fetch(REPO));
  Deno.env.set("GITHUB_API_URL", "https://github.example/api/v3");
  try {
    await statusOf(world.pool.fetch(REPO));
  } finally {
    Deno.env.delete("GITHUB_API_URL");
  }
  const [before, after] = ["https://api.github.com", "https://github.example/api/v3"].map((api) => api + REPO);
  assert.deepEqual(world.sent.map(({ url }) => url), [before, after]);
});

scenario("onEvent is told what happens, in order, and no secret", async (world) => {
  const { github, ids, tokens } = world;
  const events: PoolFetchEvent[] = [];
  const onEvent = (event: PoolFetchEvent) => void events.push(event);
  github.revokeToken(tokens[0]!);
  world.intercept = () => world.sent.length === 2 ? response(500) : null;
  await statusOf(world.pool.fetch(REPO, { pool: { onEvent } }));
  const [dead, next] = ids as [number, number];
  const last = events.at(-1)!;
  assert.deepEqual(events, [
    { type: "sent", tokenId: dead, attempt: 1 },
    { type: "answered", tokenId: dead, attempt: 1, status: 401 },
    { type: "rotated", tokenId: dead, attempt: 1, reason: "suspect" },
    { type: "sent", tokenId: next, attempt: 2 },
    { type: "answered", tokenId: next, attempt: 2, status: 500 },
    { type: "rotated", tokenId: next, attempt: 2, reason: "status 500" },
    { type: "sent", tokenId: (last as { tokenId: number }).tokenId, attempt: 3 },
    { type: "answered", tokenId: (last as { tokenId: number }).tokenId, attempt: 3, status: 200 },
  ]);
  world.intercept = () => {
    throw new TypeError("error sending request");
  };
  events.length = 0;
  await assert.rejects(world.pool.fetch(REPO, { pool: { onEvent } }));
  assert.deepEqual(events.map(({ type }) => type), ["sent", "rotated", "sent", "rotated", "sent"]);
  for (const secret of github.secrets) assert.ok(!JSON.stringify(events).includes(secret));
});

scenario("who wants to be told is told of a call of their own, not of one that is shared", async (world) => {
  const told = await Promise.all([1, 2].map(async () => {
    const types: string[] = [];
    await statusOf(world.pool.fetch(REPO, { pool: { onEvent: ({ type }) => void types.push(type) } }));
    return types;
  }));
  assert.deepEqual(told, [["sent", "answered"], ["sent", "answered"]]);
});

scenario("an onEvent that throws is the caller's, and costs neither a call nor a connection", async (world) => {
  const failAt = (wanted: string) => ({
    onEvent({ type }: PoolFetchEvent) {
      if (type === wanted) throw new Error(`${type}?`);
    },
  });
  for (let n = 0; n < 20; n++) await assert.rejects(world.pool.fetch(repo(n), { pool: failAt("sent") }), /sent/);
  assert.equal(world.sent.length, 0);
  for (const [type, status] of [["answered", 200], ["rotated", 502]] as const) {
    const { answer, isLetGo } = endless(status);
    world.intercept = () => answer;
    await assert.rejects(world.pool.fetch(REPO, { pool: failAt(type) }), new RegExp(type));
    assert.ok(isLetGo(), type);
  }
  await world.pool.close();
  assert.equal((await world.another().availability()).usable, 5000 - 2);
}, { donors: 1 });

scenario("a refusal that breaks off in the middle is one like any other", async (world) => {
  const brokenOff = (status: number, headers: HeadersInit) =>
    new Response(new ReadableStream({ pull: (body) => body.error(new TypeError("connection reset")) }), {
      status,
      headers,
    });
  const answers = [brokenOff(403, { "retry-after": "5" }), brokenOff(401, {}), null];
  world.intercept = () => answers.shift() ?? null;
  assert.equal(await statusOf(world.pool.fetch(REPO)), 200);
  assert.deepEqual(world.statuses, [403, 401, 200]);
});

scenario("a token of the caller's own is sent as it is, and none of the pool's is drawn", async (world) => {
  const own = world.github.grantToken("user3");
  for (const authorization of [`Bearer ${own}`, `token ${own}`]) {
    assert.equal(await statusOf(world.pool.fetch(REPO, { headers: { authorization } })), 200);
    assert.equal(world.sent.at(-1)!.headers.get("authorization"), authorization);
  }
  assert.equal(world.trips.length, 0);
  await assert.rejects(
    world.pool.fetch("https://example.com/", { headers: { authorization: `Bearer ${own}` } }),
    { code: "forbidden_request" },
  );
});

scenario("User-Agent, Accept and API version are set unless the caller did, and Host never is", async (world) => {
  await statusOf(world.pool.fetch(REPO, { headers: { host: "example.com" } }));
  const headers = {
    "user-agent": "my-app",
    accept: "application/vnd.github.raw+json",
    "x-github-api-version": "2026-03-10",
    "x-mine": "yes",
  };
  await statusOf(world.pool.fetch(REPO, { headers }));
  await statusOf(world.pool.fetch(REPO, { headers: { accept: "*/*" } }));
  const names = ["user-agent", "accept", "x-github-api-version", "x-mine", "host"];
  const [defaults, own, any] = world.sent.map((request) => names.map((name) => request.headers.get(name)));
  const expected = ["github-token-pool", "application/vnd.github+json", "2022-11-28", null, null];
  assert.deepEqual(defaults, expected);
  assert.deepEqual(own, ["my-app", "application/vnd.github.raw+json", "2026-03-10", "yes", null]);
  assert.deepEqual(any, expected, "`*/*` is what a fetch says that was told nothing");
});

scenario("a path, a URL, a URL object and a Request do as well", async (world) => {
  const url = "https://api.github.com/repos/denoland/deno?page=2";
  const inputs = [`${REPO}?page=2`, url, new URL(url), new Request(url, { headers: { "x-mine": "yes" } })];
  for (const input of inputs) {
    const answer = await world.pool.fetch(input);
    assert.equal(answer.url, url);
    await answer.body?.cancel();
  }
  assert.deepEqual(world.sent.map((request) => request.url), inputs.map(() => url));
  assert.equal(world.sent[3]!.headers.get("x-mine"), "yes");
  await statusOf(world.pool.fetch(new Request("https://api.github.com/graphql", QUERY)));
  assert.equal(await world.sent[4]!.text(), QUERY.body);
  await assert.rejects(world.pool.fetch("repos/denoland/deno"), TypeError);
});

scenario("null in the place of an init or of its options says nothing, as in fetch", async ({ pool }) => {
  for (const init of [null, undefined, { pool: null }, { pool: undefined }]) {
    assert.equal(await statusOf(pool.fetch(REPO, init as unknown as PoolRequestInit)), 200);
  }
});

scenario(
  "what a Request or an object of a class says in the place of an init counts, as it does for fetch",
  async (world) => {
    const headers = { authorization: "Bearer mine", "x-mine": "yes" };
    class Init {
      get headers(): Record<string, string> {
        return headers;
      }
    }
    for (const init of [new Request("https://example.com/", { headers }), new Init()]) {
      await statusOf(world.pool.fetch(REPO, init));
      const { url, headers } = world.sent.at(-1)!;
      assert.deepEqual([url, tokenOf({ headers } as Request), headers.get("x-mine")], [
        `https://api.github.com${REPO}`,
        "mine",
        "yes",
      ]);
    }
    await assert.rejects(world.pool.fetch(REPO, new Request("https://example.com/", { method: "PUT" })), {
      code: "forbidden_request",
    });
  },
);

scenario("GitHub Enterprise Server has a prefix for REST and another place for GraphQL", async (world) => {
  const api = "https://github.example/api/v3";
  const pool = world.another({ githubApiUrl: api });
  world.intercept = () => response(200, limitHeaders(5000, 4000, world.clock.seconds + 60));
  await statusOf(pool.fetch(REPO));
  await statusOf(pool.fetch("/search/code?q=x"));
  await statusOf(pool.fetch("/graphql", QUERY));
  await statusOf(pool.fetch("https://github.example/api/graphql", QUERY));
  assert.deepEqual(world.sent.map(({ url }) => url), [
    `${api}/repos/denoland/deno`,
    `${api}/search/code?q=x`,
    "https://github.example/api/graphql",
    "https://github.example/api/graphql",
  ]);
  for (const other of ["/", "/api/v4/x", "/api/v3x/y", "/login", "/api/graphql/x"]) {
    await assert.rejects(pool.fetch(`https://github.example${other}`), { code: "forbidden_request" }, other);
  }
  const charged = await world.rows("SELECT DISTINCT resource FROM token_pool_limits WHERE calls > 0");
  assert.deepEqual(charged.map(({ resource }) => resource).toSorted(), ["code_search", "core", "graphql"]);
});

scenario("what tells about the donor's token is not passed on, and all else is", async (world) => {
  const donors = {
    "x-oauth-scopes": "",
    "x-accepted-oauth-scopes": "repo",
    "x-oauth-client-id": "Ov23li",
    "github-authentication-token-expiration": "2099-01-19 07:08:40 UTC",
    "x-github-sso": "partial-results; organizations=21955855",
  };
  const others = { link: '<https://api.github.com/x?page=2>; rel="next"', etag: '"1"', "x-github-request-id": "1:2" };
  world.intercept = () =>
    response(201, { ...limitHeaders(5000, 4999, world.clock.seconds + 60), ...donors, ...others }, { a: 1 });
  const answer = await world.pool.fetch(REPO);
  for (const name of Object.keys(donors)) assert.equal(answer.headers.has(name), false, name);
  for (const [name, value] of Object.entries(others)) assert.equal(answer.headers.get(name), value);
  assert.equal(answer.headers.get("x-ratelimit-remaining"), "4999");
  assert.deepEqual([answer.status, await answer.json()], [201, { a: 1 }]);
  assert.notEqual((await world.rows("SELECT expires_at FROM token_pool_tokens"))[0]!["expires_at"], null, "but noted");
});

scenario("answers without a body pass", async (world) => {
  for (const status of [204, 205, 304]) {
    world.intercept = () => new Response(null, { status });
    const answer = await world.pool.fetch(REPO, { headers: { "if-none-match": '"1"' } });
    assert.deepEqual([answer.status, answer.body], [status, null]);
  }
});

/** A GitHub that redirects, by path. */
function redirecting(world: FetchWorld, redirects: Record<string, string>, status = 301): void {
  world.intercept = (request) => {
    const { pathname, origin } = new URL(request.url);
    if (origin !== "https://api.github.com") return new Response("elsewhere");
    const location = redirects[pathname];
    const headers = limitHeaders(5000, 4900 - world.sent.length, world.clock.seconds + 3600);
    return location === undefined ? null : response(status, { ...headers, location });
  };
}

scenario("a redirect within the API is followed with the token, and charged as a call", async (world) => {
  redirecting(world, { "/repos/old/name": "https://api.github.com/repos/new/name", "/repos/new/name": REPO });
  const answer = await world.pool.fetch("/repos/old/name", { headers: { "x-mine": "yes" } });
  const url = `https://api.github.com${REPO}`;
  assert.deepEqual([answer.status, answer.url, await answer.json()], [200, url, { url }]);
  assert.equal(world.sent.length, 3);
  assert.equal(new Set(world.sent.map(tokenOf)).size, 1, "with the same token, as far as it goes");
  assert.ok(world.sent.every(({ redirect }) => redirect === "manual"), "none is followed unseen");
  assert.equal(world.sent[2]!.headers.get("x-mine"), "yes");
  await world.pool.close();
  assert.equal((await world.rows("SELECT sum(calls) AS calls FROM token_pool_limits"))[0]!["calls"], 3);
});

scenario("a HEAD is one behind a redirect as well", async (world) => {
  redirecting(world, { "/repos/old/name": REPO });
  await statusOf(world.pool.fetch("/repos/old/name", { method: "HEAD" }));
  assert.deepEqual(world.sent.map(({ method }) => method), ["HEAD", "HEAD"]);
});

scenario("an answer says whether it was redirected, and a clone of it says the same, shared or not", async (world) => {
  redirecting(world, { "/repos/old/name": REPO });
  for (const [path, redirected] of [["/repos/old/name", true], [REPO, false]] as const) {
    for (const answer of await Promise.all([world.pool.fetch(path), world.pool.fetch(path)])) {
      for (const each of [answer.clone(), answer.clone().clone(), answer]) {
        assert.ok(each instanceof Response);
        assert.deepEqual([each.url, each.redirected, each.status], [`https://api.github.com${REPO}`, redirected, 200]);
        assert.deepEqual(await each.json(), { url: each.url });
      }
    }
  }
});

scenario("a redirect to another origin is followed without the token", async (world) => {
  const elsewhere = "https://codeload.github.com/denoland/deno/legacy.tar.gz/main";
  redirecting(world, { [`${REPO}/tarball`]: elsewhere }, 302);
  const headers = { cookie: "a=b", "proxy-authorization": "Basic x", "x-mine": "yes" };
  const answer = await world.pool.fetch(`${REPO}/tarball`, { headers });
  assert.equal(await answer.text(), "elsewhere");
  assert.equal(world.sent[1]!.url, elsewhere);
  for (const name of ["authorization", "cookie", "proxy-authorization"]) {
    assert.equal(world.sent[1]!.headers.has(name), false, name);
  }
  assert.equal(world.sent[1]!.headers.get("x-mine"), "yes");
});

scenario("a redirect to a lookalike of the API, or back to it, takes no token along by mistake", async (world) => {
  for (const location of ["https://api.github.com.example/", "https://api.github.com:8443/", "//example.com/x"]) {
    redirecting(world, { [REPO]: location });
    await statusOf(world.pool.fetch(REPO));
    assert.equal(tokenOf(world.sent.at(-1)!), null, location);
  }
  redirecting(world, { [REPO]: "/user" });
  world.sent.length = 0;
  await assert.rejects(world.pool.fetch(REPO), { code: "forbidden_request" });
  assert.equal(world.sent.length, 1);
});

scenario("a redirect to what is no site is not followed", async (world) => {
  for (const location of ["file:///etc/hostname", "data:text/plain,x", "blob:null/1", "https://[bad"]) {
    redirecting(world, { [REPO]: location });
    world.sent.length = 0;
    await assert.rejects(world.pool.fetch(REPO), TypeError, location);
    assert.equal(world.sent.length, 1, location);
  }
});

scenario('`redirect: "manual"` and "error" are honoured', async (world) => {
  redirecting(world, { [REPO]: "/repos/new/name" });
  const answer = await world.pool.fetch(REPO, { redirect: "manual" });
  assert.deepEqual([answer.status, answer.headers.get("location")], [301, "/repos/new/name"]);
  await assert.rejects(world.pool.fetch(REPO, { redirect: "error" }), TypeError);
  assert.equal(world.sent.length, 2, "neither is followed, nor tried again");
});

scenario("redirects that go round in a circle end", async (world) => {
  redirecting(world, { [REPO]: "/repos/new/name", "/repos/new/name": REPO });
  await assert.rejects(world.pool.fetch(REPO), TypeError);
  assert.equal(world.sent.length, 6);
});

scenario("what goes wrong behind a redirect is the next token's to mend", async (world) => {
  redirecting(world, { [REPO]: "/repos/new/name" });
  const redirect = world.intercept!;
  let failures = 0;
  world.intercept = (request) =>
    request.url.endsWith("/new/name") && failures++ === 0 ? badCredentials() : redirect(request);
  assert.equal(await statusOf(world.pool.fetch(REPO)), 200);
  assert.deepEqual(world.statuses, [301, 401, 301, 200]);
});

Deno.test("over a real connection: host, address, redirects and bodies are as they should be", async () => {
  await using folder = await temporaryFolder();
  const seen: { url: string; host: string | null; authorization: string | null }[] = [];
  const answer = (request: Request) => {
    const { pathname } = new URL(request.url);
    const { headers } = request;
    seen.push({ url: pathname, host: headers.get("host"), authorization: headers.get("authorization") });
    if (pathname === "/repos/old/name") return new Response(null, { status: 301, headers: { location: REPO } });
    if (pathname === "/repos/far/away") {
      return new Response("moved", {
        status: 302,
        headers: { location: `http://localhost:${elsewhere.addr.port}/file` },
      });
    }
    return Response.json({ path: pathname }, { headers: { "x-oauth-client-id": "Ov23li" } });
  };
  await using api = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, answer);
  await using elsewhere = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, answer);
  const githubApiUrl = `http://127.0.0.1:${api.addr.port}`;
  const database = `file:${folder.path}/pool.db`;
  await using pool = createPool({ database, encryptionKey: KEY, githubApiUrl });
  await donate(pool, 1);
  const found = await pool.fetch(new Request(`${githubApiUrl}/repos/old/name`, { headers: { host: "example.com" } }));
  assert.deepEqual([found.url, await found.json()], [githubApiUrl + REPO, { path: REPO }]);
  assert.equal(found.headers.has("x-oauth-client-id"), false);
  assert.deepEqual(await (await pool.fetch("/repos/far/away")).json(), { path: "/file" });
  const manual = await pool.fetch("/repos/far/away", { redirect: "manual" });
  assert.deepEqual([manual.status, await manual.text()], [302, "moved"]);
  const [host, token] = [`127.0.0.1:${api.addr.port}`, "Bearer gho_token1"];
  assert.deepEqual(seen, [
    { url: "/repos/old/name", host, authorization: token },
    { url: REPO, host, authorization: token },
    { url: "/repos/far/away", host, authorization: token },
    { url: "/file", host: `localhost:${elsewhere.addr.port}`, authorization: null },
    { url: "/repos/far/away", host, authorization: token },
  ]);
});

scenario("a database that is away is a typed error, and the pool recovers", async (world) => {
  world.isDatabaseDown = true;
  await assert.rejects(world.pool.fetch(REPO), { name: "PoolError", code: "database" });
  assert.equal(world.sent.length, 0);
  world.isDatabaseDown = false;
  assert.equal(await statusOf(world.pool.fetch(REPO)), 200);
});

scenario(
  "when the database goes away meanwhile, an answer is still the caller's, and no connection is held",
  async (world) => {
    world.intercept = () => {
      world.isDatabaseDown = true;
      const expiry = { "github-authentication-token-expiration": "2027-01-19 07:08:40 UTC" };
      return response(200, { ...limitHeaders(5000, 4000, world.clock.seconds + 3600), ...expiry });
    };
    assert.equal(await statusOf(world.pool.fetch(REPO)), 200);
    world.isDatabaseDown = false;
    assert.equal(await statusOf(world.pool.fetch(REPO)), 200);
    world.isDatabaseDown = false;
    assert.equal(await statusOf(world.pool.fetch(REPO)), 200);
    world.isDatabaseDown = false;
    const { answer, isLetGo } = endless(403, { "retry-after": "5" });
    world.intercept = () => {
      world.isDatabaseDown = true;
      return answer;
    };
    await assert.rejects(world.pool.fetch(REPO), { code: "database" });
    assert.ok(isLetGo());
    world.isDatabaseDown = false;
  },
);

scenario("pool.fetch works when it is taken out of the pool", async (world) => {
  const { fetch, poolFetch } = world.pool;
  assert.equal(fetch, poolFetch);
  assert.equal(await statusOf(fetch(REPO)), 200);
});
