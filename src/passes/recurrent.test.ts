/** Recurrent operators written out step by step give what the operator gives; long ones stay. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Tensor } from "../base/index.ts";
import { countOf, numbered, opsOf, passed, type PassCase } from "./pass-case.ts";

const [STEPS, BATCH, WIDTH, HIDDEN] = [3, 2, 5, 4];

interface Form {
  readonly op: "LSTM" | "GRU" | "RNN";
  readonly direction?: "forward" | "reverse" | "bidirectional";
  readonly attributes?: Readonly<Record<string, number | string[]>>;
  readonly withStates?: boolean;
  readonly withBias?: boolean;
  readonly withPeepholes?: boolean;
  readonly batchFirst?: boolean;
}

function recurrent({ op, direction = "forward", attributes = {}, withStates = true, withBias = true, withPeepholes = false, batchFirst = false }: Form, steps: number | string = STEPS): PassCase {
  const directions = direction === "bidirectional" ? 2 : 1;
  const gates = { LSTM: 4, GRU: 3, RNN: 1 }[op];
  const constants: Record<string, Tensor> = { w: numbered([directions, gates * HIDDEN, WIDTH], 3), r: numbered([directions, gates * HIDDEN, HIDDEN], 4) };
  if (withBias) constants["b"] = numbered([directions, 2 * gates * HIDDEN], 5);
  if (withPeepholes) constants["p"] = numbered([directions, 3 * HIDDEN], 6);
  const state = batchFirst ? [BATCH, directions, HIDDEN] : [directions, BATCH, HIDDEN];
  const inputs = { x: batchFirst ? [BATCH, steps, WIDTH] : [steps, BATCH, WIDTH], ...(withStates ? { h: state } : {}), ...(withStates && op === "LSTM" ? { c: state } : {}) };
  const names = ["x", "w", "r", withBias ? "b" : "", "", withStates ? "h" : "", withStates && op === "LSTM" ? "c" : "", withPeepholes ? "p" : ""];
  const outputs = op === "LSTM" ? ["y", "yh", "yc"] : ["y", "yh"];
  return {
    inputs, constants, outputs, sizes: { n: 5 },
    nodes: [[op, names.join(" ").trimEnd(), outputs.join(" "), { hidden_size: HIDDEN, direction, ...(batchFirst ? { layout: 1 } : {}), ...attributes }]],
  };
}

const FORMS: readonly Form[] = [
  { op: "LSTM" }, { op: "LSTM", direction: "bidirectional" }, { op: "LSTM", direction: "reverse", withStates: false }, { op: "LSTM", withPeepholes: true, withBias: false },
  { op: "LSTM", batchFirst: true, direction: "bidirectional" }, { op: "LSTM", attributes: { input_forget: 1 } },
  { op: "GRU" }, { op: "GRU", attributes: { linear_before_reset: 1 } }, { op: "GRU", direction: "bidirectional", withStates: false, attributes: { linear_before_reset: 1 } }, { op: "GRU", withBias: false, withStates: false },
  { op: "GRU", withBias: false, attributes: { linear_before_reset: 1 } },
  { op: "RNN" }, { op: "RNN", direction: "bidirectional", attributes: { activations: ["Relu", "Tanh"] } },
];

for (const form of FORMS) {
  test(`${JSON.stringify(form)} is written out`, () => {
    const graph = passed(recurrent(form));
    assert.equal(countOf(graph, form.op), 0, opsOf(graph).join(" "));
  });
}

test("a sequence of unknown length stays one operator", () => {
  assert.equal(countOf(passed(recurrent({ op: "LSTM", direction: "bidirectional" }, "n")), "LSTM"), 1);
});

test("clipped gates stay one operator", () => {
  assert.equal(countOf(passed(recurrent({ op: "GRU", attributes: { clip: 2.5 } })), "GRU"), 1);
});
