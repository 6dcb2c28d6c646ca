"""The shared trace corpus, which lies beside the checkout where it is there at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parent.parent
CORPUS = REPOSITORY.parent / "shared" / "corpus"
EXPECTED = CORPUS / "expected.json"
CASES = CORPUS.parent / "cases"
WHY_ABSENT = "the shared trace corpus (../shared/corpus) is not beside this checkout"


def corpus_expected() -> dict[str, dict[str, Any]]:
    """The corpus' expected values by file; empty where there is no corpus, so that tests can be parametrised."""
    if not EXPECTED.is_file():
        return {}
    files: dict[str, dict[str, Any]] = json.loads(EXPECTED.read_text())["files"]
    return files


def corpus_files(*folders: str) -> list[str]:
    """The corpus' files in `folders`; where there is no corpus, one that skips and says why."""
    names = [name for name in corpus_expected() if name.split("/")[0] in folders]
    return names or ["no corpus"]


def corpus_folder(name: str) -> list[str]:
    """All traces of one of the corpus' folders, or of the drawn cases beside it; one that skips where it is absent."""
    found = sorted(path.name for path in (CASES if name == CASES.name else CORPUS / name).glob("*.sqlite.zst"))
    return [f"{name}/{each}" for each in found] or [f"{name}/no corpus"]


def once(target: Path, make: Callable[[Path], object]) -> Path:
    """Make `target` by `make(temporary path)` unless it is there; of several processes that do, one's result stays."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            make(made)
            try:
                # Neither replaces what another process was first to make, and has begun to read.
                if made.is_dir():
                    made.rename(target)
                else:
                    target.hardlink_to(made)
            except OSError:
                if not target.exists():
                    raise
    return target


def decompress(source: Path, target: Path) -> None:
    """Write the zstd-compressed `source` as `target`."""
    import pyarrow as pa

    with pa.OSFile(str(source)) as raw, pa.CompressedInputStream(raw, "zstd") as stream, target.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
