/**
 * A line of the log for each request: who asked is not in it, nor what for beyond the route.
 *
 * @module
 */

import type { Context } from "npm:hono@4.13.19";
import type { AboutError, Log, LogEvent } from "./log.ts";
import type { NameSpan } from "./telemetry.ts";

/** What a request carries through the app. */
export interface Variables {
  /** In the log, and on the error page as its reference. */
  requestId: string;
  /** What has failed, for the log. */
  failed?: Pick<LogEvent, "level" | "name"> & AboutError;
}

/** What the log is made of. */
export interface RequestLogOptions {
  log: Log;
  /** The app's own name of a path; "unknown" when it is none of its. */
  routeOf(path: string): string;
  /** Whether a request for a route has a line although all went well. */
  isLogged(route: string): boolean;
  /** Told of method and route, before the request is answered. */
  onRoute?: NameSpan | null | undefined;
}

/** The methods that the log names; any other is a word of the visitor's. */
const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"]);

/** Makes what gives a request its id, and returns what writes its line when it has been answered. */
export function requestLog(
  { log, routeOf, isLogged, onRoute }: RequestLogOptions,
): (c: Context<{ Variables: Variables }>) => () => void {
  return (c) => {
    const requestId = crypto.randomUUID().slice(0, 8);
    c.set("requestId", requestId);
    const method = METHODS.has(c.req.method) ? c.req.method : "other";
    const route = routeOf(c.req.path);
    onRoute?.(method, route);
    const start = performance.now();
    return () => {
      const failed = c.get("failed");
      const { status } = c.res;
      if (failed === undefined && status < 400 && !isLogged(route)) return;
      log({
        event: failed === undefined ? "request" : "failure",
        level: status >= 500 ? "error" : "info",
        request_id: requestId,
        method,
        route,
        status,
        ms: Math.round((performance.now() - start) * 10) / 10,
        ...failed,
      });
    };
  };
}
