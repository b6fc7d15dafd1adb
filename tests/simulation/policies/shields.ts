/**
 * Like badges/shields. Each process has its own view: a queue of tokens in an order of its own, each of which serves a
 * batch of 25 calls and goes to the tail; one that is used up waits in a heap for its reset. A quarter of each limit is
 * left alone. Of two windows the later counts, within one the smaller count. A 401 deletes the token's row for good.
 *
 * Followed: the description of token-pool.js and github-api-provider.js, and of PRs #9980 (a random order at the start)
 * and #11933 (three 401s in a row).
 *
 * Kinder than the original: its endless loop on a token that died while it waited is not there, and a call that was
 * refused is tried again.
 *
 * @module
 */

import { reservedCalls } from "../github_model.ts";
import { type Chooser, peer } from "./peer.ts";
import type { DonatedToken, PolicyWorld } from "./policy.ts";

const BATCH = 25;

interface Entry {
  readonly token: DonatedToken;
  usesRemaining: number;
  /** Epoch seconds. */
  nextReset: number;
  isValid: boolean;
  /** It waits for its reset, and takes no news. */
  isFrozen: boolean;
  unauthorized: number;
}

/** One process's view of the tokens. */
class View {
  readonly #now: () => number;
  readonly #queue: Entry[];
  readonly entries = new Map<DonatedToken, Entry>();
  #waiting: Entry[] = [];
  #current: Entry | null = null;
  #batchLeft = 0;

  constructor({ scheduler, random, tokens }: PolicyWorld) {
    this.#now = scheduler.now;
    this.#queue = random.shuffle(tokens).map((token) => {
      const entry = {
        token,
        usesRemaining: BATCH,
        nextReset: Infinity,
        isValid: true,
        isFrozen: false,
        unauthorized: 0,
      };
      this.entries.set(token, entry);
      return entry;
    });
  }

  next(): DonatedToken | null {
    const current = this.#current;
    if (current === null || this.#batchLeft <= 0 || !current.isValid || current.usesRemaining <= 0) {
      if (current !== null) this.#putBack(current);
      this.#current = this.#take();
      if (this.#current === null) return null;
      this.#batchLeft = Math.min(BATCH, this.#current.usesRemaining);
    }
    this.#batchLeft--;
    return this.#current!.token;
  }

  #putBack(entry: Entry): void {
    if (!entry.isValid) return;
    if (entry.usesRemaining > 0) this.#queue.push(entry);
    else {
      entry.isFrozen = true;
      this.#waiting.push(entry);
      this.#waiting.sort((a, b) => a.nextReset - b.nextReset);
    }
  }

  #take(): Entry | null {
    const now = this.#now() / 1000;
    this.#waiting = this.#waiting.filter(({ isValid }) => isValid);
    const first = this.#waiting[0];
    if (first !== undefined && first.nextReset <= now) {
      this.#waiting.shift();
      Object.assign(first, { isFrozen: false, usesRemaining: BATCH, nextReset: Infinity });
      return first;
    }
    for (let entry = this.#queue.shift(); entry !== undefined; entry = this.#queue.shift()) {
      if (entry.isValid && entry.usesRemaining > 0) return entry;
      this.#putBack(entry);
    }
    return null;
  }
}

function shieldsLike(world: PolicyWorld, unauthorizedAtMost: number): Chooser {
  const views = Array.from({ length: world.processes }, () => new View(world));
  const deleted = new Set<DonatedToken>();
  return {
    choose: (process) => views[process]!.next(),
    learn(process, token, { status, limit, remaining, reset }) {
      const entry = views[process]!.entries.get(token)!;
      entry.unauthorized = status === 401 ? entry.unauthorized + 1 : 0;
      if (entry.unauthorized >= unauthorizedAtMost) {
        entry.isValid = false;
        deleted.add(token);
      }
      if (status === 401 || limit === null || remaining === null || reset === null || entry.isFrozen) return;
      const usesRemaining = remaining - reservedCalls(world.reserve, limit);
      if (entry.nextReset === Infinity || reset > entry.nextReset) {
        Object.assign(entry, { usesRemaining, nextReset: reset });
      } else if (reset === entry.nextReset) entry.usesRemaining = Math.min(entry.usesRemaining, usesRemaining);
    },
    lost: () => deleted.size,
  };
}

/** As it was until June 2026. */
export const shields = peer("shields", "Shields", (world) => shieldsLike(world, 1));

/** As it is since. */
export const shieldsThrice = peer("shields-3", "Shields, three 401s", (world) => shieldsLike(world, 3));
