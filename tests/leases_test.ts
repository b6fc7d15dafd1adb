/**
 * Leases: how large, how long, what trims them, and what becomes of calls that are not used.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createClient } from "npm:@libsql/client@0.18.0";
import { Leases, type Ticket } from "../lib/leases.ts";
import type { Pool, PoolOptions } from "../lib/pool.ts";
import type { CompleteReport } from "../lib/rate_limit.ts";
import { Vault } from "../lib/vault.ts";
import { fetchWorld, inParallel, tokenOf, watched } from "./support/fetch_world.ts";
import { Clock, donation, KEY, temporaryFolder } from "./support/fixtures.ts";

/** A database, its donors, and processes that lease from it. */
interface LeaseWorld extends AsyncDisposable {
  clock: Clock;
  leases: Leases;
  ids: number[];
  /** Statements of every round trip. */
  trips: string[][];
  isDatabaseDown: boolean;
  /** Leases of another process. */
  another(): Leases;
  row(id: number, resource?: string): Promise<{ remaining: number; calls: number }>;
  vault: Vault;
}

async function leaseWorld({ donors = 3, reserve = 0 } = {}): Promise<LeaseWorld> {
  const folder = await temporaryFolder();
  const clock = new Clock();
  const client = createClient({ url: `file:${folder.path}/pool.db`, concurrency: 1 });
  const vaultOf = () =>
    new Vault({
      database: watched(client, () => world),
      encryptionKey: KEY,
      now: clock.now,
      environment: () => undefined,
    });
  const vault = vaultOf();
  const world: LeaseWorld = {
    clock,
    vault,
    leases: new Leases(vault),
    ids: [],
    trips: [],
    isDatabaseDown: false,
    another: () => new Leases(vaultOf()),
    async row(id, resource = "core") {
      const sql = "SELECT remaining, calls FROM token_pool_limits WHERE token_id = ? AND resource = ?";
      const [row] = (await client.execute({ sql, args: [id, resource] })).rows;
      return { remaining: Number(row!["remaining"]), calls: Number(row!["calls"]) };
    },
    async [Symbol.asyncDispose]() {
      client.close();
      await folder[Symbol.asyncDispose]();
    },
  };
  for (let n = 1; n <= donors; n++) world.ids.push((await vault.deposit(donation(n, { reserve }))).id);
  world.trips = [];
  return world;
}

/** Takes so many calls, which must be there. */
async function takeAll(leases: Leases, count: number, resource = "core"): Promise<Ticket[]> {
  return await inParallel(count, count, async () => {
    const ticket = await leases.take(resource);
    assert.ok(ticket !== null);
    return ticket;
  });
}

const SUCCESS = { isFree: false, isSuccess: true };
const FREE = { isFree: true, isSuccess: true };

function report(world: LeaseWorld, remaining: number, changes: Partial<CompleteReport> = {}): CompleteReport {
  return { resource: "core", limit: 5000, remaining, resetAt: world.clock.seconds + 3600, ...changes };
}

Deno.test("an idle process leases one call at a time", async () => {
  await using world = await leaseWorld();
  for (const id of [...world.ids, ...world.ids]) {
    const [ticket] = await takeAll(world.leases, 1);
    assert.equal(ticket!.id, id, "the least recently used");
    assert.match(ticket!.token, /^gho_token\d$/);
    world.clock.advance(1000);
  }
  assert.deepEqual(
    await Promise.all(world.ids.map((id) => world.row(id))),
    [1, 2, 3].map(() => ({ remaining: 4998, calls: 2 })),
  );
  assert.equal(world.trips.length, 6);
});

Deno.test("a lease is as large as the last second was busy, and at most 50", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  for (const [perSecond, expected] of [[4, 4], [20, 20], [49, 49], [200, 50]] as const) {
    const leases = world.another();
    // Calls that find one at hand count as much as those that wait for a lease.
    for (let n = 0; n < 3 * perSecond; n++) {
      leases.takeAtHand("core") ?? await leases.take("core");
      world.clock.advance(1000 / perSecond);
    }
    let before = (await world.row(id)).calls;
    while (leases.takeAtHand("core") !== null) world.clock.advance(1000 / perSecond);
    before = (await world.row(id)).calls;
    await leases.take("core");
    const size = (await world.row(id)).calls - before;
    assert.ok(Math.abs(size - expected) <= 1, `${size} at ${perSecond} a second`);
  }
});

