/** Models that come quantized, at random: graphs of Quantize, Dequantize and products, whose results are exact. */
import { elementCount, Tensor } from "../base/index.ts";
import { makeModel, type NodeDescription } from "../onnx/index.ts";

/** Whole numbers that look random and are the same each time. */
export function randomNumbers(seed: number): (low: number, high: number) => number {
  let state = seed * 2654435761 + 1;
  return (low, high) => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return low + ((state >>> 8) % (high - low + 1));
  };
}

type Random = ReturnType<typeof randomNumbers>;
type ByteType = "int8" | "uint8";

const bytesOf = (random: Random, type: ByteType, dims: number[]): Tensor => new Tensor(type, Array.from({ length: elementCount(dims) }, () => (type === "int8" ? random(-127, 127) : random(0, 255))), dims);
/** Powers of two: every product of the model is exact, so that its result does not depend on the order of rounding. */
const scaleOf = (random: Random, count: number, around: number): Tensor => new Tensor("float32", Array.from({ length: count }, () => 2 ** (around - random(0, 2))), count === 1 ? [] : [count]);
const zeroOf = (random: Random, type: ByteType, count = 1): Tensor => new Tensor(type, Array.from({ length: count }, () => (type === "int8" ? random(-20, 20) : random(100, 150))), count === 1 ? [] : [count]);

export interface QuantizedModel {
  readonly bytes: Uint8Array;
  readonly feeds: Record<string, Tensor>;
}

/** x → Q → layers of DQ, product, activation or shortcut, Q. */
export function randomQuantizedModel(seed: number, isImage: boolean): QuantizedModel {
  const random = randomNumbers(seed);
  const channels = random(1, 9);
  const dims = isImage ? [random(1, 2), channels, random(5, 12), random(5, 12)] : [random(1, 3), random(1, 7), channels];
  const constants: Record<string, Tensor> = {};
  const nodes: NodeDescription[] = [];
  const constant = (name: string, tensor: Tensor): string => {
    constants[name] = tensor;
    return name;
  };
  let width = channels;
  let type: ByteType = random(0, 1) === 0 ? "uint8" : "int8";
  let parameters = [constant("s0", scaleOf(random, 1, -5)), constant("z0", zeroOf(random, type))];
  nodes.push({ op: "QuantizeLinear", name: "q0", inputs: ["x", ...parameters], outputs: ["b0"] });
  const layers = random(1, 3);
  for (let i = 0; i < layers; i++) {
    const isShortcut = random(0, 2) === 0;
    const next = isShortcut ? width : random(1, 9);
    const weightType: ByteType = random(0, 2) === 0 ? "uint8" : "int8";
    const perChannel = random(0, 1) === 1 && next > 1 ? next : 1;
    const isDepthwise = isImage && next === width && width > 1 && random(0, 1) === 1;
    const kernel = isImage ? [random(0, 1) * 2 + 1, random(0, 1) * 2 + 1] : [];
    const weights = constant(`w${i}`, bytesOf(random, weightType, isImage ? [next, isDepthwise ? 1 : width, ...kernel] : [width, next]));
    const weightParameters = [constant(`ws${i}`, scaleOf(random, perChannel, -7)), constant(`wz${i}`, zeroOf(random, weightType, perChannel))];
    nodes.push({ op: "DequantizeLinear", name: `dx${i}`, inputs: [`b${i}`, ...parameters], outputs: [`r${i}`] });
    nodes.push({ op: "DequantizeLinear", name: `dw${i}`, inputs: [weights, ...weightParameters], outputs: [`rw${i}`], attributes: { axis: isImage ? 0 : 1 } });
    const pads = kernel.map((size) => (size - 1) / 2);
    nodes.push(isImage ? { op: "Conv", name: `c${i}`, inputs: [`r${i}`, `rw${i}`], outputs: [`p${i}`], attributes: { pads: [...pads, ...pads], group: isDepthwise ? width : 1 } } : { op: "MatMul", name: `m${i}`, inputs: [`r${i}`, `rw${i}`], outputs: [`p${i}`] });
    const activated = isShortcut ? `a${i}` : random(0, 1) === 1 ? `a${i}` : `p${i}`;
    if (activated === `a${i}`) nodes.push(isShortcut ? { op: "Add", name: `add${i}`, inputs: [`p${i}`, `r${i}`], outputs: [`a${i}`] } : { op: "Relu", name: `relu${i}`, inputs: [`p${i}`], outputs: [`a${i}`] });
    type = random(0, 1) === 0 ? "uint8" : "int8";
    parameters = [constant(`s${i + 1}`, scaleOf(random, 1, -3)), constant(`z${i + 1}`, zeroOf(random, type))];
    nodes.push({ op: "QuantizeLinear", name: `q${i + 1}`, inputs: [activated, ...parameters], outputs: [i === layers - 1 ? "y" : `b${i + 1}`] });
    width = next;
  }
  const bytes = makeModel({ opset: 21, inputs: [{ name: "x", type: "float32", dims }], outputs: [{ name: "y", type }], initializers: constants, nodes });
  return { bytes, feeds: { x: new Tensor("float32", Array.from({ length: elementCount(dims) }, () => random(-4096, 4096) / 1024), dims) } };
}
