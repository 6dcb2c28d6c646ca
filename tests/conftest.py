"""Fixtures that all tests share."""

from __future__ import annotations

import hashlib
import os
import signal
from typing import TYPE_CHECKING

import hypothesis
import pytest
from shared_corpus import CASES, CORPUS, EXPECTED, WHY_ABSENT, decompress, once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def pytest_configure() -> None:
    """Settings of all tests, and signals.

    What was started in the background ignores these signals; the processes that tests send them to must not.
    """
    hypothesis.settings.register_profile("without deadline", deadline=None)  # which is for the machine, not the code
    hypothesis.settings.load_profile("without deadline")
    os.environ["COLUMNS"] = "100"  # what is printed is as wide as the reader's terminal
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The corpus' folder; skips where it is absent."""
    if not EXPECTED.is_file():
        pytest.skip(WHY_ABSENT)
    return CORPUS


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of one pytest-xdist run share; pytest removes it some runs later."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def corpus_file(corpus: Path, session_folder: Path) -> Callable[[str], Path]:
    """Gives a file of the corpus by its name, or a drawn case beside it, decompressed into a folder of its own."""

    def get(name: str) -> Path:
        source = (CASES.parent if name.startswith(f"{CASES.name}/") else corpus) / name
        folder = session_folder / "corpus" / hashlib.sha256(name.encode()).hexdigest()[:8]
        if source.suffix == ".zst":
            return once(folder / source.stem, lambda made: decompress(source, made))
        return once(folder / source.name, lambda made: made.write_bytes(source.read_bytes()))

    return get
