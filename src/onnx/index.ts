/** ONNX bytes to graph; the only place that says opset. `makeModel` writes models, for tests and tools. */
export { type ImportedModel, importModel } from "./import.ts";
export {
  type AttributeDescription, type GraphDescription, makeModel,
  type ModelDescription, type NodeDescription, type ValueDescription,
} from "./model-writer.ts";
export { decomposeContrib } from "./contrib/index.ts";
export { dataTypeOf, dtypeOf, readTensorProto } from "./tensor-data.ts";
