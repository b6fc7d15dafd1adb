/**
 * What a policy is: the way in which processes choose the token for each of their calls, and what they make of GitHub's
 * answers. All policies meet the same world: the same arrivals, donors and GitHub, one virtual clock.
 *
 * @module
 */

import type { GitHubModel, ModelAnswer, ModelUser } from "../github_model.ts";
import type { Random } from "../random.ts";
import type { Scheduler } from "../scheduler.ts";

/** A donated token, and whose it is. */
export interface DonatedToken {
  readonly index: number;
  readonly secret: string;
  readonly user: ModelUser;
}

/** What there is. */
export interface PolicyWorld {
  readonly scheduler: Scheduler;
  readonly model: GitHubModel;
  /** For the policy's own draws. */
  readonly random: Random;
  readonly tokens: readonly DonatedToken[];
  readonly processes: number;
  /** The share of each limit that stays the donor's. */
  readonly reserve: number;
  /** Whether the consumer tells the policy of this answer. */
  reports(): boolean;
  /** Sends a call with a token to GitHub. */
  send(secret: string, done: (answer: ModelAnswer) => void): void;
  /** The same without the way. */
  ask(secret: string): ModelAnswer;
}

/** A policy at work in a world. */
export interface RunningPolicy {
  /** Lets time pass, with all that is due until then. Epoch milliseconds; until nothing is left if absent. */
  run(until?: number): Promise<void>;
  /** A process has a call to make. What becomes of it, GitHub's model counts. */
  call(process: number): void;
  /** Database round trips of the processes so far, or as many as the original would make. */
  roundTrips(): number;
  /** Tokens that were given up for good. */
  lost(): number | Promise<number>;
  stop(): void | Promise<void>;
}

/** How a policy is made. */
export interface Policy {
  /** For the command line and the stored results. */
  readonly name: string;
  /** For people. */
  readonly title: string;
  /** Whether it can be used without telling it what GitHub answered. */
  readonly isManual: boolean;
  start(world: PolicyWorld): RunningPolicy | Promise<RunningPolicy>;
}

/** A call that is refused is made again with what the policy then chooses, so often in all: as `poolFetch` does. */
export const ATTEMPTS = 3;

/** Whether another token is worth trying. */
export function isRefusal({ status }: Pick<ModelAnswer, "status">): boolean {
  return status === 401 || status === 403 || status === 429;
}
