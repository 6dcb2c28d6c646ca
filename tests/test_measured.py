"""What a capture measured without the profiler, against what its samples were made by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawing import table

from nsight_tools.measured import Energy, Host, Measured, Memory, Speed, measured
from nsight_tools.report import measurements
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

S = 1_000_000_000
UTC = 1_795_392_000 * S
"""When the session here started, by the system's clock."""
BUS = "0000:18:00.0"


def rows(run: str, *walls: int, every: int = 2_000_000, by: str = "runner") -> list[dict[str, Any]]:
    """Inferences of these walls, one started `every` so many nanoseconds."""
    shape = {"run": run, "measured_by": by, "thread": 0, "stream": 0}
    return [shape | {"inference": at, "start_ns": at * every, "wall_ns": wall} for at, wall in enumerate(walls)]


def samples(seconds: float, hz: float = 50, start: float = -1, **columns: Callable[[float], float | None]) -> Any:
    """Rows of telemetry from `start` on, each column a function of the time in seconds."""
    times = [start + at / hz for at in range(round((seconds - start + 1) * hz))]
    found = []
    for time in times:
        values = {name: of(time) for name, of in columns.items()}
        known = {name: None if value is None else round(value) for name, value in values.items()}
        found.append({"time_ns": round(time * S), "device": 0, "bus_id": "0000:18:00.0"} | known)
    return found


def run(seconds: float = 12.0, inferences: int = 6_000, **more: Any) -> dict[str, Any]:
    """What the manifest says of a capture whose benchmark began with the session."""
    clock = [{"utc_ns": UTC, "mark": "start"}, {"utc_ns": UTC + round(seconds * S), "mark": "end"}]
    benchmark = {"inferences": inferences, "seconds": seconds, "clock": clock} | more
    return {"kind": "engine", "device": {"bus_id": "00000000:18:00.0"}, "measured": {"benchmark": benchmark}}


def trace(
    benchmark: list[dict[str, Any]] | None = None, telemetry: Any = (), about: Any = None, **manifest: Any
) -> Trace:
    tables = {"benchmark": table("benchmark", benchmark or []), "telemetry": table("telemetry", list(telemetry))}
    made = Trace.from_tables({name: one for name, one in tables.items() if one.num_rows})
    made.manifest = {**made.manifest, "run": about, "clock": {"offset_ns": UTC}} | manifest
    return made


class TestSpeed:
    def test_of_one_run(self) -> None:
        """A hundred inferences of 1 to 100 µs, one every 2 ms."""
        found = measured(trace(rows("benchmark", *(1_000 * n for n in range(1, 101))))).speed
        assert found is not None
        assert (found.inferences, found.p50_ns, found.p90_ns, found.p95_ns, found.p99_ns) == (
            *(100, 50_000, 90_000, 95_000, 99_000),
        )
        assert found.throughput_per_s == pytest.approx(100 / (99 * 0.002 + 100e-6))
        assert measurements.told(found).startswith("505 inferences a second, p50 50.0 µs, p90 90.0 µs, p95 95.0 µs")

    def test_the_runner_knows_when_it_read_out(self) -> None:
        told = {"throughput_per_s": 1234.5, "throughput": {"throughput_per_s": 2000.5}}
        found = measured(trace(rows("benchmark", *[10] * 50) + rows("throughput", *[20] * 50), about=run(**told)))
        assert found.speed is not None
        assert found.overlapped is not None
        assert (found.speed.throughput_per_s, found.overlapped.throughput_per_s) == (1234.5, 2000.5)

    def test_times_of_another_run_are_alone(self) -> None:
        """What is given by hand is of another run than what was captured beside the trace."""
        given = trace(
            rows("benchmark", *[1_000] * 50, by="trtexec"),
            samples(12, power_mw=lambda _: 200_000),
            run(throughput_per_s=9.0),
            untraced_file="times.json",
        )
        found = measured(given)
        assert found.speed is not None
        assert found.speed.throughput_per_s == pytest.approx(50 / (49 * 0.002 + 1e-6))
        assert (found.memory, found.energy) == (None, None)

    def test_nothing(self) -> None:
        found = measured(trace())
        assert found == Measured()
        assert (measurements.again(found), measurements.takes(found), list(measurements.every(found))) == ("", "", [])

    @pytest.mark.parametrize(
        "about",
        [
            [1],
            {"measured": 3},
            {"measured": {"benchmark": [], "throughput": 7}, "engine": "x", "build": {"seconds": "long"}},
            {"measured": {"benchmark": {"inferences": True, "clock": [1, 2], "memory": {"engine_bytes": -5}}}},
            {"measured": {"benchmark": {"inferences": 5, "clock": [{"utc_ns": 1 << 80}] * 2}}, "untraced": 1},
            {"measured": {"benchmark": {"throughput_per_s": float("nan")}}, "device": {"bus_id": 3}},
            {"measured": {"benchmark": {"cores": {"count": 0, "busy_with_others": 1.0}}}},
            {"measured": {"benchmark": {"cores": {"count": 4, "busy_with_others": "many"}}}},
        ],
    )
    def test_what_no_capture_wrote_is_not_taken(self, about: Any) -> None:
        found = measured(trace(rows("benchmark", *[1_000] * 50), samples(12, power_mw=lambda _: 1), about))
        assert found.speed is not None
        assert found.speed.throughput_per_s == pytest.approx(50 / (49 * 0.002 + 1e-6))
        assert (found.memory, found.host, found.build_s) == (None, None, None)
        assert found.energy is None or found.energy.joules is None


