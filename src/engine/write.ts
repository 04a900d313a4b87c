/**
 * Writes an engine file: sections in order, weights piece by piece, the header last, then a rename. Nothing is left
 * behind when it fails, and a reader never sees half a file.
 */
import { createHash } from "node:crypto";
import { closeSync, ftruncateSync, fsyncSync, openSync, renameSync, unlinkSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileError } from "../base/index.ts";
import { encodeHeader, PAGE, roundToPage, type Section, sha256 } from "./layout.ts";
import type { Manifest } from "./manifest.ts";

/** A run of bytes of the weight section; pieces are given in rising order of offset. */
export interface WeightPiece {
  readonly offset: number;
  readonly sizeBytes: number;
  /** The bytes themselves, when they exist as they are. */
  readonly bytes?: Uint8Array;
  /** Fills `sizeBytes` of zeroed memory otherwise. */
  write?(into: Uint8Array): void;
}

export interface EngineContent {
  readonly manifest: Manifest;
  /** What `inspect` shows beside the manifest: JSON. */
  readonly report: unknown;
  readonly code: Uint8Array;
  readonly weights: readonly WeightPiece[];
  readonly weightBytes: number;
}

let attempt = 0;

/** @throws UserError "file-io" when the disk is full or the folder cannot be written */
export function writeEngine(path: string, content: EngineContent): void {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.${attempt++}.tmp`);
  let file: number | undefined;
  try {
    file = openSync(temporary, "wx", 0o644);
    writeSections(file, content);
    fsyncSync(file);
    closeSync(file);
    file = undefined;
    renameSync(temporary, path);
  } catch (error) {
    if (file !== undefined) closeSync(file);
    try {
      unlinkSync(temporary);
    } catch {
      // It was never created.
    }
    if (error instanceof Error && "code" in error) throw fileError(`${path}: the engine could not be written`, error);
    throw error;
  }
}

function writeSections(file: number, content: EngineContent): void {
  const sections: Section[] = [];
  let offset = PAGE;
  const place = (name: Section["name"], sizeBytes: number, digest: Uint8Array): void => {
    sections.push({ name, offset, sizeBytes, digest });
    offset += roundToPage(sizeBytes);
  };
  for (const [name, bytes] of [["manifest", encodeJson(content.manifest)], ["report", encodeJson(content.report)], ["code", content.code]] as const) {
    writeAll(file, bytes, offset);
    place(name, bytes.byteLength, sha256(bytes));
  }
  place("weights", content.weightBytes, writeWeights(file, offset, content));
  ftruncateSync(file, offset);
  writeAll(file, encodeHeader(sections), 0);
}

function encodeJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value), "utf8");
}

function writeWeights(file: number, start: number, content: EngineContent): Uint8Array {
  const hash = createHash("sha256");
  const gap = Buffer.alloc(PAGE);
  const made = new Uint8Array(content.weights.reduce((most, piece) => (piece.bytes ? most : Math.max(most, piece.sizeBytes)), 0));
  let at = 0;
  const pad = (to: number): void => {
    for (; at < to; at += Math.min(PAGE, to - at)) hash.update(gap.subarray(0, Math.min(PAGE, to - at)));
  };
  for (const piece of content.weights) {
    pad(piece.offset);
    const bytes = piece.bytes ?? made.subarray(0, piece.sizeBytes);
    if (!piece.bytes) piece.write?.(bytes.fill(0));
    hash.update(bytes);
    writeAll(file, bytes, start + piece.offset);
    at = piece.offset + piece.sizeBytes;
  }
  pad(content.weightBytes);
  return hash.digest();
}

function writeAll(file: number, bytes: Uint8Array, position: number): void {
  const CHUNK = 1 << 28;
  for (let done = 0; done < bytes.byteLength; ) {
    done += writeSync(file, bytes, done, Math.min(CHUNK, bytes.byteLength - done), position + done);
  }
}
