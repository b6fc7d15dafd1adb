/**
 * Holds `lib/config.ts` to what an operator is promised: every variable means what the README's table says, all
 * problems come at once and each with its remedy, and no value ever shows up in what is said of it.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import {
  assertReserve,
  type Config,
  DEFAULT_RESERVE,
  MAX_RESERVE,
  processEnvironment,
  Settings,
  type SettingSources,
  type Variable,
} from "../lib/config.ts";
import { PoolError } from "../lib/errors.ts";
import { environment, KEY, OTHER_KEY } from "./support/fixtures.ts";

/** The variables that an operator sets. */
const VARIABLES = [
  "GITHUB_CLIENT_ID",
  "GITHUB_CLIENT_SECRET",
  "TOKEN_ENCRYPTION_KEY",
  "TOKEN_ENCRYPTION_KEYS_PREVIOUS",
  "TOKEN_POOL_DATABASE_URL",
  "TOKEN_POOL_DATABASE_AUTH_TOKEN",
  "TOKEN_POOL_RESERVE",
  "TOKEN_POOL_DISABLED",
  "PUBLIC_URL",
  "GITHUB_URL",
  "GITHUB_API_URL",
  "PORT",
  "HOST",
] as const satisfies Variable[];

/** Variables of which some texts are wrong. */
const CHECKED: Variable[] = [
  "TOKEN_ENCRYPTION_KEY",
  "TOKEN_ENCRYPTION_KEYS_PREVIOUS",
  "TOKEN_POOL_DATABASE_URL",
  "TOKEN_POOL_RESERVE",
  "PUBLIC_URL",
  "GITHUB_URL",
  "GITHUB_API_URL",
  "PORT",
];

const ENTRYPOINT = "https://esm.town/v/alice/token-pool@12-main/main.http.ts";

type Variables = Record<string, string | undefined>;

function settings(variables: Variables, sources: Omit<SettingSources, "environment"> = {}): Settings {
  return new Settings({ environment: environment(variables), ...sources });
}

/** What one variable is read as. */
function read(name: typeof VARIABLES[number], text: string): Config[typeof name] {
  return settings({ [name]: text }).read()[name];
}

/** What is said when settings are wrong. */
function complaint(variables: Variables, required: Variable[] = []): string {
  let message = "";
  assert.throws(() => settings(variables).read(required), (error) => {
    assert.ok(error instanceof PoolError);
    assert.equal(error.code, "config");
    assert.equal(error.cause, undefined, "a cause could quote the value");
    message = error.message;
    return true;
  });
  return message;
}

Deno.test("Settings.read() has a default for what need not be set", () => {
  assert.deepEqual(settings({}).read(), {
    GITHUB_CLIENT_ID: undefined,
    GITHUB_CLIENT_SECRET: undefined,
    TOKEN_ENCRYPTION_KEY: undefined,
    TOKEN_ENCRYPTION_KEYS_PREVIOUS: [],
    TOKEN_POOL_DATABASE_URL: undefined,
    TOKEN_POOL_DATABASE_AUTH_TOKEN: undefined,
    TOKEN_POOL_RESERVE: 0.25,
    TOKEN_POOL_DISABLED: false,
    PUBLIC_URL: undefined,
    GITHUB_URL: "https://github.com",
    GITHUB_API_URL: "https://api.github.com",
    PORT: 8000,
    HOST: "127.0.0.1",
    onValTown: false,
    valTownSettingsUrl: null,
    importUrl: null,
  });
});

