/**
 * The world of one seed: a database, GitHub, processes that come and go, and what is known of them for certain.
 *
 * @module
 */

import type { Client } from "npm:@libsql/client@0.18.0";
import { Keyring } from "../../lib/crypto.ts";
import { PoolError } from "../../lib/pool.ts";
import { KEY, OTHER_KEY } from "../support/fixtures.ts";
import { Facts, type Operation } from "./facts.ts";
import type { Draws } from "./faulty_database.ts";
import { GitHubModel, type ModelAnswer } from "./github_model.ts";
import {
  AFTER_EVERY_ROUND_TRIP,
  departedIsNotSent,
  isAtBoundary,
  LEASE_MS,
  reserveIsKept,
  tellsNoSecret,
  Violation,
  windowHasEnded,
  WRONG_KEY,
} from "./invariants.ts";
import { OAuthModel, SECRET_MARK } from "./oauth_model.ts";
import { type SimulatedProcess, type StartOptions, startProcess } from "./process.ts";
import type { Profile } from "./profile.ts";
import type { Random } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";
import { keyOf, readSnapshot } from "./snapshot.ts";
import type { Trace } from "./trace.ts";
import type { Context, VirtualRuntime } from "./virtual_runtime.ts";
import type { PoolCall } from "./wire.ts";

/** What a running task is part of. */
export interface Task extends Context {
  readonly process: SimulatedProcess;
  readonly operation: Operation;
}

/** What came of an operation. A crash of its process leaves it without any. */
export type Outcome<T> = { kind: "done"; value: T } | { kind: "failed"; error: unknown } | { kind: "crashed" };

/** What a world is made of. */
export interface WorldOptions {
  profile: Profile;
  random: Random;
  scheduler: Scheduler;
  runtime: VirtualRuntime<Task>;
  trace: Trace;
  client: Client;
  /** Only this invariant is looked at; undefined = all. */
  only?: number | undefined;
}

/** Streams of the one seed, so that what one draws does not shift the others. */
const STREAMS = ["database", "network", "crash", "behaviour", "github", "secrets"] as const;

/** The world. */
export class World {
  readonly profile: Profile;
  readonly scheduler: Scheduler;
  readonly trace: Trace;
  readonly facts = new Facts();
  readonly model: GitHubModel;
  readonly oauth: OAuthModel;
  readonly client: Client;
  readonly random: Record<typeof STREAMS[number], Random>;
  /** What happened how often. */
  readonly counts: Record<string, number> = {};
  /** Nothing goes wrong any more, and nobody begins anything new. */
  isCalm = true;
  violation: Violation | null = null;
  /** Round trips to the database so far. */
  step = 0;
  readonly #only: number | undefined;
  readonly #runtime: VirtualRuntime<Task>;
  readonly #keyring = Keyring.from(KEY);
  readonly #ids = new Map<string, number>();

  constructor({ profile, random, scheduler, runtime, trace, client, only }: WorldOptions) {
    this.#only = only;
    this.profile = profile;
    this.scheduler = scheduler;
    this.trace = trace;
    this.client = client;
    this.#runtime = runtime;
    this.random = Object.fromEntries(STREAMS.map((name) => [name, random.fork(name)])) as World["random"];
    this.model = new GitHubModel({ random: this.random.github, now: scheduler.now, ...profile.github });
    this.oauth = new OAuthModel({
      model: this.model,
      facts: this.facts,
      random: this.random.secrets,
      now: scheduler.now,
      expires: profile.hasExpiringTokens,
      after: (ms, run) => scheduler.after(ms, run),
      fail: (violation) => this.fail(violation),
    });
  }

  /** Starts a process on the one database. */
  start(name: string, options: StartOptions = {}): SimulatedProcess {
    return startProcess(this, name, options);
  }

  /** What the running task is about. */
  operation(): Operation | null {
    return this.#runtime.current()?.operation ?? null;
  }