Deno.test("a lease of a resource whose window is a minute is at most 2", async () => {
  await using world = await leaseWorld({ donors: 1 });
  for (const resource of ["search", "code_search"]) {
    world.trips.length = 0;
    await takeAll(world.leases, 8, resource);
    assert.equal(world.trips.length, 4, resource);
  }
});

Deno.test("a lease takes what there is, down to the reserve and no further", async () => {
  await using world = await leaseWorld({ donors: 2, reserve: 0.25 });
  const tickets = await takeAll(world.leases, 40, "sbom");
  assert.equal(tickets.length, 40);
  assert.deepEqual((await world.row(world.ids[0]!, "sbom")).remaining, 20);
  const all = await inParallel(60, 60, () => world.leases.take("sbom"));
  assert.equal(all.filter((ticket) => ticket !== null).length, 2 * 45 - 40);
  assert.deepEqual((await world.row(world.ids[1]!, "sbom")).remaining, 15);
});

Deno.test("a lease ends when the clock is set back, so that a token which left is not used for hours", async () => {
  await using world = await leaseWorld({ donors: 1 });
  await takeAll(world.leases, 10);
  await takeAll(world.leases, 1); // 11 lately, so 10 more are at hand
  world.clock.advance(-1);
  assert.equal(world.leases.takeAtHand("core"), null);
});

Deno.test("what is given back while its user is benched serves when the bench ends, not when the window does", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const { vault, ids: [id] } = world;
  const store = await vault.store();
  const wanted = { resource: "core", most: 1 };
  const { windowEnds } = (await store.claim("core", 5000))!;
  await store.holdUser(id!, { seconds: 60, baseSeconds: 60, mostSeconds: 60 });
  const unused = [{ id: id!, resource: "core", calls: 7, windowEnds, resetAt: null, ceiling: null, isLate: false }];
  world.clock.advance(59_999);
  assert.equal(await store.exchange({ reports: [], unused, wanted }), null, "the bench holds");
  world.clock.advance(1);
  assert.equal((await store.exchange({ reports: [], unused: [], wanted }))?.remaining, 6);
});

Deno.test("a lease ends after ten seconds, and what is left goes back", async () => {
  await using world = await leaseWorld({ donors: 2 });
  const [a, b] = world.ids as [number, number];
  await takeAll(world.leases, 10);
  await world.leases.take("core"); // 11 lately, so 11 more are leased
  assert.deepEqual(await world.row(b), { remaining: 4989, calls: 11 });
  world.clock.advance(9_999);
  assert.equal((await world.leases.take("core"))!.id, b);
  world.clock.advance(1);
  assert.equal((await world.leases.take("core"))!.id, a, "another lease");
  assert.deepEqual(await world.row(b), { remaining: 4998, calls: 2 }, "two were used");
});

function takeWhileAtHand(leases: Leases): Ticket[] {
  const tickets: Ticket[] = [];
  for (let ticket = leases.takeAtHand("core"); ticket !== null; ticket = leases.takeAtHand("core")) {
    tickets.push(ticket);
  }
  return tickets;
}

/** A lease of `size` calls, of which one is taken. */
async function leaseOf(world: LeaseWorld, size: number, leases = world.leases): Promise<Ticket> {
  await takeAll(leases, size);
  const [ticket] = await takeAll(leases, 1);
  return ticket!;
}

Deno.test("every response trims the lease to what is left above the reserve, less the calls in flight", async () => {
  for (const [remaining, expected] of [[1250 + 100, 20], [1250 + 25, 5], [1250 + 20, 0], [1250, 0], [0, 0]] as const) {
    await using world = await leaseWorld({ donors: 1, reserve: 0.25 });
    const ticket = await leaseOf(world, 20); // 20 calls of the lease before are in flight, and the lease has 21
    world.leases.answered(ticket, report(world, remaining), SUCCESS);
    assert.equal(takeWhileAtHand(world.leases).length, expected, String(remaining));
  }
});

Deno.test("what stays the donor's is a part of the limit that the response names", async () => {
  for (const [limit, remaining, expected] of [[100, 99, 20], [100, 25 + 25, 5], [15_000, 3750 + 25, 5]] as const) {
    await using world = await leaseWorld({ donors: 1, reserve: 0.25 });
    const ticket = await leaseOf(world, 20); // as above, while the limit is taken for 5,000
    world.leases.answered(ticket, report(world, remaining, { limit }), SUCCESS);
    assert.equal(takeWhileAtHand(world.leases).length, expected, `${remaining} of ${limit}`);
  }
});

