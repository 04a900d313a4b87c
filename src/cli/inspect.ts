/** `sinter inspect`: what is in a model or an engine. */
import { Command } from "commander";
import { UserError } from "../base/index.ts";
import { printAssembly } from "./disassemble.ts";
import { inspectEngine } from "./inspect-engine.ts";
import { inspectModel } from "./inspect-model.ts";
import type { InspectOptions } from "./inspect-text.ts";
import { isEngineFile } from "./open.ts";
import { parseProfile, profileOptions } from "./options.ts";

export function inspectCommand(): Command {
  const command = new Command("inspect")
    .description("Show a model or an engine: inputs, outputs, operators, kernels, memory.")
    .argument("<file>", "an .onnx file or an engine")
    .option("--layers", "each kernel: the model's nodes in it, and of an engine the tactics tried, refused and why")
    .option("--memory", "the memory plan: where each value lies in the arena and how long")
    .option("--asm <kernel>", "the machine code of one kernel of an engine, by name or number; on GPUs 12.1 is step 12's first kernel for more work");
  return profileOptions(command)
    .option("--json", "print everything as JSON")
    .addHelpText("after", `
The shape options choose the profile of a model's memory plan; an engine has its own.

Examples:
  sinter inspect resnet50.onnx --layers
  sinter inspect resnet50.engine --memory
  sinter inspect resnet50.engine --asm 12`)
    .action(run);
}

function run(path: string, options: InspectOptions): void {
  if (isEngineFile(path)) {
    if (options.asm === undefined) inspectEngine(path, options);
    else printAssembly(path, options.asm, options.json === true);
    return;
  }
  if (options.asm !== undefined) throw new UserError("option-invalid", `--asm needs an engine; build one with: sinter build ${path}`);
  inspectModel(path, options, parseProfile(options));
}
