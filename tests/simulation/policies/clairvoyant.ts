/**
 * Nobody's policy: it sees GitHub's own counters at the very moment at which its call arrives, takes turns, and takes what
 * is free without touching a reserve. What it serves is what can be served while donors draw as well: the measure of all
 * others.
 *
 * More is possible, up to 4 % in these loads, for who drains a window before its donor draws on it: the donor's own calls
 * then come out of the donor's reserve. So a policy that bursts can show a little more than 100 %.
 *
 * @module
 */

import { type ModelUser, reservedCalls } from "../github_model.ts";
import { ATTEMPTS, type Policy } from "./policy.ts";

/** The policy. */
export const clairvoyant: Policy = {
  name: "clairvoyant",
  title: "clairvoyant",
  isManual: true,
  start({ scheduler, model, tokens, reserve, ask }) {
    let turn = 0;
    const isFree = (user: ModelUser) => {
      const window = model.windowOf(user, "core");
      if (window === null) return true;
      return window.ours + window.donors < window.limit - reservedCalls(reserve, window.limit) &&
        scheduler.now() >= user.heldUntil;
    };
    const next = () => {
      for (let n = 0; n < tokens.length; n++) {
        const token = tokens[turn++ % tokens.length]!;
        if (isFree(token.user)) return token;
      }
      return null;
    };
    return {
      run: (until = Infinity) => Promise.resolve(scheduler.run({ until })),
      call() {
        for (let n = 0; n < ATTEMPTS; n++) {
          const token = next();
          if (token === null || ask(token.secret).status === 200) return;
        }
      },
      roundTrips: () => 0,
      lost: () => 0,
      stop() {},
    };
  },
};
