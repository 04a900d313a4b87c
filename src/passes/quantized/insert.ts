/**
 * Carries out a quantization plan: QuantizeLinear and DequantizeLinear around the layers it names. The passes for models
 * that come quantized do the rest, so that both go one way.
 *
 * A value that is quantized for a layer is read quantized by its other readers too, when all of them can: then its float
 * form is never stored. With `switches` each layer is kept in both forms, and an input chooses: how sensitivity is measured.
 */
import { assert, elementCount } from "../../base/index.ts";
import { constantValue, float32Constant, type Graph, int64Constant, type Node, usersOf, Value } from "../../ir/index.ts";
import { dataTypeOf } from "../../onnx/index.ts";
import { quantizeNumber } from "../../reference/index.ts";
import { shapeOperand } from "../attributes.ts";
import { Editor } from "../editor.ts";
import { asTensor } from "../fold.ts";
import { type Layer, quantizableLayers } from "./layers.ts";
import { type RowForm, rowFormOf } from "./rows.ts";
import type { ActivationPlan, LayerPlan, QuantizationPlan } from "./plan.ts";
import { type Summary, summarize } from "./summaries.ts";

/** Operators that read a quantized value at no cost: each element once, in a loop. */
const READERS = new Set("Add Sub Mul Div Relu Clip Sigmoid HardSigmoid HardSwish Swish LeakyRelu GlobalAveragePool AveragePool ReduceMean".split(" "));

/** Below this, a row counts as zeros. */
const LEAST_RANGE = 1e-20;

export interface Quantization {
  /** What to do with the layers that the float passes leave. */
  plan(layers: readonly Layer[]): QuantizationPlan;
  /** Values that become outputs of the model too. */
  observe?(layers: readonly Layer[]): readonly Value[];
  /** Is told which outputs sum up the values that enter the layers: see `summarize`. */
  summarized?(layers: readonly Layer[], summaries: ReadonlyMap<string, Summary>): void;
  /** Name of a new graph input, bool[int8 layers of the plan, in their order]: true runs the layer as the plan says, false in float. */
  readonly switches?: string;
}

/** @returns the number of layers quantized */
export function quantize(graph: Graph, options: Quantization): number {
  const layers = quantizableLayers(graph);
  const known = new Set([...graph.inputs, ...graph.outputs]);
  for (const value of new Set(options.observe?.(layers))) if (!known.has(value)) graph.outputs.push(value);
  if (options.summarized) {
    const inputs = new Map(layers.map(({ input, inputAxis }) => [input, { value: input, channelAxis: inputAxis }]));
    options.summarized(layers, summarize(graph, [...inputs.values()]));
  }
  const plan = options.plan(layers);
  const chosen = new Map(layers.filter(({ name }) => plan.layers[name]?.precision === "int8").map((layer) => [layer.node, layer]));
  if (chosen.size === 0) return 0;
  const switches = options.switches === undefined ? undefined : new Value(options.switches, "bool", [chosen.size]);
  if (switches) graph.inputs.push(switches);
  const inserter = new Inserter(graph, chosen, plan, switches);
  new Editor(graph).sweep((node, editor) => inserter.visit(node, editor));
  return chosen.size;
}

/** A value in bytes, and as the real numbers they stand for. */
interface Quantized {
  readonly bytes: Value;
  readonly parameters: readonly (Value | undefined)[];
  readonly attributes: Node["attributes"];
}

/** With what was taken from every element before, if anything: a number, or one per row. */
interface QuantizedRows extends Quantized {
  readonly least: Value | undefined;
}

class Inserter {
  private readonly layers: ReadonlyMap<Node, Layer>;
  private readonly plan: QuantizationPlan;
  private readonly switches: Value | undefined;
  private readonly activations = new Map<Value, ActivationPlan>();
  private readonly shared = new Set<Value>();
  private readonly made = new Map<Value, Quantized>();
  private readonly rows = new Map<Value, QuantizedRows>();
  private readonly forms = new Map<Value, RowForm>();
  private count = 0;

