/**
 * Answers that are remembered: what a 304 costs, what is kept, and how many calls it saves.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createPool, type Pool } from "../lib/pool.ts";
import type { ApiRequest } from "../lib/request_rules.ts";
import { ResponseCache } from "../lib/response_cache.ts";
import { type FetchWorld, fetchWorld, type FetchWorldOptions, inParallel, tokenOf } from "./support/fetch_world.ts";
import { KEY, limitHeaders, response } from "./support/fixtures.ts";
import { until } from "./support/until.ts";

const REPO = "/repos/denoland/deno";

/** Runs a scenario in a world whose pool remembers answers. */
function scenario(name: string, run: (world: FetchWorld) => Promise<void>, options: FetchWorldOptions = {}): void {
  Deno.test(name, async () => {
    await using world = await fetchWorld({ ...options, pool: { cache: true, ...options.pool } });
    await run(world);
  });
}

/** Status, and the body as text. */
async function read(answer: Promise<Response>): Promise<[status: number, body: string]> {
  const { status } = await answer;
  return [status, await (await answer).text()];
}

/** Calls that GitHub has counted. */
function counted({ github, tokens }: FetchWorld): number {
  return tokens.map((_, index) => github.used(`user${index + 1}`)).reduce((sum, used) => sum + used, 0);
}

scenario("asking again costs nothing, at GitHub or in the pool, and gives the same answer", async (world) => {
  const first = await world.pool.fetch(REPO);
  assert.equal(first.url, `https://api.github.com${REPO}`);
  const body = await first.json();
  const headers = Object.fromEntries(first.headers);
  for (let n = 0; n < 10; n++) {
    const again = await world.pool.fetch(REPO);
    assert.deepEqual([again.status, again.url, await again.json()], [200, first.url, body]);
    assert.deepEqual(Object.fromEntries(again.headers), headers, "rate limit and all");
  }
  assert.deepEqual(world.statuses, [200, ...Array(10).fill(304)]);
  assert.equal(new Set(world.sent.map(tokenOf)).size, 1, "with the token that it came by");
  assert.equal(counted(world), 1);
  await world.pool.close();
  assert.equal((await world.another().availability()).usable, 3 * 5000 - 1);
});

scenario("what a 304 says anew is in the answer", async (world) => {
  const reset = world.clock.seconds + 3600;
  const type = "application/json; charset=utf-8";
  const firstHeaders = {
    ...limitHeaders(5000, 4999, reset),
    etag: '"1"',
    "content-type": type,
    date: "then",
    link: "<a>",
  };
  world.intercept = (request) =>
    request.headers.get("if-none-match") === '"1"'
      ? response(304, { ...limitHeaders(5000, 4000, reset), etag: '"1"', date: "now", "x-github-request-id": "2" })
      : response(200, firstHeaders, { a: 1 });
  await read(world.pool.fetch(REPO));
  const again = await world.pool.fetch(REPO);
  const headers = ["x-ratelimit-remaining", "date", "x-github-request-id", "link", "content-type", "x-oauth-scopes"]
    .map((name) => again.headers.get(name));
  assert.deepEqual(headers, ["4000", "now", "2", "<a>", type, null]);
  assert.deepEqual(await again.json(), { a: 1 });
});

scenario("an answer that has changed takes the place of the old one", async (world) => {
  let version = 1;
  world.intercept = (request) => {
    const etag = `"${version}"`;
    const headers = {
      ...limitHeaders(5000, 4999, world.clock.seconds + 3600),
      etag,
      "content-type": "application/json",
    };
    return request.headers.get("if-none-match") === etag ? response(304, headers) : response(200, headers, { version });
  };
  for (const expected of [1, 1, 2, 2, 3]) {
    version = expected;
    assert.deepEqual(await read(world.pool.fetch(REPO)), [200, `{"version":${expected}}`]);
  }
  assert.deepEqual(world.statuses, [200, 304, 200, 304, 200]);
});

scenario("without being asked to, nothing is remembered", async (world) => {
  await read(world.pool.fetch(REPO));
  await read(world.pool.fetch(REPO));
  assert.deepEqual(world.statuses, [200, 200]);
}, { pool: { cache: false } });

