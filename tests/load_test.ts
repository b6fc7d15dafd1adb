/** The load test, for a moment: that it measures what it says. `deno task load` is the real one. */

import assert from "node:assert/strict";
import { load } from "./load/load.ts";

Deno.test("under load every request is answered, every donation stored, and every one of them logged", async () => {
  const figures = await load({ seconds: 2, rate: 200 });
  assert.equal(figures.requests, 400);
  assert.equal(figures.errors + figures.donationErrors + figures.exitCode, 0);
  assert.equal(figures.donations, 10);
  assert.equal(figures.stored, 10);
  // Start and stop; two requests beforehand, the load, and of each donation two requests and its outcome.
  assert.equal(figures.logLines, 2 + 2 + 400 + 10 * 3);
  assert.ok(figures.p50 > 0 && figures.p50 <= figures.p95 && figures.p95 <= figures.p99 && figures.p99 <= figures.max);
  assert.ok(figures.rssBefore > 20 && figures.rssAfter < 500);
});