  constructor(graph: Graph, layers: ReadonlyMap<Node, Layer>, plan: QuantizationPlan, switches: Value | undefined) {
    this.layers = layers;
    this.plan = plan;
    this.switches = switches;
    // Scales per channel are for depthwise readers alone: where another layer reads the value, its one scale holds.
    const others = new Set([...layers.values()].filter(({ depthwise }) => !depthwise).map(({ input }) => input));
    for (const { name, input } of layers.values()) {
      const how = this.planOf(name).input;
      if (how !== "dynamic") this.activations.set(input, others.has(input) ? withoutChannels(how) : how);
    }
    const users = usersOf(graph);
    const canShare = (value: Value): boolean => !graph.outputs.includes(value) && !graph.inputs.includes(value) && (users.get(value) ?? []).every((user) => layers.get(user)?.input === value || (user.domain === "" && READERS.has(user.op)));
    if (!switches) for (const value of this.activations.keys()) if (canShare(value) && !this.activations.get(value)!.scales) this.shared.add(value);
  }

  visit(node: Node, editor: Editor): boolean {
    const layer = this.layers.get(node);
    if (layer) return this.quantizeLayer(layer, editor);
    let changed = false;
    node.inputs.forEach((input, i) => {
      if (!input || !this.shared.has(input)) return;
      editor.setInput(node, i, dequantized(editor, this.bytesOf(input, editor)));
      changed = true;
    });
    return changed;
  }

  private planOf(name: string): Extract<LayerPlan, { precision: "int8" }> {
    return this.plan.layers[name] as Extract<LayerPlan, { precision: "int8" }>;
  }

  private quantizeLayer(layer: Layer, editor: Editor): boolean {
    const { name, node, kind } = layer;
    const result = kind === "Conv" ? this.quantizedConv(layer, editor) : this.quantizedProduct(layer, editor);
    if (!this.switches) return editor.replaceNode(node, result);
    const kept = editor.emit(node.op, node.inputs, node.attributes, { origins: node.origins });
    const chosen = editor.emit("Gather", [this.switches, int64Constant([this.count++], [])], { axis: 0 });
    assert(this.plan.layers[name], `layer "${name}" is in the plan`);
    return editor.replaceNode(node, editor.emit("Where", [chosen, result, kept]));
  }

  private quantizedConv(layer: Layer, editor: Editor): Value {
    const { name, node, input, weights, channelAxis } = layer;
    const quantized = this.bytesOf(input, editor);
    const { inputLayout, ...attributes } = node.attributes;
    const rank = input.dims!.length;
    const bytes = inputLayout === "NCHW" ? editor.emit("Transpose", [quantized.bytes], { perm: [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1] }) : quantized.bytes;
    const bias = shiftedBias(editor, node.inputs[2], this.shiftOf(layer, name));
    return editor.emit("Conv", [dequantized(editor, { ...quantized, bytes }), quantizedWeights(editor, weights, channelAxis), bias], attributes, { origins: node.origins });
  }

  private quantizedProduct(layer: Layer, editor: Editor): Value {
    const { name, node, input, weights, channelAxis } = layer;
    const multiply = (quantized: Quantized, own: Value): Value => editor.emit("MatMul", [dequantized(editor, quantized), quantizedWeights(editor, own, channelAxis)], node.attributes, { origins: node.origins });
    const add = (product: Value, addend: Value): Value => editor.emit("Add", [product, addend], {}, { origins: node.origins });
    if (this.planOf(name).input !== "dynamic") {
      const shift = this.shiftOf(layer, name);
      const product = multiply(this.bytesOf(input, editor), weights);
      return shift ? add(product, float32Constant(shift)) : product;
    }
    const form = this.formOf(input);
    const own = form.smoothing ? scaledRows(weights, form.smoothing) : weights;
    const rows = this.rowsOf(input, form, editor);
    const product = multiply(rows, own);
    // What the least value itself contributes: it times the sums of the columns as rounded, as a zero point would.
    return rows.least ? add(product, editor.emit("Mul", [rows.least, float32Constant(columnSums(own))])) : product;
  }

