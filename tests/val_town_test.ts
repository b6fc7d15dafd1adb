/**
 * The val on Val Town's own worker, and a consumer that imports the library by URL, with exactly the platform's
 * permissions, against one libSQL server: once on this Deno, once on the version that Val Town documents.
 */

import assert from "node:assert/strict";
import { statusSchema } from "../lib/stats.ts";
import { KEY } from "./support/fixtures.ts";
import { startSqld } from "./support/sqld.ts";
import { DENOS, runConsumer, serveLibrary, startVal } from "./support/val_town.ts";

const ORIGIN = "https://somebody--0123456789.web.val.run";

const CONSUMER = (importUrl: string) => `
import { addToken, availability, createPool, getToken, PoolError, syncTokenHealth } from "${importUrl}";

await addToken({ github_user_id: "583231", github_username: "octocat", token: "gho_of_octocat" });
const token = await getToken();
const headers = { "x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4000", "x-ratelimit-reset": String(Math.floor(Date.now() / 1000) + 1800) };
await syncTokenHealth(token.id, new Response("{}", { headers }));
const { usable } = await availability();
const next = await getToken();
let sent = 0;
const pool = createPool({ fetch: () => Promise.resolve(new Response(String(++sent))) });
const { signal } = new AbortController();
await Promise.all([pool.fetch("/repos/denoland/deno"), pool.fetch("/repos/denoland/deno", { signal })]);
console.log(JSON.stringify({ token: token.token, usable, remaining: next.rate_limit_remaining, isError: new PoolError("config", "") instanceof Error, sent }));
Deno.exit(0);
`;

for (const [name, deno] of Object.entries(DENOS)) {
  Deno.test(`the val and a consumer by URL share one database on Val Town's worker (Deno: ${name})`, async () => {
    await using server = await startSqld({ auth: true });
    const database = {
      TOKEN_POOL_DATABASE_URL: server.url,
      TOKEN_POOL_DATABASE_AUTH_TOKEN: server.authToken!,
      TOKEN_ENCRYPTION_KEY: KEY,
      valtown: "the platform's own token",
      VALTOWN_ENTRYPOINT: "https://esm.town/v/somebody/token-pool@1-main/main.http.ts",
    };
    await using val = await startVal(deno, { ...database, GITHUB_CLIENT_ID: "client", GITHUB_CLIENT_SECRET: "secret" });

    const start = await val.request(`${ORIGIN}/auth?reserve=0.5`, { headers: { host: "evil.example" } });
    assert.equal(start.status, 302);
    const location = new URL(start.headers.get("location")!);
    assert.equal(location.searchParams.get("redirect_uri"), `${ORIGIN}/callback`);
    assert.match(start.headers.get("set-cookie")!, /^__Host-[^;]+; .*Secure/);
    assert.equal((await val.request(`${ORIGIN}/callback?code=x&state=y`)).status, 400);

    await using library = serveLibrary();
    const output = await runConsumer(deno, library.origin, CONSUMER(library.importUrl), database);
    assert.deepEqual(JSON.parse(output), {
      token: "gho_of_octocat",
      usable: 2750,
      remaining: 3999,
      isError: true,
      sent: 1, // equal GETs are one call, whatever else they are given
    });

    const page = await val.request(`${ORIGIN}/`);
    assert.equal(page.status, 200);
    assert.match(await page.text(), /https:\/\/esm\.town\/v\/somebody\/token-pool/);
    const health = await val.request(`${ORIGIN}/healthz`);
    assert.equal(health.status, 200);
    const status = statusSchema.parse(await (await val.request(`${ORIGIN}/status`)).json());
    assert.equal(status.tokens.total, 1);
    assert.equal(status.calls.total, 3);
  });

  Deno.test(`a val without settings says what to set, and where on Val Town (Deno: ${name})`, async () => {
    await using server = await startSqld();
    await using val = await startVal(deno, {
      TOKEN_POOL_DATABASE_URL: server.url,
      VALTOWN_ENTRYPOINT: "https://esm.town/v/somebody/token-pool@1-main/main.http.ts",
    });
    const page = await (await val.request(`${ORIGIN}/`)).text();
    assert.match(
      page,
      /https:\/\/www\.val\.town\/x\/somebody\/token-pool\/environment-variables\?key=TOKEN_ENCRYPTION_KEY/,
    );
    assert.equal((await val.request(`${ORIGIN}/auth`)).status, 503);
  });

  Deno.test(`a consumer without settings is told all that is missing at once (Deno: ${name})`, async () => {
    await using library = serveLibrary();
    const program = `import { getToken } from "${library.importUrl}";
      try { await getToken(); } catch (error) { console.log(error.code, error.message); }`;
    const output = await runConsumer(deno, library.origin, program, {});
    assert.match(output, /^config /);
    assert.match(output, /TOKEN_ENCRYPTION_KEY/);
    assert.match(output, /TOKEN_POOL_DATABASE_URL/);
  });
}
