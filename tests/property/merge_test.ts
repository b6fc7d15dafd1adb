/**
 * What GitHub says reaches the pool late, twice, in any order, or never. These properties say what of that makes no
 * difference, and in which direction the rest errs, in the SQL and in the two places that spare the SQL work.
 *
 * Reports of one window differ in their reset by at most 5 s, and windows lie a minute and more apart, as GitHub's do;
 * with resets 4 s apart in a chain nobody could tell where a window ends.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { Leases, type Ticket } from "../../lib/leases.ts";
import { bringsNews, type CompleteReport } from "../../lib/rate_limit.ts";
import type { Lease } from "../../lib/records.ts";
import { Vault } from "../../lib/vault.ts";
import { donation, KEY, START } from "../support/fixtures.ts";
import { hold } from "../support/property.ts";
import { Bench } from "./bench.ts";

const RESET = START / 1000 + 3600;

const limit = fc.constantFrom(60, 5000, 15_000);

/** Few enough to meet again, and often the same. */
const few = fc.oneof(fc.nat(6), fc.nat(15_000));

/** Seldom so few that a token rests until the end of its window. */
const many = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 40, max: 60 }) },
  { weight: 4, arbitrary: fc.integer({ min: 60, max: 5000 }) },
  { weight: 1, arbitrary: fc.nat(6) },
);

/** Reports of up to three windows. */
function reportsOf(limits: fc.Arbitrary<number>, windows = 3, left = few): fc.Arbitrary<CompleteReport[]> {
  const report = fc.record({
    window: fc.nat(windows - 1),
    jitter: fc.nat(5),
    limit: limits,
    remaining: left,
  }).map(({ window, jitter, limit, remaining }): CompleteReport => ({
    resource: "core",
    limit,
    remaining: Math.min(limit, remaining),
    resetAt: RESET + 3600 * window + jitter,
  }));
  return fc.array(report, { minLength: 1, maxLength: 6 });
}

/** A set of reports, and an order in which all of them arrive, some again. */
function arrivals(reports: fc.Arbitrary<CompleteReport[]>): fc.Arbitrary<[CompleteReport[], CompleteReport[]]> {
  return reports.chain((all) =>
    fc.tuple(
      fc.constant(all),
      fc.array(fc.constantFrom(...all), { maxLength: 4 }).chain((again) =>
        fc.shuffledSubarray([...all, ...again], { minLength: all.length + again.length })
      ),
    )
  );
}

/** The newest window among reports, with the least that is said to remain of it. */
function endOf(reports: CompleteReport[]): CompleteReport {
  const latest = Math.max(...reports.map(({ resetAt }) => resetAt));
  const [least] = reports.filter(({ resetAt }) => resetAt >= latest - 5)
    .sort((a, b) => a.remaining - b.remaining || b.limit - a.limit);
  return { ...least!, resetAt: latest };
}

Deno.test("Store.merge() ends alike whatever the order and repetition: the least of the newest window (7, 10)", async (t) => {
  await using bench = await Bench.open();
  const store = bench.store();
  const property = fc.asyncProperty(arrivals(reportsOf(limit)), fc.nat(6), async ([set, order], claims) => {
    // A window that is known already, and charged, is one more report: what is left of it by our own count.
    const known = { ...set[0]!, remaining: set[0]!.limit };
    const id = await bench.donor(store);
    await store.merge(id, known);
    for (let n = 0; n < claims; n++) await store.claim("core", 1);
    const charged = { ...known, remaining: known.limit - claims };
    for (const report of order) await store.merge(id, report);
    const end = endOf([charged, ...set]);
    const { limit, remaining, reset, windowEnds } = await bench.row(id);
    assert.deepEqual({ limit, remaining, reset, windowEnds }, {
      ...{ limit: end.limit, remaining: end.remaining, reset: end.resetAt },
      windowEnds: (end.resetAt + 1) * 1000,
    });
  });
  await hold(t, property, { bounded: 100, casesEach: 6 });
});

Deno.test("Store.merge() never raises what remains of a window, nor goes back to an older one (7, 10)", async (t) => {
  await using bench = await Bench.open();
  const store = bench.store();
  const property = fc.asyncProperty(reportsOf(limit), fc.nat(3), async (reports, claims) => {
    const id = await bench.donor(store);
    for (let n = 0; n < claims; n++) await store.claim("core", 1);
    for (const report of reports) {
      const before = await bench.row(id);
      await store.merge(id, report);
      const after = await bench.row(id);
      const isNewer = before["reset"] === null || report.resetAt > before["reset"]! + 5;
      if (!isNewer) assert.ok(after["remaining"]! <= before["remaining"]!);
      assert.ok(after["remaining"]! <= report.remaining || !isNewer);
      assert.ok(after["reset"]! >= (before["reset"] ?? 0));
    }
  });
  await hold(t, property, { bounded: 100, casesEach: 6 });
});

