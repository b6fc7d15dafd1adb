/**
 * The promises of the hand-out engine, held in simulated worlds: some fixed ones, and some that nobody has seen before,
 * whose seeds are printed so that they can be run again. tests/simulation/ has how, `deno task simulate` runs many.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { MUTATIONS } from "./simulation/mutation_list.ts";
import { applied, runMutation } from "./simulation/mutations.ts";
import { resultOf } from "./simulation/simulate.ts";
import { simulate, type SimulationReport } from "./simulation/simulation.ts";

const FIXED_SEEDS = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89];
const FRESH_SEEDS = 8;

/** Of these the simulator is seen to notice; the others are run by `deno task simulate -- --mutations`. */
const MUTATIONS_RUN = [
  "the first token is drawn, not the least recently used",
  "every 403 is taken for a limit",
  "a clock that is given is read before a call waits for its turn",
];

function assertKept(report: SimulationReport): void {
  assert.equal(report.violation, null, [...report.trace, resultOf(report)].join("\n"));
}

Deno.test("all promises are kept in worlds that were seen before", async () => {
  const counts: Record<string, number> = {};
  for (const seed of FIXED_SEEDS) {
    const report = await simulate(seed);
    assertKept(report);
    for (const [name, count] of Object.entries(report.counts)) counts[name] = (counts[name] ?? 0) + count;
  }
  // A simulator in which nothing goes wrong any more would show nothing.
  const troubles = ["busy", "dropped before commit", "dropped after commit", "call lost before GitHub", "outages"];
  for (const name of [...troubles, "ciphertexts spoilt", "wrong keys", "clock jumps", "calls held to the reserve"]) {
    assert.ok((counts[name] ?? 0) > 0, `no world has any of: ${name}`);
  }
  assert.ok(Object.keys(counts).some((name) => name.startsWith("crash while waiting")), "no process crashes");
});

Deno.test("all promises are kept in worlds that nobody has seen", async () => {
  const first = crypto.getRandomValues(new Uint32Array(1))[0]!;
  console.log(`Seeds from ${first}; to see one again: deno task simulate -- --seed ${first}`);
  for (let n = 0; n < FRESH_SEEDS; n++) assertKept(await simulate(first + n));
});

Deno.test("the same seed is the same run, step for step", async () => {
  const [one, same, other] = [await simulate(4), await simulate(4), await simulate(5)];
  assert.deepEqual([one.hash, one.steps, one.counts], [same.hash, same.steps, same.counts]);
  assert.notEqual(one.hash, other.hash);
});

Deno.test("each promise has mutations that break it, and their texts are where they are expected", async () => {
  for (let invariant = 1; invariant <= 12; invariant++) {
    assert.ok(MUTATIONS.filter((mutation) => mutation.invariant === invariant).length >= 2, `invariant ${invariant}`);
  }
  for (const edit of MUTATIONS.flatMap(({ edits }) => edits)) {
    const path = fileURLToPath(new URL(`../${edit.file}`, import.meta.url));
    assert.notEqual(applied(edit, await Deno.readTextFile(path)), await Deno.readTextFile(path));
  }
});

for (const what of MUTATIONS_RUN) {
  Deno.test(`the simulator notices when ${what}`, async () => {
    const { seed, message } = await runMutation(MUTATIONS.find((mutation) => mutation.what === what)!, 20);
    assert.notEqual(seed, null, message);
  });
}
