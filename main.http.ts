/**
 * The service: routes and wiring, nothing else. Its default export is the handler that Val Town calls; run by itself
 * it serves on HOST and PORT.
 *
 * | path | flow |
 * |---|---|
 * | `/` `/auth` `/callback` `/thanks` `/withdraw` | contributor: lib/donate.ts |
 * | `/donation` | the same: lib/donation.ts |
 * | `/status` `/metrics` `/badge.json` `/healthz` | dashboard: lib/stats.ts |
 *
 * @module
 */

import { type Context, Hono, type MiddlewareHandler } from "npm:hono@4.13.19";
import { bodyLimit } from "npm:hono@4.13.19/body-limit";
import { etag } from "npm:hono@4.13.19/etag";
import { secureHeaders } from "npm:hono@4.13.19/secure-headers";
import { orAborted } from "./lib/abort.ts";
import { DEFAULT_GITHUB_URL } from "./lib/config.ts";
import { Cookies } from "./lib/cookies.ts";
import {
  DonationFlow,
  type Outcome,
  type Purpose,
  RESERVES,
  SUGGESTED_RESERVE,
  TRANSACTION_SECONDS,
} from "./lib/donate.ts";
import { type Change, DonorView, IDENTITY_SECONDS, understandChange } from "./lib/donation.ts";
import { PoolError, type PoolErrorCode } from "./lib/errors.ts";
import { aboutError, createLog, type LogEvent, type LogSink } from "./lib/log.ts";
import { badgeOf, METRICS_TYPES, metricsFormat, renderMetrics } from "./lib/metrics.ts";
import { RateGuard, type RateGuardOptions } from "./lib/rate_guard.ts";
import { requestLog, type Variables } from "./lib/request_log.ts";
import { serve } from "./lib/server.ts";
import { openGitHub, openVault, REQUIRED, type ServiceOptions } from "./lib/service.ts";
import { checkHealth, FRESH_SECONDS, Stats, type StatusSnapshot } from "./lib/stats.ts";
import { guardSpans, type NameSpan } from "./lib/telemetry.ts";
import { runUpkeep } from "./lib/upkeep.ts";
import type { Vault } from "./lib/vault.ts";
import { addressOf, isCrossSite, saysCrossSite } from "./lib/visitor.ts";
import { askDonorPage, donationPage } from "./views/donation.tsx";
import { landingPage } from "./views/landing.tsx";
import { FAVICON, type Html } from "./views/layout.tsx";
import { type MessageName, messagePage, MESSAGES } from "./views/message.tsx";
import { OG_IMAGE } from "./views/og_image.ts";
import { STYLESHEET } from "./views/style.ts";
import { thanksPage, type ThanksProps } from "./views/thanks.tsx";
import { withdrawnPage, type WithdrawnProps, withdrawPage } from "./views/withdraw.tsx";

/** What an app is made of. */
export interface AppOptions extends ServiceOptions {
  /** Takes the lines of the log (lib/log.ts); no line ever holds a secret. */
  log?: LogSink;
  /**
   * Whether a request for what is polled has a line although all went well. By default not on Val Town, which allows
   * 100,000 lines a day.
   */
  logPolls?: boolean;
  /** Told of each request's method and route, before it is answered (lib/telemetry.ts). */
  onRoute?: NameSpan | null;
  /** Instead of one that is opened here; whoever has made it closes it. */
  vault?: Vault;
  /** How many requests may pass to what costs something. */
  rates?: Omit<RateGuardOptions, "now">;
  /** How long a passing request waits for the upkeep that it does, in milliseconds. Default 2,000. */
  upkeepWaitMs?: number;
}

/** A probe of /healthz that takes much longer than this counts as failed, however slow GitHub is. */
const UPKEEP_WAIT_MS = 2_000;

