/**
 * The way to GitHub, with what may go wrong on it: calls that never arrive, answers that are late or never come. A call
 * travels on when the process that made it has crashed.
 *
 * @module
 */

import { resourceOf } from "../../lib/rate_limit.ts";
import type { AnswerKind } from "./github_answer.ts";
import { type ModelAnswer, type ModelCall, toResponse } from "./github_model.ts";
import type { SimulatedProcess } from "./process.ts";
import type { World } from "./world.ts";

/** GitHub's two hosts, as the service knows them. */
export const GITHUB_URL = "https://github.simulated";
export const API_URL = "https://api.github.simulated";

const USED: ReadonlySet<AnswerKind> = new Set(["ok", "forbidden"]);

/** A call by a token of the pool. */
export interface PoolCall extends ModelCall {
  /** When it was drawn; null = of a lease, so not more than a lease's life ago. */
  drawnAt: number | null;
}

/** Takes the place of `fetch` in one process. */
export function wireOf(world: World, process: SimulatedProcess): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const { pathname, origin } = new URL(request.url);
    const body = request.body === null ? "" : await request.text();
    if (origin === GITHUB_URL || pathname.startsWith("/applications/") || pathname === "/user") {
      return await travel(
        world,
        process,
        request.signal,
        () => world.oauth.answer(request, pathname, body, world.operation()),
      );
    }
    const secret = request.headers.get("authorization")!.replace(/^Bearer /, "");
    const isUnchanged = request.headers.has("if-none-match") && world.random.network.chance(0.7);
    if (pathname === "/rate_limit") return await askForLimits(world, process, secret, request.signal);
    const resource = resourceOf(request.url);
    const operation = world.operation();
    world.departs(process, secret, resource);
    const call = { token: secret, resource, isUnchanged, drawnAt: null };
    const answer = await ask(world, process, call, request.signal);
    world.answered(process, operation, secret, answer);
    const response = toResponse(answer);
    if (answer.kind === "ok") response.headers.set("etag", '"1"');
    return response;
  };
}

/** What is left of all limits; asking costs nothing. */
async function askForLimits(
  world: World,
  process: SimulatedProcess,
  token: string,
  signal: AbortSignal,
): Promise<Response> {
  const operation = world.operation();
  const answer = await ask(world, process, { token, resource: "core", isUnchanged: true, drawnAt: null }, signal);
  world.noteAnswer(operation, token, answer);
  if (answer.kind !== "not_modified") return toResponse(answer);
  world.count("limits asked for");
  const { headers } = toResponse(answer);
  headers.set("x-oauth-scopes", "");
  return Response.json({ resources: world.model.limitsOf(answer.user!) }, { headers });
}

/** Asks GitHub with a token of the pool. Rejects when there is no answer. */
export function ask(
  world: World,
  process: SimulatedProcess,
  call: PoolCall,
  signal?: AbortSignal,
): Promise<ModelAnswer> {
  return travel(world, process, signal, () => {
    const answer = world.model.arrive(call);
    world.arrived(call, answer, USED.has(answer.kind) ? call.cost ?? 1 : 0);
    return answer;
  }, (answer) => world.model.depart(answer));
}

function travel<T>(
  world: World,
  process: SimulatedProcess,
  signal: AbortSignal | undefined,
  arrive: () => T,
  depart: (answer: T) => void = () => {},
): Promise<T> {
  const { scheduler, random: { network: random }, profile: { network } } = world;
  const isIn = (probability: number) => random.chance(world.isCalm ? 0 : probability);
  const lost = isIn(network.lostBefore) ? "before" : isIn(network.lostAfter) ? "after" : null;
  const backMs = isIn(network.late) ? random.int(1000, 60_000) : random.int(5, 500);
  if (lost !== null) world.count(`call lost ${lost} GitHub`);
  return new Promise((resolve, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    const fail = () => reject(new TypeError("connection reset"));
    scheduler.after(random.int(5, 400), () => {
      if (lost === "before") return process.resume(fail);
      const answer = arrive();
      scheduler.after(backMs, () => {
        depart(answer);
        process.resume(lost === "after" ? fail : () => resolve(answer));
      });
    });
    world.mayCrash(process, "GitHub's answer");
  });
}
