/**
 * A GitHub that is not ours: the emulator `emulate`, with its own screens, codes, tokens, users and rate limits, behind
 * a front that adds what the emulator lacks.
 *
 * | the emulator | the front |
 * |---|---|
 * | takes an unknown token for its first user's | 401 and the limits of an anonymous caller, as GitHub does |
 * | ignores PKCE | compares the verifier with the challenge that came with the state |
 * | has no `/applications/…` | check and delete a token, delete a grant |
 * | counts calls, but does not tell | {@linkcode GitHubFront.callsOf} |
 *
 * Everything else passes through untouched, so a browser stays on the front's origin.
 *
 * @module
 */

import { createEmulator, type Emulator } from "npm:emulate@0.12.2";
import { freePort } from "./ports.ts";

/** What the emulator is seeded with. */
export interface GitHubOptions {
  /** Logins. */
  users: readonly string[];
  clientId: string;
  clientSecret: string;
  redirectUris: readonly string[];
}

/** What was asked with the tokens of a user. */
export interface Calls {
  /** Calls that were passed on. */
  answered: number;
  /** Calls that got a 401. */
  refused: number;
  /** What GitHub's own counter says of the latest token; null before its first call. */
  remaining: number | null;
}

interface IssuedToken extends Calls {
  login: string;
  isRevoked: boolean;
}

interface Approval {
  login: string;
  challenge: string | null;
}

const APP_NAME = "GitHub Token Pool";

/** What belongs to one connection and not to the answer. */
const HOP_BY_HOP = ["connection", "keep-alive", "transfer-encoding", "content-length"];

/** Starts the emulator and the front, both on free ports of the loopback interface. */
export async function startGitHub(options: GitHubOptions): Promise<GitHubFront> {
  return await GitHubFront.start(options);
}

/** The front. */
export class GitHubFront implements AsyncDisposable {
  readonly #options: GitHubOptions;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #emulatorPort: number;
  readonly #emulatorUrl: string;
  #emulator!: Emulator;

  readonly #challenges = new Map<string, string | null>();
  readonly #approvals = new Map<string, Approval>();
  readonly #sessions = new Map<string, string>();
  readonly #tokens = new Map<string, IssuedToken>();

  private constructor(options: GitHubOptions) {
    this.#options = options;
    const serveOptions = { hostname: "127.0.0.1", port: 0, onListen() {} };
    this.#server = Deno.serve(serveOptions, (request) => this.#answer(request));
    this.#emulatorPort = freePort(); // which is not the front's, since that one is taken
    this.#emulatorUrl = `http://127.0.0.1:${this.#emulatorPort}`;
  }

