/**
 * A service that is sent anything, and holds each answer to all that is promised of every answer.
 *
 * @module
 */

import assert from "node:assert/strict";
import { FRESH_SECONDS } from "../../lib/stats.ts";
import { createApp } from "../../main.http.ts";
import { badCredentials, KEY, OTHER_KEY } from "../support/fixtures.ts";
import { parseCookie, type Service } from "../support/service.ts";
import { type BentCookie, CANARY, ORIGIN, type Step } from "./requests.ts";

/** How a browser sends a form of the service itself. */
const FORM = {
  method: "POST",
  headers: { "content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin" },
};

/** A service, and what is known of what it has given out. */
export class Target {
  readonly service: Service;
  /** Of this run; a process that has asked nothing of anybody yet. */
  app: Service["app"];
  /** Sealed texts that the app has set as cookies in this run, by name. */
  jar: { name: string; value: string }[] = [];
  readonly rejections: unknown[] = [];
  /** Until then figures may be shown of a database that did not answer, epoch milliseconds. */
  #isAwayUntil = 0;

  readonly #whole: Service["variables"];
  /** Whether the settings are such that nothing is to be said about them. */
  #isWell = true;
  #isSecure = true;

  constructor(service: Service) {
    this.service = service;
    this.#whole = { ...service.variables, TOKEN_POOL_DISABLED: undefined, TOKEN_POOL_RESERVE: undefined };
    this.app = this.#start();
  }

