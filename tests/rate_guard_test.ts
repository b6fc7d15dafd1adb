/**
 * The guard by itself: budgets by route and address and in all, a clock that may go anywhere, and a memory that is
 * bounded. tests/donation_test.ts has it in the service.
 *
 * @module
 */

import assert from "node:assert/strict";
import { isLocalAddress, RateGuard, type RateGuardOptions } from "../lib/rate_guard.ts";
import { Clock } from "./support/fixtures.ts";

function guarded(options: Omit<RateGuardOptions, "now"> = {}) {
  const clock = new Clock();
  return { clock, guard: new RateGuard({ ...options, now: clock.now }) };
}

/** How many of so many requests pass. */
async function passing(guard: RateGuard, count: number, address: string | null, route = "/auth"): Promise<number> {
  let passed = 0;
  for (let n = 0; n < count; n++) if (await guard.admit(route, address) === null) passed++;
  return passed;
}

Deno.test("admit() lets 30 requests a minute of one address pass, and 600 of all", async () => {
  const { guard } = guarded();
  assert.equal(await passing(guard, 100, "203.0.113.1"), 30);
  assert.equal(await passing(guard, 100, "203.0.113.2"), 30, "another address is not affected");
  for (let n = 3; n <= 20; n++) assert.equal(await passing(guard, 31, `203.0.113.${n}`), 30);
  assert.equal(await passing(guard, 1, "203.0.113.21"), 0, "20 × 30 is all there is");
  assert.equal(await passing(guard, 1, null), 0);
});

Deno.test("admit() does not charge everybody for what one address was refused", async () => {
  const { guard } = guarded({ perAddress: 2, inAll: 10 });
  assert.equal(await passing(guard, 1000, "203.0.113.1"), 2);
  assert.equal(await passing(guard, 20, null), 8);
});

Deno.test("admit() says when to come again, and then lets pass", async () => {
  const { guard, clock } = guarded({ perAddress: 2 });
  assert.equal(await passing(guard, 2, "203.0.113.1"), 2);
  assert.equal(await guard.admit("/auth", "203.0.113.1"), 60);
  clock.advance(59_001);
  assert.equal(await guard.admit("/auth", "203.0.113.1"), 1);
  clock.advance(998);
  assert.equal(await guard.admit("/auth", "203.0.113.1"), 1, "never 0");
  clock.advance(1);
  assert.equal(await passing(guard, 3, "203.0.113.1"), 2);
});

Deno.test("admit() has a budget of its own for each route", async () => {
  const { guard } = guarded({ perAddress: 1, inAll: 2 });
  assert.equal(await passing(guard, 5, "203.0.113.1"), 1);
  assert.equal(await passing(guard, 5, null), 1);
  assert.equal(await passing(guard, 5, "203.0.113.1", "/withdraw"), 1);
});

Deno.test("admit() locks nobody out when the clock is set back", async () => {
  const { guard, clock } = guarded({ perAddress: 1, inAll: 3 });
  await passing(guard, 5, "203.0.113.1");
  clock.advance(-3_600_000);
  assert.equal(await passing(guard, 5, "203.0.113.1"), 1);
  assert.equal(await passing(guard, 5, null), 2);
});

Deno.test("admit() remembers a bounded number of addresses, and none for longer than a minute", async () => {
  const { guard, clock } = guarded({ perAddress: 1, inAll: 1_000_000, addressesAtMost: 50 });
  for (let n = 0; n < 1000; n++) {
    await guard.admit("/auth", `203.0.${n >> 8}.${n & 255}`);
    assert.ok(guard.size <= 50);
  }
  assert.equal(guard.size, 50);
  clock.advance(60_000);
  await guard.admit("/auth", "198.51.100.1");
  assert.equal(guard.size, 1);
});

Deno.test("admit() holds no address in its memory, and hashes differently in each process", async () => {
  const names: string[][] = [];
  for (let n = 0; n < 2; n++) {
    const seen: string[] = [];
    const set = Map.prototype.set;
    Map.prototype.set = function (key: unknown, value: unknown) {
      seen.push(String(key));
      return set.call(this, key, value);
    };
    try {
      await guarded().guard.admit("/auth", "203.0.113.77");
    } finally {
      Map.prototype.set = set;
    }
    assert.ok(seen.length >= 2 && !seen.some((name) => name.includes("203.0.113")), seen.join());
    names.push(seen.filter((name) => name !== "/auth"));
  }
  assert.notDeepEqual(names[0], names[1]);
});

Deno.test("admit() takes half an IPv6 address, and an IPv4 address in any dress, for one place", async () => {
  const same = [
    ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:0DB8:0001:0002:0:0:0:1"],
    ["2001:db8::1", "2001:db8:0:0:5::"],
    ["203.0.113.9", "::ffff:203.0.113.9"],
  ];
  for (const addresses of same) {
    const { guard } = guarded({ perAddress: 1 });
    for (const [index, address] of addresses.entries()) {
      assert.equal(await passing(guard, 1, address), index === 0 ? 1 : 0, address);
    }
  }
  const { guard } = guarded({ perAddress: 1 });
  for (const address of ["2001:db8:1:2::1", "2001:db8:1:3::1", "203.0.113.9", "203.0.113.10", "::9"]) {
    assert.equal(await passing(guard, 1, address), 1, address);
  }
});

Deno.test("isLocalAddress() tells a proxy's address from a visitor's", () => {
  const local = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "10.0.0.3", "192.168.1.1", "172.16.0.1"];
  for (
    const address of [
      ...local,
      "172.31.255.1",
      "169.254.0.1",
      "100.64.0.1",
      "100.99.0.1",
      "100.127.255.254",
      "fd00::1",
      "fe80::1",
    ]
  ) {
    assert.ok(isLocalAddress(address), address);
  }
  for (
    const address of [
      "203.0.113.1",
      "100.63.0.1",
      "100.128.0.1",
      "172.32.0.1",
      "172.15.0.1",
      "11.0.0.1",
      "192.169.0.1",
      "2001:db8::1",
      "ff02::1",
    ]
  ) {
    assert.ok(!isLocalAddress(address), address);
  }
});
