"""Triton's client, which speaks version 2 of the Open Inference Protocol with its binary tensors."""

import ml_dtypes
import numpy
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from golden import ADDRESS, LABELS, MANIFEST, check, columns, images

NAME = MANIFEST["name"]
client = triton.InferenceServerClient(ADDRESS.removeprefix("http://"), concurrency=4)


def refused(expected, ask):
    try:
        ask()
    except InferenceServerException as error:
        assert expected in str(error), error
        return
    raise AssertionError(f"nothing was refused with {expected}")


def tensor(name, values, datatype, binary):
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def verify(result):
    check(result.as_numpy("probabilities"))
    labels = [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("label")]
    assert labels == LABELS, labels


def facts():
    assert client.is_server_live() and client.is_server_ready()
    metadata = client.get_model_metadata(NAME)
    (version,) = metadata["versions"]
    assert client.is_model_ready(NAME) and client.is_model_ready(NAME, version)
    assert not client.is_model_ready(NAME, "0") and not client.is_model_ready("other")
    assert client.get_model_metadata(NAME, version) == metadata
    server = client.get_server_metadata()
    assert server["name"] == "emberline" and "binary_tensor_data" in server["extensions"], server
    return metadata, version


def pictures(version):
    pixels = images()
    kinds = {
        "UINT8": numpy.uint8,
        "INT32": numpy.int32,
        "INT64": numpy.int64,
        "FP16": numpy.float16,
        "FP32": numpy.float32,
        "FP64": numpy.float64,
        "BF16": ml_dtypes.bfloat16,
    }
    for datatype, kind in kinds.items():
        for binary in (True, False):
            # The client itself writes these two as bytes only.
            if not binary and datatype in ("BF16", "FP16"):
                continue
            inputs = [tensor("image", pixels.astype(kind), datatype, binary)]
            verify(client.infer(NAME, inputs))
            outputs = [
                triton.InferRequestedOutput("label", binary_data=binary),
                triton.InferRequestedOutput("probabilities", binary_data=not binary),
            ]
            verify(client.infer(NAME, inputs, model_version=version, outputs=outputs))

    inputs = [tensor("image", pixels.astype(numpy.uint8), "UINT8", True)]
    result = client.infer(NAME, inputs, request_id="a-7", parameters={"anything": "else"}, timeout=60_000_000)
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("a-7", NAME, version), answer
    verify(result)
    waiting = [client.async_infer(NAME, inputs, request_id=str(number)) for number in range(20)]
    for number, request in enumerate(waiting):
        result = request.get_result()
        assert result.get_response()["id"] == str(number)
        verify(result)

    refused("compressed", lambda: client.infer(NAME, inputs, request_compression_algorithm="gzip"))
    # An answer may be compressed where a client accepts that; it need not be.
    verify(client.infer(NAME, inputs, response_compression_algorithm="gzip"))
    refused("there is no output `other`", lambda: client.infer(NAME, inputs, outputs=[triton.InferRequestedOutput("other")]))
    wrong = [tensor("image", numpy.zeros((1, 3), numpy.float32), "FP32", True)]
    refused("shape", lambda: client.infer(NAME, wrong))
    refused("404", lambda: client.infer(NAME, inputs, model_version="0"))


def rows():
    ages, cities = columns()
    for binary in (True, False):
        # JSON has no NaN: a missing number is an empty text there.
        age = numpy.array(ages) if binary else numpy.array(["" if age != age else str(age) for age in ages], object)
        inputs = [
            tensor("city", numpy.array(cities, object), "BYTES", binary),
            tensor("age", age.reshape(-1, 1), "FP64" if binary else "BYTES", binary),
        ]
        for outputs in (None, [triton.InferRequestedOutput(name, binary_data=False) for name in ("probabilities", "label")]):
            verify(client.infer(NAME, inputs, outputs=outputs))
    whole = numpy.array([["" if age != age else str(age), city] for age, city in zip(ages, cities)], object)
    verify(client.infer(NAME, [tensor("rows", whole, "BYTES", True)]))


metadata, version = facts()
inputs = [(entry["name"], entry["datatype"]) for entry in metadata["inputs"]]
if NAME == "table":
    assert inputs == [("age", "FP32"), ("city", "BYTES")], inputs
    rows()
else:
    assert inputs == [("image", "FP32")], inputs
    pictures(version)
