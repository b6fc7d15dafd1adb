/**
 * The service from outside: every page and endpoint through `createApp(…).request()`, with the headers and cookies that
 * keep a donor safe, and with nothing secret in anything that leaves it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createApp } from "../main.http.ts";
import { statusSchema } from "../lib/stats.ts";
import { messagePage, MESSAGES } from "../views/message.tsx";
import { donate, environment, KEY, OTHER_KEY, START } from "./support/fixtures.ts";
import { Browser, parseCookie, type Service, temporaryService } from "./support/service.ts";

const PAGES = [
  "/",
  "/auth",
  "/callback",
  "/thanks",
  "/withdraw",
  "/donation",
  "/status",
  "/metrics",
  "/badge.json",
  "/healthz",
  "/style.css",
  "/favicon.svg",
  "/og.png",
];
const OAUTH_PAGES = ["/auth", "/callback", "/thanks", "/withdraw", "/donation"];
const STATS_QUERY = /'incident'/;

/** The whole way of a donor: to GitHub, back, and to the page after. */
async function donateBy(browser: Browser, { github }: Service, login = "ada", path = "/auth"): Promise<Response> {
  const away = await browser.go(path);
  assert.equal(away.status, 302);
  const back = await browser.go(github.authorize(away.headers.get("location")!, login));
  assert.equal(back.status, 303, await back.clone().text());
  return await browser.go(back.headers.get("location")!);
}

async function withdrawBy(browser: Browser, { github }: Service, login = "ada"): Promise<Response> {
  const away = await browser.submit("/withdraw");
  assert.equal(away.status, 303);
  const back = await browser.go(github.authorize(away.headers.get("location")!, login));
  assert.equal(back.status, 303, await back.clone().text());
  return await browser.go(back.headers.get("location")!);
}

/** Cookies that a response sets, and cookies that it deletes. */
function cookiesOf(response: Response) {
  const cookies = response.headers.getSetCookie().map(parseCookie);
  const isDeleted = ({ attributes }: typeof cookies[number]) => attributes.get("max-age") === "0";
  return { set: cookies.filter((cookie) => !isDeleted(cookie)), deleted: cookies.filter(isDeleted) };
}

function transactions(browser: Browser): string[] {
  return [...browser.cookies.keys()].filter((name) => name.includes("transaction"));
}

async function textOf(response: Response): Promise<string> {
  const html = await response.text();
  return html.replace(/<[^>]*>/g, " ").replaceAll("&#39;", "'").replaceAll("&quot;", '"').replace(/\s+/g, " ");
}

Deno.test("createApp() touches nothing: no database, no network, no environment", () => {
  const untouchable = () => assert.fail("touched");
  createApp({
    environment: untouchable,
    database: { execute: untouchable, batch: untouchable },
    fetch: untouchable,
    now: untouchable,
    log: untouchable,
  });
});

Deno.test("every page answers GET with its status and type", async (t) => {
  const expected: Record<string, [status: number, type: RegExp | null]> = {
    "/": [200, /^text\/html/],
    "/auth": [302, null],
    "/callback": [400, /^text\/html/],
    "/thanks": [303, null],
    "/withdraw": [200, /^text\/html/],
    "/donation": [200, /^text\/html/],
    "/status": [200, /^application\/json/],
    "/healthz": [200, /^application\/health\+json/],
    "/style.css": [200, /^text\/css/],
    "/favicon.svg": [200, /^image\/svg\+xml/],
    "/nowhere": [404, /^text\/html/],
  };
  await using service = await temporaryService();
  for (const [path, [status, type]] of Object.entries(expected)) {
    await t.step(path, async () => {
      const response = await service.app.request(path);
      assert.equal(response.status, status);
      if (type !== null) assert.match(response.headers.get("content-type") ?? "", type);
      const body = await response.text();
      assert.equal(body.startsWith("<!DOCTYPE html>"), type?.test("text/html") ?? false);
    });
  }
});

Deno.test("every response has strict headers", async (t) => {
  await using service = await temporaryService();
  const broken = await temporaryService();
  broken.database.failing = /^/;
  const requests: [name: string, response: Response][] = [];
  for (const path of [...PAGES, "/nowhere", "/callback?state=x&code=y"]) {
    requests.push([path, await service.app.request(path)]);
    requests.push([`${path} without a database`, await broken.app.request(path)]);
  }
  requests.push(["DELETE /", await service.app.request("/", { method: "DELETE" })]);
  requests.push(["POST /withdraw", await service.app.request("/withdraw", { method: "POST" })]);
  const crossSite = { method: "POST", headers: { origin: "https://evil.example" } };
  requests.push(["cross-site POST /withdraw", await service.app.request("/withdraw", crossSite)]);
  await broken[Symbol.asyncDispose]();

  for (const [name, { headers }] of requests) {
    await t.step(name, () => {
      const policy = new Map(
        (headers.get("content-security-policy") ?? "").split(";").map((directive) => {
          const [key = "", ...values] = directive.trim().split(/\s+/);
          return [key, values];
        }),
      );
      assert.deepEqual(policy.get("default-src"), ["'none'"]);
      for (const own of ["style-src", "img-src"]) assert.deepEqual(policy.get(own), ["'self'"], own);
      assert.deepEqual(policy.get("frame-ancestors"), ["'none'"]);
      assert.deepEqual(policy.get("base-uri"), ["'none'"]);
      assert.deepEqual(policy.get("form-action"), ["'self'", "https://github.com"]);
      const sources = [...policy.values()].flat();
      assert.ok(!policy.has("script-src") || policy.get("script-src")!.join() === "'none'", "no script at all");
      for (const loose of ["'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:", "data:"]) {
        assert.ok(!sources.includes(loose), loose);
      }
      assert.equal(headers.get("strict-transport-security"), "max-age=31536000; includeSubDomains", "HSTS of a year");
      assert.equal(headers.get("referrer-policy"), "no-referrer");
      assert.equal(headers.get("x-content-type-options"), "nosniff");
      assert.equal(headers.get("x-frame-options"), "DENY");
      assert.equal(headers.get("cross-origin-opener-policy"), "same-origin");
      assert.equal(headers.get("x-powered-by"), null);
    });
  }
});

