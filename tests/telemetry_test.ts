/** What leaves the server by OpenTelemetry: the bytes themselves are read, as a collector receives them. */

import assert from "node:assert/strict";
import { guardSpans, type Span, type Telemetry } from "../lib/telemetry.ts";
import { KEY } from "./support/fixtures.ts";
import { receiveOtlp } from "./support/otlp.ts";
import { donateAt, goToGitHub, startStandalone } from "./support/standalone.ts";

Deno.test("spans name the route, and neither code, state, token, key nor secret is in any exported byte", async () => {
  await using otlp = receiveOtlp();
  await using server = await startStandalone({ variables: otlp.variables });
  const { origin, github } = server;
  const canaries = [KEY, KEY.toUpperCase()];
  assert.equal(await donateAt(server, "ada"), 303);

  const { callback, cookie } = await goToGitHub(server, "bob");
  const state = new URL(callback).searchParams.get("state")!;
  canaries.push(state, cookie.split("=")[1]!);
  const lost = "gho_0123456789abcdefABCDEF0123456789abcd";
  canaries.push(lost);
  const ask = async (url: string, init: RequestInit = {}) => {
    const answer = await fetch(url, { redirect: "manual", ...init });
    await answer.body?.cancel();
    return answer.status;
  };
  assert.equal(await ask(callback.replace("/callback", "/nowhere")), 404);
  assert.equal(await ask(`${origin}/${lost}?access_token=${lost}`), 404);
  assert.equal(await ask(`${callback}&code=${lost}`, { headers: { cookie, referer: callback } }), 400);
  github.down = { answer: 503, only: /access_token/ };
  const second = await goToGitHub(server, "bob");
  assert.equal(await ask(second.callback, { headers: { cookie: second.cookie, traceparent: callback } }), 502);

  server.process.kill("SIGTERM");
  assert.equal((await server.ended).code, 0);
  const spans = otlp.spans();
  const served = spans.filter(({ kind }) => kind === 2);
  const routeOf = ({ attributes }: { attributes: { key: string; value: { stringValue?: string } }[] }) =>
    attributes.find(({ key }) => key === "http.route")?.value.stringValue;
  assert.deepEqual(served.map(routeOf).sort(), [
    "/auth",
    "/auth",
    "/auth",
    "/callback",
    "/callback",
    "/callback",
    "unknown",
    "unknown",
  ]);
  for (const span of served) assert.equal(span.name, `GET ${routeOf(span)}`);
  const urls = spans.flatMap(({ attributes }) => attributes).filter(({ key }) => key === "url.full");
  assert.ok(urls.some(({ value }) => value.stringValue === `${origin}/callback`), "the rest of an address is told");
  assert.ok(urls.some(({ value }) => value.stringValue === `${github.url}/login/oauth/access_token`), "calls out too");
  const keys = new Set(spans.flatMap(({ attributes }) => attributes).map(({ key }) => key));
  assert.ok(!keys.has("url.query") && !keys.has("exception.message") && !keys.has("exception.stacktrace"));

  assert.deepEqual(new Set(otlp.received.map(({ path }) => path)), new Set(["/v1/traces", "/v1/metrics", "/v1/logs"]));
  assert.ok(github.secrets.size >= 5, "there was much to leak");
  for (const { path, text } of otlp.received) {
    for (const canary of [...canaries, ...github.secrets]) {
      assert.ok(!text.includes(canary), `${path} holds ${canary}`);
      assert.ok(!text.includes(encodeURIComponent(canary)), `${path} holds ${canary}, encoded`);
      assert.ok(!text.includes(btoa(canary)), `${path} holds ${canary}, in base64`);
    }
  }
});

/** Telemetry whose spans write down what they are told. */
class FakeSpan implements Span {
  readonly told: unknown[] = [];
  setAttribute(...words: [string, unknown]): unknown {
    return this.told.push(words);
  }
  setStatus(status: { code: number; message?: string }): unknown {
    return this.told.push(status);
  }
  updateName(name: string): unknown {
    return this.told.push(name);
  }
}

function telemetryOf(startSpan: () => Span): Telemetry {
  return {
    tracerProvider: { getTracer: () => ({ startSpan }) },
    contextManager: { active: () => ({ getValue: () => undefined }) },
  };
}

Deno.test("guardSpans() lets through what is told, and nothing that could hold a foreign word or a secret", () => {
  class Fresh extends FakeSpan {}
  Object.assign(Fresh.prototype, {
    setAttribute: FakeSpan.prototype.setAttribute,
    setStatus: FakeSpan.prototype.setStatus,
  });
  const nameSpan = guardSpans(telemetryOf(() => new Fresh()))!;
  const span: Span & { told: unknown[] } = new Fresh();
  span.setAttribute("url.full", "https://pool.example/callback?code=canary#canary\ncanary");
  span.setAttribute("url.query", "code=canary");
  span.setAttribute("url.path", `/${KEY}`);
  span.setAttribute("exception.message", "canary");
  span.setAttribute("exception.stacktrace", "canary");
  span.setAttribute("http.response.status_code", 200);
  span.setStatus({ code: 2, message: "canary" });
  assert.deepEqual(span.told, [
    ["url.full", "https://pool.example/callback"],
    ["url.path", "/[redacted]"],
    ["http.response.status_code", 200],
    { code: 2 },
  ]);
  nameSpan("GET", "/callback"); // without an active span there is nothing to name
});

Deno.test("guardSpans() does nothing where nothing is exported, and refuses spans that it cannot guard", () => {
  assert.equal(guardSpans(undefined), null);
  const off = telemetryOf(() => {
    throw new Error("otel not initialized");
  });
  assert.equal(guardSpans(off), null);
  const frozen = Object.freeze({ setAttribute() {}, setStatus() {}, updateName() {} });
  assert.throws(() => guardSpans(telemetryOf(() => Object.create(frozen))), /unset OTEL_DENO/);
  assert.throws(() => guardSpans(telemetryOf(() => Object.create({ updateName() {} }))), /unset OTEL_DENO/);
});
