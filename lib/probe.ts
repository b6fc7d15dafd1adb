/**
 * Pure judgement: what an answer to `GET /rate_limit` says of the token that it was asked with, and of its limits.
 *
 * That call is free, and its body tells of every resource at once (docs.github.com/rest/rate-limit). The response
 * itself is judged as any other; its numbers are read under `resources`, since newer versions of the API have no `rate`.
 *
 * A window begins with the first call in it. So of a resource that nobody has used lately GitHub says that it is full,
 * with a reset that merely rolls, and now and then it says so of one in use:
 *
 * | the reading is | and the open window is | then |
 * |---|---|---|
 * | used in part | any, or none | it is taken in, by the merge rule |
 * | full | GitHub's own | it is dropped: what is known contradicts it |
 * | full | provisional, of an hour | it is taken in: what was charged stays charged, and the window ends no sooner |
 * | full | provisional, of a minute | it is dropped: GitHub's would be taken for the next one, and what is under way for its past |
 * | full | none | it is dropped: it would open a window before its first call, which ends before GitHub's does |
 *
 * @module
 */

import { z } from "npm:zod@4.6.7";
import { ANONYMOUS_LIMIT, judge, type Observation, type Verdict } from "./health.ts";
import { assumedWindow, type CompleteReport, completeReport, DEFAULT_RESOURCE } from "./rate_limit.ts";
import type { ProbedRow } from "./records.ts";

/** What an answer does to a token; `readings` = GitHub took the token, and said this of its limits. */
export type ProbeVerdict = Exclude<Verdict, { kind: "usage" }> | { kind: "readings"; reports: CompleteReport[] };

const readingSchema = z.object({
  limit: z.number(),
  remaining: z.number(),
  /** Epoch seconds. */
  reset: z.number(),
  used: z.number().optional(),
});

/** One resource that is not understood does not spoil the others. */
const answerSchema = z.object({ resources: z.record(z.string(), readingSchema.nullable().catch(null)) });

type Readings = z.output<typeof answerSchema>["resources"];

/**
 * Judges an answer.
 *
 * @param observation The answer, with its body.
 * @param apiUrl Where the API is.
 * @param rows What the pool has of the donation: nothing else is taken in.
 */
export function judgeProbe(observation: Observation, apiUrl: string, rows: readonly ProbedRow[]): ProbeVerdict {
  const { status, headers } = observation;
  const verdict = judge(observation, apiUrl);
  if (verdict.kind !== "usage") return verdict;
  if (status >= 500) return { kind: "ignore" };
  // GitHub Enterprise Server answers with 404 where limits are off: the token is good, and there is nothing to read.
  const readings = status === 200 ? readingsIn(observation.body) : {};
  const core = readings[DEFAULT_RESOURCE];
  const isAnonymous = core && core.limit <= ANONYMOUS_LIMIT && !headers.has("x-oauth-scopes");
  if (isAnonymous) return { kind: "ignore" }; // the token was lost on the way
  return { kind: "readings", reports: rows.flatMap((row) => reportOf(row, readings)) };
}

function readingsIn(body: string): Readings {
  try {
    return answerSchema.parse(JSON.parse(body)).resources;
  } catch {
    return {}; // no answer that is understood
  }
}

function reportOf({ resource, window }: ProbedRow, readings: Readings): CompleteReport[] {
  const reading = readings[resource];
  if (!reading) return [];
  const { limit, remaining, reset, used = null } = reading;
  const isFull = used === 0 || remaining >= limit;
  const isBrief = assumedWindow(resource).windowMs < assumedWindow(DEFAULT_RESOURCE).windowMs;
  if (isFull && (window !== "provisional" || isBrief)) return [];
  const report = completeReport({ limit, remaining, used, reset_at: reset, resource, retry_after: null }, resource);
  return report === null ? [] : [report];
}
