/** A version of a model that answers: one that runs on a backend, or an ensemble of others. */
import type { ModelConfig, PlainMessage } from "../../repository/index.ts";
import type { InferenceRequest, InferenceResponse, ModelStatistics } from "../contract.ts";
import type { Signature } from "./signature.ts";

export interface Served {
  readonly name: string;
  readonly version: string;
  readonly config: ModelConfig;
  readonly signature: Signature;
  readonly platform: string;
  /** Where it was loaded from. */
  readonly file: string;
  readonly loadMs: number;
  /** For people: what it is and what it runs on. */
  readonly summary: string;
  plainConfig(): PlainMessage;
  statistics(): ModelStatistics;
  /** Class names of an output. */
  labels(output: string): readonly string[] | undefined;
  /** Asked before a request's body is read. @throws ServingError UNAVAILABLE when it would find no room */
  checkRoom(bodyBytes: number): void;
  infer(request: InferenceRequest): Promise<InferenceResponse>;
  /** Of models that answer several times; resolves after the last answer. */
  inferStream?(request: InferenceRequest, onResponse: (response: InferenceResponse) => void): Promise<void>;
  /** Makes itself faster in the background, where that is possible. */
  improve(): void;
  /** From now on no request waits for others to share a batch with. */
  flush(): void;
  /** Answers all that was accepted, then frees everything. */
  close(): Promise<void>;
}
