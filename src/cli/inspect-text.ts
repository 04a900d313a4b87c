/** What `inspect` shows of models and engines alike. */
import type { ShapeOptions } from "./options.ts";
import { heading, typeText } from "./output.ts";

export interface InspectOptions extends ShapeOptions {
  readonly layers?: boolean;
  readonly memory?: boolean;
  readonly asm?: string;
  readonly json?: boolean;
}

/** An input or output. */
export interface ValueText {
  readonly name: string;
  readonly type: string;
  /** Undefined where the rank is unknown. */
  readonly dims: readonly (number | string)[] | undefined;
}

export function valueTable(title: string, values: readonly ValueText[]): string {
  return `${heading(title)}\n${values.map((value) => `  ${value.name}: ${typeText(value.type, value.dims)}`).join("\n")}`;
}
