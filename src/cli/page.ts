/** HTML pages that commands write. */
import { writeFileSync } from "node:fs";
import { fileError } from "../base/index.ts";

export function writePage(path: string, html: string): void {
  try {
    writeFileSync(path, html);
  } catch (cause) {
    throw fileError(path, cause);
  }
}
