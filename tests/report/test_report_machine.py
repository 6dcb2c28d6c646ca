from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator, ValidationError
from report import fakes

from nsight_tools import changes
from nsight_tools.accuracy import DEFAULT, MEASURES, Accuracy, Agreement, Limit, judged
from nsight_tools.analysis import Outcome, Status
from nsight_tools.findings import Change, Confidence, Evidence, Finding, Severity
from nsight_tools.measured import Energy, Measured, Memory, Output, Speed
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.json import trace as machine
from nsight_tools.run.requests import Population
from nsight_tools.summary import Summary
from nsight_tools.tables import BUCKETS, TABLES


def valid(report: TraceReport) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(machine.render([report]))
    Draft202012Validator(machine.schema()).validate(said)
    return said


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(machine.schema())


@pytest.mark.parametrize(
    "report", [fakes.report(), fakes.hostile(), fakes.hostile(fakes.LONG), TraceReport("x", Summary(""), [])]
)
def test_every_report_fits_the_schema(report: TraceReport) -> None:
    valid(report)


def test_the_document_is_the_agreed_one() -> None:
    said = valid(fakes.report())
    (trace,) = said["traces"]
    assert list(said) == ["schema", "tool", "traces"]
    assert said["schema"] == 2
    assert said["tool"]["name"] == "nsight-tools"
    assert list(trace) == [
        *("source", "nsys_version", "schema_version", "gpus", "duration_ns", "counts", "requests", "inference"),
        *("untraced_run", "measured", "layers_by_order", "layer_times", "limits", "headline", "plan", "hand_over"),
        "outcomes",
    ]
    assert [outcome["code"] for outcome in trace["outcomes"]] == [
        *("CAP001", "FUS002", "PCI001", "PCI003", "STR001", "THR001"),
    ]
    assert trace["outcomes"][2]["findings"][0]["evidence"][3] == {
        "metric": "slowest copy",
        "value": 1_398_400,
        "unit": "ns",
        "start_ns": 1_234_567_891,
        "end_ns": 1_235_966_291,
        "detail": "4.92 MB on stream 7",
    }
    assert trace["outcomes"][5]["reason"].startswith("GPU metrics were not collected")
    assert trace["outcomes"][3] == {
        "code": "PCI003", "status": "clear", "reason": None, "remedy": None, "findings": [],
    }  # fmt: skip


def test_the_accounting_is_given_as_traced_and_without_the_profiler() -> None:
    (trace,) = valid(fakes.report())["traces"]
    inference = trace["inference"]
    assert inference["wall"] == {
        "median_ns": 4_000_000,
        "p99_ns": 4_912_000,
        "untraced_ns": {"low": 3_800_000, "point": 3_850_000, "high": 3_900_000},
    }
    assert inference["buckets"]["launch"]["untraced_ns"] == {"low": 200_000, "point": 210_000, "high": 230_000}
    # What the GPU does is as it was traced.
    assert inference["buckets"]["compute"] == {
        "median_ns": 1_960_000,
        "p99_ns": 2_010_000,
        "untraced_ns": {"low": 1_960_000, "point": 1_960_000, "high": 1_960_000},
    }
    assert inference["untraced_source"] == "estimated from the trace"
    assert (inference["gpu_busy_share"], inference["hidden_copy_ns"], inference["queue_delay_ns"]) == (
        *(0.8075, 12_400, 184_000),
    )
    assert (inference["at_a_time"], inference["every_ns"], inference["without_work"]) == (1.0, 4_000_000, 0)
    assert trace["layers_by_order"]["attributed"] == {"layer pass": 13_563}


