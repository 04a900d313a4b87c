/**
 * How large the channels of a transformer's activations are, found without data: the float model is run on made-up
 * inputs, tokens drawn from the whole vocabulary. Outlying channels are the same whatever the text says, so that what
 * meaningless text shows holds for other text too.
 */
import { elementCount, newArray, Tensor, UnsupportedError, UserError } from "./base/index.ts";
import { calibrate } from "./calibrate.ts";
import type { BuildOptions } from "./compile.ts";
import type { Sample } from "./data/index.ts";
import { type Dim, type Graph, usersOf, type Value } from "./ir/index.ts";
import { MappedFile } from "./native/index.ts";
import { importModel } from "./onnx/index.ts";

const SAMPLES = 16;
/** Taken for a size that the model leaves open and no profile says; the first axis counts samples. */
const OPEN_SIZE = 32;

/**
 * Largest absolute value of each input channel, by layer. Empty for models that are not fed tokens, or do not run on
 * such inputs: then only their parameters say how large channels are.
 */
export async function probeChannels(model: string | Uint8Array, options: Pick<BuildOptions, "profiles" | "threads" | "signal">): Promise<ReadonlyMap<string, readonly number[]>> {
  const inputs = inputsOf(model, options);
  if (!inputs.some(({ vocabulary }) => vocabulary !== undefined)) return new Map();
  const { profiles, threads, signal } = options;
  try {
    const { layers } = await calibrate(model, { data: madeUp(inputs), ...(profiles ? { profiles } : {}), ...(threads === undefined ? {} : { threads }), ...(signal ? { signal } : {}) });
    return new Map(Object.entries(layers).map(([name, { channels: { least, largest } }]) => [name, largest.map((value, i) => rounded(Math.max(value, -least[i]!)))]));
  } catch (error) {
    // What made-up inputs cannot show is no reason not to build; what else is wrong, the build says itself.
    if ((error instanceof UserError && error.code !== "aborted") || error instanceof UnsupportedError) return new Map();
    throw error;
  }
}

/** So few digits that they are the same on every processor. */
const rounded = (value: number): number => Number(value.toPrecision(2));

interface MadeUpInput {
  readonly name: string;
  readonly type: Exclude<Tensor["type"], "string">;
  readonly dims: readonly number[];
  /** Rows of the table that the input chooses from. */
  readonly vocabulary: number | undefined;
}

function inputsOf(model: string | Uint8Array, { profiles }: Pick<BuildOptions, "profiles">): MadeUpInput[] {
  const imported = importModel(model, { mapFile: (path) => MappedFile.open(path) });
  try {
    const { graph } = imported;
    return graph.inputs.flatMap((input): MadeUpInput[] => {
      const { name, dtype, dims } = input;
      if (dtype === undefined || dtype === "string" || !dims) return [];
      return [{ name, type: dtype, dims: profiles?.[0]?.[name]?.opt ?? dims.map(openSize), vocabulary: vocabularyOf(graph, input) }];
    });
  } finally {
    imported.close();
  }
}

const openSize = (dim: Dim, axis: number): number => (typeof dim === "number" ? dim : axis === 0 ? 1 : OPEN_SIZE);

/** Operators that hand tokens on. */
const HANDING = new Set(["Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"]);

function vocabularyOf(graph: Graph, input: Value): number | undefined {
  const users = usersOf(graph);
  const sizes = (value: Value): number[] => (users.get(value) ?? []).flatMap((node) => {
    if (node.op === "Gather" && node.inputs[1] === value && node.inputs[0]?.constant && (node.attributes["axis"] ?? 0) === 0) return [Number(node.inputs[0].dims![0])];
    return HANDING.has(node.op) && node.inputs[0] === value && node.outputs[0] ? sizes(node.outputs[0]) : [];
  });
  const found = input.dtype === "int32" || input.dtype === "int64" ? sizes(input) : [];
  return found.length > 0 ? Math.min(...found) : undefined;
}

async function* madeUp(inputs: readonly MadeUpInput[]): AsyncGenerator<Sample> {
  const random = randomNumbers();
  for (let i = 0; i < SAMPLES; i++) yield { id: `made up ${i}`, columns: {}, feeds: Object.fromEntries(inputs.map((input) => [input.name, tensorOf(input, random)])) };
}

/** Tokens where there is a vocabulary, ones where integers mean something else, such as masks; other numbers about zero. */
function tensorOf({ type, dims, vocabulary }: MadeUpInput, random: () => number): Tensor {
  const data = newArray(type, elementCount(dims));
  const isReal = data instanceof Float32Array || data instanceof Float64Array;
  for (let i = 0; i < data.length; i++) {
    const value = vocabulary !== undefined ? Math.floor(random() * vocabulary) : isReal ? 2 * random() - 1 : 1;
    data[i] = data instanceof BigInt64Array || data instanceof BigUint64Array ? BigInt(value) : value;
  }
  return new Tensor(type, data, dims);
}

/** From 0 to 1, the same each time: engines depend on the model alone. Constants of Numerical Recipes, 7.1. */
function randomNumbers(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / 2 ** 24;
  };
}
