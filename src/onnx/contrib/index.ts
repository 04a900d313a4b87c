/**
 * onnxruntime's own operators ("com.microsoft"): those with an exact composition of ai.onnx operators become it; the
 * rest of the known ones stay in their domain.
 * Source: onnxruntime, docs/ContribOperators.md.
 */
import type { Rewrite } from "../rewriter.ts";

export const CONTRIB: ReadonlyMap<string, Rewrite> = new Map();

export const KEPT_CONTRIB: ReadonlySet<string> = new Set();
