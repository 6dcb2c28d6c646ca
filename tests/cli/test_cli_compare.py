from __future__ import annotations

import inspect
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from comparison.loops import jitter, loop
from drawing import table

import nsight_tools
from nsight_tools.cli import program
from nsight_tools.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from nsight_tools.trace import Trace

LENGTHS = {"base": (20, 1), "same": (20, 2), "slow": (30, 3), "fast": (12, 4)}


@cache
def drawn_as(name: str) -> Trace:
    if name == "batch":
        return loop(jitter(40, 35), grid=200, size_bytes=2000)
    if name == "shape":
        return loop(jitter(40, 40), grid=170, size_bytes=1700)
    length, seed = LENGTHS[name]
    return loop(jitter(40, length, seed=seed), grid=100, size_bytes=1000)


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `nsight-tools compare` on drawn loops by their names, without analyses."""

    def opened(path: Path, untraced: Path | None = None, **_options: object) -> Trace:
        if path.stem == "broken":
            raise InputError(path, "is no SQLite database", hint="export the report again")
        trace = drawn_as(path.stem)
        if untraced is None:
            return trace
        rows = [
            {"run": "benchmark", "measured_by": "runner", "inference": at, "start_ns": at * 30_000, "wall_ns": wall}
            for at, wall in enumerate(jitter(40, 25_000, 100))
        ]
        return trace.with_untraced(table("benchmark", rows), untraced.name)

    monkeypatch.setattr(nsight_tools, "registry", dict, raising=False)
    monkeypatch.setattr(nsight_tools, "open_trace", opened, raising=False)
    old = "mix_stderr" in inspect.signature(CliRunner).parameters
    options: dict[str, Any] = {"mix_stderr": False} if old else {}
    return lambda *arguments: CliRunner(**options).invoke(program, ["compare", *map(str, arguments)])


@pytest.mark.parametrize(
    ("after", "limit", "status"),
    [
        ("same", "5%", 0),
        ("fast", "0", 0),
        ("slow", "5%", 1),
        ("slow", "5", 1),
        ("slow", "60 %", 0),
        ("shape", "5%", 2),
    ],
)
def test_the_gate(compare: Callable[..., Result], after: str, limit: str, status: int) -> None:
    result = compare("base.sqlite", f"{after}.sqlite", "--fail-on-regression", limit)
    assert result.exit_code == status
    assert ("cannot be judged: latency: bytes copied to the GPU" in result.stderr) is (status == 2)
    assert compare("base.sqlite", f"{after}.sqlite").exit_code == 0


@pytest.mark.parametrize(
    ("metric", "status"),
    [("latency", 1), ("both", 1), ("throughput", 0), (None, 0)],
    ids=["latency", "both", "throughput", "lead"],
)
def test_the_metric_of_the_gate(compare: Callable[..., Result], metric: str | None, status: int) -> None:
    """Twice the batch in less than twice the time: throughput leads, and is better; an inference takes longer."""
    chosen = ["--metric", metric] if metric else []
    result = compare("base.sqlite", "batch.sqlite", "--fail-on-regression", "5%", *chosen)
    assert result.exit_code == status
    first, second = result.stdout.splitlines()[1], result.stdout
    assert first.startswith("faster in throughput: ")
    assert "slower in latency: " in second


def test_untraced_times_are_of_the_side_that_they_are_named_for(compare: Callable[..., Result]) -> None:
    given = compare("base.sqlite", "slow.sqlite", "--untraced-before", "b.json", "--untraced-after", "a.json")
    assert given.exit_code == 0
    assert "untraced runs" in given.stdout
    one = compare("base.sqlite", "slow.sqlite", "--untraced-after", "a.json")
    assert "one side untraced" in " ".join(one.stdout.split())
    wrong = compare("base.sqlite", "same.sqlite", "slow.sqlite", "--untraced-after", "a.json")
    assert wrong.exit_code == 2
    assert "--untraced-after is given 1 time, for 2 AFTER" in wrong.stderr


def test_several_afters_are_each_held_against_before(compare: Callable[..., Result]) -> None:
    result = compare("base.sqlite", "same.sqlite", "slow.sqlite", "--format", "json", "--fail-on-regression", "5%")
    assert result.exit_code == 1
    verdicts = [each["verdict"] for each in json.loads(result.stdout)["comparisons"]]
    assert verdicts == ["noise", "slower"]


def test_one_after_that_fails_leaves_the_others(compare: Callable[..., Result]) -> None:
    result = compare("base.sqlite", "broken.sqlite", "slow.sqlite", "--format", "markdown")
    assert result.exit_code == 2
    assert result.stderr.startswith("nsight-tools: error: broken.sqlite: is no SQLite database")
    assert result.stdout.count("## nsight-tools: ") == 1


def test_a_page_has_a_section_for_each_after(compare: Callable[..., Result], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = compare("base.sqlite", "same.sqlite", "slow.sqlite", "--format", "html", "-o", page)
    assert (result.exit_code, result.stdout) == (0, "")
    written = page.read_text(encoding="utf-8")
    assert written.count('<section class="trace"') == 2
    assert "Slower in latency: " in written
    assert "Noise in throughput: " in written


def test_without_before_there_is_nothing(compare: Callable[..., Result], tmp_path: Path) -> None:
    result = compare("broken.sqlite", "same.sqlite", "-o", tmp_path / "out.txt")
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", ["-1", "much", "nan", "inf", "%"])
def test_a_limit_is_a_percentage(compare: Callable[..., Result], limit: str) -> None:
    result = compare("base.sqlite", "same.sqlite", "--fail-on-regression", limit)
    assert result.exit_code == 2
    assert "is no percentage" in result.stderr


def test_junit_goes_to_a_file_whole(compare: Callable[..., Result], tmp_path: Path) -> None:
    target = tmp_path / "results.xml"
    result = compare("base.sqlite", "slow.sqlite", "--format", "junit", "-o", target, "--fail-on-regression", "5%")
    assert result.exit_code == 1
    assert '<failure message="slower in latency: ' in target.read_text(encoding="utf-8")
