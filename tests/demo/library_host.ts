/**
 * Serves `lib/` by the paths that esm.town has for a val's files, so that a program can import the library by URL.
 *
 * @module
 */

const ROOT = new URL("../../", import.meta.url);
const VAL = "/v/demo/token-pool@1-main/";

/** The same each time, if it can be had, because Deno keeps what it imports by URL, port included. */
const PORT = 4748;

/** Where the library is served. */
export interface LibraryHost extends AsyncDisposable {
  /** Host and port, as `--allow-import` wants them. */
  host: string;
  /** What a program imports. */
  poolUrl: string;
}

/** Starts the server. */
export function serveLibrary(): LibraryHost {
  const server = listen(PORT) ?? listen(0)!;
  const host = `127.0.0.1:${server.addr.port}`;
  return {
    host,
    poolUrl: `http://${host}${VAL}lib/pool.ts`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

function listen(port: number): Deno.HttpServer<Deno.NetAddr> | null {
  try {
    return Deno.serve({ hostname: "127.0.0.1", port, onListen() {} }, answer);
  } catch (error) {
    if (port !== 0 && error instanceof Deno.errors.AddrInUse) return null;
    throw error;
  }
}

async function answer(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  const file = pathname.startsWith(VAL) ? pathname.slice(VAL.length) : "";
  if (!/^lib\/[a-z_.]+\.ts$/.test(file)) return new Response("Not found", { status: 404 });
  try {
    const text = await Deno.readTextFile(new URL(file, ROOT));
    return new Response(text, { headers: { "content-type": "application/typescript; charset=utf-8" } });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return new Response("Not found", { status: 404 });
    throw error;
  }
}
