"""Where Arrow takes memory from: the system's allocator, whatever part of the program comes to use it first."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from exports import kernel, write_sqlite

if TYPE_CHECKING:
    from pathlib import Path

CHOICE = "ARROW_DEFAULT_MEMORY_POOL"
COMMAND = """
import atexit, os, sys
from nsight_tools.cli import main
@atexit.register
def tell():
    import pyarrow
    loaded = "pandas" in sys.modules
    print(pyarrow.default_memory_pool().backend_name, os.environ.get("ARROW_DEFAULT_MEMORY_POOL"), loaded)
main()
"""
FRAME = """
from nsight_tools import allocator
allocator.without_pandas()
import pyarrow
print(list(pyarrow.table({"a": [1]}).to_pandas()["a"]))
"""
LIBRARY = """
import os
from nsight_tools import {}
import pyarrow
print(pyarrow.default_memory_pool().backend_name, os.environ.get("ARROW_DEFAULT_MEMORY_POOL"))
"""


def told(code: str, *arguments: str, choice: str | None = None) -> str:
    """The allocator in use after `code`, and what the environment says of it then."""
    surroundings = {name: value for name, value in os.environ.items() if name != CHOICE}
    surroundings |= {CHOICE: choice} if choice else {}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def export(tmp_path: Path) -> str:
    return str(write_sqlite(tmp_path / "report.sqlite", kernel(0, 1)))


@pytest.mark.parametrize("command", ["import", "analyze", "report", "compare", "export"])
def test_a_command_takes_the_systems_and_no_pandas(command: str, export: str, tmp_path: Path) -> None:
    others = {"compare": [export], "export": ["--format", "perfetto"]}.get(command, [])
    output = ["-o", str(tmp_path / "output")]
    assert told(COMMAND, command, export, *others, *output).splitlines()[-1] == "system None False"


def test_a_frame_is_one_even_so() -> None:
    assert told(FRAME) == "[1]"


@pytest.mark.parametrize("name", ["import_report", "open_trace"])
def test_so_does_the_library(name: str) -> None:
    assert told(LIBRARY.format(name)) == "system None"


@pytest.mark.parametrize("choice", pa.supported_memory_backends())
def test_what_the_user_chose_stays(choice: str) -> None:
    assert told(LIBRARY.format("open_trace"), choice=choice) == f"{choice} {choice}"
