/**
 * What the demo shows: plain text, with colours and a table that is redrawn in place where the output is a terminal.
 *
 * @module
 */

/** GitHub's hourly limit of a user. */
export const LIMIT = 5000;

/** A donor's row. */
export interface Row {
  login: string;
  reserve: number;
  /** Calls that the program has drawn. */
  drawn: number;
  /** GitHub's counter. */
  remaining: number;
  state: State;
}

/** How it stands with a token. */
export type State = "serving" | "resting" | "refused";

const STATES: Record<State, { text: string; colour: Colour }> = {
  serving: { text: "serving", colour: "green" },
  resting: { text: "rests until reset", colour: "yellow" },
  refused: { text: "revoked", colour: "red" },
};

const COLOURS = { bold: 1, red: 31, green: 32, yellow: 33, grey: 90 };
type Colour = keyof typeof COLOURS;

const BAR_CELLS = 10;
const REDRAW_AFTER_MS = 60;
const REPORTED_CALLS = 200;

/** The calls of a limit that stay the donor's. */
export function floorOf(reserve: number): number {
  return Math.ceil(LIMIT * reserve);
}

/** Where the demo shows itself. */
export class Screen {
  readonly #isTerminal = Deno.stdout.isTerminal();
  readonly #hasColours = this.#isTerminal && !Deno.env.get("NO_COLOR");
  #tableLines = 0;
  #drawnAt = 0;
  #reported = 0;

  /** Prints text. The table above it, if there is one, stays as it is. */
  say(text = ""): void {
    this.#tableLines = 0;
    console.log(text);
  }

  /** Prints a heading. */
  title(text: string): void {
    this.say(`\n${this.#colour("bold", text)}`);
  }

  /** Prints something that held, or did not. */
  check(holds: boolean, text: string): void {
    this.say(`  ${holds ? this.#colour("green", "✓") : this.#colour("red", "✗ NOT SO:")} ${text}`);
  }

  /** Shows how it stands while it goes on: the table in a terminal, elsewhere a line now and then. */
  progress(rows: readonly Row[], done: number, caption: string): void {
    if (this.#isTerminal) {
      if (Date.now() - this.#drawnAt >= REDRAW_AFTER_MS) this.table(rows, caption);
    } else if (done > this.#reported && done % REPORTED_CALLS === 0) {
      this.#reported = done;
      this.say(`  ${count(done)} calls: ${rows.map(brief).join(", ")}`);
    }
  }

  /** Shows the table; in a terminal it takes the place of the table before. */
  table(rows: readonly Row[], caption: string): void {
    const head = this.#colour("grey", "  donor     keeps          calls   left of 5,000   still to lend");
    const lines = ["", head, ...rows.map((row) => this.#line(row)), `  ${caption}`];
    const back = this.#isTerminal && this.#tableLines > 0 ? `\x1b[${this.#tableLines}F\x1b[J` : "";
    console.log(back + lines.join("\n"));
    this.#tableLines = lines.length;
    this.#drawnAt = Date.now();
  }

  #line({ login, reserve, drawn, remaining, state }: Row): string {
    const floor = floorOf(reserve);
    const share = state === "refused" ? 0 : Math.max(0, remaining - floor) / (LIMIT - floor);
    const cells = Math.ceil(share * BAR_CELLS);
    const bar = "█".repeat(cells) + "░".repeat(BAR_CELLS - cells);
    const { text, colour } = STATES[state];
    return [
      `  ${login.padEnd(9)}`,
      `${Math.round(reserve * 100)} % (${count(floor)})`.padEnd(14),
      count(drawn).padStart(5),
      count(remaining).padStart(15),
      `  ${this.#colour(colour, bar)}`,
      this.#colour(colour, text),
    ].join(" ");
  }

  #colour(colour: Colour, text: string): string {
    return this.#hasColours ? `\x1b[${COLOURS[colour]}m${text}\x1b[0m` : text;
  }
}

/** A number as people write it. */
export function count(value: number): string {
  return value.toLocaleString("en");
}

/** "1 call", "2 calls". */
export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

function brief({ login, drawn, state }: Row): string {
  return `${login} ${drawn}` + (state === "serving" ? "" : ` (${STATES[state].text})`);
}