scenario("what must not, or cannot usefully, be remembered is not", async (world) => {
  const reset = world.clock.seconds + 3600;
  const json = { etag: '"1"', "content-type": "application/json" };
  const plain = () => response(200, { ...limitHeaders(5000, 4999, reset), ...json });
  const cases: [what: string, init: RequestInit, answer: () => Response][] = [
    ["no-store", { cache: "no-store" }, plain],
    ["reload", { cache: "reload" }, plain],
    ["no-store as a header", { headers: { "cache-control": "no-store" } }, plain],
    ["a range", { headers: { range: "bytes=0-9" } }, plain],
    ["a condition of the caller's", { headers: { "if-none-match": '"0"' } }, plain],
    ["a date of the caller's", { headers: { "if-modified-since": "Mon, 01 Jan 2024 00:00:00 GMT" } }, plain],
    ["HEAD", { method: "HEAD" }, plain],
    ["a GraphQL query", { method: "POST", body: '{"query":"{ a }"}' }, plain],
    ["an archive", {}, () => response(200, { ...json, "content-type": "application/zip" })],
    ["an answer without a type", {}, () => new Response(new Uint8Array(1), { headers: { etag: '"1"' } })],
    ["an answer without an ETag", {}, () => response(200, { "content-type": "application/json" })],
    ["an answer that says so", {}, () => response(200, { ...json, "cache-control": "private, no-store" })],
    ["404", {}, () => response(404, json)],
    ["206", {}, () => response(206, json)],
  ];
  for (const [n, [what, init, answer]] of cases.entries()) {
    world.intercept = answer;
    const path = init.method === "POST" ? "/graphql" : `${REPO}${n}`;
    await read(world.pool.fetch(path, init));
    await read(world.pool.fetch(path, init));
    const own = new Headers(init.headers).get("if-none-match");
    assert.ok(world.sent.slice(-2).every(({ headers }) => headers.get("if-none-match") === own), what);
  }
  world.intercept = plain;
  for (const cache of ["no-store", "reload"] as const) {
    const request = new Request(`https://api.github.com${REPO}/${cache}`, { cache });
    await read(world.pool.fetch(request));
    await read(world.pool.fetch(request));
    assert.ok(world.sent.slice(-2).every(({ headers }) => !headers.has("if-none-match")), `a Request with ${cache}`);
  }
});

scenario("a caller's own condition is answered with the 304 itself", async (world) => {
  const etag = (await world.pool.fetch(REPO)).headers.get("etag")!;
  const answer = await world.pool.fetch(REPO, { headers: { "if-none-match": etag } });
  // Another token, another ETag: without the cache there is no telling.
  assert.ok([200, 304].includes(answer.status));
  await answer.body?.cancel();
});

scenario("another representation is another answer", async (world) => {
  for (const accept of ["application/vnd.github+json", "application/vnd.github.raw+json"]) {
    await read(world.pool.fetch(REPO, { headers: { accept } }));
  }
  assert.deepEqual(world.statuses, [200, 200]);
});

scenario("when the token has left the pool, another asks anew", async (world) => {
  await read(world.pool.fetch(REPO));
  const [first] = world.sent.map(tokenOf);
  world.github.revokeToken(first!);
  assert.equal((await read(world.pool.fetch(REPO)))[0], 200, "GitHub says so");
  assert.deepEqual(world.statuses, [200, 401, 200]);
  assert.equal((await read(world.pool.fetch(REPO)))[0], 200);
  assert.equal(world.statuses.at(-1), 304, "from then on by the new one");
  const id = world.ids[world.tokens.indexOf(tokenOf(world.sent.at(-1)!)!)];
  await world.rows(`DELETE FROM token_pool_limits WHERE token_id = ${id}`);
  await world.rows(`DELETE FROM token_pool_tokens WHERE id = ${id}`);
  world.clock.advance(10_000);
  assert.equal((await read(world.pool.fetch(REPO)))[0], 200, "the database says so");
  assert.equal(world.statuses.at(-1), 200);
  assert.equal(new Set(world.sent.map(tokenOf)).size, 3);
});

scenario("a remembered answer whose revalidation is refused is asked for anew, whole", async (world) => {
  await read(world.pool.fetch(REPO));
  world.intercept = () => world.sent.length === 2 ? response(500) : null;
  assert.equal((await read(world.pool.fetch(REPO)))[0], 200);
  assert.deepEqual(world.statuses, [200, 500, 200]);
  assert.equal(world.sent.at(-1)!.headers.has("if-none-match"), false);
});

