"""KServe's client, in both versions of its protocol."""

import asyncio

import httpx
import numpy
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

from golden import ADDRESS, LABELS, MANIFEST, check, columns, images

NAME = MANIFEST["name"]
TABLE = NAME == "table"


def named(name, values, datatype, binary):
    made = InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def tensors(binary):
    if not TABLE:
        return [named("image", images().astype(numpy.float32), "FP32", binary)]
    ages, cities = columns()
    ages = ["" if age != age else str(age) for age in ages]
    return [named("age", numpy.array(ages, object), "BYTES", binary), named("city", numpy.array(cities, object), "BYTES", binary)]


async def first():
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        assert await client.is_server_live(ADDRESS)
        assert await client.is_model_ready(ADDRESS, NAME)
        ages, cities = columns() if TABLE else ([], [])
        rows = [{"age": None if age != age else age, "city": city} for age, city in zip(ages, cities)]
        instances = rows if TABLE else images().tolist()
        answer = await client.infer(ADDRESS, {"instances": instances}, model_name=NAME)
        check(answer["predictions"])
        explained = await client.explain(ADDRESS, NAME, {"instances": instances[:1]})
        assert explained["explanations"][0]["label"] == LABELS[0], explained
        try:
            await client.infer(ADDRESS, {"instances": []}, model_name=NAME)
        except httpx.HTTPStatusError as error:
            assert "holds no input" in str(error), error
        else:
            raise AssertionError("no input was answered")


async def second():
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_ready(ADDRESS) and await client.is_server_live(ADDRESS)
        assert await client.is_model_ready(ADDRESS, NAME)
        assert not await client.is_model_ready(ADDRESS, "other")
        for binary in (True, False):
            request = InferRequest(model_name=NAME, infer_inputs=tensors(binary), request_id="b-8")
            answer = await client.infer(ADDRESS, request, model_name=NAME)
            assert (answer.id, answer.model_name) == ("b-8", NAME)
            outputs = {output.name: output for output in answer.outputs}
            check(outputs["probabilities"].as_numpy())
            assert list(outputs["label"].as_numpy()) == LABELS


asyncio.run(first())
asyncio.run(second())
