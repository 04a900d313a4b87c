/**
 * Fusion decisions: which values are computed where they are used, and which pointwise chains ride on a contraction.
 *
 * A value is *inlined* when computing it inside its reader costs no more than reading it would: its reader looks at
 * every element once (or a few times, when it is cheap), and nobody else needs it. Everything else gets memory.
 */
import type { DType } from "../base/index.ts";
import { type Dim, dimsEqual, type Graph, isLoopType, type Node, subgraphsOf, symbol, symbolsOf, usersOf, type Value } from "../ir/index.ts";
import { isDataDependent, lowerings, opKey, sequentials } from "../ops/index.ts";
import { isContraction } from "./contractions.ts";
import type { TargetKernels } from "./target-kernels.ts";

/** shape: small integers whose elements are dimension expressions, computed when a shape is bound. */
export type Role = "contraction" | "loop" | "sequential" | "shape" | "reference" | "dead";

/** Most operators one kernel may hold, and most buffers it may read: past these, code and registers grow for nothing. */
const MAX_OPERATORS = 48;
const MAX_LOADS = 10;
const MAX_MASK_OPERATORS = 5;

const RESHAPES = new Set(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"]);

/** Views that strides can mostly say. */
const ALIASING = new Set([...RESHAPES, "Transpose", "Expand", "Split", "Slice"]);

/** Reductions that read each input element a fixed small number of times. */
const ROW_REDUCTIONS = /^(Reduce\w+|Softmax|LogSoftmax|LayerNormalization|RMSNormalization|ArgMax|ArgMin|InstanceNormalization|GroupNormalization|LpNormalization|GlobalAveragePool|GlobalMaxPool)$/;

/** Operators whose evaluation costs more than a load. */
const EXPENSIVE = /^(Exp|Log|Sin|Cos|Tan|Asin|Acos|Atan|Sinh|Cosh|Asinh|Acosh|Atanh|Tanh|Erf|Sigmoid|Gelu|Mish|Softplus|Swish|Pow|Elu|Selu|Celu|Div|Sqrt|Mod)$/;

/** Operators that kernels compute in single precision only, and the types for which that is not enough. */
const TRANSCENDENTAL = /^(Exp|Log|Sin|Cos|Tan|Asin|Acos|Atan|Sinh|Cosh|Asinh|Acosh|Atanh|Tanh|Erf|Sigmoid|Gelu|Mish|Softplus|Swish|Pow|Elu|Selu|Celu|Softmax|LogSoftmax|ReduceLogSum|ReduceLogSumExp|LRN)$/;
const WIDE: ReadonlySet<string> = new Set(["float64", "int32", "int64", "uint32", "uint64", "int8", "uint8", "int16", "uint16"]);

/** Operators with a square root, and the types that have none. */
const ROOTS = /^(ReduceL2|LpNormalization|LpPool|GlobalLpPool|MeanVarianceNormalization)$/;
const INTEGER: ReadonlySet<string> = new Set([...WIDE].filter((dtype) => dtype !== "float64"));

/** Views that read one input element several times. */
const REPEATING = /^(Expand|Tile|Gather|GatherND|GatherElements|Resize)$/;

/** Types of what may be computed on a contraction's results: those with one lane per result. */
const RIDING: ReadonlySet<DType> = new Set(["float32", "bfloat16", "float16", "int32", "int8", "uint8"]);

export interface Fusion {
  readonly roles: ReadonlyMap<Node, Role>;
  readonly users: ReadonlyMap<Value, readonly Node[]>;
  readonly inlined: ReadonlySet<Value>;
  /** Nodes in a contraction's epilogue, in order; a Transpose that keeps the last axis may come last. */
  readonly chains: ReadonlyMap<Node, readonly Node[]>;
}

export function decideFusion(graph: Graph, kernels: TargetKernels): Fusion {
  const users = usersOf(graph);
  const outputs = new Set(graph.outputs);
  const order = new Map(graph.nodes.map((node, i) => [node, i]));
  const roles = new Map(graph.nodes.map((node) => [node, roleOf(node, users, outputs, kernels)]));
  const decider = new Decider(roles, users, outputs, order, kernels);
  for (const node of [...graph.nodes].reverse()) if (roles.get(node) === "contraction") decider.claimChain(node);
  for (const node of graph.nodes) if (roles.get(node) === "loop") decider.decideInline(node);
  return { roles, users, inlined: decider.inlined, chains: decider.chains };
}

export function isReshape(node: Node): boolean {
  return node.domain === "" && RESHAPES.has(node.op);
}

export function isPointwise(node: Node): boolean {
  return lowerings.get(opKey(node))?.kind === "pointwise";
}

function roleOf(node: Node, users: ReadonlyMap<Value, readonly Node[]>, outputs: ReadonlySet<Value>, kernels: TargetKernels): Role {
  if (!node.outputs.some((value) => value && (users.has(value) || outputs.has(value)))) return "dead";
  if (isContraction(node, kernels)) return "contraction";
  if (node.outputs.every((value) => value?.elements && !outputs.has(value))) return "shape";
  if (kernels.sequential && isSequential(node)) return "sequential";
  return hasLowering(node) ? "loop" : "reference";
}

function isSequential(node: Node): boolean {
  const values = [...node.inputs, ...node.outputs].filter((value) => value !== undefined);
  return (sequentials.get(opKey(node))?.supports(node) ?? false) && values.every((value) => value.kind === "tensor" && value.dims && value.dtype && isLoopType(value.dtype));
}

function hasLowering(node: Node): boolean {
  const lowering = lowerings.get(opKey(node));
  if (!lowering || subgraphsOf(node).length > 0) return false;
  const values = [...node.inputs, ...node.outputs].filter((value) => value !== undefined);
  if (!values.every((value) => value.kind === "tensor" && value.dims && value.dtype && isLoopType(value.dtype))) return false;
  if (decidesSizes(node)) return false;
  if (TRANSCENDENTAL.test(node.op) && values.some((value) => WIDE.has(value.dtype!))) return false;
  if (ROOTS.test(node.op) && INTEGER.has(values[0]!.dtype!)) return false;
  return lowering.supports?.(node) ?? true;
}

/** Whether a size of the results is in none of the inputs: only running the node can tell it. */
function decidesSizes(node: Node): boolean {
  const known = new Set(node.inputs.flatMap((value) => [...(value?.dims ?? []), ...(value?.elements ?? [])]).flatMap((dim) => [...symbolsOf(dim)]));
  const made = node.outputs.flatMap((value) => [...(value?.dims ?? [])]).filter((dim) => isDataDependent(dim)).flatMap((dim) => [...symbolsOf(dim)]);
  return made.some((name) => isDataDependent(symbol(name)) && !known.has(name));
}

class Decider {
  readonly inlined = new Set<Value>();
  readonly chains = new Map<Node, Node[]>();
  private readonly claimed = new Set<Node>();
  private readonly operators = new Map<Value, number>();
  private readonly loads = new Map<Value, number>();
  private readonly roles: ReadonlyMap<Node, Role>;
  private readonly users: ReadonlyMap<Value, readonly Node[]>;
  private readonly outputs: ReadonlySet<Value>;
  private readonly order: ReadonlyMap<Node, number>;
  private readonly kernels: TargetKernels;

  constructor(roles: ReadonlyMap<Node, Role>, users: ReadonlyMap<Value, readonly Node[]>, outputs: ReadonlySet<Value>, order: ReadonlyMap<Node, number>, kernels: TargetKernels) {
    this.kernels = kernels;
    this.roles = roles;
    this.users = users;
    this.outputs = outputs;
    this.order = order;
  }

  /** Gathers the pointwise nodes after a contraction that can be applied to its results in registers. */
  claimChain(contraction: Node): void {
    const chain: Node[] = [];
    let pending: Node[] = [];
    let value = contraction.outputs[0]!;
    const takesPointwise = contraction.op !== "Attention";
    while (!this.outputs.has(value)) {
      const region = takesPointwise ? this.pointwiseRegion(value) : undefined;
      if (region) {
        chain.push(...pending, ...region);
        pending = [];
        value = region[region.length - 1]!.outputs[0]!;
        continue;
      }
      const next = this.onlyUser(value);
      if (!next || this.claimed.has(next)) break;
      if (takesPointwise && isReshape(next)) {
        pending.push(next);
        value = next.outputs[0]!;
        continue;
      }
      if (pending.length === 0 && keepsLastAxis(next) && canWriteTransposed(contraction, chain)) chain.push(next);
      break;
    }
    if (this.kernels.float16 && this.widensForReaders(chain.at(-1))) chain.pop();
    for (const node of chain) this.claimed.add(node);
    for (const node of chain.slice(0, -1)) this.inlined.add(node.outputs[0]!);
    if (chain.length > 0) this.inlined.add(contraction.outputs[0]!);
    this.chains.set(contraction, chain);
  }

  /** A last step that only makes 32 bits of 16, for readers that can do that themselves. */
  private widensForReaders(node: Node | undefined): boolean {
    const [from, to] = [node?.inputs[0], node?.outputs[0]];
    if (node?.op !== "Cast" || (from?.dtype !== "float16" && from?.dtype !== "bfloat16") || to?.dtype !== "float32" || this.outputs.has(to)) return false;
    return (this.users.get(to) ?? []).every((user) => this.roles.get(user) === "loop" && ((isPointwise(user) && dimsEqual(user.outputs[0]?.dims ?? [], to.dims!)) || ROW_REDUCTIONS.test(user.op)));
  }

  private onlyUser(value: Value): Node | undefined {
    const users = new Set(this.users.get(value) ?? []);
    return users.size === 1 ? [...users][0] : undefined;
  }

  /** The pointwise nodes of the same shape between `value` and the one node where all its uses meet, in order. */
  private pointwiseRegion(value: Value, limit = 8): Node[] | undefined {
    const region = new Set<Node>();
    const values = [value];
    for (let count = 0; count < limit; count++) {
      const next = values.flatMap((item) => this.users.get(item) ?? []).filter((user) => !region.has(user)).sort((x, y) => this.order.get(x)! - this.order.get(y)!)[0];
      if (!next || !this.canRide(next, value)) return undefined;
      region.add(next);
      values.push(next.outputs[0]!);
      if (this.closed(value, region)) return this.sorted(region);
    }
    return undefined;
  }

  /** Whether every value made in the region, and the start, is read only inside it, save the last one. */
  private closed(start: Value, region: ReadonlySet<Node>): boolean {
    const nodes = this.sorted(region);
    const inner = [start, ...nodes.slice(0, -1).map((node) => node.outputs[0]!)];
    return inner.every((value) => !this.outputs.has(value) && (this.users.get(value) ?? []).every((user) => region.has(user)));
  }

  private sorted(region: ReadonlySet<Node>): Node[] {
    return [...region].sort((a, b) => this.order.get(a)! - this.order.get(b)!);
  }

  private canRide(node: Node, value: Value): boolean {
    const output = node.outputs[0];
    return this.roles.get(node) === "loop" && !this.claimed.has(node) && isPointwise(node) && node.outputs.length === 1
      && output !== undefined && RIDING.has(output.dtype!) && output.dims !== undefined && dimsEqual(output.dims, value.dims!)
      && node.inputs.every((input) => !input || RIDING.has(input.dtype!) || input.constant !== undefined || input.dtype === "bool");
  }

  /** Decides whether a loop node's outputs are computed where they are used. */
  decideInline(node: Node): void {
    if (this.claimed.has(node)) return;
    for (const value of node.outputs) {
      if (!value) continue;
      this.measure(node, value);
      if (this.canInline(node, value)) this.inlined.add(value);
    }
  }

  /** Counts the operators and loads a kernel would hold that computes this value. */
  private measure(node: Node, value: Value): void {
    let operators = 1;
    let loads = 0;
    for (const input of node.inputs) {
      if (!input) continue;
      const inner = this.inlined.has(input);
      operators += inner ? this.operators.get(input) ?? 0 : 0;
      loads += inner ? this.loads.get(input) ?? 0 : input.constant || input.elements ? 0 : 1;
    }
    this.operators.set(value, operators);
    this.loads.set(value, loads);
  }

  private canInline(node: Node, value: Value): boolean {
    const users = [...new Set(this.users.get(value) ?? [])];
    if (users.length === 0 || this.outputs.has(value) || !value.dims) return false;
    if (this.operators.get(value)! > MAX_OPERATORS || this.loads.get(value)! > MAX_LOADS) return false;
    const kind = lowerings.get(opKey(node))!.kind;
    if (this.becomesAlias(node) || (node.op === "Concat" && !this.swapsHalves(node))) return false;
    if (users.length > 1 && !(kind === "view" && users.length <= 3) && !(kind === "pointwise" && this.converges(value, users))) return false;
    return users.every((user) => this.accepts(user, value, node, kind));
  }

  /** A view of a value that has memory costs nothing and needs no inlining. */
  private becomesAlias(node: Node): boolean {
    const source = node.inputs[0];
    return node.domain === "" && ALIASING.has(node.op) && source !== undefined && !this.inlined.has(source) && !source.elements;
  }

  /** Two slices joined, one of them negated perhaps: how rotary embeddings turn pairs. Reading them in place is cheaper than a copy. */
  private swapsHalves(node: Node): boolean {
    return node.inputs.length === 2 && node.inputs.every((input) => {
      const producer = input?.producer?.op === "Neg" ? input.producer.inputs[0]?.producer : input?.producer;
      return producer?.domain === "" && /^(Slice|Split)$/.test(producer.op) && this.loads.get(input!)! <= 1;
    });
  }

  /** Whether a value's users are pointwise and all end in one of them, so that it is computed once in one kernel. */
  private converges(value: Value, users: readonly Node[]): boolean {
    if (users.length > 4 || !value.dims) return false;
    const last = users.reduce((a, b) => (this.order.get(a)! > this.order.get(b)! ? a : b));
    return users.every((user) => user === last || this.leadsTo(user, last, value.dims!, 6));
  }

  private leadsTo(node: Node, last: Node, dims: readonly Dim[], depth: number): boolean {
    if (depth === 0 || !isPointwise(node) || node.outputs.length !== 1 || this.claimed.has(node)) return false;
    const output = node.outputs[0];
    if (!output?.dims || !dimsEqual(output.dims, dims) || this.outputs.has(output)) return false;
    const users = this.users.get(output) ?? [];
    return users.length > 0 && users.every((user) => user === last || this.leadsTo(user, last, dims, depth - 1));
  }

  /** A mask that one attention reads, and that costs little more than a load, is computed there: it may be as large as the scores. */
  private ridesOnScores(user: Node, value: Value, kind: "pointwise" | "view" | "reduction"): boolean {
    return user.op === "Attention" && this.roles.get(user) === "contraction" && user.inputs.indexOf(value) === 3 && kind !== "reduction" && this.operators.get(value)! <= MAX_MASK_OPERATORS && this.loads.get(value)! <= 2;
  }

  private accepts(user: Node, value: Value, producer: Node, kind: "pointwise" | "view" | "reduction"): boolean {
    if (this.ridesOnScores(user, value, kind)) return !EXPENSIVE.test(producer.op);
    if (this.roles.get(user) !== "loop" || user.inputs.filter((input) => input === value).length > 2) return false;
    const output = user.outputs[0];
    if (!output?.dims) return false;
    const reader = lowerings.get(opKey(user))!.kind;
    if (kind === "reduction") return reader === "pointwise" && (dimsEqual(value.dims!, output.dims) || broadcastsInner(value.dims!, output.dims));
    if (reader === "pointwise") return kind === "view" || dimsEqual(dropOnes(value.dims!), dropOnes(output.dims));
    if (reader === "view") return kind === "view" || !REPEATING.test(user.op);
    return ROW_REDUCTIONS.test(user.op) && !EXPENSIVE.test(producer.op) && this.operators.get(value)! <= 2;
  }
}

/** Whether strides can say where a contraction's results lie in their transpose: regrouped axes have none, and a product of one matrix writes the rows of all batches at one distance. */
function canWriteTransposed(contraction: Node, chain: readonly Node[]): boolean {
  if (chain.some(isReshape)) return false;
  const [a, b] = contraction.inputs;
  return contraction.op !== "MatMul" || (b?.dims?.length ?? 0) > 2 || (a?.dims?.length ?? 0) <= 2;
}

function keepsLastAxis(node: Node): boolean {
  if (node.op !== "Transpose" || node.domain !== "") return false;
  const permutation = node.attributes["perm"] as number[] | undefined;
  return permutation !== undefined && permutation[permutation.length - 1] === permutation.length - 1;
}

function dropOnes(dims: readonly Dim[]): Dim[] {
  return dims.filter((dim) => dim !== 1);
}

/** Whether `from` equals `to` in its leading axes and is 1 in all that follow: it varies only outside the inner loops. */
function broadcastsInner(from: readonly Dim[], to: readonly Dim[]): boolean {
  if (from.length !== to.length) return false;
  let axis = 0;
  while (axis < from.length && dimsEqual([from[axis]!], [to[axis]!])) axis++;
  return axis < from.length && from.slice(axis).every((dim) => dim === 1);
}
