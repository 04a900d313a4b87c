/** Graphs as JSON, for the nodes an engine keeps to run on the reference. Constants' bytes live elsewhere, under a number. */
import type { DType } from "../base/index.ts";
import { type DimJson, dimFromJson, dimToJson, type Dim } from "./dim.ts";
import { type AttributeValue, type ConstantData, Graph, makeNode, type TensorConstant, Value, type ValueKind } from "./graph.ts";

export interface ValueJson {
  readonly name: string;
  readonly kind: ValueKind;
  readonly dtype?: DType;
  readonly dims?: readonly DimJson[];
  readonly constant?: ConstantJson;
}

/** Where a constant's bytes are, as the sink numbered them; strings stand here. */
export interface ConstantJson {
  readonly at?: number;
  readonly sizeBytes?: number;
  readonly strings?: readonly string[];
}

type AttributeJson =
  | { readonly number: number | string } // "NaN", "Infinity", … have no JSON number
  | { readonly bigint: string }
  | { readonly string: string }
  | { readonly numbers: readonly (number | string)[] }
  | { readonly strings: readonly string[] }
  | { readonly dims: readonly DimJson[] }
  | { readonly tensor: { readonly dtype: DType; readonly dims: readonly number[]; readonly constant: ConstantJson } }
  | { readonly graph: GraphJson }
  | { readonly graphs: readonly GraphJson[] };

export interface NodeJson {
  readonly op: string;
  readonly domain: string;
  readonly name: string;
  readonly inputs: readonly (number | null)[];
  readonly outputs: readonly (number | null)[];
  readonly attributes: Readonly<Record<string, AttributeJson>>;
}

export interface GraphJson {
  readonly name: string;
  /** Values this graph defines, then, in nested graphs, references to outer ones by the same numbering. */
  readonly values: Readonly<Record<number, ValueJson>>;
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  readonly nodes: readonly NodeJson[];
}

/** Takes a constant's bytes and answers the number under which `ConstantSource` finds them again. */
export type ConstantSink = (bytes: Uint8Array) => number;
export type ConstantSource = (at: number, sizeBytes: number) => Uint8Array;

export function graphToJson(graph: Graph, sink: ConstantSink): GraphJson {
  return new GraphWriter(sink).write(graph);
}

export function graphFromJson(json: GraphJson, source: ConstantSource): Graph {
  return new GraphReader(source).read(json, new Map());
}

class GraphWriter {
  private readonly sink: ConstantSink;
  private readonly numbers = new Map<Value, number>();

  constructor(sink: ConstantSink) {
    this.sink = sink;
  }

  write(graph: Graph): GraphJson {
    const values: Record<number, ValueJson> = {};
    const number = (value: Value): number => {
      let known = this.numbers.get(value);
      if (known === undefined) {
        known = this.numbers.size;
        this.numbers.set(value, known);
        values[known] = this.value(value);
      }
      return known;
    };
    const inputs = graph.inputs.map(number);
    const nodes = graph.nodes.map((node): NodeJson => ({
      op: node.op, domain: node.domain, name: node.name,
      inputs: node.inputs.map((value) => (value ? number(value) : null)),
      attributes: Object.fromEntries(Object.entries(node.attributes).map(([key, value]) => [key, this.attribute(value)])),
      outputs: node.outputs.map((value) => (value ? number(value) : null)),
    }));
    return { name: graph.name, inputs, nodes, outputs: graph.outputs.map(number), values };
  }

  private value(value: Value): ValueJson {
    return {
      name: value.name, kind: value.kind,
      ...(value.dtype ? { dtype: value.dtype } : {}),
      ...(value.dims ? { dims: value.dims.map(dimToJson) } : {}),
      ...(value.constant ? { constant: this.constant(value.constant) } : {}),
    };
  }

  private constant(constant: ConstantData): ConstantJson {
    if (constant.strings) return { strings: constant.strings };
    return { at: this.sink(constant.bytes), sizeBytes: constant.bytes.byteLength };
  }

  private attribute(value: AttributeValue): AttributeJson {
    if (typeof value === "number") return { number: Number.isFinite(value) ? value : String(value) };
    if (typeof value === "bigint") return { bigint: String(value) };
    if (typeof value === "string") return { string: value };
    if (value instanceof Graph) return { graph: this.write(value) };
    if (!Array.isArray(value)) {
      const tensor = value as TensorConstant;
      return { tensor: { dtype: tensor.dtype, dims: tensor.dims, constant: this.constant(tensor.constant) } };
    }
    const list = value as readonly unknown[];
    if (list.length > 0 && list[0] instanceof Graph) return { graphs: (list as Graph[]).map((graph) => this.write(graph)) };
    if (list.length > 0 && typeof list[0] === "string") return { strings: list as string[] };
    if (list.every((item) => typeof item === "number")) return { numbers: (list as number[]).map((item) => (Number.isFinite(item) ? item : String(item))) };
    return { dims: (list as Dim[]).map(dimToJson) };
  }
}

class GraphReader {
  private readonly source: ConstantSource;

  constructor(source: ConstantSource) {
    this.source = source;
  }

  read(json: GraphJson, outer: ReadonlyMap<number, Value>): Graph {
    const values = new Map(outer);
    for (const [number, value] of Object.entries(json.values)) values.set(Number(number), this.value(value));
    const graph = new Graph(json.name);
    graph.inputs = json.inputs.map((number) => values.get(number)!);
    graph.nodes = json.nodes.map((node) => makeNode({
      op: node.op, domain: node.domain, name: node.name,
      inputs: node.inputs.map((number) => (number === null ? undefined : values.get(number))),
      outputs: node.outputs.map((number) => (number === null ? undefined : values.get(number))),
      attributes: Object.fromEntries(Object.entries(node.attributes).map(([key, value]) => [key, this.attribute(value, values)])),
    }));
    graph.outputs = json.outputs.map((number) => values.get(number)!);
    return graph;
  }

  private value(json: ValueJson): Value {
    const value = new Value(json.name, json.dtype, json.dims?.map(dimFromJson));
    value.kind = json.kind;
    if (json.constant) value.constant = this.constant(json.constant);
    return value;
  }

  private constant(json: ConstantJson): ConstantData {
    if (json.strings) return { bytes: new Uint8Array(0), strings: json.strings };
    return { bytes: this.source(json.at ?? 0, json.sizeBytes ?? 0) };
  }

  private attribute(json: AttributeJson, values: ReadonlyMap<number, Value>): AttributeValue {
    if ("number" in json) return Number(json.number);
    if ("bigint" in json) return BigInt(json.bigint);
    if ("string" in json) return json.string;
    if ("numbers" in json) return json.numbers.map(Number);
    if ("strings" in json) return json.strings;
    if ("dims" in json) return json.dims.map(dimFromJson);
    if ("graph" in json) return this.read(json.graph, values);
    if ("graphs" in json) return json.graphs.map((graph) => this.read(graph, values));
    return { dtype: json.tensor.dtype, dims: json.tensor.dims, constant: this.constant(json.tensor.constant) };
  }
}
