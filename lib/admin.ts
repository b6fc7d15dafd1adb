/**
 * The operator's command line: `deno task admin <command> [options]`. It never prints a token or a key, and takes a token
 * from standard input only.
 *
 * Exit codes: 0 done; 1 failed, or not wholly done; 2 not understood; 3 not confirmed. What a command has changed stays
 * in order wherever it is cut off: running it again finishes the work.
 *
 * @module
 */

import { add } from "./add.ts";
import { exportPool, importPool } from "./backup.ts";
import { type CommandWords, type Option, understand, usage } from "./command_line.ts";
import { processEnvironment } from "./config.ts";
import { type Output, type Progress, progressOn, render } from "./console.ts";
import { examine } from "./doctor.ts";
import { PoolError } from "./errors.ts";
import type { GitHub } from "./github.ts";
import { remove, revokeAll } from "./revoke.ts";
import { auditKeys, rotateKey } from "./rotate.ts";
import { openGitHub, openVault, type ServiceOptions } from "./service.ts";
import { Stats } from "./stats.ts";
import { runUpkeep } from "./upkeep.ts";
import type { Vault } from "./vault.ts";
import { verify } from "./verify.ts";

export type { Output } from "./console.ts";

const PROGRAM = "deno task admin";

/** How many characters of standard input are read: more than the longest token has. */
const INPUT_AT_MOST = 8192;

/** Standard input. */
export interface Input {
  /** Its first line, without the blanks around it; a terminal does not show what is hidden. */
  line(options?: { hidden?: boolean }): Promise<string>;
  /** All of it. */
  all(): Promise<Blob>;
}

/** What a command is given. */
interface Call {
  vault: Vault;
  options: ServiceOptions;
  output: Output;
  operand: string;
  flags: ReadonlySet<string>;
  values: ReadonlyMap<string, string>;
  /** `--dry-run`: look, and change nothing. */
  dryRun: boolean;
  progress: Progress;
  input: Input;
  github: () => GitHub;
}

/** What a command has found. */
interface Result {
  /** Null = all that there is to say has been written. */
  found: object | null;
  /** How people are shown it; by default as a table. */
  lines?: string[];
  /** Also for people, on standard error. */
  notes?: string[];
  /** 0 when absent. */
  code?: 0 | 1 | 3;
}

interface Command extends CommandWords {
  run(call: Call): Promise<Result>;
}

const DRY_RUN: Record<"dry-run", Option> = { "dry-run": { what: "say what would be done, and change nothing" } };

