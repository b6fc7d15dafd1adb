/**
 * A command that ends at any moment leaves a state from which running it again finishes the work.
 *
 * Each command is cut off at its n-th call, of the database or of GitHub, for every n: from then on nothing answers, as
 * if the process were gone. The call itself has not been carried out, or it has and its answer is lost. Then it is run
 * again, and upkeep after it, and the end must be that of a run that nobody cut off.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Database } from "../lib/database.ts";
import { KEY, OTHER_KEY } from "./support/fixtures.ts";
import { donors, lend, operate } from "./support/operator.ts";
import { type Service, temporaryService, upkeep, visit } from "./support/service.ts";

/** A process's calls, until it is gone. */
class Life {
  calls = 0;
  readonly #most: number;
  readonly #isLastDone: boolean;

  /** @param isLastDone Whether the call after the last that is answered is carried out all the same. */
  constructor(most: number, isLastDone: boolean) {
    this.#most = most;
    this.#isLastDone = isLastDone;
  }

  async call<T>(run: () => Promise<T>): Promise<T> {
    this.calls++;
    if (this.calls <= this.#most) return await run();
    if (this.calls === this.#most + 1 && this.#isLastDone) await run();
    throw new Error("The process is gone");
  }

  /** The world as this process sees it. */
  of({ database, github }: Service): { database: Database; fetch: typeof fetch } {
    return {
      database: {
        execute: (statement) => this.call(() => database.execute(statement)),
        batch: (statements, mode) => this.call(() => database.batch(statements, mode)),
      },
      fetch: (input, init) => this.call(() => github.fetch(input, init)),
    };
  }
}

interface Scenario {
  args: string[];
  input?: (service: Service) => string;
  /** What is there before. */
  prepare: (service: Service) => Promise<unknown>;
  /** Exit codes that a second run may have: 1 where the first has left nothing that bears that name. */
  codes?: number[];
  /**
   * Whether a token may outlive it that nobody knows: GitHub has given a new one for a refresh token, and the answer was
   * lost. What was stored, and might have leaked, is dead all the same.
   */
  mayLoseToken?: boolean;
}

/** Three donations, of which the first token is dead and the second under suspicion. */
async function three(service: Service): Promise<void> {
  const { cyd } = await lend(service, ["cyd", "dee", "eve"]);
  await (await service.vault.store()).suspect(2);
  service.github.revokeToken(cyd!);
}

/** Two donations whose tokens expire, one that does not, and an earlier token that is still to be revoked. */
async function expiring(service: Service): Promise<void> {
  await lend(service, ["cyd"]);
  service.github.expiringTokens = true;
  await visit(service, "ada");
  await visit(service, "bob");
  service.github.down = { answer: 503, only: /^DELETE/ };
  await visit(service, "ada");
  service.github.down = null;
  service.clock.advance(60_001);
}

const SCENARIOS: Record<string, Scenario> = {
  "verify --all": { args: ["verify", "--all"], prepare: three },
  "verify of suspects": {
    args: ["verify"],
    prepare: async (service) => {
      await three(service);
      await (await service.vault.store()).suspect(1);
    },
  },
  "verify in an incident": {
    args: ["verify", "--all"],
    codes: [1],
    prepare: async (service) => {
      await lend(service, ["cyd", "dee", "eve", "fay", "gus", "hal"]);
      await (await service.vault.store()).suspect(2);
      service.github.outage404 = true;
    },
  },
  "add": {
    args: ["add"],
    input: ({ github }) => github.liveTokens("ada").at(-1)!,
    prepare: (service) => Promise.resolve(service.github.grantToken("ada")),
  },
  "add in the place of an earlier one": {
    args: ["add"],
    input: ({ github }) => github.liveTokens("ada").at(-1)!,
    prepare: async (service) => {
      await visit(service, "ada");
      service.github.grantToken("ada");
    },
  },
  "add of the same token again": {
    args: ["add"],
    input: ({ github }) => github.liveTokens("ada").at(-1)!,
    prepare: (service) => visit(service, "ada"),
  },
  "remove": { args: ["remove", "ada", "--reason", "spam"], codes: [0, 1], prepare: expiring },
  "remove while GitHub is away": {
    args: ["remove", "ada", "--reason", "spam"],
    codes: [0, 1],
    prepare: async (service) => {
      await expiring(service);
      service.github.down = { answer: 503, only: /grant$/ };
    },
  },
  "revoke-all": { args: ["revoke-all", "--yes"], prepare: expiring },
  "revoke-all --one-by-one": { args: ["revoke-all", "--yes", "--one-by-one"], prepare: expiring },
  "revoke-all --one-by-one of what has expired": {
    args: ["revoke-all", "--yes", "--one-by-one"],
    mayLoseToken: true,
    prepare: async (service) => {
      await expiring(service);
      service.clock.advance(28_800_000);
    },
  },
  "upkeep": {
    args: ["upkeep"],
    prepare: async (service) => {
      await three(service);
      service.github.down = { answer: 503, only: /^DELETE/ };
      await visit(service, "ada");
      await visit(service, "ada");
      service.github.down = null;
      service.clock.advance(60_001);
    },
  },
  "rotate-key": {
    args: ["rotate-key"],
    prepare: async (service) => {
      await expiring(service);
      service.variables["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY;
      service.variables["TOKEN_ENCRYPTION_KEYS_PREVIOUS"] = KEY;
    },
  },
};

/** Runs a scenario, cut off after so many calls. Returns the end, and how many calls there were. */
async function play(
  { args, input, prepare, codes = [0], mayLoseToken = false }: Scenario,
  most: number,
  isLastDone: boolean,
): Promise<{ end: unknown; calls: number }> {
  await using service = await temporaryService();
  const { github, clock, database } = service;
  // The disk is not at stake here, only the order of calls; waiting for it would take ten times as long.
  for (const pragma of ["journal_mode = MEMORY", "synchronous = OFF"]) await database.look(`PRAGMA ${pragma}`);
  await service.vault.unlock();
  await prepare(service);
  const refreshTokens = await storedRefreshTokens(service);
  const life = new Life(most, isLastDone);
  const given = input === undefined ? {} : { input: input(service) };
  const isCut = await operate(service, args, { ...given, options: life.of(service) }).then(({ code }) => {
    if (most === Infinity) assert.ok(codes.includes(code));
    return life.calls > most;
  });
  if (most !== Infinity && !isCut) return { end: null, calls: life.calls };
  if (isCut) {
    const { code } = await operate(service, args, given);
    assert.ok(codes.includes(code), `running it again ends with ${code}`);
  }
  github.down = null;
  github.outage404 = false;
  for (let round = 0; round < 3; round++) {
    clock.advance(700_000);
    await upkeep(service);
  }
  const counters = await database.look("SELECT name, value FROM token_pool_counters");
  const sum = (prefix: string) =>
    counters.filter(({ name }) => String(name).startsWith(prefix)).reduce((all, { value }) => all + Number(value), 0);
  assert.equal(sum("donations.new") - sum("removed."), await database.count("tokens"), "each is counted once");
  const uses = await (await service.vault.store()).keyUse();
  return {
    end: {
      donors: await donors(service),
      stored: await storedAndAlive(service),
      live: mayLoseToken ? null : ["ada", "bob"].map((login) => github.liveTokens(login).length),
      refreshable: (await Promise.all(refreshTokens.map((token) => service.client.refresh(token))))
        .map(({ kind }) => kind),
      kids: uses.filter((use) => use.donations + use.refresh_tokens + use.revocations > 0).map(({ kid }) => kid),
      suspects: await database.look("SELECT id FROM token_pool_tokens WHERE suspect_at IS NOT NULL"),
      revocations: await database.count("revocations"),
      orphans: await database.look(
        "SELECT token_id FROM token_pool_limits WHERE token_id NOT IN (SELECT id FROM token_pool_tokens)",
      ),
    },
    calls: life.calls,
  };
}

async function storedRefreshTokens({ database, vault }: Service): Promise<string[]> {
  const rows = await database.look(
    "SELECT github_user_id AS user, refresh_token AS text FROM token_pool_tokens WHERE refresh_token IS NOT NULL",
  );
  return await Promise.all(rows.map(async ({ user, text }) => {
    return (await vault.openText(String(text), "refresh_token", String(user)))!;
  }));
}

/** Of each donation, whether GitHub would take its token. */
async function storedAndAlive({ database, vault, github }: Service): Promise<boolean[]> {
  const rows = await database.look("SELECT github_user_id AS user, token FROM token_pool_tokens ORDER BY id");
  return await Promise.all(rows.map(async ({ user, token }) => {
    const opened = await vault.openText(String(token), "token", String(user));
    return opened !== null && github.isLive(opened);
  }));
}

for (const [name, scenario] of Object.entries(SCENARIOS)) {
  Deno.test(`${name}: cut off at any call, and run again, it comes to the same end`, async () => {
    const whole = await play(scenario, Infinity, false);
    assert.ok(whole.calls >= 3, "there is something to be cut");
    for (let most = 0; most < whole.calls; most++) {
      for (const isLastDone of [false, true]) {
        const { end } = await play(scenario, most, isLastDone);
        assert.deepEqual(end, whole.end, `after ${most} calls, the next one ${isLastDone ? "" : "not "}carried out`);
      }
    }
  });
}
