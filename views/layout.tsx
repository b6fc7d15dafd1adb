/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * The frame of every page: works without JavaScript, asks no third party for anything.
 *
 * @module
 */

import type { Child } from "npm:hono@4.13.19/jsx";
import { CONTACT_URL, SOURCE_URL } from "./site.ts";

/** A page as it is sent. */
export type Html = string;

/**
 * Puts a page into its frame.
 *
 * @param title What the page is about, for the tab and for screen readers.
 * @param children The page.
 */
export function page(title: string, children: Child): Html {
  return "<!DOCTYPE html>" + (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>{`${title} · GitHub Token Pool`}</title>
        <link rel="stylesheet" href="/style.css" />
        <link rel="icon" href="/favicon.svg" type="image/svg+xml" />
      </head>
      <body>
        <header>
          <nav aria-label="Main">
            <a href="/">
              <strong>GitHub Token Pool</strong>
            </a>
            <a href="/withdraw">Withdraw</a>
            <a href="/status">Status (JSON)</a>
          </nav>
        </header>
        <main>{children}</main>
        <footer>
          <p>
            No cookie is kept beyond a donation or withdrawal, nothing is loaded from elsewhere, and no visit is
            counted.
            {SOURCE_URL && (
              <>
                <a href={SOURCE_URL}>Source code</a>.
              </>
            )}
            {CONTACT_URL && (
              <>
                <a href={CONTACT_URL}>Ask the operator</a>.
              </>
            )}
          </p>
        </footer>
      </body>
    </html>
  ).toString();
}

/** The icon: tokens that overlap. */
export const FAVICON =
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="12" cy="16" r="9" fill="#0b5cad"/><circle cx="20" cy="16" r="9" fill="#6cb0ff" fill-opacity=".8"/></svg>`;
