/** NonMaxSuppression: boxes kept greedily by score. Source: ONNX NonMaxSuppression-11. */
import type { ReferenceOperator, ReferenceTable } from "./contract.ts";
import { fromNumbers, intAttribute, optionalTensor, tensorInput, toNumbers } from "./arguments.ts";

/** Corners with the smaller first, whatever the box's form. */
function cornersOf(boxes: Float64Array, at: number, centred: boolean): readonly [number, number, number, number] {
  const [a, b, c, d] = [boxes[at]!, boxes[at + 1]!, boxes[at + 2]!, boxes[at + 3]!];
  if (centred) return [b - d / 2, a - c / 2, b + d / 2, a + c / 2];
  return [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
}

function overlap(p: readonly [number, number, number, number], q: readonly [number, number, number, number]): number {
  const height = Math.min(p[2], q[2]) - Math.max(p[0], q[0]);
  const width = Math.min(p[3], q[3]) - Math.max(p[1], q[1]);
  if (height <= 0 || width <= 0) return 0;
  const area = (r: typeof p): number => (r[2] - r[0]) * (r[3] - r[1]);
  const both = height * width;
  return both / (area(p) + area(q) - both);
}

/** boxes [batch, n, 4], scores [batch, classes, n]; rows of (batch, class, box). */
const nonMaxSuppression: ReferenceOperator = (inputs, attributes) => {
  const boxesTensor = tensorInput(inputs, 0);
  const scoresTensor = tensorInput(inputs, 1);
  const boxes = toNumbers(boxesTensor);
  const scores = toNumbers(scoresTensor);
  const scalar = (index: number, absent: number): number => {
    const tensor = optionalTensor(inputs, index);
    return tensor && tensor.size > 0 ? toNumbers(tensor)[0]! : absent;
  };
  const most = scalar(2, 0);
  const limit = scalar(3, 0);
  const lowest = scalar(4, Number.NEGATIVE_INFINITY);
  const centred = intAttribute(attributes, "center_point_box", 0) === 1;
  const [batch, classes, count] = scoresTensor.dims as readonly [number, number, number];
  const rows: number[] = [];
  for (let b = 0; b < batch; b++) {
    const corners = Array.from({ length: count }, (_, n) => cornersOf(boxes, (b * count + n) * 4, centred));
    for (let c = 0; c < classes; c++) {
      const score = (n: number): number => scores[(b * classes + c) * count + n]!;
      const order = corners.map((_, n) => n).filter((n) => score(n) > lowest).sort((p, q) => score(q) - score(p) || p - q);
      const kept: number[] = [];
      for (const n of order) {
        if (kept.length >= most) break;
        if (kept.every((other) => overlap(corners[n]!, corners[other]!) <= limit)) kept.push(n);
      }
      for (const n of kept) rows.push(b, c, n);
    }
  }
  return [fromNumbers("int64", Float64Array.from(rows), [rows.length / 3, 3])];
};

export const detectionOperators: ReferenceTable = { NonMaxSuppression: nonMaxSuppression };
