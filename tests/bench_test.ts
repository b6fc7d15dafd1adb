/** The benchmark as the README calls it, of what needs the most of it: processes, a libSQL server and the network. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import type { Figure } from "./bench/measure.ts";

Deno.test("`deno task bench` may do all that it has to, and prints its figures", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "bench", "--json", "server"],
    cwd: fileURLToPath(new URL("../", import.meta.url)),
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const figures = JSON.parse(new TextDecoder().decode(stdout)) as Figure[];
  assert.equal(figures.length, 3);
  for (const { name, value } of figures) assert.ok(value > 0, name);
});
