// Models quantized as onnxruntime's own tools write them, from float ones: with QuantizeLinear and DequantizeLinear around
// every operator that has an integer form (uint8 activations with a zero point, int8 weights per channel, int32 bias), or
// with DynamicQuantizeLinear and MatMulInteger for matrix products. Both engines are then given the very same file.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import ort from "onnxruntime-node";
import { ExternalData } from "../dist/onnx/external-data.js";
import { readFileWindows } from "../dist/onnx/file-source.js";
import { dtypeOf, makeModel } from "../dist/onnx/index.js";
import { readModel } from "../dist/onnx/proto.js";
import { onnxReader } from "../dist/onnx/protobuf.js";
import { readConstant } from "../dist/onnx/tensor-data.js";
import { Tensor } from "../dist/index.js";

/** Operators that onnxruntime runs on bytes when what enters and leaves them is quantized. */
const QUANTIZED = new Set(["Conv", "Gemm", "MatMul", "Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool"]);
/** What saturation does: nothing is quantized between these and the operator before. */
const CLIPS = new Set(["Relu", "Clip"]);

/** @returns the file as `makeModel` takes it */
function readDescription(path) {
  const { graph, opsets, irVersion } = readModel(onnxReader(new Uint8Array(readFileSync(path)), path));
  const external = new ExternalData(path, readFileWindows);
  const tensorOf = (proto) => {
    const { dtype, dims, constant } = readConstant(proto, external);
    return Tensor.fromBytes(dtype, new Uint8Array(constant.bytes), dims);
  };
  const attributeOf = ({ name, type, f, i, s, t, floats, ints, strings }) => {
    const values = { 1: () => ({ float: f }), 2: () => BigInt(i), 3: () => Buffer.from(s).toString("utf8"), 4: () => tensorOf(t), 6: () => ({ floats }), 7: () => ints.map(Number), 8: () => strings };
    return [name, values[type]()];
  };
  const valueOf = ({ name, type }) => ({ name, type: dtypeOf(type.elementType), ...(type.shape ? { dims: type.shape } : {}) });
  const initializers = Object.fromEntries(graph.initializers.map((proto) => [proto.name, tensorOf(proto)]));
  external.close();
  return {
    irVersion, opset: opsets.get(""), opsets: Object.fromEntries([...opsets].filter(([domain]) => domain !== "")), initializers,
    inputs: graph.inputs.filter(({ name }) => !(name in initializers)).map(valueOf), outputs: graph.outputs.map(valueOf),
    nodes: graph.nodes.map(({ op, domain, name, inputs, outputs, attributes }) => ({ op, domain, name, inputs, outputs, attributes: Object.fromEntries(attributes.map(attributeOf)) })),
  };
}

/** Constants and plain fusions done by onnxruntime itself: what its quantizer asks for first. */
async function simplified(path) {
  const target = `${path}.simplified`;
  const session = await ort.InferenceSession.create(path, { graphOptimizationLevel: "basic", optimizedModelFilePath: target, logSeverityLevel: 4 });
  await session.release();
  const description = readDescription(target);
  rmSync(target);
  return description;
}

/** Least and largest value of each tensor over the samples, zero among them. */
async function rangesOf(description, names, samples) {
  const observed = makeModel({ ...description, outputs: [...description.outputs, ...names.filter((name) => !description.outputs.some((output) => output.name === name)).map((name) => ({ name, type: "float32" }))] });
  const session = await ort.InferenceSession.create(observed, { logSeverityLevel: 4 });
  const ranges = new Map(names.map((name) => [name, [0, 0]]));
  for (const feeds of samples) {
    const results = { ...feeds, ...await session.run(Object.fromEntries(Object.entries(feeds).map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)]))) };
    for (const [name, range] of ranges) for (const value of results[name].data) {
      if (value < range[0]) range[0] = value;
      if (value > range[1]) range[1] = value;
    }
  }
  await session.release();
  return ranges;
}

const clamp = (value, low, high) => Math.min(Math.max(Math.round(value), low), high);

/** int8 with a scale per index of an axis: 127 is the largest absolute value. */
function quantizedWeights({ data, dims }, axis) {
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1);
  const channel = (i) => Math.floor(i / inner) % dims[axis];
  const scales = new Float32Array(dims[axis]);
  data.forEach((value, i) => { scales[channel(i)] = Math.max(scales[channel(i)], Math.abs(value)); });
  for (let i = 0; i < scales.length; i++) scales[i] = scales[i] / 127 || 1;
  return { bytes: new Tensor("int8", Int8Array.from(data, (value, i) => clamp(value / scales[channel(i)], -127, 127)), dims), scales };
}

/** Once: writes what `make` describes, if the file is not there yet. */
async function written(target, make) {
  if (existsSync(target)) return target;
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, makeModel(await make()));
  return target;
}

/**
 * The model with QuantizeLinear and DequantizeLinear, calibrated by least and largest values.
 * @param samples feeds to calibrate with
 */
