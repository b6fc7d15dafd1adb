/**
 * Pure: the words of a command line, by a table of commands; and the help that the same table gives.
 *
 * @module
 */

import { parseArgs } from "node:util";

/** An option of a command. */
export interface Option {
  /** What stands for its value in the help; absent = it takes none. */
  value?: string;
  what: string;
  isRequired?: boolean;
}

/** A command, as far as its words go. */
export interface CommandWords {
  what: string;
  /** What stands for its one operand in the help; absent = it takes none. */
  operand?: string;
  options?: Readonly<Record<string, Option>>;
}

/** What the words mean. */
export type Understood =
  | { kind: "run"; name: string; operand: string; flags: ReadonlySet<string>; values: ReadonlyMap<string, string> }
  | { kind: "help"; text: string }
  | { kind: "error"; message: string };

/** Options of every command. */
const COMMON: Readonly<Record<string, Option>> = {
  json: { what: "what was found as JSON on standard output, and everything else on standard error" },
  help: { what: "this" },
};

/**
 * Understands the words after the program's name.
 *
 * @param program How it is called, for the help.
 */
export function understand(
  words: readonly string[],
  program: string,
  commands: Readonly<Record<string, CommandWords>>,
): Understood {
  const all = Object.assign({}, COMMON, ...Object.values(commands).map(({ options }) => options)) as Record<
    string,
    Option
  >;
  const { tokens } = parseArgs({
    args: [...words],
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: {
      ...Object.fromEntries(
        Object.entries(all).map(([name, { value }]) => [name, { type: value === undefined ? "boolean" : "string" }]),
      ),
      help: { type: "boolean", short: "h" },
    },
  });
  const operands = tokens.filter((token) => token.kind === "positional").map(({ value }) => value);
  const given = tokens.filter((token) => token.kind === "option");
  const isHelp = operands[0] === "help" || given.some(({ name }) => name === "help");
  const [name, operand = "", ...more] = operands[0] === "help" ? operands.slice(1) : operands;
  if (name === undefined && isHelp) return { kind: "help", text: usage(program, commands) };
  if (name === undefined) return { kind: "error", message: "Say what to do" };
  const command = Object.hasOwn(commands, name) ? commands[name]! : undefined;
  if (command === undefined) return unknown("command", name, Object.keys(commands));
  if (isHelp) return { kind: "help", text: helpOf(program, name, command) };

  const options: Record<string, Option> = { ...COMMON, ...command.options };
  const flags = new Set<string>();
  const values = new Map<string, string>();
  for (const { name: option, rawName, value, inlineValue } of given) {
    const known = Object.hasOwn(options, option) ? options[option]! : undefined;
    if (known === undefined) return unknown("option", rawName, Object.keys(options).map((text) => `--${text}`), name);
    if (known.value === undefined && value !== undefined) {
      return { kind: "error", message: `--${option} takes no value` };
    }
    if (known.value === undefined) {
      flags.add(option);
    } else if (value === undefined || value.trim() === "" || (!inlineValue && value.startsWith("-"))) {
      return { kind: "error", message: `--${option} needs a value: --${option} ${known.value}` };
    } else {
      values.set(option, value.trim());
    }
  }
  if (command.operand === undefined ? operand !== "" : operand === "" || more.length > 0) {
    return { kind: "error", message: `${name} takes ${command.operand ?? "no operand"}` };
  }
  const missing = Object.entries(options).find(([option, { isRequired }]) => isRequired && !values.has(option));
  if (missing !== undefined) return { kind: "error", message: `${name} needs --${missing[0]} ${missing[1].value}` };
  return { kind: "run", name, operand, flags, values };
}

/** All commands, a line each. */
export function usage(program: string, commands: Readonly<Record<string, CommandWords>>): string {
  const rows = Object.entries(commands).map(([name, { operand, what }]): [string, string] => [
    operand === undefined ? name : `${name} ${operand}`,
    what,
  ]);
  return [
    `${program} <command> [options]`,
    "",
    ...aligned(rows),
    "",
    ...aligned(Object.entries(COMMON).map(([name, { what }]) => [`--${name}`, what])),
    "",
    `\`${program} help <command>\` tells of its options.`,
    "Exit codes: 0 done, 1 failed or not wholly done, 2 not understood, 3 not confirmed.",
  ].join("\n");
}

function helpOf(program: string, name: string, { what, operand, options = {} }: CommandWords): string {
  const rows = Object.entries({ ...options, ...COMMON }).map(([option, { value, what }]): [string, string] => [
    value === undefined ? `--${option}` : `--${option} ${value}`,
    what,
  ]);
  const required = Object.entries(options).filter(([, { isRequired }]) => isRequired)
    .map(([option, { value }]) => ` --${option} ${value}`);
  const line = [program, name, ...(operand === undefined ? [] : [operand])].join(" ") + required.join("");
  return [`${line} [options]`, "", what, "", ...aligned(rows)].join("\n");
}

function aligned(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, what]) => `  ${name.padEnd(width)}  ${what}`);
}

/** The word itself is not repeated where it may be a token that somebody has put there. */
function unknown(kind: "command" | "option", word: string, known: string[], command?: string): Understood {
  const near = known.filter((name) => distance(word, name) <= Math.max(2, Math.floor(name.length / 3)));
  const of = command === undefined ? "" : ` of ${command}`;
  const choice = near.length > 0 ? `did you mean ${near.join(" or ")}?` : `there are ${known.join(", ")}`;
  return { kind: "error", message: `That is no ${kind}${of}; ${choice}` };
}

/** Insertions, deletions and replacements that make one word of another. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [index, letter] of [...one].entries()) {
    const next = [index + 1];
    for (let at = 1; at <= other.length; at++) {
      next.push(Math.min(next[at - 1]! + 1, row[at]! + 1, row[at - 1]! + (letter === other[at - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[other.length]!;
}
