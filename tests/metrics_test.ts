/**
 * `/metrics` and `/badge.json`: written as their readers want them, true of the pool, exact however often something is
 * repeated, and without a word about any single donor.
 *
 * @module
 */

import assert from "node:assert/strict";
import parsePrometheusText from "npm:parse-prometheus-text-format@1.1.1";
import {
  badgeOf,
  type Counters,
  METRICS_TYPES,
  metricsFormat,
  type PublicFigures,
  renderMetrics,
  STATES,
  VERSION,
} from "../lib/metrics.ts";
import { createPool } from "../lib/pool.ts";
import { rotateKey } from "../lib/rotate.ts";
import { createApp } from "../main.http.ts";
import {
  donate,
  donation,
  draw,
  environment,
  KEY,
  limitHeaders,
  OTHER_KEY,
  response,
  START,
} from "./support/fixtures.ts";
import { readOpenMetrics, type Sample } from "./support/metrics.ts";
import { type Service, temporaryService, upkeep, visit } from "./support/service.ts";

const OPEN = "application/openmetrics-text; version=1.0.0";

/** The package has no types of its own. */
const parseText = parsePrometheusText as (text: string) => {
  name: string;
  type: string;
  help: string;
  metrics: { value: string; labels?: Record<string, string> }[];
}[];

/** What Prometheus 2.42 and 3.5 send. */
const PROMETHEUS = [
  "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75," +
  "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
  "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6," +
  "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4," +
  "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
];

/** The samples of `/metrics` as of now, by name and labels as they are written, such as `ghpool_tokens{state="healthy"}`. */
async function metrics({ app, clock }: Pick<Service, "app" | "clock">): Promise<Map<string, number>> {
  clock.advance(15_000);
  const answer = await app.request("/metrics", { headers: { accept: OPEN } });
  assert.equal(answer.status, 200);
  return valuesOf(readOpenMetrics(await answer.text()).flatMap(({ samples }) => samples));
}

