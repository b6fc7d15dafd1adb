/**
 * Randomness that a seed owns: the same seed, the same numbers, on every machine.
 *
 * The generator is sfc32 by Chris Doty-Humphrey (PractRand, public domain): 128 bits of state with a counter among
 * them, so no seed has a cycle shorter than 2^32, and only 32-bit integer operations, which JavaScript has. A seed is a text; it is
 * spread over the state by FNV-1a (Fowler, Noll and Vo, public domain), and the first 15 outputs are dropped, as
 * PractRand does.
 *
 * @module
 */

/** One stream of numbers. */
export class Random {
  readonly #seed: string;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** @param seed A number or a text; equal seeds are equal streams. */
  constructor(seed: number | string) {
    this.#seed = String(seed);
    [this.#a, this.#b, this.#c] = [hash(`a${this.#seed}`), hash(`b${this.#seed}`), hash(`c${this.#seed}`)];
    for (let n = 0; n < 15; n++) this.uint32();
  }

  /** A whole number from 0 to 2^32 - 1. */
  uint32(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** A number from 0 to 1, without 1. */
  next(): number {
    return this.uint32() / 2 ** 32;
  }

  /** A whole number from `least` to `most`, both among them. */
  int(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  /** True with this probability. Draws a number in any case, so that a changed probability does not shift the stream. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of a list that is not empty. */
  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError("Cannot pick from an empty list");
    return list[this.int(0, list.length - 1)]!;
  }

  /** The same elements in another order (Fisher and Yates). */
  shuffle<T>(list: readonly T[]): T[] {
    const shuffled = [...list];
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = this.int(0, last);
      [shuffled[last], shuffled[other]] = [shuffled[other]!, shuffled[last]!];
    }
    return shuffled;
  }

  /** A stream of its own, which neither disturbs this one nor depends on what this one has given. */
  fork(name: string): Random {
    return new Random(`${this.#seed}/${name}`);
  }
}

/** FNV-1a, 32 bits. */
export function hash(text: string, basis = 0x811c9dc5): number {
  let value = basis;
  for (let index = 0; index < text.length; index++) value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  return value >>> 0;
}