Deno.test("pages hold no script, no inline style and no third party's resource", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const pages = [
    await service.app.request("/"),
    await service.app.request("/withdraw"),
    await service.app.request("/callback"),
    await donateBy(browser, service),
    await withdrawBy(browser, service),
  ];
  for (const page of pages) {
    const html = await page.text();
    assert.doesNotMatch(html, /<script|<style|<iframe|\sstyle=|\son\w+=|javascript:/i);
    for (const [, url = ""] of html.matchAll(/<(?:link|img)[^>]*\s(?:href|src)="([^"]*)"/g)) assert.match(url, /^\/\w/);
    for (const [, url = ""] of html.matchAll(/<form[^>]*\saction="([^"]*)"/g)) assert.match(url, /^\/\w/);
    assert.match(html, /<html lang="en">/);
    assert.equal(html.match(/<h1>/g)?.length, 1);
    assert.equal(html.match(/<main id="main">/g)?.length, 1);
  }
});

Deno.test("OAuth pages are never stored by a cache", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const responses = [];
  for (const path of OAUTH_PAGES) responses.push(await service.app.request(path));
  responses.push(await browser.submit("/withdraw"));
  const away = await browser.go("/auth");
  const back = await browser.go(service.github.authorize(away.headers.get("location")!, "ada"));
  responses.push(away, back, await browser.go("/thanks"));
  for (const { headers } of responses) assert.equal(headers.get("cache-control"), "no-store");
});

Deno.test("what each page brings along is kept by caches for an hour", async () => {
  await using service = await temporaryService();
  for (const path of ["/style.css", "/favicon.svg", "/og.png"]) {
    assert.equal((await service.app.request(path)).headers.get("cache-control"), "public, max-age=3600", path);
  }
});

Deno.test("only /status and what reads like it lets other origins read", async () => {
  await using service = await temporaryService();
  for (const path of [...PAGES, "/nowhere"]) {
    const { headers } = await service.app.request(path, { headers: { origin: "https://elsewhere.example" } });
    // Empty, not absent: where nothing is said Val Town says "*".
    assert.equal(
      headers.get("access-control-allow-origin"),
      ["/status", "/badge.json"].includes(path) ? "*" : "",
      path,
    );
    assert.equal(headers.get("access-control-allow-credentials"), null, path);
  }
});

Deno.test("GET / explains the terms and offers the donation", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 2, { reserve: 0.5 });
  const html = await (await service.app.request("/")).text();
  assert.match(html, /<form action="\/auth" method="get" class="[\w ]+">/);
  assert.deepEqual([...html.matchAll(/name="reserve" value="([\d.]+)"/g)].map(([, value]) => value), [
    "0.25",
    "0.5",
    "0.75",
    "0.9",
  ]);
  assert.match(html, /value="0.5" checked/);
  assert.match(html, /You may not share API tokens/);
  assert.match(html, new RegExp(`/settings/connections/applications/${service.github.clientId}`));
  assert.match(html, /<dd id="healthy">2<\/dd>/);
  assert.match(html, /<dd>5,000<\/dd>/, "calls free to use: half of two limits");
});

Deno.test("GET / tells the operator what is missing, and echoes no value", async () => {
  const variables = {
    GITHUB_CLIENT_ID: undefined,
    GITHUB_CLIENT_SECRET: undefined,
    TOKEN_ENCRYPTION_KEY: "canary-of-a-bad-key",
    PUBLIC_URL: "canary-of-a-bad-url",
  };
  await using service = await temporaryService({ variables });
  const response = await service.app.request("/");
  assert.equal(response.status, 200);
  const html = await response.text();
  for (const name of Object.keys(variables)) assert.ok(html.includes(name), name);
  assert.match(html, /openssl rand -hex 32/);
  assert.doesNotMatch(html, /canary/);
  assert.doesNotMatch(html, /<form/);
});

Deno.test("GET / links each missing variable to the val's own settings on Val Town", async () => {
  await using service = await temporaryService({
    variables: {
      GITHUB_CLIENT_ID: undefined,
      VALTOWN_ENTRYPOINT: "https://esm.town/v/ada/pool@12-main/main.http.ts",
    },
  });
  const html = await (await service.app.request("/")).text();
  assert.match(html, /https:\/\/www\.val\.town\/x\/ada\/pool\/environment-variables\?key=GITHUB_CLIENT_ID/);
  assert.match(html, /https:\/\/esm\.town\/v\/ada\/pool@12-main\/lib\/pool\.ts/);
});

Deno.test("GET / shows without a database", async () => {
  await using service = await temporaryService();
  service.database.failing = /^/;
  const response = await service.app.request("/");
  assert.equal(response.status, 200);
  assert.match(await textOf(response), /not available at the moment/);
});

Deno.test("GET /auth sends to GitHub with each reserve that is offered, and refuses others", async () => {
  await using service = await temporaryService();
  for (const reserve of ["0.25", "0.5", "0.75", "0.9"]) {
    assert.equal((await service.app.request(`/auth?reserve=${reserve}`)).status, 302);
    await donateBy(new Browser(service.app), service, "ada", `/auth?reserve=${reserve}`);
    assert.deepEqual(await service.database.look("SELECT reserve FROM token_pool_tokens"), [{
      reserve: Number(reserve),
    }]);
  }
  for (const reserve of ["", "0", "1", "-0.5", "0.95", "50", "NaN", "0.5x", "<script>"]) {
    const response = await service.app.request(`/auth?reserve=${encodeURIComponent(reserve)}`);
    assert.equal(response.status, 400, reserve);
    assert.deepEqual(response.headers.getSetCookie(), []);
    assert.doesNotMatch(await response.text(), /<script>/);
  }
});

Deno.test("GET /auth keeps the pool's own reserve for a donor who did not choose", async () => {
  for (const reserve of [undefined, "0.6"]) {
    await using service = await temporaryService({ variables: { TOKEN_POOL_RESERVE: reserve } });
    await donateBy(new Browser(service.app), service);
    const rows = await service.database.look("SELECT reserve FROM token_pool_tokens");
    assert.deepEqual(rows, [{ reserve: Number(reserve ?? 0.25) }]);
  }
});

