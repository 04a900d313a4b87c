/**
 * KServe v2 over gRPC: gRPC's framing on HTTP/2 without TLS, with windows wide enough that a tensor does not wait for them.
 *
 * Draining: `drain` stops accepting, sends GOAWAY on every connection, waits for open calls, then closes what is left.
 * Source: gRPC over HTTP/2.
 */
import { constants, createServer, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import type { InferenceServer } from "../contract.ts";
import { type ApiCategory, Restrictions } from "../extensions/restrictions.ts";
import { Extensions } from "../extensions/extensions.ts";
import { ForwardedHeaders } from "../wire/forwarded.ts";
import { BodyPool } from "../wire/body-pool.ts";
import { DEFAULT_IDENTITY, type ServerIdentity } from "../wire/documents.ts";
import { Call } from "./call.ts";
import type { GrpcContext } from "./context.ts";
import { callMethod, checkHealth, watchHealth } from "./control.ts";
import { Inflater } from "./framing.ts";
import { inferOnce, inferStreamed } from "./infer.ts";
import { METHODS } from "./methods.ts";
import { reflect } from "./reflection.ts";
import { CODE } from "./status.ts";

export interface GrpcOptions {
  readonly host?: string;
  /** 0: any free one. */
  readonly port: number;
  readonly identity?: ServerIdentity;
  readonly extensions?: Extensions;
  readonly restrictions?: Restrictions;
  readonly forwarded?: ForwardedHeaders;
  /** After that a connection takes no new calls, so that its client connects anew, elsewhere perhaps. */
  readonly maxConnectionAgeMs?: number;
  /** What calls that are open then get to end; without it as long as they take. */
  readonly maxConnectionAgeGraceMs?: number;
  /** Of one message, compressed or not; 2 GiB. */
  readonly maxMessageBytes?: number;
  readonly maxConnections?: number;
  /** Calls of one connection at a time. */
  readonly maxConcurrentStreams?: number;
  /** Requests of one stream that are worked on at a time. */
  readonly maxStreamRequests?: number;
}

const SERVICE = "/inference.GRPCInferenceService/";
const STREAM_WINDOW_BYTES = 4 * 2 ** 20;
const SESSION_WINDOW_BYTES = 64 * 2 ** 20;
const FRAME_BYTES = 2 ** 20;
/** Megabytes of queued frames and headers after which Node refuses new streams of a session. */
const SESSION_MEMORY_MB = 1024;
const MOST_HEADER_BYTES = 32 * 1024;

interface Handler {
  readonly category: ApiCategory;
  call(context: GrpcContext, call: Call): void;
}

function handlers(): ReadonlyMap<string, Handler> {
  const all = new Map<string, Handler>(Object.entries(METHODS).map(([name, method]) => [`${SERVICE}${name}`, { category: method.category, call: (context, call) => callMethod(context, call, name, method) }]));
  all.set(`${SERVICE}ModelInfer`, { category: "inference", call: inferOnce });
  all.set(`${SERVICE}ModelStreamInfer`, { category: "inference", call: inferStreamed });
  all.set("/grpc.health.v1.Health/Check", { category: "health", call: checkHealth });
  all.set("/grpc.health.v1.Health/Watch", { category: "health", call: watchHealth });
  for (const version of ["v1", "v1alpha"]) all.set(`/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`, { category: "metadata", call: reflect });
  return all;
}

export class GrpcFrontEnd {
  readonly port: number;
  readonly #server: Http2Server;
  readonly #context: GrpcContext;
  readonly #handlers = handlers();
  readonly #sessions = new Set<ServerHttp2Session>();
  #inFlight = 0;
  #idle: (() => void) | undefined;

  private constructor(server: Http2Server, context: GrpcContext, options: GrpcOptions) {
    this.#server = server;
    this.#context = context;
    this.port = (server.address() as AddressInfo).port;
    server.on("session", (session) => {
      this.#sessions.add(session);
      session.setLocalWindowSize(SESSION_WINDOW_BYTES);
      session.on("close", () => this.#sessions.delete(session));
      if (options.maxConnectionAgeMs !== undefined) limitAge(session, options.maxConnectionAgeMs, options.maxConnectionAgeGraceMs);
      session.on("error", () => session.destroy());
    });
    server.on("sessionError", () => {});
    server.on("stream", (stream, headers) => this.#handle(stream, headers));
  }

  /** @throws when the address is taken */
  static async listen(server: InferenceServer, options: GrpcOptions): Promise<GrpcFrontEnd> {
    const listener = createServer({
      settings: {
        initialWindowSize: STREAM_WINDOW_BYTES,
        maxFrameSize: FRAME_BYTES,
        maxConcurrentStreams: options.maxConcurrentStreams ?? 4096,
        maxHeaderListSize: MOST_HEADER_BYTES,
        enablePush: false,
      },
      maxSessionMemory: SESSION_MEMORY_MB,
    });
    listener.maxConnections = options.maxConnections ?? 10_000;
    listener.setTimeout(0);
    await new Promise<void>((resolve, reject) => {
      listener.once("error", reject);
      listener.listen(options.port, options.host ?? "127.0.0.1", resolve);
    });
    return new GrpcFrontEnd(listener, {
      server,
      identity: options.identity ?? DEFAULT_IDENTITY,
      pool: new BodyPool(),
      inflater: new Inflater(),
      extensions: options.extensions ?? new Extensions(),
      restrictions: options.restrictions ?? new Restrictions(),
      forwarded: options.forwarded ?? new ForwardedHeaders(),
      maxMessageBytes: options.maxMessageBytes ?? 2 ** 31 - 1,
      maxStreamRequests: options.maxStreamRequests ?? 256,
      onDrain: new Set(),
    }, options);
  }

  /** Calls whose status was not given. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Finishes what was accepted, for at most `mostMs`. @returns how many calls were cut off */
  async drain(mostMs: number): Promise<number> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const tell of this.#context.onDrain) tell();
    for (const session of this.#sessions) session.close();
    let timer: NodeJS.Timeout | undefined;
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
        timer = setTimeout(resolve, mostMs);
      });
    }
    clearTimeout(timer);
    const cutOff = this.#inFlight;
    for (const session of this.#sessions) session.destroy();
    await closed;
    if (cutOff === 0) this.#context.pool.close();
    return cutOff;
  }

  #handle(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    this.#inFlight++;
    const call = new Call(stream, headers);
    stream.once("close", () => {
      this.#inFlight--;
      if (this.#inFlight === 0) this.#idle?.();
    });
    if (headers[":method"] !== "POST" || !String(headers["content-type"]).startsWith("application/grpc")) {
      stream.respond({ ":status": headers[":method"] === "POST" ? 415 : 405 }, { endStream: true });
      stream.close(constants.NGHTTP2_NO_ERROR);
      return;
    }
    const handler = this.#handlers.get(String(headers[":path"]));
    if (handler === undefined) {
      call.failWith(CODE.unimplemented, `unknown method ${String(headers[":path"])}`);
      stream.resume();
      return;
    }
    const missing = this.#context.restrictions.missing(handler.category, headers);
    if (missing !== undefined) {
      call.failWith(CODE.unavailable, `This protocol is restricted, expecting header '${missing}'`);
      stream.resume();
      return;
    }
    handler.call(this.#context, call);
  }
}

/** A goodbye after that time, a tenth sooner or later so that clients do not all come back at once. Source: gRPC A9. */
function limitAge(session: ServerHttp2Session, ageMs: number, graceMs: number | undefined): void {
  const timers = [setTimeout(() => {
    session.close();
    if (graceMs !== undefined) timers.push(setTimeout(() => session.destroy(), graceMs));
  }, ageMs * (0.9 + 0.2 * Math.random()))];
  session.once("close", () => timers.forEach(clearTimeout));
}
