import assert from "node:assert";
import { test } from "node:test";
import { Tensor, UserError } from "../base/index.ts";
import type { HostValue, ReferenceAttributes } from "./contract.ts";
import { call, shown, tensor } from "./testing.ts";

const [nan, inf] = [Number.NaN, Number.POSITIVE_INFINITY];
const f32 = (values: readonly number[], dims?: readonly number[]): HostValue => tensor("float32", values, dims);
const i64 = (values: readonly (number | bigint)[], dims?: readonly number[]): HostValue => tensor("int64", values, dims);
const i32 = (values: readonly number[], dims?: readonly number[]): HostValue => tensor("int32", values, dims);
const strings = (...values: string[]): HostValue => new Tensor("string", values);

/** Operator, inputs, attributes, expected outputs. */
type Row = readonly [string, readonly HostValue[], ReferenceAttributes, ...string[]];

function check(family: string, rows: readonly Row[]): void {
  for (const [op, inputs, attributes, ...expected] of rows) {
    test(`${family}: ${op} ${inputs.map(shown).join(", ")} ${JSON.stringify(attributes)}`, () => {
      assert.deepStrictEqual(call(op, inputs, attributes, expected.length).map(shown), expected);
    });
  }
}

check("elementwise", [
  ["Round", [f32([0.5, 1.5, 2.5, -0.5, nan])], {}, "float32[5] 0 2 2 -0 NaN"],
  ["Relu", [f32([-1, 2, nan])], {}, "float32[3] 0 2 NaN"],
  ["Abs", [i64([-(2n ** 53n) - 1n])], {}, "int64[1] 9007199254740993"],
  ["Neg", [i64([-(2n ** 63n)])], {}, "int64[1] -9223372036854775808"],
  ["Sign", [f32([-3, 0, nan], [3])], {}, "float32[3] -1 0 NaN"],
  ["Clip", [f32([-2, 0, 5, nan]), f32([-1], []), f32([1], [])], {}, "float32[4] -1 0 1 NaN"],
  ["Clip", [i64([2n ** 60n + 1n]), undefined, i64([2n ** 60n], [])], {}, "int64[1] 1152921504606846976"],
  ["IsInf", [f32([inf, -inf, nan])], { detect_negative: 0 }, "bool[3] 1 0 0"],
  ["BitwiseNot", [tensor("uint8", [0, 255])], {}, "uint8[2] 255 0"],
  ["Exp", [f32([], [0])], {}, "float32[0] "],
  ["Sqrt", [f32([4], [])], {}, "float32[] 2"],
  ["Sigmoid", [f32([-1000, 0, 1000])], {}, "float32[3] 0 0.5 1"],
]);

check("broadcast", [
  ["Add", [f32([1, 2, 3, 4], [2, 2]), f32([10, 20])], {}, "float32[2,2] 11 22 13 24"],
  ["Add", [f32([1, 2], [2, 1]), f32([10, 20], [1, 2])], {}, "float32[2,2] 11 21 12 22"],
  ["Add", [f32([], [0, 2]), f32([1], [])], {}, "float32[0,2] "],
  ["Add", [i64([2n ** 63n - 1n]), i64([1])], {}, "int64[1] -9223372036854775808"],
  ["Mul", [i32([65537]), i32([65537])], {}, "int32[1] 131073"],
  ["Add", [tensor("uint8", [250]), tensor("uint8", [10])], {}, "uint8[1] 4"],
  ["Div", [i32([-7, 7, 7]), i32([2, -2, 0])], {}, "int32[3] -3 -3 0"],
  ["Mod", [i32([-7, 7]), i32([3, -3])], {}, "int32[2] 2 -2"],
  ["Mod", [i64([-7, 7]), i64([3, -3])], { fmod: 1 }, "int64[2] -1 1"],
  ["Pow", [i64([3]), i64([39])], {}, "int64[1] 4052555153018976267"],
  ["Pow", [i32([65537]), i32([2])], {}, "int32[1] 131073"],
  ["Pow", [f32([2]), i32([-1])], {}, "float32[1] 0.5"],
  ["BitShift", [tensor("uint64", [1n]), tensor("uint64", [63n])], { direction: "LEFT" }, "uint64[1] 9223372036854775808"],
  ["BitShift", [tensor("uint32", [2 ** 31]), tensor("uint32", [31])], { direction: "RIGHT" }, "uint32[1] 1"],
  ["Equal", [strings("a", "b"), strings("a", "c")], {}, "bool[2] 1 0"],
  ["Equal", [f32([nan, 0]), f32([nan, -0])], {}, "bool[2] 0 1"],
  ["Less", [i64([2n ** 53n]), i64([2n ** 53n + 1n])], {}, "bool[1] 1"],
  ["Max", [f32([1, nan]), f32([2, 0]), f32([3], [])], {}, "float32[2] 3 NaN"],
  ["Mean", [f32([1]), f32([2])], {}, "float32[1] 1.5"],
  ["Where", [tensor("bool", [1, 0]), strings("x"), strings("y", "z")], {}, "string[2] x z"],
  ["Where", [tensor("bool", [0, 1]), tensor("int4", [-1, -2]), tensor("int4", [3, 4])], {}, "int4[2] 3 -2"],
]);

