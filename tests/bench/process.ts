/**
 * The other processes of the bench.
 *
 *     github <donors> <limit> <least ms> <most ms>       the strict GitHub, served: prints where, and the donors' tokens
 *     none <github> <calls> <width> <tokens>             calls with tokens at hand and no database
 *     lease <github> <calls> <width> <key> <database>    calls by poolFetch
 *     plain <github> <calls> <width> <key> <database>    getToken, fetch, syncTokenHealth
 *     claims <calls> <key> <database>                    getToken and nothing else
 *
 * Those that make calls say "ready", wait for a byte, and print what they did as JSON.
 */

import { createPool, type Pool } from "../../lib/pool.ts";
import { FakeGitHub } from "../support/fake_github.ts";
import { inParallel } from "../support/fetch_world.ts";
import { countedDatabase } from "./counted_database.ts";

const PATH = "/repos/denoland/deno";

/** Serves a GitHub that takes its time. */
function serveGitHub(donors: number, limit: number, leastMs: number, mostMs: number): void {
  const github = new FakeGitHub({ limits: { core: limit } });
  if (mostMs > 0) {
    github.before = () => new Promise((resolve) => setTimeout(resolve, leastMs + Math.random() * (mostMs - leastMs)));
  }
  const tokens = Array.from({ length: donors }, (_, n) => {
    const { id, login } = github.addUser(`user${n}`);
    return { github_user_id: String(id), token: github.grantToken(login) };
  });
  const onListen = ({ port }: { port: number }) =>
    console.log(JSON.stringify({ url: `http://127.0.0.1:${port}`, tokens }));
  Deno.serve({ hostname: "127.0.0.1", port: 0, onListen }, (request) => github.handler(request));
}

async function whenTold(): Promise<void> {
  console.log("ready");
  await Deno.stdin.read(new Uint8Array(1));
}

/** Makes the calls when it is told to, and tells how it went. */
async function run(calls: number, width: number, call: () => Promise<boolean>, database = { trips: 0 }): Promise<void> {
  await whenTold();
  const { trips } = database;
  const start = performance.now();
  const answered = (await inParallel(calls, width, call)).filter((isAnswered) => isAnswered).length;
  console.log(JSON.stringify({ ms: performance.now() - start, answered, trips: database.trips - trips }));
}

async function read(answer: Promise<Response>): Promise<boolean> {
  const response = await answer;
  await response.arrayBuffer();
  return response.status === 200;
}

function ask(github: string, token: string): Promise<Response> {
  return fetch(github + PATH, { headers: { authorization: `Bearer ${token}`, "user-agent": "bench" } });
}

async function withPool(
  [github, calls, width, key, url]: string[],
  callOf: (pool: Pool) => () => Promise<boolean>,
): Promise<void> {
  using database = await countedDatabase(url!);
  await using pool = createPool({ database, encryptionKey: key!, githubApiUrl: github! });
  await pool.availability(); // opened, before the time is taken
  await run(Number(calls), Number(width), callOf(pool), database);
}

const [command, ...rest] = Deno.args as [string, ...string[]];

switch (command) {
  case "github":
    serveGitHub(...rest.map(Number) as [number, number, number, number]);
    break;
  case "none": {
    const [github, calls, width, tokens] = rest as [string, string, string, string];
    const all = tokens.split(",");
    let turn = 0;
    await run(Number(calls), Number(width), () => read(ask(github, all[turn++ % all.length]!)));
    break;
  }
  case "lease":
    await withPool(rest, (pool) => () => read(pool.fetch(PATH)));
    break;
  case "plain":
    await withPool(rest, (pool) => async () => {
      const token = await pool.getToken();
      if (token === null) return false;
      const response = await ask(rest[0]!, token.token);
      await pool.syncTokenHealth(token.id, response);
      return await read(Promise.resolve(response));
    });
    break;
  case "claims": {
    const [calls, key, database] = rest as [string, string, string];
    await using pool = createPool({ database, encryptionKey: key });
    await pool.availability();
    const delays: number[] = [];
    await run(Number(calls), 1, async () => {
      const start = performance.now();
      const isClaimed = await pool.getToken() !== null;
      delays.push(performance.now() - start);
      return isClaimed;
    });
    console.log(JSON.stringify(delays));
    break;
  }
  default:
    throw new Error(`There is no command ${command}`);
}
