/** KServe v2 over gRPC, on node:http2. */
import { type ClientHttp2Session, connect } from "node:http2";
import { ProtoReader, ProtoWriter, type ProtoSource, UserError } from "../base/index.ts";
import { decode, encode, type Message, METHODS, ModelInferRequest, ModelInferResponse, type Plain } from "../server/grpc/index.ts";
import type { LoadModel, LoadTarget, LoadTensor, ServerCounts } from "./contract.ts";
import { countsOf, type StatisticsRow } from "./statistics.ts";

const SERVICE = "/inference.GRPCInferenceService/";
const FRAME_BYTES = 5;
const ANSWER: ProtoSource = {
  invalid: (found) => new Error(`a malformed answer: ${found}`),
  truncated: (found) => new Error(`a malformed answer: ${found}`),
  limit: (found) => new Error(`a malformed answer: ${found}`),
};

export class GrpcTarget implements LoadTarget {
  readonly #origin: string;
  #session: ClientHttp2Session | undefined;
  #message: Buffer = Buffer.alloc(0);

  constructor(url: URL) {
    this.#origin = `http://${url.host}`;
  }

  async describe(model: string): Promise<LoadModel> {
    const { name, versions, inputs } = (await this.#control("ModelMetadata", { name: model })) as unknown as { name: string; versions: string[]; inputs: LoadModel["inputs"] };
    return { name, version: versions.at(-1) ?? "", inputs };
  }

  async counts(model: string): Promise<ServerCounts> {
    const { model_stats: rows } = (await this.#control("ModelStatistics", { name: model })) as unknown as { model_stats: StatisticsRow[] };
    return countsOf(rows);
  }

  prepare(model: string, inputs: readonly LoadTensor[]): void {
    this.#message = frame(ModelInferRequest, { model_name: model, inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })), raw_input_contents: inputs.map((input) => input.bytes) });
  }

  async call(timeoutMs: number): Promise<readonly LoadTensor[]> {
    const bytes = await this.#send("ModelInfer", this.#message, timeoutMs);
    const { outputs, raw_output_contents: raw } = decode(new ProtoReader(bytes, ANSWER), ModelInferResponse) as unknown as { outputs: { name: string; datatype: string; shape: number[] }[]; raw_output_contents: Uint8Array[] };
    if (outputs.length !== raw.length) throw new Error(`an answer with ${outputs.length} outputs and ${raw.length} contents`);
    return outputs.map(({ name, datatype, shape }, i) => ({ name, datatype, shape, bytes: raw[i]! }));
  }

  close(): void {
    this.#session?.destroy();
  }

  async #control(name: string, request: Plain): Promise<Plain> {
    const method = METHODS[name]!;
    try {
      return decode(new ProtoReader(await this.#send(name, frame(method.request, request), 10_000), ANSWER), method.response);
    } catch (cause) {
      throw new UserError("option-invalid", `${this.#origin}: ${name}: ${(cause as Error).message}`, { cause });
    }
  }

  #open(): ClientHttp2Session {
    if (this.#session !== undefined && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const session = connect(this.#origin, { settings: { initialWindowSize: 4 * 2 ** 20, enablePush: false }, maxSessionMemory: 1024 });
    session.on("error", () => session.destroy());
    session.on("connect", () => session.setLocalWindowSize(64 * 2 ** 20));
    this.#session = session;
    return session;
  }

  /** @returns the message of the answer */
  #send(name: string, message: Buffer, timeoutMs: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const stream = this.#open().request({ ":method": "POST", ":path": SERVICE + name, "content-type": "application/grpc", te: "trailers" });
      const chunks: Buffer[] = [];
      let status: string | undefined;
      let text = "";
      const timer = setTimeout(() => stream.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
      const read = (headers: Readonly<Record<string, unknown>>): void => {
        if (headers["grpc-status"] === undefined) return;
        status = String(headers["grpc-status"]);
        text = decodeURIComponent(String(headers["grpc-message"] ?? ""));
      };
      stream.on("response", read);
      stream.on("trailers", read);
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", (error) => {
        clearTimeout(timer);
        reject(error);
      });
      stream.on("close", () => {
        clearTimeout(timer);
        if (status === "0") resolve(Buffer.concat(chunks).subarray(FRAME_BYTES));
        else reject(new Error(`gRPC ${status ?? "without a status"}: ${text}`));
      });
      stream.end(message);
    });
  }
}

function frame(type: Message, value: Plain): Buffer {
  const writer = new ProtoWriter(FRAME_BYTES);
  encode(writer, type, value);
  const bytes = Buffer.concat(writer.finish());
  bytes[0] = 0;
  bytes.writeUInt32BE(bytes.length - FRAME_BYTES, 1);
  return bytes;
}