Deno.test("a response of an older window does not trim", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const tickets = await takeAll(world.leases, 5);
  world.leases.answered(tickets[0]!, report(world, 4990), SUCCESS);
  const [ticket] = await takeAll(world.leases, 1);
  world.leases.answered(ticket!, report(world, 0, { resetAt: world.clock.seconds + 60 }), SUCCESS);
  assert.equal(takeWhileAtHand(world.leases).length, 5);
  assert.ok((await world.row(id)).remaining > 4900);
});

Deno.test("all who wait share one refill", async () => {
  await using world = await leaseWorld();
  await takeAll(world.leases, 40);
  assert.equal(world.trips.length, 1);
  assert.equal((await world.row(world.ids[0]!)).calls, 40);
});

Deno.test("who waits is served in order, and woken once, however many wait", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const { vault, clock } = world;
  let looks = 0; // at the clock: each try to take a call is one
  vault.now = () => (looks++, clock.now());
  const served: number[] = [];
  await inParallel(2000, 2000, async (n) => {
    assert.ok(await world.leases.take("core"));
    served.push(n);
  });
  assert.deepEqual(served, served.toSorted((a, b) => a - b));
  assert.ok(looks <= 5 * 2000, `the clock was looked at ${looks} times`);
});

Deno.test("reports travel with the next lease, in one transaction, and only if they are news", async () => {
  await using world = await leaseWorld({ donors: 2 });
  const [a, b] = world.ids as [number, number];
  const [first] = await takeAll(world.leases, 1);
  world.leases.answered(first!, report(world, 4000), SUCCESS);
  assert.equal(world.trips.length, 1);
  assert.equal((await world.row(a)).remaining, 4999, "not yet");
  world.clock.advance(1000);
  const [second] = await takeAll(world.leases, 1);
  assert.equal(world.trips.length, 2);
  assert.equal((await world.row(a)).remaining, 4000);
  world.leases.answered(second!, report(world, 4999), SUCCESS);
  world.clock.advance(1000);
  const [third] = await takeAll(world.leases, 1);
  assert.equal(third!.id, a);
  // GitHub counted our call and nothing else, which the database knows already.
  world.leases.answered(third!, report(world, 3999, { resetAt: world.clock.seconds + 3598 }), SUCCESS);
  world.clock.advance(1000);
  world.trips.length = 0;
  const [fourth] = await takeAll(world.leases, 1);
  assert.equal(fourth!.id, b);
  assert.equal(world.trips.flat().length, 1, "nothing but the lease");
  await world.leases.close();
  assert.equal(world.trips.length, 1, "and nothing to say at the end");
});

Deno.test("of a token that is nearly used up the report does not wait, nor is a call held for more than a second", async () => {
  await using world = await leaseWorld({ donors: 1, reserve: 0.25 });
  const [id] = world.ids as [number];
  const [first] = await takeAll(world.leases, 1);
  world.leases.answered(first!, report(world, 1310), SUCCESS);
  await world.leases.hurry();
  assert.equal((await world.row(id)).remaining, 4999, "there is more than a lease left, so it can wait");
  world.clock.advance(1000);
  const [second] = await takeAll(world.leases, 1);
  const resetAt = world.clock.seconds + 3599;
  world.leases.answered(second!, report(world, 1300, { resetAt }), SUCCESS);
  await world.leases.hurry();
  assert.equal((await world.row(id)).remaining, 1300);
  world.clock.advance(1000);
  const [third] = await takeAll(world.leases, 1);
  world.leases.answered(third!, report(world, 1290, { resetAt }), SUCCESS);
  world.isDatabaseDown = true;
  await world.leases.hurry(); // which is no reason to fail a call that was answered
  world.isDatabaseDown = false;
  assert.equal((await world.row(id)).remaining, 1299);
  await world.leases.close();
  assert.equal((await world.row(id)).remaining, 1290, "and is not forgotten");

  const process = world.another();
  await takeAll(process, 7); // a 16th of what is left is 2 from 40 to 34
  assert.deepEqual(await world.row(id), { remaining: 1282, calls: 11 }, "one is held");
  world.clock.advance(1000);
  world.trips.length = 0;
  assert.equal(process.takeAtHand("core"), null);
});

