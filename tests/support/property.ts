/**
 * How properties are run: a bounded number of cases with all other tests, and as many as are wanted by
 *
 *     deno task fuzz -- --runs 100000
 *
 * which gives that many cases to each property, and prints what it took. A case is one text, one request or one
 * command, so a property that makes many of them in a run has fewer runs.
 *
 * A failure prints its seed and path, and runs again, alone, by
 *
 *     deno task fuzz --filter "name of the test" -- --seed=-1234 --path=5:0:1
 *
 * and for a property of commands with `--replay-path=…` besides, which is printed with them.
 *
 * @module
 */

import { parseArgs } from "node:util";
import fc from "npm:fast-check@4.10.2";

const { values: given } = parseArgs({
  args: Deno.args,
  options: {
    runs: { type: "string" },
    seed: { type: "string" },
    path: { type: "string" },
    "replay-path": { type: "string" },
  },
});

/** For `fc.commands`: which commands of a printed failure ran. */
export const replayPath: { replayPath?: string } = given["replay-path"] === undefined
  ? {}
  : { replayPath: given["replay-path"] };

/** How many cases a property gets. */
export interface Runs {
  /** Runs among all other tests. */
  bounded: number;
  /** Cases in a run. Default 1. */
  casesEach?: number;
}

/** How many runs that is. */
export function runsOf({ bounded, casesEach = 1 }: Runs): number {
  return given.runs === undefined ? bounded : Math.ceil(Number(given.runs) / casesEach);
}

/** Whether somebody waits for figures. */
export const isLong: boolean = given.runs !== undefined;

/** Prints what a long run took. */
export function tell(name: string, cases: number, startedAt: number): void {
  if (!isLong) return;
  const seconds = (performance.now() - startedAt) / 1000;
  const { rss, heapUsed } = Deno.memoryUsage();
  const [memory, heap] = [rss, heapUsed].map((bytes) => (bytes / 2 ** 20).toFixed(0));
  console.log(`${name}: ${cases} cases, ${seconds.toFixed(1)} s, memory ${memory} MiB, heap ${heap} MiB`);
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Asserts that a property holds. */
export async function hold<T>(
  { name }: Deno.TestContext,
  property: fc.IRawProperty<T>,
  runs: Runs,
): Promise<void> {
  const startedAt = performance.now();
  const numRuns = runsOf(runs);
  await fc.assert(property as fc.IAsyncProperty<T>, {
    numRuns,
    // What a request holds outside the heap is freed only when the event loop turns, and nothing else here makes it.
    ...(property.isAsync() ? { plugins: [fc.afterEach(turn)] } : {}),
    // What fails is made smaller, but not for ever; what holds is through long before, on the slowest of machines.
    ...(isLong ? {} : { interruptAfterTimeLimit: 600_000, markInterruptAsFailure: true }),
    ...(given.seed === undefined ? {} : { seed: Number(given.seed) }),
    ...(given.path === undefined ? {} : { path: given.path }),
  });
  tell(name, numRuns * (runs.casesEach ?? 1), startedAt);
}
