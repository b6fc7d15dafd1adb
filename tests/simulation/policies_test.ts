/**
 * The comparison of policies: its figures can be made again, and are what the README shows.
 *
 * @module
 */

import assert from "node:assert/strict";
import { POLICIES } from "./policies/all.ts";
import { LOADS } from "./policies/loads.ts";
import type { Counts } from "./policies/measure.ts";
import { runSample, storedRuns } from "./policies/policies.ts";
import { figuresOf, type Run } from "./policies/results.ts";
import { MARKS, readmePart, tableOf, withPart } from "./policies/table.ts";

const OURS = ["ours", "ours-fetch"];

Deno.test("deno task policies: a small load gives the stored counts again, to the last digit, for all policies", async () => {
  const { sample } = await storedRuns();
  assert.deepEqual(await runSample(), sample, "if lib/ has changed what is measured, run `deno task policies --write`");
});

Deno.test("the README shows what is stored, and the stored runs are all there", async () => {
  const { runs: all } = await storedRuns();
  const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  assert.equal(withPart(readme, readmePart(all)), readme, "run `deno task policies --write`");
  for (const { name, seeds, reportEvery } of LOADS) {
    for (const policy of POLICIES) {
      const runs = all.filter((run) => run.load === name && run.policy === policy.name);
      assert.equal(runs.length, reportEvery === 1 || policy.isManual ? seeds : 0, `${name} ${policy.name}`);
    }
  }
});

Deno.test("what the README says of this pool holds: donors keep their reserve, no token is lost, nothing is refused", async () => {
  const { runs } = await storedRuns();
  for (const policy of OURS) {
    for (const { name } of LOADS) {
      const figures = figuresOf(runs, name, policy);
      if (figures === null) continue;
      const { intoReserve, refused, donorRefused, lost, peakInFlight } = figures;
      assert.deepEqual([refused, donorRefused, lost], [0, 0, 0], `${policy} ${name}`);
      assert.ok(peakInFlight <= 100, `${policy} ${name}: ${peakInFlight} in flight`);
      assert.ok(intoReserve <= 1, `${policy} ${name}: ${intoReserve} of 10,000 into a reserve`);
    }
    assert.ok(figuresOf(runs, "steady", policy)!.fairness >= 0.99);
    assert.ok(figuresOf(runs, "overload", policy)!.served >= 0.99);
    const ofOurs = runs.filter((run) => run.policy === policy);
    assert.deepEqual(ofOurs.filter(({ counts }) => counts.ownOverdraft > 0), [], "not one by our calls alone");
  }
});

function run(policy: string, seed: number, changes: Partial<Counts>): Run {
  const counts: Counts = {
    wanted: 1000,
    served: 800,
    intoReserve: 0,
    ownOverdraft: 0,
    refused: 0,
    unauthorized: 0,
    donorCalls: 50,
    donorRefused: 0,
    byToken: [400, 400],
    peakPerMinute: 10,
    peakInFlight: 1,
    roundTrips: 0,
    lost: 0,
    ...changes,
  };
  return { load: "steady", policy, seed, counts };
}

Deno.test("figuresOf() counts what went into a reserve as not served, and takes seeds together", () => {
  const runs = [
    run("clairvoyant", 1, {}),
    run("clairvoyant", 2, { served: 700 }),
    run("random", 1, { served: 1000, intoReserve: 400, roundTrips: 500, byToken: [900, 100], refused: 3, lost: 1 }),
    run("random", 2, { served: 1000, intoReserve: 350, donorRefused: 5, peakPerMinute: 30, peakInFlight: 4 }),
  ];
  assert.deepEqual(figuresOf(runs, "steady", "random"), {
    served: (600 + 650) / 1500,
    intoReserve: 3750,
    refused: 3,
    donorRefused: 0.05,
    fairness: 1000 ** 2 / (2 * (900 ** 2 + 100 ** 2)),
    peakPerMinute: 30,
    peakInFlight: 4,
    roundTrips: 0.25,
    lost: 1,
  });
  assert.equal(figuresOf(runs, "steady", "drain"), null);
  const [header, rule, ...rows] = tableOf(runs, LOADS[0]!).split("\n");
  assert.equal(rows.length, 2, "what was not run is not shown");
  assert.ok([header, rule, ...rows].every((line) => line!.length === header!.length));
  assert.match(
    rows[1]!,
    /^\| random +\| 83\.3 % +\| 3,750 +\| 3 +\| 5\.0 % +\| 0\.610 +\| 30 +\| 4 +\| 0\.25 +\| 1 +\|$/,
  );
});

Deno.test("withPart() replaces what is between the marks, and nothing else", () => {
  const text = (part: string) => `before\n\n${MARKS[0]}\n\n${part}\n\n${MARKS[1]}\n\nafter\n`;
  assert.equal(withPart(text("old"), "new"), text("new"));
  assert.throws(() => withPart("none", "new"), /needs <!-- policies --> and/);
});
