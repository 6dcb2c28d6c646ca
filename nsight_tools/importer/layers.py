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
from nsight_tools.timeline.accelerator import DLA

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MOST_MS = 1e12
"""What is more than 30 years is no time of a layer."""
_DTYPES = {
    **{name: name for name in ("FP64", "FP32", "FP16", "BF16", "FP8", "FP4", "BOOL")},
    **{f"{kind}{bits}": f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (4, 8, 16, 32, 64)},
    "DOUBLE": "FP64",
    "FLOAT": "FP32",
    "HALF": "FP16",
    "BFLOAT16": "BF16",
    **dict.fromkeys(("FP8E4M3", "E4M3", "E4M3FN", "FP8E5M2", "E5M2"), "FP8"),
    **dict.fromkeys(("FP4E2M1", "E2M1"), "FP4"),
}
"""The inspector's datatypes by its spellings, which differ by version and by what compiled the layer."""
# Up to 10.x format and datatype are one text: "Row major linear FP32", "Channel major FP16 format where …", "Half".
_DTYPE = re.compile(rf"\b({'|'.join(_DTYPES)})\b", re.IGNORECASE)


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


def on_dla(listed: pa.Table) -> frozenset[str]:
    """Names of the layers that a DLA runs, by their type in a table `layers`."""
    return frozenset(row["name"] for row in listed.select(["name", "type"]).to_pylist() if row["type"] == DLA)


def times(profile: trtexec.Profile, measured_by: str) -> pa.Table:
    """The `layer_times` table of what IProfiler measured."""
    rows = [
        {
            "layer": at,
            "name": layer.name,
            "inferences": profile.count if profile.count is not None and 0 <= profile.count < 1 << 31 else None,
            "total_ns": _nanoseconds(layer.time_ms),
            "average_ns": _nanoseconds(layer.average_ms),
            "median_ns": _nanoseconds(layer.median_ms),
            "measured_by": measured_by,
        }
        for at, layer in enumerate(profile.layers)
    ]
    return pa.Table.from_pylist(rows, TABLES["layer_times"].schema)


def _nanoseconds(ms: float | None) -> int | None:
    return round(ms * 1e6) if ms is not None and 0 <= ms < MOST_MS else None


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
    both, apart, layout = (_known(tensor.get(name)) for name in ("Format/Datatype", "Datatype", "Format"))
    named = _DTYPE.search(apart or both)
    shape = tensor.get("Dimensions")
    return {
        "name": str(tensor.get("Name", "")),
        "shape": [int(size) for size in shape if isinstance(size, int) and abs(size) < 1 << 62]
        if isinstance(shape, list)
        else None,
        "dtype": _DTYPES[named[0].upper()] if named else apart.upper() or None,
        "format": layout or " ".join(_DTYPE.sub("", both).split()) or None,
    }


def _known(value: object) -> str:
    """A text, without "N/A due to dynamic shapes": the inspector had no shapes."""
    text = _text(value) or ""
    return "" if text.startswith("N/A") else text


def _text(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