def test_what_an_inference_was_taken_to_be_is_told() -> None:
    (trace,) = valid(fakes.report(other_name="step *@train"))["traces"]
    assert trace["requests"] == {
        "count": 100,
        "source": "enqueue_range",
        "name": None,
        "other": "step *@train",
        "alike": 1.0,
        "enqueues": 1,
        "engines": 1,
        "populations": [
            {"number": 0, "count": 100, "steady": 100, "wall_ns": 4_000_000, "kernels": 137, "time_ns": 400_600_000}
        ],
    }
    times = replace(fakes.TIMES, of=98, warm_up=2, warm_up_ns=1_200_000)
    (trace,) = valid(fakes.report(inference_source="enqueue_range and graph_launch", times=times))["traces"]
    inference = trace["inference"]
    assert (inference["of"], inference["warm_up"], inference["warm_up_ns"]) == (98, 2, 1_200_000)
    assert trace["requests"]["source"] == "enqueue_range and graph_launch"
    (trace,) = valid(TraceReport("x", Summary(""), ()))["traces"]
    assert (trace["requests"]["source"], trace["requests"]["populations"]) == (None, [])


def test_without_inferences_or_calls_there_is_no_accounting() -> None:
    (trace,) = valid(TraceReport("x", Summary(""), ()))["traces"]
    assert (trace["inference"], trace["layers_by_order"]) == (None, None)
    times = replace(fakes.TIMES, untraced=None)
    (trace,) = valid(TraceReport("x", replace(fakes.SUMMARY, times=times), ()))["traces"]
    assert trace["inference"]["buckets"]["launch"]["untraced_ns"] is None


def test_what_was_measured_is_told() -> None:
    (trace,) = valid(fakes.report())["traces"]
    found = trace["measured"]
    assert found["speed"]["throughput_per_s"] == 1_728.07
    assert (found["memory"]["further_contexts"], found["energy"]["joules_per_inference"]) == (37, 0.21)
    assert (len(found["repeats"]), found["build_s"]) == (2, 43.2)
    assert found["spread"]["throughput_per_s"] == pytest.approx(28.07 / 1_714.035)
    assert found["spread"]["p50_ns"] == 0
    (trace,) = valid(TraceReport("x", Summary(""), ()))["traces"]
    assert trace["measured"] == {
        **dict.fromkeys(["speed", "overlapped", "memory", "energy", "host", "build_s", "spread", "accuracy"]),
        "repeats": [], "outputs": [],
    }  # fmt: skip
    outputs = (Output("y", "float16", 80, nan=2), Output("z", "float8_e4m3", 3, not_read="why"))
    y = np.arange(20.0).reshape(2, 10)
    accuracy = judged({"y": y}, {"y": y + 1}, "before")
    found = valid(fakes.report(measured=Measured(outputs=outputs, accuracy=accuracy)))["traces"][0]["measured"]
    assert [each["nan"] for each in found["outputs"]] == [2, 0]
    assert found["accuracy"]["failures"] == list(accuracy.failures)
    assert found["accuracy"]["outputs"][0]["lInf"] == 1
    short = fakes.report(measured=Measured(energy=Energy(problem="too short")))
    assert valid(short)["traces"][0]["measured"]["energy"]["joules"] is None


def test_the_schema_knows_what_is_measured() -> None:
    defined = machine.schema()["$defs"]
    for kind in (Speed, Memory, Energy, Output, Agreement, Limit):
        assert list(defined[kind.__name__.lower()]["properties"]) == [each.name for each in fields(kind)]
    assert list(defined["measured"]["properties"]) == [*(each.name for each in fields(Measured)), "spread"]
    written = Accuracy("before", (), DEFAULT).as_json()
    assert sorted(defined["accuracy"]["properties"]) == sorted(written)
    assert defined["limit"]["properties"]["measure"]["enum"] == list(MEASURES)


def test_outcomes_are_in_order_of_code() -> None:
    report = TraceReport("x", Summary(""), list(reversed(fakes.outcomes())))
    codes = [outcome["code"] for outcome in valid(report)["traces"][0]["outcomes"]]
    assert codes == sorted(codes)


