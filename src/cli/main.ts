#!/usr/bin/env node
/** The command `sinter`: parses, runs, and turns errors into text and an exit status. */
import { CommanderError, type Command } from "commander";
import { ERRORS, SinterError } from "../base/index.ts";
import { makeProgram } from "./program.ts";

/** Of bugs: what sysexits.h calls EX_SOFTWARE. */
const EXIT_BUG = 70;

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // The reader went away, as `head` does.
  process.exit(error.code === "EPIPE" ? 0 : ERRORS["file-io"].exit);
});

const program = makeProgram();
exitByException(program);
try {
  await program.parseAsync(withDashes(process.argv));
} catch (error) {
  process.exitCode = report(error);
}

function exitByException(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) exitByException(child);
}

/** Triton's users write options of the server with underscores. */
function withDashes(args: readonly string[]): string[] {
  if (args[2] !== "serve") return [...args];
  return args.map((arg) => arg.replace(/^--[\w-]+/, (name) => name.replaceAll("_", "-")));
}

/** @returns the exit status */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : ERRORS["option-invalid"].exit;
  const debug = process.env["SINTER_DEBUG"] === "1";
  if (error instanceof SinterError) {
    process.stderr.write(`${debug ? error.stack : error.message}\n`);
    return ERRORS[error.code].exit;
  }
  const text = error instanceof Error ? (debug ? error.stack : error.message) : String(error);
  process.stderr.write(`Unexpected error: ${text}\n${debug ? "" : "Run again with SINTER_DEBUG=1 to see where it happened.\n"}`);
  return EXIT_BUG;
}
