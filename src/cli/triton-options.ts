/**
 * Options of Triton's server that have no equivalent here, so that a start line written for it works: those that set up what
 * this server does not have are taken and named in the log, those whose absence would change answers or who may ask are
 * refused. Source of the names: triton-inference-server/server, src/command_line_parser.cc.
 */
import { type Command, Option } from "commander";
import { UserError } from "../base/index.ts";

interface Foreign {
  readonly flags: readonly string[];
  /** Why it changes nothing. */
  readonly because: string;
}

const TAKEN: readonly Foreign[] = [
  { flags: ["http-thread-count", "grpc-infer-thread-count", "grpc-infer-allocation-pool-size", "grpc-max-response-pool-size", "buffer-manager-thread-count"], because: "one thread parses and writes; models have threads of their own" },
  { flags: ["pinned-memory-pool-byte-size", "cuda-memory-pool-byte-size", "cuda-virtual-address-size", "enable-peer-access", "min-supported-compute-capability", "model-load-gpu-limit", "host-policy"], because: "engines bring their own memory" },
  { flags: ["backend-directory", "repoagent-directory"], because: "backends are built in" },
  { flags: ["cache-config", "cache-directory", "response-cache-byte-size"], because: "responses are not cached" },
  { flags: ["rate-limit", "rate-limit-resource"], because: "instances run as they are free" },
  { flags: ["allow-gpu-metrics", "allow-cpu-metrics", "metrics-interval-ms", "metrics-config"], because: "metrics are read when they are asked for, and times are histograms" },
  { flags: ["grpc-keepalive-time", "grpc-keepalive-timeout", "grpc-keepalive-permit-without-calls", "grpc-http2-max-pings-without-data", "grpc-http2-min-recv-ping-interval-without-data", "grpc-http2-max-ping-strikes"], because: "pings are answered, however many" },
  { flags: ["grpc-infer-response-compression-level"], because: "replies over gRPC are not compressed" },
  { flags: ["sagemaker-port", "sagemaker-safe-port-range", "sagemaker-thread-count", "vertex-ai-port", "vertex-ai-thread-count", "vertex-ai-default-model", "grpc-server-cert", "grpc-server-key", "grpc-root-cert"], because: "what they belong to is not there" },
];

/** Refused when they are switched on. */
const REFUSED: Readonly<Record<string, string>> = {
  "model-namespacing": "a model's name is its own in all repositories",
  "reuse-http-port": "a port is one server's",
  "reuse-grpc-port": "a port is one server's",
  "grpc-use-ssl": "there is no TLS here; put a proxy in front",
  "grpc-use-ssl-mutual": "there is no TLS here; put a proxy in front",
  "allow-sagemaker": "there is no SageMaker endpoint",
  "allow-vertex-ai": "there is no Vertex AI endpoint",
};

/** Adds them to a command, out of its help. @param note told of each that was given and changes nothing */
export function addTritonOptions(command: Command, note: (text: string) => void): void {
  for (const { flags, because } of TAKEN) {
    for (const flag of flags) command.addOption(hidden(flag, () => note(`--${flag} changes nothing here: ${because}`)));
  }
  for (const [flag, because] of Object.entries(REFUSED)) {
    command.addOption(hidden(flag, (text) => {
      if (!/^(false|0|off|no)$/i.test(text)) throw new UserError("option-invalid", `--${flag} ${text}: ${because}.`);
    }));
  }
}

function hidden(flag: string, read: (text: string) => void): Option {
  return new Option(`--${flag} <value>`).hideHelp().argParser((text) => {
    read(text);
    return text;
  });
}