/** A command is one entry here. */
const COMMANDS: Readonly<Record<string, Command>> = {
  list: {
    what: "every donation: login, state, limit, remaining, calls, key id",
    run: async ({ vault }) => ({ found: await (await vault.store()).list() }),
  },
  stats: {
    what: "what /status says, and what was counted",
    run: async ({ vault }) => {
      const { status, counters, error } = await new Stats(vault).snapshot();
      const found = { ...status, counters };
      return error === null ? { found } : { found, notes: [error.message], code: 1 };
    },
  },
  doctor: {
    what: "looks at settings, key, database, clocks, GitHub and backlogs, and says what to do",
    run: diagnose,
  },
  verify: {
    what: "asks GitHub whether the tokens of suspects are still good, and acts on it as upkeep does",
    options: { all: { what: "of every donation; goes on where a run of the last day was cut off" }, ...DRY_RUN },
    run: check,
  },
  add: {
    what: "stores a token of your own, which it reads from standard input",
    options: { reserve: { value: "<0 to 0.95>", what: "share of each limit that is never used" }, ...DRY_RUN },
    run: async ({ vault, github, input, values, dryRun }) => {
      const reserve = values.get("reserve");
      const share = reserve === undefined ? {} : { reserve: /^\d*\.?\d+$/.test(reserve) ? Number(reserve) : NaN };
      return { found: await add(await input.line({ hidden: true }), { vault, github: github(), dryRun, ...share }) };
    },
  },
  remove: {
    what: "deletes one donation and revokes its grant at GitHub",
    operand: "<login | GitHub user id | #id>",
    options: { reason: { value: "<text>", what: "why; it is counted", isRequired: true }, ...DRY_RUN },
    run: async ({ vault, github, operand, values, dryRun }) => ({
      found: await remove(operand, reasonOf(values.get("reason")!), { vault, github: github(), dryRun }),
    }),
  },
  "revoke-all": {
    what: "the emergency: revokes every token at GitHub and deletes the donations",
    options: {
      yes: { what: "do not ask" },
      "one-by-one": { what: "a token at a call, as the app; GitHub Enterprise has no other way" },
      ...DRY_RUN,
    },
    run: revokeEverything,
  },
  upkeep: {
    what: "one round: suspects, expiring and idle tokens, revocations, limits, snapshot",
    options: DRY_RUN,
    run: async ({ vault, github, dryRun }) => ({
      found: dryRun ? { due: (await (await vault.store()).stats()).due } : await runUpkeep({ vault, github: github() }),
    }),
  },
  "rotate-key": {
    what: "seals everything under the current key; `--dry-run` counts what is sealed under which",
    options: DRY_RUN,
    run: rotate,
  },
  export: {
    what: "writes a backup to standard output, sealed as the database is",
    run: async ({ vault, output }) => {
      for await (const line of exportPool(vault)) output.log(line);
      return { found: null };
    },
  },
  import: {
    what: "restores a backup from standard input; brings nobody back who has withdrawn",
    options: DRY_RUN,
    run: async ({ vault, input, dryRun, progress }) => {
      const onProgress = (done: number) => progress(done, null);
      const found = await importPool(vault, await input.all(), { dryRun, onProgress });
      return { found, code: found.donations.unreadable + found.revocations.unreadable > 0 ? 1 : 0 };
    },
  },
};

/**
 * Runs a command.
 *
 * @param args The words after `deno task admin`.
 * @param options The world, each part with a default.
 * @param output Where to write.
 * @param input Standard input.
 * @returns The exit code.
 */
export async function runAdmin(
  args: string[],
  options: ServiceOptions = {},
  output: Output = console,
  input: Input = { line: readLine, all: () => new Response(Deno.stdin.readable).blob() },
): Promise<number> {
  const understood = understand(args, PROGRAM, COMMANDS);
  if (understood.kind === "help") {
    output.log(understood.text);
    return 0;
  }
  if (understood.kind === "error") {
    output.error(`${understood.message}\n\n${usage(PROGRAM, COMMANDS)}`);
    return 2;
  }
  const { name, operand, flags, values } = understood;
  const vault = openVault(options);
  const { show: progress, end } = progressOn(output);
  try {
    const { found, lines, notes = [], code = 0 } = await COMMANDS[name]!.run({
      ...{ vault, options, output, operand, flags, values, progress, input },
      dryRun: flags.has("dry-run"),
      github: () => openGitHub(vault.settings, options.fetch),
    });
    end();
    const said = found === null ? [] : flags.has("json") ? [JSON.stringify(found)] : lines ?? render(found);
    for (const line of said) output.log(line);
    for (const note of notes) output.error(note);
    return code;
  } catch (error) {
    end();
    output.error(sayable(error));
    return 1;
  } finally {
    await vault.close();
  }
}

async function diagnose({ vault, options, github }: Call): Promise<Result> {
  const found = await examine({
    vault,
    environment: options.environment ?? processEnvironment,
    openGitHub: github,
    now: options.now ?? Date.now,
    elapsed: () => performance.now(),
  });
  const width = Math.max(...found.map(({ name }) => name.length));
  const lines = found.flatMap(({ name, status, found, remedy }) => [
    `${status.padEnd(4)}  ${name.padEnd(width)}  ${found}`,
    ...(remedy === null ? [] : [`${" ".repeat(width + 8)}-> ${remedy}`]),
  ]);
  return { found, lines, code: found.some(({ status }) => status === "fail") ? 1 : 0 };
}

