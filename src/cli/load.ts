/** `sinter load`: how fast does a server answer, and how fast still when it is busy? */
import { writeFileSync } from "node:fs";
import { Command, Option } from "commander";
import { fileError, UserError } from "../base/index.ts";
import { bars, chartPage, fromTensor, GrpcTarget, HttpTarget, type LoadPlan, type LoadReport, type LoadTarget, type LoadTensor, makeCheck, makeInputs, reportOf, runLoad } from "../load/index.ts";
import { readNpy } from "../data/index.ts";
import { collect, parseCount, parseOptional, parseSeconds } from "./options.ts";
import { heading, milliseconds, printJson, table } from "./output.ts";

interface LoadOptions {
  readonly model: string;
  readonly protocol?: "http" | "grpc";
  readonly concurrency?: string;
  readonly rate?: string;
  readonly duration: number;
  readonly warmup: number;
  readonly timeout: number;
  readonly input?: readonly string[];
  readonly shapes?: string;
  readonly expect: string;
  readonly output?: readonly string[];
  readonly seed: number;
  readonly json?: boolean;
  readonly chart?: string;
}

export function loadCommand(): Command {
  return new Command("load")
    .description("Measure a server under load: requests per second and latencies, at one or several loads.")
    .argument("<url>", "http://HOST:PORT, or grpc://HOST:PORT")
    .requiredOption("-m, --model <name>", "the model to ask")
    .addOption(new Option("--protocol <name>", "what the URL's port speaks").choices(["http", "grpc"]))
    .option("--concurrency <list>", "requests in flight, e.g. 1,2,4,8 (default: 1,4,16)")
    .option("--rate <list>", "requests per second, arriving at random (Poisson), e.g. 100,200; latencies count from the intended start")
    .option("--duration <seconds>", "of each load", parseSeconds, 5)
    .option("--warmup <seconds>", "before each load", Number, 0.5)
    .option("--timeout <ms>", "after which a request has failed", parseCount("timeout"), 10_000)
    .option("--input <name=file>", "an input from a .npy file; others are random", collect)
    .option("--shapes <list>", "shapes of random inputs, e.g. input_ids:1x128")
    .addOption(new Option("--expect <what>", "what answers are compared with: the inputs, the first answer, or nothing").choices(["identity", "same", "none"]).default("same"))
    .option("--output <name=file>", "an output that every answer must have, from a .npy file", collect)
    .option("--seed <n>", "of random inputs and arrivals", parseCount("seed"), 1)
    .option("--json", "print the result as JSON")
    .option("--chart <file>", "write a page with throughput, latency and the server's own times")
    .addHelpText("after", "\nExamples:\n  sinter load http://127.0.0.1:8000 -m resnet50 --concurrency 1,2,4,8\n  sinter load grpc://127.0.0.1:8001 -m resnet50 --rate 50,100,200 --chart load.html")
    .action(run);
}

async function run(text: string, options: LoadOptions): Promise<void> {
  const target = openTarget(text, options.protocol);
  try {
    const model = await target.describe(options.model);
    const inputs = makeInputs(model, files("input", options.input), parseOptional(options.shapes), options.seed);
    target.prepare(options.model, inputs);
    const expected = files("output", options.output);
    const reports: LoadReport[] = [];
    for (const plan of plans(options)) {
      const check = makeCheck(expected.size > 0 ? expected : (options.expect as "identity" | "same" | "none"), inputs);
      const report = reportOf(await runLoad(target, options.model, plan, check));
      reports.push(report);
      if (!options.json) process.stderr.write(`${report.kind} ${report.value}: ${report.requestsPerSecond.toFixed(1)} req/s\n`);
    }
    if (options.chart !== undefined) writeChart(options.chart, `${options.model} at ${text}`, reports);
    if (options.json) printJson({ url: text, model: options.model, runs: reports });
    else print(reports);
    if (reports.some((report) => report.failed > 0)) throw new UserError("mismatch", failureText(reports));
  } finally {
    target.close();
  }
}

