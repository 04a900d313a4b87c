export { compileLoop } from "./compile-loop.ts";
export { ParamTable } from "./params.ts";
