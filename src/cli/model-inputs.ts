/** What a model takes, without building it. */
import type { InputDescription } from "../data/index.ts";
import { dimKey } from "../ir/index.ts";
import { MappedFile } from "../native/index.ts";
import { importModel } from "../onnx/index.ts";

export function modelInputs(model: string): InputDescription[] {
  const imported = importModel(model, { mapFile: (path) => MappedFile.open(path) });
  try {
    return imported.graph.inputs.filter((input) => !input.constant && input.dtype !== undefined).map((input): InputDescription => ({
      name: input.name, type: input.dtype!, dims: input.dims?.map((dim) => (typeof dim === "number" ? dim : dimKey(dim))),
    }));
  } finally {
    imported.close();
  }
}
