/**
 * The demo: the whole product at work on one machine, with an emulated GitHub and nothing else that is not real.
 *
 * Donors go through GitHub's screens, a program imports the library by URL and draws on their tokens, one donor revokes
 * the app meanwhile, and the service deletes that token. What must hold is checked, and decides the exit code.
 *
 *     deno task demo            shows it and ends
 *     deno task demo --serve    stays up afterwards, for a person with a browser
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { type GitHubFront, startGitHub } from "../support/github_front.ts";
import { until } from "../support/until.ts";
import type { Attempt } from "./consumer.ts";
import { donate, type Donor } from "./donor.ts";
import { serveLibrary } from "./library_host.ts";
import { type RunningProgram, start } from "./processes.ts";
import { count, floorOf, LIMIT, plural, type Row, Screen, type State } from "./screen.ts";

const ROOT = new URL("../../", import.meta.url);

const DONORS: readonly Donor[] = [
  { login: "ada", reserve: 0.9 },
  { login: "barbara", reserve: 0.75 },
  { login: "edsger", reserve: 0.75 },
  { login: "grace", reserve: 0.9 },
  { login: "katherine", reserve: 0.5 },
];

/** Uses so many calls alone that the pool soon comes to what stays hers. */
const BUSY = { login: "grace", calls: 430 };

/** Revokes the app half-way. */
const LEAVER = "edsger";

const CALLS = 1000;
/** Fewer than donors: GitHub learns of a call only when it arrives, so until then a donor may be asked for one too many. */
const CALLS_AT_ONCE = 4;

/** A first run has packages to download. */
const START_WITHIN_MS = 120_000;
const CALLS_WITHIN_MS = 60_000;

/** What shells expect of a program that Ctrl-C ended. */
const INTERRUPTED = 130;

interface Stage {
  github: GitHubFront;
  service: string;
  database: string;
  key: string;
  folder: string;
}

interface Outcome {
  /** What the program reported. */
  attempts: Attempt[];
  /** What became of tokens that GitHub refused. */
  states: Map<string, State>;
}

const screen = new Screen();

async function main(isToServe: boolean): Promise<number> {
  await using cleanup = new AsyncDisposableStack();
  const interruption = interrupted();
  const shown = await Promise.race([show(cleanup), interruption]);
  if (shown === null) return INTERRUPTED;
  if (isToServe) {
    invite(shown.stage);
    await interruption;
  }
  return shown.isFine ? 0 : 1;
}

async function show(cleanup: AsyncDisposableStack): Promise<{ stage: Stage; isFine: boolean }> {
  screen.say("The token pool at work. GitHub is an emulator on this machine; everything else is real.");
  const stage = await setUp(cleanup);
  await takeDonations(stage);
  const outcome = await drawCalls(cleanup, stage);
  const tokens = await askStatus(stage);
  return { stage, isFine: sumUp(stage, outcome, tokens) };
}

function invite({ service, github }: Stage): void {
  screen.title("It stays up for you and your browser");
  screen.say(`  Donate and withdraw at ${service}`);
  screen.say(`  What GitHub lists of you, once you have logged in there: ${github.url}/settings/applications`);
  screen.say("  Ctrl-C ends it.");
}

/** Starts GitHub and the service. */
async function setUp(cleanup: AsyncDisposableStack): Promise<Stage> {
  screen.title("1. A service starts, with a database and a key of its own");
  const folder = Deno.makeTempDirSync({ prefix: "token-pool-demo-" });
  cleanup.defer(() => Deno.remove(folder, { recursive: true }));
  const reserved = Deno.listen({ hostname: "127.0.0.1", port: 0 }); // until GitHub has ports of its own
  const { port } = reserved.addr;
  const service = `http://localhost:${port}`;
  const [clientId, clientSecret, key] = ["demo-client", randomHex(20), randomHex(32)];
  const users = DONORS.map(({ login }) => login);
  const github = cleanup.use(
    await startGitHub({ users, clientId, clientSecret, redirectUris: [`${service}/callback`] }),
  );
  reserved.close();
  const stage = { github, service, database: `file:${folder}/pool.db`, key, folder };
  const program = start(cleanup, {
    args: await startArguments(),
    cwd: fileURLToPath(ROOT),
    env: {
      ...consumerEnvironment(stage),
      PORT: String(port),
      PUBLIC_URL: service,
      GITHUB_CLIENT_ID: clientId,
      GITHUB_CLIENT_SECRET: clientSecret,
      GITHUB_URL: github.url,
    },
  });
  await until("the service answers", () => answers(service, program), START_WITHIN_MS);
  screen.say(`  GitHub, emulated   ${github.url}`);
  screen.say(`  the service        ${service}`);
  return stage;
}

