/**
 * Reads OpenMetrics 1.0 (github.com/prometheus/OpenMetrics, specification/OpenMetrics.md) as strictly as it is written:
 * no package does, and Prometheus' own parser forgives much. Of the types only those that the pool has.
 *
 * @module
 */

import { assertNoCanary } from "./canaries.ts";

/** One line with a number. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** What one TYPE line begins. */
export interface Family {
  name: string;
  type: string;
  help: string;
  unit: string;
  samples: Sample[];
}

const SUFFIXES: Record<string, string> = { gauge: "", counter: "_total", info: "_info" };

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;

/** @throws {SyntaxError} For whatever the specification forbids. */
export function readOpenMetrics(text: string): Family[] {
  assertNoCanary("a metric", text);
  const check: (isTrue: boolean, what: string) => asserts isTrue = (isTrue, what) => {
    if (!isTrue) throw new SyntaxError(`Not OpenMetrics: ${what}`);
  };
  check(text.endsWith("\n"), "the last line does not end");
  const lines = text.slice(0, -1).split("\n");
  check(lines.pop() === "# EOF", "it does not end with # EOF");
  const families: Family[] = [];
  const seen = new Set<string>();
  for (const line of lines) {
    const [, keyword, of, rest] = /^# (TYPE|UNIT|HELP) (\S+) (.*)$/.exec(line) ?? [];
    if (keyword === "TYPE") {
      check(NAME.test(of!) && rest! in SUFFIXES, line);
      check(!/_(?:total|created|bucket|count|sum|info)$/.test(of!), `${of} has the suffix of a sample`);
      check(!families.some(({ name }) => name === of), `${of} is there twice`);
      families.push({ name: of!, type: rest!, help: "", unit: "", samples: [] });
      continue;
    }
    const family = families.at(-1);
    check(family !== undefined, `there is no TYPE before ${line}`);
    if (keyword !== undefined) {
      const field = keyword === "UNIT" ? "unit" : "help";
      check(family.name === of && family.samples.length === 0 && family[field] === "" && rest !== "", line);
      if (field === "unit") check(of!.endsWith(`_${rest}`) && family.type !== "info", line);
      family[field] = rest!;
      continue;
    }
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/.exec(line);
    check(sample !== null, line);
    const [, name, inner = "", number] = sample;
    check(name === family.name + SUFFIXES[family.type], `${name} is not a sample of ${family.name}`);
    const value = Number(number);
    check(family.type !== "counter" || value >= 0, `${name} is negative`);
    check(family.type !== "info" || value === 1, `${name} is not 1`);
    const labels: Record<string, string> = {};
    const pair = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"(?:,(?=.)|$)/y;
    for (pair.lastIndex = 0; inner !== "" && pair.lastIndex < inner.length;) {
      const [, label, raw] = pair.exec(inner) ?? [];
      check(label !== undefined && !(label in labels), line);
      labels[label] = raw!.replace(/\\(.)/g, (_, char: string) => char === "n" ? "\n" : char);
    }
    const identity = JSON.stringify([name, Object.entries(labels).sort()]);
    check(!seen.has(identity), `${identity} is there twice`);
    seen.add(identity);
    family.samples.push({ name: name!, labels, value });
  }
  return families;
}
