/**
 * Anything that can be sent to the service, honest visits whose cookies and callbacks are bent, and what happens around.
 *
 * @module
 */

import fc from "npm:fast-check@4.10.2";
import { MARK } from "../support/canaries.ts";

/** What must not come back, wherever it was put. */
export const CANARY = `gho_${MARK}0123456789abcdef`;

export const ORIGIN = "https://pool.example";

const PATHS = [
  ...["/", "/auth", "/callback", "/thanks", "/withdraw", "/donation", "/status", "/metrics", "/badge.json", "/healthz"],
  ...["/style.css", "/favicon.svg", "/og.png", "/callback/", "//callback", "/CALLBACK", "/callback%00", "/%63allback"],
  ...[
    "/callback/../auth",
    "/.env",
    "/token-pool.db",
    "/__proto__",
    "/constructor",
    `/${CANARY}`,
    "/%",
    "/%ff%fe",
    "/*",
  ],
];

/** What has hurt parsers before. */
const NASTY = [
  ...["", " ", "0", "-1", "1e309", "NaN", "null", "true", "__proto__", "constructor", "[object Object]", "%", "%00"],
  ...["%zz", "\u0000", "\r\nset-cookie: a=b", "..%2f..%2f", "<script>alert(1)</script>", "' OR 1=1 --", "\ud800", "😀"],
  ...[
    "a".repeat(5000),
    "%F0%9F%98%80",
    "{}",
    "[]",
    '{"state":"x"}',
    "v1.00000000.AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAA",
  ],
  ...[CANARY, `Bearer ${CANARY}`, "https://evil.example/", "//evil.example", "javascript:alert(1)"],
];

const nasty = fc.oneof(fc.constantFrom(...NASTY), fc.string(), fc.string({ unit: "binary", maxLength: 200 }));

const METHODS = [
  "GET",
  "GET",
  "GET",
  "POST",
  "POST",
  "HEAD",
  "OPTIONS",
  "PUT",
  "DELETE",
  "PATCH",
  "PROPFIND",
  "get",
  "B",
];

const pathname = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...PATHS) },
  fc.tuple(fc.constantFrom(...PATHS), nasty).map(([path, more]) => `${path}/${more}`),
  nasty.map((text) => `/${text}`),
  fc.webPath({ size: "large" }).map((path) => path || "/"),
);

const PARAMETERS = ["state", "code", "error", "error_description", "reserve", "do", "return_to", "__proto__"];

/** What GitHub may say at the callback. */
const REFUSALS = [
  ...["access_denied", "redirect_uri_mismatch", "incorrect_client_credentials", "application_suspended"],
  ...["unverified_user_email", "bad_verification_code"],
];

const parameters = fc.array(
  fc.tuple(
    fc.oneof(fc.constantFrom(...PARAMETERS), nasty),
    fc.oneof(
      nasty,
      fc.constantFrom("0.5", "0.25", "pause", "resume", "reserve", "forget"),
      fc.constantFrom(...REFUSALS),
    ),
  ),
  { maxLength: 6 },
);

const query = fc.oneof(
  parameters.map((pairs) => pairs.map((pair) => pair.join("=")).join("&")), // as it is
  parameters.map((pairs) => pairs.map((pair) => pair.map((text) => encodeURIComponent(text.toWellFormed()))))
    .map((pairs) => pairs.map((pair) => pair.join("=")).join("&")),
);

const HEADERS = [
  ...["accept", "accept-encoding", "authorization", "content-length", "content-type", "cookie", "forwarded", "host"],
  ...["if-match", "if-modified-since", "if-none-match", "origin", "range", "referer", "sec-fetch-site", "user-agent"],
  ...[
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-http-method-override",
  ],
];

const headers = fc.array(
  fc.tuple(
    fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...HEADERS) }, fc.string()),
    fc.oneof(
      nasty,
      fc.constantFrom(
        "*",
        "same-origin",
        "cross-site",
        "none",
        ORIGIN,
        "https://evil.example",
        "text/plain; version=1",
      ),
      fc.constantFrom("application/openmetrics-text", 'W/"x", "y"', "application/x-www-form-urlencoded", "gzip"),
    ),
  ),
  { maxLength: 5 },
);

