/** A pool, its database and a GitHub, joined, for tests of what goes between them. */

import { type Client, createClient } from "npm:@libsql/client@0.18.0";
import { createPool, type Database, type Pool, type PoolOptions } from "../../lib/pool.ts";
import { FakeGitHub, type FakeGitHubOptions } from "./fake_github.ts";
import { Clock, KEY, temporaryFolder } from "./fixtures.ts";

/** What a world is made of; each has a default. */
export interface FetchWorldOptions {
  /** Donors, `user1` and so on, each with a token in the pool. Default 3. */
  donors?: number;
  /** What stays theirs. Default 0. */
  reserve?: number;
  /** Default: a file. */
  url?: string;
  /** Real time, instead of a clock that stands still. */
  isRealTime?: boolean;
  github?: FakeGitHubOptions;
  pool?: PoolOptions;
}

/** Where requests go before GitHub sees them: an answer, or null for GitHub's own. */
export type Interceptor = (request: Request) => Response | null | Promise<Response | null>;

/** A world. */
export interface FetchWorld extends AsyncDisposable {
  github: FakeGitHub;
  clock: Clock;
  pool: Pool;
  /** Of the database. */
  url: string;
  /** Tokens, by number of the donor; the first is number 0. */
  tokens: string[];
  /** Ids of the donations. */
  ids: number[];
  /** Every request that left the pool. */
  sent: Request[];
  /** The status of every answer that came back. */
  statuses: number[];
  /** Round trips to the database, each with the statements that it took. */
  trips: string[][];
  isDatabaseDown: boolean;
  intercept: Interceptor | null;
  /** The fetch that all pools of this world have. */
  fetch: typeof fetch;
  /** Another pool on the same database, as another process has it. */
  another(options?: PoolOptions): Pool;
  /** Rows of the database, past the pool. */
  rows(sql: string): Promise<Record<string, unknown>[]>;
}

/** Makes a world. */
export async function fetchWorld(options: FetchWorldOptions = {}): Promise<FetchWorld> {
  await using unlessMade = new AsyncDisposableStack();
  let stack = unlessMade;
  const folder = stack.use(await temporaryFolder());
  const url = options.url ?? `file:${folder.path}/pool.db`;
  const clock = new Clock();
  const now = options.isRealTime ? Date.now : clock.now;
  const github = new FakeGitHub({ now, ...options.github });
  const client = stack.adopt(createClient({ url, concurrency: 1 }), (client) => client.close());
  if (url.startsWith("file:")) {
    await client.execute("PRAGMA journal_mode = WAL");
    await client.execute("PRAGMA synchronous = NORMAL");
  }

  const database = watched(client, () => world);
  const another = (more: PoolOptions = {}) =>
    stack.use(createPool({
      database,
      encryptionKey: KEY,
      ...(options.isRealTime ? {} : { now }),
      fetch: (input, init) => world.fetch(input, init),
      ...options.pool,
      ...more,
    }));
  const world: FetchWorld = {
    github,
    clock,
    pool: another(),
    url,
    tokens: [],
    ids: [],
    sent: [],
    statuses: [],
    trips: [],
    isDatabaseDown: false,
    intercept: null,
    async fetch(input, init) {
      const request = new Request(input, init);
      request.signal.throwIfAborted();
      world.sent.push(request.clone());
      const answer = async () => {
        await new Promise((resolve) => setTimeout(resolve)); // so that calls are in flight at the same time
        return await world.intercept?.(request) ?? await github.fetch(request);
      };
      const response = await Promise.race([answer(), aborted(request.signal)]);
      world.statuses.push(response.status);
      return request.method === "HEAD" ? new Response(null, response) : response;
    },
    another,
    async rows(sql) {
      return (await client.execute(sql)).rows as unknown as Record<string, unknown>[];
    },
    [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
  };
  for (let n = 1; n <= (options.donors ?? 3); n++) {
    const { id, login } = github.addUser(`user${n}`);
    const token = github.grantToken(login);
    world.tokens.push(token);
    const donation = { github_user_id: String(id), github_username: login, token, reserve: options.reserve ?? 0 };
    world.ids.push(await world.pool.addToken(donation));
  }
  world.trips = [];
  stack = unlessMade.move();
  return world;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

/** A database whose round trips are noted, and which is away when it is told to be. */
export function watched(
  database: Client,
  watcher: () => { trips: string[][]; isDatabaseDown: boolean },
): Database {
  function note(statements: { sql: string }[]): void {
    const { trips, isDatabaseDown } = watcher();
    trips.push(statements.map(({ sql }) => sql));
    if (isDatabaseDown) throw new Error("no answer");
  }
  return {
    async execute(statement) {
      note([statement]);
      return await database.execute(statement);
    },
    async batch(statements, mode) {
      note(statements);
      return await database.batch(statements, mode);
    },
  };
}

/** Runs `count` calls, so many at a time, and returns what each came to. */
export async function inParallel<T>(count: number, width: number, call: (n: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  await Promise.all(Array.from({ length: width }, async () => {
    while (next < count) {
      const n = next++;
      results[n] = await call(n);
    }
  }));
  return results;
}

/** The token that a request was sent with; null when there was none. */
export function tokenOf(request: Request): string | null {
  return request.headers.get("authorization")?.replace(/^Bearer /, "") ?? null;
}

/** GitHub's answer to who asks too much at once. */
export function secondaryLimit(retryAfter?: number): Response {
  const headers = retryAfter === undefined ? {} : { "retry-after": String(retryAfter) };
  const message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
  return Response.json({ message }, { status: 403, headers });
}
