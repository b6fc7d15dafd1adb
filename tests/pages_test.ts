/**
 * What the pages claim is what the code does: reserves, scopes, what is stored, how it is sealed. And the pages are
 * valid, have enough contrast, and say in text what they draw.
 *
 * @module
 */

import assert from "node:assert/strict";
import { HtmlValidate } from "npm:html-validate@11.18.0";
import { RESERVES, SUGGESTED_RESERVE } from "../lib/donate.ts";
import { askDonorPage, donationPage, type DonationProps } from "../views/donation.tsx";
import { landingPage, type LandingProps } from "../views/landing.tsx";
import { page } from "../views/layout.tsx";
import { messagePage, MESSAGES } from "../views/message.tsx";
import { OG_IMAGE } from "../views/og_image.ts";
import { AFTERWARDS, KEPT, keptOf, RENEWAL, SEALED } from "../views/stored.tsx";
import { STYLESHEET } from "../views/style.ts";
import { thanksPage } from "../views/thanks.tsx";
import { withdrawnPage, withdrawPage } from "../views/withdraw.tsx";
import { donate, donation, START } from "./support/fixtures.ts";
import { Browser, type Service, temporaryService, upkeep } from "./support/service.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const PROPS: LandingProps = {
  figures: {
    state: "ok",
    healthy: 12,
    usable: 26_200,
    capacity: 45_000,
    callsLast24h: 276,
    hours: Array.from({ length: 24 }, (_, hour) => ({ at: START - START % HOUR + (hour - 23) * HOUR, calls: hour })),
    days: Array.from({ length: 30 }, (_, day) => ({ at: START - START % DAY + (day - 29) * DAY, calls: 100 * day })),
    donations: Array.from({ length: 30 }, (_, day) => ({
      at: START - START % DAY + (day - 29) * DAY,
      count: day < 10 ? null : [9, 0, 14][day % 3]!,
    })),
  },
  reserves: RESERVES,
  suggestedReserve: SUGGESTED_RESERVE,
  grantUrl: "https://github.com/settings/connections/applications/abc",
  problems: [],
  isDisabled: false,
  importUrl: "https://esm.town/v/ada/pool/lib/pool.ts",
  origin: "https://pool.example",
};
const SITE = {
  consumers: [{ name: "Badges & Co", url: "https://badges.example/?a=1&b=2", purpose: "Draws badges." }],
  sourceUrl: "https://source.example/",
  contactUrl: "mailto:pool@example.org",
};
const NOTHING = PROPS.figures.hours.map((point) => ({ ...point, calls: 0 }));
const PROBLEMS = [
  { name: "GITHUB_CLIENT_ID", message: "is not set", settingsUrl: "https://www.val.town/x/ada/pool" },
  { name: "TOKEN_ENCRYPTION_KEY", message: "is not set; made by `openssl rand -hex 32`", settingsUrl: null },
];
const FAILED = { githubUrl: "https://github.com", reference: "0a1b2c3d" };
const GRANT = { grantUrl: PROPS.grantUrl! };
const WITHDRAWN = { ...GRANT, at: new Date(START).toISOString() };

const MINE: DonationProps = {
  ...GRANT,
  login: "ada",
  done: null,
  isRevoked: true,
  isDisabled: false,
  donation: {
    now: START,
    donatedAt: START - DAY,
    reserve: 0.5,
    state: "resting",
    restsUntil: START + HOUR,
    limit: 5000,
    floor: 2500,
    calls: { total: 30, today: 10, last30Days: 20 },
    lastUsedOn: START - DAY,
  },
  reserves: RESERVES,
};