Deno.test("Store.merge() counts what was charged in a provisional window, whatever the order (10)", async (t) => {
  await using bench = await Bench.open();
  const store = bench.store();
  const set = fc.constantFrom(60, 5000).chain((limit) => arrivals(reportsOf(fc.constant(limit))));
  const property = fc.asyncProperty(set, fc.integer({ min: 1, max: 9 }), async ([set, order], claims) => {
    const id = await bench.donor(store);
    for (let n = 0; n < claims; n++) await store.claim("core", 1);
    for (const report of order) await store.merge(id, report);
    const end = endOf(set);
    const { remaining, reset } = await bench.row(id);
    assert.equal(reset, end.resetAt);
    const careful = Math.min(end.remaining, end.limit - claims);
    const isOneWindow = set.every(({ resetAt }) => resetAt >= end.resetAt - 5);
    if (isOneWindow) assert.equal(remaining, careful);
    // The charges belong to the first window of two: they count for both if the second is heard of first.
    else assert.ok(remaining! >= careful && remaining! <= end.remaining);
  });
  await hold(t, property, { bounded: 100, casesEach: 6 });
});

/** A call that GitHub has counted, or not; what it said of it; and whether it was free. */
interface Answer {
  id: number;
  report: CompleteReport;
  isFree: boolean;
}

/** GitHub's own count of one token: a window of 30 a minute that starts with the first call. */
class Truth {
  readonly limit = 30;
  #used = 0;
  /** Epoch seconds. */
  reset = 0;

  remaining(now: number): number {
    return now >= this.reset * 1000 ? this.limit : this.limit - this.#used;
  }

  call(now: number, jitter: number, isFree: boolean): CompleteReport {
    if (now >= this.reset * 1000) [this.#used, this.reset] = [0, Math.floor(now / 1000) + 60];
    if (!isFree) this.#used++;
    return { resource: "search", limit: 30, remaining: this.remaining(now), resetAt: this.reset + jitter };
  }
}

/**
 * Of what is claimed at least one call is made at once: a provisional window begins with the claim, and GitHub's with the
 * call, so of a consumer that waits in between and never reports the pool cannot know when its window ends.
 */
const action = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("call" as const), isFree: fc.constantFrom(false, false, true) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("lease" as const),
      most: fc.integer({ min: 1, max: 4 }),
      used: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("deliver" as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("give back" as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 70_000 }) }) },
);

Deno.test("Store never believes that more remains than GitHub does, whatever is lost, late or repeated (10, 11)", async (t) => {
  await using bench = await Bench.open();
  const store = bench.store();
  const actions = fc.array(fc.tuple(action, fc.nat(1)), { maxLength: 80, size: "max" });
  const property = fc.asyncProperty(actions, async (actions) => {
    const { clock } = bench;
    clock.advance(120_000);
    const id = await bench.donor(store, 0.25);
    const truth = new Truth();
    const answers: Answer[] = [];
    const leases: (Lease & { left: number })[] = [];
    for (const [action, jitter] of actions) {
      if (action.kind === "call") {
        if (await store.claim("search", 1) === null) continue;
        answers.push({ id, report: truth.call(clock.time, jitter, action.isFree), isFree: action.isFree });
      } else if (action.kind === "lease") {
        const { most } = action;
        const lease = await store.exchange({ reports: [], unused: [], wanted: { resource: "search", most } });
        if (lease === null) continue;
        const used = Math.min(action.used, lease.granted);
        for (let n = 0; n < used; n++) {
          answers.push({ id, report: truth.call(clock.time, jitter, false), isFree: false });
        }
        leases.push({ ...lease, left: lease.granted - used, resetAt: answers.at(-1)!.report.resetAt });
      } else if (action.kind === "deliver" && answers.length > 0) {
        const answer = answers[action.which % answers.length]!;
        await store.merge(id, answer.report, { free: answer.isFree ? 1 : 0 });
        answer.isFree = false; // a call is given back once; the same report may come again
      } else if (action.kind === "give back" && leases.length > 0) {
        const [lease] = leases.splice(action.which % leases.length, 1) as [typeof leases[number]];
        const { resource, left: calls, windowEnds, resetAt } = lease;
        await store.exchange({
          reports: [],
          unused: [{ id, resource, calls, windowEnds, resetAt, ceiling: null, isLate: false }],
          wanted: null,
        });
      } else if (action.kind === "wait") {
        clock.advance(action.ms);
        // In the second after a reset, and as long as it jitters, a call may be charged to the window before GitHub's.
        if (clock.time >= truth.reset * 1000) clock.time = Math.max(clock.time, truth.reset * 1000 + 3000);
      }
      const { usable } = await store.availability("search");
      const remaining = truth.remaining(clock.time);
      assert.ok(
        usable + 8 <= remaining || usable === 0,
        `the pool sees ${usable} above the reserve, GitHub ${remaining}`,
      );
      assert.ok(remaining >= 8, "a call of ours went into the reserve");
    }
  });
  await hold(t, property, { bounded: 40, casesEach: 40 });
});

