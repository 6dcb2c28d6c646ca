"""What of an engine a DLA (Deep Learning Accelerator) runs, what the GPU runs beside it, and what lies at the border.

No machine with a DLA was at hand. The names and the type are those of NVIDIA's documentation and of public reports.
What a DLA does is in no export that is known: of Nsight Systems 2023.4 and 2024.2 the importer reads events of "other
accelerators", and the exporter has no table for them, only one of the calls of NvMedia's API. So a DLA's time is told
by what the GPU waits for (`timeline.accelerator`).
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from nsight_tools.run.engine import NOTHING, Engine, Layer
from nsight_tools.timeline.accelerator import DLA

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

_REGION = re.compile(r"\{(?:ForeignNode\[)?(.*?)\]?\}", re.DOTALL)
"""How layers that were compiled as one are named: `{ForeignNode[first...last]}`, older ones `{first,second}`."""
_BORDER = re.compile(r" (?:to|from) nvm$| copy finish$")
"""Layers that TensorRT 8 puts at a DLA's border ("images to nvm", "head_3 from nvm", "images copy finish") in the
profile of issue 3143 of NVIDIA/TensorRT. A name that is not matched counts as a layer on the GPU."""
_MOVES = re.compile(r" (?:to|from) nvm$")


def subgraph(layer: Layer) -> str:
    """The layers of the network that a compiled layer is made of, as its name tells; its name where it tells none."""
    match = _REGION.search(layer.name)
    return match[1] if match else layer.name


class Dla:
    """The engine's layers by where they run, in the engine's order; all are empty where no layer is on a DLA."""

    def __init__(self, trace: Trace) -> None:
        self._engine = Engine.of(trace)

    @classmethod
    def of(cls, trace: Trace) -> Dla:
        """The DLA's part of the engine of `trace`, for as long as somebody holds it."""
        return trace.once(cls)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Those on a DLA, each a subgraph that TensorRT hands to it as a whole.

        By their type. A list of names alone tells it only where layers of the border stand in it: the GPU's compiled
        regions have the same names.
        """
        every = self._engine.layers
        typed = tuple(layer for layer in every if layer.type == DLA)
        if typed or any(layer.type for layer in every) or not any(_MOVES.search(layer.name) for layer in every):
            return typed
        return tuple(layer for layer in every if _REGION.fullmatch(layer.name))

    @cached_property
    def borders(self) -> tuple[Layer, ...]:
        """Those that only carry tensors to a DLA or from it, or change their form for it."""
        names = {layer.name for layer in self.layers}
        if not names:
            return ()
        every = self._engine.layers
        neighbours = {
            own
            for edge in self._engine.edges
            for own, other in ((edge.source, edge.target), (edge.target, edge.source))
            if every[other].name in names
        }
        return tuple(
            layer
            for place, layer in enumerate(every)
            if layer.name not in names
            and (
                bool(_BORDER.search(layer.name))
                or (layer.reformats and (place in neighbours or any(name in layer.name for name in names)))
            )
        )

    @cached_property
    def fallback(self) -> tuple[Layer, ...]:
        """Those that compute on the GPU in an engine that has layers on a DLA; reformats are none."""
        if not self.layers:
            return ()
        others = {layer.name for layer in (*self.layers, *self.borders)}
        return tuple(
            layer
            for layer in self._engine.layers
            if layer.name not in others and layer.type != NOTHING and not layer.reformats
        )

    @cached_property
    def cuts(self) -> tuple[Layer, ...]:
        """Those of `fallback` that stand between two subgraphs in the engine's order, and may part them."""
        place = {layer.name: at for at, layer in enumerate(self._engine.layers)}
        on = [place[layer.name] for layer in self.layers]
        return tuple(layer for layer in self.fallback if on[0] < place[layer.name] < on[-1])
