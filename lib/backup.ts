/**
 * Backups: all that donors have given, sealed as it is stored, in a file that can be restored into any database.
 *
 * One JSON value a line (NDJSON), UTF-8, names as the tables have them:
 *
 *     {"format":"github-token-pool-backup","version":1,"exported_at":…,"last_id":…,"canaries":[["<kid>","v1.…"]]}
 *     {"type":"donation","github_user_id":"583231","token":"v1.…",…}            any number
 *     {"type":"revocation","github_user_id":"583231","token":"v1.…","kind":…}   any number
 *     {"type":"end","rows":…,"sha256":"…","kid":"…","mac":"…"}
 *
 * `sha256` is a chain over all lines before, each hashed with the digest of the ones before it, and `mac` is of that, by
 * a key that is derived of the pool's: a file that was cut off, damaged or edited (a later donation than the withdrawal,
 * a smaller reserve) is refused before anything is written.
 *
 * Not in it: windows, counters and daily figures. GitHub tells the windows with the first response, and the rest is
 * history that nobody needs restored.
 *
 * A backup knows nothing of what happened after it was made. So:
 *
 * - A donation whose donor has withdrawn since is skipped. The pool remembers withdrawals by keyed hashes, for as long
 *   as a backup may be old. An older one is refused, and one with withdrawals since that only a missing key can tell.
 * - The database may be lost, and what it remembered with it, or a service of before version 3 of the schema may have
 *   taken the withdrawal. So what is restored is a suspect, due at once: upkeep asks GitHub, where a withdrawal has
 *   revoked the grant, before anything is handed out.
 * - A newer donation of the same donor stays.
 *
 * Each batch is a transaction by itself, and restoring twice changes nothing: cut off, it can be run again.
 *
 * @module
 */

import { z } from "npm:zod@4.6.7";
import { MAX_RESERVE } from "./config.ts";
import { isSameText, type Keyring, sha256Base64Url } from "./crypto.ts";
import { PoolError } from "./errors.ts";
import {
  type BackedUpDonation,
  type BackedUpRevocation,
  type RestoredDonations,
  type RestoredRevocations,
  WITHDRAWALS_KEPT_MS,
} from "./records.ts";
import type { Store } from "./store.ts";
import type { SealedColumn, Vault } from "./vault.ts";

const FORMAT = "github-token-pool-backup";
const VERSION = 1;

/** Rows that are read from the database at once. */
const PAGE = 500;

/** Rows that are restored in one transaction: few enough that nobody waits for it, some ten milliseconds. */
const BATCH = 50;

/** Longer than any row: two sealed texts of at most 2,800 characters, and names. */
const LINE_AT_MOST = 65_536;

/** What is not of this form was never sealed, or is damaged: nobody can use it, and a backup does not show it. */
const SEALED = /^v1\.[0-9a-f]{8}\.[\w-]{16}\.[\w-]{22,}$/;

const epochMs = z.number().min(0);
const sealed = z.string().regex(SEALED).or(z.literal(""));

const headSchema = z.object({
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  /** By the database's clock. */
  exported_at: epochMs,
  /** The highest id that the pool had given to a donation. */
  last_id: z.int().min(0),
  canaries: z.array(z.tuple([z.string(), z.string()])),
});

const lineSchema = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("donation"),
    github_user_id: z.string().min(1),
    github_username: z.string().nullable(),
    token: sealed,
    refresh_token: sealed.nullable(),
    expires_at: z.number().nullable(),
    reserve: z.number().min(0).max(MAX_RESERVE),
    donated_at: epochMs,
    paused_at: epochMs.nullable(),
    held_until: epochMs,
  }),
  z.object({
    type: z.literal("revocation"),
    github_user_id: z.string(),
    token: sealed,
    kind: z.enum(["token", "grant"]),
  }),
  z.object({ type: z.literal("end"), rows: z.int(), sha256: z.string(), kid: z.string(), mac: z.string() }),
]);

type Head = z.output<typeof headSchema>;
type Row = Exclude<z.output<typeof lineSchema>, { type: "end" }>;

/** Something that can be read more than once, such as a `Blob`. */
export type Backup = Pick<Blob, "stream">;

/** What came of a backup. */
export interface ImportReport {
  /** `unreadable`: no key at hand opens it; give its key as a previous one, and import again. */
  donations: RestoredDonations & { unreadable: number };
  revocations: RestoredRevocations & { unreadable: number };
}

