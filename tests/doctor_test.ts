/** The doctor finds each misconfiguration that is made here, by its name, and says what to do about it. */

import assert from "node:assert/strict";
import { examine } from "../lib/doctor.ts";
import type { Finding } from "../lib/findings.ts";
import { createPool } from "../lib/pool.ts";
import { openGitHub, openVault } from "../lib/service.ts";
import { SCHEMA_VERSION } from "../lib/store.ts";
import { donation, environment, KEY, OTHER_KEY, START } from "./support/fixtures.ts";
import { everything, find, lend, operate } from "./support/operator.ts";
import { startSqld } from "./support/sqld.ts";
import { type Service, temporaryService, visit } from "./support/service.ts";

/** A service whose database is found by its address, as an operator's is. */
async function found(service: Service, args: string[] = []): Promise<{ code: number; findings: Finding[] }> {
  service.variables["TOKEN_POOL_DATABASE_URL"] ??= `file:${service.path}`;
  const { code, found } = await find(service, ["doctor", ...args], { options: { database: undefined! } });
  return { code, findings: found };
}

function named(findings: Finding[], name: string): Finding {
  const [finding, ...more] = findings.filter((finding) => finding.name === name);
  assert.ok(finding !== undefined && more.length === 0, `${name} is found once`);
  return finding;
}

/** What is wrong, how it is brought about, and what the doctor must say of it. */
interface Case {
  what: string;
  make: (service: Service) => unknown;
  name: string;
  status: "warn" | "fail";
  found: RegExp;
  remedy: RegExp;
}

const set = (name: string, value: string | undefined) => ({ variables }: Service) => void (variables[name] = value);
const sql = (text: string) => ({ database }: Service) => database.look(text);

