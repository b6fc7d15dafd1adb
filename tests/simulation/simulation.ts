/**
 * One seed, from beginning to end:
 *
 *     donors lend → uses are even → trouble of all kinds → calm → the pool recovers → uses are even → nothing has leaked
 *
 * @module
 */

import { createClient } from "npm:@libsql/client@0.18.0";
import { OTHER_KEY, START } from "../support/fixtures.ts";
import { consume, draw } from "./consumers.ts";
import { beDonor, keepUp, lend, upkeep } from "./donors.ts";
import type { DonorFact } from "./facts.ts";
import { poolRecovers, Violation, WRONG_KEY } from "./invariants.ts";
import { drawProfile, type Profile } from "./profile.ts";
import { Random } from "./random.ts";
import { compareOrders } from "./report_orders.ts";
import { Scheduler } from "./scheduler.ts";
import { Slot } from "./slots.ts";
import { isUsable, keyOf, readSnapshot } from "./snapshot.ts";
import { Trace } from "./trace.ts";
import { takeOver } from "./virtual_runtime.ts";
import type { SimulatedProcess } from "./process.ts";
import { type Task, World } from "./world.ts";

/** How a seed is run. */
export interface SimulationOptions {
  /** Events of trouble. Default 1,500. */
  steps?: number;
  /** Whether the whole trace is kept. */
  keepsTrace?: boolean;
  /** Only this promise is looked at. Default: all. */
  invariant?: number;
  /** What is not as the seed would have it. */
  profile?: Partial<Profile>;
}

/** What came of a seed. */
export interface SimulationReport {
  seed: number;
  /** Null = all promises were kept. */
  violation: { invariant: number; message: string; step: number } | null;
  /** Events, all in all. */
  steps: number;
  roundTrips: number;
  /** Calls of the pool at GitHub, by how they were answered. */
  calls: Record<string, number>;
  counts: Record<string, number>;
  /** Of the virtual clock. */
  hours: number;
  hash: string;
  trace: readonly string[];
}

/** Longer than any bench and any window. */
const CALM_MS = 2.5 * 3_600_000;
const UPKEEP_WHEN_CALM_MS = 600_000;
const UPKEEP_EVERY_MS = 60_000;

/** Runs a seed. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationReport> {
  const random = new Random(seed);
  const scheduler = new Scheduler(random.fork("order"), START);
  const trace = new Trace(options.keepsTrace);
  const profile = { ...drawProfile(random.fork("profile")), ...options.profile };
  const folder = await Deno.makeTempDir({ prefix: "token-pool-simulation-" });
  const file = `${folder}/pool.db`;
  const client = createClient({ url: `file:${file}`, concurrency: 1 });
  // Crashes here are of processes, not of the machine: what a power cut may take is not at stake.
  await client.execute("PRAGMA journal_mode = WAL");
  await client.execute("PRAGMA synchronous = OFF");
  using runtime = takeOver<Task>({ scheduler, random: random.fork("runtime") });
  const world = new World({
    profile,
    random: random.fork("world"),
    scheduler,
    runtime,
    trace,
    client,
    only: options.invariant,
  });
  let isOver = false;
  const story = async () => {
    await tell(world, random.fork("story"), options.steps ?? 1500);
    isOver = true;
  };
  try {
    world.note(JSON.stringify(profile));
    scheduler.after(0, () => void story().catch((error) => world.fail(asViolation(error))));
    await scheduler.runAsync({ settle: runtime.settle, afterEvent: () => isOver || world.violation !== null });
    if (!isOver && world.violation === null) world.fail(new Violation(0, "an end", "nothing left to happen before it"));
    await client.execute("PRAGMA wal_checkpoint(TRUNCATE)");
    if (world.violation === null) world.said(latin1(await Deno.readFile(file)), "the database file");
  } finally {
    client.close();
    await Deno.remove(folder, { recursive: true });
  }
  const { violation, step } = world;
  return {
    seed,
    violation: violation === null ? null : { invariant: violation.invariant, message: violation.message, step },
    steps: scheduler.events,
    roundTrips: step,
    calls: { ...world.model.counts.ours },
    counts: world.counts,
    hours: (scheduler.now() - START) / 3_600_000,
    hash: trace.hash,
    trace: trace.lines,
  };
}

async function tell(world: World, random: Random, steps: number): Promise<void> {
  const { profile, facts, scheduler } = world;
  const processes = new Set<SimulatedProcess>();
  const isBusy = { value: false };
  const begin = (process: SimulatedProcess, n: number) => {
    for (let k = 0; k < profile.consumers; k++) void consume(world, process, random.fork(`consumer ${n} ${k}`));
  };
  const service = new Slot(world, "service");
  const slots = Array.from({ length: profile.processes }, (_, n) => {
    let starts = 0;
    return new Slot(world, `p${n + 1}`, {
      cache: random.chance(0.3),
      onStart: (process) => {
        processes.add(process);
        if (isBusy.value) begin(process, 1000 * n + ++starts);
      },
    });
  });

  for (let n = 0; n < profile.donors; n++) {
    const user = world.model.addUser(0);
    const fact: DonorFact = { user, state: "none", secret: null, acknowledgedAt: 0 };
    facts.donors.set(String(user.id), fact);
    await lend(world, service, fact, random.pick([0.25, 0.5, 0.9]));
  }
  await drawEvenly(world, slots, random);

  world.isCalm = false;
  isBusy.value = true;
  const ends = scheduler.events + steps;
  slots.forEach(({ process }, n) => begin(process, n));
  const donors = [...facts.donors.values()].map((fact) =>
    beDonor(world, service, fact, random.fork(`${fact.user.id}`))
  );
  const saboteur = sabotage(world, service, random.fork("sabotage"));
  const keeper = keepUp(world, service, random.pick([UPKEEP_EVERY_MS, 300_000]));
  while (scheduler.events < ends) await world.pause(1000);

  world.isCalm = true;
  isBusy.value = false;
  world.model.behave({ falseUnauthorized: 0, forbidden: 0, serverError: 0, noNumbers: 0, inFlightAtMost: 100 });
  world.note("calm");
  await Promise.all([...donors, saboteur, keeper]);
  for (let left = CALM_MS; left > 0; left -= UPKEEP_WHEN_CALM_MS) {
    await world.pause(UPKEEP_WHEN_CALM_MS);
    await upkeep(world, service);
  }
  await recover(world, slots, random);
  await drawEvenly(world, slots, random);
  await finish(world, service, slots);
  await compareOrders(random.fork("orders"));
}

/** 5: all processes draw at once; what goes wrong at the database may go wrong. */
async function drawEvenly(world: World, slots: Slot[], random: Random): Promise<void> {
  const { facts, scheduler } = world;
  const { tokens, limits } = facts.latest;
  const equal = [...tokens.values()].filter((token) => {
    const row = limits.get(keyOf(token.id, "core"));
    return row !== undefined && !facts.spoilt.has(token.id) && isUsable(token, row, 60, scheduler.now());
  });
  facts.fairFrom = new Map(equal.map(({ id }) => [id, limits.get(keyOf(id, "core"))!.calls]));
  const wasCalm = world.isCalm;
  world.isCalm = random.chance(0.5);
  await Promise.all(slots.map(async (slot) => {
    for (let n = 0; n < 24 / slots.length; n++) {
      await world.pause(random.pick([0, 0, 1, 300]));
      await draw(world, slot.process);
    }
  }));
  world.isCalm = wasCalm;
  facts.fairFrom = null;
}

