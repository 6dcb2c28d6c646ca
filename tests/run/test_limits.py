"""Shares of the hardware that kernels take, told from longer samples: drawn, so that they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from drawn_samples import Kernel, Sampler, sampled
from hypothesis import given
from hypothesis import strategies as st

from nsight_tools import layer_limits
from nsight_tools.importer.dialects import meaning
from nsight_tools.run import Run
from nsight_tools.run.limits import notes, of_layers, of_regions, whole, why_no_limits
from nsight_tools.run.limits.bounded import solve
from nsight_tools.run.limits.measured import Measured
from nsight_tools.run.limits.table import FILE
from nsight_tools.run.limits.whole import expected
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

US = 1000
SIX = [
    Kernel("conv", 14, {"sms_active": 95, "sm_issue": 40, "tensor_active": 30, "dram_read": 10}, "layer a"),
    Kernel("pool", 9, {"sms_active": 12, "sm_issue": 3, "tensor_active": 0, "dram_read": 4}, "layer b"),
    Kernel("gemm", 22, {"sms_active": 80, "sm_issue": 20, "tensor_active": 72, "dram_read": 25}, "layer c"),
    Kernel("copy", 6, {"sms_active": 99, "sm_issue": 15, "tensor_active": 0, "dram_read": 90}, "layer d"),
    Kernel("gemm", 11, {"sms_active": 45, "sm_issue": 10, "tensor_active": 20, "dram_read": 5}, "layer e"),
    Kernel("exp", 8, {"sms_active": 90, "sm_issue": 70, "tensor_active": 0, "dram_read": 30}, "layer f"),
]
METRICS = ("sms_active", "sm_issue", "tensor_active", "dram_read")


def shares(trace: Trace, metric: str, of: str = "kernel") -> pd.DataFrame:
    frame = layer_limits(trace).to_pandas()
    return frame[(frame["of"] == of) & (frame["metric"] == metric)].reset_index(drop=True)


def off(trace: Trace, kernels: list[Kernel], metric: str) -> float:
    """By how many points the shares differ from the drawn ones at most."""
    found = shares(trace, metric).astype({"kernel": str}).sort_values(["kernel", "position"])
    known = [kernel.percent[metric] for kernel in sorted(kernels, key=lambda kernel: kernel.name)]
    return float(np.abs(100 * found["share"].to_numpy() - known).max())


@pytest.mark.parametrize("period", [50, 100, 200])
def test_a_mixture_of_known_shares_is_told_apart(period: int) -> None:
    trace = sampled(SIX, Sampler(period * US), requests=600)
    holds = []
    for metric in METRICS:
        assert off(trace, SIX, metric) < 6
        found = shares(trace, metric)
        known = np.array([kernel.percent[metric] for kernel in SIX]) / 100
        holds += ((found["low"] <= known + 1e-9) & (known <= found["high"] + 1e-9)).tolist()
    assert np.mean(holds) >= 0.85
    assert list(shares(trace, "sms_active")["kernel"]) == [kernel.name for kernel in SIX]
    assert notes(trace) == []


@pytest.mark.parametrize("lag", [-100, -37, 30, 150])
def test_the_lag_of_the_samples_is_found(lag: int) -> None:
    trace = sampled(SIX, Sampler(lag=lag * US))
    timing = Measured.of(Run.of(trace), 0).fit.timing
    assert timing.begins == pytest.approx(-lag * US, abs=500)
    assert timing.ends == pytest.approx(-lag * US, abs=500)
    assert off(trace, SIX, "sms_active") < 5


def test_activity_that_begins_and_ends_within_a_kernel_counts_over_all_of_its_time() -> None:
    trace = sampled(SIX, Sampler(late=400, early=1000), requests=600)
    timing = Measured.of(Run.of(trace), 0).fit.timing
    assert timing.begins == pytest.approx(400, abs=300)
    assert timing.ends == pytest.approx(-1000, abs=300)
    known = [kernel.percent["sms_active"] * (kernel.us - 1.4) / kernel.us for kernel in SIX]
    assert np.abs(100 * shares(trace, "sms_active")["share"].to_numpy() - known).max() < 4


def test_tensor_cores_begin_and_end_within_their_kernels() -> None:
    """By 1.5 us on either side: else their neighbours have some of what they do."""
    kernels = [
        Kernel("load", 9, {"sms_active": 90, "tensor_active": 0}),
        Kernel("gemm", 10, {"sms_active": 80, "tensor_active": 80}),
        Kernel("store", 7, {"sms_active": 70, "tensor_active": 0}),
        Kernel("conv", 12, {"sms_active": 60, "tensor_active": 40}),
    ]
    found = shares(sampled(kernels, Sampler(inner=1500), requests=600), "tensor_active")["share"].to_numpy()
    known = [kernel.percent["tensor_active"] * (kernel.us - 3) / kernel.us for kernel in kernels]
    assert np.abs(100 * found - known).max() < 2.5


def test_what_is_shown_as_one_percent_may_be_next_to_nothing() -> None:
    """All above 0 is shown as 1, and a kernel that fills a tenth of a sample would have ten times that."""
    kernels = [Kernel(f"kernel {at}", 10, {"sms_active": 50, "tensor_active": 0.2}) for at in range(8)]
    kernels.append(Kernel("gemm", 20, {"sms_active": 90, "tensor_active": 40}))
    found = shares(sampled(kernels, Sampler(50 * US), requests=300), "tensor_active")
    assert 100 * found["share"].to_numpy()[-1] == pytest.approx(40, abs=2)
    assert np.median(found["share"][:-1]) < 0.01
    assert (found["low"][:-1] <= 0.002).mean() >= 0.85  # of intervals that hold nine times in ten


@given(shown=st.integers(0, 100), about=st.floats(-5, 105), spread=st.sampled_from([0.05, 0.3, 1.0, 5.0, 100.0]))
def test_what_a_rounded_sample_was_lies_where_it_may(shown: int, about: float, spread: float) -> None:
    """Mean and variance beside sums over all that would be shown so."""
    low, high = (0.0, 1.5) if shown == 1 else (shown - 0.5, shown + 0.5) if shown else (0.0, 0.0)
    value, variance = expected(np.array([[float(shown)]]), np.array([[about]]), np.array([spread**2]), np.array([True]))
    assert low <= value[0, 0] <= high
    at = np.linspace(low, high, 4001)
    weight = np.exp(-((at - about) ** 2) / (2 * spread**2))
    if shown and weight.sum() > 1e-3 and low - 3 * spread < about < high + 3 * spread:
        mean = np.average(at, weights=weight)
        assert value[0, 0] == pytest.approx(mean, abs=0.02)
        assert variance[0, 0] == pytest.approx(np.average((at - mean) ** 2, weights=weight), abs=0.02)


def test_a_kernel_whose_last_blocks_are_few_costs_its_neighbours_nothing() -> None:
    """It is at its peak in the first half of its time, and idle in the second: half of the peak, and not next to it."""
    kernels = [
        Kernel("before", 12, {"sms_active": 60}),
        Kernel("waves", 25, {"sms_active": 96}, waves=0.5),
        Kernel("after", 12, {"sms_active": 60}),
        Kernel("last", 20, {"sms_active": 30}),
    ]
    found = shares(sampled(kernels, requests=600), "sms_active")
    known = [kernel.percent["sms_active"] * kernel.waves / 100 for kernel in kernels]
    assert np.abs(found["share"].to_numpy() - known).max() < 0.04
    assert (found["low"] <= known).all()
    assert (known <= found["high"]).all()


def test_a_short_kernel_takes_no_long_one_with_it() -> None:
    """What of the two is not known is the short one's share."""
    kernels = [
        Kernel("long", 40, {"sms_active": 90}),
        Kernel("short", 0.4, {"sms_active": 10}),
        Kernel("idle", 60, {"sms_active": 20}),
    ]
    found = shares(sampled(kernels, requests=300), "sms_active").set_index("kernel")
    assert found["together"].isna().all()
    assert found["share"]["long"] == pytest.approx(0.9, abs=0.02)
    assert found["high"]["short"] - found["low"]["short"] > 0.3


