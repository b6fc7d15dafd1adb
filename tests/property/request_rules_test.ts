/**
 * What a pooled token is never used for, in every spelling: the rules against an idea of their own of what a lenient
 * server would make of an address or of a GraphQL document.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { PoolError } from "../../lib/errors.ts";
import { type ApiRequest, assertAllowed, toApiRequest } from "../../lib/request_rules.ts";
import { hold } from "../support/property.ts";

const APIS = ["https://api.github.com", "https://ghe.example/api/v3", "http://127.0.0.1:8123"];

/** What would be sent; null when it is refused. */
async function sent(input: RequestInfo | URL, apiUrl: string, init: RequestInit = {}): Promise<ApiRequest | null> {
  let request: ApiRequest;
  try {
    request = await toApiRequest(input, init, apiUrl);
  } catch (error) {
    assert.ok(error instanceof TypeError, "not a URL, or not one with a name in it");
    return null;
  }
  try {
    assertAllowed(request, apiUrl);
    return request;
  } catch (error) {
    assert.ok(error instanceof PoolError && error.code === "forbidden_request", String(error));
    return null;
  }
}

const DONOR_PATHS = [
  ...[
    "/user",
    "/user/emails",
    "/user/repos",
    "/notifications",
    "/notifications/threads/1",
    "/feeds",
    "/issues",
    "/gists",
  ],
  ...["/gists/starred", "/rate_limit", "/repos/a/b/subscription", "/repos/a/b/notifications", "/orgs/a/issues"],
  ...[
    "/gists/1/star",
    "/applications/x/token",
    "/authorizations",
    "/login/oauth/access_token",
    "/installation/repositories",
  ],
];

/** A character as a server may still read it for the same. */
function spelled(character: string): fc.Arbitrary<string> {
  const codes = [character, character.toUpperCase()].flatMap((one) => {
    const hex = one.charCodeAt(0).toString(16).padStart(2, "0");
    return [`%${hex}`, `%${hex.toUpperCase()}`];
  });
  if (character === "/") {
    return fc.constantFrom("/", "/", "//", "///", "\\", "/\\", "%2f", "%2F", "%5c", "/./", "/x/../", "/%2e/", "\t/");
  }
  return fc.constantFrom(character, character, character, character.toUpperCase(), `${character}\n`, ...codes);
}

const ending = fc.constantFrom(
  "",
  "/",
  "//",
  ".json",
  ".JSON",
  "%20",
  "%00",
  "%2F",
  "?a=b",
  "?",
  "#x",
  "/#/repos/a/b",
  "%09",
);

const donorPath = fc.constantFrom(...DONOR_PATHS).chain((path) =>
  fc.tuple(fc.tuple(...[...path].map(spelled)).map((characters) => characters.join("")), ending)
).map((parts) => parts.join(""));

Deno.test("assertAllowed() refuses every spelling of what is about the donor", async (t) => {
  const property = fc.asyncProperty(
    donorPath,
    fc.constantFrom(...APIS),
    fc.boolean(),
    async (path, apiUrl, isWhole) => {
      // As a path of the API, or as a whole address; a path that names a host is another origin.
      const input = isWhole || !path.startsWith("/") ? apiUrl + (path.startsWith("/") ? path : `/${path}`) : path;
      assert.equal((await sent(input, apiUrl))?.url, undefined, `${input} would be sent`);
    },
  );
  await hold(t, property, { bounded: 2500 });
});

/** What a lenient server reads: decoded once, in lower case, without empty segments, formats, parameters and padding. */
function readLeniently(url: string): string[] {
  const path = new URL(url).pathname.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return path.toLowerCase().split(/[\\/]+/).map((segment) => segment.replace(/[\s\0]+$|\.json$/g, ""))
    .filter((segment) => segment !== "" && segment !== ".");
}

const DONOR_SEGMENTS = ["user", "notifications", "feeds", "applications", "authorizations", "login", "credentials"];

const authority = fc.oneof(
  fc.constantFrom("api.github.com", "API.GitHub.com", "api.github.com:443", "api.github.com.", "api.github.com:8443"),
  fc.constantFrom("user@api.github.com", "u:p@api.github.com", "api.github.com@evil.example", "evil.example"),
  fc.constantFrom("api.github.com%00.evil.example", "api.github.com\\@evil.example", "ａpi.github.com", "github.com"),
  fc.webAuthority({ withUserInfo: true, withPort: true }),
);

