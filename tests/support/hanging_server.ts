/** A server whose handler never answers: `deno run --allow-net hanging_server.ts`. It is to be told to stop. */

import { createLog } from "../../lib/log.ts";
import { serve } from "../../lib/server.ts";

serve(() => {
  console.log("asked");
  return new Promise<Response>(() => {});
}, {
  hostname: "127.0.0.1",
  port: 0,
  log: createLog(),
  close: () => {
    console.log("closed");
    return Promise.resolve();
  },
  graceMs: 100,
});