Deno.test("the transaction's cookie is bound to the host, sealed, and lasts ten minutes", async () => {
  await using service = await temporaryService();
  const response = await service.app.request("/auth");
  const { set: [cookie, ...more] } = cookiesOf(response);
  assert.equal(more.length, 0);
  assert.match(cookie!.name, /^__Host-/);
  assert.deepEqual(Object.fromEntries(cookie!.attributes), {
    "max-age": "600",
    path: "/",
    secure: "",
    httponly: "",
    samesite: "Lax",
  });
  const state = new URL(response.headers.get("location")!).searchParams.get("state")!;
  assert.ok(!cookie!.value.includes(state));
});

Deno.test("the cookie of what a page shows once is as strict, sealed, and lasts five minutes", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const away = await browser.go("/auth");
  const back = await browser.go(service.github.authorize(away.headers.get("location")!, "ada"));
  const { set: [cookie, ...more] } = cookiesOf(back);
  assert.equal(more.length, 0);
  assert.match(cookie!.name, /^__Host-/);
  assert.deepEqual(Object.fromEntries(cookie!.attributes), {
    "max-age": "300",
    path: "/",
    secure: "",
    httponly: "",
    samesite: "Lax",
  });
  const opened = await (await service.vault.keyring()).open(cookie!.value, { column: "flash", githubUserId: "" });
  assert.equal(JSON.parse(opened!).page, "thanks");
});

Deno.test("the cookies work on http://localhost too, by a plain name", async () => {
  await using service = await temporaryService({
    variables: { PUBLIC_URL: undefined, PORT: "8123" },
    github: { callbackUrl: "http://localhost:8123/callback" },
  });
  const browser = new Browser(service.app, "http://localhost:8123");
  const { set: [cookie] } = cookiesOf(await service.app.request("/auth"));
  assert.doesNotMatch(cookie!.name, /^__/);
  assert.ok(!cookie!.attributes.has("secure") && cookie!.attributes.has("httponly"));
  assert.match(await textOf(await donateBy(browser, service)), /Thank you, ada/);
  const away = await browser.submit("/donation");
  await browser.go(service.github.authorize(away.headers.get("location")!, "ada"));
  assert.match(await textOf(await browser.go("/donation")), /You are ada/);
  assert.match(await textOf(await withdrawBy(browser, service)), /out of the pool/);
  assert.deepEqual([...browser.cookies], []);
});

Deno.test("the cookies are as strict by http as by https, but on this machine", async () => {
  const strict = {
    "https://localhost": true,
    "http://pool.example": true,
    "http://192.168.0.9:8000": true,
    "http://localhost.example": true,
  };
  const plain = { "http://127.0.0.1:8000": false, "http://[::1]:8000": false, "http://pool.localhost": false };
  for (const [origin, isStrict] of Object.entries({ ...strict, ...plain })) {
    await using service = await temporaryService({ variables: { PUBLIC_URL: origin } });
    const { set: [cookie] } = cookiesOf(await service.app.request("/auth"));
    assert.equal(cookie!.name.startsWith("__Host-"), isStrict, origin);
    assert.equal(cookie!.attributes.has("secure"), isStrict, origin);
  }
});

Deno.test("no header of a request changes where people are sent or what their cookies are", async () => {
  await using service = await temporaryService();
  const poisons: Record<string, string>[] = [
    { host: "evil.example" },
    { "x-forwarded-host": "evil.example", "x-forwarded-proto": "http" },
    { forwarded: "host=evil.example;proto=http" },
    { "x-original-host": "evil.example", "x-host": "evil.example", "x-forwarded-server": "evil.example" },
    { "x-original-url": "https://evil.example/", "x-rewrite-url": "/evil.example" },
    { origin: "https://evil.example", referer: "https://evil.example/" },
  ];
  const shape = async (url: string, headers: Record<string, string>) => {
    const response = await service.app.request(url, { headers });
    const { set: [cookie] } = cookiesOf(response);
    const to = new URL(response.headers.get("location")!);
    // With its dot: four letters alone may well stand in a random state, challenge or sealed text.
    assert.ok(![to.href, ...response.headers.getSetCookie()].join().includes("evil.example"));
    return [to.origin, to.pathname, to.searchParams.get("redirect_uri"), cookie!.name.slice(0, 7), [
      ...cookie!.attributes,
    ]];
  };
  const expected = await shape("https://pool.example/auth", {});
  assert.deepEqual(expected.slice(0, 3), [
    "https://github.com",
    "/login/oauth/authorize",
    "https://pool.example/callback",
  ]);
  for (const headers of poisons) assert.deepEqual(await shape("https://pool.example/auth", headers), expected);
  // A server makes the request's URL from the Host header, so it counts as one.
  assert.deepEqual(await shape("http://evil.example/auth", {}), expected);
});

Deno.test("on Val Town, and only there, the public address is the request's own", async () => {
  await using service = await temporaryService({
    variables: { PUBLIC_URL: undefined, VALTOWN_ENTRYPOINT: "https://esm.town/v/ada/pool@12-main/main.http.ts" },
  });
  const at = async (url: string) => {
    const response = await service.app.request(url, { headers: { "x-forwarded-host": "evil.example" } });
    return new URL(response.headers.get("location")!).searchParams.get("redirect_uri");
  };
  for (const origin of ["https://ada--pool.web.val.run", "https://pool.ada.example"]) {
    assert.equal(await at(`${origin}/auth`), `${origin}/callback`);
    assert.ok((await (await service.app.request(`${origin}/`)).text()).includes(`content="${origin}/og.png"`));
  }
  service.variables["PUBLIC_URL"] = "https://pool.example";
  assert.equal(await at("https://ada--pool.web.val.run/auth"), "https://pool.example/callback");
  service.variables["PUBLIC_URL"] = service.variables["VALTOWN_ENTRYPOINT"] = undefined;
  assert.equal(await at("https://evil.example/auth"), "http://localhost:8000/callback");
});

Deno.test("GET /callback without a cookie of ours asks neither the database nor GitHub", async () => {
  await using service = await temporaryService();
  await (await service.app.request("/auth")).text();
  const [requests, statements] = [service.github.requests.length, service.database.statements.length];
  const callbacks: [query: string, cookie: string][] = [
    ["", ""],
    ["?code=0123456789abcdef0123&state=abc", ""],
    ["?code=0123456789abcdef0123&state=abcdefgh", "__Host-token_pool_transaction_abcdefgh=v1.00000000.AAAA.AAAA"],
    ["?code=0123456789abcdef0123&state=abcdefgh", "__Host-token_pool_transaction_abcdefgh="],
    ["?code=0123456789abcdef0123&state=abcdefgh", "__Host-token_pool_transaction_abcdefgh=%E0%A4%A"],
    ["?error=access_denied&state=abc", "unrelated=1"],
  ];
  for (const [query, cookie] of callbacks) {
    const response = await service.app.request(`/callback${query}`, { headers: { cookie } });
    assert.equal(response.status, 400, query + cookie);
    assert.match(await textOf(response), /expired.*Nothing was stored/);
  }
  assert.deepEqual([service.github.requests.length, service.database.statements.length], [requests, statements]);
});

