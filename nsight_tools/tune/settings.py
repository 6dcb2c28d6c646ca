"""How an engine is run and built, as options of `capture`: what a sweep varies, and a tuning changes."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING, Any

from nsight_tools import changes
from nsight_tools.capture.options import Build
from nsight_tools.capture.runner.options import BY_NAME
from nsight_tools.findings import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Value = bool | int | str

USUAL: Mapping[str, Any] = {"streams": 1, "threads": 1}
"""What `capture` does where it is not told: an option that says the same is no option."""


@dataclass(frozen=True)
class Setting:
    """Options that are not as by default, by their names on the command line, in order of name.

    Two settings that do the same are equal.
    """

    options: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Setting:
        """Of these options; values that mean the default are dropped."""
        kept = {name: value for name, value in options.items() if not _usual(name, value)}
        return cls(tuple(sorted(kept.items())))

    def changed(self, *those: Change) -> Setting:
        """The same with these changes."""
        return Setting.of(self.as_json() | {each.option: each.value for each in those})

    def get(self, option: str) -> Any:
        """An option's value, the default where it is not given."""
        return dict(self.options).get(option, USUAL.get(option, False))

    def has(self, change: Change) -> bool:
        """Whether it is so already."""
        return bool(self.get(change.option) == change.value)

    def as_json(self) -> dict[str, Value]:
        """The options as a JSON object."""
        return dict(self.options)

    @property
    def key(self) -> str:
        """The same as text, to tell settings apart by."""
        return json.dumps(self.as_json(), sort_keys=True)

    @property
    def flags(self) -> str:
        """As the command line of `capture` has it; empty for the default."""
        return " ".join(_flag(name, value) for name, value in self.options)

    def __str__(self) -> str:
        return self.flags or "as by default"


def _usual(name: str, value: object) -> bool:
    return value is None or value is False or (name in USUAL and value == USUAL[name])


def _flag(name: str, value: Value) -> str:
    line = f"--{name.replace('_', '-')}"
    return line if value is True else f"{line} {shlex.quote(str(value))}"


def conflict(setting: Setting) -> str | None:
    """Why the runner would refuse it, where that can be told before it is asked; None where it would not."""
    if setting.get("default_stream"):
        for name in changes.ONE_STREAM:
            if setting.get(name) != USUAL.get(name, False):
                return f"the default stream is one stream, and takes no --{name.replace('_', '-')}"
    return None


def capture_command(model: str, setting: Setting, given: Mapping[str, str | Sequence[str]]) -> str:
    """The `nsight-tools capture` that runs it; `given` are other options, as they were typed, by name."""
    parts = ["nsight-tools capture", shlex.quote(model)]
    for name, typed in given.items():
        parts += [f"--{name.replace('_', '-')} {shlex.quote(text)}" for text in _each(typed)]
    return " ".join([*parts, setting.flags]).strip()


_OTHERWISE_FROM_11 = {
    "use_cuda_graph": "--noCudaGraph",
    "use_spin_wait": "--noSpinWait",
    "no_data_transfers": "--includeDataTransfers",
}
"""What trtexec 11 does unless told otherwise, as `docs/trtexec.md` has it, and how it is told."""


def trtexec_command(
    model: str,
    setting: Setting,
    given: Mapping[str, str | Sequence[str]],
    tensorrt: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> str:
    """The trtexec that runs it, as far as trtexec can: it always pins memory, and makes its own streams.

    `tensorrt` is the version: from 11 on trtexec uses a graph, spins and copies nothing unless it is told otherwise.
    `shapes` are those of the dynamic inputs, by name, as it ran (trtexec takes no shape of another input); None where
    they are not known: then they are as they were typed, and what a batch makes of them stands behind, as a comment.
    """
    if given.get("runtime", Build.runtime) != Build.runtime:
        return f"# trtexec neither builds nor runs engines of {given['runtime']}"
    load = "--onnx" if model.endswith(".onnx") else "--loadEngine"
    parts = ["trtexec", f"{load}={shlex.quote(model)}"]
    if shapes:
        parts.append(f"--shapes={shlex.quote(','.join(starmap(_shape, shapes.items())))}")
    for name, typed in given.items():
        if name == "shapes" and shapes is not None:
            continue
        row = BY_NAME.get(name)
        flag = row.trtexec if row else _OF_TRTEXEC.get(name, "")
        parts += [flag.format(value=shlex.quote(text)) for text in _each(typed) if flag.startswith("--")]
    flags = [
        changes.said(Change(name, value)).trtexec
        for name, value in setting.options
        if value is not False and (name != "batch" or shapes is None)
    ]
    parts += [flag for flag in flags if flag.startswith("--") and " " not in flag]
    if tensorrt and tensorrt.partition(".")[0].isdigit() and int(tensorrt.partition(".")[0]) >= 11:
        parts += [flag for option, flag in _OTHERWISE_FROM_11.items() if not setting.get(option)]
    parts += [] if setting.get("overlap_transfers") or setting.get("no_data_transfers") else ["--exposeDMA"]
    by_hand = [f"# and {flag}" for flag in flags if flag.startswith("--") and " " in flag]
    return " ".join(filter(None, [*parts, *by_hand]))


def _shape(name: str, shape: Sequence[int]) -> str:
    """An input's shape as trtexec reads it: a name that holds what parts them stands in quotes."""
    named = f"'{name}'" if set(name) & set(":,") else name
    return f"{named}:{'x'.join(map(str, shape)) or 'scalar'}"


_OF_TRTEXEC = {"shapes": "--shapes={value}", "load_inputs": "--loadInputs={value}"}


def _each(typed: str | Sequence[str]) -> Sequence[str]:
    """What was typed for an option, once or several times."""
    return (typed,) if isinstance(typed, str) else typed


def of_api(setting: Setting) -> tuple[str, ...]:
    """What a program calls for each of its options, in TensorRT's and CUDA's words."""
    mistakes = {"pageable", "default_stream"}
    kept = [Change(name, value) for name, value in setting.options if name not in mistakes]
    kept += [Change(name, value=False) for name in sorted(mistakes) if not setting.get(name)]
    return tuple(f"{changes.done(each)}: {said.api}" for each in kept if (said := changes.said(each)).api)


def product(options: Mapping[str, Iterable[Any]]) -> list[Setting]:
    """Every combination of the options' values, the last option's values nearest to each other; each once."""
    combined: list[dict[str, Any]] = [{}]
    for name, values in options.items():
        combined = [so_far | {name: value} for so_far in combined for value in values]
    return list(dict.fromkeys(map(Setting.of, combined)))