/** Every page, in every state. */
const PAGES: Record<string, string> = {
  "the landing page": landingPage({ ...PROPS, site: SITE }),
  "an unknown program's landing page": landingPage({ ...PROPS, importUrl: null }),
  ...Object.fromEntries((["degraded", "exhausted", "empty", "down"] as const).map((state) => [
    `the landing page, ${state}`,
    landingPage({ ...PROPS, figures: { ...PROPS.figures, state, hours: NOTHING, days: NOTHING, donations: [] } }),
  ])),
  "a paused pool": landingPage({ ...PROPS, isDisabled: true }),
  "a pool that is not set up": landingPage({ ...PROPS, grantUrl: null, problems: PROBLEMS }),
  "a pool that is not set up, nobody knows where": landingPage({ ...PROPS, problems: PROBLEMS, origin: null }),
  "the thanks": thanksPage({ login: "ada", reserve: 0.5, isUpdate: false, expires: false, ...GRANT }),
  "the thanks for an update": thanksPage({ login: "ada", reserve: 0.9, isUpdate: true, expires: true, ...GRANT }),
  "the withdrawal before": withdrawPage(GRANT),
  "the withdrawal after": withdrawnPage({ wasDonor: true, isRevoked: true, ...WITHDRAWN }),
  "the withdrawal of nobody": withdrawnPage({ wasDonor: false, isRevoked: true, ...WITHDRAWN }),
  "the withdrawal that GitHub did not confirm": withdrawnPage({ wasDonor: true, isRevoked: false, ...WITHDRAWN }),
  "my donation before": askDonorPage(),
  "my donation": donationPage(MINE),
  "my donation, paused and not used": donationPage({
    ...MINE,
    done: "pause",
    isRevoked: false,
    donation: { ...MINE.donation!, state: "paused", lastUsedOn: null },
  }),
  "no donation of mine": donationPage({ ...MINE, donation: null }),
  ...Object.fromEntries(
    Object.entries(MESSAGES).map(([name, message]) => [name, messagePage({ ...message, ...FAILED })]),
  ),
};

/** The words of a page. */
function textOf(html: string): string {
  return html.replace(/<head>.*<\/head>/s, "").replace(/<[^>]*>/g, " ").replaceAll("&#39;", "'")
    .replaceAll("&quot;", '"').replaceAll("&lt;", "<").replaceAll("&amp;", "&").replace(/\s+/g, " ");
}

async function landingOf({ app }: Service): Promise<string> {
  return await (await app.request("/")).text();
}

const VALIDATOR = new HtmlValidate({
  extends: ["html-validate:recommended", "html-validate:document"],
  rules: {
    // How hono/jsx writes what has no end, and what is true.
    "void-style": ["error", { style: "selfclosing" }],
    "attribute-boolean-style": ["error", { style: "empty" }],
    "require-sri": ["error", { target: "crossorigin" }], // nothing comes from another origin
    "long-title": "off",
  },
});

Deno.test("every page is valid HTML", async (t) => {
  for (const [name, html] of Object.entries(PAGES)) {
    await t.step(name, async () => {
      const { results } = await VALIDATOR.validateString(html);
      assert.deepEqual(results.flatMap(({ messages }) => messages.map(({ ruleId, message }) => [ruleId, message])), []);
    });
  }
  const broken = await VALIDATOR.validateString(page("Broken", "x").replace("</main>", ""));
  assert.equal(broken.valid, false, "the validator does find fault");
});

Deno.test("what the service sends is valid HTML too, with a history", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 2);
  await service.pool.getToken({ cost: 10 });
  for (const path of ["/", "/withdraw", "/donation", "/nowhere", "/callback"]) {
    const { valid, results } = await VALIDATOR.validateString(await (await service.app.request(path)).text());
    assert.ok(valid, `${path}: ${JSON.stringify(results)}`);
  }
});

Deno.test("the reserves that the page offers are those that the code takes", async () => {
  await using service = await temporaryService();
  const html = await landingOf(service);
  const offered = [...html.matchAll(/name="reserve" value="([^"]*)"( checked)?/g)];
  assert.deepEqual(offered.map(([, value]) => Number(value)), RESERVES);
  assert.deepEqual(offered.filter(([, , checked]) => checked).map(([, value]) => Number(value)), [SUGGESTED_RESERVE]);
  const text = textOf(html);
  for (const reserve of RESERVES) {
    assert.ok(text.includes(`${reserve * 100} % ${(5000 * reserve).toLocaleString("en")} calls`), String(reserve));
  }
});

Deno.test("the calls that the page says stay a donor's are those that no claim touches", async () => {
  for (const reserve of [...RESERVES, 0.07, 1 / 3, 0.95]) {
    await using service = await temporaryService();
    await service.pool.addToken(donation(1, { reserve }));
    const [row] = await service.database.look("SELECT floor FROM token_pool_limits WHERE resource = 'core'");
    assert.equal(row!["floor"], keptOf(reserve), String(reserve));
  }
});

