export { HttpFrontEnd, type HttpOptions } from "./front-end.ts";
