/**
 * This pool, through its public API, with a real libSQL database between its processes, and with the service at work as
 * in production: a scrape of its metrics every minute, and its cron job every 15.
 *
 * @module
 */

import { createPool, type Pool } from "../../../lib/pool.ts";
import { openGitHub, openVault } from "../../../lib/service.ts";
import { runUpkeep } from "../../../lib/upkeep.ts";
import { createApp } from "../../../main.http.ts";
import { environment, KEY } from "../../support/fixtures.ts";
import { type GitHubModel, type ModelAnswer, toResponse } from "../github_model.ts";
import { takeOver } from "../virtual_runtime.ts";
import { DatabaseServer, DistantDatabase } from "./distant_database.ts";
import { ATTEMPTS, isRefusal, type Policy, type PolicyWorld, type RunningPolicy } from "./policy.ts";

const API = "https://api.github.com";
const SCRAPE_MS = 60_000;
const CRON_MS = 900_000;

/** `getToken` and `syncTokenHealth`. */
export const oursPlain: Policy = {
  name: "ours",
  title: "this pool, getToken",
  isManual: true,
  start: (world) =>
    run(world, async (pool) => {
      for (let n = 0; n < ATTEMPTS; n++) {
        const token = await pool.getToken();
        if (token === null) return;
        const answer = await new Promise<ModelAnswer>((done) => world.send(token.token, done));
        if (world.reports()) await pool.syncTokenHealth(token.id, toResponse(answer));
        if (!isRefusal(answer)) return;
      }
    }),
};

/** `pool.fetch`, which leases several calls at once and reports by itself. */
export const oursFetch: Policy = {
  name: "ours-fetch",
  title: "this pool, poolFetch",
  isManual: false,
  start(world) {
    let count = 0;
    return run(world, async (pool) => {
      try {
        await pool.fetch(`/repos/owner/repo${count++}`, { pool: { maxAttempts: ATTEMPTS } });
      } catch (error) {
        if ((error as { code?: unknown }).code !== "exhausted") throw error;
      }
    });
  },
};

async function run(world: PolicyWorld, callOnce: (pool: Pool) => Promise<void>): Promise<RunningPolicy> {
  const { scheduler, random, tokens, reserve } = world;
  const runtime = takeOver({ scheduler, random: random.fork("runtime") });
  const server = new DatabaseServer(scheduler);
  const latency = random.fork("database");
  const fetch = wireOf(world);
  /** What went wrong that must not; told when time has passed. */
  const errors: unknown[] = [];
  const watch = (work: Promise<unknown>) => void work.catch((error) => errors.push(error));

  const settled = async (until: number) => {
    await scheduler.runAsync({ until, settle: runtime.settle, afterEvent: () => errors.length > 0 });
    if (errors.length > 0) throw errors[0];
  };

  const databases = Array.from({ length: world.processes }, () => new DistantDatabase(server, scheduler, latency));
  const pools = databases.map((database) =>
    createPool({ database, encryptionKey: KEY, reserve, fetch, githubApiUrl: API })
  );
  const ids: number[] = [];
  watch((async () => {
    for (const { secret, user } of tokens) {
      ids.push(
        await pools[0]!.addToken({ github_user_id: String(user.id), github_username: user.login, token: secret }),
      );
    }
  })());
  // A donation is over long before the first call is made.
  await settled(scheduler.now() + 60_000);

  const service = serve(world, new DistantDatabase(server, scheduler, latency), fetch, watch);
  const before = databases.map(({ roundTrips }) => roundTrips);
  return {
    async run(until) {
      if (until === undefined) service.stop();
      await settled(until ?? Infinity);
    },
    call: (process) => watch(callOnce(pools[process]!)),
    roundTrips: () => databases.reduce((sum, { roundTrips }, index) => sum + roundTrips - before[index]!, 0),
    async lost() {
      const { rows } = await server.execute({ sql: "SELECT id FROM token_pool_tokens", args: [] });
      return ids.length - rows.length;
    },
    stop() {
      server.close();
      runtime[Symbol.dispose]();
    },
  };
}

/** The service, until it is told to stop. */
function serve(
  { scheduler }: PolicyWorld,
  database: DistantDatabase,
  fetch: typeof globalThis.fetch,
  watch: (work: Promise<unknown>) => void,
): { stop(): void } {
  const settings = environment({ TOKEN_ENCRYPTION_KEY: KEY, GITHUB_CLIENT_ID: "id", GITHUB_CLIENT_SECRET: "secret" });
  const app = createApp({ environment: settings, database, fetch, log: () => {} });
  const cron = openVault({ environment: settings, database });
  let isOver = false;
  const every = (ms: number, work: () => Promise<unknown>) => {
    scheduler.after(ms, () => {
      if (isOver) return;
      watch(work());
      every(ms, work);
    });
  };
  every(SCRAPE_MS, async () => await app.request("/metrics"));
  every(CRON_MS, () => runUpkeep({ vault: cron, github: openGitHub(cron.settings, fetch) }));
  return { stop: () => isOver = true };
}

/** What takes the place of `fetch`: calls by a pool's token, and the service's questions about one. */
function wireOf({ scheduler, model, send }: PolicyWorld): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const { pathname } = new URL(request.url);
    const secret = request.headers.get("authorization")!.replace(/^Bearer /, "");
    if (pathname === "/rate_limit") {
      await scheduler.sleep(200);
      return rateLimits(model, secret);
    }
    if (!pathname.startsWith("/applications/")) {
      return toResponse(await new Promise<ModelAnswer>((done) => send(secret, done)));
    }
    const { access_token: asked } = await request.json() as { access_token: string };
    await scheduler.sleep(200);
    if (scheduler.now() < model.outageUntil) return Response.json({ message: "Bad credentials" }, { status: 401 });
    const user = model.ownerOf(asked);
    return user === null
      ? Response.json({ message: "Not Found" }, { status: 404 })
      : Response.json({ user: { id: user.id, login: user.login } });
  };
}

/** What a free look at the limits shows. */
function rateLimits(model: GitHubModel, secret: string): Response {
  const user = model.ownerOf(secret);
  if (user === null || Date.now() < model.outageUntil) {
    return Response.json({ message: "Bad credentials" }, { status: 401 });
  }
  const { core } = model.limitsOf(user);
  return Response.json({ resources: { core } }, { headers: { "x-oauth-scopes": "" } });
}
