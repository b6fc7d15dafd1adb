/**
 * The service: routes and wiring, nothing else. Its default export is the handler that Val Town calls; run by itself
 * it serves on HOST and PORT.
 *
 * | path | flow |
 * |---|---|
 * | `/` `/auth` `/callback` `/thanks` `/withdraw` | contributor: lib/donate.ts |
 * | `/status` `/healthz` | dashboard: lib/stats.ts |
 *
 * @module
 */

import { type Context, Hono } from "npm:hono@4.13.19";
import { deleteCookie, getCookie, setCookie } from "npm:hono@4.13.19/cookie";
import { etag } from "npm:hono@4.13.19/etag";
import { secureHeaders } from "npm:hono@4.13.19/secure-headers";
import {
  DonationFlow,
  type Outcome,
  type Purpose,
  RESERVES,
  SUGGESTED_RESERVE,
  TRANSACTION_SECONDS,
} from "./lib/donate.ts";
import { PoolError } from "./lib/errors.ts";
import { openGitHub, openVault, REQUIRED, type ServiceOptions } from "./lib/service.ts";
import { checkHealth, FRESH_SECONDS, Stats, type StatusSnapshot } from "./lib/stats.ts";
import { runUpkeep } from "./lib/upkeep.ts";
import { landingPage } from "./views/landing.tsx";
import { FAVICON, type Html } from "./views/layout.tsx";
import { type MessageName, messagePage, MESSAGES } from "./views/message.tsx";
import { STYLESHEET } from "./views/style.ts";
import { thanksPage, type ThanksProps } from "./views/thanks.tsx";
import { withdrawnPage, type WithdrawnProps, withdrawPage } from "./views/withdraw.tsx";

/** What an app is made of. */
export interface AppOptions extends ServiceOptions {
  /** Takes one line per failure; no line ever holds a secret. */
  log?: (line: string) => void;
}

const TRANSACTION_COOKIE = "token_pool_transaction_";
const FLASH_COOKIE = "token_pool_flash";
const FLASH_PLACE = { column: "flash", githubUserId: "" };
const FLASH_SECONDS = 300;

/** A page that is shown once, after a redirect has taken the code out of the address bar. */
type Flash =
  | { page: "thanks"; props: Omit<ThanksProps, "grantUrl"> }
  | { page: "withdrawn"; props: Omit<WithdrawnProps, "grantUrl"> };

/**
 * Makes the app.
 *
 * @param options The world: environment, database, clock, fetch and log, each with a default.
 */
