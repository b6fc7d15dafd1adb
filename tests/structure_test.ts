/**
 * Holds the house rules: where things live, which way imports point, who alone may do what, and what Val Town asks of
 * every shipped file. Sources are parsed, not searched, so comments and the text of pages do not count; and each rule is
 * shown a made-up source that breaks it, so that a rule which has gone blind is noticed.
 *
 * @module
 */

import assert from "node:assert/strict";
import { dirname, join } from "node:path/posix";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Where each file of lib/ stands. A new file fails the tests until it has a place. */
const FLOWS: Record<string, string> = {
  "lib/pool.ts": "consumer",
  "lib/consumer.ts": "consumer",
  "lib/leases.ts": "consumer",
  "lib/pool_fetch.ts": "consumer",
  "lib/response_cache.ts": "consumer",
  "lib/shared_reads.ts": "consumer",
  "lib/octokit.ts": "consumer",
  "lib/donate.ts": "contributor",
  "lib/donation.ts": "contributor",
  "lib/stats.ts": "dashboard",
  "lib/upkeep.ts": "upkeep",
  "lib/rotate.ts": "rotation",
  "lib/add.ts": "operator",
  "lib/doctor.ts": "operator",
  "lib/doctor_database.ts": "operator",
  "lib/revoke.ts": "operator",
  "lib/verify.ts": "operator",
  "lib/backup.ts": "backup",
};
const ENTRIES = ["main.http.ts", "lib/upkeep.cron.ts", "lib/admin.ts"];
const OWNERS = [
  "lib/config.ts",
  "lib/cookies.ts",
  "lib/database.ts",
  "lib/github.ts",
  "lib/server.ts",
  "lib/service.ts",
  "lib/store.ts",
  "lib/vault.ts",
];
const PURE = [
  "lib/abort.ts",
  "lib/api_response.ts",
  "lib/command_line.ts",
  "lib/console.ts",
  "lib/crypto.ts",
  "lib/errors.ts",
  "lib/findings.ts",
  "lib/health.ts",
  "lib/last_told.ts",
  "lib/log.ts",
  "lib/metrics.ts",
  "lib/probe.ts",
  "lib/rate_guard.ts",
  "lib/rate_limit.ts",
  "lib/records.ts",
  "lib/request_log.ts",
  "lib/request_rules.ts",
  "lib/telemetry.ts",
  "lib/visitor.ts",
];

/** All that a program loads which draws tokens. */
const CONSUMERS_PAY_FOR = [
  ...["abort", "api_response", "config", "consumer", "crypto", "database", "errors", "health", "last_told", "leases"],
  ...[
    "pool",
    "pool_fetch",
    "rate_limit",
    "records",
    "request_rules",
    "response_cache",
    "shared_reads",
    "store",
    "vault",
  ],
].map((name) => `lib/${name}.ts`);

/** Higher may import lower. Pages stand beside: only an entry imports them, and they import nothing but each other. */
const RANKS = ["pure", "owner", "flow", "entry"] as const;

type Rank = typeof RANKS[number] | "view";

const TOP_LEVEL = ["main.http.ts", "lib", "views", "tests", "deno.json", "deno.lock", "README.md", "LICENSE"];

const PACKAGES = ["hono", "@libsql/client", "zod"];

/** Shared by the vals of an account; its neighbour main.ts is private to each val. */
const VAL_TOWN_DATABASE = "https://esm.town/v/std/sqlite/global.ts";

/** What a source does, as far as the rules ask. */
interface Facts {
  path: string;
  /** Specifiers, of types and dynamic imports too. */
  imports: string[];
  /** Strings and templates; what a template interpolates is "…". Not comments, not the text of pages. */
  texts: string[];
  /** Dotted names that are read, such as `Deno.env`. */
  names: string[];
  /** Dotted names that are called. */
  calls: string[];
  /** Whether evaluating it waits for something. */
  hasTopLevelAwait: boolean;
}

/** A dotted name; "?" for what is not a name. */
function nameOf(node: Deno.lint.Node): string {
  switch (node.type) {
    case "Identifier":
      return node.name;
    case "PrivateIdentifier":
      return `#${node.name}`;
    case "ThisExpression":
      return "this";
    case "MetaProperty":
      return "import.meta";
    case "Literal":
      return String(node.value);
    case "ChainExpression":
    case "TSNonNullExpression":
      return nameOf(node.expression);
    case "MemberExpression":
      return `${nameOf(node.object)}.${
        node.computed && node.property.type !== "Literal" ? "?" : nameOf(node.property)
      }`;
    default:
      return "?";
  }
}

