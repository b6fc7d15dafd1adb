/**
 * Every page of the service in a real browser, with a GitHub that lives in this process: the browser is sent to GitHub
 * and comes back as this or that person at once.
 *
 * @module
 */

import assert from "node:assert/strict";
import { messagePage, MESSAGES } from "../../views/message.tsx";
import { launch, type Page, type Visitor, visitor } from "./chromium.ts";
import { type Service, temporaryService, upkeep } from "./service.ts";

/** The service, served. */
export interface PageSite extends AsyncDisposable {
  url: string;
  /** What stands for GitHub's own address. */
  githubUrl: string;
  service: Service;
  /** Who comes back from GitHub, or null for one who says no. */
  login: string | null;
  visitor(options?: Parameters<typeof visitor>[1]): Promise<Visitor>;
}

const HOUR = 3_600_000;

/** Opens the service for a browser. */
export async function openPageSite(chromium: string): Promise<PageSite> {
  await using opened = new AsyncDisposableStack();
  let service: Service | null = null;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const name = new URL(request.url).pathname.replace(/^\/message\//, "");
    if (!(name in MESSAGES)) return await service!.app.fetch(request);
    // A page that a test cannot easily bring about, with the headers of all pages.
    const { headers } = await service!.app.request("/nowhere");
    const message = MESSAGES[name as keyof typeof MESSAGES];
    return new Response(messagePage({ ...message, githubUrl: "https://github.com", reference: "0a1b2c3d" }), {
      headers,
    });
  });
  opened.defer(() => server.shutdown());
  const url = `http://localhost:${server.addr.port}`;
  const front = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const location = service!.github.authorize(request.url, site.login ?? "ada", { deny: site.login === null });
    return new Response(null, { status: 302, headers: { location } });
  });
  opened.defer(() => front.shutdown());
  // Not of the same site as the service, as GitHub is not.
  const githubUrl = `http://127.0.0.1:${front.addr.port}`;
  service = opened.use(
    await temporaryService({
      variables: { PUBLIC_URL: url, GITHUB_URL: githubUrl },
      github: { callbackUrl: `${url}/callback`, url: githubUrl },
    }),
  );
  const browser = await launch(chromium);
  opened.defer(() => browser.close());
  const cleanup = opened.move();
  const site: PageSite = {
    url,
    githubUrl,
    service,
    login: "ada",
    visitor: (options) => visitor(browser, options),
    [Symbol.asyncDispose]: () => cleanup.disposeAsync(),
  };
  return site;
}

/** What is done on each page. */
export type Look = (page: Page, name: string) => Promise<void>;

/** Goes to every page and every outcome there is. */
export async function everyPage(site: PageSite, page: Page, look: Look): Promise<void> {
  const { service, url } = site;
  const { variables } = service;
  const see = async (path: string, name = path) => {
    await page.goto(url + path);
    await look(page, name);
  };
  const press = async (button: string, name: string) => {
    const loaded = page.waitForEvent("load"); // what only redirects does not load
    await page.getByRole("button", { name: button }).first().click();
    await loaded;
    assert.ok(page.url().startsWith(`${url}/`), `${name} is not at ${page.url()}`);
    await look(page, name);
  };

  await see("/", "an empty pool");
  await press("Donate", "the thanks");
  await see("/");
  await press("Donate", "the thanks for an update");
  for (let hour = 0; hour < 30; hour++) {
    await service.pool.getToken({ cost: 1 + hour });
    service.clock.advance(HOUR);
    await upkeep(service);
  }
  await see("/", "a pool with a history");
  await see("/donation", "my donation before");
  await press("Show my donation", "my donation");
  await see("/withdraw", "the withdrawal before");
  await press("Withdraw", "the withdrawal after");
  await see("/withdraw");
  await press("Withdraw", "the withdrawal of nobody");
  service.github.down = { answer: 502, only: /^DELETE / };
  await see("/withdraw");
  await press("Withdraw", "the withdrawal that GitHub did not confirm");
  service.github.down = null;
  site.login = null;
  await see("/");
  await press("Donate", "a donation that was cancelled");
  site.login = "ada";

  variables["TOKEN_POOL_DISABLED"] = "1";
  await see("/", "a paused pool");
  variables["TOKEN_POOL_DISABLED"] = undefined;
  const [id, key] = [variables["GITHUB_CLIENT_ID"], variables["TOKEN_ENCRYPTION_KEY"]];
  variables["GITHUB_CLIENT_ID"] = variables["TOKEN_ENCRYPTION_KEY"] = undefined;
  await see("/", "a pool that is not set up");
  [variables["GITHUB_CLIENT_ID"], variables["TOKEN_ENCRYPTION_KEY"]] = [id, key];
  service.clock.advance(HOUR);
  service.database.failing = /^/;
  await see("/", "a pool without a database");
  service.database.failing = null;
  service.clock.advance(HOUR);

  for (const path of ["/no-such-page", "/callback?state=x", "/auth?reserve=2"]) await see(path);
  for (const name of Object.keys(MESSAGES)) await see(`/message/${name}`);
}
