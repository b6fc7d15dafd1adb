/**
 * Pure: what the doctor finds, each with what to do about it.
 *
 * @module
 */

/** One finding. */
export interface Finding {
  /** Stable, for scripts. */
  name: string;
  status: "ok" | "warn" | "fail";
  /** What was found. */
  found: string;
  /** What to do; null when there is nothing to do. */
  remedy: string | null;
}

const SKEW_WARN_MS = 5_000;
const SKEW_FAIL_MS = 60_000;

/** Nothing to do. */
export function ok(name: string, found: string): Finding {
  return { name, status: "ok", found, remedy: null };
}

/** It works, but not as it should. */
export function warn(name: string, found: string, remedy: string): Finding {
  return { name, status: "warn", found, remedy };
}

/** It does not work. */
export function fail(name: string, found: string, remedy: string): Finding {
  return { name, status: "fail", found, remedy };
}

/** It cannot be looked at because of another. */
export function unseen(name: string, first: string): Finding {
  return warn(name, "not looked at", `mend ${first} first, then run the doctor again`);
}

/** Of two clocks, by how far one is ahead; GitHub's resets within 5 s are taken for the same. */
export function clockFinding(name: string, whose: string, skewMs: number, where: string): Finding {
  const seconds = (skewMs / 1000).toFixed(1);
  const found = `${whose} is ${seconds} s ahead of this machine's`;
  const remedy = `turn on time synchronisation (NTP) on ${where}`;
  if (Math.abs(skewMs) > SKEW_FAIL_MS) return fail(name, found, remedy);
  return Math.abs(skewMs) > SKEW_WARN_MS ? warn(name, found, remedy) : ok(name, found);
}