const CASES: Case[] = [
  {
    what: "a client id and secret that are not set, both at once",
    make: ({ variables }) => delete variables["GITHUB_CLIENT_ID"] && delete variables["GITHUB_CLIENT_SECRET"],
    name: "environment",
    status: "fail",
    found: /GITHUB_CLIENT_ID is not set.*GITHUB_CLIENT_SECRET is not set/,
    remedy: /set these variables, then start the service anew/,
  },
  {
    what: "a reserve and a port that cannot be",
    make: ({ variables }) => Object.assign(variables, { TOKEN_POOL_RESERVE: "2", PORT: "x" }),
    name: "environment",
    status: "fail",
    found: /TOKEN_POOL_RESERVE must be a number from 0 to 0.95.*PORT must be a port number/,
    remedy: /set these variables/,
  },
  {
    what: "no key",
    make: set("TOKEN_ENCRYPTION_KEY", undefined),
    name: "key-form",
    status: "fail",
    found: /TOKEN_ENCRYPTION_KEY is not set/,
    remedy: /openssl rand -hex 32/,
  },
  {
    what: "half a key",
    make: set("TOKEN_ENCRYPTION_KEY", KEY.slice(32)),
    name: "key-form",
    status: "fail",
    found: /32 characters are half a key/,
    remedy: /use the key that the pool has/,
  },
  {
    what: "an old key that is none",
    make: set("TOKEN_ENCRYPTION_KEYS_PREVIOUS", "old"),
    name: "key-form",
    status: "fail",
    found: /TOKEN_ENCRYPTION_KEYS_PREVIOUS must be old keys/,
    remedy: /use the key that the pool has/,
  },
  {
    what: "another pool's key",
    make: set("TOKEN_ENCRYPTION_KEY", OTHER_KEY),
    name: "key",
    status: "fail",
    found: /is not the key that this pool's tokens are sealed with/,
    remedy: /set the key that the service has/,
  },
  {
    what: "a database file that is not there",
    make: (service) => set("TOKEN_POOL_DATABASE_URL", `file:${service.path}.elsewhere`)(service),
    name: "database-file",
    status: "fail",
    found: /the file is not there/,
    remedy: /check the path in TOKEN_POOL_DATABASE_URL/,
  },
  {
    what: "a database file whose address is no path",
    make: set("TOKEN_POOL_DATABASE_URL", "file:100%.db"),
    name: "database",
    status: "fail",
    found: /cannot be opened/,
    remedy: /check TOKEN_POOL_DATABASE_URL/,
  },
  {
    what: "a database file whose address names this machine",
    make: async (service) => {
      await set("TOKEN_POOL_DATABASE_URL", `file://localhost${service.path}`)(service);
      await Deno.chmod(service.path, 0o644);
    },
    name: "database-file",
    status: "warn",
    found: /mode 644: other users/,
    remedy: /chmod 600/,
  },
  {
    what: "a database server that is away",
    make: set("TOKEN_POOL_DATABASE_URL", "http://127.0.0.1:9"),
    name: "database",
    status: "fail",
    found: /did not carry out what was asked/,
    remedy: /check TOKEN_POOL_DATABASE_URL and TOKEN_POOL_DATABASE_AUTH_TOKEN/,
  },
  {
    what: "a file that everybody can read",
    make: ({ path }) => Deno.chmod(path, 0o644),
    name: "database-file",
    status: "warn",
    found: /mode 644: other users/,
    remedy: /chmod 600/,
  },
  {
    what: "a journal that is not a write-ahead log",
    make: sql("PRAGMA journal_mode = DELETE"),
    name: "write-ahead-log",
    status: "warn",
    found: /was off/,
    remedy: /keep the file off network drives/,
  },
  {
    what: "tables of an older version",
    make: sql("UPDATE token_pool_meta SET value = 1 WHERE key = 'schema_version'"),
    name: "schema",
    status: "warn",
    found: new RegExp(`version 1, older than this library's ${SCHEMA_VERSION}`),
    remedy: /start the service of this version, or run `upkeep`/,
  },
  {
    what: "tables of a newer version",
    make: sql("UPDATE token_pool_meta SET value = 99 WHERE key = 'schema_version'"),
    name: "schema",
    status: "warn",
    found: new RegExp(`version 99, newer than the ${SCHEMA_VERSION}`),
    remedy: /update this program/,
  },
  {
    what: "no tables",
    make: (service) =>
      Deno.writeFile(`${service.path}.new`, new Uint8Array()).then(() =>
        set("TOKEN_POOL_DATABASE_URL", `file:${service.path}.new`)(service)
      ),
    name: "schema",
    status: "warn",
    found: /there are no tables yet/,
    remedy: /nothing, if this pool is new/,
  },
  {
    what: "an API that is not of the GitHub that donors sign in to",
    make: set("GITHUB_URL", "https://github.corp.example"),
    name: "github-address",
    status: "fail",
    found: /tokens and the app's secret of github.corp.example would be sent to api.github.com/,
    remedy: /set GITHUB_API_URL as well, to https:\/\/github.corp.example\/api\/v3/,
  },
  {
    what: "an address by http",
    make: set("PUBLIC_URL", "http://pool.example"),
    name: "public-url",
    status: "fail",
    found: /is http on pool.example/,
    remedy: /set PUBLIC_URL to https:\/\/pool.example/,
  },
  {
    what: "an address with a path",
    make: set("PUBLIC_URL", "https://pool.example/callback"),
    name: "public-url",
    status: "warn",
    found: /more than an origin; only https:\/\/pool.example of it is used/,
    remedy: /the app's callback URL to https:\/\/pool.example\/callback/,
  },
  {
    what: "no address",
    make: set("PUBLIC_URL", undefined),
    name: "public-url",
    status: "warn",
    found: /http:\/\/localhost:8000\/callback/,
    remedy: /set PUBLIC_URL/,
  },
  {
    what: "an address that is none",
    make: set("PUBLIC_URL", "pool.example"),
    name: "public-url",
    status: "fail",
    found: /is not an address/,
    remedy: /https:\/\/pool.example/,
  },
  {
    what: "a wrong client secret",
    make: set("GITHUB_CLIENT_SECRET", "0123456789"),
    name: "oauth-app",
    status: "fail",
    found: /does not accept GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET/,
    remedy: /copy both again from https:\/\/github.com\/settings\/developers/,
  },
  {
    what: "a GitHub App instead of an OAuth App",
    make: set("GITHUB_CLIENT_ID", "Iv23liFakeClientId01"),
    name: "app-kind",
    status: "warn",
    found: /is of a GitHub App/,
    remedy: /register an OAuth App/,
  },
  {
    what: "a GitHub that is away",
    make: ({ github }) => github.down = { answer: "nothing" },
    name: "github",
    status: "fail",
    found: /did not answer at https:\/\/api.github.com/,
    remedy: /check GITHUB_API_URL.*githubstatus.com/,
  },
  {
    what: "a GitHub that fails",
    make: ({ github }) => github.down = { answer: 503 },
    name: "oauth-app",
    status: "warn",
    found: /status 503/,
    remedy: /run the doctor again later/,
  },
  {
    what: "a row that does not open",
    make: sql("UPDATE token_pool_tokens SET token = token || 'x' WHERE github_username = 'ada'"),
    name: "readable",
    status: "fail",
    found: /1 of 2 donations do not open/,
    remedy: /TOKEN_ENCRYPTION_KEYS_PREVIOUS/,
  },
  {
    what: "rows under an old key",
    make: ({ variables }) =>
      Object.assign(variables, { TOKEN_ENCRYPTION_KEY: OTHER_KEY, TOKEN_ENCRYPTION_KEYS_PREVIOUS: KEY }),
    name: "old-key",
    status: "warn",
    found: /2 texts are sealed under another key/,
    remedy: /run `rotate-key`/,
  },
  {
    what: "upkeep that does not run: a token has expired",
    make: async (service) => {
      service.github.expiringTokens = true;
      await visit(service, "ada");
      service.clock.advance(28_800_001);
    },
    name: "upkeep",
    status: "fail",
    found: /1 tokens have expired/,
    remedy: /by a timer, every 15 minutes/,
  },
  {
    what: "upkeep that does not run: a token expires within half an hour",
    make: async (service) => {
      service.github.expiringTokens = true;
      await visit(service, "ada");
      service.clock.advance(28_800_000 - 1_800_000);
    },
    name: "upkeep",
    status: "warn",
    found: /1 donations should have been seen to/,
    remedy: /by a timer, every 15 minutes/,
  },
  {
    what: "upkeep that does not run: a suspect has been waiting for an hour",
    make: async (service) => {
      await (await service.vault.store()).suspect(1);
      service.clock.advance(3_600_000);
    },
    name: "upkeep",
    status: "warn",
    found: /1 donations should have been seen to/,
    remedy: /lib\/upkeep.cron.ts/,
  },
  {
    what: "revocations that are not made",
    make: async (service) => {
      await (await service.vault.store()).addRevocation("1", "v1.x", "token");
      service.clock.advance(3_600_000);
    },
    name: "revocations",
    status: "warn",
    found: /1 of 1 revocations have been waiting for an hour/,
    remedy: /run `upkeep`/,
  },
  {
    what: "the kill switch",
    make: set("TOKEN_POOL_DISABLED", "1"),
    name: "kill-switch",
    status: "warn",
    found: /nothing is handed out or taken/,
    remedy: /unset TOKEN_POOL_DISABLED/,
  },
  {
    what: "no reserve",
    make: set("TOKEN_POOL_RESERVE", "0"),
    name: "reserve",
    status: "warn",
    found: /keep nothing for themselves/,
    remedy: /0.25/,
  },
];

