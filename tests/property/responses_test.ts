/**
 * What a response says of a token, read from anything that could come over the wire: no input throws, no number is made
 * up, and what is not a limit benches nobody.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { judge, needsBody, tokenExpiry, type Verdict } from "../../lib/health.ts";
import {
  type CompleteReport,
  completeReport,
  parseRateLimitHeaders,
  type RateLimitInfo,
} from "../../lib/rate_limit.ts";
import { NUMBER_HEADERS } from "../support/fixtures.ts";
import { hold } from "../support/property.ts";

const API = "https://api.github.com";

const NAMES = [
  ...NUMBER_HEADERS.map(([name]) => name),
  ...["x-ratelimit-resource", "gh-limited-by", "x-github-otp", "x-oauth-scopes", "x-github-sso", "date"],
];

/** A number, what comes close to one, and any bytes. */
const value = fc.oneof(
  fc.nat(6000).map(String),
  fc.constantFrom("0", "60", "core", "graphql", "search", "code_search", "", "repo", "Core", "a".repeat(65), "٣", "１"),
  fc.stringMatching(/^[0-9]{10,17}$/), // around where milliseconds begin, and where it is too long
  fc.stringMatching(/^[ \t]*[+-]?[0-9]{0,17}[.,exob_]?[0-9]{0,3}[ \t]*$/),
  fc.string({ unit: fc.nat(255).map((byte) => String.fromCharCode(byte)) }),
);

/** All that GitHub says of a limit, now and then out of bounds. */
const whole = fc.record({
  "x-ratelimit-limit": fc.constantFrom("0", "30", "60", "5000"),
  "x-ratelimit-remaining": fc.oneof(fc.constantFrom("0", "9999"), fc.nat(6000).map(String)),
  "x-ratelimit-reset": fc.constantFrom("1795003600", "1795003600000", "0"),
}).map((headers) => Object.entries(headers));

const waits = fc.constantFrom(
  "0",
  "1",
  "60",
  "86400",
  "86401",
  "999999999999999",
  "-1",
  "Wed, 21 Oct 2026 07:28:00 GMT",
);

const pairs: fc.Arbitrary<[string, string][]> = fc.tuple(
  fc.option(whole, { nil: [] }),
  fc.option(waits.map((wait): [string, string][] => [["retry-after", wait]]), { nil: [], freq: 2 }),
  fc.array(fc.tuple(fc.oneof(fc.constantFrom(...NAMES), fc.string()), value), { maxLength: 6 }),
).map((parts) => parts.flat());

/** Of the pairs those that the platform lets into headers. */
function headersOf(pairs: readonly (readonly [string, string])[]): Headers {
  const headers = new Headers();
  for (const [name, value] of pairs) {
    try {
      headers.append(name, value);
    } catch {
      // bytes that no header can have
    }
  }
  return headers;
}

/** By hand, without a regular expression: one to fifteen of the ten digits, and nothing else. */
function isNumber(text: string | null): text is string {
  return text !== null && text.length >= 1 && text.length <= 15 &&
    [...text].every((character) => character >= "0" && character <= "9");
}

function assertRead(info: RateLimitInfo, read: (name: string) => string | null): void {
  for (const [name, property] of NUMBER_HEADERS) {
    const text = read(name);
    const number = isNumber(text) ? Number(text) : null;
    const isTooLate = property === "reset_at" && number !== null && number >= 1e11;
    assert.equal(info[property], isTooLate ? null : number, `${name}: ${text}`);
  }
  const resource = read("x-ratelimit-resource");
  assert.ok(info.resource === null ? !/^[a-z0-9_]{1,64}$/.test(resource ?? "") : info.resource === resource);
}

Deno.test("parseRateLimitHeaders() gives exactly the digits that were sent, or null, in whatever they come", async (t) => {
  const container = fc.constantFrom(
    (pairs: [string, string][]) => pairs,
    (pairs: [string, string][]) => Object.fromEntries(pairs),
    (pairs: [string, string][]) => Object.fromEntries(pairs.map(([name, value]) => [name.toUpperCase(), value])),
    (pairs: [string, string][]) => new Map(pairs),
    (pairs: [string, string][]) => new Headers(pairs),
  );
  const property = fc.property(pairs, container, (pairs, inside) => {
    const headers = headersOf(pairs);
    assertRead(parseRateLimitHeaders(headers), (name) => headers.get(name));
    // Deno lists what was sent twice, once empty, in another way than it answers for it: so by what is listed.
    const listed = new Map(headers);
    assertRead(parseRateLimitHeaders(inside([...listed]) as Headers), (name) => listed.get(name) ?? null);
  });
  await hold(t, property, { bounded: 2000 });
});

