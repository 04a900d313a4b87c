/** Reference pages made from the code: docs/CLI.md from the commands' help, docs/ERRORS.md from the error catalogue. */
import type { Command } from "commander";
import { ERRORS } from "../base/index.ts";
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
