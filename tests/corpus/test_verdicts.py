"""A sceptic's reading: what an expert concludes from each corpus trace by hand, and that the tool says the same.

The comment above each case is what was read off the timeline, with SQL over the export; the case is what has to be
found, by code and with its worst severity. What is not listed has to be clear, or not to have run.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import nsight_analyses
import pytest
from shared_corpus import corpus_files

from nsight_tools.analysis import analyze, collect
from nsight_tools.findings import Severity
from nsight_tools.trace import open_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nsight_tools.findings import Finding

pytestmark = pytest.mark.corpus

CODES = "CAP001 FUS001 FUS002 FUS003 FUS004 FUS005 FUS006 PCI001 PCI002 PCI003 STR001 STR004 THR001".split()  # noqa: SIM905
"""The codes that were judged; the others say what they say. Add one with its verdict on every trace."""

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


@dataclass(frozen=True)
class Verdict:
    """What has to be found on a trace: the worst severity by code, and words of the message or cause by code."""

    found: Mapping[str, Severity]
    says: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


VERDICTS = {
    # 50 graph launches, no kernel row. Wall 471 µs: the graph 403, copies 20, launch and wait 45: nothing to gain but
    # the copies. Idle gaps cannot be judged, and that is the only thing to say.
    "h200/cls_graph_graph.sqlite.zst": Verdict({"CAP001": INFO}, {"CAP001": ("50 CUDA graphs were traced whole",)}),
    # The same as 102 node kernels a launch, 96 ns apart: 408 of 525 µs compute, the rest is the launch (67 µs, which
    # node tracing makes longer) and copies (20 µs). Neither idle nor enqueue-bound. No layer is known: by their names,
    # 8 % of the kernel time is FP32 convolutions on CUDA cores and 7 % reformats, which is no reason for alarm.
    "h200/cls_graph_node.sqlite.zst": Verdict({"FUS005": INFO, "FUS006": INFO}),
    # 150 of 200 inferences have copies (92 + 36 µs) and no kernel: three contexts of four do no work, 7 ms of host time
    # each. Rates over 200 are wrong. Of the 50 that ran, 1,341 µs each: compute 812, copies 129, the rest gaps that
    # tracing inflates. That is an error in the run before it is anything else.
    "h200/det_multi4.sqlite.zst": Verdict(
        {"STR004": ERROR, "FUS001": INFO, "FUS002": INFO, "FUS005": INFO, "PCI002": INFO},
        {"STR004": ("3 of 4 streams", "150 of 200 inferences"), "FUS002": ("1150 of 6500 kernels",)},
    ),
    # 1,779 of 4,009 µs compute; cuMemcpyHtoDAsync and cuMemcpyDtoHAsync hold the thread for 1.40 and 1.35 ms, 14 GB/s
    # where pinned memory reaches 53: pageable. Page-locked copies would take 370 + 126 µs. Reformats: 365 µs, 9 %.
    "h200/det_pageable_b4.sqlite.zst": Verdict(
        {"PCI001": WARNING, "FUS002": INFO, "FUS005": INFO},
        {"PCI001": ("100 of 100 asynchronous copies", "pageable"), "FUS002": ("1150 of 6500 kernels",)},
    ),
    # 350 kernels of 2 µs each, 167 of them reformats that change the datatype at every layer: 348 of 876 µs GPU work.
    # They are 167 launches of 3.7 µs too, and the host's 1,060 µs of launches and ranges are most of the wall: the gaps
    # (53 %) follow from the number of kernels, as does what was not fused (Add, Clip, Mul, Div around each hard swish,
    # with a reformat between): 137 µs. Mixed precision is the root.
    "h200/s_cls_mixed.sqlite.zst": Verdict(
        {"FUS001": INFO, "FUS002": WARNING, "FUS003": INFO},
        {
            "FUS003": ("84 reformats an inference stand within the rows",),
            "FUS002": ("8350 of 17500 kernels", "40 %", "167 reformat layers", "166 of them change the datatype"),
        },
    ),
    # All kernels of four contexts on the NULL stream 7, copies on four others, no overlap. But one thread needs 542 µs
    # to launch what takes 413: four streams of their own would wait for the same thread. Not the null stream.
    "h200/s_cls_multinull4.sqlite.zst": Verdict(
        {"FUS001": INFO, "FUS002": INFO, "FUS005": INFO, "STR001": INFO},
        {"STR001": ("the host is the limit, not the streams",), "FUS002": ("1800 of 20000 kernels",)},
    ),
    # The healthy classifier: 412 of 602 µs compute, 20 copies; 100 launches of 3.7 µs under the profiler, 0.398 ms for
    # all of them without: the gaps are the profiler's in part and cannot be told apart. A graph is advice, not alarm.
    # 8 small convolutions in FP32 on CUDA cores (47 µs) are TensorRT's own choice.
    "h200/s_cls_sync.sqlite.zst": Verdict(
        {"CAP001": INFO, "FUS001": INFO, "FUS002": INFO, "FUS005": INFO},
        {"CAP001": ("the profiler itself ran",), "FUS002": ("450 of 5000 kernels",)},
    ),
    # The healthy detector: 791 of 1,072 µs compute, gaps of 1 µs between dependent kernels, copies exposed for 92 + 32
    # µs because one stream does all: a second inference in flight would hide them. Clock 1,949 of 1,980 MHz: not
    # throttled. First layer (3 channels) and transposed convolutions on CUDA cores, 81 µs: a hint at most.
    "h200/s_det_cool.sqlite.zst": Verdict(
        {"FUS001": INFO, "FUS002": INFO, "FUS005": INFO, "PCI002": INFO},
        {"PCI002": ("host-to-device", "8.5 %"), "FUS002": ("8400 of 41100 kernels",)},
    ),
    # Wall 3,365 µs against 1,072, kernels 838 against 791: the clock (1,799 of 1,980 MHz, 664 W of 700) explains those
    # 6 % and no more. 289 gaps of some 2.4 ms with the SMs at 100 %: another process has the GPU. The throttling is
    # real, and its cause is not in the report.
    "h200/s_det_throttled.sqlite.zst": Verdict(
        {"FUS002": INFO, "FUS005": INFO, "THR001": INFO},
        {"THR001": ("median 1799 of 1980 MHz", "not recorded in this report"), "FUS002": ("8400 of 41100 kernels",)},
    ),
    # 188 enqueues of TensorRT in NVTX, 11.3 ms each on the host, and no CUDA table: nothing to say of the GPU.
    "public/centerformer_nvtx_only_2022.4.2.sqlite.zst": Verdict(
        {"CAP001": WARNING}, {"CAP001": ("the GPU was not traced",)}
    ),
    # One forward pass of a PyTorch model: 187 kernels in 1.1 ms spread over 44 ms, behind 492 ms in the first launch
    # (lazy loading) and weights copied 1.36 s earlier (317 pageable, 480 B median). Start-up, no steady state: no
    # alarm. The model is FP32 (volta_sgemm, scudnn: 32 %), on a TITAN RTX that has Tensor Cores for FP16 only.
    "public/conductor_2021.5_x2024.2.3.sqlite.zst": Verdict({"FUS005": INFO, "FUS006": INFO}),
    # 799 of 1,347 ms of kernels lie before the first of 121 enqueues (engine build). Then 71 pageable copies in each
    # direction (977 ms to the host) that the calls wait for, then 30 pinned ones in each direction, 326 ms to the host
    # against 165 ms of kernels: bound by copies to the host. Pageable memory first, then overlap.
    "public/cookbook_dtoh_bound_2021.3_x2022.4.2.sqlite.zst": (
        cookbook := Verdict(
            {"CAP001": INFO, "PCI001": WARNING, "PCI002": INFO},
            {"CAP001": ("59 % of the kernel time",), "PCI002": ("device-to-host", "63 % of the copies' own time")},
        )
    ),
    # The same trace in another schema: the same verdict.
    "public/cookbook_dtoh_bound_2021.3_x2024.2.3.sqlite.zst": cookbook,
    # 12 kernels, 8.5 of 15 ms; 48 cudaMemcpy, of which three copy 168 kB to the host for 0.3 ms: under
    # 2 % of that, and no reason to speak.
    "public/mordred_2021.2.1.sqlite.zst": Verdict({}),
    # Each GPU copies 25 GB of weights from pinned memory, 921 ms of 967, and computes for 22: nothing else matters,
    # not even that 87 % of those are FP32 products on CUDA cores (TF32 is off, as is PyTorch's default).
    # The fixture was trimmed: 2,276 pieces of work have no launch call, so nothing can be said of the host.
    "public/nsysai_h100_2gpu_1s_2026.2.1.sqlite.zst": Verdict(
        {"CAP001": INFO, "FUS005": INFO, "PCI002": WARNING},
        {"CAP001": ("2276 of 4368",), "FUS005": ("FP32",), "PCI002": ("host-to-device", "95 %")},
    ),
    # Training on two GPUs, busy for 251 and 237 of 299 ms, 872 device copies of 5 ms in all. 15 % of the kernel time
    # copies and casts tensors (direct_copy, bfloat16_copy, CatArrayBatchedCopy): worth knowing, none of TensorRT's.
    "public/nsysai_mfu_2gpu_after_2026.2.1.sqlite.zst": Verdict({"FUS006": INFO}, {"FUS006": ("15 %",)}),
    # The same before: 271 and 264 of 300 ms.
    "public/nsysai_mfu_2gpu_before_2026.2.1.sqlite.zst": Verdict({"FUS006": INFO}, {"FUS006": ("16 %",)}),
    # 530 launches, 4 enqueues, no kernel: WSL2 gave the profiler no GPU activity. The capture failed.
    "public/smile2game_cudagraph_2023.2_x2023.4.4.sqlite.zst": (
        smile := Verdict({"CAP001": ERROR}, {"CAP001": ("the GPU's side of the run is missing", "only 4 inferences")})
    ),
    "public/smile2game_cudagraph_2023.2_x2024.2.3.sqlite.zst": smile,
    # Four streams: 100 MB pinned copies at 13 GB/s, 61 ms up and 30 ms down of 102, 4.8 ms of kernels. Streams cannot
    # overlap copies in one direction: there is one link. Fewer bytes is the only remedy.
    "public/test_cuda_2026.1.1.sqlite.zst": Verdict(
        {"PCI002": WARNING, "STR001": INFO},
        {"PCI002": ("60 %", "30 %"), "STR001": ("copies in one direction share a copy engine and the link",)},
    ),
    # A single memset of 4.6 kB.
    "public/weatherbench2_2025.5.1.sqlite.zst": Verdict({"CAP001": WARNING}, {"CAP001": ("no kernel ran",)}),
}
ANALYSES = collect(
    import_module(f"nsight_analyses.{module.name}") for module in pkgutil.iter_modules(nsight_analyses.__path__)
)
FILES = corpus_files("h200", "public")
each_trace = pytest.mark.parametrize("name", FILES, ids=lambda name: name.split(".sqlite")[0])


@pytest.fixture(scope="module")
def judged(corpus_file: Callable[[str], Path]) -> Callable[[str], list[Finding]]:
    """Gives what the judged codes find on a corpus file."""

    @cache
    def judge(name: str) -> list[Finding]:
        outcomes = analyze(open_trace(corpus_file(name)), [ANALYSES[code] for code in CODES])
        return [finding for outcome in outcomes for finding in outcome.findings]

    return judge


@each_trace
def test_each_trace_has_a_verdict(name: str, corpus: Path) -> None:  # noqa: ARG001 (skips where there is no corpus)
    assert name in VERDICTS


@each_trace
def test_what_is_found(name: str, judged: Callable[[str], list[Finding]]) -> None:
    order = [INFO, WARNING, ERROR]
    worst: dict[str, Severity] = {}
    for finding in judged(name):
        worst[finding.code] = max(finding.severity, worst.get(finding.code, INFO), key=order.index)
    assert worst == VERDICTS[name].found


@each_trace
def test_why(name: str, judged: Callable[[str], list[Finding]]) -> None:
    def said(code: str) -> str:
        return "\n".join(f"{one.message}\n{one.cause}" for one in judged(name) if one.code == code)

    says = VERDICTS[name].says
    assert [(code, part) for code, parts in says.items() for part in parts if part not in said(code)] == []


@pytest.mark.parametrize("name", [name for name in FILES if "s_det_cool" in name or "s_cls_sync" in name] or FILES[:1])
def test_healthy_runs_give_no_alarm_by_any_rule(name: str, corpus_file: Callable[[str], Path]) -> None:
    outcomes = analyze(open_trace(corpus_file(name)), ANALYSES.values())
    assert [(f.code, f.message) for o in outcomes for f in o.findings if f.severity != INFO] == []
