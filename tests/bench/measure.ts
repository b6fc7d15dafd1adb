/** How figures are taken: pairs, interleaved in one run, because machines differ and are noisy; medians of the rounds. */

/** A figure, and what it is held against. */
export interface Figure {
  name: string;
  value: number;
  /** `ratio`: how often ours fits into the time of the floor, 1 = as fast; `factor`: how many times the floor. */
  unit: "ratio" | "factor" | "per second" | "per call" | "ms";
  /** The least that is wanted, or the most; null = for information. */
  target: { atLeast: number } | { atMost: number } | null;
  /** What was measured on both sides, for people. */
  detail: string;
}

/** Whether a figure is as good as is wanted; null when nothing is. */
export function isMet({ value, target }: Figure): boolean | null {
  if (target === null) return null;
  return "atLeast" in target ? value >= target.atLeast : value <= target.atMost;
}

/** The value in the middle. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

/** Something that takes time. */
export type Run = () => Promise<unknown>;

/** How two ways are compared. */
export interface Comparison {
  name: string;
  ours: Run;
  floor: Run;
  target: Figure["target"];
  /** Calls in a round. */
  times: number;
  /** What must be so before a round of ours, and is not measured. */
  before?: Run;
  rounds?: number;
}

const ROUNDS = 15;
const WARM_UP_ROUNDS = 2;

/** Measures two ways in turn, `times` calls a round. */
export async function compare(comparison: Comparison): Promise<Figure> {
  const { name, ours, floor, target, times, before, rounds = ROUNDS } = comparison;
  const samples: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds + WARM_UP_ROUNDS; round++) {
    for (const [index, run] of [ours, floor].entries()) {
      if (run === ours) await before?.();
      // What the other way has left behind is freed when the event loop turns, and is not to be this one's to pay for.
      await new Promise((resolve) => setImmediate(resolve));
      const start = performance.now();
      for (let n = 0; n < times; n++) await run();
      if (round >= WARM_UP_ROUNDS) samples[index]!.push((performance.now() - start) / times * 1000);
    }
  }
  const [oursUs, floorUs] = samples.map(median) as [number, number];
  return { name, value: floorUs / oursUs, unit: "ratio", target, detail: `${us(oursUs)}, floor ${us(floorUs)}` };
}

function us(microseconds: number): string {
  return `${microseconds.toFixed(0)} µs`;
}
