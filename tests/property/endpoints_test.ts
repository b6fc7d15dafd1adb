/**
 * The whole service against anything that can be sent to it: any path, query, header, cookie and body, in the middle of
 * honest visits whose cookies and callbacks are bent, while GitHub or the database is away at times. Whatever comes:
 * no fault of our own, strict headers on every answer, no secret in any, and nobody is asked for nothing.
 *
 * @module
 */

import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "npm:fast-check@4.10.2";
import { createApp } from "../../main.http.ts";
import { hold, runsOf, tell } from "../support/property.ts";
import { temporaryService } from "../support/service.ts";
import { ORIGIN, step } from "./requests.ts";
import { Target } from "./target.ts";

const STEPS_AT_MOST = 40;

/** Bytes in use once all that can be forgotten has been. */
async function heapInUse(): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let n = 0; n < 3; n++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 0)); // a turn of the loop lets go of what is finished
  }
  return Deno.memoryUsage().heapUsed;
}

Deno.test("createApp() answers anything without a fault, strictly, and with no secret (12)", async (t) => {
  await using service = await temporaryService();
  const target = new Target(service);
  const noteRejection = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    target.rejections.push(event.reason);
  };
  addEventListener("unhandledrejection", noteRejection);
  try {
    const steps = fc.array(step, { minLength: 1, maxLength: STEPS_AT_MOST, size: "max" });
    const property = fc.asyncProperty(steps, async (steps) => {
      target.begin();
      for (const one of steps) await target.take(one);
    });
    await hold(t, property, { bounded: 100, casesEach: STEPS_AT_MOST / 2 });
  } finally {
    removeEventListener("unhandledrejection", noteRejection);
    target.begin(); // so that the service can be closed
  }
});

Deno.test("createApp() does not grow with the number of addresses, paths, cookies or answers", async (t) => {
  await using service = await temporaryService();
  const app = createApp({ ...service.options, log: () => {}, rates: { inAll: Infinity, addressesAtMost: 100 } });
  const request = async (n: number) => {
    const hostname = `${1 + n % 9}.${(n >> 16) % 256}.${(n >> 8) % 256}.${n % 256}`;
    const headers = { cookie: `__Host-token_pool_flash=v1.${n}`, accept: `text/${n}`, "if-none-match": `"${n}"` };
    const path = ["/callback", "/auth", "/callback", `/nowhere/${n}`, "/status", "/", "/donation"][n % 7];
    const answer = await app.fetch(new Request(`${ORIGIN}${path}?state=${n}`, { headers }), {
      remoteAddr: { transport: "tcp", hostname, port: n % 65_536 },
    });
    await answer.arrayBuffer();
    assert.ok(answer.status < 500);
    if (n % 500 === 0) {
      service.clock.advance(1000);
      service.database.statements.length = 0;
    }
  };
  const startedAt = performance.now();
  const requests = runsOf({ bounded: 10_500 });
  for (let n = 0; n < 2100; n++) await request(n);
  const before = await heapInUse();
  for (let n = 0; n < requests; n++) await request(10_000 + n);
  const grownBy = await heapInUse() - before;
  assert.ok(grownBy < 0.75 * 2 ** 20, `${requests} requests left ${grownBy} bytes`);
  tell(`${t.name}: grown by ${Math.round(grownBy / 1024)} KiB`, requests, startedAt);
});
