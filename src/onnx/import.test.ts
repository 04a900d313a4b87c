/** What the importer makes of models: scopes, functions, constants, names, external data, order; and its refusals. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type ErrorCode, SinterError, Tensor } from "../base/index.ts";
import { dimKey, printGraph } from "../ir/index.ts";
import { importModel, makeModel, type ModelDescription } from "./index.ts";

const x = { name: "x", type: "float32", dims: [2, 3] } as const;
const y = { name: "y", type: "float32" } as const;

function imported(model: ModelDescription): string {
  return printGraph(importModel(makeModel(model)).graph);
}

function refuses(action: () => unknown, code: ErrorCode, ...patterns: readonly RegExp[]): void {
  assert.throws(action, (error: unknown) => {
    assert.ok(error instanceof SinterError, String(error));
    assert.equal(error.code, code, error.message);
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  });
}

function inFolder(action: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "sinter-onnx-"));
  try {
    action(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("a small model: names, constants, symbolic dims", () => {
  const text = imported({
    inputs: [{ name: "x", type: "float32", dims: ["batch", undefined] }], outputs: [y],
    initializers: { w: Tensor.zeros("float32", [3, 4]) },
    nodes: [{ op: "MatMul", inputs: ["x", "w"], outputs: ["h"] }, { op: "Relu", inputs: ["h"], outputs: ["y"], name: "last" }],
  });
  assert.equal(text, `graph graph(%x: float32[batch, x_dim1]) {
  %h: ?[?] = MatMul(%x, const float32[3, 4] %w)
  %y: float32[?] = Relu(%h)
  return %y
}
`);
});

test("dimension names that are expressions of others become expressions", () => {
  const { graph } = importModel(makeModel({
    inputs: [{ name: "past", type: "float32", dims: ["batch", "past length"] }, { name: "x", type: "float32", dims: ["batch", "seq"] }, { name: "mask", type: "float32", dims: ["2*seq + batch", "seq - nope"] }],
    outputs: [], nodes: [],
  }));
  assert.deepEqual(graph.inputs.map((value) => value.dims?.map(dimKey)), [["batch", "past_length"], ["batch", "seq"], ["batch + 2*seq", "seq___nope"]]);
});

test("nodes get stable unique names, and may stand in any order", () => {
  const { graph } = importModel(makeModel({
    inputs: [x], outputs: [y],
    nodes: [{ op: "Relu", inputs: ["b"], outputs: ["y"], name: "same" }, { op: "Neg", inputs: ["a"], outputs: ["b"], name: "same" }, { op: "Abs", inputs: ["x"], outputs: ["a"] }],
  }));
  assert.deepEqual(graph.nodes.map((node) => node.name), ["Abs_2", "same_2", "same"]);
});

test("subgraphs use values of the graphs around them", () => {
  const branch = (op: string) => ({ inputs: [], outputs: [{ name: `${op}_out`, type: "float32" as const }], nodes: [{ op, inputs: ["h"], outputs: [`${op}_out`] }] });
  const { graph } = importModel(makeModel({
    inputs: [x, { name: "c", type: "bool", dims: [] }], outputs: [y],
    nodes: [
      { op: "If", inputs: ["c"], outputs: ["y"], attributes: { then_branch: branch("Relu"), else_branch: branch("Neg") } },
      { op: "Abs", inputs: ["x"], outputs: ["h"] },
    ],
  }));
  assert.deepEqual(graph.nodes.map((node) => node.op), ["Abs", "If"]);
  assert.match(printGraph(graph), /then_branch = graph graph\(\) \{\n\s+%Relu_out: float32\[\?\] = Relu\(%h\)/);
});

test("local functions are inlined, with attributes, defaults, nesting and their own opsets", () => {
  const text = imported({
    inputs: [x], outputs: [y], opset: 17, opsets: { local: 1 },
    nodes: [{ op: "Outer", domain: "local", name: "call", inputs: ["x"], outputs: ["y"], attributes: { alpha: { float: 0.5 } } }],
    functions: [
      { name: "Outer", domain: "local", inputs: ["a", "unused"], outputs: ["b"], attributes: ["alpha"], opsets: { "": 17, local: 1 }, nodes: [
        { op: "LeakyRelu", inputs: ["a"], outputs: ["t"], attributes: { alpha: { reference: "alpha", type: "FLOAT" } } },
        { op: "Inner", domain: "local", inputs: ["t"], outputs: ["b"] },
      ] },
      { name: "Inner", domain: "local", inputs: ["a"], outputs: ["b"], defaults: { axes: [1] }, opsets: { "": 12 }, nodes: [
        { op: "Squeeze", inputs: ["a"], outputs: ["b"], attributes: { axes: { reference: "axes", type: "INTS" } } },
      ] },
    ],
  });
  assert.equal(text, `graph graph(%x: float32[2, 3]) {
  %call/t: ?[?] = LeakyRelu(%x) {alpha: 0.5}
  %y: float32[?] = Squeeze(%call/t, [1])
  return %y
}
`);
});

test("a function that hands a parameter through", () => {
  const text = imported({
    inputs: [x], outputs: [y], opsets: { local: 1 }, nodes: [{ op: "F", domain: "local", name: "call", inputs: ["x"], outputs: ["y"] }],
    functions: [{ name: "F", domain: "local", inputs: ["a"], outputs: ["a"], nodes: [] }],
  });
  assert.match(text, /%y: float32\[\?\] = Identity\(%x\)/);
});

test("a function that calls itself is refused", () => {
  refuses(() => imported({
    inputs: [x], outputs: [y], opsets: { local: 1 }, nodes: [{ op: "F", domain: "local", inputs: ["x"], outputs: ["y"] }],
    functions: [{ name: "F", domain: "local", inputs: ["a"], outputs: ["b"], opsets: { local: 1 }, nodes: [{ op: "F", domain: "local", inputs: ["a"], outputs: ["b"] }] }],
  }), "model-invalid", /calls itself/);
});

test("inputs with default values become constants and are noted", () => {
  const model = importModel(makeModel({ inputs: [x, { name: "w", type: "float32", dims: [1] }], outputs: [y], initializers: { w: new Tensor("float32", [2], [1]) }, nodes: [{ op: "Mul", inputs: ["x", "w"], outputs: ["y"] }], metadataProps: { a: "b" } }));
  assert.deepEqual(model.graph.inputs.map((value) => value.name), ["x"]);
  assert.deepEqual(model.metadata.defaultedInputs, ["w"]);
  assert.deepEqual(model.metadata.metadataProps, { a: "b" });
  assert.deepEqual(model.metadata.opsets, { "": 21 });
});

test("all problems are reported together", () => {
  refuses(() => imported({
    inputs: [x], outputs: [y, { name: "ghost", type: "float32" }],
    nodes: [
      { op: "Conv", inputs: ["x"], outputs: ["a"], name: "few" },
      { op: "Concat", inputs: ["x", "missing"], outputs: ["b"], name: "cat" },
      { op: "Softmax", inputs: ["x"], outputs: ["y"], attributes: { axis: { float: 1 } }, name: "typed" },
      { op: "Relu", inputs: ["x"], outputs: ["y"], name: "again" },
    ],
  }), "model-invalid", /6 problems/, /Conv "few": has 1 inputs; expected 2 to 3/, /"cat": input "missing" is not defined/, /"cat": required attribute "axis" is missing/, /attribute "axis" is of type FLOAT; expected INT/, /"y" is defined more than once/, /output "ghost"/);
});

test("the list of problems is capped, the count stated", () => {
  const nodes = Array.from({ length: 30 }, (_, i) => ({ op: "Relu", inputs: [`missing${i}`], outputs: [`o${i}`] }));
  refuses(() => imported({ inputs: [], outputs: [], nodes }), "model-invalid", /30 problems/, /and 10 more/);
});

test("a cycle is named by its nodes", () => {
  refuses(() => imported({ inputs: [x], outputs: [y], nodes: [{ op: "Add", inputs: ["x", "b"], outputs: ["a"], name: "first" }, { op: "Relu", inputs: ["a"], outputs: ["b"], name: "second" }, { op: "Neg", inputs: ["b"], outputs: ["y"] }] }), "model-invalid", /cycle: "first" needs "second"/);
});

test("unknown operators and domains are listed by node", () => {
  refuses(() => imported({ inputs: [x], outputs: [y], opsets: { "ai.onnx.ml": 3 }, nodes: [{ op: "Magic", inputs: ["x"], outputs: ["a"], name: "m" }, { op: "Scaler", domain: "ai.onnx.ml", inputs: ["a"], outputs: ["y"], name: "s" }] }), "unknown-operator", /2 nodes/, /Magic "m"/, /Scaler "s": the domain "ai.onnx.ml"/);
  refuses(() => imported({ inputs: [x], outputs: [y], opset: 99, nodes: [] }), "unsupported-opset", /99/);
});

test("files that are not ONNX are named for what they are", () => {
  const file = (text: string | readonly number[]) => () => importModel(typeof text === "string" ? Buffer.from(text) : Uint8Array.from(text));
  refuses(file(""), "not-onnx", /empty/);
  refuses(file("<!DOCTYPE html><html>"), "not-onnx", /HTML/);
  refuses(file([0x50, 0x4b, 3, 4, 0, 0]), "not-onnx", /zip/);
  refuses(file([0x80, 2, 0x7d]), "not-onnx", /pickle/);
  refuses(file('{"model": 1}'), "not-onnx", /JSON/);
  refuses(file("version https://git-lfs.github.com/spec/v1\n"), "not-onnx", /git lfs pull/);
  refuses(file("hello"), "not-onnx", /text/);
});

test("a file cut short says where", () => {
  const bytes = makeModel({ inputs: [x], outputs: [y], nodes: [{ op: "Relu", inputs: ["x"], outputs: ["y"] }] });
  refuses(() => importModel(bytes.subarray(0, 40)), "model-truncated", /byte \d+/);
});

test("tensors whose data does not fit their dims", () => {
  const broken = new Tensor("float32", [1, 2], [2]);
  Object.defineProperty(broken, "dims", { value: [3] });
  refuses(() => imported({ inputs: [], outputs: [], nodes: [], initializers: { w: broken } }), "model-invalid", /"w" has 8 bytes of data; float32\[3\] needs 12/);
});

const externalModel = (location: string, extra: { offset?: number; length?: number } = {}): Uint8Array => makeModel({
  inputs: [x], outputs: [y], initializers: { w: { type: "float32", dims: [2, 3], location, ...extra } }, nodes: [{ op: "Add", inputs: ["x", "w"], outputs: ["y"] }],
});

test("external data is read from the model's folder", () => inFolder((folder) => {
  writeFileSync(join(folder, "w.bin"), new Uint8Array(Float32Array.from([9, 1, 2, 3, 4, 5, 6]).buffer));
  writeFileSync(join(folder, "m.onnx"), externalModel("w.bin", { offset: 4, length: 24 }));
  const model = importModel(join(folder, "m.onnx"));
  const constant = model.graph.nodes[0]!.inputs[1]!.constant!;
  assert.deepEqual([...new Float32Array(constant.bytes.slice().buffer)], [1, 2, 3, 4, 5, 6]);
  model.close();
}));

test("external data that is missing, short or outside the folder", () => inFolder((folder) => {
  const attempt = (location: string, extra = {}) => () => {
    writeFileSync(join(folder, "m.onnx"), externalModel(location, extra));
    importModel(join(folder, "m.onnx"));
  };
  writeFileSync(join(folder, "short.bin"), new Uint8Array(10));
  symlinkSync("/etc/hostname", join(folder, "link.bin"));
  refuses(attempt("none.bin"), "external-data", /"w"/, /missing/);
  refuses(attempt("short.bin"), "external-data", /bytes 0 to 24/, /only 10/);
  refuses(attempt("short.bin", { length: 8 }), "external-data", /length 8/, /24 bytes/);
  refuses(attempt("../w.bin"), "external-data", /outside/);
  refuses(attempt("/etc/passwd"), "external-data", /outside/);
  refuses(attempt("link.bin"), "external-data", /link/);
  refuses(() => importModel(externalModel("w.bin")), "external-data", /as bytes/);
  refuses(() => importModel(join(folder, "absent.onnx")), "file-io", /absent/);
}));
