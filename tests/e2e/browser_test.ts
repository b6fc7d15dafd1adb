/**
 * People with a real browser: the real app, Chromium, and a GitHub that is not ours.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { createApp } from "../../main.http.ts";
import {
  assertFits,
  assertQuiet,
  findChromium,
  launch,
  type Page,
  type Visitor,
  visitor,
} from "../support/chromium.ts";
import { environment, KEY, temporaryFolder } from "../support/fixtures.ts";
import { type GitHubFront, startGitHub } from "../support/github_front.ts";
import { until } from "../support/until.ts";

const CHROMIUM = findChromium();

if (CHROMIUM === null) {
  console.warn("\n*** NO BROWSER WAS FOUND. THE BROWSER TESTS WERE NOT RUN. Set CHROMIUM_PATH to a Chromium. ***\n");
}

Deno.test("a browser is at hand wherever it matters", () => {
  assert.ok(CHROMIUM !== null || process.env["CI"] !== "true", "CI has no Chromium: set CHROMIUM_PATH");
});

/** Registers a test that needs a browser; without one nothing is registered, and the test above says so. */
function browserTest(name: string, test: (site: Site) => Promise<void>): void {
  if (CHROMIUM === null) return;
  Deno.test(name, async () => {
    await using site = await openSite(CHROMIUM);
    await test(site);
  });
}

interface Site extends AsyncDisposable {
  url: string;
  github: GitHubFront;
  /** The only two origins that a visitor has to do with. */
  origins: string[];
  /** Sets the app's clock ahead. */
  advance(ms: number): void;
  visitor(options?: Parameters<typeof visitor>[1]): Promise<Visitor>;
}

async function openSite(chromium: string): Promise<Site> {
  await using opened = new AsyncDisposableStack();
  const folder = opened.use(await temporaryFolder());
  let app: ReturnType<typeof createApp> | null = null;
  const answer = (request: Request) => app!.fetch(request);
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, answer);
  opened.defer(() => server.shutdown());
  // The two are not of one site, as the pool and GitHub are not: what browsers do with cookies depends on it.
  const url = `http://localhost:${server.addr.port}`;
  const [clientId, clientSecret] = ["browser-test", "secret of the browser test"];
  const users = ["ada", "bob"];
  const github = opened.use(await startGitHub({ users, clientId, clientSecret, redirectUris: [`${url}/callback`] }));
  let ahead = 0;
  app = createApp({
    environment: environment({
      PUBLIC_URL: url,
      GITHUB_URL: github.url,
      GITHUB_API_URL: github.url,
      GITHUB_CLIENT_ID: clientId,
      GITHUB_CLIENT_SECRET: clientSecret,
      TOKEN_ENCRYPTION_KEY: KEY,
      TOKEN_POOL_DATABASE_URL: `file:${folder.path}/pool.db`,
    }),
    now: () => Date.now() + ahead,
    log: () => {},
  });
  const browser = await launch(chromium);
  opened.defer(() => browser.close());
  const cleanup = opened.move();
  return {
    url,
    github,
    origins: [url, github.url],
    advance: (ms) => ahead += ms,
    visitor: (options) => visitor(browser, options),
    [Symbol.asyncDispose]: () => cleanup.disposeAsync(),
  };
}

/** What is done on each page of a journey. */
type Look = (page: Page, name: string) => Promise<void>;

const justPass: Look = () => Promise.resolve();

/** All that a donor does, by mouse: join, look at the figures, leave. */
async function joinAndLeave(site: Site, page: Page, look: Look = justPass): Promise<void> {
  await page.goto(site.url);
  assert.equal(await tokensInService(page), 0);
  await look(page, "the landing page");
  await page.getByLabel("90 %").check();
  await page.getByRole("button", { name: "Donate" }).click();
  await logIn(site, page, "ada");
  await expectHeading(page, "Thank you, ada");
  assert.equal(page.url(), `${site.url}/thanks`);
  await look(page, "the thanks");
  assert.match(await page.innerText("main"), /90 % of your limit: at least 4,500 of 5,000 calls/);

  await page.getByRole("link", { name: "GitHub Token Pool" }).click();
  assert.equal(await tokensInService(page), 1);
  await look(page, "the landing page with a donation");

  await page.getByRole("navigation").getByRole("link", { name: "Withdraw" }).click();
  await look(page, "the withdrawal before");
  await page.getByRole("button", { name: "Withdraw" }).click();
  await logIn(site, page, "ada");
  await expectHeading(page, "Your token is out of the pool");
  assert.equal(page.url(), `${site.url}/withdraw`);
  await look(page, "the withdrawal after");

  await page.getByRole("link", { name: "To the start" }).click();
  assert.equal(await tokensInService(page), 0);
}

