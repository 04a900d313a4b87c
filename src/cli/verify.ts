/** `sinter verify`: every byte of an engine against its digests, as when a file first reaches a machine. */
import { Command } from "commander";
import { EngineFile } from "../engine/index.ts";
import { bytes, printJson } from "./output.ts";

export function verifyCommand(): Command {
  return new Command("verify")
    .description("Check all of an engine file, its weights included, against the digests in it.")
    .argument("<engine>", "the engine file")
    .option("--json", "print the result as JSON")
    .addHelpText("after", `
Loading checks code and tables at every start; weights are checked here.`)
    .action(run);
}

function run(path: string, options: { readonly json?: boolean }): void {
  const file = EngineFile.open(path);
  try {
    const manifest = file.manifest();
    file.report();
    file.code();
    file.verifyWeights();
    const sizes = { sizeBytes: file.sizeBytes, codeBytes: file.sizeOf("code"), weightBytes: file.sizeOf("weights") };
    if (options.json) printJson({ file: path, verified: true, model: manifest.model.name, ...sizes });
    else console.log(`${path}: whole. ${bytes(sizes.sizeBytes)}, of which code ${bytes(sizes.codeBytes)} and weights ${bytes(sizes.weightBytes)}.`);
  } finally {
    file.close();
  }
}
