/**
 * Time and order, owned by a seed: a virtual clock and a queue of events.
 *
 * A task is ordinary async code. It waits only for events of this queue (an answer of the database or of GitHub, a
 * pause), and the next event happens only when all that the last one set off has come to rest. So between two events
 * nothing is under way, and what is due at the same time happens in an order that the seed chooses. Nothing waits in
 * real time.
 *
 * @module
 */

import type { Random } from "./random.ts";

/** Something that is to happen. */
export interface Event {
  /** Epoch milliseconds. */
  readonly at: number;
  /** Then it does not happen, and the clock does not stop at it. */
  cancel(): void;
}

interface Entry extends Event {
  /** Orders what is due at the same time. */
  tie: number;
  run: (() => void) | null;
}

/** How long to go on. */
export interface RunOptions {
  /** Epoch milliseconds; what is due later stays in the queue. Default: until nothing is left. */
  until?: number;
  /** At most so many events. Default: no bound. */
  events?: number;
}

/** What has to come to rest after each event, and what then is looked at. */
export interface RunAsyncOptions extends RunOptions {
  /** Resolves when all that the last event set off has come to rest. */
  settle: () => Promise<void>;
  /** Called after each event, at rest. When it returns true, the run ends. */
  afterEvent?: () => boolean | Promise<boolean>;
}

/** A clock that stands still but when it is told to go on, and what is to happen. */
export class Scheduler {
  readonly #random: Random;
  readonly #heap: Entry[] = [];
  #now: number;
  #events = 0;

  /**
   * @param random Chooses the order of what is due at the same time.
   * @param startMs Epoch milliseconds.
   */
  constructor(random: Random, startMs: number) {
    this.#random = random;
    this.#now = startMs;
  }

  /** Epoch milliseconds. A function of its own, so that it can be passed on. */
  readonly now = (): number => this.#now;

  /** How many events have happened. */
  get events(): number {
    return this.#events;
  }

  /** Lets something happen at a time, or now if that is past. */
  at(time: number, run: () => void): Event {
    const entry: Entry = {
      at: Math.max(this.#now, Math.ceil(time)),
      tie: this.#random.uint32(),
      run,
      cancel: () => entry.run = null,
    };
    this.#push(entry);
    return entry;
  }

  /** Lets something happen after so many milliseconds. */
  after(ms: number, run: () => void): Event {
    return this.at(this.#now + ms, run);
  }

  /** Resolves after so many milliseconds. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Runs events of which none sets off anything asynchronous: the fast way. */
  run({ until = Infinity, events = Infinity }: RunOptions = {}): void {
    for (let n = 0; n < events && this.#step(until); n++);
    if (until !== Infinity && events === Infinity) this.#now = Math.max(this.#now, until);
  }

  /** Runs events, each when all before it has come to rest. */
  async runAsync({ until = Infinity, events = Infinity, settle, afterEvent }: RunAsyncOptions): Promise<void> {
    await settle();
    for (let n = 0; n < events && this.#step(until); n++) {
      await settle();
      if (afterEvent !== undefined && await afterEvent()) return;
    }
    if (until !== Infinity && events === Infinity) this.#now = Math.max(this.#now, until);
  }

  /** Lets the next event happen. Returns whether there was one by `until`. */
  #step(until: number): boolean {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || (next.at > until && next.run !== null)) return false;
      this.#pop();
      if (next.run === null) continue;
      this.#now = next.at;
      this.#events++;
      next.run();
      return true;
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(entry);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(entry, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
  }
}

function isBefore(one: Entry, other: Entry): boolean {
  return one.at < other.at || (one.at === other.at && one.tie < other.tie);
}
