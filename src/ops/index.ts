export * from "./contract.ts";
export { findProblem, inferNode, inferTypes, isDataDependent, numbersConstant } from "./infer/index.ts";
export { lowerings } from "./lower/index.ts";
export { sequentials } from "./sequential/index.ts";