Deno.test("calls of GraphQL that cost many points are leased no further than the reserve, once they are known to", async () => {
  for (const points of [1, 10, 50]) {
    await using world = await leaseWorld({ donors: 1, reserve: 0.25 });
    let left = 5000;
    const inFlight: Ticket[] = [];
    const resetAt = world.clock.seconds + 3600;
    const answerOldest = () =>
      world.leases.answered(inFlight.shift()!, report(world, left, { resource: "graphql", resetAt }), SUCCESS);
    for (;;) {
      const ticket = await world.leases.take("graphql");
      if (ticket === null && inFlight.length === 0) break;
      if (ticket !== null) {
        left -= points; // at once, so that an answer tells of all that are in flight
        inFlight.push(ticket);
      }
      if (ticket === null || inFlight.length === 16) answerOldest();
      world.clock.advance(10);
    }
    assert.ok(left >= 1250 - points, `${points} points a call: ${left} are left`);
    assert.ok(left <= 1250 + 3 * points, `${points} points a call: ${left} are left`);
  }
});

Deno.test("what is told again although it is no news waits for the next lease, also of a token that is nearly used up", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const resetAt = world.clock.seconds + 3600;
  const [first] = await takeAll(world.leases, 1);
  world.leases.answered(first!, report(world, 100, { limit: 120, resetAt }), SUCCESS);
  world.trips.length = 0;
  for (let remaining = 99; remaining > 20; remaining--) {
    world.clock.advance(1000);
    const [ticket] = await takeAll(world.leases, 1);
    world.leases.answered(ticket!, report(world, remaining, { limit: 120, resetAt }), SUCCESS);
    await world.leases.hurry();
  }
  assert.equal(world.trips.length, 79, "one for each lease");
  const told = world.trips.filter((statements) => statements.length > 1);
  assert.equal(told.length, 2, "the news, and what was told of after 50 calls");
});

Deno.test("of a token's last calls nothing comes back that was held for longer than a lease lasts", async () => {
  await using world = await leaseWorld({ donors: 1, reserve: 0.25 });
  const [id] = world.ids as [number];
  const [idle, brief, busy] = [world.another(), world.another(), world.another()];
  await leaseOf(world, 10, idle); // ten of eleven are held
  const [first] = await takeAll(busy, 1);
  busy.answered(first!, report(world, 1290), SUCCESS);
  await busy.close();
  await takeAll(brief, 7); // one of eight is held
  while (await busy.take("core") !== null);
  const { remaining, calls } = await world.row(id);
  assert.equal(remaining, 1250);

  await brief.close();
  assert.deepEqual(await world.row(id), { remaining: 1251, calls: calls - 1 }, "its lease has not ended");
  world.clock.advance(10_000);
  await idle.close();
  assert.deepEqual(await world.row(id), { remaining: 1251, calls: calls - 11 }, "its donor may have drawn meanwhile");
});

Deno.test("what the reports that have travelled imply already is not said again", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const tickets = await takeAll(world.leases, 4);
  const resetAt = world.clock.seconds + 3600;
  for (const remaining of [4000, 3500]) {
    world.leases.answered(tickets.pop()!, report(world, remaining, { resetAt }), SUCCESS);
    world.clock.advance(1000);
    await takeAll(world.leases, 1);
    world.trips.length = 0;
    world.leases.answered(tickets.pop()!, report(world, remaining + 1, { resetAt }), SUCCESS);
    await world.leases.close();
    assert.deepEqual(world.trips, []);
  }
});

Deno.test("a call that was not answered at all is not in flight any more", async () => {
  await using world = await leaseWorld({ donors: 1, reserve: 0.25 });
  const tickets = await takeAll(world.leases, 20);
  const [ticket] = await takeAll(world.leases, 1);
  for (const lost of tickets) world.leases.failed(lost);
  world.leases.answered(ticket!, report(world, 1250 + 7), SUCCESS);
  assert.equal(takeWhileAtHand(world.leases).length, 7);
});

Deno.test("many reports of one token are one: the least of a window, the newest of two", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const tickets = await takeAll(world.leases, 5);
  const newer = world.clock.seconds + 7200;
  const reports = [
    report(world, 3000),
    report(world, 4000),
    report(world, 4500, { resetAt: newer }),
    report(world, 4600, { resetAt: newer + 1 }),
    report(world, 9),
  ];
  for (const [n, ticket] of tickets.entries()) world.leases.answered(ticket, reports[n]!, SUCCESS);
  world.trips.length = 0;
  await world.leases.close();
  assert.equal(world.trips.flat().filter((sql) => sql.startsWith("INSERT INTO token_pool_limits")).length, 1);
  assert.equal((await world.row(id)).remaining, 4500);
});

