/** `sinter serve`: the inference server, with the options of Triton's where there is one. */
import { join } from "node:path";
import { Command, Option } from "commander";
import { destination, type Level, type Logger, pino } from "pino";
import { UserError } from "../base/index.ts";
import { type RunningServer, serve, type ServeOptions } from "../serve.ts";
import { LogTime, readTraceOptions } from "../server/index.ts";
import { keyFolder } from "../trust/index.ts";
import { VERSION } from "../version.ts";
import { cacheFolder } from "./open.ts";
import { addTritonOptions } from "./triton-options.ts";
import { collect, parseBytes, parseCount, parsePositive } from "./options.ts";

interface ServeCommandOptions {
  readonly modelRepository?: readonly string[];
  readonly modelStore?: readonly string[];
  readonly host: string;
  readonly httpAddress?: string;
  readonly grpcAddress?: string;
  readonly metricsAddress?: string;
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
  readonly strictReadiness: boolean;
  readonly strictModelConfig: boolean;
  readonly disableAutoCompleteConfig?: boolean;
  readonly modelConfigName?: string;
  readonly modelLoadThreadCount: number;
  readonly modelLoadRetryCount: number;
  readonly backendConfig?: readonly string[];
  readonly tuneLevel: string;
  readonly engineCache?: string;
  readonly httpMaxInputSize: number;
  readonly maxQueueRequests: number;
  readonly maxQueueBytes: number;
  readonly allowModelUpload?: boolean;
  readonly allowClientShm: boolean;
  readonly traceConfig?: readonly string[];
  readonly traceFile?: string;
  readonly traceLevel?: string;
  readonly traceRate?: string;
  readonly traceCount?: string;
  readonly traceLogFrequency?: string;
  readonly httpHeaderForwardPattern?: string;
  readonly grpcHeaderForwardPattern?: string;
  readonly grpcMaxConnectionAge?: number;
  readonly grpcMaxConnectionAgeGrace?: number;
  readonly httpRestrictedApi?: readonly string[];
  readonly grpcRestrictedProtocol?: readonly string[];
  readonly id: string;
  readonly logLevel: Level;
  readonly logVerbose?: number;
  readonly logInfo?: boolean;
  readonly logWarning?: boolean;
  readonly logError?: boolean;
  readonly logFormat: string;
  readonly logFile: string;
}

/** What `--trace-config` says, as it was written before there was that. */
const OLD_TRACE = ["file", "level", "rate", "count", "log-frequency"] as const;

/** Exit status after a second signal. */
const EXIT_INTERRUPTED = 130;

export function serveCommand(): Command {
  const notes: string[] = [];
  const command = new Command("serve")
    .description("Serve the models of repositories over HTTP and gRPC (KServe v2, as Triton does).")
    .option("--model-repository <folder>", "a folder with one folder per model; again for each repository", collect)
    .addOption(new Option("--model-store <folder>", "the same").argParser(collect).hideHelp())
    .option("--host <address>", "address to listen on", "127.0.0.1")
    .option("--http-address <address>", "address of HTTP, if another")
    .option("--grpc-address <address>", "address of gRPC, if another")
    .option("--metrics-address <address>", "address of /metrics, if another")
    .option("--http-port <n>", "port of HTTP; 0 for any free one", parseCount("http-port", 0), 8000)
    .option("--grpc-port <n>", "port of gRPC", parseCount("grpc-port", 0), 8001)
    .option("--metrics-port <n>", "port of /metrics", parseCount("metrics-port", 0), 8002)
    .option("--allow-http <bool>", "whether HTTP is served", parseBoolean, true)
    .option("--allow-grpc <bool>", "whether gRPC is served", parseBoolean, true)
    .option("--allow-metrics <bool>", "whether /metrics is served", parseBoolean, true);
  addModelOptions(command);
  addLimitOptions(command);
  addLogOptions(command);
  for (const key of OLD_TRACE) command.addOption(new Option(`--trace-${key} <value>`).hideHelp().argParser((value) => `${key}=${value}`));
  addTritonOptions(command, (text) => notes.push(text));
  return command.addHelpText("after", `
A model is a folder NAME with config.pbtxt (or config.yaml, or none) and VERSION/model.onnx or VERSION/model.engine.
An ONNX model serves at once and is tuned in the background; an engine is served if a trusted key signed it.
SIGTERM finishes what was accepted; a second one ends at once. Options may be spelt with _ as well.
Options of Triton's that set up what is not here are taken, and named in the log.

Examples:
  sinter serve --model-repository models
  sinter serve --model-repository models --model-control-mode explicit --load-model resnet50`).action((options: ServeCommandOptions) => run(options, notes));
}

