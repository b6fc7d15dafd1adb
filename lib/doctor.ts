/**
 * The doctor: looks at the environment, the key, the database and GitHub, changes nothing, and says of each finding what
 * to do about it.
 *
 * A check that cannot be made because another failed is a warning that says so. Thresholds: GitHub's resets are whole
 * seconds and 5 of them are taken for the same window, so a clock that is off by more misjudges windows; a hand-out is
 * one round trip, so a database that takes a quarter of a second is too far away. doctor_database.ts is its other half.
 *
 * @module
 */

import {
  type Config,
  DEFAULT_GITHUB_API_URL,
  DEFAULT_GITHUB_URL,
  type Environment,
  isThisMachine,
  type Variable,
} from "./config.ts";
import { examineDatabase } from "./doctor_database.ts";
import { PoolError } from "./errors.ts";
import { clockFinding, fail, type Finding, ok, unseen, warn } from "./findings.ts";
import type { AppInspection, GitHub } from "./github.ts";
import { REQUIRED } from "./service.ts";
import type { Vault } from "./vault.ts";

/** What the doctor looks at. */
export interface DoctorOptions {
  vault: Vault;
  environment: Environment;
  /** GitHub, once the settings are good enough to speak to it. */
  openGitHub: () => GitHub;
  /** This machine's clock, epoch milliseconds. */
  now: () => number;
  /** Milliseconds that only ever go up, to measure with. */
  elapsed: () => number;
}

/** Everything that was found, in the order in which to mend it. */
export async function examine(options: DoctorOptions): Promise<Finding[]> {
  const { config } = options.vault.settings.inspect();
  return [
    ...aboutSettings(options),
    ...aboutAddress(options, config),
    ...await examineDatabase({ ...options, config }),
    ...await aboutGitHub(options),
  ];
}

const KEYS: readonly Variable[] = ["TOKEN_ENCRYPTION_KEY", "TOKEN_ENCRYPTION_KEYS_PREVIOUS"];

function aboutSettings({ vault: { settings } }: DoctorOptions): Finding[] {
  const { config, problems } = settings.inspect(REQUIRED);
  const said = (some: typeof problems) => some.map(({ name, message }) => `${name} ${message}`).join("; ");
  const [keys, others] = [true, false].map((ofKey) => problems.filter(({ name }) => KEYS.includes(name) === ofKey));
  const linked = (name: Variable) => settings.linkTo(name);
  const links = [...new Set(others!.map(({ name }) => linked(name)).filter((link) => link !== null))];
  const findings = [
    others!.length === 0
      ? ok("environment", "what the service needs is set")
      : fail("environment", said(others!), ["set these variables, then start the service anew", ...links].join(" ")),
    keys!.length === 0
      ? ok("key-form", "64 hex digits")
      : fail("key-form", said(keys!), "use the key that the pool has; for a new pool `openssl rand -hex 32` makes one"),
  ];
  if (config === null) return findings;
  findings.push(
    config.TOKEN_POOL_DISABLED
      ? warn("kill-switch", "TOKEN_POOL_DISABLED is set: nothing is handed out or taken", "unset TOKEN_POOL_DISABLED")
      : ok("kill-switch", "off"),
    config.TOKEN_POOL_RESERVE === 0
      ? warn(
        "reserve",
        "TOKEN_POOL_RESERVE is 0: donors who do not choose keep nothing for themselves",
        "set TOKEN_POOL_RESERVE to 0.25, or unset it",
      )
      : ok("reserve", `${config.TOKEN_POOL_RESERVE} of each limit stays its donor's`),
  );
  if (config.GITHUB_URL !== DEFAULT_GITHUB_URL && config.GITHUB_API_URL === DEFAULT_GITHUB_API_URL) {
    const [site, api] = [new URL(config.GITHUB_URL).host, new URL(config.GITHUB_API_URL).host];
    findings.push(fail(
      "github-address",
      `tokens and the app's secret of ${site} would be sent to ${api}: GITHUB_URL is set, and GITHUB_API_URL is not`,
      `set GITHUB_API_URL as well, to ${config.GITHUB_URL}/api/v3 on GitHub Enterprise Server`,
    ));
  }
  const id = config.GITHUB_CLIENT_ID;
  if (id !== undefined) {
    findings.push(
      // docs.github.com/apps: ids of GitHub Apps begin so; those of OAuth Apps with Ov, or are 20 hex digits.
      /^Iv/.test(id)
        ? warn(
          "app-kind",
          "GITHUB_CLIENT_ID is of a GitHub App, whose consent screen says more than is asked for",
          "register an OAuth App at https://github.com/settings/developers, and use its id and secret",
        )
        : ok("app-kind", "an OAuth App"),
    );
  }
  return findings;
}

