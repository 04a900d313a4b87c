/** Where a model's files are: its folder in a repository, or one made for files that came with a load request. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, UserError } from "../../base/index.ts";
import { isFolder, isModelName, listFolders } from "../../repository/index.ts";

export class Repositories {
  readonly folders: readonly string[];

  /** @throws UserError "model-missing" for a folder that is not there */
  constructor(folders: readonly string[]) {
    this.folders = folders;
    for (const folder of folders) if (!isFolder(folder)) throw new UserError("model-missing", `Model repository ${folder}: no such folder.`);
  }

  /** Names of all models; one that two repositories have is in neither's favour. */
  names(): string[] {
    return [...new Set(this.folders.flatMap(listFolders).filter(isModelName))].sort();
  }

  has(name: string): boolean {
    return isModelName(name) && this.folders.some((folder) => isFolder(join(folder, name)));
  }

  /** Whether several repositories have it. */
  isDoubled(name: string): boolean {
    return this.folders.filter((folder) => isFolder(join(folder, name))).length > 1;
  }

  /** @throws UserError "model-missing" with the reason */
  find(name: string): string {
    if (!isModelName(name)) throw new UserError("model-missing", "that is not a model's name");
    const found = this.folders.map((folder) => join(folder, name)).filter(isFolder);
    if (found.length === 0) throw new UserError("model-missing", `no folder "${name}" in ${this.folders.join(", ") || "any model repository (none was given)"}`);
    if (found.length > 1) throw new UserError("model-missing", `the model is in several repositories: ${found.join(", ")}; keep one`);
    return found[0]!;
  }
}

export interface Upload {
  readonly folder: string;
  remove(): void;
}

const FILE_KEY = /^file:([1-9]\d{0,17})\/([\w][\w.-]*)$/;

/** Writes a load request's files into a folder of their own. @throws UserError "model-missing" for names that are no file of a version */
export function writeUpload(name: string, files: ReadonlyMap<string, Uint8Array>): Upload {
  const root = mkdtempSync(join(tmpdir(), "sinter-upload-"));
  const folder = join(root, name);
  const remove = (): void => rmSync(root, { recursive: true, force: true });
  try {
    assert(isModelName(name), `upload for ${name}`);
    for (const [key, bytes] of files) {
      const match = FILE_KEY.exec(key);
      if (!match) throw new UserError("model-missing", `parameter "${key}": expected "file:VERSION/NAME", as in "file:1/model.onnx"`);
      mkdirSync(join(folder, match[1]!), { recursive: true });
      writeFileSync(join(folder, match[1]!, match[2]!), bytes);
    }
    return { folder, remove };
  } catch (error) {
    remove();
    throw error;
  }
}
