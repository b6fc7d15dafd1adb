/**
 * The pool under Octokit, with its plugins: tokens rotate inside, so that what Octokit sees is an answer or a dry pool.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Octokit } from "npm:@octokit/core@7.0.8";
import { paginateRest } from "npm:@octokit/plugin-paginate-rest@16.0.0";
import { retry } from "npm:@octokit/plugin-retry@8.1.1";
import { throttling } from "npm:@octokit/plugin-throttling@11.0.5";
import { createPoolAuth } from "../lib/octokit.ts";
import { PoolError } from "../lib/pool.ts";
import {
  type FetchWorld,
  fetchWorld,
  type FetchWorldOptions,
  inParallel,
  secondaryLimit,
  tokenOf,
} from "./support/fetch_world.ts";
import { KEY, limitHeaders, response } from "./support/fixtures.ts";

const PluggedOctokit = Octokit.plugin(throttling, retry, paginateRest);
type Plugged = InstanceType<typeof PluggedOctokit>;

const REPO = "GET /repos/{owner}/{repo}";
const OWNER = { owner: "denoland", repo: "deno" };

/** Runs a scenario with an Octokit whose throttling plugin must never have anything to do. */
function scenario(
  name: string,
  run: (world: FetchWorld, octokit: Plugged) => Promise<void>,
  options: FetchWorldOptions = {},
): void {
  Deno.test(name, async () => {
    await using world = await fetchWorld(options);
    const throttled: string[] = [];
    const note = (_: number, { url }: { url?: unknown }) => {
      throttled.push(String(url));
      return false;
    };
    const octokit = new PluggedOctokit({
      authStrategy: createPoolAuth,
      auth: { pool: world.pool },
      throttle: { onRateLimit: note, onSecondaryRateLimit: note },
      retry: { retryAfterBaseValue: 1 },
      log: { debug() {}, info() {}, warn() {}, error() {} },
    });
    await run(world, octokit);
    assert.deepEqual(throttled, [], "throttling had nothing to do");
  });
}

scenario("REST goes through the pool, with Octokit's own headers", async (world, octokit) => {
  const { status, data, url, headers } = await octokit.request(REPO, OWNER);
  const address = "https://api.github.com/repos/denoland/deno";
  assert.deepEqual([status, data as unknown, url], [200, { url: address }, address]);
  assert.equal(headers["x-ratelimit-remaining"], "4999");
  assert.equal("x-oauth-scopes" in headers, false);
  assert.equal(tokenOf(world.sent[0]!), world.tokens[0]);
  assert.match(world.sent[0]!.headers.get("user-agent")!, /octokit/);
});

scenario("GraphQL goes through the pool", async (world, octokit) => {
  const query = 'query($name: String!) { repository(owner: "denoland", name: $name) { stargazerCount } }';
  assert.ok(typeof await octokit.graphql(query, { name: "deno" }) === "object");
  assert.deepEqual(JSON.parse(await world.sent[0]!.text()), { query, variables: { name: "deno" } });
  await assert.rejects(octokit.graphql("{ viewer { login } }"), { name: "PoolError", code: "forbidden_request" });
});

scenario("pagination goes on from page to page", async (world, octokit) => {
  const reset = world.clock.seconds + 3600;
  world.intercept = ({ url }) => {
    const page = Number(new URL(url).searchParams.get("page") ?? 1);
    const next = `<https://api.github.com/repos/denoland/deno/issues?page=${page + 1}>; rel="next"`;
    const headers = { ...limitHeaders(5000, 4999, reset), "content-type": "application/json" };
    return response(200, page < 5 ? { ...headers, link: next } : headers, [{ number: page }]);
  };
  const issues = await octokit.paginate("GET /repos/{owner}/{repo}/issues", OWNER);
  assert.deepEqual(issues.map(({ number }) => number), [1, 2, 3, 4, 5]);
  assert.equal(world.sent.length, 5);
});

const MISHAPS: Record<string, (world: FetchWorld) => Response | null> = {
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
  "a 500": () => response(500),
};

for (const [what, happens] of Object.entries(MISHAPS)) {
  scenario(`${what} in the middle of 40 calls is invisible`, async (world, octokit) => {
    let calls = 0;
    world.intercept = () => ++calls === 15 ? happens(world) : null;
    const statuses = await inParallel(40, 4, async (n) => {
      return (await octokit.request(REPO, { ...OWNER, repo: `deno${n}` })).status;
    });
    assert.deepEqual(new Set(statuses), new Set([200]));
    const refused = world.statuses.filter((status) => status !== 200).length;
    assert.ok(refused >= 1 && refused <= 4, `${refused} were refused`);
    assert.equal(world.sent.length, 40 + refused, "nothing was asked twice but that");
  });
}

scenario("a GraphQL query that is rate limited goes on with the next token", async (world, octokit) => {
  world.github.drain("user1", 0, "graphql");
  assert.ok(typeof await octokit.graphql("{ rateLimit { cost } }") === "object");
  assert.equal(new Set(world.sent.map(tokenOf)).size, 2);
});

