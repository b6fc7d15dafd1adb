/**
 * A process that dies: a database that answers so many calls and then none, as far as that process can tell.
 *
 * @module
 */

import type { Database } from "../../lib/database.ts";

/** Where a process dies: before its nth call, or once that is carried out and before the answer is there. */
export interface Cut {
  call: number;
  carriedOut: boolean;
}

/** A database as a process sees it that dies at `cut`. */
export function cutDatabase(database: Database, cut: Cut): Database {
  let calls = 0;
  const step = async <T>(run: () => Promise<T>): Promise<T> => {
    calls++;
    if (calls > cut.call || (calls === cut.call && !cut.carriedOut)) throw new Error("This process has died");
    const answer = await run();
    if (calls === cut.call) throw new Error("This process has died");
    return answer;
  };
  return {
    execute: (statement) => step(() => database.execute(statement)),
    batch: (statements, mode) => step(() => database.batch(statements, mode)),
  };
}

/**
 * Lets a process die at every call in turn, before and after that is carried out, until it no longer dies.
 *
 * @param attempt What it does, in a world of its own each time. Returns whether it died.
 * @returns How many calls it makes.
 */
export async function dieAtEveryCall(attempt: (cut: Cut) => Promise<boolean>): Promise<number> {
  for (let call = 1; call < 200; call++) {
    await attempt({ call, carriedOut: true });
    if (!await attempt({ call, carriedOut: false })) return call - 1;
  }
  throw new Error("It does not end");
}
