/**
 * Holds `lib/crypto.ts` to its stored form. The primitive is checked against published vectors, and the form against
 * `node:crypto`, which shares no code with the keyring: what one of them seals by the documentation, the other opens.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync } from "node:crypto";
import fc from "npm:fast-check@4.10.2";
import { isKey, isSameText, Keyring, type Place, randomText, sha256Base64Url } from "../lib/crypto.ts";
import { KEY, OTHER_KEY } from "./support/fixtures.ts";

const PLACE: Place = { column: "token", githubUserId: "583231" };
const TOKEN = "gho_goldenTokenThatNeverWas";

const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

function bytes(hex: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

/**
 * AES-256 in the test cases of McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)", appendix B; NIST's own
 * validation set has the same.
 */
const VECTORS = [
  {
    name: "test case 13",
    key: "00".repeat(32),
    nonce: "00".repeat(12),
    additional: "",
    plain: "",
    sealed: "",
    tag: "530f8afbc74536b9a963b4f1c4cb738b",
  },
  {
    name: "test case 14",
    key: "00".repeat(32),
    nonce: "00".repeat(12),
    additional: "",
    plain: "00".repeat(16),
    sealed: "cea7403d4d606b6e074ec5d3baf39d18",
    tag: "d0d1c8a799996bf0265b98b5d48ab919",
  },
  {
    name: "test case 16",
    key: "feffe9928665731c6d6a8f9467308308".repeat(2),
    nonce: "cafebabefacedbaddecaf888",
    additional: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
    plain: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
      "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
      "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
    tag: "76fc6ece0f4e1768cddf8853bb2d551b",
  },
];

for (const { name, key, nonce, additional, plain, sealed, tag } of VECTORS) {
  Deno.test(`crypto.subtle computes AES-256-GCM as published: ${name}`, async () => {
    const imported = await crypto.subtle.importKey("raw", bytes(key), "AES-GCM", false, ["encrypt", "decrypt"]);
    const algorithm = { name: "AES-GCM", iv: bytes(nonce), additionalData: bytes(additional), tagLength: 128 };
    const encrypted = await crypto.subtle.encrypt(algorithm, imported, bytes(plain));
    assert.equal(Buffer.from(encrypted).toString("hex"), sealed + tag);
    const decrypted = await crypto.subtle.decrypt(algorithm, imported, bytes(sealed + tag));
    assert.equal(Buffer.from(decrypted).toString("hex"), plain);
  });
}

/** The key id, by its documentation. */
function kidByHand(key: string): string {
  return createHash("sha256").update("kid").update(bytes(key)).digest("hex").slice(0, 8);
}

/** The additional data, by its documentation. */
function additionalByHand(kid: string, { column, githubUserId }: Place): Uint8Array {
  return Buffer.from(`token-pool|v1|${kid}|${column}|${githubUserId}`);
}

function sealByHand(text: string, key: string, nonce: Uint8Array, place: Place): string {
  const kid = kidByHand(key);
  const cipher = createCipheriv("aes-256-gcm", bytes(key), nonce).setAAD(additionalByHand(kid, place));
  const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()]);
  return ["v1", kid, Buffer.from(nonce).toString("base64url"), sealed.toString("base64url")].join(".");
}

function openByHand(sealed: string, key: string, place: Place): string {
  const [, kid, nonce, text] = sealed.split(".") as [string, string, string, string];
  const all = Buffer.from(text, "base64url");
  const decipher = createDecipheriv("aes-256-gcm", bytes(key), Buffer.from(nonce, "base64url"));
  decipher.setAAD(additionalByHand(kid, place)).setAuthTag(all.subarray(-16));
  return Buffer.concat([decipher.update(all.subarray(0, -16)), decipher.final()]).toString("utf8");
}

const GOLDEN_KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const GOLDEN_NONCE = "f0f1f2f3f4f5f6f7f8f9fafb";
/** Made once, by two other implementations. If this has to change, no database can be read any more. */
const GOLDEN = "v1.1eb40cd9.8PHy8_T19vf4-fr7.Dm4sXxtVvhD6maP15S8M4niALYxdcSrqATdAC2uljriyGThZ61qWSsjYew";

Deno.test("Keyring.seal() writes the golden text, to the letter", async () => {
  const asked: number[] = [];
  const keyring = await Keyring.from(GOLDEN_KEY, [], (length) => {
    asked.push(length);
    return bytes(GOLDEN_NONCE);
  });
  assert.equal(await keyring.seal(TOKEN, PLACE), GOLDEN);
  assert.deepEqual(asked, [12], "96 bits for the nonce, and nothing else");
  assert.equal(await keyring.open(GOLDEN, PLACE), TOKEN);
  assert.equal(keyring.kid, "1eb40cd9");
});

