/**
 * Holds `lib/rate_limit.ts` to its promise: numbers that GitHub has written come out, everything else is null, and
 * nothing that comes over the wire makes it throw.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import {
  assertResource,
  assumedWindow,
  bringsNews,
  type CompleteReport,
  completeReport,
  parseRateLimitHeaders,
  pathOf,
  type RateLimitInfo,
  resourceOf,
} from "../lib/rate_limit.ts";
import { NUMBER_HEADERS } from "./support/fixtures.ts";

/** What is known when nothing was said. */
const NOTHING: RateLimitInfo = {
  limit: null,
  remaining: null,
  used: null,
  reset_at: null,
  resource: null,
  retry_after: null,
};

/** Parses what is not headers at all, as a program without types would. */
function parseAnything(headers: unknown): RateLimitInfo {
  return parseRateLimitHeaders(headers as Headers);
}

Deno.test("parseRateLimitHeaders() reads a recorded response", () => {
  // @octokit/fixtures 23.1.2, search-issues: GET /search/issues of 2022-07-19
  const headers = new Headers([
    ["Date", "Tue, 19 Jul 2022 04:41:07 GMT"],
    ["X-RateLimit-Limit", "30"],
    ["X-RateLimit-Remaining", "29"],
    ["X-RateLimit-Reset", "1658205727"],
    ["X-RateLimit-Used", "1"],
    ["X-RateLimit-Resource", "search"],
  ]);
  assert.deepEqual(parseRateLimitHeaders(headers), {
    limit: 30,
    remaining: 29,
    used: 1,
    reset_at: 1_658_205_727,
    resource: "search",
    retry_after: null,
  });
});

Deno.test("parseRateLimitHeaders() keeps what was said when some of it is missing", () => {
  // hub4j/github-api, AppTest/testCredentialValid of 2020: neither used nor resource were sent then
  const headers = new Headers({
    "x-ratelimit-limit": "60",
    "x-ratelimit-remaining": "59",
    "x-ratelimit-reset": "1585675435",
  });
  assert.deepEqual(parseRateLimitHeaders(headers), {
    ...NOTHING,
    limit: 60,
    remaining: 59,
    reset_at: 1_585_675_435,
  });
  assert.deepEqual(parseRateLimitHeaders(new Headers({ "retry-after": "60" })), { ...NOTHING, retry_after: 60 });
});

for (const [header, property] of NUMBER_HEADERS) {
  Deno.test(`parseRateLimitHeaders() reads ${header} only when it is at most 15 digits`, () => {
    const read = (text: string) => parseRateLimitHeaders(new Headers({ [header]: text }))[property];
    assert.equal(read("0"), 0, "0 is a number, not nothing");
    assert.equal(read("4999"), 4999);
    assert.equal(read("007"), 7);
    assert.equal(read("  42\t"), 42, "white space around a header's value is not part of it");
    for (
      const text of [
        "",
        " ",
        "-1",
        "+1",
        "1e3",
        "5.0",
        "5,000",
        "5000, 5000",
        "0x10",
        "0b1",
        "1_000",
        "NaN",
        "Infinity",
        "null",
        "5000 ms",
        "50 00",
        "1234567890123456",
        "9".repeat(400),
      ]
    ) {
      assert.equal(read(text), null, JSON.stringify(text));
    }
  });
}

Deno.test("parseRateLimitHeaders() takes 15 digits exactly, and no 16", () => {
  const read = (text: string) => parseRateLimitHeaders(new Headers({ "x-ratelimit-limit": text })).limit;
  assert.equal(read("999999999999999"), 999_999_999_999_999);
  assert.equal(read("000000000005000"), 5000);
  assert.equal(read("1000000000000000"), null);
  assert.equal(read("0000000000005000"), null);
});

Deno.test("parseRateLimitHeaders() does not know a header that was sent twice", () => {
  const headers = new Headers();
  headers.append("x-ratelimit-remaining", "5000");
  headers.append("x-ratelimit-remaining", "5000");
  assert.equal(headers.get("x-ratelimit-remaining"), "5000, 5000");
  assert.deepEqual(parseRateLimitHeaders(headers), NOTHING);
});

