"""demo: a capture in the package, analyzed and explained."""

from __future__ import annotations

import re
import runpy
import shlex
from typing import TYPE_CHECKING
from zipfile import ZipFile

from click.testing import CliRunner
from shared_corpus import REPOSITORY

from nsight_tools.cli import COMMANDS, demo, program

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def shown(*arguments: str | Path) -> str:
    done = CliRunner().invoke(program, ["demo", *map(str, arguments)], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


def test_it_analyzes_explains_and_says_where_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    capture = tmp_path / "nsight-tools" / demo.NAME
    said = shown()
    assert "Pin the host's buffers: saves about " in said
    assert f"\n$ nsight-tools analyze {capture}\n" in said
    titles = ["Time of an inference", "Findings", "Could not be judged", "Clear", "The run", "What each part says"]
    places = [re.search(rf"^{title}", said, re.MULTILINE) for title in titles]
    assert all(places)
    assert [place.start() for place in places if place] == sorted(place.start() for place in places if place)
    commands = [shlex.split(line) for line in re.findall(r"^  \$ nsight-tools (.*)$", said, re.MULTILINE)]
    assert {line[0] for line in commands} <= set(COMMANDS)
    code = next(line[1] for line in commands if line[0] == "explain")
    assert re.search(rf"^1\. .* {code} ", said, re.MULTILINE), "it explains the first finding"
    made = (capture / "report.sqlite").stat().st_mtime_ns
    assert shown() == said
    assert (capture / "report.sqlite").stat().st_mtime_ns == made, "and takes what lies there again"


def test_it_goes_where_it_is_told_and_overwrites_nothing(tmp_path: Path) -> None:
    assert "Pin the host's buffers" in shown("-o", tmp_path / "mine.capture")
    (tmp_path / "other").mkdir()
    done = CliRunner().invoke(program, ["demo", "-o", str(tmp_path / "other")])
    assert done.exit_code == 2
    assert "exists already" in done.output
    assert not list((tmp_path / "other").iterdir())


def test_it_is_small_and_made_of_the_sample() -> None:
    made = runpy.run_path(str(REPOSITORY / "sample_traces" / "make_demo.py"))["contents"]()
    with ZipFile(demo.CAPTURE) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert demo.CAPTURE.stat().st_size < 300_000
    assert sorted(held) == sorted(made)
    same = [name for name in held if name != "benchmark.parquet"]  # whose bytes are those of the Arrow that wrote it
    assert [name for name in same if held[name] != made[name]] == []
