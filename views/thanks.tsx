/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * What a donor sees afterwards: who, what is kept, and both ways out.
 *
 * @module
 */

import { type Html, page } from "./layout.tsx";
import { format, keptOf, LIMIT, percent, Stored } from "./stored.tsx";

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
  const kept = keptOf(reserve);
  return page(
    isUpdate ? "Your donation is updated" : "Thank you",
    <div class="narrow">
      <h1>Thank you, {login}</h1>
      <p class="lead" role="status">
        {isUpdate
          ? "Your donation is updated, and GitHub is asked to revoke the token that it replaces."
          : `The pool has ${format(LIMIT - kept)} more calls an hour.`}
      </p>
      <dl class="terms single">
        <div>
          <dt>What stays yours</dt>
          <dd>
            {percent(reserve)} of your limit: at least {format(kept)} of {format(LIMIT)}{" "}
            calls an hour, and the same share of GitHub’s other limits.
          </dd>
        </div>
        <div>
          <dt>How you leave</dt>
          <dd>
            <a href="/withdraw">Withdraw here</a>, or revoke the app{" "}
            <a href={grantUrl}>at GitHub</a>. Both work at any time. Under <a href="/donation">My donation</a>{" "}
            you see what is drawn, and can pause.
          </dd>
        </div>
        <div>
          <dt>What is kept</dt>
          <dd>
            <Stored expires={expires} />
            {expires && (
              <p>
                GitHub lets this token expire after some hours; the pool renews it until you leave.
              </p>
            )}
          </dd>
        </div>
      </dl>
    </div>,
  );
}
