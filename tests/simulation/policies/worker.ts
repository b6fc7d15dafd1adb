/**
 * Measures in a thread of its own, so that as many runs as there are processors go on at once: each has the runtime's
 * clock to itself.
 *
 * @module
 */

import { POLICIES } from "./all.ts";
import { LOADS } from "./loads.ts";
import { measure } from "./measure.ts";
import type { Job, Run } from "./results.ts";

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<Job>) => void;
  postMessage(run: Run): void;
};

thread.onmessage = async ({ data: job }) => {
  const policy = POLICIES.find(({ name }) => name === job.policy)!;
  const load = LOADS.find(({ name }) => name === job.load)!;
  thread.postMessage({ ...job, counts: await measure(policy, load, job.seed) });
};
