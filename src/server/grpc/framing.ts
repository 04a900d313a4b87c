/**
 * Messages out of a stream's chunks: five bytes of flag and length, then the message, copied once to native memory.
 * Source: gRPC over HTTP/2, "Length-Prefixed-Message".
 */
import { gunzip, inflate } from "node:zlib";
import type { Body, BodyPool } from "../wire/body-pool.ts";
import { CODE, GrpcFailure } from "./status.ts";

export const FRAME_BYTES = 5;

export interface FrameEvents {
  /** Some of a message has arrived: the first bytes, or all when it is complete. Called until it returns true. @throws to refuse it */
  begin(body: Body, length: number, compressed: boolean): boolean;
  /** A whole message; the receiver gives the body back. */
  message(body: Body, compressed: boolean): void;
}

export class FrameReader {
  readonly #pool: BodyPool;
  readonly #mostBytes: number;
  readonly #events: FrameEvents;
  readonly #head = new Uint8Array(FRAME_BYTES);
  #headBytes = 0;
  #body: Body | undefined;
  #length = 0;
  #begun = false;

  constructor(pool: BodyPool, mostBytes: number, events: FrameEvents) {
    this.#pool = pool;
    this.#mostBytes = mostBytes;
    this.#events = events;
  }

  /** @throws GrpcFailure when a message is larger than may be, and what `begin` throws */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#body === undefined) {
        at = this.#readHead(chunk, at);
        if (this.#body === undefined) return;
      }
      const body = this.#body as Body;
      const taken = Math.min(this.#length - body.length, chunk.length - at);
      body.append(taken === chunk.length ? chunk : chunk.subarray(at, at + taken));
      at += taken;
      if (!this.#begun) this.#begun = this.#events.begin(body, this.#length, this.#head[0] === 1);
      if (body.length === this.#length) this.#finish(body);
    }
  }

  /** Whether nothing of a message is missing. */
  get whole(): boolean {
    return this.#body === undefined && this.#headBytes === 0;
  }

  /** Gives back what a cut-off stream had begun. */
  abandon(): void {
    if (this.#body !== undefined) this.#pool.give(this.#body);
    this.#body = undefined;
  }

  /** @returns where the message goes on in the chunk */
  #readHead(chunk: Buffer, from: number): number {
    let at = from;
    while (this.#headBytes < FRAME_BYTES && at < chunk.length) this.#head[this.#headBytes++] = chunk[at++]!;
    if (this.#headBytes < FRAME_BYTES) return at;
    const [flag, a, b, c, d] = this.#head as unknown as [number, number, number, number, number];
    if (flag > 1) throw new GrpcFailure(CODE.internal, `a message with flag ${flag}; expected 0 or 1`);
    this.#length = a * 0x100_0000 + b * 0x1_0000 + c * 0x100 + d;
    if (this.#length > this.#mostBytes) throw new GrpcFailure(CODE.resourceExhausted, `Received message larger than max (${this.#length} vs. ${this.#mostBytes})`);
    this.#body = this.#pool.take(this.#length);
    this.#begun = false;
    if (this.#length === 0) {
      this.#begun = this.#events.begin(this.#body, 0, flag === 1);
      this.#finish(this.#body);
    }
    return at;
  }

  #finish(body: Body): void {
    this.#body = undefined;
    this.#headBytes = 0;
    this.#events.message(body, this.#head[0] === 1);
  }
}

/** Writes flag and length of an uncompressed message into its first five bytes. */
export function writeFrameHead(first: Uint8Array, messageBytes: number): void {
  first[0] = 0;
  first[1] = messageBytes >>> 24;
  first[2] = messageBytes >>> 16;
  first[3] = messageBytes >>> 8;
  first[4] = messageBytes;
}

/** No deflated byte stands for more than this many. Source: zlib, "Maximum compression factor". */
const MOST_INFLATION = 1032;
/** What all messages that are being inflated may come to together. */
const INFLATING_BYTES = 2 ** 30;

/** Inflates messages. Whose they are is only known afterwards, so that they have a bound of their own, together. */
export class Inflater {
  #left = INFLATING_BYTES;

  /** Inflates a message on another thread. Gives the compressed one back. @throws GrpcFailure */
  async inflate(body: Body, encoding: string | undefined, pool: BodyPool, mostBytes: number): Promise<Body> {
    const claim = Math.min(MOST_INFLATION * body.length, mostBytes, INFLATING_BYTES);
    if (claim > this.#left) {
      pool.give(body);
      throw new GrpcFailure(CODE.unavailable, "too many compressed messages at a time");
    }
    this.#left -= claim;
    try {
      return await inflateMessage(body, encoding, pool, claim);
    } finally {
      this.#left += claim;
    }
  }
}

async function inflateMessage(body: Body, encoding: string | undefined, pool: BodyPool, mostBytes: number): Promise<Body> {
  try {
    if (encoding !== "gzip" && encoding !== "deflate") {
      throw encoding === undefined || encoding === "identity" ? new GrpcFailure(CODE.internal, "a compressed message without grpc-encoding") : new GrpcFailure(CODE.unimplemented, `grpc-encoding ${encoding} is not supported; use gzip, deflate or identity`);
    }
    const inflated = await new Promise<Buffer>((resolve, reject) => {
      (encoding === "gzip" ? gunzip : inflate)(body.filled(), { maxOutputLength: mostBytes }, (error, result) => (error === null ? resolve(result) : reject(inflationFailure(error, mostBytes))));
    });
    const result = pool.take(inflated.byteLength);
    result.append(inflated);
    return result;
  } finally {
    pool.give(body);
  }
}

function inflationFailure(error: NodeJS.ErrnoException, mostBytes: number): GrpcFailure {
  if (error.code === "ERR_BUFFER_TOO_LARGE") return new GrpcFailure(CODE.resourceExhausted, `Received message larger than max (more vs. ${mostBytes}) when decompressed`);
  return new GrpcFailure(CODE.internal, `a compressed message could not be read: ${error.message}`);
}
