/** `sinter serve`: the inference server, with the options of Triton's where there is one. */
import { join } from "node:path";
import { Command, Option } from "commander";
import { destination, type Level, type Logger, pino } from "pino";
import { UserError } from "../base/index.ts";
import { type RunningServer, serve, type ServeOptions } from "../serve.ts";
import { readTraceOptions } from "../server/index.ts";
import { keyFolder } from "../trust/index.ts";
import { VERSION } from "../version.ts";
import { cacheFolder } from "./open.ts";
import { collect, parseBytes, parseCount, parsePositive } from "./options.ts";

interface ServeCommandOptions {
  readonly modelRepository?: readonly string[];
  readonly modelStore?: readonly string[];
  readonly host: string;
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly metricsPort: number;
  readonly allowHttp: boolean;
  readonly allowGrpc: boolean;
  readonly allowMetrics: boolean;
  readonly modelControlMode: "none" | "poll" | "explicit";
  readonly loadModel?: readonly string[];
  readonly repositoryPollSecs: number;
  readonly exitTimeoutSecs: number;
  readonly exitOnError: boolean;
  readonly backendConfig?: readonly string[];
  readonly tuneLevel: string;
  readonly engineCache?: string;
  readonly httpMaxInputSize: number;
  readonly maxQueueRequests: number;
  readonly maxQueueBytes: number;
  readonly allowModelUpload?: boolean;
  readonly allowClientShm: boolean;
  readonly traceConfig?: readonly string[];
  readonly httpRestrictedApi?: readonly string[];
  readonly grpcRestrictedProtocol?: readonly string[];
  readonly id: string;
  readonly logLevel: Level;
  readonly logVerbose?: number;
}

/** Exit status after a second signal. */
const EXIT_INTERRUPTED = 130;

export function serveCommand(): Command {
  const command = new Command("serve")
    .description("Serve the models of repositories over HTTP and gRPC (KServe v2, as Triton does).")
    .option("--model-repository <folder>", "a folder with one folder per model; again for each repository", collect)
    .addOption(new Option("--model-store <folder>", "the same").argParser(collect).hideHelp())
    .option("--host <address>", "address to listen on", "127.0.0.1")
    .option("--http-port <n>", "port of HTTP; 0 for any free one", parseCount("http-port", 0), 8000)
    .option("--grpc-port <n>", "port of gRPC", parseCount("grpc-port", 0), 8001)
    .option("--metrics-port <n>", "port of /metrics", parseCount("metrics-port", 0), 8002)
    .option("--allow-http <bool>", "whether HTTP is served", parseBoolean, true)
    .option("--allow-grpc <bool>", "whether gRPC is served", parseBoolean, true)
    .option("--allow-metrics <bool>", "whether /metrics is served", parseBoolean, true);
  addModelOptions(command);
  addLimitOptions(command);
  return command.addHelpText("after", `
A model is a folder NAME with config.pbtxt (or config.yaml, or none) and VERSION/model.onnx or VERSION/model.engine.
An ONNX model serves at once and is tuned in the background; an engine is served if a trusted key signed it.
SIGTERM finishes what was accepted; a second one ends at once. Options may be spelt with _ as well.

Examples:
  sinter serve --model-repository models
  sinter serve --model-repository models --model-control-mode explicit --load-model resnet50`).action(run);
}

function addModelOptions(command: Command): void {
  command
    .addOption(new Option("--model-control-mode <mode>", "none: load all at start; poll: look for changes; explicit: load as clients ask").choices(["none", "poll", "explicit"]).default("none"))
    .option("--load-model <name>", "in mode explicit: load it at start, * for all; again for each", collect)
    .option("--repository-poll-secs <n>", "seconds between two looks in mode poll", parsePositive("repository-poll-secs"), 15)
    .option("--exit-on-error <bool>", "end when a model cannot be loaded at start", parseBoolean, true)
    .option("--backend-config <setting>", "default-max-batch-size=N: for models that can be batched and do not say how", collect)
    .addOption(new Option("--tune-level <n>", "how hard models are tuned in the background; 0: not at all").choices(["0", "1", "2", "3", "4", "5"]).default("3"))
    .option("--engine-cache <folder>", "where engines made here are kept (default: a folder in the user's cache)")
    .option("--allow-model-upload", "take model files from load requests; whoever can send them runs code here")
    .option("--allow-client-shm <bool>", "let clients name shared memory", parseBoolean, false)
    .option("--trace-config <setting>", "level=TIMESTAMPS, rate=N, count=N, log-frequency=N or file=FILE: which requests are traced; again for each", collect)
    .option("--http-restricted-api <group>", "CATEGORY[,CATEGORY]:KEY=VALUE: those parts of the API take this header; again for each", collect)
    .option("--grpc-restricted-protocol <group>", "the same for gRPC, with the metadata triton-grpc-protocol-KEY", collect)
    .option("--id <name>", "what the server calls itself", "triton");
}