/** The arguments of the task `start`, so that what is shown is what people run. */
async function startArguments(): Promise<string[]> {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  return tasks.start.split(" ").slice(1);
}

function consumerEnvironment({ github, database, key }: Pick<Stage, "github" | "database" | "key">) {
  return { TOKEN_POOL_DATABASE_URL: database, TOKEN_ENCRYPTION_KEY: key, GITHUB_API_URL: github.url };
}

async function answers(service: string, program: RunningProgram): Promise<boolean> {
  const ended = program.status.then(async () => {
    throw new Error(`The service did not start:\n${await program.complaints}`);
  });
  const asked = fetch(`${service}/healthz`, { signal: AbortSignal.timeout(5000) }).then((response) =>
    response.body?.cancel()
  ).then(() => true, () => false);
  return await Promise.race([asked, ended]);
}

async function takeDonations({ service, github }: Stage): Promise<void> {
  screen.title("2. Five people donate, each through GitHub's own screens, and each keeps a share");
  for (const donor of DONORS) {
    const thanks = await donate(service, github, donor);
    screen.say(`  ${donor.login.padEnd(9)} keeps ${Math.round(donor.reserve * 100)} %. "${thanks}"`);
  }
  await github.spend(BUSY.login, BUSY.calls);
  screen.say(`  ${BUSY.login} then uses ${BUSY.calls} calls alone, which the pool does not know yet.`);
}

/** Runs the program; half-way one donor leaves. */
async function drawCalls(cleanup: AsyncDisposableStack, stage: Stage): Promise<Outcome> {
  const library = cleanup.use(serveLibrary());
  screen.title(`3. A program makes ${count(CALLS)} calls with their tokens, ${CALLS_AT_ONCE} at a time`);
  screen.say(`  All that it has of the pool is this import: ${library.poolUrl}`);
  const program = start(cleanup, {
    args: [
      "run",
      "--quiet",
      "--no-lock",
      ...["net", "env", "sys", "ffi", "read", "write"].map((what) => `--allow-${what}`),
      `--allow-import=${library.host}`,
      `--reload=http://${library.host}`,
      await writeConsumer(stage.folder, library.poolUrl),
      String(CALLS),
      String(CALLS_AT_ONCE),
    ],
    cwd: stage.folder,
    env: consumerEnvironment(stage),
  });
  const outcome: Outcome = { attempts: [], states: new Map() };
  await within(CALLS_WITHIN_MS, "the program ends", follow(program, stage, outcome));
  return outcome;
}

/** Puts the program where nothing else of this repository is. */
async function writeConsumer(folder: string, poolUrl: string): Promise<string> {
  const text = await Deno.readTextFile(new URL("consumer.ts", import.meta.url));
  const path = `${folder}/consumer.ts`;
  await Deno.writeTextFile(path, text.replace('"../../lib/pool.ts"', JSON.stringify(poolUrl)));
  await Deno.writeTextFile(`${folder}/deno.json`, "{}");
  return path;
}

/** Reads what the program reports; at half time the leaver revokes the app. */
async function follow(program: RunningProgram, { github }: Stage, outcome: Outcome): Promise<void> {
  const { attempts, states } = outcome;
  let answered = 0;
  let hasLeft = false;
  const showProgress = () => screen.progress(rowsOf(outcome), answered, captionOf(answered, hasLeft));
  showProgress();
  for await (const line of program.lines()) {
    const attempt: Attempt = JSON.parse(line);
    attempts.push(attempt);
    if (attempt.status === 401) states.set(attempt.login, "refused");
    else answered++;
    if (answered === CALLS / 2 && !hasLeft) {
      hasLeft = true;
      await github.revoke(LEAVER);
    }
    showProgress();
  }
  if (!(await program.status).success) throw new Error(`The program gave up:\n${await program.complaints}`);
  screen.table(rowsOf(outcome), captionOf(answered, true));
}

