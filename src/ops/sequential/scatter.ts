/**
 * ScatterND and ScatterElements: the data copied, then the updates written over it in their order, so that of two at one
 * place the last counts. Indices are brought into range. Sources: ONNX ScatterND-18, ScatterElements-18.
 */
import { type Buffer, type Dim, mul, type Node, product, seq, type SequentialCode, type SequentialExpr, type Variable } from "../../ir/index.ts";
import type { SequentialMemory, SequentialOperator } from "../contract.ts";
import { inputDims, normalizeAxis, numberAttribute, stringAttribute } from "../lower/operand.ts";
import { bitsOf, hasNumbers, kernelOf } from "./kernel.ts";

const REDUCTIONS = { none: undefined, add: seq.add, mul: seq.mul, min: seq.min, max: seq.max } as const;

type Reduction = (typeof REDUCTIONS)[keyof typeof REDUCTIONS];

function reductionOf(node: Node): Reduction | "unknown" {
  const name = stringAttribute(node, "reduction", "none");
  return name in REDUCTIONS ? REDUCTIONS[name as keyof typeof REDUCTIONS] : "unknown";
}

function isSupported(node: Node): boolean {
  const [data, indices, updates] = node.inputs;
  if (!data?.dims || !indices?.dims || !updates?.dims || data.dims.length === 0 || data.kind !== "tensor") return false;
  if (!/^int(32|64)$/.test(indices.dtype ?? "") || reductionOf(node) === "unknown") return false;
  return reductionOf(node) === undefined ? bitsOf(data.dtype) !== undefined : hasNumbers(node, 0) && data.dtype !== "bool";
}

/** Data, indices and updates, as numbers where they are reduced and as bits where they only move. */
function buffersOf(node: Node, memory: SequentialMemory): { to: Buffer; indices: Buffer; updates: Buffer } {
  const as = reductionOf(node) === undefined ? bitsOf(node.inputs[0]!.dtype) : undefined;
  return { to: memory.output(0, as), indices: memory.input(1), updates: memory.input(2, as) };
}

/** The index in range: negative ones count from the end. */
function rangeOf(code: SequentialCode, raw: SequentialExpr, size: Dim): Variable {
  const index = code.let("index", raw);
  code.if(seq.lt(index, 0), () => code.set(index, seq.add(index, seq.size(size))));
  code.set(index, seq.max(seq.min(index, seq.sub(seq.size(size), 1)), 0));
  return index;
}

function write(code: SequentialCode, to: Buffer, at: Variable, update: SequentialExpr, reduction: Exclude<Reduction, "unknown">): void {
  code.store(to, at, reduction ? reduction(seq.at(to, at), update) : update);
}

export const scatterNd: SequentialOperator = {
  supports: (node) => isSupported(node) && typeof node.inputs[1]!.dims!.at(-1) === "number",
  parts(node, memory) {
    const [dims, indexDims] = [inputDims(node, 0), inputDims(node, 1)];
    const depth = indexDims.at(-1) as number;
    const [count, slice] = [product(indexDims.slice(0, -1)), product(dims.slice(depth))];
    const { to, indices, updates } = buffersOf(node, memory);
    const reduction = reductionOf(node) as Reduction;
    const scatter = kernelOf("ScatterND", 1, [to], mul(count, slice), (code) => code.if(seq.gt(seq.size(product(dims)), 0), () => {
      const from = code.let("from", 0);
      code.for(0, seq.size(count), (update) => {
        const place = code.let("place", 0);
        for (let axis = 0; axis < depth; axis++) {
          const index = rangeOf(code, seq.at(indices, seq.add(seq.mul(update, depth), axis)), dims[axis]!);
          code.set(place, seq.add(seq.mul(place, seq.size(dims[axis]!)), index));
        }
        const at = code.let("at", seq.mul(place, seq.size(slice)));
        code.for(0, seq.size(slice), () => {
          write(code, to, at, seq.at(updates, from), reduction);
          code.set(at, seq.add(at, 1));
          code.set(from, seq.add(from, 1));
        });
      });
    }));
    return [{ kind: "copy", input: 0, output: 0 }, scatter];
  },
};

export const scatterElements: SequentialOperator = {
  supports: isSupported,
  parts(node, memory) {
    const [dims, indexDims] = [inputDims(node, 0), inputDims(node, 1)];
    const axis = normalizeAxis(numberAttribute(node, "axis", 0), dims.length);
    const { to, indices, updates } = buffersOf(node, memory);
    const reduction = reductionOf(node) as Reduction;
    const scatter = kernelOf("ScatterElements", 1, [to], product(indexDims), (code) => code.if(seq.gt(seq.size(product(dims)), 0), () => {
      const from = code.let("from", 0);
      const walk = (level: number, before: Variable): void => {
        if (level === dims.length) {
          const index = rangeOf(code, seq.at(indices, from), dims[axis]!);
          const at = code.let("at", seq.add(before, seq.mul(index, seq.size(product(dims.slice(axis + 1))))));
          write(code, to, at, seq.at(updates, from), reduction);
          return code.set(from, seq.add(from, 1));
        }
        code.for(0, seq.size(indexDims[level]!), (i) => {
          const stride = seq.size(product(dims.slice(level + 1)));
          walk(level + 1, level === axis ? before : code.let("start", seq.add(before, seq.mul(i, stride))));
        });
      };
      walk(0, code.let("start", 0));
    }));
    return [{ kind: "copy", input: 0, output: 0 }, scatter];
  },
};
