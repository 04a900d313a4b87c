export { compileLoop } from "./compile-loop.ts";
export { EpilogueEmitter, EpilogueRow } from "./epilogue.ts";
export { ParamTable } from "./params.ts";
