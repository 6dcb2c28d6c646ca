"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from shared_corpus import CASES, CORPUS, EXPECTED, WHY_ABSENT, decompress, once

if TYPE_CHECKING:
    from collections.abc import Callable

# Each worker of pytest-xdist keeps a core busy, and threads of linear algebra wait for each other in loops. NumPy reads
# it when it is first imported, which is later.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

TESTS = Path(__file__).parent
SLOW = (
    *("agents/", "benchmarks/", "capture/", "compatibility/", "corpus/", "faults/", "fleet/", "gpu/"),
    *("cli/test_cli_compare.py", "cli/test_cli_demo.py", "cli/test_cli_export.py", "cli/test_cli_others.py"),
    *("cli/test_cli_untraced.py", "comparison/test_compare.py", "comparison/test_compare_trtexec.py"),
    *("comparison/test_resampling.py", "comparison/test_two_verdicts.py"),
    *("importer/test_captured.py", "importer/test_connections.py", "importer/test_forking.py"),
    *("importer/test_import.py::test_two_imports_at_once", "importer/test_trtexec_run.py::test_a_profile_beside"),
    *("importer/test_dialects.py::test_come_in_order", "importer/test_pages.py", "importer/test_writer.py"),
    *("report/test_compared_html.py", "report/test_engine_graph.py", "report/test_figures.py"),
    *("report/test_html.py::test_commands", "report/test_html.py::test_ids_do"),
    *("report/test_nvtxt.py", "report/test_page_explored.py", "report/test_perfetto"),
    *("run/test_limits.py", "run/test_properties.py", "run/test_samples.py::test_one_clock_of_the_shipped"),
    *("timeline/test_repeats.py", "timeline/test_requests.py::test_the_accounting_agrees_with_its_definition"),
    *("tune/test_judging.py", "tune/test_programs.py", "tune/test_sweep_command.py", "tune/test_tune_command.py"),
    *("test_allocator.py", "test_api.py", "test_chunks.py", "test_documented.py::test_commands_run"),
    *("test_documents.py", "test_examples.py", "test_light_core.py", "test_notebooks.py", "test_nsys.py"),
    *("test_sample_traces.py", "test_self_timing.py", "test_trace.py::test_what_memory_cannot_hold"),
)
"""What names of tests begin with that start processes or a browser, work on real traces, compare runs whole, draw
figures, or draw many examples: marked slow, by what they were measured to take."""


def _is_slow(path: Path, name: str = "") -> bool:
    return path.is_relative_to(TESTS) and f"{path.relative_to(TESTS).as_posix()}{name}".startswith(SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Not even imported where they are not wanted."""
    return True if config.option.markexpr == "not slow" and _is_slow(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes the corpus, and as slow what is, and what takes more than this machine may have.

    The slow ones come first, documents and notebooks before all: the last tests of several processes are short then.
    """
    for item in items:
        if "corpus" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.corpus)
        heavy = any(item.get_closest_marker(name) for name in ("nsys", "corpus", "gpu"))
        if heavy or _is_slow(item.path, f"::{item.name}"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, item.path.parent != TESTS))


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end: none of the collections of garbage while they run has to look at them."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("corpus") and not EXPECTED.is_file():
        pytest.skip(WHY_ABSENT)


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
    """The corpus' folder. Who asks for it is marked `corpus`, and skips where it is absent."""
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
