/**
 * `ModelInfer` and `ModelStreamInfer`. In a stream every request is answered on its own and errors are messages, unless the client
 * asked (metadata `triton_grpc_error: true`) for gRPC's status to end it.
 * Sources: Triton's grpc_service.proto; extension_parameters; decoupled models.
 */
import { type InferenceRequest, type InferenceResponse, type Parameters, type RequestedOutput, type RequestInput, ServingError } from "../contract.ts";
import type { Trace } from "../extensions/tracer.ts";
import type { Body } from "../wire/body-pool.ts";
import { checkByteSize } from "../wire/datatypes.ts";
import { splitParameters } from "../wire/parameters.ts";
import { Reservation } from "../wire/reservation.ts";
import { Call } from "./call.ts";
import type { GrpcContext } from "./context.ts";
import { FrameReader } from "./framing.ts";
import { peekModel, readInferRequest, type WireOutput, type WireRequest, writeInferResponse, writeStreamError, writeStreamResponse } from "./infer-codec.ts";
import { CODE, GrpcFailure, statusOf } from "./status.ts";

/** A client that asks for it gets a last message of no outputs, where the last with outputs did not say that it was. */
const ENABLE_EMPTY_FINAL = "triton_enable_empty_final_response";
const UNARY_KEYS: ReadonlySet<string> = new Set([ENABLE_EMPTY_FINAL]);
const LAST: Parameters = new Map([["triton_final_response", true]]);
const NOT_LAST: Parameters = new Map([["triton_final_response", false]]);

/** A message on its way to an answer: what it borrows until then. */
interface Borrowed {
  readonly bodies: Body[];
  /** Undefined for a compressed message that was not read yet. */
  reservation: Reservation | undefined;
}

export function inferOnce(context: GrpcContext, call: Call): void {
  receive(context, call, {
    onMessage(borrowed, compressed) {
      answerOnce(context, call, borrowed, compressed).catch((error: unknown) => fail(context, call, error));
      return false;
    },
  });
}

function fail(context: GrpcContext, call: Call, error: unknown): void {
  if (statusOf(error).code === CODE.internal && error instanceof Error && !(error instanceof GrpcFailure)) context.extensions.log.error(error.cause ?? error, "gRPC");
  call.fail(error);
}

/** Who takes a stream's messages. */
interface Receiver {
  /** Takes over what it is given. @returns whether another message may come */
  onMessage(borrowed: Borrowed, compressed: boolean): boolean;
  /** A message for which there was no room, and that is dropped now; without this a refusal ends the call. */
  onRefused?(error: unknown, message: Buffer): void;
  /** After the last message, for calls that may have any number. */
  onEnd?(): void;
}

function receive(context: GrpcContext, call: Call, receiver: Receiver): void {
  const { pool } = context;
  const { stream } = call;
  let reservation: Reservation | undefined;
  let refusal: { readonly error: unknown } | undefined;
  let open = true;
  const reader = new FrameReader(pool, context.maxMessageBytes, {
    begin(body, length, compressed) {
      // Whose it is, a compressed message tells later.
      if (compressed) return true;
      const named = peekModel(body.bytes, body.length, body.length === length);
      if (named === undefined) return false;
      try {
        reservation = new Reservation(context.server, named.model, named.version, length);
      } catch (error) {
        if (receiver.onRefused === undefined) throw error;
        refusal = { error };
      }
      return true;
    },
    message(body, compressed) {
      if (refusal !== undefined) {
        receiver.onRefused!(refusal.error, body.filled());
        refusal = undefined;
        pool.give(body);
        return;
      }
      const borrowed: Borrowed = { bodies: [body], reservation };
      reservation = undefined;
      open = receiver.onMessage(borrowed, compressed);
    },
  });
  const stop = (): void => {
    open = false;
    reader.abandon();
    reservation?.release();
    reservation = undefined;
  };
  stream.on("data", (chunk: Buffer) => {
    if (!open) return;
    try {
      reader.push(chunk);
    } catch (error) {
      stop();
      fail(context, call, error);
    }
  });
  stream.on("end", () => {
    if (!open) return;
    if (!reader.whole || receiver.onEnd === undefined) call.failWith(CODE.internal, "the stream ended before its message");
    else receiver.onEnd();
    stop();
  });
  stream.on("close", stop);
}

function giveBack(context: GrpcContext, { bodies, reservation }: Borrowed): void {
  for (const body of bodies) context.pool.give(body);
  reservation?.release();
}

