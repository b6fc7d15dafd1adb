/** The log: what a line may hold, and what the app, its upkeep and its cron job write into it. */

import assert from "node:assert/strict";
import { PoolError } from "../lib/errors.ts";
import { aboutError, createLog, type Level, type LogEvent, redact } from "../lib/log.ts";
import { createApp } from "../main.http.ts";
import { donate, KEY, START } from "./support/fixtures.ts";
import { Browser, type Service, temporaryService } from "./support/service.ts";

/** The lines that an event makes. */
function linesOf(event: LogEvent): { line: string; level: Level }[] {
  const lines: { line: string; level: Level }[] = [];
  createLog({ sink: (line, level) => lines.push({ line, level }), now: () => START })(event);
  return lines;
}

function lineOf(event: LogEvent): Record<string, unknown> {
  return JSON.parse(linesOf(event)[0]!.line);
}

/** What a service has logged, without what differs each time. */
function logged({ log }: Service): Record<string, unknown>[] {
  return log.map((line) => {
    const { time, ms, request_id: requestId, ...rest } = JSON.parse(line);
    assert.match(time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    if (requestId !== undefined) assert.match(requestId, /^[0-9a-f]{8}$/);
    if (ms !== undefined) assert.ok(ms >= 0 && ms < 60_000);
    return rest;
  });
}

async function goThroughGitHub(browser: Browser, { github }: Service, away: Response): Promise<Response> {
  const back = await browser.go(github.authorize(away.headers.get("location")!, "ada"));
  return await browser.go(back.headers.get("location")!);
}

Deno.test("createLog() writes one JSON line per event, with the time and a level", () => {
  const event: LogEvent = { event: "request", method: "GET", route: "/auth", status: 302, ms: 1.2, request_id: "0a1b" };
  assert.deepEqual(linesOf(event), [{
    line: '{"time":"2026-11-18T11:06:40.000Z","level":"info","event":"request","request_id":"0a1b",' +
      '"method":"GET","route":"/auth","status":302,"ms":1.2}',
    level: "info",
  }]);
  assert.equal(linesOf({ event: "failure", level: "error" })[0]!.level, "error");
  assert.doesNotMatch(linesOf({ event: "failure", message: "two\nlines and\r more" })[0]!.line, /[\n\r]/);
});

Deno.test("createLog() tells the time to the millisecond, forth and back", () => {
  let time = 0;
  const lines: string[] = [];
  const log = createLog({ sink: (line) => lines.push(JSON.parse(line).time), now: () => time });
  const times = [START, START + 1, START + 999, START + 1000, START - 1, START, START + 86_400_007, 0, 10];
  for (time of times) log({ event: "request" });
  assert.deepEqual(lines, times.map((time) => new Date(time).toISOString()));
});

Deno.test("createLog() lets nothing in but the fields of its list, of their types", () => {
  const event = {
    event: "request",
    query: "code=canary",
    headers: { authorization: "canary" },
    toJSON: () => "canary",
    status: "canary",
    ms: Infinity,
    route: { toString: () => "canary" },
    level: "canary",
    time: "canary",
    counts: { "canary canary": 1, restored: "canary", CANARY: 1, removed: NaN, waiting: 2 },
  };
  assert.deepEqual(lineOf(event as unknown as LogEvent), {
    time: new Date(START).toISOString(),
    level: "info",
    event: "request",
    counts: { waiting: 2 },
  });
});

Deno.test("createLog() bounds each field, and cuts secrets out before it does", () => {
  const long = "x ".repeat(50_000);
  const words: LogEvent = {
    event: "failure",
    request_id: long,
    method: long,
    route: long,
    name: long,
    outcome: long,
    code: long,
    message: long,
    error: long,
    at: long,
    counts: Object.fromEntries(Array.from({ length: 1000 }, (_, n) => ["a".repeat(n % 20 + 1) + "_".repeat(n % 3), n])),
  };
  assert.ok(linesOf(words)[0]!.line.length < 5000);
  // What is left of a token that was cut in two must not be there.
  const straddling = "x".repeat(990) + "gho_0123456789abcdefghijABCDEFGHIJ012345";
  assert.doesNotMatch(linesOf({ event: "failure", message: straddling })[0]!.line, /gho/);
});

Deno.test("redact() cuts out what looks like a token, a key or a sealed text, wherever it stands", () => {
  const secrets = [
    "gho_16C7e42F292c6912E7710c838347Ae178B4a",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "ghu_16C7e42F292c6912E7710c838347Ae178B4a",
    "ghs_16C7e42F292c6912E7710c838347Ae178B4a.eyJhbGciOi-_x",
    "ghr_1B4a2e77838347a7E420ce178F2E7c6912E169246c34E1ccbF66C46812d16D5B1A9Dc86A1498",
    "github_pat_11ABCDEFG0123456789_abcdefghijklmnopqrstuvwxyz",
    KEY,
    KEY.toUpperCase(),
    KEY.slice(0, 40),
    `v1.${KEY.slice(0, 8)}.${"A-_9".repeat(4)}.${"bB0_".repeat(20)}`,
    "eyJhbGciOiJFZERTQSJ9.eyJhIjoicncifQ.c2lnbmF0dXJl",
  ];
  for (const secret of secrets) {
    for (const text of [secret, `token=${secret}&x`, `"${secret}"`, `%3D${secret}`, `x${secret} ${secret}`]) {
      const left = redact(text);
      assert.match(left, /\[redacted\]/);
      for (let from = 0; from + 12 <= secret.length; from += 4) {
        assert.ok(!left.includes(secret.slice(from, from + 12)), `${text} leaves ${left}`);
      }
    }
  }
  for (
    const text of ["/callback", "GITHUB_CLIENT_SECRET is not set; it is a client secret", "store.ts:12:34", "5f0c1e9a"]
  ) {
    assert.equal(redact(text), text);
  }
});

Deno.test("aboutError() has the pool's own words, and of other errors the place but not the message", () => {
  assert.deepEqual(aboutError(new PoolError("database", "It is away")), { code: "database", message: "It is away" });
  const crafted = new TypeError("canary\n    at canary (file:///canary.ts:1:2)\n    at canary.ts:3:4");
  const { error, at } = aboutError(crafted);
  assert.equal(error, "TypeError");
  assert.match(at!, /^log_test\.ts:\d+:\d+/);
  assert.doesNotMatch(at!, /canary|file:|\//);
  for (const thrown of ["canary", null, undefined, { message: "canary" }]) assert.deepEqual(aboutError(thrown), {});
});

Deno.test("every request has one line with its route, never its address", async () => {
  await using service = await temporaryService();
  const { app } = service;
  await app.request("/status?token=canary");
  await app.request("/status", { method: "HEAD" });
  await app.request("/auth?reserve=0.5");
  await app.request("/callback/canary?code=canary", {
    method: "CANARY",
    headers: { referer: "https://canary.example" },
  });
  await app.request("/status", { method: "DELETE" });
  const { headers } = await app.request("/status");
  await app.request("/status", { headers: { "if-none-match": headers.get("etag")! } });
  const info = { level: "info", event: "request" };
  assert.deepEqual(logged(service), [
    { ...info, method: "GET", route: "/status", status: 200 },
    { ...info, method: "HEAD", route: "/status", status: 200 },
    { ...info, method: "GET", route: "/auth", status: 302 },
    { level: "info", event: "failure", method: "other", route: "unknown", status: 404, name: "not_found" },
    { level: "info", event: "failure", method: "DELETE", route: "/status", status: 405, name: "method_not_allowed" },
    { ...info, method: "GET", route: "/status", status: 200 },
    { ...info, method: "GET", route: "/status", status: 304 },
  ]);
  assert.doesNotMatch(service.log.join(), /canary/i);
});

Deno.test("a request's id is its error page's reference, also among requests at once", async () => {
  await using service = await temporaryService();
  const pages = await Promise.all(
    Array.from({ length: 20 }, async () => await (await service.app.request("/callback")).text()),
  );
  const references = pages.map((html) => /<code>([0-9a-f]{8})<\/code>/.exec(html)?.[1]);
  const ids = service.log.map((line) => JSON.parse(line).request_id);
  assert.equal(new Set(ids).size, 20);
  assert.deepEqual(references.toSorted(), ids.toSorted());
});

Deno.test("a request that the service fails is an error in the log, which says why, also without a page", async () => {
  await using service = await temporaryService();
  await service.app.request("/healthz");
  service.database.failing = /^/;
  service.clock.advance(15_000);
  await service.app.request("/status");
  await service.app.request("/healthz");
  service.database.failing = null;
  await service.app.request("/healthz"); // by the figures, which are fresh for 15 s
  service.variables["TOKEN_ENCRYPTION_KEY"] = "canary";
  await service.app.request("/healthz");
  assert.deepEqual(logged(service).map(({ level, event, status, code }) => [level, event, status, code]), [
    ["info", "request", 200, undefined],
    ["error", "failure", 503, "database"],
    ["error", "failure", 503, "database"],
    ["error", "failure", 503, "database"],
    ["error", "failure", 503, "config"],
  ]);
  assert.match(service.log[4]!, /TOKEN_ENCRYPTION_KEY must be exactly 64 hex digits/);
});

Deno.test("on Val Town a poll that went well has no line, unless it is asked for; what fails has one", async () => {
  for (const [onValTown, logPolls, expected] of [[true, undefined, 3], [true, true, 7], [false, false, 3]] as const) {
    await using service = await temporaryService({ variables: onValTown ? { valtown: "the platform's" } : {} });
    const log: string[] = [];
    const app = createApp({
      ...service.options,
      log: (line) => log.push(line),
      ...(logPolls === undefined ? {} : { logPolls }),
    });
    for (const path of ["/", "/status", "/metrics", "/style.css"]) {
      assert.equal((await app.request(`https://pool.example${path}`)).status, 200);
    }
    assert.equal((await app.request("https://pool.example/auth")).status, 302);
    assert.equal((await app.request("https://pool.example/nowhere")).status, 404);
    service.database.failing = /^/;
    service.clock.advance(60_000);
    assert.equal((await app.request("https://pool.example/status")).status, 503);
    assert.equal(log.length, expected, `Val Town: ${onValTown}, asked for: ${logPolls}`);
  }
});

Deno.test("donations, changes and withdrawals have a line with their outcome, which names nobody", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  for (let n = 0; n < 2; n++) await goThroughGitHub(browser, service, await browser.go("/auth"));
  await goThroughGitHub(browser, service, await browser.submit("/donation"));
  await browser.go("/donation", {
    method: "POST",
    body: new URLSearchParams({ do: "pause" }),
    headers: { "sec-fetch-site": "same-origin" },
  });
  await goThroughGitHub(browser, service, await browser.submit("/withdraw"));
  service.github.down = { answer: 502, only: /^DELETE / };
  await goThroughGitHub(browser, service, await browser.submit("/withdraw"));
  const lines = logged(service);
  const outcomes = lines.filter(({ outcome }) => outcome !== undefined);
  assert.deepEqual(outcomes.map(({ event, outcome }) => [event, outcome]), [
    ["donation", "new"],
    ["donation", "replaced"],
    ["change", "pause"],
    ["withdrawal", "revoked"],
    ["withdrawal", "no donor, to be revoked"],
  ]);
  assert.equal(lines.filter(({ route }) => route === "/callback").length, 5);
  // Not in the lines as they stand: a random request_id in hex may well hold "ada".
  for (const text of ["ada", "583231"]) assert.ok(!JSON.stringify(lines).includes(text), text);
  for (const secret of service.github.secrets) assert.ok(!service.log.join().includes(secret));
});

Deno.test("a round of upkeep that a passing request does has a line with what was done", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const { id } = (await service.pool.getToken())!;
  await service.pool.syncTokenHealth(id, new Response("{}", { status: 401 }));
  await service.app.request("/status");
  const [round] = logged(service).filter(({ event }) => event === "upkeep");
  assert.deepEqual(round, {
    level: "info",
    event: "upkeep",
    counts: { restored: 0, removed: 1, waiting: 0, refreshed: 0, revoked: 0, asked: 0, snapshots: 1 },
  });
});
