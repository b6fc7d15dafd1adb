/**
 * The library on Node 20: packed and installed as the README says, drawn on by a program of Node's own.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { KEY, temporaryFolder } from "./support/fixtures.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

const PROGRAM = `
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createPool, poolFetch, PoolError } from "@github-token-pool/pool";
import { createPoolAuth } from "@github-token-pool/pool/octokit";

const seen = [];
const answer = ({ url, headers, method }, response) => {
  seen.push(method + " " + url + " " + headers.authorization + " " + headers["user-agent"]);
  const isDead = headers.authorization === "Bearer gho_token1";
  const limits = { limit: 5000, remaining: 4990 - seen.length, reset: Math.floor(Date.now() / 1000) + 3600 };
  for (const [name, value] of Object.entries(limits)) response.setHeader("x-ratelimit-" + name, value);
  response.setHeader("content-type", "application/json");
  response.setHeader("etag", '"1"');
  if (headers["if-none-match"] === '"1"') return response.writeHead(304).end();
  if (url === "/repos/old/name") return response.writeHead(301, { location: "/repos/denoland/deno" }).end();
  response.writeHead(isDead ? 401 : 200).end(JSON.stringify({ url, message: "Bad credentials" }));
};
const server = createServer(answer).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const githubApiUrl = process.env.GITHUB_API_URL = "http://127.0.0.1:" + server.address().port;

const pool = createPool({ githubApiUrl, cache: true });
for (const n of [1, 2]) await pool.addToken({ github_user_id: String(n), token: "gho_token" + n });

const first = await pool.fetch("/repos/denoland/deno");
assert.deepEqual([first.status, first.url, (await first.json()).url],
  [200, githubApiUrl + "/repos/denoland/deno", "/repos/denoland/deno"]);
assert.deepEqual(seen.map((line) => line.split(" ")[3]), ["gho_token1", "gho_token2"]);
const again = await Promise.all([1, 2, 3].map(() => pool.fetch("/repos/denoland/deno")));
for (const response of again) assert.equal((await response.json()).url, "/repos/denoland/deno");
assert.equal(seen.length, 3, "equal reads are one, and that was a 304");
assert.equal((await pool.fetch(new URL(githubApiUrl + "/repos/old/name"))).status, 200);
const body = JSON.stringify({ query: "{ rateLimit { cost } }" });
assert.equal((await pool.fetch(new Request(githubApiUrl + "/graphql", { method: "POST", body }))).status, 200);
await assert.rejects(pool.fetch("/user"), (error) => error instanceof PoolError && error.code === "forbidden_request");
await assert.rejects(pool.fetch("/repos/a/b", { signal: AbortSignal.abort() }), { name: "AbortError" });

assert.equal((await poolFetch("/repos/denoland/std")).status, 200);
const { token } = await createPoolAuth({ pool })();
assert.equal(token, "gho_token2");
await pool.close();
server.close();
console.log(process.version + " " + seen.every((line) => line.endsWith("github-token-pool")));
`;

async function run(command: string, args: string[], options: Deno.CommandOptions): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, ...options }).output();
  const decoder = new TextDecoder();
  assert.ok(success, decoder.decode(stderr) + decoder.decode(stdout));
  return decoder.decode(stdout).trim();
}

Deno.test("packed and installed as the README says, the library runs on Node 20 or newer", async () => {
  const readme = await Deno.readTextFile(`${ROOT}README.md`);
  const { version } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`)) as { version: string };
  const tarball = `github-token-pool-pool-${version}.tgz`;
  assert.ok(readme.includes("npx -y deno@2.9.6 pack") && readme.includes(`npm install <path>/${tarball}`));

  await using folder = await temporaryFolder();
  const cwd = folder.path;
  await run(Deno.execPath(), ["pack", "--quiet", "--allow-dirty", "--output", `${cwd}/${tarball}`], { cwd: ROOT });
  await Deno.writeTextFile(`${cwd}/package.json`, JSON.stringify({ name: "consumer", private: true, type: "module" }));
  await run("npm", ["install", "--no-audit", "--no-fund", "--prefer-offline", `./${tarball}`], { cwd });
  await Deno.writeTextFile(`${cwd}/program.js`, PROGRAM);
  const env = { TOKEN_POOL_DATABASE_URL: `file:${cwd}/pool.db`, TOKEN_ENCRYPTION_KEY: KEY };
  const [node, isOurs] = (await run("node", ["program.js"], { cwd, env })).split(" ");
  assert.ok(Number(/^v(\d+)/.exec(node!)?.[1]) >= 20, `${node}`);
  assert.equal(isOurs, "true");
});