function valuesOf(samples: Sample[]): Map<string, number> {
  return new Map(samples.map(({ name, labels, value }) => {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}=${JSON.stringify(text)}`);
    return [name + (pairs.length === 0 ? "" : `{${pairs}}`), value];
  }));
}

/** The same by another process, which is not set up: its requests show the figures and do no upkeep in passing. */
function onlooker({ options, clock }: Service): Pick<Service, "app" | "clock"> {
  return { app: createApp({ ...options, environment: environment({}), log: () => {} }), clock };
}

/** What has changed between two looks, of counters. */
async function moved(
  service: Pick<Service, "app" | "clock">,
  work: () => Promise<unknown>,
): Promise<Record<string, number>> {
  const before = await metrics(service);
  await work();
  const after = await metrics(service);
  return Object.fromEntries(
    [...after].filter(([name, value]) => /_total\b/.test(name) && value !== before.get(name))
      .map(([name, value]) => [name.replace("ghpool_", ""), value - before.get(name)!]),
  );
}

const FIGURES: PublicFigures = {
  status: "ok",
  updated_at: new Date(START + 250).toISOString(),
  tokens: { total: 12, healthy: 9, exhausted: 2, cooling: 1, suspended: 0 },
  resources: {
    core: { limit: 60_000, remaining: 41_200, usable: 26_200, percent: 58, next_reset_at: 1_795_000_600 },
    search: { limit: 360, remaining: 360, usable: 270, percent: 100, next_reset_at: null },
  },
  calls: { total: 123_456, last_24h: 45_678 },
};

const COUNTERS: Counters = { calls: 123_456, "donations.new": 13, "removed.withdrawn": 1, "decrypt_failures": 2 };

Deno.test("renderMetrics() writes OpenMetrics", () => {
  assert.equal(
    renderMetrics(FIGURES, COUNTERS, "openmetrics"),
    `# TYPE ghpool_up gauge
# HELP ghpool_up Whether the token pool's database answers.
ghpool_up 1
# TYPE ghpool_build info
# HELP ghpool_build The token pool's version.
ghpool_build_info{version="${VERSION}"} 1
# TYPE ghpool_status gauge
# HELP ghpool_status 1 for the state that the token pool is in, 0 for the others.
ghpool_status{status="ok"} 1
ghpool_status{status="degraded"} 0
ghpool_status{status="exhausted"} 0
ghpool_status{status="empty"} 0
ghpool_status{status="down"} 0
# TYPE ghpool_updated_timestamp_seconds gauge
# UNIT ghpool_updated_timestamp_seconds seconds
# HELP ghpool_updated_timestamp_seconds When the figures were taken.
ghpool_updated_timestamp_seconds 1795000000.25
# TYPE ghpool_tokens gauge
# HELP ghpool_tokens Donated tokens by their state for the resource core; suspended ones GitHub is being asked about.
ghpool_tokens{state="healthy"} 9
ghpool_tokens{state="exhausted"} 2
ghpool_tokens{state="cooling"} 1
ghpool_tokens{state="suspended"} 0
# TYPE ghpool_ratelimit_limit gauge
# HELP ghpool_ratelimit_limit Calls per window of all tokens together, the donors' reserve among them.
ghpool_ratelimit_limit{resource="core"} 60000
ghpool_ratelimit_limit{resource="search"} 360
# TYPE ghpool_ratelimit_remaining gauge
# HELP ghpool_ratelimit_remaining Calls left in the windows of all tokens together, the donors' reserve among them.
ghpool_ratelimit_remaining{resource="core"} 41200
ghpool_ratelimit_remaining{resource="search"} 360
# TYPE ghpool_ratelimit_usable gauge
# HELP ghpool_ratelimit_usable Calls that can be handed out now.
ghpool_ratelimit_usable{resource="core"} 26200
ghpool_ratelimit_usable{resource="search"} 270
# TYPE ghpool_ratelimit_usable_ratio gauge
# UNIT ghpool_ratelimit_usable_ratio ratio
# HELP ghpool_ratelimit_usable_ratio Calls that can be handed out now, of all that donors share.
ghpool_ratelimit_usable_ratio{resource="core"} 0.58
ghpool_ratelimit_usable_ratio{resource="search"} 1
# TYPE ghpool_ratelimit_reset_timestamp_seconds gauge
# UNIT ghpool_ratelimit_reset_timestamp_seconds seconds
# HELP ghpool_ratelimit_reset_timestamp_seconds When the next window ends, of those that are open.
ghpool_ratelimit_reset_timestamp_seconds{resource="core"} 1795000600
# TYPE ghpool_calls counter
# HELP ghpool_calls Calls that were handed out, of all resources.
ghpool_calls_total 123456
# TYPE ghpool_calls_last_24h gauge
# HELP ghpool_calls_last_24h Calls that were handed out in the last 24 hours, of all resources.
ghpool_calls_last_24h 45678
# TYPE ghpool_donations counter
# HELP ghpool_donations Donations that were stored; updated ones took the place of an earlier one of the same donor.
ghpool_donations_total{result="new"} 13
ghpool_donations_total{result="updated"} 0
# TYPE ghpool_tokens_removed counter
# HELP ghpool_tokens_removed Donations that were deleted, by the reason.
ghpool_tokens_removed_total{reason="withdrawn"} 1
ghpool_tokens_removed_total{reason="revoked"} 0
ghpool_tokens_removed_total{reason="account_suspended"} 0
ghpool_tokens_removed_total{reason="has_scopes"} 0
ghpool_tokens_removed_total{reason="refresh_refused"} 0
# TYPE ghpool_decrypt_failures counter
# HELP ghpool_decrypt_failures Stored tokens that no key at hand opens, once for each process that met them.
ghpool_decrypt_failures_total 2
# EOF
`,
  );
});

Deno.test("renderMetrics() says the same in both formats, each as its readers want it", () => {
  const families = readOpenMetrics(renderMetrics(FIGURES, COUNTERS, "openmetrics"));
  const text = renderMetrics(FIGURES, COUNTERS, "text");
  assert.doesNotMatch(text, /# EOF|# UNIT| info$/m);
  const parsed = parseText(text);
  assert.deepEqual(
    parsed.map(({ name, type, help }) => [name, type, help]),
    families.map(({ name, type, help }) => {
      const suffix = type === "counter" ? "_total" : type === "info" ? "_info" : "";
      return [name + suffix, type === "info" ? "GAUGE" : type.toUpperCase(), help];
    }),
  );
  assert.deepEqual(
    parsed.flatMap(({ name, metrics }) =>
      metrics.map(({ labels = {}, value }) => ({ name, labels, value: Number(value) }))
    ),
    families.flatMap(({ samples }) => samples),
  );
});

Deno.test("renderMetrics() escapes what a label must not hold", () => {
  const resource = 'a"b\\c\nd';
  const figures = { ...FIGURES, resources: { [resource]: FIGURES.resources["core"]! } };
  for (const format of ["openmetrics", "text"] as const) {
    const text = renderMetrics(figures, COUNTERS, format);
    assert.ok(text.includes('ghpool_ratelimit_limit{resource="a\\"b\\\\c\\nd"} 60000\n'), format);
  }
  const families = readOpenMetrics(renderMetrics(figures, COUNTERS, "openmetrics"));
  assert.equal(
    families.find(({ name }) => name === "ghpool_ratelimit_limit")?.samples[0]?.labels["resource"],
    resource,
  );
});

Deno.test("renderMetrics() shows counters and states that a newer library has added", () => {
  const figures = { ...FIGURES, tokens: { ...FIGURES.tokens, resting: 4 } };
  const text = renderMetrics(figures, { ...COUNTERS, "removed.bored": 7 }, "openmetrics");
  assert.match(text, /^ghpool_tokens\{state="resting"\} 4$/m);
  assert.match(text, /^ghpool_tokens_removed_total\{reason="bored"\} 7$/m);
  readOpenMetrics(text);
});

Deno.test("renderMetrics() without a database says so, and repeats no old figure", () => {
  const families = readOpenMetrics(renderMetrics({ ...FIGURES, status: "down" }, null, "openmetrics"));
  assert.deepEqual(families.map(({ name }) => name), ["ghpool_up", "ghpool_build", "ghpool_status"]);
  const values = valuesOf(families.flatMap(({ samples }) => samples));
  assert.equal(values.get("ghpool_up"), 0);
  assert.equal(values.get('ghpool_status{status="down"}'), 1);
});

Deno.test("readOpenMetrics() is not blind: it refuses what OpenMetrics forbids", () => {
  const good = "# TYPE a gauge\n# HELP a B.\na 1\n# EOF\n";
  assert.equal(readOpenMetrics(good).length, 1);
  for (
    const [what, text] of Object.entries({
      "no EOF": "# TYPE a gauge\na 1\n",
      "something after EOF": `${good}a 2\n`,
      "an empty line": "# TYPE a gauge\n\na 1\n# EOF\n",
      "a counter without _total": "# TYPE a counter\na 1\n# EOF\n",
      "a family whose name has the suffix": "# TYPE a_total counter\na_total_total 1\n# EOF\n",
      "a sample of another family": "# TYPE a gauge\nb 1\n# EOF\n",
      "a sample twice": "# TYPE a gauge\na 1\na 1\n# EOF\n",
      "a family twice": "# TYPE a gauge\na 1\n# TYPE a gauge\na 2\n# EOF\n",
      "a unit that the name does not end with": "# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n",
      "help after the sample": "# TYPE a gauge\na 1\n# HELP a B.\n# EOF\n",
      "a negative counter": "# TYPE a counter\na_total -1\n# EOF\n",
      "a label that is not quoted": "# TYPE a gauge\na{b=c} 1\n# EOF\n",
      "no number": "# TYPE a gauge\na one\n# EOF\n",
    })
  ) assert.throws(() => readOpenMetrics(text), { name: "SyntaxError" }, what);
});

Deno.test("metricsFormat() gives OpenMetrics to who names it, and text to everybody else", () => {
  for (
    const accept of [
      OPEN,
      ...PROMETHEUS,
      "application/openmetrics-text",
      "text/plain;q=0.5, APPLICATION/OpenMetrics-Text",
    ]
  ) {
    assert.equal(metricsFormat(accept), "openmetrics", accept);
  }
  for (
    const accept of [
      "",
      "*/*",
      "text/plain",
      "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
      "application/json",
      "application/openmetrics-text;q=0",
      "application/openmetrics-text;q=0.2, text/plain;version=0.0.4;q=0.3",
      "application/openmetrics-text;version=0.0.1",
      "application/openmetrics-text;version=2.0.0",
      "application/openmetrics-text;q=nonsense",
    ]
  ) assert.equal(metricsFormat(accept), "text", accept);
});

Deno.test("VERSION is the library's", async () => {
  assert.equal(VERSION, JSON.parse(await Deno.readTextFile(new URL("../deno.json", import.meta.url))).version);
});

Deno.test("GET /metrics answers in the format that was asked for, and caches may keep it for 15 s", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  for (const accept of [undefined, OPEN, ...PROMETHEUS]) {
    const answer = await service.app.request("/metrics", { headers: accept === undefined ? {} : { accept } });
    const format = accept === undefined ? "text" : "openmetrics";
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), METRICS_TYPES[format]);
    assert.match(answer.headers.get("vary") ?? "", /\baccept\b/i);
    assert.equal(answer.headers.get("cache-control"), "public, max-age=15");
    const text = await answer.text();
    if (format === "openmetrics") assert.ok(readOpenMetrics(text).length > 10);
    else assert.ok(parseText(text).length > 10);
  }
});

Deno.test("GET /metrics says what /status says", async () => {
  await using service = await temporaryService();
  const { pool, clock, app } = service;
  const ids = await donate(pool, 4);
  const reset = clock.seconds + 600;
  await pool.syncTokenHealth(ids[0]!, response(200, limitHeaders(5000, 1250, reset)));
  await pool.syncTokenHealth(ids[1]!, response(403, { "retry-after": "600" }));
  await pool.getToken({ resource: "graphql", cost: 100 });
  const values = await metrics(service);
  const status = await (await app.request("/status")).json();
  for (const [state, count] of Object.entries(status.tokens)) {
    if (state !== "total") assert.equal(values.get(`ghpool_tokens{state="${state}"}`), count, state);
  }
  const names = { limit: "limit", remaining: "remaining", usable: "usable", next_reset_at: "reset_timestamp_seconds" };
  for (const [resource, figures] of Object.entries<Record<string, number>>(status.resources)) {
    for (const [field, name] of Object.entries(names)) {
      assert.equal(
        values.get(`ghpool_ratelimit_${name}{resource="${resource}"}`),
        figures[field],
        `${resource} ${field}`,
      );
    }
    assert.equal(values.get(`ghpool_ratelimit_usable_ratio{resource="${resource}"}`), figures["percent"]! / 100);
  }
  assert.equal(values.get("ghpool_calls_total"), status.calls.total);
  assert.equal(values.get("ghpool_calls_last_24h"), status.calls.last_24h);
  assert.equal(values.get("ghpool_updated_timestamp_seconds"), Date.parse(status.updated_at) / 1000);
  for (const state of STATES) assert.equal(values.get(`ghpool_status{status="${state}"}`), state === "ok" ? 1 : 0);
});

Deno.test("GET /metrics has every counter at 0 before anything has happened", async () => {
  await using service = await temporaryService();
  const counters = [...await metrics(service)].filter(([name]) => /_total\b/.test(name));
  assert.equal(counters.length, 9);
  assert.ok(counters.every(([, value]) => value === 0), JSON.stringify(counters));
});

Deno.test("donations are counted as new or updated, by whichever way they come", async () => {
  await using service = await temporaryService();
  assert.deepEqual(await moved(service, () => visit(service, "ada")), { 'donations_total{result="new"}': 1 });
  assert.deepEqual(await moved(service, () => visit(service, "ada")), { 'donations_total{result="updated"}': 1 });
  assert.deepEqual(await moved(service, () => service.pool.addToken(donation(1))), {
    'donations_total{result="new"}': 1,
  });
  assert.deepEqual(await moved(service, () => service.pool.addToken(donation(1))), {
    'donations_total{result="updated"}': 1,
  });
});

Deno.test("a donation that fails is not counted", async () => {
  await using service = await temporaryService();
  assert.deepEqual(await moved(service, () => visit(service, "ada", { deny: true })), {});
  assert.deepEqual(await moved(service, () => visit(service, "ada", { scope: "repo" })), {});
  const failing = async () => {
    service.database.failing = /INSERT INTO token_pool_tokens/;
    await visit(service, "ada");
    service.database.failing = null;
  };
  assert.deepEqual(await moved(service, failing), {});
});

Deno.test("a withdrawal is counted, but not that of somebody who lends nothing", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const leave = () => visit(service, "ada", { purpose: "withdraw" });
  assert.deepEqual(await moved(service, leave), { 'tokens_removed_total{reason="withdrawn"}': 1 });
  assert.deepEqual(await moved(service, leave), {});
});

Deno.test("a suspended account is counted, once however often it is reported", async () => {
  await using service = await temporaryService();
  const [id] = await donate(service.pool, 2);
  const report = async () => {
    const message = "Sorry. Your account was suspended";
    for (let n = 0; n < 3; n++) await service.pool.syncTokenHealth(id!, response(403, {}, { message }));
  };
  assert.deepEqual(await moved(service, report), { 'tokens_removed_total{reason="account_suspended"}': 1 });
});

Deno.test("a token that turns out to have scopes is counted", async () => {
  await using service = await temporaryService();
  const [id] = await donate(service.pool, 1);
  const scoped = { ...limitHeaders(5000, 4999, service.clock.seconds + 600), "x-oauth-scopes": "repo" };
  assert.deepEqual(await moved(service, () => service.pool.syncTokenHealth(id!, response(200, scoped))), {
    'tokens_removed_total{reason="has_scopes"}': 1,
  });
});

Deno.test("a revoked token is counted when GitHub has confirmed it, not when it turns suspect", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const { id, token } = (await service.pool.getToken())!;
  service.github.revokeToken(token);
  const watcher = onlooker(service);
  const removed = async () => (await metrics(watcher)).get('ghpool_tokens_removed_total{reason="revoked"}');
  await service.pool.syncTokenHealth(id, response(401));
  assert.equal(await removed(), 0);
  await upkeep(service);
  assert.equal(await removed(), 1);
  await upkeep(service);
  assert.equal(await removed(), 1);
});

Deno.test("a token that cannot be refreshed is counted, once", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  await visit(service, "ada");
  service.github.revoke("ada");
  service.clock.advance(7 * 3_600_000);
  const rounds = async () => {
    for (let n = 0; n < 3; n++) await upkeep(service);
  };
  assert.deepEqual(await moved(onlooker(service), rounds), { 'tokens_removed_total{reason="refresh_refused"}': 1 });
});

Deno.test("what was donated less what was removed is what there is, after any mixture of both", async () => {
  await using service = await temporaryService();
  const { pool, vault } = service;
  const ids = await donate(pool, 9);
  await donate(pool, 2); // who change nothing
  await visit(service, "ada");
  const store = await vault.store();
  await store.withdraw("1001");
  await store.remove(ids[1]!);
  await store.condemn(ids[2]!);
  await visit(service, "ada", { purpose: "withdraw" });
  const values = await metrics(service);
  const sum = (name: string) =>
    [...values].filter(([key]) => key.startsWith(name)).reduce((total, [, value]) => total + value, 0);
  assert.equal(values.get('ghpool_donations_total{result="new"}'), 10);
  assert.equal(values.get('ghpool_donations_total{result="updated"}'), 2);
  assert.equal(sum("ghpool_tokens_removed_total"), 4);
  assert.equal(sum("ghpool_tokens{"), 6);
});

Deno.test("a donation and a withdrawal whose answers are lost are counted once, although they are repeated", async () => {
  await using service = await temporaryService();
  const { database } = service;
  const repeated = (pattern: RegExp, work: () => Promise<unknown>) => async () => {
    const before = database.statements.length;
    database.losing = pattern;
    await work();
    assert.equal(database.losing, null, "the answer was lost");
    assert.ok(database.statements.slice(before).filter((sql) => pattern.test(sql)).length >= 2, "it was repeated");
  };
  const donating = repeated(/INSERT INTO token_pool_tokens/, () => visit(service, "ada"));
  assert.deepEqual(await moved(service, donating), { 'donations_total{result="new"}': 1 });
  assert.deepEqual(await moved(service, donating), { 'donations_total{result="updated"}': 1 });
  const leaving = repeated(/DELETE FROM token_pool_tokens/, () => visit(service, "ada", { purpose: "withdraw" }));
  assert.deepEqual(await moved(service, leaving), { 'tokens_removed_total{reason="withdrawn"}': 1 });
});

Deno.test("a removal whose answer is lost is counted once, although the next round does it again", async () => {
  await using service = await temporaryService();
  await visit(service, "ada");
  const { id, token } = (await service.pool.getToken())!;
  service.github.revokeToken(token);
  await service.pool.syncTokenHealth(id, response(401));
  service.database.losing = /DELETE FROM token_pool_tokens/;
  await assert.rejects(upkeep(service), { code: "database" });
  service.clock.advance(60_000);
  await upkeep(service);
  assert.equal((await metrics(service)).get('ghpool_tokens_removed_total{reason="revoked"}'), 1);
});

Deno.test("a donation that the database refuses in the end is not counted: both are one transaction", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  await service.database.look(
    "CREATE TRIGGER no BEFORE INSERT ON token_pool_tokens BEGIN SELECT raise(ABORT, 'no'); END",
  );
  assert.deepEqual(await moved(service, () => assert.rejects(service.pool.addToken(donation(2)))), {});
  await service.database.look(
    "CREATE TRIGGER stay BEFORE DELETE ON token_pool_tokens BEGIN SELECT raise(ABORT, 'no'); END",
  );
  const leaving = async () => assert.rejects((await service.vault.store()).withdraw("1001"));
  assert.deepEqual(await moved(service, leaving), {});
});

Deno.test("counters are of all processes, and survive each of them", async () => {
  await using service = await temporaryService();
  const { database, clock, options } = service;
  const pools = Array.from({ length: 4 }, () => createPool({ database, encryptionKey: KEY, now: clock.now }));
  await Promise.all(Array.from({ length: 40 }, (_, n) => pools[n % 4]!.addToken(donation(n))));
  await Promise.all(Array.from({ length: 8 }, (_, n) => pools[n % 4]!.addToken(donation(n))));
  for (const pool of pools) await draw(pool, 5);
  const here = await metrics(service);
  assert.equal(here.get('ghpool_donations_total{result="new"}'), 40);
  assert.equal(here.get('ghpool_donations_total{result="updated"}'), 8);
  assert.equal(here.get("ghpool_calls_total"), 20);
  const elsewhere = await metrics({ app: createApp({ ...options, log: () => {} }), clock });
  for (const [name, value] of here) if (/_total\b/.test(name)) assert.equal(elsewhere.get(name), value, name);
});

Deno.test("a token that does not open is counted once per process, and another one is handed out", async () => {
  await using service = await temporaryService();
  const { pool, database, clock } = service;
  const ids = await donate(pool, 3);
  await database.look(`UPDATE token_pool_tokens SET token = 'v1.00000000.AAAA.AAAA' WHERE id < ${ids[2]}`);
  const drawing = async () => assert.deepEqual(await draw(pool, 6), Array(6).fill(ids[2]));
  assert.deepEqual(await moved(service, drawing), { "decrypt_failures_total": 2, "calls_total": 18 });
  assert.equal((await moved(service, drawing))["decrypt_failures_total"], undefined);

  const fetch = () => Promise.resolve(response(200, limitHeaders(5000, 4000, clock.seconds + 600)));
  const other = createPool({ database, encryptionKey: KEY, now: clock.now, fetch });
  const fetching = async () => {
    for (let n = 0; n < 4; n++) await other.poolFetch(`https://api.github.com/repos/a/b${n}`);
    await other.close();
  };
  assert.equal((await moved(service, fetching))["decrypt_failures_total"], 2, "another process has met them too");
});

