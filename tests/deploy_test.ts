/**
 * What operators are given to run a pool with: that units, image and documents name what there is, agree with each other
 * and with the tasks, and that what the image holds is enough to run.
 *
 * @module
 */

import assert from "node:assert/strict";
import { parse as parseYaml } from "npm:yaml@2.9.1";
import { runAdmin } from "../lib/admin.ts";
import { KEY, temporaryFolder } from "./support/fixtures.ts";
import { freePort } from "./support/ports.ts";
import { linesOf } from "./support/processes.ts";
import { essential, ROOT, startTask } from "./support/standalone.ts";

const read = (path: string) => Deno.readTextFile(ROOT + path);

const DOCUMENTS = [".deploy/README.md", ".deploy/RUNBOOK.md"];
const WORKFLOWS = [".github/workflows/ci.yml", ".deploy/val-town.yml"];
const UNITS = [".deploy/token-pool.service", ".deploy/token-pool-upkeep.service"];

const { tasks } = JSON.parse(await read("deno.json"));

/** The value of a key of a unit, the last one. */
function setting(unit: string, name: string): string | undefined {
  return unit.split("\n").filter((line) => line.startsWith(`${name}=`)).at(-1)?.slice(name.length + 1);
}

/** The instructions of the Dockerfile, with lines put together. */
async function instructions(): Promise<{ name: string; text: string }[]> {
  const lines = (await read(".deploy/Dockerfile")).split("\n").filter((line) => !line.startsWith("#")).join("\n");
  return lines.replaceAll(/\\\n\s*/g, "").split("\n").filter((line) => line !== "").map((line) => {
    const [, name, text] = /^([A-Z]+) (.*)$/.exec(line)!;
    return { name: name!, text: text! };
  });
}

/** What the image sets in the environment. */
async function imageVariables(): Promise<Record<string, string>> {
  const pairs = (await instructions()).filter(({ name }) => name === "ENV").flatMap(({ text }) => text.split(/\s+/));
  return Object.fromEntries(pairs.map((pair) => pair.split("=") as [string, string]));
}

Deno.test("units and image run what the tasks run, with the same permissions", async () => {
  const start = await startTask();
  const [unit, upkeep] = await Promise.all(UNITS.map(read)) as [string, string];
  assert.equal(setting(unit, "ExecStart"), `/usr/local/bin/deno ${start.join(" ")}`);
  assert.equal(setting(upkeep, "ExecStart"), `/usr/local/bin/${tasks.admin} upkeep --json`);
  const command = (await instructions()).filter(({ name }) => name === "CMD");
  assert.deepEqual(command.map(({ text }) => JSON.parse(text)), [start]);
});

Deno.test("the service may read the variables of the settings and no file; the command line's doctor looks at files", async () => {
  const [, names] = /const VARIABLES = \[([^\]]*)\]/.exec(await read("lib/config.ts"))!;
  const variables = [...names!.matchAll(/"(\w+)"/g)].map(([, name]) => name);
  for (const [task, files] of [[tasks.start, []], [tasks.admin, ["--allow-read"]]]) {
    const [, allowed] = /--allow-env=(\S+)/.exec(task)!;
    // The native driver asks for the last one.
    assert.deepEqual(allowed!.split(","), [...variables, "LIBSQL_JS_DEV"]);
    assert.deepEqual(
      task.split(" ").filter((word: string) => word.startsWith("--")).map((word: string) => word.split("=")[0]),
      [
        "--no-prompt",
        "--allow-net",
        "--allow-env",
        "--allow-sys",
        "--allow-ffi",
        ...files,
      ],
    );
  }
});

Deno.test("the units give the service no right but its database, and hold no secret", async () => {
  for (const unit of await Promise.all(UNITS.map(read))) {
    const expected = {
      User: "token-pool",
      ProtectSystem: "strict",
      StateDirectory: "token-pool",
      NoNewPrivileges: "yes",
      CapabilityBoundingSet: "",
      ProtectHome: "yes",
      PrivateTmp: "yes",
      RestrictNamespaces: "yes",
      SystemCallArchitectures: "native",
      EnvironmentFile: "/etc/token-pool/environment",
    };
    for (const [name, value] of Object.entries(expected)) assert.equal(setting(unit, name), value, name);
    assert.equal(setting(unit, "ReadWritePaths"), undefined);
    assert.match(unit, /^Environment=TOKEN_POOL_DATABASE_URL=file:\/var\/lib\/token-pool\/pool\.db$/m);
    assert.doesNotMatch(unit, /^Environment=.*(?:SECRET|KEY\w*|AUTH_TOKEN)=/m);
  }
  const [unit, upkeep] = await Promise.all(UNITS.map(read)) as [string, string];
  const hardening = (text: string) => text.slice(text.indexOf("StateDirectory=")).split("\n[Install]")[0]!.trim();
  assert.equal(hardening(unit), hardening(upkeep));
  assert.ok(Number(setting(unit, "TimeoutStopSec")) > 10, "the service has 10 s to finish");
  assert.match(await read(".deploy/token-pool-upkeep.timer"), /^OnUnitActiveSec=15min$/m);
});

