/**
 * The only SQL.
 *
 * Units: `_at`, `_until` and `_ends` are epoch milliseconds, except `reset_at`, which is epoch seconds as GitHub has it.
 * Every statement returns at most one column, JSON, because each column costs 13 µs in the client and because JSON
 * reads the same from every driver. The schema only ever grows: consumers stay on old versions of the library.
 *
 * The queue is one index, `token_pool_queue (resource, ready_at, turn)`. `ready_at` of a token that may be used is
 * when it was last used (past); of one that may not, when it may be used again (future). So the least recently used
 * token that may be used is the head of the queue, and it may be used exactly if its `ready_at` is not in the future.
 *
 * A row's window is GitHub's own exactly if `window_ends = (reset_at + 1) * 1000`; otherwise it is provisional: it
 * began with the first claim after the last known window, and ends as late as GitHub's could.
 *
 * @module
 */

import type { Mac } from "./crypto.ts";
import type { CallOptions, Connection, SqlValue, Statement } from "./database.ts";
import { PoolError } from "./errors.ts";
import { assumedWindow, type CompleteReport, DEFAULT_RESOURCE, RESET_SLACK_MS } from "./rate_limit.ts";
import {
  type BackedUpDonation,
  type BackedUpRevocation,
  type Bench,
  type Claim,
  claimOf,
  type ClaimRow,
  DAY_MS,
  type Exchange,
  FEW_CALLS,
  HOUR_MS,
  type KeyUse,
  type Lease,
  type ListedDonation,
  NEVER,
  type OwnDonation,
  ownDonation,
  type OwnDonationRow,
  type PoolFigures,
  type ProbedRow,
  type Resealed,
  type RestoredDonations,
  type RestoredRevocations,
  type SealedDonation,
  type SealedToken,
  type StoredDonation,
  type StoredFigures,
  type StoredRow,
  WITHDRAWALS_KEPT_MS,
} from "./records.ts";

/**
 * 2 added `token_pool_counters`, `token_pool_days` and `token_pool_pauses`, 3 `token_pool_probes`,
 * `token_pool_snapshots` and `token_pool_tombstones`, 4 `token_pool_readings`; an older library works on with the newer
 * tables.
 */
export const SCHEMA_VERSION = 4;

const SCHEMA = [
  // schema_version; retired_calls = calls drawn from donations that have left since; verified_id, verified_at = how far
  // the operator's check of all donations has come, and when
  `CREATE TABLE IF NOT EXISTS token_pool_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)`,

  // A known text under each key in use: a wrong key is found out before it can do harm.
  `CREATE TABLE IF NOT EXISTS token_pool_canaries (kid TEXT PRIMARY KEY, sealed TEXT NOT NULL)`,

  // One row per donor. AUTOINCREMENT: ids are not used again, so late news of a donation that left meets nobody.
  `CREATE TABLE IF NOT EXISTS token_pool_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    github_user_id TEXT NOT NULL UNIQUE,
    github_username TEXT,
    token TEXT NOT NULL,                  -- sealed, see lib/crypto.ts
    refresh_token TEXT,                   -- sealed; only of expiring tokens
    expires_at INTEGER,                   -- null = does not expire
    refresh_after INTEGER NOT NULL DEFAULT 0, -- a process is refreshing it, or failed to, until then
    reserve REAL NOT NULL,                -- share of each limit that stays the donor's
    donated_at INTEGER NOT NULL,
    held_until INTEGER NOT NULL DEFAULT 0,    -- the whole user is benched until then
    strikes INTEGER NOT NULL DEFAULT 0,   -- refusals in a row that said no waiting time
    suspect_at INTEGER,                   -- when a 401 took it out of rotation; null = trusted
    check_at INTEGER,                     -- when GitHub is to be asked about the suspect
    checks INTEGER NOT NULL DEFAULT 0,    -- how often it was asked
    not_found_at INTEGER,                 -- when GitHub first said that it does not know the token
    braked INTEGER NOT NULL DEFAULT 0     -- 1 = one of many at once, so GitHub must say so twice
  )`,

  // Every resource ever used, so that a new donation is seeded for all of them.
  `CREATE TABLE IF NOT EXISTS token_pool_resources (
    resource TEXT PRIMARY KEY,
    cap INTEGER NOT NULL                  -- calls per window until GitHub says otherwise
  )`,

  // One row per donor and resource: its window, and its place in the queue.
  `CREATE TABLE IF NOT EXISTS token_pool_limits (
    token_id INTEGER NOT NULL,
    resource TEXT NOT NULL,
    cap INTEGER NOT NULL,                 -- calls per window; GitHub's word if reset_at is known
    remaining INTEGER NOT NULL,           -- calls left in the window, the reserve among them
    floor INTEGER NOT NULL,               -- the reserve in calls: no claim goes below
    reset_at INTEGER,                     -- epoch SECONDS, latest that GitHub said
    window_ends INTEGER NOT NULL DEFAULT 0,   -- from then on the window is full again
    held_until INTEGER NOT NULL DEFAULT 0,    -- benched until then, user or resource, whichever is longer
    ready_at INTEGER NOT NULL,            -- the sort key, see above
    turn INTEGER NOT NULL DEFAULT 0,      -- order within one millisecond
    calls INTEGER NOT NULL DEFAULT 0,     -- ever claimed
    granted INTEGER NOT NULL DEFAULT 0,   -- calls of the latest claim, for its RETURNING only
    PRIMARY KEY (token_id, resource)
  )`,
  // Keep it the only index that begins so: SQLite chose the wrong one of two, ten times slower.
  `CREATE INDEX IF NOT EXISTS token_pool_queue ON token_pool_limits (resource, ready_at, turn)`,

  // When tokens turned suspect, for an hour: many within a minute are an incident at GitHub.
  `CREATE TABLE IF NOT EXISTS token_pool_suspicions (at INTEGER NOT NULL, token_id INTEGER NOT NULL)`,

  // What is still to be revoked at GitHub. Not donations: nothing here is ever handed out.
  `CREATE TABLE IF NOT EXISTS token_pool_revocations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    github_user_id TEXT NOT NULL,
    token TEXT NOT NULL,                  -- sealed
    kind TEXT NOT NULL,                   -- 'token' or 'grant', which is all tokens of that user and this app
    due_at INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0
  )`,

  // Calls ever drawn, as of the first claim in each hour (epoch ms / 3,600,000) that had one.
  `CREATE TABLE IF NOT EXISTS token_pool_hours (hour INTEGER PRIMARY KEY, calls INTEGER NOT NULL)`,

  // What happened so often, for /metrics; counted from this table's first day, and never down. Each is counted in the
  // transaction of what it counts, so neither a crash nor a repetition makes them differ. Names:
  //   donations.new, donations.updated     a donation was stored; updated = its donor had one already
  //   removed.withdrawn                    its donor took it back
  //   removed.revoked                      GitHub does not know the token any more
  //   removed.account_suspended            GitHub has suspended the donor's account
  //   removed.has_scopes                   the token could do more than read what is public
  //   removed.refresh_refused              the token expired, and GitHub gave no new one
  //   removed.by_operator                  the operator removed it; because.<text> = why, in the operator's words
  //   removed.revoke_all                   the operator revoked every token there was
  //   decrypt_failures                     a token did not open; by itself, at most once per process, row and text
  // So the donations there are = donations.new less all of removed, in a pool that began with this table.
  `CREATE TABLE IF NOT EXISTS token_pool_counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)`,

  // Calls ever drawn from each donation that had any, as of the first claim of each day (epoch ms / 86,400,000, so in
  // UTC) that had one: what a donor is shown. token_id 0 is nobody's: it tells that the day was opened. Since version 2.
  `CREATE TABLE IF NOT EXISTS token_pool_days (
    token_id INTEGER NOT NULL,
    day INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (token_id, day)
  ) WITHOUT ROWID`,

  // Donations that their donors have paused. A table of its own, because a column cannot be added twice without an
  // error, and processes may upgrade at once. While a row is here, each ready_at of the donation lies for ever ahead,
  // so a claim need not know of it; whatever moves rows must. Since version 2.
  `CREATE TABLE IF NOT EXISTS token_pool_pauses (token_id INTEGER PRIMARY KEY, paused_at INTEGER NOT NULL)`,

  // When upkeep itself has used a donation's token, to ask GitHub what is left. The two times differ while GitHub does
  // not answer: what was asked in vain has not kept a token from expiring for want of use. A table of its own, for the
  // same reason. Since version 3.
  `CREATE TABLE IF NOT EXISTS token_pool_probes (
    token_id INTEGER PRIMARY KEY,
    asked_at INTEGER NOT NULL,
    used_at INTEGER                       -- when GitHub last answered; null = not yet
  )`,

  // What was left of a window when GitHub was last heard of it: by a report, or because upkeep asked. What its donor has
  // used since is not known, so upkeep asks as it is used up without a report. Since version 4.
  `CREATE TABLE IF NOT EXISTS token_pool_readings (
    token_id INTEGER NOT NULL,
    resource TEXT NOT NULL,
    reset_at INTEGER NOT NULL,            -- epoch SECONDS: which window
    remaining INTEGER NOT NULL,           -- calls left in it for the pool to count from, the reserve among them
    aside INTEGER NOT NULL,               -- calls more that GitHub said were left
    PRIMARY KEY (token_id, resource)
  ) WITHOUT ROWID`,

  // The pool as upkeep found it, once in an hour (epoch ms / 3,600,000) at most; of `core`, and nobody's by itself.
  // What stands in the other tables is only ever the present. Since version 3.
  `CREATE TABLE IF NOT EXISTS token_pool_snapshots (
    hour INTEGER PRIMARY KEY,
    donations INTEGER NOT NULL,
    healthy INTEGER NOT NULL,             -- of these, how many could be drawn from
    usable INTEGER NOT NULL,              -- calls that could be claimed
    lendable INTEGER NOT NULL             -- calls of a window that are lent: all limits less what stays the donors'
  )`,

  // Who has withdrawn, so that no backup brings them back. Nobody without the key can tell who that is. A donor who
  // comes back has a newer donation, and stays here for the sake of older backups. Since version 3.
  `CREATE TABLE IF NOT EXISTS token_pool_tombstones (
    donor_hash TEXT PRIMARY KEY,          -- of the GitHub user id, see Vault.tombstones() in lib/vault.ts
    kid TEXT NOT NULL,                    -- of the key that it was hashed with
    withdrawn_at INTEGER NOT NULL
  ) WITHOUT ROWID`,

  `INSERT OR IGNORE INTO token_pool_meta (key, value) VALUES ('retired_calls', 0)`,
  `INSERT INTO token_pool_meta (key, value) VALUES ('schema_version', ${SCHEMA_VERSION})
    ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)`,
];

const LOOK = `SELECT json_object('version', (SELECT value FROM token_pool_meta WHERE key = 'schema_version'),
  'canaries', json((SELECT json_group_array(json_array(kid, sealed)) FROM token_pool_canaries)))`;

/** 5 suspects within a minute are an incident; then a 404 must come twice, 10 minutes apart. */
export const INCIDENT_TOKENS = 5;
export const INCIDENT_WITHIN_MS = 60_000;
const SECOND_NOT_FOUND_AFTER_MS = 600_000;

/** A token is refreshed so long before it expires: upkeep by the quarter of an hour has four tries. */
const REFRESH_AHEAD_MS = 3_600_000;

/** GitHub revokes a token that nobody used for a year; one is used so long before, to leave room for failed attempts. */
const IDLE_AFTER_MS = 300 * DAY_MS;
const IDLE_RETRY_MS = DAY_MS;

/**
 * GitHub is asked about a provisional window of an hour once it has been open for a minute, by which time whoever
 * reports at all has done so, and not about one that ends within a minute anyway. Shorter windows never are.
 */
const UNREPORTED_AFTER_MS = 60_000;
const UNREPORTED_RETRY_MS = 900_000;

/**
 * It is asked again whenever a quarter of what was left for the pool is gone without a report, which is about 13 times in
 * an hour that is used up, and in its last minutes each minute. Where less is drawn, and it was asked before, it is as
 * often as of what is unreported: the donor may well need more than the pool.
 */
const READ_AGAIN_AFTER_MS = 60_000;
const READ_AGAIN_SHARE = 1 / 4;