Deno.test("GET /callback deletes the transaction's cookie however it ends", async (t) => {
  const endings: Record<string, { status: number; says: RegExp; bend(service: Service, callback: URL): void }> = {
    success: { status: 303, says: /^$/, bend: () => {} },
    cancelled: {
      status: 200,
      says: /did not authorize.*Nothing was stored/,
      bend: (_, { searchParams }) => {
        searchParams.delete("code");
        searchParams.set("error", "access_denied");
      },
    },
    mismatch: {
      status: 400,
      says: /does not match.*Nothing was stored/,
      bend: (_, { searchParams }) => searchParams.set("state", searchParams.get("state") + "x"),
    },
    "state of nobody": {
      status: 400,
      says: /does not match.*Nothing was stored/,
      bend: (_, { searchParams }) => searchParams.set("state", "somethingElse"),
    },
    "no state": {
      status: 400,
      says: /does not match.*Nothing was stored/,
      bend: (_, { searchParams }) => searchParams.delete("state"),
    },
    expired: { status: 400, says: /ten minutes.*Nothing was stored/, bend: ({ clock }) => clock.advance(600_000) },
    "code refused": {
      status: 400,
      says: /did not accept.*Nothing was stored/,
      bend: (_, { searchParams }) => searchParams.set("code", "0123456789abcdef0123"),
    },
    misconfigured: {
      status: 503,
      says: /not set up right.*Nothing was stored/,
      bend: ({ variables }) => variables["GITHUB_CLIENT_SECRET"] = "another",
    },
    "e-mail not verified": {
      status: 403,
      says: /verified.*Nothing was stored/,
      bend: (_, { searchParams }) => searchParams.set("error", "unverified_user_email"),
    },
    "GitHub away": {
      status: 502,
      says: /could not reach GitHub.*Nothing was stored/,
      bend: ({ github }) => github.down = { answer: "nothing" },
    },
    "database away": {
      status: 503,
      says: /does not answer.*Nothing was stored/,
      bend: ({ database }) => database.failing = /^/,
    },
  };
  for (const [name, { status, says, bend }] of Object.entries(endings)) {
    await t.step(name, async () => {
      await using service = await temporaryService();
      const browser = new Browser(service.app);
      const away = await browser.go("/auth");
      assert.equal(transactions(browser).length, 1);
      const callback = new URL(service.github.authorize(away.headers.get("location")!, "ada"));
      bend(service, callback);
      const response = await browser.go(callback.href);
      assert.equal(response.status, status);
      assert.match(await textOf(response), says);
      assert.deepEqual(transactions(browser), [], "no transaction is left");
      const retry = response.headers.get("retry-after");
      assert.equal(retry !== null, response.status === 502 || response.status === 503);
    });
  }
});

Deno.test("GET /callback refuses scopes with a page, no row and no grant", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const away = await browser.go("/auth");
  const response = await browser.go(service.github.authorize(away.headers.get("location")!, "ada", { scope: "repo" }));
  assert.equal(response.status, 403);
  assert.match(await textOf(response), /can do too much.*Nothing was stored/);
  assert.deepEqual(service.github.liveTokens("ada"), []);
  assert.deepEqual(transactions(browser), []);
});

Deno.test("GET /callback refuses to store under a wrong key", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const before = await service.database.look("SELECT * FROM token_pool_tokens");
  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  const browser = new Browser(service.app);
  const away = await browser.go("/auth");
  const response = await browser.go(service.github.authorize(away.headers.get("location")!, "ada"));
  assert.equal(response.status, 503);
  assert.match(await textOf(response), /key is not the right one.*Nothing was stored/);
  assert.deepEqual(await service.database.look("SELECT * FROM token_pool_tokens"), before);
  assert.deepEqual(service.github.liveTokens("ada"), []);
});

Deno.test("GET /callback leaves another tab's transaction alone", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const first = (await browser.go("/auth?reserve=0.25")).headers.get("location")!;
  const second = (await browser.go("/auth?reserve=0.9")).headers.get("location")!;
  assert.equal(transactions(browser).length, 2);
  assert.equal((await browser.go(service.github.authorize(second, "ada"))).status, 303);
  assert.equal(transactions(browser).length, 1);
  assert.equal((await browser.go(service.github.authorize(first, "bob"))).status, 303);
  assert.deepEqual(transactions(browser), []);
  const rows = await service.database.look("SELECT github_username, reserve FROM token_pool_tokens ORDER BY id");
  assert.deepEqual(rows, [{ github_username: "ada", reserve: 0.9 }, { github_username: "bob", reserve: 0.25 }]);
});

Deno.test("GET /callback works once", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const away = await browser.go("/auth");
  const callback = service.github.authorize(away.headers.get("location")!, "ada");
  await browser.go(callback);
  const requests = service.github.requests.length;
  const again = await browser.go(callback);
  assert.equal(again.status, 400);
  assert.equal(service.github.requests.length, requests);
  assert.equal(service.github.liveTokens("ada").length, 1);
});

Deno.test("GET /callback never says what GitHub says", async () => {
  await using service = await temporaryService();
  const errors = ["access_denied", "redirect_uri_mismatch", "application_suspended", "canary_error", "<script>"];
  for (const error of errors) {
    const browser = new Browser(service.app);
    const state = new URL((await browser.go("/auth")).headers.get("location")!).searchParams.get("state")!;
    const query = new URLSearchParams({
      error,
      state,
      error_description: `Canary <script>alert(1)</script>`,
      error_uri: "https://evil.example/canary",
    });
    const response = await browser.go(`/callback?${query}`);
    const output = await response.text() + JSON.stringify([...response.headers]) + service.log.join();
    assert.doesNotMatch(output, /canary|evil\.example|<script/i);
  }
});

