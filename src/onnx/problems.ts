/** Collects everything that is wrong with a model, so that one error reports it all. */
import { UnsupportedError, UserError } from "../base/index.ts";

const MAX_LISTED = 20;

export class Problems {
  private readonly source: string;
  private readonly invalid: string[] = [];
  private readonly external: string[] = [];
  private readonly unknown: string[] = [];

  /** @param source the model's file name, or "model" */
  constructor(source: string) {
    this.source = source;
  }

  /** Notes a break of ONNX's rules. */
  add(text: string): void {
    this.invalid.push(text);
  }

  /** Notes an operator that Sinter does not have. */
  addUnknown(text: string): void {
    this.unknown.push(text);
  }

  /** Notes what an error says. @returns false for errors that end the import at once */
  take(error: UserError): boolean {
    if (error.code === "model-invalid") this.invalid.push(error.message);
    else if (error.code === "external-data") this.external.push(error.message);
    else return false;
    return true;
  }

  /** @throws UserError listing what is invalid, else UnsupportedError listing unknown operators */
  throwIfAny(): void {
    if (this.invalid.length + this.external.length > 0) {
      const all = [...this.invalid, ...this.external, ...this.unknown];
      const code = this.invalid.length > 0 ? "model-invalid" : "external-data";
      throw new UserError(code, this.text(all, `${all.length} problem${all.length === 1 ? "" : "s"} in the model`));
    }
    if (this.unknown.length > 0) {
      throw new UnsupportedError("unknown-operator", `${this.text(this.unknown, `${this.unknown.length} node${this.unknown.length === 1 ? "" : "s"} with operators that Sinter does not have`)}
Sinter runs the operators of ai.onnx and the common ones of com.microsoft. Export with those, or give the model a local function for the operator.`);
    }
  }

  private text(list: readonly string[], title: string): string {
    const rest = list.length - MAX_LISTED;
    const lines = list.slice(0, MAX_LISTED).map((line) => `  ${line}`);
    if (rest > 0) lines.push(`  and ${rest} more`);
    return `${this.source}: ${title}:\n${lines.join("\n")}`;
  }
}
