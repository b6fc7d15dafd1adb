/**
 * Answers worth asking about again: GitHub's 304 costs nothing, but its ETags depend on the token, so an answer is
 * remembered with the token that it came by, and asked about with the same. Bounded in bytes, least recently used goes.
 *
 * @module
 */

import { ApiResponse } from "./api_response.ts";
import type { ApiRequest } from "./request_rules.ts";

/** The size of `cache: true`. */
export const DEFAULT_CACHE_BYTES = 16 * 1024 * 1024;

/** One answer takes at most this share of the cache. */
const LARGEST_SHARE = 0.25;

/** What a 304 says anew of an answer that is the same. */
const RENEWED_BY_304 = /^(?:x-ratelimit-.*|x-github-request-id|date|cache-control|etag|last-modified|expires)$/;

interface Entry {
  tokenId: number;
  etag: string;
  headers: [string, string][];
  body: Uint8Array<ArrayBuffer>;
  url: string;
  redirected: boolean;
  statusText: string;
  /** About as much memory as it takes. */
  bytes: number;
}

/** An answer that can be asked about again. */
export interface Remembered {
  tokenId: number;
  etag: string;
  /** The answer, with what the 304 says anew. */
  toResponse(notModified: Response): Response;
}

/** Answers, by request. */
export class ResponseCache {
  readonly #bytesAtMost: number;
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  /**
   * @param bytesAtMost How much is kept: bodies, headers and addresses.
   * @throws {RangeError} When it is not a positive number.
   */
  constructor(bytesAtMost: number) {
    if (!(bytesAtMost > 0)) throw new RangeError(`Cannot make a cache of this size: current value is ${bytesAtMost}`);
    this.#bytesAtMost = bytesAtMost;
  }

  /** The answer to a request, if one is remembered. */
  find(request: ApiRequest): Remembered | null {
    const key = keyOf(request);
    const entry = key === null ? undefined : this.#entries.get(key);
    if (entry === undefined) return null;
    this.#entries.delete(key!);
    this.#entries.set(key!, entry); // the most recently used is the last
    return { tokenId: entry.tokenId, etag: entry.etag, toResponse: (notModified) => revive(entry, notModified) };
  }

  /** Remembers an answer if it is worth it, and returns one that can still be read. */
  async keep(request: ApiRequest, response: Response, tokenId: number): Promise<Response> {
    const key = keyOf(request);
    const etag = response.headers.get("etag");
    const isPrivate = forbidsStoring(response.headers.get("cache-control"));
    if (key === null || etag === null || response.status !== 200 || !isText(response) || isPrivate) return response;
    const body = new Uint8Array(await response.arrayBuffer());
    const headers = [...response.headers];
    const bytes = body.length + 2 * (key.length + headers.flat().join("").length);
    const { url, redirected, statusText } = response;
    const entry: Entry = { tokenId, etag, headers, body, url, redirected, statusText, bytes };
    this.#forget(key);
    if (bytes <= this.#bytesAtMost * LARGEST_SHARE) {
      this.#entries.set(key, entry);
      this.#bytes += bytes;
      for (const oldest of this.#entries.keys()) {
        if (this.#bytes <= this.#bytesAtMost) break;
        this.#forget(oldest);
      }
    }
    return revive(entry, response);
  }

  #forget(key: string): void {
    this.#bytes -= this.#entries.get(key)?.bytes ?? 0;
    this.#entries.delete(key);
  }
}

/** Whether a body is something to be read whole, and not a file. */
export function isText({ headers }: Response): boolean {
  return /\b(?:json|text)\b/.test(headers.get("content-type") ?? "");
}

/** What makes two requests the same; null = not to be remembered. */
function keyOf({ method, url, headers, cache }: ApiRequest): string | null {
  const isPlain = !["if-none-match", "if-modified-since", "range"].some((name) => name in headers);
  const isUnwanted = forbidsStoring(headers["cache-control"]) || cache === "no-store" || cache === "reload";
  if (method !== "GET" || !isPlain || isUnwanted) return null;
  return JSON.stringify([url.href, headers["accept"], headers["x-github-api-version"]]);
}

function forbidsStoring(cacheControl: string | null | undefined): boolean {
  return /\bno-store\b/i.test(cacheControl ?? "");
}

function revive({ headers, body, statusText, ...origin }: Entry, latest: Response): Response {
  const merged = new Headers(headers);
  for (const [name, value] of latest.headers) if (RENEWED_BY_304.test(name)) merged.set(name, value);
  return new ApiResponse(body, { status: 200, statusText, headers: merged }, origin);
}