def test_a_layer_is_the_mean_of_its_kernels_by_their_time() -> None:
    two = [Kernel("one", 10, {"sms_active": 90}, "layer a"), Kernel("other", 30, {"sms_active": 10}, "layer a")]
    trace = sampled([*two, Kernel("last", 20, {"sms_active": 50}, "layer b")])
    found = shares(trace, "sms_active", "layer")
    assert list(found["layer"]) == ["layer a", "layer b"]
    assert found["share"][0] == pytest.approx(0.3, abs=0.02)
    assert found["share"][1] == pytest.approx(0.5, abs=0.02)
    assert list(found["kernels"]) == [2, 1]
    assert found["low"][0] <= 0.3 <= found["high"][0]


def test_the_kernels_of_a_region_stand_in_its_place() -> None:
    """Two of them are one kernel, and of one limit; what else runs stays as it is."""
    region = "{ForeignNode[first...last]}"
    full, few = {"sms_active": 96, "sm_issue": 20, "tensor_active": 80}, {"sms_active": 20, "sm_issue": 4}
    kernels = [
        Kernel("gemm", 20, full, region),
        Kernel("norm", 9, few, region),
        Kernel("gemm", 20, full, region),
        Kernel("conv", 30, few, "layer"),
    ]
    trace = sampled(kernels, requests=400)
    assert [layer.name for layer in of_layers(trace)] == [region, "layer"]
    found = of_regions(trace)
    assert [(layer.name, layer.kernels, layer.limit) for layer in found] == [
        ("gemm", 2, "tensor"),
        ("layer", 1, "occupancy"),
        ("norm", 1, "occupancy"),
    ]
    assert sum(layer.time_ns for layer in found) == sum(layer.time_ns for layer in of_layers(trace))
    assert found[0].parts["tensor_active"].share == pytest.approx(0.8, abs=0.03)


