/**
 * The operator's command line: `deno task admin <command> [--json] [--dry-run]`. It never prints a token or a key.
 *
 * | command | what |
 * |---|---|
 * | `list` | every donation: login, state, limit, remaining, calls, key id |
 * | `stats` | what `/status` says |
 * | `upkeep` | one round: suspects, expiring and idle tokens, revocations, limits, snapshot |
 * | `rotate-key` | seals everything under the current key; can be cut off and run again; `--dry-run` counts rows by key |
 * | `export` | a backup, on standard output; see lib/backup.ts |
 * | `import` | restores a backup from standard input; `--dry-run` tells what would come of it |
 *
 * Exit codes: 0 done, 1 failed, 2 not understood.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { exportPool, importPool } from "./backup.ts";
import { PoolError } from "./errors.ts";
import { auditKeys, rotateKey } from "./rotate.ts";
import { openGitHub, openVault, type ServiceOptions } from "./service.ts";
import { Stats } from "./stats.ts";
import { runUpkeep } from "./upkeep.ts";
import type { Vault } from "./vault.ts";

const USAGE = `deno task admin <command> [--json] [--dry-run]

  list        every donation: login, state, limit, remaining, calls, key id
  stats       what /status says
  upkeep      one round of upkeep: suspects, expiring and idle tokens, revocations, limits, snapshot
  rotate-key  seals everything under the current key; can be cut off and run again
  export      a backup, on standard output
  import      restores a backup from standard input; what it restores is handed out once upkeep has asked GitHub

--dry-run     of rotate-key counts rows by key, and of import tells what would come of it; nothing is changed`;

/** Where a command writes. */
export interface Output {
  log(line: string): void;
  error(line: string): void;
}

/**
 * Runs a command.
 *
 * @param args The words after `deno task admin`.
 * @param options The world, each part with a default.
 * @param output Where to write.
 * @returns The exit code.
 */
export async function runAdmin(
  args: string[],
  options: ServiceOptions = {},
  output: Output = console,
): Promise<number> {
  const parsed = understand(args);
  if (parsed === null) {
    output.error(USAGE);
    return 2;
  }
  const vault = openVault(options);
  try {
    const found = await parsed.run(vault, options, output, parsed.dryRun);
    if (found === null) return 0;
    if (parsed.json) output.log(JSON.stringify(found));
    else for (const line of lines(found)) output.log(line);
    return 0;
  } catch (error) {
    if (!(error instanceof PoolError)) throw error;
    output.error(error.message);
    return 1;
  } finally {
    await vault.close();
  }
}

/** What it returns is printed; null = it has printed itself. */
type Command = (
  vault: Vault,
  options: ServiceOptions,
  output: Output,
  dryRun: boolean,
) => Promise<object | object[] | null>;

const COMMANDS: Readonly<Record<string, Command>> = {
  list: async (vault) => await (await vault.store()).list(),
  stats: async (vault) => (await new Stats(vault).snapshot()).status,
  upkeep: (vault, options) => runUpkeep({ vault, github: openGitHub(vault.settings, options.fetch) }),
  "rotate-key": (vault, _, output, dryRun) =>
    dryRun ? auditKeys(vault) : rotateKey(vault, (done) => output.error(`${done} rows`)),
  export: async (vault, _, output) => {
    for await (const line of exportPool(vault)) output.log(line);
    return null;
  },
  import: async (vault, _, output, dryRun) =>
    await importPool(vault, await new Response(Deno.stdin.readable).blob(), {
      dryRun,
      onProgress: (done) => output.error(`${done} rows`),
    }),
};

function understand(args: string[]): { run: Command; json: boolean; dryRun: boolean } | null {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { json: { type: "boolean", default: false }, "dry-run": { type: "boolean", default: false } },
    });
    const run = positionals.length === 1 && Object.hasOwn(COMMANDS, positionals[0]!)
      ? COMMANDS[positionals[0]!]
      : undefined;
    return run === undefined ? null : { run, json: values.json, dryRun: values["dry-run"] };
  } catch {
    return null; // an option that there is not
  }
}

/** For people: a row per thing, `name value` pairs. */
function lines(found: object | object[]): string[] {
  const rows = Array.isArray(found) ? found : [found];
  if (rows.length === 0) return ["none"];
  return rows.map((row) =>
    Object.entries(row).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`)
      .join("  ")
  );
}

if (import.meta.main) runAdmin(Deno.args).then((code) => Deno.exitCode = code);
