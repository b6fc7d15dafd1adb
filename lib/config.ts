/**
 * The settings: the only reader of the environment, and the one place that knows what a setting must look like.
 *
 * Read on use, never on import, because Val Town changes them under a warm process. All problems are listed at once,
 * each with its remedy, and no value is ever echoed.
 *
 * @module
 */

import { z } from "npm:zod@4.6.7";
import { isKey } from "./crypto.ts";
import { PoolError } from "./errors.ts";

/** Somewhere to read variables from; a test passes an object. */
export type Environment = (name: string) => string | undefined;

/** Share of a donor's limit that stays the donor's, when nobody chose another: Shields keeps as much. */
export const DEFAULT_RESERVE = 0.25;

/** The largest reserve that can be chosen; more would leave nothing to share. */
export const MAX_RESERVE = 0.95;

/** Where people sign in, and where tokens are used, when nothing else is set. */
export const DEFAULT_GITHUB_URL = "https://github.com";
export const DEFAULT_GITHUB_API_URL = "https://api.github.com";

const VARIABLES = [
  "GITHUB_CLIENT_ID",
  "GITHUB_CLIENT_SECRET",
  "TOKEN_ENCRYPTION_KEY",
  "TOKEN_ENCRYPTION_KEYS_PREVIOUS",
  "TOKEN_POOL_DATABASE_URL",
  "TOKEN_POOL_DATABASE_AUTH_TOKEN",
  "TOKEN_POOL_RESERVE",
  "TOKEN_POOL_DISABLED",
  "PUBLIC_URL",
  "GITHUB_URL",
  "GITHUB_API_URL",
  "PORT",
  "HOST",
  // Set by Val Town itself: the file that runs, and a token of the platform's.
  "VALTOWN_ENTRYPOINT",
  "valtown",
] as const;

/** The name of a variable. */
export type Variable = typeof VARIABLES[number];

const KEY_HELP = "exactly 64 hex digits, made by `openssl rand -hex 32`";

const key = z.string().superRefine((text, context) => {
  if (isKey(text)) return;
  const why = text.length === 32
    ? `32 characters are half a key: AES-256 needs 32 bytes, which are 64 hex digits`
    : `it has ${text.length} characters` + (text.length === 64 ? ", not all of them hex digits" : "");
  context.addIssue({ code: "custom", message: `must be ${KEY_HELP}; ${why}` });
});

const keys = z.string().transform((text) => text.split(",").map((part) => part.trim()).filter((part) => part !== ""))
  .refine((parts) => parts.every(isKey), `must be old keys separated by commas, each ${KEY_HELP}`);

function url(schemes: string[], example: string) {
  return z.string().refine((text) => {
    if (!URL.canParse(text)) return false;
    const { protocol, pathname } = new URL(text);
    // SQLite takes a file without a name for a temporary one: donations would be gone with the process.
    return schemes.includes(protocol) && (protocol !== "file:" || pathname !== "/");
  }, `must be a URL such as ${example}`);
}

const baseUrl = (example: string) => url(["http:", "https:"], example).transform((text) => text.replace(/\/+$/, ""));

const flag = z.string().transform((text) => !["", "0", "false", "no", "off"].includes(text.trim().toLowerCase()));

const reserve = z.string().refine(
  (text) => /^\d*\.?\d+$/.test(text.trim()) && Number(text) <= MAX_RESERVE,
  `must be a number from 0 to ${MAX_RESERVE}, such as ${DEFAULT_RESERVE}`,
).transform(Number);

const port = z.string().refine((text) => /^\d{1,5}$/.test(text) && Number(text) <= 65535, "must be a port number")
  .transform(Number);

