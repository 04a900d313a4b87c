/** Where ONNX's test cases are: unpacked once, beside the build, from the archive that lies next to the repository. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

/** The folder of the unpacked cases, or undefined where there is no archive. @param root the repository */
export function conformanceFolder(root: string): string | undefined {
  const archive = join(root, "..", "shared", "conformance", "onnx-tests.tar.xz");
  const folder = join(root, ".cache", "conformance");
  if (existsSync(folder)) return casesIn(folder);
  if (!existsSync(archive)) return undefined;
  const part = `${folder}.${process.pid}`;
  mkdirSync(part, { recursive: true });
  execFileSync("tar", ["-xJf", archive, "-C", part]);
  try {
    renameSync(part, folder);
  } catch (error) {
    // Another process unpacked them first.
    rmSync(part, { recursive: true });
    if (!existsSync(folder)) throw error;
  }
  return casesIn(folder);
}

/** The archive may hold one folder around the families. */
function casesIn(folder: string): string {
  const entries = readdirSync(folder);
  return entries.length === 1 ? join(folder, entries[0]!) : folder;
}
