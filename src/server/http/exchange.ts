/**
 * One request over HTTP and its reply. A reply leaves in one write: status, headers and body together.
 *
 * A client that goes away is told to whoever asks through `onGone`; writing to it then does nothing.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { gzip, deflate } from "node:zlib";
import type { Body } from "../wire/body-pool.ts";
import { type Parameters, ServingError } from "../contract.ts";
import { headerPairs } from "../wire/forwarded.ts";
import { asServingError, HTTP_STATUS } from "../wire/status.ts";
import { Reservation } from "../wire/reservation.ts";
import { acceptedEncoding, inflateBody, type Encoding, requestEncoding } from "./compression.ts";
import type { HttpContext } from "./context.ts";
import { type JsonValue, parseJson } from "./json.ts";
import { type BodyLimit, contentLength, readBody, UNKNOWN_LENGTH_BYTES } from "./read-body.ts";

/** Replies below this are not worth compressing. */
const LEAST_COMPRESSED_BYTES = 512;
/** Parts of a reply up to this size are joined, so that they leave in one buffer and their memory is free at once. */
const JOINED_BYTES = 128 * 1024;
/** Bodies up to this size are written as a string of their bytes. */
const STRING_BYTES = 8 * 1024;
const NOTHING = Buffer.alloc(0);

export type Part = Uint8Array | string;

