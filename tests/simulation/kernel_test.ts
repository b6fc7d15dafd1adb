/**
 * What the simulator stands on: a seed that decides everything, and a clock that waits for nobody.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Keyring } from "../../lib/crypto.ts";
import { Random } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";
import { takeOver } from "./virtual_runtime.ts";
import { KEY, START } from "../support/fixtures.ts";

function first<T>(count: number, draw: () => T): T[] {
  return Array.from({ length: count }, draw);
}

Deno.test("Random: a seed is a stream, and a fork neither disturbs its parent nor follows it", () => {
  const numbers = (random: Random) => first(5, () => random.uint32());
  assert.deepEqual(numbers(new Random(7)), numbers(new Random("7")));
  assert.notDeepEqual(numbers(new Random(7)), numbers(new Random(8)));
  const [parent, undisturbed] = [new Random(7), new Random(7)];
  const early = numbers(parent.fork("a"));
  assert.deepEqual(numbers(parent), numbers(undisturbed));
  assert.deepEqual(numbers(parent.fork("a")), early, "the same however much the parent has given");
  assert.notDeepEqual(numbers(parent.fork("b")), early);
});

Deno.test("Random: numbers are spread evenly, bounds are kept, and a shuffle is a permutation", () => {
  const random = new Random(1);
  const counts = Array<number>(10).fill(0);
  for (let n = 0; n < 10_000; n++) counts[random.int(0, 9)]!++;
  assert.ok(counts.every((count) => count > 880 && count < 1120), `ten buckets: ${counts}`);
  assert.equal(first(1000, () => random.chance(0.25)).filter(Boolean).length > 200, true);
  const list = first(50, () => random.int(-3, 3));
  assert.ok(Math.min(...list) === -3 && Math.max(...list) === 3);
  assert.deepEqual(random.shuffle(list).sort(), [...list].sort());
  assert.throws(() => random.pick([]), RangeError);
});

Deno.test("Scheduler: events happen in time, at one time in an order that the seed chooses", () => {
  const order = (seed: number) => {
    const scheduler = new Scheduler(new Random(seed), START);
    const happened: string[] = [];
    for (const name of "abcdefgh") scheduler.after(5, () => happened.push(`${name}${scheduler.now() - START}`));
    scheduler.after(4, () => scheduler.after(0, () => happened.push(`early${scheduler.now() - START}`)));
    scheduler.after(3, () => happened.push("cancelled")).cancel();
    scheduler.run();
    return happened;
  };
  assert.deepEqual(order(1), order(1));
  assert.notDeepEqual(order(1), order(2));
  assert.equal(order(1)[0], "early4");
  assert.deepEqual([...order(1)].sort(), ["a5", "b5", "c5", "d5", "e5", "early4", "f5", "g5", "h5"]);
});

Deno.test("Scheduler: a run stops where it is told to, and goes on from there", () => {
  const scheduler = new Scheduler(new Random(1), START);
  let ticks = 0;
  const tick = () => {
    ticks++;
    scheduler.after(10, tick);
  };
  tick();
  scheduler.run({ until: START + 95 });
  assert.deepEqual([ticks, scheduler.now()], [10, START + 95]);
  scheduler.run({ events: 3 });
  assert.deepEqual([ticks, scheduler.now()], [13, START + 120]);
});

Deno.test("Scheduler: a million plain events take no longer than a person waits", () => {
  const scheduler = new Scheduler(new Random(1), START);
  const random = new Random(2);
  let left = 1_000_000;
  const next = () => {
    if (left-- > 0) scheduler.after(random.int(1, 1000), next);
  };
  for (let n = 0; n < 100; n++) next();
  const startedAt = performance.now();
  scheduler.run();
  assert.ok(scheduler.events >= 1_000_000 && performance.now() - startedAt < 60_000);
});

/** Tasks that sleep, seal, and read clocks, in a runtime that is taken over. */
async function tangle(seed: number): Promise<{ trace: Trace; tookMs: number }> {
  const startedAt = performance.now();
  const random = new Random(seed);
  const scheduler = new Scheduler(random.fork("order"), START);
  const trace = new Trace();
  {
    using runtime = takeOver({ scheduler, random: random.fork("runtime") });
    const task = async (name: string) => {
      const keyring = await Keyring.from(KEY);
      for (let n = 0; n < 10; n++) {
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 60_000));
        const texts = [`${name}1`, `${name}2`, `${name}3`];
        await Promise.all(texts.map(async (text) => {
          const sealed = await keyring.seal(text, { column: "token", githubUserId: name });
          trace.note(`${name} ${sealed} ${Date.now() - START} ${performance.now()}`);
          assert.equal(await keyring.open(sealed, { column: "token", githubUserId: name }), text);
        }));
        if (n % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 3_600_000));
      }
      trace.note(`${name} ends`);
    };
    for (const name of "abc") {
      const clockErrorMs = name === "c" ? 5_000_000 : 0;
      scheduler.after(0, () => void runtime.within({ clockErrorMs }, () => task(name)));
    }
    await scheduler.runAsync({ settle: runtime.settle });
  }
  return { trace, tookMs: performance.now() - startedAt };
}

Deno.test("takeOver: the same seed is the same run, step for step, and waits for nothing in real time", async () => {
  const [one, same, other] = [await tangle(1), await tangle(1), await tangle(2)];
  assert.equal(one.trace.hash, same.trace.hash);
  assert.notEqual(one.trace.hash, other.trace.hash);
  assert.equal(one.trace.lines.filter((line) => line.endsWith(" ends")).length, 3);
  assert.ok(one.tookMs < 60_000, `hours passed in ${one.tookMs} ms`);
});

Deno.test("takeOver: a task reads its own clock, and gets the runtime back as it was", async () => {
  const scheduler = new Scheduler(new Random(1), START);
  const before = [setTimeout, Date.now, Math.random, crypto.subtle.encrypt];
  const read: number[] = [];
  {
    using runtime = takeOver({ scheduler, random: new Random(2) });
    const clock = { clockErrorMs: -7000 };
    scheduler.after(1000, () => runtime.within(clock, () => setTimeout(() => read.push(Date.now() - START), 500)));
    scheduler.after(2000, () => read.push(Date.now() - START));
    await scheduler.runAsync({ settle: runtime.settle });
  }
  assert.deepEqual(read, [-5500, 2000]);
  assert.deepEqual([setTimeout, Date.now, Math.random, crypto.subtle.encrypt], before);
  assert.ok(Math.abs(Date.now() - new Date().getTime()) < 60_000);
});
