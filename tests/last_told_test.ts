/**
 * When a window is told of again.
 *
 * @module
 */

import assert from "node:assert/strict";
import { LastTold } from "../lib/last_told.ts";
import type { CompleteReport } from "../lib/rate_limit.ts";

const RESET = 1_795_003_600;

function report(remaining: number, { resetAt = RESET, limit = 5000 } = {}): CompleteReport {
  return { resource: "core", limit, remaining, resetAt };
}

Deno.test("a window is told of again when a twentieth of its limit is gone, since it was told of or first seen", () => {
  const told = new LastTold();
  assert.equal(told.isLongAgo("a", report(4999)), true, "of what was never seen");
  told.see("a", { remaining: 4999, resetAt: RESET });
  told.see("a", { remaining: 4800, resetAt: RESET }); // a later hand-out
  assert.equal(told.isLongAgo("a", report(4750)), false);
  assert.equal(told.isLongAgo("a", report(4749)), true);
  told.tell("a", report(4749));
  assert.equal(told.isLongAgo("a", report(4500)), false);
  assert.equal(told.isLongAgo("a", report(4499)), true);
  assert.equal(told.isLongAgo("a", report(4499, { limit: 15_000 })), false, "of the limit that GitHub names");
  assert.equal(told.isLongAgo("b", report(4749)), true, "each window by itself");
});

Deno.test("of a small limit a window is told of again after 50 calls", () => {
  const told = new LastTold();
  told.see("a", { remaining: 99, resetAt: RESET });
  assert.equal(told.isLongAgo("a", report(50, { limit: 100 })), false);
  assert.equal(told.isLongAgo("a", report(49, { limit: 100 })), true);
});

Deno.test("another window is told of, and not one whose reset merely jitters", () => {
  const told = new LastTold();
  told.tell("a", report(3000));
  assert.equal(told.isLongAgo("a", report(3000, { resetAt: RESET + 5 })), false);
  assert.equal(told.isLongAgo("a", report(4999, { resetAt: RESET + 6 })), true);
  told.see("b", { remaining: 4999, resetAt: null });
  assert.equal(told.isLongAgo("b", report(4999)), true, "GitHub had not named it");
});

Deno.test("what is remembered is bounded, and what was forgotten is told of once more", () => {
  const told = new LastTold();
  for (let n = 0; n <= 10_000; n++) told.tell(String(n), report(4000));
  assert.equal(told.isLongAgo("0", report(4000)), true);
  assert.equal(told.isLongAgo("10000", report(4000)), false);
});