  static async start(options: GitHubOptions): Promise<GitHubFront> {
    const front = new GitHubFront(options);
    front.#emulator = await createEmulator({
      service: "github",
      port: front.#emulatorPort,
      baseUrl: front.url, // for the URLs in its answers
      seed: {
        github: {
          users: options.users.map((login) => ({ login, name: login[0]!.toUpperCase() + login.slice(1) })),
          oauth_apps: [{
            client_id: options.clientId,
            client_secret: options.clientSecret,
            name: APP_NAME,
            redirect_uris: options.redirectUris,
          }],
        },
      },
    });
    return front;
  }

  /** Both of the web flow and of the API. */
  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** What was asked with the tokens of a user. */
  callsOf(login: string): Calls {
    const tokens = this.#tokensOf(login);
    return {
      answered: tokens.reduce((sum, { answered }) => sum + answered, 0),
      refused: tokens.reduce((sum, { refused }) => sum + refused, 0),
      remaining: tokens.at(-1)?.remaining ?? null,
    };
  }

  /**
   * Goes through GitHub's screens as a person does, without a browser.
   *
   * @param authorizeUrl Where the app sent the person.
   * @returns Where GitHub sends the person back to.
   */
  async authorize(authorizeUrl: string, login: string): Promise<string> {
    const screen = await fetch(authorizeUrl);
    const { action, fields } = formOf(await screen.text(), login);
    const approved = await fetch(new URL(action, authorizeUrl), { method: "POST", body: fields, redirect: "manual" });
    await approved.body?.cancel();
    const location = approved.headers.get("location");
    if (location === null) throw new Error(`GitHub did not send ${login} back: status ${approved.status}`);
    return location;
  }

  /** What a person uses of the limit without the pool. */
  async spend(login: string, calls: number): Promise<void> {
    const [token, issued] = this.#latest(login);
    for (let sent = 0; sent < calls; sent += 20) {
      const batch = Array.from({ length: Math.min(20, calls - sent) }, async () => {
        const response = await fetch(`${this.#emulatorUrl}/user`, { headers: { authorization: `Bearer ${token}` } });
        noteRemaining(issued, response);
        await response.body?.cancel();
      });
      await Promise.all(batch);
    }
  }

  /** Revokes the app's access, by the same button that the person would press in the settings at GitHub. */
  async revoke(login: string): Promise<void> {
    const [token] = this.#latest(login);
    await this.#pressRevoke(token);
  }

  /** Ends both servers. */
  async close(): Promise<void> {
    await this.#server.shutdown();
    await this.#emulator.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const route = `${request.method} ${pathname}`;
    const { clientId } = this.#options;
    const appEndpoint = /^(POST|DELETE) \/applications\/([^/]+)\/(token|grant)$/.exec(route);
    if (appEndpoint !== null) {
      return await this.#answerApp(request, appEndpoint[2]!, `${request.method} ${appEndpoint[3]}`);
    }
    switch (route) {
      case "GET /login/oauth/authorize":
        this.#challenges.set(searchParams.get("state") ?? "", searchParams.get("code_challenge"));
        return await this.#pass(request);
      case "POST /login/oauth/callback":
        return await this.#approve(request);
      case "POST /login/oauth/access_token":
        return await this.#exchange(request);
      case `POST /settings/connections/applications/${clientId}/revoke`:
        return await this.#revokeInSettings(request);
      default:
        return await this.#answerApi(request);
    }
  }

  /** A call of the API, or a page. */
  async #answerApi(request: Request): Promise<Response> {
    const token = tokenOf(request);
    if (token === null) return await this.#pass(request);
    const issued = this.#tokens.get(token);
    if (issued === undefined || issued.isRevoked) {
      if (issued !== undefined) issued.refused++;
      await request.body?.cancel();
      return badCredentials();
    }
    const response = await this.#pass(request);
    issued.answered++;
    noteRemaining(issued, response);
    return response;
  }

  /** The person has chosen an account: from here on the code stands for the challenge. */
  async #approve(request: Request): Promise<Response> {
    const body = await request.text();
    const response = await this.#pass(request, body);
    const login = new URLSearchParams(body).get("login") ?? "";
    const back = new URL(response.headers.get("location") ?? "about:blank").searchParams;
    const challenge = this.#challenges.get(back.get("state") ?? "") ?? null;
    this.#approvals.set(back.get("code") ?? "", { login, challenge });
    const session = sessionIn(response.headers.get("set-cookie"));
    if (session !== null) this.#sessions.set(session, login);
    return response;
  }

  async #exchange(request: Request): Promise<Response> {
    const body = await request.text();
    const parameters = new URLSearchParams(body);
    const approval = this.#approvals.get(parameters.get("code") ?? "");
    if (approval !== undefined && !await isProven(approval, parameters.get("code_verifier"))) {
      return Response.json({
        error: "bad_verification_code",
        error_description: "The code passed is incorrect or expired.",
      });
    }
    const response = await this.#pass(request, body);
    const { access_token: token } = await response.clone().json();
    if (approval !== undefined && typeof token === "string") {
      this.#tokens.set(token, { login: approval.login, isRevoked: false, answered: 0, refused: 0, remaining: null });
    }
    return response;
  }

  /** Of the emulator's settings page; who is asking is told by the session, or by a token. */
  async #revokeInSettings(request: Request): Promise<Response> {
    const session = sessionIn(request.headers.get("cookie"));
    const login = this.#tokens.get(tokenOf(request) ?? "")?.login ?? this.#sessions.get(session ?? "");
    const response = await this.#pass(request);
    if (response.status === 302 && login !== undefined) this.#forgetAll(login);
    return response;
  }

  /** docs.github.com/rest/apps/oauth-applications */
  async #answerApp(request: Request, clientId: string, what: string): Promise<Response> {
    const { access_token: token } = await request.json().catch(() => ({}));
    const credentials = `Basic ${btoa(`${this.#options.clientId}:${this.#options.clientSecret}`)}`;
    if (request.headers.get("authorization") !== credentials) return badCredentials();
    if (typeof token !== "string") return Response.json({ message: "Validation Failed" }, { status: 422 });
    const issued = this.#tokens.get(token);
    if (clientId !== this.#options.clientId || issued === undefined || issued.isRevoked) {
      return Response.json({ message: "Not Found" }, { status: 404 });
    }
    if (what === "POST token") return await this.#describe(token, issued.login);
    if (what === "DELETE token") issued.isRevoked = true;
    else if (what === "DELETE grant") await this.#pressRevoke(token);
    else return Response.json({ message: "Not Found" }, { status: 404 });
    return new Response(null, { status: 204 });
  }

  async #describe(token: string, login: string): Promise<Response> {
    const user = await (await fetch(`${this.#emulatorUrl}/users/${login}`)).json();
    return Response.json({ token, scopes: [], app: { client_id: this.#options.clientId, name: APP_NAME }, user });
  }

  async #pressRevoke(token: string): Promise<void> {
    const path = `/settings/connections/applications/${this.#options.clientId}/revoke`;
    const headers = { authorization: `Bearer ${token}` };
    const response = await this.#answer(new Request(this.url + path, { method: "POST", headers }));
    await response.body?.cancel();
    if (response.status !== 302) throw new Error(`GitHub did not revoke: status ${response.status}`);
  }

  async #pass(request: Request, body?: string): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const hasBody = body === undefined && request.body !== null;
    const response = await fetch(this.#emulatorUrl + pathname + search, {
      method: request.method,
      headers: without(request.headers, ["host", ...HOP_BY_HOP]),
      body: hasBody ? await request.arrayBuffer() : body ?? null,
      redirect: "manual",
    });
    const headers = without(response.headers, HOP_BY_HOP);
    return new Response(response.body, { status: response.status, headers });
  }

  #tokensOf(login: string): IssuedToken[] {
    return [...this.#tokens.values()].filter((issued) => issued.login === login);
  }

  #latest(login: string): [token: string, issued: IssuedToken] {
    const latest = [...this.#tokens].findLast(([, issued]) => issued.login === login && !issued.isRevoked);
    if (latest === undefined) throw new Error(`${login} has not authorized the app`);
    return latest;
  }

  #forgetAll(login: string): void {
    for (const issued of this.#tokensOf(login)) issued.isRevoked = true;
  }
}

