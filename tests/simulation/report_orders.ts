/**
 * Invariant 10 by itself: one set of answers of GitHub, told to pools in different orders, repeated, and with some lost.
 *
 * @module
 */

import { createClient } from "npm:@libsql/client@0.18.0";
import { createPool } from "../../lib/pool.ts";
import { KEY, START } from "../support/fixtures.ts";
import { GitHubModel, type ModelAnswer, toResponse } from "./github_model.ts";
import { ordersEndAlike } from "./invariants.ts";
import type { Random } from "./random.ts";
import { keyOf, type LimitRow, readSnapshot } from "./snapshot.ts";

const MINUTE_MS = 60_000;

/** Draws a set of answers and tells it in several ways. Throws a Violation when they do not end alike. */
export async function compareOrders(random: Random): Promise<void> {
  const hasTwoWindows = random.chance(0.3);
  const hasDonorCalls = random.chance(0.5);
  let now = START;
  const model = new GitHubModel({ random, now: () => now, resetJitter: random.chance(0.5) ? 0.3 : 0, forbidden: 0.1 });
  const user = model.addUser();
  model.grant(user, "gho_order");
  const resource = hasTwoWindows ? "search" : random.pick(["core", "search", "graphql"]);
  if (hasDonorCalls) { for (let n = random.int(1, 8); n > 0; n--) model.useOwn(user, resource); }
  const answers: ModelAnswer[] = [];
  const count = random.int(2, 7);
  // The newer window starts while the pool, which takes it to last a second more, may still be in the older one.
  const turn = hasTwoWindows ? random.int(1, count - 1) : count;
  for (let n = 0; n < count; n++) {
    if (n === turn) now = START + MINUTE_MS;
    answers.push(model.ask({ token: "gho_order", resource, isUnchanged: random.chance(0.15) }));
    if (hasDonorCalls && random.chance(0.3)) model.useOwn(user, resource);
  }
  // What was drawn and never answered must not be given back by what is told of the others.
  const unanswered = random.int(0, 3);
  const end = (told: number[]) => endOf(resource, answers, told, unanswered, now);
  const all = answers.map((_, index) => index);
  const inOrder = await end(all);
  // One that is told late may give its call back when GitHub has said less already: by so much can orders differ.
  const free = answers.filter(({ kind }) => kind === "not_modified").length;
  const mustBeEqual = !hasTwoWindows && free === 0;
  for (let n = 0; n < 4; n++) {
    const order = random.shuffle(all);
    ordersEndAlike(inOrder, await end(order), `told in the order ${order}`, { mustBeEqual, free });
    const repeated = random.shuffle([...all, ...all.filter(() => random.chance(0.5))]);
    ordersEndAlike(inOrder, await end(repeated), `repeated as ${repeated}`, { mustBeEqual, free });
    const some = all.filter(() => random.chance(0.6));
    // Without its reports the pool cannot know what the donor used; its own charges it knows.
    if (!hasDonorCalls && !hasTwoWindows) {
      ordersEndAlike(inOrder, await end(some), `only ${some} are told`, { mustBeEqual: false, free });
    }
  }
}

/** How a pool ends that drew all and is told these, in this order. */
async function endOf(
  resource: string,
  answers: readonly ModelAnswer[],
  told: readonly number[],
  unanswered: number,
  now: number,
): Promise<LimitRow> {
  const client = createClient({ url: ":memory:", concurrency: 1 });
  try {
    const pool = createPool({ database: client, encryptionKey: KEY, now: () => now });
    const id = await pool.addToken({ github_user_id: "1", token: "gho_order", reserve: 0 });
    await pool.getToken({ resource, cost: answers.length + unanswered });
    const responses = answers.map(toResponse);
    for (const index of told) await pool.syncTokenHealth(id, responses[index]!);
    return (await readSnapshot(client)).limits.get(keyOf(id, resource))!;
  } finally {
    client.close();
  }
}
