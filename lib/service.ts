/**
 * What the service and its cron job stand on: the settings that a consumer does not need, and GitHub as the OAuth App
 * sees it.
 *
 * @module
 */

import { type Environment, processEnvironment, type Settings, type Variable } from "./config.ts";
import type { ConnectionOptions, Database } from "./database.ts";
import { GitHub } from "./github.ts";
import { Vault } from "./vault.ts";

/** Everything from outside; each has a default. */
export interface ServiceOptions {
  environment?: Environment;
  database?: Database | string;
  now?: () => number;
  fetch?: typeof fetch;
  connection?: ConnectionOptions;
}

/** What must be set before anybody can donate. */
export const REQUIRED: readonly Variable[] = ["GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET", "TOKEN_ENCRYPTION_KEY"];

/** The pool, as the service sees it. */
export function openVault(options: ServiceOptions): Vault {
  const { environment = processEnvironment, database, now, connection } = options;
  return new Vault({ environment, database, now, connection, defaultDatabaseUrl: "file:token-pool.db" });
}

/**
 * GitHub, as the settings have it now.
 *
 * @throws {PoolError} With code `config` when the OAuth App is not set up.
 */
export function openGitHub(settings: Settings, fetch: typeof globalThis.fetch = globalThis.fetch): GitHub {
  const config = settings.read(REQUIRED);
  return new GitHub({
    url: config.GITHUB_URL,
    apiUrl: config.GITHUB_API_URL,
    clientId: config.GITHUB_CLIENT_ID!,
    clientSecret: config.GITHUB_CLIENT_SECRET!,
    fetch,
  });
}
