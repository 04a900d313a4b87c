/** Reports as one HTML page each, with nothing outside it: tables, and pictures as SVG. */
import type { CalibrationCache, LayerRange } from "./cache.ts";
import { CALIBRATORS } from "./calibrators.ts";
import type { LayerNoise } from "./noise.ts";

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}td.n{text-align:right;font-variant-numeric:tabular-nums}
section{margin:1.5rem 0}h2{margin-top:2rem}h3{font-size:1rem;margin:.3rem 0}.warn{background:#fff3cd;padding:.5rem 1rem}small{color:#555}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e8e8e8}td,th{border-color:#444}.warn{background:#4a3b00}small{color:#aaa}}`;

const escaped = (text: string): string => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);

function page(title: string, body: string): string {
  return `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title><style>${STYLE}</style></head><body><h1>${escaped(title)}</h1>\n${body}\n</body></html>\n`;
}

function table(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const cell = (value: string | number): string => (typeof value === "number" ? `<td class="n">${value}</td>` : `<td>${escaped(value)}</td>`);
  return `<table><tr>${header.map((title) => `<th scope="col">${escaped(title)}</th>`).join("")}</tr>${rows.map((row) => `<tr>${row.map(cell).join("")}</tr>`).join("\n")}</table>`;
}

const short = (value: number): number => Number(value.toPrecision(4));

const COLOURS = { entropy: "#c0392b", minmax: "#2980b9", percentile: "#27ae60", mse: "#8e44ad" } as const;
const [WIDTH, HEIGHT] = [640, 120];

/** Counts on a logarithmic scale, and where each calibrator clips. */
function histogramPicture(name: string, { min, max, histogram, clips }: LayerRange): string {
  const most = Math.log1p(Math.max(1, ...histogram));
  const width = WIDTH / histogram.length;
  const bars = histogram.map((count, i) => {
    const height = (Math.log1p(count) / most) * HEIGHT;
    return `<rect x="${(i * width).toFixed(1)}" y="${(HEIGHT - height).toFixed(1)}" width="${(width - 0.5).toFixed(1)}" height="${height.toFixed(1)}" fill="#8899aa"/>`;
  });
  const at = (value: number): number => Math.min(WIDTH, Math.max(0, ((value - min) / (max - min || 1)) * WIDTH));
  const marks = CALIBRATORS.flatMap((calibrator) => clips.asymmetric[calibrator].filter((end) => end !== 0).map((end) => `<line x1="${at(end).toFixed(1)}" x2="${at(end).toFixed(1)}" y1="0" y2="${HEIGHT}" stroke="${COLOURS[calibrator]}" stroke-width="2"><title>${calibrator} ${short(end)}</title></line>`));
  return `<svg role="img" aria-label="histogram of ${escaped(name)}" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}">${bars.join("")}${marks.join("")}</svg>`;
}

export function calibrationPage(cache: CalibrationCache): string {
  const { data, layers, strata, warnings } = cache;
  const legend = CALIBRATORS.map((calibrator) => `<span style="color:${COLOURS[calibrator]}">▌${calibrator}</span>`).join(" ");
  const covered = strata ? `<h2>Strata of ${escaped(strata.column)}</h2>${table(["stratum", "in the data", "used"], Object.entries(strata.coverage).map(([name, { inData, used }]) => [name, inData, used]))}${strata.disagreements.length > 0 ? table(["layer", "widest", "narrowest", "times"], strata.disagreements.map(({ layer, widest, narrowest, ratio }) => [layer, widest, narrowest, short(ratio)])) : "<p>The strata agree on every layer.</p>"}` : "";
  const pictures = Object.entries(layers).map(([name, range]) => `<section><h3>${escaped(name)} <small>${range.kind}, ${short(range.min)} to ${short(range.max)}</small></h3>${histogramPicture(name, range)}<br><small>${CALIBRATORS.map((calibrator) => `${calibrator} ${range.clips.asymmetric[calibrator].map(short).join(" to ")}`).join("; ")}</small></section>`);
  return page("Calibration", `<p>${data.samples} samples of ${escaped(data.name)}, model <code>${escaped(cache.model.name)}</code> sha256:${cache.model.digest.slice(0, 16)}…</p>${warnings.map((warning) => `<p class="warn">${escaped(warning)}</p>`).join("")}${covered}<h2>What enters each layer</h2><p>Counts are on a logarithmic scale, zeros left out. Lines: where each calibrator clips. ${legend}</p>${pictures.join("\n")}`);
}

/** Signal over noise along the network. */
export function noisePage(model: string, rows: readonly LayerNoise[], firstLarge: string | undefined): string {
  const most = Math.max(1, ...rows.map(({ decibels }) => decibels ?? 0));
  const barWidth = Math.max(3, Math.min(20, 900 / Math.max(1, rows.length)));
  const bars = rows.map(({ layer, decibels, precision }, i) => {
    const height = ((Math.max(0, decibels ?? most)) / most) * HEIGHT;
    return `<rect x="${(i * barWidth).toFixed(1)}" y="${(HEIGHT - height).toFixed(1)}" width="${(barWidth - 1).toFixed(1)}" height="${height.toFixed(1)}" fill="${layer === firstLarge ? "#c0392b" : precision === "int8" ? "#2980b9" : "#95a5a6"}"><title>${escaped(layer)}: ${decibels === null ? "exact" : `${decibels.toFixed(1)} dB`}</title></rect>`;
  });
  const width = Math.ceil(rows.length * barWidth);
  const picture = `<svg role="img" aria-label="signal over noise per layer" viewBox="0 0 ${width} ${HEIGHT}" width="${width}" height="${HEIGHT}">${bars.join("")}</svg>`;
  const text = firstLarge === undefined ? "No layer falls below the bound." : `The first layer below the bound: <b>${escaped(firstLarge)}</b>.`;
  return page("Accuracy by layer", `<p>Model <code>${escaped(model)}</code>. Signal over noise of what each layer writes, against the float model, errors of the layers before it included. ${text}</p>${picture}${table(["layer", "precision", "dB", "cosine", "largest error"], rows.map(({ layer, precision, decibels, cosine, largestError }) => [layer, precision, decibels === null ? "exact" : short(decibels), short(cosine), short(largestError)]))}`);
}
