/**
 * What a pooled token is never used for. Each case is refused before anything is sent, by a pool whose `fetch` would
 * tell.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import type { Pool } from "../lib/pool.ts";
import { isApi, toApiRequest } from "../lib/request_rules.ts";
import { donate, limitHeaders, temporaryPool } from "./support/fixtures.ts";

/** A pool that notes what it sends, and has it all answered. */
async function watchedPool(apiUrl = "https://api.github.com") {
  const sent: string[] = [];
  const reset = 1_795_000_000 + 3600;
  const world = await temporaryPool({
    githubApiUrl: apiUrl,
    fetch(input, init) {
      const { method, url } = new Request(input, init);
      sent.push(`${method} ${url}`);
      return Promise.resolve(Response.json({}, { headers: limitHeaders(5000, 4999 - sent.length, reset) }));
    },
  });
  await donate(world.pool, 1);
  return { pool: world.pool, sent, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

/** GraphQL that may be sent. */
const QUERY = JSON.stringify({ query: "{ rateLimit { cost } }" });

type Case = string | [input: RequestInfo | URL, init: RequestInit];

function send(pool: Pool, one: Case): Promise<Response> {
  return typeof one === "string" ? pool.fetch(one) : pool.fetch(...one);
}

/** Asserts that requests are refused, and that nothing was sent and no token drawn. */
function refuses(what: string, cases: Case[], because: RegExp, apiUrl?: string): void {
  Deno.test(`refused: ${what}`, async () => {
    await using world = await watchedPool(apiUrl);
    const before = await world.pool.availability();
    for (const one of cases) {
      const refusal = { name: "PoolError", code: "forbidden_request", message: because };
      await assert.rejects(send(world.pool, one), refusal, JSON.stringify(one));
    }
    assert.deepEqual(world.sent, []);
    assert.deepEqual(await world.pool.availability(), before);
  });
}

/** Asserts that requests that look alike are sent. */
function sends(what: string, cases: Case[], apiUrl?: string): void {
  Deno.test(`sent: ${what}`, async () => {
    await using world = await watchedPool(apiUrl);
    for (const one of cases) {
      world.sent.length = 0;
      await (await send(world.pool, one)).body?.cancel();
      assert.equal(world.sent.length, 1, JSON.stringify(one));
    }
  });
}

refuses("other origins", [
  "https://example.com/repos/denoland/deno",
  "http://api.github.com/repos/denoland/deno",
  "https://api.github.com:8443/repos/denoland/deno",
  "https://api.github.com.example/repos/denoland/deno",
  "https://github.com/denoland/deno",
  "https://example.com/https://api.github.com/",
  "file:///etc/hostname",
  "data:application/json,{}",
], /another origin/);

refuses("a name and a password in the address", [
  "https://user@api.github.com/repos/denoland/deno",
  "https://user:password@api.github.com/repos/denoland/deno",
  "https://:password@api.github.com/repos/denoland/deno",
  "https://api.github.com@example.com/repos/denoland/deno",
], /another origin/);

refuses("an address that names a host without a protocol", [
  "//example.com/repos/denoland/deno",
  "//user",
], /another origin/);

sends("an address of the API, however it is written", [
  "https://API.github.com/repos/denoland/deno",
  "https://api.github.com:443/repos/denoland/deno",
  "//api.github.com/repos/denoland/deno",
]);

refuses(
  "writes",
  ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "QUERY"].map((method): Case => [
    "/repos/denoland/deno/issues",
    { method },
  ]),
  /pooled tokens only read/,
);

refuses(
  "a write that is named in a header",
  ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"].flatMap((name): Case[] => [
    ["/repos/denoland/deno", { headers: { [name]: "DELETE" } }],
    ["/graphql", { method: "POST", body: QUERY, headers: { [name]: "PUT" } }],
  ]),
  /names another method in x-.*pooled tokens only read/,
);

