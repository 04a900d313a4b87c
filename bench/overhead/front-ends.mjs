/** The front ends alone, before a server in memory that answers at once: what `serve-overhead --front-ends` measures. Prints its ports. */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const load = (path) => import(pathToFileURL(resolve(process.argv[2] ?? "dist", path)).href);
const { HttpFrontEnd } = await load("server/http/index.js");
const { GrpcFrontEnd } = await load("server/grpc/index.js");

const pieces = new Map([["identity", 1024], ["slice", 4096]]);
let answered = 0;
const duration = { count: 0, ns: 0 };
const unused = () => {
  throw new Error("not asked for here");
};
const server = {
  live: () => true,
  ready: () => true,
  modelReady: () => true,
  modelMetadata: unused,
  modelConfig: () => ({ max_batch_size: 4 }),
  statistics: (name) => [{ name, version: "1", lastInferenceMs: 0, inferenceCount: answered, executionCount: answered, success: { count: answered, ns: 0 }, fail: duration, queue: duration, computeInput: duration, computeInfer: duration, computeOutput: duration, batches: [], memory: [] }],
  enter() {},
  leave() {},
  async infer(request) {
    answered++;
    const bytes = request.inputs[0].bytes.subarray(0, pieces.get(request.model));
    return { model: request.model, version: "1", id: request.id, parameters: new Map(), outputs: [{ name: "OUTPUT0", datatype: "FP32", shape: [1, bytes.length / 4], bytes: Buffer.from(bytes) }], release() {} };
  },
  inferStream: unused,
  repositoryIndex: () => [],
  loadModel: unused,
  unloadModel: unused,
};
const http = await HttpFrontEnd.listen(server, { port: 0 });
const grpc = await GrpcFrontEnd.listen(server, { port: 0 });
console.log(JSON.stringify({ http: http.port, grpc: grpc.port }));
