"""One installed Nsight Systems: what it can do, exporting a report with it, and adding events to one."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from nsight_tools.errors import InputError, NsysError, OutputError
from nsight_tools.files import partial_folder
from nsight_tools.nsys.failures import disk_full, failure
from nsight_tools.nsys.reports import check_report
from nsight_tools.nsys.running import run, terminated_by_exception
from nsight_tools.nsys.versions import ABILITIES, Version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nsight_tools.nsys.running import Progress
    from nsight_tools.nsys.versions import Ability

ExportKind: TypeAlias = Literal["parquetdir", "sqlite"]
_TAKEN = re.compile(r"(\d+) events imported")


OLDER_NVTX = "pip install nvtx==0.2.11"
"""Brings the last version of Python's `nvtx` whose ranges every nsys keeps: `Nsys.loses_python_nvtx`."""


@dataclass(frozen=True)
class Nsys:
    """One installed Nsight Systems that has answered with its version."""

    path: Path
    version: Version

    def can(self, ability: Ability) -> bool:
        """Whether this version has `ability`."""
        since, until = ABILITIES[ability]
        return self.version >= since and (until is None or self.version < until)

    @property
    def gpu_metrics_option(self) -> str:
        return "--gpu-metrics-devices" if self.can("gpu_metrics_devices") else "--gpu-metrics-device"

    def profile_says(self, option: str = "--help") -> str:
        """What `nsys profile` says where it is only asked, as for `--help`.

        Raises:
            NsysError: it gives no answer.
        """
        command = [str(self.path), "profile", option]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NsysError(str(error)) from error
        return (done.stdout + done.stderr).decode(errors="replace")

    def loses_python_nvtx(self, nvtx_version: str) -> bool:
        """Whether ranges of this version of Python's `nvtx` package vanish, silently, under this nsys.

        nvtx 0.2.12 and later lose every range under nsys 2022.4.2, 2023.4.4 and 2024.2.3, and none under 2025.3. Where
        between 2024.2.3 and 2025.3 it was mended is not known, so False there means "not known to lose them".
        """
        nvtx = tuple(int(number) for number in re.findall(r"\d+", nvtx_version)[:3])
        return nvtx >= (0, 2, 12) and self.version[:2] <= (2024, 2)  # the last one that was seen to lose them

    def export(
        self, report: Path, to: Path, *, kind: ExportKind | None = None, progress: Progress | None = None
    ) -> Path:
        """Exports `report` to `to`, which must not exist yet: a folder of Parquet files, or an SQLite file.

        `kind` is the best that this version can do unless given. `progress` is called with what is being done and the
        share done (0 to 1, None while unknown). There is no time limit. Until it is whole, the export grows in a folder
        `<to>.….partial` beside `to`, which is gone afterwards, however this ends.

        Returns:
            `to`.

        Raises:
            InputError: the report is missing, empty, corrupt, or no report.
            OutputError: `to` exists already or cannot be written, or the disk is full.
            NsysError: this nsys is too old for the report or for `kind`, cannot be run, or failed.
        """
        kind = kind or ("parquetdir" if self.can("parquetdir") else "sqlite")
        if kind == "parquetdir" and not self.can("parquetdir"):
            since = Version(ABILITIES["parquetdir"][0])
            raise NsysError(f"nsys {self.version} cannot export to Parquet", hint=f"export to sqlite, or use {since}+")
        check_report(report)
        if os.path.lexists(to):
            raise OutputError(to, "already exists", hint="remove it or choose another name")
        with terminated_by_exception(), _partial_folder(to) as folder:
            made = folder / f"export.{kind}"
            command = [self.path, "export", f"--type={kind}", f"--output={made.absolute()}", report.absolute()]
            code, said = run(list(map(str, command)), progress or (lambda _what, _share: None))
            if code != 0 or disk_full(said):
                raise failure(self.path, self.version, report, to, code, said)
            self._check_whole(made, report, to)
            try:
                made.rename(to)
            except OSError as error:
                raise OutputError(to, f"cannot be written: {error.strerror}") from error
        return to

    def import_nvtxt(self, report: Path, nvtxt: str, to: Path, *, progress: Progress | None = None) -> int:
        """Writes `report` with the text events `nvtxt` added to `to`, which must not exist yet.

        Done by ImportNvtxt, which the host part of Nsight Systems brings. Until it is whole, the new report grows in a
        folder beside `to`, as in `export`.

        Returns:
            How many of the events ImportNvtxt took: it leaves out what lies outside of the session.

        Raises:
            InputError: the report is missing, empty, corrupt, no report, or has several targets.
            OutputError: `to` exists already or cannot be written, or the disk is full.
            NsysError: this nsys brings no ImportNvtxt, is too old for the report, took no event, or failed.
        """
        program = self.nvtxt_importer(report, to)
        with terminated_by_exception(), _partial_folder(to) as folder:
            events, made = folder / "events.nvtxt", folder / "annotated.nsys-rep"
            try:
                events.write_text(nvtxt, encoding="utf-8")
            except OSError as error:
                raise OutputError(to, f"cannot be written: {error.strerror}") from error
            files = {"-i": report, "-n": events, "-o": made}
            command = [program, "--cmd", "merge", *(word for o, f in files.items() for word in (o, f.absolute()))]
            code, said = run(list(map(str, command)), progress or (lambda _what, _share: None), program.parent)
            text = "\n".join(said)
            if "multitarget" in text:
                raise InputError(
                    report, "has several targets, as an annotated report has", hint="give the original one"
                )
            if code != 0 or disk_full(said):
                raise failure(self.path, self.version, report, to, code, said)
            taken = _TAKEN.search(text)
            if not made.exists() or not taken:
                raise NsysError(
                    f"{report}: ImportNvtxt took none of the events: {next(iter(said[-1:]), 'no reason given')}"
                )
            try:
                made.rename(to)
            except OSError as error:
                raise OutputError(to, f"cannot be written: {error.strerror}") from error
        return int(taken[1])

    def nvtxt_importer(self, report: Path, to: Path) -> Path:
        """ImportNvtxt; raises what `import_nvtxt` would that is known before there are any events."""
        program = self._beside("ImportNvtxt")
        check_report(report)
        if os.path.lexists(to):
            raise OutputError(to, "already exists", hint="remove it or choose another name")
        return program

    def _beside(self, program: str) -> Path:
        """A program of the host part: beside the folder that nsys is in, or below that of the script that starts it."""
        for nsys in (self.path, self.path.resolve()):
            for root in (nsys.parent, nsys.parent.parent):
                if found := sorted(root.glob(f"host-linux-*/{program}")):
                    return found[-1]
        raise NsysError(
            f"the Nsight Systems {self.version} at {self.path} brings no {program}",
            hint="the full Nsight Systems has it, nsight-systems-cli does not: name an nsys of that one with --nsys",
        )

    def _check_whole(self, made: Path, report: Path, to: Path) -> None:
        """Raises unless nsys made what it was asked for, every file with its beginning and its end."""
        files = sorted(made.iterdir()) if made.is_dir() else [made] if made.exists() else []
        if not files:
            raise NsysError(
                f"{report}: nsys {self.version} exported nothing and gave no reason", hint="try another version"
            )
        for file in files:
            start, end = (b"PAR1", b"PAR1") if file.suffix == ".parquet" else (b"SQLite format 3\0", b"")
            if _ends(file, len(start), len(end)) != (start, end):
                raise OutputError(to, f"nsys {self.version} wrote only a part of {file.name}", hint="is the disk full?")


def _ends(file: Path, first: int, last: int) -> tuple[bytes, bytes]:
    with file.open("rb") as opened:
        start = opened.read(first)
        opened.seek(max(0, opened.seek(0, os.SEEK_END) - last))
        return start, opened.read(last)


@contextlib.contextmanager
def _partial_folder(to: Path) -> Iterator[Path]:
    """A new folder beside `to`, gone at the end; it also takes what nsys and SQLite leave beside their output."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(partial_folder(to))
        except OSError as error:
            raise OutputError(to, f"cannot be written: {error.strerror}") from error
        yield folder