function captionOf(answered: number, hasLeft: boolean): string {
  const calls = `${count(answered)} of ${count(CALLS)} calls.`;
  return hasLeft ? `${calls} Half-way ${LEAVER} revoked the app at GitHub.` : calls;
}

function rowsOf({ attempts, states }: Outcome): Row[] {
  return DONORS.map(({ login, reserve }) => {
    const own = attempts.filter((attempt) => attempt.login === login);
    const remaining = Math.min(LIMIT, ...own.map((attempt) => attempt.remaining ?? LIMIT));
    const state = states.get(login) ?? (remaining <= floorOf(reserve) ? "resting" : "serving");
    return { login, reserve, drawn: own.length, remaining, state };
  });
}

/** Somebody looks at the dashboard: that is when the service asks GitHub about the token that was refused. */
async function askStatus({ service }: Stage): Promise<Record<string, number>> {
  screen.title("4. Somebody looks at /status, and the service asks GitHub about the token that was refused");
  const { status, tokens } = await (await fetch(`${service}/status`)).json();
  const figures = Object.entries(tokens).map(([name, value]) => `${name} ${value}`).join(", ");
  screen.say(`  status: ${status}; tokens: ${figures}`);
  return tokens;
}

/** Checks what must hold, and says it. */
function sumUp({ github }: Stage, outcome: Outcome, tokens: Record<string, number>): boolean {
  const rows = rowsOf(outcome);
  const answered = outcome.attempts.filter(({ status }) => status === 200);
  const refused = outcome.attempts.filter(({ status }) => status === 401);
  const healthy = rows.filter(({ state }) => state === "serving");
  const draws = healthy.map(({ drawn }) => drawn);
  const spread = Math.max(...draws) - Math.min(...draws);
  const calls = new Map(DONORS.map(({ login }) => [login, github.callsOf(login)]));
  const silent = outcome.attempts.filter(({ isNews }) => !isNews).length;

  screen.title("What came of it");
  const checks: [boolean, string][] = [
    [
      new Set(answered.map(({ call }) => call)).size === CALLS && answered.length === CALLS,
      `Answered: ${count(answered.length)} of ${count(CALLS)} calls.`,
    ],
    [
      healthy.length >= 2 && spread <= 1,
      `Fair: the ${healthy.length} tokens that served throughout were drawn ${draws.join(", ")} times.`,
    ],
    [
      rows.every(({ login, reserve }) => (calls.get(login)?.remaining ?? LIMIT) >= floorOf(reserve)),
      "Untouched: by GitHub's own counters everybody still has the share that stays theirs.",
    ],
    [
      rows.some(({ login, state }) => login === BUSY.login && state === "resting"),
      `Considerate: ${BUSY.login} was left alone when only that share was left.`,
    ],
    [
      refused.length > 0 && refused.every(({ login }) => login === LEAVER),
      `Unharmed: ${LEAVER}'s revoked token was refused ${
        plural(refused.length, "time")
      }, and each time the call went out again with another.`,
    ],
    [
      tokens["total"] === DONORS.length - 1 && tokens["suspended"] === 0,
      `Forgotten: ${LEAVER}'s donation is deleted, ${tokens["total"]} are left.`,
    ],
    [
      rows.every(({ login, drawn }) => sumOf(calls.get(login)) === drawn + 1),
      "Honest: GitHub counted the same calls, and one more each, to ask whose token it was.",
    ],
  ];
  for (const [holds, text] of checks) screen.check(holds, text);
  screen.say(
    `\n  ${silent} of ${count(outcome.attempts.length)} answers told the database nothing that it did not know`,
  );
  screen.say("  already, so nothing was written for them.");
  return checks.every(([holds]) => holds);
}

function sumOf(calls: { answered: number; refused: number } | undefined): number {
  return calls === undefined ? 0 : calls.answered + calls.refused;
}

function randomHex(bytes: number): string {
  return crypto.getRandomValues(new Uint8Array(bytes)).toHex();
}

async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`Waited ${ms / 1000} s in vain: ${what}`)), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when Ctrl-C is pressed, or when the demo is told to end. */
function interrupted(): Promise<null> {
  const { promise, resolve } = Promise.withResolvers<null>();
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  for (const signal of signals) Deno.addSignalListener(signal, () => resolve(null));
  return promise;
}

if (import.meta.main) Deno.exit(await main(Deno.args.includes("--serve")));
