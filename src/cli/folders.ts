/** Folders that results go to, seen to before the work begins. */
import { accessSync, constants, mkdirSync } from "node:fs";
import { fileError } from "../base/index.ts";

export function makeFolder(folder: string): void {
  orRefuse(folder, () => mkdirSync(folder, { recursive: true }));
}

export function checkWritable(folder: string): void {
  orRefuse(folder, () => accessSync(folder, constants.W_OK));
}

function orRefuse(folder: string, attempt: () => void): void {
  try {
    attempt();
  } catch (cause) {
    throw fileError(folder, cause);
  }
}
