/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * The landing page: what a donor lends, what can never be done with it, what it costs, and how to leave.
 *
 * @module
 */

import type { Child } from "npm:hono@4.13.19/jsx";
import { Chart, type ChartProps, DonationsChart, type DonationsChartProps } from "./chart.tsx";
import { type Html, page } from "./layout.tsx";
import { SITE, type Site } from "./site.ts";
import { format, keptOf, LIMIT, percent, Stored } from "./stored.tsx";

/** What the landing page shows. */
export interface LandingProps {
  figures: {
    state: "ok" | "degraded" | "exhausted" | "empty" | "down";
    healthy: number;
    /** Calls that can be claimed now. */
    usable: number;
    /** Calls an hour that are lent. */
    capacity: number;
    callsLast24h: number;
    /** Calls by hour and by day. */
    hours: ChartProps["points"];
    days: ChartProps["points"];
    /** Donations by day. */
    donations: DonationsChartProps["points"];
  };
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
  /** Where the public finds this service; null when that cannot be told. */
  origin: string | null;
  site?: Site;
}

/** Renders the landing page. */
export function landingPage(props: LandingProps): Html {
  const { problems, isDisabled, figures, grantUrl, importUrl, origin, site = SITE } = props;
  const isOpen = problems.length === 0 && !isDisabled;
  return page(
    "Lend your unused GitHub calls",
    <>
      <div class={isOpen ? "hero" : "hero closed"}>
        <div>
          <h1>Lend the GitHub calls that you do not use</h1>
          <p class="lead">
            GitHub gives every user {format(LIMIT)}{" "}
            API calls an hour, and most go unused. Lend some of yours, for public data only, to the programs named
            below.
          </p>
          <ul class="ticks">
            <li>No permission is asked for</li>
            <li>Your share stays yours</li>
            <li>Leave at any time, in two clicks</li>
          </ul>
        </div>
        {isOpen && <DonateForm {...props} />}
        {problems.length > 0 && <SetUp problems={problems} origin={origin} />}
        {problems.length === 0 && isDisabled && (
          <p class="panel" role="status">
            The operator has paused this pool. Nothing is drawn from it at the moment. You can still withdraw a token.
          </p>
        )}
      </div>
      <Section id="pool" title="The pool now">
        <Figures {...figures} />
      </Section>
      <Section id="terms" title="What you agree to">
        <Terms grantUrl={grantUrl} />
      </Section>
      <Section id="screen" title="What GitHub will show you">
        <ConsentScreen />
      </Section>
      <Section id="used-by" title="Used by">
        <UsedBy {...site} />
      </Section>
      <Section id="questions" title="Questions that donors ask">
        <Questions grantUrl={grantUrl} />
      </Section>
      <Section id="github-terms" title="GitHub’s terms">
        <p>
          Section H of{" "}
          <a href="https://docs.github.com/en/site-policy/github-terms/github-terms-of-service#h-api-terms">
            GitHub’s terms of service
          </a>{" "}
          says: “You may not share API tokens to exceed GitHub’s rate limitations.” Pools like this one have been run
          openly for years, but GitHub has not said that it allows them, and it may suspend an account’s access to its
          API. <strong>You lend at your own risk.</strong>
        </p>
        <p>
          What this pool does about it: one token for each person, your share left alone, every refusal by GitHub
          obeyed, and public data only.
        </p>
      </Section>
      <Section id="programs" title="For programs">
        <p>One import, and each call goes out with a token of the pool:</p>
        <pre><code>{snippet(importUrl ?? "https://esm.town/v/<user>/token-pool@1-main/lib/pool.ts")}</code></pre>
        <p class="quiet">
          It needs the pool’s{" "}
          <code>TOKEN_ENCRYPTION_KEY</code>, and with it can read every token here: the operator gives it only to
          programs that donors can trust. Elsewhere than in the operator’s own Val Town account, it also needs{" "}
          <code>TOKEN_POOL_DATABASE_URL</code>.
        </p>
      </Section>
      <Section id="operator" title="Who runs this">
        <Operator {...site} />
      </Section>
    </>,
    { origin, site },
  );
}

function Section({ id, title, children }: { id: string; title: string; children?: Child }) {
  return (
    <section class="row" aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      <div>{children}</div>
    </section>
  );
}

