/**
 * Giving up leaves nothing behind: a signal may outlive many calls.
 *
 * @module
 */

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { AnswerDeadline, orAborted, wait } from "../lib/abort.ts";

Deno.test("orAborted() and wait() leave no listener at the signal, however they end", async () => {
  const { signal } = new AbortController();
  assert.equal(await orAborted(Promise.resolve("answer"), signal), "answer");
  await assert.rejects(orAborted(Promise.reject(new Error("no answer")), signal), /no answer/);
  await wait(0, signal);
  assert.deepEqual(getEventListeners(signal, "abort"), []);

  const controller = new AbortController();
  const goes = orAborted(new Promise(() => {}), controller.signal);
  assert.equal(getEventListeners(controller.signal, "abort").length, 1);
  controller.abort(new Error("enough"));
  await assert.rejects(goes, /enough/);
  assert.deepEqual(getEventListeners(controller.signal, "abort"), []);
});

Deno.test("AnswerDeadline gives up what is late, again and again, and not what has ended", async () => {
  const deadline = new AnswerDeadline(2);
  const late = ({ signal }: AbortController) => new Promise((resolve) => signal.addEventListener("abort", resolve));
  for (let round = 0; round < 3; round++) {
    const [ended, ...others] = [deadline.begin(), deadline.begin(), deadline.begin()];
    deadline.end(ended!);
    // Nobody says that these have ended: a fetch may be deaf to its signal.
    await Promise.all(others.map(late));
    for (const { signal } of others) assert.equal(signal.reason.name, "TimeoutError");
    assert.equal(ended!.signal.aborted, false);
  }
});
