"""NVML beside a capture, against a recording of an H200: what is sampled, what is missing, what it costs, crashes."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from capture.recorded_nvml import RECORDING, NVMLError, RecordedNvml, Recorder
from patience import PATIENCE_S, wait_until

from nsight_tools import run_files
from nsight_tools.capture import machine, nvml, telemetry
from nsight_tools.run_files import TELEMETRY_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MS = 1_000_000
GPU_IS_LOST, NOT_SUPPORTED, UNKNOWN = 15, 3, 999
NOT_RECORDED = ["energy_mj"]
"""What the H200 of the recording was not asked for."""
ANSWERS = json.loads(RECORDING.read_text(encoding="utf-8"))["answers"]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., RecordedNvml]:
    """Puts a recorded NVML where pynvml is looked for."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)

    def install(**options: Any) -> RecordedNvml:
        module = RecordedNvml(**options)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return module

    return install


def sampled(folder: Path, *, hz: float = 100, samples: int = 15, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The table that a sampling of `samples` or more leaves (None for none), and its cost."""
    path = folder / "telemetry.parquet"
    with telemetry.sampling(path, hz=hz, **options) as sampler:
        wait_until(lambda: taken(sampler, samples))
    left = [file.name for file in folder.iterdir()]
    assert left == (["telemetry.parquet"] if path.exists() else [])
    return (pq.read_table(path) if path.exists() else None), sampler.cost()


def taken(sampler: telemetry.Sampler, samples: int) -> bool:
    """Whether a sampling has taken so many samples, or takes no more."""
    return len(sampler._asking) >= samples or sampler._thread is None or not sampler._thread.is_alive()


def replayed(answers: list[Any], count: int) -> list[Any]:
    """What samples get of a recording: the first answer goes to finding out what the GPU says at all."""
    return [*answers, *answers[-1:] * count][1 : count + 1]


def raising(number: int, after: int = 0, then: Any = 0) -> Callable[..., Any]:
    """A function of NVML that fails from its call number `after` on, and gives `then` before."""
    calls = 0

    def function(*_arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise NVMLError(number)
        return then

    return function


class Clock:
    """Stands in for the clocks of the sampling and for its event: waiting makes time pass, until it is stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stopped_at: int = 0) -> None:
        self.now, self._stopped_at = 0, stopped_at
        for function in ("monotonic_ns", "perf_counter_ns"):
            monkeypatch.setattr(f"nsight_tools.capture.telemetry.time.{function}", lambda: self.now)
        made = SimpleNamespace(Event=lambda: self, Thread=threading.Thread)
        monkeypatch.setattr("nsight_tools.capture.telemetry.threading", made)

    def set(self) -> None:
        """Nothing: `stopped_at` says when."""

    def wait(self, seconds: float) -> bool:
        self.now = min(self.now + round(seconds * 1e9), max(self._stopped_at, self.now))
        return self.now >= self._stopped_at


