/**
 * ONNX's messages as plain data: what the importer reads of ModelProto and all inside it. Tensor contents stay
 * windows into the file.
 * Source: onnx.proto (IR version 13); field numbers are those of the specification.
 */
import { type ProtoReader, WIRE, type Window } from "../base/index.ts";

export interface TensorProto {
  readonly name: string;
  readonly dims: readonly number[];
  readonly dataType: number;
  /** The bytes all windows refer to. */
  readonly file: Uint8Array;
  readonly raw: Uint8Array | undefined;
  /** Windows of the typed storage fields: packed runs or single values, by field number (4, 5, 7, 10, 11). */
  readonly runs: ReadonlyMap<number, readonly Run[]>;
  readonly strings: readonly string[];
  readonly external: ReadonlyMap<string, string>;
  readonly isExternal: boolean;
}

export interface Run extends Window {
  readonly packed: boolean;
}

export interface SparseTensorProto {
  readonly values: TensorProto | undefined;
  readonly indices: TensorProto | undefined;
  readonly dims: readonly number[];
}

export type DimProto = number | string | undefined;

export type TypeProto =
  | { readonly kind: "tensor" | "sparse"; readonly elementType: number; readonly shape: readonly DimProto[] | undefined }
  | { readonly kind: "sequence" | "optional"; readonly element: TypeProto }
  | { readonly kind: "map"; readonly keyType: number; readonly element: TypeProto }
  | { readonly kind: "unknown" };

export interface ValueInfoProto {
  readonly name: string;
  readonly type: TypeProto;
}

export interface AttributeProto {
  name: string;
  /** AttributeProto.AttributeType; 0 when not stated. */
  type: number;
  reference: string;
  f: number;
  i: number | bigint;
  s: Uint8Array;
  t: TensorProto | undefined;
  g: GraphProto | undefined;
  sparse: SparseTensorProto | undefined;
  typeProto: TypeProto | undefined;
  floats: number[];
  ints: (number | bigint)[];
  strings: string[];
  tensors: TensorProto[];
  graphs: GraphProto[];
}

export interface NodeProto {
  inputs: string[];
  outputs: string[];
  name: string;
  op: string;
  domain: string;
  overload: string;
  attributes: AttributeProto[];
}

export interface GraphProto {
  name: string;
  nodes: NodeProto[];
  initializers: TensorProto[];
  sparseInitializers: SparseTensorProto[];
  inputs: ValueInfoProto[];
  outputs: ValueInfoProto[];
  valueInfo: ValueInfoProto[];
}

export interface FunctionProto {
  name: string;
  domain: string;
  overload: string;
  inputs: string[];
  outputs: string[];
  attributes: string[];
  defaults: AttributeProto[];
  nodes: NodeProto[];
  opsets: Map<string, number>;
  valueInfo: ValueInfoProto[];
}

export interface ModelProto {
  irVersion: number;
  producerName: string;
  producerVersion: string;
  domain: string;
  modelVersion: number | bigint;
  docString: string;
  graph: GraphProto | undefined;
  opsets: Map<string, number>;
  metadataProps: Map<string, string>;
  functions: FunctionProto[];
}

export function readModel(reader: ProtoReader): ModelProto {
  const model: ModelProto = {
    irVersion: 0, producerName: "", producerVersion: "", domain: "", modelVersion: 0, docString: "",
    graph: undefined, opsets: new Map(), metadataProps: new Map(), functions: [],
  };
  while (reader.next()) {
    switch (reader.field) {
      case 1: model.irVersion = reader.integer(); break;
      case 2: model.producerName = reader.string(); break;
      case 3: model.producerVersion = reader.string(); break;
      case 4: model.domain = reader.string(); break;
      case 5: model.modelVersion = reader.int64(); break;
      case 6: model.docString = reader.string(); break;
      case 7: model.graph = readGraph(reader.message()); break;
      case 8: readOpset(reader.message(), model.opsets); break;
      case 14: readEntry(reader.message(), model.metadataProps); break;
      case 25: model.functions.push(readFunction(reader.message())); break;
      default: reader.skip();
    }
  }
  return model;
}

/** The domain's one canonical name: "ai.onnx" is "". */
export function domainName(domain: string): string {
  return domain === "ai.onnx" ? "" : domain;
}

function readOpset(reader: ProtoReader, into: Map<string, number>): void {
  let domain = "";
  let version = 0;
  while (reader.next()) {
    if (reader.field === 1) domain = reader.string();
    else if (reader.field === 2) version = reader.integer();
    else reader.skip();
  }
  into.set(domainName(domain), version);
}

