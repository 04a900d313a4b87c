/** ONNX bytes to graph; the only place that says opset. `makeModel` writes models, for tests and tools. */
export { type ImportedModel, importModel, type ImportOptions, type ModelMetadata } from "./import.ts";
export { type MapFile, type MappedFile, readFileWindows } from "./file-source.ts";
export {
  type AttributeDescription, type DimDescription, type ExternalTensor, type FunctionDescription, type GraphDescription, makeModel,
  type ModelDescription, type NodeDescription, type ValueDescription,
} from "./model-writer.ts";
export { decomposeContrib } from "./contrib/index.ts";
export { dataTypeOf, dtypeOf, readTensorProto } from "./tensor-data.ts";
