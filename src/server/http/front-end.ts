/**
 * KServe v2 over HTTP/1.1: a listening socket, a router and handlers. Every size and every wait has a bound.
 *
 * Draining: `drain` stops accepting, tells keep-alive clients to go with their next reply, waits for what is in flight,
 * and then closes what is left.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, Server as NetServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { InferenceServer } from "../contract.ts";
import { type ApiCategory, Restrictions } from "../extensions/restrictions.ts";
import { Extensions } from "../extensions/extensions.ts";
import { BodyPool } from "../wire/body-pool.ts";
import { DEFAULT_IDENTITY, type ServerIdentity } from "../wire/documents.ts";
import { ForwardedHeaders } from "../wire/forwarded.ts";
import type { HttpContext } from "./context.ts";
import * as control from "./control.ts";
import { Exchange } from "./exchange.ts";
import { generate, generateStream } from "./generate.ts";
import { infer } from "./infer.ts";
import { JsonWorker } from "./json-worker.ts";
import { Router, type RouteKind } from "./router.ts";

export interface HttpOptions {
  readonly host?: string;
  /** 0: any free one. */
  readonly port: number;
  readonly identity?: ServerIdentity;
  readonly extensions?: Extensions;
  /** Of a request's JSON, of one tensor, and of what a compressed body inflates to; 64 MiB. */
  readonly maxInputBytes?: number;
  readonly restrictions?: Restrictions;
  readonly forwarded?: ForwardedHeaders;
  readonly maxHeaderBytes?: number;
  readonly maxConnections?: number;
  readonly headersTimeoutMs?: number;
  /** For a whole request to arrive. */
  readonly requestTimeoutMs?: number;
  /** For a client to take some of its reply. */
  readonly replyTimeoutMs?: number;
  readonly keepAliveTimeoutMs?: number;
}

type Method = "GET" | "POST";
const ROUTES: Readonly<Record<RouteKind, { readonly methods: readonly Method[]; readonly category: ApiCategory; readonly handle: control.Handler }>> = {
  live: { methods: ["GET"], category: "health", handle: control.live },
  ready: { methods: ["GET"], category: "health", handle: control.ready },
  server: { methods: ["GET"], category: "metadata", handle: control.server },
  metadata: { methods: ["GET"], category: "metadata", handle: control.metadata },
  modelReady: { methods: ["GET"], category: "health", handle: control.modelReady },
  config: { methods: ["GET"], category: "model-config", handle: control.config },
  statistics: { methods: ["GET"], category: "statistics", handle: control.statistics },
  infer: { methods: ["POST"], category: "inference", handle: infer },
  generate: { methods: ["POST"], category: "inference", handle: generate },
  generateStream: { methods: ["POST"], category: "inference", handle: generateStream },
  trace: { methods: ["GET", "POST"], category: "trace", handle: control.trace },
  logging: { methods: ["GET", "POST"], category: "logging", handle: control.logging },
  index: { methods: ["POST"], category: "model-repository", handle: control.index },
  load: { methods: ["POST"], category: "model-repository", handle: control.load },
  unload: { methods: ["POST"], category: "model-repository", handle: control.unload },
  systemStatus: { methods: ["GET"], category: "shared-memory", handle: control.systemStatus },
  systemRegister: { methods: ["POST"], category: "shared-memory", handle: control.systemRegister },
  systemUnregister: { methods: ["POST"], category: "shared-memory", handle: control.systemUnregister },
  cudaStatus: { methods: ["GET"], category: "shared-memory", handle: control.cudaStatus },
  cudaRegister: { methods: ["POST"], category: "shared-memory", handle: control.cudaRegister },
  cudaUnregister: { methods: ["POST"], category: "shared-memory", handle: control.cudaUnregister },
};

const MIB = 2 ** 20;
/** A draining server is done when this many looks in a row, so far apart, find no request. */
const QUIET_LOOKS = 4;
const QUIET_MS = 25;

export class HttpFrontEnd {
  readonly port: number;
  readonly #server: Server;
  readonly #context: HttpContext;
  readonly #router = new Router();
  #inFlight = 0;

