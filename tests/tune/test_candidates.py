"""What is tried next."""

from __future__ import annotations

from drawn_machine import BAD, promise

from nsight_tools.findings import Change
from nsight_tools.tune.candidates import Chooser
from nsight_tools.tune.promises import Promise
from nsight_tools.tune.settings import Setting

PINNED, GRAPH = Change("pageable", value=False), Change("use_cuda_graph")
OFF_DEFAULT = Change("default_stream", value=False)
SPIN = Change("use_spin_wait")


def order(chooser: Chooser, best: Setting, promises: tuple[Promise, ...] = ()) -> list[tuple[Change, ...]]:
    """The changes in the order in which they are tried, where none helps."""
    tried: list[tuple[Setting, tuple[Change, ...]]] = [(best, ())]
    while (found := chooser.next(best, promises, tried)) is not None:
        tried.append((best.changed(*found.changes), found.changes))
    return [changes for _, changes in tried[1:]]


def test_the_most_promising_first_and_estimates_before_bounds() -> None:
    promises = (
        promise("LCH006", SPIN, (0, 300, 300), 1000, "bound"),
        promise("PCI001", PINNED, (90, 100, 110), 1000),
        promise("LCH001", GRAPH, (180, 200, 220), 1000),
    )
    found = order(Chooser("throughput"), Setting.of({"pageable": True}), promises)
    assert found[:3] == [(GRAPH,), (PINNED,), (SPIN,)]
    assert found[3:] == [(PINNED, Change("streams", 2)), (PINNED, Change("overlap_transfers"))]


def test_what_a_change_needs_is_changed_with_it() -> None:
    found = order(Chooser("throughput"), BAD, (promise("LCH001", GRAPH, (180, 200, 220), 1000),))
    assert found[0] == (OFF_DEFAULT, GRAPH)
    assert (OFF_DEFAULT,) in found


def test_nothing_overlaps_with_copies_of_pageable_memory() -> None:
    found = order(Chooser("throughput"), Setting.of({"pageable": True, "use_cuda_graph": True}))
    assert found == [(PINNED,), (PINNED, Change("streams", 2)), (PINNED, Change("overlap_transfers")), (SPIN,)]
    both = order(Chooser("throughput"), BAD)
    assert (OFF_DEFAULT, PINNED, Change("streams", 2)) in both
    assert (OFF_DEFAULT, GRAPH) in both


def test_less_than_noise_is_no_promise() -> None:
    promises = (promise("LCH001", GRAPH, (10, 20, 30), 1000),)
    found = order(Chooser("throughput"), Setting(), (*promises, promise("LCH006", SPIN, (100, 200, 300), 1000)))
    assert found[:2] == [(SPIN,), (GRAPH,)]


def test_streams_double_for_as_long_as_they_help() -> None:
    chooser = Chooser("throughput", most_streams=4)
    assert (Change("streams", 4),) in order(chooser, Setting.of({"streams": 2}))
    assert (Change("streams", 4),) not in order(chooser, Setting())
    assert not any(changes[-1].option == "streams" for changes in order(chooser, Setting.of({"streams": 4})))


def test_latency_is_not_bought_with_requests_under_way() -> None:
    found = order(Chooser("latency"), Setting.of({"streams": 2, "overlap_transfers": True}))
    assert found[:2] == [(Change("streams", 1),), (Change("overlap_transfers", value=False),)]
    fresh = order(Chooser("latency"), Setting())
    assert fresh == [(GRAPH,), (SPIN,)]


def test_a_shorter_inference_is_no_promise_of_throughput_where_several_are_under_way() -> None:
    promises = (promise("LCH006", SPIN, (180, 200, 220), 1000),)
    assert order(Chooser("throughput"), Setting(), promises)[0] == (SPIN,)
    assert order(Chooser("throughput"), Setting.of({"streams": 2}), promises)[0] == (GRAPH,)


def test_an_engine_is_not_built_otherwise() -> None:
    promises = (promise("FUS005", Change("fp16"), (0, 500, 500), 1000, "bound"),)
    assert not any(changes[-1].option == "fp16" for changes in order(Chooser("throughput"), Setting(), promises))
    found = order(Chooser("throughput", builds=True), Setting(), promises)
    assert found[-2:] == [(Change("fp16"),), (Change("builder_optimization_level", 5),)]


def test_the_builder_comes_after_the_run() -> None:
    level = Setting.of({"builder_optimization_level": 0})
    found = [changes[-1].option for changes in order(Chooser("throughput", builds=True), level)]
    assert found[-2:] == ["fp16", "builder_optimization_level"]
    assert Setting.of({"builder_optimization_level": 0}) != Setting()


def test_what_did_not_help_is_tried_again_only_where_an_estimate_promises_it() -> None:
    chooser, best = Chooser("throughput"), Setting.of({"streams": 2})
    tried = [(Setting(), ()), (Setting.of({"use_spin_wait": True}), (SPIN,)), (best, (Change("streams", 2),))]
    made = Promise("LCH006", "", (SPIN,), "estimate", "period", 1.0, 100.0, 200.0, 1000.0)
    again = chooser.next(best, (made,), tried)
    assert again is not None
    assert again.changes == (SPIN,)
    bound = Promise("LCH006", "", (SPIN,), "bound", "period", 0.0, 100.0, 100.0, 1000.0)
    other = chooser.next(best, (bound,), tried)
    assert other is not None
    assert other.changes == (GRAPH,)
