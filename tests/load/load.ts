/**
 * The stand-alone server under load, on loopback: so many requests a second against `/status` and `/`, while donations go
 * on through the whole OAuth flow. `deno task load`, or `deno task load --json`; `--seconds` and `--rate` change it.
 *
 * The load is open: a request is due at its time, whether or not those before it were answered, and its latency counts
 * from then. So a server that stalls is not spared by a generator that waits for it.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { readElsewhere } from "../support/processes.ts";
import { donateAt, startStandalone } from "../support/standalone.ts";

const PATHS = ["/status", "/"];

/** Requests that may wait at once; what comes on top is an error. */
const IN_FLIGHT_AT_MOST = 2000;

const DONATIONS_PER_SECOND = 5;

/** What came of it. */
export interface LoadFigures {
  seconds: number;
  requests: number;
  perSecond: number;
  errors: number;
  /** Milliseconds from the time at which a request was due. */
  p50: number;
  p95: number;
  p99: number;
  max: number;
  donations: number;
  donationErrors: number;
  /** Rows in the database afterwards. */
  stored: number;
  /** Resident memory of the server, in MB. */
  rssBefore: number;
  rssAfter: number;
  logLines: number;
  exitCode: number;
}

/** Runs it. */
export async function load({ seconds, rate }: { seconds: number; rate: number }): Promise<LoadFigures> {
  const users = Array.from({ length: seconds * DONATIONS_PER_SECOND }, (_, n) => `donor${n}`);
  await using server = await startStandalone({ users });
  for (const path of PATHS) await ask(server.origin + path); // what is made once is made
  const rssBefore = await memoryOf(server.process.pid);
  const latencies: number[] = [];
  let errors = 0, donations = 0, donationErrors = 0, inFlight = 0;

  const request = async (path: string, due: number) => {
    inFlight++;
    try {
      if (!await ask(server.origin + path)) errors++;
      latencies.push(performance.now() - due);
    } catch {
      errors++;
    } finally {
      inFlight--;
    }
  };
  const donate = async (user: string) => {
    if (await donateAt(server, user).catch(() => 0) === 303) donations++;
    else donationErrors++;
  };

  const start = performance.now();
  const all: Promise<void>[] = [];
  const count = seconds * rate;
  for (let sent = 0, given = 0; sent < count || given < users.length;) {
    const elapsed = (performance.now() - start) / 1000;
    for (; sent < Math.min(count, elapsed * rate); sent++) {
      if (inFlight >= IN_FLIGHT_AT_MOST) errors++;
      else all.push(request(PATHS[sent % PATHS.length]!, start + sent / rate * 1000));
    }
    for (; given < Math.min(users.length, elapsed * DONATIONS_PER_SECOND); given++) all.push(donate(users[given]!));
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await Promise.all(all);
  const took = (performance.now() - start) / 1000;
  const rssAfter = await memoryOf(server.process.pid);
  server.process.kill("SIGTERM");
  const { code, lines } = await server.ended;
  const [row] = await readElsewhere(server.database, "SELECT count(*) AS stored FROM token_pool_tokens");
  const sorted = latencies.toSorted((a, b) => a - b);
  const quantile = (share: number) =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
  return {
    seconds: round(took),
    requests: latencies.length,
    perSecond: round(latencies.length / took),
    errors,
    p50: quantile(0.5),
    p95: quantile(0.95),
    p99: quantile(0.99),
    max: quantile(1),
    donations,
    donationErrors,
    stored: Number(row!["stored"]),
    rssBefore,
    rssAfter,
    logLines: lines.length,
    exitCode: code,
  };
}

/** Whether it was answered with 200, in a time in which somebody may still be there. */
async function ask(url: string): Promise<boolean> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(30_000) });
  await answer.body?.cancel();
  return answer.status === 200;
}

/** In MB. */
async function memoryOf(pid: number): Promise<number> {
  const { stdout } = await new Deno.Command("ps", { args: ["-o", "rss=", "-p", String(pid)] }).output();
  return round(Number(new TextDecoder().decode(stdout)) / 1024);
}

function round(figure: number): number {
  return Math.round(figure * 10) / 10;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "boolean", default: false },
      seconds: { type: "string", default: "60" },
      rate: { type: "string", default: "1000" },
    },
  });
  load({ seconds: Number(values.seconds), rate: Number(values.rate) }).then((figures) => {
    if (values.json) console.log(JSON.stringify(figures));
    else for (const [name, figure] of Object.entries(figures)) console.log(`${String(figure).padStart(9)}  ${name}`);
    const isFine = figures.errors + figures.donationErrors + figures.exitCode === 0 &&
      figures.stored === figures.donations;
    Deno.exit(isFine ? 0 : 1);
  });
}
