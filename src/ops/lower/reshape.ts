/**
 * Views that only rename or repeat indices: reshapes, Transpose, Expand, Tile, DepthToSpace, SpaceToDepth.
 * A reshape reads the element at the same row-major position; simplification turns that into plain strides wherever
 * the dimensions nest.
 */
import { delinearize, dimValue, type Expr, linearize, type Node, op } from "../../ir/index.ts";
import type { Lowering, OpKey } from "../contract.ts";
import { broadcastIndex, inputDims, inputDtype, numberAttribute, numbersAttribute, outputDims, scaleIndex, stringAttribute } from "./operand.ts";

const notString = (node: Node): boolean => inputDtype(node) !== "string";

const reshape: Lowering = {
  kind: "view",
  supports: notString,
  element: (node, _output, index, load) => load(0, delinearize(linearize(index, outputDims(node)), inputDims(node, 0))),
};

const transpose: Lowering = {
  kind: "view",
  supports: notString,
  element(node, _output, index, load) {
    const rank = inputDims(node, 0).length;
    const permutation = numbersAttribute(node, "perm") ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
    const from: Expr[] = new Array<Expr>(rank);
    permutation.forEach((axis, i) => { from[axis] = index[i]!; });
    return load(0, from);
  },
};

const expand: Lowering = {
  kind: "view",
  supports: notString,
  element: (node, _output, index, load) => load(0, broadcastIndex(inputDims(node, 0), outputDims(node), index)),
};

const tile: Lowering = {
  kind: "view",
  supports: notString,
  element: (node, _output, index, load) => load(0, inputDims(node, 0).map((dim, i) => op("mod", index[i]!, dimValue(dim)))),
};

/** Output channel c at (y, x) comes from the block position (y mod b, x mod b). */
const depthToSpace: Lowering = {
  kind: "view",
  supports: notString,
  element(node, _output, [n, c, y, x], load) {
    const block = numberAttribute(node, "blocksize", 1);
    const size = dimValue(block);
    const channels = outputDims(node)[1]!;
    const within = op("add", scaleIndex(op("mod", y!, size), block), op("mod", x!, size));
    const columnRow = stringAttribute(node, "mode", "DCR") === "DCR";
    const channel = columnRow ? op("add", scaleIndex(within, channels), c!) : op("add", scaleIndex(c!, block * block), within);
    return load(0, [n!, channel, op("div", y!, size), op("div", x!, size)]);
  },
};

const spaceToDepth: Lowering = {
  kind: "view",
  supports: notString,
  element(node, _output, [n, c, y, x], load) {
    const block = numberAttribute(node, "blocksize", 1);
    const channels = dimValue(inputDims(node, 0)[1]!);
    const within = op("div", c!, channels);
    const row = op("add", scaleIndex(y!, block), op("div", within, dimValue(block)));
    const column = op("add", scaleIndex(x!, block), op("mod", within, dimValue(block)));
    return load(0, [n!, op("mod", c!, channels), row, column]);
  },
};

export const RESHAPES: readonly (readonly [OpKey, Lowering])[] = [
  ...["Reshape", "Flatten", "Squeeze", "Unsqueeze"].map((key): [OpKey, Lowering] => [key, reshape]),
  ["Transpose", transpose],
  ["Expand", expand],
  ["Tile", tile],
  ["DepthToSpace", depthToSpace],
  ["SpaceToDepth", spaceToDepth],
];
