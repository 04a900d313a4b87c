export { GrpcFrontEnd, type GrpcOptions } from "./front-end.ts";
