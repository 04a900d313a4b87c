import assert from "node:assert/strict";
import { createPublicKey } from "node:crypto";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { digestOfFile, ownKey, requireTrusted, signaturePath, signEngine, signerOf, trustedKeys } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-trust-"));
after(() => rmSync(folder, { recursive: true }));
const [mine, theirs] = [join(folder, "mine"), join(folder, "theirs")];

function engineFile(name: string): string {
  const path = join(folder, name);
  writeFileSync(path, `bytes of ${name}`);
  return path;
}

test("a signature by this machine's own key is trusted, and the key is kept private", () => {
  const path = engineFile("own.engine");
  const key = signEngine(path, mine);
  assert.equal(requireTrusted(path, digestOfFile(path), trustedKeys(mine)), key);
  assert.equal(signEngine(path, mine), key);
  assert.equal(statSync(join(mine, "own.pem")).mode & 0o077, 0);
});

test("changed bytes, a changed signature and no signature are refused", () => {
  const path = engineFile("changed.engine");
  assert.throws(() => signerOf(path, digestOfFile(path)), /not signed/);
  signEngine(path, mine);
  const digest = digestOfFile(path);
  appendFileSync(path, "!");
  assert.throws(() => requireTrusted(path, digestOfFile(path), trustedKeys(mine)), /changed after it was signed/);
  writeFileSync(signaturePath(path), JSON.stringify({ format: 1, digest, key: "", publicKey: createPublicKey(ownKey(mine)).export({ type: "spki", format: "der" }).toString("base64"), signature: Buffer.alloc(64).toString("base64") }));
  assert.throws(() => signerOf(path, digest), /its signature is wrong/);
  writeFileSync(signaturePath(path), JSON.stringify({ format: 1, digest, key: "", publicKey: "AAAA", signature: "" }));
  assert.throws(() => signerOf(path, digest), /holds no public key/);
  writeFileSync(signaturePath(path), "{");
  assert.throws(() => signerOf(path, digest), /not a signature file/);
});

test("another machine's key is trusted once its public half is in the folder", () => {
  const path = engineFile("foreign.engine");
  signEngine(path, theirs);
  assert.throws(() => requireTrusted(path, digestOfFile(path), trustedKeys(mine)), /does not trust/);
  mkdirSync(join(mine, "trusted"));
  writeFileSync(join(mine, "trusted", "theirs.pem"), createPublicKey(ownKey(theirs)).export({ type: "spki", format: "pem" }));
  assert.doesNotThrow(() => requireTrusted(path, digestOfFile(path), trustedKeys(mine)));
});
