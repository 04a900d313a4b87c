/** Types as ONNX states them, brought to those of the graph: element types, kinds, symbolic dimensions. */
import { UserError } from "../base/index.ts";
import { add, type Dim, mul, sub, symbol, type Value } from "../ir/index.ts";
import type { DimProto, TypeProto } from "./proto.ts";
import { dtypeOf } from "./tensor-data.ts";

/**
 * The model's dimension names. A name that is an expression over other names ("past + 1", as exporters write them)
 * becomes that expression; any other is a symbol, cleaned of what expressions use.
 */
export class DimNames {
  private readonly plain = new Set<string>();
  private readonly symbols = new Map<string, Dim>();
  private readonly taken = new Set<string>();

  /** @param inputs the types of the model's inputs, which bring the names */
  constructor(inputs: readonly TypeProto[]) {
    for (const type of inputs) {
      for (const dim of shapeOf(type) ?? []) if (typeof dim === "string" && IDENTIFIER.test(dim)) this.plain.add(dim);
    }
    for (const name of this.plain) this.taken.add(name);
  }

  /** The dimension of this name, made when new. */
  dim(name: string): Dim {
    const known = this.symbols.get(name);
    if (known !== undefined) return known;
    const made = parseExpression(name, this.plain) ?? symbol(this.cleaned(name));
    this.symbols.set(name, made);
    return made;
  }

  /** The dimension of a name that the model's inputs use; undefined for others. */
  known(name: string): Dim | undefined {
    return this.symbols.get(name);
  }

  private cleaned(name: string): string {
    if (this.plain.has(name)) return name;
    const base = name.replace(/[^\w.]/g, "_").replace(/^(?=\d)/, "_") || "dim";
    let unique = base;
    for (let i = 2; this.taken.has(unique); i++) unique = `${base}_${i}`;
    this.taken.add(unique);
    return unique;
  }
}

const IDENTIFIER = /^[A-Za-z_][\w.]*$/;
const MAX_EXPRESSION_LENGTH = 200;

/** Sums, differences and products of names and integers; undefined when the text is anything else. */
function parseExpression(text: string, names: ReadonlySet<string>): Dim | undefined {
  if (text.length > MAX_EXPRESSION_LENGTH || IDENTIFIER.test(text)) return undefined;
  const tokens = text.match(/[A-Za-z_][\w.]*|\d+|[-+*()]|\S/g) ?? [];
  let at = 0;
  const factor = (): Dim | undefined => {
    const token = tokens[at++];
    if (token === undefined) return undefined;
    if (token === "(") {
      const inner = sum();
      return tokens[at++] === ")" ? inner : undefined;
    }
    if (/^\d+$/.test(token)) return Number.isSafeInteger(Number(token)) ? Number(token) : undefined;
    return names.has(token) ? symbol(token) : undefined;
  };
  const chain = (operand: () => Dim | undefined, operators: Readonly<Record<string, (a: Dim, b: Dim) => Dim>>): Dim | undefined => {
    let left = operand();
    while (left !== undefined && tokens[at] !== undefined && operators[tokens[at]!]) {
      const operator = operators[tokens[at++]!]!;
      const right = operand();
      left = right === undefined ? undefined : operator(left, right);
    }
    return left;
  };
  const product = (): Dim | undefined => chain(factor, { "*": mul });
  const sum = (): Dim | undefined => chain(product, { "+": add, "-": sub });
  const result = sum();
  return at === tokens.length && typeof result !== "number" ? result : undefined;
}

function shapeOf(type: TypeProto): readonly DimProto[] | undefined {
  if (type.kind === "tensor" || type.kind === "sparse") return type.shape;
  return type.kind === "sequence" || type.kind === "optional" ? shapeOf(type.element) : undefined;
}

/** Sets kind, dtype and dims of a model input. Each unknown dimension becomes a symbol named after the input. */
export function applyInputType(value: Value, type: TypeProto, names: DimNames): void {
  applyKind(value, type);
  if (value.kind === "sequence") return;
  value.dims = shapeOf(type)?.map((dim, axis) => {
    if (typeof dim === "number" && dim >= 0) return dim;
    if (typeof dim === "number" && dim < -1) throw new UserError("model-invalid", `Input "${value.name}" has dimension ${dim} on axis ${axis}; a dimension cannot be negative.`);
    return names.dim(typeof dim === "string" ? dim : `${value.name}_dim${axis}`);
  });
}

/** Sets kind and dtype, and dims where the file states each one in terms of the model's inputs. */
export function applyStatedType(value: Value, type: TypeProto, names: DimNames): void {
  applyKind(value, type);
  if (value.kind === "sequence" || value.kind === "map") return;
  const dims = shapeOf(type)?.map((dim) => (typeof dim === "number" ? (dim >= 0 ? dim : undefined) : dim === undefined ? undefined : names.known(dim)));
  if (dims?.every((dim) => dim !== undefined)) value.dims = dims as Dim[];
}

function applyKind(value: Value, type: TypeProto): void {
  if (type.kind === "unknown") return;
  value.kind = type.kind === "sparse" ? "tensor" : type.kind;
  const element = innermost(type);
  if (element === 0) return;
  const dtype = dtypeOf(element);
  if (!dtype) throw new UserError("model-invalid", `Value "${value.name}" has element type ${element}, which ONNX does not define.`);
  value.dtype = dtype;
}

function innermost(type: TypeProto): number {
  if (type.kind === "unknown") return 0;
  return "elementType" in type ? type.elementType : innermost(type.element);
}

/** A type as ONNX prints it: "seq(tensor(float32))". For attributes that hold types. */
export function typeText(type: TypeProto): string {
  switch (type.kind) {
    case "tensor": return `tensor(${dtypeOf(type.elementType) ?? type.elementType})`;
    case "sparse": return `sparse_tensor(${dtypeOf(type.elementType) ?? type.elementType})`;
    case "sequence": return `seq(${typeText(type.element)})`;
    case "optional": return `optional(${typeText(type.element)})`;
    case "map": return `map(${dtypeOf(type.keyType) ?? type.keyType},${typeText(type.element)})`;
    case "unknown": return "unknown";
  }
}
