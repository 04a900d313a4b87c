/**
 * Upsample and the older forms of Resize. Upsample and Resize-10 map coordinates by x / scale ("asymmetric"); nearest
 * takes the floor when it enlarges and the ceiling when it shrinks, as the operator's test data has it. Resize-11 and
 * 12 write absent `roi` and `scales` as empty tensors. GridSample's and RoiAlign's older names and defaults are here too.
 * Source: ONNX Upsample-7, Upsample-9, Resize-10, Resize-11, Resize-13, GridSample-16, RoiAlign-10.
 */
import type { Node, Value } from "../../ir/index.ts";
import { constantNumbers, isEmptyConstant, type Rewriter, takeNumber, takeNumbers, takeString } from "../rewriter.ts";
import type { UpgradeTable } from "./table.ts";

function upsample(node: Node, rewriter: Rewriter): "replaced" | undefined {
  let scales = node.inputs[1];
  if (!scales) {
    const list = takeNumbers(node, "scales") ?? legacyScales(node);
    if (!list) rewriter.invalid('attribute "scales" is missing');
    scales = rewriter.floatLike(list, [list.length]);
  }
  node.op = "Resize";
  return asymmetric(node, rewriter, scales);
}

function legacyScales(node: Node): readonly number[] | undefined {
  const height = takeNumber(node, "height_scale");
  const width = takeNumber(node, "width_scale");
  return height !== undefined && width !== undefined ? [1, 1, height, width] : undefined;
}

function resize10(node: Node, rewriter: Rewriter): "replaced" | undefined {
  return asymmetric(node, rewriter, node.inputs[1] ?? rewriter.invalid("input 1 (scales) is missing"));
}

function asymmetric(node: Node, rewriter: Rewriter, scales: Value): "replaced" | undefined {
  const stated = takeString(node, "mode") ?? "nearest";
  const mode = stated === "bilinear" || stated === "trilinear" ? "linear" : stated;
  const attributes = { mode, coordinate_transformation_mode: "asymmetric" };
  const factors = mode === "nearest" ? constantNumbers(scales) : undefined;
  const shrinks = factors?.some((factor) => factor < 1) ?? false;
  const enlarges = factors?.some((factor) => factor > 1) ?? true;
  if (factors && shrinks && enlarges) {
    const down = rewriter.floatLike(factors.map((factor) => Math.min(factor, 1)), [factors.length]);
    const up = rewriter.floatLike(factors.map((factor) => Math.max(factor, 1)), [factors.length]);
    const small = rewriter.emit("Resize", [node.inputs[0], undefined, down], { ...attributes, nearest_mode: "ceil" });
    rewriter.emit("Resize", [small, undefined, up], { ...attributes, nearest_mode: "floor" }, node.outputs[0]);
    return "replaced";
  }
  node.inputs = [node.inputs[0], undefined, scales];
  node.attributes = { ...attributes, ...(mode === "nearest" ? { nearest_mode: shrinks ? "ceil" : "floor" } : {}) };
  return undefined;
}

/**
 * `tf_half_pixel_for_nn` maps x to (x + 0.5) / scale, half a pixel right of `half_pixel`; so its floor is
 * `half_pixel` rounded half up.
 */
function resize11(node: Node, rewriter: Rewriter): undefined {
  if (node.attributes["coordinate_transformation_mode"] !== "tf_half_pixel_for_nn") return;
  if (node.attributes["nearest_mode"] !== "floor") rewriter.invalid('coordinate_transformation_mode "tf_half_pixel_for_nn" is taken with nearest_mode "floor" only.');
  node.attributes["coordinate_transformation_mode"] = "half_pixel";
  node.attributes["nearest_mode"] = "round_prefer_ceil";
}

function dropEmptyInputs(node: Node): undefined {
  node.inputs = node.inputs.map((input, i) => (i > 0 && isEmptyConstant(input) ? undefined : input));
  while (node.inputs.length > 1 && node.inputs.at(-1) === undefined) node.inputs.pop();
}

function gridSample(node: Node): undefined {
  const mode = node.attributes["mode"] ?? "bilinear";
  node.attributes["mode"] = mode === "bilinear" ? "linear" : mode === "bicubic" ? "cubic" : mode;
}

function roiAlign(node: Node): undefined {
  node.attributes["coordinate_transformation_mode"] = "output_half_pixel";
}

const ANY = Number.POSITIVE_INFINITY;

export const resize: UpgradeTable = {
  Upsample: [{ until: ANY, rewrite: upsample }],
  Resize: [{ until: 11, rewrite: resize10 }, { until: 13, rewrite: resize11 }, { until: ANY, rewrite: dropEmptyInputs }],
  GridSample: [{ until: 20, rewrite: gridSample }],
  RoiAlign: [{ until: 16, rewrite: roiAlign }],
};
