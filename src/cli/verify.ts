/** `sinter verify`: every byte of an engine against its digests, as when a file first reaches a machine. */
import { existsSync } from "node:fs";
import { Command } from "commander";
import { EngineFile } from "../engine/index.ts";
import { digestOfFile, keyFolder, signaturePath, signerOf, trustedKeys } from "../trust/index.ts";
import { bytes, printJson } from "./output.ts";

export function verifyCommand(): Command {
  return new Command("verify")
    .description("Check all of an engine file, its weights included, against the digests in it.")
    .argument("<engine>", "the engine file")
    .option("--json", "print the result as JSON")
    .addHelpText("after", `
Loading checks code and tables at every start; weights are checked here. The signature beside the engine says which
key made it; a server loads only engines of keys that this machine trusts, its own among them.`)
    .action(run);
}

function run(path: string, options: { readonly json?: boolean }): void {
  const file = EngineFile.open(path);
  try {
    const manifest = file.manifest();
    file.report();
    file.code();
    file.verifyWeights();
    const signature = signatureOf(path);
    const sizes = { sizeBytes: file.sizeBytes, codeBytes: file.sizeOf("code"), weightBytes: file.sizeOf("weights") };
    if (options.json) printJson({ file: path, verified: true, model: manifest.model.name, ...sizes, ...signature });
    else console.log(`${path}: whole. ${bytes(sizes.sizeBytes)}, of which code ${bytes(sizes.codeBytes)} and weights ${bytes(sizes.weightBytes)}. ${signatureText(signature)}`);
  } finally {
    file.close();
  }
}

interface Signature {
  readonly signedBy: string | undefined;
  readonly trusted: boolean;
}

/** @throws UserError "engine-untrusted" for a signature that is wrong */
function signatureOf(path: string): Signature {
  if (!existsSync(signaturePath(path))) return { signedBy: undefined, trusted: false };
  const signedBy = signerOf(path, digestOfFile(path));
  return { signedBy, trusted: trustedKeys(keyFolder(process.env)).has(signedBy) };
}

function signatureText({ signedBy, trusted }: Signature): string {
  if (signedBy === undefined) return "It is not signed: servers refuse it.";
  return `Signed by key ${signedBy}, which this machine ${trusted ? "trusts" : "does not trust: its servers refuse the engine"}.`;
}
