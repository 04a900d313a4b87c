/**
 * Keys that sign engines. This machine's own pair is made when it is first needed; public keys that are trusted lie
 * beside it, one PEM file each. Whoever can write that folder decides whose machine code a server runs.
 * Source: RFC 8032 (Ed25519), in node:crypto.
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { linkSync, mkdirSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileError, UserError } from "../base/index.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Where keys lie: $SINTER_KEYS, $XDG_CONFIG_HOME/sinter/keys or ~/.config/sinter/keys. */
export function keyFolder(env: Environment): string {
  return env["SINTER_KEYS"] || join(env["XDG_CONFIG_HOME"] || join(homedir(), ".config"), "sinter", "keys");
}

/** What a key is called: the first 16 hex digits of the SHA-256 of its public half. */
export function keyId(publicKey: KeyObject): string {
  return createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("hex").slice(0, 16);
}

/** This machine's private key, made when there is none. @throws UserError "file-io" */
export function ownKey(folder: string): KeyObject {
  const path = join(folder, "own.pem");
  const existing = read(path);
  if (existing !== undefined) return parse(path, () => createPrivateKey(existing));
  const { privateKey } = generateKeyPairSync("ed25519");
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const temporary = join(folder, `.own.${process.pid}.pem`);
    writeFileSync(temporary, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600, flag: "wx" });
    // A link, unlike a rename, leaves the key of whoever was first.
    link(temporary, path);
    unlinkSync(temporary);
  } catch (cause) {
    throw fileError(`${folder}: a signing key could not be kept there`, cause);
  }
  return parse(path, () => createPrivateKey(readFileSync(path)));
}

function link(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

/** Ids of the keys whose engines are run: this machine's own and those in `trusted/`. */
export function trustedKeys(folder: string): ReadonlySet<string> {
  const ids = new Set<string>();
  const own = read(join(folder, "own.pem"));
  if (own !== undefined) ids.add(keyId(createPublicKey(own)));
  for (const file of list(join(folder, "trusted")).filter((name) => name.endsWith(".pem"))) {
    const path = join(folder, "trusted", file);
    ids.add(keyId(parse(path, () => createPublicKey(readFileSync(path)))));
  }
  return ids;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw fileError(path, cause);
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function parse(path: string, attempt: () => KeyObject): KeyObject {
  try {
    const key = attempt();
    if (key.asymmetricKeyType === "ed25519") return key;
  } catch (cause) {
    throw new UserError("file-io", `${path}: not a key in PEM form (${(cause as Error).message}).`, { cause });
  }
  throw new UserError("file-io", `${path}: expected an Ed25519 key.`);
}
