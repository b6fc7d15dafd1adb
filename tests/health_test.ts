/**
 * Holds `lib/health.ts` to the decision table: for each row responses that GitHub has sent or documents, with where
 * they are from, and around them the edges at which a pool has been hurt before.
 *
 * Origins are short: `rl.md`, `oauth.md` = docs.github.com's pages on rate limits and on OAuth Apps; `fx` = npm
 * @octokit/fixtures 23.1.2; `hub4j` = the WireMock recordings of hub4j/github-api; `orb` = octokit/octokit.rb; the rest
 * are public threads; `the table` = a row of the decision table of which nothing is recorded. Numbers are evened out, and
 * `x-oauth-scopes` is empty, as it is for pooled tokens.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { judge, needsBody, type Observation, tokenExpiry, type Verdict } from "../lib/health.ts";
import type { CompleteReport } from "../lib/rate_limit.ts";
import { limitHeaders } from "./support/fixtures.ts";

const API = "https://api.github.com";
const REPOSITORY = `${API}/repos/octokit-fixture-org/hello-world`;
const GRAPHQL = `${API}/graphql`;
const SEARCH = `${API}/search/issues?q=deno`;
const RESET = 1_795_003_600;

const SECONDARY_TEXT = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
const SECONDARY_URL =
  "https://docs.github.com/free-pro-team@latest/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits";
const PRIMARY_TEXT =
  "API rate limit exceeded for user ID 9535539. If you reach out to GitHub Support for help, please " +
  "include the request ID 1C45:12F767:6C7E73:D8C627:6814705C and timestamp 2025-05-02 07:12:28 UTC.";
const ANONYMOUS_TEXT =
  "API rate limit exceeded for 93.185.106.128. (But here's the good news: Authenticated requests " +
  "get a higher rate limit. Check out the documentation for more details.)";

/** A response of row `row`. */
interface Case {
  row: number;
  what: string;
  origin: string;
  status: number;
  headers?: Record<string, string>;
  body?: unknown;
  /** Default {@linkcode REPOSITORY}; null when it is not known. */
  url?: string | null;
  verdict: Verdict;
}

const core = limitHeaders(5000, 4968, RESET);
const coreReport: CompleteReport = { resource: "core", limit: 5000, remaining: 4968, resetAt: RESET };
const emptyCore = limitHeaders(5000, 0, RESET);
const graphql = limitHeaders(5000, 4990, RESET, "graphql");
const graphqlReport: CompleteReport = { resource: "graphql", limit: 5000, remaining: 4990, resetAt: RESET };
const search = limitHeaders(30, 21, RESET, "search");
const searchReport: CompleteReport = { resource: "search", limit: 30, remaining: 21, resetAt: RESET };
/** What GitHub sends to who is not logged in; recorded with every 401. */
const anonymous = { "x-ratelimit-limit": "60", "x-ratelimit-remaining": "59", "x-ratelimit-reset": "1585675435" };

const IGNORE: Verdict = { kind: "ignore" };
const SUSPECT: Verdict = { kind: "suspect" };
const SECONDARY_BACKOFF = { baseSeconds: 60, mostSeconds: 3600 };

function benchUser(seconds: number | null, report: CompleteReport | null): Verdict {
  return { kind: "bench_user", seconds, backoff: SECONDARY_BACKOFF, report };
}

function kept(report: CompleteReport | null, changes: { isFree?: boolean; isSuccess?: boolean } = {}): Verdict {
  return { kind: "usage", report, isFree: false, isSuccess: true, ...changes };
}

function refused(report: CompleteReport | null): Verdict {
  return kept(report, { isSuccess: false });
}