/** What a healthy service is told, so that each case is known to have made what is found. */
async function healthy(service: Service): Promise<void> {
  await visit(service, "ada");
  await visit(service, "bob");
  await service.database.look("PRAGMA journal_mode = WAL");
  await Deno.chmod(service.path, 0o600);
}

Deno.test("doctor finds nothing to do where there is nothing, and exits with 0", async () => {
  await using service = await temporaryService();
  await healthy(service);
  await (await service.vault.store()).noteExpiry(1, service.clock.time); // without a refresh token it is not upkeep's
  const { code, findings } = await found(service);
  assert.deepEqual([code, findings.filter(({ status }) => status !== "ok")], [0, []]);
  assert.equal(named(findings, "upkeep").found, "nothing is overdue", "and no token expires");
  assert.ok(findings.every(({ remedy }) => remedy === null));
  assert.match(named(findings, "public-url").found, /must be https:\/\/pool.example\/callback/);
  assert.equal(new Set(findings.map(({ name }) => name)).size, findings.length);
});

for (const { what, make, name, status, found: said, remedy } of CASES) {
  Deno.test(`doctor finds ${what}`, async () => {
    await using service = await temporaryService();
    await healthy(service);
    await make(service);
    const { code, findings } = await found(service);
    const finding = named(findings, name);
    assert.equal(finding.status, status);
    assert.match(finding.found, said);
    assert.match(finding.remedy ?? "", remedy);
    assert.equal(code, findings.some(({ status }) => status === "fail") ? 1 : 0);
  });
}

Deno.test("doctor shows people each finding on a line, and below it what to do", async () => {
  await using service = await temporaryService({ variables: { TOKEN_POOL_DISABLED: "1" } });
  await healthy(service);
  await found(service);
  const { code, out } = await operate(service, ["doctor"], { options: { database: undefined! } });
  assert.equal(code, 0);
  assert.match(out, /^ok +environment +what the service needs is set$/m);
  assert.match(out, /^warn +kill-switch +TOKEN_POOL_DISABLED is set: .*\n +-> unset TOKEN_POOL_DISABLED$/m);
});

