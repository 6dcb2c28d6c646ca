"""The loop over a drawn machine: where it ends, what it says, and that it goes on from wherever it was killed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from drawn_machine import BAD, Machine, Tracer, loop, takes_us
from jsonschema import Draft202012Validator
from measured_before import FoundBefore, MeasuredBefore
from report.inert import check

from nsight_tools.capture.benchmark import OutOfTimeError
from nsight_tools.errors import InputError, NsightToolsError
from nsight_tools.findings import Change
from nsight_tools.report import tuned
from nsight_tools.report.formats.html import tuning as tuned_html
from nsight_tools.tune import ledger as ledgers
from nsight_tools.tune.candidates import Chooser
from nsight_tools.tune.ledger import Ledger
from nsight_tools.tune.loop import LEAST_RUNS, Budget
from nsight_tools.tune.measuring import Failed, Measurement, Row, Why, write_rows
from nsight_tools.tune.settings import Setting, product

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = json.loads(resources.files("nsight_tools.report").joinpath("ledger-schema-1.json").read_text("utf-8"))
ALL = product({
    "use_cuda_graph": (False, True), "use_spin_wait": (False, True), "overlap_transfers": (False, True),
    "streams": (1, 2, 4),
})  # fmt: skip
SWITCHES = ("use_cuda_graph", "use_spin_wait", "overlap_transfers")
BEST = min(ALL, key=takes_us)


def valid(ledger: Ledger) -> dict[str, Any]:
    data = json.loads(json.dumps(ledgers.as_json(ledger), allow_nan=False))
    Draft202012Validator(SCHEMA).validate(data)
    return data


def test_from_a_bad_start_it_ends_near_the_best_in_a_third_of_the_runs() -> None:
    tuning, said = loop()
    ledger = tuning.run()
    assert ledger.ended == "nothing left"
    assert takes_us(ledger.best) <= 1.1 * takes_us(BEST)
    assert len(ledger.measured) <= len(ALL) / 3
    kept = [tuned.title(step) for step in ledger.steps if step.kept]
    assert kept[:2] == ["leave the default stream and use a CUDA graph", "pin the host's buffers"]
    held, judged = ledger.promised
    assert (held, judged) == (2, 2)
    assert any(line.startswith("step 1: leave the default stream and use a CUDA graph: LCH001") for line in said)
    assert valid(ledger)["best"]["commands"]["capture"].startswith("nsight-tools capture m.engine --duration 2")


def test_each_step_is_measured_in_turn_with_the_best_so_far() -> None:
    machine = Machine()
    ledger = loop(machine=machine)[0].run()
    expected = [BAD]
    for step in ledger.steps:
        expected += [step.start, step.setting] * (len(step.runs) // 2)
    assert machine.asked == expected


def test_the_best_is_traced_once_and_nothing_else_is() -> None:
    tracer = Tracer()
    ledger = loop(tracer=tracer)[0].run()
    assert tracer.asked == [BAD, *(step.setting for step in ledger.steps if step.kept)]


@pytest.mark.parametrize("seed", range(5))
def test_a_start_at_the_best_ends_with_nothing_left(seed: int) -> None:
    ledger = loop(BEST, Machine(seed=seed))[0].run()
    assert ledger.ended == "nothing left"
    assert takes_us(ledger.best) == takes_us(BEST)
    assert "none of" in tuned.headline(ledger)
    valid(ledger)


def test_noise_is_never_called_faster() -> None:
    """A machine on which no setting differs from any other, though its findings promise much."""

    class Boasting(Tracer):
        def trace(self, setting: Setting, number: int) -> Any:
            return Tracer(takes_us).trace(setting, number)

    ended = [
        loop(machine=Machine(lambda _: 500.0, noise=0.01, seed=seed), tracer=Boasting())[0].run() for seed in range(20)
    ]
    faster = [step for ledger in ended for step in ledger.steps if step.kept]
    assert len(faster) <= 1
    assert all(step.held is False for ledger in ended for step in ledger.steps if step.promise and not step.kept)
    assert any("noise: the time of an input differs by" in step.said for step in ended[0].steps)


def test_a_drift_decides_nothing() -> None:
    ledger = loop(BEST, Machine(lambda _: 500.0, noise=0.001, drift=0.01))[0].run()
    assert [step.outcome for step in ledger.steps] == ["noise"] * len(ledger.steps)


def test_latency_is_a_goal_of_its_own() -> None:
    start = Setting.of({"streams": 2, "overlap_transfers": True})

    def wall_us(setting: Setting) -> float:
        several = setting.get("streams") * (2 if setting.get("overlap_transfers") else 1)
        return (300 if setting.get("use_cuda_graph") else 500) * several

    ledger = loop(start, Machine(wall_us), Tracer(wall_us), goal="latency")[0].run()
    assert ledger.best == Setting.of({"use_cuda_graph": True})
    assert "the median inference takes" in tuned.headline(ledger)
    valid(ledger)


FAILURES = [Why.MEMORY, Why.BUILD, Why.REFUSED]


@pytest.mark.parametrize("why", FAILURES)
def test_a_step_that_fails_stands_in_the_ledger_as_that(why: Why) -> None:
    graph = BAD.changed(Change("default_stream", value=False), Change("use_cuda_graph"))
    tuning, said = loop(machine=Machine(failing={graph: why}))
    ledger = tuning.run()
    first = ledger.steps[0]
    assert (first.outcome, first.kept, first.said) == (why.value, False, f"{why.value}: drawn so")
    assert f"  {why.value}: drawn so; not kept" in said
    assert ledger.ended == "nothing left"
    assert ledger.best != ledger.start
    valid(ledger)


def test_what_failed_is_tried_again_where_that_is_asked_for() -> None:
    """Its reason may be gone: another process had the memory."""
    every = product({"pageable": (False, True), **dict.fromkeys(SWITCHES, (False, True)), "streams": (1, 2, 4)})
    failing = {setting: Why.MEMORY for setting in every if setting.get("use_cuda_graph")}
    machine = Machine(failing=failing)
    tuning, _ = loop(machine=machine)
    steps = len(tuning.run().steps)
    assert not tuning.ledger.best.get("use_cuda_graph")
    asked = list(machine.asked)
    failing.clear()
    assert len(tuning.run().steps) == steps
    assert machine.asked == asked
    ended = tuning.ledger.best
    tuning.retried = steps
    again = tuning.run().steps[steps:]
    assert [step.changes[-1].option for step in again][:1] == ["use_cuda_graph"]
    assert again[0].start == ended
    assert (again[0].outcome, tuning.ledger.ended) == ("faster", "nothing left")
    assert (tuning.ledger.steps[0].outcome, tuning.ledger.steps[0].failed) == (Why.MEMORY.value, True)
    valid(tuning.ledger)


class Outputs:
    """A gate that a graph does not pass, and that cannot tell anything of pinned memory."""

    def __init__(self) -> None:
        self.asked: list[Setting] = []

    def begin(self, start: Setting) -> dict[str, Any] | None:
        self.began = start
        return {"passed": True}

    def check(self, setting: Setting) -> dict[str, Any]:
        self.asked.append(setting)
        if setting.get("use_cuda_graph"):
            return {"passed": False, "failures": ["output y: rel is 0.31, and must be at most 0.05"]}
        return {"passed": True if setting.get("streams") == 1 else None, "reason": "nothing to compare with"}


def test_what_loses_accuracy_is_not_measured() -> None:
    gate, machine = Outputs(), Machine()
    ledger = loop(machine=machine, gate=gate)[0].run()
    lost = [step for step in ledger.steps if step.outcome == Why.ACCURACY.value]
    assert lost
    assert all(not step.runs and not step.kept for step in lost)
    assert "accuracy lost: output y: rel is 0.31" in lost[0].said
    assert not any(setting.get("use_cuda_graph") for setting in machine.asked)
    assert gate.began == BAD
    assert gate.asked == [step.setting for step in ledger.steps]
    valid(ledger)


def test_a_start_that_cannot_be_run_is_no_tuning() -> None:
    kept: list[Ledger] = []
    tuning, _ = loop(machine=Machine(failing={BAD: Why.REFUSED}), keep=kept.append)
    with pytest.raises(Failed, match="drawn so"):
        tuning.run()
    assert kept == []


def test_a_best_that_stops_running_is_no_fault_of_the_change() -> None:
    failing: dict[Setting, Why] = {}
    tuning, _ = loop(
        machine=Machine(failing=failing),
        keep=lambda ledger: failing.update({BAD: Why.MEMORY} if ledger.captures else {}),
    )
    with pytest.raises(Failed):
        tuning.run()
    assert tuning.ledger.steps[-1].outcome == ""


@pytest.mark.parametrize("runs", [LEAST_RUNS, 20])
def test_a_budget_ends_it_and_more_goes_on(runs: int) -> None:
    whole = loop()[0].run()
    tuning, _ = loop(budget=Budget(runs=runs))
    ledger = tuning.run()
    assert (ledger.ended, ledger.runs) == ("budget", runs)
    assert "the budget is spent" in tuned.headline(ledger)
    if runs == LEAST_RUNS:
        assert "not tried: pin the host's buffers" in list(tuned.text(ledger))
    valid(ledger)
    tuning.budget = Budget()
    tuning.run()
    assert tuning.ledger.ended == "nothing left"
    assert tuning.ledger.best == whole.best


def test_a_budget_of_time() -> None:
    now = iter(range(10_000))
    ledger = loop(budget=Budget(seconds=10), clock=lambda: float(next(now)))[0].run()
    assert ledger.ended == "budget"
    assert ledger.seconds == 10


def test_a_build_that_the_budget_ends_is_tried_again_with_more() -> None:
    class Slow(Machine):
        ends = True

        def measure(self, setting: Setting) -> Measurement:
            if self.ends and setting.get("fp16"):
                raise OutOfTimeError("the build was stopped after 12 s, which is all there was")
            return super().measure(setting)

    machine = Slow()
    tuning, said = loop(
        Setting.of({"builder_optimization_level": 5}), machine, chooser=Chooser("throughput", builds=True)
    )
    ledger = tuning.run()
    assert (ledger.ended, ledger.steps[-1].changes[-1].option, ledger.steps[-1].outcome) == ("budget", "fp16", "")
    assert "  the build was stopped after 12 s, which is all there was" in said
    valid(ledger)
    machine.ends = False
    assert tuning.run().ended == "nothing left"
    assert tuning.ledger.steps[-1].outcome


def test_what_is_left_of_a_budget() -> None:
    tuning, _ = loop(budget=Budget(seconds=100), clock=lambda: 7.0)
    tuning.ledger.seconds = 40
    assert tuning.left_s() == 100 - 40 - 7
    assert loop()[0].left_s() == math.inf


class Killed(Exception):  # noqa: N818 (what happens to it)
    pass


@pytest.mark.parametrize("where", ["measure", "trace", "keep"])
def test_killed_anywhere_it_goes_on_from_there(tmp_path: Path, where: str) -> None:
    """Killed before each action in turn; what is read back from the file ends where an undisturbed run does."""
    path = tmp_path / "ledger.json"
    whole = loop()[0].run()

    def dying(tuning: Any, at: int) -> None:
        count = 0
        owner = {"measure": tuning.measurer, "trace": tuning.tracer, "keep": tuning}[where]
        real = getattr(owner, where)

        def counted(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count > at:
                raise Killed
            return real(*arguments)

        setattr(owner, where, counted)

    runs, at = 0, 1
    ledger: Ledger | None = None
    while ledger is None or not ledger.ended:
        tuning, _ = loop(machine=Machine(seed=at), tracer=Tracer(), keep=lambda each: ledgers.write(path, each))
        if path.exists():
            tuning.ledger = ledgers.read(path)
        dying(tuning, at)
        try:
            ledger = tuning.run()
        except Killed:
            ledger = ledgers.read(path) if path.exists() else None
            at = 1 + runs % 3
        runs += 1
        assert runs < 500
    assert runs > 3
    assert ledger.best == whole.best
    assert [step.changes for step in ledger.steps] == [step.changes for step in whole.steps]
    assert ledgers.as_json(ledgers.read(path)) == ledgers.as_json(ledger)


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    for number, tuning in enumerate((loop()[0], loop(gate=Outputs())[0], loop(budget=Budget(runs=9))[0])):
        path = tmp_path / str(number)
        ledgers.write(path, tuning.run())
        assert ledgers.as_json(ledgers.read(path)) == ledgers.as_json(tuning.ledger)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1}'])
def test_what_is_no_ledger(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match="ledger"):
        ledgers.read(tmp_path / "ledger.json")


def test_tables_stand_in_for_the_gpu(tmp_path: Path) -> None:
    """What was measured and found before gives the same tuning; what is in no table ends it with an error."""
    tuning, _ = loop()
    whole = tuning.run()
    ledgers.write(tmp_path / "ledger.json", whole)
    runs = [
        (step.setting if run.candidate else step.start, run.measurement) for step in whole.steps for run in step.runs
    ]
    first = [(BAD, whole.first)] if whole.first else []
    rows = [Row(setting, measurement) for setting, measurement in (*first, *runs)]
    write_rows(tmp_path / "t.parquet", rows)
    again, _ = loop(machine=MeasuredBefore(tmp_path / "t.parquet"), tracer=FoundBefore(tmp_path / "ledger.json"))
    assert again.run().best == whole.best
    write_rows(tmp_path / "less.parquet", rows[:1])
    less, _ = loop(machine=MeasuredBefore(tmp_path / "less.parquet"), tracer=FoundBefore(tmp_path / "ledger.json"))
    with pytest.raises(NsightToolsError, match="has no measurement of"):
        less.run()
    other, _ = loop(Setting(), machine=Machine(), tracer=FoundBefore(tmp_path / "ledger.json"))
    with pytest.raises(NsightToolsError, match="has no capture of as by default"):
        other.run()


def test_builds_are_tried_after_the_run() -> None:
    def rule(setting: Setting) -> float:
        return (
            takes_us(setting)
            * (0.6 if setting.get("fp16") else 1)
            * (0.9 if setting.get("builder_optimization_level") == 5 else 1)
        )

    start = Setting.of({"builder_optimization_level": 0})
    ledger = loop(start, Machine(rule), Tracer(rule), chooser=Chooser("throughput", builds=True))[0].run()
    options = [step.changes[-1].option for step in ledger.steps]
    of_build = [option in {"fp16", "builder_optimization_level"} for option in options]
    assert of_build == sorted(of_build)
    assert ledger.best.get("fp16") is True
    assert ledger.best.get("builder_optimization_level") in {0, 3, 5}
    valid(ledger)


def test_the_shapes_of_a_capture_stand_in_trtexecs_line() -> None:
    class Dynamic(Tracer):
        def trace(self, setting: Setting, number: int) -> Any:
            return replace(super().trace(setting, number), shapes={"x": (8, 3, 224, 224)})

    ledger = loop(Setting.of({"batch": 8}), tracer=Dynamic())[0].run()
    line = valid(ledger)["best"]["commands"]["trtexec"]
    assert line.startswith("trtexec --loadEngine=m.engine --shapes=x:8x3x224x224 ")
    assert "#" not in line
    assert line in "\n".join(tuned.text(ledger))
    assert line in check(tuned_html.render(ledger)).text


def test_the_page_shows_the_way() -> None:
    ledger = loop()[0].run()
    page = tuned_html.render(ledger)
    assert "<svg" in page
    assert "times as fast" in page
    for line in tuned.lines(ledger):
        assert line.title[1:] in page
    assert "trtexec --loadEngine=m.engine" in check(page).text
    nothing = tuned_html.render(Ledger(ledger.about, "throughput", BAD))
    assert "No figure: no step was measured." in nothing


def test_the_text_says_what_to_paste() -> None:
    text = "\n".join(tuned.text(loop()[0].run()))
    for words in (
        "m.engine: ",
        "2 of 2 promises held",
        "nsight-tools capture m.engine",
        "trtexec --loadEngine=m.engine",
        "cudaHostAlloc",
    ):
        assert words in text


def test_a_batch_is_counted_in_the_time_of_an_inference() -> None:
    start = Setting.of({"batch": 4})
    ledger = loop(start, Machine(lambda _: 100.0))[0].run()
    step = next(step for step in ledger.steps if step.throughput)
    assert step.throughput is not None
    assert step.throughput.before_ns == pytest.approx(400_000, rel=0.02)
    assert isinstance(ledger.first, Measurement)
    assert tuned.start_ns(ledger) == pytest.approx(100_000, rel=0.02)  # of an input, as its label says
    ledger.steps.clear()
    assert tuned.start_ns(ledger) == pytest.approx(100_000, rel=0.02)
