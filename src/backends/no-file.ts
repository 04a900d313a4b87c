/** Models of no file: the configuration is all that there is of them. */
import { UserError } from "../base/index.ts";
import { dataTypeOfConfig, type ModelConfig, type ModelDescription, type TensorConfig } from "../repository/index.ts";
import type { BackendInstance, BackendModel } from "./contract.ts";

export abstract class ModelOfNoFile implements BackendModel {
  abstract readonly summary: string;
  readonly description: ModelDescription;
  readonly defaultInstances = 1;

  /** @throws UserError "config-invalid" for a tensor of no type */
  constructor(config: ModelConfig) {
    this.description = describe(config);
  }

  memoryBytes(): number {
    return 0;
  }

  admits(): boolean {
    return true;
  }

  usualShapes(): undefined {
    return undefined;
  }

  abstract createInstance(): Promise<BackendInstance>;

  dispose(): void {}
}

/** Inputs and outputs as the configuration has them, with the batch in front. */
function describe({ name, input = [], output = [], max_batch_size = 0 }: ModelConfig): ModelDescription {
  const described = ({ name: tensor, data_type, dims, reshape }: TensorConfig): ModelDescription["inputs"][number] => {
    const type = dataTypeOfConfig(data_type);
    if (!type) throw new UserError("config-invalid", `Model "${name}": "${tensor}" has data_type ${data_type ?? "TYPE_INVALID"}; expected a type.`);
    const inner = reshape ? (reshape.shape ?? []) : dims;
    return { name: tensor, dtype: type.dtype, dims: [...(max_batch_size > 0 ? [null] : []), ...inner.map((dim) => (dim === -1 ? null : dim))] };
  };
  return { inputs: input.map(described), outputs: output.map(described) };
}
