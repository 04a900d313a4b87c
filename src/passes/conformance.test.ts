/** The passes change no result of ONNX's own test cases: each that passes as imported passes after them. */
import assert from "node:assert/strict";
import { it } from "node:test";
import type { Graph } from "../ir/index.ts";
import { inferTypes } from "../ops/index.ts";
import { evaluateNode, interpret } from "../reference/index.ts";
import { conformanceFolder } from "../testing/conformance-cases.ts";
import { type Executor, listCases, runCase } from "../testing/conformance.ts";
import { runPasses } from "./index.ts";

const folder = conformanceFolder(process.cwd());

it("passes keep the results of ONNX's test cases", { skip: folder ? false : "skipped: ../shared/conformance/onnx-tests.tar.xz is not there" }, async () => {
  const done = new Set<Graph>();
  const optimised: Executor = (graph, feeds) => {
    if (!done.has(graph)) {
      done.add(graph);
      inferTypes(graph);
      runPasses(graph, { evaluate: evaluateNode });
    }
    return interpret(graph, feeds);
  };
  const broken: string[] = [];
  for (const one of listCases(folder ?? "")) {
    const after = await runCase(one, optimised);
    if (!after.passed && (await runCase(one, (graph, feeds) => interpret(graph, feeds))).passed) broken.push(`${one.name}: ${after.reason}`);
  }
  assert.deepEqual(broken, []);
});
