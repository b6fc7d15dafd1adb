/**
 * Stands in for Val Town's `std/sqlite/global.ts` in this repository (see `imports` in deno.json): a libSQL client, as
 * that one is, but with rows as arrays, one of the two shapes that Val Town documents.
 */

import { createClient } from "npm:@libsql/client@0.18.0";

// A published package has this in the place of Val Town's module, and must say so rather than lose what it is given.
if (!import.meta.url.startsWith("file:")) {
  throw new Error("Val Town's own database is to be had through https://esm.town only: import the library from there");
}

const client = createClient({ url: "file::memory:" });

/** The account's database. */
export const sqlite = {
  async execute(statement: { sql: string; args: (string | number | null)[] }) {
    return asArrays(await client.execute(statement));
  },
  async batch(statements: { sql: string; args: (string | number | null)[] }[], mode: "write") {
    return (await client.batch(statements, mode)).map(asArrays);
  },
};

function asArrays({ columns, rows }: { columns: string[]; rows: ArrayLike<unknown>[] }) {
  return { columns, rows: rows.map((row) => Array.from({ length: columns.length }, (_, index) => row[index])) };
}
