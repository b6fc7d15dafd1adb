/** The stand-alone server, as a process: how it starts and, above all, how it stops. */

import assert from "node:assert/strict";
import { linesOf, readElsewhere } from "./support/processes.ts";
import { goToGitHub, ROOT, startStandalone } from "./support/standalone.ts";
import { until } from "./support/until.ts";

async function isListening(origin: string): Promise<boolean> {
  try {
    const connection = await Deno.connect({ hostname: "127.0.0.1", port: Number(new URL(origin).port) });
    connection.close();
    return true;
  } catch {
    return false;
  }
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  Deno.test(`on ${signal} the server takes nothing new, finishes a slow donation, closes the database and exits with 0`, async () => {
    await using server = await startStandalone();
    const { github, origin, database, process, ended } = server;
    const { callback, cookie } = await goToGitHub(server, "ada");
    const [reached, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    github.before = (call) => {
      if (call !== "POST /login/oauth/access_token") return;
      reached.resolve();
      return gate.promise;
    };
    const donating = fetch(callback, { headers: { cookie }, redirect: "manual" });
    await reached.promise;
    assert.equal(await isListening(origin), true);

    process.kill(signal);
    await until("it listens no more", async () => !await isListening(origin));

    gate.resolve();
    const answer = await donating;
    await answer.body?.cancel();
    assert.equal(answer.status, 303);
    assert.equal(answer.headers.get("location"), "/thanks");
    const { code, lines } = await ended;
    assert.equal(code, 0);
    const events = lines.map((line) => JSON.parse(line));
    assert.deepEqual(events.map(({ event, outcome }) => [event, outcome]), [
      ["start", undefined],
      ["request", undefined],
      ["donation", "new"],
      ["request", undefined],
      ["stop", "finished"],
    ]);
    // The last who closes an SQLite database takes its write-ahead log along.
    await assert.rejects(Deno.stat(`${database}-wal`), Deno.errors.NotFound);
    assert.deepEqual(await readElsewhere(database, "SELECT github_username FROM token_pool_tokens"), [
      { github_username: "ada" },
    ]);
  });
}

Deno.test("a server that is told to stop cuts off what does not end, and ends with 0", async () => {
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--allow-net", `${ROOT}tests/support/hanging_server.ts`],
    stdout: "piped",
    signal: AbortSignal.timeout(120_000),
  }).spawn();
  const lines = linesOf(process);
  const { message } = JSON.parse((await lines.next()).value!);
  const asking = fetch(message.split(" ").at(-1)).catch(() => "cut off");
  assert.equal((await lines.next()).value, "asked");
  process.kill("SIGTERM");
  assert.equal((await lines.next()).value, "closed");
  const { event, outcome, ms } = JSON.parse((await lines.next()).value!);
  assert.deepEqual([event, outcome], ["stop", "cut off"]);
  assert.ok(ms >= 100 && ms < 10_000, "after the grace that it was given, not the usual one");
  await lines.return(undefined);
  assert.equal((await process.status).code, 0);
  assert.equal(await asking, "cut off");
});

Deno.test("a server that is told to stop twice ends at once, with 1", async () => {
  await using server = await startStandalone();
  const { callback, cookie } = await goToGitHub(server, "ada");
  const reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  server.github.before = () => (reached.resolve(), gate.promise);
  const donating = fetch(callback, { headers: { cookie }, redirect: "manual" }).catch(() => "cut off");
  await reached.promise;
  server.process.kill("SIGTERM");
  await until("it listens no more", async () => !await isListening(server.origin));
  server.process.kill("SIGTERM");
  assert.equal((await server.ended).code, 1);
  assert.equal(await donating, "cut off");
  gate.resolve();
});
