/**
 * An answer as the caller gets it: all that GitHub said, but for what tells about the donor.
 *
 * @module
 */

/** Headers of an answer that tell about the donor's token. */
const DONOR_HEADERS = [
  "x-oauth-scopes",
  "x-accepted-oauth-scopes",
  "x-oauth-client-id",
  "github-authentication-token-expiration",
  "x-github-sso",
];

/** A response of these cannot be made with a body (fetch.spec.whatwg.org, "null body status"). */
const BODILESS = new Set([101, 103, 204, 205, 304]);

/** An answer that says where it came from, as one that was fetched does; one that is made, or a clone of it, would not. */
export class ApiResponse extends Response {
  readonly #url: string;
  readonly #redirected: boolean;

  /**
   * @param body What is to be read.
   * @param init Status and headers; a response does as well.
   * @param origin What else a fetched response says.
   */
  constructor(body: BodyInit | null, init: ResponseInit, { url, redirected }: Pick<Response, "url" | "redirected">) {
    super(body, init);
    this.#url = url;
    this.#redirected = redirected;
  }

  override get url(): string {
    return this.#url;
  }

  override get redirected(): boolean {
    return this.#redirected;
  }

  override clone(): ApiResponse {
    const { body } = super.clone();
    return new ApiResponse(body, this, this);
  }
}

/** An answer from `url` without what tells about the donor's token. */
export function withoutDonorHeaders(response: Response, url: string, redirected: boolean): ApiResponse {
  // A copy, because the headers of what was fetched cannot be changed; as its own init, which is the quickest way to one.
  const body = BODILESS.has(response.status) ? null : response.body;
  const clean = new ApiResponse(body, response, { url: url.replace(/#.*/s, ""), redirected });
  for (const name of DONOR_HEADERS) clean.headers.delete(name);
  return clean;
}
