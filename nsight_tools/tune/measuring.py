"""One setting, measured once without the profiler; and the table of such measurements."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from nsight_tools import files
from nsight_tools.errors import InputError, NsightToolsError, OutputError
from nsight_tools.measured import Speed
from nsight_tools.tune.settings import Setting

if TYPE_CHECKING:
    from pathlib import Path

    from nsight_tools.measured import Measured


class Why(str, Enum):
    """For which reason a setting has no measurement."""

    BUILD = "build failed"
    MEMORY = "out of memory"
    REFUSED = "cannot be run"
    ACCURACY = "accuracy lost"


FAILED = (Why.BUILD, Why.MEMORY, Why.REFUSED)
"""Of them those that may go: another process frees memory, a package is mended. What was measured stays lost."""


class Failed(NsightToolsError):  # noqa: N818 (what became of a setting, as a measurement is)
    """Raised by a measurer where a setting cannot be measured; all others still can."""

    def __init__(self, why: Why, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.why = why


@dataclass(frozen=True)
class Measurement(Speed):
    """One run of one setting, a process of its own. Times are in ns, memory in bytes; None where it is not known.

    Its throughput is of inputs: of inferences, times the batch where that is an option that is given.
    """

    memory_bytes: int | None = None
    """What NVML said that the process held at most; else what CUDA had less of."""
    energy_j: float | None = None
    """Of an input. None where the run was too short to tell."""

    @classmethod
    def of(cls, measured: Measured, batch: int, taken_bytes: int | None) -> Measurement | None:
        """Of what one benchmark measured; None where it has no inference."""
        speed, memory, energy = measured.speed, measured.memory, measured.energy
        if speed is None:
            return None
        peak = memory.process_peak if memory else None
        joules = energy.joules_per_inference if energy else None
        return cls(
            **asdict(speed) | {"throughput_per_s": speed.throughput_per_s * batch},
            memory_bytes=taken_bytes if peak is None else peak,
            energy_j=None if joules is None else joules / batch,
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Measurer(Protocol):
    """Measures a setting, once each time it is asked."""

    def measure(self, setting: Setting) -> Measurement:
        """Measure it now. Raises Failed where it cannot be, and NsightToolsError where nothing can be."""
        ...


@dataclass(frozen=True)
class Row:
    """A row of a table of measurements: a setting, and what came of measuring it."""

    setting: Setting
    measurement: Measurement | None
    why: Why | None = None
    said: str = ""


_NUMBERS = pa.schema(
    [
        pa.field("inferences", pa.int64()),
        pa.field("throughput_per_s", pa.float64()),
        *(pa.field(name, pa.int64()) for name in ("p50_ns", "p90_ns", "p95_ns", "p99_ns", "memory_bytes")),
        pa.field("energy_j", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("setting", pa.string(), nullable=False, metadata={"meaning": "options as a JSON object"}),
        pa.field("options", pa.string(), nullable=False, metadata={"meaning": "the same as a command line"}),
        *_NUMBERS,
        pa.field("failed", pa.string(), metadata={"meaning": "why there is no measurement; null where there is"}),
        pa.field("said", pa.string(), metadata={"meaning": "the failure in words"}),
    ]
)
"""Of a table of measurements: a row for each run, in the order in which they were made."""


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a table of measurements, whole. Raises OutputError where it cannot be written."""
    columns = [
        {
            "setting": row.setting.key,
            "options": row.setting.flags,
            **(row.measurement.as_json() if row.measurement else {}),
            "failed": row.why.value if row.why else None,
            "said": row.said or None,
        }
        for row in rows
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(columns, SCHEMA), sink, compression="zstd")
    try:
        files.write(path, sink.getvalue().to_pybytes())
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}") from error


def read_rows(path: Path) -> list[Row]:
    """The rows of a table of measurements. Raises InputError where it is none."""
    try:
        table = pq.ParquetFile(path).read()
        if not table.schema.equals(SCHEMA):
            raise InputError(path, "is no table of measurements", hint="sweep writes one")
        return [_row(each) for each in table.to_pylist()]
    except (OSError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise InputError(path, f"is no table of measurements: {error}", hint="sweep writes one") from error


def _row(values: dict[str, Any]) -> Row:
    setting = Setting.of(json.loads(values["setting"]))
    why = Why(values["failed"]) if values["failed"] else None
    names = [each.name for each in fields(Measurement)]
    measurement = None if why else Measurement(**{name: values[name] for name in names})
    return Row(setting, measurement, why, values["said"] or "")
