/**
 * A donor without a browser: goes from `/auth` over GitHub's screens to `/thanks`, with a jar for cookies.
 *
 * @module
 */

import type { GitHubFront } from "../support/github_front.ts";

/** Who donates, and how. */
export interface Donor {
  login: string;
  /** The share that stays the donor's. */
  reserve: number;
}

/**
 * Donates a token.
 *
 * @param service The address of the service.
 * @returns What the service thanks for.
 */
export async function donate(service: string, github: GitHubFront, { login, reserve }: Donor): Promise<string> {
  const cookies = new Map<string, string>();
  const begun = await visit(`${service}/auth?reserve=${reserve}`, cookies);
  const back = await github.authorize(await locationOf(begun), login);
  const done = await visit(back, cookies);
  const thanks = await visit(new URL(await locationOf(done), service).href, cookies);
  const html = await thanks.text();
  if (!html.includes(`Thank you, ${login}`)) throw new Error(`The service did not thank ${login}`);
  return /<p class="lead"[^>]*>([^<]*)</.exec(html)?.[1] ?? "";
}

async function visit(url: string, cookies: Map<string, string>): Promise<Response> {
  const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  const response = await fetch(url, { redirect: "manual", headers: cookie === "" ? {} : { cookie } });
  for (const text of response.headers.getSetCookie()) keep(text, cookies);
  return response;
}

function keep(text: string, cookies: Map<string, string>): void {
  const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(text) ?? [];
  if (/;\s*max-age=0/i.test(text)) cookies.delete(name);
  else cookies.set(name, value);
}

async function locationOf(response: Response): Promise<string> {
  await response.body?.cancel();
  const location = response.headers.get("location");
  if (location === null) throw new Error(`Expected to be sent on, but was answered with status ${response.status}`);
  return location;
}
