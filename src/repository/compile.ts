/** What a server asks of the process that compiles models for it, and what it hears. */
import type { Precision } from "../base/index.ts";
import type { ModelDescription } from "./complete.ts";
import type { ModelConfig } from "./config.ts";

export interface CompileRequest {
  /** The ONNX file. */
  readonly model: string;
  readonly config: ModelConfig;
  readonly defaultMaxBatch: number;
  /** The folder engines are kept in. */
  readonly cache: string;
  /** Levels of tuning that will do, the best first; the last is made when none is there. */
  readonly levels: readonly (0 | 1 | 2 | 3 | 4 | 5)[];
  readonly threads: number;
  /** By the driver's number, the GPU to compile for; without, this processor. */
  readonly gpu?: number;
  readonly precision?: Precision;
  /** Smallest, usual and largest shape by input. */
  readonly profiles: Readonly<Record<string, readonly (readonly number[])[]>>;
  /** Shapes by input that the engine must admit beside those. */
  readonly cover?: Readonly<Record<string, readonly (readonly number[])[]>>;
}

export interface CompileAnswer {
  readonly engine: string;
  readonly description: ModelDescription;
  readonly level: number;
  /** 0 when the engine was there. */
  readonly builtMs: number;
  readonly referenceSteps: number;
  /** Whether some of the model's weights lie in files of their own: its bytes alone do not tell what it is. */
  readonly hasExternalData: boolean;
}
