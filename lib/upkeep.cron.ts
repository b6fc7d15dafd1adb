/**
 * Upkeep as a Val Town cron job. Every 15 minutes is enough, and what the free plan allows.
 *
 * @module
 */

import { createLog } from "./log.ts";
import { openGitHub, openVault } from "./service.ts";
import { hasDone, runUpkeep, type UpkeepReport } from "./upkeep.ts";

/** Rounds per run, so that a run ends within the minute that the platform gives it. */
const ROUNDS_AT_MOST = 5;

/** Runs rounds until nothing is due. */
export default async function upkeep(): Promise<UpkeepReport[]> {
  const vault = openVault({});
  const log = createLog();
  try {
    const reports: UpkeepReport[] = [];
    do {
      const report = await runUpkeep({ vault, github: openGitHub(vault.settings) });
      reports.push(report);
      log({ event: "upkeep", counts: { ...report } });
    } while (hasDone(reports.at(-1)!) && reports.length < ROUNDS_AT_MOST);
    return reports;
  } finally {
    await vault.close();
  }
}