/** Donors and visitors are shown 30 days; what is older than this is forgotten. */
const DAYS_KEPT = 31;

/** Upkeep every quarter of an hour does what is due long before this. */
const OVERDUE_MS = 3_600_000;

/** Whoever has taken a revocation has asked GitHub, and been answered or not, by so long after. */
const REVOCATION_TAKES_MS = 60_000;

/** When a revocation that was tried so often before is tried again: after a minute, twice that, up to a day. */
const revocationDelay = (tries: string) => `min(${DAY_MS}, ${REVOCATION_TAKES_MS} * (1 << min(${tries}, 11)))`;

/** A donation with all that is sealed of it, of columns of `token_pool_tokens`. */
const STORED = `json_array(id, github_user_id, github_username, token, refresh_token, expires_at, suspect_at)`;

const DATABASE_CLOCK = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

const floorOf = (reserve: string, cap: string) => `CAST(ceil(round(${reserve} * ${cap}, 6)) AS INTEGER)`;

/** Where a row belongs in the queue, of columns of `token_pool_limits`, when something else than a claim moves it. */
const readyAt = (now: string, suspect: string) =>
  `iif(${suspect} OR cap <= floor, ${NEVER},
    max(held_until, iif(iif(window_ends <= ${now}, cap, remaining) > floor, min(ready_at, ${now}), window_ends)))`;

const CALLS_EVER = `(SELECT coalesce(sum(calls), 0) FROM token_pool_limits)
  + (SELECT value FROM token_pool_meta WHERE key = 'retired_calls')`;

/** Counts the rows that a SELECT finds, each by the name in its only column. */
const count = (rows: string) =>
  `INSERT INTO token_pool_counters (name, value) SELECT *, 1 FROM (${rows}) WHERE true
    ON CONFLICT (name) DO UPDATE SET value = value + 1`;

/** Whether a donation is paused, of its id. */
const isPaused = (id: string) => `EXISTS (SELECT 1 FROM token_pool_pauses p WHERE p.token_id = ${id})`;

/** Whether a column is what `:token` says, if it says anything: a donor may have given another token meanwhile. */
const isStill = (column: string) => `(:token IS NULL OR ${column} = :token)`;

/** Whether a donation may not serve at all for now, of columns of `token_pool_tokens`. */
const IS_BARRED = `(suspect_at IS NOT NULL OR ${isPaused("token_pool_tokens.id")})`;

/** Deletes donations with all that belongs to them, but for the number of calls they gave, and counts why. */
function removal(where: string, reason: string): string[] {
  const gone = `(SELECT id FROM token_pool_tokens WHERE ${where})`;
  return [
    count(`SELECT 'removed.${reason}' FROM token_pool_tokens WHERE ${where}`),
    `UPDATE token_pool_meta SET value = value
      + (SELECT coalesce(sum(calls), 0) FROM token_pool_limits WHERE token_id IN ${gone}) WHERE key = 'retired_calls'`,
    `DELETE FROM token_pool_limits WHERE token_id IN ${gone}`,
    `DELETE FROM token_pool_days WHERE token_id IN ${gone}`,
    `DELETE FROM token_pool_pauses WHERE token_id IN ${gone}`,
    `DELETE FROM token_pool_probes WHERE token_id IN ${gone}`,
    `DELETE FROM token_pool_readings WHERE token_id IN ${gone}`,
    `DELETE FROM token_pool_tokens WHERE ${where} RETURNING id`,
  ];
}

/** Of a sealed text: the id of its key. What is not of that form is not shown, for it is not sealed. */
const kidOf = (sealed: string) => `iif(${sealed} GLOB 'v1.????????.*', substr(${sealed}, 4, 8), 'none')`;

/** Whether something of a donation is sealed under another key than `:prefix` says. */
const UNDER_OTHER_KEYS = "(substr(token, 1, 12) <> :prefix OR substr(refresh_token, 1, 12) <> :prefix)";

/** Donations of a backup, as JSON in `:rows`; `hashes` = the donor's, by each key at hand. */
const INCOMING = `(SELECT key AS position, value ->> 'github_user_id' AS github_user_id,
    value ->> 'github_username' AS github_username, value ->> 'token' AS token,
    value ->> 'refresh_token' AS refresh_token, value ->> 'expires_at' AS expires_at, value ->> 'reserve' AS reserve,
    value ->> 'donated_at' AS donated_at, value ->> 'paused_at' AS paused_at, value ->> 'held_until' AS held_until,
    value -> 'hashes' AS hashes
  FROM json_each(:rows))`;

/** Whether a donor has withdrawn since a donation of {@linkcode INCOMING}. */
const IS_WITHDRAWN = `EXISTS (SELECT 1 FROM token_pool_tombstones WHERE withdrawn_at >= donated_at
    AND donor_hash IN (SELECT value FROM json_each(hashes)))`;

/** The donations that this transaction has restored: {@linkcode statementsFor}'s `restore` marks them, for no longer. */
const RESTORED = `token_pool_tokens t JOIN ${INCOMING} new ON t.github_user_id = new.github_user_id AND t.checks = -1`;

/** Revocations of a backup, as JSON in `:rows`. */
const INCOMING_REVOCATIONS = `(SELECT value ->> 'github_user_id' AS github_user_id, value ->> 'token' AS token,
    value ->> 'kind' AS kind FROM json_each(:rows))`;

