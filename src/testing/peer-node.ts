/** One node on onnxruntime and on its reference, on the same inputs: for operators that ONNX's test suite lacks. */
import * as ort from "onnxruntime-node";
import { type DType, Tensor } from "../base/index.ts";
import { makeNode, Value } from "../ir/index.ts";
import { type AttributeDescription, makeModel } from "../onnx/index.ts";
import { evaluateNode, type HostValue } from "../reference/index.ts";

export interface NodeCase {
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly (Tensor | undefined)[];
  readonly attributes?: Readonly<Record<string, number | string | readonly number[]>>;
  /** Attributes of type FLOAT or FLOATS. */
  readonly floats?: Readonly<Record<string, number | readonly number[]>>;
  /** Types of the outputs. */
  readonly outputs: readonly DType[];
  readonly opset?: number;
}

export async function onPeer(one: NodeCase): Promise<HostValue[]> {
  const names = one.inputs.map((input, i) => (input ? `x${i}` : ""));
  const outputs = one.outputs.map((_, i) => `y${i}`);
  const floats = Object.entries(one.floats ?? {}).map(([name, value]): [string, AttributeDescription] => [name, typeof value === "number" ? { float: value } : { floats: value }]);
  const model = makeModel({
    opset: one.opset ?? 17,
    irVersion: 8,
    opsets: { [one.domain]: 1 },
    inputs: one.inputs.flatMap((input, i) => (input ? [{ name: `x${i}`, type: input.type, dims: input.dims }] : [])),
    outputs: outputs.map((name, i) => ({ name, type: one.outputs[i]! })),
    nodes: [{ op: one.op, domain: one.domain, name: "node", inputs: names, outputs, attributes: { ...one.attributes, ...Object.fromEntries(floats) } }],
  });
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 4 });
  try {
    const feeds = one.inputs.flatMap((input, i) => (input ? [[`x${i}`, new ort.Tensor(input.type as "float32", input.data as Float32Array, input.dims)] as const] : []));
    const results = await session.run(Object.fromEntries(feeds));
    return outputs.map((name) => {
      const result = results[name]!;
      return new Tensor(result.type as DType, result.data as Float32Array, result.dims);
    });
  } finally {
    await session.release();
  }
}

export function onReference(one: NodeCase): HostValue[] {
  const node = makeNode({
    op: one.op,
    domain: one.domain,
    name: "node",
    inputs: one.inputs.map((input, i) => (input ? new Value(`x${i}`, input.type, input.dims) : undefined)),
    outputs: one.outputs.map((dtype, i) => new Value(`y${i}`, dtype)),
    attributes: { ...one.attributes, ...one.floats } as Record<string, number>,
  });
  return evaluateNode(node, one.inputs);
}
