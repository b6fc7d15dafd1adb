/**
 * The README's examples of what takes a fetch, run as they stand there, each with no more than three lines.
 *
 * @module
 */

import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
// What the examples import: named here as well, so that the lock file holds them. graphql-request wants this graphql.
import "npm:@octokit/core@7.0.8";
import "npm:graphql-request@7.4.0";
import "npm:graphql@16.15.0";
import "npm:ky@2.1.0";
import "npm:ofetch@1.5.1";
import { fetchWorld, tokenOf } from "./support/fetch_world.ts";
import { limitHeaders, response, temporaryFolder } from "./support/fixtures.ts";

const README = await Deno.readTextFile(new URL("../README.md", import.meta.url));

/** What stands between a heading and the next. */
function sectionOf(heading: string): string {
  const [, section] = README.split(`\n### ${heading}\n`);
  assert.ok(section !== undefined, `README.md has a section "${heading}"`);
  return section.split(/\n##/)[0]!;
}

const EXAMPLES = [...sectionOf("Anything that takes a fetch").matchAll(/```ts\n([^]*?)```/g)].map(([, code]) => code!);

Deno.test("there is an example for each of ky, ofetch, graphql-request and Octokit", () => {
  const packages = EXAMPLES.map((code) => /npm:([^"]+)@\d+\.\d+\.\d+"/.exec(code)?.[1]);
  assert.deepEqual(packages, ["ky", "ofetch", "graphql-request", "@octokit/core"]);
});

for (const code of EXAMPLES) {
  const name = /npm:([^"]+)"/.exec(code)?.[1];
  Deno.test(`the README's example of ${name} works as it stands`, async () => {
    const lines = code.trimEnd().split("\n");
    assert.ok(lines.length <= 3, `${lines.length} lines`);
    await using folder = await temporaryFolder();
    await using world = await fetchWorld();
    const reset = world.clock.seconds + 3600;
    world.intercept = ({ url }) => {
      const isGraphql = url === "https://api.github.com/graphql";
      assert.ok(isGraphql || url === "https://api.github.com/repos/denoland/deno", url);
      const found = { stargazerCount: 100_000 };
      const body = isGraphql ? { data: { repository: found } } : found;
      const headers = limitHeaders(5000, 4999, reset, isGraphql ? "graphql" : "core");
      // The first token is refused, which the library must not get to know.
      if (world.sent.length === 1) return response(401, headers, { message: "Bad credentials" });
      return response(200, { ...headers, "content-type": "application/json; charset=utf-8" }, body);
    };
    const result = /const (?:\{ )?(\w+)(?: \})? = await/.exec(lines.at(-1)!)?.[1];
    assert.ok(result !== undefined, "the last line has a result");
    const path = `${folder.path}/example.ts`;
    await Deno.writeTextFile(path, `const { poolFetch } = globalThis;\n${code}export default ${result};\n`);
    Object.assign(globalThis, { poolFetch: world.pool.fetch });
    assert.deepEqual((await import(pathToFileURL(path).href)).default, { stargazerCount: 100_000 });
    assert.equal(world.sent.length, 2);
    assert.ok(world.sent.every((request) => world.tokens.includes(tokenOf(request)!)));
  });
}
