/**
 * What is in the database, read past the pool.
 *
 * @module
 */

import type { Client } from "npm:@libsql/client@0.18.0";

/** A donation, as it is stored. Times in epoch milliseconds. */
export interface TokenRow {
  id: number;
  user: string;
  /** Sealed. */
  token: string;
  reserve: number;
  heldUntil: number;
  strikes: number;
  suspectAt: number | null;
  checkAt: number | null;
  isPaused: boolean;
}

/** The window of one donation and resource, as it is stored. */
export interface LimitRow {
  id: number;
  resource: string;
  cap: number;
  remaining: number;
  floor: number;
  /** Epoch seconds. */
  resetAt: number | null;
  windowEnds: number;
  heldUntil: number;
  readyAt: number;
  turn: number;
  calls: number;
}

/** The database at one moment. */
export interface Snapshot {
  tokens: ReadonlyMap<number, TokenRow>;
  /** By `id resource`. */
  limits: ReadonlyMap<string, LimitRow>;
  resources: readonly string[];
  counters: Readonly<Record<string, number>>;
  /** So many rows there are; more than there are keys if something is stored twice. */
  rows: { tokens: number; limits: number };
}

const QUERY = `SELECT json_object(
  'tokens', json((SELECT json_group_array(json_object('id', id, 'user', github_user_id, 'token', token,
    'reserve', reserve, 'heldUntil', held_until, 'strikes', strikes, 'suspectAt', suspect_at, 'checkAt', check_at,
    'isPaused', json(iif(EXISTS (SELECT 1 FROM token_pool_pauses WHERE token_id = id), 'true', 'false'))))
    FROM token_pool_tokens)),
  'limits', json((SELECT json_group_array(json_object('id', token_id, 'resource', resource, 'cap', cap,
    'remaining', remaining, 'floor', floor, 'resetAt', reset_at, 'windowEnds', window_ends, 'heldUntil', held_until,
    'readyAt', ready_at, 'turn', turn, 'calls', calls)) FROM token_pool_limits)),
  'resources', json((SELECT json_group_array(resource) FROM token_pool_resources)),
  'counters', json((SELECT json_group_object(name, value) FROM token_pool_counters)))`;

/** The database before there is anything in it. */
export const NOTHING: Snapshot = {
  tokens: new Map(),
  limits: new Map(),
  resources: [],
  counters: {},
  rows: { tokens: 0, limits: 0 },
};

/** Reads everything that the invariants are about. */
export async function readSnapshot(client: Client): Promise<Snapshot> {
  const { rows } = await client.execute(QUERY);
  const { tokens, limits, resources, counters } = JSON.parse(String(rows[0]![0])) as {
    tokens: TokenRow[];
    limits: LimitRow[];
    resources: string[];
    counters: Record<string, number>;
  };
  return {
    tokens: new Map(tokens.map((row) => [row.id, row])),
    limits: new Map(limits.map((row) => [keyOf(row.id, row.resource), row])),
    resources,
    counters,
    rows: { tokens: tokens.length, limits: limits.length },
  };
}

/** Names the window of a donation and resource. */
export function keyOf(id: number, resource: string): string {
  return `${id} ${resource}`;
}

/** What remains at this moment: all of it, if the window has ended. */
export function remainingAt(row: LimitRow, now: number): number {
  return row.windowEnds <= now ? row.cap : row.remaining;
}

/** Whether GitHub has named the window that is open. */
export function isNamed(row: LimitRow): boolean {
  return row.resetAt !== null && row.windowEnds === (row.resetAt + 1) * 1000;
}

/** Whether a donation may serve at all: it is neither suspected nor paused. */
export function mayServe(row: TokenRow): boolean {
  return row.suspectAt === null && !row.isPaused;
}

/** Whether a call of this cost may be drawn, told from what happened to the row and not from its place in the queue. */
export function isUsable(token: TokenRow, row: LimitRow, cost: number, now: number): boolean {
  const remaining = remainingAt(row, now);
  const isHeld = Math.max(token.heldUntil, row.heldUntil) > now;
  return mayServe(token) && !isHeld && remaining > row.floor && remaining - cost >= row.floor;
}
