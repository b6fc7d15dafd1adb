/**
 * The cipher: AES-256-GCM by WebCrypto, with a keyring, so that keys can be rotated without a gap.
 *
 * Stored form, all parts base64url without padding:
 *
 *     v1.<kid>.<nonce, 12 bytes>.<ciphertext and tag, 16 bytes>
 *
 * `kid` = first 8 hex digits of SHA-256("kid" || key bytes): it tells which key opens a text without trying all.
 * Additional data = `token-pool|v1|<kid>|<column>|<github_user_id>`: a text that was moved to another row or column
 * does not open. Nonces are random: NIST SP 800-38D allows 2^32 texts per key that way; a pool writes some 10^5.
 *
 * What is to be recognised but never read back is authenticated instead: HMAC-SHA-256 under keys that HKDF (RFC 5869)
 * derives of the same key bytes, one for each purpose, so that no key serves two.
 *
 * Nothing of Node is imported, here or wherever a program that draws tokens passes: node:crypto and node:process take as
 * long to load as all else that a cold start does before its database.
 *
 * @module
 */

const VERSION = "v1";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HMAC: HmacKeyGenParams = { name: "HMAC", hash: "SHA-256", length: 256 };
const KEY_PATTERN = /^[0-9a-f]{64}$/i;

/** Where a sealed text belongs; it opens nowhere else. */
export interface Place {
  /** What it is, such as `token` or `refresh_token`. */
  column: string;
  /** Whose it is; empty for texts that are nobody's. */
  githubUserId: string;
}

/** A way to get random bytes; a test may pass its own. */
export type RandomBytes = (length: number) => Uint8Array<ArrayBuffer>;

/** A keyed hash, and the key that it was made with. */
export interface Mac {
  kid: string;
  /** HMAC-SHA-256, base64url, 43 characters. */
  mac: string;
}

interface Key {
  kid: string;
  /** Not extractable, as the next. */
  key: CryptoKey;
  /** What keys for other purposes are derived from. */
  root: CryptoKey;
  /** Those, by purpose. */
  derived: Map<string, Promise<CryptoKey>>;
}

/** Whether a text is a key: exactly 64 hex digits, which are 256 bits. */
export function isKey(text: string): boolean {
  return KEY_PATTERN.test(text);
}

/** The current key, which seals, and the previous ones, which only open. */
export class Keyring {
  readonly #current: Key;
  readonly #keys: ReadonlyMap<string, Key>;
  readonly #randomBytes: RandomBytes;

  private constructor(keys: Key[], randomBytes: RandomBytes) {
    this.#current = keys[0]!;
    this.#keys = new Map(keys.map((key) => [key.kid, key]));
    this.#randomBytes = randomBytes;
  }

  /**
   * Makes a keyring.
   *
   * @param current 64 hex digits: the key that seals.
   * @param previous Older keys, of the same form: they open, they never seal.
   * @param randomBytes Where nonces come from; by default the platform's secure generator.
   * @throws {RangeError} When a key is not exactly 64 hex digits; the key itself is not in the message.
   */
  static async from(
    current: string,
    previous: readonly string[] = [],
    randomBytes: RandomBytes = (length) => crypto.getRandomValues(new Uint8Array(length)),
  ): Promise<Keyring> {
    return new Keyring(await Promise.all([current, ...previous].map(importKey)), randomBytes);
  }

  /** The key id that new texts are sealed under. */
  get kid(): string {
    return this.#current.kid;
  }

  /** The key ids of all keys, the current first. */
  get kids(): string[] {
    return [...this.#keys.keys()];
  }

  /**
   * Hashes a text for one purpose under every key, the current first: who has no key cannot tell what it was, nor make
   * another that would pass for it.
   */
  async macs(purpose: string, text: string): Promise<Mac[]> {
    return await Promise.all([...this.#keys.values()].map(async ({ kid, root, derived }) => {
      let key = derived.get(purpose);
      if (key === undefined) {
        key = crypto.subtle.deriveKey(derivation(purpose), root, HMAC, false, ["sign"]);
        derived.set(purpose, key);
      }
      return { kid, mac: toBase64Url(await crypto.subtle.sign("HMAC", await key, new TextEncoder().encode(text))) };
    }));
  }

