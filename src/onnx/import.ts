/**
 * ONNX bytes to the canonical graph: read the messages, build the graph, report all that is wrong at once.
 * Weights are windows into the file (or files beside it) for as long as the imported model is not closed.
 */
import { UnsupportedError, UserError } from "../base/index.ts";
import type { Graph } from "../ir/index.ts";
import { ExternalData } from "./external-data.ts";
import { type MapFile, type MappedFile, MAX_WINDOW_BYTES, readFileWindows } from "./file-source.ts";
import { GraphBuilder } from "./graph-builder.ts";
import { Problems } from "./problems.ts";
import { type ModelProto, readModel } from "./proto.ts";
import { onnxReader } from "./protobuf.ts";
import { refuseForeignFormat } from "./sniff.ts";
import { DimNames } from "./types.ts";

export interface ImportOptions {
  /** How files are brought in; plain reads when absent. */
  readonly mapFile?: MapFile;
  /** For a model given as bytes: the path it stands for, in errors and for its external data. */
  readonly path?: string;
}

export interface ModelMetadata {
  readonly irVersion: number;
  /** Version by domain, ai.onnx as "". */
  readonly opsets: Readonly<Record<string, number>>;
  readonly producer: string;
  readonly domain: string;
  readonly version: number | bigint;
  readonly docString: string;
  readonly metadataProps: Readonly<Record<string, string>>;
  /** Inputs with default values in the file: they became constants. */
  readonly defaultedInputs: readonly string[];
}

export interface ImportedModel {
  readonly graph: Graph;
  readonly metadata: ModelMetadata;
  /** Lets go of the files; constants of the graph are invalid afterwards. */
  close(): void;
}

/** The opsets of ai.onnx that are read. Below 7 and above 25 as far as their operators' forms are known. */
const OPSETS = { min: 1, max: 28 } as const;

/**
 * @throws UserError "not-onnx", "model-truncated", "model-invalid", "external-data", "file-io"
 * @throws UnsupportedError "unknown-operator", "unsupported-opset"
 */
export function importModel(model: string | Uint8Array, options: ImportOptions = {}): ImportedModel {
  const mapFile = options.mapFile ?? readFileWindows;
  const path = typeof model === "string" ? model : options.path;
  const source = path ?? "model";
  const file = typeof model === "string" ? mapFile(model) : undefined;
  const external = new ExternalData(path, mapFile);
  const close = (): void => {
    external.close();
    file?.close();
  };
  try {
    const bytes = plainBytes(file ? wholeFile(file, source) : (model as Uint8Array));
    return { ...buildModel(readProto(bytes, source), source, external), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** The same memory as a Uint8Array proper: a Buffer's `slice` would not copy where copies are meant. */
function plainBytes(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function wholeFile(file: MappedFile, source: string): Uint8Array {
  if (file.size > MAX_WINDOW_BYTES) throw new UserError("limit-exceeded", `${source}: ${file.size} bytes in one file; at most ${MAX_WINDOW_BYTES} are read. Export the weights as external data.`);
  return file.size === 0 ? new Uint8Array(0) : file.bytes(0, file.size);
}

function readProto(bytes: Uint8Array, source: string): ModelProto {
  refuseForeignFormat(bytes, source);
  return readModel(onnxReader(bytes, source));
}

function buildModel(model: ModelProto, source: string, external: ExternalData): Omit<ImportedModel, "close"> {
  if (!model.graph) throw new UserError("model-invalid", `${source}: the file has no graph. It is cut short, or is not an ONNX model.`);
  const opset = model.opsets.get("");
  if (opset !== undefined && (opset < OPSETS.min || opset > OPSETS.max)) {
    throw new UnsupportedError("unsupported-opset", `${source}: the model uses opset ${opset} of ai.onnx; 7 to 25 are supported. Export or convert it to one of those.`);
  }
  const problems = new Problems(source);
  const dimNames = new DimNames(model.graph.inputs.map((input) => input.type));
  const builder = new GraphBuilder({ problems, external, functions: model.functions, dimNames });
  const graph = builder.build(model.graph, model.opsets);
  problems.throwIfAny();
  return { graph, metadata: metadataOf(model, builder.defaultedInputs) };
}

function metadataOf(model: ModelProto, defaultedInputs: readonly string[]): ModelMetadata {
  return {
    irVersion: model.irVersion,
    opsets: Object.fromEntries(model.opsets),
    producer: [model.producerName, model.producerVersion].filter(Boolean).join(" "),
    domain: model.domain,
    version: model.modelVersion,
    docString: model.docString,
    metadataProps: Object.fromEntries(model.metadataProps),
    defaultedInputs,
  };
}
