/**
 * What the peers' policies have in common: they choose at once, from memory. A state that processes share costs them no
 * time, which is kinder than any database; what it would take in round trips is counted all the same.
 *
 * @module
 */

import type { ModelAnswer } from "../github_model.ts";
import { ATTEMPTS, type DonatedToken, isRefusal, type Policy, type PolicyWorld, type RunningPolicy } from "./policy.ts";

/** How a peer chooses. */
export interface Chooser {
  /** A token for a call of this process, or null when it thinks that it has none. */
  choose(process: number): DonatedToken | null;
  /** What GitHub answered; not called where consumers do not report. */
  learn(process: number, token: DonatedToken, answer: ModelAnswer): void;
  /** Tokens that were given up for good. */
  lost?(): number;
  /** What the original would make of round trips for each choice, and for each answer. */
  readonly roundTrips?: { choose: number; learn: number };
}

/** A policy of a chooser. */
export function peer(name: string, title: string, chooserOf: (world: PolicyWorld) => Chooser): Policy {
  return { name, title, isManual: true, start: (world) => run(world, chooserOf(world)) };
}

function run(world: PolicyWorld, chooser: Chooser): RunningPolicy {
  const { scheduler } = world;
  const cost = chooser.roundTrips ?? { choose: 0, learn: 0 };
  let roundTrips = 0;

  function attempt(process: number, left: number): void {
    roundTrips += cost.choose;
    const token = chooser.choose(process);
    if (token === null) return;
    world.send(token.secret, (answer) => {
      if (world.reports()) {
        roundTrips += cost.learn;
        chooser.learn(process, token, answer);
      }
      if (isRefusal(answer) && left > 1) attempt(process, left - 1);
    });
  }

  return {
    run: (until = Infinity) => Promise.resolve(scheduler.run({ until })),
    call: (process) => attempt(process, ATTEMPTS),
    roundTrips: () => roundTrips,
    lost: () => chooser.lost?.() ?? 0,
    stop() {},
  };
}
