"""NVML's view of the GPUs while a capture runs: sampled by a thread, and written as it goes.

Rows go to `telemetry.arrows`, an Arrow stream that is readable up to its last batch whatever ends this process, and
become `telemetry.parquet` at the end.
"""

from __future__ import annotations

import contextlib
import threading
import time
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nsight_tools import allocator, run_files
from nsight_tools.capture import nvml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Self

SELDOM_NS = 100_000_000
"""How often is read what takes NVML most of a millisecond; the first and the last sample always have it."""
WRITTEN_EVERY_NS = 500_000_000
"""What a crash loses at most."""
ANSWERS_WITHIN_S = 10


@contextlib.contextmanager
def sampling(path: Path, *, hz: float, devices: Sequence[int] | None = None) -> Iterator[Sampler]:
    """Sample the GPUs, `hz` times a second, for as long as the block runs; `path` is then telemetry.parquet.

    `devices` are NVML's numbers; by default the GPUs that a CUDA program would see. Where nothing can be sampled there
    is no file, and `Sampler.cost()` says why: it is no error.
    """
    sampler = Sampler(path, hz)
    sampler.start(devices)
    try:
        yield sampler
    finally:
        sampler.stop()


class Sampler:
    """Samples at fixed times: one that comes late is followed by the next that is due, and those between are missed."""

    def __init__(self, path: Path, hz: float) -> None:
        self.reason: str | None = None
        """Why there is no telemetry, or none from some time on."""
        self._path, self._hz, self._period = path, hz, round(1e9 / hz)
        self._nvml = contextlib.ExitStack()
        self._devices: list[nvml.Device] = []
        self._lost: dict[str, str] = {}
        self._chosen = ""
        self._asking, self._missed = array("q"), 0
        self._seconds = self._thread_seconds = 0.0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, devices: Sequence[int] | None) -> None:
        """Find the GPUs, and begin; `reason` says why where that cannot be."""
        try:
            self._open(devices)
        except nvml.NoNvmlError as error:
            self.reason = str(error)
            self._nvml.close()
            return
        allocator.without_pandas()  # which Arrow loads with the first rows: nothing is sampled meanwhile
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def _open(self, devices: Sequence[int] | None) -> None:
        n = self._nvml.enter_context(nvml.opened())
        chosen, self._chosen = nvml.visible(n) if devices is None else (list(devices), "as asked")
        if not chosen:
            raise nvml.NoNvmlError(f"{self._chosen} names no GPU")
        for index in chosen:
            try:
                self._devices.append(nvml.Device(n, index))
            except n.NVMLError as error:
                self._lost[str(index)] = str(error)
        if not self._devices:
            raise nvml.NoNvmlError(f"no GPU answers: {'; '.join(self._lost.values())}")

    def stop(self) -> None:
        """End the sampling, and turn what was written into telemetry.parquet."""
        if self._thread is None:
            return
        self._stopped.set()
        self._thread.join(ANSWERS_WITHIN_S)
        if self._thread.is_alive():  # a driver that hangs: nothing may be asked of it any more
            self.reason = f"NVML has not answered for {ANSWERS_WITHIN_S} s"
        else:
            for device in self._devices:
                device.close()
            self._nvml.close()
        try:
            run_files.recover_telemetry(self._path)
        except OSError as error:
            self.reason = f"{self._path.name} cannot be written: {error.strerror or error}"

    def cost(self) -> dict[str, Any]:
        """What the sampling did and took, for run.json.

        `nvml_ns` is the time inside NVML for one sample of all GPUs, median and 99th percentile, and `nvml_share` its
        sum over the time of the sampling; `core_share` is the share of one core that the thread used, with the writing.
        `missed` samples came due while an earlier one was under way. Where there is no telemetry: `reason`.
        """
        taken = np.asarray(self._asking)
        median, high = (round(float(q)) for q in np.percentile(taken, (50, 99))) if len(taken) else (None, None)
        over = self._seconds or None
        return {
            "hz": self._hz,
            **({"reason": self.reason} if self.reason else {}),
            "gpus": {
                str(device.bus_id): {"not_said": device.lacks, "failed": device.failures} for device in self._devices
            },
            "chosen_by": self._chosen,
            "lost": self._lost,
            "samples": len(taken),
            "missed": self._missed,
            "nvml_ns": {"median": median, "p99": high},
            "nvml_share": over and round(float(taken.sum()) / 1e9 / over, 5),
            "core_share": over and round(self._thread_seconds / over, 5),
        }

    def _run(self) -> None:
        try:
            with _Writer(self._path) as writer:
                self._sample_until_stopped(writer)
        except Exception as error:  # noqa: BLE001 (telemetry that fails is no reason to end a capture)
            self.reason = f"sampling ended: {error}"

    def _sample_until_stopped(self, writer: _Writer) -> None:
        start = time.monotonic_ns()
        number, seldom_due, living = 0, start, list(self._devices)
        while living:
            last = self._stopped.wait(max(0, start + number * self._period - time.monotonic_ns()) / 1e9)
            now = time.monotonic_ns()
            seldom = last or now >= seldom_due
            if seldom:
                seldom_due = now + SELDOM_NS - self._period // 2
            writer.add(self._sample(living, seldom=seldom))
            self._seconds = (time.monotonic_ns() - start) / 1e9
            self._thread_seconds = time.thread_time()
            if last:
                return
            due = (time.monotonic_ns() - start) // self._period + 1
            self._missed += due - number - 1
            number = due
        self.reason = f"every GPU was lost: {'; '.join(self._lost.values())}"

    def _sample(self, living: list[nvml.Device], *, seldom: bool) -> list[dict[str, Any]]:
        rows = []
        before = time.perf_counter_ns()
        for device in list(living):
            try:
                rows.append(device.sample(seldom=seldom))
            except nvml.LostGpuError as error:
                self._lost[str(device.bus_id)] = str(error)
                living.remove(device)
        self._asking.append(time.perf_counter_ns() - before)
        return rows


class _Writer:
    """Rows into an Arrow stream, a batch every half second."""

    def __init__(self, path: Path) -> None:
        self._rows: list[dict[str, Any]] = []
        self._due = time.monotonic_ns() + WRITTEN_EVERY_NS
        self._file = pa.OSFile(str(run_files.telemetry_stream(path)), "wb")  # unbuffered: what was written survives us
        self._stream = pa.ipc.new_stream(self._file, run_files.TELEMETRY_STREAMED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._write()
            self._stream.close()
        finally:
            self._file.close()

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._rows += rows
        if time.monotonic_ns() >= self._due:
            self._write()
            self._due = time.monotonic_ns() + WRITTEN_EVERY_NS

    def _write(self) -> None:
        if self._rows:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._rows, run_files.TELEMETRY_STREAMED))
        self._rows = []
