/**
 * Headers that go with a request as parameters: those whose names a pattern finds, as Triton's `--http-header-forward-pattern`.
 * A request's own parameters of the same name are replaced.
 */
import { UserError } from "../../base/index.ts";
import { type Parameters, type ParameterValue, ServingError } from "../contract.ts";

const RESERVED: ReadonlySet<string> = new Set(["sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers", "binary_data_output"]);
const MOST_PATTERN = 1000;

export class ForwardedHeaders {
  readonly #pattern: RegExp | undefined;

  /** @param pattern as RE2 has it, "(?i)" in front for any case; none forwards nothing. @throws UserError "option-invalid" */
  constructor(pattern = "") {
    if (pattern === "") return;
    const anyCase = pattern.startsWith("(?i)");
    try {
      if (pattern.length > MOST_PATTERN) throw new Error(`longer than ${MOST_PATTERN} characters`);
      this.#pattern = new RegExp(anyCase ? pattern.slice("(?i)".length) : pattern, anyCase ? "iu" : "u");
    } catch (cause) {
      throw new UserError("option-invalid", `Header forward pattern "${pattern}": ${(cause as Error).message}.`, { cause });
    }
  }

  /** @param headers names and values by turns. @throws INVALID_ARG for names that are reserved */
  addTo(parameters: Parameters, headers: () => Iterable<readonly [string, string]>): Parameters {
    const pattern = this.#pattern;
    if (pattern === undefined) return parameters;
    const all = new Map<string, ParameterValue>(parameters);
    for (const [name, value] of headers()) {
      if (!pattern.test(name)) continue;
      if (RESERVED.has(name) || name.startsWith("triton_")) throw new ServingError("INVALID_ARG", `Header '${name}' is reserved for Triton usage and cannot be forwarded.`);
      all.set(name, value);
    }
    return all;
  }
}

/** Node's list of raw headers in pairs. */
export function* headerPairs(raw: readonly string[]): Iterable<readonly [string, string]> {
  for (let i = 0; i + 1 < raw.length; i += 2) yield [raw[i]!, raw[i + 1]!];
}