Deno.test("parseRateLimitHeaders() never throws, whatever it is given and whatever that answers", async (t) => {
  class Odd extends Headers {
    readonly #answer: unknown;
    constructor(answer: unknown) {
      super();
      this.#answer = answer;
    }
    override get(): string | null {
      return this.#answer as string | null;
    }
  }
  const anything = fc.anything({
    ...{
      withBigInt: true,
      withDate: true,
      withMap: true,
      withNullPrototype: true,
      withObjectString: true,
      withSet: true,
    },
    ...{ withTypedArray: true, withSparseArray: true, key: fc.oneof(fc.constantFrom(...NAMES), fc.string()) },
  });
  const throwing = fc.constant({
    toString(): string {
      throw new Error("not for you");
    },
  });
  const answer = fc.oneof(anything, throwing, fc.constantFrom(Symbol("5000"), 5000, 5000n, ["5000"], new Date(0)));
  const given = fc.oneof(anything, answer.map((answer) => new Odd(answer)));
  const property = fc.property(given, (given) => {
    const info = parseRateLimitHeaders(given as Headers);
    const { resource, ...numbers } = info;
    assert.ok(resource === null || typeof resource === "string");
    for (const number of Object.values(numbers)) {
      assert.ok(number === null || Number.isSafeInteger(number) && number >= 0);
    }
    assertReport(completeReport(info, "core"));
  });
  await hold(t, property, { bounded: 1500 });
});

function assertReport(report: CompleteReport | null): void {
  if (report === null) return;
  const { resource, limit, remaining, resetAt } = report;
  assert.match(resource, /^[a-z0-9_]{1,64}$/);
  assert.ok(Number.isSafeInteger(limit) && limit >= 1 && limit < 1e15);
  assert.ok(Number.isSafeInteger(remaining) && remaining >= 0 && remaining <= limit);
  assert.ok(Number.isSafeInteger(resetAt) && resetAt >= 0 && resetAt < 1e11);
}

/** Words of GitHub that decide, in every dress. */
const LIMIT_WORDS = [
  ...["You have exceeded a secondary rate limit.", "You have triggered an abuse detection mechanism."],
  ...["API rate limit exceeded for user ID 1.", "Maximum number of login attempts exceeded."],
  ...["Sorry. Your account was suspended.", "Bad credentials", "Requires authentication", "RATE_LIMITED"],
  "API rate limit exceeded for 1.2.3.4. (But here's the good news: Authenticated requests get a higher rate limit.)",
];

const OTHER_WORDS = [
  ...["Resource not accessible by integration", "Must have push access", "Repository access blocked", "Forbidden"],
  ...["Resource protected by organization SAML enforcement.", "The file is too large", "<html>403</html>", ""],
];

function bodiesOf(message: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc.oneof(
    message,
    message.map((message) => JSON.stringify({ message, documentation_url: "https://docs.github.com/rest" })),
    message.map((message) => JSON.stringify({ errors: [{ type: message, message }, null, 42] })),
    message.map((message) => JSON.stringify({ data: { a: message }, errors: [{ type: message, message }] })),
    fc.json(),
  );
}

const body = bodiesOf(fc.oneof(fc.constantFrom(...LIMIT_WORDS, ...OTHER_WORDS), fc.string()));

const url = fc.option(
  fc.oneof(
    fc.constantFrom(...["/repos/a/b", "/graphql", "/search/code", "/applications/x/token"].map((path) => API + path)),
    fc.constantFrom("https://github.com/login/oauth/access_token", "https://ghe.example/api/graphql", ""),
    fc.webUrl(),
    fc.string(),
  ),
);

const status = fc.oneof(fc.constantFrom(200, 304, 401, 403, 429, 500), fc.integer({ min: 100, max: 599 }));

/** What nothing but a limit can do. */
function isBench({ kind }: Verdict): boolean {
  return kind === "bench_user" || kind === "bench_resource" || kind === "exhausted";
}