function addModelOptions(command: Command): void {
  command
    .addOption(new Option("--model-control-mode <mode>", "none: load all at start; poll: look for changes; explicit: load as clients ask").choices(["none", "poll", "explicit"]).default("none"))
    .option("--load-model <name>", "in mode explicit: load it at start, * for all; again for each", collect)
    .option("--repository-poll-secs <n>", "seconds between two looks in mode poll", parsePositive("repository-poll-secs"), 15)
    .option("--exit-on-error <bool>", "end when a model cannot be loaded at start", parseBoolean, true)
    .option("--strict-readiness <bool>", "ready only with all models of the start", parseBoolean, true)
    .option("--strict-model-config <bool>", "refuse models without a configuration", parseBoolean, false)
    .addOption(new Option("--disable-auto-complete-config", "the same").hideHelp())
    .option("--model-config-name <name>", "read configs/NAME.pbtxt of models that have it")
    .option("--model-load-thread-count <n>", "models loaded at a time at start", parseCount("model-load-thread-count"), 4)
    .option("--model-load-retry-count <n>", "how often a load that fails is tried again", parseCount("model-load-retry-count", 0), 0)
    .option("--backend-config <setting>", "default-max-batch-size=N: for models that can be batched and do not say how", collect)
    .addOption(new Option("--tune-level <n>", "how hard models are tuned in the background; 0: not at all").choices(["0", "1", "2", "3", "4", "5"]).default("3"))
    .option("--engine-cache <folder>", "where engines made here are kept (default: a folder in the user's cache)")
    .option("--allow-model-upload", "take model files from load requests; whoever can send them runs code here")
    .option("--allow-client-shm <bool>", "let clients name shared memory", parseBoolean, false)
    .option("--trace-config <setting>", "level=TIMESTAMPS, rate=N, count=N, log-frequency=N or file=FILE: which requests are traced; again for each", collect)
    .option("--http-header-forward-pattern <regexp>", "headers whose names this finds go with requests as parameters")
    .option("--grpc-header-forward-pattern <regexp>", "the same for gRPC")
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
    .option("--grpc-max-connection-age <n>", "seconds after which a connection takes no new calls", parsePositive("grpc-max-connection-age"))
    .option("--grpc-max-connection-age-grace <n>", "seconds that open calls then get", parsePositive("grpc-max-connection-age-grace"));
}

function addLogOptions(command: Command): void {
  const shown = (name: string): Option => new Option(`--log-${name} <bool>`).argParser(parseBoolean).hideHelp();
  command
    .addOption(new Option("--log-level <level>", "how much is logged").choices(["trace", "debug", "info", "warn", "error", "fatal"]).default("info"))
    .addOption(new Option("--log-verbose <n>", "as Triton's: above 0 logs more").argParser(parseCount("log-verbose", 0)).hideHelp())
    .addOption(shown("info")).addOption(shown("warning")).addOption(shown("error"))
    .addOption(new Option("--log-format <name>", "how times are written: milliseconds, or as text").choices(["default", "ISO8601"]).default("default"))
    .option("--log-file <file>", "where the log goes, if not to standard output", "");
}

async function run(options: ServeCommandOptions, notes: readonly string[]): Promise<void> {
  const repositories = [...(options.modelRepository ?? []), ...(options.modelStore ?? [])];
  if (repositories.length === 0) throw new UserError("option-invalid", "Nothing to serve: name a folder of models with --model-repository.");
  const time = new LogTime();
  const log = pino({ level: options.logLevel, base: null, timestamp: time.stamp }, destination({ dest: options.logFile || 1, sync: true }));
  const served = { ...optionsOf(options), repositories, log, logSettings: { time, file: options.logFile, start: logStart(options) } };
  for (const note of notes) log.warn(note);
  const started = serve(served);
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
    httpHost: options.httpAddress, grpcHost: options.grpcAddress, metricsHost: options.metricsAddress, strictReadiness: options.strictReadiness,
    config: { required: options.strictModelConfig || (options.disableAutoCompleteConfig ?? false), ...(options.modelConfigName ? { alternative: options.modelConfigName } : {}) },
    loadsAtOnce: options.modelLoadThreadCount, loadRetries: options.modelLoadRetryCount, httpForwardPattern: options.httpHeaderForwardPattern, grpcForwardPattern: options.grpcHeaderForwardPattern,
    grpcMaxConnectionAgeSeconds: options.grpcMaxConnectionAge, grpcMaxConnectionAgeGraceSeconds: options.grpcMaxConnectionAgeGrace,
    pollSeconds: options.repositoryPollSecs, exitOnError: options.exitOnError, exitTimeoutSeconds: options.exitTimeoutSecs, defaultMaxBatch: defaultMaxBatch(options.backendConfig ?? []),
    tuneLevel: Number(options.tuneLevel) as 0 | 1 | 2 | 3 | 4 | 5, maxInputBytes: options.httpMaxInputSize, maxQueueRequests: options.maxQueueRequests, maxQueueBytes: options.maxQueueBytes,
    allowUpload: options.allowModelUpload ?? false, allowClientSharedMemory: options.allowClientShm,
    ...startAt(process.env), trace: readTraceOptions([options.traceFile, options.traceLevel, options.traceRate, options.traceCount, options.traceLogFrequency, ...(options.traceConfig ?? [])].filter((one) => one !== undefined)), httpRestricted: options.httpRestrictedApi ?? [], grpcRestricted: options.grpcRestrictedProtocol ?? [], id: options.id, version: VERSION,
  };
}

/** What differs from the level in Triton's words. */
function logStart({ logVerbose = 0, logInfo, logWarning, logError, logFormat }: ServeCommandOptions): ReadonlyMap<string, unknown> {
  const all = { log_info: logInfo, log_warning: logWarning, log_error: logError, log_format: logFormat, ...(logVerbose > 0 ? { log_verbose_level: logVerbose } : {}) };
  return new Map(Object.entries(all).filter(([, value]) => value !== undefined));
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
