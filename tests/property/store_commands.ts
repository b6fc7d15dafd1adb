/**
 * What is done to the store and to its model alike.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import type { CompleteReport } from "../../lib/rate_limit.ts";
import type { Exchange } from "../../lib/records.ts";
import type { Clock } from "../support/fixtures.ts";
import { assertAgreed, assertClaim, RESOURCES, USERS, type World } from "./store_agreement.ts";
import { ASSUMED, type HeldLease, type PoolModel } from "./store_model.ts";

/** One thing that happens. */
export type StoreCommand = fc.AsyncCommand<PoolModel, World>;

/** Mostly one of two, so that more than one thing happens to the same. */
const user = fc.oneof({ weight: 2, arbitrary: fc.constantFrom("u1", "u2") }, fc.constantFrom(...USERS));
const process = fc.constantFrom<0 | 1>(0, 1);
const resource = fc.oneof({ weight: 3, arbitrary: fc.constant("core") }, fc.constantFrom(...RESOURCES));
const reserve = fc.oneof(fc.constantFrom(0, 0.07, 0.25, 0.5, 0.9, 0.95), fc.nat(950).map((n) => n / 1000));

function command(text: string, run: (model: PoolModel, world: World) => Promise<void>): StoreCommand {
  return {
    check: () => true,
    async run(model, world) {
      await run(model, world);
      await assertAgreed(model, world);
    },
    toString: () => text,
  };
}

// What GitHub says, as seen from what is known of the token.

interface Said {
  user: string;
  resource: string;
  limit: number;
  /** Near the floor, or anywhere. */
  remaining: { ofLimit: number } | { aboveFloor: number };
  window: "known" | "next" | "before" | "long past" | "ends now";
  jitter: number;
}

