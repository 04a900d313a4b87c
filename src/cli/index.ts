/** What the demo shares with the commands. */
export { measureInTurns, summarize } from "./measure.ts";
export { buildCached } from "./open.ts";
export { bold, milliseconds } from "./output.ts";
export { openOnnxruntime, type Peer, relativeError } from "./peer.ts";
