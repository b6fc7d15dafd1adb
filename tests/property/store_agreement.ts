/**
 * What the store and its model have to agree on.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Claim } from "../../lib/records.ts";
import type { Store } from "../../lib/store.ts";
import type { Clock } from "../support/fixtures.ts";
import { ASSUMED, type Bucket, type Donated, type PoolModel } from "./store_model.ts";

/** The real thing: one database, seen by two processes. */
export interface World {
  processes: [Store, Store];
  clock: Clock;
}

/** Everybody who may donate. */
export const USERS: readonly string[] = ["u1", "u2", "u3", "u4", "u5", "u6"];

/** Everything that may be drawn. */
export const RESOURCES: readonly string[] = Object.keys(ASSUMED);

/** Asserts that one of `heads` was handed out, with up to `most` calls, and charges the model. */
export function assertClaim(
  model: PoolModel,
  resource: string,
  claim: Claim | null,
  heads: Donated[],
  grantedOf: (donation: Donated) => number,
): asserts claim is Claim | null {
  if (claim === null) {
    assert.deepEqual(heads.map(({ user }) => user), [], "nothing was handed out");
    return;
  }
  const donation = heads.find(({ id }) => id === claim.id);
  assert.ok(donation !== undefined, `${claim.githubUserId} was handed out, next is ${heads.map(({ user }) => user)}`);
  const granted = grantedOf(donation);
  const { limit, remaining, reset, window, windowEnds } = model.charge(donation, resource, granted);
  const floor = model.floorOf(donation, { limit });
  const wanted: Claim = {
    id: donation.id,
    githubUserId: donation.user,
    githubUsername: donation.user,
    token: donation.token,
    strikes: donation.strikes,
    limit: reset === null ? null : limit,
    remaining,
    resetAt: window === "github" ? reset : null,
    windowEnds,
    granted,
    floor,
  };
  const { resource: _, ...got } = { resource, ...claim };
  assert.deepEqual(got, wanted);
  assert.ok(remaining >= floor && floor >= donation.reserve * limit - 1e-6, "below the floor");
}

/** Draws until nothing is left or everybody has been drawn twice: the whole queue, in order. */
export async function assertSameQueues(model: PoolModel, { processes: [store] }: World): Promise<void> {
  for (const resource of [...model.resources]) {
    for (let n = 0; n < 2 * USERS.length; n++) {
      const claim = await store.claim(resource, 1);
      assertClaim(model, resource, claim, model.heads(resource, 1), () => 1);
      if (claim === null) break;
    }
  }
}

/** All that can be read of the pool is what the model says. */
export async function assertAgreed(model: PoolModel, { processes: [store] }: World): Promise<void> {
  for (const resource of RESOURCES) {
    assert.deepEqual(await store.availability(resource), model.availability(resource), `availability of ${resource}`);
  }
  const donations = [...model.donations.values()].sort((a, b) => a.id - b.id);
  const callsOf = ({ buckets }: Donated) => [...buckets.values()].reduce((sum, { calls }) => sum + calls, 0);
  assert.deepEqual(
    (await store.list()).map(({ donated_at: _, kid: __, ...row }) => row),
    donations.map((donation) => {
      const core = donation.buckets.get("core")!;
      return {
        id: donation.id,
        login: donation.user,
        reserve: donation.reserve,
        state: model.stateOf(donation),
        limit: core.limit,
        remaining: model.left(core),
        floor: model.floorOf(donation, core),
        calls: callsOf(donation),
      };
    }),
    "list",
  );

  const { tokens, resources, counters, calls: [calls] } = await store.stats();
  const states = donations.map((donation) => model.stateOf(donation));
  const inState = (state: string) => states.filter((other) => other === state).length;
  const [healthy, exhausted, cooling] = [inState("healthy"), inState("exhausted"), inState("cooling")];
  const [suspended, paused] = [inState("suspended"), inState("paused")];
  assert.deepEqual(tokens, { total: donations.length, paused, suspended, cooling, exhausted, healthy });
  assert.deepEqual(counters, model.counters);
  assert.equal(calls, model.retiredCalls + donations.reduce((sum, donation) => sum + callsOf(donation), 0));
  const sharing = donations.filter(({ isPaused }) => !isPaused);
  assert.deepEqual(
    resources,
    [...model.resources].sort().map((resource) => {
      const all = sharing.map((donation): [Donated, Bucket] => [donation, donation.buckets.get(resource)!]);
      const sum = (figure: (donation: Donated, bucket: Bucket) => number) =>
        all.reduce((total, [donation, bucket]) => total + figure(donation, bucket), 0);
      const ends = all.map(([, { windowEnds }]) => windowEnds).filter((time) => time > model.now);
      return [
        resource,
        sum((_, { limit }) => limit),
        sum((_, bucket) => model.left(bucket)),
        sum((donation, bucket) => model.usable(donation, bucket)),
        sum((donation, bucket) => Math.max(0, bucket.limit - model.floorOf(donation, bucket))),
        ends.length === 0 ? null : Math.min(...ends),
      ];
    }),
    "stats",
  );
}
