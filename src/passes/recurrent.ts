/**
 * LSTM, GRU and RNN of a short, known length, written out step by step: one MatMul projects the inputs of all steps,
 * then each step is a MatMul of the state and pointwise work. Longer sequences stay one operator.
 * Gates are in ONNX's order: LSTM i o f c, GRU z r h. Sources: ONNX RNN-22, GRU-22, LSTM-22.
 */
import { int64Constant, type Node, type Value } from "../ir/index.ts";
import { floatConstant, knownNumbers, numberOf, stringOf } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";

/** Most steps that are written out: each takes about ten nodes. */
const MAX_STEPS = 32;

const GATES: Readonly<Record<string, number>> = { RNN: 1, GRU: 3, LSTM: 4 };
const DEFAULTS: Readonly<Record<string, readonly string[]>> = { RNN: ["Tanh"], GRU: ["Sigmoid", "Tanh"], LSTM: ["Sigmoid", "Tanh", "Tanh"] };
const ACTIVATIONS = new Set(["Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"]);

/** State of one direction between two steps; undefined is zero. */
interface State {
  readonly h: Value | undefined;
  readonly c: Value | undefined;
}

export const unrollRecurrent: Rule = (node, editor) => {
  const gates = node.domain === "" ? GATES[node.op] : undefined;
  const steps = gates === undefined ? undefined : stepsOf(node);
  if (gates === undefined || steps === undefined) return false;
  new Unrolling(node, editor, gates, steps).run();
  return true;
};

/** How many steps there are, when they can be written out. */
function stepsOf(node: Node): number | undefined {
  const [x, w, r, , lengths] = node.inputs;
  if (x?.dtype !== "float32" || x.dims?.length !== 3 || w?.dims?.length !== 3 || r?.dims?.length !== 3 || typeof r.dims[2] !== "number") return undefined;
  const [steps, batch] = numberOf(node, "layout", 0) !== 0 ? [x.dims[1]!, x.dims[0]!] : [x.dims[0]!, x.dims[1]!];
  if (typeof steps !== "number" || steps < 1 || steps > MAX_STEPS || typeof batch !== "number" && lengths) return undefined;
  if (lengths && !knownNumbers(lengths)?.every((length) => length === steps)) return undefined;
  if (numberOf(node, "clip", 0) > 0 || ["activation_alpha", "activation_beta"].some((name) => (node.attributes[name] as readonly number[] | undefined)?.length)) return undefined;
  return activationsOf(node).every((name) => ACTIVATIONS.has(name)) ? steps : undefined;
}

function activationsOf(node: Node): readonly string[] {
  const given = node.attributes["activations"] as readonly string[] | undefined;
  return given && given.length > 0 ? given : [...DEFAULTS[node.op]!, ...DEFAULTS[node.op]!];
}

class Unrolling {
  private readonly node: Node;
  private readonly editor: Editor;
  private readonly gates: number;
  private readonly steps: number;
  private readonly hidden: number;
  private readonly batchFirst: boolean;

  constructor(node: Node, editor: Editor, gates: number, steps: number) {
    this.node = node;
    this.editor = editor;
    this.gates = gates;
    this.steps = steps;
    this.hidden = node.inputs[2]!.dims![2] as number;
    this.batchFirst = numberOf(node, "layout", 0) !== 0;
  }

  run(): void {
    const { node, editor } = this;
    const x = this.batchFirst ? editor.emit("Transpose", [node.inputs[0]], { perm: [1, 0, 2] }) : node.inputs[0]!;
    const name = stringOf(node, "direction", "forward");
    const backwards = name === "bidirectional" ? [false, true] : [name === "reverse"];
    const states = backwards.map((isBackwards, d) => this.direction(x, d, isBackwards));
    const [y, h, c] = node.outputs;
    const wants = (value: Value | undefined): value is Value => value !== undefined && (editor.usersOf(value).length > 0 || editor.isOutput(value));
    const lasts = states.map((all, d) => all[backwards[d] ? 0 : this.steps - 1]!);
    const results: [Value, Value][] = [];
    if (wants(y)) results.push([y, this.ordered(this.joined(states.map((all) => this.joined(all.map((state) => this.unsqueezed(state.h!, [0, 1])), 0)), 1), [2, 0, 1, 3])]);
    if (wants(h)) results.push([h, this.ordered(this.joined(lasts.map((state) => this.unsqueezed(state.h!, [0])), 0), [1, 0, 2])]);
    if (wants(c)) results.push([c, this.ordered(this.joined(lasts.map((state) => this.unsqueezed(state.c!, [0])), 0), [1, 0, 2])]);
    for (const [from, by] of results) editor.replace(from, by);
  }