Deno.test("GET /thanks says who lends what, once", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const page = await donateBy(browser, service, "ada", "/auth?reserve=0.75");
  assert.equal(page.status, 200);
  const text = await textOf(page);
  assert.match(text, /Thank you, ada/);
  assert.match(text, /1,250 more calls an hour/);
  assert.match(text, /75 %/);
  assert.deepEqual([...browser.cookies], [], "nothing is kept of the donor's visit");
  const again = await browser.go("/thanks");
  assert.equal(again.status, 303);
  assert.equal(again.headers.get("location"), "/");
  assert.match(await textOf(await donateBy(browser, service)), /updated.*asked to revoke the token that it replaces/);
});

Deno.test("GET /thanks believes no address and no cookie but its own", async () => {
  await using service = await temporaryService();
  const cookies = [
    "__Host-token_pool_flash=thanks",
    `__Host-token_pool_flash=${encodeURIComponent(JSON.stringify({ page: "thanks", props: { login: "evil" } }))}`,
    "token_pool_flash=v1.00000000.AAAA.AAAA",
  ];
  for (const cookie of cookies) {
    const response = await service.app.request("/thanks?success=true&login=evil", { headers: { cookie } });
    assert.equal(response.status, 303);
    assert.equal(response.headers.get("location"), "/");
  }
});

Deno.test("GET /thanks says that a token expires when it does", async () => {
  await using service = await temporaryService({ github: { expiringTokens: true } });
  assert.match(await textOf(await donateBy(new Browser(service.app), service)), /expire/);
});

Deno.test("a login is text, whatever is in it", async () => {
  await using service = await temporaryService();
  const login = `"><script>alert(1)</script>`;
  service.github.addUser(login);
  const html = await (await donateBy(new Browser(service.app), service, login)).text();
  assert.doesNotMatch(html, /<script/);
  assert.match(html, /&quot;&gt;&lt;script&gt;alert\(1\)&lt;\/script&gt;/);
});

Deno.test("POST /withdraw takes a donation back, on the page that says so", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  await donateBy(browser, service);
  const explained = await textOf(await browser.go("/withdraw"));
  assert.match(explained, /deleted/);
  const text = await textOf(await withdrawBy(browser, service));
  assert.match(text, /out of the pool/);
  assert.ok(text.includes(new Date(START).toISOString().slice(11, 19)), "when");
  assert.match(text, /revoked at GitHub/);
  assert.equal(await service.database.count("tokens"), 0);
  assert.deepEqual(service.github.liveTokens("ada"), []);
  assert.match(await textOf(await browser.go("/withdraw")), /Withdraw with GitHub/, "shown once");
  assert.match(await textOf(await withdrawBy(browser, service)), /There is no token of yours here/);
});

Deno.test("POST /withdraw says so when GitHub does not confirm, and a passing request finishes it", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  await donateBy(browser, service);
  service.github.down = { answer: 502, only: /^DELETE / };
  assert.match(await textOf(await withdrawBy(browser, service)), /did not confirm/);
  assert.equal(await service.database.count("tokens"), 0);
  service.github.down = null;
  await service.app.request("/status");
  assert.deepEqual(service.github.liveTokens("ada"), []);
});

Deno.test("POST /withdraw refuses other sites", async () => {
  await using service = await temporaryService();
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const foreign: Record<string, string>[] = [
    { ...form, origin: "https://evil.example", "sec-fetch-site": "cross-site" },
    { ...form, origin: "https://evil.example" },
    { ...form, "sec-fetch-site": "cross-site" },
    { ...form, "sec-fetch-site": "same-site", origin: "https://other.pool.example" },
    { ...form, origin: "null" },
    { origin: "https://evil.example", host: "evil.example" },
    { "content-type": "text/plain", origin: "https://evil.example" },
    { "content-type": "multipart/form-data; boundary=x", origin: "http://pool.example" },
    { "content-type": "application/json", origin: "https://evil.example", "sec-fetch-site": "cross-site" },
  ];
  for (const headers of foreign) {
    for (const url of ["https://pool.example/withdraw", "https://evil.example/withdraw"]) {
      const response = await service.app.request(url, { method: "POST", headers });
      assert.equal(response.status, 403, JSON.stringify(headers));
      assert.match(await textOf(response), /did not come from this site/);
      assert.deepEqual(response.headers.getSetCookie(), []);
    }
  }
  assert.deepEqual(service.github.requests, []);
});

Deno.test("POST /withdraw answers the form of the service, and what is no browser", async () => {
  await using service = await temporaryService();
  const own: Record<string, string>[] = [
    { origin: "https://pool.example", "sec-fetch-site": "same-origin" },
    { origin: "https://pool.example" },
    { "sec-fetch-site": "same-origin" },
    {},
  ];
  for (const headers of own) {
    const response = await service.app.request("https://pool.example/withdraw", { method: "POST", headers });
    assert.equal(response.status, 303, JSON.stringify(headers));
    assert.equal(new URL(response.headers.get("location")!).origin, "https://github.com");
  }
});

Deno.test("GET /auth from another site leads to the first page, where the donor chooses", async () => {
  await using service = await temporaryService();
  for (const site of ["cross-site", "same-site"]) {
    const response = await service.app.request("/auth?reserve=0.25", { headers: { "sec-fetch-site": site } });
    assert.deepEqual([response.status, response.headers.get("location")], [303, "/"], site);
    assert.deepEqual(response.headers.getSetCookie(), [], site);
  }
  for (const headers of [{ "sec-fetch-site": "same-origin" }, { "sec-fetch-site": "none" }, {}]) {
    const response = await service.app.request("/auth?reserve=0.25", { headers: headers as HeadersInit });
    assert.equal(response.status, 302, JSON.stringify(headers));
  }
});

Deno.test("no address redirects to another place than GitHub and this service", async () => {
  await using service = await temporaryService();
  const evil = "https://evil.example/";
  const queries = ["return_to", "redirect", "redirect_uri", "next", "url", "state"].map((name) =>
    `?${name}=${encodeURIComponent(evil)}`
  );
  for (const path of ["/", "/auth", "/callback", "/thanks", "/withdraw", "/donation"]) {
    for (const query of queries) {
      const response = await service.app.request(path + query);
      const location = response.headers.get("location") ?? "/";
      assert.ok(!decodeURIComponent(location).includes("evil.example"), path + query);
      assert.doesNotMatch(await response.text(), /evil/);
    }
  }
  for (
    const path of ["//evil.example", "//evil.example/auth", "/%2F/evil.example", "/\\evil.example", "/https://evil"]
  ) {
    const response = await service.app.request(`https://pool.example${path}`);
    assert.equal(response.status, 404, path);
    assert.equal(response.headers.get("location"), null);
  }
});

