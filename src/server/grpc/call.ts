/**
 * One call: a stream of HTTP/2 with gRPC's headers and trailers. Answers leave as one buffer where they are small; large
 * tensors go out where they lie, and their memory is released when the stream is done with them.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { ProtoWriter } from "../../base/index.ts";
import { FRAME_BYTES, writeFrameHead } from "./framing.ts";
import { CODE, encodeMessage, statusOf, timeoutMs } from "./status.ts";

const HEADERS = { ":status": 200, "content-type": "application/grpc", "grpc-accept-encoding": "identity,deflate,gzip" } as const;
const OK_TRAILERS = { "grpc-status": "0" } as const;

export class Call {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  /** Called once if the client goes, cancels, or its deadline passes, before the call is complete. */
  onGone: (() => void) | undefined;
  /** Set when the status was given. */
  done = false;
  #trailers: Record<string, string> = OK_TRAILERS;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders) {
    this.stream = stream;
    this.headers = headers;
    const timeout = timeoutMs(headers["grpc-timeout"] as string | undefined);
    if (timeout !== undefined) this.#timer = setTimeout(() => this.#expire(), Math.min(timeout, 2 ** 31 - 1));
    stream.on("close", () => {
      clearTimeout(this.#timer);
      if (!this.done || stream.rstCode !== 0) this.#gone();
    });
    // A reset arrives as an error, too; "close" follows it.
    stream.on("error", () => {});
  }

  /** Calls when the stream has closed, at once where it has. */
  whenClosed(then: () => void): void {
    if (this.stream.closed) then();
    else this.stream.once("close", then);
  }

  /** A message for `write`, with room for the frame's head. */
  static writer(): ProtoWriter {
    return new ProtoWriter(FRAME_BYTES);
  }

  /** The only answer, and success. @param onDone called once when the parts' memory is no longer needed */
  answer(writer: ProtoWriter, onDone?: () => void): void {
    this.#send(writer, true, onDone);
  }

  /** One of several answers. @returns false when the client reads more slowly than we write */
  write(writer: ProtoWriter, onDone?: () => void): boolean {
    return this.#send(writer, false, onDone);
  }

  /** Success after any number of answers. */
  end(): void {
    if (this.#closed()) return;
    this.done = true;
    this.#open();
    this.stream.end();
  }

  fail(error: unknown): void {
    if (this.#closed()) return;
    const { code, message } = statusOf(error);
    this.failWith(code, message);
  }

  failWith(code: number, message: string): void {
    if (this.#closed()) return;
    this.done = true;
    const status = { "grpc-status": String(code), "grpc-message": encodeMessage(message) };
    if (!this.stream.headersSent) {
      this.stream.respond({ ...HEADERS, ...status }, { endStream: true });
      return;
    }
    this.#trailers = status;
    this.stream.end();
  }

  #send(writer: ProtoWriter, last: boolean, onDone: (() => void) | undefined): boolean {
    if (this.#closed()) {
      onDone?.();
      return false;
    }
    const size = writer.size - FRAME_BYTES;
    if (size > 2 ** 31 - 1) {
      onDone?.();
      this.failWith(CODE.resourceExhausted, `Response has byte size ${size} which exceeds gRPC's byte size limit ${2 ** 31 - 1}.`);
      return false;
    }
    const parts = writer.finish();
    writeFrameHead(parts[0]!, size);
    this.#open();
    if (last) this.done = true;
    if (parts.length === 1) {
      onDone?.();
      if (!last) return this.stream.write(parts[0]);
      this.stream.end(parts[0]);
      return true;
    }
    return this.#sendParts(parts, last, onDone);
  }

  #sendParts(parts: readonly Uint8Array[], last: boolean, onDone: (() => void) | undefined): boolean {
    const { stream } = this;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      stream.off("close", release);
      onDone?.();
    };
    stream.once("close", release);
    stream.cork();
    let room = true;
    parts.forEach((part, i) => (room = stream.write(part, i === parts.length - 1 ? release : undefined)));
    if (last) stream.end();
    stream.uncork();
    return room;
  }

  #open(): void {
    const { stream } = this;
    if (stream.headersSent) return;
    stream.respond(HEADERS, { waitForTrailers: true });
    stream.once("wantTrailers", () => stream.sendTrailers(this.#trailers));
  }

  #expire(): void {
    if (this.#closed()) return;
    this.failWith(CODE.deadlineExceeded, "Deadline Exceeded");
    this.#gone();
  }

  #gone(): void {
    const tell = this.onGone;
    this.onGone = undefined;
    tell?.();
  }

  #closed(): boolean {
    return this.done || this.stream.destroyed || this.stream.closed;
  }
}