function readEntry(reader: ProtoReader, into: Map<string, string>): void {
  let key = "";
  let value = "";
  while (reader.next()) {
    if (reader.field === 1) key = reader.string();
    else if (reader.field === 2) value = reader.string();
    else reader.skip();
  }
  into.set(key, value);
}

function readGraph(reader: ProtoReader): GraphProto {
  const graph: GraphProto = { name: "", nodes: [], initializers: [], sparseInitializers: [], inputs: [], outputs: [], valueInfo: [] };
  while (reader.next()) {
    switch (reader.field) {
      case 1: graph.nodes.push(readNode(reader.message())); break;
      case 2: graph.name = reader.string(); break;
      case 5: graph.initializers.push(readTensor(reader.message())); break;
      case 11: graph.inputs.push(readValueInfo(reader.message())); break;
      case 12: graph.outputs.push(readValueInfo(reader.message())); break;
      case 13: graph.valueInfo.push(readValueInfo(reader.message())); break;
      case 15: graph.sparseInitializers.push(readSparse(reader.message())); break;
      default: reader.skip();
    }
  }
  return graph;
}

function readNode(reader: ProtoReader): NodeProto {
  const node: NodeProto = { inputs: [], outputs: [], name: "", op: "", domain: "", overload: "", attributes: [] };
  while (reader.next()) {
    switch (reader.field) {
      case 1: node.inputs.push(reader.string()); break;
      case 2: node.outputs.push(reader.string()); break;
      case 3: node.name = reader.string(); break;
      case 4: node.op = reader.string(); break;
      case 5: node.attributes.push(readAttribute(reader.message())); break;
      case 7: node.domain = domainName(reader.string()); break;
      case 8: node.overload = reader.string(); break;
      default: reader.skip();
    }
  }
  return node;
}

function readFunction(reader: ProtoReader): FunctionProto {
  const made: FunctionProto = { name: "", domain: "", overload: "", inputs: [], outputs: [], attributes: [], defaults: [], nodes: [], opsets: new Map(), valueInfo: [] };
  while (reader.next()) {
    switch (reader.field) {
      case 1: made.name = reader.string(); break;
      case 4: made.inputs.push(reader.string()); break;
      case 5: made.outputs.push(reader.string()); break;
      case 6: made.attributes.push(reader.string()); break;
      case 7: made.nodes.push(readNode(reader.message())); break;
      case 9: readOpset(reader.message(), made.opsets); break;
      case 10: made.domain = domainName(reader.string()); break;
      case 11: made.defaults.push(readAttribute(reader.message())); break;
      case 12: made.valueInfo.push(readValueInfo(reader.message())); break;
      case 13: made.overload = reader.string(); break;
      default: reader.skip();
    }
  }
  return made;
}

/** The attribute's type from the fields present, for files that do not state it. */
const TYPE_OF_FIELD: Readonly<Record<number, number>> = { 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6, 8: 7, 9: 8, 10: 9, 11: 10, 14: 13, 22: 11 };

function readAttribute(reader: ProtoReader): AttributeProto {
  const attribute: AttributeProto = {
    name: "", type: 0, reference: "", f: 0, i: 0, s: new Uint8Array(0), t: undefined, g: undefined, sparse: undefined, typeProto: undefined,
    floats: [], ints: [], strings: [], tensors: [], graphs: [],
  };
  let guess = 0;
  while (reader.next()) {
    guess ||= TYPE_OF_FIELD[reader.field] ?? 0;
    readAttributeField(reader, attribute);
  }
  attribute.type ||= guess;
  return attribute;
}

function readAttributeField(reader: ProtoReader, attribute: AttributeProto): void {
  switch (reader.field) {
    case 1: attribute.name = reader.string(); break;
    case 2: attribute.f = reader.float(); break;
    case 3: attribute.i = reader.int64(); break;
    case 4: attribute.s = reader.view8(); break;
    case 5: attribute.t = readTensor(reader.message()); break;
    case 6: attribute.g = readGraph(reader.message()); break;
    case 7: reader.repeated(WIRE.fixed32, (run) => run.float(), attribute.floats); break;
    case 8: reader.repeated(WIRE.varint, (run) => run.int64(), attribute.ints); break;
    case 9: attribute.strings.push(reader.string()); break;
    case 10: attribute.tensors.push(readTensor(reader.message())); break;
    case 11: attribute.graphs.push(readGraph(reader.message())); break;
    case 14: attribute.typeProto = readType(reader.message()); break;
    case 20: attribute.type = reader.integer(); break;
    case 21: attribute.reference = reader.string(); break;
    case 22: attribute.sparse = readSparse(reader.message()); break;
    default: reader.skip();
  }
}