Deno.test("a wrong key is no decrypt failure: nothing is written because of it", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const wrong = createPool({ database: service.database, encryptionKey: OTHER_KEY, now: service.clock.now });
  assert.deepEqual(await moved(service, () => assert.rejects(wrong.getToken(), { code: "wrong_key" })), {});
});

Deno.test("nor is a key that was changed behind a consumer's back", async () => {
  await using service = await temporaryService();
  const { pool, database, clock, vault, variables } = service;
  await donate(pool, 1);
  await draw(pool, 1);
  variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  variables["TOKEN_ENCRYPTION_KEYS_PREVIOUS"] = KEY;
  await rotateKey(vault);
  assert.deepEqual(await moved({ app: createApp(service.options), clock }, () => assert.rejects(pool.getToken())), {
    "calls_total": 1,
  });
  assert.ok(!database.statements.some((sql) => /decrypt_failures/.test(sql)));
});

Deno.test("a failure that cannot be counted does not keep the next token from being handed out", async () => {
  await using service = await temporaryService();
  const ids = await donate(service.pool, 2);
  await service.database.look(`UPDATE token_pool_tokens SET token = 'v1.00000000.AAAA.AAAA' WHERE id = ${ids[0]}`);
  service.database.failing = /decrypt_failures/;
  assert.deepEqual(await draw(service.pool, 2), [ids[1], ids[1]]);
});

