/**
 * What the operator of a pool edits: who draws on it, where its source is, whom to ask.
 *
 * @module
 */

/** A program that draws on the pool; donors want to know. */
export interface Consumer {
  name: string;
  url: string;
  /** What it uses the calls for, in one sentence. */
  purpose: string;
}

/** What the pages say of this pool in particular. */
export interface Site {
  consumers: readonly Consumer[];
  sourceUrl: string | null;
  contactUrl: string | null;
}

/** The programs that draw on this pool. */
export const CONSUMERS: readonly Consumer[] = [];

/** Where the source of this pool can be read; null = the page does not link it. */
export const SOURCE_URL: string | null = null;

/** Where the operator can be reached, as a URL (`mailto:` or a page); null = the page does not say. */
export const CONTACT_URL: string | null = null;

/** All of it. */
export const SITE: Site = { consumers: CONSUMERS, sourceUrl: SOURCE_URL, contactUrl: CONTACT_URL };
