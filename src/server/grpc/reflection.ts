/**
 * Server reflection: a client that has no protos asks for what the server speaks. `v1` and `v1alpha` are the same under two
 * names. Source: grpc/grpc-proto, grpc/reflection/v1/reflection.proto.
 */
import { ProtoReader } from "../../base/index.ts";
import { Call } from "./call.ts";
import type { GrpcContext } from "./context.ts";
import { type DescribedMethod, type DescribedService, describeService } from "./descriptors.ts";
import { FrameReader } from "./framing.ts";
import { MESSAGE } from "./infer-codec.ts";
import { HealthRequest, HealthResponse, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse } from "./messages.ts";
import { METHODS } from "./methods.ts";
import { choice, decode, encode, list, message, type Plain } from "./schema.ts";
import { CODE } from "./status.ts";

const MOST_REQUEST_BYTES = 64 * 1024;
const [NOT_FOUND, UNIMPLEMENTED] = [5, 12];

export const ReflectionRequest = message({
  host: [1, "string"], file_by_filename: [3, choice("string")], file_containing_symbol: [4, choice("string")], file_containing_extension: [5, choice(message({ containing_type: [1, "string"], extension_number: [2, "int32"] }))],
  all_extension_numbers_of_type: [6, choice("string")], list_services: [7, choice("string")],
});
export const ReflectionResponse = message({
  valid_host: [1, "string"], original_request: [2, ReflectionRequest], file_descriptor_response: [4, choice(message({ file_descriptor_proto: [1, list("bytes")] }))],
  all_extension_numbers_response: [5, choice(message({ base_type_name: [1, "string"], extension_number: [2, list("int32")] }))],
  list_services_response: [6, choice(message({ service: [1, list(message({ name: [1, "string"] }))] }))], error_response: [7, choice(message({ error_code: [1, "int32"], error_message: [2, "string"] }))],
});

const BOTH: DescribedMethod["streams"] = ["request", "response"];
const SERVICES: readonly DescribedService[] = [
  {
    file: "grpc_service.proto", package: "inference", service: "GRPCInferenceService",
    methods: { ...METHODS, ModelInfer: { request: ModelInferRequest, response: ModelInferResponse }, ModelStreamInfer: { request: ModelInferRequest, response: ModelStreamInferResponse, streams: BOTH } },
  },
  { file: "grpc/health/v1/health.proto", package: "grpc.health.v1", service: "Health", methods: { Check: { request: HealthRequest, response: HealthResponse }, Watch: { request: HealthRequest, response: HealthResponse, streams: ["response"] } } },
  ...["v1", "v1alpha"].map((version): DescribedService => ({
    file: `grpc/reflection/${version}/reflection.proto`, package: `grpc.reflection.${version}`, service: "ServerReflection", methods: { ServerReflectionInfo: { request: ReflectionRequest, response: ReflectionResponse, streams: BOTH } },
  })),
];

interface Described {
  readonly byFile: ReadonlyMap<string, Buffer>;
  readonly bySymbol: ReadonlyMap<string, Buffer>;
}

let made: Described | undefined;

/** Made when somebody asks, and kept: it depends on nothing that changes. */
function described(): Described {
  if (made) return made;
  const [byFile, bySymbol] = [new Map<string, Buffer>(), new Map<string, Buffer>()];
  for (const service of SERVICES) {
    const { bytes, symbols } = describeService(service);
    byFile.set(service.file, bytes);
    for (const symbol of symbols) bySymbol.set(symbol, bytes);
  }
  return (made = { byFile, bySymbol });
}

/** `ServerReflectionInfo`: one answer per request, until the client ends. */
export function reflect(context: GrpcContext, call: Call): void {
  const { pool } = context;
  const reader = new FrameReader(pool, MOST_REQUEST_BYTES, {
    begin: () => true,
    message(body, compressed) {
      try {
        if (compressed) call.failWith(CODE.unimplemented, "compressed requests for reflection are not read");
        else answer(call, decode(new ProtoReader(body.filled(), MESSAGE), ReflectionRequest));
      } finally {
        pool.give(body);
      }
    },
  });
  call.stream.on("data", (chunk: Buffer) => {
    if (call.done) return;
    try {
      reader.push(chunk);
    } catch (error) {
      call.fail(error);
    }
  });
  call.stream.on("end", () => call.end());
  call.stream.on("close", () => reader.abandon());
}

function answer(call: Call, request: Plain): void {
  const writer = Call.writer();
  encode(writer, ReflectionResponse, { valid_host: request["host"], original_request: request, ...responseTo(request) });
  call.write(writer);
}

function responseTo(request: Plain): Plain {
  const { byFile, bySymbol } = described();
  if (request["list_services"] !== undefined) return { list_services_response: { service: SERVICES.map((one) => ({ name: `${one.package}.${one.service}` })) } };
  const asked = request["file_by_filename"] ?? request["file_containing_symbol"];
  if (asked === undefined) return { error_response: { error_code: UNIMPLEMENTED, error_message: "there are no extensions, and no other question is known" } };
  const found = request["file_by_filename"] === undefined ? bySymbol.get(String(asked)) : byFile.get(String(asked));
  return found ? { file_descriptor_response: { file_descriptor_proto: [found] } } : { error_response: { error_code: NOT_FOUND, error_message: `${String(asked)} is not found` } };
}
