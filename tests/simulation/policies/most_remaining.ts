/**
 * Like openclaw/octopool: one state for all processes; a route keeps its token for 10 s while that is healthy, else the
 * token with the most remaining. A window that is unknown or over counts as full. Nothing is reserved: who chooses does
 * not charge. Of two windows the newer counts, within one the smaller count. Cool-downs, of which the longest counts: 401
 * 120 s; a refusal with Retry-After that long; a 403 without 120 s for the route, a 429 without 120 s for all.
 *
 * Followed: the description of src/pool-coordinator.ts and src/github-rate.ts. A route here is a process, since all calls
 * are of one resource.
 *
 * Kinder than the original: it keeps a donors' reserve, which it does not know; and its one coordinator answers at once.
 *
 * @module
 */

import { reservedCalls } from "../github_model.ts";
import { type Chooser, peer } from "./peer.ts";
import type { DonatedToken, PolicyWorld } from "./policy.ts";

const STICKY_MS = 10_000;
const COOL_MS = 120_000;
const ASSUMED_LIMIT = 5000;

interface State {
  readonly token: DonatedToken;
  limit: number;
  remaining: number;
  /** Epoch seconds. */
  reset: number;
  /** Epoch milliseconds; of all routes, and by route. */
  coolUntil: number;
  readonly coolRoutes: Map<number, number>;
}

function mostRemaining({ scheduler, tokens, reserve }: PolicyWorld): Chooser {
  const states = tokens.map((token): State => {
    return { token, limit: ASSUMED_LIMIT, remaining: ASSUMED_LIMIT, reset: 0, coolUntil: 0, coolRoutes: new Map() };
  });
  const sticky = new Map<number, { state: State; until: number }>();

  const left = ({ limit, remaining, reset }: State) =>
    (reset * 1000 <= scheduler.now() ? limit : remaining) - reservedCalls(reserve, limit);
  const isHealthy = (state: State, route: number) =>
    left(state) > 0 && state.coolUntil <= scheduler.now() && (state.coolRoutes.get(route) ?? 0) <= scheduler.now();

  return {
    roundTrips: { choose: 1, learn: 1 },
    choose(route) {
      const now = scheduler.now();
      const held = sticky.get(route);
      if (held !== undefined && held.until > now && isHealthy(held.state, route)) return held.state.token;
      let best: State | null = null;
      for (const state of states) {
        if (isHealthy(state, route) && (best === null || left(state) > left(best))) best = state;
      }
      if (best === null) return null;
      sticky.set(route, { state: best, until: now + STICKY_MS });
      return best.token;
    },
    learn(route, { index }, { status, limit, remaining, reset, retryAfter }) {
      const state = states[index]!;
      const cooled = scheduler.now() + (retryAfter === null ? COOL_MS : retryAfter * 1000);
      if (status === 401) state.coolUntil = Math.max(state.coolUntil, scheduler.now() + COOL_MS);
      else if (status === 403 && retryAfter === null) state.coolRoutes.set(route, cooled);
      else if (status === 403 || status === 429) state.coolUntil = Math.max(state.coolUntil, cooled);
      if (status === 401 || limit === null || remaining === null || reset === null || reset < state.reset) return;
      state.remaining = reset > state.reset ? remaining : Math.min(state.remaining, remaining);
      Object.assign(state, { limit, reset });
    },
  };
}

/** The policy. */
export const octopool = peer("most-remaining", "most remaining, 10 s sticky", mostRemaining);