Deno.test("of two limits within a window the one counts that the smaller remaining is of, in either order", async () => {
  for (const [remainingOfOther, counts] of [[12_000, 5000], [4000, 15_000]] as const) { // of equals the larger limit
    for (const order of [[0, 1], [1, 0]]) {
      await using world = await leaseWorld({ donors: 1 });
      const tickets = await takeAll(world.leases, 2);
      const reports = [report(world, 4000), report(world, remainingOfOther, { limit: 15_000 })];
      for (const [n, at] of order.entries()) world.leases.answered(tickets[n]!, reports[at!]!, SUCCESS);
      await world.leases.close();
      const { store } = await world.vault.unlock();
      const { limit, remaining } = (await store.list())[0]!;
      assert.deepEqual({ limit, remaining }, { limit: counts, remaining: 4000 }, `${order}`);
    }
  }
});

Deno.test("a late report of an older window does not make a report of this one look old", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const { store } = await world.vault.unlock();
  const later = { resetAt: world.clock.seconds + 7200 };
  await store.merge(id, report(world, 5000, later)); // GitHub's next window, as another process has heard
  await leaseOf(world, 3);
  const tickets = [world.leases.takeAtHand("core")!, world.leases.takeAtHand("core")!];
  world.leases.answered(tickets[0]!, report(world, 9), SUCCESS);
  world.leases.answered(tickets[1]!, report(world, 3000, later), SUCCESS);
  await world.leases.close();
  assert.ok((await world.row(id)).remaining <= 3000);
});

Deno.test("a late report of an older window does not keep back what is not used in this one", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const { store } = await world.vault.unlock();
  const later = { resetAt: world.clock.seconds + 7200 };
  await store.merge(id, report(world, 5000, later));
  world.leases.answered(await leaseOf(world, 20), report(world, 9), SUCCESS);
  world.leases.answered(world.leases.takeAtHand("core")!, report(world, 4998, later), SUCCESS);
  await world.leases.close();
  assert.deepEqual(await world.row(id), { remaining: 5000 - 22, calls: 22 });
});

Deno.test("a report of another resource is news, whatever is known of the one that was wanted", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const { store } = await world.vault.unlock();
  await store.merge(id, report(world, 3000));
  const [ticket] = await takeAll(world.leases, 1);
  world.leases.answered(ticket!, report(world, 4000, { resource: "graphql" }), SUCCESS);
  await world.leases.close();
  assert.equal((await world.row(id, "graphql")).remaining, 4000);
});

Deno.test("a report of GitHub's next window is news, whatever it says remains", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const { store } = await world.vault.unlock();
  await store.merge(id, report(world, 3000));
  const [ticket] = await takeAll(world.leases, 1);
  world.leases.answered(ticket!, report(world, 4500, { resetAt: world.clock.seconds + 7200 }), SUCCESS);
  await world.leases.close();
  assert.equal((await world.row(id)).remaining, 4500);
});

Deno.test("what is not used goes back when the process ends", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const ticket = await leaseOf(world, 20);
  assert.deepEqual(await world.row(id), { remaining: 5000 - 41, calls: 41 });
  // GitHub names the window that the calls were charged to.
  world.leases.answered(ticket, report(world, 4999, { resetAt: world.clock.seconds + 1800 }), SUCCESS);
  await world.leases.close();
  assert.deepEqual(await world.row(id), { remaining: 5000 - 21, calls: 21 });
  await world.leases.close();
  assert.deepEqual(await world.row(id), { remaining: 5000 - 21, calls: 21 }, "and only once");
});

Deno.test("what was leased in one window does not go back into the next, whoever notices first", async () => {
  for (const whoNotices of ["GitHub", "another process", "the clock"]) {
    await using world = await leaseWorld({ donors: 1 });
    const [id] = world.ids as [number];
    const tickets = await takeAll(world.leases, 20);
    const end = world.clock.seconds + 5;
    world.leases.answered(tickets[0]!, report(world, 4000, { resetAt: end }), SUCCESS);
    const [ticket] = await takeAll(world.leases, 1); // of a lease of 21
    world.clock.time = (end + 1) * 1000;
    if (whoNotices !== "the clock") await takeAll(world.another(), 50);
    if (whoNotices === "GitHub") world.leases.answered(ticket!, report(world, 4999), SUCCESS);
    await world.leases.close();
    assert.ok((await world.row(id)).remaining <= (whoNotices === "the clock" ? 5000 : 4950), whoNotices);
  }
});

