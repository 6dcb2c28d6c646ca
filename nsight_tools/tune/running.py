"""The measurer that has a GPU: each measurement is a process of the runner, as the benchmark of a capture is."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsight_tools.capture.benchmark import Bench, BuildError, OutOfTimeError
from nsight_tools.capture.options import Build, CaptureError, InterruptedCaptureError, Load, load_of, settings_of
from nsight_tools.measured import of_one_run
from nsight_tools.tune.measuring import Failed, Measurement, Why
from nsight_tools.tune.settings import conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nsight_tools.tune.settings import Setting

_OF_MEMORY = re.compile(r"out ?of ?(host ?)?memory|memory allocation|cudaMalloc|free (GPU )?memory", re.IGNORECASE)
"""What TensorRT, CUDA and the runner's hints say where memory does not suffice."""


@contextlib.contextmanager
def failing(setting: Setting) -> Iterator[None]:
    """What keeps this setting from being run in the block, as Failed; Ctrl-C and the end of the time stay as is."""
    if problem := conflict(setting):
        raise Failed(Why.REFUSED, problem)
    try:
        yield
    except (InterruptedCaptureError, OutOfTimeError):
        raise
    except BuildError as error:
        raise Failed(Why.BUILD, error.message, hint=error.hint) from error
    except CaptureError as error:
        why = Why.MEMORY if _OF_MEMORY.search(str(error)) else Why.REFUSED
        raise Failed(why, error.message, hint=error.hint) from error


@dataclass
class Running:
    """Measures a setting by running it."""

    bench: Bench
    given: Mapping[str, Any]
    """Options of `capture` that no setting has, by name: shapes, inputs, duration, device and so on."""

    def asked(self, setting: Setting) -> tuple[Load, Build]:
        """How the runner runs and builds it."""
        options = {**self.given, **setting.as_json()}
        return load_of(options), Build(settings_of(options), runtime=options.get("runtime", Build.runtime))

    def measure(self, setting: Setting) -> Measurement:
        """Measure it now, once.

        Raises:
            Failed: it cannot be built or run.
            InterruptedCaptureError: Ctrl-C ended it.
        """
        load, build = self.asked(setting)
        with failing(setting):
            ran = self.bench.run(load, build)
        taken = ran.run["measured"]["benchmark"].get("memory", {}).get("taken_bytes")
        measured = Measurement.of(of_one_run(ran.run, ran.rows, ran.telemetry), load.batch or 1, taken)
        if measured is None:
            raise Failed(Why.REFUSED, "no inference was measured")
        return measured
