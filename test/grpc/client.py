"""A client of another making (grpcio on gRPC's C core) for the server's tests: client.py PORT FOLDER_OF_KSERVE_PB2."""
import struct
import sys

import grpc

port, folder = sys.argv[1:]
sys.path.insert(0, folder)
import kserve_pb2 as pb  # noqa: E402

SERVICE = "/inference.GRPCInferenceService/"
# gRPC's own default lets messages of 4 MB in.
channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)])


def unary(name, request, answer, timeout=10, **more):
    return channel.unary_unary(SERVICE + name, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString)(request, timeout=timeout, **more)


def infer(request, **more):
    return unary("ModelInfer", request, pb.Response, **more)


def request(model, datatype, shape, raw, **more):
    return pb.Request(model_name=model, inputs=[pb.Tensor(name="INPUT0", datatype=datatype, shape=shape)], raw_input_contents=[raw], **more)


def refused(call, code, text):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert text in error.details(), error
        return
    raise AssertionError("was not refused")


assert unary("ServerReady", pb.Nothing(), pb.Ready).ready
refused(lambda: unary("ModelReady", pb.Model(name="nope"), pb.Ready), grpc.StatusCode.INVALID_ARGUMENT, "Request for unknown model: 'nope'")
metadata = unary("ModelMetadata", pb.Model(name="matrix"), pb.Metadata)
assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("INPUT0", "FP32", [-1, -1])]

floats = struct.pack("<4f", 1, 2, 3, 4)
answer = infer(request("matrix", "FP32", [2, 2], floats, id="x"))
assert (answer.id, answer.raw_output_contents[0], list(answer.outputs[0].shape)) == ("x", floats, [2, 2])
typed = pb.Request(model_name="identity_int64", inputs=[pb.Tensor(name="INPUT0", datatype="INT64", shape=[3], contents=pb.Contents(longs=[-1, 2**62, 0]))])
assert infer(typed).raw_output_contents[0] == struct.pack("<3q", -1, 2**62, 0)
large = bytes(range(256)) * 40_000
assert infer(request("identity_uint8", "UINT8", [len(large)], large)).raw_output_contents[0] == large
for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
    assert infer(request("identity_uint8", "UINT8", [len(large)], large), compression=compression).raw_output_contents[0] == large
refused(lambda: infer(request("matrix", "FP32", [9, 9], floats)), grpc.StatusCode.INVALID_ARGUMENT, "Expected 324, got 16")
refused(lambda: infer(request("slow", "FP32", [1], floats[:4]), timeout=0.05), grpc.StatusCode.DEADLINE_EXCEEDED, "")

stream = channel.stream_stream(SERVICE + "ModelStreamInfer", request_serializer=pb.Request.SerializeToString, response_deserializer=pb.StreamResponse.FromString)
wanted = [request("identity_fp32", "FP32", [1], struct.pack("<f", i), id=str(i)) for i in range(50)] + [request("nope", "FP32", [1], b"1234", id="bad")]
answers = list(stream(iter(wanted), timeout=10))
assert sorted(int(a.infer_response.id) for a in answers if not a.error_message) == list(range(50))
assert ["unknown model" in a.error_message for a in answers if a.infer_response.id == "bad"] == [True]
assert unary("ModelStatistics", pb.Model(name="matrix"), pb.Statistics).model_stats[0].inference_stats.success.count > 0
# Without a proto of ours: what the server tells of itself is enough to call it.
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

reflection = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", request_serializer=bytes, response_deserializer=bytes)
symbol = b"inference.GRPCInferenceService"
(told,) = reflection(iter([b"\x22" + bytes([len(symbol)]) + symbol]), timeout=10)
# Field 4 of the answer, and in it field 1: a FileDescriptorProto.
start = told.index(b"\x0a\x12grpc_service.proto")
pool = descriptor_pool.DescriptorPool()
pool.AddSerializedFile(told[start:])
service = pool.FindServiceByName("inference.GRPCInferenceService")
assert {"ModelInfer", "ModelStreamInfer", "ModelStatistics", "RepositoryIndex"} <= set(service.methods_by_name)
factory = message_factory.MessageFactory(pool)


def reflected(rpc, **fields):
    method = service.methods_by_name[rpc]
    call = channel.unary_unary(SERVICE + rpc, request_serializer=lambda m: m.SerializeToString(), response_deserializer=factory.GetPrototype(method.output_type).FromString)
    return call(factory.GetPrototype(method.input_type)(**fields), timeout=10)


assert reflected("ServerMetadata").name == "triton"
config = reflected("ModelConfig", name="matrix").config
assert (config.name, config.parameters["answer"].string_value, config.dynamic_batching.priority_queue_policy[1].max_queue_size) == ("matrix", "42", 3)
print("all well")