export function createApp(options: AppOptions = {}): Hono {
  const vault = openVault(options);
  const stats = new Stats(vault);
  const log = options.log ?? console.error;
  const { settings } = vault;
  const github = () => openGitHub(settings, options.fetch);
  const isConfigured = () => settings.inspect(REQUIRED).problems.length === 0;
  const app = new Hono();
  /** The methods of each route. */
  const allowed = new Map<string, Set<string>>();

  /** Where the public finds this service: configured, never from a Host header. Val Town vouches for the request's URL. */
  function publicOrigin(c: Context): string {
    const config = settings.read();
    return config.PUBLIC_URL ?? (config.onValTown ? new URL(c.req.url).origin : `http://localhost:${config.PORT}`);
  }

  function cookieOptions(c: Context) {
    const common = { httpOnly: true, sameSite: "Lax", path: "/" } as const;
    const isSecure = publicOrigin(c).startsWith("https:");
    return isSecure ? { ...common, secure: true, prefix: "host" as const } : common;
  }

  function flow(c: Context): DonationFlow {
    return new DonationFlow({ vault, github: github(), redirectUri: `${publicOrigin(c)}/callback` });
  }

  async function sendToGitHub(c: Context, purpose: Purpose, reserve: number, status: 302 | 303): Promise<Response> {
    const { location, state, sealed } = await flow(c).begin(purpose, reserve);
    setCookie(c, transactionCookie(state), sealed, { ...cookieOptions(c), maxAge: TRANSACTION_SECONDS });
    return c.redirect(location, status);
  }

  async function flash(c: Context, path: string, content: Flash): Promise<Response> {
    const sealed = await (await vault.keyring()).seal(JSON.stringify(content), FLASH_PLACE);
    setCookie(c, FLASH_COOKIE, sealed, { ...cookieOptions(c), maxAge: FLASH_SECONDS });
    return c.redirect(path, 303);
  }

  async function takeFlash(c: Context): Promise<Flash | null> {
    const sealed = deleteCookie(c, FLASH_COOKIE, cookieOptions(c));
    const text = sealed === undefined ? null : await (await vault.keyring()).open(sealed, FLASH_PLACE);
    return text === null ? null : JSON.parse(text) as Flash;
  }

  /** The cookie of this callback's transaction; used once, and gone whatever happens next. */
  function takeTransaction(c: Context): string | undefined {
    const cookieSettings = cookieOptions(c);
    const prefix = ("prefix" in cookieSettings ? "__Host-" : "") + TRANSACTION_COOKIE;
    const mine = transactionCookie(c.req.query("state") ?? "");
    const names = Object.keys(getCookie(c)).filter((name) => name.startsWith(prefix))
      .map((name) => TRANSACTION_COOKIE + name.slice(prefix.length));
    // Another tab's transaction is left alone, unless this callback fits none at all.
    const [sealed] = (names.includes(mine) ? [mine] : names).map((name) => deleteCookie(c, name, cookieSettings));
    return sealed;
  }

  function failure(c: Context, name: MessageName, error?: unknown): Response {
    const reference = crypto.randomUUID().slice(0, 8);
    const { status, ...message } = MESSAGES[name];
    const route = allowed.has(c.req.path) ? c.req.path : "unknown";
    log(JSON.stringify({ event: "failure", name, status, reference, route, ...describe(error) }));
    if (status === 502 || status === 503) c.header("Retry-After", "120");
    return c.html(messagePage({ ...message, reference }), status);
  }

  /** Whatever wants the figures passes here; so it is here that a passing request confirms suspects. */
  const attended = new WeakSet<StatusSnapshot>();
  async function figures(): Promise<StatusSnapshot> {
    const snapshot = await stats.snapshot();
    if (!snapshot.isUpkeepDue || attended.has(snapshot) || !isConfigured()) return snapshot;
    attended.add(snapshot);
    try {
      await runUpkeep({ vault, github: github() });
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
      log(JSON.stringify({ event: "upkeep failed", ...describe(error) }));
    }
    stats.invalidate();
    return await stats.snapshot();
  }

  app.use(async (c, next) => {
    // Val Town allows every origin where a handler says nothing.
    c.header("Access-Control-Allow-Origin", "");
    c.header("Cache-Control", "no-store");
    await next();
  });
  app.use(secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      styleSrc: ["'self'"],
      imgSrc: ["'self'"],
      baseUri: ["'none'"],
      // A form's redirect to GitHub counts as its target in Chromium.
      formAction: ["'self'", () => new URL(settings.inspect().config?.GITHUB_URL ?? "https://github.com").origin],
      frameAncestors: ["'none'"],
    },
    strictTransportSecurity: "max-age=31536000; includeSubDomains",
    xFrameOptions: "DENY",
    overwrite: false,
  }));

  /** The landing page changes only with what it shows. */
  let landing: { key: string; html: Html } | null = null;

  app.get("/", async (c) => {
    const { problems, config } = settings.inspect(REQUIRED);
    const { status, etag: version } = await figures();
    const key = JSON.stringify([version, problems, config?.TOKEN_POOL_DISABLED, config?.valTownSettingsUrl]);
    if (landing?.key !== key) {
      const html = landingPage({
        figures: {
          healthy: status.tokens.healthy,
          usable: status.resources["core"]?.usable ?? 0,
          callsLast24h: status.calls.last_24h,
          isDown: status.status === "down",
        },
        reserves: RESERVES,
        suggestedReserve: SUGGESTED_RESERVE,
        grantUrl: problems.length === 0 ? github().grantUrl : null,
        problems: problems.map(({ name, message }) => ({ name, message, settingsUrl: settings.linkTo(name) })),
        isDisabled: config?.TOKEN_POOL_DISABLED ?? false,
        importUrl: config?.importUrl ?? null,
      });
      landing = { key, html };
    }
    c.header("Cache-Control", "no-cache");
    return c.html(landing.html);
  });

  app.get("/auth", async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    if (settings.read().TOKEN_POOL_DISABLED) return failure(c, "disabled");
    const chosen = c.req.query("reserve");
    if (chosen !== undefined && !RESERVES.includes(Number(chosen))) return failure(c, "bad_reserve");
    const reserve = chosen === undefined ? settings.read().TOKEN_POOL_RESERVE : Number(chosen);
    return await sendToGitHub(c, "donate", reserve, 302);
  });

  app.get("/callback", async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    const outcome = await flow(c).finish(new URL(c.req.url).searchParams, takeTransaction(c));
    if (outcome.kind === "failed") return failure(c, outcome.reason);
    stats.invalidate();
    return await flash(c, ...pageAfter(outcome, vault.now()));
  });

  app.get("/thanks", async (c) => {
    const content = isConfigured() ? await takeFlash(c) : null;
    if (content?.page !== "thanks") return c.redirect("/", 303);
    return c.html(thanksPage({ ...content.props, grantUrl: github().grantUrl }));
  });

  app.get("/withdraw", async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    const content = await takeFlash(c);
    const { grantUrl } = github();
    if (content?.page === "withdrawn") return c.html(withdrawnPage({ ...content.props, grantUrl }));
    return c.html(withdrawPage({ grantUrl }));
  });

  app.post("/withdraw", async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    if (isCrossSite(c, publicOrigin(c))) return failure(c, "cross_site");
    return await sendToGitHub(c, "withdraw", 0, 303);
  });

  app.options("/status", (c) => {
    c.header("Access-Control-Allow-Origin", "*");
    c.header("Access-Control-Allow-Methods", "GET, HEAD");
    return c.body(null, 204);
  });

  app.get("/status", etag({ retainedHeaders: RETAINED_BY_304 }), async (c) => {
    const { status, json, etag: version } = await figures();
    c.header("Access-Control-Allow-Origin", "*");
    c.header("Cross-Origin-Resource-Policy", "cross-origin");
    c.header("Cache-Control", `public, max-age=${FRESH_SECONDS}, stale-while-revalidate=60`);
    c.header("ETag", version);
    c.header("Content-Type", "application/json; charset=utf-8");
    return c.body(json, status.status === "down" ? 503 : 200);
  });

  app.get("/healthz", async (c) => {
    await figures();
    const health = await checkHealth(vault, stats);
    c.header("Content-Type", "application/health+json");
    return c.body(JSON.stringify(health), health.status === "fail" ? 503 : 200);
  });

  app.get("/style.css", (c) => asset(c, "text/css; charset=utf-8", STYLESHEET));
  app.get("/favicon.svg", (c) => asset(c, "image/svg+xml", FAVICON));

  for (const { path, method } of app.routes) {
    if (method !== "ALL") allowed.set(path, (allowed.get(path) ?? new Set()).add(method));
  }
  for (const [path, methods] of allowed) {
    const allow = [...methods].flatMap((method) => method === "GET" ? ["GET", "HEAD"] : [method]).sort().join(", ");
    app.all(path, (c) => {
      c.header("Allow", allow);
      return failure(c, "method_not_allowed");
    });
  }

  app.notFound((c) => failure(c, "not_found"));
  app.onError((error, c) => {
    if (!(error instanceof PoolError)) return failure(c, "internal", error);
    const byCode = {
      config: "not_configured",
      database: "database_away",
      wrong_key: "wrong_key",
      github: "github_away",
    };
    return failure(c, (byCode as Partial<Record<string, MessageName>>)[error.code] ?? "internal", error);
  });
  return app;
}