const CASES: Case[] = [
  {
    row: 1,
    what: "a token check costs the app's bucket, whose numbers are not the donor's",
    origin: "orb Octokit_Client_OauthApplications",
    status: 200,
    headers: limitHeaders(5000, 4986, RESET),
    url: `${API}/applications/Iv1.0123456789abcdef/token`,
    verdict: IGNORE,
  },
  {
    row: 1,
    what: "a token check that finds nothing",
    origin: "orb Octokit_Client_OauthApplications",
    status: 404,
    headers: limitHeaders(5000, 4984, RESET),
    body: { message: "Not Found" },
    url: `${API}/applications/Iv1.0123456789abcdef/token`,
    verdict: IGNORE,
  },
  {
    row: 1,
    what: "wrong credentials of the app itself",
    origin: "the table",
    status: 401,
    headers: anonymous,
    body: { message: "Bad credentials" },
    url: `${API}/applications/Iv1.0123456789abcdef/grant`,
    verdict: IGNORE,
  },
  {
    row: 1,
    what: "the token endpoint",
    origin: "oauth.md",
    status: 200,
    body: { error: "bad_verification_code" },
    url: "https://github.com/login/oauth/access_token",
    verdict: IGNORE,
  },
  {
    row: 1,
    what: "mass revocation refuses who is logged in",
    origin: "GitHub's OpenAPI description",
    status: 403,
    headers: emptyCore,
    url: `${API}/credentials/revoke`,
    verdict: IGNORE,
  },
  {
    row: 1,
    what: "an archive from codeload.github.com",
    origin: "fx get-archive",
    status: 200,
    headers: { "content-type": "application/x-gzip", date: "Wed, 24 Jan 2024 20:49:22 GMT" },
    url: "https://codeload.github.com/octokit-fixture-org/hello-world/legacy.tar.gz/refs/heads/main",
    verdict: IGNORE,
  },
  {
    row: 1,
    what: "an upload to uploads.github.com, which names scopes but no limits",
    origin: "fx release-assets",
    status: 201,
    headers: { "x-oauth-scopes": "" },
    url: "https://uploads.github.com/repos/octokit-fixture-org/hello-world/releases/72286832/assets?name=a.txt",
    verdict: IGNORE,
  },
  {
    row: 2,
    what: "no credentials were sent",
    origin: "GitHub's OpenAPI description of 401",
    status: 401,
    headers: anonymous,
    body: { message: "Requires authentication", documentation_url: "https://docs.github.com/rest" },
    verdict: IGNORE,
  },
  {
    row: 2,
    what: "a one-time password is asked for",
    origin: "hub4j",
    status: 401,
    headers: { ...anonymous, "x-github-otp": "required; app" },
    body: { message: "Must specify two-factor authentication OTP code." },
    verdict: IGNORE,
  },
  {
    row: 2,
    what: "a JWT was sent",
    origin: "hub4j",
    status: 401,
    headers: anonymous,
    body: { message: "A JSON web token could not be decoded" },
    verdict: IGNORE,
  },
  {
    row: 3,
    what: "an access token of eight hours is over; to refresh it is upkeep's business",
    origin: "oauth.md",
    status: 401,
    headers: anonymous,
    body: { message: "Bad credentials", documentation_url: "https://docs.github.com/rest", status: "401" },
    verdict: SUSPECT,
  },
  {
    row: 4,
    what: "a revoked token, with the anonymous bucket's numbers",
    origin: "hub4j AppTest/testCredentialValid 3-rate_limit.json",
    status: 401,
    headers: anonymous,
    body: { message: "Bad credentials", documentation_url: "https://developer.github.com/v3" },
    url: `${API}/rate_limit`,
    verdict: SUSPECT,
  },
  {
    row: 4,
    what: "a body that is empty or could not be read",
    origin: "the table",
    status: 401,
    headers: {},
    body: "",
    verdict: SUSPECT,
  },
  {
    row: 4,
    what: "a body that is HTML",
    origin: "the table",
    status: 401,
    headers: {},
    body: "<!DOCTYPE html><title>401</title>",
    verdict: SUSPECT,
  },
  {
    row: 4,
    what: "a 401 with the numbers of a full bucket is no less a 401",
    origin: "the table",
    status: 401,
    headers: core,
    body: { message: "Bad credentials" },
    url: null,
    verdict: SUSPECT,
  },
  {
    row: 5,
    what: "a suspended account",
    origin: "sourcegraph/sourcegraph#16638, badges/shields#7654",
    status: 403,
    headers: core,
    body: { message: "Sorry. Your account was suspended." },
    verdict: { kind: "remove", reason: "account_suspended" },
  },
  {
    row: 5,
    what: "a suspended account asks GraphQL: a message and no data",
    origin: "badges/shields, github-api-provider.js",
    status: 403,
    headers: {},
    body: { message: "Sorry. Your account was suspended" },
    url: GRAPHQL,
    verdict: { kind: "remove", reason: "account_suspended" },
  },
  {
    row: 6,
    what: "too many failed logins block every login of the user for a while",
    origin: "docs.github.com, authenticating to the REST API, failed login limit",
    status: 403,
    headers: anonymous,
    body: { message: "Maximum number of login attempts exceeded. Please try again later." },
    verdict: {
      kind: "bench_user",
      seconds: null,
      backoff: { baseSeconds: 900, mostSeconds: 21_600 },
      report: null,
    },
  },
  {
    row: 7,
    what: "the caller sent no token, and its address has used up its 60",
    origin: "paseo-cafe#31",
    status: 403,
    headers: { "x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(RESET) },
    body: {
      message: ANONYMOUS_TEXT,
      documentation_url: "https://docs.github.com/rest/overview/resources-in-the-rest-api#rate-limiting",
    },
    verdict: IGNORE,
  },
  {
    row: 7,
    what: "the same without headers",
    origin: "paseo-cafe#31",
    status: 429,
    body: { message: ANONYMOUS_TEXT },
    verdict: IGNORE,
  },
  {
    row: 7,
    what: "an anonymous success",
    origin: "rl.md",
    status: 200,
    headers: { ...anonymous, "x-ratelimit-resource": "core" },
    verdict: IGNORE,
  },
  {
    row: 8,
    what: "a secondary limit that says how long, without numbers",
    origin: "hub4j testHandler_Wait_Secondary_Limits_Too_Many_Requests",
    status: 429,
    headers: { "retry-after": "8", "x-oauth-scopes": "" },
    body: { message: "You have exceeded a secondary rate limit. Please wait a few minutes before you try again" },
    verdict: benchUser(8, null),
  },
  {
    row: 8,
    what: "a secondary limit that says how long, with numbers to take in",
    origin: "rl.md",
    status: 403,
    headers: { ...core, "retry-after": "60" },
    body: { message: SECONDARY_TEXT, documentation_url: SECONDARY_URL },
    verdict: benchUser(60, coreReport),
  },
  {
    row: 8,
    what: "a retry-after is a marker by itself",
    origin: "google/go-github, CheckResponse",
    status: 403,
    headers: { ...core, "retry-after": "30" },
    body: "",
    verdict: benchUser(30, coreReport),
  },
  {
    row: 8,
    what: "GraphQL's secondary limit as a 200",
    origin: "docs.github.com, rate limits and query limits for the GraphQL API",
    status: 200,
    headers: { ...graphql, "retry-after": "120" },
    body: { message: SECONDARY_TEXT, documentation_url: SECONDARY_URL },
    url: GRAPHQL,
    verdict: benchUser(120, graphqlReport),
  },
  {
    row: 9,
    what: "only the bucket of searches is empty",
    origin: "zerocracy/judges-action#589",
    status: 403,
    headers: limitHeaders(30, 0, RESET, "search"),
    body: { message: PRIMARY_TEXT },
    url: SEARCH,
    verdict: { kind: "exhausted", report: { resource: "search", limit: 30, remaining: 0, resetAt: RESET } },
  },
  {
    row: 9,
    what: "the hour is used up",
    origin: "rl.md",
    status: 429,
    headers: emptyCore,
    body: { message: PRIMARY_TEXT },
    verdict: { kind: "exhausted", report: { ...coreReport, remaining: 0 } },
  },
  {
    row: 9,
    what: "nothing remains, whatever the body says",
    origin: "hub4j RateLimitHandlerTest",
    status: 403,
    headers: emptyCore,
    body: { message: "Must have push access to repository" },
    verdict: { kind: "exhausted", report: { ...coreReport, remaining: 0 } },
  },
  {
    row: 9,
    what: "a secondary limit without retry-after when nothing remains lasts until the reset",
    origin: "rl.md",
    status: 403,
    headers: emptyCore,
    body: { message: SECONDARY_TEXT },
    verdict: { kind: "exhausted", report: { ...coreReport, remaining: 0 } },
  },
  {
    row: 10,
    what: "GraphQL's points are used up: a 200 with an error",
    origin: "docs.github.com, rate limits and query limits for the GraphQL API",
    status: 200,
    headers: limitHeaders(5000, 0, RESET, "graphql"),
    body: { errors: [{ type: "RATE_LIMITED", message: "API rate limit already exceeded for user ID 9535539." }] },
    url: GRAPHQL,
    verdict: { kind: "exhausted", report: { ...graphqlReport, remaining: 0 } },
  },
  {
    row: 10,
    what: "GraphQL's older name of the error, with numbers that lag",
    origin: "the table",
    status: 200,
    headers: graphql,
    body: { data: null, errors: [{ type: "RATE_LIMIT", message: "API rate limit exceeded" }] },
    url: GRAPHQL,
    verdict: { kind: "exhausted", report: { ...graphqlReport, remaining: 0 } },
  },
  {
    row: 10,
    what: "the last points of the hour were enough: an answer, whose numbers say the rest",
    origin: "docs.github.com, rate limits and query limits for the GraphQL API",
    status: 200,
    headers: limitHeaders(5000, 0, RESET, "graphql"),
    body: { data: { viewer: { login: "octocat" } } },
    url: GRAPHQL,
    verdict: kept({ ...graphqlReport, remaining: 0 }),
  },
  {
    row: 11,
    what: "a secondary limit that only its body tells of",
    origin: "hub4j testHandler_Wait_Secondary_Limits_Body_Marker_Only",
    status: 403,
    headers: search,
    body: { message: SECONDARY_TEXT, documentation_url: SECONDARY_URL },
    url: SEARCH,
    verdict: benchUser(null, searchReport),
  },
  {
    row: 11,
    what: "the same with 14 remaining",
    origin: "KnpLabs/php-github-api#1072",
    status: 403,
    headers: limitHeaders(30, 14, RESET, "search"),
    body: { message: SECONDARY_TEXT },
    url: SEARCH,
    verdict: benchUser(null, { ...searchReport, remaining: 14 }),
  },
  {
    row: 11,
    what: "too much content was created",
    origin: "peter-evans/create-pull-request#2062",
    status: 403,
    headers: core,
    body: {
      message: "You have exceeded a secondary rate limit and have been temporarily blocked from content creation. " +
        "Please retry your request again later.",
    },
    verdict: benchUser(null, coreReport),
  },
  {
    row: 11,
    what: "the older wording",
    origin: "octokit/plugin-throttling.js",
    status: 403,
    body: {
      message: "You have triggered an abuse detection mechanism. Please wait a few minutes before you try again.",
    },
    verdict: benchUser(null, null),
  },
  {
    row: 11,
    what: "only the link tells",
    origin: "google/go-github, CheckResponse",
    status: 403,
    body: { message: "Forbidden", documentation_url: "https://docs.github.com/rest/overview#abuse-rate-limits" },
    verdict: benchUser(null, null),
  },
  {
    row: 11,
    what: "only gh-limited-by tells",
    origin: "hub4j GitHubAbuseLimitHandler",
    status: 403,
    headers: { ...search, "gh-limited-by": "search-elapsed-time-shared-grouped" },
    body: "",
    url: SEARCH,
    verdict: benchUser(null, searchReport),
  },
  {
    row: 11,
    what: "GraphQL's secondary limit as a 200 that does not say how long",
    origin: "docs.github.com, rate limits and query limits for the GraphQL API",
    status: 200,
    headers: graphql,
    body: { message: SECONDARY_TEXT, documentation_url: SECONDARY_URL },
    url: GRAPHQL,
    verdict: benchUser(null, graphqlReport),
  },
  {
    row: 12,
    what: "a 429 in HTML",
    origin: "the table",
    status: 429,
    headers: { "content-type": "text/html" },
    body: "<!DOCTYPE html><html><head><title>Rate limit &middot; GitHub</title></head><body>Whoa there!</body></html>",
    verdict: benchUser(null, null),
  },
  {
    row: 12,
    what: "a 429 that says nothing",
    origin: "hub4j testHandler_Wait_Secondary_Limits_Too_Many_Requests_No_Retry_After",
    status: 429,
    body: "",
    url: null,
    verdict: benchUser(null, null),
  },
  {
    row: 12,
    what: "a 429 whose retry-after is a date",
    origin: "hub4j testHandler_Wait_Secondary_Limits_Too_Many_Requests_Date_Retry_After",
    status: 429,
    headers: { "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT" },
    body: "",
    verdict: benchUser(null, null),
  },
  {
    row: 13,
    what: "the hour is used up, but by how much and until when is not said",
    origin: "zerocracy/judges-action#589",
    status: 403,
    headers: {},
    body: { message: PRIMARY_TEXT },
    verdict: { kind: "bench_resource", resource: "core", seconds: null, backoff: SECONDARY_BACKOFF },
  },
  ...[
    [
      "SAML",
      "docs.github.com, SAML and the REST API",
      "Resource protected by organization SAML enforcement. You must grant your OAuth token access to this organization.",
    ],
    [
      "OAuth App restrictions",
      "Mergifyio/mergify-engine, many",
      "Although you appear to have the correct authorization credentials, the `acme` organization has enabled OAuth App " +
      "access restrictions, meaning that data access to third-parties is limited.",
    ],
    [
      "an IP allow list",
      "many",
      "Although you appear to have the correct authorization credentials, the `acme` organization has an IP allow list " +
      "enabled, and 93.185.106.128 is not permitted to access this resource.",
    ],
    ["not accessible by integration", "docs.github.com, troubleshooting", "Resource not accessible by integration"],
    ["not accessible by a PAT", "docs.github.com, troubleshooting", "Resource not accessible by personal access token"],
    ["push access", "hub4j", "Must have push access to repository"],
    ["collaborators", "hub4j", "Must have push access to view collaborator permission."],
    ["admin rights", "the table", "Must have admin rights to Repository."],
    [
      "a blob that is too large",
      "orb error.rb",
      "This API returns blobs up to 1 MB in size. The requested blob is too large to fetch via the API, but you can use " +
      "the Git Data API to request blobs up to 100 MB in size.",
    ],
    ["a blocked repository", "orb error.rb", "Repository access blocked"],
    ["an address that is not verified", "orb error.rb", "At least one email address must be verified to do that."],
    ["a billing issue", "orb error.rb, by its pattern", "We could not complete this because of a billing issue."],
    ["a suspended installation", "orb error.rb", "This installation has been suspended"],
    ["a limit that is the app's own", "gitterHQ/webapp#2427", "API rate limit exceeded for app ID 1234567."],
  ].map(([what, origin, message]): Case => ({
    row: 14,
    what: `a 403 about ${what} is the caller's problem`,
    origin: origin!,
    status: 403,
    headers: core,
    body: { message, documentation_url: "https://docs.github.com/rest" },
    verdict: refused(coreReport),
  })),
  {
    row: 14,
    what: "a 403 with X-GitHub-SSO",
    origin: "docs.github.com, SAML and the REST API",
    status: 403,
    headers: { ...core, "x-github-sso": "required; url=https://github.com/orgs/acme/sso?authorization_request=A" },
    body: "",
    verdict: refused(coreReport),
  },
  {
    row: 14,
    what: "a 403 about the User-Agent, in plain text and without numbers",
    origin: "docs.github.com, getting started with the REST API",
    status: 403,
    headers: { "content-type": "text/plain" },
    body: "\nRequest forbidden by administrative rules. Please make sure your request has a User-Agent header " +
      "(https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required).\n",
    verdict: refused(null),
  },
  {
    row: 15,
    what: "nothing has changed, and nothing was charged",
    origin: "hub4j OkHttpConnector_Cache_MaxAgeDefault_Zero",
    status: 304,
    // a 304 does not name the scopes
    headers: Object.fromEntries(Object.entries(core).filter(([name]) => name !== "x-oauth-scopes")),
    verdict: kept(coreReport, { isFree: true }),
  },
  {
    row: 15,
    what: "a 304 without numbers",
    origin: "docs.github.com, rate limits switched off on GitHub Enterprise Server",
    status: 304,
    verdict: kept(null, { isFree: true }),
  },
  ...[
    [200, "search-issues"],
    [201, "create-file"],
    [204, "branch-protection"],
    [301, "rename-repository"],
    [302, "get-archive"],
    [307, "rename-repository"],
    [404, "branch-protection"],
    [422, "errors"],
  ].map(([status, scenario]): Case => ({
    row: 16,
    what: `a ${status} counts and carries numbers`,
    origin: `fx ${scenario}`,
    status: Number(status),
    headers: core,
    body: { message: "whatever" },
    verdict: kept(coreReport),
  })),
  ...[400, 409, 410, 451].map((status): Case => ({
    row: 16,
    what: `a ${status} is the caller's problem, and the token has worked`,
    origin: "docs.github.com, troubleshooting",
    status,
    headers: core,
    verdict: kept(coreReport),
  })),
  {
    row: 16,
    what: "a search is charged to its own bucket",
    origin: "fx search-issues",
    status: 200,
    headers: search,
    url: SEARCH,
    verdict: kept(searchReport),
  },
  {
    row: 16,
    what: "numbers of before 2021 name no bucket: the path does",
    origin: "hub4j, recordings of 2020",
    status: 200,
    headers: {
      "x-ratelimit-limit": "30",
      "x-ratelimit-remaining": "21",
      "x-ratelimit-reset": String(RESET),
      "x-oauth-scopes": "",
    },
    url: SEARCH,
    verdict: kept(searchReport),
  },
  {
    row: 17,
    what: "GitHub Enterprise Server with its limits off",
    origin: "hub4j testGitHubEnterpriseDoesNotHaveRateLimit",
    status: 404,
    body: { message: "Not Found" },
    url: "https://github.example/api/v3/rate_limit",
    verdict: kept(null),
  },
  {
    row: 17,
    what: "numbers that cannot be GitHub's: a reset in milliseconds",
    origin: "fx normalized-fixture.json",
    status: 200,
    headers: limitHeaders(5000, 4999, 1_507_651_200_000),
    verdict: kept(null),
  },
  {
    row: 17,
    what: "a success of which nothing is known",
    origin: "the table",
    status: 200,
    url: null,
    verdict: kept(null),
  },
  {
    row: 18,
    what: "a timeout of GitHub's",
    origin: "docs.github.com, troubleshooting",
    status: 502,
    headers: { "content-type": "text/html" },
    body: `<html><title>Server Error</title>${SECONDARY_TEXT}</html>`,
    verdict: kept(null, { isSuccess: false }),
  },
  {
    row: 18,
    what: "a 503 that carries numbers",
    origin: "the table",
    status: 503,
    headers: core,
    verdict: kept(coreReport, { isSuccess: false }),
  },
  {
    row: 19,
    what: "a token that can do more than read public data",
    origin: "oauth.md, a user who granted this app scopes before",
    status: 200,
    headers: { ...core, "x-oauth-scopes": "gist, repo" },
    verdict: { kind: "remove", reason: "has_scopes" },
  },
  {
    row: 20,
    what: "an expiry is noted beside the verdict and does not change it",
    origin: "google/go-github#2649",
    status: 200,
    headers: { ...core, "github-authentication-token-expiration": "2022-01-19 07:08:40 UTC" },
    verdict: kept(coreReport),
  },
];

function observation(
  status: number,
  headers: Record<string, string>,
  body: unknown,
  url: string | null = REPOSITORY,
): Observation {
  return { status, headers: new Headers(headers), body: typeof body === "string" ? body : JSON.stringify(body), url };
}

function observed({ status, headers = {}, body = "", url = REPOSITORY }: Case): Observation {
  return observation(status, headers, body, url);
}

for (const one of CASES) {
  Deno.test(`judge() row ${one.row}: ${one.what} [${one.status}; ${one.origin}]`, () => {
    const seen = observed(one);
    assert.deepEqual(judge(seen, API), one.verdict);
    if (!needsBody(seen.status, seen.headers, seen.url)) {
      assert.deepEqual(judge({ ...seen, body: "" }, API), one.verdict, "the body is not read, so it must not matter");
    }
  });
}

Deno.test("judge() is held to every row of the decision table", () => {
  const rows = new Set(CASES.map(({ row }) => row));
  assert.deepEqual([...rows].sort((a, b) => a - b), Array.from({ length: 20 }, (_, index) => index + 1));
});

Deno.test("judge() waits at least 1 second and at most 24 hours when GitHub says how long", () => {
  const waits = { "0": 1, "1": 1, "59": 59, "86400": 86_400, "86401": 86_400, "999999999999999": 86_400 };
  for (const [retryAfter, seconds] of Object.entries(waits)) {
    for (const status of [403, 429]) {
      const seen = observation(status, { ...core, "retry-after": retryAfter }, { message: SECONDARY_TEXT });
      assert.deepEqual(judge(seen, API), benchUser(seconds, coreReport), `${status}, ${retryAfter} s`);
    }
  }
});

Deno.test("judge() takes a refusal that is not JSON for GitHub's own words", () => {
  assert.deepEqual(judge(observation(403, core, SECONDARY_TEXT), API), benchUser(null, coreReport));
  const suspended = observation(403, core, "Sorry. Your account was suspended.");
  assert.deepEqual(judge(suspended, API), { kind: "remove", reason: "account_suspended" });
});

Deno.test("judge() takes no retry-after from what is not a number of seconds", () => {
  for (const retryAfter of ["-1", "1.5", "1e3", "soon", "60, 60", "Wed, 21 Oct 2026 07:28:00 GMT"]) {
    const seen = (body: unknown) => observation(403, { ...core, "retry-after": retryAfter }, body);
    assert.deepEqual(judge(seen({ message: "Must have push access" }), API), refused(coreReport), retryAfter);
    assert.deepEqual(judge(seen({ message: SECONDARY_TEXT }), API), benchUser(null, coreReport), retryAfter);
  }
});

Deno.test("judge() leaves the token alone whatever a 403 quotes that is not about limits", () => {
  for (
    const message of [
      "Must have push access to repository secondary-rate-limit",
      "Resource not accessible: the rate of your account",
      "Your account was not suspended",
      "The secondary site rate is unknown",
    ]
  ) {
    assert.deepEqual(judge(observation(403, core, { message }), API), refused(coreReport), message);
  }
  // the caller's own texts come back in other fields than the message
  const quoting = { message: "Forbidden", errors: [{ message: SECONDARY_TEXT }], data: { text: PRIMARY_TEXT } };
  assert.deepEqual(judge(observation(403, core, quoting), API), refused(coreReport));
});

Deno.test("judge() does not take the data of a GraphQL answer for GitHub's own words", () => {
  const texts = [SECONDARY_TEXT, PRIMARY_TEXT, ANONYMOUS_TEXT, "Sorry. Your account was suspended.", "RATE_LIMITED"];
  for (const text of texts) {
    const bodies = [
      { data: { search: { nodes: [{ title: text, message: text, type: "RATE_LIMITED" }] } } },
      { data: { repository: { object: { text, documentation_url: SECONDARY_URL } } } },
      {
        data: { repository: null },
        errors: [{
          type: "NOT_FOUND",
          path: ["repository"],
          message: `Could not resolve to a Repository with the name 'octocat/${text}'.`,
        }],
      },
    ];
    for (const body of bodies) {
      const seen = observation(200, graphql, body, GRAPHQL);
      assert.deepEqual(judge(seen, API), kept(graphqlReport), JSON.stringify(body));
    }
  }
});

Deno.test("judge() does not take a refused query, which GraphQL quotes, for GitHub's own words", () => {
  for (
    const text of [
      "what is the secondary rate limit",
      "You have exceeded a secondary rate limit",
      "my account was suspended",
      "abuse detection",
    ]
  ) {
    const body = {
      errors: [{
        path: ["query", "search", "first"],
        extensions: { code: "argumentLiteralsIncompatible", typeName: "Field", argumentName: "first" },
        locations: [{ line: 1, column: 9 }],
        message: `Argument 'first' on Field 'search' has an invalid value ("${text}"). Expected type 'Int'.`,
      }],
    };
    assert.deepEqual(judge(observation(200, graphql, body, GRAPHQL), API), kept(graphqlReport), text);
  }
});

Deno.test("judge() knows GraphQL's secondary limit when it is listed as an error", () => {
  const body = { errors: [{ message: SECONDARY_TEXT }] };
  assert.deepEqual(judge(observation(200, graphql, body, GRAPHQL), API), benchUser(null, graphqlReport));
});

Deno.test("judge() takes no wait from a GraphQL answer that does not speak of a limit", () => {
  const seen = observation(200, { ...graphql, "retry-after": "60" }, { data: {} }, GRAPHQL);
  assert.deepEqual(judge(seen, API), kept(graphqlReport));
});

Deno.test("judge() does not read a page that GraphQL could not have sent", () => {
  const seen = observation(200, graphql, `<html>${SECONDARY_TEXT}</html>`, GRAPHQL);
  assert.deepEqual(judge(seen, API), kept(graphqlReport));
});

Deno.test("judge() does not take files and issues for GitHub's own words", () => {
  const text = { message: SECONDARY_TEXT, documentation_url: SECONDARY_URL, errors: [{ type: "RATE_LIMITED" }] };
  for (const status of [200, 201, 404, 422, 500]) {
    const verdict = judge(observation(status, core, text), API);
    assert.deepEqual(verdict, kept(coreReport, { isSuccess: status < 500 }), String(status));
  }
});

Deno.test("judge() takes GraphQL's answer for one by its bucket, its path, and that of GitHub Enterprise Server", () => {
  const body = { errors: [{ type: "RATE_LIMITED" }] };
  const exhausted: Verdict = { kind: "exhausted", report: { ...graphqlReport, remaining: 0 } };
  assert.deepEqual(judge(observation(200, graphql, body, null), API), exhausted);
  const unnamed = Object.fromEntries(Object.entries(graphql).filter(([name]) => name !== "x-ratelimit-resource"));
  for (const url of [GRAPHQL, "https://github.example/api/graphql"]) {
    assert.deepEqual(judge(observation(200, unnamed, body, url), API), exhausted, url);
  }
  const benched: Verdict = {
    kind: "bench_resource",
    resource: "graphql",
    seconds: null,
    backoff: SECONDARY_BACKOFF,
  };
  assert.deepEqual(judge(observation(200, {}, body, GRAPHQL), API), benched, "without numbers");
});

Deno.test("judge() suspects a token on a 401, whatever numbers come with it", () => {
  for (const headers of [{}, anonymous, emptyCore, core, { ...anonymous, "retry-after": "60" }]) {
    const seen = observation(401, headers as Record<string, string>, { message: "Bad credentials" });
    assert.deepEqual(judge(seen, API), SUSPECT);
  }
});

Deno.test("judge() ignores hosts that are not the API, unless they name limits", () => {
  const hosts = [
    "https://codeload.github.com/a/b/zip/main",
    "https://raw.githubusercontent.com/a/b/main/README.md",
    "https://objects.githubusercontent.com/x",
    "https://uploads.github.com/repos/a/b/releases/1/assets",
    "https://github.com/a/b",
    "https://example.com/api",
  ];
  for (const url of hosts) {
    for (const status of [200, 401, 403, 429, 500]) {
      const seen = observation(status, { "retry-after": "60" }, { message: "Bad credentials" }, url);
      assert.deepEqual(judge(seen, API), IGNORE, `${status} ${url}`);
    }
    assert.deepEqual(judge(observation(200, core, "", url), API), kept(coreReport), `limits from ${url}`);
  }
});

Deno.test("judge() knows the API by its address, on GitHub Enterprise and in tests too", () => {
  const places = [
    ["https://api.github.com/user", API],
    ["https://github.example/api/v3/user", "https://github.example/api/v3"],
    ["https://api.acme.ghe.com/user", "https://api.acme.ghe.com"],
    ["https://api.acme.ghe.com/user", API],
    ["https://github.example/api/v3/user", API],
    ["http://127.0.0.1:8080/user", API],
    ["http://localhost:4000/user", API],
    ["http://[::1]:4000/user", API],
    ["https://fake.example:8443/user", "https://fake.example:8443"],
  ];
  for (const [url, api] of places) {
    const seen = observation(401, {}, { message: "Bad credentials" }, url!);
    assert.deepEqual(judge(seen, api!), SUSPECT, `${url} with ${api}`);
  }
  for (const url of [null, "", "/user", "no url"]) {
    assert.deepEqual(judge(observation(401, {}, "", url), API), SUSPECT, `a response from ${url}: it may be the API's`);
  }
});

Deno.test("judge() ignores OAuth endpoints on GitHub Enterprise Server, and only those", () => {
  const host = "https://github.example";
  for (const path of ["/api/v3/applications/abc/token", "/login/oauth/access_token", "/api/v3/credentials/revoke"]) {
    const seen = observation(401, core, { message: "Bad credentials" }, host + path);
    assert.deepEqual(judge(seen, `${host}/api/v3`), IGNORE, path);
  }
  for (const path of ["/repos/login/oauth", "/users/applications", "/repos/a/credentials/revoke"]) {
    assert.deepEqual(judge(observation(401, {}, "", API + path), API), SUSPECT, path);
  }
});

Deno.test("judge() takes a limit of 60 or less for anonymous only in core and without scopes named", () => {
  const small = { "x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(RESET) };
  const report = { resource: "core", limit: 60, remaining: 0, resetAt: RESET };
  assert.deepEqual(judge(observation(403, small, ""), API), IGNORE);
  assert.deepEqual(judge(observation(403, { ...small, "x-ratelimit-limit": "61" }, ""), API), {
    kind: "exhausted",
    report: { ...report, limit: 61 },
  });
  // GitHub Enterprise Server can be set to any limit; naming scopes proves that the token was used
  const named = observation(403, { ...small, "x-oauth-scopes": "" }, "");
  assert.deepEqual(judge(named, API), { kind: "exhausted", report });
  const inSearch = observation(403, { ...small, "x-ratelimit-resource": "code_search" }, "");
  assert.deepEqual(judge(inSearch, API), { kind: "exhausted", report: { ...report, resource: "code_search" } });
});

Deno.test("judge() benches one resource when nothing remains but the reset is not known", () => {
  const headers = { "x-ratelimit-limit": "30", "x-ratelimit-remaining": "0", "x-ratelimit-resource": "search" };
  const benched: Verdict = { kind: "bench_resource", resource: "search", seconds: null, backoff: SECONDARY_BACKOFF };
  for (const [status, message] of [[403, PRIMARY_TEXT], [429, PRIMARY_TEXT], [403, "Forbidden"]] as const) {
    const seen = observation(status, headers, { message }, SEARCH);
    assert.deepEqual(judge(seen, API), benched, `${status} ${message}`);
  }
});

Deno.test("judge() removes a token with scopes only on a success, whose numbers are its own", () => {
  const scoped = { ...core, "x-oauth-scopes": "repo" };
  for (const status of [200, 201, 204]) {
    assert.deepEqual(judge(observation(status, scoped, ""), API), { kind: "remove", reason: "has_scopes" });
  }
  for (const status of [301, 404, 422]) {
    assert.deepEqual(judge(observation(status, scoped, ""), API), kept(coreReport), String(status));
  }
  for (const scopes of ["", "  "]) {
    assert.deepEqual(judge(observation(200, { ...core, "x-oauth-scopes": scopes }, ""), API), kept(coreReport));
  }
  assert.deepEqual(judge(observation(200, { ...graphql, "x-oauth-scopes": "repo" }, { data: {} }, GRAPHQL), API), {
    kind: "remove",
    reason: "has_scopes",
  });
});

Deno.test("judge() reads any JSON body without being led astray", () => {
  const bodies = [
    null,
    true,
    42,
    "text",
    [],
    [SECONDARY_TEXT],
    { message: 42 },
    { message: { message: PRIMARY_TEXT } },
    {
      errors: "RATE_LIMITED",
    },
    { errors: [null, 42, { type: 42 }, [], { message: null }] },
    { documentation_url: [SECONDARY_URL] },
  ];
  for (const body of bodies) {
    const text = JSON.stringify(body);
    assert.deepEqual(judge(observation(403, core, text), API), refused(coreReport), text);
    assert.deepEqual(judge(observation(200, graphql, text, GRAPHQL), API), kept(graphqlReport), text);
  }
});

Deno.test("judge() answers to anything, with waits between 1 second and 24 hours", () => {
  const headers = fc.dictionary(
    fc.constantFrom(...Object.keys(core), "retry-after", "gh-limited-by", "x-github-otp", "x-github-sso"),
    fc.oneof(fc.nat().map(String), fc.constantFrom("", "0", "core", "graphql", "repo", "-1", "1e9", "9".repeat(20))),
  );
  const body = fc.oneof(
    fc.json(),
    fc.string(),
    fc.constantFrom(SECONDARY_TEXT, PRIMARY_TEXT, ANONYMOUS_TEXT).map((message) => JSON.stringify({ message })),
  );
  const url = fc.option(fc.oneof(fc.constantFrom(REPOSITORY, GRAPHQL, SEARCH), fc.webUrl(), fc.string()));
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 599 }), headers, body, url, (status, fields, text, from) => {
      const verdict = judge({ status, headers: new Headers(fields), body: text, url: from }, API);
      if ("seconds" in verdict && verdict.seconds !== null) {
        assert.ok(verdict.seconds >= 1 && verdict.seconds <= 86_400);
      }
      if (verdict.kind === "exhausted") assert.equal(verdict.report.remaining, 0);
      if (status === 401) assert.ok(["ignore", "suspect"].includes(verdict.kind));
      if (status >= 500) assert.ok(["ignore", "usage"].includes(verdict.kind));
    }),
    { numRuns: 2000 },
  );
});

