/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * What is stored of a donor, and how numbers are written: the same words on every page. A test compares the words with
 * the columns of the table.
 *
 * @module
 */

/** All that is kept of a donation, but for the token itself. */
export const KEPT: readonly string[] = [
  "a number for the donation",
  "your GitHub user id",
  "your GitHub login",
  "the share that stays yours",
  "when you donated",
  "how many calls were drawn, in all and on each of the last days, and how many are left",
  "whether you have paused it, and since when",
  "pauses that GitHub asked for",
  "when GitHub refused the token, and what came of it",
  "when the pool itself last asked GitHub with the token what is left, and was answered",
];

/** How the secrets among it are kept. */
export const SEALED = "the token itself, encrypted with AES-256-GCM; the key is not in the database";

/** What is kept besides where GitHub lets tokens expire. */
export const RENEWAL = "if GitHub lets the token expire: when, and, encrypted too, what renews it";

/** What is kept of who has left. */
export const AFTERWARDS =
  "after you withdraw, for 13 months: when, and a keyed hash of your GitHub user id, so that no backup brings you back";

/** All that is kept of a donation, as a list. */
export function Stored({ expires = true }: { expires?: boolean }) {
  return (
    <ul class="stored">
      {[...KEPT, SEALED, ...(expires ? [RENEWAL] : []), AFTERWARDS].map((what) => <li key={what}>{what}</li>)}
    </ul>
  );
}

/** A number, for people. */
export function format(count: number): string {
  return count.toLocaleString("en");
}

/** A share, for people. */
export function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** GitHub's limit for a person, in calls an hour. */
export const LIMIT = 5000;

/** Calls of a limit that stay a donor's: rounded up, as `floor` in lib/store.ts. */
export function keptOf(reserve: number, limit: number = LIMIT): number {
  return Math.ceil(Number((limit * reserve).toFixed(6)));
}
