/**
 * The dashboard's flow: one aggregate query, kept for 15 s, and what is said of it. Never a login, an id or a
 * per-token figure, and never a decryption.
 *
 * @module
 */

import { z } from "npm:zod@4.6.7";
import { sha256Base64Url } from "./crypto.ts";
import { PoolError } from "./errors.ts";
import { DEFAULT_RESOURCE, RESET_SLACK_MS } from "./rate_limit.ts";
import type { PoolFigures } from "./store.ts";
import type { Vault } from "./vault.ts";

/** How long figures are good for; also what `/status` tells caches. */
export const FRESH_SECONDS = 15;

const count = z.number().int().nonnegative();

/** The contract of `/status`. Names are stable; there are only ever additions. */
export const statusSchema = z.object({
  schema_version: z.literal(1),
  /** `down` = the database does not answer; the figures are then the last known ones, or zeros. */
  status: z.enum(["ok", "degraded", "exhausted", "empty", "down"]),
  updated_at: z.iso.datetime(),
  /** Donations by state, of `core`. */
  tokens: z.object({ total: count, healthy: count, exhausted: count, cooling: count, suspended: count }),
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

/** The figures, ready to be sent. */
export interface StatusSnapshot {
  status: Status;
  json: string;
  /** A strong ETag. */
  etag: string;
  /** Whether there is something for upkeep to do. */
  isUpkeepDue: boolean;
}

const EMPTY: Omit<Status, "status" | "updated_at"> = {
  schema_version: 1,
  tokens: { total: 0, healthy: 0, exhausted: 0, cooling: 0, suspended: 0 },
  resources: {},
  calls: { total: 0, last_24h: 0 },
};

/** The figures of a pool, cached. */
export class Stats {
  readonly #vault: Vault;
  #cached: { snapshot: StatusSnapshot; at: number } | null = null;
  #inFlight: Promise<StatusSnapshot> | null = null;
  /** Counts changes by this process, so that an answer that was under way meanwhile is not kept. */
  #changes = 0;

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
    const { status, due } = await this.#read();
    const json = JSON.stringify(status);
    const snapshot = { status, json, etag: `"${await sha256Base64Url(json)}"`, isUpkeepDue: due > 0 };
    if (changes === this.#changes) this.#cached = { snapshot, at };
    return snapshot;
  }

  async #read(): Promise<{ status: Status; due: number }> {
    try {
      const figures = await (await this.#vault.store()).stats();
      return { status: statusOf(figures), due: figures.due };
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
      const last = this.#cached?.snapshot.status ?? EMPTY;
      const updatedAt = new Date(this.#vault.now()).toISOString();
      return { status: { ...last, status: "down", updated_at: updatedAt }, due: 0 };
    }
  }
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
 */
export async function checkHealth(vault: Vault, stats: Stats): Promise<Health> {
  const time = new Date(vault.now()).toISOString();
  let output: string | null = null;
  try {
    await vault.unlock();
    await vault.recheckKey();
  } catch (error) {
    if (!(error instanceof PoolError)) throw error;
    output = FAILURES[error.code] ?? error.code;
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
