/** A process that starts cold: to its first page, and to its first hand-out. */

import { fileURLToPath } from "node:url";
import { createPool } from "../../lib/pool.ts";
import { KEY, temporaryFolder } from "../support/fixtures.ts";
import { freePort } from "../support/ports.ts";
import { linesOf } from "../support/processes.ts";
import { type Figure, median } from "./measure.ts";

const MAIN = fileURLToPath(import.meta.resolve("../../main.http.ts"));
const CONFIG = fileURLToPath(import.meta.resolve("../../deno.json"));
const ROUNDS = 9;

/** A server that does nothing but answer. */
const BARE_SERVER = script(`Deno.serve({
  port: Number(Deno.env.get("PORT")),
  hostname: "127.0.0.1",
  onListen: () => console.log("listening"),
}, () => new Response("hello"))`);

/** A server that says the same with what this one is made of. */
const HELLO_OF_THE_STACK = script(`import { Hono } from "npm:hono@4.13.19";
  import { jsx } from "npm:hono@4.13.19/jsx";
  import { z } from "npm:zod@4.6.7";
  const app = new Hono();
  const settings = z.object({ GREETING: z.string().default("hello") });
  app.get("/", (c) => c.html(jsx("p", {}, settings.parse({}).GREETING).toString()));
  Deno.serve({
    port: Number(Deno.env.get("PORT")),
    hostname: "127.0.0.1",
    onListen: () => console.log("listening"),
  }, app.fetch)`);

/** A process that does nothing but import what the pool is made of. */
const BARE_IMPORTS = script(`import "npm:@libsql/client@0.18.0"; import "npm:zod@4.6.7"; console.log("done")`);

/** A program that draws one token. */
function firstHandOut(database: string): string {
  return script(`import { createPool } from "${import.meta.resolve("../../lib/pool.ts")}";
    const pool = createPool({ database: "${database}", encryptionKey: "${KEY}" });
    console.log((await pool.getToken()).id)`);
}

function script(source: string): string {
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

function run(script: string, variables: Record<string, string>): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--quiet", "--no-check", "--config", CONFIG, script],
    env: { PATH: Deno.env.get("PATH") ?? "", HOME: Deno.env.get("HOME") ?? "", ...variables },
    clearEnv: true,
    stdout: "piped",
    stderr: "null",
  }).spawn();
}

/** Milliseconds from the start of a process to the last byte of its first page. */
async function firstPage(script: string, path: string, variables: Record<string, string>): Promise<number> {
  const port = String(freePort());
  const start = performance.now();
  const process = run(script, { PORT: port, ...variables });
  const lines = linesOf(process);
  try {
    await lines.next();
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    await response.arrayBuffer();
    if (response.status !== 200) throw new Error(`The first page came with status ${response.status}`);
    return performance.now() - start;
  } finally {
    process.kill("SIGKILL");
    await lines.return(undefined);
    await process.status;
  }
}

/** Milliseconds from the start of a process to the line that it prints. */
async function firstLine(script: string): Promise<number> {
  const start = performance.now();
  const process = run(script, {});
  const lines = linesOf(process);
  const { value } = await lines.next();
  const ms = performance.now() - start;
  await lines.return(undefined);
  await process.status;
  if (!value) throw new Error("The process ended without a word");
  return ms;
}

/** First page and first hand-out, each against processes that do as little as can be. */
export async function measureColdStart(): Promise<Figure[]> {
  await using folder = await temporaryFolder();
  const database = `file:${folder.path}/cold.db`;
  {
    await using pool = createPool({ database, encryptionKey: KEY });
    await pool.addToken({ github_user_id: "1", token: "gho_1" });
  }
  const variables = {
    TOKEN_ENCRYPTION_KEY: KEY,
    TOKEN_POOL_DATABASE_URL: database,
    GITHUB_CLIENT_ID: "id",
    GITHUB_CLIENT_SECRET: "secret",
  };
  const ways = {
    server: () => firstPage(BARE_SERVER, "/", {}),
    stack: () => firstPage(HELLO_OF_THE_STACK, "/", {}),
    imports: () => firstLine(BARE_IMPORTS),
    page: () => firstPage(MAIN, "/withdraw", variables),
    landing: () => firstPage(MAIN, "/", variables),
    handOut: () => firstLine(firstHandOut(database)),
  };
  const names = Object.keys(ways) as (keyof typeof ways)[];
  const samples = Object.fromEntries(names.map((way) => [way, []])) as unknown as Record<keyof typeof ways, number[]>;
  for (let round = 0; round <= ROUNDS; round++) {
    for (const way of names) {
      const ms = await ways[way]();
      if (round > 0) samples[way].push(ms); // the first one fills the caches
    }
  }
  const of = (way: keyof typeof ways) => median(samples[way]);
  const against = (name: string, ours: keyof typeof ways, floor: keyof typeof ways, atMost: number | null): Figure => ({
    name,
    value: of(ours) / of(floor),
    unit: "factor",
    target: atMost === null ? null : { atMost },
    detail: `${of(ours).toFixed(0)} ms, floor ${of(floor).toFixed(0)} ms`,
  });
  return [
    against("cold start to the first page, without the database, against a bare Deno.serve", "page", "server", 2.3),
    against(
      "cold start to a page that says hello by hono, hono/jsx and zod, against the same",
      "stack",
      "server",
      null,
    ),
    against("cold start to the landing page and its figures, against a bare Deno.serve", "landing", "server", null),
    against("cold start to the first hand-out, against a bare Deno.serve", "handOut", "server", 4.2),
    against("cold start to the first hand-out, against importing @libsql/client and zod", "handOut", "imports", null),
  ];
}
