/** ONNX's files as protobuf: what is told of one that is damaged. */
import { ProtoReader, type ProtoSource, UserError, type Window } from "../base/index.ts";

/** @param name of the file, or "model" */
export function onnxReader(bytes: Uint8Array, name: string, window?: Window): ProtoReader {
  const source: ProtoSource = {
    invalid: (found) => new UserError("model-invalid", `${name}: ${found}. The file is damaged or not an ONNX model.`),
    truncated: (found) => new UserError("model-truncated", `${name}: ${found}. The file is cut short; copy it again.`),
    limit: (found) => new UserError("limit-exceeded", `${name}: ${found}.`),
  };
  return new ProtoReader(bytes, source, window);
}