function addLimitOptions(command: Command): void {
  command
    .option("--http-max-input-size <size>", "largest input and body", parseBytes, 64 * 2 ** 20)
    .option("--max-queue-requests <n>", "requests that may wait for one model", parseCount("max-queue-requests"), 65_536)
    .option("--max-queue-bytes <size>", "bytes of requests that may be in the server", parseBytes, 2 ** 30)
    .option("--exit-timeout-secs <n>", "seconds that requests get to end after SIGTERM", parsePositive("exit-timeout-secs"), 30)
    .addOption(new Option("--log-level <level>", "how much is logged").choices(["trace", "debug", "info", "warn", "error", "fatal"]).default("info"))
    .addOption(new Option("--log-verbose <n>", "as Triton's: above 0 logs more").argParser(parseCount("log-verbose", 0)).hideHelp());
}

async function run(options: ServeCommandOptions): Promise<void> {
  const repositories = [...(options.modelRepository ?? []), ...(options.modelStore ?? [])];
  if (repositories.length === 0) throw new UserError("option-invalid", "Nothing to serve: name a folder of models with --model-repository.");
  const log = pino({ level: options.logVerbose ? "debug" : options.logLevel, base: null }, destination({ fd: 1, sync: true }));
  const started = serve({ ...optionsOf(options), repositories, log });
  const ended = untilSignal(log);
  const running = await Promise.race([started, ended.then(() => undefined)]);
  await ended;
  await stop(running ?? (await started.catch(() => undefined)), log);
}

function optionsOf(options: ServeCommandOptions): Omit<ServeOptions, "repositories" | "log"> {
  const port = (allowed: boolean, number: number): number | undefined => (allowed ? number : undefined);
  return {
    host: options.host, httpPort: port(options.allowHttp, options.httpPort), grpcPort: port(options.allowGrpc, options.grpcPort), metricsPort: port(options.allowMetrics, options.metricsPort),
    cache: options.engineCache ?? join(cacheFolder(), "server"), keys: keyFolder(process.env), mode: options.modelControlMode, load: options.loadModel ?? [],
    pollSeconds: options.repositoryPollSecs, exitOnError: options.exitOnError, exitTimeoutSeconds: options.exitTimeoutSecs, defaultMaxBatch: defaultMaxBatch(options.backendConfig ?? []),
    tuneLevel: Number(options.tuneLevel) as 0 | 1 | 2 | 3 | 4 | 5, maxInputBytes: options.httpMaxInputSize, maxQueueRequests: options.maxQueueRequests, maxQueueBytes: options.maxQueueBytes,
    allowUpload: options.allowModelUpload ?? false, allowClientSharedMemory: options.allowClientShm,
    ...startAt(process.env), trace: readTraceOptions(options.traceConfig ?? []), httpRestricted: options.httpRestrictedApi ?? [], grpcRestricted: options.grpcRestrictedProtocol ?? [], id: options.id, version: VERSION,
  };
}

/** Triton's tests of its schedulers set these, so that a queue fills before anything of it runs. */
function startAt({ TRITONSERVER_DELAY_SCHEDULER: placed, TRITONSERVER_BACKLOG_DELAY_SCHEDULER: backlog }: NodeJS.ProcessEnv): Pick<ServeOptions, "startAt"> {
  return placed || backlog ? { startAt: { placed: Number(placed) || 0, backlog: Number(backlog) || 0 } } : {};
}

/** `--backend-config` as Triton takes it; settings of backends that are not here mean nothing here. */
function defaultMaxBatch(settings: readonly string[]): number {
  const found = settings.map((setting) => /^(?:[\w-]+,)?default-max-batch-size=(\d+)$/.exec(setting)?.[1]).find((value) => value !== undefined);
  return found === undefined ? 4 : Number(found);
}

/** Resolves at the first signal; the second ends the process at once. */
function untilSignal(log: Logger): Promise<void> {
  return new Promise((resolve) => {
    let signals = 0;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (++signals > 1) process.exit(EXIT_INTERRUPTED);
      log.info({ signal }, "stopping: what was accepted is finished");
      resolve();
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
  });
}

async function stop(running: RunningServer | undefined, log: Logger): Promise<void> {
  const cutOff = (await running?.stop()) ?? 0;
  if (cutOff > 0) log.warn({ requests: cutOff }, "the time to stop was over: requests were cut off");
  log.info("stopped");
  process.exit(cutOff > 0 ? 1 : 0);
}

export function parseBoolean(text: string): boolean {
  if (/^(true|1|on|yes)$/i.test(text)) return true;
  if (/^(false|0|off|no)$/i.test(text)) return false;
  throw new UserError("option-invalid", `"${text}" is neither true nor false.`);
}
