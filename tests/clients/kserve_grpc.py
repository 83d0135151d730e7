"""KServe's client over gRPC: tensors element by element, and as bytes."""

import asyncio

import grpc
import numpy
from kserve import InferenceGRPCClient, InferInput, InferRequest

from golden import ADDRESS, LABELS, MANIFEST, check, columns, images

NAME = MANIFEST["name"]


def named(name, values, datatype, binary):
    made = InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def tensors(binary):
    if NAME != "table":
        return [named("image", images().astype(numpy.float32), "FP32", binary)]
    ages, cities = columns()
    return [named("age", numpy.array(ages), "FP64", binary), named("city", numpy.array(cities, object), "BYTES", binary)]


async def main():
    async with InferenceGRPCClient(ADDRESS) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready(NAME) and not await client.is_model_ready("other")
        for binary in (True, False):
            answer = await client.infer(InferRequest(model_name=NAME, infer_inputs=tensors(binary), request_id="b-8"))
            assert (answer.id, answer.model_name) == ("b-8", NAME)
            outputs = {output.name: output for output in answer.outputs}
            check(outputs["probabilities"].as_numpy())
            labels = [label.decode() if isinstance(label, bytes) else label for label in outputs["label"].as_numpy()]
            assert labels == LABELS, labels
        try:
            await client.infer(InferRequest(model_name="other", infer_inputs=tensors(False)))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        else:
            raise AssertionError("another model answered")


asyncio.run(main())
