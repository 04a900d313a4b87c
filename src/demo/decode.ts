/**
 * From the recogniser's probabilities to text: the likeliest class of each column, repetitions and blanks left out.
 * Source: Graves et al., "Connectionist Temporal Classification" (2006), best path decoding.
 */
import { readFileSync } from "node:fs";
import { assert, type Tensor } from "../base/index.ts";

const BLANK = 0;

export interface Reading {
  readonly text: string;
  /** Mean probability of the characters that were kept. */
  readonly confidence: number;
}

/** Class names: the blank, the dictionary's lines, and the space, which the dictionary leaves out. */
export function readDictionary(path: string): string[] {
  return ["", ...readFileSync(path, "utf8").replace(/\r?\n$/, "").split(/\r?\n/), " "];
}

/** @param probabilities float32 [1, columns, classes] */
export function decode(probabilities: Tensor, dictionary: readonly string[]): Reading {
  const [, columns = 0, classes = 0] = probabilities.dims;
  assert(classes === dictionary.length, `${classes} classes and ${dictionary.length} dictionary entries`);
  const values = probabilities.data as Float32Array;
  let text = "";
  let sum = 0;
  let kept = 0;
  let before = BLANK;
  for (let column = 0; column < columns; column++) {
    const row = values.subarray(column * classes, (column + 1) * classes);
    const best = likeliest(row);
    if (best !== BLANK && best !== before) {
      text += dictionary[best]!;
      sum += row[best]!;
      kept++;
    }
    before = best;
  }
  return { text, confidence: kept === 0 ? 0 : sum / kept };
}

function likeliest(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}