  /** The same for all layers that read the value: its bytes are shared. */
  private formOf(value: Value): RowForm {
    const before = this.forms.get(value);
    if (before) return before;
    const readers = [...this.layers.values()].filter(({ name, input }) => input === value && this.planOf(name).input === "dynamic");
    const plan = readers[0] && this.planOf(readers[0].name);
    const form = rowFormOf(value, () => rowSizes(readers.map(({ weights }) => weights)), plan && "channelSizes" in plan ? plan.channelSizes : undefined);
    this.forms.set(value, form);
    return form;
  }

  private shiftOf(layer: Layer, name: string): Float32Array | undefined {
    const how = this.planOf(name);
    return "inputMeans" in how && how.inputMeans ? meanShift(layer, how.inputMeans) : undefined;
  }

  /** The whole value with one scale, made before its first reader. */
  private bytesOf(value: Value, editor: Editor): Quantized {
    const before = this.made.get(value);
    if (before) return before;
    const { type, scale, zeroPoint, scales } = this.activations.get(value)!;
    if (scales) return this.channelsOf(value, type, scales, editor);
    const parameters = [float32Constant([scale], []), constantValue(type, [], type === "uint8" ? Uint8Array.of(zeroPoint) : new Uint8Array(Int8Array.of(zeroPoint).buffer))];
    const made: Quantized = { bytes: editor.emit("QuantizeLinear", [value, ...parameters]), parameters, attributes: {} };
    this.made.set(value, made);
    return made;
  }

  /** A scale per channel, channels last. */
  private channelsOf(value: Value, type: ActivationPlan["type"], scales: readonly number[], editor: Editor): Quantized {
    const attributes = { axis: value.dims!.length - 1 };
    const parameters = [float32Constant(scales)];
    const made: Quantized = { bytes: editor.emit("QuantizeLinear", [value, ...parameters], { ...attributes, output_dtype: dataTypeOf(type) }), parameters, attributes };
    this.made.set(value, made);
    return made;
  }

  /** A row spans 255 steps from its least value, or from what is known to be below it, to its largest. */
  private rowsOf(value: Value, { smoothing, least: known }: RowForm, editor: Editor): QuantizedRows {
    const before = this.rows.get(value);
    if (before) return before;
    const [rank, length] = [value.dims!.length, value.dims!.at(-1)];
    const smooth = smoothing ? editor.emit("Mul", [value, float32Constant(smoothing.map((item) => 1 / item))]) : value;
    const least = known === undefined ? editor.emit("ReduceMin", [smooth, shapeOperand([rank - 1])], { keepdims: 1 }) : float32Constant([known], []);
    const counted = known === 0 ? smooth : editor.emit("Sub", [smooth, least]);
    const largest = editor.emit("ReduceMax", [smooth, shapeOperand([rank - 1])], { keepdims: 1 });
    const span = known === 0 ? largest : editor.emit("Sub", [largest, least]);
    const scale = editor.emit("Div", [editor.emit("Max", [span, float32Constant([LEAST_RANGE], [])]), float32Constant([255], [])]);
    const attributes = { axis: rank - 1, block_size: Number(length) };
    const bytes = editor.emit("QuantizeLinear", [counted, scale], { ...attributes, output_dtype: dataTypeOf("uint8") });
    const made: QuantizedRows = { bytes, parameters: [scale], attributes, least: known === 0 ? undefined : least };
    this.rows.set(value, made);
    return made;
  }
}

/** Of a value with scales per channel: zero point 0, and the widest scale. */
const withoutChannels = ({ type, scale, zeroPoint }: ActivationPlan): ActivationPlan => ({ type, scale, zeroPoint });

const dequantized = (editor: Editor, { bytes, parameters, attributes }: Quantized): Value => editor.emit("DequantizeLinear", [bytes, ...parameters], { ...attributes });

