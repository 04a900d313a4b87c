/** Inputs of a load run: given, or made from what the model says of itself; and the check of what comes back. */
import { type DType, DTYPE_BITS, elementCount, type Tensor, UserError } from "../base/index.ts";
import type { LoadModel, LoadTensor } from "./contract.ts";
import { type CheckAnswer, seededRandom } from "./run.ts";

const KSERVE_TYPES: Readonly<Partial<Record<DType, string>>> = {
  float32: "FP32", float64: "FP64", float16: "FP16", bfloat16: "BF16", int8: "INT8", int16: "INT16", int32: "INT32", int64: "INT64",
  uint8: "UINT8", uint16: "UINT16", uint32: "UINT32", uint64: "UINT64", bool: "BOOL",
};
const BITS: ReadonlyMap<string, number> = new Map(Object.entries(KSERVE_TYPES).map(([dtype, name]) => [name, DTYPE_BITS[dtype as DType]]));

/** A tensor that a user gave, as it travels. */
export function fromTensor(name: string, tensor: Tensor): LoadTensor {
  const datatype = KSERVE_TYPES[tensor.type];
  if (datatype === undefined) throw new UserError("option-invalid", `Input ${name}: the protocol has no type ${tensor.type}.`);
  return { name, datatype, shape: tensor.dims, bytes: tensor.bytes };
}

/**
 * Every input of the model: as given, or random, with the shape given or 1 for each dimension that varies. Floats are in [0, 1), integers
 * 0 or 1, so that they are valid as indices of whatever the model looks up.
 */
export function makeInputs(model: LoadModel, given: ReadonlyMap<string, LoadTensor>, shapes: Readonly<Record<string, readonly number[]>>, seed: number): LoadTensor[] {
  const names = new Set(model.inputs.map((input) => input.name));
  for (const name of [...given.keys(), ...Object.keys(shapes)]) {
    if (!names.has(name)) throw new UserError("option-invalid", `Model ${model.name} has no input "${name}"; it has ${[...names].join(", ")}.`);
  }
  const random = seededRandom(seed);
  return model.inputs.map(({ name, datatype, shape }) => given.get(name) ?? randomTensor(name, datatype, shapes[name] ?? shape.map((size) => (size < 0 ? 1 : size)), random));
}

function randomTensor(name: string, datatype: string, shape: readonly number[], random: () => number): LoadTensor {
  const count = elementCount(shape);
  if (datatype === "BYTES") return { name, datatype, shape, bytes: Buffer.concat(Array.from({ length: count }, () => Buffer.from([4, 0, 0, 0, ...Buffer.from("text")]))) };
  const bits = BITS.get(datatype);
  if (bits === undefined) throw new UserError("option-invalid", `Input ${name} has type ${datatype}, for which no values can be made; give them with --input ${name}=FILE.npy.`);
  const bytes = new Uint8Array((count * bits) / 8);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < count; i++) put(view, i, datatype, bits, random());
  return { name, datatype, shape, bytes };
}

function put(view: DataView, index: number, datatype: string, bits: number, value: number): void {
  const at = (index * bits) / 8;
  if (datatype === "FP32") view.setFloat32(at, value, true);
  else if (datatype === "FP64") view.setFloat64(at, value, true);
  // 0.5 as half and as bfloat16: one value will do for load.
  else if (datatype === "FP16") view.setUint16(at, 0x3800, true);
  else if (datatype === "BF16") view.setUint16(at, 0x3f00, true);
  else view.setUint8(at, value < 0.5 ? 0 : 1);
}

/**
 * @param expect "identity": outputs are the inputs, in order; "same": every answer is the first one, byte for byte; "none"; or
 *   the outputs by name
 */
export function makeCheck(expect: "identity" | "same" | "none" | ReadonlyMap<string, LoadTensor>, inputs: readonly LoadTensor[]): CheckAnswer {
  if (expect === "none") return () => undefined;
  if (expect === "identity") return (outputs) => compare(outputs, inputs.map((input, i) => ({ ...input, name: outputs[i]?.name ?? input.name })));
  if (expect === "same") {
    let first: LoadTensor[] | undefined;
    return (outputs) => {
      first ??= outputs.map((output) => ({ ...output, bytes: Buffer.from(output.bytes) }));
      return compare(outputs, first);
    };
  }
  return (outputs) => compare(outputs.filter((output) => expect.has(output.name)), [...expect.values()]);
}

function compare(outputs: readonly LoadTensor[], expected: readonly LoadTensor[]): string | undefined {
  if (outputs.length !== expected.length) return `an answer with ${outputs.length} outputs; expected ${expected.length}`;
  for (const want of expected) {
    const got = outputs.find((output) => output.name === want.name);
    if (got === undefined) return `an answer without output ${want.name}`;
    if (Buffer.compare(got.bytes, want.bytes) !== 0) return `output ${want.name} differs from what was expected`;
  }
  return undefined;
}