const anyPath = fc.oneof(
  fc.webPath({ size: "large" }),
  fc.array(
    fc.oneof(
      fc.constantFrom(...["/", "\\", "%2f", "..", ".", "%2e%2e", "user", "repos", "@", ":", "?", "#", ";", "%", "%zz"]),
      fc.string({ unit: "binary", maxLength: 4 }),
    ),
    { maxLength: 8 },
  ).map((parts) => parts.join("")),
);

Deno.test("a token goes to the API and nowhere else, and to nothing that a lenient server reads for the donor's", async (t) => {
  const address = fc.oneof(
    fc.tuple(fc.constantFrom("https://", "http://", "https:/", "https:\\\\", "//", ""), authority, anyPath)
      .map(([scheme, host, path]) => `${scheme}${host}/${path}`),
    anyPath.map((path) => `/${path}`),
    fc.constantFrom(
      "file:///etc/hostname",
      "data:,x",
      "javascript:1",
      "ws://api.github.com/",
      "blob:https://api.github.com/1",
    ),
    fc.string(),
  );
  const method = fc.constantFrom(
    undefined,
    undefined,
    "GET",
    "HEAD",
    "get",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "QUERY",
  );
  const property = fc.asyncProperty(address, method, fc.constantFrom(...APIS), async (address, method, apiUrl) => {
    const request = await sent(address, apiUrl, method === undefined ? {} : { method });
    if (request === null) return;
    const { origin, pathname, username, password } = request.url;
    assert.equal(origin, new URL(apiUrl).origin);
    assert.equal(username + password, "");
    assert.ok(pathname.startsWith(new URL(apiUrl).pathname.replace(/\/$/, "") + "/"), pathname);
    assert.ok(request.method === "GET" || request.method === "HEAD", `${request.method} without a query`);
    assert.equal(request.headers["authorization"], undefined, "which is the pool's to set");
    const [first = ""] = readLeniently(request.url.href).slice(apiUrl.endsWith("/v3") ? 2 : 0);
    assert.ok(!DONOR_SEGMENTS.includes(first), request.url.href);
  });
  await hold(t, property, { bounded: 2500 });
});

Deno.test("assertAllowed() refuses a search for @me, however it is written", async (t) => {
  const letter = (character: string) =>
    fc.constantFrom(character, character.toUpperCase(), `%${character.charCodeAt(0).toString(16)}`);
  const me = fc.tuple(letter("@"), letter("m"), letter("e")).map((letters) => letters.join(""));
  const word = fc.constantFrom("", "author:", "is:pr+", "involves%3A", "%22", "user:a ");
  const property = fc.asyncProperty(
    ...[
      fc.constantFrom("issues", "code", "commits"),
      word,
      me,
      fc.constantFrom("", "+is:open", "&page=2", "%22"),
    ] as const,
    async (kind, before, me, after) => {
      assert.equal(await sent(`/search/${kind}?per_page=1&q=${before}${me}${after}`, APIS[0]!), null);
    },
  );
  await hold(t, property, { bounded: 500 });
});

// GraphQL documents, valid by the grammar, with anything between their tokens.

const quoted = fc.array(fc.constantFrom("viewer", "mutation {", "}", "{", "#", '\\"', "\\\\", " ", "a", "\\u007b"))
  .map((parts) => `"${parts.join("")}"`);
