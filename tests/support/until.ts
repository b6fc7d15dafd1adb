/** Waiting for something that another process, or another thread, is about to bring about. */

/** No machine is so slow; what is not so by then never will be. */
const LONGEST_MS = 60_000;

/**
 * Asks until the answer is yes.
 *
 * @param what What is waited for, to be said when it does not come.
 */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, ms = LONGEST_MS): Promise<void> {
  const givesUpAt = performance.now() + ms;
  while (!await isSo()) {
    if (performance.now() > givesUpAt) throw new Error(`Waited ${ms / 1000} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
