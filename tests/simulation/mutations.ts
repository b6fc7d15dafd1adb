/**
 * Breaks each promise of the pool on purpose, in a copy of the tree, and sees that the simulator notices.
 *
 * A mutation replaces text of `lib/`. Where that text is not there any more it fails: then the mutation is to be
 * rewritten, not skipped. In its copy seeds are run until the promise that it breaks is seen broken.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { type Edit, type Mutation, MUTATIONS } from "./mutation_list.ts";

/** What came of one. */
export interface MutationResult {
  mutation: Mutation;
  /** The first seed that noticed; null = none did. */
  seed: number | null;
  step: number | null;
  message: string;
}

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const COPIED = ["lib", "tests/simulation", "tests/support", "deno.json", "deno.lock"];
const SEEDS_AT_MOST = 60;

/** Runs them all and prints a table. Returns whether each was noticed. */
export async function runMutations(print: (line: string) => void): Promise<boolean> {
  print("| invariant | what is broken | seed | round trip | what the simulator says |");
  print("|---|---|---|---|---|");
  let areAllNoticed = true;
  for (const mutation of MUTATIONS) {
    const { seed, step, message } = await runMutation(mutation);
    if (seed === null) areAllNoticed = false;
    print(`| ${mutation.invariant} | ${mutation.what} | ${seed ?? "**none**"} | ${step ?? ""} | ${message} |`);
  }
  return areAllNoticed;
}

/** Runs one in a copy of the tree, until a seed notices. */
export async function runMutation(mutation: Mutation, seeds = SEEDS_AT_MOST): Promise<MutationResult> {
  const folder = await Deno.makeTempDir({ prefix: "token-pool-mutation-" });
  try {
    for (const path of COPIED) await copy(`${ROOT}${path}`, `${folder}/${path}`);
    for (const edit of mutation.edits) {
      const path = `${folder}/${edit.file}`;
      await Deno.writeTextFile(path, applied(edit, await Deno.readTextFile(path)));
    }
    const { invariant } = mutation;
    const args = ["--json", "--first", "--invariant", String(invariant), "--seeds", String(seeds)];
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", "--no-check", "--quiet", `${folder}/tests/simulation/simulate.ts`, ...args],
      cwd: folder,
      stderr: "null",
    });
    const { stdout } = await child.output();
    const [failed] = (JSON.parse(new TextDecoder().decode(stdout)) as {
      failed: { seed: number; step: number; message: string }[];
    }).failed;
    if (failed === undefined) return { mutation, seed: null, step: null, message: `nothing, in ${seeds} seeds` };
    return { mutation, seed: failed.seed, step: failed.step, message: failed.message };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A source with an edit. Throws when the text is not there, or more than once. */
export function applied({ file, from, to }: Edit, source: string): string {
  const count = source.split(from).length - 1;
  if (count !== 1) throw new Error(`The text of a mutation occurs ${count} times in ${file}, not once: ${from}`);
  return source.replace(from, () => to);
}

async function copy(from: string, to: string): Promise<void> {
  if (!(await Deno.stat(from)).isDirectory) return await Deno.copyFile(from, to);
  await Deno.mkdir(to, { recursive: true });
  for await (const { name } of Deno.readDir(from)) await copy(`${from}/${name}`, `${to}/${name}`);
}