const block = fc.array(fc.constantFrom("viewer", "mutation {", "}", "{", "#", "\n", '\\"""', '"q', " ", "a", "\\ "))
  .map((parts) => `"""${parts.join("")}"""`)
  .filter((text) => !/\\"{4}/.test(text)); // valid, but GitHub reads it otherwise
const ignored = fc.array(
  fc.oneof(
    fc.constantFrom(" ", "\n", ",", "\t", "\r\n", "\uFEFF"),
    fc.array(fc.constantFrom('"', "{", "}", "viewer", "mutation", '"""', " ")).map((parts) => `#${parts.join("")}\n`),
  ),
  { maxLength: 3 },
).map((parts) => ` ${parts.join("")}`);

const name = fc.constantFrom(
  "a",
  "b",
  "repository",
  "_viewer",
  "viewers",
  "Viewer",
  "mutations",
  "__typename",
  "query",
  "on_",
);
const literal = fc.oneof(
  quoted,
  block,
  fc.constantFrom("1", "$v", "null", "ENUM", "[1]", "{mutation: {x: 1}}", "-1.5e3"),
);

const { selection: anySelection } = fc.letrec<{ field: string; selection: string }>((tie) => ({
  field: fc.tuple(
    fc.option(name, { nil: "" }),
    name,
    fc.option(literal, { nil: "" }),
    fc.constantFrom("", "", "@include(if: $v)", '@a(b: "{")'),
    fc.option(tie("selection"), { nil: "", maxDepth: 3 }),
  ).map(([alias, name, argument, directive, inner]) =>
    `${alias === "" ? "" : `${alias}:`}${name}${argument === "" ? "" : `(x: ${argument})`}${directive}${inner}`
  ),
  selection: fc.array(
    fc.oneof(
      { weight: 4, arbitrary: tie("field") },
      tie("selection").map((inner) => `... on T ${inner}`),
      fc.constant("...F"),
    ),
    { minLength: 1, maxLength: 3 },
  ).chain((items) => ignored.map((gap) => `{${gap}${items.join(gap)}${gap}}`)),
}));

const definition = fc.tuple(
  fc.constantFrom("", "query", "query Q", 'query Q($v: In = {a: "}", mutation: 1})', "query @a", "fragment F on T"),
  ignored,
  anySelection,
).map((parts) => parts.join(""));

const documents = fc.array(fc.oneof(definition, ignored), { minLength: 1, maxLength: 4 });

/** As JSON, with some characters escaped as JSON can. */
function bodyOf(query: string, isEscaped: boolean): string {
  const text = JSON.stringify({ query, variables: { v: "viewer" } });
  return isEscaped
    ? text.replaceAll("{ ", "\\u007b ").replaceAll("viewer", "view\\u0065r").replaceAll("mut", "\\u006dut")
    : text;
}

/** A body, posted as programs post GraphQL. */
function query(body: string): Promise<ApiRequest | null> {
  return sent("/graphql", APIS[0]!, { method: "POST", body, headers: { "content-type": "application/json" } });
}

Deno.test("assertAllowed() lets a query pass, whatever stands in its strings and comments", async (t) => {
  const property = fc.asyncProperty(documents, definition, async (before, last) => {
    const text = [...before, last].join("\n");
    assert.notEqual(await query(bodyOf(text, false)), null, text);
  });
  await hold(t, property, { bounded: 600 });
});

Deno.test("assertAllowed() refuses mutations, subscriptions and viewer, wherever and however they are written", async (t) => {
  const operation = fc.tuple(
    fc.constantFrom("mutation", "subscription", "mutation M", "mutation($v: In = {a: 1})", "subscription S @a"),
    ignored,
    anySelection,
  ).map((parts) => parts.join(""));
  const viewer = fc.tuple(
    anySelection,
    ignored,
    fc.constantFrom("viewer", "a: viewer", "viewer @a", "viewer{login}"),
    fc.nat(),
  )
    .map(([selection, gap, field, at]) => {
      // After any brace that opens a selection; one in a string or a comment, or of a value, is not one.
      const places = [...selection.matchAll(/"""(?:\\"""|[^])*?"""|"(?:\\.|[^"\\])*"|#[^\n]*|\{\w+: |\{/g)]
        .filter(([text]) => text === "{").map(({ index }) => index + 1);
      const place = places[at % places.length]!;
      return `${selection.slice(0, place)}${gap}${field}${gap}${selection.slice(place)}`;
    });
  const property = fc.asyncProperty(
    ...[documents, fc.oneof(operation, viewer), documents, fc.boolean()] as const,
    async (before, bad, after, isEscaped) => {
      const text = [...before, bad, ...after].join("\n");
      assert.equal(await query(bodyOf(text, isEscaped)), null, text);
    },
  );
  await hold(t, property, { bounded: 1000 });
});

Deno.test("assertAllowed() lets no body pass but JSON with one query", async (t) => {
  const body = fc.oneof(fc.json(), fc.string(), fc.anything().map((value) => JSON.stringify({ query: value }) ?? ""));
  const type = fc.constantFrom(
    "application/json",
    "application/graphql",
    "multipart/form-data; boundary=x",
    "text/plain",
    "",
  );
  const property = fc.asyncProperty(body, type, async (body, type) => {
    const init = { method: "POST", body, headers: { "content-type": type } };
    if (await sent("/graphql", APIS[0]!, init) !== null) assert.equal(typeof JSON.parse(body).query, "string");
    assert.equal(await sent("/graphql?query=mutation", APIS[0]!, init), null);
  });
  await hold(t, property, { bounded: 600 });
});