  /** The states of one direction after each step, in order of the sequence. */
  private direction(x: Value, d: number, backwards: boolean): State[] {
    const { editor, node } = this;
    const recurrent = editor.emit("Transpose", [this.part(node.inputs[2]!, d)], { perm: [1, 0] });
    const weights = editor.emit("Transpose", [this.part(node.inputs[1]!, d)], { perm: [1, 0] });
    const product = editor.emit("MatMul", [x, weights]);
    const { added, apart } = this.biases(d);
    const projected = added ? editor.emit("Add", [product, added]) : product;
    const peepholes = node.op === "LSTM" && node.inputs[7] ? this.part(node.inputs[7], d) : undefined;
    const cell = { LSTM: this.lstm, GRU: this.gru, RNN: this.rnn }[node.op as "LSTM" | "GRU" | "RNN"];
    const names = activationsOf(node).slice(d * DEFAULTS[node.op]!.length);
    const result = new Array<State>(this.steps);
    let state: State = { h: this.start(5, d), c: this.start(6, d) };
    for (let step = 0; step < this.steps; step++) {
      const at = backwards ? this.steps - 1 - step : step;
      state = cell.call(this, this.part(projected, at), recurrent, state, names, peepholes, apart);
      result[at] = state;
    }
    return result;
  }

  /** Input `index` of one direction, [batch, hidden]. */
  private start(index: number, d: number): Value | undefined {
    const given = this.node.inputs[index];
    if (!given || (index === 6 && this.node.op !== "LSTM")) return undefined;
    return this.part(this.batchFirst ? this.editor.emit("Transpose", [given], { perm: [1, 0, 2] }) : given, d);
  }

  /** Both biases; of a GRU that resets after the product, the recurrent bias of h is apart. */
  private biases(d: number): { added: Value | undefined; apart: Value | undefined } {
    const given = this.node.inputs[3];
    if (!given) return { added: undefined, apart: undefined };
    const both = this.part(given, d);
    const rows = this.gates * this.hidden;
    const [own, recurrent] = [this.columns(both, 0, rows), this.columns(both, rows, 2 * rows)];
    if (!this.resetsAfter) return { added: this.editor.emit("Add", [own, recurrent]), apart: undefined };
    const zeros = floatConstant("float32", new Float32Array(this.hidden), [this.hidden])!;
    const gates = this.editor.emit("Concat", [this.columns(recurrent, 0, 2 * this.hidden), zeros], { axis: 0 });
    return { added: this.editor.emit("Add", [own, gates]), apart: this.columns(recurrent, 2 * this.hidden, rows) };
  }

  private get resetsAfter(): boolean {
    return this.node.op === "GRU" && numberOf(this.node, "linear_before_reset", 0) !== 0;
  }

  // ---- cells --------------------------------------------------------------------------------------------------

  private rnn(x: Value, recurrent: Value, { h }: State, [f]: readonly string[]): State {
    return { h: this.editor.emit(f!, [this.summed(x, h, recurrent)]), c: undefined };
  }

