/** Preloaded, it ends a program with SIGKILL as soon as that says how far it has come: `deno run --preload …`. */

import process from "node:process";

console.error = () => process.kill(process.pid, "SIGKILL");
