/**
 * What properties of the store are tried on: a real file, and one donation at a time.
 *
 * @module
 */

import { Connection } from "../../lib/database.ts";
import { Store } from "../../lib/store.ts";
import { Clock, temporaryFolder } from "../support/fixtures.ts";

/** The store of one process, and donations made for it one after the other. */
export class Bench implements AsyncDisposable {
  readonly clock = new Clock();
  readonly #connection: Connection;
  readonly #folder: AsyncDisposable;
  #donors = 0;

  private constructor(connection: Connection, folder: AsyncDisposable) {
    this.#connection = connection;
    this.#folder = folder;
  }

  static async open(): Promise<Bench> {
    const folder = await temporaryFolder();
    const connection = await Connection.open({ kind: "url", url: `file:${folder.path}/pool.db` });
    const bench = new Bench(connection, folder);
    await bench.store().open();
    return bench;
  }

  store(): Store {
    return new Store(this.#connection, this.clock.now);
  }

  /** Whose donation it is. */
  get user(): string {
    return `u${this.#donors}`;
  }

  /** A donation that is alone in the pool. */
  async donor(store: Store, reserve = 0): Promise<number> {
    await store.withdraw(this.user);
    this.#donors++;
    const sealed = {
      githubUserId: this.user,
      githubUsername: null,
      token: "sealed",
      refreshToken: null,
      expiresAt: null,
      reserve,
    };
    return (await store.donate(sealed, { revokeReplaced: false }))!.id;
  }

  /** All that is known of its window. */
  async row(id: number, resource = "core"): Promise<Record<string, number>> {
    const [row] = await this.#connection.execute({
      sql: `SELECT json_object('limit', cap, 'remaining', remaining, 'floor', floor, 'reset', reset_at,
        'windowEnds', window_ends, 'readyAt', ready_at) FROM token_pool_limits
        WHERE token_id = :id AND resource = :resource`,
      args: { id, resource },
    });
    return JSON.parse(row![0] as string);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.close();
    await this.#folder[Symbol.asyncDispose]();
  }
}
