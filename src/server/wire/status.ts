/** What each status means on the wire, and which status an exception has. */
import { SinterError, UnsupportedError, UserError } from "../../base/index.ts";
import { ServingError, type StatusCode } from "../contract.ts";

export const HTTP_STATUS: Readonly<Record<StatusCode, number>> = {
  UNKNOWN: 400, INTERNAL: 500, NOT_FOUND: 404, INVALID_ARG: 400, UNAVAILABLE: 503, UNSUPPORTED: 501, ALREADY_EXISTS: 400, CANCELLED: 400,
};

/** Source: gRPC, "Status codes and their use in gRPC". */
export const GRPC_STATUS: Readonly<Record<StatusCode, number>> = {
  CANCELLED: 1, UNKNOWN: 2, INVALID_ARG: 3, NOT_FOUND: 5, ALREADY_EXISTS: 6, UNSUPPORTED: 12, INTERNAL: 13, UNAVAILABLE: 14,
};

/** What a client is told of an exception; those that are none of ours say nothing of our insides. */
export function asServingError(error: unknown): ServingError {
  if (error instanceof ServingError) return error;
  if (error instanceof UserError) return new ServingError("INVALID_ARG", error.message, { cause: error });
  if (error instanceof UnsupportedError) return new ServingError("UNSUPPORTED", error.message, { cause: error });
  if (error instanceof SinterError && error.code === "limit-exceeded") return new ServingError("UNAVAILABLE", error.message, { cause: error });
  return new ServingError("INTERNAL", "internal error; the server's log says more", { cause: error });
}