  /** Does something in a process, and says what came of it. */
  async perform<T>(
    process: SimulatedProcess,
    what: string,
    work: (operation: Operation) => Promise<T>,
  ): Promise<Outcome<T>> {
    const operation: Operation = {
      what,
      startedAt: this.scheduler.now(),
      answers: [],
      claims: [],
      attempts: 0,
    };
    const task: Task = {
      process,
      operation,
      get clockErrorMs() {
        return process.clockErrorMs;
      },
      get isOver() {
        return process.isOver;
      },
    };
    this.note(`${process.name} ${what}`);
    this.count(`operations: ${what.split(" ")[0]}`);
    const outcome = await Promise.race([
      this.#runtime.within(task, async (): Promise<Outcome<T>> => {
        try {
          return { kind: "done", value: await work(operation) };
        } catch (error) {
          this.#assertExpected(what, error);
          return { kind: "failed", error };
        }
      }),
      process.crashed.then((): Outcome<T> => ({ kind: "crashed" })),
    ]);
    this.note(`${process.name} ${what}: ${outcome.kind}`);
    return outcome;
  }

  /** Time passes in a process; it may crash before, and then does not go on. */
  travel(process: SimulatedProcess, ms: number, what: string): Promise<void> {
    this.mayCrash(process, what);
    return new Promise((resolve) => this.scheduler.after(ms, () => process.resume(resolve)));
  }

  /** A moment at which a process waits. */
  mayCrash(process: SimulatedProcess, what: string): void {
    if (process.isOver || !this.random.crash.chance(this.isCalm ? 0 : this.profile.crash)) return;
    this.count(`crash while waiting for ${what}`);
    // Not within the call that waits: first it comes to rest.
    this.scheduler.after(0, () => process.isOver || process.crash());
  }

  /** Time passes. */
  pause(ms: number): Promise<void> {
    return this.scheduler.sleep(ms);
  }

  /** A round trip has been carried out: all that the pool has promised must hold. */
  async committed(process: SimulatedProcess, operation: Operation | null, draws: Draws): Promise<void> {
    const { facts, scheduler } = this;
    const before = facts.latest;
    const after = await readSnapshot(this.client);
    for (const { id, user, token } of after.tokens.values()) {
      if (!facts.opened.has(token)) {
        const secret = await (await this.#keyring).open(token, { column: "token", githubUserId: user });
        facts.opened.set(token, secret);
        if (secret !== null) this.#ids.set(secret, id);
      }
    }
    const { claims, refused, attempts } = draws;
    const now = scheduler.now();
    const event = { now, process: process.name, operation, before, after, claims, refused };
    this.step++;
    operation?.claims.push(...claims);
    if (operation !== null) operation.attempts += attempts;
    this.note(`${process.name} database: ${operation?.what ?? "?"} ${describe(claims, refused)}`);
    for (const invariant of AFTER_EVERY_ROUND_TRIP) this.expect(() => invariant(event, facts));
    for (const { id, resource } of claims) {
      const row = before.limits.get(keyOf(id, resource));
      const user = this.userOf(id);
      if (row === undefined || user === null || row.windowEnds > now || row.windowEnds === 0) continue;
      this.expect(() => windowHasEnded(row, this.model.windowOf(user, resource), now, facts));
    }
    facts.follow(event);
  }

  /** A call of a lease sets out. */
  departs(process: SimulatedProcess, secret: string, resource: string): void {
    const id = this.#ids.get(secret);
    if (id === undefined) return this.fail(new Violation(0, "a token that was drawn", "another one is sent"));
    this.facts.addGivable(process.name, keyOf(id, resource), -1);
    this.expect(() => departedIsNotSent(secret, this.scheduler.now(), this.facts));
  }

  /** A call of a lease was answered. */
  answered(process: SimulatedProcess, operation: Operation | null, secret: string, answer: ModelAnswer): void {
    const id = this.noteAnswer(operation, secret, answer);
    if (answer.kind === "not_modified") this.facts.addGivable(process.name, keyOf(id, answer.resource), 1);
  }

  /** An operation was given an answer, which may be why it benches a donation. Returns which. */
  noteAnswer(operation: Operation | null, secret: string, answer: ModelAnswer): number {
    const id = this.#ids.get(secret)!;
    operation?.answers.push({ id, kind: answer.kind, answer, at: this.scheduler.now(), secret });
    return id;
  }

  /** A call has arrived at GitHub, which counted `cost` for it. */
  arrived({ drawnAt }: PoolCall, { user, resource, kind }: ModelAnswer, cost: number): void {
    this.note(`GitHub: ${user?.login ?? "nobody"} ${resource} ${kind}`);
    const window = user === null ? null : this.model.windowOf(user, resource);
    if (user === null || window === null || cost === 0) return;
    const now = this.scheduler.now();
    const since = drawnAt ?? now - LEASE_MS;
    const row = [...this.facts.latest.tokens.values()].find((row) => row.user === String(user.id));
    const endOfLast = this.facts.endOfLast(user, window, resource);
    const isOfOthers = row === undefined || since <= (this.facts.changedAt.get(String(user.id)) ?? 0) ||
      isAtBoundary(window, endOfLast, since, now);
    if (isOfOthers) {
      window.ours -= cost;
      window.donors += cost;
      return this.count("calls of an earlier window or donation");
    }
    this.count("calls held to the reserve");
    this.expect(() => reserveIsKept(user, window, row.reserve, this.facts));
  }

  /** The user of a donation, if it is there. */
  userOf(id: number) {
    const row = this.facts.latest.tokens.get(id);
    return row === undefined ? null : this.facts.donors.get(row.user)?.user ?? null;
  }

  /** Something was said to somebody. */
  said(text: string, where: string): void {
    this.expect(() => tellsNoSecret(text, [SECRET_MARK, KEY, OTHER_KEY], where));
  }

  /** Looks at a promise. */
  expect(invariant: () => void): void {
    try {
      invariant();
    } catch (error) {
      this.fail(error);
    }
  }

  /** The first promise that is broken ends the run. */
  fail(error: unknown): void {
    if (!(error instanceof Violation)) throw error;
    if (this.#only === undefined || this.#only === error.invariant) this.violation ??= error;
  }

  /** Counts what happened. */
  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  /** Adds a line to the trace. */
  note(line: string): void {
    this.trace.note(`${this.scheduler.events} ${this.scheduler.now()} ${line}`);
  }

  #assertExpected(what: string, error: unknown): void {
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
      this.said(`${cause.message} ${cause.stack} ${JSON.stringify(cause)}`, `an error of ${what}`);
    }
    const isExpected = error instanceof PoolError
      ? ["database", "exhausted", "github"].includes(error.code) || (error.code === "wrong_key" && what === WRONG_KEY)
      : (error instanceof TypeError && error.message === "connection reset") ||
        (error instanceof DOMException && error.message === "No answer within 15000 ms");
    if (isExpected) return this.count(`errors: ${error instanceof PoolError ? error.code : "network"}`);
    this.fail(new Violation(0, `no such error of ${what}`, String((error as Error)?.stack ?? error)));
  }
}

function describe(claims: Draws["claims"], refused: Draws["refused"]): string {
  return [
    ...claims.map(({ id, resource, calls }) => `draws ${calls} ${resource} of ${id}`),
    ...refused.map(({ resource }) => `draws no ${resource}`),
  ].join(", ");
}
