/** The accuracy report that lies beside an engine, `model.engine.accuracy.json`: what was measured, on what, at what loss. */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { fileError, UserError } from "../base/index.ts";
import type { QuantizationPlan } from "../passes/index.ts";

/** What one layer costs and gives when it alone is int8. */
export interface SensitivityRow {
  readonly layer: string;
  /** Signal over noise of the model's outputs, in decibels; null where there is no noise. */
  readonly decibels: number | null;
  readonly floatBytes: number;
  readonly bytes: number;
}

export interface AccuracyReport {
  readonly version: string;
  readonly model: { readonly name: string; readonly digest: string };
  readonly data: { readonly name: string; readonly samples: number; readonly digest: string };
  readonly calibration: { readonly calibrator: string; readonly scheme: string; readonly dataDigest: string } | "dynamic";
  readonly metric: string;
  /** The float model's figure, the engine's, and their ratio. */
  readonly reference: number;
  readonly score: number;
  readonly retained: number;
  /** The least ratio asked for; null when none was. */
  readonly target: number | null;
  readonly reached: boolean;
  readonly layers: QuantizationPlan["layers"];
  readonly keptInFloat: readonly string[];
  readonly sensitivity: readonly SensitivityRow[];
}

export const accuracyPath = (engine: string): string => `${engine}.accuracy.json`;

export function writeAccuracy(engine: string, report: AccuracyReport): void {
  const path = accuracyPath(engine);
  try {
    writeFileSync(`${path}.${process.pid}.tmp`, `${JSON.stringify(report, null, 1)}\n`);
    renameSync(`${path}.${process.pid}.tmp`, path);
  } catch (cause) {
    throw fileError(path, cause);
  }
}

/** The report beside an engine, if there is one that belongs to its model. */
export function readAccuracy(engine: string, modelDigest: string): AccuracyReport | undefined {
  const path = accuracyPath(engine);
  if (!existsSync(path)) return undefined;
  try {
    const report = JSON.parse(readFileSync(path, "utf8")) as AccuracyReport;
    return report.model?.digest === modelDigest ? report : undefined;
  } catch (cause) {
    throw new UserError("file-io", `${path}: ${(cause as Error).message}; remove it, or build the engine again.`, { cause });
  }
}
