/**
 * Pure: what the command line shows to people. Tables with aligned columns, times that can be read, and how far long work
 * has come.
 *
 * @module
 */

/** Where a command writes. */
export interface Output {
  /** A line of what was found. */
  log(line: string): void;
  /** A line of everything else. */
  error(line: string): void;
  /** Writes over the last line, where somebody is looking; absent where nobody is. */
  status?(line: string): void;
}

/** Lines for people: a table of each list, and of each object its names and values. */
export function render(found: object): string[] {
  if (Array.isArray(found)) return found.length === 0 ? ["none"] : table(found);
  const entries = Object.entries(found);
  const isNested = ([, value]: [string, unknown]) => typeof value === "object" && value !== null;
  const plain = entries.filter((entry) => !isNested(entry));
  const nested = entries.filter(isNested) as [string, object][];
  return [
    ...pairs(plain),
    ...nested.flatMap(([name, value]) => {
      const inner = Object.entries(value);
      if (inner.length === 0) return [];
      if (Array.isArray(value)) return ["", name, ...table(value)];
      return inner.every(isNested)
        ? ["", ...table(inner.map(([key, row]) => ({ [name]: key, ...row })))]
        : ["", name, ...pairs(inner)];
    }),
  ];
}

/** Of rows with the same names. Numbers stand at the right. */
function table(rows: readonly Record<string, unknown>[]): string[] {
  const names = Object.keys(rows[0]!);
  const columns = names.map((name) => {
    const cells = rows.map((row) => cell(name, row[name]));
    const width = Math.max(name.length, ...cells.map(({ length }) => length));
    const isNumber = rows.every((row) => cell(name, row[name]) === "-" || typeof row[name] === "number");
    return [name, ...cells].map((text) => isNumber ? text.padStart(width) : text.padEnd(width));
  });
  return [names, ...rows].map((_, index) => columns.map((column) => column[index]).join("  ").trimEnd());
}

function pairs(entries: readonly [string, unknown][]): string[] {
  const width = Math.max(0, ...entries.map(([name]) => name.length));
  return entries.map(([name, value]) => `${name.padEnd(width)}  ${cell(name, value)}`);
}

function cell(name: string, value: unknown): string {
  if (value === null || value === undefined || value === "") return "-";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number" && /_at$/.test(name)) return time(value);
  // A login came from elsewhere: it must not steer the terminal.
  // deno-lint-ignore no-control-regex
  return String(value).replace(/[\u0000-\u001f\u007f-\u009f]/g, "?");
}

/** Of epoch milliseconds, or of epoch seconds, as GitHub's resets are. */
function time(value: number): string {
  return new Date(value < 1e11 ? value * 1000 : value).toISOString().slice(0, 19) + "Z";
}

const BAR_WIDTH = 30;

/** What it takes to show how far work has come; `total` is null where nobody knows. */
export type Progress = (done: number, total: number | null) => void;

/** A bar where somebody is looking; else a line whenever a tenth more is done, or a hundred where nobody knows of what. */
export function progressOn(output: Output): { show: Progress; end: () => void } {
  let told = -1;
  const show: Progress = (done, total) => {
    const share = total === null || total === 0 ? null : Math.min(1, done / total);
    const count = total === null ? `${done}` : `${done} of ${total}`;
    const text = share === null ? count : `${count}, ${Math.floor(share * 100)} %`;
    if (output.status !== undefined) {
      const filled = Math.round((share ?? 0) * BAR_WIDTH);
      return output.status(share === null ? text : `[${"#".repeat(filled).padEnd(BAR_WIDTH)}] ${text}`);
    }
    const step = share === null ? Math.floor(done / 100) : Math.floor(share * 10);
    if (step === told) return;
    told = step;
    output.error(text);
  };
  return { show, end: () => output.status?.("") };
}