Deno.test("the page says that no scope is asked for, and none is", async () => {
  await using service = await temporaryService();
  assert.match(
    textOf(await landingOf(service)),
    /asks for no permission at all.*token without any scope|without any scope/,
  );
  for (const reserve of RESERVES) {
    const location = (await service.app.request(`/auth?reserve=${reserve}`)).headers.get("location")!;
    assert.equal(new URL(location).searchParams.has("scope"), false);
  }
  const { location } = await service.flow.begin("withdraw", 0);
  assert.equal(new URL(location).searchParams.has("scope"), false);
});

/** The phrase that tells a donor of a column, by table; of every table that has rows of donors. */
const DISCLOSURES: Record<string, Record<string, string>> = {
  token_pool_tokens: {
    id: "a number for the donation",
    github_user_id: "your GitHub user id",
    github_username: "your GitHub login",
    token: SEALED,
    refresh_token: RENEWAL,
    expires_at: RENEWAL,
    refresh_after: RENEWAL,
    reserve: "the share that stays yours",
    donated_at: "when you donated",
    held_until: "pauses that GitHub asked for",
    strikes: "pauses that GitHub asked for",
    suspect_at: "when GitHub refused the token, and what came of it",
    check_at: "when GitHub refused the token, and what came of it",
    checks: "when GitHub refused the token, and what came of it",
    not_found_at: "when GitHub refused the token, and what came of it",
    braked: "when GitHub refused the token, and what came of it",
  },
  token_pool_limits: Object.fromEntries([
    ["token_id", "a number for the donation"],
    ["resource", "how many calls were drawn"],
    ["held_until", "pauses that GitHub asked for"],
    ...["cap", "remaining", "floor", "reset_at", "window_ends", "ready_at", "turn", "calls", "granted"].map((
      column,
    ) => [
      column,
      "how many are left",
    ]),
  ]),
  token_pool_days: {
    token_id: "a number for the donation",
    day: "on each of the last days",
    calls: "on each of the last days",
  },
  token_pool_pauses: {
    token_id: "a number for the donation",
    paused_at: "whether you have paused it, and since when",
  },
  token_pool_probes: {
    token_id: "a number for the donation",
    asked_at: "when the pool itself last asked GitHub with the token",
    used_at: "when the pool itself last asked GitHub with the token",
  },
  token_pool_readings: {
    token_id: "a number for the donation",
    resource: "how many calls were drawn",
    reset_at: "how many are left",
    remaining: "how many are left",
    aside: "how many are left",
  },
  token_pool_suspicions: {
    token_id: "a number for the donation",
    at: "when GitHub refused the token, and what came of it",
  },
  // What a donor who leaves is told of, while GitHub has not confirmed it.
  token_pool_revocations: Object.fromEntries(
    ["id", "github_user_id", "token", "kind", "due_at", "tries"].map((column) => [column, "keeps asking"]),
  ),
  token_pool_tombstones: { donor_hash: AFTERWARDS, kid: AFTERWARDS, withdrawn_at: AFTERWARDS },
};

Deno.test("every column of a donor's is told of on the landing page, and what is kept on the thanks", async () => {
  await using service = await temporaryService();
  await service.vault.store();
  const landing = textOf(await landingOf(service));
  const columns = await service.database.look(
    `SELECT t.name AS "table", c.name AS "column" FROM sqlite_schema t, pragma_table_info(t.name) c
      WHERE t.type = 'table' AND t.name LIKE 'token\\_pool\\_%' ESCAPE '\\'`,
  ) as { table: string; column: string }[];
  const ofDonors = new Set(
    columns.filter(({ column }) => ["token_id", "github_user_id", "donor_hash"].includes(column)).map(({ table }) =>
      table
    ),
  );
  assert.ok(ofDonors.has("token_pool_tokens"));
  let checked = 0;
  for (const { table, column } of columns.filter(({ table }) => ofDonors.has(table))) {
    const phrase = DISCLOSURES[table]?.[column];
    assert.ok(phrase !== undefined, `No page tells donors of ${table}.${column}: say so in views/stored.tsx`);
    assert.ok(landing.includes(phrase), `The landing page does not say: ${phrase}`);
    checked++;
  }
  assert.ok(checked > 20);
  assert.deepEqual(
    (await service.database.look("SELECT name FROM pragma_table_info('token_pool_tokens')")).map(({ name }) => name),
    Object.keys(DISCLOSURES["token_pool_tokens"]!),
    "and nothing is told that is not stored",
  );
  const thanks = textOf(thanksPage({ login: "ada", reserve: 0.5, isUpdate: false, expires: true, ...GRANT }));
  for (const phrase of [...KEPT, SEALED, RENEWAL, AFTERWARDS]) assert.ok(thanks.includes(phrase), phrase);
});