Deno.test("a claim is still one statement, which counts nothing besides the call", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 2);
  await draw(service.pool, 1);
  const before = service.database.statements.length;
  await draw(service.pool, 10);
  const claims = service.database.statements.slice(before);
  assert.equal(claims.length, 10);
  assert.ok(claims.every((sql) => /^UPDATE token_pool_limits/.test(sql) && !/counters/.test(sql)));
});

Deno.test("ghpool_calls_total does not fall when leased calls are given back", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const store = await service.vault.store();
  const lease = (await store.exchange({ reports: [], unused: [], wanted: { resource: "core", most: 50 } }))!;
  const calls = async () => (await metrics(service)).get("ghpool_calls_total");
  assert.equal(await calls(), 50);
  const { id, resource, windowEnds } = lease;
  const unused = [{ id, resource, windowEnds, calls: 40, resetAt: null, ceiling: null, isLate: false }];
  await store.exchange({ reports: [], unused, wanted: null });
  assert.equal(await calls(), 50);
  assert.equal((await (await service.app.request("/status")).json()).calls.total, 10, "/status is as it is");
  await draw(service.pool, 39);
  assert.equal(await calls(), 50);
  await draw(service.pool, 2);
  assert.equal(await calls(), 51);
});

Deno.test("ghpool_calls_total begins anew with another database", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const calls = async () => (await metrics(service)).get("ghpool_calls_total");
  await service.database.look("UPDATE token_pool_limits SET calls = 1000000");
  assert.equal(await calls(), 1_000_000);
  await service.database.look("UPDATE token_pool_limits SET calls = 5");
  assert.equal(await calls(), 5);
});

