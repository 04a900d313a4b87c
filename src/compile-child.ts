/**
 * The process that compiles a model for a server: one request as JSON on standard input, one answer as JSON on standard
 * output. It runs beside the server at low priority and writes engines into the server's cache by content: the same
 * model, options and processor give the same file, which is made once.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SinterError } from "./base/index.ts";
import { build } from "./compile.ts";
import type { Graph, Value } from "./ir/index.ts";
import { detectCpu, MappedFile, openCudaCompiler, openGpu } from "./native/index.ts";
import { importModel } from "./onnx/index.ts";
import { batchSizeOf, type CompileAnswer, type CompileRequest, type ModelDescription } from "./repository/index.ts";
import { DEFAULT_RANGES, type Profile, type SymbolRange } from "./schedule/index.ts";
import { VERSION } from "./version.ts";

interface Described {
  readonly description: ModelDescription;
  readonly graph: readonly { readonly name: string; readonly dims: Value["dims"] }[];
  /** SHA-256 over the model and what tells its files of weights. */
  readonly digest: string;
  readonly hasExternalData: boolean;
}

function describeModel(path: string): Described {
  const files: string[] = [];
  const imported = importModel(path, { mapFile: (file) => {
    files.push(file);
    return MappedFile.open(file);
  } });
  try {
    const { graph } = imported;
    const external = files.slice(1).map((file) => [file, statSync(file).size, statSync(file).mtimeMs]);
    using model = MappedFile.open(path);
    return {
      description: { inputs: describe(graph.inputs), outputs: describe(graph.outputs) },
      graph: graph.inputs.map(({ name, dims }) => ({ name, dims })),
      hasExternalData: external.length > 0,
      digest: createHash("sha256").update(model.bytes()).update(JSON.stringify(external)).digest("hex"),
    };
  } finally {
    imported.close();
  }
}

function describe(values: Graph["inputs"]): ModelDescription["inputs"] {
  return values.map(({ name, dtype, dims }) => ({ name, dtype: dtype!, dims: dims ? dims.map((dim) => (typeof dim === "number" ? dim : dim.key)) : null }));
}

/** Explicit shapes first, then the batch, then the documented defaults; one range per dimension of the model. */
function profileOf(request: CompileRequest, { graph, description }: Described): Profile {
  const maxBatch = batchSizeOf(request.config, description, request.defaultMaxBatch);
  const preferred = request.config.dynamic_batching?.preferred_batch_size ?? [];
  const batch: SymbolRange = { min: 1, opt: Math.min(maxBatch, Math.max(...preferred, Math.min(8, maxBatch))), max: maxBatch };
  const ranges = new Map<string, SymbolRange>();
  const visit = (use: (axis: number, rank: number, input: string) => SymbolRange | undefined): void => {
    for (const { name, dims } of graph) {
      for (const [axis, dim] of (dims ?? []).entries()) {
        if (typeof dim === "number" || ranges.has(dim.key)) continue;
        const range = use(axis, dims!.length, name);
        if (range) ranges.set(dim.key, range);
      }
    }
  };
  visit((axis, _rank, input) => explicit(request.profiles[input], axis));
  if (maxBatch > 0) visit((axis) => (axis === 0 ? batch : undefined));
  visit((axis, rank) => (axis === 0 ? DEFAULT_RANGES.batch : rank === 4 && axis >= 2 ? DEFAULT_RANGES.image : DEFAULT_RANGES.sequence));
  for (const { name, dims } of graph) {
    for (const [axis, dim] of (dims ?? []).entries()) {
      if (typeof dim === "number") continue;
      for (const shape of request.cover?.[name] ?? []) ranges.set(dim.key, reaching(ranges.get(dim.key)!, shape[axis]!));
    }
  }
  return Object.fromEntries(graph.filter(({ dims }) => dims).map(({ name, dims }) => {
    const shape = (end: keyof SymbolRange): number[] => dims!.map((dim) => (typeof dim === "number" ? dim : ranges.get(dim.key)![end]));
    return [name, { min: shape("min"), opt: shape("opt"), max: shape("max") }];
  }));
}

/** A range that has this size, too, and more above it: another that is a little larger will come. */
function reaching({ min, opt, max }: SymbolRange, size: number): SymbolRange {
  return { min: Math.min(min, size), opt, max: size > max ? 2 ** Math.ceil(Math.log2(size)) : max };
}

function explicit(shapes: readonly (readonly number[])[] | undefined, axis: number): SymbolRange | undefined {
  const [min, opt, max] = (shapes ?? []).map((shape) => shape[axis]);
  return min === undefined ? undefined : { min, opt: opt ?? min, max: max ?? opt ?? min };
}

async function serve(request: CompileRequest): Promise<CompileAnswer> {
  const described = describeModel(request.model);
  const profile = profileOf(request, described);
  const env = request.gpu === undefined ? process.env : { ...process.env, SINTER_GPU: String(request.gpu) };
  const device = request.gpu === undefined ? detectCpu(env).id : [openGpu(env).description, openCudaCompiler(env).identity];
  const pathFor = (level: number): string => {
    const key = JSON.stringify([VERSION, device, described.digest, profile, level, request.threads, request.precision ?? "fp32"]);
    return join(request.cache, `${createHash("sha256").update(key).digest("hex").slice(0, 40)}.engine`);
  };
  const answer = (level: number, builtMs: number): CompileAnswer => {
    const { referenceSteps } = JSON.parse(readFileSync(`${pathFor(level)}.json`, "utf8")) as { referenceSteps: number };
    return { engine: pathFor(level), description: described.description, level, builtMs, referenceSteps, hasExternalData: described.hasExternalData };
  };
  const kept = request.levels.find((level) => existsSync(`${pathFor(level)}.json`) && existsSync(pathFor(level)));
  if (kept !== undefined) return answer(kept, 0);
  const level = request.levels.at(-1)!;
  const { report, elapsedMs } = await build(request.model, {
    output: pathFor(level), level, threads: request.threads, profiles: [profile], timingCache: join(request.cache, "timings.json"), env,
    ...(request.gpu === undefined ? {} : { target: "cuda" }), ...(request.precision === undefined ? {} : { precision: request.precision }),
  });
  const note = `${pathFor(level)}.json`;
  writeFileSync(`${note}.${process.pid}`, JSON.stringify({ model: request.model, referenceSteps: report.referenceSteps.length }));
  renameSync(`${note}.${process.pid}`, note);
  return answer(level, elapsedMs);
}

try {
  const answer = await serve(JSON.parse(readFileSync(0, "utf8")) as CompileRequest);
  process.stdout.write(JSON.stringify(answer));
} catch (error) {
  const known = error instanceof SinterError ? { code: error.code, message: error.message } : { code: "backend-failed", message: String(error instanceof Error ? error.stack : error) };
  process.stdout.write(JSON.stringify({ error: known }));
  process.exitCode = 1;
}
