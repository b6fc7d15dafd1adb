/** The model of GitHub keeps its books. */

import assert from "node:assert/strict";
import { START } from "../support/fixtures.ts";
import { GitHubModel, toResponse } from "./github_model.ts";
import { Random } from "./random.ts";
import { Scheduler } from "./scheduler.ts";

function first<T>(count: number, draw: () => T): T[] {
  return Array.from({ length: count }, draw);
}

function modelAt(options: Partial<ConstructorParameters<typeof GitHubModel>[0]> = {}) {
  const scheduler = new Scheduler(new Random(1), START + 300);
  const model = new GitHubModel({ random: new Random(2), now: scheduler.now, ...options });
  const user = model.addUser(0.25);
  model.grant(user, "gho_a");
  return { scheduler, model, user, core: { token: "gho_a", resource: "core" } };
}

Deno.test("GitHubModel: a window starts at the first call, ends on a whole second, and then is full again", () => {
  const { scheduler, model, core } = modelAt({ limits: { core: 3 } });
  const resets = new Set(first(3, () => model.ask(core)).map(({ reset }) => reset));
  assert.deepEqual([...resets], [START / 1000 + 3600]);
  assert.deepEqual([model.ask(core).kind, model.ask(core).remaining], ["primary_limit", 0]);
  scheduler.run({ until: START + 3_600_000 - 1 });
  assert.equal(model.ask(core).kind, "primary_limit");
  scheduler.run({ until: START + 3_600_000 });
  const { kind, remaining, reset } = model.ask(core);
  assert.deepEqual([kind, remaining, reset], ["ok", 2, START / 1000 + 7200]);
});

Deno.test("GitHubModel: a 304, a refusal and a false 401 count nothing, and the anonymous bucket's numbers come with a 401", () => {
  const { model, user, core } = modelAt();
  model.ask(core);
  assert.equal(model.ask({ ...core, isUnchanged: true }).remaining, 4999);
  model.outageUntil = START + 1000;
  const { status, limit, kind } = model.ask(core);
  assert.deepEqual([status, limit, kind], [401, 60, "outage"]);
  model.outageUntil = 0;
  assert.equal(model.ask({ ...core, token: "gho_b" }).kind, "unknown_token");
  model.revoke("gho_a");
  assert.equal(model.ask(core).kind, "unknown_token");
  assert.equal(user.windows.get("core")!.ours, 1);
  assert.equal(user.inFlight, 0);
});

Deno.test("GitHubModel: more than 100 in flight, or 900 in a minute, is a secondary limit of a minute", () => {
  const { scheduler, model, core } = modelAt({ retryAfter: 1 });
  const inFlight = first(101, () => model.arrive(core));
  assert.deepEqual(inFlight.map(({ kind }) => kind).filter((kind) => kind !== "ok"), ["secondary_limit"]);
  assert.equal(inFlight[100]!.retryAfter, 60);
  inFlight.forEach((answer) => model.depart(answer));
  scheduler.run({ until: scheduler.now() + 59_999 });
  assert.equal(model.ask(core).kind, "secondary_limit");
  scheduler.run({ until: scheduler.now() + 1 });
  assert.equal(first(901, () => model.ask(core)).filter(({ kind }) => kind === "ok").length, 900);
});

Deno.test("GitHubModel: it tells calls that went into a reserve from those that ours alone explain", () => {
  const { model, user, core } = modelAt({ limits: { core: 8 } });
  first(5, () => model.ask(core));
  assert.equal(model.useOwn(user, "core"), "ok");
  assert.deepEqual([model.counts.intoReserve, model.counts.ownOverdraft], [0, 0]);
  model.ask(core); // 7 of 8 are used, of which the pool may use 6
  assert.deepEqual([model.counts.intoReserve, model.counts.ownOverdraft], [1, 0]);
  model.ask(core);
  assert.deepEqual([model.counts.intoReserve, model.counts.ownOverdraft], [2, 1]);
  assert.equal(model.useOwn(user, "core"), "primary_limit");
});

Deno.test("GitHubModel: its clock may differ, and the printed reset may jitter; the window does not", () => {
  const { scheduler, model, core } = modelAt({ skewMs: -1500, resetJitter: 1, limits: { core: 100 } });
  const resets = new Set(first(50, () => model.ask(core)).map(({ reset }) => reset! - START / 1000 - 3600));
  assert.deepEqual([...resets].sort(), [-1, -3]);
  scheduler.run({ until: START + 3_599_499 });
  assert.equal(model.ask(core).remaining, 49);
  scheduler.run({ until: START + 3_599_500 });
  assert.equal(model.ask(core).remaining, 99);
});

Deno.test("toResponse: what goes over the wire is what was answered", async () => {
  const { model, core } = modelAt();
  const response = toResponse(model.ask(core));
  assert.deepEqual([response.status, response.headers.get("x-ratelimit-remaining")], [200, "4999"]);
  assert.equal(toResponse(model.ask({ ...core, isUnchanged: true })).status, 304);
  model.revoke("gho_a");
  assert.deepEqual(await toResponse(model.ask(core)).json(), { message: "Bad credentials" });
});
