/** A database that counts how often it is asked. */

import { createClient } from "npm:@libsql/client@0.18.0";
import type { Database } from "../../lib/pool.ts";

/** A client as the pool has it, and how often it was asked. */
export interface CountedDatabase extends Database, Disposable {
  readonly trips: number;
  reconnect(): void;
}

/** Opens a database, with the settings that the pool gives its own. */
export async function countedDatabase(url: string): Promise<CountedDatabase> {
  let trips = 0;
  const client = createClient({ url, concurrency: 1, ...(url.startsWith("file:") ? { timeout: 5000 } : {}) });
  if (url.startsWith("file:")) await client.execute("PRAGMA synchronous = NORMAL");
  return {
    get trips() {
      return trips;
    },
    execute(statement) {
      trips++;
      return client.execute(statement);
    },
    batch(statements, mode) {
      trips++;
      return client.batch(statements, mode);
    },
    reconnect: () => client.reconnect(),
    [Symbol.dispose]: () => client.close(),
  };
}
