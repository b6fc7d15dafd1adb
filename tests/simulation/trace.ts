/**
 * What happened, in order: the last lines to read, and a hash of all of them to compare two runs by.
 *
 * @module
 */

import { hash } from "./random.ts";

/** So many lines are kept when not all are. */
const LINES_KEPT = 40;

/** A trace. */
export class Trace {
  readonly #keepsAll: boolean;
  readonly #lines: string[] = [];
  /** FNV-1a of all lines, twice, from different beginnings. */
  #hash: [number, number] = [0x811c9dc5, 0x2545f491];

  /** @param keepsAll Whether every line is kept, not only the last ones. */
  constructor(keepsAll = false) {
    this.#keepsAll = keepsAll;
  }

  /** Adds a line. */
  note(line: string): void {
    this.#hash = [hash(line, this.#hash[0]), hash(line, this.#hash[1])];
    this.#lines.push(line);
    if (!this.#keepsAll && this.#lines.length > 2 * LINES_KEPT) this.#lines.splice(0, LINES_KEPT);
  }

  /** Of every line so far, in hexadecimal. */
  get hash(): string {
    return this.#hash.map((part) => part.toString(16).padStart(8, "0")).join("");
  }

  /** The last lines, or all of them. */
  get lines(): readonly string[] {
    return this.#keepsAll ? this.#lines : this.#lines.slice(-LINES_KEPT);
  }
}