Deno.test("Settings.read() reads every variable", () => {
  const config = settings({
    GITHUB_CLIENT_ID: "Iv1.0123456789abcdef",
    GITHUB_CLIENT_SECRET: "a secret",
    TOKEN_ENCRYPTION_KEY: KEY,
    TOKEN_ENCRYPTION_KEYS_PREVIOUS: OTHER_KEY,
    TOKEN_POOL_DATABASE_URL: "libsql://pool.turso.io",
    TOKEN_POOL_DATABASE_AUTH_TOKEN: "a token",
    TOKEN_POOL_RESERVE: "0.5",
    TOKEN_POOL_DISABLED: "1",
    PUBLIC_URL: "https://pool.example",
    GITHUB_URL: "https://github.example",
    GITHUB_API_URL: "https://github.example/api/v3",
    PORT: "8080",
    HOST: "0.0.0.0",
  }).read(VARIABLES);
  assert.deepEqual(config, {
    GITHUB_CLIENT_ID: "Iv1.0123456789abcdef",
    GITHUB_CLIENT_SECRET: "a secret",
    TOKEN_ENCRYPTION_KEY: KEY,
    TOKEN_ENCRYPTION_KEYS_PREVIOUS: [OTHER_KEY],
    TOKEN_POOL_DATABASE_URL: "libsql://pool.turso.io",
    TOKEN_POOL_DATABASE_AUTH_TOKEN: "a token",
    TOKEN_POOL_RESERVE: 0.5,
    TOKEN_POOL_DISABLED: true,
    PUBLIC_URL: "https://pool.example",
    GITHUB_URL: "https://github.example",
    GITHUB_API_URL: "https://github.example/api/v3",
    PORT: 8080,
    HOST: "0.0.0.0",
    onValTown: false,
    valTownSettingsUrl: null,
    importUrl: null,
  });
});

Deno.test("Settings.read() takes an empty variable for one that is not set, and trims the others", () => {
  const unset = Object.fromEntries(VARIABLES.map((name) => [name, "  "]));
  assert.deepEqual(settings(unset).read(), settings({}).read());
  assert.equal(read("TOKEN_ENCRYPTION_KEY", ` ${KEY}\n`), KEY);
  assert.equal(read("PORT", " 8080 "), 8080);
});

Deno.test("Settings.read() takes 64 hex digits for a key and nothing else", () => {
  assert.equal(read("TOKEN_ENCRYPTION_KEY", KEY.toUpperCase()), KEY.toUpperCase());
  for (const text of [KEY.slice(1), KEY + "0", `${KEY.slice(1)}g`, `0x${KEY.slice(2)}`, `${KEY},${OTHER_KEY}`, "key"]) {
    const message = complaint({ TOKEN_ENCRYPTION_KEY: text });
    assert.match(message, /TOKEN_ENCRYPTION_KEY must be exactly 64 hex digits, made by `openssl rand -hex 32`/);
    assert.ok(message.includes(`${text.length} characters`), message);
    assert.ok(!message.includes(text), message);
  }
});

Deno.test("Settings.read() says why a key of 32 hex digits is not enough", () => {
  const message = complaint({ TOKEN_ENCRYPTION_KEY: KEY.slice(32) });
  assert.match(message, /32 characters are half a key: AES-256 needs 32 bytes, which are 64 hex digits/);
  assert.match(message, /openssl rand -hex 32/);
  assert.ok(!message.includes(KEY.slice(32)));
});

Deno.test("Settings.read() reads old keys separated by commas", () => {
  const name = "TOKEN_ENCRYPTION_KEYS_PREVIOUS";
  assert.deepEqual(read(name, KEY), [KEY]);
  assert.deepEqual(read(name, `${KEY}, ${OTHER_KEY} ,`), [KEY, OTHER_KEY]);
  assert.deepEqual(read(name, ","), []);
  for (const text of [`${KEY} ${OTHER_KEY}`, `${KEY};${OTHER_KEY}`, `${KEY},${KEY.slice(32)}`, "key"]) {
    assert.match(complaint({ [name]: text }), /must be old keys separated by commas, each exactly 64 hex digits/);
  }
});