/** Where the public finds the service; looked at as it was written, since only its origin is used. */
function aboutAddress({ environment, vault }: DoctorOptions, config: Config | null): Finding[] {
  const text = environment("PUBLIC_URL")?.trim() ?? "";
  if (text === "") {
    if (vault.settings.onValTown) return [ok("public-url", "not set; on Val Town it is the val's own address")];
    const port = config?.PORT ?? 8000;
    return [warn(
      "public-url",
      `not set, so GitHub sends donors back to http://localhost:${port}/callback`,
      "set PUBLIC_URL to the service's address, such as https://pool.example, unless this is only a trial",
    )];
  }
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    return [fail("public-url", "PUBLIC_URL is not an address", "set PUBLIC_URL to one such as https://pool.example")];
  }
  const { protocol, hostname, origin, pathname, search, hash, username } = new URL(text);
  if (protocol === "http:" && !isThisMachine(hostname)) {
    return [fail(
      "public-url",
      `PUBLIC_URL is http on ${hostname}: browsers refuse the service's cookies, and codes travel in the open`,
      `serve it by https, and set PUBLIC_URL to https://${hostname}`,
    )];
  }
  if (pathname !== "/" || search !== "" || hash !== "" || username !== "") {
    return [warn(
      "public-url",
      `PUBLIC_URL is more than an origin; only ${origin} of it is used`,
      `set PUBLIC_URL to ${origin}, and the app's callback URL to ${origin}/callback`,
    )];
  }
  return [ok("public-url", `the app's callback URL must be ${origin}/callback, and nothing below it`)];
}

async function aboutGitHub({ openGitHub, now }: DoctorOptions): Promise<Finding[]> {
  let github: GitHub;
  try {
    github = openGitHub();
  } catch (error) {
    if (!(error instanceof PoolError)) throw error;
    return ["github", "oauth-app", "github-clock"].map((name) => unseen(name, "environment and key-form"));
  }
  const before = now();
  let app: AppInspection;
  try {
    app = await github.inspectApp();
  } catch (error) {
    if (!(error instanceof PoolError)) throw error;
    return [
      fail("github", error.message, "check GITHUB_API_URL, this machine's way to the internet, and githubstatus.com"),
      ...["oauth-app", "github-clock"].map((name) => unseen(name, "github")),
    ];
  }
  const findings = [
    app.status < 500
      ? ok("github", "answers")
      : warn("github", `answers with status ${app.status}`, "see githubstatus.com, and run the doctor again later"),
    oauthFinding(app),
  ];
  if (app.date === null) {
    return [...findings, warn("github-clock", "GitHub's answer has no date", "check GITHUB_API_URL: is it GitHub's?")];
  }
  // The header has whole seconds, so on average it is half a second behind.
  const skewMs = app.date + 500 - (before + now()) / 2;
  return [...findings, clockFinding("github-clock", "GitHub's clock", skewMs, "this machine")];
}

function oauthFinding({ credentials, status }: AppInspection): Finding {
  switch (credentials) {
    case "right":
      return ok("oauth-app", "GitHub knows the app and its secret");
    case "wrong":
      return fail(
        "oauth-app",
        "GitHub does not accept GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET",
        "copy both again from https://github.com/settings/developers; a secret is shown only once, so make a new one",
      );
    case "unclear":
      return warn(
        "oauth-app",
        `GitHub answered with status ${status}, which tells nothing of the app`,
        "run the doctor again later; if it stays, see whether the app is suspended",
      );
  }
}