Deno.test("a database from before there were counters gets them, and loses nothing", async () => {
  await using service = await temporaryService();
  const { pool, database, clock, options } = service;
  await donate(pool, 2);
  await draw(pool, 3);
  await database.look("DROP TABLE token_pool_counters");
  await database.look("UPDATE token_pool_meta SET value = 1 WHERE key = 'schema_version'");
  const newer = createPool({ database, encryptionKey: KEY, now: clock.now });
  assert.ok(await newer.getToken() !== null);
  await newer.addToken(donation(3));
  const values = await metrics({ app: createApp({ ...options, log: () => {} }), clock });
  assert.equal(values.get('ghpool_tokens{state="healthy"}'), 3);
  assert.equal(values.get("ghpool_calls_total"), 4);
  assert.equal(values.get('ghpool_donations_total{result="new"}'), 1, "counted from the table's first day");
});

Deno.test("GET /metrics while the database is away is 200 with ghpool_up 0, and recovers by itself", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 2);
  assert.equal((await metrics(service)).get("ghpool_up"), 1);
  service.database.failing = /^/;
  const down = await metrics(service);
  assert.equal(down.get("ghpool_up"), 0);
  assert.equal(down.get('ghpool_status{status="down"}'), 1);
  assert.ok(![...down.keys()].some((name) => /tokens|calls|ratelimit|_total/.test(name)), "no figure is repeated");
  service.database.failing = null;
  const again = await metrics(service);
  assert.equal(again.get("ghpool_up"), 1);
  assert.equal(again.get('ghpool_donations_total{result="new"}'), 2);
});

