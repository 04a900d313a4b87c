/**
 * Model repositories on disk: a folder per model, in it a folder per version. Names that come from outside are checked
 * before they become paths.
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileError, UserError } from "../base/index.ts";

/** Longest name of a model. */
const MAX_NAME_LENGTH = 255;

/** Whether a name can be a folder's and nothing else: no separators, no control characters, not hidden. */
export function isModelName(name: string): boolean {
  return name.length > 0 && name.length <= MAX_NAME_LENGTH && !name.startsWith(".") && !/[/\\\p{Cc}]/u.test(name);
}

/** @throws UserError "file-io" when the folder cannot be read */
export function listFolders(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory() || (entry.isSymbolicLink() && isFolder(join(folder, entry.name)))).map((entry) => entry.name);
  } catch (cause) {
    throw fileError(`Model repository ${folder}`, cause);
  }
}

export function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

export function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** The numbers of a model's version folders, rising. */
export function versionsIn(modelFolder: string): number[] {
  return listFolders(modelFolder).filter((name) => /^[1-9]\d{0,17}$/.test(name)).map(Number).sort((a, b) => a - b);
}

/** Size and date of every file below a folder, as text that changes when any of them does, and the newest date. */
export interface Stamp {
  readonly text: string;
  readonly newestMs: number;
}

/** Files looked at in one model's folder. */
const MAX_FILES = 10_000;

export function stampOf(folder: string): Stamp {
  const parts: string[] = [];
  let newestMs = 0;
  const visit = (path: string, depth: number): void => {
    for (const entry of readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const file = join(path, entry.name);
      const stat = statSync(file, { throwIfNoEntry: false });
      if (!stat) continue;
      if (parts.length >= MAX_FILES) throw new UserError("limit-exceeded", `${folder}: more than ${MAX_FILES} files; a model's folder holds its configuration and its versions.`);
      newestMs = Math.max(newestMs, stat.mtimeMs, stat.ctimeMs);
      parts.push(`${file}|${stat.isDirectory() ? "" : `${stat.size}|${stat.mtimeMs}|${stat.ino}`}`);
      if (stat.isDirectory() && depth < 8) visit(file, depth + 1);
    }
  };
  visit(folder, 0);
  return { text: parts.join("\n"), newestMs };
}
