export * from "./contract.ts";
export { lowerings } from "./lower/index.ts";
