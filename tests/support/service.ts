/**
 * A whole service for tests: the app, the contributor's flow, a consumer's pool, a watched database and a fake GitHub,
 * all by one clock. And a browser, as far as a donor needs one.
 *
 * @module
 */

import { createClient } from "npm:@libsql/client@0.18.0";
import type { Database, ResultSet, SqlValue } from "../../lib/database.ts";
import { DonationFlow, type Outcome, type Purpose } from "../../lib/donate.ts";
import { GitHub } from "../../lib/github.ts";
import { createPool, type Pool } from "../../lib/pool.ts";
import { openVault, type ServiceOptions } from "../../lib/service.ts";
import { runUpkeep, type UpkeepReport } from "../../lib/upkeep.ts";
import type { Vault } from "../../lib/vault.ts";
import { createApp } from "../../main.http.ts";
import { assertNoCanary } from "./canaries.ts";
import { FakeGitHub, type FakeGitHubOptions } from "./fake_github.ts";
import { Clock, environment, KEY, temporaryFolder } from "./fixtures.ts";

type Question = { sql: string; args: SqlValue[] };

/** A real libSQL file that notes what it is asked, and fails when it is told to. */
export class WatchedDatabase implements Database {
  /** Every statement that was asked for, in order. */
  readonly statements: string[] = [];
  /** Calls whose statements match fail before anything happens. */
  failing: RegExp | null = null;
  /** The next call whose statements match is carried out, but its answer is lost. */
  losing: RegExp | null = null;
  /** Called before each call is carried out: here it can be held up. */
  before: (() => Promise<void>) | null = null;
  readonly #client: ReturnType<typeof createClient>;

  constructor(url: string) {
    this.#client = createClient({ url });
  }

  async execute(statement: Question): Promise<ResultSet> {
    return await this.#run([statement], () => this.#client.execute(statement));
  }

  async batch(statements: Question[], mode: "write"): Promise<ResultSet[]> {
    return await this.#run(statements, () => this.#client.batch(statements, mode));
  }

  /** Looks at the tables without being noticed. */
  async look(sql: string, args: SqlValue[] = []): Promise<Record<string, unknown>[]> {
    const { columns, rows } = await this.#client.execute({ sql, args });
    return rows.map((row) => Object.fromEntries(columns.map((column) => [column, row[column]])));
  }

  /** How many rows a table has. */
  async count(table: "tokens" | "limits" | "revocations"): Promise<number> {
    return Number((await this.look(`SELECT count(*) AS n FROM token_pool_${table}`))[0]!["n"]);
  }

  close(): void {
    this.#client.close();
  }

  async #run<T>(statements: Question[], run: () => Promise<T>): Promise<T> {
    this.statements.push(...statements.map(({ sql }) => sql));
    const matches = (pattern: RegExp | null) => pattern !== null && statements.some(({ sql }) => pattern.test(sql));
    await this.before?.();
    if (matches(this.failing)) throw new Error("The database is away");
    const answer = await run();
    if (!matches(this.losing)) return answer;
    this.losing = null;
    throw new Error("The answer was lost");
  }
}

/** Everything that a test of the service needs. */
export interface Service {
  clock: Clock;
  github: FakeGitHub;
  database: WatchedDatabase;
  /** Where the database is. */
  path: string;
  /** The environment; a test may change it under way. */
  variables: Record<string, string | undefined>;
  options: ServiceOptions;
  vault: Vault;
  /** GitHub as the service speaks to it. */
  client: GitHub;
  flow: DonationFlow;
  /** A consumer of the same database. */
  pool: Pool;
  app: ReturnType<typeof createApp>;
  /** What the app logged. */
  log: string[];
}

/** The service with users `ada` and `bob`; when it goes it asserts that the fake GitHub was not surprised. */
export async function temporaryService(
  changes: { variables?: Record<string, string | undefined>; github?: FakeGitHubOptions } = {},
): Promise<Service & AsyncDisposable> {
  const folder = await temporaryFolder();
  const clock = new Clock();
  const github = new FakeGitHub({ now: clock.now, ...changes.github });
  github.addUser("ada");
  github.addUser("bob");
  const path = `${folder.path}/pool.db`;
  const database = new WatchedDatabase(`file:${path}`);
  const variables: Record<string, string | undefined> = {
    GITHUB_CLIENT_ID: github.clientId,
    GITHUB_CLIENT_SECRET: github.clientSecret,
    TOKEN_ENCRYPTION_KEY: KEY,
    PUBLIC_URL: "https://pool.example",
    ...changes.variables,
  };
  const connection = { sleep: () => Promise.resolve() }; // what is tried again is tried again at once
  const options: ServiceOptions = {
    environment: environment(variables),
    database,
    now: clock.now,
    fetch: github.fetch,
    connection,
  };
  const log: string[] = [];
  const vault = openVault(options);
  const client = new GitHub(github);
  const pool = createPool({ database, encryptionKey: KEY, now: clock.now, fetch: github.fetch });
  return {
    clock,
    github,
    database,
    path,
    variables,
    options,
    vault,
    client,
    flow: new DonationFlow({ vault, github: client, redirectUri: github.callbackUrl }),
    pool,
    app: createApp({ ...options, log: (line) => log.push(line) }),
    log,
    async [Symbol.asyncDispose]() {
      await pool.close();
      await vault.close();
      database.close();
      for (const line of log) assertNoCanary("the log", line);
      await folder[Symbol.asyncDispose]();
      github.assertNoSurprises();
    },
  };
}

