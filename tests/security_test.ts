/** Whatever SECURITY.md claims is held by a test: each that it names is there. */

import assert from "node:assert/strict";

const FOLDER = new URL(".", import.meta.url);
const document = (await Deno.readTextFile(new URL("../.github/SECURITY.md", FOLDER))).replaceAll(/\s+/g, " ");

/** The tests that a text names: a file, and then one or more names in quotes. */
function namedTests(text: string): { file: string; name: string }[] {
  return [...text.matchAll(/`([\w/]+_test\.ts)`((?:,? "[^"]+")+)/g)].flatMap(([, file, names]) =>
    [...names!.matchAll(/"([^"]+)"/g)].map(([, name]) => ({ file: file!, name: name! }))
  );
}

/** The names of the tests of a file, from its source; what a template interpolates is "…". */
async function testsOf(file: string): Promise<string[]> {
  const names: string[] = [];
  const calls = (node: Deno.lint.CallExpression): void => {
    const { callee, arguments: [first] } = node;
    const isTest = callee.type === "Identifier" ? callee.name === "scenario" : callee.type === "MemberExpression" &&
      callee.object.type === "Identifier" && callee.object.name === "Deno" &&
      callee.property.type === "Identifier" && callee.property.name === "test";
    if (!isTest) return;
    if (first?.type === "Literal") names.push(String(first.value));
    if (first?.type === "TemplateLiteral") names.push(first.quasis.map(({ cooked }) => cooked).join("…"));
  };
  const plugin: Deno.lint.Plugin = {
    name: "tests",
    rules: { names: { create: () => ({ CallExpression: calls }) } },
  };
  Deno.lint.runPlugin(plugin, file.split("/").at(-1)!, await Deno.readTextFile(new URL(file, FOLDER)));
  return names;
}

Deno.test("every test that SECURITY.md names is there", async () => {
  const named = namedTests(document);
  assert.ok(named.length > 80, "the document was understood");
  const known = new Map<string, string[]>();
  for (const { file, name } of named) {
    if (!known.has(file)) known.set(file, await testsOf(file));
    assert.ok(known.get(file)!.includes(name), `${file} has no test "${name}"`);
  }
  assert.equal(
    (document.match(/_test\.ts`/g) ?? []).length,
    new Set([...document.matchAll(/`[\w/]+_test\.ts`(?:,? "[^"]+")+/g)].map(({ index }) => index)).size,
    "each file is followed by names",
  );
});

Deno.test("every threat and every requirement that SECURITY.md says is held names a test", () => {
  const [, threats, asvs] = document.split(/## Threats|## OWASP ASVS 5\.0/);
  const paragraphs = threats!.split(/(?= \*\*[A-Z][^*]*\.\*\*)/).filter((text) => text.includes("**"));
  assert.ok(paragraphs.length >= 25);
  for (const paragraph of paragraphs) assert.ok(namedTests(paragraph).length > 0, paragraph);
  const [held, not] = asvs!.split("Not, or not wholly:");
  const items = held!.split(/ - (?=\*\*\d)/).slice(1);
  assert.ok(items.length >= 25);
  for (const item of items) assert.ok(namedTests(item).length > 0, item);
  const numbers = (text: string) => [...text.matchAll(/\*\*([\d., ]+)\*\*/g)].flatMap(([, list]) => list!.split(", "));
  assert.deepEqual(numbers(held!).filter((number) => numbers(not!).includes(number)), []);
  assert.equal(new Set(numbers(held! + not!)).size, numbers(held! + not!).length, "each requirement is told of once");
});
