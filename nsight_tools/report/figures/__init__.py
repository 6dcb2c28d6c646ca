"""Figures of a trace: each function takes a `Trace` (and the finding that it is for) and gives a matplotlib figure.

Those that begin with `compared` take what `compare` gives.

Notebooks show them as they are; `svg` makes of one what a page holds. A function raises `NothingToShow`, with the
reason, where the trace has nothing that it would show. They use no state of pyplot.
"""

from __future__ import annotations

from nsight_tools.report.figures.accounting import inference_accounting, inferences_over_time
from nsight_tools.report.figures.clocks import clocks
from nsight_tools.report.figures.compared import (
    compared_buckets,
    compared_over_time,
    compared_parts,
    compared_walls,
)
from nsight_tools.report.figures.engine import EngineGraph, engine_graph
from nsight_tools.report.figures.inline import svg
from nsight_tools.report.figures.layers import grids, inference_layers
from nsight_tools.report.figures.limits import limits, roofline
from nsight_tools.report.figures.palette import COLOURS
from nsight_tools.report.figures.streams import launches, streams
from nsight_tools.report.figures.style import Drawing
from nsight_tools.report.figures.transfers import transfers

__all__ = [
    "COLOURS",
    "Drawing",
    "EngineGraph",
    "clocks",
    "compared_buckets",
    "compared_over_time",
    "compared_parts",
    "compared_walls",
    "engine_graph",
    "grids",
    "inference_accounting",
    "inference_layers",
    "inferences_over_time",
    "launches",
    "limits",
    "roofline",
    "streams",
    "svg",
    "transfers",
]