refuses("what is about whoever the token belongs to", [
  "/user",
  "/user/",
  "/user?x=/",
  "/user#x",
  "https://api.github.com//user",
  "https://api.github.com///user//",
  "https://api.github.com/\\user",
  "/USER",
  "/User/Repos",
  "/%75ser",
  "/%75%73%65%72",
  "/%55SER",
  "/%2Fuser",
  "/%5Cuser",
  "/user%2Frepos",
  "/user%20",
  "/user%00",
  "/%20user",
  "/user.json",
  "/user;x",
  "/./user",
  "/repos/../user",
  "/repos/%2e%2e/user",
  "/user/repos",
  "/user/emails",
  "/user/starred/denoland/deno",
  "/api/v3/user",
  "/api/user",
  "/notifications",
  "/notifications/threads/1",
  "/gists",
  "/gists/",
  "/gists.json",
  "/gists%00",
  "/gists.xml",
  "/gists;x",
  "/gists;x/starred",
  "/issues%3Bx",
  "/issues%3Fx",
  "/issues%23x",
  "/rate_limit.",
  "/repos/a;x/b/subscription;y",
  "/issues%20",
  "/gists/starred",
  "/gists/abc123/star",
  "/issues",
  "/issues?filter=all",
  "/orgs/denoland/issues",
  "/organizations/42048915/issues",
  "/rate_limit",
  "/feeds",
  "/classrooms",
  "/repos/a/b/subscription",
  "/repos/a/b/notifications",
  "/repos/a/b/codespaces",
  "/repos/a/b/codespaces/machines",
  "/users/octocat/events/orgs/github",
  "/repositories/1/subscription",
  "/repositories/1/notifications",
  "/repos/a/b/%73ubscription",
  "/repos/a/b//subscription/",
  "/applications/Ov23li/token",
  "/authorizations",
  "/credentials/revoke",
  "/login/oauth/access_token",
  "/app",
  "/app/installations",
  "/installation/repositories",
  ["/user", { method: "HEAD" }],
], /about whoever the token belongs to/);

refuses("a path that hides where it goes", [
  "/repos/a/..%2F..%2Fuser",
  "/repos%2F..%2Fuser",
  "/repos/a/b/contents/%2e%2e%5Cx",
  "/gists/.%2Fstarred",
  "/repos/a/b/%2e%5Csubscription",
  "/repos/..;/user",
], /dots for segments/);

refuses("a path that cannot be decoded", ["/repos/a/%FF", "/%"], /cannot be decoded/);

refuses("searches for `@me`", [
  "/search/issues?q=author:@me",
  "/search/issues?q=author%3A%40ME+is:open",
  "/search/repositories?q=user:@me&sort=stars",
  "/search;x/issues?q=author:@me",
], /`@me`/);

sends("what everybody can read, although it looks alike", [
  "/users/octocat",
  "/users/user",
  "/users/octocat/subscriptions",
  "/users/octocat/events",
  "/users/octocat/events/public",
  "/gists/abc123",
  "/gists/public",
  "/gists/abc123/comments",
  "/repos/user/notifications",
  "/repos/user/user",
  "/repos/user/subscription",
  "/repos/a/b/subscribers",
  "/repos/a/b/issues",
  "/repos/a/b/branches/feature%2Fx",
  "/repos/a/b/contents/.github/workflows/..ci.yml",
  "/repos/a/b/contents/user.json",
  "/repos/a/b.xml",
  "/repos/a/b/contents/why%3F;x/%23.txt",
  "/repos/a/b/contents/repos/a/b/subscription",
  "/repos/a/b/contents/orgs/a/issues",
  "/repos/a/b/contents/gists/1/star",
  "/repos/a/b/contents/users/a/events/orgs/b",
  "/repos/a/b/contents/caf%C3%A9",
  "/orgs/user",
  "/apps/dependabot",
  "/search/issues?q=@melissa",
  "/search/users?q=me",
  "/repos/a/b/issues?creator=user",
  "/events",
  "/",
  ["/repos/a/b", { method: "HEAD" }],
]);

const PREFIXED = "https://github.example/api/v3";

refuses(
  "the same on GitHub Enterprise Server",
  [
    "/user",
    "//user",
    `${PREFIXED}/user`,
    `${PREFIXED}//user`,
    `${PREFIXED}/%75ser`,
    `${PREFIXED}/../user`,
    `${PREFIXED}/../v3/user`,
    "https://github.example/user",
    "https://github.example/API/V3/user",
    "https://github.example/%61pi/v3/user",
    "https://github.example/api/v3",
    "https://github.example/api/graphql/user",
  ],
  /about whoever|another origin/,
  PREFIXED,
);

sends("what everybody can read, on GitHub Enterprise Server", ["/repos/a/b", `${PREFIXED}/repos/a/b`], PREFIXED);

/** A GraphQL request. */
function graphql(query: unknown, more: Record<string, unknown> = {}): Case {
  return ["/graphql", { method: "POST", body: JSON.stringify({ query, ...more }) }];
}

