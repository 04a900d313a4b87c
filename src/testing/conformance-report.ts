/**
 * How many of ONNX's test cases pass, by family: the reference operators beside onnxruntime-node, and the cases that
 * only one of them passes. Run it as a program: `node dist/testing/conformance-report.js [pattern]`.
 */
import { interpret } from "../reference/index.ts";
import { runOnEngine } from "./engine-executor.ts";
import { conformanceFolder } from "./conformance-cases.ts";
import { type CaseResult, type ConformanceCase, type Executor, listCases, runCase } from "./conformance.ts";
import { PeerRuntime } from "./peer-runtime.ts";

/** What runs the cases here; a new one is one row. */
const EXECUTORS: Readonly<Record<string, Executor>> = {
  reference: (graph, feeds) => interpret(graph, feeds),
  engine: async (graph, feeds, path) => {
    const { outputs, references } = await runOnEngine(graph, feeds, path);
    if ([...graph.inputs, ...graph.outputs].every((value) => value.kind === "tensor" && value.dtype === "float32")) nativeShare.set(path, references);
    return outputs;
  },
};

/** Operators on the reference, of the cases whose inputs and outputs are all float32. */
const nativeShare = new Map<string, readonly string[]>();

interface Row {
  readonly one: ConformanceCase;
  readonly results: Readonly<Record<string, CaseResult>>;
}

async function runAll(cases: readonly ConformanceCase[]): Promise<Row[]> {
  await using peer = new PeerRuntime();
  const rows: Row[] = [];
  for (const one of cases) {
    const results: Record<string, CaseResult> = {};
    for (const [name, executor] of Object.entries(EXECUTORS)) results[name] = await runCase(one, executor);
    results["onnxruntime"] = await peer.run(one);
    rows.push({ one, results });
  }
  return rows;
}

function summary(rows: readonly Row[]): string[] {
  const families = [...new Set(rows.map(({ one }) => one.family))];
  const names = [...Object.keys(EXECUTORS), "onnxruntime"];
  const lines = [["family".padEnd(20), "cases".padStart(6), ...names.map((name) => name.padStart(12))].join(" ")];
  for (const family of [...families, "all"]) {
    const own = rows.filter(({ one }) => family === "all" || one.family === family);
    const counts = names.map((name) => String(own.filter(({ results }) => results[name]!.passed).length).padStart(12));
    lines.push([family.padEnd(20), String(own.length).padStart(6), ...counts].join(" "));
  }
  return lines;
}

/** Cases that onnxruntime passes and an executor of ours does not. */
function behind(rows: readonly Row[]): string[] {
  return rows.filter(({ results }) => results["onnxruntime"]!.passed)
    .flatMap(({ one, results }) => Object.keys(EXECUTORS).filter((name) => !results[name]!.passed).map((name) => `${name} fails ${one.name}: ${results[name]!.reason?.split("\n")[0] ?? ""}`));
}

const folder = conformanceFolder(process.cwd());
if (!folder) {
  console.error("There are no test cases: ../shared/conformance/onnx-tests.tar.xz is not beside the repository.");
  process.exitCode = 2;
} else {
  const pattern = new RegExp(process.argv[2] ?? ".");
  const rows = await runAll(listCases(folder).filter(({ name }) => pattern.test(name)));
  const lines = behind(rows);
  const native = [...nativeShare.values()].filter((references) => references.length === 0).length;
  const leftOver = new Map<string, number>();
  for (const operator of [...nativeShare.values()].flat()) leftOver.set(operator, (leftOver.get(operator) ?? 0) + 1);
  console.log([...summary(rows), "", `float32 cases without a reference step: ${native} of ${nativeShare.size}`, `on the reference there: ${[...leftOver].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${name} ${count}`).join(", ")}`, `passed by onnxruntime and not here: ${lines.length}`, ...lines].join("\n"));
}
