/**
 * Pure rules for what may be sent with a pooled token: reads of public data, to the API, and nothing about the donor.
 *
 * @module
 */

import { PoolError } from "./errors.ts";

/** Version of the API that the pool's own knowledge is of. */
const API_VERSION = "2022-11-28";

/**
 * What is about whoever the token belongs to: a program that asks for it would get a donor's data, or another donor's
 * each time. By first segment, by whole path where the rest is public, or by the end of a path.
 */
const DONOR_SEGMENTS = new Set([
  "user",
  "notifications",
  "feeds",
  "classrooms",
  "applications",
  "authorizations",
  "login",
  "credentials",
  "app",
  "installation",
]);
const DONOR_PATHS = new Set(["/issues", "/gists", "/gists/starred", "/rate_limit"]);
const DONOR_ENDINGS = [
  /^\/(?:repos\/[^/]+|repositories)\/[^/]+\/(?:subscription|notifications|codespaces(?:\/.+)?)$/,
  /^\/(?:orgs|organizations)\/[^/]+\/issues$/,
  /^\/gists\/[^/]+\/star$/,
  /^\/users\/[^/]+\/events\/orgs\/[^/]+$/, // shown to that user only
];

/**
 * A block string with four quotes in a row. To the specification it ends at the first three or goes on behind an escape,
 * to GitHub's parser (rmosolgo/graphql-ruby, graphql-c_parser) it ends at the last: what is text is in doubt from there.
 */
