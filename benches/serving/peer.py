"""What one writes in Python: FastAPI and onnxruntime, over the same weights.

`python peer.py model.safetensors model.onnx` exports a dense network; `uvicorn peer:app` with MODEL=model.onnx serves it.
"""

import json
import os
import re
import sys

import numpy as np


def tensors(path):
    """The tensors of a safetensors file, by name."""
    with open(path, "rb") as file:
        content = file.read()
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    head.pop("__metadata__", None)
    found = {}
    for name, tensor in head.items():
        assert tensor["dtype"] == "F32", tensor
        begin, end = (8 + size + offset for offset in tensor["data_offsets"])
        found[name] = np.frombuffer(content[begin:end], np.float32).reshape(tensor["shape"])
    return found


def export(source, destination):
    """Dense layers with ReLU between them; pixels 0 to 255 in, probabilities out."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    found = tensors(source)
    layers = sorted({re.match(r"(.*)\.(weight|bias)$", name).group(1) for name in found})
    values = [numpy_helper.from_array(np.float32(1 / 255), "scale")]
    nodes = [helper.make_node("Mul", ["pixels", "scale"], ["0"])]
    for index, layer in enumerate(layers):
        weight, bias = found[f"{layer}.weight"], found[f"{layer}.bias"]
        values += [numpy_helper.from_array(weight, layer + ".w"), numpy_helper.from_array(bias, layer + ".b")]
        inputs = [str(2 * index), layer + ".w", layer + ".b"]
        # Weights are [outputs, inputs], as in PyTorch.
        nodes.append(helper.make_node("Gemm", inputs, [str(2 * index + 1)], transB=1))
        last = index + 1 == len(layers)
        kind, output = ("Softmax", "probabilities") if last else ("Relu", str(2 * index + 2))
        nodes.append(helper.make_node(kind, [str(2 * index + 1)], [output]))
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 784])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    checker.check_model(model)
    save(model, destination)


if __name__ == "__main__":
    export(sys.argv[1], sys.argv[2])
else:
    import onnxruntime
    from fastapi import FastAPI
    from pydantic import BaseModel

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
    app = FastAPI()

    class Request(BaseModel):
        instances: list[list[float]]

    class Answer(BaseModel):
        predictions: list[list[float]]

    @app.post("/v1/models/digits:predict")
    async def predict(request: Request) -> Answer:
        pixels = np.asarray(request.instances, np.float32)
        (probabilities,) = session.run(None, {"pixels": pixels})
        return Answer(predictions=probabilities.tolist())
