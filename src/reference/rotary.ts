/**
 * Rotary position embedding: pairs of elements turned by an angle of their position.
 * Sources: ONNX RotaryEmbedding-23; com.microsoft RotaryEmbedding (its inputs stand in another order, and its
 * position_ids may be one offset).
 */
import type { Tensor } from "../base/index.ts";
import { type Heads, headsOf, joinHeads } from "./attention.ts";
import type { ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { fromNumbers, intAttribute, optionalTensor, tensorInput, toNumbers } from "./arguments.ts";

function rotate(x: Tensor, cosines: Tensor, sines: Tensor, positions: Tensor | undefined, attributes: ReferenceAttributes): Tensor {
  const half = cosines.dims[cosines.dims.length - 1]!;
  const heads = intAttribute(attributes, "num_heads", 0) || (x.dims.length === 3 ? x.dims[2]! / (intAttribute(attributes, "rotary_embedding_dim", 0) || 2 * half) : 0);
  const source = headsOf(x, heads);
  const turned = turn(source, toNumbers(cosines), toNumbers(sines), half, rowReader(cosines, positions, source.dims[2]), intAttribute(attributes, "interleaved", 0) === 1);
  const out = x.dims.length === 3 ? joinHeads(turned) : turned;
  return fromNumbers(x.type, out.numbers, out.dims);
}

/** Which row of the tables serves token s of batch b: by position, or [batch, seq, half] directly. */
function rowReader(table: Tensor, positions: Tensor | undefined, length: number): (b: number, s: number) => number {
  if (!positions) return table.dims.length === 3 ? (b, s) => (table.dims[0] === 1 ? 0 : b) * length + s : (_b, s) => s;
  const ids = toNumbers(positions);
  if (ids.length === 1 && positions.dims.length < 2) return (_b, s) => ids[0]! + s;
  return (b, s) => ids[(positions.dims[0] === 1 ? 0 : b) * length + s]!;
}

function turn(x: Heads, cosines: Float64Array, sines: Float64Array, half: number, row: (b: number, s: number) => number, interleaved: boolean): Heads {
  const [batch, heads, length, size] = x.dims;
  const numbers = x.numbers.slice();
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let s = 0; s < length; s++) {
        const from = ((b * heads + h) * length + s) * size;
        for (let i = 0; i < half; i++) {
          const first = from + (interleaved ? 2 * i : i);
          const second = from + (interleaved ? 2 * i + 1 : half + i);
          const cos = cosines[row(b, s) * half + i]!;
          const sin = sines[row(b, s) * half + i]!;
          numbers[first] = cos * x.numbers[first]! - sin * x.numbers[second]!;
          numbers[second] = sin * x.numbers[first]! + cos * x.numbers[second]!;
        }
      }
    }
  }
  return { numbers, dims: x.dims };
}

const rotaryEmbedding: ReferenceOperator = (inputs, attributes) =>
  [rotate(tensorInput(inputs, 0), tensorInput(inputs, 1), tensorInput(inputs, 2), optionalTensor(inputs, 3), attributes)];

const microsoftRotaryEmbedding: ReferenceOperator = (inputs, attributes) =>
  [rotate(tensorInput(inputs, 0), tensorInput(inputs, 2), tensorInput(inputs, 3), tensorInput(inputs, 1), attributes)];

export const rotaryOperators: ReferenceTable = { RotaryEmbedding: rotaryEmbedding, "com.microsoft.RotaryEmbedding": microsoftRotaryEmbedding };