const schema = z.object({
  GITHUB_CLIENT_ID: z.string().optional(),
  GITHUB_CLIENT_SECRET: z.string().optional(),
  TOKEN_ENCRYPTION_KEY: key.optional(),
  TOKEN_ENCRYPTION_KEYS_PREVIOUS: keys.default([]),
  TOKEN_POOL_DATABASE_URL: url(
    ["file:", "http:", "https:", "libsql:", "ws:", "wss:"],
    "file:token-pool.db or libsql://name.turso.io",
  ).or(z.literal(":memory:")).optional(),
  TOKEN_POOL_DATABASE_AUTH_TOKEN: z.string().optional(),
  TOKEN_POOL_RESERVE: reserve.default(DEFAULT_RESERVE),
  TOKEN_POOL_DISABLED: flag.default(false),
  PUBLIC_URL: baseUrl("https://pool.example").transform((text) => new URL(text).origin).optional(),
  GITHUB_URL: baseUrl(DEFAULT_GITHUB_URL).default(DEFAULT_GITHUB_URL),
  GITHUB_API_URL: baseUrl(DEFAULT_GITHUB_API_URL).default(DEFAULT_GITHUB_API_URL),
  PORT: port.default(8000),
  HOST: z.string().default("127.0.0.1"),
});

interface ValTown {
  /** Whether this runs on Val Town. */
  onValTown: boolean;
  /** Where the val's variables are set, when that is known. */
  valTownSettingsUrl: string | null;
  /** Where programs import this val's library from, when that is known. */
  importUrl: string | null;
}

/** All settings, checked. */
export type Config = z.output<typeof schema> & ValTown;

/** The process's own environment; empty where reading it is not allowed. */
export function processEnvironment(name: string): string | undefined {
  try {
    if (typeof Deno !== "undefined") return Deno.env.get(name);
    return (globalThis as { process?: { env: Record<string, string | undefined> } }).process?.env[name]; // Node
  } catch {
    return undefined; // no permission to read it is the same as not set
  }
}

/** A setting that is not as it must be. */
export interface Problem {
  name: Variable;
  message: string;
}

/** What is said of a variable that must be set and is not. */
const REMEDIES: Partial<Record<Variable, string>> = {
  TOKEN_ENCRYPTION_KEY: `is not set; it is ${KEY_HELP}`,
  TOKEN_POOL_DATABASE_URL: "is not set; it is the pool's libSQL database, such as libsql://name.turso.io " +
    "(or give `database` to createPool; on Val Town the account's own database is used)",
  GITHUB_CLIENT_ID: "is not set; it is the client ID of your OAuth App, from https://github.com/settings/developers",
  GITHUB_CLIENT_SECRET: "is not set; it is a client secret of your OAuth App",
};

/** Where settings come from: what the caller has set itself takes the place of the variable. */
export interface SettingSources {
  environment: Environment;
  overrides?: Partial<Record<Variable, string | undefined>>;
}

type Values = Readonly<Partial<Record<Variable, string | undefined>>>;

/** Settings as they were read, and what was made of them. */
interface Checked {
  values: Values;
  config: Config | null;
  problems: Problem[];
}

/** The settings, read anew on every use and checked anew only when one has changed. */
export class Settings {
  readonly #sources: SettingSources;
  #checked: Checked | null = null;

  constructor(sources: SettingSources) {
    this.#sources = sources;
  }

  /**
   * The settings as they are now; the same object as before if nothing has changed.
   *
   * @param required Variables that must be set for what is to be done.
   * @throws {PoolError} With code `config`, listing every problem at once.
   */
  read(required: readonly Variable[] = []): Config {
    const { config, problems } = this.inspect(required);
    if (config === null || problems.length > 0) throw this.#error(problems);
    return config;
  }

