/** KServe v2 over HTTP, tensors in binary. */
import { Agent, type IncomingMessage, request } from "node:http";
import { UserError } from "../base/index.ts";
import type { LoadModel, LoadTarget, LoadTensor, ServerCounts } from "./contract.ts";
import { countsOf, type StatisticsRow } from "./statistics.ts";

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

export class HttpTarget implements LoadTarget {
  readonly #url: URL;
  readonly #agent = new Agent({ keepAlive: true, noDelay: true, maxSockets: Number.POSITIVE_INFINITY, scheduling: "lifo" });
  #path = "";
  #headers: Record<string, string | number> = {};
  #body: Buffer = Buffer.alloc(0);

  constructor(url: URL) {
    this.#url = url;
  }

  async describe(model: string): Promise<LoadModel> {
    const { name, versions, inputs } = (await this.#get(`/v2/models/${encodeURIComponent(model)}`)) as { name: string; versions: string[]; inputs: LoadModel["inputs"] };
    return { name, version: versions.at(-1) ?? "", inputs };
  }

  async counts(model: string): Promise<ServerCounts> {
    const { model_stats: rows } = (await this.#get(`/v2/models/${encodeURIComponent(model)}/stats`)) as { model_stats: StatisticsRow[] };
    return countsOf(rows);
  }

  prepare(model: string, inputs: readonly LoadTensor[]): void {
    const json = Buffer.from(JSON.stringify({
      inputs: inputs.map(({ name, datatype, shape, bytes }) => ({ name, datatype, shape, parameters: { binary_data_size: bytes.byteLength } })),
      parameters: { binary_data_output: true },
    }));
    this.#path = `/v2/models/${encodeURIComponent(model)}/infer`;
    this.#body = Buffer.concat([json, ...inputs.map((input) => input.bytes)]);
    this.#headers = { "Content-Type": "application/octet-stream", "Content-Length": this.#body.length, "Inference-Header-Content-Length": json.length };
  }

  async call(timeoutMs: number): Promise<readonly LoadTensor[]> {
    const { status, headers, body } = await this.#send("POST", this.#path, this.#headers, this.#body, timeoutMs);
    if (status !== 200) throw new Error(`HTTP ${status}: ${errorText(body)}`);
    return tensorsOf(body, Number(headers["inference-header-content-length"] ?? body.length));
  }

  close(): void {
    this.#agent.destroy();
  }

  async #get(path: string): Promise<unknown> {
    const { status, body } = await this.#send("GET", path, {}, undefined, 10_000).catch((cause: Error) => {
      throw new UserError("file-io", `${this.#url.origin}: ${cause.message}; is a server listening there?`, { cause });
    });
    if (status !== 200) throw new UserError("option-invalid", `${this.#url.origin}${path}: HTTP ${status}: ${errorText(body)}`);
    return JSON.parse(body.toString("utf8"));
  }

  #send(method: string, path: string, headers: Record<string, string | number>, body: Buffer | undefined, timeoutMs: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = this.#url;
      const sent = request({ hostname, port: port || 80, method, path, headers, agent: this.#agent }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks) });
        });
      });
      const timer = setTimeout(() => sent.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
      sent.on("error", (error) => {
        clearTimeout(timer);
        reject(error);
      });
      sent.end(body);
    });
  }
}

function errorText(body: Buffer): string {
  const text = body.toString("utf8", 0, 500);
  try {
    return String((JSON.parse(text) as { error?: unknown }).error ?? text);
  } catch {
    return text;
  }
}

function tensorsOf(body: Buffer, jsonBytes: number): LoadTensor[] {
  const { outputs } = JSON.parse(body.toString("utf8", 0, jsonBytes)) as { outputs: { name: string; datatype: string; shape: number[]; parameters?: { binary_data_size?: number } }[] };
  let at = jsonBytes;
  const tensors = outputs.map(({ name, datatype, shape, parameters }) => {
    const size = parameters?.binary_data_size ?? 0;
    return { name, datatype, shape, bytes: body.subarray(at, (at += size)) };
  });
  if (at !== body.length) throw new Error(`an answer of ${body.length} bytes whose header accounts for ${at}`);
  return tensors;
}