/** The statements, by what they do. `now` is the database's clock, or `:now` when a clock was given. */
function statementsFor(now: string) {
  const due = `id IN (SELECT id FROM token_pool_tokens WHERE suspect_at IS NOT NULL AND refresh_token IS NULL
    AND check_at <= ${now} ORDER BY check_at LIMIT :count)`;
  const isDueRefresh = `refresh_token IS NOT NULL AND refresh_after <= ${now}
    AND (suspect_at IS NOT NULL OR expires_at <= ${now} + ${REFRESH_AHEAD_MS})`;
  /** Days since 1970, in UTC. */
  const today = `CAST(${now} / ${DAY_MS} AS INTEGER)`;
  /** Hours since 1970. */
  const hour = `CAST(${now} / ${HOUR_MS} AS INTEGER)`;
  /** Whether a row's window is GitHub's, not a provisional one. */
  const isGitHubs = (l = "token_pool_limits") => `${l}.window_ends IS (${l}.reset_at + 1) * 1000`;
  /** Whether there is time left for GitHub's answer to matter, of when a window ends. */
  const isLong = (ends = "l.window_ends") => `${ends} > ${now} + ${assumedWindow("search").windowMs + RESET_SLACK_MS}`;
  const longWindowMs = assumedWindow(DEFAULT_RESOURCE).windowMs + RESET_SLACK_MS;
  /** Whether calls were charged to a window that nobody has reported on, of a row `l`. */
  const isUnreported = `l.remaining < l.cap AND NOT ${isGitHubs("l")} AND ${isLong()}
    AND l.window_ends <= ${now} + ${longWindowMs - UNREPORTED_AFTER_MS}`;
  /** Whether a reading `r` is of the open window of a row `l`, the last one that was reported on. */
  const isOfWindow = `${isGitHubs("l")} AND l.window_ends > ${now} AND abs(l.reset_at - r.reset_at) <= 5`;
  /** Donations whose windows are to be read again. CROSS, or SQLite goes through all limits instead of the readings. */
  const toReadAgain = `SELECT l.token_id
    FROM token_pool_readings r CROSS JOIN token_pool_limits l USING (token_id, resource)
      LEFT JOIN token_pool_probes p USING (token_id)
    WHERE ${isOfWindow} AND ${isLong()} AND l.remaining > l.floor AND r.remaining > l.remaining
      AND iif(r.remaining - l.remaining >= (r.remaining - l.floor) * ${READ_AGAIN_SHARE},
        coalesce(p.asked_at, 0) <= ${now} - ${READ_AGAIN_AFTER_MS},
        p.asked_at BETWEEN l.window_ends - ${longWindowMs} AND ${now} - ${UNREPORTED_RETRY_MS})
      AND NOT ${isPaused("l.token_id")}`;
  /** What remains at this moment: all of it, if the window has ended. */
  const full = `iif(window_ends <= ${now}, cap, remaining)`;
  /** The least recently used row that may be used. */
  const head = (condition: string) =>
    `rowid = (SELECT rowid FROM token_pool_limits WHERE resource = :resource AND ready_at <= ${now} ${condition}
      ORDER BY ready_at, turn LIMIT 1)`;
  const charge = (calls: string, whose: string) =>
    `UPDATE token_pool_limits SET
      granted = ${calls},
      remaining = ${full} - ${calls},
      window_ends = iif(window_ends <= ${now}, ${now} + :window, window_ends),
      ready_at = iif(${full} - ${calls} > floor, ${now}, iif(window_ends <= ${now}, ${now} + :window, window_ends)),
      turn = (SELECT coalesce(max(turn), 0) + 1 FROM token_pool_limits WHERE resource = :resource AND ready_at = ${now}),
      calls = calls + ${calls}
    WHERE ${whose}
    RETURNING (SELECT json_array(id, github_user_id, github_username, token, strikes, cap, remaining, reset_at,
      window_ends, granted, floor) FROM token_pool_tokens WHERE id = token_id)`;
  // What is held of an hour's last calls, a donor may use meanwhile. Windows of a minute, and resources that hardly
  // anybody uses, are too small for such care.
  const isLarge = "cap >= 1000";
  // A lease takes up to as many calls as are wanted, so it never has to pass by tokens that have fewer. Of the last ones
  // it takes only a part, for many processes do.
  const upTo = `min(:most, iif(${isLarge}, max(1, (${full} - floor) / 16), ${full} - floor))`;
  // Of the last ones nothing comes back that was held for longer than a lease lasts.
  const returned = `iif(:late AND ${isLarge} AND remaining - floor <= ${FEW_CALLS}, 0, :unused)`;
  // A wait that doubles with each strike; while the user is benched already, a refusal is no new strike.
  const backoff = `coalesce(:seconds, min(:most, :base * (1 << min(20, max(0, strikes - 1))))) * 1000`;

  // Of two limits within a window the one counts that the smaller remaining is of, or the order of reports would decide.
  const merge = (remaining: string) =>
    `INSERT INTO token_pool_limits
        (token_id, resource, cap, remaining, floor, reset_at, window_ends, held_until, ready_at)
      SELECT id, :resource, cap, remaining, floor, reset_at, (reset_at + 1) * 1000, held_until,
        iif(barred OR cap <= floor, ${NEVER},
          max(held_until, iif(remaining > floor, min(ready_at, ${now}), (reset_at + 1) * 1000)))
      FROM (SELECT *, ${floorOf("reserve", "cap")} AS floor FROM (SELECT t.id, t.reserve,
          t.suspect_at IS NOT NULL OR ${isPaused("t.id")} AS barred,
          coalesce(l.held_until, t.held_until) AS held_until, coalesce(l.ready_at, ${now}) AS ready_at,
          CAST(max(:reset, coalesce(l.reset_at, 0)) AS INTEGER) AS reset_at,
          iif(l.real AND l.window_ends > ${now} AND :reset - l.reset_at <= 5
            AND (l.remaining + :free, -l.cap) < (${remaining}, -:limit), l.cap, CAST(:limit AS INTEGER)) AS cap,
          CASE
            WHEN l.token_id IS NULL OR l.window_ends <= ${now} THEN ${remaining}
            WHEN NOT l.real THEN max(0, min(${remaining}, :limit - (l.cap - l.remaining) + :free))
            WHEN :reset - l.reset_at > 5 THEN ${remaining}
            ELSE min(${remaining}, l.remaining + :free)
          END AS remaining
        FROM token_pool_tokens t LEFT JOIN (
          SELECT *, ${isGitHubs()} AS real FROM token_pool_limits
          WHERE token_id = :id AND resource = :resource
        ) l ON true
        WHERE t.id = :id AND (:reset + 1) * 1000 > ${now}
          AND (l.reset_at IS NULL OR iif(l.real, :reset - l.reset_at >= -5, :reset - l.reset_at > 5))))
      WHERE true
      ON CONFLICT (token_id, resource) DO UPDATE SET cap = excluded.cap, remaining = excluded.remaining,
        floor = excluded.floor, reset_at = excluded.reset_at, window_ends = excluded.window_ends,
        ready_at = excluded.ready_at`;
  /** The reading that is being taken in, if it is of a window that upkeep reads. */
  const thisReading = "token_id = :id AND resource = :resource AND reset_at = :reset";

  return {
    // Whoever may be used has at least one call to give, so only a larger cost has to look.
    claimOne: charge(":cost", head("")),
    claimMany: charge(":cost", head(`AND ${full} - :cost >= floor`)),
    lease: charge(upTo, head("")),
    leaseOf: charge(upTo, `token_id = :id AND resource = :resource AND ready_at <= ${now}`),
    // Only within the window that they were claimed in, and never above what GitHub has said remains of it.
    giveBack: `UPDATE token_pool_limits SET
        remaining = max(remaining, min(cap, coalesce(:ceiling, cap), remaining + ${returned})),
        calls = max(0, calls - :unused),
        ready_at = iif(ready_at = max(held_until, window_ends)
          AND min(cap, coalesce(:ceiling, cap), remaining + ${returned}) > floor, max(held_until, ${now}), ready_at)
      WHERE token_id = :id AND resource = :resource AND window_ends > ${now} AND (window_ends = :ends
        OR (window_ends = (reset_at + 1) * 1000 AND abs(reset_at - :reset) <= 5))`,

    // Not when GitHub has named another window: then the call was not charged to the one that is open.
    refund: `UPDATE token_pool_limits SET
        remaining = min(cap, remaining + 1),
        ready_at = iif(ready_at = max(held_until, window_ends) AND min(cap, remaining + 1) > floor,
          max(held_until, ${now}), ready_at)
      WHERE token_id = :id AND resource = :resource AND window_ends > ${now}
        AND (window_ends IS NOT (reset_at + 1) * 1000 OR abs(reset_at - :reset) <= 5)`,

    openHour: `INSERT OR IGNORE INTO token_pool_hours (hour, calls)
      SELECT ${hour}, ${CALLS_EVER}`,

    // All donations at once, so that a donation without a row is known to have had no calls by then.
    openDay: `INSERT OR IGNORE INTO token_pool_days (token_id, day, calls)
      SELECT * FROM (SELECT 0, ${today}, 0
        UNION ALL SELECT token_id, ${today}, sum(calls) FROM token_pool_limits GROUP BY token_id HAVING sum(calls) > 0)
      WHERE NOT EXISTS (SELECT 1 FROM token_pool_days WHERE token_id = 0 AND day = ${today})`,
    forgetDays: `DELETE FROM token_pool_days WHERE day < ${today} - ${DAYS_KEPT}
      AND EXISTS (SELECT 1 FROM token_pool_days WHERE token_id = 0 AND day < ${today} - ${DAYS_KEPT})`,

    // In one statement, so that whoever comes at the same time finds it done.
    takeSnapshot: `INSERT INTO token_pool_snapshots (hour, donations, healthy, usable, lendable)
      SELECT * FROM (SELECT ${hour}, count(*), coalesce(sum(ready_at <= ${now}), 0),
          coalesce(sum(iif(ready_at <= ${now}, max(0, ${full} - floor), 0)), 0),
          coalesce(sum(iif(${isPaused("t.id")}, 0, max(0, cap - floor))), 0)
        FROM token_pool_tokens t JOIN token_pool_limits l ON l.token_id = t.id AND l.resource = '${DEFAULT_RESOURCE}')
      WHERE NOT EXISTS (SELECT 1 FROM token_pool_snapshots WHERE hour = ${hour}) RETURNING hour`,
    forgetSnapshots: `DELETE FROM token_pool_snapshots WHERE hour < ${hour} - ${DAYS_KEPT * 24}`,

    registerResource: `INSERT OR IGNORE INTO token_pool_resources (resource, cap) VALUES (:resource, :assumed)`,
    seedResource:
      `INSERT OR IGNORE INTO token_pool_limits (token_id, resource, cap, remaining, floor, held_until, ready_at, turn)
      SELECT id, :resource, :assumed, :assumed, floor, held, iif(barred OR :assumed <= floor, ${NEVER}, held), id
      FROM (SELECT id, iif(held_until > ${now}, held_until, 0) AS held, ${floorOf("reserve", ":assumed")} AS floor,
        ${IS_BARRED} AS barred FROM token_pool_tokens)`,

    merge: merge(":remaining"),
    // Of what upkeep has set aside, a report may show that its donor has used some.
    noteReport: `INSERT INTO token_pool_readings (token_id, resource, reset_at, remaining, aside)
      SELECT token_id, resource, reset_at, remaining, 0 FROM token_pool_limits l
      WHERE token_id = :id AND resource = :resource AND ${isGitHubs("l")} AND ${isLong()}
        AND abs(reset_at - :reset) <= 5
      ON CONFLICT (token_id, resource) DO UPDATE SET reset_at = excluded.reset_at, remaining = excluded.remaining,
        aside = iif(excluded.reset_at - reset_at <= 5, max(0, min(aside, :remaining - excluded.remaining)), 0)`,
    forgiveStrikes: `UPDATE token_pool_tokens SET strikes = 0
      WHERE id = :id AND strikes > 0 AND held_until <= ${now}
        AND NOT EXISTS (SELECT 1 FROM token_pool_limits WHERE token_id = :id AND held_until > ${now})`,
    strikeUser: `UPDATE token_pool_tokens SET strikes = strikes + 1
      WHERE id = :id AND :seconds IS NULL AND (strikes = 0 OR held_until <= ${now})`,
    holdUser: `UPDATE token_pool_tokens SET held_until = max(held_until, ${now} + ${backoff}) WHERE id = :id`,
    holdLimitsOfUser: `UPDATE token_pool_limits SET
        held_until = max(held_until, (SELECT held_until FROM token_pool_tokens WHERE id = :id)),
        ready_at = max(ready_at, (SELECT held_until FROM token_pool_tokens WHERE id = :id))
      WHERE token_id = :id`,
    strikeResource: `UPDATE token_pool_tokens SET strikes = strikes + 1
      WHERE id = :id AND :seconds IS NULL AND (strikes = 0 OR NOT EXISTS (SELECT 1 FROM token_pool_limits
        WHERE token_id = :id AND resource = :resource AND held_until > ${now}))`,
    holdResource: `UPDATE token_pool_limits SET held_until = max(held_until, until), ready_at = max(ready_at, until)
      FROM (SELECT ${now} + ${backoff} AS until FROM token_pool_tokens WHERE id = :id)
      WHERE token_id = :id AND resource = :resource`,
    // Who comes back at the reset anyway is exhausted, not benched.
    holdBriefly: `UPDATE token_pool_limits SET
        held_until = max(held_until, ${now} + ${RESET_SLACK_MS}), ready_at = ${now} + ${RESET_SLACK_MS}
      WHERE token_id = :id AND resource = :resource AND ready_at < ${now} + ${RESET_SLACK_MS}`,

    noteSuspicion: `INSERT INTO token_pool_suspicions (at, token_id)
      SELECT ${now}, id FROM token_pool_tokens WHERE id = :id AND suspect_at IS NULL AND ${isStill("token")}`,
    suspect: `UPDATE token_pool_tokens SET suspect_at = ${now}, check_at = ${now}, checks = 0, not_found_at = NULL
      WHERE id = :id AND suspect_at IS NULL AND ${isStill("token")}`,
    bar: `UPDATE token_pool_limits SET ready_at = ${NEVER} WHERE token_id = :id
      AND EXISTS (SELECT 1 FROM token_pool_tokens WHERE id = :id AND suspect_at IS NOT NULL)`,
    // Until the last of them is cleared up it is the same incident; but for one that no key opens, which never is.
    brake: `UPDATE token_pool_tokens SET braked = 1 WHERE suspect_at >= ${now} - ${INCIDENT_WITHIN_MS}
      AND ((SELECT count(DISTINCT token_id) FROM token_pool_suspicions WHERE at >= ${now} - ${INCIDENT_WITHIN_MS})
        >= ${INCIDENT_TOKENS}
        OR EXISTS (SELECT 1 FROM token_pool_tokens WHERE braked = 1 AND suspect_at >= ${now} - ${HOUR_MS}))`,
    forgetSuspicions: `DELETE FROM token_pool_suspicions WHERE at < ${now} - 3600000`,
    // Taking a suspect puts off the next question, so that two processes do not ask twice and a crash loses nothing.
    // During an incident all are out, so how soon it is noticed to be over counts for more than how often is asked.
    takeSuspects: `UPDATE token_pool_tokens SET checks = checks + 1,
        check_at = ${now} + CASE WHEN braked = 1 OR checks = 0 THEN 60000 WHEN checks = 1 THEN 300000 ELSE 900000 END
      WHERE ${due} RETURNING json_array(id, github_user_id, token)`,
    acquit: `UPDATE token_pool_tokens SET suspect_at = NULL, check_at = NULL, not_found_at = NULL, braked = 0
      WHERE id = :id AND token = :token`,
    requeue: `UPDATE token_pool_limits SET ready_at = ${readyAt(now, "false")}
      WHERE token_id = (SELECT id FROM token_pool_tokens WHERE id = :id AND NOT ${IS_BARRED})`,
    postponeNotFound: `UPDATE token_pool_tokens SET not_found_at = coalesce(not_found_at, ${now}),
        check_at = coalesce(not_found_at, ${now}) + ${SECOND_NOT_FOUND_AFTER_MS} WHERE id = :id AND token = :token`,
    removeNotFound: removal(
      `id = :id AND token = :token AND suspect_at IS NOT NULL
      AND (braked = 0 AND :once OR not_found_at <= ${now} - ${SECOND_NOT_FOUND_AFTER_MS})`,
      "revoked",
    ),

    // Taking it puts off the next question, as above. Who is a suspect is asked about by other means, and who is benched
    // is left in peace.
    takeProbes: `INSERT INTO token_pool_probes (token_id, asked_at)
      SELECT t.id, ${now} FROM token_pool_tokens t LEFT JOIN token_pool_probes p ON p.token_id = t.id
      WHERE suspect_at IS NULL AND held_until <= ${now} AND (t.id IN (${toReadAgain}) OR
        (EXISTS (SELECT 1 FROM token_pool_limits l
          WHERE l.token_id = t.id AND ${isUnreported}
            AND coalesce(asked_at, 0) <= max(${now} - ${UNREPORTED_RETRY_MS}, l.window_ends - ${longWindowMs}))
          AND NOT ${isPaused("t.id")})
        OR (max(donated_at, coalesce(used_at, 0)) <= ${now} - ${IDLE_AFTER_MS} AND refresh_token IS NULL
          AND coalesce(asked_at, 0) <= ${now} - ${IDLE_RETRY_MS}
          AND NOT EXISTS (SELECT 1 FROM token_pool_limits WHERE token_id = t.id
            AND window_ends > ${now} - ${IDLE_AFTER_MS})))
      ORDER BY coalesce(asked_at, 0), t.id LIMIT :count
      ON CONFLICT (token_id) DO UPDATE SET asked_at = excluded.asked_at
      RETURNING (SELECT json_array(id, github_user_id, token, (SELECT json_group_array(json_array(resource,
          CASE WHEN window_ends <= ${now} THEN 'none' WHEN ${isGitHubs()} THEN 'github' ELSE 'provisional' END))
          FROM token_pool_limits WHERE token_id = t.id))
        FROM token_pool_tokens t WHERE id = token_pool_probes.token_id)`,
    // A donor who used so many calls since the last reading may use as many until the next, and more if they come in
    // bursts. That counts only where the pool could get to the reserve before then. A window that an older library's
    // report has opened is not read.
    setAside: `INSERT INTO token_pool_readings (token_id, resource, reset_at, remaining, aside)
      SELECT token_id, resource, :reset, iif(:reset - last_reset <= 5, min(:remaining, last), :remaining),
        iif(:remaining - floor < 2 * (drawn + own), 2 * own + 3, 0)
      FROM (SELECT l.*, r.reset_at AS last_reset, r.remaining + r.aside AS last, r.remaining - l.remaining AS drawn,
          max(0, l.remaining + r.aside - :remaining) AS own
        FROM token_pool_limits l LEFT JOIN token_pool_readings r ON r.token_id = l.token_id
          AND r.resource = l.resource AND ${isOfWindow}
        WHERE l.token_id = :id AND l.resource = :resource AND ${isLong("(:reset + 1) * 1000")}
          AND iif(r.token_id IS NULL, l.window_ends <= ${now} OR NOT ${isGitHubs("l")}, :reset - r.reset_at >= -5))
      WHERE true
      ON CONFLICT (token_id, resource) DO UPDATE SET reset_at = excluded.reset_at, remaining = excluded.remaining,
        aside = excluded.aside`,
    mergeReading: merge(
      `max(0, :remaining - coalesce((SELECT aside FROM token_pool_readings WHERE ${thisReading}), 0))`,
    ),
    // From the least that was read of the window: of two answers the earlier may come last. An older library removes
    // donations and leaves their readings.
    countFromReading: `UPDATE token_pool_readings SET remaining = l.remaining,
        aside = token_pool_readings.remaining - l.remaining
      FROM (SELECT remaining FROM token_pool_limits WHERE token_id = :id AND resource = :resource) l
      WHERE ${thisReading}`,
    noteUse: `UPDATE token_pool_probes SET used_at = ${now} WHERE token_id = :id`,
    // An older library removes donations without it.
    forgetProbes: `DELETE FROM token_pool_probes
      WHERE NOT EXISTS (SELECT 1 FROM token_pool_tokens WHERE id = token_id)`,
    forgetReadings: `DELETE FROM token_pool_readings WHERE (reset_at + 1) * 1000 <= ${now}
      OR NOT EXISTS (SELECT 1 FROM token_pool_tokens WHERE id = token_id)`,

    // Taking it locks it for a minute: a refresh token works once, so two processes must not use the same. What was tried
    // in vain comes after all others, lest it keep them from their turn.
    takeExpiring: `UPDATE token_pool_tokens SET refresh_after = ${now} + 60000
      WHERE id IN (SELECT id FROM token_pool_tokens WHERE ${isDueRefresh}
        ORDER BY refresh_after, expires_at LIMIT :count)
      RETURNING json_array(id, github_user_id, token, refresh_token)`,
    // The new one's text is like no other, so where that is there already this is repeated.
    replaceToken:
      `UPDATE token_pool_tokens SET token = :token, refresh_token = :refresh_token, expires_at = :expires_at,
        refresh_after = 0, suspect_at = NULL, check_at = NULL, not_found_at = NULL, braked = 0
      WHERE id = :id AND token IN (:old, :token) RETURNING id`,
    noteExpiry: `UPDATE token_pool_tokens SET expires_at = :expires_at
      WHERE id = :id AND (expires_at IS NULL OR abs(expires_at - :expires_at) > 60000)`,

    replaced: `SELECT json_quote(token) FROM token_pool_tokens WHERE github_user_id = :user`,
    // Before the donation itself. Its ciphertext is like no other, so one that is there already is this one, repeated.
    countDonation: count(`SELECT iif(EXISTS (SELECT 1 FROM token_pool_tokens WHERE github_user_id = :user),
        'donations.updated', 'donations.new')
      WHERE NOT EXISTS (SELECT 1 FROM token_pool_tokens WHERE github_user_id = :user AND token = :token)`),
    donate: `INSERT INTO token_pool_tokens
        (github_user_id, github_username, token, refresh_token, expires_at, reserve, donated_at)
      VALUES (:user, :username, :token, :refresh_token, :expires_at, :reserve, ${now})
      ON CONFLICT (github_user_id) DO UPDATE SET github_username = excluded.github_username, token = excluded.token,
        refresh_token = excluded.refresh_token, expires_at = excluded.expires_at, refresh_after = 0,
        reserve = excluded.reserve, donated_at = excluded.donated_at,
        suspect_at = NULL, check_at = NULL, checks = 0, not_found_at = NULL, braked = 0
      RETURNING id`,
    seedDonation: `INSERT OR IGNORE INTO token_pool_limits (token_id, resource, cap, remaining, floor, ready_at, turn)
      SELECT id, resource, cap, cap, floor, iif(cap <= floor, ${NEVER}, ${now}), (SELECT coalesce(max(turn), 0) + 1
        FROM token_pool_limits WHERE resource = new.resource AND ready_at = ${now})
      FROM (SELECT id, resource, cap, ${floorOf("reserve", "cap")} AS floor
        FROM token_pool_tokens, token_pool_resources WHERE github_user_id = :user) AS new`,
    refloor: `UPDATE token_pool_limits SET floor = ${floorOf(":reserve", "cap")}
      WHERE token_id = (SELECT id FROM token_pool_tokens WHERE github_user_id = :user)`,
    requeueDonation: `UPDATE token_pool_limits SET ready_at = ${readyAt(now, "false")}
      WHERE token_id = (SELECT id FROM token_pool_tokens WHERE github_user_id = :user)`,
    unpause: `DELETE FROM token_pool_pauses
      WHERE token_id = (SELECT id FROM token_pool_tokens WHERE github_user_id = :user)`,

    setReserve: `UPDATE token_pool_tokens SET reserve = :reserve WHERE github_user_id = :user RETURNING id`,
    requeueOfUser: `UPDATE token_pool_limits SET ready_at = ${readyAt(now, "false")}
      WHERE token_id = (SELECT id FROM token_pool_tokens WHERE github_user_id = :user AND NOT ${IS_BARRED})`,
    pause: `INSERT OR IGNORE INTO token_pool_pauses (token_id, paused_at)
      SELECT id, ${now} FROM token_pool_tokens WHERE github_user_id = :user`,
    barPaused: `UPDATE token_pool_limits SET ready_at = ${NEVER}
      WHERE token_id = (SELECT id FROM token_pool_tokens WHERE github_user_id = :user)`,
    // A library of version 1 knows of no pauses, and a late report of its puts a row back into the queue.
    barAllPaused: `UPDATE token_pool_limits SET ready_at = ${NEVER}
      WHERE token_id IN (SELECT token_id FROM token_pool_pauses) AND ready_at < ${NEVER}`,
    // At the end of each queue, also within the millisecond. Only what was paused moves, so it can be repeated.
    requeuePaused: `UPDATE token_pool_limits SET ready_at = ${readyAt(now, "false")},
        turn = (SELECT coalesce(max(turn), 0) + 1 FROM token_pool_limits q
          WHERE q.resource = token_pool_limits.resource AND q.ready_at = ${now})
      WHERE token_id = (SELECT id FROM token_pool_tokens
        WHERE github_user_id = :user AND suspect_at IS NULL AND ${isPaused("token_pool_tokens.id")})`,
    exists: `SELECT id FROM token_pool_tokens WHERE github_user_id = :user`,
    donation: `SELECT json_object('now', ${now}, 'reserve', reserve, 'donatedAt', donated_at,
        'suspended', json(iif(suspect_at IS NULL, 'false', 'true')), 'paused', json(iif(${
      isPaused("t.id")
    }, 'true', 'false')),
        'readyAt', ready_at, 'limit', cap, 'floor', floor,
        'calls', (SELECT sum(calls) FROM token_pool_limits WHERE token_id = t.id),
        'opened', json((SELECT json_group_array(day) FROM (SELECT day FROM token_pool_days WHERE token_id = 0 ORDER BY day))),
        'days', json((SELECT json_group_array(json_array(day, calls)) FROM token_pool_days WHERE token_id = t.id)))
      FROM token_pool_tokens t LEFT JOIN token_pool_limits l ON l.token_id = t.id AND l.resource = '${DEFAULT_RESOURCE}'
      WHERE github_user_id = :user`,
    // In the same transaction, so that no crash and no lost answer leaves the old token alive and unknown. The flow has
    // a minute to revoke it itself.
    queueReplaced: `INSERT INTO token_pool_revocations (github_user_id, token, kind, due_at)
      SELECT github_user_id, token, 'token', ${now} + ${REVOCATION_TAKES_MS} FROM token_pool_tokens
      WHERE github_user_id = :user AND token <> :token`,
    // A grant that is just being revoked takes the new token with it, and nobody can call it back: so for a minute from
    // when that was taken nothing is stored, and this fails with all that follows. Later it is asked no more.
    assertNoGrantEnds: `INSERT INTO token_pool_counters (name, value) SELECT 'grant_ends', NULL
      WHERE EXISTS (SELECT 1 FROM token_pool_revocations WHERE github_user_id = :user AND kind = 'grant'
        AND due_at > ${now} + ${revocationDelay("max(0, tries - 1)")} - ${REVOCATION_TAKES_MS})`,
    // A grant that is still to be revoked would do the same.
    spareGrant: `UPDATE token_pool_revocations SET kind = 'token' WHERE github_user_id = :user AND kind = 'grant'`,
    unqueue: `DELETE FROM token_pool_revocations WHERE github_user_id = :user AND token = :token`,
    // With the withdrawal, for the same reason as what was replaced; once, also when it is repeated.
    queueWithdrawn: `INSERT INTO token_pool_revocations (github_user_id, token, kind, due_at)
      SELECT :user, :token, 'grant', ${now} + ${REVOCATION_TAKES_MS}
      WHERE NOT EXISTS (SELECT 1 FROM token_pool_revocations WHERE token = :token)`,
    hasten: `UPDATE token_pool_revocations SET due_at = ${now}
      WHERE github_user_id = :user AND token = :token AND tries = 0`,
    withdraw: removal("github_user_id = :user", "withdrawn"),
    // Also of who has no donation: the database that had it may have been lost.
    bury: `INSERT INTO token_pool_tombstones (donor_hash, kid, withdrawn_at) VALUES (:hash, :kid, ${now})
      ON CONFLICT (donor_hash) DO UPDATE SET withdrawn_at = max(withdrawn_at, excluded.withdrawn_at)`,
    forgetWithdrawals: `DELETE FROM token_pool_tombstones WHERE withdrawn_at < ${now} - ${WITHDRAWALS_KEPT_MS}`,
    removeSuspended: removal(`id = :id AND ${isStill("token")}`, "account_suspended"),
    removeScoped: removal(`id = :id AND ${isStill("token")}`, "has_scopes"),
    removeRefused: removal(
      `id = :id AND token = :token AND (braked = 0 OR not_found_at <= ${now} - ${SECOND_NOT_FOUND_AFTER_MS})`,
      "refresh_refused",
    ),
    postponeRefused: `UPDATE token_pool_tokens SET not_found_at = coalesce(not_found_at, ${now}),
        refresh_after = coalesce(not_found_at, ${now}) + ${SECOND_NOT_FOUND_AFTER_MS} WHERE id = :id AND token = :token`,

    countDecryptFailure: count("SELECT 'decrypt_failures'"),

    // By text as well as by id: a donor who has given another token meanwhile is not meant.
    dismiss: [
      `INSERT INTO token_pool_tombstones (donor_hash, kid, withdrawn_at)
        SELECT :hash, :kid, ${now} FROM token_pool_tokens WHERE id = :id AND token = :token
        ON CONFLICT (donor_hash) DO UPDATE SET withdrawn_at = max(withdrawn_at, excluded.withdrawn_at)`,
      count("SELECT 'because.' || :reason FROM token_pool_tokens WHERE id = :id AND token = :token"),
      ...removal("id = :id AND token = :token", "by_operator"),
    ],
    removeRevoked: removal("token IN (SELECT value FROM json_each(:tokens))", "revoke_all"),
    endRevocations: `DELETE FROM token_pool_revocations WHERE token IN (SELECT value FROM json_each(:tokens))`,
    queueGrant: `INSERT INTO token_pool_revocations (github_user_id, token, kind, due_at)
      SELECT github_user_id, token, 'grant', ${now} FROM token_pool_tokens WHERE id = :id AND token = :token`,
    revocations: `SELECT json_array(id, github_user_id, token, kind) FROM token_pool_revocations
      WHERE id > :after ORDER BY id LIMIT :count`,
    donations: `SELECT ${STORED} FROM token_pool_tokens WHERE id > :after ORDER BY id LIMIT :count`,
    suspects: `SELECT ${STORED} FROM token_pool_tokens
      WHERE id > :after AND suspect_at IS NOT NULL ORDER BY id LIMIT :count`,
    find: `SELECT ${STORED} FROM token_pool_tokens
      WHERE '#' || id = :name OR github_user_id = :name OR lower(github_username) = lower(:name) ORDER BY id`,
    brakeSuspects: `UPDATE token_pool_tokens SET braked = 1 WHERE suspect_at IS NOT NULL`,
    verifiedUpTo: `SELECT value FROM token_pool_meta WHERE key = 'verified_id' AND EXISTS (
      SELECT 1 FROM token_pool_meta WHERE key = 'verified_at' AND value > ${now} - ${DAY_MS})`,
    keepVerified: `INSERT INTO token_pool_meta (key, value) VALUES ('verified_id', :id), ('verified_at', ${now})
      ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
    forgetVerified: `DELETE FROM token_pool_meta WHERE key IN ('verified_id', 'verified_at')`,
    figures: `SELECT json_object('now', ${now}, 'donations', (SELECT count(*) FROM token_pool_tokens),
      'revocations', (SELECT count(*) FROM token_pool_revocations),
      'stuck', (SELECT count(*) FROM token_pool_revocations WHERE tries >= 3 OR due_at <= ${now} - ${OVERDUE_MS}),
      'expiring', (SELECT count(*) FROM token_pool_tokens WHERE refresh_token IS NOT NULL),
      'expired', (SELECT count(*) FROM token_pool_tokens
        WHERE refresh_token IS NOT NULL AND expires_at <= ${now}),
      'overdue', (SELECT count(*) FROM token_pool_tokens
        WHERE refresh_token IS NOT NULL AND expires_at <= ${now} + ${REFRESH_AHEAD_MS / 2}
          OR suspect_at IS NOT NULL AND refresh_token IS NULL AND check_at <= ${now} - ${OVERDUE_MS}))`,

    condemn: `INSERT INTO token_pool_revocations (github_user_id, token, kind, due_at)
      SELECT github_user_id, token, 'grant', ${now} FROM token_pool_tokens
      WHERE id = :id AND ${isStill("token")}`,
    addRevocation: `INSERT INTO token_pool_revocations (github_user_id, token, kind, due_at)
      VALUES (:user, :token, :kind, ${now})`,
    takeRevocations: `UPDATE token_pool_revocations SET tries = tries + 1,
        due_at = ${now} + ${revocationDelay("tries")}
      WHERE id IN (SELECT id FROM token_pool_revocations WHERE due_at <= ${now} ORDER BY due_at LIMIT :count)
      RETURNING json_array(id, github_user_id, token, kind)`,
    endRevocation: `DELETE FROM token_pool_revocations WHERE id = :id`,

    availability: `SELECT json_array(count(*), coalesce(sum(iif(ready_at <= ${now}, max(0, remaining - floor), 0)), 0),
        min(iif(ready_at > ${now} AND ready_at < ${NEVER}, ready_at, NULL)))
      FROM (SELECT coalesce(floor, ${floorOf("reserve", ":assumed")}) AS floor,
          coalesce(iif(window_ends <= ${now}, cap, remaining), :assumed) AS remaining,
          coalesce(ready_at, iif(suspect_at IS NULL AND NOT ${isPaused("t.id")} AND :assumed > ${
      floorOf("reserve", ":assumed")
    }, t.held_until, ${NEVER})) AS ready_at
        FROM token_pool_tokens t LEFT JOIN token_pool_limits l ON l.token_id = t.id AND l.resource = :resource)`,

    stats: `SELECT json_object(
      'now', ${now},
      'incident', (SELECT count(*) FROM token_pool_tokens WHERE braked = 1),
      'due', (SELECT count(*) FROM token_pool_tokens
          WHERE suspect_at IS NOT NULL AND refresh_token IS NULL AND check_at <= ${now} OR ${isDueRefresh})
        + (SELECT count(*) FROM token_pool_revocations WHERE due_at <= ${now})
        + (SELECT count(*) FROM token_pool_tokens
          WHERE suspect_at IS NULL AND held_until <= ${now} AND id IN (${toReadAgain}))
        + (SELECT count(*) FROM token_pool_days WHERE token_id = 0 AND day < ${today} - ${DAYS_KEPT}),
      'calls', json_array(${CALLS_EVER}, ${CALLS_EVER} - (SELECT calls FROM token_pool_hours
        WHERE hour > ${hour} - 24 ORDER BY hour LIMIT 1)),
      'hours', json((SELECT json_group_array(json_array(hour, calls)) FROM (SELECT hour, calls FROM token_pool_hours
        WHERE hour > ${hour} - 24 ORDER BY hour))),
      'days', json((SELECT json_group_array(json_array(day, calls)) FROM (
        SELECT hour / 24 AS day, min(calls) AS calls FROM token_pool_hours
        WHERE hour >= (${today} - 29) * 24 GROUP BY day ORDER BY day))),
      'donations', json((SELECT json_group_array(json_array(day, donations)) FROM (
        SELECT hour / 24 AS day, donations, max(hour) FROM token_pool_snapshots
        WHERE hour >= (${today} - 29) * 24 GROUP BY day ORDER BY day))),
      'counters', json((SELECT json_group_object(name, value) FROM token_pool_counters)),
      'tokens', json((SELECT json_object('total', count(*), 'paused', coalesce(sum(paused), 0),
          'suspended', coalesce(sum(NOT paused AND suspended), 0),
          'cooling', coalesce(sum(NOT paused AND NOT suspended AND cooling), 0),
          'exhausted', coalesce(sum(NOT paused AND NOT suspended AND NOT cooling AND ready_at > ${now}), 0),
          'healthy', coalesce(sum(NOT paused AND ready_at <= ${now}), 0))
        FROM (SELECT ${
      isPaused("t.id")
    } AS paused, suspect_at IS NOT NULL AS suspended, max(t.held_until, coalesce(l.held_until, 0)) > ${now} AS cooling,
            coalesce(ready_at, iif(suspect_at IS NULL, t.held_until, ${NEVER})) AS ready_at
          FROM token_pool_tokens t
          LEFT JOIN token_pool_limits l ON l.token_id = t.id AND l.resource = '${DEFAULT_RESOURCE}'))),
      'resources', json((SELECT json_group_array(json_array(resource, cap, remaining, usable, shared, resets))
        FROM (SELECT r.resource, coalesce(sum(l.cap), 0) AS cap,
            coalesce(sum(iif(window_ends <= ${now}, l.cap, remaining)), 0) AS remaining,
            coalesce(sum(iif(ready_at <= ${now}, max(0, iif(window_ends <= ${now}, l.cap, remaining) - floor), 0)), 0) AS usable,
            coalesce(sum(max(0, l.cap - floor)), 0) AS shared, min(iif(window_ends > ${now}, window_ends, NULL)) AS resets
          FROM token_pool_resources r LEFT JOIN token_pool_limits l ON l.resource = r.resource
            AND NOT ${isPaused("l.token_id")}
          GROUP BY r.resource ORDER BY r.resource))))`,

    list: `SELECT json_object('id', t.id, 'login', github_username, 'donated_at', donated_at, 'reserve', reserve,
        'state', CASE WHEN ${isPaused("t.id")} THEN 'paused' WHEN suspect_at IS NOT NULL THEN 'suspended'
          WHEN max(t.held_until, l.held_until) > ${now} THEN 'cooling' WHEN ready_at > ${now} THEN 'exhausted'
          ELSE 'healthy' END,
        'limit', cap, 'remaining', iif(window_ends <= ${now}, cap, remaining), 'floor', floor,
        'calls', (SELECT sum(calls) FROM token_pool_limits WHERE token_id = t.id), 'kid', substr(token, 4, 8))
      FROM token_pool_tokens t JOIN token_pool_limits l ON l.token_id = t.id AND l.resource = '${DEFAULT_RESOURCE}'
      ORDER BY t.id`,
    // A token that is being refreshed is left alone: its process will ask for the text that it has taken.
    underOtherKeys: `SELECT json_array(id, github_user_id, token, refresh_token) FROM token_pool_tokens
      WHERE id > :after AND ${UNDER_OTHER_KEYS} AND refresh_after <= ${now} ORDER BY id LIMIT 100`,
    reseal: `UPDATE token_pool_tokens SET token = :token, refresh_token = :refresh_token
      WHERE id = :id AND token = :old AND refresh_token IS :old_refresh AND refresh_after <= ${now} RETURNING id`,
    revocationsUnderOtherKeys: `SELECT json_array(id, github_user_id, token) FROM token_pool_revocations
      WHERE id > :after AND substr(token, 1, 12) <> :prefix ORDER BY id LIMIT 100`,
    resealRevocation: `UPDATE token_pool_revocations SET token = :token WHERE id = :id AND token = :old RETURNING id`,
    countUnderOtherKeys: `SELECT (SELECT count(*) FROM token_pool_tokens WHERE ${UNDER_OTHER_KEYS})
      + (SELECT count(*) FROM token_pool_revocations WHERE substr(token, 1, 12) <> :prefix)`,
    keepCanary: `DELETE FROM token_pool_canaries WHERE kid <> :kid
      AND NOT EXISTS (SELECT 1 FROM token_pool_tokens WHERE ${UNDER_OTHER_KEYS})
      AND NOT EXISTS (SELECT 1 FROM token_pool_revocations WHERE substr(token, 1, 12) <> :prefix)`,
    keyUse:
      `SELECT json_object('kid', kid, 'donations', sum(kind = 'donation'), 'refresh_tokens', sum(kind = 'refresh'),
        'revocations', sum(kind = 'revocation'), 'canary', json(iif(sum(kind = 'canary') > 0, 'true', 'false')))
      FROM (SELECT ${kidOf("token")} AS kid, 'donation' AS kind FROM token_pool_tokens
        UNION ALL SELECT ${kidOf("refresh_token")}, 'refresh' FROM token_pool_tokens WHERE refresh_token IS NOT NULL
        UNION ALL SELECT ${kidOf("token")}, 'revocation' FROM token_pool_revocations
        UNION ALL SELECT kid, 'canary' FROM token_pool_canaries) GROUP BY kid ORDER BY kid`,
    // Fails, and all that follows with it, if the key has been dropped: nobody could open what is sealed under it.
    assertKeyInUse: `INSERT INTO token_pool_meta (key, value) SELECT 'key_in_use', NULL
      WHERE EXISTS (SELECT 1 FROM token_pool_canaries)
        AND NOT EXISTS (SELECT 1 FROM token_pool_canaries WHERE kid = substr(:token, 4, 8))`,

    backupHead:
      `SELECT json_array(${now}, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'token_pool_tokens'), 0))`,
    backupDonations: `SELECT json_array(id, json_object('github_user_id', github_user_id,
        'github_username', github_username, 'token', token, 'refresh_token', refresh_token, 'expires_at', expires_at,
        'reserve', reserve, 'donated_at', donated_at, 'paused_at', paused_at, 'held_until', held_until))
      FROM token_pool_tokens LEFT JOIN token_pool_pauses ON token_id = id WHERE id > :after ORDER BY id LIMIT :count`,
    backupRevocations:
      `SELECT json_array(id, json_object('github_user_id', github_user_id, 'token', token, 'kind', kind))
      FROM token_pool_revocations WHERE id > :after ORDER BY id LIMIT :count`,
    withdrawalsUnderOtherKeys: `SELECT count(*) FROM token_pool_tombstones
      WHERE withdrawn_at >= :since AND kid NOT IN (SELECT value FROM json_each(:kids))`,

    restoring: `SELECT json_array(outcome, count(*)) FROM (SELECT CASE WHEN ${IS_WITHDRAWN} THEN 'withdrawn'
          WHEN held IS NULL THEN 'added' WHEN held < donated_at THEN 'replaced' ELSE 'kept' END AS outcome
        FROM (SELECT *, (SELECT t.donated_at FROM token_pool_tokens t WHERE t.github_user_id = new.github_user_id) AS held
          FROM ${INCOMING} new)) GROUP BY outcome`,
    countRestored: count(`SELECT 'donations.new' FROM ${INCOMING} new WHERE NOT ${IS_WITHDRAWN} AND NOT EXISTS
      (SELECT 1 FROM token_pool_tokens t WHERE t.github_user_id = new.github_user_id)`),
    // As suspects that are due at once, so none is handed out before GitHub has said that it is alive. That is no
    // incident: nothing is noted among the suspicions. Ids go on after all that this or that pool has given.
    restore:
      `INSERT INTO token_pool_tokens (id, github_user_id, github_username, token, refresh_token, expires_at, reserve,
        donated_at, held_until, suspect_at, check_at, checks)
      SELECT position + 1 + max(:last_id, coalesce((SELECT max(id) FROM token_pool_tokens), 0),
          coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'token_pool_tokens'), 0)),
        github_user_id, github_username, token, refresh_token, expires_at, reserve, donated_at, held_until, ${now}, ${now}, -1
      FROM ${INCOMING} WHERE NOT ${IS_WITHDRAWN}
      ON CONFLICT (github_user_id) DO UPDATE SET github_username = excluded.github_username, token = excluded.token,
        refresh_token = excluded.refresh_token, expires_at = excluded.expires_at, refresh_after = 0,
        reserve = excluded.reserve, donated_at = excluded.donated_at,
        held_until = max(held_until, excluded.held_until), suspect_at = excluded.suspect_at,
        check_at = excluded.check_at, checks = -1, not_found_at = NULL, braked = 0
      WHERE token_pool_tokens.donated_at < excluded.donated_at`,
    seedRestored: `INSERT OR IGNORE INTO token_pool_limits
        (token_id, resource, cap, remaining, floor, held_until, ready_at, turn)
      SELECT t.id, resource, cap, cap, ${floorOf("t.reserve", "cap")}, t.held_until, ${NEVER}, t.id
      FROM ${RESTORED} JOIN token_pool_resources`,
    barRestored: `UPDATE token_pool_limits SET ready_at = ${NEVER},
        floor = (SELECT ${floorOf("reserve", "cap")} FROM token_pool_tokens WHERE id = token_id)
      WHERE token_id IN (SELECT t.id FROM ${RESTORED})`,
    unpauseRestored: `DELETE FROM token_pool_pauses WHERE token_id IN (SELECT t.id FROM ${RESTORED})`,
    pauseRestored: `INSERT OR REPLACE INTO token_pool_pauses (token_id, paused_at)
      SELECT t.id, new.paused_at FROM ${RESTORED} WHERE new.paused_at IS NOT NULL AND new.token = t.token`,
    unmarkRestored: `UPDATE token_pool_tokens SET checks = 0 WHERE id IN (SELECT t.id FROM ${RESTORED})`,

    restoringRevocations:
      `SELECT json_array(count(*), coalesce(sum(r.token IS NULL), 0)) FROM ${INCOMING_REVOCATIONS} new
      LEFT JOIN token_pool_revocations r ON r.token = new.token`,
    // Of who has a donation by now, the grant must stay: it is the donation's as well.
    restoreRevocations: `INSERT INTO token_pool_revocations (github_user_id, token, kind, due_at)
      SELECT github_user_id, token, iif(EXISTS (SELECT 1 FROM token_pool_tokens t
        WHERE t.github_user_id = new.github_user_id), 'token', kind), ${now}
      FROM ${INCOMING_REVOCATIONS} new WHERE NOT EXISTS (SELECT 1 FROM token_pool_revocations r WHERE r.token = new.token)`,
  };
}

/** The tables, by what they are asked. All methods throw {@linkcode PoolError} with code `database`. */
export class Store {
  readonly #connection: Connection;
  readonly #clock: (() => number) | undefined;
  readonly #sql: ReturnType<typeof statementsFor>;
  /** Resources that this process knows to be seeded: a shortcut only, since seeding twice changes nothing. */
  readonly #seeded = new Set<string>();
  /** The hour that this process has opened last, likewise. */
  #hour: number | null = null;

  /**
   * @param connection The database.
   * @param clock Epoch milliseconds, read when an attempt is sent; without it the database's own clock is used, which all
   * processes share.
   */
  constructor(connection: Connection, clock?: () => number) {
    this.#connection = connection;
    this.#clock = clock;
    this.#sql = statementsFor(clock === undefined ? DATABASE_CLOCK : ":now");
  }

  /** The version of the tables and the canaries, or null where there are no tables. Makes nothing. */
  async look(): Promise<{ version: number; canaries: [kid: string, sealed: string][] } | null> {
    try {
      return single(await this.#connection.execute({ sql: LOOK }, { repeatable: true }));
    } catch (error) {
      if (!isMissingTable(error)) throw error;
      return null;
    }
  }

  /** Makes the tables if they are not there, and returns the canaries: kid and sealed text. */
  async open(): Promise<[kid: string, sealed: string][]> {
    const found = await this.look();
    if (found !== null && found.version >= SCHEMA_VERSION) return found.canaries;
    if (found !== null) await this.#addGranted();
    const { calls } = assumedWindow(DEFAULT_RESOURCE);
    const register = { sql: this.#sql.registerResource, args: { resource: DEFAULT_RESOURCE, assumed: calls } };
    const statements = [...SCHEMA.map((sql) => ({ sql })), register, { sql: LOOK }];
    const results = await this.#connection.batch(statements, { repeatable: true, durable: true });
    return single<{ canaries: [string, string][] }>(results.at(-1)!)!.canaries;
  }

  /**
   * The first schema had no `granted`. Of a column nobody can say "if it does not exist", so of two processes that
   * upgrade at once one may be told that it is there by now. It is the only one; what comes later comes as a table.
   */
  async #addGranted(): Promise<void> {
    const [found] = await this.#connection.execute({
      sql: `SELECT count(*) FROM pragma_table_info('token_pool_limits') WHERE name = 'granted'`,
    }, { repeatable: true });
    if (Number(found![0]) > 0) return;
    try {
      await this.#connection.execute({
        sql: `ALTER TABLE token_pool_limits ADD COLUMN granted INTEGER NOT NULL DEFAULT 0`,
      });
    } catch (error) {
      if (!isThereAlready(error)) throw error;
    }
  }

  /** Adds a canary; with `onlyIfFirst` only where there is none yet. Returns all canaries. */
  async addCanary(kid: string, sealed: string, { onlyIfFirst }: { onlyIfFirst: boolean }): Promise<[string, string][]> {
    const where = onlyIfFirst ? "NOT EXISTS (SELECT 1 FROM token_pool_canaries)" : "true";
    const [, all] = await this.#connection.batch([
      {
        sql: `INSERT OR IGNORE INTO token_pool_canaries (kid, sealed) SELECT :kid, :sealed WHERE ${where}`,
        args: { kid, sealed },
      },
      { sql: `SELECT json_array(kid, sealed) FROM token_pool_canaries` },
    ]);
    return all!.map(json<[string, string]>);
  }

  /**
   * Keeps the canary of one key only, if nothing is sealed under another: who has no other is told so from then on.
   *
   * @returns How many rows have something that is sealed under another key; then nothing has changed.
   */
  async keepCanary(kid: string): Promise<number> {
    const args = { kid, prefix: `v1.${kid}.` };
    const statements = [{ sql: this.#sql.countUnderOtherKeys, args }, { sql: this.#sql.keepCanary, args }];
    const [remaining] = await this.#connection.batch(statements, { durable: true, repeatable: true });
    return single<number>(remaining!)!;
  }

  /** How many rows are sealed under each key. */
  async keyUse(): Promise<KeyUse[]> {
    return (await this.#connection.execute({ sql: this.#sql.keyUse }, { repeatable: true })).map(json<KeyUse>);
  }

  /**
   * Charges the least recently used token that has enough left, or returns null when there is none.
   *
   * @param reports What was reported of this resource meanwhile; it is taken in before, in the same round trip.
   */
  async claim(
    resource: string,
    cost: number,
    reports: readonly { id: number; report: CompleteReport }[] = [],
  ): Promise<Claim | null> {
    const claim = this.#statement(cost === 1 ? this.#sql.claimOne : this.#sql.claimMany, {
      resource,
      cost,
      window: assumedWindow(resource).windowMs + RESET_SLACK_MS,
    });
    const statements = reports.flatMap(({ id, report }) => this.#takeIn(id, report, 0));
    const row = single<ClaimRow>(await this.#afterFirstUse(resource, [...statements, claim]));
    return row === null ? null : claimOf(row);
  }

  /**
   * In one round trip: takes in what was reported meanwhile, takes back what was not used, and charges up to `most`
   * calls of the least recently used token, or of the one with this id.
   *
   * @returns What was claimed, or null when there is nothing; also when nothing was wanted.
   */
  async exchange(exchange: Exchange): Promise<Lease | null> {
    const reported = new Set(exchange.reports.flatMap(({ report }) => report === null ? [] : [report.resource]));
    const statements = [
      ...[...reported].flatMap((resource) => this.#firstUse(resource)),
      ...exchange.reports.flatMap(({ id, report }) => report === null ? [] : this.#takeIn(id, report, 0)),
      ...exchange.reports.filter(({ forgive }) => forgive).map(({ id }) =>
        this.#statement(this.#sql.forgiveStrikes, { id })
      ),
      ...exchange.unused.map((unused) =>
        this.#statement(this.#sql.giveBack, {
          id: unused.id,
          resource: unused.resource,
          unused: unused.calls,
          ceiling: unused.ceiling,
          late: Number(unused.isLate),
          ends: unused.windowEnds,
          reset: unused.resetAt,
        })
      ),
    ];
    const { wanted } = exchange;
    if (wanted === null) {
      if (statements.length > 0) await this.#run(statements);
      reported.forEach((resource) => this.#seeded.add(resource));
      return null;
    }
    const { resource, most, id } = wanted;
    const window = assumedWindow(resource).windowMs + RESET_SLACK_MS;
    const lease = id === undefined
      ? this.#statement(this.#sql.lease, { resource, most, window })
      : this.#statement(this.#sql.leaseOf, { resource, most, window, id });
    const row = single<ClaimRow>(await this.#afterFirstUse(resource, [...statements, lease]));
    return row === null ? null : { ...claimOf(row), resource };
  }

  /**
   * Takes in what GitHub said of a token: its numbers in one statement, so that order, repetition and delay do not
   * matter.
   *
   * @param free Calls of the hand-out that cost nothing after all: 1 for a 304.
   * @param forgive Whether it was a success after a refusal.
   */
  async merge(id: number, report: CompleteReport, { free = 0, forgive = false } = {}): Promise<void> {
    const { resource } = report;
    await this.#run([
      ...this.#firstUse(resource),
      ...this.#takeIn(id, report, free),
      ...(forgive ? [this.#statement(this.#sql.forgiveStrikes, { id })] : []),
    ]);
    this.#seeded.add(resource);
  }

  /** A call was free, and GitHub's window had not begun; `resetAt` = what GitHub printed for its end. */
  async refund(id: number, { resource, resetAt }: CompleteReport): Promise<void> {
    await this.#run([this.#statement(this.#sql.refund, { id, resource, reset: resetAt })]);
  }

  /** GitHub has refused: until the reset, or for a second from now if that is past by the one clock that counts. */
  async exhaust(id: number, report: CompleteReport): Promise<void> {
    const { resource } = report;
    await this.#run([
      ...this.#firstUse(resource),
      ...this.#takeIn(id, report, 0),
      this.#statement(this.#sql.holdBriefly, { id, resource }),
    ]);
    this.#seeded.add(resource);
  }

  /** A success after a refusal: the next wait starts small again. */
  async forgiveStrikes(id: number): Promise<void> {
    await this.#run([this.#statement(this.#sql.forgiveStrikes, { id })]);
  }

  /** Benches a user for all resources. */
  async holdUser(id: number, bench: Bench): Promise<void> {
    const args = { id, seconds: bench.seconds, base: bench.baseSeconds, most: bench.mostSeconds };
    const { strikeUser, holdUser, holdLimitsOfUser } = this.#sql;
    await this.#run([strikeUser, holdUser, holdLimitsOfUser].map((sql) => this.#statement(sql, args)));
  }

  /** Benches a user for one resource. */
  async holdResource(id: number, resource: string, bench: Bench): Promise<void> {
    const args = { id, resource, seconds: bench.seconds, base: bench.baseSeconds, most: bench.mostSeconds };
    await this.#run([
      ...this.#firstUse(resource),
      ...[this.#sql.strikeResource, this.#sql.holdResource].map((sql) => this.#statement(sql, args)),
    ]);
    this.#seeded.add(resource);
  }

  /**
   * Takes a token out of rotation, at once and for every process, until GitHub has been asked.
   *
   * @param token Only if this is still the donation's; also of the two that follow.
   */
  async suspect(id: number, token: string | null = null): Promise<void> {
    const { noteSuspicion, suspect, bar, brake, forgetSuspicions } = this.#sql;
    const statements = [noteSuspicion, suspect, bar, brake, forgetSuspicions];
    await this.#run(statements.map((sql) => this.#statement(sql, { id, token })));
  }

  /** Deletes a donation whose account GitHub has suspended. */
  async remove(id: number, token: string | null = null): Promise<void> {
    await this.#run(this.#sql.removeSuspended.map((sql) => this.#statement(sql, { id, token })), { durable: true });
  }

  /** GitHub does not know what a token is renewed with: the same as {@linkcode notFound}. */
  async refreshRefused(id: number, token: string): Promise<"removed" | "kept"> {
    const statements = [...this.#sql.removeRefused, this.#sql.postponeRefused]
      .map((sql) => this.#statement(sql, { id, token }));
    const results = await this.#connection.batch(statements, { durable: true });
    return results.at(-2)!.length > 0 ? "removed" : "kept";
  }

  /** Deletes a donation whose token has scopes, and notes that its grant is to be revoked at GitHub. */
  async condemn(id: number, token: string | null = null): Promise<void> {
    const statements = [this.#sql.condemn, ...this.#sql.removeScoped].map((sql) => this.#statement(sql, { id, token }));
    await this.#run(statements, { durable: true });
  }

  /** Notes when a token expires, in epoch milliseconds. */
  async noteExpiry(id: number, expiresAt: number): Promise<void> {
    await this.#run([this.#statement(this.#sql.noteExpiry, { id, expires_at: expiresAt })]);
  }

  /**
   * Stores a donation, in the place of an earlier one of the same user.
   *
   * @param options `revokeReplaced`: whether the token that it replaces is to be revoked at GitHub.
   * @returns Its id, and what it replaced; or null when its key has been dropped, and nothing was stored.
   * @throws {PoolError} With code `github`, and nothing was stored, while GitHub is revoking the grant of this user.
   */
  async donate(
    donation: SealedDonation,
    { revokeReplaced }: { revokeReplaced: boolean },
  ): Promise<{ id: number; replaced: string | null } | null> {
    const args = {
      user: donation.githubUserId,
      username: donation.githubUsername,
      token: donation.token,
      refresh_token: donation.refreshToken,
      expires_at: donation.expiresAt,
      reserve: donation.reserve,
    };
    const { replaced, assertKeyInUse, assertNoGrantEnds, countDonation, queueReplaced, donate, ...rest } = this.#sql;
    const { spareGrant, unpause, seedDonation, refloor, requeueDonation } = rest;
    const before = [assertKeyInUse, assertNoGrantEnds, countDonation, ...(revokeReplaced ? [queueReplaced] : [])];
    const statements = [replaced, ...before, donate, spareGrant, unpause, seedDonation, refloor, requeueDonation]
      .map((sql) => this.#statement(sql, args));
    try {
      const results = await this.#connection.batch(statements, { durable: true, repeatable: true });
      return { id: single<number>(results[1 + before.length]!)!, replaced: single<string>(results[0]!) };
    } catch (error) {
      if (isKeyDropped(error)) return null;
      throw isGrantEnding(error) ? grantEnds() : error;
    }
  }

  /** What was queued before GitHub was asked is due at once: it has not confirmed it. */
  async hastenRevocation(githubUserId: string, token: string): Promise<void> {
    await this.#run([this.#statement(this.#sql.hasten, { user: githubUserId, token })]);
  }

  /** A token need not be revoked any more. */
  async unqueueRevocation(githubUserId: string, token: string): Promise<void> {
    await this.#run([this.#statement(this.#sql.unqueue, { user: githubUserId, token })]);
  }

  /**
   * Deletes the donation of a user.
   *
   * @param tombstone What keeps backups from bringing it back; remembered whether or not there is a donation.
   * @param grantToken A token of the user, sealed, whose grant is about to be revoked: upkeep does it if nobody says
   * within a minute that it was.
   * @returns Whether there was one.
   */
  async withdraw(
    githubUserId: string,
    tombstone: Mac | null = null,
    grantToken: string | null = null,
  ): Promise<boolean> {
    const { bury, queueWithdrawn } = this.#sql;
    const before = [
      ...(tombstone === null ? [] : [this.#statement(bury, { hash: tombstone.mac, kid: tombstone.kid })]),
      ...(grantToken === null ? [] : [this.#statement(queueWithdrawn, { user: githubUserId, token: grantToken })]),
    ];
    const statements = [...before, ...this.#sql.withdraw.map((sql) => this.#statement(sql, { user: githubUserId }))];
    return (await this.#connection.batch(statements, { durable: true, repeatable: true })).at(-1)!.length > 0;
  }

  /** The donation of a user, or null when there is none. */
  async donationOf(githubUserId: string): Promise<OwnDonation | null> {
    const statement = this.#statement(this.#sql.donation, { user: githubUserId });
    const row = single<OwnDonationRow>(await this.#connection.execute(statement, { repeatable: true }));
    return row === null ? null : ownDonation(row);
  }

  /** Changes what stays the donor's, and with it the place in the queue. Returns whether there is a donation. */
  async setReserve(githubUserId: string, reserve: number): Promise<boolean> {
    const { setReserve, refloor, requeueOfUser } = this.#sql;
    const statements = [setReserve, refloor, requeueOfUser]
      .map((sql) => this.#statement(sql, { user: githubUserId, reserve }));
    return (await this.#connection.batch(statements, { durable: true, repeatable: true }))[0]!.length > 0;
  }

  /** Takes a donation out of rotation, for every process, until its donor says otherwise. Returns whether there is one. */
  async pause(githubUserId: string): Promise<boolean> {
    const { exists, pause, barPaused } = this.#sql;
    return await this.#ofUser(githubUserId, [exists, pause, barPaused]);
  }

  /** Puts a paused donation back, at the end of the queue. Returns whether there is one. */
  async resume(githubUserId: string): Promise<boolean> {
    const { exists, requeuePaused, unpause } = this.#sql;
    return await this.#ofUser(githubUserId, [exists, requeuePaused, unpause]);
  }

  /**
   * Takes the snapshot of this hour, if there is none, forgets what nobody is shown any more and withdrawals of long ago,
   * and sees to it that pauses hold. Returns whether it took a snapshot.
   */
  async keepHistory(): Promise<boolean> {
    const { takeSnapshot, barAllPaused } = this.#sql;
    const { forgetSnapshots, forgetDays, forgetProbes, forgetReadings, forgetWithdrawals } = this.#sql;
    const forget = [forgetSnapshots, forgetDays, forgetProbes, forgetReadings, forgetWithdrawals];
    const statements = [takeSnapshot, ...forget, barAllPaused].map((sql) => this.#statement(sql));
    return (await this.#connection.batch(statements, { repeatable: true }))[0]!.length > 0;
  }

  /** Takes up to `count` donations with whose token GitHub is to be asked what is left. */
  async takeProbes(count: number): Promise<(SealedToken & { rows: ProbedRow[] })[]> {
    const rows = await this.#connection.execute(this.#statement(this.#sql.takeProbes, { count }));
    return rows.map(json<[number, string, string, [string, ProbedRow["window"]][]]>)
      .map(([id, githubUserId, token, known]) => ({
        id,
        githubUserId,
        token,
        rows: known.map(([resource, window]) => ({ resource, window })),
      }));
  }

  /** GitHub has answered: the token was used, and so much is left. */
  async endProbe(id: number, reports: CompleteReport[]): Promise<void> {
    const { setAside, mergeReading, countFromReading, noteUse } = this.#sql;
    const takeIn = (report: CompleteReport) =>
      [setAside, mergeReading, countFromReading].map((sql) => this.#statement(sql, mergeArgs(id, report, 0)));
    await this.#run([...reports.flatMap(takeIn), this.#statement(noteUse, { id })]);
  }

  /** Takes up to `count` suspects that GitHub is to be asked about now. */
  async takeSuspects(count: number): Promise<SealedToken[]> {
    const rows = await this.#connection.execute(this.#statement(this.#sql.takeSuspects, { count }));
    return rows.map(json<[number, string, string]>).map(([id, githubUserId, token]) => ({ id, githubUserId, token }));
  }

  /** GitHub knows the token: back into rotation. */
  async acquit(id: number, token: string): Promise<void> {
    await this.#run([this.#sql.acquit, this.#sql.requeue].map((sql) => this.#statement(sql, { id, token })));
  }

  /**
   * GitHub does not know the token: it goes, or during an incident waits for a second such answer.
   *
   * @param options `isSure`: whether it goes at once when there is no incident.
   */
  async notFound(id: number, token: string, { isSure = true } = {}): Promise<"removed" | "kept"> {
    const statements = [...this.#sql.removeNotFound, this.#sql.postponeNotFound]
      .map((sql) => this.#statement(sql, { id, token, once: Number(isSure) }));
    const results = await this.#connection.batch(statements, { durable: true });
    return results.at(-2)!.length > 0 ? "removed" : "kept";
  }

  /** Takes up to `count` donations whose token expires within the hour, or has, and locks them for a minute. */
  async takeExpiring(count: number): Promise<(SealedToken & { refreshToken: string })[]> {
    const rows = await this.#connection.execute(this.#statement(this.#sql.takeExpiring, { count }));
    return rows.map(json<[number, string, string, string]>)
      .map(([id, githubUserId, token, refreshToken]) => ({ id, githubUserId, token, refreshToken }));
  }

  /** Puts a refreshed token in the place of the one it was made from. Returns whether that was still there. */
  async replaceToken(
    id: number,
    old: string,
    renewed: Pick<SealedDonation, "token" | "refreshToken" | "expiresAt">,
  ): Promise<boolean> {
    const args = { id, old, token: renewed.token, refresh_token: renewed.refreshToken, expires_at: renewed.expiresAt };
    const statements = [this.#sql.replaceToken, this.#sql.requeue].map((sql) => this.#statement(sql, args));
    return (await this.#connection.batch(statements, { durable: true, repeatable: true }))[0]!.length > 0;
  }

  /** Notes that a token, or all tokens of its user, are to be revoked at GitHub. */
  async addRevocation(githubUserId: string, token: string, kind: "token" | "grant"): Promise<void> {
    await this.#run([this.#statement(this.#sql.addRevocation, { user: githubUserId, token, kind })], { durable: true });
  }

  /** Takes up to `count` revocations that are due. */
  async takeRevocations(count: number): Promise<(SealedToken & { kind: "token" | "grant" })[]> {
    const rows = await this.#connection.execute(this.#statement(this.#sql.takeRevocations, { count }));
    return rows.map(revocationOf);
  }

  /** A revocation is done, or cannot be done. */
  async endRevocation(id: number): Promise<void> {
    await this.#run([this.#statement(this.#sql.endRevocation, { id })]);
  }

  /** What can be claimed now of a resource, and when more can be. */
  async availability(resource: string): Promise<{ tokens: number; usable: number; nextAt: number | null }> {
    const statement = this.#statement(this.#sql.availability, { resource, assumed: assumedWindow(resource).calls });
    const rows = await this.#connection.execute(statement, { repeatable: true });
    const [tokens, usable, nextAt] = single<[number, number, number | null]>(rows)!;
    return { tokens, usable, nextAt };
  }

  /** A token did not open. */
  async countDecryptFailure(): Promise<void> {
    await this.#run([this.#statement(this.#sql.countDecryptFailure)]);
  }

  /** The figures of the dashboard, in one query. */
  async stats(): Promise<PoolFigures> {
    const rows = await this.#connection.execute(this.#statement(this.#sql.stats), { repeatable: true });
    return single<PoolFigures>(rows)!;
  }

  /** Every donation, for the operator's eyes; no token among it. */
  async list(): Promise<ListedDonation[]> {
    return (await this.#connection.execute(this.#statement(this.#sql.list), { repeatable: true })).map(
      json<ListedDonation>,
    );
  }

  /** Up to 100 donations after `after` with something that is not sealed under `kid`. */
  async underOtherKeys(kid: string, after: number): Promise<(SealedToken & { refreshToken: string | null })[]> {
    const statement = this.#statement(this.#sql.underOtherKeys, { prefix: `v1.${kid}.`, after });
    const rows = await this.#connection.execute(statement, { repeatable: true });
    return rows.map(json<[number, string, string, string | null]>)
      .map(([id, githubUserId, token, refreshToken]) => ({ id, githubUserId, token, refreshToken }));
  }

  /** Puts texts that were sealed anew in the place of the old ones, unless those have changed meanwhile. Returns how many. */
  async reseal(resealed: readonly Resealed[]): Promise<number> {
    return await this.#reseal(resealed.map(({ id, old, renewed }) =>
      this.#statement(this.#sql.reseal, {
        id,
        token: renewed.token,
        refresh_token: renewed.refreshToken,
        old: old.token,
        old_refresh: old.refreshToken,
      })
    ));
  }

  /** The same of revocations that are still to be made. */
  async revocationsUnderOtherKeys(kid: string, after: number): Promise<(SealedToken & { refreshToken: null })[]> {
    const args = { prefix: `v1.${kid}.`, after };
    const rows = await this.#connection.execute({ sql: this.#sql.revocationsUnderOtherKeys, args }, {
      repeatable: true,
    });
    return rows.map(json<[number, string, string]>)
      .map(([id, githubUserId, token]) => ({ id, githubUserId, token, refreshToken: null }));
  }

  /** The same of revocations. */
  async resealRevocations(resealed: readonly Resealed[]): Promise<number> {
    return await this.#reseal(resealed.map(({ id, old, renewed }) => ({
      sql: this.#sql.resealRevocation,
      args: { id, token: renewed.token, old: old.token },
    })));
  }

  /** What a backup begins with: the database's time, and the highest id that was ever given to a donation. */
  async backupHead(): Promise<{ now: number; lastId: number }> {
    const rows = await this.#connection.execute(this.#statement(this.#sql.backupHead), { repeatable: true });
    const [now, lastId] = single<[number, number]>(rows)!;
    return { now, lastId };
  }

  /** Up to `count` donations after the id `after`, for a backup, each with its id. */
  async backupDonations(after: number, count: number): Promise<[id: number, donation: BackedUpDonation][]> {
    const statement = { sql: this.#sql.backupDonations, args: { after, count } };
    return (await this.#connection.execute(statement, { repeatable: true })).map(json<[number, BackedUpDonation]>);
  }

  /** The same of revocations that are still to be made. */
  async backupRevocations(after: number, count: number): Promise<[id: number, revocation: BackedUpRevocation][]> {
    const statement = { sql: this.#sql.backupRevocations, args: { after, count } };
    return (await this.#connection.execute(statement, { repeatable: true })).map(json<[number, BackedUpRevocation]>);
  }

  /** How many donors have withdrawn since a time and are remembered by other keys than these. */
  async withdrawalsUnderOtherKeys(kids: readonly string[], since: number): Promise<number> {
    const statement = { sql: this.#sql.withdrawalsUnderOtherKeys, args: { kids: JSON.stringify(kids), since } };
    return single<number>(await this.#connection.execute(statement, { repeatable: true }))!;
  }

  /**
   * Restores donations of a backup, but for those whose donors have withdrawn since or have a newer one. None is handed
   * out before GitHub has said that its token is alive.
   *
   * @param donations Each with its donor's hash under every key at hand.
   * @param options `lastId`: new ids are higher. `dryRun`: only tells what would come of it.
   */
  async restoreDonations(
    donations: readonly (BackedUpDonation & { hashes: string[] })[],
    { lastId, dryRun }: { lastId: number; dryRun: boolean },
  ): Promise<RestoredDonations> {
    const { restoring, countRestored, restore, seedRestored, barRestored, ...rest } = this.#sql;
    const { unpauseRestored, pauseRestored, unmarkRestored } = rest;
    const writes = [countRestored, restore, seedRestored, barRestored, unpauseRestored, pauseRestored, unmarkRestored];
    const args = { rows: JSON.stringify(donations), last_id: lastId };
    const statements = [restoring, ...(dryRun ? [] : writes)].map((sql) => this.#statement(sql, args));
    const [outcomes] = await this.#connection.batch(statements, { durable: true, repeatable: true });
    const counted = Object.fromEntries(outcomes!.map(json<[keyof RestoredDonations, number]>));
    return { added: 0, replaced: 0, kept: 0, withdrawn: 0, ...counted };
  }

  /** Restores revocations of a backup that are not there. */
  async restoreRevocations(
    revocations: readonly BackedUpRevocation[],
    { dryRun }: { dryRun: boolean },
  ): Promise<RestoredRevocations> {
    const { restoringRevocations, restoreRevocations } = this.#sql;
    const statements = [restoringRevocations, ...(dryRun ? [] : [restoreRevocations])]
      .map((sql) => this.#statement(sql, { rows: JSON.stringify(revocations) }));
    const [counts] = await this.#connection.batch(statements, { durable: true, repeatable: true });
    const [all, added] = single<[number, number]>(counts!)!;
    return { added, kept: all - added };
  }

  /** Up to `count` donations after `after`, in the order of their ids; only the suspects if it is said so. */
  async donations(after: number, count: number, { suspects = false } = {}): Promise<StoredDonation[]> {
    const sql = suspects ? this.#sql.suspects : this.#sql.donations;
    return (await this.#connection.execute({ sql, args: { after, count } }, { repeatable: true })).map(storedOf);
  }

  /** The donations that a login, GitHub's id of a user, or `#` and an id may mean. */
  async find(name: string): Promise<StoredDonation[]> {
    const rows = await this.#connection.execute({ sql: this.#sql.find, args: { name } }, { repeatable: true });
    return rows.map(storedOf);
  }

  /**
   * Deletes a donation for the operator, if this is still its token, and counts the reason.
   *
   * @param options `queueGrant`: whether its grant is still to be revoked at GitHub.
   * `tombstone`: what keeps backups from bringing it back.
   * @returns Whether it was.
   */
  async dismiss(
    { id, token }: { id: number; token: string },
    reason: string,
    { queueGrant, tombstone }: { queueGrant: boolean; tombstone: Mac },
  ): Promise<boolean> {
    const args = { id, token, reason, hash: tombstone.mac, kid: tombstone.kid };
    const statements = [...(queueGrant ? [this.#sql.queueGrant] : []), ...this.#sql.dismiss]
      .map((sql) => this.#statement(sql, args));
    return (await this.#connection.batch(statements, { durable: true })).at(-1)!.length > 0;
  }

  /** Deletes the donations, and what was to be revoked, whose tokens have been revoked. Returns how many donations. */
  async removeRevoked(tokens: string[]): Promise<number> {
    const statements = [this.#sql.endRevocations, ...this.#sql.removeRevoked]
      .map((sql) => this.#statement(sql, { tokens: JSON.stringify(tokens) }));
    return (await this.#connection.batch(statements, { durable: true })).at(-1)!.length;
  }

  /** Up to `count` revocations after `after` that are still to be made, due or not. */
  async revocations(after: number, count: number): Promise<(SealedToken & { kind: "token" | "grant" })[]> {
    const statement = { sql: this.#sql.revocations, args: { after, count } };
    return (await this.#connection.execute(statement, { repeatable: true })).map(revocationOf);
  }

  /** An incident: whatever is suspect now goes only when GitHub says twice that it does not know it. */
  async brakeSuspects(): Promise<void> {
    await this.#run([this.#statement(this.#sql.brakeSuspects)]);
  }

  /** The last id that the operator's check of all donations came to within the last day, 0 when there is none. */
  async verifiedUpTo(): Promise<number> {
    return single<number>(await this.#connection.execute(this.#statement(this.#sql.verifiedUpTo))) ?? 0;
  }

  /** Notes how far the operator's check has come; null = to the end. */
  async keepVerified(id: number | null): Promise<void> {
    await this.#run([
      id === null ? { sql: this.#sql.forgetVerified } : this.#statement(this.#sql.keepVerified, { id }),
    ]);
  }

  /** What the operator asks of the tables. */
  async figures(): Promise<StoredFigures> {
    const rows = await this.#connection.execute(this.#statement(this.#sql.figures), { repeatable: true });
    return single<StoredFigures>(rows)!;
  }

  /** Closes the database. */
  close(): void {
    this.#connection.close();
  }

  #statement(sql: string, args: Record<string, SqlValue> = {}): Statement {
    return { sql, args: this.#clock === undefined ? args : { ...args, now: this.#clock } };
  }

  #takeIn(id: number, report: CompleteReport, free: number): Statement[] {
    const args = mergeArgs(id, report, free);
    return [this.#sql.merge, this.#sql.noteReport].map((sql) => this.#statement(sql, args));
  }

  /** Runs statements, before them what the first use of a resource and of an hour needs. Returns the last one's rows. */
  async #afterFirstUse(resource: string, statements: Statement[]): Promise<unknown[][]> {
    const first = this.#firstUse(resource);
    const hour = Math.floor((this.#clock ?? Date.now)() / HOUR_MS);
    // The day with every hour: should this clock and the database's disagree at midnight, or a call wait until it is
    // over, that is made good soon after.
    if (hour !== this.#hour) first.push(...[this.#sql.openHour, this.#sql.openDay].map((sql) => this.#statement(sql)));
    const all = [...first, ...statements];
    const rows = all.length === 1
      ? await this.#connection.execute(all[0]!)
      : (await this.#connection.batch(all)).at(-1)!;
    this.#seeded.add(resource);
    this.#hour = hour;
    return rows;
  }

  /** Runs statements that return a row for each row that they have changed. Returns how many. */
  async #reseal(statements: Statement[]): Promise<number> {
    if (statements.length === 0) return 0;
    return (await this.#connection.batch(statements, { durable: true })).filter((rows) => rows.length > 0).length;
  }

  /** Runs statements on the donation of a user. Returns whether the first found it. */
  async #ofUser(githubUserId: string, sql: string[]): Promise<boolean> {
    const statements = sql.map((text) => this.#statement(text, { user: githubUserId }));
    return (await this.#connection.batch(statements, { durable: true, repeatable: true }))[0]!.length > 0;
  }

  async #run(statements: Statement[], options?: CallOptions): Promise<void> {
    if (statements.length === 1) await this.#connection.execute(statements[0]!, options);
    else await this.#connection.batch(statements, options);
  }

  /** What the first use of a resource by this process has to make sure of. */
  #firstUse(resource: string): Statement[] {
    if (this.#seeded.has(resource)) return [];
    const args = { resource, assumed: assumedWindow(resource).calls };
    return [this.#sql.registerResource, this.#sql.seedResource].map((sql) => this.#statement(sql, args));
  }
}

function json<T>(row: unknown[]): T {
  const [value] = row;
  return (typeof value === "string" ? JSON.parse(value) : value) as T;
}

function single<T>(rows: unknown[][]): T | null {
  return rows.length === 0 ? null : json<T>(rows[0]!);
}

function storedOf(row: unknown[]): StoredDonation {
  const [id, githubUserId, login, token, refreshToken, expiresAt, suspectAt] = json<StoredRow>(row);
  return { id, githubUserId, login, token, refreshToken, expiresAt, isSuspect: suspectAt !== null };
}

function mergeArgs(id: number, report: CompleteReport, free: number): Record<string, SqlValue> {
  const { resource, limit, remaining, resetAt } = report;
  return { id, resource, limit, remaining, reset: resetAt, free };
}

function revocationOf(row: unknown[]): SealedToken & { kind: "token" | "grant" } {
  const [id, githubUserId, token, kind] = json<[number, string, string, "token" | "grant"]>(row);
  return { id, githubUserId, token, kind };
}

function isMissingTable(error: unknown): boolean {
  return error instanceof PoolError && error.cause instanceof Error && /no such table/i.test(error.cause.message);
}

function isThereAlready(error: unknown): boolean {
  return error instanceof PoolError && error.cause instanceof Error && /duplicate column/i.test(error.cause.message);
}

/** By the constraint that `assertNoGrantEnds` breaks. */
function isGrantEnding(error: unknown): boolean {
  return error instanceof PoolError && error.cause instanceof Error &&
    /constraint failed: token_pool_counters\.value/i.test(error.cause.message);
}

function grantEnds(): PoolError {
  return new PoolError(
    "github",
    "GitHub was asked a moment ago to revoke all tokens that this user has given the app, which would take a new one " +
      "along; try again in a minute. Nothing was stored",
  );
}

/** By the constraint that `assertKeyInUse` breaks. */
function isKeyDropped(error: unknown): boolean {
  return error instanceof PoolError && error.cause instanceof Error &&
    /constraint failed: token_pool_meta\.value/i.test(error.cause.message);
}
