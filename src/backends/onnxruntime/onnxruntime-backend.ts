/**
 * The backend `onnxruntime`: one child process per instance, since its runs hold the thread they are called on and a fault in
 * it ends its process. Tensors pass through memory that both map. A child that dies fails the batch it had and is started
 * again for the next.
 */
import { join } from "node:path";
import { availableThreads } from "../../native/index.ts";
import { isFile, type ModelDescription, parameterOf } from "../../repository/index.ts";
import type { Backend, BackendInstance, BackendModel, ModelSource } from "../contract.ts";
import { OnnxruntimeInstance } from "./instance.ts";

export class OnnxruntimeBackend implements Backend {
  readonly name = "onnxruntime";

  find({ folder, config }: ModelSource): string | undefined {
    const file = join(folder, config.default_model_filename || "model.onnx");
    return file.endsWith(".onnx") && isFile(file) ? file : undefined;
  }

  async load({ config }: ModelSource, file: string): Promise<BackendModel> {
    const instances = config.instance_group?.reduce((sum, { count }) => sum + Math.max(1, count ?? 1), 0) || 1;
    const threads = Number(parameterOf(config, "intra_op_thread_count") ?? parameterOf(config, "threads")) || Math.max(1, Math.floor(availableThreads() / instances));
    const first = new OnnxruntimeInstance(file, threads);
    try {
      return new OnnxruntimeModel(file, threads, first, await first.start());
    } catch (error) {
      first.dispose();
      throw error;
    }
  }
}

class OnnxruntimeModel implements BackendModel {
  readonly description: ModelDescription;
  readonly summary: string;
  readonly defaultInstances = 1;
  readonly #file: string;
  readonly #threads: number;
  /** Started to see that the model loads; it becomes the first instance. */
  #first: OnnxruntimeInstance | undefined;

  constructor(file: string, threads: number, first: OnnxruntimeInstance, loaded: ModelDescription & { readonly version: string }) {
    this.#file = file;
    this.#threads = threads;
    this.#first = first;
    this.description = { inputs: loaded.inputs, outputs: loaded.outputs };
    this.summary = `onnxruntime ${loaded.version}, ${threads} thread${threads === 1 ? "" : "s"}, in a process of its own`;
  }

  /** The children's memory is theirs; what is here is shared pages. */
  memoryBytes(): number {
    return 0;
  }

  admits(): boolean {
    return true;
  }

  usualShapes(): readonly (readonly number[])[] {
    return this.description.inputs.map(({ dims }) => (dims ?? []).map((dim) => (typeof dim === "number" ? dim : 1)));
  }

  async createInstance(): Promise<BackendInstance> {
    const instance = this.#first ?? new OnnxruntimeInstance(this.#file, this.#threads);
    this.#first = undefined;
    await instance.start();
    return instance;
  }

  dispose(): void {
    this.#first?.dispose();
  }
}
