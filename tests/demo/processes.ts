/**
 * Processes that end with the demo, however the demo ends.
 *
 * @module
 */

import process from "node:process";

/** What is to be run. */
export interface Program {
  /** Of `deno`. */
  args: string[];
  cwd: string;
  /** All variables of the pool that the program sees. */
  env: Record<string, string>;
}

/** A running program. */
export interface RunningProgram {
  /** What it prints, line by line. */
  lines(): AsyncGenerator<string, void, undefined>;
  /** What it complains about, once it has ended. */
  complaints: Promise<string>;
  status: Promise<Deno.CommandStatus>;
}

/**
 * Starts a program.
 *
 * @param cleanup Ends it. Once that has happened nothing is started any more.
 */
export function start(cleanup: AsyncDisposableStack, { args, cwd, env }: Program): RunningProgram {
  if (cleanup.disposed) throw new Error("The demo is over");
  const child = new Deno.Command(Deno.execPath(), {
    args,
    cwd,
    env: { ...environmentWithoutPool(), ...env },
    clearEnv: true,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let hasEnded = false;
  const status = child.status.finally(() => hasEnded = true);
  const complaints = new Response(child.stderr).text();
  cleanup.defer(async () => {
    if (!hasEnded) child.kill("SIGTERM");
    await status;
  });
  return { lines: () => linesOf(child.stdout), complaints, status };
}

/** The environment of the demo, but for what would set up a pool: the demo sets up its own. */
function environmentWithoutPool(): Record<string, string> {
  const isOfPool = /^(GITHUB_|TOKEN_|VALTOWN|valtown$|PUBLIC_URL$|PORT$|HOST$)/;
  const entries = Object.entries(process.env).filter(([name]) => !isOfPool.test(name));
  return Object.fromEntries(entries as [string, string][]);
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}
