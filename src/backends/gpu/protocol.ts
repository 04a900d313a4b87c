/**
 * What the server and the process that has a GPU say to each other: lines of JSON over a socket with sizes and places, never
 * data; the data lie in one memory file that both map, inherited as a descriptor, and the GPU copies from and to it.
 *
 * The server gives the places of inputs and outputs. How large outputs are it learns from the first run of a shape: such a
 * run answers "made", and the results are fetched; later ones answer "done" with the outputs in place.
 */
import { ERRORS, type ErrorCode, SinterError, UnsupportedError, UserError } from "../../base/index.ts";
import type { Manifest } from "../../engine/index.ts";
import type { ValueInfo } from "../../runtime/index.ts";

/** Address space of the shared file: all inputs and outputs of a GPU's models that are in flight together. */
export const SHARED_BYTES = 2 ** 31;
/** Descriptors in the process: the socket and the shared file. */
export const SOCKET_FD = 3;
export const SHARED_FD = 4;

/** Bytes in the shared file. */
export interface Place {
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface PlacedInput extends Place {
  readonly shape: readonly number[];
}

/** What a server needs to know of an engine that lives elsewhere. */
export interface EngineFacts {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly level: number;
  readonly target: Manifest["target"];
  readonly profiles: readonly Pick<Manifest["profiles"][number], "symbols">[];
  readonly hasReferenceSteps: boolean;
}

export type ToProcess =
  /** Copies reach this block of the file directly from now on; no answer. */
  | { readonly kind: "pin"; readonly place: Place }
  | { readonly kind: "load"; readonly id: number; readonly engine: number; readonly path: string }
  /** No answer. */
  | { readonly kind: "unload"; readonly engine: number }
  /** A context is made by its first run. An input that is left out is null. */
  | { readonly kind: "run"; readonly id: number; readonly engine: number; readonly context: number; readonly inputs: readonly (PlacedInput | null)[]; readonly outputs?: readonly Place[] }
  /** Asks for the results of the context's last run, which answered "made". */
  | { readonly kind: "fetch"; readonly id: number; readonly engine: number; readonly context: number; readonly outputs: readonly Place[] }
  /** Frees a context after its run; no answer. */
  | { readonly kind: "drop"; readonly engine: number; readonly context: number };

export type FromProcess =
  | { readonly kind: "loaded"; readonly id: number; readonly facts: EngineFacts }
  | { readonly kind: "done"; readonly id: number; readonly memoryBytes: number }
  | { readonly kind: "made"; readonly id: number; readonly outputs: readonly { readonly shape: readonly number[]; readonly sizeBytes: number }[] }
  | { readonly kind: "failed"; readonly id: number; readonly failure: Failure };

/** An error on its way between processes. */
export interface Failure {
  readonly blame: "user" | "unsupported" | "other";
  readonly code: ErrorCode;
  readonly message: string;
}

export function failureOf(error: unknown): Failure {
  if (!(error instanceof SinterError)) return { blame: "other", code: "backend-failed", message: String(error instanceof Error ? error.stack : error) };
  return { blame: error instanceof UserError ? "user" : error instanceof UnsupportedError ? "unsupported" : "other", code: error.code, message: error.message };
}

export function errorOf({ blame, code, message }: Failure): SinterError {
  const known: ErrorCode = code in ERRORS ? code : "backend-failed";
  return blame === "user" ? new UserError(known, message) : blame === "unsupported" ? new UnsupportedError(known, message) : new SinterError(known, message);
}