  private constructor(server: Server, context: HttpContext) {
    this.#server = server;
    this.#context = context;
    this.port = (server.address() as AddressInfo).port;
    server.on("request", (request, response) => this.#handle(request, response));
    server.on("checkContinue", (request, response) => this.#handle(request, response));
    server.on("clientError", refuseClient);
  }

  /** @throws when the address is taken */
  static async listen(server: InferenceServer, options: HttpOptions): Promise<HttpFrontEnd> {
    const extensions = options.extensions ?? new Extensions();
    const listener = createServer({
      maxHeaderSize: options.maxHeaderBytes ?? 16 * 1024,
      headersTimeout: options.headersTimeoutMs ?? 10_000,
      requestTimeout: options.requestTimeoutMs ?? 120_000,
      keepAliveTimeout: options.keepAliveTimeoutMs ?? 75_000,
      connectionsCheckingInterval: Math.min(5000, options.headersTimeoutMs ?? 5000, options.requestTimeoutMs ?? 5000),
      noDelay: true,
    });
    listener.maxConnections = options.maxConnections ?? 10_000;
    await new Promise<void>((resolve, reject) => {
      listener.once("error", reject);
      listener.listen(options.port, options.host ?? "127.0.0.1", resolve);
    });
    return new HttpFrontEnd(listener, {
      server,
      identity: options.identity ?? DEFAULT_IDENTITY,
      pool: new BodyPool(),
      json: new JsonWorker(),
      regions: extensions.regions,
      log: extensions.log,
      trace: extensions.trace,
      tracer: extensions.tracer,
      restrictions: options.restrictions ?? new Restrictions(),
      forwarded: options.forwarded ?? new ForwardedHeaders(),
      maxInputBytes: options.maxInputBytes ?? 64 * MIB,
      replyTimeoutMs: options.replyTimeoutMs ?? 60_000,
      life: { draining: false },
    });
  }

  /** Requests whose reply is not complete. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Finishes what was accepted, for at most `mostMs`. Requests that had arrived on open connections, though not been read yet, count as
   * accepted: connections are closed only after none has brought a request for a moment.
   * @returns how many requests were cut off
   */
  async drain(mostMs: number): Promise<number> {
    this.#context.life.draining = true;
    // Not the HTTP server's own `close`, which would cut off connections whose next request was not read yet.
    const closed = new Promise<void>((resolve) => NetServer.prototype.close.call(this.#server, () => resolve()));
    const end = performance.now() + mostMs;
    for (let quiet = 0; quiet < QUIET_LOOKS && performance.now() < end; quiet = this.#inFlight === 0 ? quiet + 1 : 0) await delay(QUIET_MS);
    const cutOff = this.#inFlight;
    this.#server.closeAllConnections();
    await closed;
    this.#server.close();
    await this.#context.json.close();
    if (cutOff === 0) this.#context.pool.close();
    return cutOff;
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    this.#inFlight++;
    const exchange = new Exchange(request, response, this.#context);
    response.once("close", () => this.#inFlight--);
    const route = this.#router.route(request.url ?? "");
    if (route === undefined) {
      exchange.errorText(404, "Not Found");
      return;
    }
    const { methods, category, handle } = ROUTES[route.kind];
    if (!methods.includes(request.method as Method)) {
      exchange.errorText(405, "Method Not Allowed");
      return;
    }
    const missing = this.#context.restrictions.missing(category, request.headers);
    if (missing !== undefined) {
      exchange.errorText(403, `This API is restricted, expecting header '${missing}'`);
      return;
    }
    try {
      handle(exchange, route)?.catch((error: unknown) => exchange.error(error));
    } catch (error) {
      exchange.error(error);
    }
  }
}

/** What a client gets that does not speak HTTP, sends too many headers, or takes too long over them. */
function refuseClient(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const [status, text] = error.code === "HPE_HEADER_OVERFLOW" ? ["431 Request Header Fields Too Large", "request headers are too large"]
    : error.code === "ERR_HTTP_REQUEST_TIMEOUT" ? ["408 Request Timeout", "the request did not arrive in time"]
      : ["400 Bad Request", "malformed HTTP request"];
  const body = JSON.stringify({ error: text });
  socket.end(`HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
}
