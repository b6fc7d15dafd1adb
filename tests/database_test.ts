/**
 * The driver's traps, each sprung here first, and the ways in which a database can be away. What was written is always
 * read from another process: the connection under test is the one that lies.
 */

import assert from "node:assert/strict";
import { createClient } from "npm:@libsql/client@0.18.0";
import { Connection, type Database } from "../lib/database.ts";
import { PoolError } from "../lib/errors.ts";
import { temporaryFolder } from "./support/fixtures.ts";
import { freePort } from "./support/ports.ts";
import { lockElsewhere, readElsewhere } from "./support/processes.ts";
import { startSqld } from "./support/sqld.ts";
import { startTcpProxy } from "./support/tcp_proxy.ts";

const TABLE = { sql: "CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT UNIQUE)" };
const insert = (n: number) => ({
  sql: "INSERT INTO t (n, text) VALUES (:n, :text) RETURNING n",
  args: { n, text: `text ${n}` },
});
const count = async (file: string) => (await readElsewhere(file, "SELECT count(*) AS n FROM t"))[0]!["n"];
const noSleep = () => Promise.resolve();

async function temporaryFile(lockTimeoutMs = 5_000, sleep: () => Promise<void> = noSleep) {
  const folder = await temporaryFolder();
  const file = `${folder.path}/test.db`;
  const connection = await Connection.open({ kind: "url", url: `file:${file}` }, { lockTimeoutMs, sleep });
  await connection.execute(TABLE);
  return {
    file,
    connection,
    async [Symbol.asyncDispose]() {
      connection.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

Deno.test("the bare client loses writes that it reports as done after one SQLITE_BUSY", async () => {
  await using temporary = await temporaryFile();
  const client = createClient({ url: `file:${temporary.file}`, timeout: 1 });
  const { release } = await lockElsewhere(temporary.file);
  await assert.rejects(client.execute("INSERT INTO t (n) VALUES (1) RETURNING n"), { code: "SQLITE_BUSY" });
  await release();
  for (const n of [2, 3, 4]) {
    const { rows } = await client.execute(`INSERT INTO t (n) VALUES (${n}) RETURNING n`);
    assert.equal(rows[0]!["n"], n);
  }
  // If this fails the driver has been mended (tursodatabase/libsql-client-ts#352), and lib/database.ts can be simpler.
  assert.equal(await count(temporary.file), 0);
  await client.reconnect();
  client.close();
});

Deno.test("Connection writes what it reports as done after a lock was held for longer than its timeout", async () => {
  await using temporary = await temporaryFile(50);
  const { release } = await lockElsewhere(temporary.file);
  await assert.rejects(temporary.connection.execute(insert(1)), (error) => {
    assert.ok(error instanceof PoolError);
    assert.equal(error.code, "database");
    assert.match(error.message, /locked by another process; nothing was changed/);
    return true;
  });
  await release();
  for (const n of [2, 3, 4]) assert.deepEqual(await temporary.connection.execute(insert(n)), [[n]]);
  assert.equal(await count(temporary.file), 3);
});

Deno.test("Connection waits for a lock that is released in time", async () => {
  await using temporary = await temporaryFile();
  const { release } = await lockElsewhere(temporary.file, 300);
  assert.deepEqual(await temporary.connection.execute(insert(1)), [[1]]);
  await temporary.connection.batch([insert(2), insert(3)]);
  await release();
  assert.equal(await count(temporary.file), 3);
});

Deno.test("Connection writes what it reports as done after a statement failed", async () => {
  await using temporary = await temporaryFile();
  const { connection, file } = temporary;
  await connection.execute(insert(1));
  await assert.rejects(connection.execute(insert(1)), { code: "database" });
  await assert.rejects(connection.execute({ sql: "SELECT nonsense FROM nowhere" }), { code: "database" });
  // What explains a writing statement leaves it open as well, and poisons as BUSY does.
  await connection.execute({ sql: "EXPLAIN QUERY PLAN UPDATE t SET n = 1 RETURNING n" });
  await assert.rejects(connection.batch([insert(2), insert(1)]), { code: "database" });
  await connection.execute(insert(3));
  assert.equal(await count(file), 2, "the batch with a failure in it left nothing behind");
});

Deno.test("Connection uses WAL and NORMAL, and FULL for what must survive a power cut, again after it was reopened", async () => {
  await using temporary = await temporaryFile(50);
  const { connection, file } = temporary;
  const setting = async (name: string) => (await connection.execute({ sql: `PRAGMA ${name}` }))[0]![0];
  assert.equal(await setting("journal_mode"), "wal");
  assert.equal(await setting("synchronous"), 1);
  const { release } = await lockElsewhere(file);
  await assert.rejects(connection.execute(insert(1)), { code: "database" });
  await release();
  assert.equal(await setting("synchronous"), 1);
  await connection.execute(insert(2), { durable: true });
  const seen = await connection.execute({ sql: "PRAGMA synchronous" }, { durable: true });
  assert.equal(seen[0]![0], 2);
  assert.equal(await setting("synchronous"), 1, "what comes after is NORMAL again");
});

Deno.test("Connection lets go of statements, and lets timers ring, while a program waits for nothing but a file", async (t) => {
  // A long text, since what the driver keeps of a statement grows with it: 50 KiB here, so 200 MiB of 4,000.
  const long = { sql: `SELECT :n IN (${Array.from({ length: 300 }, (_, n) => n)})`, args: { n: 1 } };
  async function assertHeld(connection: Connection): Promise<void> {
    const runMany = async () => {
      for (let n = 0; n < 3600; n++) await connection.execute(long);
      for (let n = 0; n < 100; n++) await connection.batch([long, long, long, long]);
    };
    let rings = 0;
    const interval = setInterval(() => rings++, 1);
    try {
      await runMany(); // as much as is there at once until the collector comes by
      const before = Deno.memoryUsage().rss;
      await runMany();
      const grownBy = Deno.memoryUsage().rss - before;
      assert.ok(grownBy < 100 * 2 ** 20, `4,000 statements left ${grownBy} bytes`);
      assert.ok(rings > 0, "a timer rang");
    } finally {
      clearInterval(interval);
    }
  }
  await t.step("that it opened", async () => {
    await using temporary = await temporaryFile();
    await assertHeld(temporary.connection);
  });
  await t.step("that it was given", async () => {
    await using folder = await temporaryFolder();
    const client = createClient({ url: `file:${folder.path}/test.db` });
    try {
      await assertHeld(await Connection.open({ kind: "given", database: client as Database }));
    } finally {
      client.close();
    }
  });
});

Deno.test("Connection reads rows as objects and as arrays, through columns, and binds names by position", async () => {
  const seen: unknown[] = [];
  const shapes = [[1, "one"], { text: "two", n: 2 }];
  const fake: Database = {
    execute: (statement) => {
      seen.push(statement);
      return Promise.resolve({ columns: ["n", "text"], rows: shapes });
    },
    batch: () => Promise.resolve([]),
  };
  const connection = await Connection.open({ kind: "given", database: fake });
  const rows = await connection.execute({ sql: "SELECT :b, :a, :b, :c", args: { a: 1, b: "x" } });
  assert.deepEqual(rows, [[1, "one"], [2, "two"]]);
  assert.deepEqual(seen, [{ sql: "SELECT ?1, ?2, ?1, ?3", args: ["x", 1, null] }]);
});

Deno.test("Connection asks a function for its value when an attempt is sent, once for all statements of a batch", async () => {
  let release = () => Promise.resolve();
  await using temporary = await temporaryFile(2_000, () => release());
  const { connection, file } = temporary;
  let asked = 0;
  const value = () => ++asked;
  const other = createClient({ url: `file:${file}` });
  const lock = await other.transaction("write");
  release = () => lock.rollback();
  const [batch, next] = await Promise.all([
    connection.batch([
      insert(7),
      { sql: "SELECT :a, :b", args: { a: value, b: value } },
      { sql: "SELECT :a", args: { a: value } },
    ]),
    connection.execute({ sql: "SELECT :a", args: { a: value } }),
  ]);
  other.close();
  assert.deepEqual(batch, [[[7]], [[2, 2]], [[2]]], "the second attempt is the one that counts");
  assert.deepEqual(next, [[3]]);
  assert.equal(await count(file), 1);
});

Deno.test("Connection runs one statement at a time, in order", async () => {
  let running = 0;
  const order: string[] = [];
  const fake: Database = {
    async execute({ sql }) {
      assert.equal(++running, 1);
      await Promise.resolve();
      order.push(sql);
      running--;
      return { columns: [], rows: [] };
    },
    batch: () => Promise.resolve([]),
  };
  const connection = await Connection.open({ kind: "given", database: fake });
  await Promise.all(["a", "b", "c"].map((sql) => connection.execute({ sql })));
  assert.deepEqual(order, ["a", "b", "c"]);
});

Deno.test("Connection passes 'write' to batch, reopens a given client that is busy, and retries with growing delays", async () => {
  const busy = Object.assign(new Error("database is locked"), { code: "SQLITE_BUSY" });
  const calls: string[] = [];
  const delays: number[] = [];
  const fake = {
    execute: () => Promise.reject(busy),
    batch(_statements: unknown, mode: string) {
      calls.push(mode);
      return calls.filter((call) => call === "write").length < 4 ? Promise.reject(busy) : Promise.resolve([]);
    },
    reconnect: () => void calls.push("reconnect"),
  };
  const sleep = (ms: number) => Promise.resolve(void delays.push(ms));
  const connection = await Connection.open({ kind: "given", database: fake }, { sleep, random: () => 1 });
  await connection.batch([insert(1)]);
  assert.deepEqual(calls, ["write", "reconnect", "write", "reconnect", "write", "reconnect", "write"]);
  assert.deepEqual(delays, [25, 50, 100]);
});

Deno.test("Connection gives up on a database that never answers, with a typed error, and serves the next call", async () => {
  let answers = false;
  const fake: Database = {
    execute: () => answers ? Promise.resolve({ columns: [], rows: [] }) : new Promise(() => {}),
    batch: () => Promise.resolve([]),
  };
  const connection = await Connection.open({ kind: "given", database: fake }, { timeoutMs: 5 });
  await assert.rejects(connection.execute({ sql: "SELECT 1" }), (error) => {
    assert.ok(error instanceof PoolError);
    assert.equal(error.code, "database");
    assert.match(error.message, /TimeoutError/);
    return true;
  });
  answers = true;
  assert.deepEqual(await connection.execute({ sql: "SELECT 1" }), []);
});

Deno.test("Connection repeats once what may be repeated, when a server fails", async () => {
  let calls = 0;
  const fake: Database = {
    execute: () => ++calls % 2 === 1 ? Promise.reject(new Error("500")) : Promise.resolve({ columns: [], rows: [] }),
    batch: () => Promise.resolve([]),
  };
  const connection = await Connection.open({ kind: "given", database: fake }, { sleep: noSleep });
  await connection.execute({ sql: "SELECT 1" }, { repeatable: true });
  assert.equal(calls, 2);
  await assert.rejects(connection.execute({ sql: "UPDATE t SET n = 1" }), { code: "database" });
  assert.equal(calls, 3, "what may have happened is not done again");
});

Deno.test("Connection says that a server is away, within its time and without its address", async () => {
  const url = `http://127.0.0.1:${freePort()}`;
  const connection = await Connection.open({ kind: "url", url, authToken: "canary-token" }, { sleep: noSleep });
  await assert.rejects(connection.execute({ sql: "SELECT 1" }), (error) => {
    assert.ok(error instanceof PoolError);
    assert.equal(error.code, "database");
    assert.doesNotMatch(error.message, /127\.0\.0\.1|canary/);
    return true;
  });
  connection.close();
});

Deno.test("Connection bounds each call to a server that accepts and then says nothing", async () => {
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepted = silent.accept();
  const url = `http://127.0.0.1:${silent.addr.port}`;
  const connection = await Connection.open({ kind: "url", url }, { timeoutMs: 100, sleep: noSleep });
  await assert.rejects(connection.execute({ sql: "SELECT 1" }), { code: "database" });
  connection.close();
  (await accepted).close();
});

Deno.test("Connection speaks to a libSQL server over HTTP and WebSocket, with a JWT", async () => {
  await using server = await startSqld({ auth: true });
  const { url, authToken } = server;
  for (const address of [url, url.replace("http:", "ws:")]) {
    const connection = await Connection.open({ kind: "url", url: address, authToken });
    assert.deepEqual(await connection.execute({ sql: "SELECT :n AS n", args: { n: 7 } }), [[7]]);
    const [, second] = await connection.batch([{ sql: "SELECT 1" }, { sql: "SELECT 2" }]);
    assert.deepEqual(second, [[2]]);
    connection.close();
  }
  const stranger = await Connection.open({ kind: "url", url, authToken: "e30.e30.c2ln" });
  await assert.rejects(stranger.execute({ sql: "SELECT 1" }), { code: "database" });
  stranger.close();
});

Deno.test("Connection uses Val Town's database through std/sqlite/global.ts", async () => {
  const connection = await Connection.open({ kind: "val town" });
  assert.deepEqual(await connection.execute({ sql: "SELECT :text AS text", args: { text: "shared" } }), [["shared"]]);
});

Deno.test("Connection says which setting to look at when a database cannot be opened", async () => {
  const source = { kind: "url", url: "file:/nonexistent/folder/pool.db" } as const;
  await assert.rejects(Connection.open(source), { code: "database", message: /TOKEN_POOL_DATABASE_URL/ });
});

Deno.test("Connection says of every error what kind it is, also when the folder of its file has gone", async () => {
  const folder = await temporaryFolder();
  const connection = await Connection.open({ kind: "url", url: `file:${folder.path}/pool.db` }, { sleep: noSleep });
  await connection.execute({ sql: "CREATE TABLE notes (text TEXT)" });
  await folder[Symbol.asyncDispose]();
  for (const sql of ["SELECT nothing", "INSERT INTO notes VALUES ('lost')", "SELECT 1"]) {
    await assert.rejects(connection.execute({ sql }), { code: "database", message: /what was asked \(\w+\)/ }, sql);
  }
  connection.close();
});

Deno.test("Connection recovers from a wire that falls silent, over HTTP and WebSocket", async (t) => {
  await using server = await startSqld();
  await using wire = startTcpProxy(Number(new URL(server.url).port));
  for (const protocol of ["http", "ws"]) {
    await t.step(protocol, async () => {
      const source = { kind: "url", url: `${protocol}://127.0.0.1:${wire.port}` } as const;
      const connection = await Connection.open(source, { timeoutMs: 2_000, sleep: noSleep });
      const ask = () => connection.execute({ sql: "SELECT 1" });
      assert.deepEqual(await ask(), [[1]]);
      wire.silence();
      const start = performance.now();
      await assert.rejects(ask(), { code: "database", message: /TimeoutError/ });
      assert.ok(performance.now() - start < 20_000);
      const answers = await Promise.allSettled([ask(), ask(), ask()]);
      assert.deepEqual(answers.at(-1), { status: "fulfilled", value: [[1]] });
      connection.close();
    });
  }
});
