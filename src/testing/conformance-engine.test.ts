/**
 * ONNX's own test cases on engines: built without tuning, written, loaded, run. Every case passes but those that the
 * reference is not expected to pass either, and most of those with plain float32 tensors need no reference step.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ACCEPTED_FAILURES } from "./conformance-accepted.ts";
import { conformanceFolder } from "./conformance-cases.ts";
import { type ConformanceCase, listCases, runCase } from "./conformance.ts";
import { runOnEngine } from "./engine-executor.ts";

/** Share of the cases whose inputs and outputs are all float32 that must run on native kernels only. */
const LEAST_NATIVE_SHARE = 0.85;

interface Outcome {
  readonly name: string;
  /** Absent where the case passed. */
  readonly failure: string | undefined;
  readonly isFloat32: boolean;
  readonly isNative: boolean;
}

async function outcomeOf(one: ConformanceCase): Promise<Outcome> {
  let isFloat32 = false;
  let isNative = false;
  const { passed, reason } = await runCase(one, async (graph, feeds, path) => {
    const { outputs, references } = await runOnEngine(graph, feeds, path);
    isFloat32 = [...graph.inputs, ...graph.outputs].every((value) => value.kind === "tensor" && value.dtype === "float32");
    isNative = references.length === 0;
    return outputs;
  });
  return { name: one.name, failure: passed ? undefined : reason ?? "", isFloat32, isNative };
}

const folder = conformanceFolder(process.cwd());

describe("ONNX conformance of engines", { skip: folder ? false : "skipped the 1,657 ONNX test cases on engines: ../shared/conformance/onnx-tests.tar.xz is not there" }, () => {
  it("passes every case but the accepted ones, most float32 cases on native kernels alone", async () => {
    const outcomes: Outcome[] = [];
    for (const one of listCases(folder!)) outcomes.push(await outcomeOf(one));
    const accepted = new Set(Object.values(ACCEPTED_FAILURES).flat());
    const unexpected = outcomes.filter(({ name, failure }) => failure !== undefined && !accepted.has(name)).map(({ name, failure }) => `${name}: ${failure!.split("\n")[0]}`);
    const nowPassing = outcomes.filter(({ name, failure }) => failure === undefined && accepted.has(name)).map(({ name }) => name);
    assert.deepEqual({ unexpected, nowPassing }, { unexpected: [], nowPassing: [] });
    const floats = outcomes.filter(({ isFloat32 }) => isFloat32);
    const native = floats.filter(({ isNative }) => isNative);
    assert.ok(floats.length > 600 && native.length >= LEAST_NATIVE_SHARE * floats.length, `${native.length} of ${floats.length} float32 cases run on native kernels alone`);
  });
});