export const qdqOf = (path, target, samples) => written(target, async () => {
  const model = await simplified(path);
  const { nodes, initializers } = model;
  const users = new Map();
  for (const node of nodes) for (const name of node.inputs) users.set(name, [...(users.get(name) ?? []), node]);
  const onlyUser = (name) => (users.get(name)?.length === 1 ? users.get(name)[0] : undefined);
  const activations = new Set(nodes.filter(({ op }) => QUANTIZED.has(op)).flatMap(({ op, inputs, outputs }) => [
    ...inputs.slice(0, op === "Conv" || op === "Gemm" ? 1 : inputs.length), ...outputs.map((name) => (CLIPS.has(onlyUser(name)?.op) ? onlyUser(name).outputs[0] : name)),
  ]).filter((name) => name && !(name in initializers)));
  const ranges = await rangesOf(model, [...activations], samples);
  const made = { nodes: [], initializers: { ...initializers } };
  const put = (name, tensor) => { made.initializers[name] = tensor; return name; };
  const scalesOf = new Map();
  const quantize = (name) => {
    const [low, high] = ranges.get(name);
    const scale = Math.fround((high - low) / 255) || 1;
    scalesOf.set(name, scale);
    const parameters = [put(`${name}/scale`, new Tensor("float32", [scale], [])), put(`${name}/zero`, new Tensor("uint8", [clamp(-low / scale, 0, 255)], []))];
    made.nodes.push({ op: "QuantizeLinear", inputs: [name, ...parameters], outputs: [`${name}/bytes`] }, { op: "DequantizeLinear", inputs: [`${name}/bytes`, ...parameters], outputs: [`${name}/real`] });
  };
  const weights = (name, axis) => {
    const { bytes, scales } = quantizedWeights(initializers[name], axis);
    made.nodes.push({ op: "DequantizeLinear", inputs: [put(`${name}/bytes`, bytes), put(`${name}/scale`, new Tensor("float32", scales, [scales.length]))], outputs: [`${name}/real`], attributes: { axis } });
    delete made.initializers[name];
    return { name: `${name}/real`, scales };
  };
  const bias = (name, scales, inputScale) => {
    const units = scales.map((scale) => Math.fround(scale * inputScale));
    const sums = Int32Array.from(initializers[name].data, (value, i) => clamp(value / units[i], -(2 ** 31), 2 ** 31 - 1));
    made.nodes.push({ op: "DequantizeLinear", inputs: [put(`${name}/sums`, new Tensor("int32", sums, [sums.length])), put(`${name}/units`, new Tensor("float32", units, [units.length]))], outputs: [`${name}/real`], attributes: { axis: 0 } });
    delete made.initializers[name];
    return `${name}/real`;
  };
  for (const { name } of model.inputs) if (activations.has(name)) quantize(name);
  for (const node of nodes) {
    const inputs = node.inputs.map((name) => (activations.has(name) ? `${name}/real` : name));
    if (QUANTIZED.has(node.op) && node.inputs[1] in initializers && ["Conv", "Gemm", "MatMul"].includes(node.op)) {
      const axis = node.op === "Conv" ? 0 : node.op === "Gemm" && node.attributes.transB ? 0 : 1;
      const own = weights(node.inputs[1], axis);
      inputs[1] = own.name;
      if (node.inputs[2]) inputs[2] = bias(node.inputs[2], own.scales, scalesOf.get(node.inputs[0]));
    }
    made.nodes.push({ ...node, inputs });
    for (const name of node.outputs) if (activations.has(name) && !model.outputs.some((output) => output.name === name)) quantize(name);
  }
  return { ...model, ...made };
});

/** The model with MatMulInteger where it multiplies by constant weights, a scale per tensor found as it runs. */
export const dynamicOf = (path, target) => written(target, () => {
  const model = readDescription(path);
  const nodes = [];
  const initializers = { ...model.initializers };
  const quantized = new Set();
  for (const node of model.nodes) {
    const [x, w] = node.inputs;
    if (node.op !== "MatMul" || model.initializers[w]?.dims.length !== 2) {
      nodes.push(node);
      continue;
    }
    const at = (what) => `${node.outputs[0]}/${what}`;
    if (!quantized.has(x)) nodes.push({ op: "DynamicQuantizeLinear", inputs: [x], outputs: [`${x}/bytes`, `${x}/scale`, `${x}/zero`] });
    quantized.add(x);
    if (!(`${w}/bytes` in initializers)) {
      const { bytes, scales } = quantizedWeights(model.initializers[w], 1);
      initializers[`${w}/bytes`] = bytes;
      initializers[`${w}/scales`] = new Tensor("float32", scales, [scales.length]);
      initializers[`${w}/zero`] = new Tensor("int8", new Int8Array(scales.length), [scales.length]);
      delete initializers[w];
    }
    nodes.push({ op: "MatMulInteger", inputs: [`${x}/bytes`, `${w}/bytes`, `${x}/zero`, `${w}/zero`], outputs: [at("sums")] }, { op: "Cast", inputs: [at("sums")], outputs: [at("numbers")], attributes: { to: 1 } },
      { op: "Mul", inputs: [`${x}/scale`, `${w}/scales`], outputs: [at("units")] }, { op: "Mul", inputs: [at("numbers"), at("units")], outputs: [...node.outputs] });
  }
  return { ...model, nodes, initializers };
});
