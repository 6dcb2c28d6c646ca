"""Puts explicit Q/DQ pairs (INT8) before what an ONNX model multiplies: a quantized model to build and to capture.

    python tests/gpu/quantize.py cls.onnx cls_int8.onnx --shape x=8x3x48x192

It takes onnx and onnxruntime, which nothing else here needs. Weights are quantized by output channel, activations by
tensor, each by the largest value that it has: of weights as they are, of activations over random inputs of a fixed
seed. The result is meant for its speed and its layers, and not for its accuracy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

MULTIPLIES = ("Conv", "Gemm", "MatMul")
INPUTS = 8
"""Random inputs over which the largest values are taken."""


def largest(model: onnx.ModelProto, names: list[str], shapes: dict[str, tuple[int, ...]]) -> dict[str, float]:
    """The largest absolute value of each of these tensors over random inputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {each.name for each in watched.graph.output}
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    random, most = np.random.default_rng(0), dict.fromkeys(names, 0.0)
    for _ in range(INPUTS):
        feed = {each.name: random.normal(size=shapes[each.name]).astype(np.float32) for each in session.get_inputs()}
        values = session.run(names, feed)
        most = {name: max(most[name], float(np.abs(value).max())) for name, value in zip(names, values, strict=True)}
    return most


def quantize(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Insert the pairs; returns how many."""
    graph = model.graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    constants |= {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    wanted = [node for node in graph.node if node.op_type in MULTIPLIES]
    inputs = {each.name for each in graph.input}
    of_graph = sorted({name for node in wanted for name in node.input[:2]} - set(constants) - inputs)
    most = largest(model, of_graph, shapes) | dict.fromkeys(inputs, 4.0)  # 4 standard deviations
    made: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for at in range(2) if node.op_type in MULTIPLIES else ():
            name = node.input[at]
            if name not in made:
                made[name] = f"{name}_dequantized"
                nodes += _pair(
                    graph, name, constants.get(name), most.get(name, 0.0), axis=0 if node.op_type == "Conv" else None
                )
            node.input[at] = made[name]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    for opset in model.opset_import:
        if opset.domain in {"", "ai.onnx"}:
            opset.version = max(opset.version, 13)  # from which on channels have scales of their own
    return len(made)


def _pair(
    graph: onnx.GraphProto, name: str, constant: np.ndarray | None, most: float, *, axis: int | None
) -> list[onnx.NodeProto]:
    """A Q and a DQ node behind a tensor, and their scale and zero point."""
    by_channel = constant is not None and axis is not None and constant.ndim > 1
    if by_channel:
        assert constant is not None
        each = np.abs(constant).reshape(constant.shape[0], -1).max(axis=1)
    else:
        each = np.array(most if constant is None else np.abs(constant).max())
    scale = np.maximum(each / 127, 1e-8).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(scale.shape, np.int8), f"{name}_zero"))
    beside = [f"{name}_scale", f"{name}_zero"]
    options = {"axis": 0} if by_channel else {}
    return [
        helper.make_node("QuantizeLinear", [name, *beside], [f"{name}_quantized"], f"{name}_q", **options),
        helper.make_node(
            "DequantizeLinear", [f"{name}_quantized", *beside], [f"{name}_dequantized"], f"{name}_dq", **options
        ),
    ]


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, dimensions = text.partition("=")
    return name, tuple(int(each) for each in dimensions.split("x"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("quantized", type=Path)
    parser.add_argument("--shape", type=_shape, action="append", required=True, help="NAME=AxBxC, for each input")
    arguments = parser.parse_args()
    model = onnx.load(arguments.model)
    count = quantize(model, dict(arguments.shape))
    onnx.checker.check_model(model)
    onnx.save(model, arguments.quantized)
    sys.stdout.write(f"{arguments.quantized}: {count} pairs of Q and DQ\n")


if __name__ == "__main__":
    main()
