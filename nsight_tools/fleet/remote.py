"""What fsspec reaches (`s3://`, `gs://`, `memory://`, …): reports are fetched to a folder here, results put there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools.errors import InputError, NsightToolsError, OutputError, bring
from nsight_tools.files import put_in_place
from nsight_tools.importer import LAYERS_SUFFIX, REPORTS, cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_STATE = "fetched.json"
_IDENTITY = ("size", "ETag", "etag", "mtime", "LastModified", "created", "updated", "md5Hash")
"""What file systems say of a file that changes with its content."""


def is_url(path: str) -> bool:
    """Whether `path` names a file system, as `s3://bucket/key` does."""
    return _URL.match(path) is not None


def glob(pattern: str) -> list[str]:
    """The URLs that match."""
    fs, path = _opened(pattern)
    with _errors(pattern):
        return [fs.unstrip_protocol(name) for name in sorted(fs.glob(path))]


def children(url: str) -> list[str]:
    """The URLs in a folder; none where it is a file, or nothing."""
    fs, path = _opened(url)
    with _errors(url):
        return [fs.unstrip_protocol(name) for name in sorted(fs.ls(path, detail=False))] if fs.isdir(path) else []


def read_text(path: str) -> str:
    """A small text file, here or there. Raises InputError where it cannot be read."""
    with _errors(path):
        if not is_url(path):
            return Path(path).read_text(encoding="utf-8")
        fs, there = _opened(path)
        return bytes(fs.cat_file(there)).decode("utf-8")


def fetched(url: str) -> Path:
    """The report, export, dataset or run directory at `url`, as a path here: fetched once, and again when it changes.

    It lies in the user's cache, in a folder of its own, where its dataset is put beside it too. Raises InputError where
    it cannot be read; nothing half-fetched is left.
    """
    fs, path = _opened(url)
    name = path.rstrip("/").rpartition("/")[2]
    folder = cache_folder() / "fetched" / hashlib.sha256(url.encode()).hexdigest()[:16]
    with _errors(url):
        if not fs.exists(path):
            raise InputError(url, "does not exist")
        state = _state(fs, path)
        if _read_state(folder / _STATE) == state:
            return folder / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent))
        try:
            for there, relative in _files(fs, path, name):
                here = _inside(partial, relative, url)
                here.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(there, str(here))
            (partial / _STATE).write_text(json.dumps(state), encoding="utf-8")
            put_in_place(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder / name


def _inside(folder: Path, relative: str, url: str) -> Path:
    """A file of `url` in this folder. Raises InputError where its name leads out of it."""
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(url, f"holds a file named '{relative}', which lies outside of it")
    return path


def put(here: Path, url: str) -> None:
    """Copy a file or a folder to `url`. Raises OutputError where that fails."""
    fs, path = _opened(url)
    with _writing(url):
        for file in sorted(path for path in here.rglob("*") if path.is_file()) if here.is_dir() else [here]:
            there = f"{path.rstrip('/')}/{file.relative_to(here).as_posix()}" if here.is_dir() else path
            fs.makedirs(there.rpartition("/")[0], exist_ok=True)
            fs.put_file(str(file), there)


def exists(url: str) -> bool:
    """Whether there is anything."""
    fs, path = _opened(url)
    with _writing(url):
        return bool(fs.exists(path))


def remove(url: str) -> None:
    """Remove the folder at `url`, where there is one."""
    fs, path = _opened(url)
    with _writing(url):
        if fs.exists(path):
            fs.rm(path, recursive=True)


def _files(fs: Any, path: str, name: str) -> list[tuple[str, str]]:
    """Files to fetch, each with its place: all of a folder, or the file with the layers that stand beside it."""
    if fs.isdir(path):
        root = path.rstrip("/")
        return [(there, f"{name}{there[len(root) :]}") for there in sorted(fs.find(root))]
    files = [(path, name)]
    stem = next((name.removesuffix(end) for end in (*REPORTS, ".sqlite") if name.endswith(end)), "")
    layers = f"{path.removesuffix(name)}{stem}{LAYERS_SUFFIX}"
    return [*files, (layers, f"{stem}{LAYERS_SUFFIX}")] if stem and fs.exists(layers) else files


def _state(fs: Any, path: str) -> list[list[str]]:
    """What changes when a file there does."""
    name = path.rstrip("/").rpartition("/")[2]
    state = []
    for there, relative in _files(fs, path, name):
        info = fs.info(there)
        state.append([relative, *(f"{key}={info[key]}" for key in _IDENTITY if info.get(key) is not None)])
    return state


def _read_state(file: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(file.read_text(encoding="utf-8"))
    return None


def _opened(url: str) -> tuple[Any, str]:
    """The file system that `url` names, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        hint = f"{bring('remote')}, with s3fs, gcsfs or what else it takes"
        raise NsightToolsError(f"{url}: reading URLs takes fsspec", hint=hint) from error
    try:
        fs, path = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise NsightToolsError(f"{url}: {error}", hint="install what reads it") from error
    except Exception as error:
        raise InputError(url, f"cannot be opened: {_first_line(error)}") from error
    return fs, str(path)


@contextlib.contextmanager
def _errors(url: str) -> Iterator[None]:
    """Whatever a file system raises, and each raises its own, is about this URL."""
    try:
        yield
    except NsightToolsError:
        raise
    except Exception as error:
        raise InputError(url, f"cannot be read: {_first_line(error)}") from error


@contextlib.contextmanager
def _writing(url: str) -> Iterator[None]:
    try:
        yield
    except NsightToolsError:
        raise
    except Exception as error:
        raise OutputError(url, f"cannot be written: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return message.splitlines()[0]
