export { HttpFrontEnd } from "./front-end.ts";
