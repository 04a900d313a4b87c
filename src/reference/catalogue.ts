/** Every reference operator, by key: the one table the interpreter looks in. */
import { NETWORK_OPERATORS } from "./catalogue-network.ts";
import { TENSOR_OPERATORS } from "./catalogue-tensor.ts";
import type { ReferenceTable } from "./contract.ts";

export const REFERENCE_OPERATORS: ReferenceTable = { ...NETWORK_OPERATORS, ...TENSOR_OPERATORS };