Deno.test("GET /metrics answers before the service is set up", async () => {
  await using service = await temporaryService();
  for (const name of Object.keys(service.variables)) service.variables[name] = undefined;
  const values = await metrics(service);
  assert.equal(values.get("ghpool_up"), 1, "the database needs no key to be counted");
});

Deno.test("1,000 requests at once for whatever shows figures are one query", async () => {
  await using service = await temporaryService();
  const { app, clock, database } = service;
  await donate(service.pool, 3);
  await app.request("/status");
  clock.advance(15_000);
  const before = database.statements.length;
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  database.before = () => held;
  const paths = ["/status", "/metrics", "/badge.json", "/"];
  const asked = Array.from({ length: 1000 }, (_, n) =>
    app.request(paths[n % paths.length]!, {
      method: n % 8 < 4 ? "GET" : "HEAD",
      headers: { accept: n % 16 < 8 ? OPEN : "*/*" },
    }));
  release();
  const answers = await Promise.all(asked);
  assert.equal(database.statements.length, before + 1);
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  const texts = await Promise.all(answers.map((answer) => answer.text()));
  // Of each path: with a body by GET in two formats where there are two, without one by HEAD.
  assert.deepEqual(paths.map((_, at) => new Set(texts.filter((_, n) => n % paths.length === at)).size), [2, 3, 2, 2]);
  for (let n = 0; n < 1000; n++) await app.request(paths[n % paths.length]!);
  assert.equal(database.statements.length, before + 1, "and so are those of the next 15 s");
});

