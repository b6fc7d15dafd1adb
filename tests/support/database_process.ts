/**
 * Another process with the same database file, for tests: locks it, reads it, or draws tokens from it.
 *
 *     deno run --allow-all database_process.ts lock <file> <ms>       holds a write lock, says "locked"
 *     deno run --allow-all database_process.ts read <file> <sql>      prints the rows as JSON
 *     deno run --allow-all database_process.ts draw <url> <key> <n>   draws n tokens, prints their ids as it goes
 *     deno run --allow-all database_process.ts donate <url> <key> <from>   donates until it is killed, prints each id
 *     deno run --allow-all database_process.ts upkeep <variables>     one round, with this environment, prints its report
 *
 * Locks and reads go through node:sqlite, which shares nothing with the driver under test.
 */

import { DatabaseSync } from "node:sqlite";
import { createPool } from "../../lib/pool.ts";
import { openGitHub, openVault } from "../../lib/service.ts";
import { runUpkeep } from "../../lib/upkeep.ts";

const [command, target, ...rest] = Deno.args as [string, string, ...string[]];

switch (command) {
  case "lock": {
    const database = new DatabaseSync(target);
    database.exec("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE");
    console.log("locked");
    await new Promise((resolve) => setTimeout(resolve, Number(rest[0])));
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
