"""gRPC itself, over TLS, with a server that asks for keys: who is let in, what is told, and gRPC's health checks."""

import pathlib
import sys

import grpc

from golden import ADDRESS

KEY, CERTIFICATE = sys.argv[3], pathlib.Path(sys.argv[4])
SERVICE = "inference.GRPCInferenceService"
channel = grpc.secure_channel(ADDRESS, grpc.ssl_channel_credentials(CERTIFICATE.read_bytes()))


def call(path, request=b"", *metadata):
    return channel.unary_unary(f"/{path}").with_call(request, metadata=metadata, timeout=60)


def refused(code, words, path, request=b"", *metadata):
    try:
        call(path, request, *metadata)
    except grpc.RpcError as error:
        assert error.code() == getattr(grpc.StatusCode, code) and words in error.details(), error
        return
    raise AssertionError(f"{path} was not refused with {code}")


# A truth, and a server that serves, are field 1 with the number 1.
YES = b"\x08\x01"
for path in ("grpc.health.v1.Health/Check", f"{SERVICE}/ServerLive", f"{SERVICE}/ServerReady"):
    assert call(path)[0] == YES, path
named = b"\x0a" + bytes([len(SERVICE)]) + SERVICE.encode()
assert call("grpc.health.v1.Health/Check", named)[0] == YES
refused("NOT_FOUND", "there is no service `x`", "grpc.health.v1.Health/Check", b"\x0a\x01x")

# The larger body is more than a client may send unasked: nothing of it is waited for.
for path in (f"{SERVICE}/ModelReady", f"{SERVICE}/ServerMetadata", f"{SERVICE}/ModelInfer", "grpc.health.v1.Health/Watch", "no/Path"):
    for body in (b"", bytes(8 << 20)):
        refused("UNAUTHENTICATED", "a key is needed here", path, body)
        refused("UNAUTHENTICATED", "not one that is let in", path, body, ("authorization", "Bearer emb_no"))

for header in (("authorization", f"Bearer {KEY}"), ("x-api-key", KEY)):
    answer, told = call(f"{SERVICE}/ServerMetadata", b"", header, ("x-request-id", "order-7"))
    assert b"emberline" in answer
    assert ("x-request-id", "order-7") in [tuple(entry) for entry in told.initial_metadata()]
    refused("UNIMPLEMENTED", "there is no method `/grpc.health.v1.Health/Watch`", "grpc.health.v1.Health/Watch", b"", header)
    refused("INVALID_ARGUMENT", "no infer request", f"{SERVICE}/ModelInfer", b"\xff\xff", header)