Deno.test("the page says AES-256-GCM, and that is what seals a token", async () => {
  await using service = await temporaryService();
  assert.match(textOf(await landingOf(service)), /AES-256-GCM; the key is not in the database/);
  const used: string[] = [];
  const { subtle } = crypto;
  const encrypt = subtle.encrypt;
  subtle.encrypt = (algorithm, key, data) => {
    const { length } = key.algorithm as AesKeyAlgorithm;
    used.push(`${typeof algorithm === "string" ? algorithm : algorithm.name} ${length}`);
    return encrypt.call(subtle, algorithm, key, data);
  };
  try {
    await service.pool.addToken(donation(1));
  } finally {
    subtle.encrypt = encrypt;
  }
  assert.ok(used.length > 0 && used.every((one) => one === "AES-GCM 256"), used.join());
  const [row] = await service.database.look("SELECT token FROM token_pool_tokens");
  assert.ok(!String(row!["token"]).includes(donation(1).token));
});

Deno.test("no public page names a donor, an id or a token", async () => {
  await using service = await temporaryService();
  const names = { github_user_id: "987654321", github_username: "grace", token: "gho_0123456789abcdef" };
  await service.pool.addToken(donation(1, names));
  await service.pool.getToken();
  for (const path of ["/", "/withdraw", "/donation", "/nowhere", "/callback", "/style.css", "/favicon.svg"]) {
    const response = await service.app.request(path);
    const text = await response.text() + JSON.stringify([...response.headers]);
    assert.doesNotMatch(text, /grace|987654321|gho_/, path);
    for (const secret of service.github.secrets) assert.ok(!text.includes(secret), path);
  }
});

Deno.test("no cookie lives longer than the ten minutes that every page says", async () => {
  for (const html of Object.values(PAGES)) assert.match(html, /No cookie lives longer than ten minutes/);
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const ages: number[] = [];
  const visit = async (start: Response) => {
    const back = await browser.go(service.github.authorize(start.headers.get("location")!, "ada"));
    const shown = await browser.go(back.headers.get("location")!);
    for (const cookie of [start, back, shown].flatMap(({ headers }) => headers.getSetCookie())) {
      ages.push(Number(/max-age=(\d+)/i.exec(cookie)?.[1] ?? Infinity));
    }
  };
  await visit(await browser.go("/auth"));
  await visit(await browser.submit("/donation"));
  await visit(await browser.submit("/withdraw"));
  assert.ok(ages.filter((age) => age > 0).length >= 5);
  assert.ok(Math.max(...ages) <= 600, ages.join());
});

Deno.test("every link within the pages leads to something", async () => {
  await using service = await temporaryService();
  const links = new Set<string>();
  for (const html of Object.values(PAGES)) {
    for (const [, href = ""] of html.matchAll(/(?:href|action)="(\/[^"]*)"/g)) links.add(href);
    for (const [, id = ""] of html.matchAll(/href="#([^"]*)"/g)) assert.ok(html.includes(`id="${id}"`), id);
  }
  assert.ok(links.size >= 5);
  for (const link of links) assert.ok((await service.app.request(link)).status < 400, link);
});