def test_short_neighbours_are_told_as_one() -> None:
    """Of 0.3 us each, beside samples of 1 ms: only their mean is known."""
    short = [Kernel(f"short {at}", 0.3, {"sms_active": 20.0 + 60 * (at % 2)}) for at in range(6)]
    long = [Kernel("long", 40, {"sms_active": 70}), Kernel("idle", 40, {"sms_active": 5})]
    trace = sampled([*long, *short], Sampler(1000 * US), requests=1500)
    found = shares(trace, "sms_active")
    assert found["together"].notna().sum() >= 6
    assert found["share"][0] == pytest.approx(0.7, abs=0.05)
    (note,) = [each for each in notes(trace) if "too short beside a sample" in each]
    assert "of 8 kernels" in note


def test_another_process_is_no_limit_of_ours() -> None:
    trace = sampled(SIX, Sampler(idle=60))
    assert layer_limits(trace).num_rows == 0
    assert (why_no_limits(trace) or "").startswith("another process works on the GPU: ")


def test_too_few_samples() -> None:
    trace = sampled(SIX, requests=12)
    assert layer_limits(trace).num_rows == 0
    assert "samples of GPU metrics lie in the inferences, and it takes 20 at least" in (why_no_limits(trace) or "")


def test_samples_that_tell_too_little() -> None:
    many = [Kernel(f"kernel {at}", 0.5, {"sms_active": 10.0 + 80 * (at % 3 == 0)}) for at in range(60)]
    trace = sampled(many, Sampler(2000 * US), requests=700)
    assert layer_limits(trace).num_rows == 0
    assert "too few for 60 kernels" in (why_no_limits(trace) or "")


def test_overlapping_streams_are_told_where_the_mixture_is() -> None:
    """The second of each pair runs beside the first, for another time."""
    kernels = [
        Kernel("a", 30, {"sms_active": 40}),
        Kernel("b", 12, {"sms_active": 30}, stream=8, beside=True),
        Kernel("c", 15, {"sms_active": 90}),
    ]
    trace = sampled(kernels, requests=600)
    assert off(trace, kernels, "sms_active") < 6
    assert any(note.startswith("kernels overlap for 21 % of their time") for note in notes(trace))