/** How to import. */
export interface ImportOptions {
  /** Only tell what would come of it. */
  dryRun?: boolean;
  /** Called after each batch, with the number of rows so far. */
  onProgress?: (done: number) => void;
}

/**
 * Makes a backup.
 *
 * @returns Its lines, without line ends, as they are read from the database.
 * @throws {PoolError} With code `config`, `database` or `wrong_key`.
 */
export async function* exportPool(vault: Vault): AsyncGenerator<string, void, undefined> {
  const { store, keyring } = await vault.unlock();
  let sha256 = "";
  const line = async (value: object) => {
    const text = JSON.stringify(value);
    sha256 = await chained(sha256, text);
    return text;
  };
  const canaries = await store.open();
  const { now, lastId } = await store.backupHead();
  yield await line({ format: FORMAT, version: VERSION, exported_at: now, last_id: lastId, canaries } satisfies Head);
  let rows = 0;
  for await (const row of rowsOf(store)) {
    rows++;
    yield await line(row);
  }
  const [mac] = await keyring.macs("backup", sha256);
  yield JSON.stringify({ type: "end", rows, sha256, ...mac });
}

/**
 * Restores a backup into an empty or a living pool.
 *
 * @param vault A vault with the key that the backup was made under, as current or as previous.
 * @param backup The lines of {@linkcode exportPool}, each with its line end.
 * @returns What came of it, or with `dryRun` would.
 * @throws {PoolError} With code `wrong_key` when a key is missing, and `config` when the backup is not whole, not of this
 * kind or too old; then nothing was written. With `database` what was restored by then stays, and it can be run again.
 */
export async function importPool(
  vault: Vault,
  backup: Backup,
  { dryRun = false, onProgress = () => {} }: ImportOptions = {},
): Promise<ImportReport> {
  const { store, keyring } = await vault.unlock();
  const { head, kids } = await verify(backup, keyring);
  await assertWithdrawalsAreKnown(store, keyring, head);
  // Who has only an older key goes on with what is sealed under it, until the keys are rotated.
  if (!dryRun) await vault.admit(head.canaries.filter(([kid]) => kids.has(kid)));

  const report: ImportReport = {
    donations: { added: 0, replaced: 0, kept: 0, withdrawn: 0, unreadable: 0 },
    revocations: { added: 0, kept: 0, unreadable: 0 },
  };
  let done = 0;
  for await (const batch of batchesOf(backup)) {
    const donations: (BackedUpDonation & { hashes: string[] })[] = [];
    const revocations: BackedUpRevocation[] = [];
    for (const row of batch) {
      if (!await opens(keyring, row)) report[`${row.type}s`].unreadable++;
      else if (row.type === "revocation") revocations.push(row);
      else donations.push({ ...row, hashes: (await vault.tombstones(row.github_user_id)).map(({ mac }) => mac) });
    }
    if (donations.length > 0) {
      add(report.donations, await store.restoreDonations(donations, { lastId: head.last_id, dryRun }));
    }
    if (revocations.length > 0) add(report.revocations, await store.restoreRevocations(revocations, { dryRun }));
    onProgress(done += batch.length);
  }
  return report;
}

async function* rowsOf(store: Store): AsyncGenerator<Row, void, undefined> {
  for (let after = 0;;) {
    const page = await store.backupDonations(after, PAGE);
    if (page.length === 0) break;
    for (const [, { token, refresh_token: refresh, ...donation }] of page) {
      yield { type: "donation", ...donation, token: sealedOnly(token), refresh_token: refresh && sealedOnly(refresh) };
    }
    after = page.at(-1)![0];
  }
  for (let after = 0;;) {
    const page = await store.backupRevocations(after, PAGE);
    if (page.length === 0) break;
    for (const [, { token, ...revocation }] of page) {
      yield { type: "revocation", ...revocation, token: sealedOnly(token) };
    }
    after = page.at(-1)![0];
  }
}

