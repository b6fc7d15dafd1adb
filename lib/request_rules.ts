/**
 * Pure rules for what may be sent with a pooled token: reads of public data, to the API, and nothing about the donor.
 *
 * @module
 */

import { PoolError } from "./errors.ts";
import { pathOf } from "./rate_limit.ts";

/** Version of the API that the pool's own knowledge is of. */
const API_VERSION = "2022-11-28";

/**
 * What is about whoever the token belongs to: a program that asks for it would get a donor's data, or another donor's
 * each time. By first segment, or by whole path where the rest is public.
 */
const DONOR_SEGMENTS = new Set([
  "user",
  "notifications",
  "applications",
  "authorizations",
  "login",
  "credentials",
  "app",
  "installation",
]);
const DONOR_PATHS = new Set(["/issues", "/gists", "/gists/starred", "/rate_limit"]);
const DONOR_ENDINGS = /^\/repos\/[^/]+\/[^/]+\/(?:subscription|notifications)$/;

/** Headers of an answer that tell about the donor's token. */
const DONOR_HEADERS = [
  "x-oauth-scopes",
  "x-accepted-oauth-scopes",
  "x-oauth-client-id",
  "github-authentication-token-expiration",
];

/**
 * A request, ready to be sent but for its token.
 *
 * @param input A path such as `/repos/denoland/deno`, a URL, or a Request.
 * @param init As of `fetch`.
 * @param apiUrl Where the API is.
 * @throws {TypeError} When it is not a URL.
 */
export function toApiRequest(input: RequestInfo | URL, init: RequestInit | undefined, apiUrl: string): Request {
  const target = typeof input === "string" && input.startsWith("/") && !input.startsWith("//") ? apiUrl + input : input;
  const request = new Request(target, init);
  const defaults = {
    accept: "application/vnd.github+json",
    "user-agent": "github-token-pool",
    "x-github-api-version": API_VERSION,
  };
  for (const [name, value] of Object.entries(defaults)) {
    const isSet = request.headers.has(name) && request.headers.get(name) !== "*/*";
    if (!isSet) request.headers.set(name, value);
  }
  request.headers.delete("host");
  return request;
}

/**
 * Refuses what a pooled token must not be used for, before anything is sent.
 *
 * @param request The request.
 * @param body Its body, as text; empty when there is none.
 * @param apiUrl Where the API is.
 * @throws {PoolError} With code `forbidden_request`.
 */
export function assertAllowed(request: Request, body: string, apiUrl: string): void {
  const { method, url } = request;
  if (!isApi(url, apiUrl)) throw forbidden(`goes to another origin than ${new URL(apiUrl).origin}`);
  const path = plainPath(url);
  if (path === "/graphql" && method === "POST") return assertQuery(body);
  if (method !== "GET" && method !== "HEAD") throw forbidden(`is a ${method}: pooled tokens only read`);
  if (isAboutDonor(path)) throw forbidden(`asks for ${path}, which is about whoever the token belongs to`);
}

/** Whether a URL is of the API, so that a token may be sent there. */
export function isApi(url: string, apiUrl: string): boolean {
  const [target, api] = [new URL(url), new URL(apiUrl)];
  return target.origin === api.origin && target.username === "" && target.password === "" &&
    target.pathname.startsWith(api.pathname.replace(/\/$/, ""));
}

/** An answer without what tells about the donor's token. It keeps its address. */
export function withoutDonorHeaders(response: Response): Response {
  const headers = new Headers(response.headers);
  for (const name of DONOR_HEADERS) headers.delete(name);
  const { status, statusText, url } = response;
  const hasBody = ![101, 204, 205, 304].includes(status);
  const clean = new Response(hasBody ? response.body : null, { status, statusText, headers });
  Object.defineProperty(clean, "url", { value: url });
  return clean;
}

function isAboutDonor(path: string): boolean {
  return DONOR_SEGMENTS.has(path.split("/")[1]!) || DONOR_PATHS.has(path) || DONOR_ENDINGS.test(path);
}

/** The path as GitHub will read it: decoded, lower case, without doubled or closing slashes. */
function plainPath(url: string): string {
  let path = pathOf(url);
  try {
    path = decodeURIComponent(path);
  } catch {
    throw forbidden("has a path that cannot be decoded");
  }
  return path.toLowerCase().replace(/\/+/g, "/").replace(/(?<=.)\/$/, "");
}

function assertQuery(body: string): void {
  let query: unknown;
  try {
    query = JSON.parse(body)?.query;
  } catch {
    query = undefined;
  }
  if (typeof query !== "string") throw forbidden("is a GraphQL request without a query in JSON");
  let depth = 0;
  for (const token of graphqlTokens(query)) {
    if (token === "{") depth++;
    else if (token === "}") depth--;
    else if (depth === 0 && (token === "mutation" || token === "subscription")) {
      throw forbidden(`is a GraphQL ${token}`);
    } else if (depth > 0 && token === "viewer") {
      throw forbidden("asks for `viewer`, who is whoever the token belongs to");
    }
  }
}

/** Names and braces of a document; what stands in strings and comments is neither. */
function graphqlTokens(document: string): string[] {
  const pattern = /"""(?:\\"""|[^])*?"""|"(?:\\.|[^"\\])*"|#[^\n\r]*|[_A-Za-z][_0-9A-Za-z]*|[{}]/g;
  return (document.match(pattern) ?? []).filter((token) => !/^["#]/.test(token));
}

function forbidden(why: string): PoolError {
  return new PoolError("forbidden_request", `The pool does not send this request: it ${why}`);
}
