/**
 * Ways to break the promises of the pool, at least two for each: text of `lib/`, and what takes its place. Whoever
 * rewrites such a text rewrites its mutation.
 *
 * @module
 */

/** Text of a file, and what takes its place. */
export interface Edit {
  file: string;
  from: string;
  to: string;
}

/** One way to break a promise. */
export interface Mutation {
  /** The invariant that is broken. */
  invariant: number;
  /** What is done, in words. */
  what: string;
  edits: Edit[];
}

const store = (from: string, to: string): Edit => ({ file: "lib/store.ts", from, to });

/** At least two for each invariant. */
export const MUTATIONS: readonly Mutation[] = [
  {
    invariant: 1,
    what: "a user may donate twice",
    edits: [
      store("github_user_id TEXT NOT NULL UNIQUE,", "github_user_id TEXT NOT NULL,"),
      store(
        "braked INTEGER NOT NULL DEFAULT 0 ",
        "braked INTEGER NOT NULL DEFAULT 0, UNIQUE (github_user_id, donated_at) ",
      ),
      store(
        ":reserve, ${now})\n      ON CONFLICT (github_user_id) DO UPDATE",
        ":reserve, ${now})\n      ON CONFLICT (github_user_id, donated_at) DO UPDATE",
      ),
    ],
  },
  {
    invariant: 1,
    what: "a removal leaves the windows behind",
    edits: [store("    `DELETE FROM token_pool_limits WHERE token_id IN ${gone}`,\n", "")],
  },
  {
    invariant: 2,
    what: "a connection that was busy is not reopened",
    edits: [{
      file: "lib/database.ts",
      from: "if (this.#isFile || isBusy(error)) await this.#driver.reconnect?.();",
      to: "",
    }],
  },
  {
    invariant: 2,
    what: "a suspect that was cleared is not put back into the queue",
    edits: [store("[this.#sql.acquit, this.#sql.requeue]", "[this.#sql.acquit]")],
  },
  {
    invariant: 2,
    what: "of a donor's two tokens the first one stays",
    edits: [
      store(
        ":reserve, ${now})\n      ON CONFLICT (github_user_id) DO UPDATE SET github_username = excluded.github_username, token = excluded.token,",
        ":reserve, ${now})\n      ON CONFLICT (github_user_id) DO UPDATE SET github_username = excluded.github_username, token = token,",
      ),
    ],
  },
  {
    invariant: 2,
    what: "a removal is not put on record",
    edits: [store("    count(`SELECT 'removed.${reason}' FROM token_pool_tokens WHERE ${where}`),\n", "")],
  },
  {
    invariant: 3,
    what: "a suspect stays in the queue",
    edits: [
      store(
        "const statements = [noteSuspicion, suspect, bar, brake, forgetSuspicions];",
        "const statements = [noteSuspicion, suspect, brake, forgetSuspicions];",
      ),
    ],
  },
  {
    invariant: 3,
    what: "a lease lasts ten minutes",
    edits: [{ file: "lib/leases.ts", from: "const LEASE_MS = 10_000;", to: "const LEASE_MS = 600_000;" }],
  },
  {
    invariant: 3,
    what: "a report's merge puts a paused donation back",
    edits: [store('t.suspect_at IS NOT NULL OR ${isPaused("t.id")} AS barred', "t.suspect_at IS NOT NULL AS barred")],
  },
  {
    invariant: 4,
    what: "a token is not drawn in the millisecond in which it may be",
    edits: [
      store(
        "WHERE resource = :resource AND ready_at <= ${now} ${condition}",
        "WHERE resource = :resource AND ready_at < ${now} ${condition}",
      ),
    ],
  },
  {
    invariant: 4,
    what: "a bench is a tenth shorter than GitHub said",
    edits: [store("max(0, strikes - 1))))) * 1000`", "max(0, strikes - 1))))) * 900`")],
  },
  {
    invariant: 4,
    what: "a clock that is given is read before a call waits for its turn",
    edits: [store("{ ...args, now: this.#clock }", "{ ...args, now: this.#clock() }")],
  },
  {
    invariant: 4,
    what: "a lease takes what is the donor's",
    edits: [store("/ 16), ${full} - floor))", "/ 16), ${full}))")],
  },
  {
    invariant: 5,
    what: "the first token is drawn, not the least recently used",
    edits: [store("ORDER BY ready_at, turn LIMIT 1)`", "ORDER BY token_id LIMIT 1)`")],
  },
  {
    invariant: 5,
    what: "uses within a millisecond have no order",
    edits: [
      store(
        "turn = (SELECT coalesce(max(turn), 0) + 1 FROM token_pool_limits WHERE resource = :resource AND ready_at = ${now}),",
        "turn = 1000 - token_id,",
      ),
    ],
  },
  {
    invariant: 6,
    what: "a token that does not open is suspected",
    edits: [{
      file: "lib/consumer.ts",
      from: "await this.#vault.noteUnreadable(claim);",
      to: "await this.#vault.noteUnreadable(claim); await store.suspect(claim.id);",
    }],
  },
  {
    invariant: 6,
    what: "a wrong key is not told from a right one",
    edits: [{
      file: "lib/vault.ts",
      from: "return canaries.length === 0 || opened.includes(CANARY_TEXT);",
      to: "return opened.length >= 0;",
    }],
  },
  {
    invariant: 7,
    what: "what was not used is given back twice",
    edits: [
      store(
        "remaining = max(remaining, min(cap, coalesce(:ceiling, cap), remaining + ${returned}))",
        "remaining = max(remaining, min(cap, coalesce(:ceiling, cap), remaining + 2 * ${returned}))",
      ),
    ],
  },
  {
    invariant: 7,
    what: "of two reports the last one counts",
    edits: [store("ELSE min(${remaining}, l.remaining + :free)", "ELSE ${remaining}")],
  },
  {
    invariant: 7,
    what: "a 304 that is told twice is free twice",
    edits: [{
      file: "lib/consumer.ts",
      from: "const isFree = !this.#freeAnswers.has(response);",
      to: "const isFree = true;",
    }],
  },
  {
    invariant: 8,
    what: "nobody asks GitHub about suspects",
    edits: [store("AND check_at <= ${now} ORDER BY check_at", "AND check_at <= ${now} - 90000000 ORDER BY check_at")],
  },
  {
    invariant: 8,
    what: "a window that was not reported does not end",
    edits: [store("const window = assumedWindow(resource).windowMs + RESET_SLACK_MS;", "const window = 1e12;")],
  },
  {
    invariant: 9,
    what: "every 403 is taken for a limit",
    edits: [{
      file: "lib/health.ts",
      from: "if (isPrimary || (info.remaining === 0 && !isGraphqlAnswer)) {",
      to: "if (isPrimary || !isGraphqlAnswer) {",
    }],
  },
  {
    invariant: 9,
    what: "a 403 is taken for a 401",
    edits: [{
      file: "lib/health.ts",
      from: "if (status === 401) return blames",
      to: "if (status === 401 || status === 403) return blames",
    }],
  },
  {
    invariant: 10,
    what: "of two reports the last one counts",
    edits: [store("ELSE min(${remaining}, l.remaining + :free)", "ELSE ${remaining}")],
  },
  {
    invariant: 10,
    what: "the first report makes the pool forget what it has drawn",
    edits: [store("max(0, min(${remaining}, :limit - (l.cap - l.remaining) + :free))", "${remaining}")],
  },
  {
    invariant: 11,
    what: "a lease takes what is the donor's",
    edits: [store("/ 16), ${full} - floor))", "/ 16), ${full}))")],
  },
  {
    invariant: 11,
    what: "the reserve is a tenth of what the donor chose",
    edits: [
      store(
        "`CAST(ceil(round(${reserve} * ${cap}, 6)) AS INTEGER)`",
        "`CAST(ceil(round(${reserve} * ${cap} / 10, 6)) AS INTEGER)`",
      ),
    ],
  },
  {
    invariant: 12,
    what: "an event tells the token",
    edits: [{
      file: "lib/pool_fetch.ts",
      from: '{ type: "sent", tokenId: ticket.id, attempt: n }',
      to: '{ type: "sent", tokenId: ticket.id, attempt: n, token: ticket.token }',
    }],
  },
  {
    invariant: 12,
    what: "a token is stored as a login, as it is",
    edits: [{
      file: "lib/vault.ts",
      from: "githubUsername: donation.github_username ?? null,",
      to: "githubUsername: donation.token,",
    }],
  },
];
