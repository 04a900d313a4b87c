/**
 * What calibration asks of an activation, computed by the engine beside it: the least and the largest number and the sum
 * of every channel, the shape, and some of the elements for a histogram. So calibration reads kilobytes of each sample where
 * the activations themselves are megabytes.
 */
import type { AttributeValue, Graph, Value } from "../../ir/index.ts";
import { shapeOperand } from "../attributes.ts";
import { append } from "./append.ts";

/** A value to summarize, and the axis of its channels. */
export interface Summarized {
  readonly value: Value;
  readonly channelAxis: number;
}

/** Names of the outputs that say it, and how many elements lie between two that are taken. */
export interface Summary {
  readonly least: string;
  readonly largest: string;
  readonly sums: string;
  readonly shape: string;
  readonly elements: string;
  readonly stride: number;
}

/** Of a larger tensor, elements at a fixed odd stride are taken; every element counts for the least, the largest and the sum. */
const MOST_ELEMENTS = 1 << 14;

/** Adds the outputs. @returns their names by the values' names */
export function summarize(graph: Graph, wanted: readonly Summarized[]): Map<string, Summary> {
  return new Map(wanted.map(({ value, channelAxis }) => {
    const add = (op: string, of: readonly Value[], attributes: Readonly<Record<string, AttributeValue>> = {}): Value => append(graph, op, of, attributes, `${value.name}/sinter.${op}`);
    const others = shapeOperand(value.dims!.map((_, axis) => axis).filter((axis) => axis !== channelAxis));
    const [least, largest, sums] = ["ReduceMin", "ReduceMax", "ReduceSum"].map((op) => add(op, [value, others], { keepdims: 0 })) as [Value, Value, Value];
    const stride = strideOf(value);
    const shape = add("Shape", [value]);
    const flat = add("Reshape", [value, shapeOperand([-1])]);
    const elements = add("Slice", [flat, shapeOperand([0]), shapeOperand([Number.MAX_SAFE_INTEGER]), shapeOperand([0]), shapeOperand([stride])]);
    graph.outputs.push(least, largest, sums, shape, elements);
    return [value.name, { least: least.name, largest: largest.name, sums: sums.name, shape: shape.name, elements: elements.name, stride }];
  }));
}

/** Sizes that are not known yet count as 1. */
function strideOf({ dims }: Value): number {
  const known = dims!.reduce<number>((product, dim) => product * (typeof dim === "number" ? dim : 1), 1);
  return Math.ceil(known / MOST_ELEMENTS) | 1;
}
