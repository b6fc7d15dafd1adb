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
    else signal.addEventListener("abort", abort);
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

/**
 * Gives up what has not answered in time. One alarm serves all that is waited for, since one for each would take a tenth
 * as long as a call. Nobody listens to it while nothing is waited for, so it does not keep a process from ending.
 */
export class AnswerDeadline {
  readonly #ms: number;
  /** When each is late, in the order in which they will be. */
  readonly #lateAt = new Map<AbortController, number>();
  /** Goes off when the first of them may be late. */
  #alarm: AbortSignal | null = null;

  /** @param ms How long an answer may take, in milliseconds. */
  constructor(ms: number) {
    this.#ms = ms;
  }

  /** Begins to wait for an answer; its signal is aborted when it is late. */
  begin(): AbortController {
    const controller = new AbortController();
    this.#lateAt.set(controller, performance.now() + this.#ms);
    if (this.#alarm === null || this.#alarm.aborted) this.#alarm = AbortSignal.timeout(this.#ms);
    if (this.#lateAt.size === 1) this.#alarm.addEventListener("abort", this.#giveUp);
    return controller;
  }

  /** There is an answer, or there will be none. */
  end(controller: AbortController): void {
    this.#lateAt.delete(controller);
    if (this.#lateAt.size === 0) this.#alarm?.removeEventListener("abort", this.#giveUp);
  }

  readonly #giveUp = (): void => {
    const now = performance.now();
    for (const [controller, lateAt] of this.#lateAt) {
      if (lateAt > now) {
        this.#alarm = AbortSignal.timeout(Math.ceil(lateAt - now));
        return this.#alarm.addEventListener("abort", this.#giveUp);
      }
      this.#lateAt.delete(controller);
      controller.abort(new DOMException(`No answer within ${this.#ms} ms`, "TimeoutError"));
    }
  };
}

/** Lets go of a body that nobody will read; one that has broken off is gone already. */
export async function discard({ body }: Response): Promise<void> {
  await body?.cancel().catch(() => {});
}
