"""The command line as a shell would run it, but in this process, which has loaded already what it takes."""

from __future__ import annotations

import inspect
import os
import tempfile
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from nsight_tools.cli import program


def invoke(*arguments: str | Path, **options: Any) -> Result:
    """Run a command; `options` are click's. The result has standard output and error apart."""
    # Before click 8.2 the runner mixes the two streams unless told not to, and after it knows no such option.
    old = "mix_stderr" in inspect.signature(CliRunner).parameters
    runner = CliRunner(**({"mix_stderr": False} if old else {}))
    return runner.invoke(program, [str(argument) for argument in arguments], **options)


def invoke_in(folder: Path, *arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    """Run a command in a folder, which its temporary files go to as well; its exit status, output and errors."""
    here, temporary = Path.cwd(), tempfile.tempdir
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    try:
        ran = invoke(*arguments, env={"TMPDIR": str(folder), **environment})
    finally:
        os.chdir(here)
        tempfile.tempdir = temporary
    return ran.exit_code, ran.stdout, ran.stderr