Deno.test("there is nothing below /callback, nor beside it", async () => {
  await using service = await temporaryService();
  for (const path of ["/callback/", "/callback/x", "/callback/..%2fx", "/Callback", "/callback.html", "/callback;x"]) {
    assert.equal((await service.app.request(path)).status, 404, path);
  }
});

Deno.test("an unknown address gets a page that does not repeat it", async () => {
  await using service = await temporaryService();
  const response = await service.app.request("/<script>alert(1)</script>?canary");
  assert.equal(response.status, 404);
  const html = await response.text();
  assert.doesNotMatch(html, /<script|canary|alert/);
  assert.match(html, /There is no such page/);
});

Deno.test("another method gets 405 and is told which there are", async () => {
  await using service = await temporaryService();
  const allowed: Record<string, string[]> = {
    "/": ["GET", "HEAD"],
    "/auth": ["GET", "HEAD"],
    "/callback": ["GET", "HEAD"],
    "/thanks": ["GET", "HEAD"],
    "/withdraw": ["GET", "HEAD", "POST"],
    "/donation": ["GET", "HEAD", "POST"],
    "/status": ["GET", "HEAD", "OPTIONS"],
    "/healthz": ["GET", "HEAD"],
  };
  for (const [path, methods] of Object.entries(allowed)) {
    for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
      if (methods.includes(method)) continue;
      const response = await service.app.request(path, { method });
      assert.equal(response.status, 405, `${method} ${path}`);
      assert.deepEqual(response.headers.get("allow")?.split(/, */).sort(), methods);
      assert.match(await textOf(response), /Nothing was stored/);
    }
  }
  assert.deepEqual(service.github.requests, []);
});

Deno.test("HEAD answers like GET, without a body", async () => {
  await using service = await temporaryService();
  for (const path of PAGES) {
    const [head, get] = [await service.app.request(path, { method: "HEAD" }), await service.app.request(path)];
    assert.equal(head.status, get.status, path);
    assert.equal(await head.text(), "");
    for (const name of ["content-type", "cache-control", "etag", "access-control-allow-origin"]) {
      assert.equal(head.headers.get(name), get.headers.get(name), `${path} ${name}`);
    }
    const { byteLength } = await get.arrayBuffer();
    assert.equal(Number(head.headers.get("content-length")), byteLength, `${path}: as long as GET's would be`);
  }
});

Deno.test("OPTIONS /status lets any origin ask", async () => {
  await using service = await temporaryService();
  const headers = { origin: "https://elsewhere.example", "access-control-request-method": "GET" };
  const response = await service.app.request("/status", { method: "OPTIONS", headers });
  assert.equal(response.status, 204);
  assert.equal(response.headers.get("access-control-allow-origin"), "*");
  assert.match(response.headers.get("access-control-allow-methods") ?? "", /GET/);
  for (const path of ["/auth", "/withdraw", "/callback"]) {
    const other = await service.app.request(path, { method: "OPTIONS", headers });
    assert.equal(other.headers.get("access-control-allow-origin") || null, null, path);
  }
});

Deno.test("what needs the app says 503 until the operator has set it up", async () => {
  for (const missing of ["GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET", "TOKEN_ENCRYPTION_KEY"]) {
    await using service = await temporaryService({ variables: { [missing]: undefined } });
    for (
      const [path, method] of [["/auth", "GET"], ["/callback", "GET"], ["/withdraw", "GET"], ["/withdraw", "POST"]]
    ) {
      const response = await service.app.request(path!, { method: method! });
      assert.equal(response.status, 503, `${method} ${path} without ${missing}`);
      assert.ok(Number(response.headers.get("retry-after")) > 0);
      assert.match(await textOf(response), /not set up yet.*Nothing was stored/);
    }
    assert.equal((await service.app.request("/thanks")).status, 303);
    assert.equal((await service.app.request("/")).status, 200);
    assert.deepEqual(service.github.requests, []);
  }
});

Deno.test("settings count as soon as they change", async () => {
  await using service = await temporaryService({ variables: { GITHUB_CLIENT_ID: undefined } });
  assert.equal((await service.app.request("/auth")).status, 503);
  assert.doesNotMatch(await (await service.app.request("/")).text(), /<form action="\/auth"/);
  service.variables["GITHUB_CLIENT_ID"] = service.github.clientId;
  assert.equal((await service.app.request("/auth")).status, 302);
  const landing = await service.app.request("/");
  assert.match(await landing.text(), /<form action="\/auth"/);
  assert.equal(landing.headers.get("cache-control"), "no-cache", "nobody is shown an earlier one");
});

Deno.test("the kill switch closes the donation and leaves the way out open", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  await donateBy(browser, service);
  assert.match(await textOf(await browser.go("/")), /Donate a token with GitHub/);
  service.variables["TOKEN_POOL_DISABLED"] = "1";
  const response = await browser.go("/auth");
  assert.equal(response.status, 503);
  assert.match(await textOf(response), /paused.*Nothing was stored/);
  const landing = await textOf(await browser.go("/"));
  assert.match(landing, /paused/);
  assert.doesNotMatch(landing, /Donate a token with GitHub/);
  assert.match(await textOf(await withdrawBy(browser, service)), /out of the pool/);
});

Deno.test("the kill switch also ends a donation that was begun before", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const away = await browser.go("/auth");
  service.variables["TOKEN_POOL_DISABLED"] = "1";
  const response = await browser.go(service.github.authorize(away.headers.get("location")!, "ada"));
  assert.equal(response.status, 503);
  assert.match(await textOf(response), /paused.*Nothing was stored/);
  assert.deepEqual(transactions(browser), [], "the transaction is over");
  assert.deepEqual(service.github.liveTokens("ada"), [], "GitHub was not asked for a token");
});