const RETAINED_BY_304 = ["access-control-allow-origin", "cache-control", "date", "etag", "vary"];

function pageAfter(outcome: Exclude<Outcome, { kind: "failed" }>, now: number): [path: string, content: Flash] {
  return outcome.kind === "donated"
    ? ["/thanks", { page: "thanks", props: outcome }]
    : ["/withdraw", { page: "withdrawn", props: { ...outcome, at: new Date(now).toISOString() } }];
}

/**
 * Whether a request was made by another site. A browser says where it comes from; what says nothing is no browser, and
 * has nobody's cookies. Pages send no referrer, so their own forms may have an Origin of "null".
 */
function isCrossSite(c: Context, origin: string): boolean {
  const site = c.req.header("sec-fetch-site");
  if (site !== undefined) return site !== "same-origin" && site !== "none";
  const from = c.req.header("origin");
  return from !== undefined && from !== origin;
}

function transactionCookie(state: string): string {
  return TRANSACTION_COOKIE + state.slice(0, 8);
}

function asset(c: Context, type: string, text: string): Response {
  c.header("Content-Type", type);
  c.header("Cache-Control", "public, max-age=3600");
  return c.body(text);
}

/** What a log line may say of an error: the pool's own words, or where it happened; never a foreign message. */
function describe(error: unknown): Record<string, string> {
  if (error instanceof PoolError) return { code: error.code, message: error.message };
  if (!(error instanceof Error)) return {};
  return {
    error: error.name,
    at: (error.stack ?? "").split("\n").filter((line) => line.startsWith("    at ")).join("\n"),
  };
}

let app: Hono | null = null;

/** The handler: Val Town calls it with each request. */
export default function handler(request: Request): Response | Promise<Response> {
  app ??= createApp();
  return app.fetch(request);
}

if (import.meta.main) {
  const { PORT: port, HOST: hostname } = openVault({}).settings.read();
  Deno.serve({ port, hostname, onListen: () => console.log(`GitHub Token Pool: http://localhost:${port}`) }, handler);
}