Deno.test("parseRateLimitHeaders() takes a reset in milliseconds for no reset at all", () => {
  const read = (text: string) => parseRateLimitHeaders(new Headers({ "x-ratelimit-reset": text })).reset_at;
  assert.equal(read("99999999999"), 99_999_999_999);
  assert.equal(read("100000000000"), null);
  assert.equal(read("1507651200000"), null, "@octokit/fixtures' normalised fixtures have this one");
  assert.equal(read("999999999999999"), null);
});

Deno.test("parseRateLimitHeaders() knows retry-after in seconds, not as a date", () => {
  const read = (text: string) => parseRateLimitHeaders(new Headers({ "retry-after": text })).retry_after;
  assert.equal(read("8"), 8);
  assert.equal(read("Wed, 21 Oct 2026 07:28:00 GMT"), null);
});

Deno.test("parseRateLimitHeaders() takes any resource that GitHub could name, and no other text", () => {
  const read = (text: string) => parseRateLimitHeaders(new Headers({ "x-ratelimit-resource": text })).resource;
  for (const name of ["core", "code_search", "audit_log_streaming", "v2_things", "a", "a".repeat(64)]) {
    assert.equal(read(name), name);
  }
  for (const text of ["", "Core", "a".repeat(65), "core, core", "core search", "core-2", "c'; DROP TABLE x", "__é"]) {
    assert.equal(read(text), null, JSON.stringify(text));
  }
});

Deno.test("parseRateLimitHeaders() reads plain objects and lists of pairs, in any case", () => {
  const limit = { ...NOTHING, limit: 5000 };
  assert.deepEqual(parseAnything({ "X-RateLimit-Limit": "5000" }), limit);
  assert.deepEqual(parseAnything({ "X-Ratelimit-Limit": 5000 }), limit);
  assert.deepEqual(parseAnything([["x-ratelimit-limit", "5000"]]), limit);
  assert.deepEqual(parseAnything(new Map([["x-ratelimit-limit", "5000"]])), limit);
});

Deno.test("parseRateLimitHeaders() answers with nulls to what is not headers", () => {
  const throwing = {
    get "x-ratelimit-limit"(): string {
      throw new Error("not for you");
    },
  };
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  for (
    const [name, value] of Object.entries({
      undefined: undefined,
      null: null,
      number: 42,
      bigint: 5000n,
      text: "x-ratelimit-limit: 5000",
      boolean: true,
      symbol: Symbol("x-ratelimit-limit"),
      function: () => "5000",
      empty: {},
      "no pairs": [["x-ratelimit-limit"]],
      "no list of pairs": [5000],
      "bad name": { "x ratelimit limit": "5000" },
      "bad value": { "x-ratelimit-limit": "5000\n" + "x: y" },
      "digit of another script": { "x-ratelimit-limit": "٣" },
      "value that is no text": { "x-ratelimit-limit": Symbol("5000") },
      "object without prototype": Object.create(null),
      "revoked proxy": revoked.proxy,
      "throwing getter": throwing,
      "body of a response": new Response("5000"),
      date: new Date(0),
    })
  ) {
    assert.deepEqual(parseAnything(value), NOTHING, name);
  }
});

Deno.test("parseRateLimitHeaders() does not throw when what looks like Headers does", () => {
  class BrokenHeaders extends Headers {
    override get(): string | null {
      throw new Error("the body of this response was taken away");
    }
  }
  assert.deepEqual(parseAnything(new BrokenHeaders()), NOTHING);
  class OddHeaders extends Headers {
    override get(): string | null {
      return { toString: () => assert.fail("this is no text") } as unknown as string;
    }
  }
  assert.deepEqual(parseAnything(new OddHeaders()), NOTHING, "what it answers is no text");
  assert.deepEqual(parseAnything(Object.create(Headers.prototype)), NOTHING, "it has the prototype but no list");
});

/** Header values: bytes of any kind, and often what comes close to a number. */
const headerValue = fc.oneof(
  fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((byte) => String.fromCharCode(byte)) }),
  fc.nat().map(String),
  fc.bigInt({ min: 0n, max: 10n ** 20n }).map(String),
  fc.double().map(String),
  fc.integer({ min: 1, max: 16 }).map((length) => "9".repeat(length)),
  fc.stringMatching(/^[ \t]*[+-]?\d{0,17}[.,e]?\d{0,3}[ \t]*$/),
);

