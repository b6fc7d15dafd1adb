/**
 * What is stored of all runs, and the figures that follow from it.
 *
 * @module
 */

import type { Counts } from "./measure.ts";

/** One run that is to be made. */
export interface Job {
  load: string;
  policy: string;
  seed: number;
}

/** A run, made; one line of what is stored. */
export interface Run extends Job {
  counts: Counts;
}

/** One row of a table. */
export interface Figures {
  /** Calls that were answered and left the donors what they keep, as a share of what can be. */
  served: number;
  /** Of 10,000 calls that were answered, those that went into a reserve. */
  intoReserve: number;
  refused: number;
  /** Share of the donors' own calls. */
  donorRefused: number;
  /** Jain's index of the calls by token: 1 = even, 1/n = all of one. */
  fairness: number;
  peakPerMinute: number;
  peakInFlight: number;
  /** For each call wanted. */
  roundTrips: number;
  lost: number;
}

/** The figures of a policy under a load, over all its seeds; null where it was not run. */
export function figuresOf(runs: readonly Run[], load: string, policy: string): Figures | null {
  const of = (name: string) =>
    runs.filter((run) => run.load === load && run.policy === name).map(({ counts }) => counts);
  const [own, possible] = [of(policy), of("clairvoyant")];
  if (own.length === 0 || possible.length !== own.length) return null;
  const sum = (count: (counts: Counts) => number, list = own) => list.reduce((total, each) => total + count(each), 0);
  return {
    served: sum(({ served, intoReserve }) => served - intoReserve) / sum(({ served }) => served, possible),
    intoReserve: 10_000 * sum(({ intoReserve }) => intoReserve) / Math.max(1, sum(({ served }) => served)),
    refused: sum(({ refused }) => refused),
    donorRefused: sum(({ donorRefused }) => donorRefused) / sum(({ donorCalls }) => donorCalls),
    fairness: Math.min(...own.map(({ byToken }) => fairnessOf(byToken))),
    peakPerMinute: Math.max(...own.map(({ peakPerMinute }) => peakPerMinute)),
    peakInFlight: Math.max(...own.map(({ peakInFlight }) => peakInFlight)),
    roundTrips: sum(({ roundTrips }) => roundTrips) / sum(({ wanted }) => wanted),
    lost: sum(({ lost }) => lost),
  };
}

function fairnessOf(calls: readonly number[]): number {
  const total = calls.reduce((sum, each) => sum + each, 0);
  return total ** 2 / (calls.length * calls.reduce((sum, each) => sum + each ** 2, 0));
}
