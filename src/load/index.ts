export type { LoadTarget, LoadTensor } from "./contract.ts";
export { chartPage } from "./chart.ts";
export { GrpcTarget } from "./grpc-target.ts";
export { HttpTarget } from "./http-target.ts";
export { fromTensor, makeCheck, makeInputs } from "./payload.ts";
export { bars, type LoadReport, reportOf } from "./report.ts";
export { type LoadPlan, runLoad } from "./run.ts";