Deno.test("the charts draw each figure that the table beside them tells", () => {
  const html = PAGES["the landing page"]!;
  const figures = [...html.matchAll(/<figure class="chart">.*?<\/figure>/gs)].map(([figure]) => figure);
  assert.equal(figures.length, 3);
  const [hours, days, donations] = figures;
  const bars = (figure: string) => figure.match(/M[\d.]+ 87v/g)?.length;
  assert.equal(bars(hours!), 23, "a bar for each hour but the first, which had no calls");
  assert.equal(bars(days!), 29);
  assert.match(
    hours!,
    /role="img" aria-label="Calls in the last 24 hours: 276 calls in all; most in the hour of \d\d:00: 23\."/,
  );
  const cells = [...hours!.matchAll(/<td>(\d\d:00)<\/td><td>([\d,]+)<\/td>/g)];
  assert.deepEqual(cells.map(([, , calls]) => Number(calls)), PROPS.figures.hours.map(({ calls }) => calls));
  const last = [...days!.matchAll(/<td>([^<]*)<\/td><td>([\d,]+)<\/td>/g)].at(-1)!;
  assert.deepEqual(last.slice(1), [
    new Date(START).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }),
    "2,900",
  ]);

  assert.equal(bars(donations!), 13, "a bar for each day that had any");
  assert.match(
    donations!,
    /role="img" aria-label="Donations in the last 30 days: 14 on \d+ \w+; most on \d+ \w+: 14\."/,
  );
  const counts = [...donations!.matchAll(/<td>\d+ \w+<\/td><td>([^<]*)<\/td>/g)].map(([, count]) => count);
  assert.deepEqual(counts, PROPS.figures.donations.map(({ count }) => count === null ? "not counted" : String(count)));
});

Deno.test("the landing page shows donations before any call was drawn, and nothing of days on which there was none", () => {
  const { figures } = PROPS;
  const charts = (changes: Partial<LandingProps["figures"]>) => {
    const html = landingPage({ ...PROPS, figures: { ...figures, ...changes } });
    return [...html.matchAll(/<figcaption>([^<]*)</g)].map(([, title]) => title).filter((title) => /days/.test(title!));
  };
  const none = (count: number | null) => figures.donations.map(({ at }) => ({ at, count }));
  const noCalls = { hours: NOTHING, days: NOTHING };
  assert.deepEqual(charts({}), ["Calls in the last 30 days", "Donations in the last 30 days"]);
  assert.deepEqual(charts(noCalls), ["Donations in the last 30 days"]);
  for (const count of [null, 0]) assert.deepEqual(charts({ donations: none(count) }), ["Calls in the last 30 days"]);
  assert.doesNotMatch(
    landingPage({ ...PROPS, figures: { ...figures, ...noCalls, donations: [] } }),
    /<figure class="chart">/,
  );
});

Deno.test("the landing page shows the donations that upkeep has counted", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 3);
  assert.doesNotMatch(await landingOf(service), /<figure class="chart">/);
  await upkeep(service);
  service.clock.advance(HOUR);
  const text = textOf(await landingOf(service));
  assert.match(text, /Donations in the last 30 days/);
  assert.match(text, /3 on \d+ \w+; most on \d+ \w+: 3\./);
});

Deno.test("a bar of one call beside one of a million can be seen, and of none there is none", () => {
  const { figures } = PROPS;
  const hours = figures.hours.map((point, index) => ({ ...point, calls: [0, 1, 1_000_000][index] ?? 0 }));
  const html = landingPage({ ...PROPS, figures: { ...figures, hours } });
  const [chart] = /<figure class="chart">.*?<\/figure>/s.exec(html)!;
  const heights = [...chart.matchAll(/v-([\d.]+)h/g)].map(([, height]) => Number(height));
  assert.deepEqual(heights, [2, 84]);
});

Deno.test("a pool without calls has no chart, and one without a database has no figures", () => {
  assert.doesNotMatch(PAGES["the landing page, empty"]!, /<figure class="chart">/);
  assert.match(PAGES["the landing page, empty"]!, /Yours would be the first token/);
  assert.doesNotMatch(PAGES["the landing page, down"]!, /id="healthy"/);
});

Deno.test("the landing page shows the history of the pool as it is drawn", async () => {
  await using service = await temporaryService();
  await donate(service.pool, 2);
  await service.pool.getToken({ cost: 7 });
  service.clock.advance(2 * HOUR);
  await service.pool.getToken({ cost: 30 });
  const text = textOf(await landingOf(service));
  assert.match(text, /37 calls in all; most in the hour of \d\d:00: 30\./);
  assert.match(text, /calls lent an hour 7,500/);
});

