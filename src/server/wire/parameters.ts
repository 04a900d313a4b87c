/**
 * Parameters of a request, the same over HTTP and gRPC: two have a field of their own in `InferenceRequest`, the rest is
 * carried along.
 */
import { type Parameters, type ParameterValue, ServingError } from "../contract.ts";
import type { SharedMemoryPlace } from "../extensions/shared-memory.ts";

export interface RequestParameters {
  readonly parameters: Parameters;
  readonly priority: number;
  readonly timeoutUs: number;
}

/** What a request without parameters has. */
export const NO_PARAMETERS: Parameters = new Map();
const NOTHING: RequestParameters = { parameters: NO_PARAMETERS, priority: 0, timeoutUs: 0 };

const BOOLEANS: ReadonlySet<string> = new Set(["sequence_start", "sequence_end", "binary_data_output", "triton_enable_empty_final_response"]);

/**
 * @param allowed keys beginning "triton_" that the protocol may carry
 * @throws INVALID_ARG for values of the wrong type and reserved keys
 */
export function splitParameters(given: ReadonlyMap<string, ParameterValue>, allowed: ReadonlySet<string>): RequestParameters {
  if (given.size === 0) return NOTHING;
  const parameters = new Map<string, ParameterValue>();
  let priority = 0;
  let timeoutUs = 0;
  for (const [key, value] of given) {
    if (key === "priority") priority = count(key, value);
    else if (key === "timeout") timeoutUs = count(key, value);
    else {
      check(key, value, allowed);
      parameters.set(key, value);
    }
  }
  return { parameters, priority, timeoutUs };
}

function check(key: string, value: ParameterValue, allowed: ReadonlySet<string>): void {
  if (BOOLEANS.has(key) && typeof value !== "boolean") throw unable(key, "expected a boolean");
  if (key === "sequence_id" && typeof value !== "string" && !isCount(value)) throw unable(key, "expected an unsigned integer or a string");
  if (key.startsWith("triton_") && !allowed.has(key)) {
    const may = allowed.size === 0 ? "" : ` Only the following keys starting with 'triton_' are allowed: ${[...allowed].join(" ")}`;
    throw new ServingError("INVALID_ARG", `parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.${may}`);
  }
}

function isCount(value: ParameterValue): value is number | bigint {
  return typeof value === "bigint" ? value >= 0n && value < 2n ** 64n : typeof value === "number" && Number.isInteger(value) && value >= 0;
}

/** A count as a number; beyond 2^53 exactness does not matter. */
function count(key: string, value: ParameterValue): number {
  if (!isCount(value)) throw unable(key, `expected an unsigned integer, got ${typeof value === "string" ? `'${value}'` : value}`);
  return Number(value);
}

/** The place that `shared_memory_*` parameters name, the same over both protocols; undefined when they are absent. */
export function readPlace(parameters: Parameters): SharedMemoryPlace | undefined {
  const region = parameters.get("shared_memory_region");
  if (region === undefined) return undefined;
  if (typeof region !== "string") throw unable("shared_memory_region", "expected a string");
  const byteSize = optionalCount(parameters, "shared_memory_byte_size");
  if (byteSize === undefined) throw new ServingError("INVALID_ARG", "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter");
  return { region, offset: optionalCount(parameters, "shared_memory_offset") ?? 0, byteSize };
}

export function optionalCount(parameters: Parameters, key: string): number | undefined {
  const value = parameters.get(key);
  if (value === undefined) return undefined;
  return count(key, value);
}

export function unable(key: string, why: string): ServingError {
  return new ServingError("INVALID_ARG", `Unable to parse '${key}': ${why}`);
}
