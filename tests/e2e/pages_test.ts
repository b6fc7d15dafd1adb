/**
 * The pages as people meet them: narrow and wide, light and dark, without JavaScript, by keyboard, on paper, and read by
 * axe, which knows what a screen reader needs.
 *
 * @module
 */

import assert from "node:assert/strict";
import axe from "npm:axe-core@4.14.1";
import { assertFits, assertQuiet, findChromium, type Page } from "../support/chromium.ts";
import { everyPage, openPageSite, type PageSite } from "../support/page_site.ts";

const CHROMIUM = findChromium();

/** Registers a test that needs a browser; browser_test.ts says so when there is none. */
function pageTest(name: string, test: (site: PageSite) => Promise<void>): void {
  if (CHROMIUM === null) return;
  Deno.test(name, async () => {
    await using site = await openPageSite(CHROMIUM);
    await test(site);
  });
}

const SCHEMES = ["light", "dark"] as const;
const WIDTHS = [320, 1280];

/** The number of pages and outcomes that a journey must have seen, so that none is lost unnoticed. */
const PAGES_AT_LEAST = 30;

/** Only the statuses of error pages are a complaint that is meant. */
const isStatus = (text: string) => /status of [45]\d\d/.test(text);

const GROUND = { light: "rgb(251, 250, 247)", dark: "rgb(15, 21, 19)" };

pageTest(
  "every page fits and keeps its colours at 320 and 1280 px, light and dark, without JavaScript",
  async (site) => {
    await using person = await site.visitor({ javaScriptEnabled: false });
    const seen = new Set<string>();
    await everyPage(site, person.page, async (page, name) => {
      seen.add(name);
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: 800 });
        for (const colorScheme of SCHEMES) {
          await page.emulateMedia({ colorScheme });
          await assertFits(page, `${name}, ${colorScheme}`);
          const ground = await page.evaluate("getComputedStyle(document.body).backgroundColor");
          assert.equal(ground, GROUND[colorScheme], `${name}, ${colorScheme}`);
        }
      }
      assert.equal(await page.locator("h1").count(), 1, name);
      assert.notEqual(await page.title(), "", name);
    });
    assert.ok(seen.size >= PAGES_AT_LEAST, `${seen.size} pages were seen`);
    assertQuiet({ ...person, complaints: person.complaints.filter((text) => !isStatus(text)) }, [
      site.url,
      site.githubUrl, // where a donor is sent; no page loads anything from there
    ]);
  },
);

pageTest("the pages have a title for each outcome", async (site) => {
  await using person = await site.visitor();
  const titles = new Map<string, string>();
  await everyPage(site, person.page, async (page, name) => {
    if (name.startsWith("/message/")) titles.set(name, await page.title());
  });
  // Two ways in which nothing can be stored look the same to a donor, and differ in what to do.
  assert.ok(new Set(titles.values()).size >= titles.size - 2, JSON.stringify([...titles]));
});

/** What axe finds in a page, as one line for each violation. */
async function violationsIn(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  return await page.evaluate(
    `axe.run(document, { rules: { "target-size": { enabled: true } } }).then(({ violations }) =>
    violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html, failureSummary }) => html + failureSummary)))`,
  );
}

pageTest("axe finds no violation on any page, in both schemes, narrow and wide", async (site) => {
  await using person = await site.visitor({ bypassCSP: true });
  await everyPage(site, person.page, async (page, name) => {
    await page.evaluate("document.querySelectorAll('details').forEach((details) => details.open = true)");
    for (const [index, colorScheme] of SCHEMES.entries()) {
      for (const width of name.startsWith("/message/") ? [WIDTHS[index]!] : WIDTHS) {
        await page.setViewportSize({ width, height: 800 });
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        assert.deepEqual(await violationsIn(page), [], `${name}, ${colorScheme}, ${width} px`);
      }
    }
  });
});

pageTest("axe does see a page that is wrong", async (site) => {
  await using person = await site.visitor({ bypassCSP: true });
  await person.page.goto(site.url);
  await person.page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=/og.png>')");
  assert.match((await violationsIn(person.page)).join(), /image-alt/);
});

