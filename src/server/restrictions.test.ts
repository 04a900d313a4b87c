/** Restricted parts of the API, over both protocols. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { Restrictions } from "./extensions/restrictions.ts";
import { GrpcFrontEnd } from "./grpc/index.ts";
import { HttpFrontEnd } from "./http/index.ts";
import { IdentityServer } from "./testing.ts";

test("over HTTP, a restricted part answers 403 without its header", async () => {
  const http = await HttpFrontEnd.listen(new IdentityServer(), { port: 0, restrictions: new Restrictions(["inference,metadata:infer-key=open", "model-repository:admin-key=sesame"]) });
  const ask = (path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Response> => fetch(`http://127.0.0.1:${http.port}${path}`, { method, headers });
  try {
    const refused = await ask("/v2");
    assert.deepEqual([refused.status, await refused.json()], [403, { error: "This API is restricted, expecting header 'infer-key'" }]);
    const statuses = await Promise.all([
      ask("/v2", { "infer-key": "open" }), ask("/v2", { "infer-key": "opem" }), ask("/v2/models/matrix", { "admin-key": "sesame" }), ask("/v2/models/matrix/infer", {}, "POST"),
      ask("/v2/health/ready"), ask("/v2/models/stats"), ask("/v2/repository/index", {}, "POST"), ask("/v2/repository/index", { "Admin-Key": "sesame" }, "POST"),
    ]);
    assert.deepEqual(statuses.map((answer) => answer.status), [200, 403, 403, 403, 200, 200, 403, 200]);
  } finally {
    await http.drain(1000);
  }
});

test("over gRPC, a restricted part is unavailable without its metadata", async () => {
  const grpc = await GrpcFrontEnd.listen(new IdentityServer(), { port: 0, restrictions: new Restrictions(["health:key=open"], "protocol", "triton-grpc-protocol-") });
  const client = new Client(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
  const raw = (bytes: Buffer): Buffer => bytes;
  const call = (method: string, headers: Record<string, string> = {}): Promise<Buffer> => new Promise((resolve, reject) => {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(headers)) metadata.set(key, value);
    client.makeUnaryRequest(`/inference.GRPCInferenceService/${method}`, raw, raw, Buffer.alloc(0), metadata, {}, (error, answer) => (error ? reject(error) : resolve(answer!)));
  });
  try {
    await assert.rejects(call("ServerLive"), (error: ServiceError) => error.code === status.UNAVAILABLE && error.details === "This protocol is restricted, expecting header 'triton-grpc-protocol-key'");
    assert.deepEqual([...(await call("ServerLive", { "triton-grpc-protocol-key": "open" }))], [8, 1]);
    assert.ok((await call("ServerMetadata")).length > 0);
  } finally {
    client.close();
    await grpc.drain(1000);
  }
});

test("groups that make no sense are refused", () => {
  assert.throws(() => new Restrictions(["models:k=v"]), /unknown restricted api 'models'/);
  assert.throws(() => new Restrictions(["health:k=v", "metadata,health:k=w"]), /api 'health' can not be specified in multiple config groups/);
  assert.throws(() => new Restrictions(["health"]), /expected CATEGORY\[,CATEGORY\]:KEY=VALUE/);
});