test("broadcast: shapes that do not fit are refused", () => {
  assert.throws(() => call("Add", [f32([1, 2]), f32([1, 2, 3])]), UserError);
});

check("moving", [
  ["Reshape", [f32([1, 2, 3, 4]), i64([-1, 2])], {}, "float32[2,2] 1 2 3 4"],
  ["Reshape", [f32([], [0, 3]), i64([0, 3])], {}, "float32[0,3] "],
  ["Reshape", [f32([], [0, 3]), i64([3, 0])], { allowzero: 1 }, "float32[3,0] "],
  ["Transpose", [f32([1, 2, 3, 4, 5, 6], [2, 3])], {}, "float32[3,2] 1 4 2 5 3 6"],
  ["Concat", [strings("a"), strings("b", "c")], { axis: 0 }, "string[3] a b c"],
  ["Concat", [f32([1, 2], [2, 1]), f32([3, 4], [2, 1])], { axis: -1 }, "float32[2,2] 1 3 2 4"],
  ["Slice", [i32([0, 1, 2, 3, 4]), i64([-1]), i64([-(2n ** 63n)]), i64([0]), i64([-2])], {}, "int32[3] 4 2 0"],
  ["Slice", [i32([0, 1, 2]), i64([5]), i64([9])], {}, "int32[0] "],
  ["Split", [i32([0, 1, 2, 3, 4])], { num_outputs: 3 }, "int32[2] 0 1", "int32[2] 2 3", "int32[1] 4"],
  ["Pad", [i32([1, 2, 3]), i64([2, 2])], { mode: "reflect" }, "int32[7] 3 2 1 2 3 2 1"],
  ["Pad", [i32([1, 2, 3]), i64([-1, 1]), i32([9], [])], {}, "int32[3] 2 3 9"],
  ["Pad", [i32([1, 2, 3]), i64([2, 1])], { mode: "wrap" }, "int32[6] 2 3 1 2 3 1"],
  ["Tile", [i32([1, 2], [1, 2]), i64([2, 2])], {}, "int32[2,4] 1 2 1 2 1 2 1 2"],
  ["Expand", [i32([1, 2], [2, 1]), i64([1, 2])], {}, "int32[2,2] 1 1 2 2"],
  ["Squeeze", [i32([1], [1, 1])], {}, "int32[] 1"],
  ["Unsqueeze", [i32([1], []), i64([0, -1])], {}, "int32[1,1] 1"],
  ["Trilu", [i32([1, 2, 3, 4], [2, 2])], { upper: 0 }, "int32[2,2] 1 0 3 4"],
  ["Shape", [f32([], [2, 0, 3])], { start: -2 }, "int64[2] 0 3"],
  ["Compress", [i32([1, 2, 3]), tensor("bool", [0, 1])], {}, "int32[1] 2"],
]);

check("indices", [
  ["Gather", [strings("a", "b"), i64([1, -2])], {}, "string[2] b a"],
  ["GatherElements", [i32([1, 2, 3, 4], [2, 2]), i64([0, 0, 1, 0], [2, 2])], { axis: 1 }, "int32[2,2] 1 1 4 3"],
  ["GatherND", [i32([1, 2, 3, 4], [2, 2]), i64([0, 1], [2, 1])], { batch_dims: 1 }, "int32[2] 1 4"],
  ["ScatterElements", [i32([0, 0, 0]), i64([1, 1]), i32([2, 3])], { reduction: "add" }, "int32[3] 0 5 0"],
  ["ScatterND", [i64([1, 2]), i64([-1], [1, 1]), i64([2n ** 62n])], { reduction: "max" }, "int64[2] 1 4611686018427387904"],
]);

