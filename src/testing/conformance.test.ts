/** ONNX's own test cases on the reference operators: every one passes but those accepted by name. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Tensor } from "../base/index.ts";
import { interpret } from "../reference/index.ts";
import { ACCEPTED_FAILURES } from "./conformance-accepted.ts";
import { conformanceFolder } from "./conformance-cases.ts";
import { type ConformanceCase, type Executor, listCases, runCase } from "./conformance.ts";

const root = process.cwd();
const folder = conformanceFolder(root);

const reference: Executor = (graph, feeds) => interpret(graph, feeds);

async function failuresOf(cases: readonly ConformanceCase[]): Promise<Map<string, string>> {
  const failures = new Map<string, string>();
  for (const one of cases) {
    const { passed, reason } = await runCase(one, reference);
    if (!passed) failures.set(one.name, reason ?? "");
  }
  return failures;
}

describe("ONNX conformance of the reference operators", { skip: folder ? false : "skipped the 1,657 ONNX test cases: ../shared/conformance/onnx-tests.tar.xz is not there" }, () => {
  const cases = folder ? listCases(folder) : [];

  it("finds the whole suite", () => {
    assert.equal(cases.length, 1657);
  });

  it("passes every case but the accepted ones", async () => {
    const failures = await failuresOf(cases);
    const accepted = new Set(Object.values(ACCEPTED_FAILURES).flat());
    const unexpected = [...failures].filter(([name]) => !accepted.has(name)).map(([name, reason]) => `${name}: ${reason.split("\n")[0]}`);
    const nowPassing = [...accepted].filter((name) => !failures.has(name));
    assert.deepEqual({ unexpected, nowPassing }, { unexpected: [], nowPassing: [] });
  });
});

describe("the conformance runner", () => {
  it("tells a wrong answer from a right one", { skip: folder ? false : "no cases" }, async () => {
    const one: ConformanceCase = { family: "simple", name: "test_single_relu_model", folder: join(folder ?? "", "simple", "test_single_relu_model") };
    const right = await runCase(one, reference);
    assert.deepEqual(right, { passed: true, reason: undefined });
    const wrong = await runCase(one, (graph, feeds) => interpret(graph, feeds).map((value) => (value instanceof Tensor ? new Tensor("float32", [...(value.data as Float32Array)].map((x) => x + 0.5), value.dims) : value)));
    assert.equal(wrong.passed, false);
    assert.match(wrong.reason ?? "", /item \d+ is .*, expected/);
  });
});
