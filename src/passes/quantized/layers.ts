/**
 * The layers that can be quantized: products with constant float weights, as they stand after the float passes. A layer
 * is known by the name of the model's node it came from; a second one of the same node has "#2" behind it.
 */
import type { Graph, Node, Value } from "../../ir/index.ts";
import { numberOf } from "../attributes.ts";
import { isNode } from "./operands.ts";

export interface Layer {
  readonly name: string;
  readonly node: Node;
  readonly kind: "Conv" | "MatMul";
  /** What is observed in calibration: the activation that enters. */
  readonly input: Value;
  readonly weights: Value;
  /** A convolution whose output channels read one input channel each, in order. */
  readonly depthwise: boolean;
  /** Axis of the input that weights are summed over. */
  readonly inputAxis: number;
  /** Axis of the weights with one scale per index. */
  readonly channelAxis: number;
}

export function quantizableLayers(graph: Graph): Layer[] {
  const counts = new Map<string, number>();
  return graph.nodes.flatMap((node): Layer[] => {
    const [input, weights] = node.inputs;
    const kind = isConv(node) ? "Conv" : isMatMul(node) ? "MatMul" : undefined;
    if (!kind || !input || !weights) return [];
    const base = node.name || node.outputs[0]!.name;
    const count = (counts.get(base) ?? 0) + 1;
    counts.set(base, count);
    const inputAxis = node.attributes["inputLayout"] === "NCHW" ? 1 : input.dims!.length - 1;
    return [{ name: count === 1 ? base : `${base}#${count}`, node, kind, input, weights, depthwise: isDepthwise(node, kind, inputAxis), inputAxis, channelAxis: kind === "Conv" ? 0 : 1 }];
  });
}

const isWeight = (value: Value | undefined): boolean => value?.constant !== undefined && value.dtype === "float32";

function isConv(node: Node): boolean {
  const rank = node.inputs[1]?.dims?.length;
  return isNode(node, "Conv") && isWeight(node.inputs[1]) && (rank === 3 || rank === 4) && node.attributes["layout"] === "NHWC" && node.inputs[0]?.dtype === "float32";
}

function isMatMul(node: Node): boolean {
  const [input, weights] = node.inputs;
  return isNode(node, "MatMul") && isWeight(weights) && weights!.dims!.length === 2 && input?.dtype === "float32" && (input.dims?.length ?? 0) >= 2 && !input.constant;
}

function isDepthwise(node: Node, kind: Layer["kind"], inputAxis: number): boolean {
  const channels = node.inputs[0]!.dims![inputAxis];
  return kind === "Conv" && numberOf(node, "group", 1) === channels && node.inputs[1]!.dims![0] === channels && channels !== 1;
}
