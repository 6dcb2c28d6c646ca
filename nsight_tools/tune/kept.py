"""The folder of a sweep or a tuning: what it is about, whose it is while it runs, and that it can be gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from nsight_tools import files
from nsight_tools.errors import OutputError
from nsight_tools.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ABOUT, START, ENGINES = "about.json", "start", "engines"
"""What is measured; of a tuning, what its start computes; and the engines that were built of an ONNX model."""
VERSION = 1
"""Of all that stands in such a folder."""


def about(kind: str, model: Path, given: Mapping[str, Any], probe: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured, and under which conditions: only what was measured under the same stands side by side.

    `given` are the options that all settings share, as they were typed; `probe` is what the runner's Python has.
    """
    device, versions = probe.get("device") or {}, probe.get("versions") or {}
    return {
        "version": VERSION,
        "kind": kind,
        "model": files.described(model),
        "given": {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()},
        "gpu": device.get("name"),
        "tensorrt": versions.get("tensorrt") or versions.get("tensorrt_rtx"),
    }


@contextlib.contextmanager
def opened(folder: Path, what: Mapping[str, Any], *, force: bool) -> Iterator[None]:
    """Hold `folder` for what `about` says, made if it is not there; `force` begins it anew.

    One that holds nothing that was measured at the end, goes.

    Raises:
        OutputError: it is about something else, somebody else holds it, or it cannot be written.
    """
    if force:
        _remove(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, f"cannot be made: {error.strerror}", hint="name another folder with -o") from error
    lock = files.held(folder)
    if lock is None:
        raise OutputError(folder, "is being written by another run", hint="wait for it, or name another with -o")
    try:
        _check(folder, what)
        yield
    finally:
        if not _measured(folder):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _measured(folder: Path) -> bool:
    """Whether it holds more than what it is about: a measurement, a ledger, or an engine that took time to build."""
    names = {path.name for path in folder.iterdir()} - {ABOUT, START}
    return bool(names - {ENGINES}) or any((folder / ENGINES).glob("*.engine"))


def put(path: Path, data: Mapping[str, Any]) -> None:
    """Write what a folder holds beside its measurements, whole. Raises OutputError where it cannot be written."""
    try:
        files.write(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}") from error


def _check(folder: Path, what: Mapping[str, Any]) -> None:
    file = folder / ABOUT
    if not file.exists():
        if any(folder.iterdir()):
            raise OutputError(folder, "holds something else", hint="name another folder with -o")
        put(file, {**what, "tool_version": __version__})
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        differs = next((name for name in what if before.get(name) != what[name]), None)
    except (OSError, ValueError, AttributeError) as error:
        raise OutputError(folder, f"{ABOUT} cannot be read", hint="start over with --force") from error
    if differs is not None:
        otherwise = _differing(before.get(differs), what[differs], differs)
        raise OutputError(
            folder, f"was measured with {otherwise}", hint="name another folder with -o, or start over with --force"
        )


def _differing(before: Any, now: Any, name: str) -> str:
    if name == "model" or not isinstance(now, dict) or not isinstance(before, dict):
        return "another model" if name == "model" else f"another {name}: {before}"
    option = next(each for each in {**before, **now} if before.get(each) != now.get(each))
    return f"another --{option.replace('_', '-')}"


def _remove(folder: Path) -> None:
    if folder.exists() and not (folder / ABOUT).exists() and any(folder.iterdir()):
        raise OutputError(folder, "holds something else, and is not replaced", hint="name another folder with -o")
    if folder.exists():
        lock = files.held(folder)
        if lock is None:
            raise OutputError(folder, "is being written by another run", hint="wait for it")
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
