/**
 * Canaries: every secret that the tests make up carries a mark, and what cannot carry one is remembered. Whatever a test
 * leaves behind or gets to see (database files, log lines, pages, metrics, spans) is looked through for them on its way
 * out, and `.ci/no_canaries` looks through all that the run has printed.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/** In every token, code and client secret of the fake GitHub. Nobody comes across it by chance. */
export const MARK = "cAnArY0815";

/** What begins every token of the fixtures. */
const FIXTURE_TOKEN = "gho_token";

/** Where secrets without a mark are noted, for who looks through the output of the run. */
const REGISTRY = Deno.env.get("TOKEN_POOL_CANARIES");

/** Needles by what they are; a finding must not repeat what was found. */
const NEEDLES = new Map<string, string>([
  [MARK, "the mark of a secret"],
  [FIXTURE_TOKEN, "a token of the fixtures"],
  ...inBase64(MARK).map((text): [string, string] => [text, "the mark of a secret, in base64"]),
  [Buffer.from(MARK).toString("hex"), "the mark of a secret, in hex"],
]);

/** The three ways in which a text shows within base64, less the characters that its neighbours have a share in. */
function inBase64(text: string): string[] {
  return ["", "x", "xx"].map((before) => {
    const encoded = Buffer.from(before + text).toString("base64").replace(/=+$/, "");
    return encoded.slice(before.length === 0 ? 0 : before.length + 1, -1);
  });
}

/** Remembers a secret that carries no mark, such as a key or a verifier. */
export function plant(secret: string): string {
  if (secret.includes(MARK) || NEEDLES.has(secret)) return secret;
  if (secret.length < 12) throw new RangeError("A canary must be long enough not to be met by chance");
  NEEDLES.set(secret, "a secret that was remembered");
  if (REGISTRY !== undefined) Deno.writeTextFileSync(REGISTRY, `${secret}\n`, { append: true });
  return secret;
}

/** Throws if there is a secret in what is given; the message does not repeat it. */
export function assertNoCanary(where: string, what: string | Uint8Array): void {
  const text = typeof what === "string" ? what : Buffer.from(what.buffer, what.byteOffset, what.byteLength);
  for (const [needle, name] of NEEDLES) {
    if (text.includes(needle)) throw new Error(`A secret has leaked: ${where} holds ${name}`);
  }
}

/** The same for all files of a folder, but for programs that a test has written there to run them. */
export async function assertNoCanaryIn(folder: string): Promise<void> {
  for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) await assertNoCanaryIn(path);
    else if (isFile && !/\.[cm]?[jt]sx?$/.test(name)) {
      // A write-ahead log goes when the driver gets round to it.
      const bytes = await Deno.readFile(path).catch((error) => {
        if (error instanceof Deno.errors.NotFound) return new Uint8Array();
        throw error;
      });
      assertNoCanary(`the file ${name}`, bytes);
    }
  }
}