const READ_IN_TWO_WAYS = /^"""[^]*(?:\\"{4}|"{4}$)/;

/** In a search: whoever the token belongs to. */
const DONOR_IN_SEARCH = /@me\b/i;

/** Headers by which a server may be asked for another method than the request has. */
const METHOD_HEADERS = ["x-http-method-override", "x-http-method", "x-method-override"];

/** A request, ready to be sent but for its token. */
export interface ApiRequest {
  /** What `fetch` is given: an address, or all that the caller has said, if that is more. */
  target: string | Request;
  method: string;
  url: URL;
  /** By name in lower case. */
  headers: Readonly<Record<string, string>>;
  /** Empty when there is none. */
  body: string;
  redirect: RequestRedirect;
  cache: RequestCache;
  signal: AbortSignal | undefined;
}

const DEFAULT_HEADERS = {
  "accept": "application/vnd.github+json",
  "user-agent": "github-token-pool",
  "x-github-api-version": API_VERSION,
};

/** What is asked when nothing but an address is given. */
const PLAIN_GET = {
  method: "GET",
  headers: DEFAULT_HEADERS,
  body: "",
  redirect: "follow",
  cache: "default",
  signal: undefined,
} as const;

/**
 * Understands what a caller of `fetch` has given.
 *
 * @param input A path such as `/repos/denoland/deno`, a URL, or a Request.
 * @param init As of `fetch`.
 * @param apiUrl Where the API is.
 * @throws {TypeError} When it is not a URL.
 */
export async function toApiRequest(
  input: RequestInfo | URL,
  init: RequestInit,
  apiUrl: string,
): Promise<ApiRequest> {
  const target = targetOf(input, apiUrl);
  // Nearly every call is one, and a Request takes longer to make and to send than all that the pool does besides.
  if (!(target instanceof Request) && isEmpty(init)) {
    const url = new URL(target);
    return { ...PLAIN_GET, target: url.href, url };
  }
  const request = new Request(target, init);
  for (const [name, value] of Object.entries(DEFAULT_HEADERS)) {
    const given = request.headers.get(name);
    if (given === null || given === "*/*") request.headers.set(name, value);
  }
  request.headers.delete("host");
  // Deno 2.7.5 forgets how a request is to be cached, so it is said in a header as well.
  const cache = init.cache ?? request.cache ?? PLAIN_GET.cache;
  if (init.cache === "no-store" || init.cache === "reload") request.headers.set("cache-control", "no-store");
  const { method, redirect } = request;
  const url = new URL(request.url);
  // The request itself always has one, which costs more than it is worth where nobody has another.
  const signal = target instanceof Request || init.signal ? request.signal : undefined;
  const body = request.body === null ? "" : await request.clone().text();
  return { target: request, method, url, headers: Object.fromEntries(request.headers), body, redirect, cache, signal };
}

/**
 * Refuses what a pooled token must not be used for, before anything is sent.
 *
 * @throws {PoolError} With code `forbidden_request`.
 */
export function assertAllowed(request: ApiRequest, apiUrl: string): void {
  const { method, url, headers } = request;
  if (!isApi(url, apiUrl)) throw forbidden(`goes to another origin than ${new URL(apiUrl).origin}`);
  const disguise = METHOD_HEADERS.find((name) => name in headers);
  if (disguise !== undefined) throw forbidden(`names another method in ${disguise}: pooled tokens only read`);
  const path = plainPath(url);
  if (path === "/graphql" && method === "POST") return assertQuery(request);
  if (method !== "GET" && method !== "HEAD") throw forbidden(`is a ${method}: pooled tokens only read`);
  if (path === "/graphql") throw forbidden(`is a GraphQL ${method}: queries are a POST`);
  if (isAboutDonor(path)) throw forbidden(`asks for ${path}, which is about whoever the token belongs to`);
  const isSearch = path.startsWith("/search/");
  if (isSearch && [...url.searchParams.values()].some((text) => DONOR_IN_SEARCH.test(text))) {
    throw forbidden("searches for `@me`, who is whoever the token belongs to");
  }
}

/** Whether a URL is of the API, so that a token may be sent there. */
export function isApi(url: URL, apiUrl: string): boolean {
  if (url.href.startsWith(`${apiUrl}/`)) return true; // nearly always, and spares taking the other apart
  const api = new URL(apiUrl);
  const root = api.pathname.replace(/\/$/, "");
  const isBelow = url.pathname.startsWith(`${root}/`) || url.href === `${graphqlRoot(apiUrl)}/graphql`;
  return url.origin === api.origin && url.username === "" && url.password === "" && isBelow;
}

/** GitHub Enterprise Server has REST below /api/v3 and GraphQL at /api/graphql. */
function graphqlRoot(apiUrl: string): string {
  return apiUrl.replace(/(?<=\/api)\/v3$/, "");
}

/** Whether nothing is said of the request itself; what a class says, or a Request in the place of an init, counts. */
function isEmpty(init: RequestInit): boolean {
  const isPlain = [Object.prototype, null].includes(Object.getPrototypeOf(init));
  return isPlain && Object.keys(init).every((name) => name === "pool");
}

function targetOf(input: RequestInfo | URL, apiUrl: string): RequestInfo | URL {
  if (typeof input !== "string" || !input.startsWith("/")) return input;
  if (input.startsWith("//")) return new URL(input, apiUrl); // names a host
  return (input === "/graphql" ? graphqlRoot(apiUrl) : apiUrl) + input;
}

function isAboutDonor(path: string): boolean {
  // No segment that begins a path has more than letters in it, so what follows them is another spelling.
  const first = /^\/\W*([\w-]*)/.exec(path)?.[1] ?? "";
  return DONOR_SEGMENTS.has(first) || DONOR_PATHS.has(path) || DONOR_ENDINGS.some((ending) => ending.test(path));
}

/** The path as GitHub may read it: decoded, lower case, without prefix, parameters, format, doubled or closing slashes. */
function plainPath(url: URL): string {
  let path = url.pathname;
  try {
    path = decodeURIComponent(path);
  } catch {
    throw forbidden("has a path that cannot be decoded");
  }
  path = path.toLowerCase().replace(/[\\/]+/g, "/").replace(/(?<=[^/])[;?#\0][^/]*/g, "");
  if (/\/\.\.?(?:\/|$)/.test(path)) throw forbidden("has a path with dots for segments");
  return path.replace(/^\/api(?:\/v3)?(?=\/)/, "").replace(/(?<=.)(?:\.\w*)?[/\s\0]*$/, "");
}

function assertQuery({ url, headers, body }: ApiRequest): void {
  // A server that also looked for the query elsewhere would carry out one that was not looked at here.
  if (url.search !== "") throw forbidden("is a GraphQL request with parameters in its address");
  const isForm = /form/i.test(headers["content-type"] ?? "");
  let sent: { query?: unknown; variables?: unknown } | null = null;
  try {
    sent = isForm ? null : JSON.parse(body);
  } catch {
    // said below
  }
  const query = sent?.query;
  if (typeof query !== "string") throw forbidden("is a GraphQL request without a query in JSON");
  if (DONOR_IN_SEARCH.test(unescaped(`${query} ${JSON.stringify(sent?.variables)}`))) {
    throw forbidden("searches for `@me`, who is whoever the token belongs to");
  }
  let depth = 0;
  for (const token of graphqlTokens(query)) {
    if (token === "{") depth++;
    else if (token === "}") depth--;
    else if (depth <= 0 && (token === "mutation" || token === "subscription")) {
      throw forbidden(`is a GraphQL ${token}`);
    } else if (depth > 0 && token === "viewer") {
      throw forbidden("asks for `viewer`, who is whoever the token belongs to");
    }
  }
}

/** With the ASCII that texts of GraphQL, and of JSON within JSON, may write as numbers: `\u0040` is `@`. */
function unescaped(text: string): string {
  return text.replace(/\\u\{?0*([\da-f]{2})\}?/gi, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
}

/** Names, variables and braces of a document; what stands in strings and comments is none of them. */
function graphqlTokens(document: string): string[] {
  const pattern = /"""(?:\\"""|[^])*?""""*|"(?:\\.|[^"\\])*"|#[^\n\r]*|\$?[_A-Za-z][_0-9A-Za-z]*|[{}]/g;
  const tokens = document.match(pattern) ?? [];
  if (tokens.some((token) => READ_IN_TWO_WAYS.test(token))) {
    throw forbidden("is GraphQL with four quotes in a row, which may end a text or not");
  }
  return tokens.filter((token) => !/^["#]/.test(token));
}

function forbidden(why: string): PoolError {
  return new PoolError("forbidden_request", `The pool does not send this request: it ${why}`);
}