scenario("a plain 403 and a 404 are Octokit's own errors", async (world, octokit) => {
  world.intercept = ({ url }) =>
    url.includes("/secret") ? response(403, {}, { message: "Resource not accessible" }) : null;
  await assert.rejects(octokit.request(REPO, { ...OWNER, repo: "secret" }), { name: "HttpError", status: 403 });
  await assert.rejects(octokit.request(REPO, { owner: "missing", repo: "x" }), { name: "HttpError", status: 404 });
  assert.equal(world.sent.length, 2);
});

scenario("a dry pool surfaces as the pool's own error, at once, and is not retried", async (world, octokit) => {
  world.github.drain("user1", 0);
  world.github.drain("user1", 0, "graphql");
  const retryAt = (world.clock.seconds + 3600 + 1) * 1000;
  const ways = [() => octokit.request(REPO, OWNER), () => octokit.graphql("{ rateLimit { cost } }")];
  for (const ask of ways) {
    for (const sent of [1, 0]) {
      world.sent.length = 0;
      const error: PoolError = await ask().then(() => assert.fail(), (error) => error);
      assert.ok(error instanceof PoolError);
      assert.deepEqual([error.code, error.retryAt], ["exhausted", retryAt]);
      assert.equal(world.sent.length, sent, "GitHub had to say it once");
    }
  }
}, { donors: 1 });

scenario("what the pool refuses surfaces as the pool's own error", async (world, octokit) => {
  await assert.rejects(octokit.request("GET /user"), { name: "PoolError", code: "forbidden_request" });
  await assert.rejects(octokit.request("POST /repos/{owner}/{repo}/issues", { ...OWNER, title: "x" }), {
    code: "forbidden_request",
  });
  assert.equal(world.sent.length, 0);
});

scenario("a 304 is thrown by Octokit, and is free and healthy for the pool", async (world, octokit) => {
  const etag = (await octokit.request(REPO, OWNER)).headers.etag!;
  const request = octokit.request(REPO, { ...OWNER, headers: { "if-none-match": etag } });
  await assert.rejects(request, { name: "HttpError", status: 304 });
  assert.equal(world.github.used("user1"), 1);
  await world.pool.close();
  assert.equal((await world.another().availability()).usable, 4999);
}, { donors: 1 });

scenario("a pool that remembers answers makes them free without Octokit's knowing", async (world, octokit) => {
  for (let n = 0; n < 5; n++) assert.equal((await octokit.request(REPO, OWNER)).status, 200);
  assert.deepEqual(world.statuses, [200, 304, 304, 304, 304]);
}, { pool: { cache: true } });

scenario("an abort is Octokit's own error, and sends nothing more", async (world, octokit) => {
  const request = { signal: AbortSignal.abort() };
  await assert.rejects(octokit.request(REPO, { ...OWNER, request }), { name: "AbortError" });
  assert.equal(world.sent.length, 0);
});

scenario("auth() gives a token as Octokit's contract has it, and a dry pool's error", async (world, octokit) => {
  assert.deepEqual(await octokit.auth(), { type: "token", tokenType: "oauth", token: world.tokens[0] });
  assert.equal((await world.pool.availability()).usable, 4999, "charged for one call");
  const retryAt = world.clock.time + 60_000;
  await world.rows(`UPDATE token_pool_limits SET ready_at = ${retryAt}`);
  await assert.rejects(octokit.auth() as Promise<unknown>, { name: "PoolError", code: "exhausted", retryAt });
}, { donors: 1 });

Deno.test("the strategy needs no options, and does nothing before the first request", async () => {
  const auth = createPoolAuth();
  assert.deepEqual([typeof auth, typeof auth.hook], ["function", "function"]);
  const octokit = new Octokit({ authStrategy: createPoolAuth });
  // Without a pool it is the one of the environment, which here has no key.
  await assert.rejects(octokit.request(REPO, OWNER), { name: "PoolError", code: "config" });
});

Deno.test("without a pool, too, a dry pool's error says when there will be calls again", async () => {
  await using world = await fetchWorld({ isRealTime: true, donors: 1 });
  await world.pool.getToken({ cost: 5000 });
  const { next_available_at: retryAt } = await world.pool.availability();
  assert.notEqual(retryAt, null);
  const variables = { TOKEN_POOL_DATABASE_URL: world.url, TOKEN_ENCRYPTION_KEY: KEY };
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
  try {
    await assert.rejects(createPoolAuth()(), { code: "exhausted", retryAt });
  } finally {
    for (const name of Object.keys(variables)) Deno.env.delete(name);
  }
});

Deno.test("a pool of another copy of this library has its errors unwrapped as well", async () => {
  class PoolErrorOfAnotherCopy extends Error {
    override readonly name = "PoolError";
  }
  const pool = {
    fetch: () => Promise.reject(new PoolErrorOfAnotherCopy("The pool has no core calls left")),
    getToken: () => Promise.resolve(null),
  };
  const octokit = new Octokit({ authStrategy: createPoolAuth, auth: { pool } });
  await assert.rejects(octokit.request(REPO, OWNER), PoolErrorOfAnotherCopy);
  await assert.rejects(octokit.auth() as Promise<unknown>, { code: "exhausted", retryAt: null }, "it cannot tell when");
});
