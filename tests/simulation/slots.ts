/**
 * Places for processes: when one crashes another takes its place on the same database.
 *
 * @module
 */

import { Stats } from "../../lib/stats.ts";
import type { SimulatedProcess } from "./process.ts";
import type { World } from "./world.ts";

/** A place. */
export class Slot {
  readonly #world: World;
  readonly #name: string;
  readonly #onStart: (process: SimulatedProcess) => void;
  readonly #cache: boolean;
  #process: SimulatedProcess;
  #stats: Stats;
  #count = 0;

  /** @param onStart Called with each process that takes the place, the first among them. */
  constructor(
    world: World,
    name: string,
    { cache = false, onStart = () => {} }: { cache?: boolean; onStart?: (process: SimulatedProcess) => void } = {},
  ) {
    this.#world = world;
    this.#name = name;
    this.#cache = cache;
    this.#onStart = onStart;
    this.#process = this.#start();
    this.#stats = new Stats(this.#process.vault);
  }

  /** Who is in the place. */
  get process(): SimulatedProcess {
    return this.#process;
  }

  /** Looks at the dashboard's figures, as the service shows them. */
  async look(): Promise<void> {
    const outcome = await this.#world.perform(this.#process, "stats", () => this.#stats.snapshot());
    if (outcome.kind === "done") this.#world.said(JSON.stringify(outcome.value), "the figures of the dashboard");
  }

  #start(): SimulatedProcess {
    const world = this.#world;
    const process = world.start(`${this.#name}.${++this.#count}`, { cache: this.#cache });
    void process.crashed.then(() => {
      // At once, so that nobody meets an empty place; it is slow to begin.
      this.#process = this.#start();
      this.#stats = new Stats(this.#process.vault);
    });
    this.#onStart(process);
    return process;
  }
}