async function readMessage(context: GrpcContext, call: Call, borrowed: Borrowed, compressed: boolean): Promise<WireRequest> {
  if (compressed) {
    const body = await context.inflater.inflate(borrowed.bodies.pop()!, call.headers["grpc-encoding"] as string | undefined, context.pool, context.maxMessageBytes);
    borrowed.bodies.push(body);
    const { model, version } = peekModel(body.bytes, body.length, true)!;
    borrowed.reservation = new Reservation(context.server, model, version, body.length);
  }
  return readInferRequest(borrowed.bodies[0]!.filled());
}

async function answerOnce(context: GrpcContext, call: Call, borrowed: Borrowed, compressed: boolean): Promise<void> {
  try {
    const wire = await readMessage(context, call, borrowed, compressed);
    const trace = context.extensions.tracer.begin(wire.model);
    trace?.at("GRPC_WAITREAD_END");
    if (trace) call.whenClosed(() => endTrace(context, trace, wire.model));
    const request = bind(context, wire, call, borrowed.bodies, trace);
    call.onGone = () => (request.cancelled = true);
    const response = await context.server.infer(request);
    trace?.name(response.version, response.id);
    trace?.at("INFER_RESPONSE_COMPLETE");
    trace?.at("GRPC_SEND_START");
    call.answer(writerOf(context, response, wire.outputs, false), () => response.release());
  } finally {
    giveBack(context, borrowed);
  }
}

function endTrace(context: GrpcContext, trace: Trace, model: string): void {
  trace.at("GRPC_SEND_END");
  context.extensions.tracer.end(trace, model);
}

function marked(response: InferenceResponse, isLast: boolean): InferenceResponse {
  const mark = isLast ? LAST : NOT_LAST;
  const { model, version, id, parameters, outputs } = response;
  return { model, version, id, parameters: parameters.size === 0 ? mark : new Map([...parameters, ...mark]), outputs, release: () => response.release() };
}

/** The answer as a message. Releases it when that fails. */
function writerOf(context: GrpcContext, response: InferenceResponse, wanted: readonly WireOutput[], streamed: boolean): ReturnType<typeof Call.writer> {
  try {
    const writer = Call.writer();
    (streamed ? writeStreamResponse : writeInferResponse)(writer, response, wanted, context.extensions.regions);
    return writer;
  } catch (error) {
    response.release();
    throw error;
  }
}

/** Gives every input its bytes: raw contents in order, typed contents, or shared memory. */
function bind(context: GrpcContext, wire: WireRequest, call: Call, bodies: Body[], trace?: Trace): InferenceRequest {
  const { model, version, id } = wire;
  let next = 0;
  const inputs = wire.inputs.map(({ name, datatype, shape, place, contents }): RequestInput => {
    let bytes = contents;
    if (place !== undefined) {
      if (contents !== undefined) throw new ServingError("INVALID_ARG", `unexpected 'content' provided when using shared memory for input tensor '${name}' for model '${model}'`);
      bytes = readPlaced(context, place, bodies);
    } else if (wire.raw.length > 0) {
      if (contents !== undefined) throw new ServingError("INVALID_ARG", `contents field must not be specified when using raw_input_contents for '${name}' for model '${model}'`);
      bytes = wire.raw[next++];
      if (bytes === undefined) throw rawMismatch(model, wire);
    }
    if (bytes === undefined) bytes = new Uint8Array(0);
    checkByteSize(name, model, datatype, shape, bytes);
    return { name, datatype, shape, bytes };
  });
  if (next !== wire.raw.length) throw rawMismatch(model, wire);
  const outputs: readonly RequestedOutput[] = wire.outputs;
  const { parameters, ...limits } = splitParameters(wire.parameters, UNARY_KEYS);
  return { model, version, id, inputs, ...(outputs.length === 0 ? {} : { outputs }), ...limits, parameters: context.forwarded.addTo(parameters, () => metadataOf(call)), cancelled: false, ...(trace ? { trace } : {}) };
}

function* metadataOf({ headers }: Call): Iterable<readonly [string, string]> {
  for (const [name, value] of Object.entries(headers)) if (!name.startsWith(":") && value !== undefined) yield [name, Array.isArray(value) ? value.join(", ") : String(value)];
}

function rawMismatch(model: string, wire: WireRequest): ServingError {
  const expected = wire.inputs.filter((input) => input.place === undefined).length;
  return new ServingError("INVALID_ARG", `for model '${model}', expecting ${expected} raw_input_contents, one for each input that is not in shared memory, got ${wire.raw.length}`);
}

