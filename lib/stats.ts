/**
 * The dashboard's flow: one aggregate query, kept for 15 s, and what is said of it. Never a login, an id or a
 * per-token figure, and never a decryption.
 *
 * @module
 */

import { z } from "npm:zod@4.6.7";
import { sha256Base64Url } from "./crypto.ts";
import { PoolError } from "./errors.ts";
import { type Counters, STATES } from "./metrics.ts";
import { DEFAULT_RESOURCE, RESET_SLACK_MS } from "./rate_limit.ts";
import { DAY_MS, HOUR_MS, type PoolFigures } from "./records.ts";
import type { Vault } from "./vault.ts";

/** How long figures are good for; also what `/status` tells caches. */
export const FRESH_SECONDS = 15;

const count = z.number().int().nonnegative();

/** The contract of `/status`. Names are stable; there are only ever additions. */
export const statusSchema = z.object({
  schema_version: z.literal(1),
  /** `down` = the database does not answer; the figures are then the last known ones, or zeros. */
  status: z.enum(STATES),
  updated_at: z.iso.datetime(),
  /** Donations by state, of `core`. */
  tokens: z.object({
    total: count,
    healthy: count,
    exhausted: count,
    cooling: count,
    suspended: count,
    /** By their donors. */
    paused: count,
  }),
  resources: z.record(
    z.string(),
    z.object({
      limit: count,
      remaining: count,
      /** Calls that can be claimed now. */
      usable: count,
      /** Of what donors share, how much is left. */
      percent: count.max(100),
      /** Epoch seconds; null = no window is open. */
      next_reset_at: count.nullable(),
    }),
  ),
  calls: z.object({ total: count, last_24h: count }),
});

/** What `/status` answers. */
export type Status = z.output<typeof statusSchema>;

/** Calls that were drawn, by when; oldest first, without gaps, the last one still under way. In UTC. */
export interface History {
  /** The last 24 hours; `at` is when each began, in epoch milliseconds. */
  hours: { at: number; calls: number }[];
  /** The last 30 days. */
  days: { at: number; calls: number }[];
  /** Donations as of the end of each of these days; null = nobody counted them. */
  donations: { at: number; count: number | null }[];
}

/** The figures, ready to be sent. */
export interface StatusSnapshot {
  status: Status;
  json: string;
  /** A strong ETag. */
  etag: string;
  /** Whether there is something for upkeep to do that cannot wait: a visitor's request may have to do it. */
  isUpkeepDue: boolean;
  /** Calls an hour that donors lend: the limits of `core` less what stays theirs. */
  capacity: number;
  history: History;
  /** How often what happened; null while the database does not answer. */
  counters: Counters | null;
  /** Why the pool is down: for its operator, not for the public. */
  error: PoolError | null;
}

const EMPTY: Omit<Status, "status" | "updated_at"> = {
  schema_version: 1,
  tokens: { total: 0, healthy: 0, exhausted: 0, cooling: 0, suspended: 0, paused: 0 },
  resources: {},
  calls: { total: 0, last_24h: 0 },
};

const NO_HISTORY: History = { hours: [], days: [], donations: [] };

/**
 * Calls that were leased and not used are given back, so the total can fall a little. A counter must not: to Prometheus
 * that is a restart, and all calls ever made would be counted as new ones. So this process never shows fewer than it
 * has shown, unless the fall is larger than any number of leases explains: then it is another database.
 */
const GIVEN_BACK_AT_MOST = 10_000;

/** The figures of a pool, cached. */
export class Stats {
  readonly #vault: Vault;
  #cached: { snapshot: StatusSnapshot; at: number } | null = null;
  #inFlight: Promise<StatusSnapshot> | null = null;
  /** Counts changes by this process, so that an answer that was under way meanwhile is not kept. */
  #changes = 0;
  /** The most calls that were shown. */
  #calls = 0;

  constructor(vault: Vault) {
    this.#vault = vault;
  }

