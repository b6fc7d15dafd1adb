/** Words of a command line, and what people are shown. */

import assert from "node:assert/strict";
import { type CommandWords, understand, type Understood, usage } from "../lib/command_line.ts";
import { progressOn, render } from "../lib/console.ts";

const COMMANDS: Record<string, CommandWords> = {
  list: { what: "lists" },
  remove: {
    what: "removes",
    operand: "<who>",
    options: { reason: { value: "<text>", what: "why", isRequired: true }, "dry-run": { what: "nothing changes" } },
  },
};

function read(...words: string[]): Understood {
  return understand(words, "admin", COMMANDS);
}

function errorOf(...words: string[]): string {
  const understood = read(...words);
  assert.equal(understood.kind, "error");
  return understood.kind === "error" ? understood.message : "";
}

Deno.test("understand() takes operand, flags and values in any order", () => {
  for (
    const words of [
      ["remove", "ada", "--reason", "spam", "--dry-run"],
      ["--dry-run", "--reason=spam", "remove", "ada"],
      ["remove", "--reason", " spam ", "--dry-run", "--", "ada"],
    ]
  ) {
    const understood = read(...words);
    assert.ok(understood.kind === "run");
    const { name, operand, flags, values } = understood;
    assert.deepEqual([name, operand, [...flags], [...values]], ["remove", "ada", ["dry-run"], [["reason", "spam"]]]);
  }
  const understood = read("list", "--json");
  assert.ok(understood.kind === "run" && understood.flags.has("json"));
});

Deno.test("understand() says what is wrong with the words, names the nearest, and repeats none of them", () => {
  assert.match(errorOf(), /^Say what to do$/);
  assert.match(errorOf("lsit"), /no command; did you mean list\?$/);
  assert.match(errorOf("ghp_secret"), /no command; there are list, remove$/);
  assert.match(errorOf("constructor"), /no command/);
  assert.match(errorOf("list", "--jsn"), /no option of list; did you mean --json\?$/);
  assert.match(errorOf("list", "--dry-run"), /no option of list; there are --json, --help$/);
  assert.match(errorOf("list", "-x"), /no option of list/);
  assert.match(errorOf("list", "--__proto__"), /no option of list/);
  assert.match(errorOf("list", "more"), /^list takes no operand$/);
  assert.match(errorOf("list", "--json=yes"), /^--json takes no value$/);
  assert.match(errorOf("remove", "--reason", "x"), /^remove takes <who>$/);
  assert.match(errorOf("remove", "a", "b", "--reason", "x"), /^remove takes <who>$/);
  assert.match(errorOf("remove", "ada"), /^remove needs --reason <text>$/);
  for (const words of [["--reason"], ["--reason", "--dry-run"], ["--reason="], ["--reason", " "]]) {
    assert.match(errorOf("remove", "ada", ...words), /^--reason needs a value: --reason <text>$/);
  }
});

Deno.test("understand() gives help of all and of each command", () => {
  for (const words of [["help"], ["--help"], ["-h"]]) {
    assert.deepEqual(read(...words), { kind: "help", text: usage("admin", COMMANDS) });
  }
  for (const words of [["help", "remove"], ["remove", "--help"], ["remove", "-h", "--nonsense"]]) {
    const understood = read(...words);
    assert.ok(understood.kind === "help");
    assert.match(
      understood.text,
      /^admin remove <who> --reason <text> \[options\]\n\nremoves\n\n {2}--reason <text> {2}why/,
    );
  }
  assert.match(
    usage("admin", COMMANDS),
    /Exit codes: 0 done, 1 failed or not wholly done, 2 not understood, 3 not conf/,
  );
});

Deno.test("render() aligns columns, numbers at the right, and shows times and absent values readably", () => {
  assert.deepEqual(
    render([
      { id: 1, login: "ada", donated_at: 1_795_000_000_000, limit: 5000, open: true },
      { id: 12, login: null, donated_at: 1_795_000_001_000, limit: 60, open: false },
    ]),
    [
      "id  login            donated_at  limit  open",
      " 1  ada    2026-11-18T11:06:40Z   5000  yes",
      "12  -      2026-11-18T11:06:41Z     60  no",
    ],
  );
  assert.deepEqual(render([]), ["none"]);
  assert.deepEqual(
    render({
      status: "ok",
      tokens: { total: 2 },
      none: [],
      resources: { core: { limit: 5, next_reset_at: 1_795_000_000 } },
    }),
    [
      "status  ok",
      "",
      "tokens",
      "total  2",
      "",
      "resources  limit         next_reset_at",
      "core           5  2026-11-18T11:06:40Z",
    ],
  );
  assert.deepEqual(render({ found: [{ id: 1 }] }), ["", "found", "id", " 1"]);
});

Deno.test("render() does not let a login steer the terminal", () => {
  assert.deepEqual(render({ login: "a\u001b[2Jb\u009bc\r\n" }), ["login  a?[2Jb?c??"]);
});

Deno.test("progressOn() draws a bar for who is looking, and writes a line a tenth for who is not", () => {
  const lines: string[] = [];
  const quiet = progressOn({ log() {}, error: (line) => void lines.push(line) });
  for (let done = 1; done <= 40; done++) quiet.show(done, 40);
  quiet.end();
  assert.equal(lines.length, 11);
  assert.deepEqual([lines[0], lines[1], lines.at(-1)], ["1 of 40, 2 %", "4 of 40, 10 %", "40 of 40, 100 %"]);
  lines.length = 0;
  for (let done = 50; done <= 200; done += 50) quiet.show(done, null);
  assert.deepEqual(lines, ["50", "100", "200"]);

  const shown: string[] = [];
  const { show, end } = progressOn({
    log() {},
    error: () => assert.fail("no line beside the bar"),
    status: (line) => void shown.push(line),
  });
  show(1, 2);
  show(7, null);
  end();
  assert.deepEqual(shown, [`[${"#".repeat(15)}${" ".repeat(15)}] 1 of 2, 50 %`, "7", ""]);
});
