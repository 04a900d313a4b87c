export { compileSequential } from "./compile-sequential.ts";
