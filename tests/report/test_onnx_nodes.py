"""Which ONNX node costs what: names out of metadata, times by whoever knows them, and what stands in the table."""

from __future__ import annotations

import csv
import io
from typing import Any

import pyarrow as pa
import pytest
from drawn_loop import loop

from nsight_tools.errors import InputError
from nsight_tools.report.formats.dl_designer import export as onnx_nodes
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace

RUN = """
    stream 7:         ..####%%%....####...
    thread 1:         LlL.................
    nvtx 1:           [i.................]
    nvtx 1 TensorRT:  [conv].............."""
BOTH = "[ONNX Layer: /c/Conv]\x1e[ONNX Layer: /a/Relu]"


def layers(*rows: tuple[str, str | None]) -> pa.Table:
    found = [
        {"layer": at, "name": name, "metadata": text, "source": "inspector"} for at, (name, text) in enumerate(rows)
    ]
    return pa.Table.from_pylist(found, TABLES["layers"].schema)


def profiled(**ns: int) -> pa.Table:
    rows = [
        {"layer": at, "name": name, "median_ns": took, "measured_by": "runner"}
        for at, (name, took) in enumerate(ns.items())
    ]
    return pa.Table.from_pylist(rows, TABLES["layer_times"].schema)


@pytest.mark.parametrize(
    ("metadata", "nodes"),
    [
        (BOTH, ("/c/Conv", "/a/Relu")),
        ("[ONNX Layer: a]\x1e[ONNX Layer: a]", ("a",)),
        ("[ONNX Layer: odd] name]", ("odd] name",)),
        ("", ()),
        (None, ()),
        ("of another tool", ()),
    ],
)
def test_names_are_read_from_metadata(metadata: str | None, nodes: tuple[str, ...]) -> None:
    assert onnx_nodes.nodes_of(metadata) == nodes


def test_the_profiler_times_a_layer_where_it_knows_it_else_the_trace() -> None:
    tables = {
        "layers": layers(("conv", BOTH), ("fc", "[ONNX Layer: f]"), ("copy", "")),
        "layer_times": profiled(fc=9_000),
    }
    found = {each.layer: each for each in onnx_nodes.costs(loop(RUN, tables=tables))}
    assert list(found) == ["conv", "fc", "copy"]  # 11 and 9 us, and nothing
    assert (found["fc"].median_ns, found["fc"].timed_by) == (9_000, "profiler")
    assert found["conv"].timed_by == "trace"
    assert found["conv"].median_ns is not None
    assert (found["copy"].median_ns, found["copy"].timed_by, found["copy"].nodes) == (None, "", ())


def test_a_row_for_each_node() -> None:
    trace = Trace.from_tables(
        {"layers": layers(("conv", BOTH), ("copy", "")), "layer_times": profiled(conv=3_000, copy=1_000)}
    )
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(onnx_nodes.table(onnx_nodes.costs(trace)))))
    assert [(row["node"], row["layer"], row["nodes_in_layer"], row["share_of_layers"]) for row in rows] == [
        ("/c/Conv", "conv", "2", "0.750000"),
        ("/a/Relu", "conv", "2", "0.750000"),
        ("", "copy", "0", "0.250000"),
    ]
    assert rows[0]["layer_median_us"] == "3.000"
    assert list(rows[0]) == list(onnx_nodes.COLUMNS)


def test_the_steps_name_what_is_there() -> None:
    trace = Trace.from_tables(
        {"layers": layers(("a|`b`", "[ONNX Layer: n`|]")), "layer_times": profiled(**{"a|`b`": 5})}
    )
    found = onnx_nodes.costs(trace)
    assert "1. Open m.onnx in it." in onnx_nodes.steps(found, "m.onnx", "m.engine")
    assert "`m.engine` is the engine that was measured" in onnx_nodes.steps(found, "m.onnx", "m.engine")
    assert "5. " not in onnx_nodes.steps(found, "", "")
    assert onnx_nodes.steps(found, "", "").splitlines()[-1] == "|`a__b_`|5 ns (100 %)|`n__`|"


def test_layers_that_name_no_node_are_refused() -> None:
    with pytest.raises(InputError, match="does not say of which ONNX nodes"):
        onnx_nodes.costs(Trace.from_tables({"layers": layers(("conv", None))}))
