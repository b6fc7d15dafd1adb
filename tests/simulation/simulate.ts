/**
 * The simulator's command line.
 *
 *     deno task simulate                     100 seeds, from 1
 *     deno task simulate -- --seeds 1000 --from 5000
 *     deno task simulate -- --seed 42        one seed, with its whole trace
 *     deno task simulate -- --mutations      break each promise on purpose, and see that it is noticed
 *     --steps N        events of trouble in each seed
 *     --first          stop at the first seed that fails
 *     --invariant N    look at this promise only
 *     --json           the figures, for programs
 *
 * A seed that fails is printed with the promise that was broken and the last lines of the trace; the exit code is 1.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { runMutations } from "./mutations.ts";
import { simulate, type SimulationOptions, type SimulationReport } from "./simulation.ts";

const OPTIONS = {
  seeds: { type: "string" },
  from: { type: "string" },
  seed: { type: "string" },
  steps: { type: "string" },
  first: { type: "boolean" },
  invariant: { type: "string" },
  json: { type: "boolean" },
  mutations: { type: "boolean" },
} as const;

/** The figures of many seeds. */
interface Summary {
  seeds: number;
  failed: { seed: number; invariant: number; step: number; message: string }[];
  seconds: number;
  steps: number;
  roundTrips: number;
  hours: number;
  calls: Record<string, number>;
  counts: Record<string, number>;
}

/** Runs as it is told, and returns the exit code. */
async function main(args: string[]): Promise<number> {
  // "deno task simulate -- --seeds 5" hands over the "--" as well.
  const { values } = parseArgs({ args: args.filter((arg) => arg !== "--"), options: OPTIONS });
  if (values.mutations) return await runMutations((line) => console.log(line)) ? 0 : 1;
  const { json: isJson = false, first: stopsAtFirst = false } = values;
  const options: SimulationOptions = {
    ...(values.steps === undefined ? {} : { steps: wholeNumber("steps", values.steps) }),
    ...(values.invariant === undefined ? {} : { invariant: wholeNumber("invariant", values.invariant) }),
  };
  if (values.seed !== undefined) return await replay(wholeNumber("seed", values.seed), options, isJson);
  const from = wholeNumber("from", values.from ?? "1");
  return await runMany(from, wholeNumber("seeds", values.seeds ?? "100"), options, { isJson, stopsAtFirst });
}

async function replay(seed: number, options: SimulationOptions, isJson: boolean): Promise<number> {
  const report = await simulate(seed, { ...options, keepsTrace: true });
  console.log(isJson ? JSON.stringify(report, null, 2) : report.trace.join("\n"));
  if (!isJson) console.log(resultOf(report));
  return report.violation === null ? 0 : 1;
}

async function runMany(
  from: number,
  seeds: number,
  options: SimulationOptions,
  { isJson, stopsAtFirst }: { isJson: boolean; stopsAtFirst: boolean },
): Promise<number> {
  const startedAt = performance.now();
  const sum: Summary = { seeds, failed: [], seconds: 0, steps: 0, roundTrips: 0, hours: 0, calls: {}, counts: {} };
  for (let seed = from; seed < from + seeds; seed++) {
    const report = await simulate(seed, options);
    sum.steps += report.steps;
    sum.roundTrips += report.roundTrips;
    sum.hours += report.hours;
    addTo(sum.calls, report.calls);
    addTo(sum.counts, report.counts);
    if (report.violation !== null) {
      sum.failed.push({ seed, ...report.violation });
      console.error([...report.trace, resultOf(report)].join("\n"));
      if (stopsAtFirst) break;
    }
    const done = seed - from + 1;
    if (done % 100 === 0 && !isJson) console.error(`${done} of ${seeds} seeds, ${sum.failed.length} failed`);
  }
  sum.seconds = Math.round((performance.now() - startedAt) / 1000);
  if (isJson) console.log(JSON.stringify(sum, null, 2));
  else console.log(describe(sum));
  return sum.failed.length === 0 ? 0 : 1;
}

/** How a seed ended, and how to see it again. */
export function resultOf({ seed, violation, steps, hash }: SimulationReport): string {
  if (violation === null) return `Seed ${seed}: all promises were kept in ${steps} steps (trace ${hash})`;
  return `Seed ${seed}, round trip ${violation.step}: ${violation.message}\nReplay: deno task simulate -- --seed ${seed}`;
}

function describe({ seeds, failed, seconds, steps, roundTrips, hours, calls, counts }: Summary): string {
  const lines = (figures: Record<string, number>) =>
    Object.entries(figures).sort().map(([name, count]) => `  ${name}: ${count}`);
  return [
    `${seeds} seeds, ${failed.length} failed, ${seconds} s`,
    `${steps} steps, ${roundTrips} round trips to the database, ${Math.round(hours)} simulated hours`,
    "Calls at GitHub, by answer:",
    ...lines(calls),
    "What happened:",
    ...lines(counts),
  ].join("\n");
}

function addTo(sum: Record<string, number>, more: Record<string, number>): void {
  for (const [name, count] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + count;
}

function wholeNumber(name: string, text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new RangeError(`--${name} must be a whole number: current value is ${text}`);
  return Number(text);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
