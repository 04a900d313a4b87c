/** If with a condition that only the run knows: both ways agree with the reference, natively. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Tensor } from "../base/index.ts";
import { build } from "../compile.ts";
import { type GraphDescription, importModel, makeModel, type NodeDescription } from "../onnx/index.ts";
import { interpret } from "../reference/index.ts";
import { planOf } from "../testing/plan-of.ts";
import { floats } from "../testing/small-models.ts";
import { Engine } from "./engine.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-branches-"));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Branch {
  readonly nodes: readonly NodeDescription[];
  readonly output: string;
}

const graph = (name: string, { nodes, output }: Branch): GraphDescription => ({ name, inputs: [], outputs: [{ name: output, type: "float32" }], nodes });

/** x [n, 8], flag → h = x * w, an If over h, then y = what it gives + x. */
function model(taken: Branch, otherwise: Branch, after: readonly NodeDescription[] = [{ op: "Add", inputs: ["r", "x"], outputs: ["y"] }]): Uint8Array {
  return makeModel({
    opset: 17,
    inputs: [{ name: "x", type: "float32", dims: ["n", 8] }, { name: "flag", type: "int64", dims: [] }],
    outputs: [{ name: "y", type: "float32", dims: [undefined, undefined] }],
    initializers: { w: new Tensor("float32", floats(64, 2), [8, 8]), v: new Tensor("float32", floats(64, 3), [8, 8]), one: new Tensor("int64", [1], []), first: new Tensor("int64", [0], [1]) },
    nodes: [
      { op: "MatMul", inputs: ["x", "w"], outputs: ["h"] },
      { op: "Equal", inputs: ["flag", "one"], outputs: ["c"] },
      { op: "If", name: "choose", inputs: ["c"], outputs: ["r"], attributes: { then_branch: graph("yes", taken), else_branch: graph("no", otherwise) } },
      ...after,
    ],
  });
}

const multiply: Branch = { nodes: [{ op: "Relu", inputs: ["h"], outputs: ["a"] }, { op: "MatMul", inputs: ["a", "v"], outputs: ["b"] }, { op: "Tanh", inputs: ["b"], outputs: ["t"] }], output: "t" };
const negate: Branch = { nodes: [{ op: "Relu", inputs: ["h"], outputs: ["a2"] }, { op: "Neg", inputs: ["a2"], outputs: ["m"] }], output: "m" };
const outer: Branch = { nodes: [], output: "h" };
const unique: Branch = { nodes: [{ op: "Unique", inputs: ["h"], outputs: ["z"] }, { op: "ReduceMax", inputs: ["z"], outputs: ["zm"], attributes: { keepdims: 0 } }, { op: "Add", inputs: ["h", "zm"], outputs: ["zh"] }], output: "zh" };
const sum: Branch = { nodes: [{ op: "ReduceSum", inputs: ["h", "first"], outputs: ["s"], attributes: { keepdims: 0 } }], output: "s" };
const wrong: Branch = { nodes: [{ op: "Concat", inputs: ["h", "w"], outputs: ["d"], attributes: { axis: 0 } }, { op: "MatMul", inputs: ["d", "d"], outputs: ["e"] }, { op: "Squeeze", inputs: ["w", "first"], outputs: ["f"] }], output: "f" };

async function check(name: string, bytes: Uint8Array, steps: readonly string[], flags: readonly number[] = [1, 0]): Promise<Engine> {
  assert.deepEqual(planOf(bytes).steps.map((step) => step.split(" ")[0]), steps);
  const path = join(folder, `${name}.engine`);
  await build(bytes, { output: path, level: 0 });
  const engine = await Engine.load(path, { threads: 2 });
  using context = engine.createContext();
  for (const flag of flags) {
    for (const n of [3, 1, 3]) {
      const feeds = { x: new Tensor("float32", floats(n * 8, n + flag), [n, 8]), flag: new Tensor("int64", [flag], []) };
      const expected = interpret(importModel(bytes).graph, feeds)[0] as Tensor;
      for (const { y } of [await engine.run(feeds), context.runSync(feeds), context.trace(feeds, () => undefined)]) {
        assert.ok(y instanceof Tensor);
        assert.deepEqual(y.dims, expected.dims);
        expected.data.forEach((item, i) => assert.ok(Math.abs(Number(item) - Number(y.data[i])) < 1e-5));
      }
      assert.ok(context.profile(feeds).length < engine.metadata.steps.length || !steps.includes("jump"));
    }
  }
  return engine;
}

test("both branches are native steps, with a jump before and between them", async () => {
  using engine = await check("both", model(multiply, negate), ["matmul", "loop", "jump", "loop", "matmul", "jump", "loop", "loop"]);
  assert.equal(engine.hasReferenceSteps, false);
});

test("a branch that gives an outer value copies it; results can be the model's output", async () => {
  using engine = await check("outer", model(outer, multiply, [{ op: "Identity", inputs: ["r"], outputs: ["y"] }]), ["matmul", "loop", "jump", "loop", "jump", "loop", "matmul"]);
  assert.equal(engine.hasReferenceSteps, false);
});

test("Ifs stand in branches of Ifs", async () => {
  const nested: Branch = { nodes: [{ op: "Cast", inputs: ["flag"], outputs: ["some"], attributes: { to: 9 } }, { op: "If", inputs: ["some"], outputs: ["q"], attributes: { then_branch: graph("a", multiply), else_branch: graph("b", outer) } }], output: "q" };
  using engine = await check("nested", model(negate, nested), ["matmul", "loop", "jump", "loop", "jump", "loop", "jump", "loop", "matmul", "jump", "loop", "loop"], [1, 0, 2]);
  assert.equal(engine.hasReferenceSteps, false);
});

test("an operator without a native form is a reference step inside its branch", async () => {
  const bytes = model(unique, negate);
  const { steps } = planOf(bytes);
  assert.equal(steps.filter((step) => step.startsWith("reference")).length, 1);
  using engine = await check("reference", bytes, steps.map((step) => step.split(" ")[0]!));
  assert.equal(engine.hasReferenceSteps, true);
});

test("branches of other ranks stay one operator on the reference", async () => {
  using engine = await check("ranks", model(sum, negate), planOf(model(sum, negate)).steps.map((step) => step.split(" ")[0]!));
  assert.ok(engine.metadata.steps.every((step) => step.kind !== "jump"));
});

test("a branch that the shapes rule out says so when it is taken, and costs nothing else", async () => {
  const bytes = model(wrong, negate);
  using engine = await check("wrong", bytes, ["matmul", "loop", "jump", "fail", "jump", "loop", "loop"], [0]);
  assert.equal(engine.hasReferenceSteps, false);
  await assert.rejects(engine.run({ x: new Tensor("float32", floats(8), [1, 8]), flag: new Tensor("int64", [1], []) }), /takes the branch "yes", which is wrong for these shapes: .*Squeeze/);
});