Deno.test("Keyring.seal() writes what node:crypto opens by the documentation", async () => {
  assert.equal(openByHand(GOLDEN, GOLDEN_KEY, PLACE), TOKEN);
  const keyring = await Keyring.from(KEY);
  for (const place of [PLACE, { column: "refresh_token", githubUserId: "1" }, { column: "canary", githubUserId: "" }]) {
    assert.equal(openByHand(await keyring.seal(TOKEN, place), KEY, place), TOKEN);
  }
});

Deno.test("Keyring.open() opens what node:crypto seals by the documentation", async () => {
  const keyring = await Keyring.from(KEY);
  const sealed = sealByHand(TOKEN, KEY, bytes("0102030405060708090a0b0c"), PLACE);
  assert.equal(await keyring.open(sealed, PLACE), TOKEN);
});

Deno.test("Keyring.seal() writes v1.<kid>.<nonce>.<ciphertext and tag>", async () => {
  const keyring = await Keyring.from(KEY);
  const sealed = await keyring.seal(TOKEN, PLACE);
  assert.match(sealed, /^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]+$/);
  const [, kid, nonce, text] = sealed.split(".");
  assert.equal(kid, kidByHand(KEY));
  assert.equal(Buffer.from(nonce!, "base64url").length, 12);
  assert.equal(Buffer.from(text!, "base64url").length, Buffer.byteLength(TOKEN) + 16);
  assert.ok(!sealed.includes(TOKEN) && !sealed.includes("="));
});

Deno.test("Keyring.kid is of the key's bytes, however they are spelled", async () => {
  for (const key of [KEY, OTHER_KEY, GOLDEN_KEY, KEY.toUpperCase()]) {
    assert.equal((await Keyring.from(key)).kid, kidByHand(key));
  }
  const shouting = await Keyring.from(OTHER_KEY.toUpperCase());
  assert.equal(await shouting.open(await (await Keyring.from(OTHER_KEY)).seal(TOKEN, PLACE), PLACE), TOKEN);
});

Deno.test("Keyring.seal() takes a fresh nonce every time", async () => {
  const keyring = await Keyring.from(KEY);
  const sealed = await Promise.all(Array.from({ length: 10_000 }, () => keyring.seal("x", PLACE)));
  assert.equal(new Set(sealed.map((text) => text.split(".")[2])).size, 10_000);
});

Deno.test("Keyring.open() opens nowhere but in the place that it was sealed for", async () => {
  const keyring = await Keyring.from(KEY);
  const sealed = await keyring.seal(TOKEN, PLACE);
  const places: Place[] = [
    { ...PLACE, githubUserId: "583232" },
    { ...PLACE, githubUserId: "58323" },
    { ...PLACE, githubUserId: "" },
    { ...PLACE, githubUserId: " 583231" },
    { ...PLACE, column: "refresh_token" },
    { ...PLACE, column: "Token" },
    { ...PLACE, column: "" },
    { column: PLACE.githubUserId, githubUserId: PLACE.column },
  ];
  for (const place of places) assert.equal(await keyring.open(sealed, place), null, JSON.stringify(place));
  assert.equal(await keyring.open(sealed, PLACE), TOKEN);
});

Deno.test("Keyring.open() answers null when any one character has changed, whichever and to whatever", async () => {
  const keyring = await Keyring.from(GOLDEN_KEY, [KEY]);
  for (let at = 0; at < GOLDEN.length; at++) {
    for (const character of `${BASE64URL}.+/= \n\u0000é`) {
      if (character === GOLDEN[at]) continue;
      const damaged = GOLDEN.slice(0, at) + character + GOLDEN.slice(at + 1);
      assert.equal(await keyring.open(damaged, PLACE), null, damaged);
    }
  }
});

Deno.test("Keyring.open() answers null when characters are missing or too many", async () => {
  const keyring = await Keyring.from(GOLDEN_KEY);
  for (let at = 0; at < GOLDEN.length; at++) {
    assert.equal(await keyring.open(GOLDEN.slice(0, at), PLACE), null, `the first ${at}`);
    assert.equal(await keyring.open(GOLDEN.slice(0, at) + GOLDEN.slice(at + 1), PLACE), null, `all but number ${at}`);
  }
  for (const extra of ["A", "=", "==", ".", ".x", " ", "\n"]) {
    assert.equal(await keyring.open(GOLDEN + extra, PLACE), null, JSON.stringify(`…${extra}`));
    assert.equal(await keyring.open(extra + GOLDEN, PLACE), null, JSON.stringify(`${extra}…`));
  }
});

