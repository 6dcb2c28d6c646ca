"""Puts a plugin of TensorRT's own library (CustomGeluPluginDynamic) before an ONNX model: one to build and to capture.

    python tests/gpu/plug.py cls.onnx cls_plugin.onnx

It takes onnx, which nothing else here needs. TensorRT's parser makes a plugin of each operator that is no ONNX operator
and has the name of one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx
from onnx import helper

PLUGIN = "CustomGeluPluginDynamic"
FLOAT = 0
"""TensorRT's number of the type, which the plugin asks for."""


def plug(model: onnx.ModelProto) -> str:
    """Put the plugin between the first input and all that reads it; returns the input's name."""
    graph = model.graph
    name, plugged = graph.input[0].name, f"{graph.input[0].name}_plugged"
    for node in graph.node:
        for at, read in enumerate(node.input):
            if read == name:
                node.input[at] = plugged
    options = {"type_id": FLOAT, "plugin_version": "1"}
    graph.node.insert(0, helper.make_node(PLUGIN, [name], [plugged], PLUGIN, **options))
    return str(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("plugged", type=Path)
    arguments = parser.parse_args()
    model = onnx.load(arguments.model)
    name = plug(model)
    onnx.save(model, arguments.plugged)
    sys.stdout.write(f"{arguments.plugged}: {PLUGIN} behind the input {name}\n")


if __name__ == "__main__":
    main()
