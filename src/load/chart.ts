/** The runs as a page of its own: throughput against latency, and where the server spent the time. No script, nothing to load. */
import type { LoadReport } from "./report.ts";

const WIDTH = 720;
const HEIGHT = 320;
const MARGIN = { left: 64, right: 24, top: 24, bottom: 44 };
const LINES = [["p50", "#2a78d6"], ["p90", "#8a63d2"], ["p99", "#d2603a"]] as const;
const PHASES = [["queueMs", "queue", "#d2603a"], ["inputMs", "input", "#8a63d2"], ["inferMs", "infer", "#2a78d6"], ["outputMs", "output", "#3a9a6a"]] as const;

const escaped = (text: string): string => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

/** A round number of at least `value`, and five marks up to it. */
function axis(value: number): { readonly most: number; readonly marks: readonly number[] } {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-6)));
  const most = power * ([1, 2, 2.5, 5, 10].find((step) => step * power >= value) ?? 10);
  return { most, marks: Array.from({ length: 6 }, (_, i) => (most * i) / 5) };
}

const short = (value: number): string => (value >= 1e4 ? `${Number((value / 1000).toPrecision(3))}k` : String(Number(value.toPrecision(3))));

interface Frame {
  readonly x: (value: number) => number;
  readonly y: (value: number) => number;
  readonly svg: string;
}

function frame(mostX: number, mostY: number, titleX: string, titleY: string): Frame {
  const [horizontal, vertical] = [axis(mostX), axis(mostY)];
  const x = (value: number): number => MARGIN.left + (value / horizontal.most) * (WIDTH - MARGIN.left - MARGIN.right);
  const y = (value: number): number => HEIGHT - MARGIN.bottom - (value / vertical.most) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const grid = vertical.marks.map((mark) => `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y(mark)}" y2="${y(mark)}" class="grid"/><text x="${MARGIN.left - 8}" y="${y(mark) + 4}" text-anchor="end">${short(mark)}</text>`);
  const marks = horizontal.marks.map((mark) => `<text x="${x(mark)}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${short(mark)}</text>`);
  const titles = `<text x="${WIDTH / 2}" y="${HEIGHT - 6}" text-anchor="middle">${titleX}</text><text x="14" y="${HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 ${HEIGHT / 2})">${titleY}</text>`;
  return { x, y, svg: [...grid, ...marks, titles].join("") };
}

function legend(entries: readonly (readonly [string, string])[]): string {
  return entries.map(([name, colour], i) => `<rect x="${MARGIN.left + 12 + 80 * i}" y="8" width="10" height="10" fill="${colour}"/><text x="${MARGIN.left + 28 + 80 * i}" y="17">${name}</text>`).join("");
}

function latencyChart(reports: readonly LoadReport[]): string {
  const { x, y, svg } = frame(Math.max(...reports.map((one) => one.requestsPerSecond)), Math.max(...reports.map((one) => one.latencyMs.p99)), "requests per second", "latency, ms");
  const lines = LINES.map(([key, colour]) => {
    const points = reports.map((one) => [x(one.requestsPerSecond), y(one.latencyMs[key])] as const);
    const dots = points.map(([px, py], i) => `<circle cx="${px}" cy="${py}" r="3.5" fill="${colour}"><title>${reports[i]!.kind} ${reports[i]!.value}: ${reports[i]!.requestsPerSecond.toFixed(0)} req/s, ${key} ${reports[i]!.latencyMs[key].toFixed(2)} ms</title></circle>`);
    return `<polyline points="${points.map((point) => point.join(",")).join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>${dots.join("")}`;
  });
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="latency against throughput">${svg}${lines.join("")}${legend(LINES)}</svg>`;
}

function phaseChart(reports: readonly LoadReport[]): string {
  const totals = reports.map((one) => PHASES.reduce((sum, [key]) => sum + one.server[key], 0));
  const { most, marks } = axis(Math.max(...totals));
  const step = (HEIGHT - MARGIN.top - MARGIN.bottom) / reports.length;
  const x = (value: number): number => MARGIN.left + (value / most) * (WIDTH - MARGIN.left - MARGIN.right);
  const rows = reports.map((one, i) => {
    let from = 0;
    const top = MARGIN.top + 8 + step * i;
    const parts = PHASES.map(([key, name, colour]) => {
      const bar = `<rect x="${x(from)}" y="${top}" width="${Math.max(0, x(from + one.server[key]) - x(from))}" height="${Math.max(2, step - 8)}" fill="${colour}"><title>${name} ${one.server[key].toFixed(3)} ms</title></rect>`;
      from += one.server[key];
      return bar;
    });
    return `${parts.join("")}<text x="${MARGIN.left - 8}" y="${top + step / 2}" text-anchor="end">${one.value}</text>`;
  });
  const scale = marks.map((mark) => `<text x="${x(mark)}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${short(mark)}</text>`);
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="time in the server">${rows.join("")}${scale.join("")}<text x="${WIDTH / 2}" y="${HEIGHT - 6}" text-anchor="middle">ms per request in the server, by ${reports[0]!.kind}</text>${legend(PHASES.map(([, name, colour]) => [name, colour] as const))}</svg>`;
}

/** @param reports at least one */
export function chartPage(title: string, reports: readonly LoadReport[]): string {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>${escaped(title)}</title>
<style>body{font:14px system-ui,sans-serif;max-width:760px;margin:2rem auto;color:#222;background:#fff}svg{width:100%;height:auto}text{font-size:12px;fill:#555}.grid{stroke:#e3e3e3}h1{font-size:1.2rem}</style>
<h1>${escaped(title)}</h1>
${latencyChart(reports)}
${phaseChart(reports)}
</html>
`;
}