def test_the_schema_knows_what_the_code_knows() -> None:
    defined = machine.schema()["$defs"]
    assert list(defined["finding"]["properties"]) == [
        field.name for field in fields(Finding) if field.name not in {"loss", "act"}
    ]
    assert list(defined["evidence"]["properties"]) == [field.name for field in fields(Evidence)]
    assert defined["finding"]["properties"]["severity"]["enum"] == [each.value for each in Severity]
    assert defined["finding"]["properties"]["confidence"]["enum"] == [each.value for each in Confidence]
    assert defined["outcome"]["properties"]["status"]["enum"] == [each.value for each in Status]
    assert list(defined["gpu"]["properties"]) == list(TABLES["gpus"].names)
    assert list(defined["population"]["properties"]) == [field.name for field in fields(Population)]
    assert list(defined["inference"]["properties"]["buckets"]["properties"]) == list(BUCKETS)
    for what in defined.values():
        assert list(what["properties"]) == what["required"]
        assert what["additionalProperties"] is False
    for column in TABLES["gpus"].columns:
        json_type = "string" if pa.types.is_string(column.type) else "integer"
        json_type = "number" if pa.types.is_floating(column.type) else json_type
        json_type = "boolean" if pa.types.is_boolean(column.type) else json_type
        assert defined["gpu"]["properties"][column.name]["type"] == (
            [json_type, "null"] if column.nullable else json_type
        )


def test_numbers_that_json_lacks_become_null_and_numpy_is_unboxed() -> None:
    evidence = (
        Evidence("nan", math.nan),
        Evidence("infinite", np.float64("inf")),
        Evidence("count", np.int64(7), start_ns=np.int64(5)),  # type: ignore[arg-type]
        Evidence("text", "卷"),
    )
    finding = fakes.finding(evidence=evidence, recoverable_ns=np.int64(3))
    said = valid(TraceReport("x", Summary(""), [Outcome("PCI001", "", Status.FINDINGS, "", (finding,))]))
    found = said["traces"][0]["outcomes"][0]["findings"][0]
    assert [each["value"] for each in found["evidence"]] == [None, None, 7, "卷"]
    assert found["recoverable_ns"] == 3
    assert found["evidence"][2]["start_ns"] == 5


def test_a_change_is_said_in_everybodys_words() -> None:
    ours = (Change("use_cuda_graph"), Change("pageable", value=False), Change("streams", 2))
    finding = fakes.finding(change=(*ours, Change("of_somebody_else")))
    said = valid(TraceReport("x", Summary(""), [Outcome("PCI001", "", Status.FINDINGS, "", (finding,))]))
    graph, pinned, streams, theirs = said["traces"][0]["outcomes"][0]["findings"][0]["change"]
    assert (graph["option"], graph["value"], graph["trtexec"]) == ("use_cuda_graph", True, "--useCudaGraph")
    assert graph["api"].startswith("cudaStreamBeginCapture around enqueueV3")
    assert (pinned["value"], pinned["trtexec"]) == (False, None)
    assert (streams["value"], streams["trtexec"]) == (2, "--infStreams=2")
    assert theirs == {"option": "of_somebody_else", "value": True, "trtexec": None, "api": None}
    options = [changes.said(each).option for each in ours]
    assert options == ["--use-cuda-graph", "without --pageable", "--streams 2"]


def test_hostile_names_survive_exactly_and_inert() -> None:
    text = machine.render([fakes.hostile(), fakes.hostile(fakes.LONG), fakes.hostile("\udc80")])
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)
    traces = json.loads(text)["traces"]
    assert traces[0]["outcomes"][0]["findings"][0]["message"] == fakes.HOSTILE
    assert traces[1]["outcomes"][0]["findings"][0]["message"] == fakes.LONG
    assert traces[2]["source"] == "\\udc80"


@pytest.mark.parametrize(
    "outcome",
    [
        {"code": "PCI001", "status": "findings", "reason": None, "findings": []},
        {"code": "PCI001", "status": "could_not_run", "reason": None, "findings": []},
        {"code": "PCI001", "status": "not_applicable", "reason": None, "findings": []},
        {"code": "PCI001", "status": "clear", "reason": "why", "findings": []},
        {"code": "pci1", "status": "clear", "reason": None, "findings": []},
        {"code": "PCI001", "status": "clear", "reason": None, "findings": [], "more": 1},
    ],
)
def test_the_schema_refuses_what_makes_no_sense(outcome: dict[str, Any]) -> None:
    said = machine.document([fakes.report()])
    said["traces"][0]["outcomes"] = [outcome]
    with pytest.raises(ValidationError):
        Draft202012Validator(machine.schema()).validate(said)