Deno.test("what goes back is never above what GitHub said remains", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const ticket = await leaseOf(world, 20);
  world.leases.answered(ticket, report(world, 1000), SUCCESS);
  await world.leases.close();
  assert.equal((await world.row(id)).remaining, 1000);
});

Deno.test("a call that was not made after all goes back into the lease, or into the pool", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const [ticket] = await takeAll(world.leases, 1);
  world.leases.unused(ticket!);
  assert.equal((await world.leases.take("core"))!.id, id);
  assert.equal(world.trips.length, 1);
  world.clock.advance(10_000);
  await world.leases.take("core");
  world.leases.unused(ticket!); // its lease has ended
  await world.leases.close();
  assert.deepEqual(await world.row(id), { remaining: 4999, calls: 1 });
});

Deno.test("a free call goes back: into its lease, or into the pool if that has ended", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const [first] = await takeAll(world.leases, 1);
  world.leases.answered(first!, report(world, 5000), FREE);
  const [second] = await takeAll(world.leases, 1);
  assert.equal(world.trips.length, 1, "the same call again");
  world.clock.advance(10_000);
  await takeAll(world.leases, 1);
  world.leases.answered(second!, report(world, 5000, { resetAt: world.clock.seconds + 3590 }), FREE);
  assert.equal((await world.row(id)).remaining, 4998);
  await world.leases.close();
  assert.deepEqual(await world.row(id), { remaining: 4999, calls: 1 });
});

Deno.test("a free call is one more whether GitHub's window has begun or not", async () => {
  for (const remaining of [5000, 4000]) {
    await using world = await leaseWorld({ donors: 1 });
    for (let n = 0; n < 5; n++) {
      const [ticket] = await takeAll(world.leases, 1);
      world.leases.answered(ticket!, report(world, remaining), FREE);
    }
    assert.equal(world.trips.length, 1, String(remaining));
  }
});

Deno.test("a free call is given back at most up to what its own response says remains", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const [first, second] = await takeAll(world.leases, 2);
  world.leases.answered(first!, report(world, 4000), SUCCESS);
  world.clock.advance(10_000);
  const [third] = await takeAll(world.leases, 1);
  const resetAt = world.clock.seconds + 3590;
  world.leases.answered(second!, report(world, 100, { resetAt }), FREE);
  world.leases.answered(third!, report(world, 99, { resetAt }), SUCCESS);
  await world.leases.close();
  assert.ok((await world.row(id)).remaining <= 99);
});

Deno.test("a process that dies costs only its unused calls, and those only until the window ends", async () => {
  await using world = await leaseWorld({ donors: 1, reserve: 0 });
  const [id] = world.ids as [number];
  const dies = world.another();
  await leaseOf(world, 20, dies); // 41 charged, 21 used
  assert.equal((await world.row(id)).remaining, 5000 - 41);
  const [ticket] = await takeAll(world.leases, 1);
  world.leases.answered(ticket!, report(world, 5000 - 22), SUCCESS);
  await world.leases.close();
  assert.equal((await world.row(id)).remaining, 5000 - 42, "20 are lost");
  world.clock.advance(3_601_000);
  await takeAll(world.another(), 1);
  assert.equal((await world.row(id)).remaining, 4999, "until then");
});

Deno.test("a token that was withdrawn is not used any more once its lease has ended", async () => {
  await using world = await leaseWorld({ donors: 2 });
  const [a, b] = world.ids as [number, number];
  const ticket = await leaseOf(world, 5);
  assert.equal(ticket.id, b);
  const { store } = await world.vault.unlock();
  await store.withdraw("1002");
  world.clock.advance(9_999);
  assert.equal((await world.leases.take("core"))!.id, b, "at most ten seconds");
  world.clock.advance(1);
  for (let n = 0; n < 10; n++) assert.equal((await world.leases.take("core"))!.id, a);
  await world.leases.close();
});

Deno.test("a token that was refused is not used any more at once, for any resource, and gives nothing back", async () => {
  await using world = await leaseWorld({ donors: 2 });
  const [a, b] = world.ids as [number, number];
  await leaseOf(world, 5);
  await takeAll(world.leases, 2, "search");
  const [search] = await takeAll(world.leases, 1, "search");
  const other = search!.id === a ? b : a;
  const before = await world.row(search!.id);
  world.leases.drop(search!, null);
  for (let n = 0; n < 5; n++) {
    const ticket = world.leases.takeAtHand("core");
    assert.ok(ticket === null || ticket.id === other);
  }
  assert.equal(world.leases.takeAtHand("search"), null);
  await world.leases.close();
  assert.ok((await world.row(search!.id)).remaining <= before.remaining);
});