refuses("GraphQL that writes", [
  graphql('mutation { addStar(input: { starrableId: "x" }) { clientMutationId } }'),
  graphql("mutation M($id: ID!) { addStar(input: { starrableId: $id }) { clientMutationId } }"),
  graphql("  \n,\uFEFF mutation{a}"),
  graphql("query Q { rateLimit { cost } } mutation M { a }", { operationName: "Q" }),
  graphql("query Q { rateLimit { cost } } mutation M { a }", { operationName: "M" }),
  graphql("fragment F on Query { a } mutation { a }"),
  graphql("# mutation in disguise {\nmutation { a }"),
  graphql('query Q { a(b: "{") } mutation { a }'),
  graphql('query Q { a(b: "\\"{") } mutation { a }'),
  graphql('query Q { a(b: """ " { \\""" { """) } mutation { a }'),
  graphql('query Q { a(b: "") } mutation { a }'),
  graphql("query Q { a # {\n} mutation { a }"),
  graphql("query Q { a } } mutation { a }"),
  graphql("query Q($a: I = { b: 1 }) { a } mutation { a }"),
], /GraphQL mutation/);

refuses("GraphQL that subscribes", [graphql("subscription { a }")], /GraphQL subscription/);

refuses("GraphQL that asks for `viewer`", [
  graphql("{ viewer { login } }"),
  graphql("{ me: viewer { login } }"),
  graphql("query { rateLimit { cost } viewer{login} }"),
  graphql("{ ...F } fragment F on Query { viewer { login } }"),
  graphql("{ ... on Query { viewer { login } } }"),
  graphql('{ a(b: "}") viewer { login } }'),
  graphql('{ a(b: "#") viewer { login } }'),
  graphql('{ a(b: """#"""), viewer { login } }'),
  graphql("{ a #\n viewer { login } }"),
  graphql('{ a # "\n viewer { login } #" \n }'),
  graphql("{ a @include(if: true) viewer @skip(if: false) { login } }"),
  ["https://api.github.com//graphql/", { method: "POST", body: JSON.stringify({ query: "{ viewer { login } }" }) }],
  ["/GraphQL", { method: "POST", body: JSON.stringify({ query: "{ viewer { login } }" }) }],
], /`viewer`/);

refuses(
  "GraphQL with what is no text to GitHub, whose parser ends one at the last of four quotes and not at the first",
  [
    graphql('{ a(b: """x"""") } mutation { c } #"'),
    graphql('{ a(b: """x"""") viewer { login } } #"'),
    graphql('{ a(b: """"""") } mutation { c } #"'),
    graphql('query A { a(b: ["""\\"""" "]) } mutation B { c } #"""]) }', { operationName: "B" }),
  ],
  /four quotes/,
);

refuses("GraphQL that searches for `@me`", [
  graphql('{ search(query: "author:@me", type: ISSUE) { issueCount } }'),
  graphql("query Q($q: String!) { search(query: $q, type: ISSUE) { issueCount } }", { variables: { q: "author:@me" } }),
  graphql("query Q($q: String!) { search(query: $q) { issueCount } }", { variables: '{"q":"author:\\u0040me"}' }),
  graphql('{ search(query: "author:\\u0040me", type: ISSUE) { issueCount } }'),
  graphql('{ search(query: "author:@\\u006De", type: ISSUE) { issueCount } }'),
  graphql('{ search(query: "author:\\u{40}m\\u{0065}", type: ISSUE) { issueCount } }'),
  graphql('{ search(query: """author:\\u0040me""", type: ISSUE) { issueCount } }'), // GitHub's parser reads it there too
], /`@me`/);

refuses("GraphQL that is not a query in JSON", [
  ["/graphql", { method: "POST" }],
  ["/graphql", { method: "POST", body: "{ rateLimit { cost } }" }],
  ["/graphql", { method: "POST", body: "null" }],
  ["/graphql", { method: "POST", body: `[${QUERY}]` }],
  ["/graphql", { method: "POST", body: new URLSearchParams({ query: "{ a }" }) }],
  ...["application/x-www-form-urlencoded", "Multipart/Form-Data; boundary=x"].map((type): Case => ["/graphql", {
    method: "POST",
    headers: { "content-type": type },
    body: JSON.stringify({ query: "{ a }", x: "&query=mutation{a}#" }),
  }]),
  graphql(undefined),
  graphql(1),
  graphql(["{ a }"]),
], /without a query in JSON/);

refuses("GraphQL with parameters in its address", [
  ["/graphql?query=mutation{a}", { method: "POST", body: QUERY }],
], /parameters in its address/);

refuses("GraphQL that is not a POST", ["/graphql", "/graphql?query={viewer{login}}"], /queries are a POST/);
refuses("GraphQL by another method", [["/graphql", { method: "PUT", body: QUERY }]], /only read/);

