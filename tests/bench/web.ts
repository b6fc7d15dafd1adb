/** Pages that are polled, against a bare Hono route that returns the same bytes. */

import { Hono } from "npm:hono@4.13.19";
import { createApp } from "../../main.http.ts";
import { environment, KEY, temporaryFolder } from "../support/fixtures.ts";
import { filledPool } from "./claims.ts";
import { compare, type Figure } from "./measure.ts";

/** `/status` and `/`. */
export async function measurePages(): Promise<Figure[]> {
  await using folder = await temporaryFolder();
  const { pool, url } = await filledPool(folder.path, "pages", 1);
  const app = createApp({ environment: environment({ TOKEN_ENCRYPTION_KEY: KEY }), database: url, log: () => {} });
  const figures: Figure[] = [];
  for (const path of ["/status", "/"]) {
    const answer = await app.request(path);
    const [body, headers] = [await answer.text(), [...answer.headers] as [string, string][]];
    const bare = new Hono().get(path, (c) => {
      for (const [name, value] of headers) c.header(name, value);
      return c.body(body);
    });
    const read = (hono: Pick<Hono, "request">) => async () => await (await hono.request(path)).text();
    figures.push(
      await compare({
        name: `${path} against a bare route with the same bytes`,
        ours: read(app),
        floor: read(bare),
        target: { atLeast: 0.6 },
        times: 300,
      }),
    );
  }
  await pool.close();
  return figures;
}
