/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * Leaving: what happens, one button, and what has happened.
 *
 * @module
 */

import { type Html, page } from "./layout.tsx";

/** Renders the page before. */
export function withdrawPage({ grantUrl }: { grantUrl: string }): Html {
  return page(
    "Withdraw your token",
    <div class="narrow">
      <h1>Withdraw your token</h1>
      <p class="lead">It takes two clicks, needs no reason, and takes effect at once.</p>
      <ol class="steps">
        <li>GitHub tells us who you are.</li>
        <li>Everything that is stored of your donation is deleted.</li>
        <li>This app’s access to your account is revoked at GitHub.</li>
      </ol>
      <form action="/withdraw" method="post">
        <button type="submit">Withdraw with GitHub</button>
      </form>
      <p class="quiet">
        Only want a break? Pause it, or keep a larger share, in <a href="/donation">my donation</a>.
      </p>
      <p class="quiet">
        You can also revoke the app{" "}
        <a href={grantUrl}>at GitHub</a>. The pool notices when the token is next used, and deletes it then.
      </p>
    </div>,
  );
}

/** What has happened. */
export interface WithdrawnProps {
  wasDonor: boolean;
  isRevoked: boolean;
  /** When, as ISO 8601. */
  at: string;
  grantUrl: string;
}

/** Renders the page after. */
export function withdrawnPage({ wasDonor, isRevoked, at, grantUrl }: WithdrawnProps): Html {
  return page(
    wasDonor ? "Withdrawn" : "Nothing to withdraw",
    <div class="narrow">
      <h1>{wasDonor ? "Your token is out of the pool" : "There is no token of yours here"}</h1>
      <p class="lead" role="status">
        {wasDonor ? `Deleted at ${at.slice(11, 19)} UTC on ${at.slice(0, 10)}. ` : ""}
        {isRevoked
          ? "This app’s access to your account is revoked at GitHub."
          : "GitHub did not confirm that this app’s access is revoked."}
      </p>
      {!isRevoked && (
        <p>
          To be sure, revoke the app <a href={grantUrl}>at GitHub</a>{" "}
          yourself. The pool asks again as soon as it can, and holds the new token, encrypted, for nothing else.
        </p>
      )}
      {wasDonor && <p>Thank you for what you lent. You can come back at any time.</p>}
      <p>
        <a class="button plain" href="/">To the start</a>
      </p>
    </div>,
  );
}
