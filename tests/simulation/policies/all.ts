/**
 * The policies that are compared, in the order in which they are shown.
 *
 * @module
 */

import { clairvoyant } from "./clairvoyant.ts";
import { octopool } from "./most_remaining.ts";
import { oursFetch, oursPlain } from "./ours.ts";
import { drain, random, roundRobin } from "./plain.ts";
import type { Policy } from "./policy.ts";
import { shields, shieldsThrice } from "./shields.ts";

/** All policies; the first is the measure of the others. */
export const POLICIES: readonly Policy[] = [
  clairvoyant,
  oursPlain,
  oursFetch,
  shields,
  shieldsThrice,
  octopool,
  roundRobin,
  random,
  drain,
];