  #start(): Service["app"] {
    const { options, log } = this.service;
    return createApp({
      ...options,
      log: (line) => log.push(line),
      rates: { perAddress: Infinity, inAll: Infinity },
    });
  }

  #setUp(settings: (Step & { kind: "world" })["settings"]): void {
    const changes: Record<typeof settings, Service["variables"]> = {
      "whole": {},
      "on localhost": { PUBLIC_URL: undefined },
      "disabled": { TOKEN_POOL_DISABLED: "true" },
      "half": { GITHUB_CLIENT_SECRET: undefined },
      "another key": { TOKEN_ENCRYPTION_KEY: OTHER_KEY },
      "malformed": { TOKEN_ENCRYPTION_KEY: CANARY, PUBLIC_URL: CANARY, TOKEN_POOL_RESERVE: CANARY },
    };
    Object.assign(this.service.variables, this.#whole, changes[settings]);
    this.#isWell = settings === "whole" || settings === "on localhost";
    this.#isSecure = settings !== "on localhost";
  }

  /** A new run: nothing is away, and only living secrets are remembered. */
  begin(): void {
    const { github, database, log, clock } = this.service;
    this.jar = [];
    this.app = this.#start();
    github.down = database.failing = null;
    this.#setUp("whole");
    this.#isAwayUntil = 0;
    clock.advance(FRESH_SECONDS * 1000);
    const living = [github.clientSecret, ...github.liveTokens("ada"), ...github.liveTokens("bob")];
    github.secrets.clear();
    for (const secret of living) github.secrets.add(secret);
    for (const list of [github.requests, database.statements, log]) (list as unknown[]).length = 0;
    for (const login of ["ada", "bob"]) github.revoke(login); // and what was granted with scopes
  }

  async take(step: Step): Promise<void> {
    switch (step.kind) {
      case "world":
        return await this.#turn(step);
      case "request":
        return await this.#request(step);
      case "visit":
        return await this.#visit(step);
      case "change":
        return await this.#change(step);
    }
  }

  async #change({ login, form: body }: Step & { kind: "change" }): Promise<void> {
    const identity = () => this.jar.findLast(({ name }) => name.endsWith("token_pool_identity"));
    if (identity() === undefined) {
      const honest = {
        kind: "visit",
        login,
        deny: false,
        scope: "",
        bend: "none",
        changes: null,
        without: "nothing",
      } as const;
      for (const purpose of ["donate", "manage"] as const) await this.#visit({ ...honest, purpose });
    }
    const known = identity();
    const cookie = known === undefined ? "" : `${known.name}=${known.value}`;
    await this.send(`${ORIGIN}/donation`, { ...FORM, body, headers: { ...FORM.headers, cookie } });
    await this.send(`${ORIGIN}/donation`, { headers: { cookie } });
  }

  async #turn(
    { github: down, isDatabaseAway, settings, is401, areTokensExpiring, advanceMs }: Step & { kind: "world" },
  ): Promise<void> {
    const { github, database, clock, pool } = this.service;
    this.#setUp(settings);
    this.#repair();
    if (is401) {
      const token = await pool.getToken();
      if (token !== null) await pool.syncTokenHealth(token.id, badCredentials());
    }
    github.down = down;
    github.expiringTokens = areTokensExpiring;
    database.failing = isDatabaseAway ? /^/ : null;
    clock.advance(advanceMs);
  }

  /** The database is back, but figures of it may be shown that were asked for before. */
  #repair(): void {
    const { database, clock } = this.service;
    if (database.failing !== null) this.#isAwayUntil = clock.time + FRESH_SECONDS * 1000;
    database.failing = null;
  }

  async #request({ method, pathname, query, headers, cookies, body, address }: Step & { kind: "request" }) {
    const url = `${ORIGIN}${pathname}${query === "" ? "" : `?${query}`}`;
    const given = new Headers();
    const add = (name: string, value: string) => {
      try {
        given.append(name, value);
      } catch {
        // no server would let it through
      }
    };
    for (const [name, value] of headers) add(name, value);
    const sealed = this.jar.length === 0 ? [] : cookies.sealed.map((cookie) => this.#bent(cookie));
    if (sealed.length + cookies.others.length > 0) add("cookie", [...sealed, ...cookies.others].join("; "));
    const hasBody = body !== null && !/^(?:get|head)$/i.test(method);
    await this.send(url, { method, headers: given, ...(hasBody ? { body: body as BodyInit } : {}) }, address);
  }

  #bent({ which, name: other, bend, at }: BentCookie): string {
    const { name, value } = this.jar[which % this.jar.length]!;
    switch (bend) {
      case "one bit": {
        const position = at % value.length;
        return `${name}=${value.slice(0, position)}${String.fromCharCode(value.charCodeAt(position) ^ 1)}${
          value.slice(position + 1)
        }`;
      }
      case "cut":
        return `${name}=${value.slice(0, at % value.length)}`;
      case "twice":
        return `${name}=${value}; ${name}=${value}`;
      case "other name":
        return `${this.jar[other % this.jar.length]!.name}=${value}`;
      case "quoted":
        return `${name}="${value}"`;
      default:
        return `${name}=${value}`;
    }
  }

  async #visit({ purpose, login, deny, scope, bend, changes, without }: Step & { kind: "visit" }): Promise<void> {
    const begun = purpose === "donate"
      ? await this.send(`${ORIGIN}/auth`)
      : await this.send(`${ORIGIN}${purpose === "withdraw" ? "/withdraw" : "/donation"}`, FORM);
    const location = begun.headers.get("location");
    const [transaction] = begun.headers.getSetCookie().map(parseCookie);
    if (!this.#isWell) return;
    assert.ok(location !== null && transaction !== undefined, `${begun.status}`);
    const callback = new URL(this.service.github.authorize(location, login, { deny, scope }));
    if (bend === "state" || bend === "code") callback.searchParams.set(bend, CANARY);
    if (bend === "twice") callback.searchParams.append("state", callback.searchParams.get("state")!);
    const cookie = bend === "no cookie"
      ? ""
      : bend === "other cookie"
      ? `${transaction.name}=${this.jar[0]!.value}`
      : `${transaction.name}=${transaction.value}`;
    const url = changes === null ? callback.href : `${callback.href}&${changes}`;
    const back = await this.#missing(without, () => this.send(url, { headers: { cookie } }));
    if (bend === "again") await this.send(url, { headers: { cookie } });
    const next = back.headers.get("location");
    const set = back.headers.getSetCookie().map(parseCookie).map(({ name, value }) => `${name}=${value}`);
    if (next !== null) await this.send(new URL(next, ORIGIN).href, { headers: { cookie: set.join("; ") } });
  }

  async #missing(what: (Step & { kind: "visit" })["without"], work: () => Promise<Response>): Promise<Response> {
    const { github, database } = this.service;
    const before = { down: github.down, failing: database.failing };
    const calls = { user: /^GET \/user/, revocation: /^DELETE /, exchange: /access_token/ };
    if (what in calls) github.down = { answer: "nothing", only: calls[what as keyof typeof calls] };
    if (what === "database") database.failing = /^/;
    const answer = await work();
    github.down = before.down;
    if (before.failing === null) this.#repair();
    return answer;
  }

  /** Sends a request, and holds the answer to all that is promised of every answer. */
  async send(url: string, init: RequestInit = {}, address: string | null = null): Promise<Response> {
    const { github, database, log, clock } = this.service;
    const env = address === null ? {} : { remoteAddr: { transport: "tcp", hostname: address, port: 1 } };
    const asked = [github.requests.length, database.statements.length];
    const logged = log.length;
    const request = new Request(url, init);
    const route = new URL(request.url).pathname;
    const sent = request.headers.get("cookie") ?? "";
    const answer = await this.app.fetch(request, env);
    const body = await answer.clone().text();

    assert.notEqual(answer.status, 500, String(log.at(-1)));
    const isSomethingAway = !this.#isWell || github.down !== null || database.failing !== null ||
      clock.time < this.#isAwayUntil;
    const isGitHubsWord = log.at(-1)?.includes('"name":"misconfigured"') === true;
    if (!isSomethingAway && !isGitHubsWord) assert.ok(answer.status < 500, `${answer.status}: ${log.at(-1)}`);
    assert.deepEqual(this.rejections, [], "unhandled");
    assertStrict(answer);
    const output = [body, ...[...answer.headers].flat(), ...log.slice(logged)].join("\n");
    this.#assertNoSecret(output, sent);
    if (route === "/callback" && !this.jar.some(({ name, value }) => isTransaction(name) && sent.includes(value))) {
      assert.deepEqual([github.requests.length, database.statements.length], asked, "nobody is asked for nothing");
    }
    for (const cookie of answer.headers.getSetCookie().map(parseCookie)) {
      const { name, value, attributes } = cookie;
      assert.match(name, this.#isSecure ? /^__Host-token_pool_/ : /^token_pool_/);
      assert.ok(attributes.has("httponly") && attributes.get("samesite") === "Lax");
      assert.equal(attributes.has("secure"), this.#isSecure);
      assert.ok(attributes.get("path") === "/" && !attributes.has("domain"));
      if (value !== "") this.jar.push({ name, value });
    }
    return answer;
  }

  #assertNoSecret(output: string, sent: string): void {
    for (const secret of [KEY, ...this.service.github.secrets]) {
      // A challenge is made of a verifier and stands in the address of GitHub; the verifier itself stands nowhere.
      assert.ok(!output.includes(secret), `a secret came out: ${secret.slice(0, 4)}…`);
    }
    // A cookie is deleted by the name that it was sent by.
    if (!sent.includes(CANARY)) assert.ok(!output.includes(CANARY), "what was put in came out");
  }
}

function isTransaction(name: string): boolean {
  return /^(?:__Host-)?token_pool_transaction_/.test(name);
}

function assertStrict({ status, headers }: Response): void {
  const policy = headers.get("content-security-policy") ?? "";
  for (const rule of ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"]) {
    assert.ok(policy.includes(rule));
  }
  assert.doesNotMatch(policy, /unsafe|\*|script-src/);
  assert.match(headers.get("strict-transport-security") ?? "", /^max-age=31536000/);
  assert.equal(headers.get("referrer-policy"), "no-referrer");
  assert.equal(headers.get("x-content-type-options"), "nosniff");
  assert.equal(headers.get("x-frame-options"), "DENY");
  assert.equal(headers.get("cross-origin-opener-policy"), "same-origin");
  assert.ok(["", "*"].includes(headers.get("access-control-allow-origin") ?? "none"));
  assert.equal(headers.get("access-control-allow-credentials"), null);
  assert.equal(headers.get("x-powered-by"), null);
  const location = headers.get("location");
  if (location === null) return;
  assert.ok(status === 302 || status === 303);
  assert.match(location, /^(?:\/(?:thanks|withdraw|donation)?|https:\/\/github\.com\/login\/oauth\/authorize\?.*)$/);
}
