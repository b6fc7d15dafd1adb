/**
 * The operator's command line as it is run: real processes with the task's own permissions, on a database file and on a
 * libSQL server, against a GitHub on loopback; and killed at each of their calls.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createClient } from "npm:@libsql/client@0.18.0";
import { fileURLToPath } from "node:url";
import { createPool } from "../lib/pool.ts";
import { openVault } from "../lib/service.ts";
import config from "../deno.json" with { type: "json" };
import { FakeGitHub } from "./support/fake_github.ts";
import { environment, KEY, OTHER_KEY, temporaryFolder } from "./support/fixtures.ts";
import { assertNothingSecret, lend, type Said } from "./support/operator.ts";
import { startSqld } from "./support/sqld.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** `deno run` with its permissions, and the file, as `deno task admin` has them. */
const TASK = config.tasks.admin.split(" ").slice(1);

/** A process that waits for what does not come is ended after this. */
const LONGEST_MS = 60_000;

/** A database, a GitHub, and an operator's shell. */
class Desk implements AsyncDisposable {
  readonly github = new FakeGitHub({ callbackUrl: "http://127.0.0.1/callback" });
  readonly url: string;
  readonly variables: Record<string, string>;
  /** Called before each call of a process to GitHub, and to a database server. */
  onCall: (() => void | Promise<void>) | null = null;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #proxy: Deno.HttpServer<Deno.NetAddr> | null;
  readonly #client: ReturnType<typeof createClient>;

  constructor(url: string) {
    this.url = url;
    const options = { hostname: "127.0.0.1", port: 0, onListen() {} };
    this.github.before = () => this.onCall?.();
    this.#server = Deno.serve(options, (request) => this.github.handler(request));
    this.#proxy = url.startsWith("file:") ? null : Deno.serve(options, (request) => this.#pass(request));
    this.#client = createClient({ url });
    const githubUrl = `http://127.0.0.1:${this.#server.addr.port}`;
    this.variables = {
      GITHUB_CLIENT_ID: this.github.clientId,
      GITHUB_CLIENT_SECRET: this.github.clientSecret,
      GITHUB_URL: githubUrl,
      GITHUB_API_URL: githubUrl,
      PUBLIC_URL: "https://pool.example",
      TOKEN_ENCRYPTION_KEY: KEY,
      TOKEN_POOL_DATABASE_URL: this.#proxy === null ? url : `http://127.0.0.1:${this.#proxy.addr.port}`,
      NO_COLOR: "1",
    };
  }

  /** The database as this process sees it, past the proxy. */
  vault() {
    return openVault({ environment: environment({ ...this.variables, TOKEN_POOL_DATABASE_URL: this.url }) });
  }

  async look(sql: string): Promise<unknown[][]> {
    const { columns, rows } = await this.#client.execute(sql);
    return rows.map((row) => columns.map((column) => row[column]));
  }

  async donors(): Promise<unknown[]> {
    return (await this.look("SELECT github_username FROM token_pool_tokens ORDER BY id")).flat();
  }

  /** Donations, and what they are worth at GitHub. */
  async lend(...logins: string[]): Promise<Record<string, string>> {
    const vault = this.vault();
    try {
      return await lend({ github: this.github, vault }, logins);
    } finally {
      await vault.close();
    }
  }

