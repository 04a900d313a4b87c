/**
 * The engine file: a header page, then page-aligned sections.
 *
 *   0    magic "SINTER\x1a\n"       8 bytes
 *   8    format version            u32
 *   12   number of sections        u32
 *   16   section table             80 bytes each: name (16, zero padded), offset u64, size u64, SHA-256 (32), zeros (16)
 *   4064 SHA-256 of bytes 0..4063  32 bytes
 *
 * Offsets and sizes are below 2^53. Sections lie one after another, each beginning at a multiple of 4096, and the file
 * ends with the last one's padding. The weights' digest is checked by `verifyEngine`, all others at every load.
 */
import { createHash } from "node:crypto";
import { UnsupportedError, UserError } from "../base/index.ts";
import { ENGINE_FORMAT } from "./manifest.ts";

export const PAGE = 4096;
const MAGIC = Buffer.from("SINTER\x1a\n", "latin1");
const TABLE = 16;
const ROW = 80;
const HEADER_DIGEST = PAGE - 32;

export const SECTIONS = ["manifest", "report", "code", "weights"] as const;
export type SectionName = (typeof SECTIONS)[number];

export interface Section {
  readonly name: SectionName;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly digest: Uint8Array;
}

export function roundToPage(sizeBytes: number): number {
  return Math.ceil(sizeBytes / PAGE) * PAGE;
}

export function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

export function encodeHeader(sections: readonly Section[]): Buffer {
  const header = Buffer.alloc(PAGE);
  MAGIC.copy(header);
  header.writeUInt32LE(ENGINE_FORMAT, 8);
  header.writeUInt32LE(sections.length, 12);
  for (const [i, section] of sections.entries()) {
    const row = TABLE + i * ROW;
    header.write(section.name, row, 16, "latin1");
    header.writeBigUInt64LE(BigInt(section.offset), row + 16);
    header.writeBigUInt64LE(BigInt(section.sizeBytes), row + 24);
    header.set(section.digest, row + 32);
  }
  header.set(sha256(header.subarray(0, HEADER_DIGEST)), HEADER_DIGEST);
  return header;
}

/** @throws UserError "engine-damaged" with the offset, UnsupportedError "engine-incompatible" for another format version */
export function decodeHeader(header: Uint8Array, fileSize: number, file: string): Map<SectionName, Section> {
  const damaged = (offset: number, what: string): UserError => new UserError("engine-damaged", `${file}: damaged at byte ${offset}: ${what}. Build the engine again or fetch it anew.`);
  if (header.byteLength < PAGE) throw damaged(header.byteLength, `the file ends inside its header (${fileSize} bytes, at least ${PAGE} needed)`);
  const data = Buffer.from(header.buffer, header.byteOffset, header.byteLength);
  if (!data.subarray(0, 8).equals(MAGIC)) throw new UserError("engine-damaged", `${file}: not a Sinter engine (byte 0: no engine signature). Build one with: sinter build MODEL.onnx -o ${file}`);
  const format = data.readUInt32LE(8);
  if (!sha256(data.subarray(0, HEADER_DIGEST)).equals(data.subarray(HEADER_DIGEST, PAGE))) throw damaged(0, "the header does not match its digest");
  if (format !== ENGINE_FORMAT) throw new UnsupportedError("engine-incompatible", `${file}: engine format ${format}, this Sinter reads ${ENGINE_FORMAT}. ${format > ENGINE_FORMAT ? "Update Sinter" : "Build the engine again"}.`);
  const sections = new Map<SectionName, Section>();
  const count = data.readUInt32LE(12);
  if (count > (HEADER_DIGEST - TABLE) / ROW) throw damaged(12, `${count} sections; the header has room for ${Math.floor((HEADER_DIGEST - TABLE) / ROW)}`);
  for (let i = 0; i < count; i++) {
    const row = TABLE + i * ROW;
    const name = data.toString("latin1", row, row + 16).replace(/\0+$/, "") as SectionName;
    const offset = Number(data.readBigUInt64LE(row + 16));
    const sizeBytes = Number(data.readBigUInt64LE(row + 24));
    if (offset % PAGE !== 0 || offset + sizeBytes > fileSize) throw damaged(fileSize, `section "${name}" needs bytes ${offset} to ${offset + sizeBytes}, the file has ${fileSize}`);
    sections.set(name, { name, offset, sizeBytes, digest: data.subarray(row + 32, row + 64) });
  }
  for (const name of SECTIONS) if (!sections.has(name)) throw damaged(TABLE, `section "${name}" is missing`);
  return sections;
}
