/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * What a donor sees afterwards: who, what is kept, and both ways out.
 *
 * @module
 */

import { type Html, page } from "./layout.tsx";

/** What the page shows. */
export interface ThanksProps {
  login: string;
  reserve: number;
  isUpdate: boolean;
  expires: boolean;
  grantUrl: string;
}

/** Renders the page. */
export function thanksPage({ login, reserve, isUpdate, expires, grantUrl }: ThanksProps): Html {
  const kept = Math.ceil(5000 * reserve);
  return page(
    "Thank you",
    <>
      <h1>Thank you, {login}</h1>
      <p class="lead" role="status">
        {isUpdate
          ? "Your donation is updated. The token that it replaces is revoked at GitHub."
          : `The pool has ${(5000 - kept).toLocaleString("en")} more calls an hour.`}
      </p>
      <dl>
        <dt>What is kept</dt>
        <dd>
          Your GitHub user id and login, the share that you keep, when you donated, how many calls were drawn, and your
          token, which alone is a secret and is encrypted.{" "}
          {expires
            ? "GitHub lets this token expire after some hours; the pool also keeps, encrypted, what it needs to renew it."
            : ""}
        </dd>
        <dt>What stays yours</dt>
        <dd>
          {Math.round(reserve * 100)} % of your limit: at least {kept.toLocaleString("en")} of 5,000 calls an hour.
        </dd>
        <dt>How you leave</dt>
        <dd>
          <a href="/withdraw">Withdraw here</a>, or revoke the app{" "}
          <a href={grantUrl}>at GitHub</a>. Both work at any time.
        </dd>
      </dl>
    </>,
  );
}
