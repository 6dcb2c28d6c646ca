"""How the driver ran a GPU, as a capture recorded it."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import table
from drawn_trace import drawn

from nsight_tools.run import Run
from nsight_tools.run.driver import DriverMode, mode_of

NOTHING = DriverMode()
WDDM, TCC = {"bus_id": "00000000:18:00.0", "driver_model": "WDDM"}, {"bus_id": "0000:3b:00.0", "driver_model": "TCC"}


@pytest.mark.parametrize(
    ("state", "mode"),
    [
        pytest.param({"gpus": [TCC, WDDM]}, DriverMode("WDDM"), id="by its place on the bus, however it is written"),
        pytest.param({"gpus": [TCC]}, NOTHING, id="another GPU's"),
        pytest.param({"gpus": [{"driver_model": "WDDM"}]}, NOTHING, id="one whose place is not known"),
        pytest.param({"gpus": [WDDM | {"mps_processes": 2}]}, DriverMode("WDDM"), id="MPS does not run"),
        pytest.param(
            {"gpus": [WDDM | {"mps_processes": 2}], "mps": {"running": True}}, DriverMode("WDDM", 2), id="it does"
        ),
        pytest.param({"gpus": [WDDM], "mps": {"running": True}}, DriverMode("WDDM"), id="for nobody knows how many"),
        pytest.param({"reason": "no NVML"}, NOTHING, id="without NVML"),
        pytest.param({"gpus": ["broken"], "mps": "broken"}, NOTHING, id="what no capture writes"),
        pytest.param(None, NOTHING, id="nothing"),
    ],
)
def test_what_is_recorded_of_a_gpu(state: Any, mode: DriverMode) -> None:
    gpus = table("gpus", [{"device": 0, "bus_id": "0000:18:00.0"}])
    trace = drawn("thread 1: L\nstream 7: .#", tables={"gpus": gpus})
    trace.manifest["run"] = {"machine": {"before": state}}
    assert mode_of(Run.of(trace), 0) == mode


@pytest.mark.parametrize(("recorded", "mode"), [([WDDM], DriverMode("WDDM")), ([WDDM, TCC], NOTHING)])
def test_a_report_that_does_not_say_where_its_only_gpu_is(recorded: list[Any], mode: DriverMode) -> None:
    trace = drawn("thread 1: L\nstream 7: .#")
    trace.manifest["run"] = {"machine": {"before": {"gpus": recorded}}}
    assert mode_of(Run.of(trace), 0) == mode


def test_of_a_report_alone_nothing_is_known() -> None:
    trace = drawn("thread 1: L\nstream 7: .#")
    assert mode_of(Run.of(trace), 0) == NOTHING