/** The environment of a process with a fake GitHub that is served at `origin`. */
export function variablesOf(github: FakeGitHub, origin: string, databaseUrl: string): Record<string, string> {
  return {
    GITHUB_CLIENT_ID: github.clientId,
    GITHUB_CLIENT_SECRET: github.clientSecret,
    GITHUB_URL: origin,
    GITHUB_API_URL: origin,
    TOKEN_ENCRYPTION_KEY: KEY,
    TOKEN_POOL_DATABASE_URL: databaseUrl,
  };
}

/** How a person goes through GitHub. */
export interface Visit {
  purpose?: Purpose;
  reserve?: number;
  /** The person says no. */
  deny?: boolean;
  /** What GitHub grants besides. */
  scope?: string;
}

/** A person goes to GitHub and comes back. */
export async function visit(
  { flow, github }: Pick<Service, "flow" | "github">,
  login: string,
  { purpose = "donate", reserve = 0.5, ...answer }: Visit = {},
): Promise<Outcome> {
  const { location, sealed } = await flow.begin(purpose, reserve);
  return await flow.finish(new URL(github.authorize(location, login, answer)).searchParams, sealed);
}

/** What upkeep did about donations. Whether it also took the snapshot of the hour depends on the clock alone. */
export type DonationsReport = Omit<UpkeepReport, "snapshots">;

/** One round of upkeep. */
export async function upkeep({ vault, client: github }: Pick<Service, "vault" | "client">): Promise<DonationsReport> {
  const { snapshots: _, ...report } = await runUpkeep({ vault, github });
  return report;
}

/** What upkeep reports, where it differs from nothing at all. */
export function report(changes: Partial<DonationsReport> = {}): DonationsReport {
  return { restored: 0, removed: 0, waiting: 0, refreshed: 0, revoked: 0, asked: 0, ...changes };
}

/** A browser that keeps cookies as browsers do, and follows nothing by itself. */
export class Browser {
  /** By name. */
  readonly cookies = new Map<string, string>();
  readonly #app: Service["app"];
  readonly #origin: string;

  constructor(app: Service["app"], origin = "https://pool.example") {
    this.#app = app;
    this.#origin = origin;
  }

  /** Asks for a page of the service, given as a path or as a whole URL. */
  async go(to: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.cookies.size > 0) {
      headers.set("cookie", [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; "));
    }
    const response = await this.#app.request(new URL(to, this.#origin).href, { ...init, headers });
    for (const [name, value] of response.headers) assertNoCanary(`the header ${name} of ${response.status}`, value);
    assertNoCanary("a page", await response.clone().text());
    for (const cookie of response.headers.getSetCookie()) this.#keep(cookie);
    return response;
  }

  /** Presses the button of a form of the service. */
  async submit(to: string): Promise<Response> {
    return await this.go(to, {
      method: "POST",
      headers: {
        "content-type": "application/x-www-form-urlencoded",
        origin: this.#origin,
        "sec-fetch-site": "same-origin",
      },
    });
  }

  #keep(cookie: string): void {
    const { name, value, attributes } = parseCookie(cookie);
    const isHost = name.startsWith("__Host-");
    const isSecureOrigin = this.#origin.startsWith("https:");
    if (isHost && !(attributes.has("secure") && attributes.get("path") === "/" && !attributes.has("domain"))) return;
    if (attributes.has("secure") && !isSecureOrigin) return;
    if (Number(attributes.get("max-age") ?? 1) <= 0) this.cookies.delete(name);
    else this.cookies.set(name, value);
  }
}

/** Takes a Set-Cookie header apart; names of attributes in lower case. */
export function parseCookie(text: string): { name: string; value: string; attributes: Map<string, string> } {
  const [[name, value], ...attributes] = text.split(/; */).map((part): [string, string] => {
    const [key = "", ...rest] = part.split("=");
    return [key, rest.join("=")];
  }) as [[string, string], ...[string, string][]];
  return { name, value, attributes: new Map(attributes.map(([key, text]) => [key.toLowerCase(), text])) };
}