scenario("an answer behind a redirect is asked about with the token that it came by in the end", async (world) => {
  const reset = world.clock.seconds + 3600;
  world.intercept = (request) => {
    const isFirst = tokenOf(request) === world.tokens[0];
    const headers = { ...limitHeaders(5000, isFirst ? 0 : 4990, reset), location: REPO };
    return request.url.endsWith("/old/name") ? response(301, headers) : null;
  };
  for (let n = 0; n < 2; n++) {
    const answer = await world.pool.fetch("/repos/old/name");
    assert.deepEqual([answer.status, answer.redirected], [200, true]);
    await answer.body?.cancel();
  }
  assert.deepEqual(world.statuses, [301, 200, 301, 304]);
  assert.deepEqual(world.sent.map((request) => world.tokens.indexOf(tokenOf(request)!)), [0, 1, 1, 1]);
}, { donors: 2 });

scenario("onEvent is told when an answer is one that was remembered", async (world) => {
  const types: string[] = [];
  const pool = { onEvent: ({ type }: { type: string }) => void types.push(type) };
  await read(world.pool.fetch(REPO, { pool }));
  await read(world.pool.fetch(REPO, { pool }));
  assert.deepEqual(types, ["sent", "answered", "sent", "answered", "cached"]);
});

scenario("equal GETs in flight are one call, remembered or not, and each can be read", async (world) => {
  for (const expected of [200, 304]) {
    world.sent.length = 0;
    const bodies = await inParallel(10, 10, () => read(world.pool.fetch(REPO)));
    assert.deepEqual(new Set(bodies.map(String)).size, 1);
    assert.equal(world.sent.length, 1);
    assert.equal(world.statuses.at(-1), expected);
  }
});

scenario("a free call that comes back after its lease has ended is given back to the pool", async (world) => {
  await read(world.pool.fetch(REPO));
  const { promise, resolve } = Promise.withResolvers<null>();
  world.intercept = (request) => request.headers.has("if-none-match") ? promise : null;
  const late = read(world.pool.fetch(REPO));
  await until("the free call is under way", () => world.sent.length === 2);
  world.clock.advance(10_000);
  await read(world.pool.fetch(`${REPO}2`));
  resolve(null);
  await late;
  await world.pool.close();
  assert.equal(counted(world), 2);
  assert.equal((await world.another().availability()).usable, 3 * 5000 - 2);
});

/** An answer of so many bytes. */
function answerOf(bytes: number, etag = '"1"'): Response {
  return new Response("x".repeat(bytes), { headers: { etag, "content-type": "application/json" } });
}

function ask(path: string): ApiRequest {
  const url = `https://api.github.com${path}`;
  const how = { redirect: "follow", cache: "default", signal: undefined } as const;
  return { target: url, url: new URL(url), method: "GET", headers: {}, body: "", ...how };
}

Deno.test("the least recently used answers go when the bytes are used up", async () => {
  const cache = new ResponseCache(10_000);
  const kept = (...paths: string[]) => paths.map((path) => cache.find(ask(path)) !== null);
  for (const path of ["/a", "/b", "/c", "/d"]) await cache.keep(ask(path), answerOf(1900), 1);
  assert.deepEqual(kept("/a"), [true]);
  await cache.keep(ask("/e"), answerOf(1900), 1); // 5 × 1,900 and what belongs to them are more than 10,000
  assert.deepEqual(kept("/a", "/b", "/c", "/d", "/e"), [true, false, true, true, true]);
  await cache.keep(ask("/c"), answerOf(10), 1);
  await cache.keep(ask("/f"), answerOf(1900), 1);
  assert.deepEqual(kept("/a", "/c", "/d", "/e", "/f"), Array(5).fill(true), "what was replaced takes no room");
});

Deno.test("one answer takes at most a quarter, and can be read even so", async () => {
  const cache = new ResponseCache(10_000);
  const large = await cache.keep(ask("/large"), answerOf(2600), 1);
  assert.equal((await large.text()).length, 2600);
  assert.equal(cache.find(ask("/large")), null);
});

Deno.test("an answer that is remembered says what it said at first, status text and all", async () => {
  const cache = new ResponseCache(10_000);
  const headers = { etag: '"1"', "content-type": "application/json" };
  const first = await cache.keep(ask("/x"), new Response("{}", { statusText: "OK", headers }), 1);
  const again = cache.find(ask("/x"))!.toResponse(new Response(null, { status: 304, statusText: "Not Modified" }));
  for (const answer of [first, again]) assert.deepEqual([answer.status, answer.statusText], [200, "OK"]);
});

