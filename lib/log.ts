/**
 * The log: one JSON object per line and event. A line holds the fields of the list below and nothing else, whatever is
 * given; each is bounded in length, and what looks like a secret is cut out of it first.
 *
 *     {"time":"2026-11-23T18:00:00.000Z","level":"info","event":"request","request_id":"5f0c1e9a","method":"GET",
 *      "route":"/auth","status":302,"ms":1.2}
 *
 * There is no field for a query, a header, a body, an address, a login or an id: they cannot get in.
 *
 * @module
 */

import { PoolError } from "./errors.ts";

/** What happened. A failure is the line of its request, so that there is one line per request. */
export type EventName =
  | "start"
  | "stop"
  | "request"
  | "failure"
  | "donation"
  | "withdrawal"
  | "change"
  | "upkeep"
  | "upkeep failed";

/** An error is what only the operator can mend, so that an alert can be set on it. */
export type Level = "info" | "error";

/** All that can be said of an event. */
export interface LogEvent {
  event: EventName;
  /** By default "info". */
  level?: Level;
  /** What the visitor's error page shows as its reference. */
  request_id?: string;
  method?: string;
  /** One of the app's own routes, or "unknown": never the path that was asked for. */
  route?: string;
  status?: number;
  /** How long it took. */
  ms?: number;
  /** Of a failure: the name of its page. */
  name?: string;
  /** How it ended, where there is more than one good end. */
  outcome?: string;
  /** Of a PoolError: its code, and its own words. */
  code?: string;
  message?: string;
  /** Of any other error: its class, and where in the code it happened. */
  error?: string;
  at?: string;
  /** How many of what, by name. */
  counts?: Record<string, number>;
}

/** What can be said of an error. */
export type AboutError = Pick<LogEvent, "code" | "message" | "error" | "at">;

/** Takes events. */
export type Log = (event: LogEvent) => void;

/** Where lines go. */
export type LogSink = (line: string, level: Level) => void;

/** Each field, in the order of a line, and how many characters of it are kept; null = it is a number. */
const LENGTHS: Record<Exclude<keyof LogEvent, "level" | "counts">, number | null> = {
  event: 20,
  request_id: 40,
  method: 10,
  route: 40,
  status: null,
  ms: null,
  name: 40,
  outcome: 40,
  code: 40,
  message: 1000,
  error: 60,
  at: 2000,
};
const FIELDS = Object.entries(LENGTHS) as [keyof typeof LENGTHS, number | null][];

const COUNTS_AT_MOST = 30;

/** Places in the code that are named of an error. */
const PLACES_AT_MOST = 8;

/**
 * What looks like a secret: GitHub's tokens, texts that this pool has sealed, JSON Web Tokens, and hex digits as many
 * as the OAuth App's secret has (40) or a key (64). No word boundary is asked for: a token in an encoded address comes
 * right behind a digit or letter, as in "%3Dgho_".
 */
const SECRETS =
  /gh[a-z]_[A-Za-z0-9._-]{20,}|github_pat_\w{20,}|v1\.[0-9a-f]{8}\.[\w-]+\.[\w-]+|eyJ[\w-]+\.[\w-]+\.[\w-]*|[0-9A-Fa-f]{40,}/g;

/** No secret is shorter; most of what is logged is. */
const SECRET_AT_LEAST = 20;

/** Cuts out what looks like a secret: the last net, for what should not have come this far. */
export function redact(text: string): string {
  return text.length < SECRET_AT_LEAST ? text : text.replace(SECRETS, "[redacted]");
}

/** What may be said of an error: the pool's own words, or where in the code it happened; never a foreign message. */
export function aboutError(error: unknown): AboutError {
  if (error instanceof PoolError) return { code: error.code, message: error.message };
  if (!(error instanceof Error)) return {};
  // A stack begins with the message, which may look like a stack itself; of its lines only file and place are told.
  const lines = (error.stack ?? "").replace(error.message, "").matchAll(/^ {4}at .*?([\w.-]+\.tsx?:\d+:\d+)\)?$/gm);
  return { error: error.name, at: [...lines].slice(0, PLACES_AT_MOST).map(([, place]) => place).join(" < ") };
}

/**
 * Makes a log.
 *
 * @param options `sink`: where lines go, by default the console. `now`: epoch milliseconds, by default the machine's
 * own clock: a log tells when the machine did something, whatever clock the pool goes by.
 */
export function createLog({ sink = toConsole, now = Date.now }: { sink?: LogSink; now?: () => number } = {}): Log {
  const timeOf = clock();
  return (event) => {
    const level = event.level === "error" ? "error" : "info";
    const line: Record<string, unknown> = { time: timeOf(now()), level };
    for (const [name, most] of FIELDS) {
      const value: unknown = event[name];
      if (most === null) {
        if (typeof value === "number" && Number.isFinite(value)) line[name] = value;
      } else if (typeof value === "string") line[name] = redact(value).slice(0, most);
    }
    if (event.counts !== undefined) line["counts"] = countsOf(event.counts);
    sink(JSON.stringify(line), level);
  };
}

/** Writes times as toISOString() does, which takes longer than all the rest of a line: so it is asked once a second. */
function clock(): (now: number) => string {
  let second = NaN;
  let text = "";
  return (now) => {
    const ms = now % 1000;
    if (now - ms !== second) {
      second = now - ms;
      text = new Date(second).toISOString().slice(0, -"000Z".length);
    }
    return `${text}${String(ms).padStart(3, "0")}Z`;
  };
}

function countsOf(counts: Record<string, number>): Record<string, number> {
  const fine = Object.entries(counts).filter(([name, count]) => /^[a-z_]{1,20}$/.test(name) && Number.isFinite(count));
  return Object.fromEntries(fine.slice(0, COUNTS_AT_MOST));
}

function toConsole(line: string, level: Level): void {
  if (level === "error") console.error(line);
  else console.log(line);
}
