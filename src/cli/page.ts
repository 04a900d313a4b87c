/** HTML pages that commands write. */
import { writeFileSync } from "node:fs";
import { UserError } from "../base/index.ts";

export function writePage(path: string, html: string): void {
  try {
    writeFileSync(path, html);
  } catch (cause) {
    throw new UserError("file-io", `${path}: ${(cause as Error).message}.`, { cause });
  }
}