/** One scale per channel, symmetric: the largest absolute value of a channel becomes 127. */
function quantizedWeights(editor: Editor, weights: Value, axis: number): Value {
  const scale = float32Constant(channelScales(asTensor(weights)!.data as Float32Array, weights.dims as readonly number[], axis));
  const bytes = editor.emit("QuantizeLinear", [weights, scale], { axis, output_dtype: dataTypeOf("int8") });
  return editor.emit("DequantizeLinear", [bytes, scale], { axis });
}

export function channelScales(data: Float32Array, dims: readonly number[], axis: number): Float32Array {
  const channels = dims[axis]!;
  const inner = elementCount(dims.slice(axis + 1));
  const largest = new Float32Array(channels);
  for (let i = 0; i < data.length; i++) {
    const channel = Math.floor(i / inner) % channels;
    largest[channel] = Math.max(largest[channel]!, Math.abs(data[i]!));
  }
  return largest.map((value) => (value > 0 ? value / 127 : 1));
}

/** What rounding the weights takes from each output channel on average: sum over inputs of (w - rounded w) * mean. */
function meanShift({ weights, channelAxis, depthwise }: Layer, means: readonly number[]): Float32Array {
  const dims = weights.dims as readonly number[];
  const data = asTensor(weights)!.data as Float32Array;
  const scales = channelScales(data, dims, channelAxis);
  const shift = new Float32Array(scales.length);
  const [channels, taps] = channelAxis === 0 ? [dims[0]!, elementCount(dims.slice(2))] : [dims[1]!, 1];
  for (let i = 0; i < data.length; i++) {
    const channel = channelAxis === 0 ? Math.floor(i / (data.length / channels)) : i % channels;
    const source = channelAxis === 1 ? Math.floor(i / channels) : depthwise ? channel : inputChannel(i, dims, taps, channel, means.length);
    const rounded = quantizeNumber(Math.fround(data[i]! / scales[channel]!), 0, "int8") * scales[channel]!;
    shift[channel]! += (data[i]! - rounded) * means[source]!;
  }
  return shift;
}

/** Of weight `i`, the input channel it multiplies: groups take theirs in order. */
function inputChannel(i: number, [outputs = 1, perGroup = 1]: readonly number[], taps: number, channel: number, inputs: number): number {
  const group = Math.floor(channel / (outputs / (inputs / perGroup)));
  return group * perGroup + (Math.floor(i / taps) % perGroup);
}

function shiftedBias(editor: Editor, bias: Value | undefined, shift: Float32Array | undefined): Value | undefined {
  if (!shift) return bias;
  return bias ? editor.emit("Add", [bias, float32Constant(shift)]) : float32Constant(shift);
}

/** The weights with row i multiplied by factor i. */
function scaledRows(weights: Value, factors: Float32Array): Value {
  const columns = Number(weights.dims![1]);
  const data = asTensor(weights)!.data as Float32Array;
  return float32Constant(data.map((item, i) => item * factors[Math.floor(i / columns)]!), weights.dims as readonly number[]);
}

/** Root mean square of each row, over several matrices of as many rows. */
function rowSizes(matrices: readonly Value[]): Float64Array {
  const sums = new Float64Array(Number(matrices[0]?.dims?.[0] ?? 0));
  for (const weights of matrices) {
    const columns = Number(weights.dims![1]);
    const data = asTensor(weights)!.data as Float32Array;
    for (let i = 0; i < data.length; i++) sums[Math.floor(i / columns)]! += data[i]! ** 2;
  }
  const count = matrices.reduce((sum, weights) => sum + Number(weights.dims![1]), 0);
  return sums.map((sum) => Math.sqrt(sum / count));
}

/** Of each column, the sum of the weights that bytes stand for. */
function columnSums(weights: Value): Float32Array {
  const columns = Number(weights.dims![1]);
  const data = asTensor(weights)!.data as Float32Array;
  const scales = channelScales(data, weights.dims as readonly number[], 1);
  const sums = new Float64Array(columns);
  for (let i = 0; i < data.length; i++) sums[i % columns]! += quantizeNumber(Math.fround(data[i]! / scales[i % columns]!), 0, "int8");
  return Float32Array.from(sums, (sum, i) => sum * scales[i]!);
}
