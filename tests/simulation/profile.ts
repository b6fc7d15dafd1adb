/**
 * What kind of world a seed makes: how many there are, how they behave, what goes wrong and how often.
 *
 * @module
 */

import type { Random } from "./random.ts";

/** A kind of world. Probabilities are per call. */
export interface Profile {
  donors: number;
  processes: number;
  /** In each process. */
  consumers: number;
  /** A consumer's pauses between two actions, in milliseconds: of a busy minute, or of slow hours. */
  pausesMs: readonly number[];
  /** Whether processes tell the time by the database; then their own clocks may jump. Else all are given one clock. */
  hasDatabaseClock: boolean;
  /** Whether tokens expire and are to be refreshed. */
  hasExpiringTokens: boolean;
  /** Of calls that are reported at all. */
  reported: number;
  /** Whether reports may be so late that others overtake them. */
  hasLateReports: boolean;
  github: {
    skewMs: number;
    resetJitter: number;
    falseUnauthorized: number;
    forbidden: number;
    serverError: number;
    noNumbers: number;
    /** Calls in flight before GitHub refuses: fewer than its own 100, so that few processes meet it. */
    inFlightAtMost: number;
  };
  network: {
    /** Calls that never arrive at GitHub. */
    lostBefore: number;
    /** Answers of GitHub that never come back. */
    lostAfter: number;
    /** Answers of GitHub that take up to a minute. */
    late: number;
  };
  database: {
    busy: number;
    droppedBefore: number;
    droppedAfter: number;
    /** Answers that never come. */
    silent: number;
    /** Answers that take up to two seconds. */
    slow: number;
  };
  /** Crashes, per moment at which a process waits. */
  crash: number;
  /** Jumps of a process's own clock, per action. */
  clockJump: number;
}

const BUSY_MS = [0, 0, 20, 500, 1000, 5000];
const BRISK_MS = [0, 0, 20, 500, 5000, 30_000];
const MIXED_MS = [0, 0, 20, 500, 1000, 5000, 60_000, 600_000];
const SLOW_MS = [0, 1000, 20_000, 60_000, 300_000, 1_200_000];

/** Draws a world. Each trouble is absent from some, so that what hides behind it shows as well. */
export function drawProfile(random: Random): Profile {
  const often = (most: number) => random.chance(0.6) ? random.next() * most : 0;
  const hasDatabaseClock = random.chance(0.5);
  return {
    donors: random.int(2, 8),
    processes: random.int(1, 4),
    consumers: random.int(1, 4),
    pausesMs: random.pick([BUSY_MS, BRISK_MS, MIXED_MS, SLOW_MS]),
    hasDatabaseClock,
    hasExpiringTokens: random.chance(0.25),
    reported: random.pick([1, 1, 0.9, 0.5, 0]),
    hasLateReports: random.chance(0.5),
    github: {
      skewMs: random.chance(0.5) ? random.int(-500, 500) : 0,
      resetJitter: often(0.5),
      falseUnauthorized: often(0.02),
      forbidden: often(0.1),
      serverError: often(0.1),
      noNumbers: often(0.1),
      inFlightAtMost: random.pick([2, 4, 100]),
    },
    network: { lostBefore: often(0.05), lostAfter: often(0.1), late: often(0.1) },
    database: {
      busy: often(0.1),
      droppedBefore: often(0.03),
      droppedAfter: often(0.03),
      silent: often(0.01),
      slow: often(0.05),
    },
    crash: often(0.01),
    clockJump: hasDatabaseClock ? often(0.05) : 0,
  };
}
