"""The tracer that has a GPU: each capture is one of `capture`."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsight_tools.analysis import analyze
from nsight_tools.capture import session
from nsight_tools.capture.options import InterruptedCaptureError, Recording
from nsight_tools.run_files import RUN, SUFFIX
from nsight_tools.trace import open_trace
from nsight_tools.tune import promises
from nsight_tools.tune.ledger import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nsight_tools.analysis import Outcome
    from nsight_tools.nsys import Nsys
    from nsight_tools.trace import Trace
    from nsight_tools.tune.running import Running
    from nsight_tools.tune.settings import Setting

    Headline = Callable[[str, Trace, Sequence[Outcome]], str]


@dataclass
class Tracing:
    """Captures a setting under Nsight Systems, into a folder, and analyzes it."""

    running: Running
    folder: Path
    nsys: Nsys
    recording: Recording
    headline: Headline
    """A report's first sentence."""

    def trace(self, setting: Setting, number: int) -> Found:
        """Capture and analyze it.

        Raises:
            InterruptedCaptureError: Ctrl-C ended it; nothing of it is kept.
            NsightToolsError: it cannot be captured or analyzed.
        """
        bench, (load, build) = self.running.bench, self.running.asked(setting)
        engine = bench.engine(load, build)
        target = self.folder / f"{number}{SUFFIX}"
        captured = session.capture_engine(
            engine,
            target,
            load,
            bench.of_loading(build),
            replace(self.recording, telemetry_hz=bench.telemetry_hz),
            self.nsys,
            python=bench.python,
            say=lambda text: bench.say(f"  {text}"),
            force=True,
            interrupts=bench.interrupts,
        )
        if captured.interrupted:
            shutil.rmtree(target, ignore_errors=True)
            raise InterruptedCaptureError("interrupted")
        built = engine != bench.model
        return self._read(setting, target, str(engine.relative_to(self.folder)) if built else engine.name)

    def _read(self, setting: Setting, target: Path, engine: str) -> Found:
        trace = open_trace(target, nsys=self.nsys.path)
        outcomes = analyze(trace)
        promised = promises.of_outcomes(trace, outcomes)
        headline = self.headline(target.name, trace, outcomes)
        return Found(setting, target.name, promised, headline, engine, _dynamic(target / RUN))


def _dynamic(file: Path) -> dict[str, list[int]]:
    """The shapes of the inputs that the engine leaves open, by name, as a capture's `run.json` has them."""
    run = json.loads(file.read_text(encoding="utf-8"))
    source = run["measured"]["benchmark"]["shape_source"]
    return {tensor["name"]: tensor["shape"] for tensor in run["engine"]["inputs"] if source[tensor["name"]] != "engine"}
