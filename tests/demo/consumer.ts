/**
 * The demo's consumer: a program that asks GitHub with donated tokens. It is as long as such a program has to be, but
 * for what it prints: one line of JSON per attempt.
 *
 * The demo runs a copy of it in an empty folder, in which the import below is the library's URL.
 *
 * Arguments: how many calls, and how many at a time.
 *
 * @module
 */

import { getToken, parseRateLimitHeaders, syncTokenHealth, type TokenWithSecret } from "../../lib/pool.ts";

/** What is printed of an attempt. */
export interface Attempt {
  call: number;
  login: string;
  status: number;
  /** GitHub's counter; null when the token was refused. */
  remaining: number | null;
  /** Whether GitHub said more than the database knew already. */
  isNews: boolean;
}

/** A token that turns out to be dead is no reason to give up, but so many in a row are. */
const ATTEMPTS_AT_MOST = 10;

const API = Deno.env.get("GITHUB_API_URL");

/** The latest hand-out of each token. */
const latest = new Map<number, TokenWithSecret>();

async function ask(call: number): Promise<void> {
  for (let attempt = 1; attempt <= ATTEMPTS_AT_MOST; attempt++) {
    const token = await getToken();
    if (token === null) throw new Error("The pool is exhausted");
    latest.set(token.id, token);
    const response = await fetch(`${API}/users/ghost`, { headers: { authorization: `Bearer ${token.token}` } });
    await syncTokenHealth(token.id, response);
    await response.body?.cancel();
    print(call, token, response);
    if (response.status !== 401) return;
  }
  throw new Error(`GitHub refused ${ATTEMPTS_AT_MOST} tokens in a row`);
}

function print(call: number, token: TokenWithSecret, { status, headers }: Response): void {
  const attempt: Attempt = {
    call,
    login: token.github_username ?? "",
    status,
    remaining: status === 401 ? null : parseRateLimitHeaders(headers).remaining,
    isNews: status === 401 || isNews(headers, latest.get(token.id)!),
  };
  console.log(JSON.stringify(attempt));
}

/** Whether the numbers of an answer differ for the worse from those that came with the token. */
function isNews(headers: Headers, known: TokenWithSecret): boolean {
  const { limit, remaining, reset_at } = parseRateLimitHeaders(headers);
  if (limit === null || remaining === null || reset_at === null) return false;
  return limit !== known.rate_limit_limit || reset_at !== known.rate_limit_reset_at ||
    remaining < known.rate_limit_remaining;
}

if (import.meta.main) {
  const [calls = 0, atOnce = 1] = Deno.args.map(Number);
  let begun = 0;
  const worker = async () => {
    while (begun < calls) await ask(++begun);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
