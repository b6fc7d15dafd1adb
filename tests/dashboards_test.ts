/**
 * The files of `.deploy/`, which operators copy: each is read by the grammar of the tool that it is for, and whatever it
 * asks for is what the service really says.
 *
 * @module
 */

import assert from "node:assert/strict";
import { parser } from "npm:@prometheus-io/lezer-promql@0.315.0";
import { parse as parseYaml } from "npm:yaml@2.9.1";
import { donate, limitHeaders, response } from "./support/fixtures.ts";
import { type Family, readOpenMetrics } from "./support/metrics.ts";
import { type Service, temporaryService } from "./support/service.ts";

const FOLDER = new URL("../.deploy/", import.meta.url);

const read = (name: string) => Deno.readTextFile(new URL(name, FOLDER));

const DASHBOARD = JSON.parse(await read("grafana-dashboard.json"));
const ALERTS: { name: string; rules: Rule[] }[] = parseYaml(await read("prometheus-alerts.yml")).groups;
const RULES = ALERTS.flatMap(({ rules }) => rules);

interface Rule {
  alert: string;
  expr: string;
  for?: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

interface Panel {
  id: number;
  title: string;
  type: string;
  description: string;
  datasource: { uid: string };
  gridPos: { x: number; y: number; w: number; h: number };
  targets: { expr: string; refId: string }[];
}

/** What `/metrics` says of a pool in which everything has been used. */
async function exported(): Promise<Family[]> {
  await using service = await busyService();
  const answer = await service.app.request("/metrics", { headers: { accept: "application/openmetrics-text" } });
  return readOpenMetrics(await answer.text());
}

async function busyService(): Promise<Service & AsyncDisposable> {
  const service = await temporaryService();
  const [id] = await donate(service.pool, 2);
  const headers = limitHeaders(5000, 4000, service.clock.seconds + 600);
  await service.pool.syncTokenHealth(id!, response(200, headers));
  return service;
}

const FAMILIES = await exported();

/** Every sample's name, with the values of each of its labels. What scraping adds is there too. */
const NAMES = new Map<string, Map<string, Set<string>>>();
for (const { name, labels } of FAMILIES.flatMap(({ samples }) => samples)) {
  const known = NAMES.get(name) ?? new Map(["job", "instance"].map((label) => [label, new Set<string>()]));
  for (const [label, value] of Object.entries(labels)) known.set(label, (known.get(label) ?? new Set()).add(value));
  NAMES.set(name, known);
}
NAMES.set("up", new Map([["job", new Set()], ["instance", new Set()]]));

/** Grafana puts its own values in before it asks. */
function withoutVariables(expression: string): string {
  return expression.replaceAll("$__rate_interval", "5m").replaceAll("$job", ".*").replaceAll("$instance", ".*");
}

/** What is wrong with an expression: its syntax, a metric that is not exported, a label or a value that it never has. */
function faultsOf(expression: string): string[] {
  const faults: string[] = [];
  const text = withoutVariables(expression);
  const metrics: string[] = [];
  parser.parse(text).iterate({
    enter({ type, from, to, node }) {
      if (type.isError) faults.push(`syntax error at ${from}`);
      if (type.name !== "VectorSelector") return;
      const name = text.slice(from, to).match(/^[a-zA-Z_:][a-zA-Z0-9_:]*/)?.[0] ?? "";
      metrics.push(name);
      const labels = NAMES.get(name);
      if (labels === undefined) return void faults.push(`${name} is not exported`);
      for (const matcher of node.getChild("LabelMatchers")?.getChildren("UnquotedLabelMatcher") ?? []) {
        const parts = text.slice(matcher.from, matcher.to).match(/^(\w+)\s*(=~|!~|!=|=)\s*"(.*)"$/);
        if (parts === null) return void faults.push(`cannot read ${text.slice(matcher.from, matcher.to)}`);
        const [, label, operator, value] = parts;
        const values = labels.get(label!);
        if (values === undefined) faults.push(`${name} has no label ${label}`);
        else if (
          values.size > 0 &&
          !value!.split("|").every((one) => operator!.includes("~") && one === ".*" || values.has(one))
        ) {
          faults.push(`${name} never has ${label}="${value}"`);
        }
      }
    },
  });
  const known = new Set([...NAMES.values()].flatMap((labels) => [...labels.keys()]));
  for (const [, list] of text.matchAll(/\b(?:by|without|on|ignoring|group_left)\s*\(([^)]*)\)/g)) {
    for (const label of list!.split(",").map((part) => part.trim())) {
      if (!known.has(label)) faults.push(`nothing has a label ${label}`);
    }
  }
  for (const [, name] of text.matchAll(/\b(?:rate|increase)\(\s*(\w+)/g)) {
    if (!name!.endsWith("_total")) faults.push(`${name} is no counter`);
  }
  for (const [, name] of text.matchAll(/\b(?:predict_linear|delta|deriv)\(\s*(\w+)/g)) {
    if (name!.endsWith("_total")) faults.push(`${name} is no gauge`);
  }
  if (metrics.length === 0) faults.push("it asks for nothing");
  return faults;
}

/** All panels' expressions and all alerts'. */
const PANELS: Panel[] = DASHBOARD.panels;
const EXPRESSIONS = [
  ...PANELS.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
  ...RULES.map(({ alert, expr }) => [alert, expr] as const),
];

Deno.test("faultsOf() sees what is wrong with an expression", () => {
  assert.deepEqual(faultsOf('sum by (state) (ghpool_tokens{state="healthy"}) > 0'), []);
  for (
    const bad of [
      "sum(ghpool_tokens",
      "sum(ghpool_token)",
      "1 + 1",
      'ghpool_tokens{status="healthy"}',
      'ghpool_tokens{state="well"}',
      'ghpool_tokens{state=~"healthy|well"}',
      "sum by (login) (ghpool_tokens)",
      "rate(ghpool_tokens[5m])",
      "predict_linear(ghpool_calls_total[5m], 60)",
    ]
  ) assert.notDeepEqual(faultsOf(bad), [], bad);
});

Deno.test("every expression of the dashboard and the alerts is PromQL over what /metrics exports", () => {
  assert.ok(EXPRESSIONS.length >= 25, `${EXPRESSIONS.length} expressions`);
  assert.deepEqual(EXPRESSIONS.flatMap(([where, expr]) => faultsOf(expr).map((fault) => `${where}: ${fault}`)), []);
});

Deno.test("every metric that is exported is in the dashboard or in an alert", () => {
  const used = EXPRESSIONS.map(([, expr]) => expr).join("\n");
  const unused = [...NAMES.keys()].filter((name) => !new RegExp(`\\b${name}\\b`).test(used));
  assert.deepEqual(unused, []);
});

Deno.test("the dashboard can be imported anywhere, and its panels do not overlap", () => {
  assert.equal(DASHBOARD.id ?? null, null, "an id is of one Grafana");
  assert.match(DASHBOARD.uid, /^[\w-]{1,40}$/);
  assert.ok(DASHBOARD.schemaVersion >= 36);
  const variables = DASHBOARD.templating.list.map(({ name }: { name: string }) => name);
  assert.deepEqual(variables, ["datasource", "job", "instance"]);
  for (const { definition } of DASHBOARD.templating.list.slice(1)) {
    const [, selector, label] = /^label_values\((.+), (\w+)\)$/.exec(definition) ?? [];
    assert.deepEqual(faultsOf(selector!), []);
    assert.ok(variables.includes(label!));
  }
  assert.equal(new Set(PANELS.map(({ id }) => id)).size, PANELS.length);
  const taken = new Set<string>();
  for (const { title, description, datasource, gridPos: { x, y, w, h }, targets } of PANELS) {
    assert.ok(title !== "" && description !== "" && targets.length > 0, title);
    assert.equal(datasource.uid, "${datasource}", title);
    assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
    assert.ok(x + w <= 24, title);
    for (let cell = 0; cell < w * h; cell++) {
      const place = `${x + cell % w} ${y + Math.floor(cell / w)}`;
      assert.ok(!taken.has(place), `${title} lies on another panel`);
      taken.add(place);
    }
  }
  for (const [, name] of JSON.stringify(DASHBOARD).matchAll(/\$\{?(\w+)\}?/g)) {
    assert.ok([...variables, "__rate_interval", "__all"].includes(name!), `$${name} is no variable`);
  }
});

Deno.test("the alerts say what is wrong and how urgent it is, and there is one for each trouble", () => {
  assert.deepEqual(RULES.map(({ alert }) => alert), [
    "TokenPoolDown",
    "TokenPoolIncident",
    "TokenPoolDry",
    "TokenPoolDryInTwoHours",
    "TokenPoolLow",
    "TokenPoolShrinking",
    "TokenPoolTokensRevoked",
    "TokenPoolManySuspended",
    "TokenPoolDecryptFailures",
    "TokenPoolFiguresStale",
  ]);
  for (const { alert, for: duration, labels, annotations } of RULES) {
    assert.match(labels["severity"] ?? "", /^(?:critical|warning)$/, alert);
    assert.match(duration ?? "0m", /^\d+[mh]$/, alert);
    assert.ok(annotations["summary"], alert);
    for (const [, inside] of Object.values(annotations).join(" ").matchAll(/\{\{(.*?)\}\}/g)) {
      assert.match(inside!, /^ \$(?:value \| humanize(?:Percentage)?|labels\.status) $/, alert);
    }
  }
});

Deno.test("the scrape example asks for /metrics, names the alerts' file and its job, and not too often", async () => {
  const { rule_files: files, scrape_configs: [job] } = parseYaml(await read("prometheus.yml"));
  assert.deepEqual(files, ["prometheus-alerts.yml"]);
  assert.equal(job.metrics_path, "/metrics");
  assert.equal(job.scheme, "https");
  assert.ok(parseInt(job.scrape_interval) >= 15 && job.scrape_interval.endsWith("s"));
  for (const [, name] of RULES.map(({ expr }) => expr).join("\n").matchAll(/job="([^"]*)"/g)) {
    assert.equal(name, job.job_name);
  }
});

/** What a dotted path leads to. */
function at(body: unknown, path: string): unknown {
  return path.split(".").reduce((value, key) => (value as Record<string, unknown> | undefined)?.[key], body);
}

Deno.test("every field of the Homepage widget is in /status, in a form that can be shown", async () => {
  await using service = await busyService();
  const [{ GitHub: [entry] }] = parseYaml(await read("homepage.yaml"));
  const { widget } = entry["Token pool"];
  assert.equal(widget.type, "customapi");
  const url = new URL(widget.url);
  const body = await (await service.app.request(url.pathname)).json();
  assert.ok(widget.refreshInterval >= 15_000);
  assert.ok(widget.mappings.length <= 4, "more are not shown in a row");
  for (const { field, label, format, remap } of widget.mappings) {
    const value = at(body, field);
    assert.equal(typeof value, format === "text" ? "string" : "number", field);
    assert.ok(["text", "number", "percent"].includes(format) && label !== "", field);
    if (field !== "status") continue;
    const { statusSchema } = await import("../lib/stats.ts");
    const states = remap.map(({ value }: { value: string }) => value);
    assert.deepEqual(states, statusSchema.shape.status.options, "each state has a word");
  }
});

/** Whether a condition of Gatus holds: the few forms that are used here. */
function holds(condition: string, status: number, body: unknown): boolean {
  const [, place, path, operator, wanted] = /^\[(\w+)\]((?:\.\w+)*) (==|>|<) (.+)$/.exec(condition) ?? [];
  assert.ok(place !== undefined, `not a condition: ${condition}`);
  const measured: Record<string, unknown> = { STATUS: status, RESPONSE_TIME: 20, CERTIFICATE_EXPIRATION: 1e9 };
  const value = place === "BODY" ? at(body, path!.slice(1)) : measured[place];
  assert.ok(value !== undefined, `nothing is at ${place}${path}`);
  if (operator !== "==") {
    assert.equal(typeof value, "number", condition);
    const bound = parseFloat(wanted!) * (wanted!.endsWith("h") ? 3_600_000 : 1);
    return operator === ">" ? (value as number) > bound : (value as number) < bound;
  }
  const any = /^any\((.*)\)$/.exec(wanted!)?.[1]?.split(", ") ?? [wanted];
  return any.includes(String(value));
}

Deno.test("the Gatus checks pass for a pool that is well, and fail for one that is not", async () => {
  await using service = await busyService();
  interface Endpoint {
    name: string;
    url: string;
    conditions: string[];
  }
  const { endpoints }: { endpoints: Endpoint[] } = parseYaml(await read("gatus.yaml"));
  const passing = async () => {
    service.clock.advance(15_000);
    const results: string[] = [];
    for (const { name, url, conditions } of endpoints) {
      const answer = await service.app.request(new URL(url).pathname);
      const body = await answer.json();
      if (conditions.map((condition) => holds(condition, answer.status, body)).every((isTrue) => isTrue)) {
        results.push(name);
      }
    }
    return results;
  };
  assert.deepEqual(await passing(), ["service", "tokens"]);
  for (const id of [1, 2]) await service.pool.syncTokenHealth(id, response(403, { "retry-after": "3600" }));
  assert.deepEqual(await passing(), ["service"], "a dry pool is no broken service");
  service.database.failing = /^/;
  assert.deepEqual(await passing(), []);
});

Deno.test("the README names every file of .deploy, and no file there names a real host of anybody's", async () => {
  const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const documentation =
    /^(?:gethomepage\.dev|gatus\.io|(?:www\.)?githubstatus\.com|github\.com|www\.val\.town|127\.0\.0\.1)$/;
  for await (const { name } of Deno.readDir(FOLDER)) {
    assert.ok(readme.includes(name), `${name} is not in the README`);
    for (const [, host] of (await read(name)).matchAll(/https?:\/\/([\w.-]+)/g)) {
      assert.ok(host === "pool.example" || documentation.test(host!), `${name} names ${host}`);
    }
  }
});