/** On GitHub's own screen. */
async function logIn({ github }: Site, page: Page, login: string): Promise<void> {
  await page.waitForURL(`${github.url}/login/oauth/authorize?**`);
  await page.locator("form", { has: page.locator(`input[name="login"][value="${login}"]`) }).getByRole("button")
    .click();
}

async function expectHeading(page: Page, text: string): Promise<void> {
  await page.getByRole("heading", { level: 1, name: text, exact: true }).waitFor();
}

/** Waits until something on a page says so: before a button has led on, the page before it is still there. */
async function expectText(page: Page, selector: string, text: RegExp): Promise<void> {
  await page.locator(selector, { hasText: text }).waitFor();
}

async function tokensInService(page: Page): Promise<number> {
  return Number(await page.innerText("#healthy"));
}

/** Presses Tab until the focus is where it should be; a person would give up too. */
async function tabTo(page: Page, selector: string): Promise<void> {
  for (let presses = 0; presses < 20; presses++) {
    await page.keyboard.press("Tab");
    if (await page.locator(`${selector}:focus`).count() === 1) return;
  }
  assert.fail(`The Tab key does not lead to ${selector}`);
}

browserTest("a person joins and leaves by mouse, and the figures follow", async (site) => {
  await using person = await site.visitor();
  await joinAndLeave(site, person.page);
  assertQuiet(person, site.origins);
});

browserTest("a person joins and leaves without JavaScript", async (site) => {
  await using person = await site.visitor({ javaScriptEnabled: false });
  await joinAndLeave(site, person.page);
  assertQuiet(person, site.origins);
});

browserTest("a person joins and leaves with nothing but a keyboard", async (site) => {
  await using person = await site.visitor();
  const { page } = person;
  await page.goto(site.url);
  await tabTo(page, 'input[name="reserve"]');
  assert.equal(await page.locator('input[name="reserve"]:checked').inputValue(), "0.5");
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.locator('input[name="reserve"]:checked').inputValue(), "0.75");
  await tabTo(page, "form button");
  await page.keyboard.press("Enter");
  await page.waitForURL(`${site.github.url}/**`);
  await tabTo(page, 'form:has(input[value="bob"]) button');
  await page.keyboard.press("Enter");
  await expectHeading(page, "Thank you, bob");
  assert.match(await page.innerText("main"), /75 % of your limit: at least 3,750 of 5,000 calls/);

  await tabTo(page, 'nav a[href="/withdraw"]');
  await page.keyboard.press("Enter");
  await expectHeading(page, "Withdraw your token");
  await tabTo(page, "form button");
  await page.keyboard.press("Space");
  await page.waitForURL(`${site.github.url}/**`);
  await tabTo(page, 'form:has(input[value="bob"]) button');
  await page.keyboard.press("Enter");
  await expectHeading(page, "Your token is out of the pool");
  assertQuiet(person, site.origins);
});

browserTest("two people donate, and only the one who leaves is gone", async (site) => {
  await using ada = await site.visitor();
  await using bob = await site.visitor();
  for (const [{ page }, login] of [[ada, "ada"], [bob, "bob"]] as const) {
    await page.goto(site.url);
    await page.getByRole("button", { name: "Donate" }).click();
    await logIn(site, page, login);
    await expectHeading(page, `Thank you, ${login}`);
  }
  await bob.page.goto(site.url);
  assert.equal(await tokensInService(bob.page), 2);
  await ada.page.goto(`${site.url}/withdraw`);
  await ada.page.getByRole("button", { name: "Withdraw" }).click();
  await logIn(site, ada.page, "ada");
  await expectHeading(ada.page, "Your token is out of the pool");
  await bob.page.reload();
  assert.equal(await tokensInService(bob.page), 1);
  await ada.page.goto(`${site.github.url}/settings/applications`);
  assert.match(await ada.page.innerText("body"), /No authorized applications/, "GitHub has forgotten ada's grant");
});

browserTest("the thanks lead to GitHub's own page for leaving, and are said only once", async (site) => {
  await using person = await site.visitor();
  const { page } = person;
  await page.goto(site.url);
  await page.getByRole("button", { name: "Donate" }).click();
  await logIn(site, page, "ada");
  await expectHeading(page, "Thank you, ada");
  await page.getByRole("link", { name: "at GitHub" }).click();
  await page.getByRole("button", { name: "Revoke access" }).waitFor();
  await page.goBack();
  await page.goto(`${site.url}/thanks`);
  assert.equal(page.url(), `${site.url}/`);
  await page.reload();
  assert.doesNotMatch(await page.innerText("body"), /Thank you/);
  assertQuiet(person, site.origins);
});

