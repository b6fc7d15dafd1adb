/** Several processes at once: on one file, on a libSQL server, and with no database at all. */

import { fileURLToPath } from "node:url";
import { createPool } from "../../lib/pool.ts";
import { KEY, temporaryFolder } from "../support/fixtures.ts";
import { linesOf, readElsewhere } from "../support/processes.ts";
import { startSqld } from "../support/sqld.ts";
import { type Figure, median } from "./measure.ts";

const SCRIPT = fileURLToPath(new URL("process.ts", import.meta.url));

/** Starts process.ts, with pipes for what goes in and comes out. */
export function start(...args: (string | number)[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--quiet", SCRIPT, ...args.map(String)],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

/** A GitHub in a process of its own. */
export interface ServedGitHub extends AsyncDisposable {
  url: string;
  tokens: { github_user_id: string; token: string }[];
}

/** Starts the strict GitHub; each answer takes a time between the two. */
export async function startGitHub(
  donors: number,
  limit: number,
  { leastMs = 0, mostMs = 0 } = {},
): Promise<ServedGitHub> {
  const process = start("github", donors, limit, leastMs, mostMs);
  const lines = linesOf(process);
  const { value } = await lines.next();
  return {
    ...JSON.parse(value as string) as Pick<ServedGitHub, "url" | "tokens">,
    async [Symbol.asyncDispose]() {
      process.kill("SIGKILL");
      await lines.return(undefined);
      await process.stdin.close();
      await process.status;
    },
  };
}

/** What processes did together. */
interface Outcome {
  /** From the start of all to the end of the last, in milliseconds. */
  ms: number;
  answered: number;
  trips: number;
  /** Of each claim, in milliseconds; only of `claims`. */
  delays: number[];
}

/** Runs so many processes of one kind, all started at once. */
async function together(processes: number, args: (string | number)[]): Promise<Outcome> {
  const children = Array.from({ length: processes }, () => start(...args));
  const outputs = children.map(linesOf);
  for (const lines of outputs) {
    if ((await lines.next()).value !== "ready") throw new Error("A process ended before it was ready");
  }
  const from = performance.now();
  for (const child of children) await child.stdin.close();
  const results = await Promise.all(outputs.map(async (lines) => {
    const { answered, trips } = JSON.parse((await lines.next()).value as string) as Outcome;
    const ms = performance.now() - from;
    const { value } = await lines.next();
    await lines.return(undefined);
    return { ms, answered, trips, delays: value === undefined ? [] : JSON.parse(value) as number[] };
  }));
  for (const child of children) await child.status;
  return {
    ms: Math.max(...results.map(({ ms }) => ms)),
    answered: results.reduce((sum, { answered }) => sum + answered, 0),
    trips: results.reduce((sum, { trips }) => sum + trips, 0),
    delays: results.flatMap(({ delays }) => delays),
  };
}

async function fill(database: string, tokens: ServedGitHub["tokens"]): Promise<void> {
  await using pool = createPool({ database, encryptionKey: KEY });
  for (const donation of tokens) await pool.addToken(donation);
}

const [DONORS, CALLS, WIDTH, ROUNDS] = [20, 500, 16, 3];

/** How calls are made, see process.ts. */
type Kind = "none" | "lease" | "plain";

/** What many processes make of the same calls, each kind in turn. */
async function inTurn(kinds: Kind[], processes: number, github: ServedGitHub, database: string) {
  await fill(database, github.tokens);
  const tokens = github.tokens.map(({ token }) => token).join();
  const outcomes: Record<Kind, Outcome[]> = { none: [], lease: [], plain: [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const kind of kinds) {
      const how = kind === "none" ? [tokens] : [KEY, database];
      const outcome = await together(processes, [kind, github.url, CALLS, WIDTH, ...how]);
      if (outcome.answered < processes * CALLS) throw new Error(`Only ${outcome.answered} calls were answered`);
      outcomes[kind].push(outcome);
    }
  }
  return {
    perSecond: (kind: Kind) => median(outcomes[kind].map(({ answered, ms }) => answered / ms * 1000)),
    tripsPerCall: (kind: Kind) => median(outcomes[kind].map(({ answered, trips }) => trips / answered)),
  };
}

/** Calls through poolFetch, against the same calls without a database. */
async function measureLeases(where: string, database: string, github: ServedGitHub, processes: number) {
  const { perSecond, tripsPerCall } = await inTurn(["none", "lease"], processes, github, database);
  const name = `poolFetch(), ${processes} processes, ${WIDTH} calls in flight each, ${where}`;
  const figures: Figure[] = [
    {
      name: `${name}: against the same calls with no database`,
      value: perSecond("lease") / perSecond("none"),
      unit: "ratio",
      target: { atLeast: 0.85 },
      detail: `${rate(perSecond("lease"))}, floor ${rate(perSecond("none"))}; GitHub takes 20 to 60 ms`,
    },
    {
      name: `${name}: round trips to the database`,
      value: tripsPerCall("lease"),
      unit: "per call",
      target: { atMost: 0.06 },
      detail: `${processes * CALLS} calls a round`,
    },
  ];
  return figures;
}

/** The same against who asks for each token; by a GitHub that answers at once, so that nothing else is waited for. */
async function measurePlain(database: string): Promise<Figure> {
  await using github = await startGitHub(DONORS, 1_000_000);
  const { perSecond } = await inTurn(["lease", "plain"], 8, github, database);
  return {
    name: `poolFetch(), 8 processes, ${WIDTH} calls in flight each, file: against getToken() and syncTokenHealth()`,
    value: perSecond("lease") / perSecond("plain"),
    unit: "factor",
    target: { atLeast: 2.5 },
    detail: `${rate(perSecond("lease"))} and ${rate(perSecond("plain"))}; GitHub answers at once`,
  };
}

function rate(perSecond: number): string {
  return `${perSecond.toFixed(0)} calls/s`;
}

/** Processes that make calls: eight on a file, four on a server, which is as many writers as it bears. */
export async function measureProcesses(): Promise<Figure[]> {
  await using folder = await temporaryFolder();
  await using github = await startGitHub(DONORS, 1_000_000, { leastMs: 20, mostMs: 60 });
  await using server = await startSqld();
  return [
    ...await measureLeases("file", `file:${folder.path}/calls.db`, github, 8),
    await measurePlain(`file:${folder.path}/plain.db`),
    ...await measureLeases("libSQL server", server.url, github, 4),
  ];
}

const CLAIMS = 600;

/** Eight processes that claim and do nothing else, against one. */
export async function measureContention(): Promise<Figure[]> {
  await using folder = await temporaryFolder();
  const file = `${folder.path}/claims.db`;
  const tokens = Array.from({ length: DONORS }, (_, n) => ({ github_user_id: String(n), token: `gho_${n}` }));
  await fill(`file:${file}`, tokens);
  const [one, eight]: [Outcome[], Outcome[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    one.push(await together(1, ["claims", CLAIMS, KEY, `file:${file}`]));
    eight.push(await together(8, ["claims", CLAIMS, KEY, `file:${file}`]));
  }
  const claimed = [...one, ...eight].reduce((sum, { answered }) => sum + answered, 0);
  const [row] = await readElsewhere(file, "SELECT sum(calls) AS calls FROM token_pool_limits");
  const perSecond = (outcomes: Outcome[]) => median(outcomes.map(({ answered, ms }) => answered / ms * 1000));
  const delays = eight.flatMap((outcome) => outcome.delays).toSorted((a, b) => a - b);
  const what = "getToken() by eight processes on one file";
  return [
    {
      name: `${what}: against one process`,
      value: perSecond(eight) / perSecond(one),
      unit: "ratio",
      target: { atLeast: 0.5 },
      detail: `${perSecond(eight).toFixed(0)} claims/s, floor ${perSecond(one).toFixed(0)} claims/s`,
    },
    {
      name: `${what}: the slowest of a hundred (p99)`,
      value: delays[Math.floor(delays.length * 0.99)]!,
      unit: "ms",
      target: { atMost: 100 },
      detail: `slowest of all ${delays.at(-1)!.toFixed(0)} ms`,
    },
    {
      name: `${what}: claims that were acknowledged and are not in the file`,
      value: claimed - Number(row!["calls"]),
      unit: "factor",
      target: { atMost: 0 },
      detail: `of ${claimed}`,
    },
  ];
}
