/** A request on its way: checked, its inputs in the model's order, and whom to tell. */
import type { InferenceRequest, InferenceResponse, RequestInput } from "../contract.ts";
import type { Queued } from "../scheduler/index.ts";

/** An input as the model takes it: the request's bytes under the shape the backend sees. */
export interface PreparedInput {
  readonly bytes: Uint8Array;
  readonly shape: readonly number[];
}

export class Pending implements Queued {
  readonly request: InferenceRequest;
  readonly inputs: readonly (PreparedInput | undefined)[];
  readonly rows: number;
  readonly bytes: number;
  readonly group: string;
  readonly arrivedNs: number;
  readonly resolve: (response: InferenceResponse) => void;
  readonly reject: (error: Error) => void;
  enqueuedNs = 0;
  deadlineNs = Number.POSITIVE_INFINITY;
  startedNs = 0;

  constructor(request: InferenceRequest, prepared: Prepared, arrivedNs: number, resolve: (response: InferenceResponse) => void, reject: (error: Error) => void) {
    this.request = request;
    this.inputs = prepared.inputs;
    this.rows = prepared.rows;
    this.bytes = prepared.bytes;
    this.group = prepared.group;
    this.arrivedNs = arrivedNs;
    this.resolve = resolve;
    this.reject = reject;
  }

  get priority(): number {
    return this.request.priority;
  }

  get timeoutUs(): number {
    return this.request.timeoutUs;
  }

  get cancelled(): boolean {
    return this.request.cancelled;
  }
}

export interface Prepared {
  readonly inputs: readonly (PreparedInput | undefined)[];
  readonly rows: number;
  readonly bytes: number;
  readonly group: string;
}

export function bytesOf(inputs: readonly RequestInput[]): number {
  let sum = 0;
  for (const { bytes } of inputs) sum += bytes.byteLength;
  return sum;
}