/** Looks at a service by clocks that are not its own. */
async function byClocks(service: Service, clocks: { now?: () => number; elapsed?: () => number }): Promise<Finding[]> {
  const vault = openVault({ environment: environment(service.variables), database: service.database });
  try {
    return await examine({
      vault,
      environment: environment(service.variables),
      openGitHub: () => openGitHub(vault.settings, service.github.fetch),
      now: Date.now,
      elapsed: () => performance.now(),
      ...clocks,
    });
  } finally {
    await vault.close();
  }
}

Deno.test("doctor finds a clock that differs from the database's and from GitHub's", async () => {
  await using service = await temporaryService({ github: { now: Date.now } });
  await healthy(service);
  const right = await byClocks(service, {});
  assert.deepEqual(["database-clock", "github-clock"].map((name) => named(right, name).status), ["ok", "ok"]);
  for (const [aheadMs, status] of [[10_000, "warn"], [-10_000, "warn"], [90_000, "fail"], [-90_000, "fail"]] as const) {
    const findings = await byClocks(service, { now: () => Date.now() + aheadMs });
    for (const name of ["database-clock", "github-clock"]) {
      const finding = named(findings, name);
      assert.equal(finding.status, status, `${name} ${aheadMs}`);
      assert.match(finding.found, aheadMs > 0 ? /is -\d/ : /is \d/);
      assert.match(finding.remedy!, /time synchronisation \(NTP\)/);
    }
  }
});

Deno.test("doctor does not take an answer without a date for a clock that is right", async () => {
  await using service = await temporaryService();
  await healthy(service);
  const { github } = service;
  const fetch: typeof globalThis.fetch = async (...call) => {
    const answer = await github.fetch(...call);
    answer.headers.delete("date");
    return answer;
  };
  const dateless: Service = Object.assign(Object.create(service), { github: { fetch } });
  const { status, found } = named(await byClocks(dateless, {}), "github-clock");
  assert.deepEqual([status, found], ["warn", "GitHub's answer has no date"]);
});

Deno.test("doctor finds a database that is far away", async () => {
  await using service = await temporaryService();
  await healthy(service);
  let time = 0;
  const finding = named(await byClocks(service, { elapsed: () => time += 251 }), "database");
  assert.equal(finding.status, "warn");
  assert.match(finding.found, /answers in 251.0 ms/);
  assert.match(finding.remedy!, /move the database nearer/);
});

Deno.test("doctor finds a token that the database server does not take", async () => {
  await using server = await startSqld({ auth: true });
  await using service = await temporaryService();
  service.variables["TOKEN_POOL_DATABASE_URL"] = server.url;
  const said: string[] = [];
  for (const authToken of [undefined, `${server.authToken}x`, server.authToken]) {
    service.variables["TOKEN_POOL_DATABASE_AUTH_TOKEN"] = authToken;
    said.push(named((await found(service)).findings, "database").status);
  }
  assert.deepEqual(said, ["fail", "fail", "ok"]);
});

Deno.test("doctor changes nothing, makes no tables and no file", async () => {
  await using service = await temporaryService();
  await healthy(service);
  const before = await everything(service);
  await found(service);
  await sql("UPDATE token_pool_meta SET value = 1 WHERE key = 'schema_version'")(service);
  await found(service);
  await sql(`UPDATE token_pool_meta SET value = ${SCHEMA_VERSION} WHERE key = 'schema_version'`)(service);
  assert.deepEqual(await everything(service), before);

  service.variables["TOKEN_POOL_DATABASE_URL"] = `file:${service.path}.new`;
  await found(service);
  await assert.rejects(Deno.stat(`${service.path}.new`), Deno.errors.NotFound);
  assert.equal(service.github.count(/^(?!POST \/applications\/\w+\/token$)/), 4, "only the two donations asked more");
});

Deno.test("doctor says of what it could not look at why not, and never ends with an error", async () => {
  await using service = await temporaryService();
  await lend(service, ["cyd"]);
  service.variables["TOKEN_POOL_RESERVE"] = "all";
  const { code, findings } = await found(service);
  assert.equal(code, 1);
  for (const name of ["database", "schema", "key", "readable", "github"]) {
    assert.deepEqual([named(findings, name).status, named(findings, name).found], ["warn", "not looked at"]);
    assert.match(named(findings, name).remedy!, /^mend /);
  }
});

Deno.test("doctor looks at the database that every program of it has open", async () => {
  await using service = await temporaryService();
  await healthy(service);
  await using pool = createPool({ database: `file:${service.path}`, encryptionKey: KEY, now: () => START });
  await pool.addToken(donation(1));
  const { findings } = await found(service);
  assert.match(named(findings, "readable").found, /^3 donations open$/);
});
