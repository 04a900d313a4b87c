/** Calls of one small request message: the methods of `methods.ts`, and health. */
import { ProtoReader } from "../../base/index.ts";
import { Call } from "./call.ts";
import type { GrpcContext } from "./context.ts";
import { FrameReader } from "./framing.ts";
import { MESSAGE } from "./infer-codec.ts";
import { HealthRequest, HealthResponse } from "./messages.ts";
import type { Method } from "./methods.ts";
import { decode, encode, type Message, type Plain } from "./schema.ts";
import { CODE, statusOf } from "./status.ts";

/** Of requests that carry no files. */
const MOST_CONTROL_BYTES = 4 * 2 ** 20;
const HEALTH = { unknown: 0, serving: 1, notServing: 2 } as const;
const WATCH_MS = 500;
const SERVICES: ReadonlySet<string> = new Set(["", "inference.GRPCInferenceService", "grpc.health.v1.Health"]);

export function callMethod(context: GrpcContext, call: Call, name: string, method: Method): void {
  const most = name === "RepositoryModelLoad" ? context.maxMessageBytes : MOST_CONTROL_BYTES;
  receiveOne(context, call, method.request, most, async (request) => {
    const writer = Call.writer();
    encode(writer, method.response, await method.handle(context, request));
    call.answer(writer);
  });
}

function receiveOne(context: GrpcContext, call: Call, type: Message, mostBytes: number, handle: (request: Plain) => Promise<void>): void {
  const { pool } = context;
  let received = false;
  const fail = (error: unknown): void => {
    if (statusOf(error).code === CODE.internal) context.extensions.log.error(error, "gRPC");
    call.fail(error);
  };
  const reader = new FrameReader(pool, mostBytes, {
    begin: () => true,
    message(body, compressed) {
      if (received) {
        pool.give(body);
        return;
      }
      received = true;
      const plain = compressed ? context.inflater.inflate(body, call.headers["grpc-encoding"] as string | undefined, pool, mostBytes) : Promise.resolve(body);
      plain.then(async (inflated) => {
        try {
          await handle(decode(new ProtoReader(inflated.filled(), MESSAGE), type));
        } finally {
          pool.give(inflated);
        }
      }).catch(fail);
    },
  });
  call.stream.on("data", (chunk: Buffer) => {
    if (call.done) return;
    try {
      reader.push(chunk);
    } catch (error) {
      fail(error);
    }
  });
  call.stream.on("end", () => {
    if (!received) call.failWith(CODE.internal, "the stream ended before its message");
  });
  call.stream.on("close", () => reader.abandon());
}

/** @returns undefined for a service that is not here. A model's name may stand for a service. */
function healthOf(context: GrpcContext, service: string): number | undefined {
  if (SERVICES.has(service)) return context.server.live() && context.server.ready() ? HEALTH.serving : HEALTH.notServing;
  try {
    return context.server.modelReady(service, "") ? HEALTH.serving : HEALTH.notServing;
  } catch {
    return undefined;
  }
}

function healthMessage(status: number): ReturnType<typeof Call.writer> {
  const writer = Call.writer();
  encode(writer, HealthResponse, { status });
  return writer;
}

const NOT_FOUND = 5;

/** `grpc.health.v1.Health/Check`. */
export function checkHealth(context: GrpcContext, call: Call): void {
  receiveOne(context, call, HealthRequest, MOST_CONTROL_BYTES, async (request) => {
    const status = healthOf(context, String(request["service"]));
    if (status === undefined) call.failWith(NOT_FOUND, `unknown service '${String(request["service"])}'`);
    else call.answer(healthMessage(status));
  });
}

/** `grpc.health.v1.Health/Watch`: the state now, and whenever it changes. */
export function watchHealth(context: GrpcContext, call: Call): void {
  receiveOne(context, call, HealthRequest, MOST_CONTROL_BYTES, async (request) => {
    const service = String(request["service"]);
    const unknown = 3;
    let last: number | undefined;
    const look = (): void => {
      const status = healthOf(context, service) ?? unknown;
      if (status !== last) call.write(healthMessage(status));
      last = status;
    };
    look();
    const timer = setInterval(look, WATCH_MS);
    timer.unref();
    const end = (): void => call.end();
    context.onDrain.add(end);
    call.stream.on("close", () => {
      clearInterval(timer);
      context.onDrain.delete(end);
    });
  });
}
