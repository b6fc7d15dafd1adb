/**
 * Programs that draw on the pool: some by getToken and reports (late, repeated, lost, in any order), some by fetch.
 *
 * @module
 */

import { parseRateLimitHeaders, PoolError, type TokenWithSecret } from "../../lib/pool.ts";
import type { Operation } from "./facts.ts";
import { type ModelAnswer, toResponse } from "./github_model.ts";
import { Violation } from "./invariants.ts";
import type { Random } from "./random.ts";
import { keyOf } from "./snapshot.ts";
import { ask } from "./wire.ts";
import type { SimulatedProcess } from "./process.ts";
import type { World } from "./world.ts";

const RESOURCES = ["core", "core", "core", "search", "search", "code_search", "graphql", "sbom"];

const REPORTS_AT_MOST = 3;

/** One consumer, as long as its process lives and the world is not calm. */
export async function consume(world: World, process: SimulatedProcess, random: Random): Promise<void> {
  while (!world.isCalm && !process.isOver) {
    await world.pause(random.pick(world.profile.pausesMs));
    if (world.isCalm || process.isOver) return;
    if (random.chance(world.profile.clockJump)) {
      process.clockErrorMs = random.pick([0, -5_000, 5_000, -3_600_000, 3_600_000]);
      world.count("clock jumps");
      world.note(`${process.name} has its clock ${process.clockErrorMs} ms off`);
    }
    const action = random.next();
    if (action < 0.5) await drawAndReport(world, process, random);
    else if (action < 0.9) await fetchSome(world, process, random);
    else await lookAround(world, process, random);
  }
}

/** Draws a token, or says why there is none. */
export async function draw(
  world: World,
  process: SimulatedProcess,
  resource = "core",
  cost = 1,
): Promise<TokenWithSecret | null> {
  let drawn: Operation | null = null;
  const outcome = await world.perform(process, `getToken ${resource} ${cost}`, async (operation) => {
    drawn = operation;
    return await process.pool.getToken({ resource, cost });
  });
  if (outcome.kind !== "done") return null;
  assertSeen(world, drawn!, outcome.value);
  return outcome.value;
}

/** The simulator looks at claims as they are committed; should it not recognise them, it would see nothing wrong. */
function assertSeen(world: World, { claims, attempts }: Operation, token: TokenWithSecret | null): void {
  const last = claims.at(-1);
  if (attempts === 0) world.fail(new Violation(0, "a claim behind getToken", "none that is recognised"));
  if (token === null) return;
  world.said(JSON.stringify({ ...token, token: "" }), "a hand-out beside its token");
  if (last?.id !== token.id || last.calls < 1) {
    return world.fail(new Violation(0, `a claim of donation ${token.id}`, "none that is recognised"));
  }
  if (world.facts.opened.get(last.sealed) !== token.token) {
    world.fail(new Violation(3, `the token that donation ${token.id} has`, "another one"));
  }
}

async function drawAndReport(world: World, process: SimulatedProcess, random: Random): Promise<void> {
  const resource = random.pick(RESOURCES);
  const cost = resource === "graphql" ? random.int(1, 500) : random.chance(0.1) ? random.int(2, 5) : 1;
  const token = await draw(world, process, resource, cost);
  if (token === null) return await waitUntilAvailable(world, process, random, resource);
  const drawnAt = world.scheduler.now() - 2_100; // its claim was committed up to so long ago
  if (random.chance(0.3)) await world.pause(random.int(1, 500));
  if (process.isOver) return;
  let answer: ModelAnswer;
  try {
    const isUnchanged = random.chance(0.1);
    answer = await ask(world, process, { token: token.token, resource, cost, isUnchanged, drawnAt });
  } catch {
    return; // lost on the way
  }
  if (!random.chance(world.profile.reported)) return;
  const response = toResponse(answer);
  if (answer.kind === "not_modified") world.facts.addGivable(process.name, keyOf(token.id, resource), 1);
  const report = () => reportOn(world, process, random, token.id, answer, response);
  if (world.profile.hasLateReports && random.chance(0.3)) {
    world.scheduler.after(random.int(1, random.chance(0.2) ? 600_000 : 5_000), () => void report());
  } else await report();
}