def test_what_always_runs_together_is_told_less_exactly() -> None:
    kernels = [
        Kernel("a", 30, {"sms_active": 60}),
        Kernel("b", 30, {"sms_active": 20}, stream=8, beside=True),
        Kernel("c", 15, {"sms_active": 90}),
    ]
    found = shares(sampled(kernels, requests=600), "sms_active").set_index("kernel")
    wide = found["high"] - found["low"]
    assert wide["a"] > 2 * wide["c"]
    for kernel in kernels:
        assert found["low"][kernel.name] <= kernel.percent["sms_active"] / 100 <= found["high"][kernel.name]


def test_a_kernel_that_is_launched_early_computes_nothing_of_what_the_one_before_does() -> None:
    """It starts 3 us before the one before it on its stream has ended, and keeps SMs until it may begin."""
    kernels = [
        Kernel("gemm", 12, {"sms_active": 80, "sm_issue": 30, "tensor_active": 60}),
        Kernel("norm", 6, {"sms_active": 70, "sm_issue": 24, "tensor_active": 0}, early=3),
        Kernel("gemm", 15, {"sms_active": 60, "sm_issue": 15, "tensor_active": 40}),
        Kernel("norm", 7, {"sms_active": 75, "sm_issue": 28, "tensor_active": 0}),
    ]
    trace = sampled(kernels, Sampler(20 * US))
    tensor, issue = (100 * shares(trace, word)["share"].to_numpy() for word in ("tensor_active", "sm_issue"))
    assert np.abs(tensor - [60, 0, 40, 0]).max() < 2
    assert np.abs(issue - [30, 24 * 3 / 6, 15, 28]).max() < 2
    active = shares(trace, "sms_active")
    wide = (active["high"] - active["low"]).to_numpy()
    assert wide[1] > 2 * wide[3]  # whose the SMs are that both keep, no sample tells


def test_of_many_samples_the_first_passes_take_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "READ", 4_000)
    trace = sampled(SIX, Sampler(50 * US))
    for metric in METRICS:
        assert off(trace, SIX, metric) < 6


def test_the_parts_of_a_kernel_have_its_level_in_common() -> None:
    """Beside the covariance of what is drawn so: a level for each kernel, and what each of its parts differs by."""
    parts, share = np.array([3, 1]), np.array([[30.0], [30.0], [30.0], [10.0], [0.0]])
    one = np.ones(1)
    told = whole.Solved(share, one, 200 * one, 0.25 * one, one, one > 0, parts)
    within = 0.25 * np.array([30, 30, 30, 10]) ** 2
    known = np.linalg.inv(told.beforehand(0))
    assert known[:3, :3] == pytest.approx(200 + np.diag(within[:3]))
    assert known[3, 3] == pytest.approx(200 + within[3])
    assert known[:3, 3] == pytest.approx(0)


def test_samples_at_another_clock_are_left_out() -> None:
    trace = sampled(SIX, Sampler(clock=(1980.0, 1980.0, 1400.0)), requests=600)
    assert off(trace, SIX, "sms_active") < 5
    (note,) = notes(trace)
    assert note == "the clock changes: only the 67 % of the samples near 1,980 MHz count"


def test_a_trace_without_metrics_says_so() -> None:
    trace = sampled([Kernel("a", 10)])
    empty = Trace.from_tables(
        {name: trace.table(name) for name in ("kernels", "launches", "inferences", "gpus")},
        missing={"gpu_metrics": "capture with --gpu-metrics"},
    )
    assert layer_limits(empty).num_rows == 0
    assert why_no_limits(empty) == "capture with --gpu-metrics"