function readPlaced(context: GrpcContext, place: NonNullable<WireRequest["inputs"][number]["place"]>, bodies: Body[]): Uint8Array {
  const { regions } = context.extensions;
  regions.check(place);
  const body = context.pool.take(place.byteSize);
  bodies.push(body);
  const bytes = body.bytes.subarray(0, place.byteSize);
  regions.read(place, bytes);
  return bytes;
}

/** Requests of one stream, and how many are open. */
class InferStream {
  readonly #context: GrpcContext;
  readonly #call: Call;
  readonly #requests = new Set<InferenceRequest>();
  /** Whether an error ends the stream with a status. */
  readonly #strict: boolean;
  #open = 0;
  #ended = false;

  constructor(context: GrpcContext, call: Call) {
    this.#context = context;
    this.#call = call;
    this.#strict = call.headers["triton_grpc_error"] === "true";
    call.onGone = () => this.#cancel();
    call.stream.on("drain", () => this.#flow());
  }

  #cancel(): void {
    for (const request of this.#requests) request.cancelled = true;
  }

  end(): void {
    this.#ended = true;
    if (this.#open === 0) this.#call.end();
  }

  refuse(error: unknown, message: Buffer): void {
    let wire: WireRequest | undefined;
    try {
      wire = readInferRequest(message);
    } catch {
      // What it was cannot be told, only why it was refused.
    }
    this.#fail(error, wire);
  }

  /** @returns whether another message may come */
  accept(borrowed: Borrowed, compressed: boolean): boolean {
    this.#open++;
    this.#flow();
    this.#answer(borrowed, compressed).catch((error: unknown) => fail(this.#context, this.#call, error)).finally(() => {
      this.#open--;
      this.#flow();
      if (this.#ended && this.#open === 0) this.#call.end();
    });
    return !this.#call.done;
  }

  /** Reads on only while there is room for more work, and the client takes its answers. */
  #flow(): void {
    const { stream } = this.#call;
    const room = this.#open < this.#context.maxStreamRequests && !stream.writableNeedDrain;
    if (room && stream.isPaused()) stream.resume();
    else if (!room && !stream.isPaused()) stream.pause();
  }

  async #answer(borrowed: Borrowed, compressed: boolean): Promise<void> {
    let wire: WireRequest | undefined;
    let request: InferenceRequest | undefined;
    let trace: Trace | undefined;
    try {
      wire = await readMessage(this.#context, this.#call, borrowed, compressed);
      trace = this.#context.extensions.tracer.begin(wire.model);
      trace?.at("GRPC_WAITREAD_END");
      request = bind(this.#context, wire, this.#call, borrowed.bodies, trace);
      this.#requests.add(request);
      if (this.#call.done) request.cancelled = true;
      const { outputs, model, id } = wire;
      let ended = false;
      await this.#context.server.inferStream(request, (response, isLast) => {
        ended = isLast;
        trace?.name(response.version, response.id);
        trace?.at("GRPC_SEND_START");
        this.#call.write(writerOf(this.#context, marked(response, isLast), outputs, true), () => response.release());
      });
      if (!ended && request.parameters.get(ENABLE_EMPTY_FINAL) === true) {
        const last: InferenceResponse = { model, version: wire.version, id, parameters: LAST, outputs: [], release: () => undefined };
        this.#call.write(writerOf(this.#context, last, outputs, true));
      }
    } catch (error) {
      this.#fail(error, wire);
    } finally {
      if (request !== undefined) this.#requests.delete(request);
      if (trace !== undefined) endTrace(this.#context, trace, wire!.model);
      giveBack(this.#context, borrowed);
    }
  }

  #fail(error: unknown, wire: WireRequest | undefined): void {
    if (this.#strict || error instanceof GrpcFailure) {
      this.#call.fail(error);
      this.#cancel();
      return;
    }
    const writer = Call.writer();
    writeStreamError(writer, statusOf(error).message, wire?.model ?? "", wire?.id ?? "");
    this.#call.write(writer);
  }
}

export function inferStreamed(context: GrpcContext, call: Call): void {
  const stream = new InferStream(context, call);
  receive(context, call, {
    onMessage: (borrowed, compressed) => stream.accept(borrowed, compressed),
    onRefused: (error, message) => stream.refuse(error, message),
    onEnd: () => stream.end(),
  });
}