/** Tells the pool, again when that failed, and now and then twice. */
async function reportOn(
  world: World,
  process: SimulatedProcess,
  random: Random,
  id: number,
  answer: ModelAnswer,
  response: Response,
): Promise<void> {
  const isNumbersOnly = answer.kind === "ok" && random.chance(0.2);
  const times = random.chance(0.15) ? 2 : 1;
  for (let n = 0, tries = 0; n < times && tries < REPORTS_AT_MOST && !process.isOver; tries++) {
    const since = world.scheduler.now();
    const outcome = await world.perform(process, `report ${id} ${answer.kind}`, async (operation) => {
      operation.answers.push({ id, kind: answer.kind, answer, at: since, secret: null });
      if (isNumbersOnly) await process.pool.reportUsage(id, parseRateLimitHeaders(response.headers));
      else await process.pool.syncTokenHealth(id, response);
    });
    if (outcome.kind === "crashed") return;
    if (outcome.kind === "failed") {
      await world.pause(random.int(10, 2000));
      continue;
    }
    n++;
    world.count("reports taken in");
    world.facts.noteTaken(id, answer, since);
    assertOut(world, { id, secret: null, answer, at: since });
  }
}

/** 3: once a 401 is taken in the token is out of rotation; not the one in its place, if it is known which was refused. */
function assertOut(
  world: World,
  { id, secret, answer: { kind, status }, at: since }: Omit<Operation["answers"][number], "kind">,
): void {
  if (status !== 401) return;
  const { lastOut, latest, opened } = world.facts;
  const out = lastOut.get(id);
  const row = latest.tokens.get(id);
  if (row === undefined || row.suspectAt !== null || (out !== undefined && out.at >= since)) return;
  const current = opened.get(row.token) ?? null;
  if (secret !== null && current !== null && current !== secret) return;
  world.fail(new Violation(3, `donation ${id} out of rotation after a 401 (${kind})`, "it still serves"));
}

async function waitUntilAvailable(
  world: World,
  process: SimulatedProcess,
  random: Random,
  resource: string,
): Promise<void> {
  const outcome = await world.perform(process, `availability ${resource}`, () => process.pool.availability(resource));
  if (outcome.kind !== "done") return;
  const { next_available_at: next } = outcome.value;
  world.said(JSON.stringify(outcome.value), "availability");
  if (next === null || next - world.scheduler.now() > 7_200_000 || !random.chance(0.5)) return;
  await world.pause(next - world.scheduler.now());
}

async function fetchSome(world: World, process: SimulatedProcess, random: Random): Promise<void> {
  const paths = ["/repos/a/b", "/repos/a/b", "/search/issues?q=a", "/search/code?q=a", "/users/a"];
  const path = random.pick(paths);
  const count = random.chance(0.4) ? random.int(2, 25) : 1;
  const calls = Array.from({ length: count }, async (_, n) => {
    if (n > 0) await world.pause(random.int(0, 1000));
    if (process.isOver) return;
    await fetchOne(world, process, random, `${path}${path.includes("?") ? "&" : "?"}n=${random.int(1, 5)}`);
  });
  await Promise.all(calls);
}

async function fetchOne(world: World, process: SimulatedProcess, random: Random, path: string): Promise<void> {
  let operation: Operation;
  const maxWaitMs = random.pick([0, 0, 2_000, 70_000]);
  const outcome = await world.perform(process, `fetch ${path}`, async (own) => {
    operation = own;
    const response = await process.pool.fetch(path, {
      pool: {
        maxWaitMs,
        ...(random.chance(0.5) ? { onEvent: (event) => world.said(JSON.stringify(event), "an event") } : {}),
      },
    });
    return { text: await response.text(), headers: [...response.headers] };
  });
  if (outcome.kind === "failed" && outcome.error instanceof PoolError && outcome.error.code === "exhausted") {
    world.said(String(outcome.error.retryAt), "an error");
  }
  if (outcome.kind !== "done") return;
  world.said(JSON.stringify(outcome.value), "an answer");
  // What it was refused by has been taken in before it went on.
  for (const taken of operation!.answers) {
    const { id, kind, answer, at } = taken;
    if (kind === "secondary_limit") world.facts.noteTaken(id, answer, at);
    assertOut(world, taken);
  }
}

async function lookAround(world: World, process: SimulatedProcess, random: Random): Promise<void> {
  const resource = random.pick(RESOURCES);
  const outcome = await world.perform(process, `availability ${resource}`, () => process.pool.availability(resource));
  if (outcome.kind === "done") world.said(JSON.stringify(outcome.value), "availability");
}
