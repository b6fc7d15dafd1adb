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
    <>
      <h1>Withdraw your token</h1>
      <p>
        GitHub will tell us who you are. Then everything that is stored of your donation is deleted, and this app’s
        access to your account is revoked at GitHub. It takes effect at once.
      </p>
      <form action="/withdraw" method="post">
        <button type="submit">Withdraw with GitHub</button>
      </form>
      <p>
        You can also revoke the app{" "}
        <a href={grantUrl}>at GitHub</a>. The pool notices when the token is next used, and deletes it then.
      </p>
    </>,
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
    "Withdrawn",
    <>
      <h1>{wasDonor ? "Your token is out of the pool" : "There is no token of yours here"}</h1>
      <p class="lead" role="status">
        {wasDonor ? `Deleted at ${at.slice(11, 19)} UTC on ${at.slice(0, 10)}. ` : ""}
        {isRevoked
          ? "This app’s access to your account is revoked at GitHub."
          : "GitHub did not confirm that this app’s access is revoked."}
      </p>
      {!isRevoked && (
        <p>
          We keep asking GitHub, and hold the new token, encrypted, only for that. You can also revoke the app{" "}
          <a href={grantUrl}>at GitHub</a>.
        </p>
      )}
      <p>
        <a href="/">To the start</a>
      </p>
    </>,
  );
}
