/** From Sinter's errors to the codes that clients are told. */
import { type ErrorCode, SinterError } from "../../base/index.ts";
import { ServingError, type StatusCode } from "../contract.ts";

const STATUS: Partial<Record<ErrorCode, StatusCode>> = {
  "input-invalid": "INVALID_ARG", "tensor-data": "INVALID_ARG", "shape-outside-profile": "INVALID_ARG", "config-invalid": "INVALID_ARG", "config-mismatch": "INVALID_ARG",
  "model-missing": "INVALID_ARG", "model-changing": "UNAVAILABLE", "engine-untrusted": "INVALID_ARG", "aborted": "CANCELLED", "disposed": "UNAVAILABLE",
  "unsupported": "UNSUPPORTED", "option-invalid": "INVALID_ARG", "limit-exceeded": "UNAVAILABLE", "gpu-fault": "UNAVAILABLE",
};

export function toServingError(error: unknown): ServingError {
  if (error instanceof ServingError) return error;
  if (error instanceof SinterError) return new ServingError(STATUS[error.code] ?? "INTERNAL", error.message, { cause: error });
  return new ServingError("INTERNAL", `internal error: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
}