Deno.test("Settings.read() takes the addresses of a libSQL database", () => {
  const name = "TOKEN_POOL_DATABASE_URL";
  for (
    const url of [
      "file:token-pool.db",
      "file:///var/lib/pool.db",
      "file:pool.db?mode=memory",
      ":memory:",
      "http://127.0.0.1:8080",
      "https://pool.example",
      "libsql://pool.turso.io",
      "ws://127.0.0.1:8080",
      "wss://pool.turso.io",
    ]
  ) {
    assert.equal(read(name, url), url);
  }
  for (
    const url of [
      "file:",
      "file:?mode=rwc",
      "token-pool.db",
      "postgres://pool.example",
      "pool.turso.io",
      "ftp://x",
      "memory",
    ]
  ) {
    const message = complaint({ [name]: url });
    assert.match(message, /TOKEN_POOL_DATABASE_URL must be a URL such as file:token-pool.db or libsql:/, url);
  }
});

Deno.test("Settings.read() takes a share from 0 to 0.95 for the reserve", () => {
  const shares = { "0": 0, "0.0": 0, "0.25": 0.25, ".5": 0.5, "0.95": 0.95, "00.5": 0.5 };
  for (const [text, share] of Object.entries(shares)) assert.equal(read("TOKEN_POOL_RESERVE", text), share, text);
  for (const text of ["0.96", "1", "25", "25%", "-0.1", "0,25", "1e-1", "NaN", "Infinity", "0x0", "half", "0.5.5"]) {
    const message = complaint({ TOKEN_POOL_RESERVE: text });
    assert.match(message, /TOKEN_POOL_RESERVE must be a number from 0 to 0.95, such as 0.25/, text);
  }
  assert.equal(DEFAULT_RESERVE, 0.25);
  assert.equal(MAX_RESERVE, 0.95);
});

Deno.test("Settings.read() takes the kill switch for on unless it says off", () => {
  for (const text of ["1", "true", "TRUE", "yes", "on", "maintenance until Monday"]) {
    assert.equal(read("TOKEN_POOL_DISABLED", text), true, text);
  }
  for (const text of ["", "0", "false", "False", "no", "off", " OFF "]) {
    assert.equal(read("TOKEN_POOL_DISABLED", text), false, text);
  }
});

Deno.test("Settings.read() keeps the origin of PUBLIC_URL, and GitHub's addresses without a slash at their end", () => {
  assert.equal(read("PUBLIC_URL", "https://pool.example/some/path?x=1"), "https://pool.example");
  assert.equal(read("PUBLIC_URL", "https://user:pass@pool.example:8443/"), "https://pool.example:8443");
  assert.equal(read("GITHUB_URL", "https://github.example/"), "https://github.example");
  assert.equal(read("GITHUB_API_URL", "http://127.0.0.1:4000/api/v3//"), "http://127.0.0.1:4000/api/v3");
  const examples = {
    PUBLIC_URL: "https://pool.example",
    GITHUB_URL: "https://github.com",
    GITHUB_API_URL: "https://api.github.com",
  };
  for (const [name, example] of Object.entries(examples)) {
    for (const text of ["pool.example", "ftp://pool.example", "file:///etc", "javascript:alert(1)", "//pool.example"]) {
      assert.ok(complaint({ [name]: text }).includes(`- ${name} must be a URL such as ${example}`), text);
    }
  }
});

Deno.test("Settings.read() takes a port number", () => {
  assert.equal(read("PORT", "0"), 0);
  assert.equal(read("PORT", "65535"), 65_535);
  for (const text of ["65536", "-1", "80.5", "8e3", "http", "999999"]) {
    assert.match(complaint({ PORT: text }), /PORT must be a port number/, text);
  }
});

