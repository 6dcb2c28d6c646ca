"""The engine's layers: from the inspector's JSON in all its shapes, and from the payloads of NVTX ranges."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from exports import domain, kernel, nvtx, write_sqlite

from nsight_tools.errors import InputError
from nsight_tools.importer import import_report
from nsight_tools.importer.exports import sqlite
from nsight_tools.trace import open_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONV: dict[str, Any] = {
    "Name": "conv1 + relu1",
    "LayerType": "CaskConvolution",
    "Inputs": [{"Name": "in", "Dimensions": [1, 3, 224, 224], "Format/Datatype": "Row major linear FP32"}],
    "Outputs": [
        {
            "Name": "out",
            "Dimensions": [1, 64, 112, 112],
            "Format/Datatype": "Channel major FP16 format where channel % 8 == 0",
        }
    ],
    "TacticName": "sm90_xmma_fprop",
    "TacticValue": "0x12",
    "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
    "StreamId": 0,
}


@pytest.fixture
def layers_of(tmp_path: Path) -> Callable[[str | bytes], list[dict[str, Any]]]:
    """The `layers` of a report with this JSON beside it."""

    def of(text: str | bytes) -> list[dict[str, Any]]:
        path = write_sqlite(tmp_path / "report.sqlite", kernel(0, 1))
        (tmp_path / "report.layers.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        found: list[dict[str, Any]] = open_trace(path).table("layers").to_pylist()
        return found

    return of


def raw(value: Any) -> str:
    """JSON as TensorRT writes it, with a raw control character in its text."""
    return json.dumps(value).replace("\\u001e", "\x1e")


def test_detailed(layers_of: Callable[..., list[dict[str, Any]]]) -> None:
    (row,) = layers_of(raw({"Layers": [CONV], "Bindings": ["in", "out"]}))
    assert row == {
        "layer": 0,
        "name": "conv1 + relu1",
        "type": "CaskConvolution",
        "tactic": "sm90_xmma_fprop",
        "inputs": [{"name": "in", "shape": [1, 3, 224, 224], "dtype": "FP32", "format": "Row major linear"}],
        "outputs": [
            {
                "name": "out",
                "shape": [1, 64, 112, 112],
                "dtype": "FP16",
                "format": "Channel major format where channel % 8 == 0",
            }
        ],
        "metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
        "attributes": '{"TacticValue": "0x12", "StreamId": 0}',
        "source": "inspector",
    }


def test_tensors_of_11_have_format_and_datatype_apart(layers_of: Callable[..., list[dict[str, Any]]]) -> None:
    tensor = {"Name": "in", "Dimensions": [8], "Format": "Linear", "Datatype": "Half"}
    (row,) = layers_of(json.dumps({"Layers": [CONV | {"Inputs": [tensor]}], "I/O Tensors": ["in"]}))
    assert row["inputs"] == [{"name": "in", "shape": [8], "dtype": "FP16", "format": "Linear"}]


@pytest.mark.parametrize(
    ("both", "dtype", "layout"),
    [
        ("Row major linear FP32", "FP32", "Row major linear"),
        ("Row major linear FP16 format", "FP16", "Row major linear format"),
        (
            "Two wide channel vectorized row major BFloat16 format",
            "BF16",
            "Two wide channel vectorized row major format",
        ),
        ("Channel major INT8 format where channel % 16 == 0", "INT8", "Channel major format where channel % 16 == 0"),
        ("Row major Int8 format.", "INT8", "Row major format."),
        ("Row major linear Int32", "INT32", "Row major linear"),
        ("Row major linear Int64 format", "INT64", "Row major linear format"),
        ("Row major linear UInt8 format", "UINT8", "Row major linear format"),
        ("Row major linear BOOL", "BOOL", "Row major linear"),
        ("Row major linear FP8 format", "FP8", "Row major linear format"),
        ("N/A due to dynamic shapes", None, None),
        ("Unknown format", None, "Unknown format"),
    ],
)
def test_format_and_datatype_in_one_text(
    layers_of: Callable[..., list[dict[str, Any]]], both: str, dtype: str | None, layout: str | None
) -> None:
    (row,) = layers_of(json.dumps([CONV | {"Inputs": [{"Name": "in", "Format/Datatype": both}]}]))
    assert (row["inputs"][0]["dtype"], row["inputs"][0]["format"]) == (dtype, layout)


@pytest.mark.parametrize(
    ("spelt", "dtype"),
    [
        ("Double", "FP64"),
        ("Float", "FP32"),
        ("FP32", "FP32"),
        ("Half", "FP16"),
        ("FP16", "FP16"),
        ("BFloat16", "BF16"),
        ("BF16", "BF16"),
        ("FP8E4M3", "FP8"),
        ("E4M3FN", "FP8"),
        ("FP4E2M1", "FP4"),
        ("INT4", "INT4"),
        ("Int8", "INT8"),
        ("INT64", "INT64"),
        ("Bool", "BOOL"),
    ],
)
def test_a_datatype_has_one_name_however_it_is_spelt(
    layers_of: Callable[..., list[dict[str, Any]]], spelt: str, dtype: str
) -> None:
    """Alone in the one text, as Myelin writes it, and apart from the format, as 11 does."""
    tensors = [{"Name": "in", "Format/Datatype": spelt}, {"Name": "in", "Format": "Linear", "Datatype": spelt}]
    (row,) = layers_of(json.dumps([CONV | {"Inputs": tensors}]))
    assert [(tensor["dtype"], tensor["format"]) for tensor in row["inputs"]] == [(dtype, None), (dtype, "Linear")]


def test_a_datatype_that_is_not_known_stays_as_it_is(layers_of: Callable[..., list[dict[str, Any]]]) -> None:
    tensor = {"Name": "in", "Dimensions": [8], "Format": "Linear", "Datatype": "E8M0"}
    (row,) = layers_of(json.dumps([CONV | {"Inputs": [tensor]}]))
    assert row["inputs"] == [{"name": "in", "shape": [8], "dtype": "E8M0", "format": "Linear"}]


def test_names_only(layers_of: Callable[..., list[dict[str, Any]]]) -> None:
    rows = layers_of(json.dumps({"Layers": ["conv1 + relu1", "Reformatting CopyNode for x"], "Bindings": []}))
    assert [(r["layer"], r["name"], r["type"], r["inputs"]) for r in rows] == [
        (0, "conv1 + relu1", None, None),
        (1, "Reformatting CopyNode for x", None, None),
    ]


def test_a_bare_list_of_layers(layers_of: Callable[..., list[dict[str, Any]]]) -> None:
    assert [row["name"] for row in layers_of(raw([CONV]))] == ["conv1 + relu1"]


@pytest.mark.parametrize(
    "change",
    [
        {"Inputs": "none", "Outputs": [None, 3]},
        {"Inputs": [{"Name": None, "Dimensions": ["N", 3], "Format/Datatype": None}], "Outputs": []},
        {"Inputs": [{"Dimensions": [1 << 80]}], "Metadata": {"a": 1}, "TacticName": 5},
    ],
)
def test_odd_layers_are_read_as_far_as_they_go(
    layers_of: Callable[..., list[dict[str, Any]]], change: dict[str, Any]
) -> None:
    (row,) = layers_of(json.dumps([CONV | change]))
    assert (row["name"], row["type"]) == ("conv1 + relu1", "CaskConvolution")


def test_text_that_is_not_utf8(layers_of: Callable[..., list[dict[str, Any]]]) -> None:
    assert [row["name"] for row in layers_of(b'{"Layers": ["caf\xe9"]}')] == ["caf�"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no JSON"),
        ("not JSON", "is no JSON"),
        ('{"Layers": [', "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("null", "has no list of the engine's layers"),
        ("3", "has no list of the engine's layers"),
        ("{}", "has no list of the engine's layers"),
        ('{"Layers": {"a": 1}}', "has no list of the engine's layers"),
        ('{"Layers": ["a", 3]}', "has no list of the engine's layers"),
        ('{"Layers": [{"LayerType": "of no name"}]}', "has no list of the engine's layers"),
        (
            '[{"count": 9}, {"name": "a", "timeMs": 1}]',
            "is trtexec's --exportProfile: layer times, not the engine's layers",
        ),
        (
            '[{"startEnqMs": 1, "latencyMs": 1}]',
            "is trtexec's --exportTimes: times of inferences, not the engine's layers",
        ),
    ],
)
def test_what_is_no_such_json_is_an_error_and_nothing_is_left(tmp_path: Path, text: str, problem: str) -> None:
    path = write_sqlite(tmp_path / "report.sqlite", kernel(0, 1))
    beside = tmp_path / "report.layers.json"
    beside.write_text(text)
    with pytest.raises(InputError, match=problem) as raised:
        import_report(path)
    assert raised.value.path == beside
    assert "trtexec --exportLayerInfo" in raised.value.hint
    assert sorted(left.name for left in tmp_path.iterdir()) == ["report.layers.json", "report.sqlite"]


def layer(at: int, payload: str | None, name: str = "x", **values: Any) -> tuple[str, dict[str, Any]]:
    return nvtx(at, at + 1, name, domainId=1, jsonTextId=payload, **values)


def test_from_the_payloads_of_ranges_in_order_of_first_execution(imported: Callable[..., Any]) -> None:
    pool = {"Name": "pool", "LayerType": "Pooling"}
    trace = imported(
        domain(1, "TensorRT"),
        layer(30, raw(pool)),
        layer(20, raw(CONV)),
        layer(10, raw(pool | {"Name": "first"})),
        layer(40, raw(CONV)),
        layer(41, raw(CONV | {"TacticName": "of another engine"})),
        layer(5, "not JSON"),
        layer(6, "[1, 2]"),
        layer(7, '{"Name": "no type"}'),
        layer(8, '{"Name": 3, "LayerType": "x"}'),
        layer(9, None),
        nvtx(50, 51, "inline", domainId=1, jsonText='{"Name": "inline", "LayerType": "Scale"}'),
    )
    found = trace.table("layers").select(["layer", "name", "type", "source"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        (0, "first", "Pooling", "nvtx"),
        (1, "conv1 + relu1", "CaskConvolution", "nvtx"),
        (2, "pool", "Pooling", "nvtx"),
        (3, "inline", "Scale", "nvtx"),
    ]
    assert trace.table("layers")["metadata"][1].as_py() == CONV["Metadata"]
    assert trace.table("layers")["tactic"][1].as_py() == CONV["TacticName"]


def test_the_first_execution_counts_wherever_the_export_lists_it(tmp_path: Path) -> None:
    a, b = (raw(CONV | {"Name": name}) for name in "ab")
    path = write_sqlite(
        tmp_path / "report.sqlite", layer(30, a), layer(31, a), layer(20, b), layer(21, b), layer(10, a)
    )
    with patch.object(sqlite, "CHUNK_ROWS", 2):
        assert open_trace(path).table("layers")["name"].to_pylist() == ["a", "b"]


def test_the_inspectors_json_comes_before_the_payloads(tmp_path: Path) -> None:
    path = write_sqlite(tmp_path / "report.sqlite", domain(1, "TensorRT"), layer(1, raw(CONV)))
    (tmp_path / "report.layers.json").write_text('{"Layers": ["a", "b"]}')
    assert open_trace(path).table("layers")["name"].to_pylist() == ["a", "b"]


def test_without_shapes_the_inspector_lacks_formats_which_the_range_has(tmp_path: Path) -> None:
    tensor = {"Name": "in", "Dimensions": [-1, 3], "Format/Datatype": "N/A due to dynamic shapes"}
    unknown = CONV | {"Inputs": [tensor], "Outputs": [tensor], "TacticName": ""}
    path = write_sqlite(tmp_path / "report.sqlite", domain(1, "TensorRT"), layer(0, raw(CONV)))
    (tmp_path / "report.layers.json").write_text(raw({"Layers": [unknown, unknown | {"Name": "other"}]}))
    conv, other = open_trace(path).table("layers").to_pylist()
    assert (conv["inputs"][0]["dtype"], conv["outputs"][0]["dtype"]) == ("FP32", "FP16")
    assert conv["tactic"] == "sm90_xmma_fprop"
    assert (other["inputs"][0]["dtype"], other["inputs"][0]["format"]) == (None, None)


def test_without_either_it_is_said_how_to_get_them(imported: Callable[..., Any]) -> None:
    assert "profiling verbosity DETAILED" in imported(nvtx(0, 1)).missing("layers")