Deno.test("a pool that is not set up shows the very callback URL to register", async () => {
  const missing = { GITHUB_CLIENT_ID: undefined };
  await using public_ = await temporaryService({ variables: missing });
  assert.match(await landingOf(public_), /<code class="block">https:\/\/pool\.example\/callback<\/code>/);
  await using local = await temporaryService({ variables: { ...missing, PUBLIC_URL: undefined, PORT: "8123" } });
  const html = await landingOf(local);
  assert.match(html, /<code class="block">http:\/\/localhost:8123\/callback<\/code>/);
  assert.match(html, /If the public finds this pool elsewhere, set <code>PUBLIC_URL<\/code>/);
  await using val = await temporaryService({
    variables: {
      ...missing,
      PUBLIC_URL: undefined,
      VALTOWN_ENTRYPOINT: "https://esm.town/v/ada/pool@1-main/main.http.ts",
    },
  });
  const onVal = await (await val.app.request("https://ada--pool.web.val.run/")).text();
  assert.match(onVal, /<code class="block">https:\/\/ada--pool\.web\.val\.run\/callback<\/code>/);
});

Deno.test("the callback URL that is shown is the one that is used", async () => {
  await using service = await temporaryService();
  const location = (await service.app.request("/auth")).headers.get("location")!;
  const used = new URL(location).searchParams.get("redirect_uri")!;
  service.variables["GITHUB_CLIENT_ID"] = undefined;
  assert.ok((await landingOf(service)).includes(`<code class="block">${used}</code>`));
});

Deno.test("the page names who draws on the pool, its source and its operator, as the operator has written them", () => {
  const html = PAGES["the landing page"]!;
  assert.match(
    html,
    /<a href="https:\/\/badges\.example\/\?a=1&amp;b=2">Badges &amp; Co<\/a> <span>Draws badges\.<\/span>/,
  );
  assert.match(html, /href="https:\/\/source\.example\/">Read the source/);
  assert.match(html, /href="mailto:pool@example\.org">Write to the operator/);
  assert.match(html, /import \{ poolFetch \} from &quot;https:\/\/esm\.town\/v\/ada\/pool\/lib\/pool\.ts&quot;/);
  const bare = textOf(landingPage({ ...PROPS, site: { consumers: [], sourceUrl: null, contactUrl: null } }));
  assert.match(bare, /No program is listed yet/);
  assert.match(bare, /has not said how to be reached/);
});

Deno.test("a link that is shared has a title, a sentence and a picture, by their whole addresses", async () => {
  await using service = await temporaryService();
  const html = await landingOf(service);
  const said = new Map(
    [...html.matchAll(/<meta (?:property|name)="([^"]*)" content="([^"]*)"/g)].map((
      [, name, content],
    ) => [name, content]),
  );
  assert.equal(said.get("og:url"), "https://pool.example/");
  assert.equal(said.get("og:image"), "https://pool.example/og.png");
  assert.equal(said.get("twitter:card"), "summary_large_image");
  assert.ok((said.get("og:title") ?? "").length > 10 && (said.get("og:description") ?? "").length > 50);
  const { headers, status } = await service.app.request("/withdraw");
  assert.deepEqual([status, headers.get("cache-control")], [200, "no-store"]);
  assert.doesNotMatch(PAGES["the withdrawal before"]!, /og:/, "a page for one person has no preview");
});

Deno.test("the picture is a PNG of the size that the page says, and small", async () => {
  await using service = await temporaryService();
  const response = await service.app.request("/og.png");
  assert.equal(response.headers.get("content-type"), "image/png");
  assert.equal(response.headers.get("cross-origin-resource-policy"), "cross-origin");
  const bytes = new Uint8Array(await response.arrayBuffer());
  const view = new DataView(bytes.buffer);
  assert.equal(new TextDecoder("latin1").decode(bytes.subarray(1, 4)), "PNG");
  assert.deepEqual([view.getUint32(16), view.getUint32(20)], [1200, 630]);
  assert.match(PAGES["the landing page"]!, /og:image:width" content="1200".*og:image:height" content="630"/);
  assert.ok(OG_IMAGE.length < 15_000, `${OG_IMAGE.length} bytes`);
});

/** The custom properties that are colours, of a scheme. */
function colorsOf(scheme: "light" | "dark"): Map<string, string> {
  const [light, dark] = [...STYLESHEET.matchAll(/:root\s*\{([^}]*)\}/g)].map(([, block]) => block!);
  const block = scheme === "light" ? light! : dark!;
  return new Map([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6})/g)].map(([, name, color]) => [name!, color!]));
}