const FUNCTIONS = new Set(["FunctionDeclaration", "FunctionExpression", "ArrowFunctionExpression"]);

function isTopLevel(node: Deno.lint.Node): boolean {
  for (let at: Deno.lint.Node | undefined = node; at !== undefined && at.type !== "Program"; at = parentOf(at)) {
    if (FUNCTIONS.has(at.type)) return false;
  }
  return true;
}

function parentOf(node: Deno.lint.Node): Deno.lint.Node | undefined {
  return "parent" in node ? node.parent as Deno.lint.Node : undefined;
}

/** Parses a source with the linter's own parser. */
function factsOf(path: string, source: string): Facts {
  const facts: Facts = { path, imports: [], texts: [], names: [], calls: [], hasTopLevelAwait: false };
  const addImport = (from: Deno.lint.Node | null | undefined) => {
    if (from?.type === "Literal") facts.imports.push(String(from.value));
    else if (from) facts.imports.push("?"); // computed, so nobody can tell what it is
  };
  const visitor: Deno.lint.LintVisitor = {
    ImportDeclaration: (node) => addImport(node.source),
    ExportNamedDeclaration: (node) => addImport(node.source),
    ExportAllDeclaration: (node) => addImport(node.source),
    ImportExpression: (node) => addImport(node.source),
    TSImportType: (node) => addImport(node.argument.type === "TSLiteralType" ? node.argument.literal : node.argument),
    Literal(node) {
      if (typeof node.value === "string") facts.texts.push(node.value);
    },
    TemplateLiteral(node) {
      facts.texts.push(node.quasis.map(({ cooked, raw }) => cooked ?? raw).join("…"));
    },
    MemberExpression(node) {
      facts.names.push(nameOf(node));
    },
    VariableDeclarator(node) {
      if (node.id.type !== "ObjectPattern" || !node.init) return;
      for (const property of node.id.properties) {
        if (property.type === "Property") facts.names.push(`${nameOf(node.init)}.${nameOf(property.key)}`);
      }
    },
    CallExpression(node) {
      facts.calls.push(nameOf(node.callee));
    },
    NewExpression(node) {
      facts.calls.push(nameOf(node.callee));
    },
    AwaitExpression(node) {
      facts.hasTopLevelAwait ||= isTopLevel(node);
    },
    ForOfStatement(node) {
      facts.hasTopLevelAwait ||= node.await && isTopLevel(node);
    },
    VariableDeclaration(node) {
      facts.hasTopLevelAwait ||= node.kind === "await using" && isTopLevel(node);
    },
  };
  const plugin: Deno.lint.Plugin = { name: "structure", rules: { facts: { create: () => visitor } } };
  Deno.lint.runPlugin(plugin, path.split("/").at(-1)!, source);
  return facts;
}

/** A made-up source. */
function madeUp(source: string, path = "lib/made_up.ts"): Facts {
  return factsOf(path, source);
}

/** Whether a dotted name is this one, also when it is reached by way of globalThis. */
function isNamed(name: string, wanted: string): boolean {
  return name === wanted || name === `globalThis.${wanted}`;
}

async function run(command: string, args: string[], options: Deno.CommandOptions = {}): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, cwd: ROOT, ...options }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** Paths of all files that are kept, or are about to be. */
const FILES = (await run("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"])).split("\0")
  .filter((path) => path !== "" && exists(path));

function exists(path: string): boolean {
  try {
    return Deno.statSync(join(ROOT, path)).isFile;
  } catch {
    return false; // deleted, but git has not been told yet
  }
}

const isShipped = (path: string) => /^(?:main\.http\.ts|(?:lib|views)\/.*\.tsx?)$/.test(path);

const SOURCES = new Map(FILES.filter(isShipped).map((path) => [path, Deno.readTextFileSync(join(ROOT, path))]));
const SHIPPED = [...SOURCES].map(([path, source]) => factsOf(path, source));

/** Asserts that a rule finds fault with made-up sources, and with none that is shipped. */
function assertHeld(rule: (facts: Facts) => string | null, broken: Facts[], fine: Facts[] = []): void {
  for (const facts of broken) assert.notEqual(rule(facts), null, `the rule is blind to ${JSON.stringify(facts)}`);
  for (const facts of fine) assert.equal(rule(facts), null, "the rule sees what is not there");
  assert.ok(SHIPPED.length > 10, "there is something to be looked at");
  assert.deepEqual(SHIPPED.map(rule).filter((fault) => fault !== null), []);
}