Deno.test("1,000 requests at once while the database is away are one attempt", async () => {
  await using service = await temporaryService();
  const { app, clock, database } = service;
  await donate(service.pool, 1);
  await app.request("/status");
  clock.advance(15_000);
  const before = database.statements.length;
  database.failing = /^/;
  const answers = await Promise.all(Array.from({ length: 1000 }, () => app.request("/status")));
  assert.ok(answers.every(({ status }) => status === 503));
  assert.ok(database.statements.length - before <= 2, "a read is repeated once");
  await Promise.all(Array.from({ length: 100 }, () => app.request("/metrics")));
  assert.ok(database.statements.length - before <= 2, "and then left alone for 15 s");
});

Deno.test("GET /status says 304 to everybody who has the figures already, at any rate of asking", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const first = await service.app.request("/status");
  const etag = first.headers.get("etag")!;
  const again = await Promise.all(
    Array.from(
      { length: 200 },
      (_, n) =>
        service.app.request("/status", { method: n % 2 === 0 ? "GET" : "HEAD", headers: { "if-none-match": etag } }),
    ),
  );
  assert.deepEqual([...new Set(again.map(({ status }) => status))], [304]);
  for (const { headers } of again) {
    assert.equal(headers.get("cache-control"), "public, max-age=15, stale-while-revalidate=60");
  }
});

Deno.test("/metrics and /badge.json answer HEAD like GET, and other methods with 405", async () => {
  await using service = await temporaryService();
  const methods = { "/metrics": ["GET", "HEAD"], "/badge.json": ["GET", "HEAD", "OPTIONS"] };
  for (const [path, allowed] of Object.entries(methods)) {
    const [head, get] = [await service.app.request(path, { method: "HEAD" }), await service.app.request(path)];
    assert.equal(head.status, 200);
    assert.equal(await head.text(), "");
    for (const name of ["content-type", "cache-control", "vary", "etag", "access-control-allow-origin"]) {
      assert.equal(head.headers.get(name), get.headers.get(name), `${path} ${name}`);
    }
    for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
      const refused = await service.app.request(path, { method });
      assert.equal(refused.status, 405, `${method} ${path}`);
      assert.deepEqual(refused.headers.get("allow")?.split(/, */), allowed);
    }
  }
});

