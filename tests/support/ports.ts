/** Ports for servers that must be told theirs beforehand. */

/** A port of the loopback interface that nobody listens on at the moment. */
export function freePort(): number {
  return freePorts(1)[0]!;
}

/** So many of them. Asked one after the other, the system would now and then give the same one twice. */
export function freePorts(count: number): number[] {
  const listeners = Array.from({ length: count }, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  for (const listener of listeners) listener.close();
  return listeners.map(({ addr }) => addr.port);
}