Deno.test("Keyring.open() answers null to other forms", async () => {
  const keyring = await Keyring.from(GOLDEN_KEY);
  const [version, kid, nonce, text] = GOLDEN.split(".") as [string, string, string, string];
  const forms = [
    "",
    ".",
    "....",
    TOKEN,
    "v1",
    [kid, nonce, text].join("."), // the prefix was stripped
    ["v2", kid, nonce, text].join("."),
    ["V1", kid, nonce, text].join("."),
    [version, kid.toUpperCase(), nonce, text].join("."),
    [version, "", nonce, text].join("."),
    [version, kid, "", text].join("."),
    [version, kid, nonce, ""].join("."),
    [version, kid, nonce, "AAAA"].join("."), // shorter than a tag
    [version, kid, text, nonce].join("."),
    [version, kid, nonce, text, ""].join("."),
    [version, kid, `${nonce}AAAA`, text].join("."), // a nonce of 15 bytes
    [version, "__proto__", nonce, text].join("."),
  ];
  for (const form of forms) assert.equal(await keyring.open(form, PLACE), null, form);
});

Deno.test("Keyring.open() knows one spelling of a text only, so that no text has a twin", async () => {
  const keyring = await Keyring.from(GOLDEN_KEY);
  const [version, kid, nonce, text] = GOLDEN.split(".") as [string, string, string, string];
  const same = Buffer.from(text, "base64url");
  // 43 bytes leave 4 bits of the last character without a meaning: 15 other spellings decode to the same
  const last = BASE64URL.indexOf(text.at(-1)!);
  const twins = Array.from({ length: 15 }, (_, index) => text.slice(0, -1) + BASE64URL[last + index + 1]!);
  assert.equal(last % 16, 0);
  for (
    const twin of [...twins, `${text}==`, ` ${text}`, same.toString("base64"), `${text.slice(0, 8)}\n${text.slice(8)}`]
  ) {
    assert.ok(same.equals(Buffer.from(twin, "base64url")), "a lenient decoder takes it for the same");
    assert.equal(await keyring.open([version, kid, nonce, twin].join("."), PLACE), null, twin);
  }
});

Deno.test("Keyring.open() opens texts of previous keys, and seal() never uses them", async () => {
  const old = await Keyring.from(OTHER_KEY);
  const sealedBefore = await old.seal(TOKEN, PLACE);
  const rotated = await Keyring.from(KEY, [GOLDEN_KEY, OTHER_KEY]);
  assert.equal(await rotated.open(sealedBefore, PLACE), TOKEN);
  assert.equal(await rotated.open(GOLDEN, PLACE), TOKEN);
  assert.equal(await rotated.open(sealedBefore, { ...PLACE, githubUserId: "1" }), null);
  assert.equal(rotated.kid, kidByHand(KEY));
  for (let n = 0; n < 20; n++) assert.equal((await rotated.seal(TOKEN, PLACE)).split(".")[1], kidByHand(KEY));
});

Deno.test("Keyring.open() answers null to a key that it does not have", async () => {
  const sealed = await (await Keyring.from(OTHER_KEY)).seal(TOKEN, PLACE);
  const keyring = await Keyring.from(KEY);
  assert.equal(await keyring.open(sealed, PLACE), null);
  const relabelled = sealed.replace(kidByHand(OTHER_KEY), kidByHand(KEY));
  assert.equal(await keyring.open(relabelled, PLACE), null);
});

Deno.test("Keyring.from() is not confused by a key that is current and previous", async () => {
  const keyring = await Keyring.from(KEY, [KEY, OTHER_KEY, OTHER_KEY]);
  const sealed = await keyring.seal(TOKEN, PLACE);
  assert.equal(sealed.split(".")[1], kidByHand(KEY));
  assert.equal(await keyring.open(sealed, PLACE), TOKEN);
});

Deno.test("Keyring.open() gives back what was sealed, an empty text and any script included", async () => {
  const keyring = await Keyring.from(KEY);
  const texts = ["", " ", "\u0000", "naïve café", "令牌 🗝️", "\uFEFFafter a byte order mark", "x".repeat(100_000)];
  for (const text of texts) {
    const sealed = await keyring.seal(text, PLACE);
    assert.equal(await keyring.open(sealed, PLACE), text, JSON.stringify(text.slice(0, 40)));
  }
});

Deno.test("Keyring.open() gives back any text, in any place", async () => {
  const keyring = await Keyring.from(KEY);
  const text = fc.string({ unit: "grapheme" }).filter((text) => !text.startsWith("\uFEFF")); // which has a test above
  const place = fc.record({ column: fc.constantFrom("token", "refresh_token"), githubUserId: fc.string() });
  await fc.assert(
    fc.asyncProperty(text, place, async (text, place) => {
      assert.equal(await keyring.open(await keyring.seal(text, place), place), text);
    }),
    { numRuns: 300 },
  );
});

