"""Disks that are full or cannot be written, no home, links, odd names: an import succeeds or says why, and is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from patience import PATIENCE_S

from nsight_tools import open_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOUNT, UMOUNT = (shutil.which(name) or "false" for name in ("mount", "umount"))
SAMPLE = Path(__file__).resolve().parents[2] / "sample_traces" / "classifier_cuda_graph.sqlite"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of its own in memory; skips where that is not permitted."""
    made: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / "mounted"
        folder.mkdir(exist_ok=True)
        command = [MOUNT, "-t", "tmpfs", "-o", options, "none", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        made.append(folder)
        return folder

    yield mount
    for folder in reversed(made):
        subprocess.run([UMOUNT, str(folder)], check=True)


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nsight_tools", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False, timeout=PATIENCE_S
    )


def test_a_full_disk(mounted: Callable[[str], Path]) -> None:
    """The report fits, its dataset does not; with more room it does, and then a full disk leaves it as it is."""
    folder = mounted("size=760k")
    report = folder / SAMPLE.name
    shutil.copy(SAMPLE, report)
    done = run("import", report)
    assert done.returncode == 2
    assert "No space left on device; make room, or use -o" in done.stderr
    assert [path.name for path in folder.iterdir()] == [report.name]
    subprocess.run([MOUNT, "-o", "remount,size=20m", str(folder)], check=True)
    assert run("import", report).returncode == 0
    rows = open_trace(report).rows("kernels")
    used = shutil.disk_usage(folder).used
    subprocess.run([MOUNT, "-o", f"remount,size={used + (40 << 10)}", str(folder)], check=True)
    assert "No space left on device" in run("import", "--force", report).stderr
    assert {path.name for path in folder.iterdir()} == {report.name, f"{report.name}.trace"}
    assert open_trace(report).table("kernels").num_rows == rows > 0


def test_a_folder_that_cannot_be_written(mounted: Callable[[str], Path], tmp_path: Path) -> None:
    """The dataset goes into the cache, and nowhere where that cannot be written either."""
    folder = mounted("size=20m")
    shutil.copy(SAMPLE, folder)
    subprocess.run([MOUNT, "-o", "remount,ro", str(folder)], check=True)
    done = run("import", folder / SAMPLE.name, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "cache")
    done = run("import", folder / SAMPLE.name, XDG_CACHE_HOME=str(folder / "cache"))
    assert done.returncode == 2
    assert "Read-only file system; use -o to write elsewhere" in done.stderr
    assert [path.name for path in folder.iterdir()] == [SAMPLE.name]


@pytest.mark.parametrize("home", ["/nonexistent", ""])
def test_no_home(tmp_path: Path, home: str) -> None:
    shutil.copy(SAMPLE, tmp_path)
    done = run("analyze", tmp_path / SAMPLE.name, HOME=home, XDG_CACHE_HOME="", MPLCONFIGDIR=str(tmp_path / "mpl"))
    assert done.returncode == 0, done.stderr
    assert "Findings" in done.stdout


@pytest.mark.parametrize("name", ["größer 推論 [1]*?.sqlite", "-o.sqlite", "a'b\"c;$(x).sqlite", "x" * 200 + ".sqlite"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a folder [ä]"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / name)
    for _ in range(2):
        done = run("import", folder / name)
        assert done.returncode == 0, done.stderr
        assert {path.name for path in folder.iterdir()} == {name, f"{name}.trace"}


def test_links(tmp_path: Path) -> None:
    """A link to a report is a report of its own; one that stands where the dataset goes is replaced, not followed."""
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(SAMPLE, tmp_path / "elsewhere")
    link, other = tmp_path / "link.sqlite", tmp_path / "other"
    link.symlink_to(tmp_path / "elsewhere" / SAMPLE.name)
    other.mkdir()
    (other / "file").write_text("kept", encoding="utf-8")
    (tmp_path / "link.sqlite.trace").symlink_to(other)
    assert run("import", link).returncode == 0
    assert (other / "file").read_text(encoding="utf-8") == "kept"
    assert open_trace(tmp_path / "link.sqlite.trace").rows("kernels") > 0
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [SAMPLE.name]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["elsewhere", "link.sqlite", "link.sqlite.trace", "other"]
