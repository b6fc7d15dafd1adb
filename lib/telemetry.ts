/**
 * OpenTelemetry is Deno's own (`OTEL_DENO=true`). What is added here: spans are named by their route, and no query gets
 * into them. Deno writes `url.full` and `url.query` into the span of each request before any handler runs, and GitHub
 * sends a donor's code in the query.
 *
 * Deno has no setting for that, and what a handler sets is exported beside the first value instead of in its place. So
 * the one method through which Deno writes attributes is wrapped before the server starts. A test reads the bytes that
 * are exported.
 *
 * @module
 */

import { redact } from "./log.ts";

/** A span, as far as it is used here. */
export interface Span {
  setAttribute(name: string, value: unknown): unknown;
  setStatus(status: { code: number; message?: string }): unknown;
  updateName(name: string): unknown;
}

/** Deno.telemetry, as far as it is used here; Deno's types of it are not stable. */
export interface Telemetry {
  tracerProvider: { getTracer(name: string): { startSpan(name: string): Span } };
  contextManager: { active(): { getValue(key: symbol): unknown } };
}

/** Names the span of the request that is being answered. */
export type NameSpan = (method: string, route: string) => void;

/** Where OpenTelemetry's API keeps the active span in a context. */
const ACTIVE_SPAN = Symbol.for("OpenTelemetry Context Key SPAN");

/** Attributes that are never exported: queries, and the text of errors, which are foreign words. */
const UNTOLD: ReadonlySet<string> = new Set(["url.query", "exception.message", "exception.stacktrace"]);

/**
 * Keeps queries and secrets out of all spans of this process from now on.
 *
 * @returns What names spans, or null when nothing is exported.
 * @throws {Error} When spans are exported and cannot be kept clean.
 */
export function guardSpans(
  telemetry: Telemetry | undefined = (Deno as unknown as { telemetry?: Telemetry }).telemetry,
): NameSpan | null {
  const span = anySpan(telemetry);
  if (telemetry === undefined || span === null) return null;
  const prototype = Object.getPrototypeOf(span) as Span;
  const { setAttribute, setStatus } = prototype;
  if (typeof setAttribute !== "function" || typeof setStatus !== "function" || Object.isFrozen(prototype)) {
    throw new Error("This version of Deno writes queries into spans and cannot be kept from it: unset OTEL_DENO");
  }
  prototype.setAttribute = function (this: Span, name: string, value: unknown): unknown {
    if (UNTOLD.has(name)) return this;
    if (typeof value !== "string") return setAttribute.call(this, name, value);
    return setAttribute.call(this, name, redact(name === "url.full" ? value.replace(/[?#].*/s, "") : value));
  };
  prototype.setStatus = function (this: Span, { code }: { code: number }): unknown {
    return setStatus.call(this, { code });
  };
  return (method, route) => {
    const active = telemetry.contextManager.active().getValue(ACTIVE_SPAN) as Span | undefined;
    active?.updateName(`${method} ${route}`);
    active?.setAttribute("http.route", route);
  };
}

/** A span that is never ended, and so never exported; null when there are none. */
function anySpan(telemetry: Telemetry | undefined): Span | null {
  try {
    return telemetry?.tracerProvider.getTracer("token-pool").startSpan("") ?? null;
  } catch {
    return null; // Deno's telemetry is off
  }
}
