/**
 * What a request tells of who has sent it. Only what the server or the browser says counts, not what anybody can write.
 *
 * @module
 */

import type { Context } from "npm:hono@4.13.19";
import { isLocalAddress } from "./rate_guard.ts";

/** Whether a browser says that another site has made a request; null where nothing is said. */
export function saysCrossSite(c: Context): boolean | null {
  const site = c.req.header("sec-fetch-site");
  return site === undefined ? null : site !== "same-origin" && site !== "none";
}

/**
 * Whether a form was sent by another site than `origin`. A browser says where it comes from; what says nothing is no
 * browser, and has nobody's cookies. Pages send no referrer, so their own forms may have an Origin of "null".
 */
export function isCrossSite(c: Context, origin: string): boolean {
  const from = c.req.header("origin");
  return saysCrossSite(c) ?? (from !== undefined && from !== origin);
}

/**
 * Where a request came from, if the server says so and it is no proxy's address: never from a header, which anybody can
 * write. Val Town does not say.
 */
export function addressOf(c: Context): string | null {
  const { remoteAddr } = (c.env ?? {}) as { remoteAddr?: { hostname?: unknown } };
  const address = remoteAddr?.hostname;
  return typeof address === "string" && !isLocalAddress(address) ? address : null;
}