/** What machines ask for again and again, and what a page brings along. */
const POLLED: ReadonlySet<string> = new Set([
  "/",
  "/status",
  "/metrics",
  "/badge.json",
  "/healthz",
  "/style.css",
  "/favicon.svg",
  "/og.png",
]);

type AppContext = Context<{ Variables: Variables }>;

/** A page that is shown once, after a redirect has taken the code out of the address bar. */
type Flash =
  | { page: "thanks"; props: Omit<ThanksProps, "grantUrl"> }
  | { page: "withdrawn"; props: Omit<WithdrawnProps, "grantUrl"> }
  | { page: "donation"; done: Change };

/**
 * Makes the app.
 *
 * @param options The world: environment, database, clock, fetch and log, each with a default.
 */
export function createApp(options: AppOptions = {}): Hono<{ Variables: Variables }> {
  const vault = options.vault ?? openVault(options);
  const stats = new Stats(vault);
  const donors = new DonorView(vault);
  const guard = new RateGuard({ ...options.rates, now: () => vault.now() });
  const log = createLog(options.log === undefined ? {} : { sink: options.log });
  const { settings } = vault;
  const github = () => openGitHub(settings, options.fetch);
  const githubUrl = () => settings.inspect().config?.GITHUB_URL ?? DEFAULT_GITHUB_URL;
  const isConfigured = () => settings.inspect(REQUIRED).problems.length === 0;
  const app = new Hono<{ Variables: Variables }>();
  const cookies = new Cookies<Flash>({ keyring: () => vault.keyring(), publicOrigin });
  /** The methods of each route. */
  const allowed = new Map<string, Set<string>>();

  /** Where the public finds this service: configured, never from a Host header. Val Town vouches for the request's URL. */
  function publicOrigin(c: Context): string {
    const config = settings.read();
    return config.PUBLIC_URL ?? (config.onValTown ? new URL(c.req.url).origin : `http://localhost:${config.PORT}`);
  }

  function flow(c: Context): DonationFlow {
    return new DonationFlow({ vault, github: github(), redirectUri: `${publicOrigin(c)}/callback` });
  }

  async function sendToGitHub(c: Context, purpose: Purpose, reserve: number, status: 302 | 303): Promise<Response> {
    const { location, state, sealed } = await flow(c).begin(purpose, reserve);
    cookies.keepTransaction(c, state, sealed, TRANSACTION_SECONDS);
    return c.redirect(location, status);
  }

  async function flash(c: Context, path: string, content: Flash): Promise<Response> {
    await cookies.keepFlash(c, content);
    return c.redirect(path, 303);
  }

  function failure(c: AppContext, name: MessageName, error?: unknown): Response {
    const { status, ...message } = MESSAGES[name];
    // What is nobody's fault but the operator's own is marked, so that an alert can be set on it.
    c.set("failed", { level: status >= 500 ? "error" : "info", name, ...aboutError(error) });
    if (status === 502 || status === 503) c.header("Retry-After", "120");
    return c.html(messagePage({ ...message, githubUrl: githubUrl(), reference: c.get("requestId") }), status);
  }

  /** Says in the log why an endpoint failed that answers with no error page. */
  function noteFailure(c: AppContext, error: PoolError): void {
    c.set("failed", { level: "error", ...aboutError(error) });
  }

  let { logPolls } = options;
  function isLogged(route: string): boolean {
    return !POLLED.has(route) || (logPolls ??= !settings.onValTown);
  }

  /** Figures for which a passing request has done upkeep, so that no second one does. */
  const attended = new WeakSet<StatusSnapshot>();
  /** Every request that shows figures comes through here, so it is here that one does what upkeep has due. */
  async function figures(): Promise<StatusSnapshot> {
    const snapshot = await stats.snapshot();
    if (!snapshot.isUpkeepDue || attended.has(snapshot) || !isConfigured()) return snapshot;
    attended.add(snapshot);
    // It goes on without who has waited enough, and may be cut off anywhere.
    const enough = AbortSignal.timeout(options.upkeepWaitMs ?? UPKEEP_WAIT_MS);
    await orAborted(attend(), enough).catch(() => {});
    return await stats.snapshot();
  }

  /** Does a round; what goes wrong is in the log, and nobody's error. */
  async function attend(): Promise<void> {
    try {
      log({ event: "upkeep", counts: { ...await runUpkeep({ vault, github: github() }) } });
    } catch (error) {
      log({ event: "upkeep failed", level: "error", ...aboutError(error) });
    }
    stats.invalidate();
  }

  const begin = requestLog({
    log,
    routeOf: (path) => allowed.has(path) ? path : "unknown",
    isLogged,
    onRoute: options.onRoute,
  });

  app.use(async (c, next) => {
    const end = begin(c);
    // Val Town allows every origin where a handler says nothing.
    c.header("Access-Control-Allow-Origin", "");
    c.header("Cache-Control", "no-store");
    await next();
    // A server counts what is left of the answer, which is nothing, where it has to say what GET would send (RFC 9110, 8.6).
    if (c.req.method === "HEAD" && c.res.body !== null) {
      c.header("Content-Length", String((await c.res.clone().arrayBuffer()).byteLength));
    }
    end();
  });

  /** Lets a request pass, or says when to come again; asks nobody but this process's memory. */
  const guarded: MiddlewareHandler<{ Variables: Variables }> = async (c, next) => {
    const wait = await guard.admit(c.req.path, addressOf(c));
    if (wait === null) return await next();
    c.header("Retry-After", String(wait));
    return failure(c, "rate_limited");
  };

  app.use(secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      styleSrc: ["'self'"],
      imgSrc: ["'self'"],
      baseUri: ["'none'"],
      // A form's redirect to GitHub counts as its target in Chromium.
      formAction: ["'self'", () => new URL(githubUrl()).origin],
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
    const { status, etag: version, capacity, history } = await figures();
    const origin = config === null ? null : publicOrigin(c);
    const key = JSON.stringify([version, problems, config?.TOKEN_POOL_DISABLED, config?.valTownSettingsUrl, origin]);
    if (landing?.key !== key) {
      const html = landingPage({
        figures: {
          state: status.status,
          healthy: status.tokens.healthy,
          usable: status.resources["core"]?.usable ?? 0,
          capacity,
          callsLast24h: status.calls.last_24h,
          ...history,
        },
        reserves: RESERVES,
        suggestedReserve: SUGGESTED_RESERVE,
        grantUrl: problems.length === 0 ? github().grantUrl : null,
        problems: problems.map(({ name, message }) => ({ name, message, settingsUrl: settings.linkTo(name) })),
        isDisabled: config?.TOKEN_POOL_DISABLED ?? false,
        importUrl: config?.importUrl ?? null,
        origin,
      });
      landing = { key, html };
    }
    c.header("Cache-Control", "no-cache");
    return c.html(landing.html);
  });

  app.get("/auth", guarded, async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    if (settings.read().TOKEN_POOL_DISABLED) return failure(c, "disabled");
    // GitHub asks nobody a second time, so another site's link would choose for a donor, and end a pause.
    if (saysCrossSite(c)) return c.redirect("/", 303);
    const chosen = c.req.query("reserve");
    if (chosen !== undefined && !RESERVES.includes(Number(chosen))) return failure(c, "bad_reserve");
    const reserve = chosen === undefined ? settings.read().TOKEN_POOL_RESERVE : Number(chosen);
    return await sendToGitHub(c, "donate", reserve, 302);
  });

  app.get("/callback", guarded, async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    const outcome = await flow(c).finish(new URL(c.req.url).searchParams, cookies.takeTransaction(c));
    if (outcome.kind === "failed") return failure(c, outcome.reason);
    if (outcome.kind === "identified") {
      const sealed = await donors.remember(outcome);
      cookies.keepIdentity(c, sealed, IDENTITY_SECONDS);
      return c.redirect("/donation", 303);
    }
    log({ ...told(outcome), request_id: c.get("requestId") });
    if (outcome.kind === "withdrawn") cookies.forgetIdentity(c);
    stats.invalidate();
    return await flash(c, ...pageAfter(outcome, vault.now()));
  });

  app.get("/thanks", async (c) => {
    const content = isConfigured() ? await cookies.takeFlash(c) : null;
    if (content?.page !== "thanks") return c.redirect("/", 303);
    return c.html(thanksPage({ ...content.props, grantUrl: github().grantUrl }));
  });

  app.get("/withdraw", async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    const content = await cookies.takeFlash(c);
    const { grantUrl } = github();
    if (content?.page === "withdrawn") return c.html(withdrawnPage({ ...content.props, grantUrl }));
    return c.html(withdrawPage({ grantUrl }));
  });

  app.post("/withdraw", guarded, async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    if (isCrossSite(c, publicOrigin(c))) return failure(c, "cross_site");
    return await sendToGitHub(c, "withdraw", 0, 303);
  });

  app.get("/donation", async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    const identity = await donors.recall(cookies.identity(c));
    if (identity === null) return c.html(askDonorPage());
    const donation = await donors.look(identity);
    const content = await cookies.takeFlash(c);
    const done = content?.page === "donation" ? content.done : null;
    const { login, isRevoked } = identity;
    const isDisabled = settings.read().TOKEN_POOL_DISABLED;
    return c.html(
      donationPage({ login, isRevoked, isDisabled, done, donation, reserves: RESERVES, grantUrl: github().grantUrl }),
    );
  });

  const shortForm = bodyLimit({ maxSize: 1000, onError: (c) => failure(c, "bad_form") });
  app.post("/donation", guarded, shortForm, async (c) => {
    if (!isConfigured()) return failure(c, "not_configured");
    if (isCrossSite(c, publicOrigin(c))) return failure(c, "cross_site");
    const form = new URLSearchParams(await c.req.text());
    if (!form.has("do")) return await sendToGitHub(c, "manage", 0, 303);
    if (form.get("do") === "forget") {
      cookies.forgetIdentity(c);
      return c.redirect("/donation", 303);
    }
    const understood = understandChange(form);
    if (understood.kind !== "change") return failure(c, understood.kind);
    const identity = await donors.recall(cookies.identity(c));
    if (identity === null) return failure(c, "unknown_donor");
    if (!await donors.change(identity, understood)) return c.redirect("/donation", 303); // which says that there is none
    log({ event: "change", outcome: understood.change, request_id: c.get("requestId") });
    stats.invalidate();
    return await flash(c, "/donation", { page: "donation", done: understood.change });
  });

  for (const path of ["/status", "/badge.json"]) {
    app.options(path, (c) => {
      c.header("Access-Control-Allow-Origin", "*");
      c.header("Access-Control-Allow-Methods", "GET, HEAD");
      return c.body(null, 204);
    });
  }

  /** What any page of any site may show, and any cache may keep. */
  function letEverybodyRead(c: Context): void {
    c.header("Access-Control-Allow-Origin", "*");
    c.header("Cross-Origin-Resource-Policy", "cross-origin");
    c.header("Cache-Control", `public, max-age=${FRESH_SECONDS}, stale-while-revalidate=60`);
  }

  app.get("/status", etag({ retainedHeaders: RETAINED_BY_304 }), async (c) => {
    const { status, json, etag: version, error } = await figures();
    if (error !== null) noteFailure(c, error);
    const isDown = status.status === "down";
    letEverybodyRead(c);
    if (isDown) c.header("Cache-Control", "no-store"); // no cache may go on showing it once it is over
    c.header("ETag", version);
    c.header("Content-Type", "application/json; charset=utf-8");
    return c.body(json, isDown ? 503 : 200);
  });

  app.get("/badge.json", etag({ retainedHeaders: RETAINED_BY_304 }), async (c) => {
    const { status } = await figures();
    letEverybodyRead(c);
    c.header("Content-Type", "application/json; charset=utf-8");
    // 200 even when the pool is down: of another answer Shields shows nothing but "inaccessible".
    return c.body(JSON.stringify(badgeOf(status)));
  });

  app.get("/metrics", async (c) => {
    const { status, counters } = await figures();
    const format = metricsFormat(c.req.header("accept") ?? "");
    c.header("Vary", "Accept");
    // Never stale: a scraper gives each sample the time at which it asked.
    c.header("Cache-Control", `public, max-age=${FRESH_SECONDS}`);
    c.header("Content-Type", METRICS_TYPES[format]);
    // 200 even when the database is away: of another answer Prometheus reads nothing, not even that ghpool_up is 0.
    return c.body(renderMetrics(status, counters, format));
  });

  app.get("/healthz", async (c) => {
    const { error } = await figures();
    if (error !== null) noteFailure(c, error);
    const health = await checkHealth(vault, stats, (error) => noteFailure(c, error));
    c.header("Content-Type", "application/health+json");
    return c.body(JSON.stringify(health), health.status === "fail" ? 503 : 200);
  });

  app.get("/style.css", (c) => asset(c, "text/css; charset=utf-8", STYLESHEET));
  app.get("/favicon.svg", (c) => asset(c, "image/svg+xml", FAVICON));
  app.get("/og.png", (c) => {
    c.header("Cross-Origin-Resource-Policy", "cross-origin"); // it is shown where the link is shared
    return asset(c, "image/png", Uint8Array.from(atob(OG_IMAGE), (character) => character.charCodeAt(0)));
  });

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
    return failure(c, PAGE_OF_CODE[error.code] ?? "internal", error);
  });
  return app;
}