Deno.test("Settings.read() lists all problems at once, the missing and the malformed", () => {
  const required: Variable[] = ["GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET", "TOKEN_ENCRYPTION_KEY"];
  const wrong = Object.fromEntries(CHECKED.slice(1).map((name) => [name, "wrong"]));
  const message = complaint(wrong, required);
  assert.match(message, /^The token pool is not configured:\n- /);
  for (const name of [...required, ...CHECKED]) {
    assert.equal(message.split(`- ${name} `).length, 2, `${name} is named once in:\n${message}`);
  }
  assert.equal(message.split("\n").length, 1 + required.length + CHECKED.length - 1);
});

Deno.test("Settings.read() says how to get what is missing", () => {
  const message = complaint({}, [
    "GITHUB_CLIENT_ID",
    "GITHUB_CLIENT_SECRET",
    "TOKEN_ENCRYPTION_KEY",
    "TOKEN_POOL_DATABASE_URL",
  ]);
  assert.match(message, /GITHUB_CLIENT_ID is not set; .*https:\/\/github\.com\/settings\/developers/);
  assert.match(message, /GITHUB_CLIENT_SECRET is not set; .*OAuth App/);
  assert.match(message, /TOKEN_ENCRYPTION_KEY is not set; .*openssl rand -hex 32/);
  assert.match(message, /TOKEN_POOL_DATABASE_URL is not set; .*libsql:.*createPool/);
});

Deno.test("Settings never echo a value, whichever variable it is in", () => {
  const canary = (index: number) => `canary${index}sings`;
  const forms: ((text: string) => string)[] = [
    (text) => text,
    (text) => `https://${text}.example:99999/${text}`,
    (text) => `${text}://${text}`,
    (text) => text.padEnd(32, "f"),
    (text) => text.padEnd(64, "f"),
    (text) => `${KEY},${text}`,
    (text) => `\n${text}\u0000`,
  ];
  for (const form of forms) {
    const variables = Object.fromEntries(VARIABLES.map((name, index) => [name, form(canary(index))]));
    for (const place of [{}, { VALTOWN_ENTRYPOINT: ENTRYPOINT, valtown: canary(98) }]) {
      const all = settings({ ...variables, ...place });
      const said = [complaint({ ...variables, ...place }, VARIABLES), JSON.stringify(all.inspect(VARIABLES).problems)];
      for (const text of said) {
        assert.ok(text.includes("TOKEN_ENCRYPTION_KEY"), "the name is in it");
        assert.doesNotMatch(text, /canary|sings/);
        assert.ok(!text.includes(KEY));
      }
    }
  }
});

Deno.test("Settings never echo what was given to createPool() either", () => {
  const overrides = Object.fromEntries(CHECKED.map((name) => [name, "canary that sings"]));
  assert.throws(() => settings({}, { overrides }).read(), (error) => {
    assert.ok(error instanceof PoolError);
    for (const name of CHECKED) assert.ok(error.message.includes(`- ${name} `), name);
    assert.doesNotMatch(`${error.message} ${error.stack} ${JSON.stringify(error)}`, /canary|sings/);
    return true;
  });
});

Deno.test("Settings take the caller's word over the environment's", () => {
  const config = settings({ HOST: "environment", PORT: "4000" }, { overrides: { HOST: "caller", PORT: undefined } })
    .read();
  assert.equal(config.HOST, "caller");
  assert.equal(config.PORT, 4000, "the caller has not said");
});

Deno.test("Settings.read() asks for what is needed only by who needs it", () => {
  const none = settings({});
  assert.throws(() => none.read(["TOKEN_ENCRYPTION_KEY"]), { code: "config" });
  assert.equal(none.read().TOKEN_ENCRYPTION_KEY, undefined);
  const given = settings({}, { overrides: { TOKEN_POOL_DATABASE_URL: "file:token-pool.db" } });
  assert.equal(given.read(["TOKEN_POOL_DATABASE_URL"]).TOKEN_POOL_DATABASE_URL, "file:token-pool.db");
});