export class Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly context: HttpContext;
  /** Called once if the client goes before the reply is complete. */
  onGone: (() => void) | undefined;
  /** The client waits to be asked for the body. */
  #awaited: boolean;
  readonly #keepAlive: boolean;

  constructor(request: IncomingMessage, response: ServerResponse, context: HttpContext) {
    this.request = request;
    this.response = response;
    this.context = context;
    this.#awaited = request.headers.expect !== undefined;
    this.#keepAlive = response.shouldKeepAlive;
    // Refused before it is asked for, a body may come or not: the connection cannot be used again.
    if (this.#awaited) response.shouldKeepAlive = false;
    response.on("close", () => {
      if (!response.writableFinished) this.onGone?.();
    });
  }

  header(name: string): string | undefined {
    const value = this.request.headers[name];
    return typeof value === "string" ? value : undefined;
  }

  /** A request's parameters with the headers that go with it. */
  withHeaders(parameters: Parameters): Parameters {
    return this.context.forwarded.addTo(parameters, () => headerPairs(this.request.rawHeaders));
  }

  /** Room for this request's body, before it is read. */
  reserve(model: string, version: string): Reservation {
    return new Reservation(this.context.server, model, version, contentLength(this.request) ?? UNKNOWN_LENGTH_BYTES);
  }

  /**
   * The body, inflated; the caller gives it back to the pool.
   * @param headerBytes of JSON at its beginning: what follows is placed at a multiple of 64 bytes
   * @throws INVALID_ARG when it is larger than may be; UNSUPPORTED for other encodings
   */
  async readBody(reservation: Reservation, limit: BodyLimit, headerBytes: number): Promise<{ body: Body; start: number }> {
    const encoding = requestEncoding(this.header("content-encoding"));
    if (encoding === undefined) {
      this.response.setHeader("Accept-Encoding", "gzip, deflate");
      throw new ServingError("UNSUPPORTED", "Unsupported compression type");
    }
    const start = encoding === "identity" ? -headerBytes & 63 : 0;
    this.#continue();
    const body = await readBody(this.request, this.context.pool, reservation, start, limit);
    if (encoding === "identity") return { body, start };
    return inflateBody(body, encoding, this.context, reservation, -headerBytes & 63);
  }

  /** The body of a request that controls the server; undefined when it is empty. */
  async readJson(): Promise<JsonValue | undefined> {
    const encoding = requestEncoding(this.header("content-encoding"));
    if (encoding !== "identity") throw new ServingError("INVALID_ARG", "Unsupported content-encoding, only 'identity' is supported.");
    const { pool } = this.context;
    this.#continue();
    const body = await readBody(this.request, pool, undefined, 0, { mostBytes: this.context.maxInputBytes, what: "JSON" });
    try {
      return body.length === 0 ? undefined : parseJson(body.bytes, 0, body.length);
    } finally {
      pool.give(body);
    }
  }

  json(value: unknown): void {
    this.#write(200, "application/json", [JSON.stringify(value)], "identity");
  }

  empty(status = 200): void {
    if (this.response.headersSent || this.response.destroyed) return;
    if (this.context.life.draining) this.response.shouldKeepAlive = false;
    this.response.writeHead(status, ["Content-Length", "0"]);
    this.response.end();
  }

  error(thrown: unknown): void {
    const error = asServingError(thrown);
    if (error.status === "INTERNAL" && error.cause !== undefined) this.context.log.error(error.cause, this.request.url ?? "");
    this.errorText(HTTP_STATUS[error.status], error.message);
  }

  errorText(status: number, message: string): void {
    this.#write(status, "application/json", [JSON.stringify({ error: message })], "identity");
  }

  /**
   * Writes the whole reply to an inference, compressed if the client asks for that: clients of Triton's that do so expect all else as it is.
   * @param onDone called once when the parts' memory is no longer needed
   * @param headerBytes of JSON before binary tensors
   */
  send(status: number, contentType: string, parts: readonly Part[], onDone?: () => void, headerBytes?: number): void {
    const encoding = acceptedEncoding(this.header("accept-encoding"));
    this.#write(status, contentType, parts, encoding, onDone, headerBytes);
  }

  #write(status: number, contentType: string, parts: readonly Part[], accepted: Encoding, onDone?: () => void, headerBytes?: number): void {
    const { response } = this;
    if (response.headersSent || response.destroyed) {
      onDone?.();
      return;
    }
    if (this.context.life.draining) response.shouldKeepAlive = false;
    const extra = headerBytes === undefined ? [] : ["Inference-Header-Content-Length", String(headerBytes)];
    const size = sizeOf(parts);
    const encoding = size < LEAST_COMPRESSED_BYTES ? "identity" : accepted;
    if (encoding !== "identity") {
      this.#sendCompressed(status, contentType, join(parts, size), encoding, extra);
      onDone?.();
      return;
    }
    response.writeHead(status, ["Content-Type", contentType, "Content-Length", String(size), ...extra]);
    if (parts.length === 1 && typeof parts[0] === "string") response.end(parts[0]);
    // Node joins headers with a body that is a string, and hands one with a body of bytes over in two pieces, which costs more.
    else if (size <= STRING_BYTES) response.end(join(parts, size).toString("latin1"), "latin1");
    else if (size <= JOINED_BYTES) response.end(join(parts, size));
    else {
      this.#sendParts(parts, onDone);
      return;
    }
    onDone?.();
  }

  /** One server-sent event; the first one sends the headers. */
  event(text: string): void {
    const { response } = this;
    if (response.destroyed) return;
    if (!response.headersSent) response.writeHead(200, ["Content-Type", "text/event-stream; charset=utf-8", "Cache-Control", "no-cache"]);
    if (!response.write(`data: ${text}\n\n`)) this.#watchSlowReader();
  }

  endEvents(): void {
    if (!this.response.headersSent) this.response.writeHead(200, ["Content-Type", "text/event-stream; charset=utf-8"]);
    this.response.end();
  }

  #sendCompressed(status: number, contentType: string, body: Buffer, encoding: Exclude<Encoding, "identity">, extra: readonly string[]): void {
    (encoding === "gzip" ? gzip : deflate)(body, { level: 1 }, (error, compressed) => {
      if (error !== null) {
        this.response.destroy(error);
        return;
      }
      this.response.writeHead(status, ["Content-Type", contentType, "Content-Encoding", encoding, "Content-Length", String(compressed.length), ...extra]);
      this.response.end(compressed);
      this.#watchSlowReader();
    });
  }

  /** Large parts go to the socket where they lie; their memory is needed until the last byte has left. */
  #sendParts(parts: readonly Part[], onDone: (() => void) | undefined): void {
    const { response } = this;
    if (onDone) response.once("close", onDone);
    response.cork();
    for (const part of parts) response.write(part);
    response.end();
    response.uncork();
    this.#watchSlowReader();
  }

  /** A client that reads nothing for long holds memory: it is cut off. */
  #watchSlowReader(): void {
    // Node destroys a socket whose time is up, and sets the keep-alive's time when the reply is complete.
    if (!this.response.writableFinished) this.response.socket?.setTimeout(this.context.replyTimeoutMs);
  }

  /** Asks for the body of a client that waits to be asked. */
  #continue(): void {
    if (!this.#awaited) return;
    this.#awaited = false;
    this.response.shouldKeepAlive = this.#keepAlive;
    this.response.writeContinue();
  }
}

export function sizeOf(parts: readonly Part[]): number {
  let size = 0;
  for (const part of parts) size += typeof part === "string" ? Buffer.byteLength(part) : part.byteLength;
  return size;
}

function join(parts: readonly Part[], size: number): Buffer {
  if (size === 0) return NOTHING;
  const joined = Buffer.allocUnsafe(size);
  let at = 0;
  for (const part of parts) {
    if (typeof part === "string") at += joined.write(part, at);
    else {
      joined.set(part, at);
      at += part.byteLength;
    }
  }
  return joined;
}
