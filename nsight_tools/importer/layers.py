"""The engine's layers, from the engine inspector's JSON or from the payloads of TensorRT's DETAILED NVTX ranges."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nsight_tools.importer import trtexec
from nsight_tools.importer.untrusted_json import parsed
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Up to 10.x format and datatype are one text: "Row major linear FP32", "Channel major FP16 format where …".
_DTYPE = re.compile(r"\b(FP32|FP16|BF16|FP8|FP4|INT4|INT8|UINT8|INT32|INT64|BOOL|HALF|FLOAT)\b", re.IGNORECASE)
_DTYPE_NAMES = {"HALF": "FP16", "FLOAT": "FP32"}


def from_inspector(path: Path, payloads: Iterable[str] = ()) -> pa.Table:
    """The `layers` table from the engine inspector's JSON, as trtexec's --exportLayerInfo writes it, too.

    What the payload of a layer's NVTX range says comes first: without shapes the inspector has no formats for an engine
    with dynamic ones, and the range describes what ran. Raises InputError where the file is no such JSON.
    """
    listed = trtexec.read(path, trtexec.EngineLayers).layers
    executed = _executed(payloads)
    return _table([layer | executed.get(str(layer["Name"]), {}) for layer in listed], "inspector")


def from_ranges(payloads: Iterable[str]) -> pa.Table:
    """The `layers` table from NVTX payloads in order of first execution."""
    return _table(list(_executed(payloads).values()), "nvtx")


def from_dataset(dataset: Path) -> pa.Table:
    """The `layers` table of another dataset of the same engine."""
    path = dataset / "layers.parquet"
    return pq.read_table(path).cast(TABLES["layers"].schema) if path.exists() else TABLES["layers"].empty()


def _executed(payloads: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Layers by name, in order of their first payload; what is no layer among the payloads is passed over."""
    layers: dict[str, dict[str, Any]] = {}
    for payload in payloads:
        try:
            layer = parsed(payload)
        except ValueError:
            continue
        if isinstance(layer, dict) and isinstance(layer.get("Name"), str) and "LayerType" in layer:
            layers.setdefault(layer["Name"], layer)
    return layers


def _table(layers: list[dict[str, Any]], source: str) -> pa.Table:
    rows = [_row(i, layer, source) for i, layer in enumerate(layers)]
    return pa.Table.from_pylist(rows, TABLES["layers"].schema)


def _row(number: int, layer: dict[str, Any], source: str) -> dict[str, Any]:
    rest = {
        k: v for k, v in layer.items() if k not in ("Name", "LayerType", "Inputs", "Outputs", "Metadata", "TacticName")
    }
    return {
        "layer": number,
        "name": str(layer.get("Name", "")),
        "type": _text(layer.get("LayerType")),
        "tactic": _text(layer.get("TacticName")),
        "inputs": _tensors(layer.get("Inputs")),
        "outputs": _tensors(layer.get("Outputs")),
        "metadata": _text(layer.get("Metadata")),
        "attributes": json.dumps(rest, ensure_ascii=False) if rest else None,
        "source": source,
    }


def _tensors(tensors: object) -> list[dict[str, Any]] | None:
    if not isinstance(tensors, list):
        return None
    return [_tensor(tensor) for tensor in tensors if isinstance(tensor, dict)]


def _tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    both = str(tensor.get("Format/Datatype") or "")
    both = "" if both.startswith("N/A") else both  # "N/A due to dynamic shapes": the inspector had no shapes
    dtype = str(tensor.get("Datatype") or "") or (match[0] if (match := _DTYPE.search(both)) else "")
    shape = tensor.get("Dimensions")
    return {
        "name": str(tensor.get("Name", "")),
        "shape": [int(size) for size in shape if isinstance(size, int) and abs(size) < 1 << 62]
        if isinstance(shape, list)
        else None,
        "dtype": _DTYPE_NAMES.get(dtype.upper(), dtype.upper()) or None,
        "format": _text(tensor.get("Format")) or " ".join(_DTYPE.sub("", both).split()) or None,
    }


def _text(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
