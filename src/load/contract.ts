/** What a load run needs of a server, whatever the protocol. */

export interface LoadTensor {
  readonly name: string;
  /** KServe's name of the type. */
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export interface LoadModel {
  readonly name: string;
  readonly version: string;
  readonly inputs: readonly { readonly name: string; readonly datatype: string; readonly shape: readonly number[] }[];
}

/** The server's own account of a model: requests, and nanoseconds they spent. */
export interface ServerCounts {
  readonly success: number;
  readonly fail: number;
  readonly inferences: number;
  readonly executions: number;
  readonly queueNs: number;
  readonly inputNs: number;
  readonly inferNs: number;
  readonly outputNs: number;
}

/** A server under load. Failures of calls carry what the server said. */
export interface LoadTarget {
  describe(model: string): Promise<LoadModel>;
  counts(model: string): Promise<ServerCounts>;
  /** Makes the request's bytes once. */
  prepare(model: string, inputs: readonly LoadTensor[]): void;
  /** One request. @throws what the server answered instead, or that it did not in time */
  call(timeoutMs: number): Promise<readonly LoadTensor[]>;
  close(): void;
}
