/**
 * Opens an engine file: maps it, checks header, manifest and code against their digests, and copies the code to
 * executable memory. Weights stay where they are, in the mapping.
 */
import { createHash } from "node:crypto";
import { UserError } from "../base/index.ts";
import { allocateExecutable, MappedFile, MAX_VIEW_BYTES, type NativeMemory } from "../native/index.ts";
import { decodeHeader, PAGE, type Section, type SectionName, sha256 } from "./layout.ts";
import { findOutOfRange } from "./check-manifest.ts";
import type { Manifest } from "./manifest.ts";

/** An engine file open for reading. Whoever opens it closes it. */
export class EngineFile {
  readonly path: string;
  private readonly file: MappedFile;
  private readonly sections: ReadonlyMap<SectionName, Section>;

  private constructor(path: string, file: MappedFile, sections: ReadonlyMap<SectionName, Section>) {
    this.path = path;
    this.file = file;
    this.sections = sections;
  }

  /** @throws UserError "file-io" or "engine-damaged", UnsupportedError "engine-incompatible" */
  static open(path: string): EngineFile {
    const file = MappedFile.open(path);
    try {
      return new EngineFile(path, file, decodeHeader(file.bytes(0, Math.min(PAGE, file.size)), file.size, path));
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Whether the file begins as an engine does. */
  static isEngine(firstBytes: Uint8Array): boolean {
    return Buffer.from(firstBytes.subarray(0, 6)).toString("latin1") === "SINTER";
  }

  sizeOf(name: SectionName): number {
    return this.sections.get(name)!.sizeBytes;
  }

  get sizeBytes(): number {
    return this.file.size;
  }

  /** The tables of the program; every index and offset in them is in range. */
  manifest(): Manifest {
    const manifest = JSON.parse(Buffer.from(this.checked("manifest")).toString("utf8")) as Manifest;
    const wrong = findOutOfRange(manifest, this.sizeOf("code"), this.sizeOf("weights"));
    if (wrong !== undefined) throw this.damaged(this.sections.get("manifest")!, wrong);
    return manifest;
  }

  report(): unknown {
    return JSON.parse(Buffer.from(this.checked("report")).toString("utf8"));
  }

  code(): Uint8Array {
    return this.checked("code");
  }

  /** The code, copied to memory that is executable and not writable. The caller disposes it. */
  executableCode(): NativeMemory {
    return allocateExecutable(this.code());
  }

  get weightsAddress(): bigint {
    return this.file.address + BigInt(this.sections.get("weights")!.offset);
  }

  weights(offset: number, sizeBytes: number): Uint8Array {
    const section = this.sections.get("weights")!;
    if (offset < 0 || sizeBytes < 0 || offset + sizeBytes > section.sizeBytes) throw this.damaged(section, `weights at ${offset} + ${sizeBytes} are outside it`);
    return this.file.bytes(section.offset + offset, sizeBytes);
  }

  /** Reads every weight and compares with the digest, as when a file first reaches a machine. @throws UserError "engine-damaged" */
  verifyWeights(): void {
    const section = this.sections.get("weights")!;
    const hash = createHash("sha256");
    for (let at = 0; at < section.sizeBytes; at += MAX_VIEW_BYTES / 4) hash.update(this.file.bytes(section.offset + at, Math.min(MAX_VIEW_BYTES / 4, section.sizeBytes - at)));
    if (!hash.digest().equals(section.digest)) throw this.damaged(section, "the bytes do not match their digest");
  }

  close(): void {
    this.file.close();
  }

  private checked(name: SectionName): Uint8Array {
    const section = this.sections.get(name)!;
    const bytes = this.file.bytes(section.offset, section.sizeBytes);
    if (!sha256(bytes).equals(section.digest)) throw this.damaged(section, "the bytes do not match their digest");
    return bytes;
  }

  private damaged(section: Section, what: string): UserError {
    return new UserError("engine-damaged", `${this.path}: damaged in section "${section.name}" (bytes ${section.offset} to ${section.offset + section.sizeBytes}): ${what}. Build the engine again or fetch it anew.`);
  }
}
