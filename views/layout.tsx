/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * The frame of every page: works without JavaScript, asks no third party for anything.
 *
 * @module
 */

import type { Child } from "npm:hono@4.13.19/jsx";
import { SITE, type Site } from "./site.ts";

/** A page as it is sent. */
export type Html = string;

/** What a frame says besides its title. */
export interface PageOptions {
  /** For whoever the address is sent to. */
  description?: string;
  /** Where the public finds this service. Only a page that is meant to be passed on has a preview. */
  origin?: string | null;
  site?: Site;
}

const DESCRIPTION = "Lend the GitHub API calls that you do not use: public data only, a share always stays yours, " +
  "and you can leave at any time.";

/**
 * Puts a page into its frame.
 *
 * @param title What the page is about, for the tab and for screen readers.
 * @param children The page.
 * @param options What else its head says.
 */
export function page(title: string, children: Child, options: PageOptions = {}): Html {
  const { description = DESCRIPTION, origin = null, site: { sourceUrl, contactUrl } = SITE } = options;
  return "<!DOCTYPE html>" + (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>{`${title} · GitHub Token Pool`}</title>
        <meta name="description" content={description} />
        <meta name="theme-color" media="(prefers-color-scheme: light)" content="#fbfaf7" />
        <meta name="theme-color" media="(prefers-color-scheme: dark)" content="#0f1513" />
        {origin !== null && <Preview title={title} description={description} origin={origin} />}
        <link rel="stylesheet" href="/style.css" />
        <link rel="icon" href="/favicon.svg" type="image/svg+xml" />
      </head>
      <body>
        <a class="skip" href="#main">Skip to the content</a>
        <header>
          <a class="brand" href="/">
            <Logo />
            GitHub Token Pool
          </a>
          <nav aria-label="Main">
            <a href="/donation">My donation</a>
            <a href="/withdraw">Withdraw</a>
            <a href="/status">Status</a>
          </nav>
        </header>
        <main id="main">{children}</main>
        <footer>
          <p>No cookie lives longer than ten minutes, and nothing is loaded from elsewhere.</p>
          {(sourceUrl !== null || contactUrl !== null) && (
            <p class="links">
              {sourceUrl !== null && <a href={sourceUrl}>Source code</a>}
              {contactUrl !== null && <a href={contactUrl}>Ask the operator</a>}
            </p>
          )}
        </footer>
      </body>
    </html>
  ).toString();
}

/** What a link to the page looks like where it is shared. */
function Preview({ title, description, origin }: { title: string; description: string; origin: string }) {
  return (
    <>
      <meta property="og:type" content="website" />
      <meta property="og:site_name" content="GitHub Token Pool" />
      <meta property="og:title" content={title} />
      <meta property="og:description" content={description} />
      <meta property="og:url" content={`${origin}/`} />
      <meta property="og:image" content={`${origin}/og.png`} />
      <meta property="og:image:width" content="1200" />
      <meta property="og:image:height" content="630" />
      <meta property="og:image:alt" content="Lend the GitHub calls that you do not use." />
      <meta name="twitter:card" content="summary_large_image" />
    </>
  );
}

/** The icon in the page, in the colours of the page. */
function Logo() {
  return (
    <svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">
      <circle class="coin" cx="16" cy="11" r="8" />
      <path class="pool" d={POOL} />
    </svg>
  );
}

const POOL = "M2 17q3.5-4 7 0t7 0 7 0 7 0v6a7 7 0 0 1-7 7H9a7 7 0 0 1-7-7z";

/** The icon: a token that goes into the pool. */
export const FAVICON =
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="11" r="8" fill="#e0a12e"/><path d="${POOL}" fill="#17826a"/></svg>`;
