/** A wire between a client and a server on loopback that can be cut, or fall silent, for the life of a test. */

/** A running proxy. */
export interface TcpProxy extends AsyncDisposable {
  port: number;
  /** Ends every connection, and each new one at once, until it is mended. */
  cut(): void;
  mend(): void;
  /** From now on the connections that there are stay open and pass nothing on; new ones are as they should be. */
  silence(): void;
}

/** Starts a proxy on a free port, in front of a port on loopback. */
export function startTcpProxy(to: number): TcpProxy {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.Conn>();
  const silent = new WeakSet<Deno.Conn>();
  const pumps = new Set<Promise<void>>();
  let isCut = false;

  function end(connection: Deno.Conn): void {
    if (!open.delete(connection)) return;
    try {
      connection.close();
    } catch {
      // the other side was faster
    }
  }

  async function pump(from: Deno.Conn, into: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(65_536);
    try {
      for (let n = await from.read(buffer); n !== null; n = await from.read(buffer)) {
        for (let sent = 0; sent < n && !silent.has(from);) sent += await into.write(buffer.subarray(sent, n));
      }
    } catch {
      // cut, or closed by one of the two
    }
    if (silent.has(from)) return; // the other end hears of nothing, not even of this
    end(from);
    end(into);
  }

  async function accept(client: Deno.Conn): Promise<void> {
    open.add(client);
    try {
      if (isCut) return end(client);
      const server = await Deno.connect({ hostname: "127.0.0.1", port: to });
      open.add(server);
      await Promise.all([pump(client, server), pump(server, client)]);
    } catch {
      end(client); // nobody listens behind it
    }
  }

  const accepting = (async () => {
    for await (const client of listener) {
      const pumping = accept(client).finally(() => pumps.delete(pumping));
      pumps.add(pumping);
    }
  })();
  return {
    port: listener.addr.port,
    cut() {
      isCut = true;
      for (const connection of open) end(connection);
    },
    mend() {
      isCut = false;
    },
    silence() {
      for (const connection of open) silent.add(connection);
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const connection of open) end(connection);
      await accepting;
      await Promise.all(pumps);
    },
  };
}