Deno.test("each error page has a reference that the log has too", async () => {
  await using service = await temporaryService();
  for (const path of ["/callback", "/nowhere", "/auth?reserve=2"]) {
    const html = await (await service.app.request(path)).text();
    const [, reference] = /<code>([0-9a-f-]{8,})<\/code>/.exec(html) ?? [];
    assert.ok(reference, path);
    assert.ok(service.log.some((line) => line.includes(reference)), path);
  }
  for (const line of service.log) assert.doesNotThrow(() => JSON.parse(line), "one JSON object per line");
});

Deno.test("every error page has a status of an error, a cause, what to do, and says that nothing was stored", () => {
  const expected: Partial<Record<keyof typeof MESSAGES, number>> = {
    cancelled: 200,
    expired: 400,
    mismatch: 400,
    code_refused: 400,
    misconfigured: 503,
    has_scopes: 403,
    github_away: 502,
    rate_limited: 429,
    database_away: 503,
    not_found: 404,
    method_not_allowed: 405,
  };
  for (const [name, status] of Object.entries(expected)) {
    assert.equal(MESSAGES[name as keyof typeof MESSAGES].status, status);
  }
  for (const [name, message] of Object.entries(MESSAGES)) {
    assert.ok(message.status >= 400 || name === "cancelled", name);
    assert.match(message.text, /\w.*Nothing was stored/s, name);
    assert.match(message.remedy, /\.$/, name);
    const html = messagePage({ ...message, githubUrl: "https://ghe.example", reference: "0123abcd" });
    assert.match(html, /<code>0123abcd<\/code>/, name);
    const site = name === "email_unverified" ? "https://ghe.example" : "";
    assert.ok(html.includes(`href="${site}${message.link.href}"`), name);
  }
});

Deno.test("the log tells what only the operator can mend from what happens to anybody", async () => {
  await using service = await temporaryService();
  await service.app.request("/callback");
  service.variables["GITHUB_CLIENT_ID"] = undefined;
  await service.app.request("/auth");
  assert.deepEqual(service.log.map((line) => JSON.parse(line)).map(({ level, name }) => [level, name]), [
    ["info", "expired"],
    ["error", "not_configured"],
  ]);
});

Deno.test("a fault of our own gets a page and a log line, both without what the fault said", async () => {
  await using service = await temporaryService();
  const log: string[] = [];
  const app = createApp({
    ...service.options,
    now: () => {
      throw new Error("canary");
    },
    log: (line) => log.push(line),
  });
  const response = await app.request("/status");
  assert.equal(response.status, 500);
  assert.equal(response.headers.get("content-security-policy")?.includes("default-src 'none'"), true);
  assert.match(await textOf(response.clone()), /should not have happened/);
  assert.equal(log.length, 1);
  assert.match(log[0]!, /"error":"Error","at":/);
  assert.doesNotMatch(await response.text() + log.join(), /canary/);
});

Deno.test("GET /status keeps its contract in every state", async () => {
  await using service = await temporaryService();
  const ask = async () => {
    service.clock.advance(15_000);
    const response = await service.app.request("/status");
    return { response, status: statusSchema.parse(await response.json()) };
  };
  assert.equal((await ask()).status.status, "empty");
  await donate(service.pool, 2);
  await service.pool.getToken({ resource: "search" });
  const { response, status } = await ask();
  assert.equal(response.status, 200);
  assert.equal(status.status, "ok");
  assert.equal(status.updated_at, new Date(service.clock.time).toISOString());
  assert.equal(status.tokens.total, 2);
  assert.deepEqual(Object.keys(status.resources), ["core", "search"]);
  assert.equal(response.headers.get("cache-control"), "public, max-age=15, stale-while-revalidate=60");
  service.database.failing = /^/;
  const down = await ask();
  assert.equal(down.status.status, "down");
  assert.equal(down.status.tokens.total, 2, "the last known figures");
  assert.equal(down.response.status, 503);
  assert.equal(down.response.headers.get("cache-control"), "no-store", "no cache shows it once it is over");
  assert.equal(down.response.headers.get("access-control-allow-origin"), "*");
});

Deno.test("GET /status never names a donor", async () => {
  await using service = await temporaryService();
  service.github.addUser("grace", { id: 987_654_321 });
  await donateBy(new Browser(service.app), service, "grace");
  for (const path of ["/status", "/healthz", "/"]) {
    const response = await service.app.request(path);
    assert.doesNotMatch(await response.text(), /grace|987654321|gho_/, path);
  }
});

Deno.test("GET /status has an ETag that holds while the figures do", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const first = await service.app.request("/status");
  const etag = first.headers.get("etag")!;
  await first.body?.cancel();
  assert.match(etag, /^"[\w-]+"$/, "strong");
  const second = await service.app.request("/status", { headers: { "if-none-match": etag } });
  assert.equal(second.status, 304);
  assert.equal(await second.text(), "");
  assert.equal(second.headers.get("etag"), etag);
  assert.equal(second.headers.get("access-control-allow-origin"), "*");
  assert.match(second.headers.get("cache-control") ?? "", /max-age=15/);
  for (const many of [`"other", ${etag}`, `W/${etag}`, "*"]) {
    const response = await service.app.request("/status", { headers: { "if-none-match": many } });
    assert.equal(response.status, 304, many);
  }
  await service.pool.getToken();
  service.clock.advance(15_000);
  const third = await service.app.request("/status", { headers: { "if-none-match": etag } });
  assert.equal(third.status, 200);
  assert.notEqual(third.headers.get("etag"), etag);
  await third.body?.cancel();
});

Deno.test("GET /status asks the database once in 15 s, however many ask", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  const { statements } = service.database;
  const queries = () => statements.filter((sql) => STATS_QUERY.test(sql)).length;
  await service.app.request("/status");
  const [before, asked] = [statements.length, queries()];
  for (let n = 0; n < 20; n++) {
    service.clock.advance(749);
    await service.app.request(n % 2 === 0 ? "/status" : "/");
  }
  assert.equal(statements.length, before, "nothing at all within 15 s");
  service.clock.advance(20);
  await Promise.all(Array.from({ length: 50 }, () => service.app.request("/status")));
  assert.equal(queries(), asked + 1);
  assert.equal(statements.length, before + 1);
});

Deno.test("GET /status shows at once what this process changed itself", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const total = async () => statusSchema.parse(await (await service.app.request("/status")).json()).tokens.total;
  assert.equal(await total(), 0);
  await donateBy(browser, service);
  assert.equal(await total(), 1);
  await donateBy(browser, service, "bob");
  assert.equal(await total(), 2);
  await withdrawBy(browser, service);
  assert.equal(await total(), 1);
});

