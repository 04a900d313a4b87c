/** Reads a model's configuration, from its folder or as given with a load request, and what lies beside it. */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileError, UserError } from "../base/index.ts";
import { bind } from "./bind.ts";
import type { ModelConfig } from "./config.ts";
import { isFile } from "./folders.ts";
import { MODEL_CONFIG } from "./schema.ts";
import type { ParsedFile } from "./syntax.ts";
import { parseTextFormat } from "./text-format.ts";
import { parseYaml } from "./yaml-format.ts";

const MAX_CONFIG_BYTES = 1 << 20;
const FORMATS: readonly (readonly [string, (text: string, file: string) => ParsedFile])[] = [["config.pbtxt", parseTextFormat], ["config.yaml", parseYaml], ["config.yml", parseYaml]];

/** Which of a model's configurations is read, and whether it must have one. */
export interface ConfigChoice {
  /** Of `configs/<alternative>.pbtxt`, where there is one. */
  readonly alternative?: string;
  readonly required?: boolean;
}

/** The configuration of the model in `folder`; one with only a name when it has none. @throws UserError "config-invalid" */
export function readConfig(folder: string, name: string, { alternative, required }: ConfigChoice = {}): ModelConfig {
  const other = alternative === undefined ? undefined : join(folder, "configs", `${alternative}.pbtxt`);
  if (other !== undefined && isFile(other)) return readAs(parseTextFormat, other, name);
  const found = FORMATS.filter(([file]) => isFile(join(folder, file)));
  if (found.length > 1) throw new UserError("config-invalid", `${folder}: both ${found.map(([file]) => file).join(" and ")}; keep one.`);
  if (found.length === 0 && required) throw new UserError("model-missing", `failed to open text file for read ${join(folder, "config.pbtxt")}: No such file or directory`);
  if (found.length === 0) return { name };
  const [file, parse] = found[0]!;
  return readAs(parse, join(folder, file), name);
}

function readAs(parse: (text: string, file: string) => ParsedFile, path: string, name: string): ModelConfig {
  return checked(bind(MODEL_CONFIG, parse(readText(path), path)) as unknown as Partial<ModelConfig>, name, path);
}

/** A configuration that came with a load request, as JSON (or YAML, or text format). @throws UserError "config-invalid" */
export function parseConfig(text: string, name: string): ModelConfig {
  if (text.length > MAX_CONFIG_BYTES) throw new UserError("config-invalid", `config: ${text.length} characters; at most ${MAX_CONFIG_BYTES}.`);
  return checked(bind(MODEL_CONFIG, parseYaml(text, "config")) as unknown as Partial<ModelConfig>, name, "config");
}

function checked(config: Partial<ModelConfig>, name: string, file: string): ModelConfig {
  if (config.name !== undefined && config.name !== "" && config.name !== name) throw new UserError("config-invalid", `${file}: the name is "${config.name}"; the model's folder is called "${name}". Leave the name out or use the folder's.`);
  const result = { ...config, name };
  refuseUnserved(result, file);
  const seen = new Set<string>();
  for (const tensor of [...(result.input ?? []), ...(result.output ?? [])]) {
    if (!tensor.name) throw new UserError("config-invalid", `${file}: an input or output of "${name}" has no name.`);
    for (const dim of tensor.dims ?? []) if (dim < -1 || dim === 0) throw new UserError("config-invalid", `${file}: "${tensor.name}" has a dimension of ${dim}; expected at least 1, or -1 for any size.`);
  }
  for (const { name: input } of result.input ?? []) {
    if (seen.has(input)) throw new UserError("config-invalid", `${file}: input "${input}" is listed twice.`);
    seen.add(input);
  }
  return withDims(result);
}

function withDims(config: ModelConfig): ModelConfig {
  const filled = (tensors: ModelConfig["input"]): ModelConfig["input"] => tensors?.map((tensor) => ({ ...tensor, dims: tensor.dims ?? [] }));
  return { ...config, ...(config.input ? { input: filled(config.input)! } : {}), ...(config.output ? { output: filled(config.output)! } : {}) };
}

/** What is read but not served yet is refused by name: serving it otherwise would answer wrongly. */
function refuseUnserved(config: ModelConfig, file: string): void {
  if (config.sequence_batching?.iterative_sequence) throw new UserError("config-invalid", `${file}: iterative_sequence is not served by this version; other sequence_batching is.`);
}

function readText(path: string): string {
  try {
    const { size } = statSync(path);
    if (size > MAX_CONFIG_BYTES) throw new UserError("config-invalid", `${path}: ${size} bytes; at most ${MAX_CONFIG_BYTES}.`);
    return readFileSync(path, "utf8");
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw fileError(path, cause);
  }
}

/** Class names of an output, one a line. @throws UserError "file-io" */
export function readLabels(folder: string, file: string): string[] {
  if (file.includes("..") || file.startsWith("/")) throw new UserError("config-invalid", `label_filename "${file}" leads out of the model's folder.`);
  try {
    return readFileSync(join(folder, file), "utf8").replace(/\r?\n$/, "").split(/\r?\n/);
  } catch (cause) {
    throw fileError(join(folder, file), cause);
  }
}
