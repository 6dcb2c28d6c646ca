"""Where a dataset stands, whether it can be used again, and how one takes another's place: whole, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools.errors import DatasetError, OutputError
from nsight_tools.files import partial_folder, put_in_place
from nsight_tools.importer.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.importer.inputs import Inputs


def is_current(dataset: Path, inputs: Inputs, described: dict[str, Any]) -> bool:
    """Whether a dataset was made from these very files; what was only touched is told by its content."""
    try:
        made_from = read_manifest(dataset)["source"]
    except DatasetError:
        return False
    differs = {key for key, value in described.items() if made_from.get(key) != value}
    return not differs or (differs == {"modified_ns"} and made_from.get("sha256") == inputs.content_hash())


def place_of(inputs: Inputs, output: Path | None) -> Path:
    """Where their dataset stands: in `output`, else beside the report, else where the user's cache is.

    Raises OutputError where that folder cannot be made.
    """
    source, run = inputs.source, inputs.run
    name = f"{source.name}.trace"
    if output is not None:
        name = f"{run.name}.trace" if run else name  # every run directory's report has the same name
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(output, f"cannot be made: {error.strerror}", hint="choose another folder") from error
        return output / name
    if os.access(source.absolute().parent, os.W_OK):
        return source.with_name(name)
    folder = cache_folder() / hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, f"cannot be made: {error.strerror}", hint="use -o to write elsewhere") from error
    return folder / name


def cache_folder() -> Path:
    """Where datasets go whose report stands in a folder that cannot be written."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "nsight-tools"
    with contextlib.suppress(RuntimeError):
        home = Path.home()
        if os.access(home, os.W_OK):
            return home / ".cache" / "nsight-tools"
    return Path(tempfile.gettempdir()) / f"nsight-tools-{os.getuid()}"


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """One import of a target at a time; the second waits, and then finds the first one's dataset."""
    folder = Path(tempfile.gettempdir()) / f"nsight-tools-{os.getuid()}"
    name = hashlib.sha256(os.fsencode(target.absolute())).hexdigest()[:24]
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.lstat().st_uid != os.getuid():
                raise OutputError(folder, "belongs to somebody else", hint="set TMPDIR to a folder of your own")
            lock = stack.enter_context((folder / f"{name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise OutputError(
                folder, f"cannot be locked: {error.strerror}", hint="set TMPDIR to another one"
            ) from error
        yield


@contextlib.contextmanager
def partial(target: Path) -> Iterator[Path]:
    """A folder beside a dataset to write it into; what is left of it goes at the end. Raises OutputError."""
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(partial_folder(target))
        except OSError as error:
            raise OutputError(
                target.parent, f"cannot be written: {error.strerror}", hint="use -o to write elsewhere"
            ) from error
        yield partial


def put(dataset: Path, new: Path) -> None:
    """Put a whole dataset in its place. Raises OutputError where that cannot be written."""
    try:
        new.chmod(0o755)
        put_in_place(new, dataset)
    except OSError as error:
        raise OutputError(dataset, f"cannot be put in place: {error.strerror}", hint="use -o") from error