/** Keys that are wrong, ciphertexts that are spoilt, and GitHub's bad days. */
async function sabotage(world: World, service: Slot, random: Random): Promise<void> {
  const { facts, client, scheduler } = world;
  while (!world.isCalm) {
    await world.pause(random.pick([2_000, 20_000, 300_000]));
    if (world.isCalm) return;
    const action = random.next();
    if (action < 0.2 && facts.spoilt.size === 0) {
      const user = world.model.addUser(0);
      const fact: DonorFact = { user, state: "none", secret: null, acknowledgedAt: 0 };
      facts.donors.set(String(user.id), fact);
      await lend(world, service, fact, 0.25);
      const row = [...facts.latest.tokens.values()].find(({ user: id }) => id === String(user.id));
      // Who has been drawn may lawfully be changed by an answer that is still to come.
      const isDrawn = ({ id }: typeof row & object) =>
        [...facts.latest.limits.values()].some((limit) => limit.id === id && limit.calls > 0);
      if (row === undefined || row.suspectAt !== null || isDrawn(row)) continue;
      const others = [...facts.latest.tokens.values()].filter(({ id }) => id !== row.id);
      // Another row's, or one that is damaged.
      const token = others.length > 0 && random.chance(0.5)
        ? random.pick(others).token
        : `${row.token.slice(0, -3)}AAA`;
      await client.execute({ sql: "UPDATE token_pool_tokens SET token = ? WHERE id = ?", args: [token, row.id] });
      facts.latest = await readSnapshot(client);
      facts.spoilt.set(row.id, facts.latest.tokens.get(row.id)!);
      world.count("ciphertexts spoilt");
    } else if (action < 0.4) {
      const process = world.start("foreign", { key: OTHER_KEY });
      const outcome = await world.perform(process, WRONG_KEY, () => process.pool.getToken());
      if (outcome.kind === "done") world.fail(new Violation(6, "an error for a wrong key", "an answer"));
      world.count("wrong keys");
    } else if (action < 0.7) {
      world.count("outages");
      world.note("GitHub answers 401 to all");
      world.model.outageUntil = scheduler.now() + 600_000;
    }
  }
}

/** 8: after hours without trouble everybody's donation is drawn again. */
async function recover(world: World, slots: Slot[], random: Random): Promise<void> {
  const { facts } = world;
  for (const resource of facts.latest.resources) {
    const drawn = new Set<number>();
    for (let n = 0; n < facts.latest.tokens.size + 2; n++) {
      const token = await draw(world, random.pick(slots).process, resource);
      if (token !== null) drawn.add(token.id);
    }
    world.expect(() => poolRecovers(resource, drawn, facts, world.scheduler.now()));
  }
}

/** Everybody closes, and what is left behind is looked at. */
async function finish(world: World, service: Slot, slots: Slot[]): Promise<void> {
  for (const { process } of slots) await world.perform(process, "close", () => process.pool.close());
  await service.look();
  const outcome = await world.perform(service.process, "list", async () => {
    return await (await service.process.vault.store()).list();
  });
  if (outcome.kind === "done") world.said(JSON.stringify(outcome.value), "the operator's list");
  world.said(world.trace.lines.join("\n"), "the trace");
}

function asViolation(error: unknown): Violation {
  if (error instanceof Violation) return error;
  return new Violation(0, "no error of the simulator", String((error as Error)?.stack ?? error));
}

/** Each byte as a character, so that a text can be looked for. */
function latin1(bytes: Uint8Array): string {
  return new TextDecoder("latin1").decode(bytes);
}
