/** What a server can run. */
export { MODEL_NICE } from "./contract.ts";
export type { Backend, BackendInstance, BackendModel, BatchResults, BatchTensor, ModelSource } from "./contract.ts";
export { Compiler } from "./engine/compiler.ts";
export { GpuHosts } from "./gpu/gpu-host.ts";
export { EngineBackend } from "./engine/engine-backend.ts";
export { EngineCache } from "./engine/engine-cache.ts";
export { NativePool } from "./engine/native-pool.ts";
export { IdentityBackend } from "./identity/identity-backend.ts";
export { encodeStrings, stringEnds } from "./strings.ts";
export { RepeatBackend } from "./repeat/repeat-backend.ts";
export { OnnxruntimeBackend } from "./onnxruntime/onnxruntime-backend.ts";
