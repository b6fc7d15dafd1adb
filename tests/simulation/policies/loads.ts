/**
 * The loads that the policies are put under.
 *
 * @module
 */

/** A load. */
export interface Load {
  readonly name: string;
  readonly title: string;
  readonly tokens: number;
  readonly processes: number;
  /** Calls wanted, as a share of what donors lend and do not use themselves. */
  readonly demand: number;
  readonly hours: number;
  /** Calls an hour that GitHub grants each user. */
  readonly limit: number;
  /** So many seeds are counted together. */
  readonly seeds: number;
  /** The donors' own calls an hour, in turn. */
  readonly ownCalls: readonly number[];
  /** Of so many answers consumers tell the policy one; 0 = none. */
  readonly reportEvery: number;
  /** Probability that GitHub answers a good token with 401. */
  readonly falseUnauthorized: number;
  /** Everything is answered with 401 between these minutes. */
  readonly outage: readonly [from: number, to: number] | null;
}

/** One donor of five is heavy: 1,100 calls an hour; the others make 60. */
const MIXED = [1100, 60, 60, 60, 60];
/** Each donor uses a tenth of 5,000. */
const TENTH = [500];

const USUAL = {
  tokens: 20,
  processes: 8,
  hours: 2,
  limit: 5000,
  seeds: 1,
  ownCalls: MIXED,
  reportEvery: 1,
  falseUnauthorized: 0,
  outage: null,
} as const;

/** All loads. */
export const LOADS: readonly Load[] = [
  { ...USUAL, name: "steady", title: "60 % of what donors lend", demand: 0.6 },
  { ...USUAL, name: "overload", title: "130 %", demand: 1.3 },
  {
    ...USUAL,
    name: "busy-donors",
    title: "130 %, each donor uses 10 % of their own limit",
    demand: 1.3,
    ownCalls: TENTH,
  },
  { ...USUAL, name: "few", title: "150 % of 3 tokens, 32 processes", demand: 1.5, tokens: 3, processes: 32, seeds: 3 },
  { ...USUAL, name: "silent", title: "130 %, nobody reports", demand: 1.3, reportEvery: 0 },
  { ...USUAL, name: "rarely", title: "130 %, one answer in 200 is reported", demand: 1.3, reportEvery: 200 },
  {
    ...USUAL,
    name: "false-401",
    title: "60 % of 5 tokens for 24 h, one 401 in 10,000 is false",
    demand: 0.6,
    tokens: 5,
    hours: 24,
    falseUnauthorized: 1e-4,
  },
  { ...USUAL, name: "outage", title: "60 %, everything is 401 for 10 minutes", demand: 0.6, outage: [60, 70] },
];

/** What one donor makes of calls an hour. */
export function ownCallsOf({ ownCalls }: Load, index: number): number {
  return ownCalls[index % ownCalls.length]!;
}

/** For a test: small enough to run in no time, and with everything in it. */
export const SAMPLE: Load = {
  ...USUAL,
  name: "sample",
  title: "a sample",
  tokens: 3,
  processes: 4,
  limit: 1000,
  ownCalls: [100, 10],
  demand: 3,
  hours: 0.25,
  falseUnauthorized: 2e-3,
  outage: [10, 11],
};
