/** The stand-alone server as a process of its own, started as `deno task start` starts it, with a fake GitHub beside it. */

import { fileURLToPath } from "node:url";
import { assertNoCanary } from "./canaries.ts";
import { FakeGitHub } from "./fake_github.ts";
import { KEY, temporaryFolder } from "./fixtures.ts";
import { freePorts } from "./ports.ts";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What `deno task start` runs, word by word, without "deno". */
export async function startTask(): Promise<string[]> {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
  return tasks.start.split(" ").slice(1);
}

/** What a process needs of the environment to run at all, and no setting of a pool. */
export function essential(): Record<string, string> {
  const names = ["PATH", "HOME", "DENO_DIR", "NPM_CONFIG_REGISTRY", "npm_config_registry", "TMPDIR", "NO_COLOR"];
  return Object.fromEntries(names.map((name) => [name, Deno.env.get(name)]).filter(([, value]) => value !== undefined));
}

/** No server lives longer, whatever happens to its test. */
const LONGEST_MS = 120_000;

/** A running server. */
export interface Standalone extends AsyncDisposable {
  origin: string;
  github: FakeGitHub;
  /** The file of its database. */
  database: string;
  process: Deno.ChildProcess;
  /** What it has written so far, line by line. */
  lines: string[];
  /** All that it has written, once it has ended. */
  ended: Promise<{ code: number; lines: string[] }>;
}

/**
 * Starts the server and waits until it listens.
 *
 * @param options `variables`: of the environment, besides. `command`: what stands before `deno`, to run it otherwise.
 */
export async function startStandalone(
  { variables = {}, command = [], users = ["ada", "bob"] }: {
    variables?: Record<string, string>;
    command?: string[];
    users?: string[];
  } = {},
): Promise<Standalone> {
  const folder = await temporaryFolder();
  const [port, githubPort] = freePorts(2) as [number, number];
  const [origin, githubUrl] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${githubPort}`];
  const github = new FakeGitHub({ url: githubUrl, apiUrl: githubUrl, callbackUrl: `${origin}/callback` });
  for (const user of users) github.addUser(user);
  const fake = Deno.serve(
    { port: githubPort, hostname: "127.0.0.1", onListen() {} },
    (request) => github.handler(request),
  );
  const database = `${folder.path}/pool.db`;
  const [program, ...args] = [...command, Deno.execPath(), ...await startTask()];
  const process = new Deno.Command(program!, {
    args,
    cwd: ROOT,
    clearEnv: true,
    env: {
      ...essential(),
      GITHUB_CLIENT_ID: github.clientId,
      GITHUB_CLIENT_SECRET: github.clientSecret,
      GITHUB_URL: githubUrl,
      GITHUB_API_URL: githubUrl,
      TOKEN_ENCRYPTION_KEY: KEY,
      TOKEN_POOL_DATABASE_URL: `file:${database}`,
      PUBLIC_URL: origin,
      PORT: String(port),
      ...variables,
    },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(LONGEST_MS), // so that a test of a server that does not end does
  }).spawn();
  const lines: string[] = [];
  const listening = Promise.withResolvers<void>();
  const read = async (stream: ReadableStream<Uint8Array>) => {
    let rest = "";
    for await (const text of stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)) {
      const complete = (rest + text).split("\n");
      rest = complete.pop()!;
      lines.push(...complete);
      if (complete.some((line) => line.includes('"event":"start"'))) listening.resolve();
    }
    if (rest !== "") lines.push(rest);
  };
  const ended = Promise.all([process.status, read(process.stdout), read(process.stderr)])
    .then(([{ code }]) => ({ code, lines }));
  const server: Standalone = {
    origin,
    github,
    database,
    process,
    lines,
    ended,
    async [Symbol.asyncDispose]() {
      try {
        process.kill("SIGKILL");
      } catch {
        // it has ended already
      }
      await ended;
      await fake.shutdown();
      for (const line of lines) assertNoCanary("what the server wrote", line);
      await folder[Symbol.asyncDispose]();
      github.assertNoSurprises();
    },
  };
  const failed = ended.then(() => {
    throw new Error(`The server ended before it listened: ${lines.join("\n")}`);
  });
  try {
    await Promise.race([listening.promise, failed]);
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  failed.catch(() => {}); // from now on its end is the test's business
  return server;
}

/** A person's way to GitHub: where GitHub sends them back to, and the cookie that they bring. */
export async function goToGitHub(
  { origin, github }: Pick<Standalone, "origin" | "github">,
  login: string,
): Promise<{ callback: string; cookie: string }> {
  const away = await fetch(`${origin}/auth?reserve=0.5`, { redirect: "manual" });
  await away.body?.cancel();
  const cookie = away.headers.getSetCookie().map((text) => text.split(";")[0]).join("; ");
  return { callback: github.authorize(away.headers.get("location")!, login), cookie };
}

/** The whole donation. Returns the status of the callback: 303 when it was stored. */
export async function donateAt(server: Pick<Standalone, "origin" | "github">, login: string): Promise<number> {
  const { callback, cookie } = await goToGitHub(server, login);
  const answer = await fetch(callback, { headers: { cookie }, redirect: "manual" });
  await answer.body?.cancel();
  return answer.status;
}
