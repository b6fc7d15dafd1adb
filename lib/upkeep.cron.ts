/**
 * Upkeep as a Val Town cron job. Every 15 minutes is enough, and what the free plan allows.
 *
 * @module
 */

import { createLog } from "./log.ts";
import { openGitHub, openVault } from "./service.ts";
import { hasDone, runUpkeep, type UpkeepReport } from "./upkeep.ts";

/** Rounds per run. */
const ROUNDS_AT_MOST = 5;

/** None begins later, so that a run ends within the minute that the platform gives it: a round may take 40 s. */
const LAST_START_MS = 15_000;

/** Runs rounds until nothing is due, or time is up. */
export default async function upkeep(): Promise<UpkeepReport[]> {
  const vault = openVault({});
  const log = createLog();
  const start = performance.now();
  const mayBeginAnother = (rounds: number) => rounds < ROUNDS_AT_MOST && performance.now() - start < LAST_START_MS;
  try {
    const reports: UpkeepReport[] = [];
    do {
      const report = await runUpkeep({ vault, github: openGitHub(vault.settings) });
      reports.push(report);
      log({ event: "upkeep", counts: { ...report } });
    } while (hasDone(reports.at(-1)!) && mayBeginAnother(reports.length));
    return reports;
  } finally {
    await vault.close();
  }
}