  /**
   * The settings as they were last read, if these variables are still the same; null otherwise, or when there was
   * anything wrong. For what happens at each call: reading all of them takes longer than the rest of it.
   */
  glance(names: readonly Variable[]): Config | null {
    const { config = null, values } = this.#checked ?? {};
    return names.every((name) => this.#valueOf(name) === values?.[name]) ? config : null;
  }

  /** Whether the pool is switched off: that can be told whatever else is wrong. */
  get isDisabled(): boolean {
    const known = this.glance(["TOKEN_POOL_DISABLED"])?.TOKEN_POOL_DISABLED;
    return known ?? schema.shape.TOKEN_POOL_DISABLED.safeParse(this.#valueOf("TOKEN_POOL_DISABLED")).data ?? false;
  }

  /** The settings, if they can be read at all, and all that is wrong with them. */
  inspect(required: readonly Variable[] = []): { config: Config | null; problems: Problem[] } {
    const { values, config, problems } = this.#checked = this.#recheck(this.#checked);
    const missing = required.filter((name) => values[name] === undefined);
    if (missing.length === 0) return { config, problems };
    return {
      config,
      problems: [...missing.map((name) => ({ name, message: REMEDIES[name] ?? "is not set" })), ...problems],
    };
  }

  /** Whether this runs on Val Town. */
  get onValTown(): boolean {
    return this.#valTown().onValTown;
  }

  /** Where the operator sets a variable, when that is known. */
  linkTo(name: Variable): string | null {
    const { valTownSettingsUrl } = this.#valTown();
    return valTownSettingsUrl === null ? null : `${valTownSettingsUrl}?key=${name}`;
  }

  /** What is known still, or else anew. */
  #recheck(known: Checked | null): Checked {
    if (known !== null && VARIABLES.every((name) => known.values[name] === this.#valueOf(name))) return known;
    const values: Values = Object.fromEntries(VARIABLES.map((name) => [name, this.#valueOf(name)]));
    return { values, ...check(values) };
  }

  #valueOf(name: Variable): string | undefined {
    const { environment, overrides = {} } = this.#sources;
    return overrides[name] ?? valueOf(environment, name);
  }

  #valTown(): ValTown {
    const { environment } = this.#sources;
    return valTown(valueOf(environment, "VALTOWN_ENTRYPOINT"), valueOf(environment, "valtown"));
  }

  #error(problems: readonly Problem[]): PoolError {
    const lines = problems.map(({ name, message }) => {
      const link = this.linkTo(name);
      return `- ${name} ${message}` + (link === null ? "" : `\n  ${link}`);
    });
    return new PoolError("config", ["The token pool is not configured:", ...lines].join("\n"));
  }
}

/** A variable that is empty is not set. */
function valueOf(environment: Environment, name: Variable): string | undefined {
  return environment(name)?.trim() || undefined;
}

function check(values: Values): { config: Config | null; problems: Problem[] } {
  const parsed = schema.safeParse(values);
  if (parsed.success) {
    return { config: { ...parsed.data, ...valTown(values.VALTOWN_ENTRYPOINT, values.valtown) }, problems: [] };
  }
  const problems = parsed.error.issues.map(({ path, message }) => ({ name: path[0] as Variable, message }));
  return { config: null, problems };
}

/** Whether the host of an address is the machine itself, so that nobody listens on the way. */
export function isThisMachine(hostname: string): boolean {
  return /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname) || hostname.endsWith(".localhost");
}

/** Checks a share that is kept for the donor. */
export function assertReserve(value: unknown): asserts value is number {
  if (typeof value !== "number") throw new TypeError(`Cannot use a reserve of type ${typeof value}: give a number`);
  if (!(value >= 0 && value <= MAX_RESERVE)) {
    throw new RangeError(`Cannot use this reserve: it must be between 0 and ${MAX_RESERVE}: current value is ${value}`);
  }
}

function valTown(entrypoint: string | undefined, token: string | undefined): ValTown {
  const val = /^https:\/\/esm\.town\/v\/([\w-]+)\/([\w-]+)(@[\w-]+)?/.exec(entrypoint ?? "");
  return {
    onValTown: entrypoint !== undefined || token !== undefined,
    valTownSettingsUrl: val === null ? null : `https://www.val.town/x/${val[1]}/${val[2]}/environment-variables`,
    // With the version that runs, if the platform says which: imports without one follow whatever is published next.
    importUrl: val === null ? null : `https://esm.town/v/${val[1]}/${val[2]}${val[3] ?? ""}/lib/pool.ts`,
  };
}
