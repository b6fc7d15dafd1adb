/**
 * How fast, as ratios that are measured side by side in one run, each with what is wanted of it.
 *
 *     deno task bench [--json] [section …]     sections: claims, sizes, lease, calls, server, processes, contention,
 *                                              pages, start; all without one
 *
 * Machines are noisy: run it on one that does nothing else.
 */

import { parseArgs } from "node:util";
import { measureFetch, measureServer } from "./calls.ts";
import { measureClaim, measureLease, measureSizes } from "./claims.ts";
import { measureColdStart } from "./cold_start.ts";
import { type Figure, isMet } from "./measure.ts";
import { measureContention, measureProcesses } from "./processes.ts";
import { measurePages } from "./web.ts";

const SECTIONS: Readonly<Record<string, () => Promise<Figure[]>>> = {
  claims: measureClaim,
  sizes: measureSizes,
  lease: measureLease,
  calls: measureFetch,
  server: measureServer,
  processes: measureProcesses,
  contention: measureContention,
  pages: measurePages,
  start: measureColdStart,
};

function line(figure: Figure): string {
  const { name, value, unit, target, detail } = figure;
  const text = unit === "per second" ? Math.round(value).toLocaleString("en") : value.toFixed(unit === "ms" ? 1 : 3);
  const met = isMet(figure);
  const wanted = target === null
    ? "        "
    : `${met ? "met " : "SHORT"} ${"atLeast" in target ? "≥" : "≤"} ${
      Object.values(target)[0]!.toLocaleString("en", { maximumFractionDigits: 2 })
    }`;
  return `${text.padStart(11)}  ${wanted.padEnd(17)} ${name} (${detail})`;
}

const { values: { json }, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean", default: false } },
});
const wanted = positionals.length === 0 ? Object.keys(SECTIONS) : positionals;
const unknown = wanted.filter((name) => !Object.hasOwn(SECTIONS, name));
if (unknown.length > 0) {
  console.error(`There is no section ${unknown.join(", ")}: there are ${Object.keys(SECTIONS).join(", ")}`);
  Deno.exit(2);
}
const figures: Figure[] = [];
for (const name of wanted) {
  const measured = await SECTIONS[name]!();
  if (!json) { for (const figure of measured) console.log(line(figure)); }
  figures.push(...measured);
}
if (json) console.log(JSON.stringify(figures, null, 2));
