/**
 * What monitoring tools read: `/metrics` for Prometheus and `/badge.json` for Shields. Pure: figures in, text out.
 *
 * | family | type | says |
 * |---|---|---|
 * | `ghpool_up` | gauge | 1 if the database answers; if not, only this, the state and the build are there |
 * | `ghpool_build_info{version}` | info | this library |
 * | `ghpool_status{status}` | gauge | 1 for the state of `/status`, 0 for the others |
 * | `ghpool_updated_timestamp_seconds` | gauge | when the figures were taken |
 * | `ghpool_tokens{state}` | gauge | donations, by their state for `core` |
 * | `ghpool_ratelimit_limit` `_remaining` `_usable` `_usable_ratio` `{resource}` | gauge | all windows together |
 * | `ghpool_ratelimit_reset_timestamp_seconds{resource}` | gauge | next end of a window; absent when none is open |
 * | `ghpool_calls_total`, `ghpool_calls_last_24h` | counter, gauge | calls handed out, of all resources |
 * | `ghpool_donations_total{result}` | counter | `new`, `updated` |
 * | `ghpool_tokens_removed_total{reason}` | counter | see `token_pool_counters` in lib/store.ts |
 * | `ghpool_decrypt_failures_total` | counter | tokens that did not open, once per process and token |
 *
 * There is no label by which a donor or a single token could be told: figures of one token would say when its donor is
 * at work.
 *
 * @module
 */

/** Of this library, as in deno.json, which is not at hand where the library is imported by URL. */
export const VERSION = "0.1.0";

/** All states that `/status` can have. */
export const STATES = ["ok", "degraded", "exhausted", "empty", "down"] as const;

/** What is said of a pool, as `/status` has it. */
export interface PublicFigures {
  status: typeof STATES[number];
  /** ISO 8601. */
  updated_at: string;
  /** By state, and their `total`. */
  tokens: Record<string, number>;
  resources: Record<
    string,
    { limit: number; remaining: number; usable: number; percent: number; next_reset_at: number | null }
  >;
  calls: { total: number; last_24h: number };
}

/** How often what happened, by the names of `token_pool_counters`; and `calls`. */
export type Counters = Record<string, number>;

/** How metrics are written: OpenMetrics 1.0, or Prometheus' older text format, which every scraper reads. */
export type MetricsFormat = "openmetrics" | "text";

/** The media types. */
export const METRICS_TYPES: Record<MetricsFormat, string> = {
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
  text: "text/plain; version=0.0.4; charset=utf-8",
};

/**
 * Chooses the format from an Accept header. OpenMetrics only when it is named and the other not preferred; a browser
 * gets text, and so does whoever asks for something else altogether, since scrapers make nothing of a 406.
 */
export function metricsFormat(accept: string): MetricsFormat {
  const quality: Record<MetricsFormat, number> = { openmetrics: 0, text: 0 };
  for (const range of accept.split(",")) {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim().toLowerCase());
    const value = (name: string) =>
      parameters.find((parameter) => parameter.startsWith(`${name}=`))?.slice(name.length + 1).replaceAll('"', "");
    const version = value("version");
    const format = type === "application/openmetrics-text" && (version === undefined || version === "1.0.0")
      ? "openmetrics"
      : /^(?:text\/plain|text\/\*|\*\/\*)$/.test(type)
      ? "text"
      : null;
    const weight = Number(value("q") ?? 1);
    if (format !== null && weight <= 1) quality[format] = Math.max(quality[format], weight);
  }
  return quality.openmetrics > 0 && quality.openmetrics >= quality.text ? "openmetrics" : "text";
}

interface Family {
  /** Without the suffix that its type gives its samples. */
  name: string;
  type: "gauge" | "counter" | "info";
  /** OpenMetrics wants the name to end with it. */
  unit?: "seconds" | "ratio";
  help: string;
  samples: [labels: Record<string, string>, value: number][];
}

const SUFFIXES = { gauge: "", counter: "_total", info: "_info" };

/**
 * Writes the metrics.
 *
 * @param figures What `/status` says.
 * @param counters What was counted; null while the database does not answer. Then the figures are not of now, so they
 * are left out: a gap is the truth, and zeros would look like a pool that lost everything.
 */
export function renderMetrics(figures: PublicFigures, counters: Counters | null, format: MetricsFormat): string {
  const families = [...aboutService(figures), ...(counters === null ? [] : aboutPool(figures, counters))];
  const text = families.filter(({ samples }) => samples.length > 0).map((family) => render(family, format)).join("");
  return format === "openmetrics" ? `${text}# EOF\n` : text;
}

function aboutService({ status }: PublicFigures): Family[] {
  return [
    {
      name: "ghpool_up",
      type: "gauge",
      help: "Whether the token pool's database answers.",
      samples: [[{}, status === "down" ? 0 : 1]],
    },
    { name: "ghpool_build", type: "info", help: "The token pool's version.", samples: [[{ version: VERSION }, 1]] },
    {
      name: "ghpool_status",
      type: "gauge",
      help: "1 for the state that the token pool is in, 0 for the others.",
      samples: STATES.map((state) => [{ status: state }, state === status ? 1 : 0]),
    },
  ];
}