function openTarget(text: string, protocol: LoadOptions["protocol"]): LoadTarget {
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `http://${text}`);
  } catch (cause) {
    throw new UserError("option-invalid", `"${text}" is not a URL; write for example http://127.0.0.1:8000.`, { cause });
  }
  if (url.protocol !== "http:" && url.protocol !== "grpc:") throw new UserError("option-invalid", `"${text}": ${url.protocol} is not spoken here; use http:// or grpc://.`);
  return (protocol ?? (url.protocol === "grpc:" ? "grpc" : "http")) === "grpc" ? new GrpcTarget(url) : new HttpTarget(url);
}

function plans(options: LoadOptions): LoadPlan[] {
  const shared = { seconds: options.duration, warmupSeconds: options.warmup, timeoutMs: options.timeout, seed: options.seed };
  const concurrency = options.concurrency ?? (options.rate === undefined ? "1,4,16" : undefined);
  return [
    ...numbers("concurrency", concurrency, true).map((value): LoadPlan => ({ kind: "concurrency", value, ...shared })),
    ...numbers("rate", options.rate, false).map((value): LoadPlan => ({ kind: "rate", value, ...shared })),
  ];
}

function numbers(name: string, text: string | undefined, whole: boolean): number[] {
  if (text === undefined) return [];
  return text.split(",").map((item) => {
    const value = Number(item);
    if (!(value > 0 && value <= 1e6) || (whole && !Number.isInteger(value))) throw new UserError("option-invalid", `--${name} is "${text}"; expected ${whole ? "whole numbers" : "numbers"} above 0, for example 1,2,4.`);
    return value;
  });
}

function files(option: string, given: readonly string[] | undefined): Map<string, LoadTensor> {
  return new Map((given ?? []).map((item) => {
    const at = item.indexOf("=");
    if (at <= 0) throw new UserError("option-invalid", `--${option} "${item}": write NAME=FILE.npy.`);
    const name = item.slice(0, at);
    return [name, fromTensor(name, readNpy(item.slice(at + 1)))];
  }));
}

function writeChart(file: string, title: string, reports: readonly LoadReport[]): void {
  try {
    writeFileSync(file, chartPage(title, reports));
  } catch (cause) {
    throw fileError(file, cause);
  }
}

function print(reports: readonly LoadReport[]): void {
  console.log(heading("What the client saw"));
  console.log(table(["load", "req/s", "failed", "mean ms", "p50", "p90", "p95", "p99", "p99.9", "max"], reports.map((report) => {
    const { mean, p50, p90, p95, p99, p999, max } = report.latencyMs;
    return [labelOf(report), report.requestsPerSecond.toFixed(1), String(report.failed), ...[mean, p50, p90, p95, p99, p999, max].map(milliseconds)];
  })));
  console.log(heading("What the server says, ms per request"));
  console.log(table(["load", "queue", "input", "infer", "output", "mean batch", "counted"], reports.map((report) => {
    const { queueMs, inputMs, inferMs, outputMs, meanBatch } = report.server;
    return [labelOf(report), ...[queueMs, inputMs, inferMs, outputMs].map(milliseconds), meanBatch.toFixed(2), report.uncounted === 0 ? "all" : `${report.uncounted > 0 ? "+" : ""}${report.uncounted}`];
  })));
  if (reports.length > 1) console.log(`\n${bars(reports)}`);
}

function labelOf(report: LoadReport): string {
  return report.kind === "rate" ? `${report.value} req/s` : `${report.value} in flight`;
}

function failureText(reports: readonly LoadReport[]): string {
  const lines = reports.flatMap((report) => Object.entries(report.failures).map(([text, count]) => `  ${labelOf(report)}: ${count} × ${text}`));
  return `Requests failed:\n${lines.join("\n")}`;
}
