/**
 * The stand-alone server: it listens until it is told to stop, then takes nothing new, finishes what runs, closes the
 * database and ends. Val Town has a server of its own and never comes here.
 *
 * @module
 */

import type { Log } from "./log.ts";

/** As long as what runs may take to end: a callback asks GitHub three times, which answers in well under a second. */
const GRACE_MS = 10_000;

/** Windows knows no SIGTERM. */
const SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT", "SIGBREAK"] : ["SIGTERM", "SIGINT"];

/** Where to listen, and what to do in the end. */
export interface ServerOptions {
  hostname: string;
  port: number;
  log: Log;
  /** Closes what the handler has opened. */
  close: () => Promise<void>;
  /** Milliseconds. */
  graceMs?: number;
}

/** Serves until a signal comes; then the process ends, with 0. A second signal ends it at once, with 1. */
export async function serve(
  handler: (request: Request, info: { remoteAddr: Deno.Addr }) => Response | Promise<Response>,
  { hostname, port, log, close, graceMs = GRACE_MS }: ServerOptions,
): Promise<void> {
  const asked = Promise.withResolvers<void>();
  let isAsked = false;
  const stop = () => {
    if (isAsked) Deno.exit(1);
    isAsked = true;
    asked.resolve();
  };
  for (const signal of SIGNALS) Deno.addSignalListener(signal, stop);
  const server = Deno.serve({
    hostname,
    port,
    onListen: ({ port }) => log({ event: "start", message: `GitHub Token Pool: http://localhost:${port}` }),
  }, handler);
  await asked.promise;

  const start = performance.now();
  const finish = async (outcome: string) => {
    await close();
    log({ event: "stop", outcome, ms: Math.round(performance.now() - start) });
  };
  const late = setTimeout(() => finish("cut off").finally(() => Deno.exit(0)), graceMs);
  await server.shutdown();
  clearTimeout(late);
  await finish("finished");
  // With nothing left to do the process ends by itself, which lets the driver put the write-ahead log away; exit() would
  // not. What is left all the same does not hold it up.
  Deno.unrefTimer(setTimeout(() => Deno.exit(0), graceMs));
  for (const signal of SIGNALS) Deno.removeSignalListener(signal, stop);
}