Deno.test("headers and addresses count as well, so that many small answers are not without bound", async () => {
  const cache = new ResponseCache(100_000);
  for (let n = 0; n < 10_000; n++) await cache.keep(ask(`/${n}`), answerOf(1), 1);
  let kept = 0;
  for (let n = 0; n < 10_000; n++) if (cache.find(ask(`/${n}`)) !== null) kept++;
  assert.ok(kept > 10 && kept < 1000, `${kept} are kept`);
});

Deno.test("what is kept is a copy that no caller can change", async () => {
  const cache = new ResponseCache(10_000);
  const first = await cache.keep(ask("/a"), answerOf(4), 1);
  new Uint8Array(await first.arrayBuffer()).fill(0);
  first.headers.set("x-mine", "yes");
  for (let n = 0; n < 2; n++) {
    const again = cache.find(ask("/a"))!.toResponse(new Response(null, { status: 304 }));
    assert.equal(again.headers.has("x-mine"), false);
    const bytes = new Uint8Array(await again.arrayBuffer());
    assert.equal(new TextDecoder().decode(bytes), "xxxx");
    bytes.fill(0);
  }
});

Deno.test("a size that is none is refused when the pool is made", () => {
  for (const cache of [0, -1, NaN]) {
    assert.throws(() => createPool({ database: "file::memory:", encryptionKey: KEY, cache }), RangeError);
  }
});

/** Numbers from 0 to 1, the same in each run (mulberry32). */
function seeded(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** What a badge service asks for: some repositories all the time, most of them seldom (Zipf over 300 addresses). */
function trace(requests: number): string[] {
  const random = seeded(4);
  const weights = Array.from({ length: 300 }, (_, rank) => 1 / (rank + 1));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return Array.from({ length: requests }, () => {
    let at = random() * total;
    const rank = weights.findIndex((weight) => (at -= weight) <= 0);
    return `/repos/owner${rank}/name`;
  });
}

Deno.test("on a trace of 3,000 requests for 300 addresses it saves more than half of the calls", async () => {
  const paths = trace(3000);
  const costOf = async (cache: boolean) => {
    await using world = await fetchWorld({ donors: 5, pool: { cache } });
    // Addresses change now and then; here each one about every 200 requests.
    const random = seeded(5);
    const versions = new Map<string, number>();
    world.intercept = async (request) => {
      const { pathname } = new URL(request.url);
      const version = (versions.get(pathname) ?? 0) + (random() < 1 / 200 ? 1 : 0);
      versions.set(pathname, version);
      // The ETag of GitHub's that the fake makes, and the version of the content.
      const sent = new Request(request);
      const [etag, known] = (request.headers.get("if-none-match") ?? "").split("~");
      if (etag !== "" && known === String(version)) sent.headers.set("if-none-match", etag!);
      else sent.headers.delete("if-none-match");
      const answer = await world.github.fetch(sent);
      const headers = new Headers(answer.headers);
      headers.set("etag", `${headers.get("etag")}~${version}`);
      const body = answer.status === 304 ? null : JSON.stringify({ version });
      return new Response(body, { status: answer.status, headers });
    };
    await inParallel(paths.length, 4, async (n) => {
      world.clock.advance(20);
      const [status, body] = await read(world.pool.fetch(paths[n]!));
      assert.equal(status, 200);
      assert.ok(JSON.parse(body).version >= 0);
    });
    await world.pool.close();
    const charged = Number((await world.rows("SELECT sum(calls) AS calls FROM token_pool_limits"))[0]!["calls"]);
    return { counted: counted(world), charged, trips: world.trips.length };
  };
  const [without, with_] = [await costOf(false), await costOf(true)];
  const saved = 1 - with_.counted / without.counted;
  console.log(
    `${without.counted} calls without the cache, ${with_.counted} with it: ${Math.round(saved * 100)} % saved; ` +
      `round trips ${without.trips} and ${with_.trips}`,
  );
  assert.ok(saved > 0.5, `${saved} saved`);
  assert.ok(with_.charged <= without.charged * (1 - 0.5), "and the pool knows that they were free");
});

Deno.test("the type of the pool's methods is that of a fetch", () => {
  const pool: Pick<Pool, "fetch"> = createPool({ database: "file::memory:", encryptionKey: KEY });
  const asFetch: typeof fetch = pool.fetch;
  assert.equal(typeof asFetch, "function");
});