Deno.test("a call of one token only is of that token, or there is none", async () => {
  await using world = await leaseWorld({ donors: 3, reserve: 0 });
  const [a, b] = world.ids as [number, number];
  assert.equal((await world.leases.take("core", b))!.id, b);
  world.clock.advance(1000);
  assert.equal((await world.leases.take("core", b))!.id, b);
  assert.equal((await world.leases.take("core"))!.id, a, "its use counts for the queue");
  const { store } = await world.vault.unlock();
  await store.suspect(b);
  world.clock.advance(10_000);
  assert.equal(await world.leases.take("core", b), null);
  assert.equal(await world.leases.take("core", 9999), null);
});

Deno.test("a busy process leases little of a token that it wants seldom", async () => {
  await using world = await leaseWorld({ donors: 2 });
  const [, b] = world.ids as [number, number];
  await takeAll(world.leases, 50);
  const before = (await world.row(b)).calls;
  await world.leases.take("core", b);
  assert.equal((await world.row(b)).calls - before, 1);
});

Deno.test("a success after a refusal is told to the database, whatever its numbers", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const { store } = await world.vault.unlock();
  await store.holdUser(id, { seconds: null, baseSeconds: 60, mostSeconds: 3600 });
  world.clock.advance(60_000);
  await store.merge(id, report(world, 5000));
  const [ticket] = await takeAll(world.leases, 1);
  world.leases.answered(ticket!, report(world, 4999), SUCCESS); // which the hand-out implied
  await world.leases.close();
  assert.equal((await store.claim("core", 1))!.strikes, 0);
});

Deno.test("a success after a refusal is told to the database also without numbers, and before its window began", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const { store } = await world.vault.unlock();
  for (const [numbers, kind, remaining] of [[null, SUCCESS, 4998], [report(world, 5000), FREE, 4997]] as const) {
    await store.holdUser(id, { seconds: null, baseSeconds: 60, mostSeconds: 3600 });
    world.clock.advance(60_000);
    const [ticket] = await takeAll(world.leases, 1);
    world.leases.answered(ticket!, numbers, kind);
    await world.leases.close();
    const claim = (await store.claim("core", 1))!;
    assert.deepEqual([claim.strikes, claim.remaining], [0, remaining]);
  }
});

Deno.test("what comes between a refusal and a success, or after, does not make the success one like any other", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const { store } = await world.vault.unlock();
  await store.holdUser(id, { seconds: null, baseSeconds: 60, mostSeconds: 3600 });
  world.clock.advance(60_000);
  const [stumble, success, news, another] = await takeAll(world.leases, 4);
  world.leases.answered(stumble!, null, { isFree: false, isSuccess: false }); // a 502, say
  world.leases.answered(success!, report(world, 4990), SUCCESS);
  world.leases.answered(news!, report(world, 4980), SUCCESS); // travels as one with the report before
  await world.leases.close();
  assert.equal((await store.claim("core", 1))!.strikes, 0);
  world.trips.length = 0;
  world.leases.answered(another!, report(world, 4999), SUCCESS);
  await world.leases.close();
  assert.deepEqual(world.trips, [], "it is told once");
});

Deno.test("a database that fails is a typed error, what was reported is not forgotten, and all goes on after", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  const [ticket] = await takeAll(world.leases, 1);
  world.leases.answered(ticket!, report(world, 4000), SUCCESS);
  world.isDatabaseDown = true;
  const failed = await inParallel(3, 3, () => world.leases.take("core").catch((error) => error));
  for (const error of failed) assert.equal(error.code, "database");
  world.isDatabaseDown = false;
  assert.equal((await world.leases.take("core"))!.id, id);
  assert.ok((await world.row(id)).remaining < 4000);
});

Deno.test("calls that were given back in vain are not given back twice", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const [id] = world.ids as [number];
  await leaseOf(world, 20);
  world.clock.advance(10_000);
  world.isDatabaseDown = true;
  await assert.rejects(world.leases.take("core"), { code: "database" });
  world.isDatabaseDown = false;
  await world.leases.take("core");
  await world.leases.close();
  assert.equal((await world.row(id)).calls, 42, "it may have worked");
});