  /** Seals a text for one place, under the current key. */
  async seal(text: string, place: Place): Promise<string> {
    const { kid, key } = this.#current;
    const nonce = this.#randomBytes(NONCE_BYTES);
    const sealed = await crypto.subtle.encrypt(
      algorithm(nonce, kid, place),
      key,
      new TextEncoder().encode(text),
    );
    return [VERSION, kid, toBase64Url(nonce), toBase64Url(sealed)].join(".");
  }

  /**
   * Opens a sealed text.
   *
   * @returns The text, or null when it does not open: unknown key, other place, damaged, or not of this form. Why is
   * not told, since nobody who is entitled to the text needs to know.
   */
  async open(sealed: string, place: Place): Promise<string | null> {
    const [version, kid = "", nonceText = "", sealedText = "", ...rest] = sealed.split(".");
    const key = this.#keys.get(kid);
    if (version !== VERSION || key === undefined || rest.length > 0) return null;
    const nonce = fromBase64Url(nonceText);
    const bytes = fromBase64Url(sealedText);
    if (nonce?.length !== NONCE_BYTES || bytes === null || bytes.length < TAG_BYTES) return null;
    try {
      const opened = await crypto.subtle.decrypt(algorithm(nonce, kid, place), key.key, bytes);
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(opened);
    } catch {
      return null;
    }
  }
}

/** SHA-256 of a text, base64url: the PKCE challenge of a verifier (RFC 7636 section 4.2). */
export async function sha256Base64Url(text: string): Promise<string> {
  return toBase64Url(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

/** 256 random bits, base64url, 43 characters: a state, a PKCE verifier. */
export function randomText(): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(32)));
}

/** Whether two texts are the same, in a time that does not tell how much of them is: of that `verify` takes care. */
export async function isSameText(one: string, other: string): Promise<boolean> {
  const key = await crypto.subtle.generateKey({ name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
  const mac = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(one));
  return await crypto.subtle.verify("HMAC", key, mac, new TextEncoder().encode(other));
}

async function importKey(hex: string): Promise<Key> {
  if (!isKey(hex)) {
    throw new RangeError(
      `Cannot use an encryption key of ${hex.length} characters: it must be exactly 64 hex digits, as \`openssl rand -hex 32\` prints`,
    );
  }
  const bytes = Uint8Array.from(hex.match(/../g)!, (digits) => parseInt(digits, 16));
  const named = new Uint8Array([...new TextEncoder().encode("kid"), ...bytes]);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", named));
  const kid = Array.from(digest.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const [key, root] = await Promise.all([
    crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]),
    crypto.subtle.importKey("raw", bytes, "HKDF", false, ["deriveKey"]),
  ]);
  return { kid, key, root, derived: new Map() };
}

function derivation(purpose: string): HkdfParams {
  const info = new TextEncoder().encode(`token-pool|${VERSION}|${purpose}`);
  return { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info };
}

function algorithm(nonce: Uint8Array<ArrayBuffer>, kid: string, place: Place): AesGcmParams {
  const bound = `token-pool|${VERSION}|${kid}|${place.column}|${place.githubUserId}`;
  return { name: "AES-GCM", iv: nonce, additionalData: new TextEncoder().encode(bound), tagLength: TAG_BYTES * 8 };
}

function toBase64Url(bytes: ArrayBuffer | Uint8Array<ArrayBuffer>): string {
  const text = btoa(String.fromCharCode(...new Uint8Array(bytes)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function fromBase64Url(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    const decoded = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(decoded, (character) => character.charCodeAt(0));
    // Only the one canonical spelling may open, so that no text has a twin.
    return toBase64Url(bytes) === text ? bytes : null;
  } catch {
    return null; // not base64 at all
  }
}
