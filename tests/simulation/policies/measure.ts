/**
 * One policy under one load: what came of it, counted by the model of GitHub, which knows the truth.
 *
 * @module
 */

import { START } from "../../support/fixtures.ts";
import { GitHubModel, type ModelAnswer } from "../github_model.ts";
import { Random } from "../random.ts";
import { Scheduler } from "../scheduler.ts";
import { type Load, ownCallsOf } from "./loads.ts";
import type { DonatedToken, Policy, PolicyWorld } from "./policy.ts";

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const RESERVE = 0.25;

/** GitHub takes 200 ms at the median, with a tail; half of it each way. */
const LATENCY_MS = { median: 200, spread: 0.6, most: 10_000 };

/** What came of a run: counts, so that every figure of a table follows from them. */
export interface Counts {
  /** Calls that processes wanted to make. */
  wanted: number;
  /** Calls that GitHub answered. */
  served: number;
  /** Of these, those that left fewer than the donor keeps. */
  intoReserve: number;
  /** Of these, those that would have without the donor's own calls. */
  ownOverdraft: number;
  /** Calls that a limit of GitHub's refused. */
  refused: number;
  /** Calls that were answered with 401. */
  unauthorized: number;
  /** The donors' own calls, and how many of them were refused. */
  donorCalls: number;
  donorRefused: number;
  /** By token, what was served. */
  byToken: number[];
  /** Most calls of one token in a minute, and at once. */
  peakPerMinute: number;
  peakInFlight: number;
  roundTrips: number;
  /** Tokens that were given up for good, although GitHub knows them. */
  lost: number;
}

/** Runs a policy under a load. The same seed, the same counts. */
export async function measure(policy: Policy, load: Load, seed: number): Promise<Counts> {
  const random = new Random(`${load.name} ${seed}`);
  const scheduler = new Scheduler(random.fork("order"), START);
  const model = new GitHubModel({
    random: random.fork("github"),
    now: scheduler.now,
    falseUnauthorized: load.falseUnauthorized,
    limits: { core: load.limit },
  });
  const tokens = Array.from({ length: load.tokens }, (_, index): DonatedToken => {
    const user = model.addUser(RESERVE);
    const secret = `gho_${index}`;
    model.grant(user, secret);
    return { index, secret, user };
  });
  const byToken = tokens.map(() => 0);
  const startsAt = START + HOUR_MS;
  const endsAt = startsAt + load.hours * HOUR_MS;

  // The donors have been at it for an hour, so their windows do not all begin with our first call.
  for (const { index, user } of tokens) {
    poisson(scheduler, random.fork(`donor ${index}`), ownCallsOf(load, index), START, endsAt, () => {
      model.useOwn(user, "core");
    });
  }
  let answers = 0;
  const running = await policy.start({
    scheduler,
    model,
    random: random.fork("policy"),
    tokens,
    processes: load.processes,
    reserve: RESERVE,
    reports: () => load.reportEvery > 0 && ++answers % load.reportEvery === 0,
    ...wireTo({ scheduler, model, tokens }, random.fork("latency"), byToken),
  });
  try {
    let wanted = 0;
    const calls = random.fork("calls");
    const lent = tokens.reduce((sum, { index }) => sum + load.limit * (1 - RESERVE) - ownCallsOf(load, index), 0);
    poisson(scheduler, calls, load.demand * lent, startsAt, endsAt, () => {
      wanted++;
      running.call(calls.int(0, load.processes - 1));
    });
    if (load.outage !== null) {
      const [from, to] = load.outage;
      scheduler.at(startsAt + from * MINUTE_MS, () => model.outageUntil = startsAt + to * MINUTE_MS);
    }
    await running.run(endsAt);
    await running.run();
    const { counts: { ours, donors, intoReserve, ownOverdraft }, users } = model;
    return {
      wanted,
      served: ours.ok,
      intoReserve,
      ownOverdraft,
      refused: ours.primary_limit + ours.secondary_limit,
      unauthorized: ours.false_unauthorized + ours.outage + ours.unknown_token,
      donorCalls: donors.ok + donors.primary_limit,
      donorRefused: donors.primary_limit,
      byToken,
      peakPerMinute: Math.max(...users.map(({ peakPoints }) => peakPoints)),
      peakInFlight: Math.max(...users.map(({ peakInFlight }) => peakInFlight)),
      roundTrips: running.roundTrips(),
      lost: await running.lost(),
    };
  } finally {
    await running.stop();
  }
}

/** The way to GitHub and back, for the pool's calls. */
function wireTo(
  { scheduler, model, tokens }: Pick<PolicyWorld, "scheduler" | "model" | "tokens">,
  random: Random,
  byToken: number[],
): Pick<PolicyWorld, "send" | "ask"> {
  const indexOf = new Map(tokens.map(({ secret, index }) => [secret, index]));
  const arrive = (secret: string): ModelAnswer => {
    const answer = model.arrive({ token: secret, resource: "core" });
    if (answer.kind === "ok") byToken[indexOf.get(secret)!]!++;
    return answer;
  };
  return {
    send(secret, done) {
      const oneWayMs = latencyMs(random) / 2;
      scheduler.after(oneWayMs, () => {
        const answer = arrive(secret);
        scheduler.after(oneWayMs, () => {
          model.depart(answer);
          done(answer);
        });
      });
    },
    ask(secret) {
      const answer = arrive(secret);
      model.depart(answer);
      return answer;
    },
  };
}

/** Lets something happen so often an hour, without memory. */
function poisson(
  scheduler: Scheduler,
  random: Random,
  anHour: number,
  from: number,
  until: number,
  happen: () => void,
): void {
  let next = from;
  const wait = () => {
    next += -Math.log(1 - random.next()) * HOUR_MS / anHour;
    if (next >= until) return;
    scheduler.at(next, () => {
      happen();
      wait();
    });
  };
  if (anHour > 0) wait();
}

/** Log-normal, by Box and Muller. */
function latencyMs(random: Random): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  return Math.min(LATENCY_MS.most, LATENCY_MS.median * Math.exp(LATENCY_MS.spread * normal));
}
