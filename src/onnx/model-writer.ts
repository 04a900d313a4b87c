/**
 * Writes ONNX models: the inverse of the reader, for what a description of a graph needs. Tests and tools make
 * models with it, without any other ONNX library.
 * Source: onnx.proto; field numbers are those of the specification.
 */
import { type DType, Tensor } from "../base/index.ts";
import { dataTypeOf } from "./tensor-data.ts";

/** A dimension: its size, its name, or undefined when unknown. */
export type DimDescription = number | string | undefined;

export interface ValueDescription {
  readonly name: string;
  readonly type: DType;
  /** Absent: unknown rank. */
  readonly dims?: readonly DimDescription[];
  /** A sequence or optional of such tensors instead of a tensor. */
  readonly kind?: "tensor" | "sequence" | "optional";
}

/** FLOAT and FLOATS are said apart from INT and INTS by `floats`. */
export type AttributeDescription = number | bigint | string | readonly number[] | readonly string[] | Tensor | GraphDescription | { readonly float: number } | { readonly floats: readonly number[] } | { readonly reference: string; readonly type: "INT" | "FLOAT" | "STRING" | "TENSOR" | "INTS" | "FLOATS" };

export interface NodeDescription {
  readonly op: string;
  /** "" where an optional input is absent. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly name?: string;
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, AttributeDescription>>;
}

export interface GraphDescription {
  readonly name?: string;
  readonly inputs: readonly ValueDescription[];
  readonly outputs: readonly ValueDescription[];
  readonly nodes: readonly NodeDescription[];
  readonly initializers?: Readonly<Record<string, Tensor | ExternalTensor>>;
  readonly valueInfo?: readonly ValueDescription[];
}

/** A tensor whose bytes lie in another file. */
export interface ExternalTensor {
  readonly type: DType;
  readonly dims: readonly number[];
  readonly location: string;
  readonly offset?: number;
  readonly length?: number;
}

export interface FunctionDescription {
  readonly name: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: readonly string[];
  readonly defaults?: Readonly<Record<string, AttributeDescription>>;
  readonly nodes: readonly NodeDescription[];
  readonly opsets?: Readonly<Record<string, number>>;
}

export interface ModelDescription extends GraphDescription {
  /** Version of ai.onnx; 21 when absent. */
  readonly opset?: number;
  /** Versions of other domains. */
  readonly opsets?: Readonly<Record<string, number>>;
  readonly irVersion?: number;
  readonly functions?: readonly FunctionDescription[];
  readonly metadataProps?: Readonly<Record<string, string>>;
  readonly producer?: string;
}

class ProtoWriter {
  private readonly parts: Uint8Array[] = [];

  varint(field: number, value: number | bigint): this {
    this.raw(field * 8);
    this.raw(value);
    return this;
  }

  float(field: number, value: number): this {
    this.raw(field * 8 + 5);
    this.parts.push(new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    this.raw(field * 8 + 2);
    this.raw(value.length);
    this.parts.push(value);
    return this;
  }

  string(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value));
  }

  message(field: number, fill: (writer: ProtoWriter) => void): this {
    const writer = new ProtoWriter();
    fill(writer);
    return this.bytes(field, writer.finish());
  }

  finish(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.parts));
  }

  private raw(value: number | bigint): void {
    let rest = BigInt.asUintN(64, BigInt(value));
    const out: number[] = [];
    while (rest >= 128n) {
      out.push(Number(rest & 127n) | 128);
      rest >>= 7n;
    }
    out.push(Number(rest));
    this.parts.push(Uint8Array.from(out));
  }
}

/** The model as the bytes of an ONNX file. */
export function makeModel(model: ModelDescription): Uint8Array {
  const writer = new ProtoWriter().varint(1, model.irVersion ?? 10).string(2, model.producer ?? "sinter");
  writer.message(7, (graph) => writeGraph(graph, model));
  writeOpsets(writer, 8, { "": model.opset ?? 21, ...model.opsets });
  for (const [key, value] of Object.entries(model.metadataProps ?? {})) writer.message(14, (entry) => entry.string(1, key).string(2, value));
  for (const description of model.functions ?? []) writer.message(25, (made) => writeFunction(made, description));
  return writer.finish();
}

function writeOpsets(writer: ProtoWriter, field: number, opsets: Readonly<Record<string, number>>): void {
  for (const [domain, version] of Object.entries(opsets)) writer.message(field, (entry) => entry.string(1, domain).varint(2, version));
}

function writeGraph(writer: ProtoWriter, graph: GraphDescription): void {
  for (const node of graph.nodes) writer.message(1, (made) => writeNode(made, node));
  writer.string(2, graph.name ?? "graph");
  for (const [name, tensor] of Object.entries(graph.initializers ?? {})) writer.message(5, (made) => writeTensor(made, tensor, name));
  for (const value of graph.inputs) writer.message(11, (made) => writeValue(made, value));
  for (const value of graph.outputs) writer.message(12, (made) => writeValue(made, value));
  for (const value of graph.valueInfo ?? []) writer.message(13, (made) => writeValue(made, value));
}

