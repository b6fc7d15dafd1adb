/**
 * The doctor's look at the database: the file, the tables, the key, and what is stored.
 *
 * @module
 */

import { promises as files } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Config } from "./config.ts";
import { PoolError } from "./errors.ts";
import { clockFinding, fail, type Finding, ok, unseen, warn } from "./findings.ts";
import type { StoredFigures } from "./records.ts";
import { SCHEMA_VERSION } from "./store.ts";
import type { Vault } from "./vault.ts";

const LATENCY_WARN_MS = 250;

/** Where the file format of a database says how it is written to: 2 = write-ahead log (sqlite.org/fileformat2.html). */
const WRITE_VERSION_OFFSET = 18;
const WRITE_AHEAD = 2;

/** What is looked at, and by which clocks. */
export interface DatabaseQuestion {
  vault: Vault;
  /** Null while the settings have faults. */
  config: Config | null;
  /** This machine's clock, epoch milliseconds. */
  now: () => number;
  /** Milliseconds that only ever go up, to measure with. */
  elapsed: () => number;
}

/** Everything that was found; nothing is made or changed, but that opening a file turns its write-ahead log on. */
export async function examineDatabase(question: DatabaseQuestion): Promise<Finding[]> {
  const { findings, isOpen } = await aboutTables(question);
  return [...findings, ...await aboutDonations(question, isOpen)];
}

/** Also whether the tables and the key are there and fit. */
async function aboutTables(
  { vault, config, elapsed }: DatabaseQuestion,
): Promise<{ findings: Finding[]; isOpen: boolean }> {
  if (config === null) {
    const names = ["database", "schema", "key"];
    return { findings: names.map((name) => unseen(name, "environment and key-form")), isOpen: false };
  }
  const url = vault.databaseUrl;
  const path = url === undefined ? null : pathOf(url);
  const findings = path === null ? [] : await aboutFile(path);
  if (findings.some(({ status }) => status === "fail")) {
    findings.push(...["database", "schema", "key"].map((name) => unseen(name, "database-file")));
    return { findings, isOpen: false };
  }
  let seen: Awaited<ReturnType<Vault["look"]>>;
  try {
    seen = await vault.look(elapsed);
  } catch (error) {
    if (!(error instanceof PoolError)) throw error;
    findings.push(
      fail(
        "database",
        error.message,
        "check TOKEN_POOL_DATABASE_URL and TOKEN_POOL_DATABASE_AUTH_TOKEN, and that the database is up; a file must be " +
          "one that this user may write to, and its folder too",
      ),
      ...["schema", "key"].map((name) => unseen(name, "database")),
    );
    return { findings, isOpen: false };
  }
  const key = seen.isRightKey === false
    ? fail(
      "key",
      "TOKEN_ENCRYPTION_KEY is not the key that this pool's tokens are sealed with",
      "set the key that the service has, or name it in TOKEN_ENCRYPTION_KEYS_PREVIOUS; nothing is changed by a wrong one",
    )
    : config.TOKEN_ENCRYPTION_KEY === undefined
    ? unseen("key", "key-form")
    : ok("key", seen.isRightKey === null ? "nothing is sealed yet that could tell" : "opens the canary");
  findings.push(latencyFinding(seen.ms), schemaFinding(seen.version), key);
  const isOpen = seen.version !== null && seen.version >= SCHEMA_VERSION && key.status === "ok";
  return { findings, isOpen };
}

function schemaFinding(version: number | null): Finding {
  if (version === null) {
    return warn("schema", "there are no tables yet", "nothing, if this pool is new: the service makes them");
  }
  if (version < SCHEMA_VERSION) {
    return warn(
      "schema",
      `version ${version}, older than this library's ${SCHEMA_VERSION}`,
      "start the service of this version, or run `upkeep`: either adds what is missing, and older programs go on",
    );
  }
  if (version > SCHEMA_VERSION) {
    return warn(
      "schema",
      `version ${version}, newer than the ${SCHEMA_VERSION} that this library knows`,
      "update this program; until then it works, without what is new",
    );
  }
  return ok("schema", `version ${version}`);
}

function latencyFinding(milliseconds: number): Finding {
  const found = `answers in ${milliseconds.toFixed(1)} ms`;
  return milliseconds <= LATENCY_WARN_MS ? ok("database", found) : warn(
    "database",
    found,
    `move the database nearer to the programs that draw on it; a hand-out should take less than ${LATENCY_WARN_MS} ms`,
  );
}