Deno.test("Keyring.macs() are HMAC-SHA-256 by keys that HKDF derives for each purpose, as node:crypto computes them", async () => {
  const keyring = await Keyring.from(KEY, [OTHER_KEY]);
  const expected = [KEY, OTHER_KEY].map((key) => {
    const root = hkdfSync("sha256", Buffer.from(key, "hex"), "", "token-pool|v1|tombstone", 32);
    return createHmac("sha256", new Uint8Array(root)).update("583231").digest("base64url");
  });
  const macs = await keyring.macs("tombstone", "583231");
  assert.deepEqual(macs.map(({ mac }) => mac), expected);
  assert.deepEqual(macs.map(({ kid }) => kid), keyring.kids);
  assert.equal(keyring.kids[0], keyring.kid);
  assert.deepEqual(await keyring.macs("tombstone", "583231"), macs, "the same again");
  const others = [...await keyring.macs("backup", "583231"), ...await keyring.macs("tombstone", "583232")];
  assert.equal(new Set([...others, ...macs].map(({ mac }) => mac)).size, 6);
});

Deno.test("Keyring.from() refuses malformed keys with a RangeError that does not hold them", async () => {
  const half = KEY.slice(32);
  for (const key of ["", half, KEY.slice(1), `${KEY}00`, `${KEY.slice(1)}g`, ` ${KEY}`, `${KEY}\n`, "canary sings"]) {
    for (const keys of [[key], [KEY, key]] as const) {
      const [current, ...previous] = keys;
      await assert.rejects(Keyring.from(current, previous), (error) => {
        assert.ok(error instanceof RangeError);
        assert.match(error.message, /must be exactly 64 hex digits/);
        assert.ok(error.message.includes(`${key.length} characters`), error.message);
        for (const text of [error.message, String(error.stack)]) {
          assert.ok(!text.includes(half) && !text.includes("canary"), text);
        }
        return true;
      });
    }
  }
});

Deno.test("Keyring shows no key when it is printed", async () => {
  const keyring = await Keyring.from(KEY, [OTHER_KEY]);
  const shown = [Deno.inspect(keyring, { depth: 9, showHidden: true }), JSON.stringify(keyring), String(keyring)];
  for (const text of shown) {
    for (const key of [KEY, OTHER_KEY]) assert.ok(!text.includes(key.slice(0, 16)), text);
  }
});

Deno.test("Keyring makes keys that nobody can export", async () => {
  const { importKey, deriveKey } = crypto.subtle;
  const made: Promise<CryptoKey>[] = [];
  const noted = (make: (...args: never[]) => Promise<CryptoKey>) => (...args: never[]) => {
    made.push(make.apply(crypto.subtle, args));
    return made.at(-1)!;
  };
  Object.assign(crypto.subtle, { importKey: noted(importKey), deriveKey: noted(deriveKey) });
  try {
    await (await Keyring.from(KEY)).macs("tombstone", "583231");
  } finally {
    Object.assign(crypto.subtle, { importKey, deriveKey });
  }
  const keys = await Promise.all(made);
  assert.deepEqual(keys.map(({ algorithm }) => algorithm.name), ["AES-GCM", "HKDF", "HMAC"]);
  assert.deepEqual(keys.map(({ extractable }) => extractable), [false, false, false]);
});

Deno.test("isKey() is true of 64 hex digits only", () => {
  for (const key of [KEY, OTHER_KEY, KEY.toUpperCase(), GOLDEN_KEY]) assert.equal(isKey(key), true);
  for (const text of ["", KEY.slice(1), `${KEY}0`, `${KEY}\n`, ` ${KEY.slice(1)}`, "g".repeat(64), "٣".repeat(64)]) {
    assert.equal(isKey(text), false, JSON.stringify(text));
  }
});

Deno.test("sha256Base64Url() makes the challenge of RFC 7636, appendix B", async () => {
  const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
  assert.equal(await sha256Base64Url(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
  for (const text of ["", "naïve", "令牌"]) {
    assert.equal(await sha256Base64Url(text), createHash("sha256").update(text).digest("base64url"));
  }
});

Deno.test("randomText() is a verifier of RFC 7636: 43 base64url characters, never the same twice", () => {
  const texts = Array.from({ length: 1000 }, randomText);
  for (const text of texts) assert.match(text, /^[A-Za-z0-9_-]{43}$/);
  assert.equal(new Set(texts).size, 1000);
});

Deno.test("isSameText() is true of the same text only", async () => {
  for (const text of ["", "state", "令牌", "x".repeat(1000)]) assert.equal(await isSameText(text, `${text}`), true);
  const pairs = [["", "x"], ["state", "State"], ["state", "state "], ["state", "stat"], ["é", "e\u0301"], ["ab", "ba"]];
  for (const [one, other] of pairs) {
    assert.equal(await isSameText(one!, other!), false);
    assert.equal(await isSameText(other!, one!), false);
  }
});