const anyHeaders = fc.array(
  fc.tuple(
    fc.constantFrom(...NUMBER_HEADERS.map(([header]) => header), "x-ratelimit-resource", "X-RateLimit-Limit", "date"),
    headerValue,
  ),
  { maxLength: 8 },
);

Deno.test("parseRateLimitHeaders() never throws, and never gives a number that is not in the headers", () => {
  fc.assert(
    fc.property(anyHeaders, (pairs) => {
      const headers = new Headers();
      for (const [name, value] of pairs) {
        try {
          headers.append(name, value);
        } catch {
          continue; // the platform does not let these bytes into a header
        }
      }
      const info = parseRateLimitHeaders(headers);
      for (const [header, property] of NUMBER_HEADERS) {
        const number = info[property];
        if (number === null) continue;
        const text = headers.get(header) ?? "";
        assert.equal(text.replace(/^0+(?=\d)/, ""), String(number), `${header}: ${text}`);
        assert.ok(Number.isSafeInteger(number) && number >= 0);
      }
      if (info.reset_at !== null) assert.ok(info.reset_at < 1e11);
      if (info.resource !== null) assert.equal(info.resource, headers.get("x-ratelimit-resource"));
    }),
    { numRuns: 3000 },
  );
});

Deno.test("parseRateLimitHeaders() never throws, whatever it is given", () => {
  fc.assert(
    fc.property(fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true }), (value) => {
      assert.deepEqual(Object.keys(parseAnything(value)), Object.keys(NOTHING));
    }),
    { numRuns: 1000 },
  );
});

const COMPLETE: RateLimitInfo = {
  limit: 5000,
  remaining: 4990,
  used: 10,
  reset_at: 1_795_003_600,
  resource: "core",
  retry_after: null,
};

Deno.test("completeReport() is a report when limit, remaining and reset are known", () => {
  const report = { resource: "core", limit: 5000, remaining: 4990, resetAt: 1_795_003_600 };
  assert.deepEqual(completeReport(COMPLETE, "search"), report);
  assert.deepEqual(completeReport({ ...COMPLETE, used: null }, "search"), report);
  assert.deepEqual(completeReport({ ...COMPLETE, remaining: 0 }, "search"), { ...report, remaining: 0 });
});

Deno.test("completeReport() charges the bucket that GitHub named, else the one that is given", () => {
  assert.equal(completeReport({ ...COMPLETE, resource: "graphql" }, "core")?.resource, "graphql");
  assert.equal(completeReport({ ...COMPLETE, resource: null }, "search")?.resource, "search");
  assert.equal(completeReport({ ...COMPLETE, resource: null }, "No Bucket"), null);
  assert.equal(completeReport({ ...COMPLETE, resource: "No Bucket" }, "core"), null);
});

Deno.test("completeReport() never says that more remains than the limit", () => {
  assert.equal(completeReport({ ...COMPLETE, remaining: 5001 }, "core")?.remaining, 5000);
  assert.equal(completeReport({ ...COMPLETE, remaining: 999_999_999_999_999 }, "core")?.remaining, 5000);
});

Deno.test("completeReport() is null when a number is missing or absurd", () => {
  const absurd: Partial<RateLimitInfo>[] = [
    { limit: null },
    { remaining: null },
    { reset_at: null },
    { limit: 0 },
    { limit: -5000 },
    { limit: 4999.5 },
    { limit: NaN },
    { limit: Infinity },
    { limit: 1e15 },
    { remaining: -1 },
    { remaining: 0.5 },
    { remaining: NaN },
    { reset_at: -1 },
    { reset_at: 1e11 },
    { reset_at: 1_795_003_600_000 },
    { reset_at: 1_795_003_600.5 },
  ];
  for (const changes of absurd) {
    assert.equal(completeReport({ ...COMPLETE, ...changes }, "core"), null, JSON.stringify(changes));
  }
  for (const value of ["5000", true, {}, [5000], undefined, 5000n]) {
    // reportUsage() of a program without types ends here
    const limit = value as unknown as number;
    assert.equal(completeReport({ ...COMPLETE, limit }, "core"), null, String(value));
  }
});

