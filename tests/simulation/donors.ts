/**
 * Donors, who lend, change their minds, use their own quota and leave; and the service that they do it through.
 *
 * @module
 */

import { runUpkeep } from "../../lib/upkeep.ts";
import type { DonorFact } from "./facts.ts";
import type { Random } from "./random.ts";
import type { Slot } from "./slots.ts";
import type { SimulatedProcess } from "./process.ts";
import type { World } from "./world.ts";

const RESERVES = [0.25, 0.25, 0.5, 0.75, 0.9];
const PAUSES_MS = [1000, 30_000, 120_000, 600_000];
const TRIES_AT_MOST = 50;

/** Lends a token by the web flow, again until that is acknowledged. */
export async function lend(world: World, service: Slot, fact: DonorFact, reserve: number): Promise<void> {
  const { user } = fact;
  fact.state = "uncertain";
  await insist(world, service, `donate ${user.id} ${reserve}`, async ({ flow }) => {
    const { state, sealed } = await flow.begin("donate", reserve);
    world.said(sealed, "a sealed cookie");
    const code = world.oauth.authorize(user);
    const callback = new URLSearchParams({ state, code });
    const outcome = await flow.finish(callback, sealed);
    world.said(JSON.stringify(outcome), "the outcome of a donation");
    if (outcome.kind !== "donated") return false;
    fact.secret = world.oauth.grantedFor(code);
    fact.acknowledgedAt = world.scheduler.now();
    fact.state = "donated";
    user.reserve = reserve;
    return true;
  });
}

/** Takes it back by the web flow, again until that is acknowledged. */
async function withdraw(world: World, service: Slot, fact: DonorFact): Promise<void> {
  const { user } = fact;
  fact.state = "uncertain";
  await insist(world, service, `withdraw ${user.id}`, async ({ flow }) => {
    const { state, sealed } = await flow.begin("withdraw", 0.5);
    const callback = new URLSearchParams({ state, code: world.oauth.authorize(user) });
    const outcome = await flow.finish(callback, sealed);
    world.said(JSON.stringify(outcome), "the outcome of a withdrawal");
    if (outcome.kind !== "withdrawn") return false;
    fact.state = "none";
    fact.secret = null;
    return true;
  });
}

/** One donor, until the world is calm. */
export async function beDonor(world: World, service: Slot, fact: DonorFact, random: Random): Promise<void> {
  const { user } = fact;
  while (!world.isCalm) {
    await world.pause(random.pick(PAUSES_MS));
    if (world.isCalm) return;
    const action = random.next();
    if (action < 0.5) {
      const resource = random.pick(["core", "core", "search", "graphql"]);
      // Some use all there is.
      const most = random.chance(0.3) ? world.model.limitOf(resource) : random.int(1, 300);
      for (let left = most; left > 0; left--) world.model.useOwn(user, resource);
      world.count("donors use their own quota");
    } else if (fact.state === "none" || action < 0.6) await lend(world, service, fact, random.pick(RESERVES));
    else if (action < 0.68) await withdraw(world, service, fact);
    else if (action < 0.78) await pauseAndResume(world, service, fact, random);
    else if (action < 0.88) {
      const reserve = random.pick(RESERVES);
      await insist(world, service, `reserve ${user.id} ${reserve}`, async ({ vault }) => {
        await (await vault.store()).setReserve(String(user.id), reserve);
        return true;
      });
    } else if (action < 0.9) {
      world.count("donors revoke the grant at GitHub");
      world.oauth.revokeByUser(user);
    } else if (action < 0.905) {
      world.count("accounts suspended");
      user.isSuspended = true;
    }
  }
}

async function pauseAndResume(world: World, service: Slot, fact: DonorFact, random: Random): Promise<void> {
  const id = String(fact.user.id);
  await insist(world, service, `pause ${id}`, async ({ vault }) => {
    await (await vault.store()).pause(id);
    return true;
  });
  await world.pause(random.pick(PAUSES_MS));
  await insist(world, service, `resume ${id}`, async ({ vault }) => {
    await (await vault.store()).resume(id);
    return true;
  });
}

/** Upkeep by the minute, as a cron job does it, and the dashboard's figures. */
export async function keepUp(world: World, service: Slot, everyMs: number): Promise<void> {
  while (!world.isCalm) {
    await world.pause(everyMs);
    await upkeep(world, service);
    await service.look();
  }
}

/** One round of upkeep. */
export async function upkeep(world: World, { process }: Slot): Promise<void> {
  const outcome = await world.perform(process, "upkeep", () => runUpkeep(process));
  if (outcome.kind === "done") world.said(JSON.stringify(outcome.value), "the report of upkeep");
}

/** Does something through the service until it is done, whichever process serves. */
async function insist(
  world: World,
  service: Slot,
  what: string,
  work: (process: SimulatedProcess) => Promise<boolean>,
): Promise<void> {
  for (let tries = 0; tries < TRIES_AT_MOST; tries++) {
    const { process } = service;
    const outcome = await world.perform(process, what, () => work(process));
    if (outcome.kind === "done" && outcome.value) return;
    await world.pause(2000);
  }
  world.count("donors who gave up");
}
