"""Comparisons of real traces: what anybody who knows how they were made would conclude."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from shared_corpus import REPOSITORY

import nsight_tools
from nsight_tools.comparison import Change, Effect, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nsight_tools.trace import Trace

NONE: tuple[list[nsight_tools.Outcome], list[nsight_tools.Outcome]] = [], []


def opened(corpus_file: Callable[[str], Path], name: str) -> Trace:
    return nsight_tools.open_trace(corpus_file(name))


def half(trace: Trace, inferences: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Trace:
    """The trace with no other inferences than these."""
    tables = {name: trace.table(name) for name in ("inferences", "launches", "kernels", "memory_ops", "gpus", "layers")}
    kept = np.isin(tables["inferences"]["inference"].to_numpy(), inferences)
    tables["inferences"] = tables["inferences"].filter(pa.array(kept))
    renumbered = np.arange(int(kept.sum()), dtype=np.int32)
    place = tables["inferences"].schema.get_field_index("inference")
    old = tables["inferences"]["inference"].to_numpy()
    tables["inferences"] = tables["inferences"].set_column(
        place, tables["inferences"].schema.field("inference"), pa.array(renumbered)
    )
    owner = tables["launches"]["inference"].fill_null(-1).to_numpy()
    new = {number: at for at, number in enumerate(old.tolist())}
    mapped = [new.get(number) for number in owner.tolist()]
    place = tables["launches"].schema.get_field_index("inference")
    tables["launches"] = tables["launches"].set_column(
        place, tables["launches"].schema.field("inference"), pa.array(mapped, pa.int32())
    )
    return nsight_tools.Trace.from_tables(tables)


@pytest.mark.corpus
def test_another_load_on_the_gpu_is_not_put_down_to_a_change(corpus_file: Callable[[str], Path]) -> None:
    found = nsight_tools.compare(
        opened(corpus_file, "h200/s_det_cool.sqlite.zst"), opened(corpus_file, "h200/s_det_throttled.sqlite.zst")
    )
    for each in found.judgements:
        assert (each.verdict, each.measured) == (Verdict.NOT_COMPARABLE, Verdict.SLOWER)
    assert [each.aspect for each in found.blocking] == ["GPU conditions (THR002)"]
    assert "SM clock, while its kernels run" in [each.aspect for each in found.setup]
    # The medians by the corpus' own computation: 1072 and 3365 µs, kernels 791 and 838 µs, clocks 1949 and 1799 MHz.
    assert found.wall is not None
    assert found.wall.before == pytest.approx(1072e3, rel=0.01)
    assert found.wall.after == pytest.approx(3365e3, rel=0.01)
    compute = next(each for each in found.buckets if each.name == "compute")
    assert compute.share is not None
    assert compute.share < 0.05
    clock = found.conditions[0]
    assert (round(clock.before or 0), round(clock.after or 0)) == (1949, 1799)
    assert any("the clock explains it" in note for note in found.notes)


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["s_det_cool", "s_det_throttled", "s_cls_sync"])
def test_halves_of_one_run_are_noise(corpus_file: Callable[[str], Path], name: str) -> None:
    trace = opened(corpus_file, f"h200/{name}.sqlite.zst")
    rows = trace.rows("inferences")
    random = np.random.default_rng(20_261)
    verdicts = []
    for _ in range(20):
        order = random.permutation(rows)
        found = nsight_tools.compare(half(trace, order[: rows // 2]), half(trace, order[rows // 2 :]), outcomes=NONE)
        verdicts.append(found.verdict)
    assert verdicts.count(Verdict.NOISE) >= 19
    first, second = np.arange(rows // 2), np.arange(rows // 2, rows)
    assert nsight_tools.compare(half(trace, first), half(trace, second), outcomes=NONE).verdict is Verdict.NOISE


def test_eager_against_graph() -> None:
    samples = REPOSITORY / "sample_traces"
    before, after = (nsight_tools.open_trace(samples / f"classifier_{name}.sqlite") for name in ("sync", "cuda_graph"))
    found = nsight_tools.compare(before, after)
    assert found.verdict is Verdict.FASTER
    assert {"engine", "launches"} <= {each.aspect for each in found.setup if each.effect is Effect.CHANGE}
    calls = next(each for each in found.work if each.name == "launch and copy calls")
    assert (calls.before, calls.after, calls.change) == (102, 3, Change.LESS)
    # Of the graph the layers are known by the order of its kernels: one engine pools by another, slower kernel.
    worst = found.layers[0]
    assert (worst.name, worst.change) == ("GlobalAveragePool@5", Change.MORE)
    pooling = after.sql("SELECT avg(end_ns - start_ns) AS ns FROM kernels WHERE name LIKE '%pooling_nd_NCDHW%'")["ns"]
    assert worst.after == pytest.approx(pooling[0].as_py(), rel=0.01)


@pytest.mark.corpus
def test_the_same_run_traced_otherwise_is_not_a_gain(corpus_file: Callable[[str], Path]) -> None:
    found = nsight_tools.compare(
        opened(corpus_file, "h200/cls_graph_node.sqlite.zst"), opened(corpus_file, "h200/cls_graph_graph.sqlite.zst")
    )
    assert found.verdict is Verdict.NOT_COMPARABLE
    assert [each.aspect for each in found.blocking] == ["CUDA graphs traced as"]


def training(corpus_file: Callable[[str], Path]) -> list[Trace]:
    """Two GPUs train, before and after a change of what runs between the kernels; no range marks their steps."""
    return [opened(corpus_file, f"public/nsysai_mfu_2gpu_{when}_2026.2.1.sqlite.zst") for when in ("before", "after")]


@pytest.mark.corpus
def test_training_without_steps(corpus_file: Callable[[str], Path]) -> None:
    nothing = np.zeros(0, np.int64)
    before, after = (half(trace, nothing) for trace in training(corpus_file))
    found = nsight_tools.compare(before, after, outcomes=NONE)
    assert found.verdict is Verdict.CANNOT_TELL
    idle = next(each for each in found.work if each.name == "share of the time: idle")
    assert (idle.before, idle.after) == (pytest.approx(0.098, abs=0.001), pytest.approx(0.174, abs=0.001))
    flash = next(each for each in found.kernels if each.name.startswith("flash_fwd_kernel"))
    assert flash.change is Change.NOISE
    assert "What changed lies in what runs between the kernels" in found.notes[0]


@pytest.mark.corpus
def test_training_by_the_steps_that_repeat(corpus_file: Callable[[str], Path]) -> None:
    """Each step of a GPU begins with the copy of its 8 bytes; a few of them, with what varies, are no answer."""
    traces = training(corpus_file)
    for trace in traces:
        copies = trace.sql("SELECT device, start_ns FROM memory_ops WHERE kind = 'h2d' ORDER BY start_ns").to_pylist()
        of_gpus = [[row["start_ns"] for row in copies if row["device"] == device] for device in (0, 1)]
        said = nsight_tools.summarize(trace)
        assert said.inference_source == "iteration"
        assert abs(said.inferences - len(copies)) <= 2
        assert said.times is not None
        period = sum((steps[-1] - steps[0]) / (len(steps) - 1) for steps in of_gpus) / 2
        assert said.times.every_ns == pytest.approx(period, rel=0.02)
    found = nsight_tools.compare(*traces, outcomes=NONE)
    assert found.verdict is Verdict.NOISE
    flash = next(each for each in found.kernels if each.name.startswith("flash_fwd_kernel"))
    assert flash.change is Change.NOISE
