export { GrpcFrontEnd, type GrpcOptions } from "./front-end.ts";
export { ModelInferRequest, ModelInferResponse } from "./messages.ts";
export { decode, encode, type Plain } from "./schema.ts";
