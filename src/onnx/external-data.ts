/**
 * Tensors stored outside the model file: location, offset and length, as ONNX's "External Data" page has them.
 * A location must lie inside the model's folder, symbolic links resolved, so that a model cannot read other files.
 */
import { realpathSync } from "node:fs";
import { dirname, isAbsolute, join, relative, sep } from "node:path";
import { UserError } from "../base/index.ts";
import { type MapFile, type MappedFile, MAX_WINDOW_BYTES } from "./file-source.ts";

export class ExternalData {
  private readonly folder: string | undefined;
  private readonly mapFile: MapFile;
  private readonly files = new Map<string, MappedFile>();

  /** @param modelPath where the model lies; undefined when it came as bytes */
  constructor(modelPath: string | undefined, mapFile: MapFile) {
    this.folder = modelPath === undefined ? undefined : dirname(modelPath);
    this.mapFile = mapFile;
  }

  /**
   * @param needed bytes the tensor's type and dims take
   * @throws UserError "external-data"
   */
  view(tensor: string, entries: ReadonlyMap<string, string>, needed: number): Uint8Array {
    const location = entries.get("location");
    if (!location) throw problem(tensor, "has no location");
    const offset = integerEntry(tensor, entries, "offset") ?? 0;
    const file = this.open(tensor, location);
    const length = integerEntry(tensor, entries, "length") ?? needed;
    if (length !== needed) throw problem(tensor, `has length ${length} in "${location}"; its type and dims need ${needed} bytes`);
    if (offset + needed > file.size) {
      throw problem(tensor, `needs bytes ${offset} to ${offset + needed} of "${location}", which has only ${file.size}. The weights file is cut short or belongs to another model`);
    }
    if (needed > MAX_WINDOW_BYTES) throw problem(tensor, `takes ${needed} bytes; at most ${MAX_WINDOW_BYTES} are read`);
    return needed === 0 ? new Uint8Array(0) : file.bytes(offset, needed);
  }

  close(): void {
    for (const file of this.files.values()) file.close();
    this.files.clear();
  }

  private open(tensor: string, location: string): MappedFile {
    const known = this.files.get(location);
    if (known) return known;
    const file = this.mapFile(this.resolve(tensor, location));
    this.files.set(location, file);
    return file;
  }

  private resolve(tensor: string, location: string): string {
    if (this.folder === undefined) throw problem(tensor, `lies in "${location}", but the model was given as bytes without a folder. Give its path`);
    if (isAbsolute(location) || location.includes("\0") || location.split(/[\\/]/).includes("..")) {
      throw problem(tensor, `has the location "${location}", outside the model's folder`);
    }
    const path = join(this.folder, location);
    let real: string;
    try {
      real = realpathSync(path);
    } catch {
      throw problem(tensor, `lies in "${location}", which is missing beside the model (looked for ${path})`);
    }
    const inside = relative(realpathSync(this.folder), real);
    if (inside === ".." || inside.startsWith(`..${sep}`) || isAbsolute(inside)) {
      throw problem(tensor, `has the location "${location}", a link to a file outside the model's folder`);
    }
    return real;
  }
}

function integerEntry(tensor: string, entries: ReadonlyMap<string, string>, key: string): number | undefined {
  const text = entries.get(key);
  if (text === undefined || text === "") return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw problem(tensor, `has ${key} "${text}", which is not a size`);
  return value;
}

function problem(tensor: string, what: string): UserError {
  return new UserError("external-data", `Tensor "${tensor}": external data ${what}.`);
}