Deno.test("`await using` gives back what is left", async () => {
  await using world = await fetchWorld({ donors: 1 });
  {
    await using pool = world.another();
    await inParallel(30, 10, async (n) => void await (await pool.fetch(`/repos/a/b${n}`)).body?.cancel());
  }
  const [row] = await world.rows("SELECT remaining, calls FROM token_pool_limits WHERE resource = 'core'");
  assert.deepEqual([row!["remaining"], row!["calls"]], [4970, 30]);
});

/** Four pools, each with a connection and leases of its own, on one file. */
function four(another: (options: PoolOptions) => Pool, url: string): Pool[] {
  return [1, 2, 3, 4].map(() => another({ database: url }));
}

Deno.test("`await using` lets what went wrong in its block through when the database is away, which close() tells", async () => {
  await using world = await fetchWorld({ donors: 1 });
  const leasing = async (pool: Pool) => {
    await inParallel(20, 4, async (n) => await (await pool.fetch(`/repos/a/b${n}`)).body?.cancel());
    world.isDatabaseDown = true;
  };
  await assert.rejects(async () => {
    await using pool = world.another();
    await leasing(pool);
    throw new Error("mine");
  }, { name: "Error", message: "mine" });
  world.isDatabaseDown = false;
  const pool = world.another();
  await leasing(pool);
  await assert.rejects(pool.close(), { code: "database" });
  world.isDatabaseDown = false;
});

Deno.test("four processes together never pass a limit or a reserve, and use all tokens alike (11)", async () => {
  await using world = await fetchWorld({
    donors: 5,
    reserve: 0.25,
    isRealTime: true,
    github: { limits: { core: 200 } },
  });
  const pools = four(world.another, world.url);
  let refused = 0;
  await inParallel(1000, 32, async (n) => {
    try {
      await (await pools[n % 4]!.fetch(`/repos/a/b${n}`)).body?.cancel();
    } catch (error) {
      assert.equal((error as { code?: unknown }).code, "exhausted");
      refused++;
    }
    if (n === 300) {
      const used = world.tokens.map((_, index) => world.github.used(`user${index + 1}`));
      assert.ok(Math.max(...used) - Math.min(...used) <= 60, `${used}`);
    }
  });
  for (const [index] of world.tokens.entries()) assert.ok(world.github.used(`user${index + 1}`) <= 150);
  assert.deepEqual(new Set(world.statuses), new Set([200]));
  // What the others hold unused is all that may be left over.
  assert.ok(1000 - refused >= 0.8 * 750, `${1000 - refused} of 750`);
});

Deno.test("when donors use a tenth of their limit themselves, the reserve stays theirs", async () => {
  await using world = await fetchWorld({
    donors: 5,
    reserve: 0.25,
    isRealTime: true,
    github: { limits: { core: 2000 } },
  });
  const pools = four(world.another, world.url);
  let [calls, below] = [0, 0];
  world.intercept = async (request) => {
    const answer = await world.github.fetch(request);
    calls++;
    if (Number(answer.headers.get("x-ratelimit-remaining")) < 500) below++;
    if (calls % 10 === 0) {
      const headers = { authorization: `Bearer ${tokenOf(request)}`, "user-agent": "the donor" };
      await (await world.github.fetch("https://api.github.com/repos/my/own", { headers })).body?.cancel();
    }
    return answer;
  };
  await inParallel(7500, 16, async (n) => {
    await pools[n % 4]!.fetch(`/repos/a/b${n}`).then((answer) => answer.body?.cancel(), () => {});
  });
  assert.ok(calls > 0.8 * 7500 * 10 / 11, `${calls} calls`);
  assert.ok(below / calls <= 0.005, `${below} of ${calls} were below the reserve`);
});

Deno.test("a 304 before GitHub's window has begun is a free call, and names no window", async () => {
  await using world = await leaseWorld({ donors: 1 });
  const { leases, ids: [id] } = world;
  const [first] = await takeAll(leases, 1);
  leases.answered(first!, report(world, 5000), FREE);
  await takeAll(leases, 1); // what was free
  await takeAll(leases, 3);
  const [next] = await takeAll(leases, 1);
  leases.answered(next!, report(world, 4999, { resetAt: world.clock.seconds + 3610 }), SUCCESS);
  const calls = (await world.row(id!)).calls;
  await leases.close();
  assert.ok((await world.row(id!)).remaining <= 5000 - 5, `${calls} were leased, of which one was free`);
});
