"""The gate that has a GPU: what a setting computes of fixed inputs, beside a reference, or what the start computes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools import files
from nsight_tools.accuracy import AccuracyError, limits
from nsight_tools.capture import reference
from nsight_tools.tune.kept import START
from nsight_tools.tune.running import failing

if TYPE_CHECKING:
    from nsight_tools.accuracy import Accuracy
    from nsight_tools.capture.options import Checking
    from nsight_tools.tune.running import Running
    from nsight_tools.tune.settings import Setting


@dataclass
class Outputs:
    """Compares outputs with those that `--reference` names, else with those of the start."""

    running: Running
    folder: Path
    checking: Checking

    @property
    def name(self) -> str:
        """What they are compared with."""
        return self.checking.reference or START

    def begin(self, start: Setting) -> dict[str, Any] | None:
        """Keep the outputs of the start, and compare them with a reference; what came of that, None without one.

        Raises:
            AccuracyError: there is no such reference, it does not fit, the start is outside of the limits, or no output
                can be held to them.
            Failed: the start cannot be run.
        """
        named = self._named()
        load, build = self.running.asked(start)
        with failing(start):
            self.running.bench.outputs(
                load, build, self.folder / START, keep_inputs=named is not None and named.needs_inputs
            )
        judged = self._judged(named or self._start(), self.folder / START)
        if judged.unjudged:
            raise AccuracyError(
                f"the outputs cannot be judged by --accuracy: {'; '.join(judged.unjudged)}",
                hint="choose another measure, as rel:0.05",
            )
        if named is None:
            return None
        if not judged.passed:
            raise AccuracyError(
                f"the start itself is not as {named.name}: {'; '.join(judged.failures)}",
                hint="allow more with --accuracy, or begin with a setting that is right",
            )
        return judged.as_json()

    def check(self, setting: Setting) -> dict[str, Any]:
        """What a setting computes, beside that. What cannot be compared does not pass."""
        named = self._named() or self._start()
        load, build = self.running.asked(setting)
        with files.partial_folder(Path(tempfile.gettempdir()) / "nsight-tools-outputs") as scratch:
            with failing(setting):
                left = self.running.bench.outputs(load, build, scratch / "outputs", keep_inputs=named.needs_inputs)
            try:
                return self._judged(named, left).as_json()
            except AccuracyError as error:
                return {"passed": False, "failures": [str(error)], "reference": named.name}

    def _named(self) -> reference.Reference | None:
        given = self.checking.reference
        return reference.resolve(given, self.running.bench.model) if given else None

    def _start(self) -> reference.Reference:
        return reference.resolve(str(self.folder / START), self.running.bench.model)

    def _judged(self, named: reference.Reference, left: Path) -> Accuracy:
        within = [limit for text in self.checking.accuracy for limit in limits(text)]
        return named.judge(reference.kept(left), within)