/** Calls that a process makes with a token that is alone in its pool, of which several are under way, and answers. */
const leaseSteps = fc.oneof(
  { weight: 2, arbitrary: fc.record({ afterMs: fc.constantFrom(0, 0, 0, 150) }) },
  { weight: 3, arbitrary: fc.record({ ticket: fc.nat(), report: fc.nat() }) },
);
const FIRST_STEPS = Array<{ afterMs: number }>(6).fill({ afterMs: 0 });

Deno.test("Leases leases and ends as the store alone would, though it merges and drops reports itself (7, 10)", async (t) => {
  await using bench = await Bench.open();
  const alone = bench.store();
  const reports = fc.constantFrom(60, 5000).chain((limit) => reportsOf(fc.constant(limit), 2, many));
  const steps = fc.array(leaseSteps, { maxLength: 40, size: "max" });
  const property = fc.asyncProperty(reports, steps, async (reports, steps) => {
    const { clock } = bench;
    clock.time = START;
    const options = { database: "file::memory:", encryptionKey: KEY, now: clock.now, environment: () => undefined };
    const vault = new Vault(options);
    try {
      const [{ id }, idAlone] = [await vault.deposit(donation(1, { reserve: 0 })), await bench.donor(alone)];
      const store = await vault.store();
      // Of a window that is GitHub's own already; a provisional one has a property above.
      const full = { ...reports[0]!, remaining: reports[0]!.limit };
      await Promise.all([store.merge(id, full), alone.merge(idAlone, full)]);
      const leases = new Leases(vault);
      const tickets: Ticket[] = [];
      let charged = 0;
      for (const step of [...FIRST_STEPS, ...steps]) {
        if ("afterMs" in step) {
          clock.advance(step.afterMs);
          const ticket = await leases.take("core");
          if (ticket !== null) tickets.push(ticket);
          const { calls } = (await store.list())[0]!;
          const isNew = ticket === null || calls > charged;
          const wanted = { resource: "core", most: Math.max(1, calls - charged) };
          const lease = isNew ? await alone.exchange({ reports: [], unused: [], wanted }) : null;
          assert.equal(lease?.granted ?? 0, calls - charged);
          charged = calls;
        } else if (tickets.length > 0) {
          const [ticket] = tickets.splice(step.ticket % tickets.length, 1);
          const report = reports[step.report % reports.length]!;
          leases.answered(ticket!, report, { isFree: false, isSuccess: true });
          await alone.merge(idAlone, report);
        }
      }
      // All that is leased is used, so that nothing goes back.
      for (let ticket; (ticket = leases.takeAtHand("core")) !== null;) leases.failed(ticket);
      await leases.close();
      const { limit, remaining, floor } = await bench.row(idAlone);
      const [listed] = await store.list();
      const ended = { limit: listed!.limit, remaining: listed!.remaining, floor: listed!.floor };
      assert.deepEqual(ended, { limit, remaining, floor });
      assert.deepEqual(await store.availability("core"), await alone.availability("core"));
    } finally {
      await vault.close();
    }
  });
  await hold(t, property, { bounded: 60, casesEach: 20 });
});

Deno.test("bringsNews() is false only of reports that would change nothing", async (t) => {
  await using bench = await Bench.open();
  const store = bench.store();
  const happening = fc.oneof(fc.constant("claim" as const), fc.constant("time" as const), reportsOf(limit, 2));
  const property = fc.asyncProperty(
    reportsOf(limit, 2),
    fc.array(happening, { maxLength: 4 }),
    reportsOf(limit, 2),
    async (before, meanwhile, reports) => {
      const { clock } = bench;
      clock.time = START;
      const id = await bench.donor(store);
      for (const report of before) await store.merge(id, report);
      const known = await store.claim("core", 1) ?? undefined;
      for (const what of meanwhile) {
        if (what === "claim") await store.claim("core", 1);
        else if (what === "time") clock.advance(1_900_000);
        else for (const report of what) await store.merge(id, report);
      }
      // Reports near what is known, too.
      const near = known === undefined || known.limit === null || known.resetAt === null
        ? []
        : [-1, 0, 1].map((more) => ({
          resource: "core",
          limit: known.limit!,
          remaining: Math.max(0, known.remaining + more),
          resetAt: known.resetAt!,
        }));
      for (const report of [...reports, ...near]) {
        if (bringsNews(report, known)) continue;
        const row = await bench.row(id);
        await store.merge(id, report);
        assert.deepEqual(await bench.row(id), row, JSON.stringify(report));
      }
    },
  );
  await hold(t, property, { bounded: 100, casesEach: 6 });
});
