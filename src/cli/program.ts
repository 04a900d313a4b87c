/** All commands: one file each. */
import { Command } from "commander";
import { VERSION } from "../version.ts";
import { benchCommand } from "./bench.ts";
import { buildCommand } from "./build.ts";
import { calibrateCommand } from "./calibrate.ts";
import { compareCommand } from "./compare.ts";
import { doctorCommand } from "./doctor.ts";
import { inspectCommand } from "./inspect.ts";
import { loadCommand } from "./load.ts";
import { runCommand } from "./run.ts";
import { serveCommand } from "./serve.ts";
import { verifyCommand } from "./verify.ts";

export function makeProgram(): Command {
  const program = new Command("sinter")
    .description("Turns trained models into fast native engines.")
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "show help")
    .showSuggestionAfterError()
    .addHelpText("after", `
Examples:
  sinter build model.onnx                          write model.engine, tuned for this processor
  sinter run model.engine --input x=x.npy          run it once
  sinter bench model.onnx --compare onnxruntime    how fast, beside onnxruntime
  sinter inspect model.engine --layers             what was fused, which tactics were tried
  sinter serve --model-repository models           serve all models of a folder
  sinter load http://127.0.0.1:8000 -m resnet50    how fast it answers under load`);
  for (const command of [buildCommand(), calibrateCommand(), runCommand(), benchCommand(), inspectCommand(), compareCommand(), verifyCommand(), serveCommand(), loadCommand(), doctorCommand()]) {
    command.helpOption("-h, --help", "show help");
    program.addCommand(command);
  }
  return program;
}