Deno.test("Settings.inspect() tells problems without throwing, and has the settings when they can be read", () => {
  assert.deepEqual(settings({}).inspect().problems, []);
  const missing = settings({ PORT: "8080" }).inspect(["GITHUB_CLIENT_SECRET"]);
  assert.deepEqual(missing.problems.map(({ name }) => name), ["GITHUB_CLIENT_SECRET"]);
  assert.equal(missing.config?.PORT, 8080);
  const malformed = settings({ PORT: "no port" }).inspect();
  assert.deepEqual(malformed, { config: null, problems: [{ name: "PORT", message: "must be a port number" }] });
});

Deno.test("Settings are read on every use, so a change is seen at once, and checked only when there is one", () => {
  const variables: Variables = { PORT: "1000" };
  const live = settings(variables);
  const first = live.read();
  assert.equal(live.read(), first, "nothing has changed, so nothing is checked again");
  variables["PORT"] = "2000";
  assert.equal(live.read().PORT, 2000);
  variables["PORT"] = "no port";
  assert.throws(() => live.read(), { code: "config" });
  variables["PORT"] = "1000";
  assert.deepEqual(live.read(), first);
  delete variables["PORT"];
  assert.equal(live.read().PORT, 8000);
});

Deno.test("Settings.glance() has what was read last while the variables that it is asked about are the same", () => {
  const variables: Variables = { PORT: "1000", TOKEN_POOL_DISABLED: "0" };
  const reads: string[] = [];
  const live = new Settings({
    environment(name) {
      reads.push(name);
      return variables[name];
    },
  });
  assert.equal(live.glance(["PORT"]), null, "nothing was read yet");
  const first = live.read();
  reads.length = 0;
  assert.equal(live.glance(["PORT", "TOKEN_POOL_DISABLED"]), first);
  assert.deepEqual(reads, ["PORT", "TOKEN_POOL_DISABLED"], "and nothing else is read");
  variables["HOST"] = "0.0.0.0";
  assert.equal(live.glance(["PORT"]), first, "another variable is not looked at");
  variables["PORT"] = "2000";
  assert.equal(live.glance(["PORT"]), null);
  assert.equal(live.read().HOST, "0.0.0.0");
  assert.equal(live.glance(["PORT"])?.PORT, 2000);
  delete variables["PORT"];
  assert.equal(live.glance(["PORT"]), null, "nor is one that is gone the same");
  variables["PORT"] = "no port";
  assert.throws(() => live.read(), { code: "config" });
  assert.equal(live.glance(["PORT"]), null, "what is wrong is never had at a glance");
});

Deno.test("Settings see a change of the place that they are read in", () => {
  const variables: Variables = {};
  const live = settings(variables);
  assert.equal(live.read().onValTown, false);
  variables["VALTOWN_ENTRYPOINT"] = ENTRYPOINT;
  assert.equal(live.onValTown, true);
  assert.equal(live.read().onValTown, true);
});

Deno.test("Settings do not read anything before they are used", () => {
  const seen = new Set<string>();
  const lazy = new Settings({
    environment: (name) => {
      seen.add(name);
      return undefined;
    },
  });
  assert.equal(seen.size, 0);
  lazy.read();
  for (const name of VARIABLES) assert.ok(seen.has(name), name);
});

Deno.test("Settings recognise Val Town by its variables", () => {
  for (const variables of [{ VALTOWN_ENTRYPOINT: ENTRYPOINT }, { valtown: "a token" }] as Variables[]) {
    assert.equal(settings(variables).onValTown, true);
    assert.equal(settings(variables).read().onValTown, true);
  }
  for (const variables of [{}, { VAL_TOWN_API_KEY: "x" }, { DENO_DEPLOYMENT_ID: "x" }] as Variables[]) {
    assert.equal(settings(variables).onValTown, false);
  }
});

