"""Traces that never ran: what the reporters and the command line need of one, and texts that mean harm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nsight_tools.analysis import Outcome, Status
from nsight_tools.findings import Confidence, Evidence, Finding, Severity
from nsight_tools.measured import Energy, Host, Measured, Memory, Speed
from nsight_tools.report.content import TraceReport
from nsight_tools.run.requests import Population
from nsight_tools.summary import Summary, TimeOfKind, Times, Untraced, UntracedRun
from nsight_tools.worth.ranges import Range

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07 [red]markup[/red] [link=file:///etc/passwd]x[/link] :boom: "
    "<script>alert(1)</script> a|b `code` **bold** @octocat #12 $x$ https://example.com www.example.com "
    "nul\0 cr\r lf\n tab\t rtl\u202egnp.exe\u2066 c1\x9b31m zero\u200bwidth line\u2028end bell\x07"
)
LONG = "cask::" + "implicit_gemm<" * 700 + "END"

TIMES = Times(
    of=100,
    median={
        "compute": 1_960_000,
        "exposed_communication": 0,
        "exposed_h2d": 1_190_000,
        "exposed_d2h": 80_000,
        "exposed_other_copy": 0,
        "accelerator": 0,
        "other_work": 0,
        "launch": 410_000,
        "sync": 120_400,
        "host": 239_000,
        "unattributed": 600,
    },
    p99={"compute": 2_010_000, "exposed_h2d": 1_400_000, "exposed_d2h": 91_000, "launch": 600_000},
    wall_median_ns=4_000_000,
    wall_p99_ns=4_912_000,
    at_a_time=1.0,
    every_ns=4_000_000,
    without_work=0,
    warm_up=0,
    warm_up_ns=0,
    gpu_busy_share=0.8075,
    hidden_copy_ns=12_400,
    queue_delay_ns=184_000,
    untraced=Untraced(
        source="estimated from the trace",
        launch=Range(200_000, 210_000, 230_000),
        sync=Range(120_400, 120_400, 120_400),
        host=Range(220_000, 225_000, 230_000),
        wall_ns=Range(3_800_000, 3_850_000, 3_900_000),
    ),
)

SPEED = Speed(5_185, 1_728.07, 516_597, 741_907, 844_026, 1_099_578)
MEASURED = Measured(
    speed=SPEED,
    overlapped=replace(SPEED, throughput_per_s=2_405.56),
    repeats=(SPEED, replace(SPEED, throughput_per_s=1_700.0)),
    memory=Memory(
        1_080_000_000, 1_210_000_000, 3_061_028, 96_000_000, 80_000_000, 210_000_000, 4_000_000, 214_000_000, 37
    ),
    energy=Energy(0.21, 3_120.0, "counter", 3_080.0, 12.0, 1),
    host=Host(16, 0.5),
    build_s=43.2,
)

SUMMARY = Summary(
    source="detector_b4.nsys-rep",
    nsys_version="2025.3.1.90",
    schema_version="3.20.3",
    driver="570.86.15",
    cuda="12.8",
    gpus=(
        {
            "device": 0,
            "name": "NVIDIA H200",
            "sm_count": 132,
            "memory_bytes": 150_123_642_880,
            "max_sm_clock_mhz": 1980.0,
        },
    ),
    duration_ns=1_842_113_007,
    window_ns=1_842_000_000,
    counts={"kernels": 13_700, "memory_ops": 400, "api_calls": 29_301},
    inferences=100,
    inference_source="enqueue_range",
    enqueues=1,
    engines=1,
    populations=(Population(0, 100, 100, 4_000_000, 137, 400_600_000),),
    streams=2,
    processes=1,
    time=(
        TimeOfKind("kernels", 13_700, 402_113_000, 0.2183),
        TimeOfKind("h2d", 200, 121_400_000, 0.0659),
        TimeOfKind("d2h", 200, 8_120_000, 0.0044),
        TimeOfKind("idle", None, 1_310_479_000, 0.7114),
    ),
    times=TIMES,
    layers_by_order={"kernels": 13_700, "attributed": {"layer pass": 13_563}, "in_common": 0.99},
    untraced_run=UntracedRun("runner", 5_185),
    measured=MEASURED,
    missing={"gpu_metrics": "not collected"},
)


def finding(**changes: object) -> Finding:
    values: dict[str, Any] = {
        "code": "PCI001",
        "severity": Severity.WARNING,
        "confidence": Confidence.HIGH,
        "message": "200 of 200 asynchronous copies to the GPU read pageable host memory",
        "cause": "cudaMemcpyAsync from pageable memory is staged through a pinned buffer of the driver: the calling "
        "thread waits for it, and the copy runs at 5.1 GB/s where pinned copies of this size reach 55 GB/s.",
        "recommendation": "Allocate input buffers with cudaHostAlloc (PyCUDA: pagelocked_empty) and fill them in "
        "place. TensorRT Best Practices, 'Data transfers'.",
        "recoverable_ns": 120_000_000,
        "recoverable_ns_per_inference": 1_200_000,
        "bound": "the exposed part of the pageable copies, less what pinned copies would take at 55.5 GB/s",
        "evidence": (
            Evidence("pageable copies", 200, "count"),
            Evidence("bytes in them", 983_040_000, "bytes"),
            Evidence("achieved bandwidth", 5.1e9, "B/s"),
            Evidence("slowest copy", 1_398_400, "ns", 1_234_567_891, 1_235_966_291, "4.92 MB on stream 7"),
            Evidence("exposed", 0.981, "ratio", 12_000_345, 1_810_000_000),
        ),
    }
    return Finding(**(values | changes))


def outcomes() -> list[Outcome]:
    """One of each kind, in the order of codes that `analyze` gives."""
    reformat = finding(
        code="FUS002",
        severity=Severity.INFO,
        confidence=Confidence.MEDIUM,
        message="reformat layers take 6.1 % of the kernels' time",
        cause="14 of 137 layers convert between FP16 and FP32 or between layouts",
        recommendation="Let neighbouring layers use one precision and format: see the layers below.",
        recoverable_ns=24_000_000,
        recoverable_ns_per_inference=240_000,
        bound="",
        evidence=(Evidence("Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1", 41_200, "ns", 88_123_456),),
    )
    build = finding(
        code="CAP001",
        severity=Severity.ERROR,
        message="the engine was built inside the capture: 61 % of the kernels are the builder's",
        cause="trtexec ran with --onnx and without --loadEngine",
        recommendation="Build first (trtexec --onnx=… --saveEngine=…), then capture with --loadEngine.",
        recoverable_ns=None,
        recoverable_ns_per_inference=None,
        bound="",
        evidence=(),
    )
    return [
        Outcome("CAP001", "The capture is not fit to conclude from", Status.FINDINGS, "", (build,)),
        Outcome("FUS002", "Reformat layers take time", Status.FINDINGS, "", (reformat,), picture="layers"),
        Outcome("PCI001", "Pageable asynchronous copies", Status.FINDINGS, "", (finding(),), picture="transfers"),
        Outcome("PCI003", "Blocking copies", Status.CLEAR),
        Outcome("STR001", "Streams do not overlap", Status.CLEAR),
        Outcome(
            "THR001",
            "The GPU clock drops while it is busy",
            Status.COULD_NOT_RUN,
            "GPU metrics were not collected; capture with --gpu-metrics-devices=0",
            remedy="capture with --gpu-metrics-devices=0",
        ),
    ]


def report(name: str = "traces/detector_b4.nsys-rep", **changes: Any) -> TraceReport:
    return TraceReport(name, replace(SUMMARY, **changes), outcomes())


def hostile(text: str = HOSTILE) -> TraceReport:
    """`text` in every place that takes text from a trace."""
    evil = finding(
        message=text,
        cause=text,
        recommendation=text,
        bound=text,
        evidence=(Evidence(text, text, text, 0, 10, text), Evidence(text, float("nan"), "ns")),
    )
    all_of_them = [
        Outcome("PCI001", text, Status.FINDINGS, "", (evil, evil)),
        Outcome("PCI002", text, Status.COULD_NOT_RUN, text),
        Outcome("PCI003", text, Status.CLEAR),
    ]
    words = dict.fromkeys(("source", "nsys_version", "driver", "cuda", "inference_name", "other_name"), text)
    summary = replace(SUMMARY, gpus=({"device": 0, "name": text},), time=(TimeOfKind(text, 1, 1, 0.5),), **words)
    return TraceReport(text, summary, all_of_them)


def unjudged() -> TraceReport:
    """Six that could not be judged: three for one reason, two for two with one remedy, one without a remedy."""
    longer, more = "capture longer", "capture with --x=1"
    outcomes = [
        Outcome("AAA003", "GPUs idle: a lot", Status.COULD_NOT_RUN, f"3 samples: too few; {longer}", remedy=longer),
        Outcome("AAA004", "Copies wait", Status.COULD_NOT_RUN, f"4 samples; {longer}", remedy=longer),
        Outcome("BBB001", "Clocks drop", Status.COULD_NOT_RUN, "no clock"),
        *(
            Outcome(f"AAA00{n}", "Looks", Status.COULD_NOT_RUN, f"no GPU; {more}", topic=f"t{n}", remedy=more)
            for n in range(3)
        ),
    ]
    return TraceReport("x", Summary("x"), outcomes)
