/**
 * The store against a model of it: whatever happens to both, in whatever order and by whichever process, they hand out
 * the same, in the same order, and say the same of what is left. `tests/support/property.ts` says how a failure is
 * replayed.
 *
 * @module
 */

import fc from "npm:fast-check@4.10.2";
import { Connection } from "../../lib/database.ts";
import { Store } from "../../lib/store.ts";
import { Clock, temporaryFolder } from "../support/fixtures.ts";
import { hold, replayPath } from "../support/property.ts";
import { assertSameQueues, type World } from "./store_agreement.ts";
import { anyCommand, donateFirst, firstReserves } from "./store_commands.ts";
import { PoolModel } from "./store_model.ts";

const TABLES = ["tokens", "limits", "resources", "suspicions", "counters", "days", "hours", "pauses", "meta"];

Deno.test("Store does what its model does, whatever happens in whatever order (1, 3, 4, 5, 7, 8)", async (t) => {
  await using folder = await temporaryFolder();
  const connection = await Connection.open({ kind: "url", url: `file:${folder.path}/pool.db` });
  const commands = fc.commands([anyCommand], { maxCommands: 120, size: "max", ...replayPath });
  try {
    const property = fc.asyncProperty(firstReserves, commands, async (reserves, commands) => {
      const clock = new Clock();
      const world: World = { processes: [new Store(connection, clock.now), new Store(connection, clock.now)], clock };
      await emptied(connection, world.processes[0]);
      const model = new PoolModel(clock.time);
      await donateFirst(reserves, model, world);
      await fc.asyncModelRun(() => ({ model, real: world }), commands);
      await assertSameQueues(model, world);
    });
    await hold(t, property, { bounded: 40, casesEach: 60 });
  } finally {
    connection.close();
  }
});

/** As new, without the cost of a file. */
async function emptied(connection: Connection, store: Store): Promise<void> {
  await store.open();
  await connection.batch(TABLES.map((table) => ({ sql: `DELETE FROM token_pool_${table}` })));
  await store.open();
}
