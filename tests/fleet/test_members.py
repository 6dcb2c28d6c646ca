from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nsight_tools.errors import InputError
from nsight_tools.fleet.members import Member, expanded, labelled

if TYPE_CHECKING:
    from pathlib import Path


def called(*sources: str, pattern: str | None = None) -> list[tuple[str, int | None, str | None]]:
    found = labelled([Member(source) for source in sources], pattern=pattern)
    assert [each.source for each in found] == list(dict.fromkeys(sources))
    return [(each.label, each.rank, each.host) for each in found]


@pytest.mark.parametrize(
    ("sources", "labels"),
    [
        (["run/rank0.nsys-rep", "run/rank11.nsys-rep"], [("rank0", 0, None), ("rank11", 11, None)]),
        (["serve_rank_3.qdrep", "x.PROCID-4.sqlite"], [("rank3", 3, None), ("rank4", 4, None)]),
        (["report_0.sqlite", "report_1.sqlite.trace"], [("rank0", 0, None), ("rank1", 1, None)]),
        (["0.sqlite", "1.sqlite"], [("rank0", 0, None), ("rank1", 1, None)]),
        # Not all of one series: what the numbers are is not known.
        (["a_0.sqlite", "b_1.sqlite"], [("a_0", None, None), ("b_1", None, None)]),
        (["v_2.sqlite", "other.sqlite"], [("v_2", None, None), ("other", None, None)]),
        (["frank2.sqlite", "a.sqlite"], [("frank2", None, None), ("a", None, None)]),
        (["det.capture/report.nsys-rep", "cls.capture"], [("det", None, None), ("cls", None, None)]),
        (["n1/rank0.sqlite", "n2/rank0.sqlite"], [("n1.rank0", 0, "n1"), ("n2.rank0", 0, "n2")]),
        (["host-a1_rank0.sqlite", "host-a2_rank1.sqlite"], [("rank0", 0, "a1"), ("rank1", 1, "a2")]),
        (["x/n1/serve.sqlite", "x/n2/serve.sqlite"], [("n1.serve", None, "n1"), ("n2.serve", None, "n2")]),
        (["a/x/r.sqlite", "b/x/r.sqlite"], [("a.x.r.sqlite", None, None), ("b.x.r.sqlite", None, None)]),
        (["run/node07/0.sqlite", "run/dgx-2/1.sqlite"], [("rank0", 0, "node07"), ("rank1", 1, "dgx-2")]),
        (["x/a.sqlite", "x/a.capture"], [("a.sqlite", None, None), ("a.capture", None, None)]),
        (["a b\n.sqlite", "a*b?.sqlite"], [("a_b_", None, None), ("a_b_-2", None, None)]),
        ([".."], [("report", None, None)]),
        (["s3://bucket/run/rank7.nsys-rep", "s3://bucket/run/rank8/"], [("rank7", 7, None), ("rank8", 8, None)]),
    ],
)
def test_what_a_report_is_called(sources: list[str], labels: list[tuple[str, int | None, str | None]]) -> None:
    assert called(*sources) == labels


def test_a_pattern_says_what_the_names_do_not() -> None:
    sources = ["run/gpu-a.7.sqlite", "run/gpu-b.8.sqlite", "run/other.sqlite"]
    assert called(*sources, pattern=r"(?P<host>gpu-\w)\.(?P<rank>\d+)") == [
        ("rank7", 7, "gpu-a"),
        ("rank8", 8, "gpu-b"),
        ("other", None, None),
    ]


@pytest.mark.parametrize(("pattern", "said"), [("(", "is no regular expression"), (r"\d+", "has no group")])
def test_a_pattern_that_says_nothing_is_an_error(pattern: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        called("a.sqlite", pattern=pattern)


def found(source: object, folder: Path) -> list[str]:
    return [each.source.removeprefix(f"{folder}/") for each in expanded(str(source))]


def test_a_folder_gives_what_is_in_it(tmp_path: Path) -> None:
    for name in (
        "n1/rank0.nsys-rep",
        "n1/rank1.sqlite",
        "n2/x/rank2.qdrep",
        "one.capture/run.json",
        "d.trace/manifest.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (
        "one.capture/report.nsys-rep",
        "one.capture/layer_pass.nsys-rep",
        "rank3.layers.json",
        ".hidden.sqlite",
    ):
        (tmp_path / name).touch()
    (tmp_path / "fleet").mkdir()
    for name in ("reports.parquet", "findings.parquet"):  # what a fleet's dataset has
        (tmp_path / "fleet" / name).touch()
    names = ["d.trace", "n1/rank0.nsys-rep", "n1/rank1.sqlite", "n2/x/rank2.qdrep", "one.capture"]
    assert found(tmp_path, tmp_path) == names
    assert found(tmp_path / "n1", tmp_path) == names[1:3]
    assert found(tmp_path / "one.capture", tmp_path) == ["one.capture"]
    assert found(tmp_path / "n*", tmp_path) == names[1:4]


def test_of_a_report_and_what_was_made_of_it_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.nsys-rep").touch()
    (tmp_path / "a.sqlite").touch()
    (tmp_path / "a.nsys-rep.trace").mkdir()
    (tmp_path / "a.nsys-rep.trace" / "manifest.json").touch()
    assert found(tmp_path, tmp_path) == ["a.sqlite"]


def test_a_newer_report_goes_before_its_export(tmp_path: Path) -> None:
    (tmp_path / "a.nsys-rep").touch()
    (tmp_path / "a.sqlite").touch()
    os.utime(tmp_path / "a.sqlite", (1, 1))
    assert found(tmp_path, tmp_path) == ["a.nsys-rep"]


def test_a_list_names_reports_and_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.sqlite").touch()
    (tmp_path / "runs.txt").write_text("# these\na.sqlite\t5\tnode-a\n/b.sqlite\n\nmore\ns3://bucket/c.sqlite\t6\n")
    found = labelled(expanded(str(tmp_path / "runs.txt")))
    assert [(each.source.removeprefix(f"{tmp_path}/"), each.label, each.rank, each.host) for each in found] == [
        ("a.sqlite", "rank5", 5, "node-a"),
        ("/b.sqlite", "b", None, None),
        ("more/x.sqlite", "x", None, None),
        ("s3://bucket/c.sqlite", "rank6", 6, None),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("a.sqlite\tfirst\n", "gives 'first' as a rank"), ("\n# nothing\n", "names no report"), ("two\t3\n", "2 reports")],
)
def test_a_list_that_says_nothing_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "two").mkdir()
    for name in "ab":
        (tmp_path / "two" / f"{name}.sqlite").touch()
    (tmp_path / "runs.list").write_text(text)
    with pytest.raises(InputError, match=said):
        expanded(str(tmp_path / "runs.list"))


@pytest.mark.parametrize("name", ["", "*.sqlite", "none.txt"])
def test_an_input_that_names_nothing_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        expanded(f"{tmp_path}/{name}")