/** The form of a user on the emulator's screen. */
function formOf(html: string, login: string): { action: string; fields: URLSearchParams } {
  for (const [form] of html.matchAll(/<form\b.*?<\/form>/gs)) {
    const inputs = form.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g);
    const fields = new URLSearchParams(
      [...inputs].map(([, name, value]) => [unescapeHtml(name!), unescapeHtml(value!)]),
    );
    const action = /\baction="([^"]*)"/.exec(form)?.[1];
    if (fields.get("login") === login && action !== undefined) return { action: unescapeHtml(action), fields };
  }
  const title = /<title>([^<]*)</.exec(html)?.[1];
  throw new Error(`GitHub does not offer to go on as ${login}: "${title ?? "no page"}"`);
}

function unescapeHtml(text: string): string {
  const characters: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };
  return text.replace(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => characters[name]!);
}

async function isProven({ challenge }: Approval, verifier: string | null): Promise<boolean> {
  if (challenge === null) return true;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier ?? ""));
  return new Uint8Array(digest).toBase64({ alphabet: "base64url", omitPadding: true }) === challenge;
}

/** GitHub's answer to a token that it does not know, with the limits of an anonymous caller. */
function badCredentials(): Response {
  return Response.json(
    { message: "Bad credentials", documentation_url: "https://docs.github.com/rest", status: "401" },
    {
      status: 401,
      headers: {
        "x-ratelimit-limit": "60",
        "x-ratelimit-remaining": "59",
        "x-ratelimit-used": "1",
        "x-ratelimit-reset": String(Math.floor(Date.now() / 1000) + 3600),
        "x-ratelimit-resource": "core",
      },
    },
  );
}

/** Answers overtake each other, so the smallest is the latest. */
function noteRemaining(issued: IssuedToken, { headers }: Response): void {
  const remaining = Number(headers.get("x-ratelimit-remaining") ?? NaN);
  if (!Number.isNaN(remaining)) issued.remaining = Math.min(issued.remaining ?? Infinity, remaining);
}

function tokenOf(request: Request): string | null {
  return /^(?:bearer|token) +(.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? null;
}

function sessionIn(cookies: string | null): string | null {
  return /\b_emu_session=([^;]+)/.exec(cookies ?? "")?.[1] ?? null;
}

function without(headers: Headers, names: readonly string[]): Headers {
  const rest = new Headers(headers);
  for (const name of names) rest.delete(name);
  return rest;
}