  private lstm(x: Value, recurrent: Value, { h, c }: State, [f, g, out]: readonly string[], peepholes: Value | undefined): State {
    const { editor } = this;
    const sums = this.summed(x, h, recurrent);
    const gate = (index: number, peephole: number, cell: Value | undefined): Value => {
      const sum = this.gate(sums, index);
      return editor.emit(f!, [peepholes && cell ? editor.emit("Add", [sum, editor.emit("Mul", [this.gate(peepholes, peephole), cell])]) : sum]);
    };
    const enter = gate(0, 0, c);
    const candidate = editor.emit("Mul", [enter, editor.emit(g!, [this.gate(sums, 3)])]);
    const forget = (): Value => (numberOf(this.node, "input_forget", 0) !== 0 ? this.oneMinus(enter) : gate(2, 2, c));
    const next = c ? editor.emit("Add", [editor.emit("Mul", [forget(), c]), candidate]) : candidate;
    return { c: next, h: editor.emit("Mul", [gate(1, 1, next), editor.emit(out!, [next])]) };
  }

  private gru(x: Value, recurrent: Value, { h }: State, [f, g]: readonly string[], _: Value | undefined, apart: Value | undefined): State {
    const { editor, hidden } = this;
    if (!h) {
      const reset = (): Value => editor.emit("Mul", [editor.emit(f!, [this.gate(x, 1)]), apart!]);
      const candidate = editor.emit(g!, [apart ? editor.emit("Add", [this.gate(x, 2), reset()]) : this.gate(x, 2)]);
      return { h: editor.emit("Mul", [this.oneMinus(editor.emit(f!, [this.gate(x, 0)])), candidate]), c: undefined };
    }
    const width = this.resetsAfter ? 3 * hidden : 2 * hidden;
    const product = editor.emit("MatMul", [h, this.columns(recurrent, 0, width)]);
    const opened = (index: number): Value => editor.emit(f!, [editor.emit("Add", [this.gate(x, index), this.gate(product, index)])]);
    const [update, reset] = [opened(0), opened(1)];
    const after = (): Value => editor.emit("Mul", [reset, apart ? editor.emit("Add", [this.gate(product, 2), apart]) : this.gate(product, 2)]);
    const before = (): Value => editor.emit("MatMul", [editor.emit("Mul", [reset, h]), this.columns(recurrent, 2 * hidden, 3 * hidden)]);
    const candidate = editor.emit(g!, [editor.emit("Add", [this.resetsAfter ? after() : before(), this.gate(x, 2)])]);
    return { h: editor.emit("Add", [editor.emit("Mul", [this.oneMinus(update), candidate]), editor.emit("Mul", [update, h])]), c: undefined };
  }

  private summed(x: Value, h: Value | undefined, recurrent: Value): Value {
    return h ? this.editor.emit("Add", [this.editor.emit("MatMul", [h, recurrent]), x]) : x;
  }

  private oneMinus(value: Value): Value {
    return this.editor.emit("Sub", [floatConstant("float32", [1], []), value]);
  }

  // ---- pieces -------------------------------------------------------------------------------------------------

  private gate(value: Value, index: number): Value {
    return this.columns(value, index * this.hidden, (index + 1) * this.hidden);
  }

  /** A range of the last axis. */
  private columns(value: Value, start: number, end: number): Value {
    const axis = value.dims!.length - 1;
    if (start === 0 && value.dims![axis] === end) return value;
    return this.editor.emit("Slice", [value, int64Constant([start]), int64Constant([end]), int64Constant([axis])]);
  }

  /** One index of the first axis, without that axis. */
  private part(value: Value, index: number): Value {
    const slice = value.dims![0] === 1 ? value : this.editor.emit("Slice", [value, int64Constant([index]), int64Constant([index + 1]), int64Constant([0])]);
    return this.editor.emit("Squeeze", [slice, int64Constant([0])]);
  }

  private unsqueezed(value: Value, axes: readonly number[]): Value {
    return this.editor.emit("Unsqueeze", [value, int64Constant(axes)]);
  }

  private joined(values: readonly Value[], axis: number): Value {
    return values.length === 1 ? values[0]! : this.editor.emit("Concat", values, { axis });
  }

  private ordered(value: Value, batchFirst: readonly number[]): Value {
    return this.batchFirst ? this.editor.emit("Transpose", [value], { perm: batchFirst }) : value;
  }
}
