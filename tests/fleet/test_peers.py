"""Which rank of several reports is late, by what its peers wait for it in their collectives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from drawing import US
from drawn_trace import drawn
from jsonschema import Draft202012Validator
from report import fakes
from shared_corpus import CORPUS, decompress

import nsight_tools
from nsight_tools.fleet.fold import Fleet
from nsight_tools.fleet.formats import json as machine
from nsight_tools.fleet.formats import markdown, text
from nsight_tools.fleet.members import Member
from nsight_tools.fleet.peers import peers
from nsight_tools.fleet.results import Done
from nsight_tools.report.formats.json.trace import schema
from nsight_tools.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from nsight_tools.run.collectives import Rank

NCCL = "ncclDevKernel_AllReduce"
# Products (2 us) and an all-reduce, twice an inference. The second all-reduce of the early rank waits 4 us.
EARLY = (".##..*..##.******..", "L..L...L..L......S.", "[i................]")
LATE = (".##..*..######.**..", "L..L...L....L....S.", "[i................]")
EVEN = (".##..*..##.**......", "L..L...L..L......S.", "[i................]")


def rank(one: tuple[str, str, str], times: int = 12) -> tuple[Rank, ...]:
    """The ranks of an inference drawn so many times; kernels marked with * communicate."""
    names = ["kernel" if one[0][at] == "#" else NCCL for at in range(len(one[0])) if _begins(one[0], at)]
    lines = ("stream 7: ", "thread 1: ", "nvtx 1:   ")
    pictures = [label + part.replace("*", "#") * times for label, part in zip(lines, one, strict=True)]
    trace = drawn("\n".join(pictures), kernel_names=names * times)
    return Run.of(trace).ranks


def _begins(line: str, at: int) -> bool:
    return line[at] in "#*" and (at == 0 or line[at - 1] == ".")


def test_the_early_rank_waits_and_the_late_one_is_named_with_its_kernels() -> None:
    (found,) = peers({"rank0": rank(EARLY), "rank1": rank(LATE)})
    assert found.late
    assert found.slowest.label == "rank1"
    assert {each.label: each.waits_ns for each in found.ranks} == {"rank0": 4 * US, "rank1": 0}
    assert {each.transfer_ns for each in found.ranks} == {3 * US}
    assert found.because == (("kernel", 4 * US),)


def test_a_rank_whose_kernels_take_no_longer_is_late_for_another_reason() -> None:
    (found,) = peers({"rank0": rank(EARLY), "rank1": rank(EVEN)})
    assert (found.late, found.slowest.label, found.because) == (True, "rank1", ())


def test_ranks_that_take_as_long_have_no_late_one() -> None:
    (found,) = peers({"rank0": rank(LATE), "rank1": rank(LATE)})
    assert (found.late, found.because) == (False, ())


@pytest.mark.parametrize(("times", "matched"), [(11, True), (10, False)])
def test_nine_in_ten_collectives_have_to_be_the_same(times: int, matched: bool) -> None:
    assert bool(peers({"rank0": rank(EARLY), "rank1": rank(LATE, times)})) == matched


def test_a_report_by_itself_has_no_peers() -> None:
    assert peers({"rank0": rank(EARLY)}) == []


def fleet(one: tuple[Rank, ...], other: tuple[Rank, ...]) -> Fleet:
    done = [
        Done(Member(f"{label}.sqlite", label), fakes.report(), None, ranks=its)
        for label, its in (("rank0", one), ("rank1", other))
    ]
    return Fleet(done)


def test_every_format_says_who_is_late_and_why() -> None:
    found = fleet(rank(EARLY), rank(LATE))
    page = " ".join(text.render(found).split())
    assert "rank0 waits 4.00 µs of each inference for rank1" in page
    assert (
        "rank1 computes longer: its other kernels take 8.00 µs of an inference, rank0's 4.00 µs; most of it in kernel"
        in page
    )
    assert "rank0 waits 4.00 µs of each inference for rank1" in markdown.render(found)
    said = json.loads(machine.render(found))
    Draft202012Validator(schema()).validate(said)
    (told,) = said["fleet"]["communicating"]
    assert (told["late"], told["because"]) == ("rank1", [{"kernel": "kernel", "longer_ns": 4 * US}])


def test_where_none_is_late_the_transfer_is_all_there_is() -> None:
    page = " ".join(text.render(fleet(rank(LATE), rank(LATE))).split())
    assert "none is late: what their communication takes is the transfer" in page
    assert "waits" not in page.partition("Ranks that communicate")[0]


@pytest.mark.corpus
def test_the_straggler_of_two_real_ranks(tmp_path: Path) -> None:
    found = {}
    for name in ("straggler_rank0", "straggler_rank1"):
        decompress(CORPUS / "nccl" / f"{name}.sqlite.zst", tmp_path / f"{name}.sqlite")
        trace = nsight_tools.open_trace(tmp_path / f"{name}.sqlite")
        found[name] = Run.of(trace).ranks
    (told,) = peers(found)
    late, early = told.ranks
    assert (told.late, late.label, early.label) == (True, "straggler_rank1", "straggler_rank0")
    assert early.waits_ns == pytest.approx(1_595 * US, rel=0.05)
    assert late.transfer_ns == pytest.approx(413 * US, rel=0.05)
    assert "nvjet" in told.because[0][0]