def test_the_table_is_kept_with_its_dataset(tmp_path: Path) -> None:
    trace = sampled(SIX, requests=200)
    folder = tmp_path / "run.trace"
    folder.mkdir()
    kept = Trace(folder, trace.manifest)
    kept._given = trace._given
    made = layer_limits(kept)
    assert made.num_rows > 0
    assert (folder / FILE).is_file()
    again = Trace(folder, trace.manifest)  # which has no tables to make it of
    assert layer_limits(again).equals(made)
    (folder / FILE).write_bytes(b"PAR1 and no more")
    mended = Trace(folder, trace.manifest)
    mended._given = trace._given
    assert layer_limits(mended).equals(made)
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_dataset_that_cannot_be_written_to_has_its_limits_all_the_same(tmp_path: Path) -> None:
    trace = sampled(SIX, requests=200)
    kept = Trace(tmp_path / "missing" / "run.trace", trace.manifest)
    kept._given = trace._given
    assert layer_limits(kept).num_rows > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kernel", "limit"),
    [
        (Kernel("copy", 40, {"sms_active": 95, "sm_issue": 10, "dram_read": 50, "dram_write": 40}), "memory"),
        (Kernel("gemm", 40, {"sms_active": 99, "sm_issue": 20, "tensor_active": 80}), "tensor"),
        (Kernel("gelu", 40, {"sms_active": 99, "sm_issue": 75, "tensor_active": 1}), "issue"),
        (Kernel("pool", 40, {"sms_active": 9, "sm_issue": 2, "tensor_active": 0}), "occupancy"),
        (Kernel("gather", 40, {"sms_active": 95, "sm_issue": 12, "dram_read": 20}), "latency"),
        (Kernel("tiny", 3, {"sms_active": 20, "sm_issue": 4, "dram_read": 3}), "latency"),
    ],
    ids=lambda each: each.name if isinstance(each, Kernel) else each,
)
def test_each_kind_of_limit_is_named(kernel: Kernel, limit: str) -> None:
    other = Kernel("other", 20, dict.fromkeys(kernel.percent, 30.0))
    found = {each.name: each for each in of_layers(sampled([kernel, other], requests=500))}
    assert found[kernel.name].limit == limit
    assert found[kernel.name].because


def test_bytes_are_the_share_of_the_bandwidth() -> None:
    """90 % of 4 TB/s for 40 us are 144 MB."""
    kernels = [Kernel("copy", 40, {"sms_active": 95, "dram_read": 50, "dram_write": 40}, "layer a")]
    kernels += [Kernel("rest", 25, {"sms_active": 20, "dram_read": 1, "dram_write": 1}, "layer b")]
    copy, rest = of_layers(sampled(kernels, requests=500))
    assert copy.dram_bytes is not None
    assert rest.dram_bytes is not None
    assert copy.dram_bytes[1] == pytest.approx(144e6, rel=0.05)
    assert copy.dram_bytes[0] < copy.dram_bytes[1] < copy.dram_bytes[2]
    assert copy.moved_more is None  # what it needs is not known


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("SMs Active [Throughput %]", "sms_active"),
        ("SM Active", "sms_active"),
        ("SM Issue [Throughput %]", "sm_issue"),
        ("Tensor Active / FP16 Active [Throughput %]", "tensor_active"),
        ("Compute Warps in Flight [Throughput %]", "warps"),
        ("Compute Warps in Flight [Avg]", None),
        ("Compute Warps in Flight [Avg Warps per Cycle]", None),
        ("VRAM Read Bandwidth [Throughput %]", "dram_read"),
        ("DRAM Write Throughput", "dram_write"),
        ("PCIe RX Throughput [Throughput %]", None),
    ],
)
def test_names_of_metrics(name: str, means: str | None) -> None:
    assert meaning(name) == means


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_bounded_least_squares_leaves_no_slope_that_could_be_followed(unknowns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    a = random.random((3 * unknowns, unknowns))
    normal, right = a.T @ a, a.T @ (120 * random.random(3 * unknowns) * random.choice([-1, 1], 3 * unknowns))
    x = solve(normal, right, np.full(unknowns, 100.0)).x
    slope = normal @ x - right
    near = 1e-6 * np.abs(right).max()
    assert ((x >= 0) & (x <= 100)).all()
    assert (np.abs(slope[(x > 0) & (x < 100)]) < near).all()
    assert (slope[x == 0] > -near).all()
    assert (slope[x == 100] < near).all()


def test_a_kept_table_of_a_real_dataset(tmp_path: Path) -> None:
    """Of a report without metrics nothing is kept, and the reason is the importer's."""
    from pathlib import Path as Here

    source = Here(__file__).parents[2] / "sample_traces" / "classifier_sync.sqlite"
    copy = tmp_path / source.name
    copy.write_bytes(source.read_bytes())
    trace = open_trace(copy)
    assert (why_no_limits(trace) or "").startswith("capture with --gpu-metrics-devices")
    assert not (trace.path / FILE).exists()