browserTest(
  "a donor looks at the donation, pauses it, resumes it and is forgotten, without JavaScript",
  async (site) => {
    await using person = await site.visitor({ javaScriptEnabled: false });
    const { page } = person;
    await page.goto(site.url);
    await page.getByRole("button", { name: "Donate" }).click();
    await logIn(site, page, "ada");
    await expectHeading(page, "Thank you, ada");
    await page.getByRole("main").getByRole("link", { name: "My donation" }).click();
    await page.getByRole("button", { name: "Show my donation" }).click();
    await logIn(site, page, "ada");
    await page.waitForURL(`${site.url}/donation`);
    await expectText(page, "#state", /^\s*Serving/);
    await page.getByRole("button", { name: "Pause" }).click();
    await expectText(page, "#state", /^\s*Paused/);
    await page.getByRole("button", { name: "Resume" }).click();
    await expectText(page, "#state", /^\s*Serving/);
    await page.getByRole("radio", { name: "90 %" }).check();
    await page.getByRole("button", { name: "Keep this much" }).click();
    await expectText(page, "#reserve", /^\s*90 %/);
    await page.getByRole("button", { name: "Forget who I am" }).click();
    await page.getByRole("button", { name: "Show my donation" }).waitFor();
    assertQuiet(person, site.origins);
  },
);

browserTest("a person who says no at GitHub is told that nothing was stored", async (site) => {
  await using person = await site.visitor();
  const { page } = person;
  await page.goto(site.url);
  await page.getByRole("button", { name: "Donate" }).click();
  await page.waitForURL(`${site.github.url}/**`);
  const state = new URL(page.url()).searchParams.get("state")!;
  const no = new URLSearchParams({ error: "access_denied", error_description: "The user said no", state });
  await page.goto(`${site.url}/callback?${no}`);
  await expectHeading(page, "Cancelled");
  const text = await page.innerText("main");
  assert.match(text, /Nothing was stored/);
  assert.doesNotMatch(text, /The user said no/, "GitHub's words are not repeated");
  await page.getByRole("link", { name: "To the start" }).click();
  assert.equal(await tokensInService(page), 0);
  assertQuiet(person, site.origins);
});

browserTest("a person who comes back after more than ten minutes is asked to start again", async (site) => {
  await using person = await site.visitor();
  const { page } = person;
  await page.goto(site.url);
  await page.getByRole("button", { name: "Donate" }).click();
  await page.waitForURL(`${site.github.url}/**`);
  site.advance(10 * 60_000 + 1);
  await logIn(site, page, "ada");
  await expectHeading(page, "That link has expired");
  assert.match(await page.innerText("main"), /within ten minutes.*Nothing was stored/s);
  await page.getByRole("link", { name: "To the start" }).click();
  assert.equal(await tokensInService(page), 0);
  // The browser names the one page whose status is an error; that is not a complaint about the page.
  assertQuiet({ ...person, complaints: person.complaints.filter((text) => !/status of 400/.test(text)) }, site.origins);
});

for (const colorScheme of ["light", "dark"] as const) {
  browserTest(`every page fits into 320 px, in ${colorScheme} colours`, async (site) => {
    await using person = await site.visitor({ viewport: { width: 320, height: 640 }, colorScheme });
    const { page } = person;
    const look: Look = async (page, name) => {
      await assertFits(page, name);
      const background = await page.evaluate("getComputedStyle(document.body).backgroundColor");
      assert.equal(background, colorScheme === "dark" ? "rgb(15, 21, 19)" : "rgb(251, 250, 247)", name);
    };
    await joinAndLeave(site, page, look);
    assertQuiet(person, site.origins);
    for (const path of ["/no-such-page", "/callback?state=x", "/auth?reserve=2"]) {
      await page.goto(site.url + path);
      await look(page, path);
    }
  });
}

browserTest("the browser would have complained of a page that breaks its policy", async (site) => {
  await using person = await site.visitor();
  await person.page.goto(site.url);
  await person.page.evaluate("document.body.setAttribute('style', 'color: red')");
  await person.page.evaluate("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.2/x.png' }))");
  await assert.rejects(() => person.page.addScriptTag({ content: "1" }));
  await until("a policy that is broken shows in the console", () => person.complaints.length >= 2);
  assert.ok(person.complaints.every((text) => /Content Security Policy/.test(text)));
});
