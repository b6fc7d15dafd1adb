/**
 * What a caller gets of an answer.
 *
 * @module
 */

import assert from "node:assert/strict";
import { withoutDonorHeaders } from "../lib/api_response.ts";

Deno.test("withoutDonorHeaders() keeps status, text, address, body and all other headers", async () => {
  const response = new Response("body", {
    status: 418,
    statusText: "Teapot",
    headers: { "x-oauth-scopes": "repo", "x-mine": "yes" },
  });
  const clean = withoutDonorHeaders(response, "https://api.github.com/x#y", true);
  const { status, statusText, url, redirected } = clean;
  assert.deepEqual([status, statusText, url, redirected], [418, "Teapot", "https://api.github.com/x", true]);
  assert.deepEqual([...clean.headers.keys()].toSorted(), ["content-type", "x-mine"]);
  assert.equal(await clean.text(), "body");
});
