"""Layers by the order of kernels on real traces: hidden, told again, and compared with what was hidden."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from nsight_tools import open_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from nsight_tools.trace import Trace

pytestmark = pytest.mark.corpus

ENGINES = {
    "s_cls_sync": "cls_static",
    "s_cls_multinull4": "cls_static",
    "s_cls_mixed": "cls_mixed",
    "s_det_cool": "det_static",
    "det_pageable_b4": "det_fp16",
}
"""The engine of each eager trace."""


@pytest.fixture
def without_ranges(corpus_file: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Gives a copy of a trace without TensorRT's ranges in the first part of its time."""

    def of(name: str, part: float = 1.0) -> Path:
        path = tmp_path / f"{name}.sqlite"
        shutil.copy(corpus_file(f"h200/{name}.sqlite.zst"), path)
        with sqlite3.connect(path) as database:
            first, last = database.execute(
                "SELECT min(start), max(start) FROM NVTX_EVENTS WHERE eventType = 59"
            ).fetchone()
            database.execute(
                "DELETE FROM NVTX_EVENTS WHERE eventType = 59 AND start <= ? AND domainId IN "
                "(SELECT domainId FROM NVTX_EVENTS WHERE eventType = 75 AND text = 'TensorRT')",
                [first + part * (last - first)],
            )
        database.close()
        return path

    return of


def kernel_layers(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Layer ("" for none) of each kernel, and whether it was told by order."""
    table = trace.sql("SELECT layer, layer_source FROM launches WHERE work = 'kernel' ORDER BY start_ns")
    layer, source = (table[name].to_pandas().astype(object).fillna("").to_numpy() for name in table.column_names)
    return layer, source == "order"


@pytest.mark.parametrize("name", ENGINES)
def test_another_part_of_the_same_trace_tells_all(
    corpus_file: Callable[[str], Path], without_ranges: Callable[..., Path], name: str
) -> None:
    truth, _ = kernel_layers(open_trace(corpus_file(f"h200/{name}.sqlite.zst")))
    found, by_order = kernel_layers(open_trace(without_ranges(name, 0.5)))
    assert by_order.mean() > 0.4
    assert (found[by_order] == truth[by_order]).all()
    # But the inference that the cut goes through, which has some of its ranges.
    assert (found != "").mean() >= 1 - 1 / open_trace(corpus_file(f"h200/{name}.sqlite.zst")).rows("inferences")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("other", ENGINES)
def test_a_layer_pass_tells_all_of_its_engine_and_nothing_of_another(
    corpus_file: Callable[[str], Path], without_ranges: Callable[..., Path], name: str, other: str
) -> None:
    reference = corpus_file(f"h200/{other}.sqlite.zst")
    found, by_order = kernel_layers(open_trace(without_ranges(name), layer_pass=reference))
    if ENGINES[name] == ENGINES[other]:
        truth, _ = kernel_layers(open_trace(corpus_file(f"h200/{name}.sqlite.zst")))
        assert by_order.all()
        assert (found == truth).all()
    else:
        assert (found == "").all()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("engine", [*sorted(set(ENGINES.values())), "cls_fp16"])
def test_the_engines_list_tells_most_and_another_ones_nothing(
    corpus: Path, corpus_file: Callable[[str], Path], without_ranges: Callable[..., Path], name: str, engine: str
) -> None:
    listed = corpus / "h200" / f"{engine}.engine.layers.json"
    found, by_order = kernel_layers(open_trace(without_ranges(name), layers=listed))
    if ENGINES[name] == engine:
        truth, _ = kernel_layers(open_trace(corpus_file(f"h200/{name}.sqlite.zst")))
        assert by_order.mean() > 0.8
        assert (found[by_order] == truth[by_order]).all()
    else:
        assert (found == "").all()


def test_a_graph_whose_capture_was_not_traced(corpus: Path, corpus_file: Callable[[str], Path]) -> None:
    """Its eager counterpart is not in the corpus: another engine of the network tells nothing, its own list most."""
    path = corpus_file("h200/cls_graph_node.sqlite.zst")
    for other in ENGINES:
        trace = open_trace(path, layer_pass=corpus_file(f"h200/{other}.sqlite.zst"))
        assert not kernel_layers(trace)[1].any()
    found, by_order = kernel_layers(open_trace(path, layers=corpus / "h200" / "cls_fp16.engine.layers.json"))
    assert by_order.mean() == pytest.approx(96 / 102)
    assert "GlobalAveragePool@9" in found