Deno.test("needsBody() asks for a body only where words decide", () => {
  const none = new Headers();
  for (const status of [401, 403, 429]) assert.equal(needsBody(status, none, null), true, String(status));
  for (const status of [200, 201, 204, 304, 404, 422, 500, 502]) {
    assert.equal(needsBody(status, none, REPOSITORY), false, String(status));
  }
  assert.equal(needsBody(200, none, GRAPHQL), true);
  assert.equal(needsBody(200, new Headers(graphql), null), true);
  assert.equal(needsBody(404, new Headers(graphql), GRAPHQL), false);
  for (const resource of ["", "Graph QL"]) {
    const headers = new Headers({ "x-ratelimit-resource": resource });
    assert.equal(needsBody(200, headers, GRAPHQL), true, "what names no bucket leaves the address to tell");
  }
});

Deno.test("tokenExpiry() reads the forms that GitHub has sent", () => {
  const expiry = (text: string) => tokenExpiry(new Headers({ "github-authentication-token-expiration": text }));
  const time = Date.UTC(2022, 0, 19, 7, 8, 40);
  assert.equal(expiry("2022-01-19 07:08:40 UTC"), time, "docs.github.com");
  assert.equal(expiry("  2022-01-19 07:08:40 UTC "), time);
  assert.equal(expiry("2022-01-19 09:08:40 +0200"), time, "google/go-github#2649");
  assert.equal(expiry("2022-01-18 23:08:40 -0800"), time, "google/go-github#2649");
  assert.equal(expiry("2022-01-19 07:08:40 +0000"), time);
});

Deno.test("tokenExpiry() is null for any other form, and when there is none", () => {
  const texts = [
    "",
    "never",
    "2022-01-19",
    "2022-01-19 07:08:40",
    "2022-13-19 07:08:40 UTC",
    "2022-01-19 27:08:40 UTC",
    "1642576120",
    "Wed, 19 Jan 2022 07:08:40 GMT",
    "2022-01-19 07:08:40 UTC, 2022-01-19 07:08:40 UTC",
    "x 2022-01-19 07:08:40 UTC",
  ];
  for (const text of texts) {
    assert.equal(tokenExpiry(new Headers({ "github-authentication-token-expiration": text })), null, text);
  }
  assert.equal(tokenExpiry(new Headers()), null);
});