Deno.test("bringsNews() is false only for what the hand-out already implied", () => {
  const known = { limit: 5000, remaining: 4000, resetAt: 1_795_003_600 };
  const report = (changes: Partial<CompleteReport> = {}): CompleteReport => ({
    resource: "core",
    limit: 5000,
    remaining: 4000,
    resetAt: 1_795_003_600,
    ...changes,
  });
  assert.equal(bringsNews(report(), known), false, "the same");
  assert.equal(bringsNews(report({ remaining: 4001 }), known), false, "more remains than is known: late or a race");
  assert.equal(bringsNews(report({ remaining: 3999 }), known), true, "somebody else uses this limit");
  assert.equal(bringsNews(report({ resetAt: 1_795_003_601 }), known), true, "the later reset counts");
  assert.equal(bringsNews(report({ resetAt: 1_795_003_599 }), known), false, "the later reset is known already");
  assert.equal(bringsNews(report({ resetAt: 1_795_007_200, remaining: 5000 }), known), true, "a newer window");
  assert.equal(bringsNews(report({ limit: 15_000, remaining: 14_000 }), known), true, "another limit");
  assert.equal(bringsNews(report(), undefined), true, "nothing is remembered");
  assert.equal(bringsNews(report(), { ...known, resetAt: null }), true, "the window was provisional");
  assert.equal(bringsNews(report(), { ...known, limit: null }), true, "the limit was assumed");
});

Deno.test("resourceOf() tells the bucket by the path", () => {
  const resources = {
    "https://api.github.com/": "core",
    "https://api.github.com/repos/denoland/deno": "core",
    "https://api.github.com/rate_limit": "core",
    "https://api.github.com/repos/search/code": "core",
    "https://api.github.com/users/graphql": "core",
    "https://api.github.com/repos/a/b?q=/search/code": "core",
    "https://api.github.com/graphql": "graphql",
    "https://api.github.com/graphql?x=1#y": "graphql",
    "https://api.github.com/search/code?q=deno": "code_search",
    "https://api.github.com/search/issues?q=deno": "search",
    "https://api.github.com/search/repositories": "search",
    "https://github.example/api/graphql": "graphql",
    "https://github.example/api/v3/search/code": "code_search",
    "https://github.example/api/v3/search/users": "search",
    "https://github.example/api/v3/user": "core",
    "": "core",
    "/search/code": "core",
    "no url": "core",
  };
  for (const [url, resource] of Object.entries(resources)) assert.equal(resourceOf(url), resource, url);
  assert.equal(resourceOf(null), "core");
});

Deno.test("pathOf() is the path without the prefix of GitHub Enterprise Server", () => {
  assert.equal(pathOf("https://api.github.com/user?x=1#y"), "/user");
  assert.equal(pathOf("https://github.example/api/v3/user"), "/user");
  assert.equal(pathOf("https://github.example/api/graphql"), "/graphql");
  assert.equal(pathOf("https://api.github.com/repos/api/v3/x"), "/repos/api/v3/x");
  assert.equal(pathOf("https://api.github.com/apis/x"), "/apis/x");
  assert.equal(pathOf(null), "");
  assert.equal(pathOf(""), "");
  assert.equal(pathOf("/user"), "");
  assert.equal(pathOf("http://"), "");
});

Deno.test("assumedWindow() is what GitHub documents, and the least for a name that nobody knows", () => {
  const [hour, minute] = [3_600_000, 60_000];
  assert.deepEqual(assumedWindow("core"), { calls: 5000, windowMs: hour });
  assert.deepEqual(assumedWindow("graphql"), { calls: 5000, windowMs: hour });
  assert.deepEqual(assumedWindow("search"), { calls: 30, windowMs: minute });
  assert.deepEqual(assumedWindow("code_search"), { calls: 9, windowMs: minute });
  for (const name of ["audit_log", "", "constructor", "__proto__", "toString"]) {
    assert.deepEqual(assumedWindow(name), { calls: 60, windowMs: hour }, name);
  }
});

Deno.test("assertResource() tells a wrong type from a wrong name, and echoes neither", () => {
  for (const name of ["core", "code_search", "0", "_", "a".repeat(64)]) assertResource(name);
  for (const value of [undefined, null, 42, {}, ["core"], Symbol("core"), new String("core")]) {
    assert.throws(() => assertResource(value), TypeError, typeof value);
  }
  for (const name of ["", "Core", "core ", "core\n", "a".repeat(65), "co-re", "core;", "cöre"]) {
    assert.throws(
      () => assertResource(name),
      (error) => error instanceof RangeError && (name.trim() === "" || !error.message.includes(name)),
      JSON.stringify(name),
    );
  }
});
