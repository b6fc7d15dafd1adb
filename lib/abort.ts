/** Giving up: what is waited for no longer, and what is let go of then. */

/** With which a caller gives up; most have none, and do not pay for one. */
export type Signal = AbortSignal | undefined;

/** What a promise brings, unless the caller gives up before. */
export async function orAborted<T>(promise: Promise<T>, signal: Signal): Promise<T> {
  if (signal === undefined) return await promise;
  let abort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort!);
  }
}

/** An answer, unless the caller gives up before; then nobody reads it. */
export async function answerTo(call: Promise<Response>, signal: Signal): Promise<Response> {
  if (signal === undefined) return await call;
  try {
    return await orAborted(call, signal);
  } catch (error) {
    if (signal.aborted) call.then(discard, () => {});
    throw error;
  }
}

/** Waits, unless the caller gives up before. */
export async function wait(ms: number, signal: Signal): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    await orAborted(new Promise<void>((resolve) => timer = setTimeout(resolve, ms)), signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Lets go of a body that nobody will read; one that has broken off is gone already. */
export async function discard({ body }: Response): Promise<void> {
  await body?.cancel().catch(() => {});
}
