/** A load run against the front ends, and the arithmetic of its numbers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { GrpcFrontEnd } from "../server/grpc/index.ts";
import { HttpFrontEnd } from "../server/http/index.ts";
import { IdentityServer } from "../server/testing.ts";
import { chartPage } from "./chart.ts";
import type { LoadTarget } from "./contract.ts";
import { GrpcTarget } from "./grpc-target.ts";
import { LatencyHistogram } from "./histogram.ts";
import { HttpTarget } from "./http-target.ts";
import { makeCheck, makeInputs } from "./payload.ts";
import { bars, reportOf } from "./report.ts";
import { runLoad, seededRandom } from "./run.ts";

const PLAN = { seconds: 0.2, warmupSeconds: 0.05, timeoutMs: 5000, seed: 3 };

test("percentiles are right within a bucket, from microseconds to hours", () => {
  const random = seededRandom(7);
  const values = Array.from({ length: 20_000 }, () => 10 ** (random() * 9));
  const histogram = new LatencyHistogram();
  for (const value of values) histogram.record(value);
  values.sort((a, b) => a - b);
  for (const percent of [1, 25, 50, 90, 99, 99.9]) {
    const exact = values[Math.ceil((percent / 100) * values.length) - 1]!;
    const got = histogram.percentile(percent);
    assert.ok(Math.abs(got - exact) <= exact / 100 + 1, `p${percent}: ${got}, exactly ${exact}`);
  }
  assert.equal(histogram.percentile(100), histogram.maxUs);
  assert.equal(histogram.buckets().reduce((sum, bucket) => sum + bucket.count, 0), values.length);
  assert.equal(new LatencyHistogram().percentile(50), 0);
});

test("closed and open loops over both protocols: all answered, all counted", async () => {
  const server = new IdentityServer();
  const http = await HttpFrontEnd.listen(server, { port: 0 });
  const grpc = await GrpcFrontEnd.listen(server, { port: 0 });
  const targets: readonly LoadTarget[] = [new HttpTarget(new URL(`http://127.0.0.1:${http.port}`)), new GrpcTarget(new URL(`grpc://127.0.0.1:${grpc.port}`))];
  for (const target of targets) {
    const inputs = makeInputs(await target.describe("matrix"), new Map(), { INPUT0: [4, 8] }, 1);
    target.prepare("matrix", inputs);
    for (const load of [{ kind: "concurrency", value: 3 }, { kind: "rate", value: 100 }] as const) {
      const report = reportOf(await runLoad(target, "matrix", { ...PLAN, ...load }, makeCheck("identity", inputs)));
      assert.deepEqual([report.failed, report.uncounted, report.failures], [0, 0, {}]);
      assert.ok(report.answered > 0 && report.latencyMs.p50 > 0 && report.latencyMs.p99 >= report.latencyMs.p50);
    }
    await assert.rejects(target.describe("nope"), /unknown model: 'nope'/);
    target.close();
  }
  await Promise.all([http.drain(500), grpc.drain(500)]);
});

test("wrong answers and refusals are counted with their texts", async () => {
  const server = new IdentityServer();
  const http = await HttpFrontEnd.listen(server, { port: 0 });
  const target = new HttpTarget(new URL(`http://127.0.0.1:${http.port}`));
  const inputs = makeInputs(await target.describe("matrix"), new Map(), {}, 1);
  target.prepare("matrix", inputs);
  const other = makeCheck(new Map([["OUTPUT0", { name: "OUTPUT0", datatype: "FP32", shape: [1], bytes: Uint8Array.of(1) }]]), inputs);
  const wrong = reportOf(await runLoad(target, "matrix", { ...PLAN, kind: "concurrency", value: 1 }, other));
  assert.deepEqual([wrong.answered, Object.keys(wrong.failures)[0]], [0, "output OUTPUT0 differs from what was expected"]);
  server.most = 1;
  const refused = reportOf(await runLoad(target, "matrix", { ...PLAN, kind: "concurrency", value: 1 }, makeCheck("none", inputs)));
  assert.match(Object.keys(refused.failures)[0]!, /^HTTP 503: Exceeds maximum queue size/);
  target.close();
  await http.drain(500);
});

test("an open loop charges a stall to all requests that should have come meanwhile", async () => {
  let stalled = false;
  const target: LoadTarget = {
    describe: () => Promise.reject(new Error("not asked")),
    counts: async () => ({ success: 0, fail: 0, inferences: 0, executions: 0, queueNs: 0, inputNs: 0, inferNs: 0, outputNs: 0 }),
    prepare() {},
    async call() {
      if (stalled) return [];
      stalled = true;
      // The whole process stands still: a closed loop would see one slow request.
      for (const end = performance.now() + 150; performance.now() < end; );
      return [];
    },
    close() {},
  };
  const { latency } = await runLoad(target, "m", { ...PLAN, seconds: 0.3, warmupSeconds: 0, kind: "rate", value: 200 }, () => undefined);
  assert.ok(latency.percentile(75) > 50_000, `p75 is ${latency.percentile(75)} us`);
});

test("inputs that the model does not have are refused, and the chart stands alone", () => {
  const model = { name: "m", version: "1", inputs: [{ name: "x", datatype: "INT64", shape: [-1, 4] }] };
  assert.deepEqual(makeInputs(model, new Map(), {}, 1)[0]!.shape, [1, 4]);
  assert.throws(() => makeInputs(model, new Map(), { y: [1] }, 1), /no input "y"; it has x/);
  const report = { kind: "rate", value: 10, seconds: 1, requestsPerSecond: 9.5, answered: 10, failed: 0, failures: {}, latencyMs: { mean: 1, p50: 1, p90: 2, p95: 2, p99: 3, p999: 3, max: 4 }, server: { queueMs: 0.1, inputMs: 0, inferMs: 0.5, outputMs: 0, meanBatch: 1 }, uncounted: 0 } as const;
  const page = chartPage("a <b>", [report, { ...report, value: 20, requestsPerSecond: 19 }]);
  assert.ok(page.includes("a &#60;b&#62;") && page.includes("<svg") && !/src=|href=|NaN/.test(page));
  assert.match(bars([report, { ...report, value: 20, requestsPerSecond: 19 }]), /^rate 10 {2}█+ +10 req\/s, p99 3.00 ms\nrate 20/);
});