/** A rule: what `find` finds in a file other than `owners` is a fault. */
function onlyIn(owners: string[], what: string, find: (facts: Facts) => unknown): (facts: Facts) => string | null {
  return (facts) => !owners.includes(facts.path) && find(facts) ? `${facts.path} ${what}` : null;
}

function rankOf(path: string): Rank | null {
  if (ENTRIES.includes(path)) return "entry";
  if (path in FLOWS) return "flow";
  if (OWNERS.includes(path)) return "owner";
  if (PURE.includes(path)) return "pure";
  return path.startsWith("views/") ? "view" : null;
}

/** The files that a file imports, as paths from the root. */
function filesOf({ path, imports }: Facts): string[] {
  return imports.filter((specifier) => /^\.\.?\//.test(specifier)).map((specifier) => join(dirname(path), specifier));
}

/** What is wrong with a file's importing another, or null. */
function misdirection(from: string, to: string): string | null {
  const [upper, lower] = [rankOf(from), rankOf(to)];
  const fault = `${from} (${upper}) imports ${to} (${lower})`;
  if (upper === null || lower === null) return fault;
  if (upper === "view" || lower === "view") {
    return lower === "view" && (upper === "view" || from === "main.http.ts") ? null : fault;
  }
  if (upper === "flow" && lower === "flow") return FLOWS[from] === FLOWS[to] ? null : fault;
  if (upper === "entry" && lower === "entry") return fault;
  return RANKS.indexOf(upper) >= RANKS.indexOf(lower) ? null : fault;
}

/** A way through a graph that ends where it began, or null. */
function cycleIn(graph: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  function walk(node: string, way: string[]): string[] | null {
    if (way.includes(node)) return [...way.slice(way.indexOf(node)), node];
    if (done.has(node)) return null;
    for (const next of graph.get(node) ?? []) {
      const cycle = walk(next, [...way, node]);
      if (cycle !== null) return cycle;
    }
    done.add(node);
    return null;
  }
  for (const node of graph.keys()) {
    const cycle = walk(node, []);
    if (cycle !== null) return cycle;
  }
  return null;
}

Deno.test("factsOf() parses: what a comment, a pattern or a page's text says is not done", () => {
  const facts = factsOf(
    "views/made_up.tsx",
    `// await fetch("SELECT a FROM b"); import "./no.ts"
    import type { A } from "./a.ts";
    export * from "./b.ts";
    export { c } from "./c.ts";
    type D = import("./d.ts").D;
    const pattern = /SELECT a FROM b/;
    const page = <p title="title">Don't SELECT a FROM b, do fetch(it)</p>;
    async function later(this: X) {
      await import("./e.ts");
      this.#run(\`SELECT \${page} FROM b\`);
      return Deno?.["env"]!.get("X");
    }
    const { subtle } = crypto;`,
  );
  assert.deepEqual(facts.imports, ["./a.ts", "./b.ts", "./c.ts", "./d.ts", "./e.ts"]);
  assert.ok(facts.texts.includes("SELECT … FROM b") && facts.texts.includes("title"));
  assert.ok(!facts.texts.some((text) => text.includes("SELECT a")));
  assert.ok(facts.names.includes("Deno.env") && facts.names.includes("crypto.subtle"));
  assert.deepEqual(facts.calls, ["this.#run", "Deno.env.get"]);
  assert.equal(facts.hasTopLevelAwait, false);
});

Deno.test("the top level holds what the design names, and dot files", () => {
  const stray = (paths: string[]) =>
    paths.map((path) => path.split("/")[0]!).filter((name) => !name.startsWith(".") && !TOP_LEVEL.includes(name));
  assert.deepEqual(stray(["src/a.ts", "package.json", "lib/a.ts", ".github/x"]), ["src", "package.json"]);
  assert.deepEqual(stray(FILES), []);
});

Deno.test("every shipped file has a place, and imports point from entry to flow to owner to pure", () => {
  const rule = (facts: Facts) => {
    const faults = filesOf(facts).map((to) => misdirection(facts.path, to)).filter((fault) => fault !== null);
    if (rankOf(facts.path) === null) {
      faults.unshift(`${facts.path} has no place: give it one at the top of this test`);
    }
    return faults.length === 0 ? null : faults.join("; ");
  };
  assertHeld(rule, [
    madeUp("", "lib/nobody_knows.ts"),
    madeUp('import { x } from "./upkeep.ts";', "lib/stats.ts"),
    madeUp('import type { X } from "./donate.ts";', "lib/pool.ts"),
    madeUp('import { x } from "./pool.ts";', "lib/store.ts"),
    madeUp('await import("../main.http.ts");', "lib/pool.ts"),
    madeUp('export * from "./config.ts";', "lib/crypto.ts"),
    madeUp('import "../views/landing.tsx";', "lib/stats.ts"),
    madeUp('import "../views/landing.tsx";', "lib/admin.ts"),
    madeUp('import "../lib/stats.ts";', "views/landing.tsx"),
    madeUp('import "./lib/admin.ts";', "main.http.ts"),
    madeUp('import "../tests/support/fixtures.ts";', "lib/pool.ts"),
  ], [
    madeUp('import "./lib/stats.ts"; import "./views/landing.tsx";', "main.http.ts"),
    madeUp('import "./consumer.ts"; import "./vault.ts"; import "./errors.ts";', "lib/pool.ts"),
  ]);
});

Deno.test("pure files import nothing but pure files, node: and npm:", () => {
  const rule = (facts: Facts) => {
    if (!PURE.includes(facts.path)) return null;
    const other = facts.imports.filter((specifier) =>
      !/^(?:node|npm):/.test(specifier) && !PURE.includes(join(dirname(facts.path), specifier))
    );
    return other.length === 0 ? null : `${facts.path} imports ${other}`;
  };
  assertHeld(rule, [
    madeUp('import type { Config } from "./config.ts";', "lib/health.ts"),
    madeUp('import "https://example.com/x.ts";', "lib/crypto.ts"),
  ], [madeUp('import { Buffer } from "node:buffer"; import "./errors.ts";', "lib/crypto.ts")]);
});

Deno.test("no imports go round in a circle", () => {
  const [a, b, c] = ["a", "b", "c"];
  assert.deepEqual(cycleIn(new Map([[a, [b]], [b, [c]], [c, [b]]])), [b, c, b]);
  assert.deepEqual(cycleIn(new Map([[a, [a]]])), [a, a]);
  assert.equal(cycleIn(new Map([[a, [b, c]], [b, [c]], [c, []]])), null);
  assert.equal(cycleIn(new Map(SHIPPED.map((facts) => [facts.path, filesOf(facts)]))), null);
});

Deno.test("SQL is in lib/store.ts only", () => {
  const anywhere =
    /\b(?:SELECT\s[^]*\bFROM|INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|(?:CREATE|DROP|ALTER)\s+(?:UNIQUE\s+)?(?:TABLE|INDEX|VIEW|TRIGGER))\b/;
  const beginning = /^\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|WITH)\s/;
  const inLowerCase =
    /^\s*(?:select\s[^]*\sfrom\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|create\s+table\s)/i;
  const rule = onlyIn(
    ["lib/store.ts"],
    "contains SQL",
    ({ texts }) => texts.some((text) => [anywhere, beginning, inLowerCase].some((pattern) => pattern.test(text))),
  );
  assertHeld(rule, [
    madeUp('const sql = "SELECT a FROM b";'),
    madeUp("const sql = `SELECT ${columns}\n FROM ${table}`;"),
    madeUp('const sql = "SELECT a" + " FROM b";'),
    madeUp('run("INSERT OR IGNORE INTO t VALUES (1)");'),
    madeUp("run(`UPDATE t SET a = 1`);", "lib/admin.ts"),
    madeUp('run("DELETE FROM t");', "main.http.ts"),
    madeUp('run("BEGIN; CREATE TABLE t (a)");', "lib/database.ts"),
    madeUp('run("delete from t where id = 1");'),
  ], [
    madeUp('// SELECT a FROM b\nconst text = "Update your settings, or delete the row"; const method = "DELETE";'),
    madeUp('run("SELECT 1");', "lib/store.ts"),
  ]);
});