pageTest("a keyboard alone leads through the donation, and shows where it is", async (site) => {
  await using person = await site.visitor({ javaScriptEnabled: false });
  const { page } = person;
  await page.goto(site.url);
  const isOutlined = () =>
    page.evaluate(`(() => {
      const at = document.activeElement;
      const shown = at.matches("input") ? at.closest("label") : at;
      const { outlineStyle, outlineWidth } = getComputedStyle(shown);
      return outlineStyle === "solid" && parseFloat(outlineWidth) >= 2;
    })()`);
  const stops: string[] = [];
  for (let presses = 0; presses < 12; presses++) {
    await page.keyboard.press("Tab");
    assert.equal(await isOutlined(), true, "the focus can be seen");
    const stop = await page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()");
    stops.push(stop as string);
    if (stop === "reserve") break;
  }
  assert.equal(stops[0], "Skip to the content", "first the way past what is on every page");
  assert.equal(stops.at(-1), "reserve", "then, before anything else of the page, the choice");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Tab");
  assert.equal(await isOutlined(), true);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Thank you, ada" }).waitFor();
  const rows = await site.service.database.look("SELECT reserve FROM token_pool_tokens");
  assert.deepEqual(rows, [{ reserve: 0.9 }]);
});

pageTest("the way past the navigation leads to the content", async (site) => {
  await using person = await site.visitor();
  const { page } = person;
  await page.goto(site.url);
  await page.keyboard.press("Tab");
  const box = await page.locator(".skip").boundingBox();
  assert.ok(box !== null && box.x >= 0 && box.height >= 24, "it shows when it has the focus");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate("document.activeElement.name"), "reserve");
});

pageTest("whatever can be pressed is at least 24 px high, wide or narrow", async (site) => {
  await using person = await site.visitor();
  await everyPage(site, person.page, async (page, name) => {
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 800 });
      // Links within a sentence are as high as the sentence.
      for (const target of await page.locator("button, label, summary, header a, .button, .links a").all()) {
        const box = await target.boundingBox();
        assert.ok(box !== null && box.height >= 24 && box.width >= 24, `${name}: ${await target.innerText()}`);
      }
    }
  });
});

pageTest("the landing page needs at most 30 kB, and no request but its own", async (site) => {
  await using person = await site.visitor();
  const sizes = new Map<string, Promise<number>>();
  person.page.on("response", (response) => {
    sizes.set(new URL(response.url()).pathname, response.body().then((body) => body.length));
  });
  const { service } = site;
  await service.pool.addToken({ github_user_id: "1", github_username: "ada", token: "gho_size", reserve: 0.25 });
  for (let hour = 0; hour < 24 * 30; hour += 5) {
    await service.pool.getToken({ cost: 3000 });
    service.clock.advance(5 * 3_600_000);
  }
  await person.page.goto(site.url, { waitUntil: "networkidle" });
  assert.equal(await person.page.locator("figure.chart svg").count(), 2, "with both charts");
  // The browser asks for the icon by itself, without telling.
  const icon = (await (await fetch(`${site.url}/favicon.svg`)).arrayBuffer()).byteLength;
  const bytes = (await Promise.all(sizes.values())).reduce((sum, size) => sum + size, icon);
  assert.ok(bytes <= 30_000, `${bytes} bytes`);
  assert.deepEqual([...sizes.keys()].filter((path) => path !== "/favicon.svg").sort(), ["/", "/style.css"]);
  assertQuiet(person, [site.url]);
});

pageTest("on paper there are the answers to all questions, and nothing to press", async (site) => {
  await using person = await site.visitor();
  const { page } = person;
  await page.goto(site.url);
  await page.emulateMedia({ media: "print" });
  assert.equal(await page.locator("form").isVisible(), false);
  assert.equal(await page.locator("nav").isVisible(), false);
  const heights = await page.evaluate(
    `[...document.querySelectorAll(".questions p")].map((answer) => answer.getBoundingClientRect().height)`,
  ) as number[];
  assert.ok(heights.length >= 8 && heights.every((height) => height > 20), heights.join());
});

pageTest("forced colours leave a border around buttons, and the choice can still be told", async (site) => {
  await using person = await site.visitor({ forcedColors: "active" });
  const { page } = person;
  await page.goto(site.url);
  const styleOf = (selector: string, property: string) =>
    page.evaluate(`getComputedStyle(document.querySelector(${JSON.stringify(selector)})).${property}`);
  assert.equal(await styleOf("form button", "borderTopStyle"), "solid");
  assert.notEqual(await styleOf("form button", "borderTopColor"), await styleOf("form button", "backgroundColor"));
  assert.equal(await styleOf("label:has(:checked)", "outlineStyle"), "solid");
  assert.equal(await styleOf("label:not(:has(:checked))", "outlineStyle"), "none");
});

pageTest("nothing moves for who wants no motion", async (site) => {
  await using person = await site.visitor({ reducedMotion: "reduce" });
  await person.page.goto(site.url);
  const moving = await person.page.evaluate(`[...document.querySelectorAll("*")].filter((node) => {
    const { transitionDuration, animationName } = getComputedStyle(node);
    return parseFloat(transitionDuration) > 0 || animationName !== "none";
  }).length`);
  assert.equal(moving, 0);
});