Deno.test("judge() answers anything with a verdict within its bounds, and a 401 never with numbers", async (t) => {
  const property = fc.property(status, pairs, body, url, (status, pairs, body, url) => {
    const headers = headersOf(pairs);
    const verdict = judge({ status, headers, body, url }, API);
    if ("report" in verdict) assertReport(verdict.report);
    if ("seconds" in verdict && verdict.seconds !== null) {
      assert.ok(Number.isSafeInteger(verdict.seconds) && verdict.seconds >= 1 && verdict.seconds <= 86_400);
    }
    if ("backoff" in verdict) {
      const { baseSeconds, mostSeconds } = verdict.backoff;
      assert.ok(baseSeconds >= 60 && baseSeconds <= mostSeconds && mostSeconds <= 21_600);
    }
    if ("resource" in verdict) assert.match(verdict.resource, /^[a-z0-9_]{1,64}$/);
    if (status === 401) assert.ok(verdict.kind === "suspect" || verdict.kind === "ignore");
    else assert.notEqual(verdict.kind, "suspect");
    if (status >= 500) assert.ok(verdict.kind === "usage" || verdict.kind === "ignore");
    if (isBench(verdict)) assert.ok([200, 403, 429].includes(status));
    if (verdict.kind === "usage") assert.equal(verdict.isFree, status === 304);
    // The body decides only where it is read.
    if (!needsBody(status, headers, url)) assert.deepEqual(judge({ status, headers, body: "", url }, API), verdict);
  });
  await hold(t, property, { bounded: 2500 });
});

Deno.test("judge() benches nobody for a 403 that has no mark of a limit, whatever else it says (9)", async (t) => {
  const unmarked = pairs.map((pairs) =>
    pairs.filter(([name, value]) => {
      const [header, text] = [name.toLowerCase(), value.trim()];
      return header !== "gh-limited-by" && !(header === "retry-after" && isNumber(text)) &&
        !(header === "x-ratelimit-remaining" && Number(text) === 0);
    })
  );
  const text = fc.oneof(fc.constantFrom(...OTHER_WORDS), fc.string()).filter((text) =>
    !/limit|abuse|suspended/i.test(text)
  );
  const property = fc.property(unmarked, bodiesOf(text), url, (pairs, body, url) => {
    const { kind } = judge({ status: 403, headers: headersOf(pairs), body, url }, API);
    assert.ok(kind === "usage" || kind === "ignore", kind);
  });
  await hold(t, property, { bounded: 1500 });
});

Deno.test("judge() does nothing to a token for what stands in a file that it was used to read", async (t) => {
  const path = fc.constantFrom("/repos/a/b/readme", "/users/a", "/search/code?q=a");
  const harmless = pairs.map((pairs) => pairs.filter(([name]) => !/resource|scopes/i.test(name)));
  const property = fc.property(
    fc.integer({ min: 200, max: 299 }),
    harmless,
    body,
    path,
    (status, pairs, body, path) => {
      const { kind } = judge({ status, headers: headersOf(pairs), body, url: API + path }, API);
      assert.ok(kind === "usage" || kind === "ignore", kind);
    },
  );
  await hold(t, property, { bounded: 1000 });
});

Deno.test("tokenExpiry() reads what GitHub writes, and answers null or a moment to anything", async (t) => {
  const name = "github-authentication-token-expiration";
  const moment = fc.date({ min: new Date("2020-01-01"), max: new Date("2099-12-31"), noInvalidDate: true })
    .map((date) => Math.floor(date.getTime() / 1000) * 1000);
  const offset = fc.integer({ min: -14 * 60, max: 14 * 60 });
  const property = fc.property(moment, fc.option(offset), value, (time, minutes, garbage) => {
    const at = new Date(time + (minutes ?? 0) * 60_000).toISOString();
    const [hours, rest] = [Math.floor(Math.abs(minutes ?? 0) / 60), Math.abs(minutes ?? 0) % 60];
    const two = (number: number) => String(number).padStart(2, "0");
    const zone = minutes === null ? "UTC" : `${minutes < 0 ? "-" : "+"}${two(hours)}${two(rest)}`;
    const text = `${at.slice(0, 10)} ${at.slice(11, 19)} ${zone}`;
    assert.equal(tokenExpiry(new Headers({ [name]: text })), time, text);
    for (const other of [garbage, text + garbage, text.replace(/\d/, garbage)]) {
      const read = tokenExpiry(headersOf([[name, other]]));
      assert.ok(read === null || Number.isSafeInteger(read));
    }
  });
  await hold(t, property, { bounded: 1000 });
});
