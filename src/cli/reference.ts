/**
 * Reference pages made from the code: docs/CLI.md from the commands' help, docs/ERRORS.md from the error catalogue,
 * docs/OPERATORS.md from the catalogues of operators.
 */
import type { Command } from "commander";
import { ERRORS } from "../base/index.ts";
import { lowerings, sequentials } from "../ops/index.ts";
import { REFERENCE_OPERATORS } from "../reference/index.ts";
import { makeProgram } from "./program.ts";

const WIDTH = 100;
const NOTE = "Written by `node scripts/docs.mjs`; a test compares it with the code.";

export function commandReference(): string {
  const program = makeProgram();
  const commands = program.commands.map((command) => `## sinter ${command.name()}\n\n${block(helpOf(command))}`);
  return `# The command line\n\n${NOTE}\n\nThe exit status is 0 when all went well, and otherwise that of the error: see [ERRORS.md](ERRORS.md).\n\n${block(helpOf(program))}\n\n${commands.join("\n\n")}\n`;
}

function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({ getOutHelpWidth: () => WIDTH, writeOut: (part) => { text += part; } });
  command.outputHelp();
  return text.trim();
}

function block(text: string): string {
  return `\`\`\`\n${text}\n\`\`\``;
}

export function errorReference(): string {
  const rows = Object.entries(ERRORS).map(([code, { exit, meaning }]) => `| \`${code}\` | ${exit} | ${meaning} |`);
  return `# Errors\n\n${NOTE}\n\n\`UserError\` and \`UnsupportedError\` have one of these codes in \`code\`; the command line ends with its exit status. A bug of Sinter's\nends with 70; \`SINTER_DEBUG=1\` then shows where.\n\n| code | exit status | meaning |\n| --- | --- | --- |\n${rows.join("\n")}\n`;
}

/** Operators that become products, or are written out in others before kernels are made. */
const REWRITTEN: Readonly<Record<string, string>> = {
  Attention: "attention kernel", Conv: "convolution", ConvTranspose: "convolution", MatMul: "matrix product", Gemm: "matrix product", BatchNormalization: "into the convolution before it, or a loop",
  LSTM: "written out for up to 32 steps", GRU: "written out for up to 32 steps", RNN: "written out for up to 32 steps", If: "branches with a jump between them", Constant: "a constant", Dropout: "nothing",
};

function formOf(key: string): string {
  if (REWRITTEN[key]) return REWRITTEN[key];
  if (sequentials.has(key)) return lowerings.has(key) ? "sequential kernel or loop" : "sequential kernel";
  return lowerings.has(key) ? "loop" : "";
}

export function operatorReference(): string {
  const keys = Object.keys(REFERENCE_OPERATORS).filter((key) => !key.startsWith("com.microsoft.") && !key.startsWith("sinter.")).sort();
  const rows = keys.map((key) => `| ${key} | ${formOf(key)} |`);
  const native = keys.filter((key) => formOf(key) !== "").length;
  return `# Operators\n\n${NOTE}\n\nEvery operator runs. Those with a native form (${native} of ${keys.length}) run as machine code where their types and attributes have one;\nthe others, and what has none, run on a plain TypeScript reference in a worker. \`sinter build\` names those.\n\n| operator | native form |\n| --- | --- |\n${rows.join("\n")}\n`;
}
