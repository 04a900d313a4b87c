/** NonZero: counted first, so that the result has its size when the positions are written. Source: ONNX NonZero-13. */
import { product, seq } from "../../ir/index.ts";
import type { SequentialOperator } from "../contract.ts";
import { inputDims, outputDims } from "../lower/operand.ts";
import { hasNumbers, isSymbol, kernelOf } from "./kernel.ts";

export const nonZero: SequentialOperator = {
  supports: (node) => hasNumbers(node, 0) && inputDims(node, 0).length > 0 && isSymbol(outputDims(node)[1]),
  parts(node, memory) {
    const dims = inputDims(node, 0);
    const found = outputDims(node)[1]!;
    const x = memory.input(0);
    const [total, places] = [memory.temporary("count", "int64", [1]), memory.output(0)];
    const size = product(dims);
    const count = kernelOf("NonZero.count", 1, [total], size, (code) => {
      const sum = code.let("sum", 0);
      code.for(0, seq.size(size), (i) => code.if(seq.ne(seq.at(x, i), 0), () => code.set(sum, seq.add(sum, 1))));
      code.store(total, 0, sum);
    });
    const list = kernelOf("NonZero", 1, [places], size, (code) => {
      const [row, rows] = [code.let("row", 0), code.let("rows", seq.size(found))];
      code.for(0, seq.size(size), (i) => code.if(seq.all(seq.ne(seq.at(x, i), 0), seq.lt(row, rows)), () => {
        const rest = code.let("rest", i);
        for (let axis = dims.length - 1; axis >= 0; axis--) {
          code.store(places, seq.add(seq.mul(rows, axis), row), axis === 0 ? rest : seq.rem(rest, seq.size(dims[axis]!)));
          if (axis > 0) code.set(rest, seq.div(rest, seq.size(dims[axis]!)));
        }
        code.set(row, seq.add(row, 1));
      }));
    });
    return [count, { kind: "size", symbol: found, from: total }, list];
  },
};