/** What donors are told of an error that they cannot mend; the other codes are of consumers. */
const PAGE_OF_CODE: Partial<Record<PoolErrorCode, MessageName>> = {
  config: "not_configured",
  database: "database_away",
  wrong_key: "wrong_key",
  github: "github_away",
};

const RETAINED_BY_304 = ["access-control-allow-origin", "cache-control", "date", "etag", "vary"];

function pageAfter(
  outcome: Extract<Outcome, { kind: "donated" | "withdrawn" }>,
  now: number,
): [path: string, content: Flash] {
  return outcome.kind === "donated"
    ? ["/thanks", { page: "thanks", props: outcome }]
    : ["/withdraw", { page: "withdrawn", props: { ...outcome, at: new Date(now).toISOString() } }];
}

/** What the log says of an outcome: never whose it is. */
function told(outcome: Extract<Outcome, { kind: "donated" | "withdrawn" }>): LogEvent {
  if (outcome.kind === "donated") return { event: "donation", outcome: outcome.isUpdate ? "replaced" : "new" };
  const isRevoked = outcome.isRevoked ? "revoked" : "to be revoked";
  return { event: "withdrawal", outcome: outcome.wasDonor ? isRevoked : `no donor, ${isRevoked}` };
}

function asset(c: Context, type: string, body: string | Uint8Array<ArrayBuffer>): Response {
  c.header("Content-Type", type);
  c.header("Cache-Control", "public, max-age=3600");
  return c.body(body);
}

let app: ReturnType<typeof createApp> | null = null;

/** The handler: Val Town calls it with each request, a server of one's own also says where that came from. */
export default function handler(
  request: Request,
  info?: { remoteAddr: Deno.Addr },
): Response | Promise<Response> {
  app ??= createApp();
  return app.fetch(request, { remoteAddr: info?.remoteAddr });
}

if (import.meta.main) {
  const vault = openVault({});
  const { PORT: port, HOST: hostname } = vault.settings.read();
  app = createApp({ vault, onRoute: guardSpans() });
  serve(handler, { port, hostname, log: createLog(), close: () => vault.close() });
}
