/**
 * A process of a world: a pool, and the service's parts, on the one database, until it crashes.
 *
 * @module
 */

import { DonationFlow } from "../../lib/donate.ts";
import type { GitHub } from "../../lib/github.ts";
import { createPool, type Pool } from "../../lib/pool.ts";
import { openGitHub, openVault } from "../../lib/service.ts";
import type { Vault } from "../../lib/vault.ts";
import { environment, KEY } from "../support/fixtures.ts";
import { faultyDatabase } from "./faulty_database.ts";
import { SECRET_MARK } from "./oauth_model.ts";
import { API_URL, GITHUB_URL, wireOf } from "./wire.ts";
import type { World } from "./world.ts";

/** One process: a pool of its own, until it crashes. */
export interface SimulatedProcess {
  readonly name: string;
  readonly pool: Pool;
  readonly vault: Vault;
  readonly github: GitHub;
  readonly flow: DonationFlow;
  clockErrorMs: number;
  isOver: boolean;
  /** Resolves when it crashes. */
  readonly crashed: Promise<void>;
  crash(): void;
  /** Goes on, unless the process has crashed meanwhile. */
  resume(run: () => void): void;
}

/** How a process is started. */
export interface StartOptions {
  /** Whether its pool remembers answers. */
  cache?: boolean;
  /** Its encryption key. */
  key?: string;
}

/** Starts a process on the database of a world. */
export function startProcess(
  world: World,
  name: string,
  { cache = false, key = KEY }: StartOptions,
): SimulatedProcess {
  const crash = Promise.withResolvers<void>();
  const process = {
    name,
    clockErrorMs: 0,
    isOver: false,
    crashed: crash.promise,
    crash: () => {
      process.isOver = true;
      world.note(`${name} crashes`);
      world.facts.forgetProcess(name);
      crash.resolve();
    },
    resume: (run: () => void) => {
      if (!process.isOver) run();
    },
  } as SimulatedProcess;
  const database = faultyDatabase(world, world.client, process);
  const fetch = wireOf(world, process);
  const clock = world.profile.hasDatabaseClock ? {} : { now: world.scheduler.now };
  const pool = createPool({ database, encryptionKey: key, fetch, githubApiUrl: API_URL, cache, ...clock });
  const settings = {
    GITHUB_CLIENT_ID: "simulated",
    GITHUB_CLIENT_SECRET: `client_${SECRET_MARK}`,
    TOKEN_ENCRYPTION_KEY: key,
    GITHUB_URL,
    GITHUB_API_URL: API_URL,
  };
  const vault = openVault({ environment: environment(settings), database, ...clock });
  const github = openGitHub(vault.settings, fetch);
  const flow = new DonationFlow({ vault, github, redirectUri: "https://pool.simulated/callback" });
  world.note(`${name} starts`);
  return Object.assign(process, { pool, vault, github, flow });
}