Deno.test("GET /healthz passes, warns and fails as monitors expect", async () => {
  await using service = await temporaryService();
  const ask = async () => {
    service.clock.advance(15_000);
    const response = await service.app.request("/healthz");
    assert.equal(response.headers.get("cache-control"), "no-store");
    const health = await response.json();
    return { status: response.status, says: health.status, checks: health.checks };
  };
  const empty = await ask();
  assert.deepEqual([empty.status, empty.says], [200, "warn"], "an empty pool");
  await donate(service.pool, 1, { reserve: 0.9 });
  const good = await ask();
  assert.deepEqual([good.status, good.says], [200, "pass"]);
  assert.ok(good.checks["database:connection"][0].time);
  await service.pool.getToken({ cost: 500 });
  const dry = await ask();
  assert.deepEqual([dry.status, dry.says], [200, "warn"], "an exhausted pool");

  service.database.failing = /^/;
  const broken = await ask();
  assert.deepEqual([broken.status, broken.says], [503, "fail"], "a broken database");
  service.database.failing = null;
  assert.equal((await ask()).status, 200, "and back");

  service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
  const before = await service.database.look("SELECT * FROM token_pool_tokens");
  const locked = await ask();
  assert.deepEqual([locked.status, locked.says], [503, "fail"], "a wrong key");
  assert.deepEqual(await service.database.look("SELECT * FROM token_pool_tokens"), before);
  service.variables["TOKEN_ENCRYPTION_KEY"] = KEY;
  assert.equal((await ask()).status, 200);

  service.variables["TOKEN_ENCRYPTION_KEY"] = undefined;
  assert.deepEqual((await ask()).says, "fail", "no key");
});

Deno.test("GET /healthz notices a broken database although the figures are still fresh", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 1);
  assert.equal((await service.app.request("/healthz")).status, 200);
  service.database.failing = /^/;
  assert.equal((await service.app.request("/healthz")).status, 503);
  service.database.failing = null;
  assert.equal((await service.app.request("/healthz")).status, 200);
});

Deno.test("nothing that leaves the service holds a secret", async () => {
  const key = "c0ffee".padEnd(64, "0123456789");
  await using service = await temporaryService({
    variables: { TOKEN_ENCRYPTION_KEY: key },
    github: { clientSecret: "canaryOfTheClientSecret0123456789abcdef0", expiringTokens: true },
  });
  const outputs: { where: string; text: string }[] = [];
  const responses: { where: string; response: Response }[] = [];
  const spied = Object.assign(Object.create(service.app) as Service["app"], {
    request: async (url: string, init?: RequestInit) => {
      const response = await service.app.request(url, init);
      responses.push({ where: new URL(url).pathname, response: response.clone() });
      return response;
    },
  });
  const browser = new Browser(spied);
  await donateBy(browser, service);
  await donateBy(browser, service, "bob");
  const looking = await browser.submit("/donation");
  await browser.go(service.github.authorize(looking.headers.get("location")!, "ada"));
  await browser.go("/donation");
  service.github.down = { answer: 502, only: /^DELETE / };
  await donateBy(browser, service); // what it replaces cannot be revoked now, so it is kept, sealed
  for (const path of ["/", "/status", "/healthz", "/withdraw", "/nowhere"]) await browser.go(path);
  for (const bend of ["code", "state", "error"]) {
    const callback = new URL(service.github.authorize((await browser.go("/auth")).headers.get("location")!, "ada"));
    callback.searchParams.set(bend, callback.searchParams.get("code")!);
    await browser.go(callback.href);
  }
  for (const path of ["/callback", "/callback/x", "/nowhere"]) {
    const callback = new URL(service.github.authorize((await browser.go("/auth")).headers.get("location")!, "ada"));
    await browser.go(path + callback.search);
  }
  service.database.failing = /INSERT INTO token_pool_tokens/;
  const away = await browser.go("/auth");
  await browser.go(service.github.authorize(away.headers.get("location")!, "ada"));
  service.database.failing = null;
  await withdrawBy(browser, service);

  for (const { where, response } of responses) {
    outputs.push({ where: `body of ${where}`, text: await response.text() });
    for (const [name, value] of response.headers) {
      outputs.push({ where: `${name} of ${where}`, text: value + decodeURIComponent(value) });
    }
  }
  for (const line of service.log) outputs.push({ where: "log", text: line });
  await service.database.look("PRAGMA wal_checkpoint(TRUNCATE)");
  for await (const { name } of Deno.readDir(service.path.replace(/[^/]+$/, ""))) {
    const bytes = await Deno.readFile(service.path.replace(/[^/]+$/, name));
    outputs.push({ where: name, text: new TextDecoder("latin1").decode(bytes) });
  }
  assert.ok(
    responses.length > 30 && service.log.length >= 6 && service.github.secrets.size > 15,
    "there was much to leak",
  );

  const secrets = [key, key.slice(0, 32), ...service.github.secrets];
  for (const { where, text } of outputs) {
    for (const secret of secrets) assert.ok(!text.includes(secret), `${where} holds ${secret}`);
    for (const secret of secrets) assert.ok(!text.includes(btoa(secret)), `${where} holds ${secret} in base64`);
  }
});

Deno.test("no log line holds a token that somebody put into an address", async () => {
  await using service = await temporaryService();
  for (
    const path of ["/callback/gho_0123456789abcdef0123456789abcdef0123", "/gho_0123456789abcdef0123456789abcdef0123"]
  ) {
    await service.app.request(path);
  }
  for (const line of service.log) assert.doesNotMatch(line, /gho_\w{20}/);
});

Deno.test("the service runs without a database of its own making any difference to /auth", async () => {
  await using service = await temporaryService();
  service.database.failing = /^/;
  const requests = service.github.requests.length;
  assert.equal((await service.app.request("/auth")).status, 302);
  assert.equal(service.github.requests.length, requests);
});

Deno.test("createApp() opens the database that the environment names", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 3);
  const app = createApp({
    environment: environment({ ...service.variables, TOKEN_POOL_DATABASE_URL: `file:${service.path}` }),
    now: service.clock.now,
    fetch: service.github.fetch,
  });
  const status = statusSchema.parse(await (await app.request("/status")).json());
  assert.equal(status.tokens.total, 3);
});