const STATES = {
  ok: null,
  degraded:
    "GitHub refuses many tokens at once. The pool waits until it knows more, and deletes nothing on that alone.",
  exhausted: "All that was lent for this hour is used. More comes when the next hour of a donor begins.",
  empty: "The pool is empty. Yours would be the first token.",
};

function Figures({ state, healthy, usable, capacity, callsLast24h, ...history }: LandingProps["figures"]) {
  const { hours, days, donations } = history;
  const hasCalls = days.some(({ calls }) => calls > 0);
  const hasDonations = donations.some(({ count }) => count !== null && count > 0);
  if (state === "down") return <p class="panel" role="status">The pool’s figures are not available at the moment.</p>;
  return (
    <>
      <dl class="figures">
        <div>
          <dt>{healthy === 1 ? "token in service" : "tokens in service"}</dt>
          <dd id="healthy">{format(healthy)}</dd>
        </div>
        <div>
          <dt>calls lent an hour</dt>
          <dd>{format(capacity)}</dd>
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
      {STATES[state] !== null && <p class="note" role="status">{STATES[state]}</p>}
      {(hasCalls || hasDonations) && (
        <div class="charts">
          {hasCalls && <Chart title="Calls in the last 24 hours" points={hours} unit="hour" />}
          {hasCalls && <Chart title="Calls in the last 30 days" points={days} unit="day" />}
          {hasDonations && <DonationsChart title="Donations in the last 30 days" points={donations} />}
        </div>
      )}
    </>
  );
}

function DonateForm({ reserves, suggestedReserve }: LandingProps) {
  return (
    <form action="/auth" method="get" class="panel donate">
      <fieldset>
        <legend>How much of your hourly limit stays yours?</legend>
        {reserves.map((reserve) => (
          <label key={reserve}>
            <input type="radio" name="reserve" value={String(reserve)} checked={reserve === suggestedReserve} />
            <b>{percent(reserve)}</b> <span>{format(keptOf(reserve))} calls</span>
          </label>
        ))}
      </fieldset>
      <button type="submit">Donate a token with GitHub</button>
      <p class="quiet">GitHub asks you to confirm. Nothing is stored before that.</p>
    </form>
  );
}

function Terms({ grantUrl }: Pick<LandingProps, "grantUrl">) {
  return (
    <dl class="terms">
      <div>
        <dt>What you share</dt>
        <dd>
          A GitHub token without any scope. It reads what everybody can read on GitHub, and what it reads counts against
          your limit.
        </dd>
      </div>
      <div>
        <dt>What we can never do</dt>
        <dd>
          See private data or an e-mail address that you do not show, write anything, or act as you. We check that when
          you come back from GitHub, and refuse any other token.
        </dd>
      </div>
      <div>
        <dt>What it costs you</dt>
        <dd>
          Up to the rest of your hourly limit, and nothing else. The pool stops at the share that you keep; what you use
          yourself counts first.
        </dd>
      </div>
      <div>
        <dt>How you leave</dt>
        <dd>
          {grantUrl === null ? "Withdraw here" : <a href="/withdraw">Withdraw here</a>}{" "}
          at any time, which deletes what is stored and revokes the token, or revoke it{" "}
          {grantUrl === null ? "in your settings at GitHub" : <a href={grantUrl}>at GitHub</a>}.
        </dd>
      </div>
      <div class="whole">
        <dt>What is stored</dt>
        <dd>
          <Stored />
        </dd>
      </div>
    </dl>
  );
}

function ConsentScreen() {
  return (
    <div class="screen">
      <div>
        <p>
          GitHub asks you to authorize this app, and says that it wants <strong>public data only</strong>.
        </p>
        <p>
          If it names anything else, such as repositories or e-mail, press{" "}
          <em>Cancel</em>: this page asks for no permission at all, and refuses a token that has one.
        </p>
      </div>
      <figure>
        <div class="sketch">
          <p>
            <b>GitHub Token Pool</b> wants to access your account
          </p>
          <p>
            <b>Public data only</b>
            <br />
            Limited access to your public data
          </p>
          <p class="sketched">
            <span>Cancel</span> <span>Authorize</span>
          </p>
        </div>
        <figcaption class="quiet">GitHub’s screen, in short. Its own words may change.</figcaption>
      </figure>
    </div>
  );
}

