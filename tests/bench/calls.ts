/** One call to GitHub: with the pool and without, on loopback. */

import { AnswerDeadline } from "../../lib/abort.ts";
import { withoutDonorHeaders } from "../../lib/api_response.ts";
import { judge } from "../../lib/health.ts";
import { createPool, type Pool } from "../../lib/pool.ts";
import { assertAllowed, toApiRequest } from "../../lib/request_rules.ts";
import { KEY, limitHeaders, temporaryFolder } from "../support/fixtures.ts";
import { startSqld } from "../support/sqld.ts";
import { type CountedDatabase, countedDatabase } from "./counted_database.ts";
import { compare, type Comparison, type Figure, type Run } from "./measure.ts";
import { startGitHub } from "./processes.ts";

const PATH = "/repos/denoland/deno";

/** Fewer than a lease has, so that a round ends within the lease that it began with. */
const WARM_CALLS = 40;
const WARM_ROUNDS = 75;

function headersWith(token: string): Record<string, string> {
  return {
    accept: "application/vnd.github+json",
    "user-agent": "bench",
    "x-github-api-version": "2022-11-28",
    authorization: `Bearer ${token}`,
  };
}

/** Asked by the pool and by hand, with the same headers. */
function ways(pool: Pool, apiUrl: string, token: string): Pick<Comparison, "ours" | "floor"> {
  const headers = headersWith(token);
  return {
    ours: async () => await (await pool.fetch(PATH)).text(),
    floor: async () => await (await fetch(apiUrl + PATH, { headers })).text(),
  };
}

/**
 * What is demanded of a call and no more, with the token at hand: it may be sent, it does not wait for ever, what GitHub
 * says of the token is understood, and what tells of its donor is left out.
 */
function demanded(apiUrl: string, token: string): Run {
  const headers = headersWith(token);
  const deadline = new AnswerDeadline(15_000);
  return async () => {
    const request = await toApiRequest(PATH, {}, apiUrl);
    assertAllowed(request, apiUrl);
    const late = deadline.begin();
    const response = await fetch(request.target, { headers, redirect: "manual", signal: late.signal });
    deadline.end(late);
    judge({ status: response.status, headers: response.headers, body: "", url: request.url.href }, apiUrl);
    return await withoutDonorHeaders(response, request.url.href, false).text();
  };
}

/** poolFetch() with a lease at hand, and with those that are taken on the way. */
export async function measureFetch(): Promise<Figure[]> {
  await using folder = await temporaryFolder();
  const figures: Figure[] = [];
  await using github = await startGitHub(1, 100_000_000);
  {
    using database = await countedDatabase(`file:${folder.path}/strict.db`);
    await using pool = createPool({ database, encryptionKey: KEY, githubApiUrl: github.url });
    await pool.addToken(github.tokens[0]!);
    const both = ways(pool, github.url, github.tokens[0]!.token);
    const what = "against the call alone: the strict GitHub of the tests, in a process of its own";
    figures.push(
      await compareWarm(`poolFetch() ${what}`, both, database),
      await compare({ name: `poolFetch() and its leases ${what}`, ...both, target: null, times: 200 }),
      await compare({
        name: `what is demanded of a call, and no pool, ${what}`,
        ...both,
        ours: demanded(github.url, github.tokens[0]!.token),
        target: null,
        times: 200,
      }),
    );
  }
  // Nothing but an answer, and in this process: what the pool adds, against as little as a call can be.
  const reset = Math.floor(Date.now() / 1000) + 3600;
  const body = JSON.stringify({ full_name: "denoland/deno", description: "x".repeat(4000) });
  let remaining = 100_000_000;
  let delayMs = 0;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async () => {
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    const headers = { ...limitHeaders(100_000_000, --remaining, reset), "content-type": "application/json" };
    return new Response(body, { headers });
  });
  const apiUrl = `http://127.0.0.1:${server.addr.port}`;
  using database = await countedDatabase(`file:${folder.path}/bare.db`);
  await using pool = createPool({ database, encryptionKey: KEY, githubApiUrl: apiUrl });
  await pool.addToken({ github_user_id: "1", token: "gho_1" });
  for (const [ms, what] of [[0, "at once"], [1, "after 1 ms"]] as const) {
    delayMs = ms;
    const name = `poolFetch() against the call alone: a server in this process that answers ${what}`;
    figures.push(await compareWarm(name, ways(pool, apiUrl, "gho_1"), database));
  }
  await server.shutdown();
  return figures;
}

/** With a lease at hand: each round of ours begins with the second call of one. */
function compareWarm(
  name: string,
  { ours, floor }: Pick<Comparison, "ours" | "floor">,
  database: CountedDatabase,
): Promise<Figure> {
  const takeLease = async () => {
    for (const { trips } = database; database.trips === trips;) await ours();
  };
  const target = { atLeast: 1 / 1.15 };
  return compare({ name, ours, floor, target, before: takeLease, times: WARM_CALLS, rounds: WARM_ROUNDS });
}

/** getToken(), the call and syncTokenHealth() on a libSQL server on loopback, against the call alone. */
export async function measureServer(): Promise<Figure[]> {
  await using github = await startGitHub(4, 100_000_000);
  await using server = await startSqld();
  using database = await countedDatabase(server.url);
  await using pool = createPool({ database, encryptionKey: KEY, githubApiUrl: github.url });
  for (const donation of github.tokens) await pool.addToken(donation);
  const { floor } = ways(pool, github.url, github.tokens[0]!.token);
  const handOut = async () => {
    const token = await pool.getToken();
    const response = await fetch(github.url + PATH, {
      headers: { authorization: `Bearer ${token!.token}`, "user-agent": "bench" },
    });
    await pool.syncTokenHealth(token!.id, response);
    return await response.text();
  };
  const [times, rounds] = [40, 7];
  for (let n = 0; n < times; n++) await handOut();
  const { trips } = database;
  for (let n = 0; n < times; n++) await handOut();
  const perCall = (database.trips - trips) / times;
  const figure = await compare({
    name: "getToken(), the call and syncTokenHealth() on a libSQL server, against the call alone",
    ours: handOut,
    floor,
    target: null,
    times,
    rounds,
  });
  const bare = await compare({
    name: "getToken() on a libSQL server, against `SELECT 1` by the same client",
    ours: () => pool.getToken(),
    floor: () => database.execute({ sql: "SELECT 1", args: [] }),
    target: null,
    times,
    rounds,
  });
  return [
    figure,
    bare,
    {
      name: "round trips of getToken() and syncTokenHealth() on a libSQL server, when nothing else happens",
      value: perCall,
      unit: "per call",
      target: { atMost: 1 },
      detail: `${times} calls in turn`,
    },
  ];
}