const said: fc.Arbitrary<Said> = fc.record({
  user,
  resource,
  limit: fc.constantFrom(0, 0, 0, 60, 5000, 15_000),
  remaining: fc.oneof(
    fc.record({ ofLimit: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.record({ aboveFloor: fc.integer({ min: -1, max: 3 }) }),
  ),
  window: fc.oneof(
    { weight: 4, arbitrary: fc.constant<Said["window"]>("known") },
    fc.constantFrom<Said["window"][]>("next", "before", "long past", "ends now"),
  ),
  jitter: fc.integer({ min: -6, max: 6 }),
});

function reportOf(model: PoolModel, { user, resource, limit: other, remaining, window, jitter }: Said): {
  id: number;
  report: CompleteReport;
} {
  const donation = model.donations.get(user);
  const bucket = donation?.buckets.get(resource);
  // Mostly the limit that is known, for GitHub seldom changes it.
  const limit = other === 0 ? bucket?.limit ?? ASSUMED[resource]!.calls : other;
  const floor = donation === undefined ? 0 : model.floorOf(donation, { limit });
  const calls = "ofLimit" in remaining ? Math.floor(remaining.ofLimit * limit) : floor + remaining.aboveFloor;
  const now = Math.floor(model.now / 1000);
  const length = ASSUMED[resource]!.windowMs / 1000;
  const known = bucket?.reset ?? now + length;
  const resetAt = {
    "known": known + jitter,
    "next": Math.max(known, now) + length + jitter,
    "before": known - length + jitter,
    "long past": now - 60,
    "ends now": now + Math.sign(jitter),
  }[window];
  return {
    id: donation?.id ?? 987_654,
    report: { resource, limit, remaining: Math.max(0, Math.min(limit, calls)), resetAt },
  };
}

// What happens.

async function donateFor(
  user: string,
  reserve: number,
  process: 0 | 1,
  model: PoolModel,
  { processes }: World,
): Promise<void> {
  const known = model.donations.get(user);
  const token = `sealed ${crypto.randomUUID()}`;
  const sealed = { githubUserId: user, githubUsername: user, token, refreshToken: null, expiresAt: null, reserve };
  const done = await processes[process].donate(sealed, { revokeReplaced: false });
  assert.ok(done !== null, "its key is in use");
  assert.equal(done.replaced, known?.token ?? null);
  if (known !== undefined) assert.equal(done.id, known.id, "one row per user");
  assert.ok(known !== undefined || model.byId(done.id) === undefined);
  model.donate(user, done.id, token, reserve);
}

/** Puts in the first donations. */
export async function donateFirst(reserves: number[], model: PoolModel, world: World): Promise<void> {
  for (const [n, reserve] of reserves.entries()) await donateFor(USERS[n]!, reserve, 0, model, world);
}

/** What the first donors keep. */
export const firstReserves: fc.Arbitrary<number[]> = fc.array(reserve, { maxLength: USERS.length, size: "max" });

const donate = fc.record({ user, reserve, process }).map(({ user, reserve, process }) =>
  command(`donate ${user} ${reserve}`, (model, world) => donateFor(user, reserve, process, model, world))
);

const withdraw = user.map((user) =>
  command(`withdraw ${user}`, async (model, { processes: [store] }) => {
    assert.equal(await store.withdraw(user), model.donations.has(user));
    model.remove(user, "withdrawn");
  })
);

const ofDonor = fc.oneof(
  user.map((user) =>
    command(`pause ${user}`, async (model, { processes: [store] }) => {
      assert.equal(await store.pause(user), model.donations.has(user));
      model.pause(user);
    })
  ),
  user.map((user) =>
    command(`resume ${user}`, async (model, { processes: [store] }) => {
      assert.equal(await store.resume(user), model.donations.has(user));
      model.resume(user);
    })
  ),
  user.map((user) =>
    command(`draw all, then pause and resume ${user}`, async (model, { processes: [store] }) => {
      for (let n = 0; n < model.donations.size; n++) {
        assertClaim(model, "core", await store.claim("core", 1), model.heads("core", 1), () => 1);
      }
      await store.pause(user);
      model.pause(user);
      await store.resume(user);
      model.resume(user);
    })
  ),
  fc.record({ user, reserve }).map(({ user, reserve }) =>
    command(`setReserve ${user} ${reserve}`, async (model, { processes: [store] }) => {
      assert.equal(await store.setReserve(user, reserve), model.donations.has(user));
      model.setReserve(user, reserve);
    })
  ),
);

/** Few calls, or nearly all that a token has, so that the floor is met. */
const cost = fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.integer({ min: 2, max: 40 }), fc.nat(6000));

const claim = fc.record({ resource, cost, process }).map(({ resource, cost: calls, process }) => {
  const cost = Math.max(1, calls);
  return command(`claim ${resource} ${cost}`, async (model, { processes }) => {
    model.firstUse(resource);
    const claim = await processes[process].claim(resource, cost);
    assertClaim(model, resource, claim, model.heads(resource, cost), () => cost);
  });
});

const wanted = fc.option(fc.record({ resource, most: fc.integer({ min: 1, max: 50 }), user: fc.option(user) }));

const exchange = fc.record({
  process,
  reports: fc.array(fc.record({ said, forgive: fc.boolean() }), { maxLength: 3 }),
  /** Which of the leases, and how much of it comes back. */
  unused: fc.array(
    fc.record({ at: fc.nat(), share: fc.double({ min: 0, max: 1, noNaN: true }), isLate: fc.boolean() }),
    { maxLength: 2 },
  ),
  ceiling: fc.option(fc.nat(5000)),
  wanted,
}).map((what) =>
  command(`exchange ${fc.stringify(what)}`, async (model, { processes }) => {
    const reports = what.reports.map(({ said, forgive }) => ({ ...reportOf(model, said), forgive }));
    reports.forEach(({ report }) => model.firstUse(report.resource));
    const returned = what.unused.flatMap(({ at, share, isLate }): (HeldLease & { isLate: boolean })[] => {
      const [lease] = model.leases.splice(at % Math.max(1, model.leases.length), 1);
      return lease === undefined ? [] : [{ ...lease, calls: Math.ceil(share * lease.calls), isLate }];
    });
    const unused: Exchange["unused"] = returned.map(({ reset, ...lease }) => ({
      ...lease,
      resetAt: reset,
      ceiling: what.ceiling,
    }));
    reports.forEach(({ id, report }) => model.report(id, report));
    reports.filter(({ forgive }) => forgive).forEach(({ id }) => model.forgive(id));
    returned.forEach((lease) => model.giveBack(lease, what.ceiling, lease.isLate));

    if (what.wanted === null) {
      assert.equal(await processes[what.process].exchange({ reports, unused, wanted: null }), null);
      return;
    }
    const { resource, most, user } = what.wanted;
    model.firstUse(resource);
    const one = user === null ? undefined : model.donations.get(user);
    const id = user === null ? {} : { id: one?.id ?? 987_654 };
    const lease = await processes[what.process].exchange({ reports, unused, wanted: { resource, most, ...id } });
    const heads = user === null
      ? model.heads(resource, 1)
      : one !== undefined && model.usable(one, one.buckets.get(resource)!) > 0
      ? [one]
      : [];
    assertClaim(model, resource, lease, heads, (donation) => model.leased(donation, resource, most));
    if (lease !== null) {
      assert.equal(lease.resource, resource);
      const { id, granted: calls, windowEnds, resetAt: reset } = lease;
      model.leases.push({ id, resource, calls, windowEnds, reset });
    }
  })
);

const merge = fc.record({ said, process, free: fc.constantFrom(0, 0, 1), forgive: fc.boolean() })
  .map(({ said, process, free, forgive }) =>
    command(`merge ${fc.stringify({ said, free, forgive })}`, async (model, { processes }) => {
      const { id, report } = reportOf(model, said);
      await processes[process].merge(id, report, { free, forgive });
      model.report(id, report, free);
      if (forgive) model.forgive(id);
    })
  );

const exhaust = said.map((said) =>
  command(`exhaust ${fc.stringify(said)}`, async (model, { processes: [store] }) => {
    const { id, report } = reportOf(model, said);
    await store.exhaust(id, { ...report, remaining: 0 });
    model.exhaust(id, report);
  })
);

const refund = said.map((said) =>
  command(`refund ${fc.stringify(said)}`, async (model, { processes: [store] }) => {
    const { id, report } = reportOf(model, said);
    await store.refund(id, report);
    model.refund(id, report);
  })
);

const bench = fc.record({
  seconds: fc.option(fc.oneof(fc.integer({ min: 1, max: 4000 }), fc.constantFrom(1, 86_400))),
  backoff: fc.constantFrom({ baseSeconds: 60, mostSeconds: 3600 }, { baseSeconds: 900, mostSeconds: 21_600 }),
}).map(({ seconds, backoff }) => ({ seconds, ...backoff }));

const benches = fc.oneof(
  fc.record({ user, bench }).map(({ user, bench }) =>
    command(`holdUser ${user} ${fc.stringify(bench)}`, async (model, { processes: [store] }) => {
      const id = idOf(model, user);
      await store.holdUser(id, bench);
      model.benchUser(id, bench);
    })
  ),
  fc.record({ user, resource, bench }).map(({ user, resource, bench }) =>
    command(`holdResource ${user} ${resource} ${fc.stringify(bench)}`, async (model, { processes: [store] }) => {
      const id = idOf(model, user);
      await store.holdResource(id, resource, bench);
      model.benchResource(id, resource, bench);
    })
  ),
  user.map((user) =>
    command(`forgiveStrikes ${user}`, async (model, { processes: [store] }) => {
      const id = idOf(model, user);
      await store.forgiveStrikes(id);
      model.forgive(id);
    })
  ),
);

const REFUSAL = { baseSeconds: 60, mostSeconds: 3600 };

/** A user is refused again and again, with and without a time to wait, and succeeds in between. */
const refusals = fc.record({
  user,
  events: fc.array(fc.constantFrom<(number | string)[]>("no time", "no time", 1, 4000, "success", "2 s", "the end"), {
    minLength: 2,
    maxLength: 7,
  }),
}).map(({ user, events }) =>
  command(`refusals of ${user}: ${events}`, async (model, { processes: [store], clock }) => {
    const donation = model.donations.get(user);
    for (const event of events) {
      const id = idOf(model, user);
      if (event === "success") {
        await store.forgiveStrikes(id);
        model.forgive(id);
      } else if (event === "2 s" || event === "the end") {
        const end = event === "2 s" ? model.now + 2000 : donation?.heldUntil ?? 0;
        await move(model, clock, Math.max(model.now, end));
      } else {
        const bench = { seconds: event === "no time" ? null : Number(event), ...REFUSAL };
        await store.holdUser(id, bench);
        model.benchUser(id, bench);
      }
    }
  })
);

/** So many tokens turn suspect at once, and GitHub says of one that it does not know it: five are an incident. */
const incident = fc.integer({ min: 3, max: USERS.length }).map((count) =>
  command(`an incident of ${count}, and a 404`, async (model, { processes: [store] }) => {
    const donations = [...model.donations.values()].slice(0, count);
    for (const { id } of donations) {
      await store.suspect(id);
      model.suspect(id);
    }
    const last = donations.at(-1);
    if (last !== undefined) {
      assert.equal(await store.notFound(last.id, last.token), model.notFound(last.id, last.token));
    }
  })
);

const suspicions = fc.oneof(
  user.map((user) =>
    command(`suspect ${user}`, async (model, { processes: [store] }) => {
      const id = idOf(model, user);
      await store.suspect(id);
      model.suspect(id);
    })
  ),
  incident,
  fc.record({ user, isStale: fc.constantFrom(false, false, true) }).map(({ user, isStale }) =>
    command(`acquit ${user}${isStale ? ", of an older token" : ""}`, async (model, { processes: [store] }) => {
      const token = isStale ? "sealed before" : model.donations.get(user)?.token ?? "";
      await store.acquit(idOf(model, user), token);
      model.acquit(idOf(model, user), token);
    })
  ),
  fc.record({ user, isStale: fc.constantFrom(false, false, true) }).map(({ user, isStale }) =>
    command(`notFound ${user}${isStale ? ", of an older token" : ""}`, async (model, { processes: [store] }) => {
      const token = isStale ? "sealed before" : model.donations.get(user)?.token ?? "";
      const id = idOf(model, user);
      assert.equal(await store.notFound(id, token), model.notFound(id, token));
    })
  ),
);

const advance = fc.oneof(
  fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 4_000_000 })).map((ms) =>
    command(`advance ${ms} ms`, (model, { clock }) => move(model, clock, model.now + ms))
  ),
  // Exactly to a moment at which something changes, just before it, and just past it.
  fc.record({ which: fc.nat(), offset: fc.constantFrom(-1, 0, 0, 1) }).map(({ which, offset }) =>
    command(`advance to moment ${which} ${offset}`, (model, { clock }) => {
      const moments = model.moments();
      const moment = moments.length === 0 ? model.now : moments[which % Math.min(3, moments.length)]!;
      return move(model, clock, Math.max(model.now, moment + offset));
    })
  ),
);

/** Sequences of all that can happen, and more often what happens often. */
export const anyCommand: fc.Arbitrary<StoreCommand> = fc.oneof(
  { weight: 5, arbitrary: claim },
  { weight: 4, arbitrary: exchange },
  { weight: 4, arbitrary: merge },
  { weight: 4, arbitrary: advance },
  { weight: 3, arbitrary: donate },
  { weight: 2, arbitrary: benches },
  { weight: 1, arbitrary: refusals },
  { weight: 2, arbitrary: suspicions },
  { weight: 2, arbitrary: ofDonor },
  { weight: 1, arbitrary: exhaust },
  { weight: 1, arbitrary: refund },
  { weight: 1, arbitrary: withdraw },
);

function idOf(model: PoolModel, user: string): number {
  return model.donations.get(user)?.id ?? 987_654;
}

function move(model: PoolModel, clock: Clock, time: number): Promise<void> {
  clock.time = time;
  model.advanceTo(time);
  return Promise.resolve();
}
