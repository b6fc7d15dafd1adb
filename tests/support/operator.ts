/** The operator at work in this process: commands on a temporary service, and nobody sees a secret. */

import assert from "node:assert/strict";
import { runAdmin } from "../../lib/admin.ts";
import type { ServiceOptions } from "../../lib/service.ts";
import { KEY, OTHER_KEY } from "./fixtures.ts";
import type { Service } from "./service.ts";

/** What a command has said. */
export interface Said {
  code: number;
  out: string;
  err: string;
}

/** What a command may be given besides its words. */
export interface Given {
  /** What comes on standard input. */
  input?: string;
  /** The world, where it differs from the service's. */
  options?: Partial<ServiceOptions>;
}

/** Runs a command on a service, and asserts that no secret was said. */
export async function operate(service: Service, args: string[], given: Given = {}): Promise<Said> {
  const said = await operateSealed(service, args, given);
  assertNothingSecret(said, service.github.secrets);
  return said;
}

/** The same of a command that writes sealed texts, as it should. */
export async function operateSealed(
  service: Service,
  args: string[],
  { input = "", options }: Given = {},
): Promise<Said> {
  const lines: Record<"out" | "err", string[]> = { out: [], err: [] };
  const output = {
    log: (line: string) => void lines.out.push(line),
    error: (line: string) => void lines.err.push(line),
  };
  const standardInput = { line: () => Promise.resolve(input), all: () => Promise.resolve(new Blob([input])) };
  const code = await runAdmin(args, { ...service.options, ...options }, output, standardInput);
  const said = { code, out: lines.out.join("\n"), err: lines.err.join("\n") };
  // What is random may look like anything: sealed texts, and a backup's digests.
  const out = said.out.replaceAll(/v1\.[\w.-]+/g, "sealed").replaceAll(/"(?:sha256|mac)":"[\w-]{43}"/g, "digest");
  assertNothingSecret({ out, err: said.err }, service.github.secrets);
  return said;
}

/** The same with `--json`: what was found, and the exit code. */
export async function find(service: Service, args: string[], given: Given = {}) {
  const { code, out, err } = await operate(service, [...args, "--json"], given);
  return { code, found: out === "" ? null : JSON.parse(out), err };
}

/** Asserts that a command has said nothing of what nobody may see. */
export function assertNothingSecret({ out, err }: Pick<Said, "out" | "err">, secrets: Iterable<string>): void {
  for (const secret of [KEY, OTHER_KEY, ...secrets]) assert.ok(!(out + err).includes(secret), "a secret was shown");
  assert.doesNotMatch(out + err, /\b(?:gh[a-z]_\w{5}|github_pat_\w|v1\.[0-9a-f]{8}\.)/);
}

/** Stores donations of these users, whose tokens GitHub knows, and returns the tokens by login. */
export async function lend(
  { github, vault }: Pick<Service, "github" | "vault">,
  logins: readonly string[],
): Promise<Record<string, string>> {
  const tokens: Record<string, string> = {};
  for (const login of logins) {
    const { id } = github.addUser(login);
    tokens[login] = github.grantToken(login);
    await vault.deposit({ github_user_id: String(id), github_username: login, token: tokens[login] });
  }
  return tokens;
}

const TABLES = [
  ...["meta", "canaries", "tokens", "resources", "limits", "suspicions", "revocations", "counters", "pauses"],
  "tombstones",
];

/** All that is stored, to be compared. */
export async function everything({ database }: Pick<Service, "database">): Promise<Record<string, unknown[]>> {
  const tables: Record<string, unknown[]> = {};
  for (const table of TABLES) tables[table] = await database.look(`SELECT * FROM token_pool_${table} ORDER BY 1, 2`);
  return tables;
}

/** Logins of the donations there are. */
export async function donors({ database }: Pick<Service, "database">): Promise<unknown[]> {
  return (await database.look("SELECT github_username AS login FROM token_pool_tokens ORDER BY id"))
    .map(({ login }) => login);
}

/** A counter's value. */
export async function counter({ database }: Pick<Service, "database">, name: string): Promise<unknown> {
  return (await database.look("SELECT value FROM token_pool_counters WHERE name = ?", [name]))[0]?.["value"] ?? 0;
}