/** The path of a database file, or null where the database is something else. */
function pathOf(url: string): string | null {
  if (!url.startsWith("file:") || url.includes(":memory:") || url.includes("mode=memory")) return null;
  const [address] = url.split("?") as [string];
  try {
    return address.startsWith("file://") ? fileURLToPath(address) : decodeURIComponent(address.slice("file:".length));
  } catch {
    return null; // no path that could be looked at: that the database cannot be opened tells the rest
  }
}

async function aboutFile(path: string): Promise<Finding[]> {
  let mode: number;
  const header = new Uint8Array(WRITE_VERSION_OFFSET + 1);
  try {
    mode = (await files.stat(path)).mode;
    const file = await files.open(path);
    await file.read(header, 0, header.length, 0).finally(() => file.close());
  } catch (error) {
    const { code } = error as { code?: string };
    const found = code === "ENOENT" ? "the file is not there" : `the file cannot be read (${code ?? "unknown"})`;
    return [fail(
      "database-file",
      found,
      "check the path in TOKEN_POOL_DATABASE_URL, and that this user may write to the file and its folder; " +
        "for a new pool start the service, which makes it",
    )];
  }
  const permissions = (mode & 0o777).toString(8);
  return [
    (mode & 0o077) === 0 ? ok("database-file", `mode ${permissions}`) : warn(
      "database-file",
      `mode ${permissions}: other users of this machine can read or write it`,
      "chmod 600 the file, and chmod 700 its folder, which holds -wal and -shm beside it",
    ),
    header[WRITE_VERSION_OFFSET] === WRITE_AHEAD || header[WRITE_VERSION_OFFSET] === 0
      ? ok("write-ahead-log", "on")
      : warn(
        "write-ahead-log",
        "was off until this look, so readers and writers stopped each other",
        "let every program use this version's library, which turns it on, and keep the file off network drives",
      ),
  ];
}

async function aboutDonations({ vault, now }: DatabaseQuestion, isOpen: boolean): Promise<Finding[]> {
  const names = ["database-clock", "readable", "old-key", "upkeep", "revocations"];
  if (!isOpen) return names.map((name) => unseen(name, "the database, its schema and the key"));
  const { store, keyring } = await vault.unlock();
  const before = now();
  const figures = await store.figures();
  const skewMs = figures.now - (before + now()) / 2;
  const unreadable = await unreadableIn(vault);
  const oldTexts = (await store.keyUse()).filter(({ kid }) => kid !== keyring.kid)
    .reduce((sum, { donations, refresh_tokens, revocations }) => sum + donations + refresh_tokens + revocations, 0);
  return [
    clockFinding("database-clock", "the database's clock", skewMs, "this machine and on the database's"),
    unreadable === 0 ? ok("readable", `${figures.donations} donations open`) : fail(
      "readable",
      `${unreadable} of ${figures.donations} donations do not open with the keys at hand`,
      "name the older keys in TOKEN_ENCRYPTION_KEYS_PREVIOUS; if they are lost, `remove` these donations",
    ),
    oldTexts === 0
      ? ok("old-key", "everything is sealed under the current key")
      : warn("old-key", `${oldTexts} texts are sealed under another key than the current one`, "run `rotate-key`"),
    upkeepFinding(figures),
    figures.stuck === 0 ? ok("revocations", `${figures.revocations} waiting`) : warn(
      "revocations",
      `${figures.stuck} of ${figures.revocations} revocations have been waiting for an hour, or were tried three times`,
      "run `upkeep`; if they stay, see whether oauth-app and readable are in order",
    ),
  ];
}

async function unreadableIn(vault: Vault): Promise<number> {
  const store = await vault.store();
  let unreadable = 0;
  for (let after = 0;;) {
    const page = await store.donations(after, 500);
    if (page.length === 0) return unreadable;
    after = page.at(-1)!.id;
    for (const { githubUserId, token, refreshToken } of page) {
      const opens = await vault.openText(token, "token", githubUserId) !== null &&
        (refreshToken === null || await vault.openText(refreshToken, "refresh_token", githubUserId) !== null);
      if (!opens) unreadable++;
    }
  }
}

function upkeepFinding({ expiring, expired, overdue }: StoredFigures): Finding {
  const remedy = "run `upkeep` by a timer, every 15 minutes (on Val Town, lib/upkeep.cron.ts); now run it by hand";
  if (expired > 0) return fail("upkeep", `${expired} tokens have expired, and nobody has refreshed them`, remedy);
  if (overdue > 0) return warn("upkeep", `${overdue} donations should have been seen to before now`, remedy);
  return ok("upkeep", expiring === 0 ? "nothing is overdue" : `nothing is overdue; ${expiring} tokens expire`);
}
