"""Two runs that nobody traced, by trtexec's own files: what became slower, and what is noise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from comparison.loops import jitter, loop

from nsight_tools import compare, open_trace
from nsight_tools.cli import program
from nsight_tools.comparison.result import Change, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from nsight_tools.comparison.result import Comparison


def times(compute: float, *, seed: int, count: int = 200, **without: Any) -> list[dict[str, float]]:
    """Inferences of about so many ms of compute, a millisecond apart, enqueued in 0.02 ms; copies take none."""
    took = compute + np.random.default_rng(seed).normal(0, 0.002, count)
    rows = []
    for at, each in enumerate(took.tolist()):
        moments = {"startEnqMs": at, "endEnqMs": at + 0.02, "startComputeMs": at, "endComputeMs": at + each}
        copies = {"startH2dMs": at, "endH2dMs": at, "startD2hMs": at + each, "endD2hMs": at + each}
        spans = {"h2dMs": 0, "computeMs": each, "d2hMs": 0, "latencyMs": each}
        rows.append({name: value for name, value in (moments | copies | spans).items() if name not in without})
    return rows


def compared(folder: Path, before: Any, after: Any, **layers: Any) -> Comparison:
    for name, value in (("a.run.timing", before), ("b.run.timing", after)):
        (folder / f"{name}.json").write_text(json.dumps(value), "utf-8")
    for name, value in layers.items():
        (folder / f"{name}.run.profile.json").write_text(json.dumps(value), "utf-8")
    return compare(*(open_trace(folder / f"{name}.run.timing.json") for name in "ab"))


@pytest.mark.parametrize(
    ("after", "verdict", "change"),
    [
        (0.25, Verdict.SLOWER, Change.MORE),
        (0.15, Verdict.FASTER, Change.LESS),
        (0.2, Verdict.NOISE, Change.NOISE),
        # Far from chance, and no more than two runs of one engine differ by.
        (0.202, Verdict.NOISE, Change.NOISE),
    ],
)
def test_what_the_times_say(tmp_path: Path, after: float, verdict: Verdict, change: Change) -> None:
    found = compared(tmp_path, times(0.2, seed=1), times(after, seed=2))
    assert (found.verdict, found.latency.source, found.before.inferences) == (verdict, "untraced", 200)
    assert found.wall is not None
    assert found.wall.difference == pytest.approx(1e6 * (after - 0.2), abs=1_500)
    parts = {each.name: each for each in found.work}
    assert set(parts) == {"compute", "copies to the GPU", "copies to the host", "enqueue on the host"}
    assert parts["compute"].change is change
    assert parts["copies to the GPU"].change is Change.SAME
    assert found.layers == ()
    assert "trtexec's files do not say with which batch" in found.untold[0]


def test_what_was_not_timed_on_one_side_is_left_out(tmp_path: Path) -> None:
    found = compared(tmp_path, times(0.2, seed=1), times(0.2, seed=2, h2dMs=None, computeMs=None))
    assert {each.name for each in found.work} == {"copies to the host", "enqueue on the host"}


def test_layers_that_both_name_stand_side_by_side(tmp_path: Path) -> None:
    def profile(**layers: float) -> list[dict[str, Any]]:
        return [{"count": 9}, *({"name": name, "averageMs": ms} for name, ms in layers.items())]

    a, b = profile(conv=0.1, fc=0.05, gone=0.01), profile(conv=0.1, fc=0.09, new=0.01)
    found = compared(tmp_path, times(0.2, seed=1), times(0.2, seed=2), a=a, b=b)
    assert [(each.name, each.difference, each.change) for each in found.layers] == [
        ("fc", 40_000, Change.UNKNOWN), ("conv", 0, Change.SAME),
    ]  # fmt: skip


def test_too_few_inferences_tell_nothing(tmp_path: Path) -> None:
    found = compared(tmp_path, times(0.2, seed=1), times(0.2, seed=2, count=15))
    assert found.verdict is Verdict.CANNOT_TELL
    assert (found.before.inferences, found.after.inferences) == (200, 15)
    assert found.untold == ("whether an inference became faster: that takes 20 times a side, and AFTER has 15",)
    assert found.setup == ()


def test_a_trace_and_what_trtexec_wrote_are_two_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(times(0.2, seed=1)), "utf-8")
    found = compare(open_trace(tmp_path / "a.json"), loop(jitter(60, 20, seed=1)))
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.latency.why == found.throughput.why
    assert "--untraced-before" in found.latency.why
    assert found.setup == ()


@pytest.mark.parametrize("form", ["text", "json", "html", "markdown", "junit"])
def test_every_format_takes_it(tmp_path: Path, form: str) -> None:
    compared(tmp_path, times(0.2, seed=1), times(0.3, seed=2))
    files = [str(tmp_path / f"{name}.run.timing.json") for name in "ab"]
    done = CliRunner().invoke(program, ["compare", *files, "--format", form, "--fail-on-regression", "5%"])
    assert done.exit_code == 1, done.output
    assert "slower" in done.output.lower()
