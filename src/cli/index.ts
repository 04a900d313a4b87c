/** What the demo shares with the commands. */
export { FAIR_TURNS, measureInTurns, oneRun, summarize } from "./measure.ts";
export { buildCached } from "./open.ts";
export { bold, bytes, milliseconds } from "./output.ts";
export { openOnnxruntime, relativeError } from "./peer.ts";
