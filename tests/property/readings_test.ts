/**
 * Windows that nobody reports on, as upkeep reads them: whatever happens in whatever order, the pool is no less careful
 * than what it was told, and who draws steadily does not get into the reserve.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { judgeProbe } from "../../lib/probe.ts";
import type { CompleteReport } from "../../lib/rate_limit.ts";
import type { Store } from "../../lib/store.ts";
import { START } from "../support/fixtures.ts";
import { hold } from "../support/property.ts";
import { Bench } from "./bench.ts";

const API = "https://api.github.com";
const MINUTE = 60_000;

/** GitHub's own count of one token: a window of an hour that starts with the first call. */
class Truth {
  readonly limit: number;
  #used = 0;
  /** Epoch seconds. */
  #reset = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Makes calls; those beyond the limit are refused. */
  call(now: number, count: number): CompleteReport {
    if (now >= this.#reset * 1000) [this.#used, this.#reset] = [0, Math.floor(now / 1000) + 3600];
    this.#used = Math.min(this.limit, this.#used + count);
    return this.look(now);
  }

  /** What is left; of a window that has not begun it says that it is full, and would begin now. */
  look(now: number): CompleteReport {
    const isOpen = now < this.#reset * 1000;
    return {
      resource: "core",
      limit: this.limit,
      remaining: isOpen ? this.limit - this.#used : this.limit,
      resetAt: isOpen ? this.#reset : Math.floor(now / 1000) + 3600,
    };
  }
}

/** Asks with the donation, if it is its turn. */
async function ask(store: Store, truth: Truth, now: number): Promise<CompleteReport[] | null> {
  const [probe] = await store.takeProbes(1);
  if (probe === undefined) return null;
  const { limit, remaining, resetAt: reset } = truth.look(now);
  const body = JSON.stringify({ resources: { core: { limit, remaining, reset, used: limit - remaining } } });
  const answer = { status: 200, headers: new Headers({ "x-oauth-scopes": "" }), body, url: `${API}/rate_limit` };
  const verdict = judgeProbe(answer, API, probe.rows);
  assert.equal(verdict.kind, "readings");
  return verdict.kind === "readings" ? verdict.reports : [];
}

const count = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 10, max: 1500 }));
const happening = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("draw" as const), count }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("donor calls" as const), count }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("ask" as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("answer" as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("report" as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("pause" as const, "resume" as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("wait" as const),
      ms: fc.constantFrom(1000, MINUTE, MINUTE, 5 * MINUTE, 15 * MINUTE, 61 * MINUTE),
    }),
  },
);

/** What a process was told, and when GitHub said it: a call to GitHub is over long before two minutes are. */
interface Told {
  said: CompleteReport;
  at: number;
}
const LATE_MS = 2 * MINUTE;

Deno.test("Store draws no more than readings and reports leave, and no window grows, in any order (7, 10, 11)", async (t) => {
  await using bench = await Bench.open();
  const stores = [bench.store(), bench.store()];
  const reserves = fc.constantFrom(0, 0.25, 0.5, 0.95);
  const happenings = fc.array(fc.tuple(happening, fc.nat(1)), { maxLength: 60, size: "max" });
  const property = fc.asyncProperty(fc.constantFrom(60, 5000), reserves, happenings, async (limit, reserve, all) => {
    const { clock } = bench;
    clock.time = START;
    const [id, user] = [await bench.donor(stores[0]!, reserve), bench.user];
    const truth = new Truth(limit);
    const [answers, reports]: [Told[], Told[]] = [[], []];
    /** The least that the pool was told of the newest window, less what was drawn since. */
    let known = null as { left: number; resetAt: number } | null;
    const hear = (said: CompleteReport) => {
      if ((said.resetAt + 1) * 1000 <= clock.time || said.resetAt < (known?.resetAt ?? 0) - 5) return;
      const isSame = known !== null && said.resetAt - known.resetAt <= 5;
      const resetAt = Math.max(said.resetAt, known?.resetAt ?? 0);
      known = { left: isSame ? Math.min(known!.left, said.remaining) : said.remaining, resetAt };
    };
    for (const [what, process] of all) {
      const store = stores[process]!;
      const before = await bench.row(id);
      const startedAt = clock.time;
      const isRecent = ({ at }: Told) => clock.time - at < LATE_MS;
      if (what.kind === "draw") {
        const claim = await store.claim("core", what.count);
        if (claim !== null) {
          reports.push({ said: truth.call(clock.time, what.count), at: clock.time });
          if (known !== null && clock.time < (known.resetAt + 1) * 1000) {
            known.left -= what.count;
            assert.ok(known.left >= before["floor"]!, "what GitHub said is left is the donor's");
          }
        }
      } else if (what.kind === "donor calls") truth.call(clock.time, what.count);
      else if (what.kind === "ask") {
        const said = await ask(store, truth, clock.time);
        if (said !== null) { for (const one of said) answers.push({ said: one, at: clock.time }); }
        assert.equal((await store.stats()).due, 0, "what was asked about is not due");
      } else if (what.kind === "answer" || what.kind === "report") {
        const told = (what.kind === "answer" ? answers : reports).filter(isRecent);
        if (told.length === 0) continue;
        const { said } = told[what.which % told.length]!;
        await (what.kind === "answer" ? store.endProbe(id, [said]) : store.merge(id, said));
        hear(said);
      } else if (what.kind === "wait") clock.advance(what.ms);
      else await store[what.kind](user);
      const after = await bench.row(id);
      const wasOver = before["windowEnds"]! <= startedAt;
      const isNewer = (after["reset"] ?? 0) > (before["reset"] ?? 0) + 5 && before["reset"] !== null;
      if (!wasOver && !isNewer && after["limit"] === before["limit"]) {
        assert.ok(after["remaining"]! <= before["remaining"]!, "within a window what remains does not grow");
      }
      assert.ok(after["remaining"]! >= 0);
    }
  });
  await hold(t, property, { bounded: 60, casesEach: 30 });
});

Deno.test("a pool that never reports keeps out of the reserve of a donor who uses no more than it draws (4, 11)", async (t) => {
  await using bench = await Bench.open();
  const store = bench.store();
  const paces = fc.integer({ min: 1, max: 300 }).chain((drawn) => fc.tuple(fc.constant(drawn), fc.nat(drawn)));
  const property = fc.asyncProperty(paces, fc.constantFrom(0.25, 0.5, 0.75), async ([drawn, own], reserve) => {
    const { clock } = bench;
    clock.time = START;
    const id = await bench.donor(store, reserve);
    const truth = new Truth(5000);
    let calls = 0;
    for (let minute = 0; minute < 59; minute++) {
      if (await store.claim("core", drawn) !== null) {
        calls += drawn;
        const { remaining } = truth.call(clock.time, drawn);
        assert.ok(remaining >= 5000 * reserve, `minute ${minute}: only ${remaining} are left of the donor's`);
      }
      truth.call(clock.time, own);
      clock.advance(MINUTE);
      const said = await ask(store, truth, clock.time);
      if (said !== null) await store.endProbe(id, said);
    }
    const fair = Math.min(59, Math.floor(5000 * (1 - reserve) / (drawn + own))) * drawn;
    assert.ok(calls >= fair / 2, `only ${calls} of ${fair} calls were lent`);
  });
  await hold(t, property, { bounded: 12, casesEach: 60 });
});
