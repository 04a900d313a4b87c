// Do products of a few rows with weights that no cache holds run at the speed of memory? Weights read per second, beside a sum over
// as many bytes measured in the same rounds. Usage: npm run bench bandwidth [ROWSxDEPTHxCOLUMNS …]
import { compileLoop, isaOf, matmulTactics } from "../dist/codegen/index.js";
import { detectCpu } from "../dist/native/index.js";
import { BoundKernel, CpuDevice, tune } from "../dist/tune/index.js";
import { machine, median, parseArguments } from "./side-by-side.mjs";

const GOAL = 0.85;
const ROUNDS = 9;
const isa = isaOf(detectCpu(process.env).features);
const { words } = parseArguments();
const shapes = (words.length > 0 ? words : ["1x4096x16384", "1x16384x4096", "4x4096x16384", "16x4096x16384"]).map((text) => text.split("x").map(Number));
const buffer = (name, dims) => ({ name, dtype: "float32", dims });

/** Sums of the rows of a matrix as large as the weights. */
function reading(bytes) {
  const columns = 16384;
  const rows = bytes / 4 / columns;
  const [from, to] = [buffer("from", [rows, columns]), buffer("to", [rows])];
  const [row, column] = [{ name: "row", extent: rows }, { name: "column", extent: columns }];
  const at = (axis) => ({ kind: "axis", type: "i64", axis });
  const body = { kind: "load", type: "f32", buffer: from, index: [at(row), at(column)] };
  return compileLoop({ kind: "loop", name: "read", axes: [row], outputs: [{ buffer: to, value: { kind: "reduce", type: "f32", op: "sum", axes: [column], body } }] }, isa);
}

function product([m, k, n]) {
  const [a, b, c] = [buffer("a", [m, k]), buffer("b", [k, n]), buffer("c", [m, n])];
  const weights = new Uint8Array(new Float32Array(k * n).fill(0.25).buffer);
  const kernel = {
    kind: "matmul", name: "matmul", batch: [], m, n, k, output: c,
    a: { buffer: a, batchStrides: [], rowStride: k, columnStride: 1 }, b: { buffer: b, batchStrides: [], rowStride: n, columnStride: 1 },
  };
  const tactics = matmulTactics(kernel, isa, (one) => (one === b ? weights : undefined), new Map());
  return tune(`${m}x${k}x${n}`, tactics, new Map(), { device: new CpuDevice(isa.name, 1), level: 3 });
}

function nanoseconds(bound) {
  const before = process.hrtime.bigint();
  bound.run();
  return Number(process.hrtime.bigint() - before);
}

console.log(`${machine}; GB/s on one thread`);
for (const shape of shapes) {
  const bytes = 4 * shape[1] * shape[2];
  const { kernel, tactic } = product(shape);
  const [read, multiply] = [new BoundKernel(reading(bytes), new Map()), new BoundKernel(kernel, new Map())];
  for (const memory of [...read.buffers].map((one) => read.memory(one))) memory.view().fill(1);
  for (const bound of [read, multiply]) bound.run();
  const rounds = Array.from({ length: ROUNDS }, () => ({ read: bytes / nanoseconds(read), multiply: bytes / nanoseconds(multiply) }));
  const share = median(rounds.map((round) => round.multiply / round.read));
  console.log(`${shape.join("x").padEnd(16)} ${median(rounds.map((round) => round.multiply)).toFixed(1).padStart(6)}, reading ${median(rounds.map((round) => round.read)).toFixed(1).padStart(6)}: ${(100 * share).toFixed(1)} %${share < GOAL ? `, under ${100 * GOAL} %` : ""}  ${tactic}`);
  read.dispose();
  multiply.dispose();
}