  spawn(args: string[], { terminal = false } = {}): Deno.ChildProcess {
    const words = [Deno.execPath(), ...TASK, ...args];
    const [command, ...rest] = terminal ? ["script", "-qec", words.join(" "), "/dev/null"] : words;
    return new Deno.Command(command!, {
      args: rest,
      cwd: ROOT,
      clearEnv: true,
      env: { ...this.variables, PATH: Deno.env.get("PATH")!, HOME: Deno.env.get("HOME") ?? "/", ...denoFolder() },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  /** Runs a command to its end, and asserts that it shows nobody a secret. */
  async run(args: string[], input = "", options: { terminal?: boolean } = {}): Promise<Said> {
    return await this.#end(this.spawn(args, options), input, options);
  }

  /** Runs a command and kills or interrupts it at its n-th call, which is carried out, but nobody is there for the answer. */
  async runUntil(most: number, args: string[], input = ""): Promise<{ said: Said; wasKilled: boolean }> {
    const process = this.spawn(args);
    const { status } = process;
    let calls = 0;
    let wasKilled = false;
    this.onCall = async () => {
      if (++calls !== most) return;
      wasKilled = true;
      process.kill(most % 2 === 0 ? "SIGINT" : "SIGKILL");
      await status;
    };
    const said = await this.#end(process, input);
    this.onCall = null;
    return { said, wasKilled };
  }

  /** At a terminal a person types when there is something to answer. */
  async #end(process: Deno.ChildProcess, input: string, { terminal = false } = {}): Promise<Said> {
    const writer = process.stdin.getWriter();
    const type = async () => {
      await writer.write(new TextEncoder().encode(input)).catch(() => {}); // it may be gone already
      await writer.close().catch(() => {});
    };
    const deadline = setTimeout(() => process.kill("SIGKILL"), LONGEST_MS);
    const err = new Response(process.stderr).text();
    if (!terminal) await type();
    let out = "";
    for await (const part of process.stdout.pipeThrough(new TextDecoderStream())) {
      const isQuestion = out === "";
      out += part;
      if (terminal && isQuestion) await type();
    }
    const { code } = await process.status;
    clearTimeout(deadline);
    const said = { code, out, err: await err };
    assertNothingSecret(said, this.github.secrets);
    return said;
  }

  async #pass(request: Request): Promise<Response> {
    const body = request.body === null ? null : await request.arrayBuffer();
    await this.onCall?.();
    const { pathname } = new URL(request.url);
    const headers = new Headers(request.headers);
    headers.delete("host");
    return await fetch(this.url + pathname, { method: request.method, headers, body });
  }

  async [Symbol.asyncDispose]() {
    this.#client.close();
    await this.#server.shutdown();
    await this.#proxy?.shutdown();
    this.github.assertNoSurprises();
  }
}

function denoFolder(): Record<string, string> {
  const folder = Deno.env.get("DENO_DIR");
  return folder === undefined ? {} : { DENO_DIR: folder };
}

async function withFile(run: (desk: Desk) => Promise<void>): Promise<void> {
  await using folder = await temporaryFolder();
  await using desk = new Desk(`file:${folder.path}/pool.db`);
  await run(desk);
}

async function withServer(run: (desk: Desk) => Promise<void>): Promise<void> {
  await using server = await startSqld();
  await using desk = new Desk(server.url);
  await run(desk);
}

/** An operator's day: every command, one after the other. */
async function day(desk: Desk): Promise<void> {
  const { github, variables } = desk;
  const json = async (args: string[], input?: string) => {
    const { code, out, err } = await desk.run([...args, "--json"], input);
    return { code, found: out === "" ? null : JSON.parse(out), err };
  };
  const tokens = await desk.lend("cyd", "dee", "eve");
  if (desk.url.startsWith("file:")) await Deno.chmod(desk.url.slice("file:".length), 0o600);

  const doctor = await json(["doctor"]);
  assert.deepEqual(doctor.found.filter(({ status }: { status: string }) => status !== "ok"), []);
  assert.equal(doctor.code, 0);
  assert.equal((await json(["stats"])).found.tokens.total, 3);
  const list = await desk.run(["list"]);
  assert.deepEqual([list.code, list.err, list.out.split("\n").length], [0, "", 5]);

  github.revokeToken(tokens["cyd"]!);
  const dry = await json(["verify", "--all", "--dry-run"]);
  assert.deepEqual([dry.code, dry.found.unknown, dry.found.removed], [0, 1, 0]);
  const verified = await json(["verify", "--all"]);
  assert.deepEqual([verified.code, verified.found.valid, verified.found.removed], [0, 2, 1]);

  github.addUser("ada");
  const added = await json(["add", "--reserve", "0.75"], `${github.grantToken("ada")}\n`);
  assert.deepEqual([added.code, added.found.login, added.found.updated], [0, "ada", false]);
  assert.deepEqual(await desk.donors(), ["dee", "eve", "ada"]);
  const refused = await desk.run(["add"], github.grantToken("ada", ["repo"]));
  assert.deepEqual([refused.code, refused.out], [1, ""]);

  const removed = await json(["remove", "DEE", "--reason", "asked by mail"]);
  assert.deepEqual([removed.code, removed.found.revocation], [0, "done"]);
  assert.equal((await desk.run(["remove", "dee", "--reason", "again"])).code, 1);
  assert.equal((await desk.run(["remove", "ada"])).code, 2);
  assert.equal(github.isLive(tokens["dee"]!), false);

  variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  assert.equal((await desk.run(["verify"])).code, 1, "a wrong key");
  assert.equal(named((await json(["doctor"])).found, "key").status, "fail");
  variables["TOKEN_ENCRYPTION_KEYS_PREVIOUS"] = KEY;
  const uses = (await json(["rotate-key", "--dry-run"])).found as { donations: number; is_current: boolean }[];
  assert.deepEqual(uses.map(({ donations, is_current }) => [donations, is_current]), [[2, false]]);
  const rotated = await json(["rotate-key"]);
  assert.deepEqual([rotated.code, rotated.found.resealed], [0, 2]);
  delete variables["TOKEN_ENCRYPTION_KEYS_PREVIOUS"];

  assert.equal((await json(["upkeep", "--dry-run"])).found.due, 0);
  assert.equal((await json(["upkeep"])).code, 0);

  const unsure = await json(["revoke-all"], "yes\n");
  assert.equal(unsure.code, 3);
  assert.match(unsure.err, /Type the number of donations to go on: 2/);
  assert.deepEqual(await desk.donors(), ["eve", "ada"]);
  const all = await json(["revoke-all"], "2\n");
  assert.deepEqual([all.code, all.found], [0, { donations: 2, revoked: 2, removed: 2, left: 0 }]);
  assert.deepEqual([await desk.donors(), github.liveTokens("eve"), github.isLive(tokens["eve"]!)], [[], [], false]);
}

function named(findings: { name: string; status: string }[], name: string): { status: string } {
  return findings.find((finding) => finding.name === name)!;
}

Deno.test("each command of admin does its work on a database file, as a process", () => withFile(day));
Deno.test("each command of admin does its work on a libSQL server, as a process", () => withServer(day));

Deno.test("add hides from a terminal what is pasted there, and revoke-all shows it a bar", () =>
  withFile(async (desk) => {
    desk.github.addUser("ada");
    const token = desk.github.grantToken("ada");
    const added = await desk.run(["add"], `${token}\n`, { terminal: true });
    assert.equal(added.code, 0);
    assert.match(added.out, /^Paste the token, which is not shown, and press Enter\r\n/);
    assert.deepEqual(await desk.donors(), ["ada"]);
    const revoked = await desk.run(["revoke-all"], "1\n", { terminal: true });
    assert.equal(revoked.code, 0);
    assert.ok(revoked.out.includes(`\r\x1b[K[${"#".repeat(30)}] 1 of 1, 100 %`));
  }));

/** A command that is killed, and what must have come of it in the end. */
interface Killed {
  args: string[];
  input?: (desk: Desk) => string;
  prepare: (desk: Desk) => Promise<unknown>;
  codes?: number[];
  /** What happens before it is run again. */
  meanwhile?: (desk: Desk) => Promise<unknown>;
  donors: string[];
  /** Logins of those whose tokens GitHub takes. */
  alive: string[];
}

const KILLED: Record<string, Killed> = {
  "verify --all": {
    args: ["verify", "--all"],
    prepare: async (desk) => desk.github.revokeToken((await desk.lend("cyd", "dee"))["cyd"]!),
    donors: ["dee"],
    alive: ["dee"],
  },
  add: {
    args: ["add"],
    prepare: async (desk) => {
      await desk.lend("cyd");
      desk.github.addUser("dee");
      desk.github.grantToken("dee");
    },
    input: ({ github }) => github.liveTokens("dee").at(-1)!,
    donors: ["cyd", "dee"],
    alive: ["cyd", "dee"],
  },
  remove: {
    args: ["remove", "cyd", "--reason", "spam"],
    prepare: (desk) => desk.lend("cyd", "dee"),
    codes: [0, 1],
    donors: ["dee"],
    alive: ["dee"],
  },
  "revoke-all": {
    args: ["revoke-all", "--yes"],
    prepare: (desk) => desk.lend("cyd", "dee"),
    donors: [],
    alive: [],
  },
  "revoke-all --one-by-one": {
    args: ["revoke-all", "--yes", "--one-by-one"],
    prepare: (desk) => desk.lend("cyd", "dee"),
    donors: [],
    alive: [],
  },
  upkeep: {
    args: ["upkeep"],
    prepare: async (desk) => {
      const { cyd } = await desk.lend("cyd", "dee");
      await using pool = createPool({ database: desk.url, encryptionKey: KEY });
      await pool.syncTokenHealth(1, Response.json({ message: "Bad credentials" }, { status: 401 }));
      desk.github.revokeToken(cyd!);
    },
    // Taking a suspect puts off the next question by a minute, which passes here.
    meanwhile: (desk) => desk.look("UPDATE token_pool_tokens SET check_at = check_at - 60000"),
    donors: ["dee"],
    alive: ["dee"],
  },
};

/** Kills a command at each of its calls, in turn, and runs it again. Returns how many calls there were. */
async function killAtEachCall(
  withDesk: typeof withFile,
  { args, input, prepare, codes = [0], meanwhile, donors, alive }: Killed,
): Promise<number> {
  for (let most = 1;; most++) {
    let isOver = false;
    await withDesk(async (desk) => {
      await prepare(desk);
      const text = input?.(desk) ?? "";
      const { said, wasKilled } = await desk.runUntil(most, args, text);
      isOver = !wasKilled;
      if (wasKilled) await meanwhile?.(desk);
      if (wasKilled) assert.ok(codes.includes((await desk.run(args, text)).code), `killed at call ${most}`);
      else assert.equal(said.code, 0, said.err);
      assert.deepEqual(await desk.donors(), donors, `killed at call ${most}`);
      const live = ["cyd", "dee"].filter((login) => hasLive(desk.github, login));
      assert.deepEqual(live, alive, `killed at call ${most}`);
    });
    if (isOver) return most - 1;
  }
}

function hasLive(github: FakeGitHub, login: string): boolean {
  try {
    return github.liveTokens(login).length > 0;
  } catch {
    return false; // nobody of that name
  }
}

for (const [name, killed] of Object.entries(KILLED)) {
  Deno.test(`${name}, killed at any call to GitHub and run again, finishes its work on a database file`, async () => {
    assert.ok(await killAtEachCall(withFile, killed) > 0);
  });
}

for (const name of ["remove", "revoke-all"]) {
  Deno.test(`${name}, killed at any call and run again, finishes its work on a libSQL server`, async () => {
    assert.ok(await killAtEachCall(withServer, KILLED[name]!) > 3);
  });
}