Deno.test("/badge.json may be read by any page of any site, /metrics by scrapers only", async () => {
  await using service = await temporaryService();
  const headers = { origin: "https://elsewhere.example" };
  const badge = await service.app.request("/badge.json", { headers });
  assert.equal(badge.headers.get("access-control-allow-origin"), "*");
  assert.equal(badge.headers.get("cross-origin-resource-policy"), "cross-origin");
  const asked = await service.app.request("/badge.json", { method: "OPTIONS", headers });
  assert.equal(asked.status, 204);
  assert.equal(asked.headers.get("access-control-allow-origin"), "*");
  const scraped = await service.app.request("/metrics", { headers });
  assert.equal(scraped.headers.get("access-control-allow-origin") || null, null);
});

Deno.test("GET /badge.json is what Shields asks for, in every state", async () => {
  await using service = await temporaryService();
  const { pool, clock, database, app } = service;
  const badge = async () => {
    clock.advance(15_000);
    const answer = await app.request("/badge.json");
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), "application/json; charset=utf-8");
    const { schemaVersion, label, cacheSeconds, ...rest } = await answer.json();
    assert.deepEqual([schemaVersion, label, cacheSeconds], [1, "GitHub token pool", 300]);
    return rest;
  };
  assert.deepEqual(await badge(), { message: "no tokens yet", color: "lightgrey" });
  const ids = await donate(pool, 7, { reserve: 0.5 });
  assert.deepEqual(await badge(), { message: "18K calls left", color: "brightgreen" });
  for (const id of ids.slice(0, 5)) await pool.syncTokenHealth(id, response(401));
  service.variables["GITHUB_CLIENT_ID"] = undefined; // so that no passing request asks GitHub
  assert.deepEqual(await badge(), { message: "degraded, 5K calls left", color: "yellow" });
  await database.look("UPDATE token_pool_tokens SET braked = 0");
  for (const id of ids.slice(5)) await pool.syncTokenHealth(id, response(403, { "retry-after": "3600" }));
  assert.deepEqual(await badge(), { message: "no calls left now", color: "orange" });
  database.failing = /^/;
  assert.deepEqual(await badge(), { message: "not available", color: "red", isError: true });
});

Deno.test("badgeOf() knows a word and a colour for every state", () => {
  for (const status of STATES) {
    const { message, color, isError } = badgeOf({ ...FIGURES, status });
    assert.ok(message !== "" && /^[a-z]+$/.test(color), status);
    assert.equal(isError === true, status === "down");
  }
});

Deno.test("GET /badge.json has an ETag that holds while the badge does", async () => {
  await using service = await temporaryService();
  const etag = (await service.app.request("/badge.json")).headers.get("etag");
  assert.ok(etag !== null);
  const again = await service.app.request("/badge.json", { headers: { "if-none-match": etag } });
  assert.equal(again.status, 304);
  assert.equal(again.headers.get("access-control-allow-origin"), "*");
});

Deno.test("no metric and no badge names a donor, a token, a key or a setting", async () => {
  const secrets = { GITHUB_CLIENT_SECRET: "canary-client-secret", GITHUB_CLIENT_ID: "canary-client-id" };
  await using service = await temporaryService({
    variables: secrets,
    github: { clientId: secrets.GITHUB_CLIENT_ID, clientSecret: secrets.GITHUB_CLIENT_SECRET },
  });
  const { github, pool, app, clock, database } = service;
  github.addUser("canary-login", { id: 987_654_321 });
  await visit(service, "canary-login");
  const { id, token, github_username: login } = (await pool.getToken())!;
  assert.equal(login, "canary-login");
  await pool.addToken(donation(1, { github_username: "canary-login-2", token: "gho_canary" }));
  await database.look("UPDATE token_pool_tokens SET token = 'v1.canary.AAAA.AAAA' WHERE github_user_id = '1001'");
  await draw(pool, 3);
  await pool.syncTokenHealth(id, response(401));
  const states = [() => {}, () => database.failing = /^/, () => database.failing = null];
  for (const enter of states) {
    enter();
    clock.advance(15_000);
    for (const [path, accept] of [["/metrics", OPEN], ["/metrics", "*/*"], ["/badge.json", "*/*"]] as const) {
      const answer = await app.request(path, { headers: { accept } });
      const text = [await answer.text(), ...answer.headers.values()].join("\n");
      assert.doesNotMatch(text, /canary|987654321|1001|gho_|v1\./, path);
      assert.ok(![token, KEY].some((secret) => text.includes(secret)));
    }
  }
  const families = readOpenMetrics(renderMetrics(FIGURES, COUNTERS, "openmetrics"));
  const labels = new Set(families.flatMap(({ samples }) => samples.flatMap(({ labels }) => Object.keys(labels))));
  assert.deepEqual([...labels].sort(), ["reason", "resource", "result", "state", "status", "version"]);
});
