/** AttributeProto to the graph's attribute values, references of function bodies resolved. */
import { UserError } from "../base/index.ts";
import type { AttributeValue, Graph } from "../ir/index.ts";
import type { ExternalData } from "./external-data.ts";
import type { AttributeProto, GraphProto } from "./proto.ts";
import { readConstant, readSparse } from "./tensor-data.ts";
import { typeText } from "./types.ts";

/** What a function's attribute stands for at one call. Graphs are built anew for each use. */
export interface Binding {
  readonly type: number;
  make(): AttributeValue;
}

export type Bindings = ReadonlyMap<string, Binding>;

export interface AttributeContext {
  readonly external: ExternalData;
  readonly bindings: Bindings;
  /** The node, for errors. */
  readonly label: string;
  buildGraph(graph: GraphProto): Graph;
}

const TYPE_NAMES = ["UNDEFINED", "FLOAT", "INT", "STRING", "TENSOR", "GRAPH", "FLOATS", "INTS", "STRINGS", "TENSORS", "GRAPHS", "SPARSE_TENSOR", "SPARSE_TENSORS", "TYPE_PROTO", "TYPE_PROTOS"];

export function attributeTypeName(type: number): string {
  return TYPE_NAMES[type] ?? `type ${type}`;
}

/** @returns undefined for a reference to an attribute that the call does not give */
export function bindAttribute(attribute: AttributeProto, context: AttributeContext): Binding | undefined {
  if (attribute.reference) return context.bindings.get(attribute.reference);
  return { type: attribute.type, make: () => attributeValue(attribute, context) };
}

function attributeValue(attribute: AttributeProto, context: AttributeContext): AttributeValue {
  const label = `${context.label}, attribute "${attribute.name}"`;
  switch (attribute.type) {
    case 1: return attribute.f;
    case 2: return attribute.i;
    case 3: return Buffer.from(attribute.s).toString("utf8");
    case 4: return readConstant(attribute.t ?? missing(label, "tensor"), context.external, label);
    case 5: return context.buildGraph(attribute.g ?? missing(label, "graph"));
    case 6: return attribute.floats;
    case 7: return attribute.ints.map(safeInteger);
    case 8: return attribute.strings;
    case 10: return attribute.graphs.map((graph) => context.buildGraph(graph));
    case 11: return readSparse(attribute.sparse ?? missing(label, "sparse tensor"), context.external, label);
    case 13: return typeText(attribute.typeProto ?? missing(label, "type"));
    default: throw new UserError("model-invalid", `${label} is of type ${attributeTypeName(attribute.type)}, which no operator takes.`);
  }
}

/** Lists hold plain numbers; those beyond 2^53 mean "to the end" and keep that meaning when clamped. */
function safeInteger(item: number | bigint): number {
  if (typeof item === "number") return item;
  return item < 0n ? -Number.MAX_SAFE_INTEGER : Number.MAX_SAFE_INTEGER;
}

function missing(label: string, what: string): never {
  throw new UserError("model-invalid", `${label} says it holds a ${what}, and holds none.`);
}