const STORAGE_FIELDS = new Set([4, 5, 7, 10, 11]);

export function readTensor(reader: ProtoReader): TensorProto {
  const dims: number[] = [];
  const runs = new Map<number, Run[]>();
  const strings: string[] = [];
  const external = new Map<string, string>();
  let name = "";
  let dataType = 0;
  let raw: Uint8Array | undefined;
  let isExternal = false;
  while (reader.next()) {
    switch (reader.field) {
      case 1: reader.repeated(WIRE.varint, (run) => run.integer(), dims); break;
      case 2: dataType = reader.integer(); break;
      case 6: strings.push(reader.string()); break;
      case 8: name = reader.string(); break;
      case 9: raw = reader.view8(); break;
      case 13: readEntry(reader.message(), external); break;
      case 14: isExternal = reader.integer() === 1; break;
      default:
        if (!STORAGE_FIELDS.has(reader.field)) reader.skip();
        else noteRun(reader, runs);
    }
  }
  return { name, dims, dataType, file: reader.bytes, raw, runs, strings, external, isExternal };
}

/** Notes where a run of packed values, or one unpacked value, lies. */
function noteRun(reader: ProtoReader, runs: Map<number, Run[]>): void {
  const { field, wire } = reader;
  const list = runs.get(field) ?? [];
  runs.set(field, list);
  if (wire === WIRE.bytes) list.push({ ...reader.window(), packed: true });
  else if (wire === WIRE.varint) list.push({ ...reader.varintWindow(), packed: false });
  else if (wire === WIRE.fixed32 || wire === WIRE.fixed64) list.push({ ...reader.fixed(), packed: false });
  else reader.skip();
}

function readSparse(reader: ProtoReader): SparseTensorProto {
  let values: TensorProto | undefined;
  let indices: TensorProto | undefined;
  const dims: number[] = [];
  while (reader.next()) {
    if (reader.field === 1) values = readTensor(reader.message());
    else if (reader.field === 2) indices = readTensor(reader.message());
    else if (reader.field === 3) reader.repeated(WIRE.varint, (run) => run.integer(), dims);
    else reader.skip();
  }
  return { values, indices, dims };
}

function readValueInfo(reader: ProtoReader): ValueInfoProto {
  let name = "";
  let type: TypeProto = { kind: "unknown" };
  while (reader.next()) {
    if (reader.field === 1) name = reader.string();
    else if (reader.field === 2) type = readType(reader.message());
    else reader.skip();
  }
  return { name, type };
}

function readType(reader: ProtoReader): TypeProto {
  let type: TypeProto = { kind: "unknown" };
  while (reader.next()) {
    switch (reader.field) {
      case 1: type = readTensorType(reader.message(), "tensor"); break;
      case 4: type = { kind: "sequence", element: readElementType(reader.message()).element }; break;
      case 5: type = { kind: "map", ...readElementType(reader.message(), 2) }; break;
      case 8: type = readTensorType(reader.message(), "sparse"); break;
      case 9: type = { kind: "optional", element: readElementType(reader.message()).element }; break;
      default: reader.skip();
    }
  }
  return type;
}

function readElementType(reader: ProtoReader, field = 1): { keyType: number; element: TypeProto } {
  let keyType = 0;
  let element: TypeProto = { kind: "unknown" };
  while (reader.next()) {
    if (reader.field === field) element = readType(reader.message());
    else if (reader.field === 1) keyType = reader.integer();
    else reader.skip();
  }
  return { keyType, element };
}

function readTensorType(reader: ProtoReader, kind: "tensor" | "sparse"): TypeProto {
  let elementType = 0;
  let shape: DimProto[] | undefined;
  while (reader.next()) {
    if (reader.field === 1) elementType = reader.integer();
    else if (reader.field === 2) shape = readShape(reader.message());
    else reader.skip();
  }
  return { kind, elementType, shape };
}

function readShape(reader: ProtoReader): DimProto[] {
  const dims: DimProto[] = [];
  while (reader.next()) {
    if (reader.field === 1) dims.push(readDim(reader.message()));
    else reader.skip();
  }
  return dims;
}

function readDim(reader: ProtoReader): DimProto {
  let dim: DimProto;
  while (reader.next()) {
    if (reader.field === 1) dim = reader.integer();
    else if (reader.field === 2) dim = reader.string() || undefined;
    else reader.skip();
  }
  return dim;
}
