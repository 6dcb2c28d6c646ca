"""One kernel further: the command by which Nsight Compute profiles a layer's kernel in the program that was traced."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.columns import words
from nsight_tools.report import safe
from nsight_tools.run import Run
from nsight_tools.run.engine import Engine, time_by_layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.trace import Trace

ROWS = 5
"""Layers that are handed over: each takes a run of its own under Nsight Compute."""
PROGRAM = "PROGRAM"
"""Stands for the program and its arguments: they are private, and in no dataset."""
HAND_OVER = (
    "Nsight Compute runs the kernel some dozens of times, alone, and writes kernel.ncu-rep; it needs the right to read "
    "the GPU's counters. It finds the kernel by its name, and by how many of that name are launched before it. PROGRAM "
    "stands for the program and its arguments, which are not in this page (a capture's run.json has them under "
    "passes), and the number holds where the report begins with the program, or with cudaProfilerStart, where "
    "--profile-from-start off belongs to it. If it begins later, the kernel is the same one of an earlier inference, "
    "or of the warm-up. trtexec stands for a captured engine, which launches the "
    "same kernels there."
)
"""What has to be known of the commands."""
_ENQUEUES = 2
"""Of trtexec's, that are let pass before the one whose kernel is profiled: the first ones set things up."""
_LONGEST = 1000
"""Characters of a command that is shown: one without its middle could not be run."""


@dataclass(frozen=True)
class HandOver:
    """A layer's longest kernel, what the layer takes of the kernel time, and the command that profiles the kernel.

    `time_ns` is an inference's, of the whole layer; `layer` is empty where no layers are known.
    """

    layer: str
    kernel: str
    time_ns: int
    share: float
    command: str


def hand_over(trace: Trace, rows: int = ROWS) -> list[HandOver]:
    """The layers that take the most time, the longest first; kernels by name, where no layers are known.

    The kernel is one of the first judged inference. Nsight Compute counts launches by the kernel's base name: as many
    are skipped as the report has before it. Empty where no kernels were recorded, or none of a judged inference.
    """
    run = Run.of(trace)
    judged = np.flatnonzero(run.requests.judged & run.requests.worked)
    if not judged.size or not run.count:
        return []
    seen = _Seen(run, int(judged[0]))
    times = time_by_layer(run)
    whole = sum(times.values())
    of, names = seen.layers if set(times) - {""} else seen.kernels
    candidates = []
    for code in np.unique(of[of >= 0]).tolist():
        mine = np.flatnonzero(of == code)
        place = int(mine[np.argmax(seen.time[mine])])
        layer = names[code] if names is not seen.names else ""
        time = times.get(layer, 0) if layer else int(seen.time[mine].sum()) * run.count
        candidates.append((time, layer, place))
    # What a reader does not see is not offered to be run.
    candidates = [
        candidate for candidate in candidates if safe.visible(name := seen.name(candidate[2]), _LONGEST) == name
    ]
    candidates.sort(key=lambda candidate: -candidate[0])
    program = trtexec(trace) or f"{_range(trace)}{PROGRAM}"
    return [
        HandOver(layer, seen.name(place), round(time / run.count), time / max(whole, 1), seen.command(place, program))
        for time, layer, place in candidates[:rows]
    ]


class _Seen:
    """The kernels of one request, in order of their launch, and those of their process before it."""

    def __init__(self, run: Run, request: int) -> None:
        work = run.work
        mine = np.flatnonzero((work.inference == request) & work.kind.among("kernel"))
        before = work[: int(mine[-1]) + 1 if mine.size else 0]
        order = np.lexsort((before.start, before.call_start))
        order = order[before.kind.among("kernel")[order]]
        short = words(run.trace.table("kernels", ["short_name"])["short_name"])
        self.names = short.dictionary
        self._every, self._pid = short.codes[before.row[order]], before.pid[order]
        self._place: Ints = np.flatnonzero(before.inference[order] == request)
        rows = order[self._place]
        self.time: Ints = (before.end - before.start)[rows]
        self._codes = self._every[self._place]
        layer = words(run.trace.table("launches", ["layer"])["layer"])
        self.layers = (layer.codes[rows], layer.dictionary)
        self.kernels = (self._codes, self.names)

    def name(self, place: int) -> str:
        return str(self.names[self._codes[place]])

    def command(self, place: int, program: str) -> str:
        """The command for the kernel at this place in the request."""
        same: Bools = self._codes == self._codes[place]
        within, per_request = int(same[:place].sum()), int(same.sum())
        if not program.endswith(PROGRAM):
            return _command(self.name(place), _ENQUEUES * per_request + within, program)
        at = int(self._place[place])
        earlier = (self._every[:at] == self._codes[place]) & (self._pid[:at] == self._pid[at])
        return _command(self.name(place), int(earlier.sum()), program)


def _command(kernel: str, skip: int, program: str) -> str:
    named = shlex.quote(kernel)
    return (
        f"ncu --set full --target-processes all --kernel-name {named} --launch-skip {skip} --launch-count 1 "
        f"--export kernel --force-overwrite {program}"
    )


def trtexec(trace: Trace) -> str | None:
    """The engine that a capture ran, run by trtexec; None where the trace is of anything else, or a word is not plain.

    Its inferences launch the same kernels in the same order: an engine holds which.
    """
    run = _mapping(trace.manifest.get("run"))
    model, given = _mapping(run.get("model")), _mapping(run.get("options"))
    if run.get("kind") != "engine":
        return None
    name = model.get("name")
    if not isinstance(name, str) or not name:
        return None
    engine = f"{PurePath(name).stem}.engine" if name.endswith(".onnx") else name
    parts = ["trtexec", f"--loadEngine={engine}", *_shapes(trace, given), *_loaded(given)]
    parts += [f"--iterations={_ENQUEUES + 2}", "--warmUp=0", "--duration=0"]
    line = " ".join(map(shlex.quote, parts))
    return line if safe.visible(line, _LONGEST) == line else None


def _range(trace: Trace) -> str:
    """What makes Nsight Compute count from where the report of a captured command begins."""
    asked = _mapping(_mapping(trace.manifest.get("run")).get("options"))
    return "--profile-from-start off " if asked.get("capture_range") is True else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _shapes(trace: Trace, given: Mapping[str, Any]) -> Iterator[str]:
    """The shapes that ran, where the capture was asked for some."""
    shapes = given.get("shapes")
    if given.get("batch") is not None:
        shapes = {tensor.name: list(tensor.shape) for tensor, _ in Engine.of(trace).inputs if tensor.shape}
    if isinstance(shapes, dict) and shapes:
        inputs = (f"{name}:{'x'.join(map(str, sizes))}" for name, sizes in shapes.items() if isinstance(sizes, list))
        yield f"--shapes={','.join(inputs)}"


def _loaded(given: Mapping[str, Any]) -> Iterator[str]:
    """How the engine was loaded, in trtexec's words."""
    from nsight_tools.capture.runner import options

    for option in options.OPTIONS:
        value = given.get(option.name)
        if option.of != "build" and option.trtexec and value not in (None, False, []):
            for number in value if isinstance(value, list) else [value]:
                yield option.trtexec.format(value=number)