sends("GraphQL queries", [
  graphql("{ rateLimit { cost } }"),
  graphql("query viewer { rateLimit { cost } }"),
  graphql("query Q($viewer: String!, $mutation: ID) { user(login: $viewer) { a(b: $mutation) } }"),
  graphql('{ repository(owner: "viewer", name: "mutation") { viewerHasStarred viewerCanAdminister } }'),
  graphql('{ a(b: "viewer { mutation }") }'),
  graphql('{ a(b: """ viewer """) # viewer\n }'),
  graphql("# mutation\n{ a }"),
  graphql('{ a(b: """""", c: """"x" \\""" y""") } # """" viewer'),
  graphql('{ a(b: ["viewer""""mutation"""]) }'),
  graphql("{ __type(name: $n) { fields { mutation: name subscription } } }"),
  graphql("query Q { a } query P { b }", { operationName: "P" }),
  graphql("query Q($q: String!) { search(query: $q, type: USER) { userCount } }", { variables: { q: "me" } }),
  ["/graphql", { method: "POST", body: QUERY, headers: { "content-type": "application/json; charset=utf-8" } }],
  ["https://api.github.com/graphql", { method: "POST", body: new TextEncoder().encode(QUERY) }],
]);

Deno.test("no spelling of /user passes: slashes, escapes, case, dots (property)", async () => {
  await using world = await watchedPool();
  const slashes = fc.array(fc.constantFrom("/", "%2f", "%2F", "\\", "%5c", "/./", "/x/../"), { maxLength: 4 });
  const letter = (character: string) => {
    const code = (text: string) => `%${text.charCodeAt(0).toString(16)}`;
    const upper = character.toUpperCase();
    return fc.constantFrom(character, upper, code(character), code(upper), code(upper).toUpperCase());
  };
  const user = fc.tuple(...["u", "s", "e", "r"].map(letter)).map((letters) => letters.join(""));
  const rest = fc.oneof(
    fc.constantFrom("", "/", "%2F", "?a=b", "#a", "/repos", "/repos?page=2", "//emails", "/./x", ".json", "%20"),
    fc.webPath().map((path) => path === "" ? "" : `/${path}`),
  );
  const prefix = fc.constantFrom("", "/api/v3", "/api");
  const property = fc.asyncProperty(prefix, slashes, user, rest, async (before, between, name, after) => {
    const url = `https://api.github.com${before}/${between.join("")}${name}${after}`;
    await assert.rejects(world.pool.fetch(url), { code: "forbidden_request" });
  });
  await fc.assert(property, { numRuns: 1000 });
  assert.deepEqual(world.sent, []);
});

Deno.test("no mutation passes, whatever stands before it (property)", async () => {
  await using world = await watchedPool();
  const text = fc.string({ unit: fc.constantFrom('"', "\\", "{", "}", "#", "a", " ", "\n") });
  const before = fc.array(fc.oneof(
    text.map((inner) => `query { a(b: ${JSON.stringify(inner)}) }`),
    text.map((inner) => `query { a(b: """${inner.replaceAll('"', "'").replaceAll("\\", "/")}""") }`),
    text.map((inner) => `# ${inner.replaceAll("\n", " ")}\n`),
    fc.constantFrom("query Q { a { b } }", "{ a }", "fragment F on Query { a }", ","),
  ));
  const property = fc.asyncProperty(
    before,
    fc.constantFrom("mutation { a }", "{ viewer { login } }"),
    async (all, bad) => {
      await assert.rejects(send(world.pool, graphql([...all, bad].join(" "))), { code: "forbidden_request" });
    },
  );
  await fc.assert(property, { numRuns: 500 });
  const harmless = fc.asyncProperty(before, async (all) => {
    await (await send(world.pool, graphql([...all, "{ a }"].join(" ")))).body?.cancel();
  });
  assert.deepEqual(world.sent, []);
  await fc.assert(harmless, { numRuns: 200 });
  assert.equal(world.sent.length, 200, "nor is anything else refused for what stands in texts and comments");
});

Deno.test("isApi() takes whole segments for the prefix", () => {
  assert.equal(isApi(new URL("https://a.example/api/v3/repos"), "https://a.example/api/v3"), true);
  assert.equal(isApi(new URL("https://A.example:443/api/v3/repos"), "https://a.example/api/v3"), true);
  assert.equal(isApi(new URL("https://a.example/api/v30/repos"), "https://a.example/api/v3"), false);
  assert.equal(isApi(new URL("https://a.example/repos"), "https://a.example"), true);
});

Deno.test("what is not to be stored is so by a header too, which every runtime remembers", async () => {
  const headerOf = async (init: RequestInit) =>
    (await toApiRequest("/zen", init, "https://api.github.com")).headers["cache-control"];
  for (const cache of ["no-store", "reload"] as const) assert.equal(await headerOf({ cache }), "no-store");
  for (const init of [{ cache: "default" }, {}] as const) assert.equal(await headerOf(init), undefined);
});
