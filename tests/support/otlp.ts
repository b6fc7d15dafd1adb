/** An OpenTelemetry receiver on loopback, for OTLP/HTTP in JSON: keeps every byte that it is sent. */

import { assertNoCanary } from "./canaries.ts";

/** A span, as far as tests ask. */
export interface ExportedSpan {
  name: string;
  /** 2 = of a server, 3 = of a client. */
  kind: number;
  attributes: { key: string; value: { stringValue?: string } }[];
}

/** A running receiver. */
export interface OtlpReceiver extends AsyncDisposable {
  /** What a process needs in its environment to export to here. */
  variables: Record<string, string>;
  /** All that has been received: its path, and the text of its body. */
  received: { path: string; text: string }[];
  spans(): ExportedSpan[];
}

interface Traces {
  resourceSpans: { scopeSpans: { spans: ExportedSpan[] }[] }[];
}

/** Starts a receiver. */
export function receiveOtlp(): OtlpReceiver {
  const received: { path: string; text: string }[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    received.push({ path: new URL(request.url).pathname, text: await request.text() });
    return Response.json({});
  });
  return {
    variables: {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${server.addr.port}`,
    },
    received,
    spans: () =>
      received.filter(({ path }) => path === "/v1/traces")
        .flatMap(({ text }) => (JSON.parse(text) as Traces).resourceSpans)
        .flatMap(({ scopeSpans }) => scopeSpans).flatMap(({ spans }) => spans),
    async [Symbol.asyncDispose]() {
      await server.shutdown();
      for (const { path, text } of received) assertNoCanary(`what was exported to ${path}`, text);
    },
  };
}
