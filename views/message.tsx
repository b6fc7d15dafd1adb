/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * Pages that say that something did not work: what happened, that nothing was stored, what to do.
 *
 * @module
 */

import { type Html, page } from "./layout.tsx";

/** What such a page says. */
export interface Message {
  title: string;
  /** What happened. */
  text: string;
  /** What to do. */
  remedy: string;
  /** A path of this site, or of GitHub's. */
  link: { href: string; text: string; isAtGitHub?: boolean };
  /** Where GitHub is, or a GitHub Enterprise Server. */
  githubUrl: string;
  /** Finds the request in the log. */
  reference: string;
}

const AGAIN = { href: "/", text: "To the start" };

/** What is said of each way to fail, and with which status. GitHub's own words are never repeated. */
export const MESSAGES = {
  expired: {
    status: 400,
    title: "That link has expired",
    text:
      "What is begun here must be finished within ten minutes, in the browser that it was begun in. Nothing was stored.",
    remedy: "Start again.",
    link: AGAIN,
  },
  mismatch: {
    status: 400,
    title: "That answer does not belong here",
    text: "GitHub’s answer does not match what was begun in this browser. Nothing was stored.",
    remedy: "Start again, and finish in the same window.",
    link: AGAIN,
  },
  cancelled: {
    status: 200,
    title: "Cancelled",
    text: "You did not authorize the app at GitHub. Nothing was stored.",
    remedy: "That is all. You can come back at any time.",
    link: AGAIN,
  },
  code_refused: {
    status: 400,
    title: "GitHub did not accept the answer",
    text: "That happens when the page is reloaded, or after a long wait. Nothing was stored.",
    remedy: "Start again.",
    link: AGAIN,
  },
  misconfigured: {
    status: 503,
    title: "The pool’s app is not set up right",
    text: "GitHub refused the app itself, not you. Nothing was stored.",
    remedy: "Please tell the operator the reference below.",
    link: AGAIN,
  },
  email_unverified: {
    status: 403,
    title: "GitHub wants a verified e-mail address first",
    text: "GitHub gives tokens only to users whose primary e-mail address is verified. Nothing was stored.",
    remedy: "Verify it in your settings at GitHub, then start again.",
    link: { href: "/settings/emails", text: "Your e-mail settings at GitHub", isAtGitHub: true },
  },
  has_scopes: {
    status: 403,
    title: "That token can do too much",
    text:
      "GitHub gave a token with permissions, because you granted this app some before. The pool takes only tokens " +
      "without any, so GitHub was asked to revoke all that you had granted this app; an earlier donation of yours ends " +
      "with it. Nothing was stored.",
    remedy: "Start again: GitHub will ask you anew, and for public data only.",
    link: AGAIN,
  },
  grant_ends: {
    status: 409,
    title: "Your withdrawal is still under way",
    text:
      "GitHub was asked a moment ago to revoke what you had granted this app, and would revoke a new token along with " +
      "it. Nothing was stored.",
    remedy: "Try again in a minute.",
    link: AGAIN,
  },
  github_away: {
    status: 502,
    title: "GitHub does not answer",
    text: "The pool could not reach GitHub. Nothing was stored.",
    remedy: "Try again in a few minutes.",
    link: AGAIN,
  },
  database_away: {
    status: 503,
    title: "The pool cannot store anything now",
    text:
      "Its database does not answer. Nothing was stored or changed. If GitHub had given a token just now, it was asked " +
      "to revoke it.",
    remedy: "Try again in a few minutes.",
    link: AGAIN,
  },
  wrong_key: {
    status: 503,
    title: "The pool cannot store anything now",
    text:
      "Its encryption key is not the right one, which only its operator can mend. Nothing was stored or changed. If " +
      "GitHub had given a token just now, it was asked to revoke it.",
    remedy: "Please tell the operator the reference below.",
    link: AGAIN,
  },
  not_configured: {
    status: 503,
    title: "This pool is not set up yet",
    text: "Nobody can donate until its operator has set it up. Nothing was stored.",
    remedy: "What is missing stands on the first page.",
    link: AGAIN,
  },
  disabled: {
    status: 503,
    title: "This pool is paused",
    text: "Its operator has switched it off. Nothing was stored.",
    remedy: "Come back later. You can still withdraw a token.",
    link: AGAIN,
  },
  bad_reserve: {
    status: 400,
    title: "That share cannot be chosen",
    text: "The share that you keep must be one of those that the first page offers. Nothing was stored.",
    remedy: "Choose there.",
    link: AGAIN,
  },
  cross_site: {
    status: 403,
    title: "That did not come from this site",
    text: "What changes a donation must be started here. Nothing was stored or changed.",
    remedy: "Start it on this site.",
    link: { href: "/donation", text: "My donation" },
  },
  bad_form: {
    status: 400,
    title: "That form was not understood",
    text: "It is not one that this site sends. Nothing was stored or changed.",
    remedy: "Use the buttons of the page.",
    link: { href: "/donation", text: "My donation" },
  },
  unknown_donor: {
    status: 403,
    title: "We do not know any more who you are",
    text: "That is forgotten after ten minutes. Nothing was stored or changed.",
    remedy: "Let GitHub tell us again.",
    link: { href: "/donation", text: "My donation" },
  },
  rate_limited: {
    status: 429,
    title: "Too many requests",
    text: "More has been asked for in the last minute than one place, or all together, may ask. Nothing was stored.",
    remedy: "Wait a minute, then try again. Your donation, if you have one, is not affected.",
    link: AGAIN,
  },
  not_found: {
    status: 404,
    title: "There is no such page",
    text: "The address may be mistyped, or the page may be gone. Nothing was stored.",
    remedy: "Everything there is can be reached from the first page.",
    link: AGAIN,
  },
  method_not_allowed: {
    status: 405,
    title: "That cannot be done here",
    text: "This address answers other requests than this one. Nothing was stored.",
    remedy: "Go to the start.",
    link: AGAIN,
  },
  internal: {
    status: 500,
    title: "Something went wrong",
    text: "That should not have happened. Nothing was stored.",
    remedy: "Try again; if it happens again, please tell the operator the reference below.",
    link: AGAIN,
  },
} as const;

/** A way to fail. */
export type MessageName = keyof typeof MESSAGES;

/** Renders such a page. */
export function messagePage({ title, text, remedy, link, githubUrl, reference }: Message): Html {
  return page(
    title,
    <div class="narrow">
      <h1>{title}</h1>
      <p class="lead" role="status">{text}</p>
      <p>{remedy}</p>
      <p>
        <a class="button plain" href={link.isAtGitHub ? githubUrl + link.href : link.href}>{link.text}</a>
      </p>
      <p class="quiet">
        Reference: <code>{reference}</code>
      </p>
    </div>,
  );
}