/** A cookie that the app has sealed, by its number, and what is done to it. */
export interface BentCookie {
  which: number;
  /** Sent under the name of another one. */
  name: number;
  bend: "as it is" | "one bit" | "cut" | "twice" | "other name" | "quoted";
  at: number;
}

const bentCookie: fc.Arbitrary<BentCookie> = fc.record({
  which: fc.nat(),
  name: fc.nat(),
  bend: fc.constantFrom("as it is", "as it is", "one bit", "cut", "twice", "other name", "quoted"),
  at: fc.nat(),
});

const COOKIE_NAMES = [
  "token_pool_transaction_",
  "token_pool_transaction_AAAAAAAA",
  "token_pool_identity",
  "token_pool_flash",
];

const cookies = fc.record({
  sealed: fc.array(bentCookie, { maxLength: 3 }),
  others: fc.array(
    fc.tuple(
      fc.constantFrom("", "__Host-", "__Secure-"),
      fc.oneof(fc.constantFrom(...COOKIE_NAMES), nasty),
      nasty,
    ).map(([prefix, name, value]) => `${prefix}${name}=${value}`),
    { maxLength: 3 },
  ),
});

const request = fc.record({
  kind: fc.constant("request" as const),
  method: fc.constantFrom(...METHODS),
  pathname,
  query,
  headers,
  cookies,
  body: fc.option(fc.oneof(nasty, query, fc.uint8Array({ maxLength: 2000 }), fc.constant("do=pause&".repeat(120)))),
  address: fc.option(fc.oneof(fc.ipV4(), fc.ipV6(), nasty)),
});

/** An honest visit, up to a callback that is bent. */
const visit = fc.record({
  kind: fc.constant("visit" as const),
  purpose: fc.constantFrom("donate", "withdraw", "manage"),
  login: fc.constantFrom("ada", "bob"),
  deny: fc.constantFrom(false, false, false, true),
  scope: fc.constantFrom("", "", "", "repo"),
  bend: fc.constantFrom("none", "none", "none", "state", "code", "twice", "no cookie", "other cookie", "again"),
  changes: fc.option(query, { freq: 2 }),
  /** What goes away while the person is at GitHub. */
  without: fc.constantFrom(...["nothing", "nothing", "user", "revocation", "exchange", "database"] as const),
});

/** A donor, who is known or makes themselves known, presses a button. */
const change = fc.record({
  kind: fc.constant("change" as const),
  login: fc.constantFrom("ada", "bob"),
  form: fc.oneof(
    fc.constantFrom(
      "do=pause",
      "do=resume",
      "do=reserve&reserve=0.5",
      "do=reserve&reserve=1",
      "do=reserve",
      "do=forget",
    ),
    query,
  ),
});

/** How the operator has set it up; mostly well. */
const SETTINGS = ["whole", "whole", "whole", "on localhost", "disabled", "half", "another key", "malformed"] as const;

const world = fc.record({
  kind: fc.constant("world" as const),
  github: fc.constantFrom(null, null, { answer: "nothing" as const }, { answer: 502 }, { answer: 200 }),
  isDatabaseAway: fc.constantFrom(false, false, true),
  settings: fc.constantFrom(...SETTINGS),
  /** Whether GitHub's answer to a consumer makes the next token in the queue a suspect. */
  is401: fc.boolean(),
  areTokensExpiring: fc.boolean(),
  advanceMs: fc.constantFrom(0, 1000, 16_000, 61_000, 601_000, 3_700_000),
});

/** What is done to a service. */
export const step = fc.oneof(
  { weight: 12, arbitrary: request },
  { weight: 3, arbitrary: visit },
  { weight: 2, arbitrary: change },
  { weight: 1, arbitrary: world },
);

/** One of them. */
export type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