Deno.test("PRAGMAs are in lib/database.ts only, and so is the driver", () => {
  const pragma = onlyIn(
    ["lib/database.ts"],
    "sets a PRAGMA",
    ({ texts }) => texts.some((text) => /\bpragma\s/i.test(text)),
  );
  assertHeld(pragma, [madeUp('run("PRAGMA journal_mode = WAL");', "lib/store.ts")], [madeUp("// PRAGMA x")]);

  const driver = onlyIn(
    ["lib/database.ts"],
    "imports the driver",
    ({ imports }) => imports.some((specifier) => /libsql|sqlite/i.test(specifier)),
  );
  assertHeld(driver, [
    madeUp('import { createClient } from "npm:@libsql/client@0.18.0";', "lib/store.ts"),
    madeUp('import type { Client } from "npm:@libsql/client@0.18.0/web";', "lib/pool.ts"),
    madeUp(`await import("${VAL_TOWN_DATABASE}");`, "lib/vault.ts"),
    madeUp('import { DatabaseSync } from "node:sqlite";', "lib/store.ts"),
  ]);
});

Deno.test("the environment is read in lib/config.ts only", () => {
  const rule = onlyIn(
    ["lib/config.ts"],
    "reads the environment",
    ({ imports, names }) =>
      imports.some((specifier) => /^(?:node:)?process$/.test(specifier)) ||
      names.some((name) => ["Deno.env", "process.env", "import.meta.env"].some((wanted) => isNamed(name, wanted))),
  );
  assertHeld(rule, [
    madeUp('const x = Deno.env.get("X");'),
    madeUp('const x = globalThis.Deno["env"];'),
    madeUp("const { env } = Deno;"),
    madeUp("const x = process.env.X;", "lib/pool.ts"),
    madeUp('import process from "node:process";', "main.http.ts"),
  ], [madeUp("// Deno.env.get\nconst x = settings.environment;")]);
});