function UsedBy({ consumers }: Site) {
  if (consumers.length === 0) {
    return <p>No program is listed yet. Ask the operator who will use your calls before you lend any.</p>;
  }
  return (
    <ul class="consumers">
      {consumers.map(({ name, url, purpose }) => (
        <li key={url}>
          <a href={url}>{name}</a> <span>{purpose}</span>
        </li>
      ))}
    </ul>
  );
}

function Questions({ grantUrl }: Pick<LandingProps, "grantUrl">) {
  return (
    <div class="questions">
      <Question asked="Can you act on my behalf?">
        No. GitHub’s screen says “act on your behalf” for GitHub Apps; this is an OAuth App that asks for no scope, so
        its tokens only read, and only what is public.
      </Question>
      <Question asked="What scopes are needed?">
        None. The address at GitHub that you are sent to names no scope, and when you come back we look at what GitHub
        really granted. If it is anything at all, we store nothing and have it revoked.
      </Question>
      <Question asked="Could it leave me or my company vulnerable?">
        A token without scopes sees neither private repositories nor private organizations. Who stole it could read
        public data and use up your hourly limit, until you revoke it.
      </Question>
      <Question asked="Do I authorize each program, or once?">
        Once. All programs under <a href="#used-by">Used by</a>{" "}
        share what is lent. The operator keeps that list; if you do not like who is added, leave.
      </Question>
      <Question asked="Will my own tools hit the limit?">
        GitHub counts per person, so your own tokens, your tools and this pool draw on the same limit. The pool goes no
        lower than the share that you keep, of each of GitHub’s limits. What you use yourself, it learns from GitHub’s
        answers, so after a burst of yours it can be a few calls late.
      </Question>
      <Question asked="Can I change my share, pause, or lend two tokens?">
        Change and pause under{" "}
        <a href="/donation">My donation</a>. Donating again takes the place of your first donation, whose token is
        revoked: there is one token for each person, never two.
      </Question>
      <Question asked="How am I sure that the token is discarded?">
        Withdrawing deletes your row, then asks GitHub to delete this app’s authorization with all its tokens. If GitHub
        does not confirm that, the page says so and the pool keeps asking. You can see it yourself: the app is gone from
        {" "}
        {grantUrl === null ? "your settings at GitHub" : <a href={grantUrl}>your GitHub settings</a>}, and a copy in a
        backup is then worth nothing.
      </Question>
      <Question asked="I revoked it at GitHub. Do I have to tell you?">
        No. GitHub refuses the token when it is next used. The pool stops using it at once, asks GitHub whether it still
        exists, and when it does not, deletes all that is stored of your donation.
      </Question>
      <Question asked="Who learns that I donate?">
        No page and no figure here names a donor. The operator knows, and a program holds your token while it uses it,
        so it could ask GitHub whose it is.
      </Question>
    </div>
  );
}

function Question({ asked, children }: { asked: string; children?: Child }) {
  return (
    <details>
      <summary>{asked}</summary>
      <p>{children}</p>
    </details>
  );
}

function Operator({ sourceUrl, contactUrl }: Site) {
  return (
    <>
      <p>
        {contactUrl === null
          ? "The operator has not said how to be reached."
          : <a href={contactUrl}>Write to the operator</a>}
      </p>
      <p>
        {sourceUrl === null
          ? "The source of this pool is not linked here."
          : <a href={sourceUrl}>Read the source of this pool</a>}
      </p>
    </>
  );
}

function SetUp({ problems, origin }: Pick<LandingProps, "problems" | "origin">) {
  return (
    <section class="panel" aria-labelledby="set-up">
      <h2 id="set-up">This pool is not set up yet</h2>
      <p>Nobody can donate until its operator has done this:</p>
      <ol>
        <li>
          <a href="https://github.com/settings/applications/new">Register an OAuth App</a>{" "}
          at GitHub (not a GitHub App), with this callback URL and nothing below it:
          <code class="block">{origin === null ? "https://<this site’s address>/callback" : `${origin}/callback`}</code>
          {origin !== null && /^http:\/\/localhost\b/.test(origin) && (
            <span class="quiet">
              If the public finds this pool elsewhere, set <code>PUBLIC_URL</code> first.
            </span>
          )}
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
        <li>Load this page again: it shows what is still missing.</li>
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
