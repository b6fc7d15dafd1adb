/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * A donor's own page: how the donation is doing, what it has given, and how to change, pause or end it.
 *
 * @module
 */

import { type Html, page } from "./layout.tsx";
import { format, keptOf, percent } from "./stored.tsx";

/** Renders the page before anybody has said who they are. */
export function askDonorPage(): Html {
  return page(
    "My donation",
    <div class="narrow">
      <h1>My donation</h1>
      <p class="lead">See what your token does in the pool, change the share that you keep, pause it, or leave.</p>
      <ol class="steps">
        <li>GitHub tells us who you are. It may ask you to confirm, as it did when you donated.</li>
        <li>For that it gives us a new token, which we ask GitHub to revoke at once. Your donation is not touched.</li>
        <li>For ten minutes an encrypted cookie remembers who you are, for this page only.</li>
      </ol>
      <form action="/donation" method="post">
        <button type="submit">Show my donation</button>
      </form>
    </div>,
  );
}

/** What a donor is shown. */
export interface DonationProps {
  login: string;
  /** What has just been done, if anything. */
  done: "reserve" | "pause" | "resume" | null;
  /** Whether GitHub has confirmed that the token which told who this is has been revoked. */
  isRevoked: boolean;
  /** The operator has switched the whole pool off. */
  isDisabled: boolean;
  /** Null when there is none. */
  donation: {
    /** All times are epoch milliseconds. */
    now: number;
    donatedAt: number;
    reserve: number;
    state: "serving" | "resting" | "unused" | "suspended" | "paused";
    restsUntil: number | null;
    limit: number;
    floor: number;
    calls: { total: number; today: number; last30Days: number };
    lastUsedOn: number | null;
  } | null;
  /** Shares that can be chosen. */
  reserves: readonly number[];
  grantUrl: string;
}

type Donation = NonNullable<DonationProps["donation"]>;

/** Renders the page. */
export function donationPage(
  { login, done, isRevoked, isDisabled, donation, reserves, grantUrl }: DonationProps,
): Html {
  return page(
    "My donation",
    <div class="narrow">
      <h1>{donation === null ? "There is no donation of yours here" : "My donation"}</h1>
      {done !== null && donation !== null && <p class="lead" role="status">{DONE[done]}</p>}
      <p class={done === null ? "lead" : "quiet"}>
        You are <strong>{login}</strong> at GitHub. {donation === null &&
          "No token of that account is in the pool: it was never lent, was withdrawn, or was revoked."}
      </p>
      {isDisabled && donation !== null && (
        <p class="panel">The operator has switched the pool off: nothing is drawn from any token at the moment.</p>
      )}
      {!isRevoked && (
        <p class="panel">
          GitHub did not confirm that the token which told us who you are has been revoked. We ask again as soon as we
          can, and use it for nothing else.
        </p>
      )}
      {donation === null
        ? (
          <p>
            <a class="button" href="/">Lend a token</a>
          </p>
        )
        : <Donated donation={donation} reserves={reserves} grantUrl={grantUrl} />}
      <form action="/donation" method="post">
        <p class="quiet">This page forgets who you are after ten minutes, or now:</p>
        <p>
          <button class="plain" type="submit" name="do" value="forget">Forget who I am</button>
        </p>
      </form>
    </div>,
  );
}

function Donated(
  { donation, reserves, grantUrl }: Pick<DonationProps, "reserves" | "grantUrl"> & { donation: Donation },
) {
  const { donatedAt, reserve, limit, floor, calls, lastUsedOn } = donation;
  const isPaused = donation.state === "paused";
  return (
    <>
      <dl class="terms">
        <div class="whole">
          <dt>State</dt>
          <dd id="state">{stateOf(donation)}</dd>
        </div>
        <div>
          <dt>Calls drawn today (UTC)</dt>
          <dd id="calls-today">{format(calls.today)}</dd>
        </div>
        <div>
          <dt>Calls drawn in 30 days, today among them</dt>
          <dd id="calls-30-days">{format(calls.last30Days)}</dd>
        </div>
        <div>
          <dt>Last used</dt>
          <dd id="last-used">{lastUseOf(calls.total, lastUsedOn)}</dd>
        </div>
        <div>
          <dt>Last donated</dt>
          <dd>{dayOf(donatedAt)}</dd>
        </div>
        <div class="whole">
          <dt>What stays yours</dt>
          <dd id="reserve">
            {percent(reserve)} of your limit: at least {format(floor)} of {format(limit)} calls an hour.
          </dd>
        </div>
      </dl>
      <p class="quiet">
        Calls are counted when a program is given them, in days of UTC. The time of day of the last one is not stored.
      </p>
      <form class="panel donate" action="/donation" method="post">
        <fieldset>
          <legend>How much of your hourly limit stays yours?</legend>
          {reserves.map((share) => (
            <label key={share}>
              <input type="radio" name="reserve" value={String(share)} checked={share === reserve} required />
              {percent(share)}
              <span>{format(keptOf(share, limit))} calls</span>
            </label>
          ))}
        </fieldset>
        <button type="submit" name="do" value="reserve">Keep this much</button>
      </form>
      <form class="panel donate" action="/donation" method="post">
        <h2>{isPaused ? "Resume" : "Pause"}</h2>
        <p>
          {isPaused
            ? "Your token joins the end of the queue again, with what is left of its limit."
            : "Nobody is given your token until you resume. Programs that have just been given calls may still make them, for about ten seconds."}
        </p>
        <button type="submit" name="do" value={isPaused ? "resume" : "pause"}>
          {isPaused ? "Resume" : "Pause"}
        </button>
      </form>
      <p>
        To leave for good, <a href="/withdraw">withdraw your token</a>, or revoke the app{" "}
        <a href={grantUrl}>at GitHub</a>. Both work at any time.
      </p>
    </>
  );
}

const DONE = {
  reserve: "The share that you keep is changed.",
  pause: "Your token is paused. Nobody is given it any more.",
  resume: "Your token serves again.",
};

function stateOf({ state, restsUntil, now }: Donation): string {
  switch (state) {
    case "serving":
      return "Serving: programs are given its calls in turn.";
    case "resting":
      return `Resting until ${
        timeOf(restsUntil!, now)
      }: what you share of this hour is used up, or GitHub asked for a break.`;
    case "unused":
      return "Not used: the share that you keep leaves nothing to draw.";
    case "suspended":
      return "Suspended: GitHub refused the token, and is being asked whether it is still good. Nobody is given it meanwhile.";
    case "paused":
      return "Paused by you. Nobody is given it until you resume.";
  }
}

function lastUseOf(total: number, day: number | null): string {
  if (day !== null) return dayOf(day);
  return total === 0 ? "never" : "not on any day that is still counted";
}

function dayOf(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}

function timeOf(time: number, now: number): string {
  const text = `${new Date(time).toISOString().slice(11, 19)} UTC`;
  return dayOf(time) === dayOf(now) ? text : `${text} on ${dayOf(time)}`;
}
