/**
 * A real browser, and somebody who looks over its shoulder.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "npm:playwright-core@1.65.1";

export type { Page };

const USUAL_PATHS = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/usr/bin/google-chrome-stable",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
];

const ARGUMENTS = [
  "--no-sandbox", // it shows our own pages only, and containers often have no sandbox to give
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];

/** Where Chromium is: `CHROMIUM_PATH`, or one of the usual places; null when there is none. */
export function findChromium(): string | null {
  const given = process.env["CHROMIUM_PATH"];
  return (given ? [given] : USUAL_PATHS).find(isFile) ?? null;
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** Starts the browser. */
export async function launch(executablePath: string): Promise<Browser> {
  return await chromium.launch({ executablePath, args: ARGUMENTS, timeout: 120_000 });
}

/** A person with a browser profile of their own, and one tab. */
export interface Visitor extends AsyncDisposable {
  page: Page;
  /** What the browser complained about: scripts, policies, resources. */
  complaints: string[];
  /** The origins that anything was asked of. */
  origins: Set<string>;
}

/** A person comes by. */
export async function visitor(browser: Browser, options: BrowserContextOptions = {}): Promise<Visitor> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(60_000); // for a busy machine
  const page = await context.newPage();
  const complaints: string[] = [];
  const origins = new Set<string>();
  context.on("request", (request) => origins.add(new URL(request.url()).origin));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  return { page, complaints, origins, [Symbol.asyncDispose]: () => context.close() };
}

/** Asserts that the browser had nothing to complain about, and that nobody else was asked for anything. */
export function assertQuiet({ complaints, origins }: Visitor, allowed: readonly string[]): void {
  assert.deepEqual(complaints, []);
  assert.deepEqual([...origins].filter((origin) => !allowed.includes(origin)), []);
}

/** Asserts that a page needs no horizontal scrolling. */
export async function assertFits(page: Page, name: string): Promise<void> {
  const [needed, there] = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]") as [number, number];
  assert.ok(needed <= there, `${name} is ${needed} px wide in a window of ${there} px`);
}
