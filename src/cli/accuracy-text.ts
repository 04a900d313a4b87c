/** An accuracy report in words. */
import type { AccuracyReport } from "../quantize/index.ts";
import { bytes, list, some, table } from "./output.ts";

/** Rows of the sensitivity table that are shown. */
const SHOWN = 12;

export function accuracyText(report: AccuracyReport): string {
  const { metric, reference, score, retained, target, reached, data, calibration, layers, keptInFloat, sensitivity } = report;
  const rows: [string, string][] = [
    ["accuracy", `${metric} ${score.toFixed(4)}, float ${reference.toFixed(4)}: ${(100 * retained).toFixed(2)} % kept${target === null ? "" : reached ? `, ${100 * target} % asked` : `, ${100 * target} % asked and NOT reached`}`],
    ["measured on", `${data.samples} samples of ${data.name}, sha256:${data.digest.slice(0, 16)}…`],
    ["scales", calibration === "dynamic" ? "per row, as they run" : `${calibration.calibrator}, ${calibration.scheme}, data sha256:${calibration.dataDigest.slice(0, 16)}…`],
    ["in float", keptInFloat.length === 0 ? "no layer" : `${keptInFloat.length} of ${Object.keys(layers).length} layers: ${some(keptInFloat, 6)}`],
  ];
  if (sensitivity.length === 0) return list(rows);
  const kept = new Set(keptInFloat);
  const shown = sensitivity.slice(0, SHOWN).map((row) => [row.layer, row.decibels === null ? "exact" : row.decibels.toFixed(1), bytes(row.floatBytes - row.bytes), kept.has(row.layer) ? "float" : "int8"]);
  return `${list(rows)}\n\n${table(["layer alone in int8", "output's dB", "saves", "now"], shown)}${sensitivity.length > SHOWN ? `\n… (${sensitivity.length})` : ""}`;
}
