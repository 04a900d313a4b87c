/** What a server can run. */
export { MODEL_NICE } from "./contract.ts";
export type { Backend, BackendInstance, BackendModel, BatchResults, BatchTensor, ModelSource } from "./contract.ts";
export { Compiler } from "./engine/compiler.ts";
export { EngineBackend } from "./engine/engine-backend.ts";
export { EngineCache } from "./engine/engine-cache.ts";
export { NativePool } from "./engine/native-pool.ts";
export { encodeStrings, stringEnds } from "./strings.ts";
export { OnnxruntimeBackend } from "./onnxruntime/onnxruntime-backend.ts";
