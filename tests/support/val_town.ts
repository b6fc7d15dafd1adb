/**
 * Val Town, as near as it can be had: its own worker (npm @valtown/deno-http-worker) with exactly the permissions that
 * it documents, and esm.town's file layout for programs that import the library by URL.
 */

import { fileURLToPath } from "node:url";
import { type DenoHTTPWorker, newDenoHTTPWorker } from "npm:@valtown/deno-http-worker@3.0.0";
// Imported so that the package is in the lock file and in the cache; the binary lies beside its package.json.
import documented from "npm:@deno/linux-x64-glibc@2.7.5/package.json" with { type: "json" };
import { temporaryFolder } from "./fixtures.ts";
import { essential } from "./standalone.ts";

/** What Val Town documents (docs.val.town/troubleshooting/permission-errors), less the folders to read. */
const PERMISSIONS = ["--no-prompt", "--allow-net", "--allow-env", "--allow-sys=osRelease,homedir,cpus,hostname"];

const ROOT = new URL("../../", import.meta.url);

/** The Deno that runs these tests, and the one that Val Town documents. */
export const DENOS = {
  "this one": Deno.execPath(),
  [documented.version]: fileURLToPath(
    new URL("deno", import.meta.resolve(`npm:${documented.name}@${documented.version}/package.json`)),
  ),
};

/** The val, running. */
export interface Val extends AsyncDisposable {
  /** Sends a request as Val Town's host does, and does not follow redirects. */
  request(url: string, options?: { method?: string; headers?: Record<string, string> }): Promise<Response>;
}

/** Starts the val with an empty deno.json, so that no import map can help it. */
export async function startVal(deno: string, environment: Record<string, string>): Promise<Val> {
  const folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/deno.json`, "{}");
  for (const part of ["main.http.ts", "lib", "views"]) await copy(new URL(part, ROOT), `${folder.path}/${part}`);
  // The worker wants an object with fetch; Val Town puts its own wrapper between.
  const entry = `${folder.path}/entry.ts`;
  await Deno.writeTextFile(entry, `import handler from "./main.http.ts";\nexport default { fetch: handler };\n`);
  const readable = [await denoFolder(deno), folder.path].join();
  const worker: DenoHTTPWorker = await newDenoHTTPWorker(new URL(`file://${entry}`), {
    denoExecutable: deno,
    runFlags: [...PERMISSIONS, "--no-lock", "--quiet", `--allow-read=${readable}`],
    spawnOptions: { cwd: folder.path, env: { ...essential(), ...environment } },
  });
  return {
    request: (url, options = {}) => sendTo(worker, url, options),
    async [Symbol.asyncDispose]() {
      worker.terminate();
      await folder[Symbol.asyncDispose]();
    },
  };
}

function sendTo(
  worker: DenoHTTPWorker,
  url: string,
  { method = "GET", headers = {} }: { method?: string; headers?: Record<string, string> },
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const request = worker.request(url, { method, headers }, (answer) => {
      let body = "";
      answer.setEncoding("utf8");
      answer.on("data", (text: string) => body += text);
      answer.on("error", reject);
      answer.on("end", () => {
        const received = new Headers();
        for (let index = 0; index < answer.rawHeaders.length; index += 2) {
          received.append(answer.rawHeaders[index]!, answer.rawHeaders[index + 1]!);
        }
        const status = answer.statusCode!;
        resolve(new Response([204, 304].includes(status) ? null : body, { status, headers: received }));
      });
    });
    request.on("error", reject);
    request.end();
  });
}

/** Serves the library as esm.town does: every module under a pinned version, relative imports beside it. */
export function serveLibrary(): { importUrl: string; origin: string } & AsyncDisposable {
  const prefix = "/v/somebody/token-pool@1-main/";
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    if (!pathname.startsWith(`${prefix}lib/`)) return new Response(null, { status: 404 });
    const source = await Deno.readTextFile(new URL(pathname.slice(prefix.length), ROOT));
    return new Response(source, { headers: { "content-type": "application/typescript" } });
  });
  const origin = `http://127.0.0.1:${server.addr.port}`;
  return { importUrl: `${origin}${prefix}lib/pool.ts`, origin, [Symbol.asyncDispose]: () => server.shutdown() };
}

/** Runs a program that imports the library by URL, with the val's permissions and an empty deno.json. Returns its output. */
export async function runConsumer(
  deno: string,
  origin: string,
  program: string,
  environment: Record<string, string>,
): Promise<string> {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/deno.json`, "{}");
  await Deno.writeTextFile(`${folder.path}/consumer.ts`, program);
  const host = new URL(origin).host;
  const { code, stdout, stderr } = await new Deno.Command(deno, {
    args: [
      "run",
      ...PERMISSIONS,
      "--no-lock",
      "--quiet",
      `--allow-read=${await denoFolder(deno)},${folder.path}`,
      `--allow-import=${host}`,
      `--reload=${origin}`,
      "consumer.ts",
    ],
    cwd: folder.path,
    clearEnv: true,
    env: { ...essential(), ...environment },
  }).output();
  if (code !== 0) throw new Error(`The consumer failed: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

async function denoFolder(deno: string): Promise<string> {
  const { stdout } = await new Deno.Command(deno, { args: ["info", "--json"], env: essential(), clearEnv: true })
    .output();
  return JSON.parse(new TextDecoder().decode(stdout)).denoDir;
}

async function copy(from: URL, to: string): Promise<void> {
  if ((await Deno.stat(from)).isFile) return await Deno.copyFile(from, to);
  await Deno.mkdir(to);
  for await (const { name } of Deno.readDir(from)) await copy(new URL(`${from.href}/${name}`), `${to}/${name}`);
}