Deno.test("the cipher is in lib/crypto.ts only", () => {
  const rule = onlyIn(
    ["lib/crypto.ts"],
    "uses a cipher",
    ({ imports, names, calls, texts }) =>
      names.some((name) => isNamed(name, "crypto.subtle")) ||
      calls.some((name) => /(?:^|\.)(?:createCipheriv|createDecipheriv|createHash|createHmac)$/.test(name)) ||
      imports.some((specifier) => /^(?:node:)?crypto$/.test(specifier)) ||
      texts.some((text) => /^AES-|^aes-\d+-/.test(text)),
  );
  assertHeld(rule, [
    madeUp("await crypto.subtle.digest(a, b);", "lib/donate.ts"),
    madeUp("const { subtle } = globalThis.crypto;"),
    madeUp('import { createCipheriv } from "node:crypto";'),
    madeUp('const algorithm = { name: "AES-GCM" };', "lib/vault.ts"),
  ], [madeUp('const id = crypto.randomUUID(); const why = "half a key: AES-256 needs 32 bytes";')]);
});

Deno.test("calls go out from lib/github.ts only, but for the caller's own and the database driver's", () => {
  // lib/pool_fetch.ts sends what the caller asks for, through what lib/pool.ts was given or the global fetch;
  // main.http.ts hands a request to its own app.
  const isFetch = (name: string) => /(?:^|[.#])fetch$/.test(name) && name !== "app.fetch";
  const calling = onlyIn(
    ["lib/github.ts", "lib/pool_fetch.ts", "lib/pool.ts", "lib/database.ts"],
    "makes calls",
    ({ calls }) =>
      calls.some((name) => isFetch(name) || /(?:^|\.)(?:Deno\.connect\w*|WebSocket|XMLHttpRequest)$/.test(name)),
  );
  assertHeld(calling, [
    madeUp("await fetch(url);", "lib/upkeep.ts"),
    madeUp("await globalThis.fetch(url);", "main.http.ts"),
    madeUp("class A { a() { return this.#options.fetch(url); } }", "lib/consumer.ts"),
    madeUp("new WebSocket(url);", "lib/store.ts"),
  ], [
    madeUp('// await fetch(url)\nconst example = `await fetch("https://api.github.com")`;', "views/landing.tsx"),
    madeUp("app.fetch(request);", "main.http.ts"),
  ]);
  const callsOf = (path: string) =>
    SHIPPED.find((facts) => facts.path === path)?.calls.filter((name) => isNamed(name, "fetch")).length;
  assert.equal(callsOf("lib/database.ts"), 1, "the driver's own fetch, which bounds it in time");
  assert.equal(callsOf("lib/pool.ts"), 1, "the default of PoolOptions.fetch");

  // lib/health.ts recognises the answers of these, and a page links to where an operator registers an app
  const oauth = onlyIn(
    ["lib/github.ts", "lib/health.ts"],
    "names an OAuth endpoint",
    ({ path, texts }) =>
      !path.startsWith("views/") &&
      texts.some((text) => /\/login\/oauth|\/applications\/|\/credentials\/revoke/.test(text)),
  );
  assertHeld(oauth, [
    madeUp("const url = `${github}/login/oauth/authorize`;", "lib/donate.ts"),
    madeUp("const url = `${api}/applications/${id}/token`;", "lib/upkeep.ts"),
    madeUp('const path = "/credentials/revoke";', "main.http.ts"),
  ], [
    madeUp("const isOAuth = /\\/applications\\//.test(path); // POST /applications/{id}/token"),
    madeUp("const link = `${github}/settings/connections/applications/${id}`;", "views/landing.tsx"),
  ]);
});

/** A module of `deno info --json`. */
interface InfoModule {
  specifier: string;
  dependencies?: { specifier: string; npmPackage?: string }[];
}

Deno.test("lib/pool.ts pulls in the consumer's flow and nothing of the service", async () => {
  const files = (modules: InfoModule[]) =>
    modules.filter(({ specifier }) => specifier.startsWith("file:"))
      .map(({ specifier }) => fileURLToPath(specifier).replace(ROOT, ""));
  const packages = (modules: InfoModule[]) =>
    new Set(
      modules.flatMap(({ dependencies = [] }) => dependencies)
        .map(({ specifier }) => npmPackage(specifier)?.name).filter((name) => name !== undefined),
    );
  const graphOf = async (path: string): Promise<InfoModule[]> =>
    JSON.parse(await run(Deno.execPath(), ["info", "--json", path])).modules;

  const service = await graphOf("main.http.ts");
  assert.ok(
    files(service).includes("lib/github.ts") && packages(service).has("hono"),
    "the graph of the service has them",
  );

  const pool = await graphOf("lib/pool.ts");
  // Here, and only here, the import map has something in the place of Val Town's database.
  assert.deepEqual(files(pool).filter((path) => !path.startsWith("tests/")).sort(), CONSUMERS_PAY_FOR);
  assert.deepEqual([...packages(pool)].sort(), ["@libsql/client", "zod"]);

  const ofNode = (modules: InfoModule[]) =>
    modules.map(({ specifier }) => specifier).filter((specifier) => specifier.startsWith("node:"));
  assert.ok(ofNode(await graphOf("lib/admin.ts")).length > 0, "the graph of the command line has some");
  for (const graph of [pool, service]) assert.deepEqual(ofNode(graph), [], "they cost a cold start 20 ms and more");
});

/** The parts of an npm specifier, or null. */
function npmPackage(specifier: string): { name: string; version: string } | null {
  const parts = /^npm:\/?((?:@[^/@]+\/)?[^/@]+)(?:@([^/]+))?(?:\/|$)/.exec(specifier);
  return parts === null ? null : { name: parts[1]!, version: parts[2] ?? "" };
}

/** The specifier in a JSX pragma, or null. */
function pragmaOf(source: string): string | null {
  return /^\/\*\* @jsxImportSource (\S+) \*\/$/m.exec(source)?.[1] ?? null;
}

/** The npm packages of sources, each with all the versions that are asked for. */
function versionsIn(sources: [source: string, facts: Facts][]): Map<string, Set<string>> {
  const versions = new Map<string, Set<string>>();
  for (const [source, { imports }] of sources) {
    for (const specifier of [...imports, pragmaOf(source) ?? ""]) {
      const found = npmPackage(specifier);
      if (found !== null) versions.set(found.name, (versions.get(found.name) ?? new Set()).add(found.version));
    }
  }
  return versions;
}

Deno.test("every npm package has one exact version in all shipped files, and there are three packages", () => {
  const faults = (versions: Map<string, Set<string>>) =>
    [...versions].filter(([name, found]) =>
      !PACKAGES.includes(name) || found.size !== 1 || ![...found].every((version) => /^\d+\.\d+\.\d+$/.test(version))
    ).map(([name]) => name);
  const bad = (source: string) => faults(versionsIn([[source, madeUp(source, "views/made_up.tsx")]]));
  assert.deepEqual(bad('import "npm:zod@4.6.7"; import "npm:zod@4.6.6/mini";'), ["zod"]);
  assert.deepEqual(bad('import "npm:zod@4";'), ["zod"]);
  assert.deepEqual(bad('import "npm:zod@^4.6.7";'), ["zod"]);
  assert.deepEqual(bad('import "npm:zod";'), ["zod"]);
  assert.deepEqual(bad('/** @jsxImportSource npm:hono@4.0.0/jsx */\nimport "npm:hono@4.13.19";'), ["hono"]);
  assert.deepEqual(bad('import "npm:left-pad@1.3.0";'), ["left-pad"]);
  assert.deepEqual(bad('import "npm:@libsql/client@0.18.0"; import "npm:@libsql/client@0.18.0/web";'), []);

  const versions = versionsIn(SHIPPED.map((facts) => [SOURCES.get(facts.path)!, facts]));
  assert.deepEqual(faults(versions), []);
  assert.deepEqual([...versions.keys()].sort(), [...PACKAGES].sort());
});

Deno.test("imports are of files, node:, npm: and Val Town's shared database, spelled out", () => {
  // deno.json is not read for a module that is imported by URL, so no bare name resolves there.
  const rule = ({ path, imports }: Facts) => {
    const other = imports.filter((specifier) =>
      !/^(?:\.\.?\/.*\.tsx?|node:\w+|npm:.*)$/.test(specifier) &&
      !(specifier === VAL_TOWN_DATABASE && path === "lib/database.ts")
    );
    return other.length === 0 ? null : `${path} imports ${other}`;
  };
  assertHeld(rule, [
    madeUp('import { z } from "zod";'),
    madeUp('import "jsr:@std/assert@1";'),
    madeUp('import "./store";'),
    madeUp('import "https://esm.town/v/std/utils/index.ts";'),
    madeUp(`await import("${VAL_TOWN_DATABASE.replace("global", "main")}");`, "lib/database.ts"),
    madeUp("await import(name);"),
  ]);
});

Deno.test("every page names its JSX runtime, of the version that the service has", () => {
  const [hono] = versionsIn(SHIPPED.map((facts) => ["", facts])).get("hono") ?? [];
  const fault = (path: string, source: string) =>
    path.endsWith(".tsx") && pragmaOf(source) !== `npm:hono@${hono}/jsx` ? path : null;
  assert.ok(hono !== undefined);
  assert.notEqual(fault("views/x.tsx", "export const x = <p />;"), null);
  assert.notEqual(fault("views/x.tsx", "/** @jsxImportSource npm:hono@1.0.0/jsx */"), null);
  assert.notEqual(fault("views/x.tsx", "/** @jsxImportSource npm:react@19.0.0 */"), null);
  assert.ok([...SOURCES.keys()].some((path) => path.endsWith(".tsx")));
  assert.deepEqual([...SOURCES].map(([path, source]) => fault(path, source)).filter((path) => path !== null), []);
});

Deno.test("only two files have a word in their path that Val Town takes for a trigger", () => {
  const triggers = (paths: string[]) =>
    paths.filter((path) => /\.(?:tsx?|jsx?)$/.test(path) && /http|cron|email/i.test(path)).sort();
  assert.deepEqual(triggers(["lib/http.ts", "lib/Email/x.tsx", "tests/cron_test.js", "lib/http.md", "a.ts"]), [
    "lib/Email/x.tsx",
    "lib/http.ts",
    "tests/cron_test.js",
  ]);
  assert.deepEqual(triggers(FILES), ["lib/upkeep.cron.ts", "main.http.ts"]);
});

Deno.test("no shipped file does what Val Town or its driver cannot do", () => {
  const rule = ({ path, calls, names, imports, texts, hasTopLevelAwait }: Facts) => {
    const faults = [
      calls.some((name) => /\.#?transaction$/.test(name)) && "opens a transaction, which Val Town's client has not",
      names.some((name) => isNamed(name, "Response.redirect")) && "uses Response.redirect, which Val Town breaks",
      [...imports, ...texts].some((text) => text.includes("std/sqlite/main.ts")) && "uses a val's private database",
      calls.some((name) => isNamed(name, "setInterval")) && "sets an interval, which keeps a process alive",
      hasTopLevelAwait && "waits while it is imported",
    ].filter((fault) => fault !== false);
    return faults.length === 0 ? null : `${path}: ${faults}`;
  };
  assertHeld(rule, [
    madeUp('const t = await client.transaction("write");'),
    madeUp("class A { a() { return this.#driver.transaction(); } }"),
    madeUp("function f() { return Response.redirect(url); }"),
    madeUp('const url = "https://esm.town/v/std/sqlite/main.ts";'),
    madeUp("function f() { setInterval(g, 1000); }"),
    madeUp("globalThis.setInterval(g, 1000);"),
    madeUp("const config = await load();"),
    madeUp("if (import.meta.main) await main();"),
    madeUp("for await (const x of y) z(x);"),
    madeUp("await using a = b();"),
  ], [
    madeUp("async function f() { await g(); for await (const x of y) z(x); } // await main()"),
    madeUp("const f = async () => await c.redirect(url, 303); const name = `transaction(1)`;"),
  ]);
});

/**
 * Runs a program without any permission.
 *
 * @returns Whether it ended well, what it printed, and every permission that it as much as asked for.
 */
async function runWithoutPermissions(program: string) {
  const audit = await Deno.makeTempFile({ prefix: "token-pool-", suffix: ".jsonl" });
  try {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--quiet", "-"],
      cwd: ROOT,
      env: { DENO_AUDIT_PERMISSIONS: audit },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(program));
    await writer.close();
    const { success, stdout, stderr } = await child.output();
    const decoder = new TextDecoder();
    return {
      success,
      printed: decoder.decode(stdout) + decoder.decode(stderr),
      asked: await Deno.readTextFile(audit),
    };
  } finally {
    await Deno.remove(audit);
  }
}

const IDLE = { success: true, printed: "", asked: "" };

for (const path of ["main.http.ts", "lib/pool.ts", "lib/upkeep.cron.ts"]) {
  Deno.test(`importing ${path} does nothing, and needs no permission`, async () => {
    const url = JSON.stringify(new URL(path, `file://${ROOT}`).href);
    assert.deepEqual(await runWithoutPermissions(`import * as all from ${url}; all;`), IDLE);
  });
}

Deno.test("importing any shipped file does nothing, and needs no permission", async () => {
  const imports = [...SOURCES.keys()].map((path) => `import ${JSON.stringify(new URL(path, `file://${ROOT}`).href)};`);
  assert.deepEqual(await runWithoutPermissions(imports.join("\n")), IDLE);
});

Deno.test("an import that does something is noticed, even when it hides that", async () => {
  const doing = {
    "prints": "console.log('here I am');",
    "throws": "throw new Error('no');",
    "reads the environment": "Deno.env.get('HOME');",
    "hides that it reads the environment":
      "import process from 'node:process'; try { process.env.HOME; } catch { /* not allowed */ }",
    "hides that it opens a file": "Deno.readTextFile('deno.json').catch(() => {});",
    "hides that it calls out": "fetch('http://127.0.0.1:8123/').catch(() => {});",
  };
  for (const [what, program] of Object.entries(doing)) {
    assert.notDeepEqual(await runWithoutPermissions(program), IDLE, what);
  }
});

Deno.test("no task but the tests has all permissions, and none but the service's and the operator's gets off this machine", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(join(ROOT, "deno.json"))) as { tasks: Record<string, string> };
  const fault = (name: string, task: string): string | null => {
    const flags = task.split(" ").filter((word) => word.startsWith("-"));
    if (name !== "test" && flags.some((flag) => /^(?:-A|--allow-all|-[a-zA-Z]*P)\b/.test(flag))) {
      return `${name} has all permissions`;
    }
    const net = flags.find((flag) => flag.startsWith("--allow-net"));
    const isLocal = net === undefined ||
      /^--allow-net=(?:127\.0\.0\.1|localhost)(?:,(?:127\.0\.0\.1|localhost))*$/.test(net);
    return isLocal || ["start", "admin"].includes(name) ? null : `${name} may call out`;
  };
  assert.match(tasks["test"]!, /^deno test /);
  assert.notEqual(fault("x", "deno run -A x.ts"), null);
  assert.notEqual(fault("x", "deno run --allow-all x.ts"), null);
  assert.notEqual(fault("x", "deno run --allow-net x.ts"), null);
  assert.notEqual(fault("x", "deno run --allow-net=127.0.0.1,evil.example x.ts"), null);
  assert.equal(fault("x", "deno run --allow-net=127.0.0.1,localhost x.ts"), null);
  assert.deepEqual(
    Object.entries(tasks).map(([name, task]) => fault(name, task)).filter((found) => found !== null),
    [],
  );
  const contributing = await Deno.readTextFile(join(ROOT, ".github/CONTRIBUTING.md"));
  for (const [name, task] of Object.entries(tasks)) {
    if (/--allow-(?:all|net|read|env|run)/.test(task)) {
      assert.match(contributing, new RegExp(`^\\|.*\`${name}\`.*\\|.*\\|$`, "m"), name);
    }
  }
});
