"""The engine's layers, and what they are: what a trace's table of layers says of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

NOTHING = "NoOp"
"""The type of layers that launch nothing: another layer reads or writes the tensor as it should lie."""
REFORMATS = ("Reformat", NOTHING)
"""Layer types that only change how a tensor lies in memory."""
COPY_NODE = "Reformatting CopyNode"
"""What names of reformats begin with that TensorRT puts in, where no type is known."""


@dataclass(frozen=True)
class Layer:
    """A layer of the engine; `type` is empty, `inputs` and `outputs` are without members where not recorded."""

    name: str
    type: str = ""
    inputs: tuple[dict[str, Any], ...] = ()
    outputs: tuple[dict[str, Any], ...] = ()
    groups: int = 1
    tactic: str = ""

    @property
    def reformats(self) -> bool:
        """Whether it only changes a tensor's datatype or layout."""
        return self.type in REFORMATS or self.name.startswith(COPY_NODE)

    @property
    def dtype(self) -> str:
        """Datatype of what it works on: of its first input; empty where unknown."""
        return str((self.inputs[0]["dtype"] if self.inputs else None) or "")


def engine_layers(trace: Trace) -> dict[str, Layer]:
    """The layers of the engine by name, in the engine's order."""
    columns = ["name", "type", "inputs", "outputs", "attributes", "tactic"]
    return {
        row["name"]: Layer(
            row["name"],
            row["type"] or "",
            tuple(row["inputs"] or ()),
            tuple(row["outputs"] or ()),
            _groups(row["attributes"]),
            row["tactic"] or "",
        )
        for row in trace.table("layers", columns).to_pylist()
    }


def _groups(attributes: str | None) -> int:
    groups = json.loads(attributes).get("Groups") if attributes else None
    return groups if isinstance(groups, int) else 1
