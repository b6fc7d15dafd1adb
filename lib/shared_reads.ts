/**
 * Equal reads in flight are one call: GitHub is asked once, and each caller has an answer of its own.
 *
 * @module
 */

import { answerTo, discard, orAborted, type Signal } from "./abort.ts";
import { ApiResponse } from "./api_response.ts";
import { isText } from "./response_cache.ts";

/** A call, with who began it and who joined. */
interface SharedRead {
  signal: Signal;
  guests: number;
  /** One for each guest, once there is an answer. */
  copies: Response[];
}

/** The same, with what they wait for. */
interface UnderWay extends SharedRead {
  answer: Promise<Response>;
}

/** Reads that are under way. */
export class SharedReads {
  readonly #underWay = new Map<string, UnderWay>();

  /**
   * Makes a call, or waits for an equal one that is under way.
   *
   * @param key What makes two calls equal.
   * @param signal With which this caller gives up, which does not end the call for others.
   */
  async share(key: string, signal: Signal, call: () => Promise<Response>): Promise<Response> {
    const joined = this.#underWay.get(key);
    if (joined !== undefined && !hasGivenUp(joined.signal)) {
      joined.guests++;
      try {
        await orAborted(joined.answer, signal);
        return joined.copies.pop()!;
      } catch (error) {
        joined.guests--;
        const copy = joined.copies.pop(); // of an answer that came just when we gave up
        if (copy !== undefined) void discard(copy); // which waits for the other copies
        if (!hasGivenUp(joined.signal) || hasGivenUp(signal)) throw error;
        return await this.share(key, signal, call); // who began it has given up, not we
      }
    }
    const own: SharedRead = { signal, guests: 0, copies: [] };
    const answer = this.#shareOut(key, own, call());
    this.#underWay.set(key, Object.assign(own, { answer }));
    return await answerTo(answer, signal);
  }

  /** Makes the copies, before the guests go on, and returns the answer for the caller that began. */
  async #shareOut(key: string, own: SharedRead, answer: Promise<Response>): Promise<Response> {
    try {
      let response = await answer;
      if (own.guests > 0 && response.body !== null && isText(response)) {
        // In memory, no signal of the first caller ends the body for the others, and nobody's reading waits for another's.
        const body = await response.arrayBuffer();
        response = new ApiResponse(body, response, response);
        own.copies = Array.from({ length: own.guests }, () => new ApiResponse(body, response, response));
      } else own.copies = Array.from({ length: own.guests }, () => response.clone());
      return response;
    } finally {
      if (this.#underWay.get(key) === own) this.#underWay.delete(key); // else others have begun anew
    }
  }
}

function hasGivenUp(signal: Signal): boolean {
  return signal?.aborted === true;
}
