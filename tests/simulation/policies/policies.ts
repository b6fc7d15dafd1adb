/**
 * Compares this pool with its peers' policies: `deno task policies`.
 *
 *     --load NAME     only this load
 *     --policy NAME   only this policy, and the clairvoyant that it is measured by
 *     --seed N        another seed than 1
 *     --json          the counts, not the tables
 *     --write         into tests/simulation/policies/results.jsonl and README.md; only of everything
 *
 * @module
 */

import { parseArgs } from "node:util";
import { POLICIES } from "./all.ts";
import { LOADS, SAMPLE } from "./loads.ts";
import { measure } from "./measure.ts";
import type { Job, Run } from "./results.ts";
import { loadsIn, readmePart, tableOf, withPart } from "./table.ts";

const RESULTS = new URL("results.jsonl", import.meta.url);
const README = new URL("../../../README.md", import.meta.url);

/** A run takes minutes at the most; one that takes so long will not end. */
const RUN_AT_MOST_MS = 30 * 60_000;

/** All runs, the longest first. */
function jobsFor(
  { load, policy, seed }: { load: string | undefined; policy: string | undefined; seed: number },
): Job[] {
  const jobs: Job[] = [];
  for (const { name, seeds, reportEvery } of LOADS) {
    if (load !== undefined && load !== name) continue;
    for (const each of POLICIES) {
      const isWanted = policy === undefined || policy === each.name || each.name === "clairvoyant";
      if (!isWanted || (reportEvery !== 1 && !each.isManual)) continue;
      for (let n = 0; n < seeds; n++) jobs.push({ load: name, policy: each.name, seed: seed + n });
    }
  }
  const weight = ({ load, policy }: Job) => {
    const { tokens, hours, demand } = LOADS.find(({ name }) => name === load)!;
    return tokens * hours * demand * (policy.startsWith("ours") ? 100 : 1);
  };
  return jobs.sort((a, b) => weight(b) - weight(a));
}

/** Makes all runs, as many at once as there are processors. */
async function runAll(jobs: Job[]): Promise<Run[]> {
  const waiting = [...jobs];
  const done = new Map<Job, Run>();
  const serve = async () => {
    const worker = new Worker(new URL("worker.ts", import.meta.url), { type: "module" });
    try {
      for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
        done.set(job, await ask(worker, job));
        console.error(`${done.size} of ${jobs.length}: ${job.load}, ${job.policy}`);
      }
    } finally {
      worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs.length, navigator.hardwareConcurrency) }, serve));
  // In one order, however long each took.
  return LOADS.flatMap(({ name }) =>
    POLICIES.flatMap((policy) =>
      jobs.filter((job) => job.load === name && job.policy === policy.name).sort((a, b) => a.seed - b.seed)
    )
  ).map((job) => done.get(job)!);
}

async function ask(worker: Worker, job: Job): Promise<Run> {
  const { promise, resolve, reject } = Promise.withResolvers<Run>();
  const timer = setTimeout(() => reject(new Error(`No end of ${JSON.stringify(job)}`)), RUN_AT_MOST_MS);
  worker.onmessage = ({ data }: MessageEvent<Run>) => resolve(data);
  worker.onerror = (event) => {
    event.preventDefault();
    reject(new Error(`${JSON.stringify(job)}: ${event.message}`));
  };
  worker.postMessage(job);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

/** All policies under the small load. */
export async function runSample(): Promise<Run[]> {
  const runs: Run[] = [];
  for (const policy of POLICIES) {
    runs.push({ load: SAMPLE.name, policy: policy.name, seed: 1, counts: await measure(policy, SAMPLE, 1) });
  }
  return runs;
}

/** What `--write` has stored: all runs, and those of the small load. */
export async function storedRuns(): Promise<{ runs: Run[]; sample: Run[] }> {
  const all = (await Deno.readTextFile(RESULTS)).trim().split("\n").map((line) => JSON.parse(line) as Run);
  const isSample = ({ load }: Run) => load === SAMPLE.name;
  return { runs: all.filter((run) => !isSample(run)), sample: all.filter(isSample) };
}

async function store(runs: Run[]): Promise<void> {
  const lines = [...runs, ...await runSample()].map((run) => `${JSON.stringify(run)}\n`);
  await Deno.writeTextFile(RESULTS, lines.join(""));
  await Deno.writeTextFile(README, withPart(await Deno.readTextFile(README), readmePart(runs)));
}

function assertKnown(what: string, name: string | undefined, all: readonly { name: string }[]): void {
  if (name === undefined || all.some((each) => each.name === name)) return;
  throw new RangeError(`There is no ${what} "${name}": give one of ${all.map(({ name }) => name).join(", ")}`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      load: { type: "string" },
      policy: { type: "string" },
      seed: { type: "string", default: "1" },
      json: { type: "boolean", default: false },
      write: { type: "boolean", default: false },
    },
  });
  const { load, policy, json, write } = values;
  const seed = Number(values.seed);
  assertKnown("load", load, LOADS);
  assertKnown("policy", policy, POLICIES);
  if (!Number.isSafeInteger(seed)) throw new RangeError(`A seed is a whole number: current value is ${values.seed}`);
  if (write && (load !== undefined || policy !== undefined)) {
    throw new RangeError("Only the results of everything are written: leave out --load and --policy");
  }
  const runs = await runAll(jobsFor({ load, policy, seed }));
  if (json) console.log(JSON.stringify({ seed, runs }));
  else for (const each of loadsIn(runs)) console.log(`${tableOf(runs, each)}\n`);
  if (write) await store(runs);
}

if (import.meta.main) await main();