Deno.test("Settings and what they are read as agree on the place", () => {
  for (const variables of [{ VALTOWN_ENTRYPOINT: "" }, { valtown: "" }, { valtown: " " }] as Variables[]) {
    const { onValTown } = settings(variables);
    assert.equal(onValTown, settings(variables).read().onValTown, JSON.stringify(variables));
    assert.equal(onValTown, false, "an empty variable is not set");
  }
});

Deno.test("Settings know where a val's variables are set and its library imported from", () => {
  const entrypoints = [ENTRYPOINT, "https://esm.town/v/alice/token-pool", "https://esm.town/v/alice/token-pool/x/y.ts"];
  for (const entrypoint of entrypoints) {
    const val = settings({ VALTOWN_ENTRYPOINT: entrypoint });
    const config = val.read();
    assert.equal(config.valTownSettingsUrl, "https://www.val.town/x/alice/token-pool/environment-variables");
    const version = /@[^/]+/.exec(entrypoint)?.[0] ?? "";
    assert.equal(
      config.importUrl,
      `https://esm.town/v/alice/token-pool${version}/lib/pool.ts`,
      "of the version that runs",
    );
    assert.equal(val.linkTo("PORT"), "https://www.val.town/x/alice/token-pool/environment-variables?key=PORT");
  }
  for (
    const entrypoint of ["main.http.ts", "https://evil.example/v/alice/token-pool", "https://esm.town/v/<a>/b"]
  ) {
    const unknown = settings({ VALTOWN_ENTRYPOINT: entrypoint });
    assert.equal(unknown.onValTown, true, "it is Val Town, if an unknown val");
    assert.equal(unknown.read().importUrl, null);
    assert.equal(unknown.linkTo("PORT"), null);
  }
});

Deno.test("Settings.read() gives a prefilled link for each problem on Val Town, and none elsewhere", () => {
  const wrong: Variables = { PORT: "no port" };
  const required: Variable[] = ["GITHUB_CLIENT_ID"];
  const lines = complaint({ ...wrong, VALTOWN_ENTRYPOINT: ENTRYPOINT }, required).split("\n");
  for (const name of ["GITHUB_CLIENT_ID", "PORT"]) {
    const at = lines.findIndex((line) => line.startsWith(`- ${name} `));
    const link = `https://www.val.town/x/alice/token-pool/environment-variables?key=${name}`;
    assert.equal(lines[at + 1]?.trim(), link, "on a line of its own, to be clicked");
  }
  assert.doesNotMatch(complaint(wrong, required), /val\.town\/x/);
});

Deno.test("processEnvironment() reads the process's variables, as they are now", () => {
  const name = "TOKEN_POOL_CONFIG_TEST";
  assert.equal(processEnvironment(name), undefined);
  process.env[name] = "set";
  try {
    assert.equal(processEnvironment(name), "set");
  } finally {
    delete process.env[name];
  }
  assert.equal(processEnvironment(name), undefined);
});

Deno.test("processEnvironment() takes a variable that may not be read for one that is not set", async () => {
  const config = JSON.stringify(new URL("../lib/config.ts", import.meta.url).href);
  const program = `import { processEnvironment, Settings } from ${config};
    console.log(processEnvironment("PORT"), new Settings({ environment: processEnvironment }).read().PORT);`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--cached-only", "--quiet", "-"],
    env: { PORT: "4000" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(program));
  await writer.close();
  const { stdout, stderr } = await child.output();
  assert.equal(new TextDecoder().decode(stdout), "undefined 8000\n", new TextDecoder().decode(stderr));
});

Deno.test("assertReserve() tells a wrong type from a share that is out of range", () => {
  for (const share of [0, 0.25, 0.95]) assertReserve(share);
  for (const value of ["0.25", null, undefined, {}, 1n]) assert.throws(() => assertReserve(value), TypeError);
  for (const share of [-0.01, 0.951, 1, NaN, Infinity]) {
    assert.throws(() => assertReserve(share), { name: "RangeError", message: /must be between 0 and 0\.95/ });
  }
});