  /** The figures, at most 15 s old; one query however many ask at once. Never throws for a database that is away. */
  async snapshot(): Promise<StatusSnapshot> {
    const age = this.#cached === null ? Infinity : this.#vault.now() - this.#cached.at;
    if (age >= 0 && age < FRESH_SECONDS * 1000) return this.#cached!.snapshot;
    if (this.#inFlight !== null) return await this.#inFlight;
    const query = this.#query().finally(() => {
      if (this.#inFlight === query) this.#inFlight = null; // a change may have started another one
    });
    return await (this.#inFlight = query);
  }

  /** This process has changed something itself: it shows at once. */
  invalidate(): void {
    this.#changes++;
    this.#cached = null;
    this.#inFlight = null;
  }

  async #query(): Promise<StatusSnapshot> {
    const changes = this.#changes;
    const at = this.#vault.now();
    const { status, due, capacity, history, counters, error } = await this.#read();
    const json = JSON.stringify(status);
    const etag = `"${await sha256Base64Url(json)}"`;
    const snapshot = { status, json, etag, isUpkeepDue: due > 0, capacity, history, counters, error };
    if (changes === this.#changes) this.#cached = { snapshot, at };
    return snapshot;
  }

  async #read(): Promise<Omit<StatusSnapshot, "json" | "etag" | "isUpkeepDue"> & { due: number }> {
    try {
      const figures = await (await this.#vault.store()).stats();
      const [, , , , shared = 0] = figures.resources.find(([name]) => name === DEFAULT_RESOURCE) ?? [];
      const { due, calls: [calls] } = figures;
      this.#calls = calls < this.#calls - GIVEN_BACK_AT_MOST ? calls : Math.max(this.#calls, calls);
      const counters = { ...figures.counters, calls: this.#calls };
      return { status: statusOf(figures), due, capacity: shared, history: historyOf(figures), counters, error: null };
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
      const { status = EMPTY, capacity = 0, history = NO_HISTORY } = this.#cached?.snapshot ?? {};
      const updatedAt = new Date(this.#vault.now()).toISOString();
      return {
        status: { ...status, status: "down", updated_at: updatedAt },
        due: 0,
        capacity,
        history,
        counters: null,
        error,
      };
    }
  }
}

/** Calls by hour and by day, from the totals as of the beginning of each that had any, and donations by day. */
function historyOf({ now, calls: [total], hours, days, donations }: PoolFigures): History {
  const counted = new Map(donations);
  return {
    hours: differences(hours, total, HOUR_MS, 24, now),
    days: differences(days, total, DAY_MS, 30, now),
    donations: latest(DAY_MS, 30, now).map((day) => ({ at: day * DAY_MS, count: counted.get(day) ?? null })),
  };
}

function differences(
  totals: PoolFigures["hours"],
  total: number,
  ms: number,
  count: number,
  now: number,
): History["hours"] {
  // What a period drew is what the next one with a claim began at. Calls that were given back can make it negative.
  const drawn = new Map(totals.map(([period, calls], index) => [
    period,
    Math.max(0, (totals[index + 1]?.[1] ?? total) - calls),
  ]));
  return latest(ms, count, now).map((period) => ({ at: period * ms, calls: drawn.get(period) ?? 0 }));
}

/** The latest periods, each as its number since 1970; the last one is under way. */
function latest(ms: number, count: number, now: number): number[] {
  const current = Math.floor(now / ms);
  return Array.from({ length: count }, (_, index) => current - count + 1 + index);
}

function statusOf({ now, incident, calls, tokens, resources }: PoolFigures): Status {
  return {
    schema_version: 1,
    status: verdict(tokens, incident),
    updated_at: new Date(now).toISOString(),
    tokens,
    resources: Object.fromEntries(resources.map(([name, limit, remaining, usable, shared, resetsAt]) => [name, {
      limit,
      remaining,
      usable,
      percent: shared === 0 ? 0 : Math.round(100 * usable / shared),
      next_reset_at: resetsAt === null ? null : Math.floor((resetsAt - RESET_SLACK_MS) / 1000),
    }])),
    calls: { total: calls[0], last_24h: calls[1] ?? 0 },
  };
}

function verdict(tokens: PoolFigures["tokens"], incident: number): Status["status"] {
  if (tokens.total === 0) return "empty";
  if (incident > 0) return "degraded";
  return tokens.healthy === 0 ? "exhausted" : "ok";
}

/** What `/healthz` answers: draft-inadarei-api-health-check-06, the common form. */
export interface Health {
  status: "pass" | "warn" | "fail";
  description: string;
  checks: Record<string, { componentType: string; status: "pass" | "warn" | "fail"; time: string; output?: string }[]>;
}

/**
 * Asks the database and the canary, now. A dry pool is a warning; no database or no right key is a failure.
 *
 * @param vault The pool.
 * @param stats Its figures.
 * @param onFailure Told what has failed, which the answer does not say in full.
 */
export async function checkHealth(
  vault: Vault,
  stats: Stats,
  onFailure: (error: PoolError) => void = () => {},
): Promise<Health> {
  const time = new Date(vault.now()).toISOString();
  let output: string | null = null;
  try {
    await vault.unlock();
    await vault.recheckKey();
  } catch (error) {
    if (!(error instanceof PoolError)) throw error;
    output = FAILURES[error.code] ?? error.code;
    onFailure(error);
  }
  const { status: figures } = await stats.snapshot();
  const usable = figures.resources[DEFAULT_RESOURCE]?.usable ?? 0;
  const isServing = figures.status === "ok";
  const database = output === null && figures.status !== "down" ? "pass" : "fail";
  const status = database === "fail" ? "fail" : isServing ? "pass" : "warn";
  return {
    status,
    description: `github token pool: ${figures.status}`,
    checks: {
      "database:connection": [{
        componentType: "datastore",
        status: database,
        time,
        ...(output === null ? {} : { output }),
      }],
      "pool:usable": [{ componentType: "component", status: usable > 0 ? "pass" : "warn", time }],
    },
  };
}

/** Said in public, so it says little; the log has the reason. */
const FAILURES: Partial<Record<PoolError["code"], string>> = {
  config: "not configured",
  wrong_key: "wrong encryption key",
  database: "database does not answer",
};