test("indices: out of bounds is the user's error", () => {
  assert.throws(() => call("Gather", [f32([1, 2]), i64([2])]), (error) => error instanceof UserError && error.code === "input-invalid");
});

check("reductions", [
  ["ReduceSum", [f32([1, 2, 3, 4], [2, 2]), i64([1])], { keepdims: 0 }, "float32[2] 3 7"],
  ["ReduceSum", [f32([1, 2])], { noop_with_empty_axes: 1 }, "float32[2] 1 2"],
  ["ReduceMax", [i32([], [0, 2]), i64([0])], { keepdims: 0 }, "int32[2] -2147483648 -2147483648"],
  ["ReduceMin", [f32([1, nan])], { keepdims: 0 }, "float32[] NaN"],
  ["ReduceProd", [i32([65537, 65537])], { keepdims: 0 }, "int32[] 131073"],
  ["ReduceSum", [i64([2n ** 53n, 1])], { keepdims: 0 }, "int64[] 9007199254740993"],
  ["ReduceLogSumExp", [f32([1000, 1000])], { keepdims: 0 }, `float32[] ${Math.fround(1000 + Math.LN2)}`],
  ["ReduceLogSumExp", [f32([-inf])], { keepdims: 0 }, "float32[] -Infinity"],
  ["ArgMax", [f32([1, 3, 3])], { keepdims: 0 }, "int64[] 1"],
  ["ArgMax", [f32([1, 3, 3])], { keepdims: 0, select_last_index: 1 }, "int64[] 2"],
  ["CumSum", [i32([1, 2, 3]), i64([0], [])], { exclusive: 1, reverse: 1 }, "int32[3] 5 3 0"],
  ["Softmax", [f32([1000, 1000], [1, 2])], {}, "float32[1,2] 0.5 0.5"],
  ["Hardmax", [f32([1, 3, 3])], {}, "float32[3] 0 1 0"],
]);

check("products", [
  ["MatMul", [f32([1, 2]), f32([3, 4])], {}, "float32[] 11"],
  ["MatMul", [f32([1, 2, 3, 4], [2, 2]), f32([1, 0], [2])], {}, "float32[2] 1 3"],
  ["MatMul", [f32([], [2, 0]), f32([], [0, 1])], {}, "float32[2,1] 0 0"],
  ["MatMul", [i64([2n ** 53n + 1n], [1, 1]), i64([1], [1, 1])], {}, "int64[1,1] 9007199254740993"],
  ["MatMul", [i32([65537], [1, 1]), i32([65537], [1, 1])], {}, "int32[1,1] 131073"],
  ["Gemm", [f32([1, 2], [2, 1]), f32([3, 4], [2, 1]), f32([1])], { transA: 1, alpha: 2 }, "float32[1,1] 23"],
  ["Einsum", [f32([1, 2, 3, 4], [2, 2])], { equation: "ii" }, "float32[] 5"],
  ["Einsum", [f32([1, 2, 3, 4], [2, 2]), f32([1, 1])], { equation: "...i,i->..." }, "float32[2] 3 7"],
  ["MatMulInteger", [tensor("uint8", [11, 7], [1, 2]), tensor("uint8", [1, 2], [2, 1]), tensor("uint8", [12], [])], {}, "int32[1,1] -11"],
]);