Deno.test("the containers are read-only, without capabilities, and as long in stopping as the service", async () => {
  const { services } = parseYaml(await read(".deploy/compose.yaml"), { merge: true });
  assert.deepEqual(Object.keys(services), ["pool", "upkeep"]);
  for (const service of Object.values<Record<string, unknown>>(services)) {
    assert.equal(service["read_only"], true);
    assert.deepEqual(service["cap_drop"], ["ALL"]);
    assert.deepEqual(service["security_opt"], ["no-new-privileges:true"]);
    assert.deepEqual(service["volumes"], ["data:/data"]);
    assert.equal(service["env_file"], "pool.env");
  }
  assert.equal(services.pool.stop_grace_period, "15s");
  assert.deepEqual(services.pool.ports, ["127.0.0.1:8000:8000"]);
  const steps = await instructions();
  const user = steps.findIndex(({ name }) => name === "USER");
  assert.equal(steps[user]?.text, "deno");
  assert.ok(!steps.slice(user).some(({ name }) => ["COPY", "RUN"].includes(name)), "nothing is the service's own");
  assert.match((await read(".gitignore")) + (await read(".vtignore")), /^pool\.env$/m);
});

Deno.test("what the image holds is enough to run, to be found healthy and to be administered", async () => {
  await using folder = await temporaryFolder();
  const app = `${folder.path}/app`;
  const steps = await instructions();
  await Deno.mkdir(app);
  for (const { text } of steps.filter(({ name }) => name === "COPY")) {
    const words = text.split(" ");
    const to = words.pop()!;
    const target = to.endsWith("/") ? `${app}/${to}` : app;
    for (const from of words) {
      const source = ROOT + from;
      const { success } = await new Deno.Command("cp", {
        args: ["-r", source, to.endsWith("/") ? target : `${app}/${to}`],
      }).output();
      assert.ok(success, from);
    }
  }
  const port = String(freePort());
  const environment = {
    ...await imageVariables(),
    ...essential(),
    HOST: "127.0.0.1",
    PORT: port,
    TOKEN_POOL_DATABASE_URL: `file:${folder.path}/pool.db`,
    TOKEN_ENCRYPTION_KEY: KEY,
    GITHUB_CLIENT_ID: "client",
    GITHUB_CLIENT_SECRET: "secret",
  };
  if (Deno.env.get("DENO_DIR") === undefined) delete (environment as Record<string, string>)["DENO_DIR"];
  const run = (args: string[]) =>
    new Deno.Command(Deno.execPath(), {
      args,
      cwd: app,
      clearEnv: true,
      env: environment,
      stdin: "null",
      stdout: "piped",
      stderr: "null",
      signal: AbortSignal.timeout(180_000),
    });
  const only = (wanted: string) => JSON.parse(steps.find(({ name }) => name === wanted)!.text.replace(/^[^[]*/, ""));
  const service = run(only("CMD")).spawn();
  try {
    const lines = linesOf(service);
    assert.match((await lines.next()).value!, /"event":"start"/);
    const [deno, ...check] = only("HEALTHCHECK");
    assert.equal(deno, "deno");
    const isHealthy = async () => (await run(check.map((word: string) => word.replace("8000", port))).output()).success;
    assert.equal(await isHealthy(), true);
    const { stdout } = await run(["task", "--quiet", "admin", "stats", "--json"]).output();
    assert.equal(JSON.parse(new TextDecoder().decode(stdout)).status, "empty");
    service.kill("SIGTERM");
    await lines.return(undefined);
    assert.equal((await service.status).code, 0);
    assert.equal(await isHealthy(), false);
  } finally {
    await service.status;
  }
});

Deno.test("the image's lock file is the part of the lock file that shipped files need", async () => {
  const [part, whole] = await Promise.all(
    [".deploy/deno.lock", "deno.lock"].map(async (path) => JSON.parse(await read(path))),
  );
  for (const section of ["specifiers", "npm"]) {
    for (const [name, entry] of Object.entries(part[section])) assert.deepEqual(entry, whole[section][name], name);
  }
  const shipped = (await read(".deploy/Dockerfile")).match(/deno cache --frozen (.*) \\/)![1]!.split(" ");
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--quiet", "--frozen", `--lock=${ROOT}.deploy/deno.lock`, ...shipped],
    cwd: ROOT,
  }).output();
  assert.ok(success, new TextDecoder().decode(stdout));
  assert.deepEqual(Object.keys(part.specifiers).map((name) => name.replace(/@[^@]*$/, "")).sort(), [
    "npm:@libsql/client",
    "npm:hono",
    "npm:zod",
  ]);
});