/** Reads a backup to its end before anything is done with it: whether it is whole, and of this pool. */
async function verify(backup: Backup, keyring: Keyring): Promise<{ head: Head; kids: Set<string> }> {
  const kids = new Set<string>();
  let head: Head | null = null;
  let rows = 0;
  let sha256 = "";
  for await (const text of linesOf(backup)) {
    if (head === null) head = parseHead(text);
    else {
      const line = parseLine(text, rows);
      if (line.type === "end") {
        if (line.rows !== rows || line.sha256 !== sha256) {
          throw unusable("is damaged: its digest is of other rows");
        }
        await assertGenuine(keyring, line);
        return { head, kids };
      }
      rows++;
      kids.add(kidOf(line.token));
    }
    sha256 = await chained(sha256, text);
  }
  throw unusable(head === null ? "is empty" : `is cut off after ${rows} rows`);
}

/** The digest of a line and of all before it. */
async function chained(before: string, line: string): Promise<string> {
  return await sha256Base64Url(`${before}\n${line}`);
}

async function assertGenuine(keyring: Keyring, { sha256, kid, mac }: { sha256: string; kid: string; mac: string }) {
  const own = (await keyring.macs("backup", sha256)).find((own) => own.kid === kid);
  if (own === undefined) {
    throw new PoolError(
      "wrong_key",
      `The backup was made under the key ${kid}, which is not at hand: set it as TOKEN_ENCRYPTION_KEY, or in ` +
        "TOKEN_ENCRYPTION_KEYS_PREVIOUS. Nothing was written",
    );
  }
  if (!await isSameText(own.mac, mac)) throw unusable("is not as it was made: somebody without the key has changed it");
}

async function assertWithdrawalsAreKnown(store: Store, keyring: Keyring, { exported_at: since }: Head): Promise<void> {
  const { now } = await store.backupHead();
  if (since < now - WITHDRAWALS_KEPT_MS) {
    throw unusable("is older than 13 months, and nobody remembers who has withdrawn since");
  }
  const unknown = await store.withdrawalsUnderOtherKeys(keyring.kids, since);
  if (unknown === 0) return;
  throw new PoolError(
    "wrong_key",
    `Since the backup was made ${unknown} donors have withdrawn under a key that is not at hand, so that nobody can tell ` +
      "who they are: set all keys since then in TOKEN_ENCRYPTION_KEYS_PREVIOUS. Nothing was written",
  );
}

async function* batchesOf(backup: Backup): AsyncGenerator<Row[], void, undefined> {
  let batch: Row[] = [];
  let count = -1;
  for await (const text of linesOf(backup)) {
    if (count++ < 0) continue; // the head
    const line = parseLine(text, count);
    if (line.type === "end") break;
    if (batch.push(line) < BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

async function* linesOf(backup: Backup): AsyncGenerator<string, void, undefined> {
  let rest = "";
  for await (const text of backup.stream().pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
    if (rest.length > LINE_AT_MOST) throw unusable("has a line that is longer than any of a backup");
  }
  if (rest !== "") yield rest;
}

function parseHead(text: string): Head {
  const value = parseJson(text);
  const { format, version } = (value ?? {}) as { format?: unknown; version?: unknown };
  if (format !== FORMAT) throw unusable("is none: its first line is not that of a backup");
  if (version !== VERSION) throw unusable("is of another version of this software: restore it with that");
  const head = headSchema.safeParse(value);
  if (!head.success) throw unusable("is damaged in line 1");
  return head.data;
}

function parseLine(text: string, rows: number): z.output<typeof lineSchema> {
  const line = lineSchema.safeParse(parseJson(text));
  if (!line.success) throw unusable(`is cut off or damaged in line ${rows + 2}`);
  return line.data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What is wrong, and nothing of what was found, which may be anything. */
function unusable(fault: string): PoolError {
  return new PoolError("config", `The backup ${fault}. Nothing was written`);
}

async function opens(keyring: Keyring, row: Row): Promise<boolean> {
  const { github_user_id: githubUserId, token } = row;
  const isOpened = async (column: SealedColumn, text: string) =>
    await keyring.open(text, { column, githubUserId }) !== null;
  const refreshToken = row.type === "donation" ? row.refresh_token : null;
  return await isOpened("token", token) && (refreshToken === null || await isOpened("refresh_token", refreshToken));
}

function sealedOnly(text: string): string {
  return SEALED.test(text) ? text : "";
}

function kidOf(sealed: string): string {
  return sealed.split(".")[1] ?? "";
}

function add<Counts extends object>(sum: { [Name in keyof Counts]: number }, more: { [Name in keyof Counts]: number }) {
  for (const name of Object.keys(more) as (keyof Counts)[]) sum[name] += more[name];
}
