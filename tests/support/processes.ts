/** Runs database_process.ts. */

import { fileURLToPath } from "node:url";

const SCRIPT = fileURLToPath(new URL("database_process.ts", import.meta.url));

/** Starts it, with pipes for what goes in and comes out. */
export function spawn(...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--quiet", SCRIPT, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

/** Reads a database file from another process. */
export async function readElsewhere(file: string, sql: string): Promise<Record<string, unknown>[]> {
  const reader = spawn("read", file, sql);
  await reader.stdin.close();
  const { stdout, success } = await reader.output();
  if (!success) throw new Error("The reading process failed");
  return JSON.parse(new TextDecoder().decode(stdout));
}

/**
 * Holds a write lock on a file from another process: for so many milliseconds from now, or else until it is released.
 *
 * @returns `release` resolves when the lock is no more.
 */
export async function lockElsewhere(file: string, ms?: number): Promise<{ release: () => Promise<void> }> {
  const locker = spawn("lock", file, ...ms === undefined ? [] : [String(ms)]);
  const lines = linesOf(locker);
  await lines.next();
  return {
    async release() {
      await locker.stdin.close();
      await lines.return(undefined);
      await locker.status;
    },
  };
}

/** What a process prints, line by line. */
export async function* linesOf(process: Deno.ChildProcess): AsyncGenerator<string, void, undefined> {
  let rest = "";
  for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}
