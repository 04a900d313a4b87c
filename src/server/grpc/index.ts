export { GrpcFrontEnd } from "./front-end.ts";
export { ModelInferRequest, ModelInferResponse } from "./messages.ts";
export { METHODS } from "./methods.ts";
export { decode, encode, type Message, type Plain } from "./schema.ts";