Deno.test("Deno, vt and the actions have one version wherever they are named", async () => {
  const paths = ["README.md", ".github/CONTRIBUTING.md", ".ci/run", ".deploy/Dockerfile", ...DOCUMENTS, ...WORKFLOWS];
  const texts = await Promise.all(paths.map(read));
  const versions = (pattern: RegExp) => {
    const found = texts.flatMap((text) => [...text.matchAll(pattern)].map(([, version]) => version));
    assert.ok(found.length > 1, String(pattern));
    return [...new Set(found)];
  };
  assert.equal(versions(/(?:\bdeno@|denoland\/deno:|releases\/download\/v)(\d[\w.-]*\d)/g).length, 1);
  assert.equal(versions(/@valtown\/vt@(\d[\w.]*)/g).length, 1);
  for (const action of ["checkout", "setup-node"]) {
    assert.match(versions(new RegExp(`actions/${action}@(\\S+)`, "g")).join(), /^[0-9a-f]{40}$/);
  }
  for (const text of texts) {
    assert.doesNotMatch(text, /(?:\bdeno|denoland\/deno|@valtown\/vt)[@:]latest|deno@2\b(?!\.)/);
  }
});

Deno.test("every file, task and command that the documents name is there", async () => {
  const help = async (...args: string[]) => {
    const lines: string[] = [];
    await runAdmin(["help", ...args], {}, { log: (line) => lines.push(line), error: assert.fail });
    return lines.join("\n");
  };
  const commands = [...(await help()).matchAll(/^ {2}([a-z][a-z-]+)\b/gm)].map(([, name]) => name!);
  assert.ok(commands.includes("rotate-key"));

  const files = [...Deno.readDirSync(`${ROOT}.deploy`)].map(({ name }) => name);
  for (const path of [...DOCUMENTS, "README.md", ".deploy/compose.yaml", ".deploy/token-pool-admin"]) {
    const text = await read(path);
    for (const [, command] of text.matchAll(/(?:\badmin|token-pool-admin) ([a-z][a-z-]+)(?=[`\s])/g)) {
      assert.ok(commands.includes(command!), `${path}: admin ${command}`);
    }
    for (const [, command, rest] of text.matchAll(/(?:\badmin|token-pool-admin) ([a-z][a-z-]+) ([^`\n]*)/g)) {
      for (const [option] of rest!.matchAll(/--[a-z-]+/g)) {
        assert.match(await help(command!), new RegExp(`^ {2}${option}\\b`, "m"), `${path}: admin ${command} ${option}`);
      }
    }
    for (const [, task] of text.matchAll(/deno(?:@[\d.]+)? task (?:--quiet )?([a-z]+)/g)) {
      assert.ok(task! in tasks, `${path}: task ${task}`);
    }
    for (const [name] of text.matchAll(/(?<=\.deploy\/)[\w.-]+\w/g)) {
      assert.ok(files.includes(name) || name === "pool.env", `${path}: ${name}`);
    }
    for (const [, name] of text.matchAll(/`((?:lib\/)?[\w.-]+\.(?:ts|yml|yaml|json|lock|md|service|timer))`/g)) {
      const found = files.includes(name!) || await Deno.stat(ROOT + name).then(() => true, () => false);
      assert.ok(found, `${path}: ${name}`);
    }
    for (const [, link] of text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)) {
      await Deno.stat(new URL(link!, `file://${ROOT}${path}`));
    }
  }
});

Deno.test("nothing that is for operators of servers is pushed to the val", async () => {
  assert.match(await read(".vtignore"), /^\.deploy$/m);
});
