/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * Bars drawn by the server: no script, no inline style, and the same figures as text for who does not see them.
 *
 * @module
 */

import { format } from "./stored.tsx";

/** What a chart shows. */
export interface ChartProps {
  title: string;
  /** Oldest first; the last one is still under way. */
  points: readonly { at: number; calls: number }[];
  unit: "hour" | "day";
}

const [WIDTH, HEIGHT] = [360, 88];

/** A chart with its title, its axis and its text. */
export function Chart({ title, points, unit }: ChartProps) {
  const sum = points.reduce((total, { calls }) => total + calls, 0);
  if (sum === 0) {
    return (
      <figure class="chart">
        <figcaption>{title}</figcaption>
        <p class="quiet">No call was drawn in this time.</p>
      </figure>
    );
  }
  const label = (at: number) => unit === "hour" ? hourOf(at) : dayOf(at);
  const most = points.reduce((best, point) => point.calls > best.calls ? point : best);
  const step = WIDTH / points.length;
  const bars = points.map(({ calls }, index) => bar(index * step, step * 0.72, calls / most.calls));
  const summary = `${format(sum)} calls in all; most in the ${unit} of ${label(most.at)}: ${format(most.calls)}.`;
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${title}: ${summary}`}>
        <path class="bars" d={bars.slice(0, -1).join("")} />
        <path class="bars now" d={bars.at(-1)} />
        <path class="base" d={`M0 ${HEIGHT - 0.5}H${WIDTH}`} />
      </svg>
      <p class="axis" aria-hidden="true">
        <span>{label(points[0]!.at)}</span>
        <span>{unit === "hour" ? "this hour" : "today"}</span>
      </p>
      <details>
        <summary>As a table</summary>
        <table>
          <caption>{summary} Times are UTC.</caption>
          <thead>
            <tr>
              <th scope="col">{unit === "hour" ? "Hour from" : "Day"}</th>
              <th scope="col">Calls</th>
            </tr>
          </thead>
          <tbody>
            {points.map(({ at, calls }) => (
              <tr key={at}>
                <td>{label(at)}</td>
                <td>{format(calls)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </figure>
  );
}

/** A bar as a piece of a path; what is more than nothing can be seen. */
function bar(x: number, width: number, share: number): string {
  const height = share === 0 ? 0 : Math.max(2, share * (HEIGHT - 4));
  const [left, wide, high] = [x, width, height].map((size) => Number(size.toFixed(1)));
  return height === 0 ? "" : `M${left} ${HEIGHT - 1}v-${high}h${wide}v${high}z`;
}

function hourOf(at: number): string {
  return new Date(at).toISOString().slice(11, 16);
}

function dayOf(at: number): string {
  return new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}
