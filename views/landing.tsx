/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * The landing page: what a donor lends, what can never be done with it, what it costs, and how to leave.
 *
 * @module
 */

import { type Html, page } from "./layout.tsx";
import { CONSUMERS } from "./site.ts";

/** What the landing page shows. */
export interface LandingProps {
  figures: { healthy: number; usable: number; callsLast24h: number; isDown: boolean };
  /** Shares that a donor can keep, and the one that is chosen beforehand. */
  reserves: readonly number[];
  suggestedReserve: number;
  /** Where a donor finds this app's grant at GitHub; null when the app is not set up. */
  grantUrl: string | null;
  /** What is missing before anybody can donate: names and remedies, for the operator. */
  problems: { name: string; message: string; settingsUrl: string | null }[];
  /** The operator has switched the pool off. */
  isDisabled: boolean;
  /** Where the library can be imported from; null when that is not known. */
  importUrl: string | null;
}

/** Renders the landing page. */
export function landingPage(props: LandingProps): Html {
  return page(
    "Lend your unused GitHub calls",
    <>
      <h1>Lend the GitHub calls that you do not use</h1>
      <p class="lead">
        GitHub gives every user 5,000 API calls an hour, and most go unused. Lend some of yours, read-only and public
        data only, to the programs named below.
      </p>
      {props.problems.length > 0 && <SetUp problems={props.problems} />}
      {props.isDisabled && (
        <p class="panel" role="status">The operator has paused this pool. Nothing is drawn from it at the moment.</p>
      )}
      <Figures {...props.figures} />
      {props.problems.length === 0 && !props.isDisabled && <DonateForm {...props} />}
      <Terms grantUrl={props.grantUrl} />
      <h2>What GitHub will show you</h2>
      <p>
        GitHub asks you to authorize this app and says that it wants{" "}
        <em>public data only</em>. If it names anything else, such as repositories or e-mail, cancel: this page asks for
        no permission at all, and refuses a token that has one.
      </p>
      <h2>Who draws on the pool</h2>
      {CONSUMERS.length === 0 ? <p>No program is listed yet.</p> : (
        <ul>
          {CONSUMERS.map(({ name, url, purpose }) => (
            <li key={url}>
              <a href={url}>{name}</a>: {purpose}
            </li>
          ))}
        </ul>
      )}
      <h2>GitHub’s terms</h2>
      <p>
        Section H of{" "}
        <a href="https://docs.github.com/en/site-policy/github-terms/github-terms-of-service#h-api-terms">
          GitHub’s terms of service
        </a>{" "}
        says: “You may not share API tokens to exceed GitHub’s rate limitations.” Pools like this one have been run
        openly for years, but GitHub has not said that it allows them, and it may suspend an account’s access to its
        API. You lend at your own risk.
      </p>
      <h2>For programs</h2>
      <pre>
        <code>{snippet(props.importUrl ?? "https://esm.town/v/<user>/token-pool@1-main/lib/pool.ts")}</code>
      </pre>
    </>,
  );
}

function Figures({ healthy, usable, callsLast24h, isDown }: LandingProps["figures"]) {
  if (isDown) return <p class="panel" role="status">The pool’s figures are not available at the moment.</p>;
  return (
    <dl class="figures">
      <div>
        <dt>{healthy === 1 ? "token in service" : "tokens in service"}</dt>
        <dd id="healthy">{format(healthy)}</dd>
      </div>
      <div>
        <dt>calls free to use now</dt>
        <dd>{format(usable)}</dd>
      </div>
      <div>
        <dt>calls served in 24 hours</dt>
        <dd>{format(callsLast24h)}</dd>
      </div>
    </dl>
  );
}

function DonateForm({ reserves, suggestedReserve }: LandingProps) {
  return (
    <form action="/auth" method="get">
      <fieldset>
        <legend>How much of your hourly limit stays yours?</legend>
        {reserves.map((reserve) => (
          <label key={reserve}>
            <input type="radio" name="reserve" value={String(reserve)} checked={reserve === suggestedReserve} />
            <span>
              {percent(reserve)} ({format(Math.ceil(5000 * reserve))} of 5,000 calls)
            </span>
          </label>
        ))}
      </fieldset>
      <button type="submit">Donate a token with GitHub</button>
    </form>
  );
}

function Terms({ grantUrl }: Pick<LandingProps, "grantUrl">) {
  return (
    <>
      <h2>What you agree to</h2>
      <dl>
        <dt>What you share</dt>
        <dd>
          A GitHub token without any scope: it can read what everybody can read on GitHub, and counts against your
          limit.
        </dd>
        <dt>What it can never do</dt>
        <dd>
          See private data or your e-mail address, write anything, or act as you. We check that, and refuse any other
          token.
        </dd>
        <dt>What is stored</dt>
        <dd>
          Your GitHub user id and login, the share you keep, when you donated, how many calls were drawn, and the token,
          encrypted with AES-256-GCM. The key is not in the database.
        </dd>
        <dt>What it costs you</dt>
        <dd>
          Up to the rest of your hourly limit. The share that you keep is left alone by every program that draws on the
          pool; what you use yourself counts first.
        </dd>
        <dt>How you leave</dt>
        <dd>
          {grantUrl === null ? "Withdraw here" : <a href="/withdraw">Withdraw here</a>}{" "}
          at any time, which deletes what is stored and revokes the token, or revoke it{" "}
          {grantUrl === null ? "in your settings at GitHub" : <a href={grantUrl}>at GitHub</a>}.
        </dd>
      </dl>
    </>
  );
}

function SetUp({ problems }: Pick<LandingProps, "problems">) {
  return (
    <section class="panel" aria-labelledby="set-up">
      <h2 id="set-up">This pool is not set up yet</h2>
      <p>Nobody can donate until its operator has done this:</p>
      <ol>
        <li>
          <a href="https://github.com/settings/applications/new">Register an OAuth App</a>{" "}
          at GitHub (not a GitHub App), with this site’s address and <code>/callback</code> as its callback URL.
        </li>
        <li>
          Set these environment variables:
          <ul>
            {problems.map(({ name, message, settingsUrl }) => (
              <li key={name}>
                {settingsUrl === null ? <code>{name}</code> : (
                  <a href={settingsUrl}>
                    <code>{name}</code>
                  </a>
                )} {withCode(message)}
              </li>
            ))}
          </ul>
        </li>
      </ol>
    </section>
  );
}

/** What stands between backticks, as code. */
function withCode(text: string) {
  return text.split("`").map((part, index) => index % 2 === 1 ? <code key={index}>{part}</code> : part);
}

function snippet(importUrl: string): string {
  return `import { poolFetch } from "${importUrl}";

const response = await poolFetch("/repos/denoland/deno");`;
}

function format(count: number): string {
  return count.toLocaleString("en");
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