async function check({ vault, github, flags, dryRun, progress }: Call): Promise<Result> {
  const found = await verify({ vault, github: github(), all: flags.has("all"), dryRun, onProgress: progress });
  const notes = found.incident
    ? [
      "GitHub does not know 5 tokens within a minute, which is taken for an incident: the check ended, and nothing was " +
      "deleted. Upkeep deletes what is suspect once it has been told so twice, 10 minutes apart",
    ]
    : found.stopped
    ? ["GitHub does not answer clearly, so the check ended; run it again in an hour"]
    : [];
  return { found, notes, code: found.stopped || found.unclear > 0 ? 1 : 0 };
}

async function revokeEverything({ vault, github, flags, dryRun, progress, input, output }: Call): Promise<Result> {
  const oneByOne = flags.has("one-by-one");
  const { store } = await vault.unlock();
  const { donations, revocations } = await store.figures();
  if (!dryRun && !flags.has("yes")) {
    output.error(
      `This revokes the tokens of ${donations} donations, and ${revocations} earlier tokens, at GitHub and for ever, ` +
        "and deletes the donations. Set TOKEN_POOL_DISABLED before, so that none comes meanwhile. " +
        `Type the number of donations to go on: ${donations}`,
    );
    if (await input.line() !== String(donations)) {
      return { found: { donations, revoked: 0, removed: 0, left: 0 }, notes: ["Nothing was changed"], code: 3 };
    }
  }
  const found = await revokeAll({ vault, github: github(), dryRun, oneByOne, onProgress: progress });
  if (found.left === 0) return { found };
  const note =
    `${found.left} could not be revoked and are as they were: those that do not open, personal tokens when ` +
    "revoked one by one, and those that GitHub would not revoke now. Run it again, or see `doctor`";
  return { found, notes: [note], code: 1 };
}

async function rotate({ vault, dryRun, progress }: Call): Promise<Result> {
  if (dryRun) {
    const { current, keys } = await auditKeys(vault);
    return { found: keys.map((use) => ({ ...use, is_current: use.kid === current })) };
  }
  const found = await rotateKey(vault, (done) => progress(done, null));
  if (found.remaining === 0) return { found };
  const note = `${found.remaining} rows are under another key still, so keep the old one: run it again in a minute. ` +
    "Those that are unreadable need their own key among TOKEN_ENCRYPTION_KEYS_PREVIOUS, or `remove`";
  return { found, notes: [note], code: 1 };
}

/** It is kept in the database and shown, so it must be short, and nothing that looks like a token or a key. */
function reasonOf(text: string): string {
  if (/^[\p{L}\p{N}\p{P}\p{S} ]{1,80}$/u.test(text) && !/\b(?:gh[a-z]_|github_pat_|v1\.)|[0-9a-f]{32}/i.test(text)) {
    return text;
  }
  throw new RangeError("--reason must be 1 to 80 letters, digits, signs and blanks, and nothing secret");
}

/** What may be shown of an error: of one that nobody foresaw only where it happened, for its text may hold anything. */
function sayable(error: unknown): string {
  if (error instanceof PoolError || error instanceof RangeError) return error.message;
  const { name, stack = "" } = error instanceof Error ? error : new Error();
  return [`Unforeseen ${name}`, ...stack.split("\n").filter((line) => /^\s+at /.test(line))].join("\n");
}

async function readLine({ hidden = false } = {}): Promise<string> {
  const isHidden = hidden && Deno.stdin.isTerminal();
  if (isHidden) {
    Deno.stdin.setRaw(true, { cbreak: true });
    console.error("Paste the token, which is not shown, and press Enter");
  }
  let text = "";
  try {
    for await (const part of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
      text += part;
      if (/\S\s*[\r\n]/.test(text) || text.length > INPUT_AT_MOST) break;
    }
  } finally {
    if (isHidden) Deno.stdin.setRaw(false);
  }
  return text.trim().split(/[\r\n]/, 1)[0]!.trim();
}

/** Standard output and error; the status line only where a terminal shows it. */
function processOutput(): Output {
  const { log, error } = console;
  if (!Deno.stderr.isTerminal()) return { log, error };
  const status = (line: string) => void Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${line}`));
  return { log, error, status };
}

if (import.meta.main) runAdmin(Deno.args, {}, processOutput()).then((code) => Deno.exitCode = code);
