/** CumSum: one running sum per line along the axis, in linear time. Source: ONNX CumSum-14. */
import { mul, product, seq } from "../../ir/index.ts";
import type { SequentialOperator } from "../contract.ts";
import { inputDims, knownElements, normalizeAxis, numberAttribute } from "../lower/operand.ts";
import { hasNumbers, kernelOf, linesOf } from "./kernel.ts";

export const cumSum: SequentialOperator = {
  supports: (node) => hasNumbers(node, 0) && inputDims(node, 0).length > 0 && typeof knownElements(node.inputs[1])?.[0] === "number",
  parts(node, memory) {
    const dims = inputDims(node, 0);
    const { outer, length, inner } = linesOf(dims, normalizeAxis(knownElements(node.inputs[1])![0] as number, dims.length));
    const [x, y] = [memory.input(0), memory.output(0)];
    const [isExclusive, isReverse] = [numberAttribute(node, "exclusive", 0) !== 0, numberAttribute(node, "reverse", 0) !== 0];
    return [kernelOf("CumSum", mul(outer, inner), [y], product(dims), (code) => {
      const step = seq.size(inner);
      const first = seq.add(seq.mul(seq.div(seq.tile, step), seq.size(mul(length, inner))), seq.rem(seq.tile, step));
      const at = code.let("at", isReverse ? seq.add(first, seq.mul(seq.sub(seq.size(length), 1), step)) : first);
      const sum = code.let("sum", seq.number(x.dtype === "float32" ? "f32" : "i64", 0));
      code.for(0, seq.size(length), () => {
        const item = code.let("item", seq.at(x, at));
        if (isExclusive) code.store(y, at, sum);
        code.set(sum, seq.add(sum, item));
        if (!isExclusive) code.store(y, at, sum);
        code.set(at, isReverse ? seq.sub(at, step) : seq.add(at, step));
      });
    })];
  },
};
