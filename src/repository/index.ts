/** Models on disk: repositories, configurations, versions. */
export type { PlainMessage } from "./bind.ts";
export { batchSizeOf, completeFromModel, type ModelDescription, type TensorDescription } from "./complete.ts";
export { completeConfig, type ControlConfig, type DynamicBatchingConfig, type EnsembleStepConfig, gpusOf, instancesOf, type ModelConfig, parameterOf, type QueuePolicyConfig, type SequenceBatchingConfig, sequenceTensors, type StateConfig, type TensorConfig, type WarmupConfig } from "./config.ts";
export { dataTypeOfConfig, dataTypeOfDtype, dataTypeOfWire, type WireType } from "./data-types.ts";
export { isFile, isFolder, isModelName, listFolders, type Stamp, stampOf, versionsIn } from "./folders.ts";
export { type ConfigChoice, parseConfig, readConfig, readLabels } from "./read.ts";
export { chooseVersions } from "./versions.ts";
export type { CompileAnswer, CompileRequest } from "./compile.ts";
