"""Every public name of the API has an example in its docstring, and what the example shows is what happens."""

from __future__ import annotations

import doctest
import inspect
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from shared_corpus import REPOSITORY

import nsight_tools
from nsight_tools import analysis, figures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USED = (
    *("detector_pageable.*", "classifier_sync.*", "classifier_cuda_graph.*", "classifier_whole_graph.*", "limits"),
    *("detector_throttled.capture", "classifier_streams.capture"),
)
"""Of the sample traces, what examples open."""
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def public() -> Iterator[tuple[str, Any]]:
    """What a completion offers, and the methods of the classes among it; each under one name. Data has no docstring."""
    seen: set[int] = set()
    for home in (nsight_tools, figures, analysis):
        for name in dir(home):
            value = getattr(home, name)
            elsewhere = home is analysis and getattr(value, "__module__", "") != analysis.__name__
            if name.startswith("_") or elsewhere or id(value) in seen:
                continue
            if inspect.ismodule(value) or callable(value):
                seen.add(id(value))
                yield f"{home.__name__}.{name}", value
            if inspect.isclass(value):
                yield from methods(f"{home.__name__}.{name}", value)


def methods(name: str, of: type) -> Iterator[tuple[str, Any]]:
    """The public methods that a class defines itself; what is an attribute, if computed, is shown with its class."""
    for each, value in vars(of).items():
        ours = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))
        if not each.startswith("_") and ours and value.__module__.startswith("nsight_tools"):
            yield f"{name}.{each}", getattr(of, each)


PUBLIC = dict(public())


def test_the_api_is_found() -> None:
    assert {f"nsight_tools.{name}" for name in dir(nsight_tools)} - PUBLIC.keys() == {"nsight_tools.__version__"}
    assert {"nsight_tools.Trace.sql", "nsight_tools.figures.clocks", "nsight_tools.analysis.analysis"} <= PUBLIC.keys()
    assert len(PUBLIC) > 50


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    for pattern in USED:
        for source in (REPOSITORY / "sample_traces").glob(pattern):
            target = folder / "sample_traces" / source.name
            if source.suffix == ".trace":
                continue
            target.parent.mkdir(exist_ok=True)
            ignore = shutil.ignore_patterns("*.trace*")
            shutil.copytree(source, target, ignore=ignore) if source.is_dir() else shutil.copy(source, target)
    return folder


@pytest.mark.parametrize("name", PUBLIC)
def test_its_example_is_what_happens(name: str, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "engine_graph" in name or "EngineGraph" in name:
        pytest.importorskip("pygraphviz")
    text = inspect.getdoc(PUBLIC[name]) or ""
    example = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, name, None, 0)
    assert example.examples, f"{name} has no example in its docstring"
    monkeypatch.chdir(samples)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


def test_an_example_that_is_wrong_fails() -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(wrong, out=lambda _text: None)
    assert runner.failures == 1