/** WCAG 2.2: (L1 + 0.05) / (L2 + 0.05), of relative luminances. */
function contrast(a: string, b: string): number {
  const luminance = (color: string) => {
    const [red, green, blue] = [1, 3, 5].map((at) => {
      const value = parseInt(color.slice(at, at + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
  };
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light! + 0.05) / (dark! + 0.05);
}

const TEXT = ["ink", "soft", "accent", "strong"];
const GROUNDS = ["paper", "panel", "sunk", "tint"];
/** What must be told from the ground without being read: borders of controls, focus, bars. */
const SHAPES = ["edge", "accent"];

for (const scheme of ["light", "dark"] as const) {
  Deno.test(`the colours have the contrast that WCAG AA asks for, in ${scheme} colours`, () => {
    const colors = colorsOf(scheme);
    assert.deepEqual(
      [...colors.keys()].sort(),
      [...new Set([...TEXT, ...GROUNDS, ...SHAPES, "on-accent", "line", "coin"])].sort(),
    );
    const check = (front: string, ground: string, least: number) => {
      const ratio = contrast(colors.get(front)!, colors.get(ground)!);
      assert.ok(ratio >= least, `${front} on ${ground}: ${ratio.toFixed(2)} is less than ${least}`);
    };
    for (const front of TEXT) for (const ground of GROUNDS) check(front, ground, 4.5);
    for (const ground of ["accent", "strong"]) check("on-accent", ground, 4.5);
    for (const shape of SHAPES) for (const ground of ["paper", "panel"]) check(shape, ground, 3);
  });
}

Deno.test("contrast() is that of WCAG", () => {
  assert.equal(contrast("#000000", "#ffffff"), 21);
  assert.equal(contrast("#777777", "#ffffff").toFixed(2), "4.48");
});

Deno.test("no colour is named but as a custom property, on paper apart", () => {
  const [rules] = STYLESHEET.replace(/:root\s*\{[^}]*\}/g, "").split("@media print");
  assert.doesNotMatch(rules!, /#[0-9a-f]{3,8}\b|rgba?\(|hsla?\(/i);
  const defined = new Set(STYLESHEET.match(/--[\w-]+(?=:)/g));
  const used = new Set(STYLESHEET.match(/(?<=var\()--[\w-]+/g));
  assert.deepEqual([...used].filter((name) => !defined.has(name)), []);
  assert.deepEqual([...defined].filter((name) => !used.has(name)), []);
});

Deno.test("the stylesheet asks nobody for anything, and the bars of browsers have the colour of the page", () => {
  assert.doesNotMatch(STYLESHEET, /url\(|@import|@font-face/);
  for (const scheme of ["light", "dark"] as const) {
    assert.ok(page("x", "x").includes(`(prefers-color-scheme: ${scheme})" content="${colorsOf(scheme).get("paper")}"`));
  }
});

Deno.test("every class that a page has is known to the stylesheet", () => {
  const known = new Set(STYLESHEET.match(/\.[a-z][\w-]*/g)?.map((name) => name.slice(1)));
  for (const [name, html] of Object.entries(PAGES)) {
    for (const [, classes = ""] of html.matchAll(/\sclass="([^"]*)"/g)) {
      for (const one of classes.split(" ")) assert.ok(known.has(one), `${name}: .${one}`);
    }
  }
});

Deno.test("the landing page with all that it needs has at most 30 kB", async () => {
  await using service = await temporaryService();
  const sizeOf = async (path: string) => (await (await service.app.request(path)).arrayBuffer()).byteLength;
  const size = new TextEncoder().encode(PAGES["the landing page"]).length + await sizeOf("/style.css") +
    await sizeOf("/favicon.svg");
  assert.ok(size <= 30_000, `${size} bytes`);
});

Deno.test("the thanks and the withdrawal lead to each way out", async () => {
  await using service = await temporaryService();
  const browser = new Browser(service.app);
  const away = await browser.go("/auth?reserve=0.9");
  const back = await browser.go(service.github.authorize(away.headers.get("location")!, "ada"));
  const html = await (await browser.go(back.headers.get("location")!)).text();
  assert.match(html, /href="\/withdraw"/);
  assert.match(html, new RegExp(`/settings/connections/applications/${service.github.clientId}"`));
  assert.match(textOf(html), /500 more calls an hour.*90 % of your limit: at least 4,500 of 5,000 calls/);
});
