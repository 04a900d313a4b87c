/**
 * Signatures of engines: a JSON file beside the engine with the digest of its bytes, the signer's public key and an
 * Ed25519 signature. It says who made the machine code, not that the code is right.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync, renameSync, writeFileSync } from "node:fs";
import { fileError, UserError } from "../base/index.ts";
import { keyId, ownKey } from "./keys.ts";

interface SignatureFile {
  readonly format: 1;
  /** SHA-256 of the engine file, hex. */
  readonly digest: string;
  readonly key: string;
  /** DER (SubjectPublicKeyInfo), base64. */
  readonly publicKey: string;
  readonly signature: string;
}

const CHUNK_BYTES = 1 << 20;
const MAX_SIGNATURE_FILE_BYTES = 16_384;

export function signaturePath(engine: string): string {
  return `${engine}.sig`;
}

/** Signs an engine with this machine's key and writes the signature beside it. @returns the key's id */
export function signEngine(engine: string, keys: string): string {
  const key = ownKey(keys);
  const publicKey = createPublicKey(key);
  const digest = digestOfFile(engine);
  const file: SignatureFile = {
    format: 1, digest, key: keyId(publicKey), publicKey: publicKey.export({ type: "spki", format: "der" }).toString("base64"), signature: sign(null, statement(digest), key).toString("base64"),
  };
  const path = signaturePath(engine);
  try {
    writeFileSync(`${path}.${process.pid}.tmp`, `${JSON.stringify(file, null, 2)}\n`);
    renameSync(`${path}.${process.pid}.tmp`, path);
  } catch (cause) {
    throw fileError(path, cause);
  }
  return file.key;
}

/**
 * The id of the key that signed bytes of this digest.
 * @throws UserError "engine-untrusted" when there is no signature, or it is of other bytes
 */
export function signerOf(engine: string, digest: string): string {
  const file = readSignature(signaturePath(engine));
  if (file.digest !== digest) throw untrusted(engine, "its signature is of other bytes; the engine was changed after it was signed");
  const publicKey = publicKeyOf(engine, file);
  if (publicKey.asymmetricKeyType !== "ed25519" || !verify(null, statement(digest), publicKey, Buffer.from(file.signature, "base64"))) throw untrusted(engine, "its signature is wrong");
  return keyId(publicKey);
}

/** @throws UserError "engine-untrusted" unless a trusted key signed these bytes */
export function requireTrusted(engine: string, digest: string, trusted: ReadonlySet<string>): string {
  const signer = signerOf(engine, digest);
  if (!trusted.has(signer)) throw untrusted(engine, `it is signed by key ${signer}, which this machine does not trust (add that key's PEM file to the folder "trusted" beside this machine's own key)`);
  return signer;
}

export function digestOfFile(path: string): string {
  const hash = createHash("sha256");
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    for (let count = readSync(file, chunk); count > 0; count = readSync(file, chunk)) hash.update(chunk.subarray(0, count));
  } catch (cause) {
    throw fileError(path, cause);
  } finally {
    if (file !== undefined) closeSync(file);
  }
  return hash.digest("hex");
}

function publicKeyOf(engine: string, file: SignatureFile): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(file.publicKey, "base64"), format: "der", type: "spki" });
  } catch {
    throw untrusted(engine, "its signature holds no public key");
  }
}

/** What is signed: the digest with its purpose in front, so that no signature made for something else fits. */
function statement(digest: string): Buffer {
  return Buffer.from(`sinter engine 1 sha256 ${digest}`);
}

function readSignature(path: string): SignatureFile {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new UserError("engine-untrusted", `${path.replace(/\.sig$/, "")}: the engine is not signed (no ${path}). \`sinter build\` signs what it makes.`, { cause });
  }
  try {
    const file = JSON.parse(text.length > MAX_SIGNATURE_FILE_BYTES ? "" : text) as SignatureFile;
    if (file.format === 1 && [file.digest, file.key, file.publicKey, file.signature].every((field) => typeof field === "string")) return file;
  } catch {
    // Said below.
  }
  throw new UserError("engine-untrusted", `${path}: not a signature file of this version.`);
}

function untrusted(engine: string, why: string): UserError {
  return new UserError("engine-untrusted", `${engine}: not loaded: ${why}.`);
}
