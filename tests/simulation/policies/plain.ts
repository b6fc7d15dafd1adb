/**
 * Policies that know next to nothing, and leave the donors nothing.
 *
 * - round robin, like star-history: the next token in turn; a 403 benches it for 15 minutes; 429 and 401 are ignored.
 *   Kinder than the original: a call that was refused is tried again, and one token does not serve a whole burst.
 * - random, like ecosyste.ms: any token. Kinder than the original: a refused call is tried again, and the job that
 *   removes what answers 401 does not run.
 * - drain, like Software Heritage and github-readme-stats: each process has an order of its own and stays with a token
 *   until that is refused by a limit; then with the next, and comes back when the printed reset is past (a minute if
 *   none is printed). Kinder than the originals: it does not sleep, and a 401 lets it go on with the next token as well.
 *
 * Followed: the descriptions of backend/token.ts, hosts/github.rb, swh/core/github/utils.py and retryer.js.
 *
 * @module
 */

import { type Chooser, peer } from "./peer.ts";
import type { PolicyWorld } from "./policy.ts";

const BENCH_MS = 900_000;
const LIMITED_MS = 60_000;

/** Turn by turn. */
export const roundRobin = peer("round-robin", "round robin", ({ scheduler, tokens }): Chooser => {
  const benchedUntil = tokens.map(() => 0);
  let turn = 0;
  return {
    choose() {
      for (let n = 0; n < tokens.length; n++) {
        const token = tokens[turn++ % tokens.length]!;
        if (benchedUntil[token.index]! <= scheduler.now()) return token;
      }
      return null;
    },
    learn(_, { index }, { status }) {
      if (status === 403) benchedUntil[index] = scheduler.now() + BENCH_MS;
    },
  };
});

/** Any. */
export const random = peer("random", "random", ({ random, tokens }): Chooser => {
  return { choose: () => random.pick(tokens), learn() {} };
});

/** One until it is used up, then the next. */
export const drain = peer("drain", "drain until 403", (world): Chooser => {
  const views = Array.from({ length: world.processes }, () => drainer(world));
  return {
    choose: (process) => views[process]!.choose(process),
    learn: (process, token, answer) => views[process]!.learn(process, token, answer),
  };
});

function drainer({ scheduler, random, tokens }: PolicyWorld): Chooser {
  const order = random.shuffle(tokens);
  const limitedUntil = new Map<number, number>();
  let at = 0;
  return {
    choose() {
      for (let n = 0; n < order.length; n++, at = (at + 1) % order.length) {
        const token = order[at]!;
        if ((limitedUntil.get(token.index) ?? 0) <= scheduler.now()) return token;
      }
      return null;
    },
    learn(_, token, { status, remaining, reset }) {
      const isLimited = status === 403 || status === 429;
      if (isLimited) {
        const until = remaining === 0 && reset !== null ? reset * 1000 : scheduler.now() + LIMITED_MS;
        limitedUntil.set(token.index, until);
      }
      if ((isLimited || status === 401) && order[at] === token) at = (at + 1) % order.length;
    },
  };
}
