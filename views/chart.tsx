/** @jsxRuntime automatic */
/** @jsxImportSource npm:hono@4.13.19/jsx */
/**
 * Bars drawn by the server: no script, no inline style, and the same figures as text for who does not see them.
 *
 * @module
 */

import { format } from "./stored.tsx";

/** What a chart of calls shows. */
export interface ChartProps {
  title: string;
  /** Oldest first; the last one is still under way. */
  points: readonly { at: number; calls: number }[];
  unit: "hour" | "day";
}

/** What a chart of donations shows. */
export interface DonationsChartProps {
  title: string;
  /** By day, oldest first; the last one is today. Null = nobody counted them. */
  points: readonly { at: number; count: number | null }[];
}

/** What is drawn: a bar for each point that has a count, and a row for it in the table. */
interface BarsProps extends DonationsChartProps {
  unit: "hour" | "day";
  /** What is counted. */
  noun: string;
  /** The chart in a sentence. */
  summary: string;
}

const [WIDTH, HEIGHT] = [360, 88];

/** Calls by hour or by day: what was drawn in each. */
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
  const most = points.reduce((best, point) => point.calls > best.calls ? point : best);
  const summary = `${format(sum)} calls in all; most in the ${unit} of ${labelOf(most.at, unit)}: ${
    format(most.calls)
  }.`;
  const counts = points.map(({ at, calls }) => ({ at, count: calls }));
  return <Bars title={title} points={counts} unit={unit} noun="Calls" summary={summary} />;
}

/** Donations by day: how many there were. At least one day has to have some. */
export function DonationsChart({ title, points }: DonationsChartProps) {
  const counted = points.flatMap(({ at, count }) => count === null ? [] : [{ at, count }]);
  const latest = counted.at(-1)!;
  const most = counted.reduce((best, point) => point.count > best.count ? point : best);
  const summary = `${format(latest.count)} on ${labelOf(latest.at, "day")}; most on ${labelOf(most.at, "day")}: ${
    format(most.count)
  }.`;
  return <Bars title={title} points={points} unit="day" noun="Donations" summary={summary} />;
}

/** A chart with its title, its axis and its text. */
function Bars({ title, points, unit, noun, summary }: BarsProps) {
  const most = Math.max(...points.map(({ count }) => count ?? 0));
  const step = WIDTH / points.length;
  const bars = points.map(({ count }, index) => bar(index * step, step * 0.72, (count ?? 0) / most));
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${title}: ${summary}`}>
        <path class="bars" d={bars.slice(0, -1).join("")} />
        <path class="bars now" d={bars.at(-1)} />
        <path class="base" d={`M0 ${HEIGHT - 0.5}H${WIDTH}`} />
      </svg>
      <p class="axis" aria-hidden="true">
        <span>{labelOf(points[0]!.at, unit)}</span>
        <span>{unit === "hour" ? "this hour" : "today"}</span>
      </p>
      <details>
        <summary>As a table</summary>
        <table>
          <caption>{summary} Times are UTC.</caption>
          <thead>
            <tr>
              <th scope="col">{unit === "hour" ? "Hour from" : "Day"}</th>
              <th scope="col">{noun}</th>
            </tr>
          </thead>
          <tbody>
            {points.map(({ at, count }) => (
              <tr key={at}>
                <td>{labelOf(at, unit)}</td>
                <td>{count === null ? "not counted" : format(count)}</td>
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

function labelOf(at: number, unit: "hour" | "day"): string {
  return unit === "hour" ? hourOf(at) : dayOf(at);
}

function hourOf(at: number): string {
  return new Date(at).toISOString().slice(11, 16);
}

function dayOf(at: number): string {
  return new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}