function aboutPool({ updated_at, tokens, resources, calls }: PublicFigures, counters: Counters): Family[] {
  const byResource = (read: (figures: PublicFigures["resources"][string]) => number | null): Family["samples"] =>
    Object.entries(resources).flatMap(([resource, figures]) => {
      const value = read(figures);
      return value === null ? [] : [[{ resource }, value]];
    });
  /** What is known from the beginning is there from the beginning: a counter has to be 0 before it can be seen to rise. */
  const byName = (prefix: string, label: string, known: string[]): Family["samples"] => {
    const met = Object.keys(counters).filter((name) => name.startsWith(prefix)).map((name) =>
      name.slice(prefix.length)
    );
    return [...new Set([...known, ...met])].map((name) => [{ [label]: name }, counters[prefix + name] ?? 0]);
  };
  return [
    {
      name: "ghpool_updated_timestamp_seconds",
      type: "gauge",
      unit: "seconds",
      help: "When the figures were taken.",
      samples: [[{}, Date.parse(updated_at) / 1000]],
    },
    {
      name: "ghpool_tokens",
      type: "gauge",
      help: "Donated tokens by their state for the resource core; suspended ones GitHub is being asked about.",
      samples: Object.entries(tokens).filter(([state]) => state !== "total").map((
        [state, value],
      ) => [{ state }, value]),
    },
    {
      name: "ghpool_ratelimit_limit",
      type: "gauge",
      help: "Calls per window of all tokens together, the donors' reserve among them.",
      samples: byResource(({ limit }) => limit),
    },
    {
      name: "ghpool_ratelimit_remaining",
      type: "gauge",
      help: "Calls left in the windows of all tokens together, the donors' reserve among them.",
      samples: byResource(({ remaining }) => remaining),
    },
    {
      name: "ghpool_ratelimit_usable",
      type: "gauge",
      help: "Calls that can be handed out now.",
      samples: byResource(({ usable }) => usable),
    },
    {
      name: "ghpool_ratelimit_usable_ratio",
      type: "gauge",
      unit: "ratio",
      help: "Calls that can be handed out now, of all that donors share.",
      samples: byResource(({ percent }) => percent / 100),
    },
    {
      name: "ghpool_ratelimit_reset_timestamp_seconds",
      type: "gauge",
      unit: "seconds",
      help: "When the next window ends, of those that are open.",
      samples: byResource(({ next_reset_at }) => next_reset_at),
    },
    {
      name: "ghpool_calls",
      type: "counter",
      help: "Calls that were handed out, of all resources.",
      samples: [[{}, counters["calls"] ?? calls.total]],
    },
    {
      name: "ghpool_calls_last_24h",
      type: "gauge",
      help: "Calls that were handed out in the last 24 hours, of all resources.",
      samples: [[{}, calls.last_24h]],
    },
    {
      name: "ghpool_donations",
      type: "counter",
      help: "Donations that were stored; updated ones took the place of an earlier one of the same donor.",
      samples: byName("donations.", "result", ["new", "updated"]),
    },
    {
      name: "ghpool_tokens_removed",
      type: "counter",
      help: "Donations that were deleted, by the reason.",
      samples: byName("removed.", "reason", [
        "withdrawn",
        "revoked",
        "account_suspended",
        "has_scopes",
        "refresh_refused",
      ]),
    },
    {
      name: "ghpool_decrypt_failures",
      type: "counter",
      help: "Stored tokens that no key at hand opens, once for each process that met them.",
      samples: [[{}, counters["decrypt_failures"] ?? 0]],
    },
  ];
}

function render({ name, type, unit, help, samples }: Family, format: MetricsFormat): string {
  const sampled = name + SUFFIXES[type];
  const isOpen = format === "openmetrics";
  // The older format names a family as its samples are named, and knows neither units nor the type info.
  const head = isOpen
    ? [`# TYPE ${name} ${type}`, ...(unit === undefined ? [] : [`# UNIT ${name} ${unit}`]), `# HELP ${name} ${help}`]
    : [`# HELP ${sampled} ${help}`, `# TYPE ${sampled} ${type === "info" ? "gauge" : type}`];
  return [...head, ...samples.map(([labels, value]) => `${sampled}${renderLabels(labels)} ${value}`)]
    .map((line) => `${line}\n`).join("");
}

function renderLabels(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(([name, value]) =>
    `${name}="${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

/** What a badge shows: https://shields.io/badges/endpoint-badge */
export interface Badge {
  schemaVersion: 1;
  label: string;
  message: string;
  color: string;
  isError?: true;
  cacheSeconds: number;
}

/** As long as Shields keeps an endpoint's answer at least; a smaller number has no effect. */
const BADGE_SECONDS = 300;

/** The badge of a pool. */
export function badgeOf({ status, resources }: PublicFigures): Badge {
  const usable = new Intl.NumberFormat("en", { notation: "compact" }).format(resources["core"]?.usable ?? 0);
  const looks: Record<PublicFigures["status"], [message: string, color: string]> = {
    ok: [`${usable} calls left`, "brightgreen"],
    degraded: [`degraded, ${usable} calls left`, "yellow"],
    exhausted: ["no calls left now", "orange"],
    empty: ["no tokens yet", "lightgrey"],
    down: ["not available", "red"],
  };
  const [message, color] = looks[status];
  return {
    schemaVersion: 1,
    label: "GitHub token pool",
    message,
    color,
    ...(status === "down" ? { isError: true } : {}),
    cacheSeconds: BADGE_SECONDS,
  };
}