class TestSampling:
    def test_what_the_gpu_said(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        module = installed()
        before = time.time_ns()
        table, cost = sampled(tmp_path)
        after = time.time_ns()
        assert table.schema.names == TELEMETRY_SCHEMA.names
        rows = table.to_pylist()
        assert len(rows) == cost["samples"] > 15, "the last one is taken at the end"
        assert all(before <= row["utc_ns"] <= after for row in rows)
        assert [row["utc_ns"] for row in rows] == sorted(row["utc_ns"] for row in rows)
        for column, function, arguments in (
            ("sm_clock_mhz", "nvmlDeviceGetClockInfo", "[1]"),
            ("clock_event_reasons", "nvmlDeviceGetCurrentClocksEventReasons", "[]"),
        ):
            assert [row[column] for row in rows] == replayed(ANSWERS[function][arguments], len(rows))
        power = [part[0]["value"]["uiVal"] for part in ANSWERS["nvmlDeviceGetFieldValues"]["[[186]]"]]
        assert [row["power_mw"] for row in rows] == replayed(power, len(rows))
        fixed = {
            "bus_id": "0000:3a:00.0", "index": 0, "max_sm_clock_mhz": 1980, "slowdown_temperature_c": 89,
            "power_limit_mw": 700_000, "pcie_generation": 5, "pcie_width": 16, "pcie_max_generation": 5,
            "pcie_max_width": 16, "memory_clock_mhz": 3201, "processes": 1, "memory_used_bytes": 1_359_806_464,
        }  # fmt: skip
        assert rows[0].items() >= fixed.items()
        assert cost["gpus"] == {"0000:3a:00.0": {"not_said": NOT_RECORDED, "failed": 0}}
        assert cost["lost"] == {}
        assert module.started == 0, "shut down"

    def test_what_is_slow_is_read_seldom_but_first_and_last(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed()
        Clock(monkeypatch, stopped_at=355 * MS)
        table, _ = sampled(tmp_path, samples=37)
        read = table["power_violation_ns"].is_valid().to_pylist()
        assert [at for at, valid in enumerate(read) if valid] == [0, 10, 20, 30, 36]

    def test_its_cost_is_reported(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock(monkeypatch, stopped_at=404 * MS)
        monkeypatch.setattr("nsight_tools.capture.telemetry.time.thread_time", lambda: 0.0405)
        slow = itertools.cycle([2, 2] * 10 + [2, 3])

        def answer(*_arguments: Any) -> int:
            clock.now += next(slow) * MS
            return 1410

        installed(instead={"nvmlDeviceGetClockInfo": answer})  # asked twice for each sample, and twice at first
        _, cost = sampled(tmp_path, hz=50, samples=21)
        assert cost["samples"] == 21
        assert cost["nvml_ns"]["median"] == 4 * MS
        assert 4 * MS < cost["nvml_ns"]["p99"] <= 5 * MS
        assert cost["nvml_share"] == round((4 * 19 + 5 * 2) / 405, 5)
        assert cost["core_share"] == 0.1

    def test_it_sleeps_while_nvml_does(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        def slow(*_arguments: Any) -> int:
            time.sleep(0.01)
            return 1410

        installed(instead={"nvmlDeviceGetClockInfo": slow})
        _, cost = sampled(tmp_path, hz=25, samples=10)
        assert cost["nvml_ns"]["median"] >= 20 * MS
        assert 0 < cost["core_share"] < cost["nvml_share"]

    def test_deadlines_do_not_drift_and_what_is_missed_is_not_made_up_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a clock of its own: a sample takes 1 ms, the fifth 47, the eighth its whole period; stopped at 215 ms."""
        clock = Clock(monkeypatch, stopped_at=215 * MS)
        sampler = telemetry.Sampler(tmp_path / "telemetry.parquet", 100)
        taken = []

        class Gpu:
            bus_id, lacks, failures = "0000:3a:00.0", (), 0

            def sample(self, *, seldom: bool) -> dict[str, Any]:
                taken.append((clock.now // MS, seldom))
                clock.now += {5: 47, 8: 10}.get(len(taken), 1) * MS
                return {}

        class Rows:
            def add(self, rows: list[dict[str, Any]]) -> None:
                assert rows == [{}]

        sampler._devices = [Gpu()]  # type: ignore[list-item]
        sampler._sample_until_stopped(Rows())  # type: ignore[arg-type]
        due = [0, 10, 20, 30, 40, 90, 100, 110, 130, 140, 150, 160, 170, 180, 190, 200, 210, 215]
        assert [time for time, _ in taken] == due
        assert [time for time, seldom in taken if seldom] == [0, 100, 200, 215]
        cost = sampler.cost()
        assert cost["missed"] == 5  # 50, 60, 70 and 80; and 120, which the eighth ended at
        assert cost["samples"] == len(due)
        assert cost["nvml_ns"]["median"] == 1 * MS
        assert cost["nvml_share"] == round((47 + 10 + 16) / 216, 5)

    def test_several_gpus(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        installed(gpus=3)
        table, cost = sampled(tmp_path, devices=[0, 2])
        assert table["index"].to_pylist()[:4] == [0, 2, 0, 2]
        assert set(table["bus_id"].to_pylist()) == {"0000:3a:00.0", "0000:3c:00.0"}
        assert cost["chosen_by"] == "as asked"


class TestWhatAGpuLacks:
    def test_is_null(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        lacking = ("CurrentClocksEventReasons", "CurrentClocksThrottleReasons", "UtilizationRates", "ViolationStatus")
        asked: list[int] = []

        def unsupported(*_arguments: Any) -> None:
            asked.append(1)
            raise NVMLError(NOT_SUPPORTED)

        instead = {f"nvmlDeviceGet{name}": unsupported for name in lacking}
        installed(instead=instead, without={"NVML_FI_DEV_PERF_POLICY_POWER", "NVML_FI_DEV_PERF_POLICY_THERMAL"})
        table, cost = sampled(tmp_path)
        nulls = [name for name in table.column_names if table[name].null_count == len(table)]
        assert nulls == [
            "clock_event_reasons", "gpu_utilization_percent", "memory_utilization_percent", "power_violation_ns",
            "thermal_violation_ns", *NOT_RECORDED,
        ]  # fmt: skip
        assert cost["gpus"]["0000:3a:00.0"]["not_said"] == nulls
        assert len(asked) == 5, "once, and not for each sample"

    def test_older_names_are_taken(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        new = {"nvmlDeviceGetCurrentClocksEventReasons", "NVML_FI_DEV_POWER_INSTANT", "nvmlMemory_v2"}
        installed(without=new)
        table, cost = sampled(tmp_path)
        assert cost["gpus"]["0000:3a:00.0"]["not_said"] == NOT_RECORDED
        assert table["power_mw"][0].as_py() == ANSWERS["nvmlDeviceGetPowerUsage"]["[]"][1]
        assert table["memory_used_bytes"][0].as_py() == 2_004_746_240
        assert table["clock_event_reasons"].null_count == 0

    def test_a_failure_now_and_then_is_a_null_and_counted(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path
    ) -> None:
        installed(instead={"nvmlDeviceGetTemperature": raising(UNKNOWN, after=5, then=40)})
        table, cost = sampled(tmp_path)
        assert table["temperature_c"].to_pylist()[:6] == [40] * 4 + [None] * 2
        assert cost["gpus"]["0000:3a:00.0"]["failed"] == table["temperature_c"].null_count
        assert table["sm_clock_mhz"].null_count == 0

    @pytest.mark.parametrize("answer", [-1, 2**32 - 1, 2**64 - 1])
    def test_all_bits_set_is_no_value(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path, answer: int
    ) -> None:
        installed(instead={"nvmlDeviceGetCurrPcieLinkWidth": lambda _handle: answer})
        table, _ = sampled(tmp_path)
        assert table["pcie_width"].null_count == len(table)

    def test_a_gpu_that_is_lost_keeps_its_samples(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        lost = raising(GPU_IS_LOST, after=8, then=1980)
        installed(gpus=2, instead={"nvmlDeviceGetClockInfo": lambda gpu, kind: lost() if (gpu, kind) == (1, 1) else 5})
        table, cost = sampled(tmp_path)
        rows = table["index"].to_pylist()
        assert rows.count(1) == 7
        assert rows.count(0) == cost["samples"] > 15
        assert cost["lost"] == {"0000:3b:00.0": "error 15"}
        assert "reason" not in cost

    def test_when_all_are_lost_it_ends(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        installed(instead={"nvmlDeviceGetPowerUsage": raising(15), "nvmlDeviceGetTemperature": raising(15, 3, 40)})
        table, cost = sampled(tmp_path)
        assert len(table) == 2
        assert cost["reason"] == "every GPU was lost: error 15"


class TestProcesses:
    """GPU memory of the captured processes: this one and what it started, whatever others hold."""

    @pytest.fixture
    def child(self) -> Iterator[int]:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            yield process.pid
            process.communicate(b"\n")

    @staticmethod
    def listed(*processes: tuple[int, int | None]) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in processes]

    def read(self, installed: Callable[..., RecordedNvml], *answers: list[SimpleNamespace]) -> list[Any]:
        given = iter(answers)
        installed(instead={"nvmlDeviceGetComputeRunningProcesses": lambda _handle: next(given)})
        with nvml.opened() as n:
            processes = nvml.Processes(n, 0)
            return [processes() for _ in answers[1:]]

    def test_own_and_others(self, installed: Callable[..., RecordedNvml], child: int) -> None:
        mine, other = os.getpid(), os.getppid()
        answers = [
            self.listed((other, 900)),
            self.listed((other, 900), (child, 70)),
            self.listed((other, 950), (child, 80), (mine, 5)),
            self.listed((other, 990)),
            self.listed((child, None)),
            [],
        ]
        assert self.read(installed, *answers) == [(2, 70), (3, 85), (1, None), (1, None), (0, None)]

    @pytest.mark.parametrize("pid", [0, 1 << 30])
    def test_pids_that_are_not_of_here(self, installed: Callable[..., RecordedNvml], pid: int) -> None:
        answers = [self.listed((pid, 900)), self.listed((pid, 900), (pid, 70)), self.listed((pid, 900)), []]
        assert self.read(installed, *answers) == [(2, 70), (1, None), (0, None)]

    def test_in_the_table(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        found = self.listed((os.getpid(), 123_456))
        installed(instead={"nvmlDeviceGetComputeRunningProcesses": lambda _handle: found})
        table, _ = sampled(tmp_path)
        assert set(table["own_memory_bytes"].to_pylist()) == {123_456}
        assert set(table["processes"].to_pylist()) == {1}


class TestEnergy:
    def test_it_is_read_ten_times_a_second(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Clock(monkeypatch, stopped_at=350 * MS)
        counter = itertools.count(5_000, 7)
        installed(instead={"nvmlDeviceGetTotalEnergyConsumption": lambda _handle: next(counter)})
        table, cost = sampled(tmp_path)
        read = table["energy_mj"].drop_null().to_pylist()
        assert read == [5_000 + 7 * (at + 1) for at in range(5)]  # the first told that there is one
        assert cost["gpus"]["0000:3a:00.0"]["not_said"] == []

    def test_by_its_field(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        value = SimpleNamespace(ullVal=42_000)
        field = SimpleNamespace(fieldId=83, nvmlReturn=0, valueType=3, value=value)
        module = installed(instead={"nvmlDeviceGetTotalEnergyConsumption": raising(NOT_SUPPORTED)})
        fields = module.nvmlDeviceGetFieldValues
        asked = {"nvmlDeviceGetFieldValues": lambda gpu, ids: [field] if ids == [83] else fields(gpu, ids)}
        installed(instead=asked, constants={"NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 83})
        table, _ = sampled(tmp_path)
        assert set(table["energy_mj"].drop_null().to_pylist()) == {42_000}


class TestPcieTraffic:
    def test_by_counters_that_come_round(
        self, installed: Callable[..., RecordedNvml], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rates of the recording against differences taken by hand, 2^32 added where a counter came round."""
        installed()
        clock = Clock(monkeypatch)
        counters = [[part["value"]["uiVal"] for part in pair] for pair in _pairs()]
        came_round = 0
        with nvml.opened() as n:
            traffic = nvml.CountedTraffic(n, 0)
            assert traffic() == (None, None)
            for before, after in itertools.pairwise(counters):
                clock.now += 20 * MS
                moved = [new - old + (1 << 32) * (new < old) for old, new in zip(before, after, strict=True)]
                came_round += sum(new < old for old, new in zip(before, after, strict=True))
                assert traffic() == tuple(bytes_ * 50 for bytes_ in moved)
        assert came_round >= 2

    def test_says_nothing_where_a_counter_may_have_come_round_twice(
        self, installed: Callable[..., RecordedNvml], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed()
        clock = Clock(monkeypatch)
        with nvml.opened() as n:
            traffic = nvml.CountedTraffic(n, 0)
            traffic()
            clock.now += 66 * MS  # 16 lanes of generation 5 carry at most 63 GB/s: 4.2 GB
            assert None not in traffic()
            clock.now += 70 * MS
            assert traffic() == (None, None)

    def test_without_counters_a_thread_measures(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        asked: list[str] = []

        def throughput(_handle: int, direction: int) -> int:
            asked.append(threading.current_thread().name)
            time.sleep(0.02)
            return 10 * len(asked) + direction

        instead = {"nvmlDeviceGetPcieThroughput": throughput}
        installed(instead=instead, without={"NVML_FI_DEV_PCIE_COUNT_RX_BYTES"})
        path = tmp_path / "telemetry.parquet"
        with telemetry.sampling(path, hz=100):
            wait_until(lambda: len(asked) > 8)
        assert set(asked[2:]) == {"pcie throughput"}, "the sampling never waits for it"
        table = pq.read_table(path)
        columns = (table[f"pcie_{way}_bytes_per_s"].drop_null().to_pylist() for way in ("rx", "tx"))
        given = list(zip(*columns, strict=True))
        # The first of the answers is by which it was found to answer.
        answers = [(10_000 * at + 1000, 10_000 * (at + 1)) for at in range(3, len(asked), 2)]
        assert given
        assert [answer for answer in answers if answer in given] == given, "each once, in their order"
        assert "pcie throughput" not in {thread.name for thread in threading.enumerate()}


def _pairs() -> list[list[dict[str, Any]]]:
    pairs: list[list[dict[str, Any]]] = ANSWERS["nvmlDeviceGetFieldValues"]["[[198, 197]]"]
    return pairs


class TestWhichGpus:
    @pytest.mark.parametrize(
        ("visible", "order", "expected"),
        [
            (None, None, [0, 1, 2]),
            ("1", None, [1]),
            ("2, 0", "PCI_BUS_ID", [0, 2]),
            ("GPU-1111", None, [1]),
            ("GPU-2222-beef,GPU-0000-beef", None, [0, 2]),
            ("1,7,2", None, [1]),  # as CUDA: up to the first that is none
            ("1,-1,2", None, [1]),
            ("GPU-", None, []),  # names several
            ("", None, []),
            ("NoDevFiles", None, []),
            ("MIG-GPU-1111-beef/1/0", None, [1]),
            ("MIG-the-instance", None, [2]),
        ],
    )
    def test_those_that_cuda_sees(
        self,
        installed: Callable[..., RecordedNvml],
        monkeypatch: pytest.MonkeyPatch,
        visible: str | None,
        order: str | None,
        expected: list[int],
    ) -> None:
        mig = {
            "nvmlDeviceGetHandleByUUID": {"MIG-the-instance": "instance"}.get,
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": {"instance": 2}.get,
        }
        module = installed(gpus=3, instead=mig)
        for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
            if value is not None:
                monkeypatch.setenv(name, value)
        assert nvml.visible(module)[0] == expected

    def test_a_number_among_different_gpus_means_none_for_sure(
        self, installed: Callable[..., RecordedNvml], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = installed(gpus=2, names=["NVIDIA T4", "NVIDIA H200"])
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # CUDA's first is the fastest
        chosen, how = nvml.visible(module)
        assert chosen == [0, 1]
        assert "CUDA_DEVICE_ORDER" in how
        monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        assert nvml.visible(module)[0] == [0]


class TestWithoutNvml:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"gpus": 0}, "NVML finds no GPU"),
            ({"instead": {"nvmlInit": raising(9)}}, "NVML does not start: error 9"),
            ({"instead": {"nvmlDeviceGetHandleByIndex": raising(15)}}, "no GPU answers: error 15"),
        ],
    )
    def test_says_why(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path, options: dict[str, Any], reason: str
    ) -> None:
        installed(**options)
        table, cost = sampled(tmp_path)
        assert table is None
        assert cost["reason"] == reason
        assert cost["samples"] == 0

    def test_without_the_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", None)
        assert sampled(tmp_path)[1]["reason"] == "nvidia-ml-py is not installed"
        assert machine.state() == {"reason": "nvidia-ml-py is not installed"}

    def test_none_is_visible(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert sampled(tmp_path)[1]["reason"] == "CUDA_VISIBLE_DEVICES names no GPU"

    def test_a_driver_that_hangs_holds_up_nothing(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(telemetry, "ANSWERS_WITHIN_S", 0.1)
        hanging, answers = threading.Event(), threading.Event()
        calls = 0

        def hangs(*_arguments: Any) -> int:
            nonlocal calls
            calls += 1
            if calls > 3:
                hanging.set()
                answers.wait(PATIENCE_S)
            return 40

        installed(instead={"nvmlDeviceGetTemperature": hangs})
        with telemetry.sampling(tmp_path / "telemetry.parquet", hz=100) as sampler:
            assert hanging.wait(PATIENCE_S)
        assert sampler.cost()["reason"] == "NVML has not answered for 0.1 s"
        answers.set()


KILLED = """
    import sys, time
    from pathlib import Path
    from capture.recorded_nvml import RecordedNvml
    from nsight_tools.capture import telemetry
    taken = open("taken", "w", buffering=1)
    def temperature(*_arguments):
        print(time.time_ns(), file=taken)
        return 40
    sys.modules["pynvml"] = RecordedNvml(instead={"nvmlDeviceGetTemperature": temperature})
    with telemetry.sampling(Path(sys.argv[1]), hz=200) as sampler:
        time.sleep(3600)
"""


WRITING = """
    import sys, time
    from pathlib import Path
    from capture.recorded_nvml import RecordedNvml
    from nsight_tools.capture import telemetry
    sys.modules["pynvml"] = RecordedNvml()
    telemetry.WRITTEN_EVERY_NS = 0
    with telemetry.sampling(Path(sys.argv[1]), hz=200) as sampler:
        time.sleep(0.2)
    print(sampler.cost()["samples"] > 0, "pandas" in sys.modules)
"""


def test_the_first_rows_load_nothing_that_takes_long(tmp_path: Path) -> None:
    """Arrow would load pandas for them: a third of a second without a sample, and seconds where the cores are busy."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(WRITING), str(tmp_path / "telemetry.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE_S, check=True)
    assert done.stdout == "True False\n"


class TestCrashes:
    def test_what_was_sampled_survives_a_kill(self, tmp_path: Path) -> None:
        """Killed at whatever moment: all but the last half second is there, whole."""
        tests = str(Path(__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
        path, log = tmp_path / "telemetry.parquet", tmp_path / "taken"
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path)]
        with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
            try:
                wait_until(lambda: process.poll() is not None or (log.exists() and log.read_bytes().count(b"\n") > 200))
            finally:
                process.kill()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["taken", "telemetry.arrows"]
        rows = run_files.recover_telemetry(path)
        table = pq.read_table(path)
        assert rows == len(table)
        assert table.cast(TELEMETRY_SCHEMA).schema == TELEMETRY_SCHEMA
        samples = [int(line) for line in log.read_bytes().splitlines()[1:]]  # the first told that there is one
        assert all(utc < sample for utc, sample in zip(table["utc_ns"].to_pylist(), samples, strict=False))
        # The very last one was under way, or makes the half second full.
        lost = samples[rows:-1]
        assert not lost or lost[-1] - lost[0] < 1.01 * telemetry.WRITTEN_EVERY_NS
        assert len(lost) <= 102, "200 a second are due"
        assert rows > 90
        assert not (tmp_path / "telemetry.arrows").exists()

    def test_a_stream_cut_anywhere_gives_its_whole_batches(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed()
        monkeypatch.setattr(telemetry, "WRITTEN_EVERY_NS", 0)  # a batch for each sample
        monkeypatch.setattr(run_files, "recover_telemetry", lambda _path: 0)
        path = tmp_path / "telemetry.parquet"
        with telemetry.sampling(path, hz=100) as sampler:
            wait_until(lambda: taken(sampler, 9))
        monkeypatch.undo()
        whole = path.with_suffix(".arrows").read_bytes()
        found = []
        for length in range(0, len(whole), 997):
            path.with_suffix(".arrows").write_bytes(whole[:length])
            found.append(run_files.recover_telemetry(path))
        assert found == sorted(found)
        assert found[0] == 0
        assert found[-1] >= 8
        assert run_files.recover_telemetry(path) == 0, "there is no stream any more"

    def test_an_exception_in_the_block_keeps_it(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        installed()
        path = tmp_path / "telemetry.parquet"

        def interrupted(sampler: telemetry.Sampler) -> None:
            wait_until(lambda: taken(sampler, 4))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), telemetry.sampling(path, hz=100) as sampler:
            interrupted(sampler)
        assert pq.read_table(path).num_rows >= 4

    def test_a_folder_that_is_gone_is_no_error(self, installed: Callable[..., RecordedNvml], tmp_path: Path) -> None:
        installed()
        with telemetry.sampling(tmp_path / "gone" / "telemetry.parquet", hz=100) as sampler:
            wait_until(lambda: taken(sampler, 1))
        assert "sampling ended" in sampler.cost()["reason"]


class TestMachine:
    def test_of_the_recording(self, installed: Callable[..., RecordedNvml]) -> None:
        installed()
        found = machine.state()
        assert (found["driver"], found["cuda"]) == ("580.159.04", "13.0")
        (gpu,) = found["gpus"]
        assert gpu["name"] == "NVIDIA H200"
        assert gpu["cpus"] == "0-15"
        assert gpu["clocks_mhz"] == {
            "sm": {"now": 1980, "max": 1980, "applied": 1980},
            "memory": {"now": 3201, "max": 3201, "applied": 3201},
        }
        assert gpu["power_mw"] == {"now": 91_630, "limit": 700_000, "default_limit": 700_000, "max_limit": 700_000}
        assert (gpu["persistence_mode"], gpu["compute_mode"], gpu["mig"], gpu["ecc"]) == (True, "default", False, True)
        assert gpu["pcie"] == {"generation": 5, "max_generation": 5, "width": 16, "max_width": 16}
        assert gpu["processes"] == {"count": 1, "memory_used_bytes": 1_350_565_888}
        assert "GPU-0000" not in json.dumps(found), "no UUID"

    def test_driver_modes(
        self, installed: Callable[..., RecordedNvml], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a GPU under Windows, one that is parted by MIG, and a machine with MPS."""
        monkeypatch.delenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", raising=False)
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
        installed()
        assert machine.modes(machine.state()) == ["persistence on, MIG off, ECC on, compute mode default"]
        for number, name in enumerate(("WDDM", "TCC", "MCDM")):
            installed(instead={"nvmlDeviceGetCurrentDriverModel": lambda _handle, number=number: number})
            assert machine.state()["gpus"][0]["driver_model"] == name
            assert machine.modes(machine.state())[0].startswith(f"{name} driver, persistence on")

        def instance(_handle: int, index: int) -> str:
            if index:
                raise NVMLError(NOT_SUPPORTED)
            return "instance"

        installed(
            gpus=2,
            instead={
                "nvmlDeviceGetMigMode": lambda _handle: (1, 1),
                "nvmlDeviceGetMaxMigDeviceCount": lambda _handle: 7,
                "nvmlDeviceGetMigDeviceHandleByIndex": instance,
                "nvmlDeviceGetName": lambda handle: "H200 MIG 1g.18gb" if handle == "instance" else "H200",
                "nvmlDeviceGetAttributes_v2": lambda _handle: SimpleNamespace(multiprocessorCount=16),
                "nvmlDeviceGetMPSComputeRunningProcesses": lambda _handle: [1, 2],
            },
        )
        (tmp_path / "nvidia-cuda-mps-control.pid").write_text(str(os.getpid()), encoding="ascii")
        monkeypatch.setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "25")
        found = machine.state()
        assert found["gpus"][0]["mig_instances"] == ["H200 MIG 1g.18gb"]
        assert found["gpus"][0]["mig_sms"] == [16]
        assert found["gpus"][0]["mps_processes"] == 2
        assert found["mps"] == {"running": True, "active_thread_percentage": "25"}
        said = "persistence on, MIG on, ECC on, H200 MIG 1g.18gb, compute mode default"
        assert machine.modes(found) == [said, "MPS, 25 % of the SMs"]

    @pytest.mark.parametrize("content", [None, "nothing", str(1 << 22)])
    def test_mps_that_does_not_run(
        self,
        installed: Callable[..., RecordedNvml],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        content: str | None,
    ) -> None:
        installed()
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
        if content is not None:
            (tmp_path / "nvidia-cuda-mps-control.pid").write_text(content, encoding="ascii")
        assert machine.state()["mps"]["running"] is False

    @pytest.mark.parametrize("state", [{}, {"gpus": 3, "mps": 1}, {"gpus": [1, {"mig": "x"}]}, {"reason": "none"}])
    def test_modes_of_what_is_not_known(self, state: dict[str, Any]) -> None:
        assert machine.modes(state) == []

    def test_a_gpu_that_says_nothing(self, installed: Callable[..., RecordedNvml]) -> None:
        lacking = {name: raising(NOT_SUPPORTED) for name in ANSWERS}
        installed(instead=lacking, without={"NVML_CLOCK_MEM"})
        (gpu,) = machine.state()["gpus"]
        assert gpu.pop("bus_id") == "0000:3a:00.0"
        assert gpu.pop("index") == 0
        values = [v for part in gpu.values() for v in (part.values() if isinstance(part, dict) else [part])]
        assert {str(value) for value in values} <= {"None", "{'now': None, 'max': None, 'applied': None}"}

    def test_a_lost_gpu_beside_another(self, installed: Callable[..., RecordedNvml]) -> None:
        def handle(index: int) -> int:
            if index:
                raise NVMLError(GPU_IS_LOST)
            return index

        installed(gpus=2, instead={"nvmlDeviceGetHandleByIndex": handle})
        good, lost = machine.state()["gpus"]
        assert good["name"] == "NVIDIA H200"
        assert lost == {"index": 1, "reason": "error 15"}


def test_the_recorder_records_what_a_replay_gives_again(
    installed: Callable[..., RecordedNvml], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(installed())
    monkeypatch.setitem(sys.modules, "pynvml", recorder)
    sampled(tmp_path)
    machine.state()
    recorder.write(tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    clocks = again["answers"]["nvmlDeviceGetClockInfo"]["[1]"]
    recorded = ANSWERS["nvmlDeviceGetClockInfo"]["[1]"]
    assert clocks == [recorded[0], *replayed(recorded, len(clocks) - 1)]
    assert again["answers"]["nvmlDeviceGetFieldValues"]["[[198, 197]]"][0] == _pairs()[0]