class TestRepeats:
    REPEATS = (
        rows("benchmark", *[1_000_000] * 40)
        + rows("benchmark_2", *[1_010_000] * 40)
        + rows("benchmark_3", *[990_000] * 39, 5_000_000)
    )

    def test_their_spread(self) -> None:
        found = measured(trace(self.REPEATS))
        assert [each.p50_ns for each in found.repeats] == [1_000_000, 1_010_000, 990_000]
        assert found.spread("p50_ns") == 20_000
        spreads = found.spreads()
        assert spreads["p50_ns"] == pytest.approx(0.02)
        assert spreads["p99_ns"] == pytest.approx((5_000_000 - 1_000_000) / 1_010_000)
        assert measurements.again(found).startswith("measured 3 times: throughput within 4.8 %, p50 within 2.0 %, ")
        assert measurements.again(found).endswith("; of single runs, a difference of less is noise")

    def test_once_says_nothing(self) -> None:
        found = measured(trace(rows("benchmark", *[1_000_000] * 40)))
        assert (found.repeats, found.spreads(), found.spread("p50_ns")) == ((), {}, None)

    def test_each_has_its_own_rate(self) -> None:
        about = run(throughput_per_s=100.0)
        about["measured"] |= {"benchmark_2": {"throughput_per_s": 103.0}, "benchmark_3": {"throughput_per_s": 101.0}}
        found = measured(trace(self.REPEATS, about=about))
        assert [each.throughput_per_s for each in found.repeats] == [100.0, 103.0, 101.0]
        assert found.spreads()["throughput_per_s"] == pytest.approx(3 / 101)


def test_other_programs_on_the_host_over_all_repeats() -> None:
    cores = [{"cores": {"count": 32, "busy_with_others": busy}} for busy in (1.5, 2.0)]
    about = run(**cores[0])
    about["measured"]["benchmark_2"] = cores[1]
    found = measured(trace(rows("benchmark", *[1_000] * 50) + rows("benchmark_2", *[1_000] * 50), about=about))
    assert found.host == Host(32, 1.75)
    assert ("Host", "other programs kept 1.75 of 32 cores busy") in list(measurements.every(found))


