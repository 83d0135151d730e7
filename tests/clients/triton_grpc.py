"""Triton's client over gRPC: tensors as bytes, both ways."""

import queue

import ml_dtypes
import numpy
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from golden import ADDRESS, LABELS, MANIFEST, check, columns, images

NAME = MANIFEST["name"]
client = triton.InferenceServerClient(ADDRESS)


def refused(code, words, ask):
    try:
        ask()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}" and words in error.message(), error
        return
    raise AssertionError(f"nothing was refused with {code}")


def tensor(name, values, datatype):
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def verify(result):
    check(result.as_numpy("probabilities"))
    labels = [label.decode() for label in result.as_numpy("label")]
    assert labels == LABELS, labels


def facts():
    assert client.is_server_live() and client.is_server_ready()
    metadata = client.get_model_metadata(NAME)
    (version,) = metadata.versions
    assert metadata.platform == "emberline"
    assert client.is_model_ready(NAME) and client.is_model_ready(NAME, version)
    assert not client.is_model_ready(NAME, "0") and not client.is_model_ready("other")
    assert client.get_model_metadata(NAME, version) == metadata
    refused("NOT_FOUND", f"there is no model `other` here, there is `{NAME}`", lambda: client.get_model_metadata("other"))
    assert client.get_server_metadata().name == "emberline"
    refused("UNIMPLEMENTED", "there is no method", client.get_model_repository_index)
    outputs = [(output.name, output.datatype, list(output.shape)) for output in metadata.outputs]
    assert outputs == [("probabilities", "FP32", [-1, len(MANIFEST["classes"])]), ("label", "BYTES", [-1])], outputs
    return metadata, version


def pictures(version):
    pixels = images()
    kinds = {
        "UINT8": numpy.uint8,
        "INT16": numpy.int16,
        "INT64": numpy.int64,
        "FP16": numpy.float16,
        "BF16": ml_dtypes.bfloat16,
        "FP32": numpy.float32,
        "FP64": numpy.float64,
    }
    for datatype, kind in kinds.items():
        inputs = [tensor("image", pixels.astype(kind), datatype)]
        verify(client.infer(NAME, inputs, model_version=version))
    result = client.infer(NAME, inputs, request_id="a-7", parameters={"anything": "else"}, timeout=60_000_000, client_timeout=60)
    answer = result.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("a-7", NAME, version), answer
    assert answer.raw_output_contents and not answer.outputs[0].HasField("contents")
    only = client.infer(NAME, inputs, outputs=[triton.InferRequestedOutput("label")])
    assert len(only.get_response().outputs) == 1 and list(only.as_numpy("label")) == [label.encode() for label in LABELS]

    answers = queue.SimpleQueue()
    for _ in range(20):
        client.async_infer(NAME, inputs, lambda result, error: answers.put((result, error)))
    for _ in range(20):
        result, error = answers.get(timeout=60)
        assert error is None, error
        verify(result)

    zeros = numpy.zeros((1, 3), numpy.float32)
    refused("INVALID_ARGUMENT", "has shape [1, 3], and the model takes", lambda: client.infer(NAME, [tensor("image", zeros, "FP32")]))
    refused("NOT_FOUND", "there is no version `0`", lambda: client.infer(NAME, inputs, model_version="0"))
    refused("NOT_FOUND", "there is no model `other`", lambda: client.infer("other", inputs))
    refused("INVALID_ARGUMENT", "no output `other`", lambda: client.infer(NAME, inputs, outputs=[triton.InferRequestedOutput("other")]))
    refused("DEADLINE_EXCEEDED", "the deadline of the request passed", lambda: client.infer(NAME, inputs, timeout=1))
    refused("UNIMPLEMENTED", "compressed (`gzip`)", lambda: client.infer(NAME, inputs, compression_algorithm="gzip"))
    many = numpy.zeros((30_000, 784), numpy.uint8)
    refused("RESOURCE_EXHAUSTED", "raise --max-body", lambda: client.infer(NAME, [tensor("image", many, "UINT8")]))


def rows():
    ages, cities = columns()
    cities = tensor("city", numpy.array(cities, object), "BYTES")
    verify(client.infer(NAME, [cities, tensor("age", numpy.array(ages).reshape(-1, 1), "FP64")]))
    texts = numpy.array(["" if age != age else str(age) for age in ages], object)
    verify(client.infer(NAME, [tensor("age", texts, "BYTES"), cities]))
    refused("INVALID_ARGUMENT", "there are age, city", lambda: client.infer(NAME, [tensor("agee", texts, "BYTES")]))


metadata, version = facts()
inputs = [(entry.name, entry.datatype) for entry in metadata.inputs]
if NAME == "table":
    assert inputs == [("age", "FP32"), ("city", "BYTES")], inputs
    rows()
else:
    assert inputs == [("image", "FP32")], inputs
    pictures(version)
