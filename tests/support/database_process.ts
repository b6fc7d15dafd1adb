/**
 * Another process with the same database file, for tests: locks it, reads it, or draws tokens from it.
 *
 *     deno run --allow-all database_process.ts lock <file> [<ms>]     holds a write lock, says "locked"; without a time
 *                                                                     until its input ends
 *     deno run --allow-all database_process.ts read <file> <sql>      prints the rows as JSON
 *     deno run --allow-all database_process.ts draw <url> <key> <n>   draws n tokens, prints their ids as it goes
 *     deno run --allow-all database_process.ts first <url> <key> <n> <user>   the same with the first release's statements,
 *                                                                     while the user donates and withdraws
 *     deno run --allow-all database_process.ts consume <url>          draws and draws, and takes commands, see below
 *     deno run --allow-all database_process.ts donate <url> <key> <from>   donates until it is killed, prints each id
 *     deno run --allow-all database_process.ts upkeep <variables>     one round, with this environment, prints its report
 *
 * Locks and reads go through node:sqlite, which shares nothing with the driver under test.
 */

import process from "node:process";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { Keyring } from "../../lib/crypto.ts";
import { PoolError } from "../../lib/errors.ts";
import { createPool } from "../../lib/pool.ts";
import { FirstRelease } from "./first_release.ts";
import { openGitHub, openVault } from "../../lib/service.ts";
import { runUpkeep } from "../../lib/upkeep.ts";

const [command, target, ...rest] = Deno.args as [string, string, ...string[]];

switch (command) {
  case "lock": {
    const database = new DatabaseSync(target);
    database.exec("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE");
    console.log("locked");
    if (rest[0] === undefined) await Deno.stdin.read(new Uint8Array(1));
    else await new Promise((resolve) => setTimeout(resolve, Number(rest[0])));
    database.exec("ROLLBACK");
    database.close();
    break;
  }
  case "read": {
    const database = new DatabaseSync(target, { readOnly: true });
    console.log(JSON.stringify(database.prepare(rest[0]!).all()));
    database.close();
    break;
  }
  case "draw": {
    await using pool = createPool({ database: target, encryptionKey: rest[0]! });
    await pool.availability();
    console.log("ready");
    await Deno.stdin.read(new Uint8Array(1)); // all start at once
    const ids: number[] = [];
    const delays: number[] = [];
    for (let n = 0; n < Number(rest[1]); n++) {
      const start = performance.now();
      const token = await pool.getToken();
      delays.push(performance.now() - start);
      if (token !== null) ids.push(token.id);
    }
    console.log(JSON.stringify({ ids, delays }));
    break;
  }
  case "first": {
    const [key, count, user] = rest as [string, string, string];
    const first = new FirstRelease(target);
    await first.open();
    await first.firstUse();
    const sealed = await (await Keyring.from(key)).seal("gho_x", { column: "token", githubUserId: user });
    console.log("ready");
    await Deno.stdin.read(new Uint8Array(1));
    const ids: number[] = [];
    for (let n = 0; n < Number(count); n++) {
      const claim = await first.claim();
      if (claim === null) continue;
      ids.push(claim.id);
      await first.merge(claim.id, 5000, 4900 - n, Math.floor(Date.now() / 1000) + 3600);
      if (n % 4 === 1) await first.donate(user, sealed);
      if (n % 4 === 3) await first.withdraw(user);
    }
    first.close();
    console.log(JSON.stringify({ ids }));
    break;
  }
  case "consume": {
    // Commands, carried out between two draws: `keys <current> [<previous>…]` changes the environment; each prints what
    // has happened since the one before. It ends when there are no more.
    const headers = { "x-ratelimit-limit": "1000000", "x-ratelimit-resource": "core" };
    await using pool = createPool({
      database: target,
      fetch: () => Promise.resolve(new Response("{}", { status: 200, headers })),
    });
    const commands: string[] = [];
    let isOver = false;
    createInterface({ input: process.stdin }).on("line", (line) => commands.push(line)).on(
      "close",
      () => isOver = true,
    );
    let counts = { asked: 0, answered: 0, refused: [] as string[] };
    for (let n = 0; !isOver; n++) {
      for (const [command, current, ...previous] of commands.splice(0).map((line) => line.split(" "))) {
        if (command === "keys") {
          process.env["TOKEN_ENCRYPTION_KEY"] = current;
          process.env["TOKEN_ENCRYPTION_KEYS_PREVIOUS"] = previous.join(",");
        }
        console.log(JSON.stringify(counts));
        counts = { asked: 0, answered: 0, refused: [] };
      }
      await new Promise((resolve) => setTimeout(resolve, 3)); // so that several of them and the job have a chance each
      if (process.env["TOKEN_ENCRYPTION_KEY"] === undefined) continue;
      counts.asked++;
      try {
        const drawn = n % 2 === 0 ? await pool.getToken() : await pool.fetch("/repos/denoland/deno");
        if (drawn !== null) counts.answered++;
        if (drawn instanceof Response) await drawn.body?.cancel();
      } catch (error) {
        counts.refused.push(error instanceof PoolError ? error.code : String(error));
      }
    }
    break;
  }
  case "upkeep": {
    const variables = JSON.parse(target) as Record<string, string>;
    const vault = openVault({ environment: (name) => variables[name] });
    await vault.unlock();
    console.log("ready");
    await Deno.stdin.read(new Uint8Array(1)); // all start at once
    console.log(JSON.stringify(await runUpkeep({ vault, github: openGitHub(vault.settings) })));
    await vault.close();
    break;
  }
  case "donate": {
    const pool = createPool({ database: target, encryptionKey: rest[0]! });
    for (let n = Number(rest[1]);; n++) {
      await pool.addToken({ github_user_id: String(n), token: `gho_${n}` });
      console.log(n); // acknowledged
    }
  }
}
