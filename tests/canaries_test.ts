/** That a secret which leaks is noticed, wherever it goes: each place is given one, and has to complain. */

import assert from "node:assert/strict";
import { createClient } from "npm:@libsql/client@0.18.0";
import { assertNoCanary, MARK, plant } from "./support/canaries.ts";
import { FakeGitHub } from "./support/fake_github.ts";
import { donation, KEY, temporaryFolder } from "./support/fixtures.ts";
import { readOpenMetrics } from "./support/metrics.ts";
import { receiveOtlp } from "./support/otlp.ts";
import { Browser, temporaryService } from "./support/service.ts";
import { ROOT } from "./support/standalone.ts";

const LEAKED = /A secret has leaked: /;

/** Rejects because of a leak, without repeating what has leaked. */
async function assertNoticed(secret: string, leak: () => Promise<unknown>): Promise<void> {
  await assert.rejects(leak, (error: Error) => LEAKED.test(error.message) && !error.message.includes(secret));
}

/** Secrets of each kind, as the tests make them. */
function secrets(): Record<string, string> {
  const github = new FakeGitHub();
  github.addUser("ada");
  const token = github.grantToken("ada");
  return {
    token,
    "client secret": github.clientSecret,
    key: KEY,
    "token of the fixtures": donation(7).token,
    "token in base64": btoa(token),
    "token in base64, shifted": btoa(`x${token}`),
    "token in base64, shifted twice": btoa(`{"a":"${token}"}`),
    "token in hex": new TextEncoder().encode(token).toHex(),
    verifier: plant(`verifier-${crypto.randomUUID()}`),
  };
}

Deno.test("every kind of secret is noticed in a text and in bytes, and nothing else is", () => {
  for (const [kind, secret] of Object.entries(secrets())) {
    assert.throws(() => assertNoCanary("here", `before ${secret} after`), LEAKED, kind);
    assert.throws(() => assertNoCanary("here", new TextEncoder().encode(`\0${secret}\0`)), LEAKED, kind);
  }
  for (const fine of ["", "canary", "gho_", "v1.0f0f0f0f.abc.def", KEY.slice(0, 40), btoa("something else")]) {
    assertNoCanary("here", fine);
  }
  assert.throws(() => plant("short"), RangeError);
});

Deno.test("a database that holds a token in plain text is noticed when its folder goes", async () => {
  const { token } = secrets();
  await assertNoticed(token!, async () => {
    await using folder = await temporaryFolder();
    const client = createClient({ url: `file:${folder.path}/pool.db` });
    await client.batch(["CREATE TABLE t (a)", { sql: "INSERT INTO t VALUES (?)", args: [token!] }], "write");
    client.close();
  });
  await assertNoticed(token!, async () => {
    await using folder = await temporaryFolder();
    await Deno.mkdir(`${folder.path}/below`);
    await Deno.writeTextFile(`${folder.path}/below/some.log`, token!);
  });
});

Deno.test("a log line, a page, a header, a metric and a span that hold a token are noticed", async () => {
  const { token } = secrets();
  await assertNoticed(token!, async () => {
    await using service = await temporaryService();
    service.log.push(`{"message":"${token}"}`);
  });
  await using service = await temporaryService();
  for (const leak of [new Response(token), new Response(null, { headers: { location: `/?code=${token}` } })]) {
    const app = Object.assign(Object.create(service.app) as typeof service.app, { request: () => leak });
    await assertNoticed(token!, async () => await new Browser(app).go("/"));
  }
  await assertNoticed(token!, () => Promise.resolve().then(() => readOpenMetrics(`# ${token}\n`)));
  await assertNoticed(token!, async () => {
    await using otlp = receiveOtlp();
    const { OTEL_EXPORTER_OTLP_ENDPOINT: url } = otlp.variables;
    await (await fetch(`${url}/v1/traces`, { method: "POST", body: token! })).body?.cancel();
  });
});

Deno.test(".ci/no_canaries fails on a run that printed a secret, and on one that has nothing to show", async () => {
  await using folder = await temporaryFolder();
  const [output, registry] = [`${folder.path}/output.ts`, `${folder.path}/registry.ts`];
  const look = async (printed: string, remembered: string) => {
    await Deno.writeTextFile(output, printed);
    await Deno.writeTextFile(registry, remembered);
    const { code, stdout } = await new Deno.Command(`${ROOT}.ci/no_canaries`, { args: [output, registry] }).output();
    return { code, said: new TextDecoder().decode(stdout) };
  };
  assert.equal((await look("all well ... ok\n", "a-secret-verifier\n")).code, 0);
  for (const secret of [`gho_${MARK}xyz`, donation(1).token, "a-secret-verifier"]) {
    const { code, said } = await look(`all well ... ok\n\0 it is ${secret}!\n`, "a-secret-verifier\n");
    assert.equal(code, 1);
    assert.match(said, /on the lines 2$/m);
    assert.ok(!said.includes(secret));
  }
  assert.equal((await look("all well ... ok\n", "")).code, 1);
  assert.equal((await look("", "a-secret-verifier\n")).code, 1);
});
