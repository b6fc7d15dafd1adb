/**
 * A guard before what costs something: so many requests a minute from one address, and so many in all. Kept in memory
 * by each process, so it is a brake and no proof; nothing is asked of the database or of GitHub to find out.
 *
 * Addresses are hashed with a key that is made anew with each process and never leaves it, and forgotten with their
 * minute. Each route has budgets of its own: a flood at one leaves the others open, above all the way out.
 *
 * @module
 */

import { randomText, sha256Base64Url } from "./crypto.ts";

/** What a guard allows; each has a generous default. */
export interface RateGuardOptions {
  /** Epoch milliseconds. */
  now: () => number;
  /** Requests per minute, route and address. */
  perAddress?: number;
  /** Requests per minute and route. */
  inAll?: number;
  /** Addresses that are remembered at once. */
  addressesAtMost?: number;
}

const WINDOW_MS = 60_000;

interface Window {
  count: number;
  endsAt: number;
}

/** Counts requests by route and address. */
export class RateGuard {
  readonly #options: Required<RateGuardOptions>;
  readonly #key = randomText();
  readonly #routes = new Map<string, Window>();
  /** In the order in which their windows end, since all windows are of one length. */
  readonly #addresses = new Map<string, Window>();

  constructor(options: RateGuardOptions) {
    this.#options = { perAddress: 30, inAll: 600, addressesAtMost: 10_000, ...options };
  }

  /** How many addresses are remembered. */
  get size(): number {
    return this.#addresses.size;
  }

  /**
   * Counts a request, unless it is one too many.
   *
   * @param route One of the app's own routes.
   * @param address Where the request came from; null when that is not known, and then only the budget in all counts.
   * @returns Null when it may pass, else the seconds after which to try again.
   */
  async admit(route: string, address: string | null): Promise<number | null> {
    const name = address === null ? null : await sha256Base64Url(`${this.#key} ${route} ${networkOf(address)}`);
    const now = this.#options.now();
    const all = running(this.#routes.get(route), now);
    const own = name === null ? null : running(this.#addresses.get(name), now);
    // One's own budget first: who has spent it does not spend everybody's.
    if (own !== null && own.count >= this.#options.perAddress) return secondsUntil(own.endsAt, now);
    if (all.count >= this.#options.inAll) return secondsUntil(all.endsAt, now);
    all.count++;
    this.#routes.set(route, all);
    if (own !== null && own.count++ === 0) {
      this.#makeRoom(now);
      this.#addresses.delete(name!); // so that it is put at the end
      this.#addresses.set(name!, own);
    }
    return null;
  }

  /** Forgets what is over, and when all is full, whose window ends first. */
  #makeRoom(now: number): void {
    for (const [name, window] of this.#addresses) {
      if (isRunning(window, now) && this.#addresses.size < this.#options.addressesAtMost) break;
      this.#addresses.delete(name);
    }
  }
}

function isRunning({ endsAt }: Window, now: number): boolean {
  return now < endsAt && endsAt - now <= WINDOW_MS; // a clock that was set back locks nobody out
}

function running(window: Window | undefined, now: number): Window {
  return window !== undefined && isRunning(window, now) ? window : { count: 0, endsAt: now + WINDOW_MS };
}

function secondsUntil(time: number, now: number): number {
  return Math.max(1, Math.ceil((time - now) / 1000));
}

/** What belongs to one subscriber: an IPv4 address, or the first half of an IPv6 address (RFC 6177). */
function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(":")) return mapped ?? address;
  const [head = "", tail] = address.toLowerCase().split("%")[0]!.split("::");
  const groups = (text: string) => text === "" ? [] : text.split(":");
  const [before, after] = [groups(head), groups(tail ?? "")];
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length);
  return [...before, ...Array<string>(zeros).fill("0"), ...after].slice(0, 4).map((group) =>
    group.replace(/^0+(?=.)/, "")
  )
    .join(":");
}

/**
 * Whether an address is of this machine, of its own network, or of those that providers share among their machines (RFC
 * 6598). Then it is a proxy's rather than a visitor's, and must not stand for all who come through it.
 */
export function isLocalAddress(address: string): boolean {
  const plain = address.toLowerCase().replace(/^::ffff:(?=\d+\.)/, "");
  return plain === "::1" || /^(?:127|10)\./.test(plain) || /^192\.168\./.test(plain) ||
    /^172\.(?:1[6-9]|2\d|3[01])\./.test(plain) || /^169\.254\./.test(plain) ||
    /^100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\./.test(plain) ||
    /^(?:f[cd][0-9a-f]{2}|fe[89ab][0-9a-f]):/.test(plain);
}