class TestEnergy:
    """A GPU that idles at 80 W, and draws 200 W and more while the benchmark runs, from 0 to 12 s."""

    @staticmethod
    def power(time: float) -> float:
        return 80_000 if not 0 <= time <= 12 else 200_000 + 10_000 * time

    @staticmethod
    def counter(time: float) -> float:
        """The integral of the power, in mJ, since a driver that was loaded long ago."""
        within = min(max(time, 0), 12)
        return 5e9 + 80_000 * (time - within) + 200_000 * within + 5_000 * within**2

    def energy(self, *, seconds: float = 12, hz: float = 50, **columns: Callable[[float], float | None]) -> Energy:
        found = measured(trace(telemetry=samples(12, hz=hz, **columns), about=run(seconds))).energy
        assert found is not None
        return found

    def test_by_the_counter(self) -> None:
        found = self.energy(power_mw=self.power, energy_mj=self.counter, processes=lambda _: 1)
        joules = 200 * 12 + 5 * 12**2
        assert found.source == "counter"
        assert found.joules == pytest.approx(joules, rel=1e-6)
        assert found.by_power_joules == pytest.approx(joules, rel=0.003)
        assert found.joules_per_inference == pytest.approx(joules / 6_000, rel=1e-6)
        assert (found.seconds, found.processes, found.problem) == (12, 1, "")
        said = dict(measurements.every(Measured(energy=found)))["Energy"]
        assert said.startswith("520 mJ an inference: 3.12 kJ in 12.0 s by NVML's counter (3.1")

    def test_a_counter_that_ticks_ten_times_a_second(self) -> None:
        """And is read as often: both ends are off by 0.1 s or less each, which is 2 % of 10 s."""
        for phase in (0.0, 0.03, 0.06, 0.09):
            ticks = lambda time, phase=phase: self.counter((time - phase) // 0.1 * 0.1 + phase)  # noqa: E731
            found = self.energy(hz=10, energy_mj=ticks, seconds=10)
            assert found.joules == pytest.approx(200 * 10 + 5 * 10**2, rel=0.02)

    def test_by_power_where_nothing_counts(self) -> None:
        found = self.energy(power_mw=self.power)
        assert found.source == "power"
        assert found.joules == found.by_power_joules == pytest.approx(3_120, rel=0.003)
        assert measurements.takes(Measured(energy=found)) == "520 mJ an inference"

    def test_others_count_as_well_and_that_is_said(self) -> None:
        found = self.energy(energy_mj=self.counter, processes=lambda time: 3 if 5 < time < 6 else 1)
        assert found.processes == 3
        assert measurements.takes(Measured(energy=found)) == "520 mJ an inference, with what 2 other processes used"

    @pytest.mark.parametrize("seconds", [3, 9.99])
    def test_a_run_that_is_too_short_tells_none(self, seconds: float) -> None:
        found = self.energy(power_mw=self.power, energy_mj=self.counter, seconds=seconds)
        assert (found.joules, found.joules_per_inference, found.by_power_joules) == (None, None, None)
        assert found.problem == f"the run lasted {seconds:.2f} s, and energy takes 10 s to tell: --duration 10"
        assert measurements.takes(Measured(energy=found)) == ""
        assert "--duration 10" in dict(measurements.every(Measured(energy=found)))["Energy"]

    @pytest.mark.parametrize(
        "columns",
        [
            {},
            {"power_mw": lambda time: None if 4 < time < 6 else 200_000},
            {"power_mw": lambda time: None if time < 0.5 else 200_000},
            {"power_mw": lambda time: None if time > 11.5 else 200_000},
            {"energy_mj": lambda _: 7_000},
        ],
    )
    def test_what_is_not_known_all_through_is_not_told(self, columns: dict[str, Any]) -> None:
        found = self.energy(**columns)
        assert found.joules is None
        assert found.problem == "NVML tells neither energy nor power all through the run"

    def test_without_samples(self) -> None:
        found = measured(trace(about=run())).energy
        assert found == Energy(problem="NVML was not sampled while it ran")

    def test_of_another_gpu_nothing_is_taken(self) -> None:
        other = [row | {"device": 1, "bus_id": "0000:3b:00.0"} for row in samples(12, power_mw=lambda _: 700_000)]
        mine = samples(12, power_mw=self.power)
        found = measured(trace(telemetry=[*mine, *other], about=run())).energy
        assert found is not None
        assert found.joules == pytest.approx(3_120, rel=0.003)

    def test_of_a_command_none_is_told(self) -> None:
        about = {"kind": "command", "untraced": {"seconds": 12.0}, "measured": {}}
        assert measured(trace(telemetry=samples(12, power_mw=self.power), about=about)).energy is None


class TestMemory:
    def test_peaks_are_of_the_benchmark(self) -> None:
        """Before and after it, others hold more."""
        used = lambda time: 9_000 if not 0 <= time <= 12 else 5_000 if 6 < time < 7 else 4_000  # noqa: E731
        own = lambda time: None if time < 1 else 8_000 if time > 12.5 else 1_500  # noqa: E731
        about = run() | {"engine": {"size_bytes": 300, "device_memory_bytes": 200, "weights_bytes": 250}}
        about["measured"]["benchmark"]["memory"] = {
            "engine_bytes": 320, "taken_bytes": 900, "free_bytes": 10_000, "activations_bytes": 210,
            "buffers_bytes": 30, "further_context_bytes": 270, "further_contexts": 37,
        }  # fmt: skip
        found = measured(trace(telemetry=samples(12, memory_used_bytes=used, own_memory_bytes=own), about=about))
        assert found.memory == Memory(1_500, 5_000, 300, 320, 250, 210, 30, 270, 37)
        assert measurements.takes(found) == (
            "GPU memory: 1.50 kB of the process, 5.00 kB in use by all; the engine 320 B, weights 250 B, activations "
            "of a context 210 B; a further context takes 270 B, and 37 fit"
        )
        assert dict(measurements.every(found))["Further contexts that fit"] == "37"

    def test_beside_other_processes_what_cuda_has_free_tells_nothing(self) -> None:
        about = run(
            memory={"engine_bytes": 600, "buffers_bytes": 30, "further_context_bytes": 5, "further_contexts": 9}
        )
        shared = samples(12, processes=lambda time: 2 if 5 < time < 6 else 1)
        found = measured(trace(telemetry=shared, about=about))
        assert found.memory == Memory(
            buffers=30, no_further_context="other processes took and freed memory of this GPU meanwhile"
        )
        alone = measured(trace(telemetry=samples(12, processes=lambda _: 1), about=about)).memory
        assert alone == Memory(engine=600, buffers=30, further_context=5, further_contexts=9)

    def test_of_a_command(self) -> None:
        """By the GPUs that the trace has work on; the peaks of two add up."""
        clock = [{"utc_ns": UTC, "mark": "start"}, {"utc_ns": UTC + 3 * S, "mark": "end"}]
        about = {"kind": "command", "untraced": {"seconds": 3.0, "clock": clock}, "measured": {}}
        both = [
            row | {"device": gpu, "bus_id": f"0000:{gpu}8:00.0"}
            for gpu in (0, 1, 2)
            for row in samples(3, own_memory_bytes=lambda _, gpu=gpu: 1_000 * (gpu + 1))
        ]
        launches = [{"start_ns": 1, "end_ns": 2, "device": gpu, "work": "kernel", "row": 0} for gpu in (0, 2)]
        made = trace(telemetry=both, about=about)
        made._given = {**made._given, "launches": table("launches", launches)}
        found = measured(made).memory
        assert found == Memory(process_peak=4_000)

    def test_why_there_is_no_further_context(self) -> None:
        about = run(memory={"engine_bytes": 5, "no_further_context": "no profile is left"})
        found = measured(trace(about=about))
        said = dict(measurements.every(found))
        assert said["Further contexts that fit"] == "not told: no profile is left"
        assert measurements.takes(found) == "GPU memory: the engine 5 B"


def test_how_long_the_build_took() -> None:
    found = measured(trace(about={"build": {"seconds": 43.2}}))
    assert found == Measured(build_s=43.2)
    assert measurements.takes(found) == "built in 43.2 s"


def test_speed_is_whole_from_a_hundred_on() -> None:
    times = (1, 1, 1, 1)
    rates = {2_405.56: "2,406", 99.6: "100", 12.345: "12.3", 0.5: "0.500"}
    for rate, said in rates.items():
        assert measurements.told(Speed(5, rate, *times)).startswith(f"{said} inferences a second, p50 1 ns")
