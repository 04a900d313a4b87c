/** Who made an engine, and whether this machine runs what they made. */
export { keyFolder, ownKey, trustedKeys } from "./keys.ts";
export { digestOfFile, requireTrusted, signaturePath, signEngine, signerOf } from "./signature.ts";