function writeFunction(writer: ProtoWriter, description: FunctionDescription): void {
  writer.string(1, description.name).string(10, description.domain);
  for (const input of description.inputs) writer.string(4, input);
  for (const output of description.outputs) writer.string(5, output);
  for (const attribute of description.attributes ?? []) writer.string(6, attribute);
  for (const node of description.nodes) writer.message(7, (made) => writeNode(made, node));
  writeOpsets(writer, 9, description.opsets ?? { "": 21 });
  for (const [name, value] of Object.entries(description.defaults ?? {})) writer.message(11, (made) => writeAttribute(made, name, value));
}

function writeNode(writer: ProtoWriter, node: NodeDescription): void {
  for (const input of node.inputs) writer.string(1, input);
  for (const output of node.outputs) writer.string(2, output);
  if (node.name) writer.string(3, node.name);
  writer.string(4, node.op);
  for (const [name, value] of Object.entries(node.attributes ?? {})) writer.message(5, (made) => writeAttribute(made, name, value));
  if (node.domain) writer.string(7, node.domain);
}

const REFERENCE_TYPES = { FLOAT: 1, INT: 2, STRING: 3, TENSOR: 4, FLOATS: 6, INTS: 7 } as const;

/** A number that is not an integer is a FLOAT; a list that holds one is FLOATS. */
function writeAttribute(writer: ProtoWriter, name: string, value: AttributeDescription): void {
  writer.string(1, name);
  if (typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value))) writer.varint(3, value).varint(20, 2);
  else if (typeof value === "number") writer.float(2, value).varint(20, 1);
  else if (typeof value === "string") writer.string(4, value).varint(20, 3);
  else if (value instanceof Tensor) writer.message(5, (made) => writeTensor(made, value, "")).varint(20, 4);
  else if (Array.isArray(value)) writeList(writer, value);
  else if ("float" in value) writer.float(2, value.float).varint(20, 1);
  else if ("floats" in value) writeFloats(writer, value.floats);
  else if ("reference" in value) writer.string(21, value.reference).varint(20, REFERENCE_TYPES[value.type]);
  else writer.message(6, (made) => writeGraph(made, value as GraphDescription)).varint(20, 5);
}

function writeList(writer: ProtoWriter, list: readonly (number | string)[]): void {
  if (list.some((item) => typeof item === "string")) {
    for (const item of list) writer.string(9, String(item));
    writer.varint(20, 8);
  } else if (list.every((item) => Number.isInteger(item))) {
    for (const item of list) writer.varint(8, item as number);
    writer.varint(20, 7);
  } else writeFloats(writer, list as readonly number[]);
}

function writeFloats(writer: ProtoWriter, list: readonly number[]): void {
  for (const item of list) writer.float(7, item);
  writer.varint(20, 6);
}

function writeTensor(writer: ProtoWriter, tensor: Tensor | ExternalTensor, name: string): void {
  for (const dim of tensor.dims) writer.varint(1, dim);
  writer.varint(2, dataTypeOf(tensor.type));
  if (name) writer.string(8, name);
  if (!(tensor instanceof Tensor)) writeExternal(writer, tensor);
  else if (Array.isArray(tensor.data)) for (const item of tensor.data) writer.string(6, item);
  else writer.bytes(9, tensor.bytes);
}

function writeExternal(writer: ProtoWriter, tensor: ExternalTensor): void {
  const entries = { location: tensor.location, offset: tensor.offset, length: tensor.length };
  for (const [key, value] of Object.entries(entries)) {
    if (value !== undefined) writer.message(13, (entry) => entry.string(1, key).string(2, String(value)));
  }
  writer.varint(14, 1);
}

function writeValue(writer: ProtoWriter, value: ValueDescription): void {
  const writeType = (type: ProtoWriter): void => {
    type.message(1, (tensor) => {
      tensor.varint(1, dataTypeOf(value.type));
      if (value.dims) tensor.message(2, (shape) => value.dims?.forEach((dim) => shape.message(1, (made) => writeDim(made, dim))));
    });
  };
  const kind = value.kind ?? "tensor";
  writer.string(1, value.name).message(2, (type) => {
    if (kind === "tensor") writeType(type);
    else type.message(kind === "sequence" ? 4 : 9, (outer) => outer.message(1, writeType));
  });
}

function writeDim(writer: ProtoWriter, dim: DimDescription): void {
  if (typeof dim === "number") writer.varint(1, dim);
  else if (typeof dim === "string") writer.string(2, dim);
}
