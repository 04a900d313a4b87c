/** For tests: one operator on given inputs, and tensors written short. */
import { assert, type DType, Tensor } from "../base/index.ts";
import { REFERENCE_OPERATORS } from "./catalogue.ts";
import type { HostValue, ReferenceAttributes, ReferenceContext } from "./contract.ts";
import { bigsOf, isBig, numbersOf, tensorOf } from "./elements.ts";

/** The operator's outputs; random numbers are 0, 0.1, … 0.9, 0, … */
export function call(op: string, inputs: readonly HostValue[], attributes: ReferenceAttributes = {}, outputCount = 1): HostValue[] {
  const operator = REFERENCE_OPERATORS[op];
  assert(operator, `an operator named ${op}`);
  let drawn = 0;
  const context: ReferenceContext = {
    outputCount,
    wanted: new Array<boolean>(outputCount).fill(true),
    runGraph: () => { throw new Error("no subgraphs here"); },
    random: () => (drawn++ % 10) / 10,
  };
  return operator(inputs, attributes, context);
}

/** A tensor of the type, each number converted to it. */
export function tensor(type: DType, values: readonly (number | bigint)[], dims: readonly number[] = [values.length]): Tensor {
  if (isBig(type)) return new Tensor(type, (type === "int64" ? BigInt64Array : BigUint64Array).from(values.map((value) => BigInt(value))), dims);
  return tensorOf(type, Float64Array.from(values, Number), dims);
}

/** What a result holds: its type, dims, and elements as plain values. */
export function shown(value: HostValue): string {
  if (value === undefined) return "nothing";
  if (!(value instanceof Tensor)) return `(${value.sequence.map(shown).join(", ")})`;
  const elements = Array.isArray(value.data) ? value.data : isBig(value.type) ? [...bigsOf(value)] : Array.from(numbersOf(value), (x) => (Object.is(x, -0) ? "-0" : String(x)));
  return `${value.type}[${value.dims}] ${elements.join(" ")}`;
}
