/**
 * The cipher against damage: what is sealed opens to the same text, in its place, under its key, in its one spelling, and
 * nothing else opens at all.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "npm:fast-check@4.10.2";
import { Keyring, type Place } from "../../lib/crypto.ts";
import { hold, runsOf, tell } from "../support/property.ts";

/** Any text that there is; half a character is none. */
const text = fc.tuple(
  fc.constantFrom("", "", "\uFEFF"), // a byte order mark is text here
  fc.oneof(fc.string({ unit: "binary" }), fc.string({ unit: "grapheme", maxLength: 300 })),
).map((parts) => parts.join("").toWellFormed());

const place: fc.Arbitrary<Place> = fc.record({
  column: fc.constantFrom("token", "refresh_token", "canary", "transaction", "identity", "flash"),
  githubUserId: fc.oneof(fc.nat().map(String), text),
});

const key = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex"));

Deno.test("Keyring.open() opens what was sealed, and not elsewhere, not by another key, not with a bit flipped", async (t) => {
  const property = fc.asyncProperty(
    ...[text, place, place, key, key, fc.nat(), fc.nat(6)] as const,
    async (text, place, elsewhere, key, otherKey, position, bit) => {
      const keyring = await Keyring.from(key);
      const sealed = await keyring.seal(text, place);
      assert.equal(await keyring.open(sealed, place), text);
      assert.match(sealed, /^v1\.[0-9a-f]{8}\.[\w-]{16}\.[\w-]{22,}$/);
      if (text.length > 3) assert.ok(!sealed.includes(text));

      const at = position % sealed.length;
      const flipped = String.fromCharCode(sealed.charCodeAt(at) ^ (1 << bit));
      const damaged = sealed.slice(0, at) + flipped + sealed.slice(at + 1);
      assert.equal(await keyring.open(damaged, place), null, damaged);

      const isSamePlace = elsewhere.column === place.column && elsewhere.githubUserId === place.githubUserId;
      if (!isSamePlace) assert.equal(await keyring.open(sealed, elsewhere), null);

      if (otherKey === key) return;
      const other = await Keyring.from(otherKey);
      assert.equal(await other.open(sealed, place), null);
      assert.equal(await other.open(sealed.replace(keyring.kid, other.kid), place), null, "relabelled");
      assert.equal(await (await Keyring.from(otherKey, [key])).open(sealed, place), text, "as a previous key it opens");
    },
  );
  await hold(t, property, { bounded: 400 });
});

Deno.test("Keyring.open() never throws, whatever it is given", async (t) => {
  const keyring = await Keyring.from("0f".repeat(32));
  const part = fc.oneof(fc.string({ unit: "binary" }), fc.base64String(), fc.stringMatching(/^[\w-]{0,60}$/));
  const sealed = fc.oneof(
    part,
    fc.array(part, { maxLength: 6 }).map((parts) => parts.join(".")),
    fc.tuple(part, part).map(([nonce, text]) => `v1.${keyring.kid}.${nonce}.${text}`),
    fc.tuple(fc.uint8Array({ minLength: 12, maxLength: 12 }), fc.uint8Array()).map((parts) =>
      `v1.${keyring.kid}.${parts.map((bytes) => Buffer.from(bytes).toString("base64url")).join(".")}`
    ),
  );
  const property = fc.asyncProperty(sealed, place, async (sealed, place) => {
    assert.equal(await keyring.open(sealed, place), null);
  });
  await hold(t, property, { bounded: 1000 });
});

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

Deno.test("Keyring.open() opens no other spelling of the same bytes", async (t) => {
  const keyring = await Keyring.from("0f".repeat(32));
  const property = fc.asyncProperty(
    text,
    place,
    fc.nat(),
    fc.constantFrom(2, 3),
    async (text, place, position, which) => {
      const parts = (await keyring.seal(text, place)).split(".");
      const part = parts[which]!;
      const at = position % (part.length + 1);
      const twins = [
        ...[...ALPHABET].map((character) => part.slice(0, -1) + character),
        ...["=", "==", "\n", " ", "\u0000"].map((more) => part + more),
        ...[" ", "\n", "=", "!", "é"].map((more) => part.slice(0, at) + more + part.slice(at)),
        part.replaceAll("-", "+").replaceAll("_", "/"),
      ].filter((twin) => twin !== part && Buffer.from(twin, "base64url").equals(Buffer.from(part, "base64url")));
      assert.ok(twins.length >= 4, "a lenient decoder takes them for the same");
      for (const twin of twins) {
        assert.equal(await keyring.open(parts.with(which, twin).join("."), place), null, twin);
      }
    },
  );
  await hold(t, property, { bounded: 150 });
});

Deno.test("Keyring.seal() never takes a nonce twice", async (t) => {
  const keyring = await Keyring.from("0f".repeat(32));
  const startedAt = performance.now();
  const [count, nonces] = [runsOf({ bounded: 3000 }), new Set<string>()];
  for (let n = 0; n < count; n++) {
    nonces.add((await keyring.seal("the same", { column: "token", githubUserId: "1" })).split(".")[2]!);
  }
  assert.equal(nonces.size, count);
  tell(t.name, count, startedAt);
});