check("types", [
  ["Cast", [f32([1.9, -1.9])], { to: 7 }, "int64[2] 1 -1"],
  ["Cast", [f32([0.1, nan, -inf])], { to: 8 }, "string[3] 0.1 NaN -INF"],
  ["Cast", [strings("1e3", "-inf", "NaN")], { to: 1 }, "float32[3] 1000 -Infinity NaN"],
  ["Cast", [strings("9007199254740993")], { to: 7 }, "int64[1] 9007199254740993"],
  ["Cast", [f32([0, -0.5, nan])], { to: 9 }, "bool[3] 0 1 1"],
  ["Cast", [i64([2n ** 53n + 1n])], { to: 13 }, "uint64[1] 9007199254740993"],
  ["Cast", [f32([65520, 1e-8, 2049])], { to: 10 }, "float16[3] Infinity 0 2048"],
  ["Cast", [f32([1e6, inf, nan])], { to: 17 }, "float8e4m3fn[3] 448 448 NaN"],
  ["Cast", [f32([1e6, -inf])], { to: 17, saturate: 0 }, "float8e4m3fn[2] NaN NaN"],
  ["Cast", [f32([1e6, 2 ** -17, -0])], { to: 19 }, "float8e5m2[3] 57344 0 -0"],
  ["Cast", [f32([5, -0.25, 0.75])], { to: 23 }, "float4e2m1[3] 4 -0 1"],
  ["Cast", [f32([3, 7, -8])], { to: 22 }, "int4[3] 3 7 -8"],
  ["BitCast", [f32([1])], { to: 6 }, "int32[1] 1065353216"],
  ["QuantizeLinear", [f32([1, 3, -1000]), f32([2], []), tensor("uint8", [128], [])], {}, "uint8[3] 128 130 0"],
  ["DequantizeLinear", [tensor("int4", [1, 2, 3, 4]), f32([1, 10])], { axis: 0, block_size: 2 }, "float32[4] 1 2 30 40"],
  ["DynamicQuantizeLinear", [f32([0, 0])], {}, "uint8[2] 0 0", "float32[] 0", "uint8[] 0"],
]);

check("making", [
  ["Range", [i64([5], []), i64([0], []), i64([-2], [])], {}, "int64[3] 5 3 1"],
  ["Range", [f32([1], []), f32([0], []), f32([1], [])], {}, "float32[0] "],
  ["ConstantOfShape", [i64([])], {}, "float32[] 0"],
  ["OneHot", [i64([-1, 5]), i64([2], []), i32([0, 1])], {}, "int32[2,2] 0 1 0 0"],
  ["NonZero", [i32([0, 1, 2, 0], [2, 2])], {}, "int64[2,2] 0 1 1 0"],
  ["NonZero", [f32([3], [])], {}, "int64[0,1] "],
  ["HannWindow", [i64([4], [])], {}, "float32[4] 0 0.5 1 0.5"],
  ["Dropout", [f32([1, 2])], {}, "float32[2] 1 2", "bool[2] 1 1"],
  ["TopK", [f32([1, nan, 3, 3]), i64([3])], {}, "float32[3] NaN 3 3", "int64[3] 1 2 3"],
  ["Unique", [i32([2, 1, 2])], {}, "int32[2] 1 2", "int64[2] 1 0", "int64[3] 1 0 1", "int64[2] 1 2"],
  ["Unique", [f32([], [0])], {}, "float32[0] ", "int64[0] ", "int64[0] ", "int64[0] "],
  ["Det", [f32([0, 1, 1, 0], [2, 2])], {}, "float32[] -1"],
]);

check("text and sequences", [
  ["StringSplit", [strings("a  b", "")], {}, "string[2,2] a b  ", "int64[2] 2 0"],
  ["StringSplit", [strings("a,b,c")], { delimiter: ",", maxsplit: 1 }, "string[1,2] a b,c", "int64[1] 2"],
  ["RegexFullMatch", [strings("ab", "abc")], { pattern: "a|ab" }, "bool[2] 1 0"],
  ["StringNormalizer", [strings("The")], { stopwords: ["the"] }, "string[1] "],
  ["SequenceAt", [{ sequence: [i32([1]), i32([2])] }, i64([-1], [])], {}, "int32[1] 2"],
  ["SequenceInsert", [{ sequence: [] }, i32([1])], {}, "(int32[1] 1)"],
  ["SplitToSequence", [i32([1, 2, 3]), i64([2], [])], {}, "(int32[2] 1 2, int32[1] 3)"],
  ["ConcatFromSequence", [{ sequence: [i32([1]), i32([2])] }], { axis: 0, new_axis: 1 }, "int32[2,1] 1 2"],
  ["OptionalHasElement", [undefined], {}, "bool[] 0"],
]);

test("signals: the inverse transform gives the signal back", () => {
  const x = f32([1, 2, 3, 4, 5, 6], [1, 6, 1]);
  const [spectrum] = call("DFT", [x], { onesided: 1 });
  const [back] = call("DFT", [spectrum, i64([6], [])], { onesided: 1, inverse: 1 });
  assert.ok(back instanceof Tensor);
  assert.deepStrictEqual(Array.from(back.data as Float32Array, (value) => Math.round(value * 1e4) / 1e4), [1, 2, 3, 4, 5, 6]);
});
