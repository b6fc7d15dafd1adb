/**
 * Puts the scheduler in the place of the runtime's own time and randomness, so that the code under test runs as it
 * is: timers, clocks, nonces and jitter follow the seed. And tells when everything has come to rest: no microtask is
 * left and no call of WebCrypto is under way, which are the only things here that the runtime itself finishes. (The
 * native libSQL client does its work before it returns.) WebCrypto is answered only while somebody waits for that.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { setImmediate } from "node:timers";
import type { Random } from "./random.ts";
import type { Event, Scheduler } from "./scheduler.ts";

/** Who owns time and randomness, and how a task's own clock differs. */
export interface VirtualRuntimeOptions {
  scheduler: Scheduler;
  random: Random;
}

/** What a task is part of: its clock may be wrong. */
export interface Context {
  /** Added to the true time, in milliseconds, wherever the task reads `Date.now`. */
  readonly clockErrorMs: number;
  /** Then its timers do not ring any more. */
  readonly isOver?: boolean;
}

/** The runtime, taken over; given back when it is disposed of. */
export interface VirtualRuntime<C extends Context = Context> extends Disposable {
  /** Resolves when everything has come to rest. */
  settle(): Promise<void>;
  /** Runs something as part of a context; all that it sets off is part of it too. */
  within<T>(context: C, work: () => T): T;
  /** What the running task is part of. */
  current(): C | undefined;
}

/** All that WebCrypto does. */
const CRYPTO_CALLS = Object.getOwnPropertyNames(SubtleCrypto.prototype).filter((name) => name !== "constructor");

/** Takes the runtime over. */
export function takeOver<C extends Context = Context>(
  { scheduler, random }: VirtualRuntimeOptions,
): VirtualRuntime<C> {
  const contexts = new AsyncLocalStorage<C>();
  const timers = new Map<number, Event>();
  const startedAt = scheduler.now();
  const patches: { target: object; name: string; original: unknown }[] = [];
  /** Calls of WebCrypto that nobody has been answered yet, in the order in which they were made. */
  const cryptoCalls: { done: Promise<unknown>; answer: () => void }[] = [];
  let lastTimer = 0;

  function patch(target: object, name: string, replacement: unknown): void {
    patches.push({ target, name, original: Reflect.get(target, name) });
    Object.defineProperty(target, name, { value: replacement, configurable: true, writable: true });
  }

  function setTimeout(run: () => void, ms = 0): number {
    const id = ++lastTimer;
    const context = contexts.getStore();
    const ring = () => {
      timers.delete(id);
      if (context === undefined) run();
      else if (context.isOver !== true) contexts.run(context, run);
    };
    timers.set(id, scheduler.after(Math.max(0, ms), ring));
    return id;
  }

  function clearTimeout(id: number | undefined): void {
    timers.get(id!)?.cancel();
    timers.delete(id!);
  }

  function timeoutSignal(ms: number): AbortSignal {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new DOMException("Signal timed out.", "TimeoutError")), ms);
    return controller.signal;
  }

  function getRandomValues<T extends Uint8Array>(bytes: T): T {
    for (let index = 0; index < bytes.length; index++) bytes[index] = random.uint32() >>> 24;
    return bytes;
  }

  patch(globalThis, "setTimeout", setTimeout);
  patch(globalThis, "clearTimeout", clearTimeout);
  patch(AbortSignal, "timeout", timeoutSignal);
  patch(Date, "now", () => scheduler.now() + (contexts.getStore()?.clockErrorMs ?? 0));
  patch(performance, "now", () => scheduler.now() - startedAt);
  patch(Math, "random", () => random.next());
  patch(crypto, "getRandomValues", getRandomValues);
  for (const name of CRYPTO_CALLS) {
    const call: (...args: unknown[]) => Promise<unknown> = Reflect.get(crypto.subtle, name).bind(crypto.subtle);
    patch(crypto.subtle, name, (...args: unknown[]) => {
      const result = call(...args);
      return new Promise((resolve) => {
        cryptoCalls.push({ done: result.catch(() => {}), answer: () => resolve(result) });
      });
    });
  }

  return {
    async settle() {
      await microtasks();
      // WebCrypto answers when it likes, so it is answered for: one call after the other, in the order they were made.
      for (let next = cryptoCalls.shift(); next !== undefined; next = cryptoCalls.shift()) {
        await next.done;
        next.answer();
        await microtasks();
      }
    },
    within: (context, work) => contexts.run(context, work),
    current: () => contexts.getStore(),
    [Symbol.dispose]() {
      for (const { target, name, original } of patches.reverse()) {
        Object.defineProperty(target, name, { value: original, configurable: true, writable: true });
      }
    },
  };
}

/** Resolves when no microtask is left: a macrotask comes only then. */
function microtasks(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
