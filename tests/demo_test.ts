/** Runs the demo as people do, and holds it to what it promises. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));

/** Tokens of GitHub, as its emulator makes them, and keys of 64 hex digits. */
const SECRETS = /gh[opsur]_[\w-]{10,}|\b[0-9a-f]{64}\b|client_secret|code_verifier/i;

async function runDemo(): Promise<{ code: number; stdout: string; stderr: string; seconds: number }> {
  const begun = performance.now();
  const result = await new Deno.Command(Deno.execPath(), {
    args: ["task", "demo"],
    cwd: ROOT,
    stdin: "null",
    signal: AbortSignal.timeout(120_000),
  }).output();
  const [stdout, stderr] = [result.stdout, result.stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code: result.code, stdout: stdout!, stderr: stderr!, seconds: (performance.now() - begun) / 1000 };
}

Deno.test("the demo holds what it promises, within a minute, and shows no secret", async () => {
  const { code, stdout, stderr, seconds } = await runDemo();
  assert.equal(code, 0, stdout + stderr);
  for (const name of ["Answered", "Fair", "Untouched", "Considerate", "Unharmed", "Forgotten", "Honest"]) {
    assert.match(stdout, new RegExp(`✓ ${name}: `));
  }
  assert.match(stdout, /✓ Answered: 1,000 of 1,000 calls\./);
  assert.doesNotMatch(stdout, /NOT SO/);
  assert.doesNotMatch(stdout + stderr, SECRETS);
  assert.ok(!stdout.includes("\x1b"), "colours are for terminals only");
  assert.ok(seconds < 60, `The demo took ${seconds} s`);
});
