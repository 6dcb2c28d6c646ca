"""Nsight Systems' command line: where it is, what its version can do, exporting a report and adding events to one.

Nothing else in the package starts nsys. Messages and exit codes are those of 2022.4.2, 2023.4.4 and 2024.2.3.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

from nsight_tools import memory
from nsight_tools.errors import InputError, NsightToolsError, NsysError, OutputError
from nsight_tools.files import partial_folder

ExportKind: TypeAlias = Literal["parquetdir", "sqlite"]
Ability: TypeAlias = Literal[
    "parquetdir",
    "nsys_rep",
    "cuda_graph_trace",
    "gpu_metrics_device",
    "gpu_metrics_devices",
    "nvml_metrics",
    "cuda_event_trace",
    "python_gil",
]
Progress: TypeAlias = Callable[[str, "float | None"], None]

ENVIRONMENT_VARIABLE = "NSIGHT_TOOLS_NSYS"
HOW_TO_GET = (
    "install the package nsight-systems (Debian, non-free), nsight-systems-cli (NVIDIA's own) or the CUDA toolkit, or "
    f"see https://developer.nvidia.com/nsight-systems; name one elsewhere with --nsys or {ENVIRONMENT_VARIABLE}; "
    "a .sqlite export is read without nsys"
)

# Below an installation, whatever the processor: target-linux-x64, target-linux-sbsa-armv8, …
_WITHIN = ("nsys", "bin/nsys", "target-linux-*/nsys")
# Groups in order of trust. The copy in Nsight Compute comes last: it is there to look at one kernel's surroundings.
_USUAL_PLACES = (
    (
        *(f"/opt/nvidia/nsight-systems*/{within}" for within in _WITHIN),
        *(f"/opt/nvidia/nsight-systems*/*/{within}" for within in _WITHIN),
        *(f"/usr/lib/nsight-systems*/{within}" for within in _WITHIN),
        "/usr/local/cuda*/bin/nsys",
        *(f"/usr/local/cuda*/nsight-systems-*/{within}" for within in _WITHIN),
    ),
    ("/opt/nvidia/nsight-compute/*/host/target-linux-*/nsys",),
)

# Followed by 2024@2@3@38-242334140272v0; by no version, but 1 or 36398880, where a CUDA toolkit's 2022.4 or the copy
# in Nsight Compute 2025.3 wrote it.
_REPORT_HEADER = b"NVIDIA Tegra Profiler Report "
_HEADER_VERSION = re.compile(re.escape(_REPORT_HEADER) + rb"(\d{4}(?:[.@]\d+)+)")
_VERSION = re.compile(r"\b(\d{4}(?:\.\d+)+)")
_PROGRESS = re.compile(r"(?P<what>[^\[\]]*)\[=*\s*(?P<percent>\d{1,3})%\s*\]")  # Processing 2730 events: [===45%   ]
_NEWER = re.compile(r"version\s+\(([^)]+)\),\s+newer than your current version")
# What 2022.4, and 2023.4 and later, say of a newer report whose header does not tell its version.
_UNKNOWN_FORMAT = re.compile(r"Version not supported|missing required fields")
_DISK_FULL = re.compile(r"disk is full|No space left|Error writing bytes to file|Disk quota exceeded", re.IGNORECASE)
_CORRUPT = re.compile(r"magic number|outside of the allowed range|Version tag|Cannot read|decompression|Protobuf")
_TAKEN = re.compile(r"(\d+) events imported")
_LINES_KEPT = 200  # of nsys' own words; a full disk repeats one line for every page


class Version(tuple[int, ...]):
    """A version of Nsight Systems: compares as the tuple of numbers that it is, reads as `2023.4.4.54`."""

    __slots__ = ()

    def __str__(self) -> str:
        return ".".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """The first version in `text`, such as `NVIDIA Nsight Systems version 2023.4.4.54-234433681190v0`."""
        found = _VERSION.search(text.replace("@", "."))
        return cls(int(number) for number in found[1].split(".")) if found else None


# Ability: the first version with it, and the first without it again.
_ABILITIES: dict[Ability, tuple[tuple[int, ...], tuple[int, ...] | None]] = {
    "parquetdir": ((2023, 4), None),  # export --type=parquetdir; seen in 2023.4.4 and 2024.2.3
    "nsys_rep": ((2021, 4), None),  # reports end in .nsys-rep, in .qdrep before
    "cuda_graph_trace": ((2022, 1), None),  # profile --cuda-graph-trace=graph|node; may be a little older
    # 2024.2.3 knows the first and refuses the second, later ones the other way round; 2024.3 was not tried.
    "gpu_metrics_device": ((2021, 2), (2024, 4)),  # profile --gpu-metrics-device=
    "gpu_metrics_devices": ((2024, 4), None),  # profile --gpu-metrics-devices=
    "nvml_metrics": ((2025,), None),  # profile --enable=nvml_metrics
    "cuda_event_trace": ((2025,), None),  # profile --cuda-event-trace=auto|true|false
    "python_gil": ((2023, 4), None),  # profile --trace=python-gil; seen in 2023.4.4, and not in 2022.4.2
}


@dataclass(frozen=True)
class Nsys:
    """One installed Nsight Systems that has answered with its version."""

    path: Path
    version: Version

    def can(self, ability: Ability) -> bool:
        """Whether this version has `ability`."""
        since, until = _ABILITIES[ability]
        return self.version >= since and (until is None or self.version < until)

    @property
    def abilities(self) -> dict[Ability, bool]:
        """Every ability that is known of, and whether this version has it."""
        return {ability: self.can(ability) for ability in _ABILITIES}

    @property
    def gpu_metrics_option(self) -> str:
        return "--gpu-metrics-devices" if self.can("gpu_metrics_devices") else "--gpu-metrics-device"

    @property
    def report_suffix(self) -> str:
        return ".nsys-rep" if self.can("nsys_rep") else ".qdrep"

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
            since = Version(_ABILITIES["parquetdir"][0])
            raise NsysError(f"nsys {self.version} cannot export to Parquet", hint=f"export to sqlite, or use {since}+")
        check_report(report)
        if os.path.lexists(to):
            raise OutputError(to, "already exists", hint="remove it or choose another name")
        with _terminated_by_exception(), _partial_folder(to) as folder:
            made = folder / f"export.{kind}"
            command = [self.path, "export", f"--type={kind}", f"--output={made.absolute()}", report.absolute()]
            code, said = _run(list(map(str, command)), progress or (lambda _what, _share: None))
            if code != 0 or _DISK_FULL.search("\n".join(said)):  # a parquetdir on a full disk exits 0
                raise self._failure(report, to, code, said)
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
        with _terminated_by_exception(), _partial_folder(to) as folder:
            events, made = folder / "events.nvtxt", folder / "annotated.nsys-rep"
            try:
                events.write_text(nvtxt, encoding="utf-8")
            except OSError as error:
                raise OutputError(to, f"cannot be written: {error.strerror}") from error
            files = {"-i": report, "-n": events, "-o": made}
            command = [program, "--cmd", "merge", *(word for o, f in files.items() for word in (o, f.absolute()))]
            code, said = _run(list(map(str, command)), progress or (lambda _what, _share: None), program.parent)
            text = "\n".join(said)
            if "multitarget" in text:
                raise InputError(
                    report, "has several targets, as an annotated report has", hint="give the original one"
                )
            if code != 0 or _DISK_FULL.search(text):
                raise self._failure(report, to, code, said)
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

    def _failure(self, report: Path, to: Path, code: int, said: Sequence[str]) -> NsightToolsError:
        """What nsys' words and exit code mean."""
        text = "\n".join(said)
        errors = [line.removeprefix("Exportation error: ") for line in said if line.startswith("Exportation error: ")]
        short = next(iter(errors or said[-1:]), "it gave no reason")[:300]
        if _DISK_FULL.search(text):
            free_mb = shutil.disk_usage(to.parent).free // 1_000_000
            problem = f"the disk is full or refuses writing ({free_mb} MB free; nsys: {short})"
            return OutputError(to, problem, hint="free some space, or export to another disk")
        captured = report_version(report)
        told = _NEWER.search(text)
        if told or (captured and captured > self.version):
            newer = (told and Version.parse(told[1])) or captured
            return NsysError(
                f"{report}: captured by Nsight Systems {newer}, newer than the nsys at {self.path} ({self.version})",
                hint=f"name an nsys {newer} or later with --nsys, or export it to .sqlite where it was captured",
            )
        headed = is_report(report)
        if headed and captured is None and (unknown := _UNKNOWN_FORMAT.search(text)):
            return NsysError(
                f"{report}: the nsys at {self.path} ({self.version}) does not know its format (nsys: {unknown[0]}); "
                "a newer Nsight Systems captured it, or it is damaged",
                hint="name a newer nsys with --nsys, or export it to .sqlite where it was captured",
            )
        if _CORRUPT.search(text) or (not headed and code > 0):
            what = "the report is corrupt or cut short" if headed else "not an Nsight Systems report"
            return InputError(report, f"{what} (nsys: {short})", hint="copy it again, or capture again")
        ended = f"was killed by signal {-code}, out of memory?" if code < 0 else f"failed with exit code {code}"
        by_hand = shlex.join([str(self.path), "export", "--type=sqlite", str(report)])
        return NsysError(f"{report}: nsys {self.version} {ended}: {short}", hint=f"see what it says by hand: {by_hand}")

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


def find(explicit: str | Path | None = None) -> Nsys:
    """Finds nsys: `explicit` (the option --nsys), then NSIGHT_TOOLS_NSYS, then PATH, then the usual places.

    The first two may name the program or the folder that it is installed in, and nothing is tried in their stead.
    Among the usual places the newest version wins, and the copy inside Nsight Compute is the last resort.

    Raises:
        NsysError: there is none, or the one that was asked for does not work.
    """
    for asked, by in ((explicit, "--nsys"), (os.environ.get(ENVIRONMENT_VARIABLE), ENVIRONMENT_VARIABLE)):
        if asked:
            return _asked_for(Path(asked).expanduser(), by)
    on_path = shutil.which("nsys")
    groups = [[Path(on_path)] if on_path else []]
    groups += [[hit for pattern in group for hit in _glob(pattern)] for group in _USUAL_PLACES]
    broken: list[NsysError] = []
    for group in groups:
        answers = [_nsys_or_error(path) for path in group]
        working = [answer for answer in answers if isinstance(answer, Nsys)]
        if working:
            return max(working, key=lambda nsys: nsys.version)
        broken += [answer for answer in answers if isinstance(answer, NsysError)]
    if broken:
        raise NsysError(f"no nsys that works: {broken[0].message}", hint=HOW_TO_GET)
    raise NsysError("no nsys on PATH or in the usual places", hint=HOW_TO_GET)


def is_report(path: Path) -> bool:
    """Whether a file begins as every report does, of whatever version."""
    return _head(path).startswith(_REPORT_HEADER)


def report_version(report: Path) -> Version | None:
    """The version of Nsight Systems that captured `report`, by its first bytes; None where they do not say."""
    found = _HEADER_VERSION.match(_head(report))
    return Version.parse(found[1].decode()) if found else None


def _glob(pattern: str) -> list[Path]:
    return sorted(Path("/").glob(pattern.lstrip("/")))


def _asked_for(path: Path, by: str) -> Nsys:
    if path.is_dir():
        inside = [hit for within in _WITHIN for hit in sorted(path.glob(within)) if hit.is_file()]
        path = next(iter(inside), path / "nsys")
    elif os.sep not in str(path):
        path = Path(shutil.which(path) or path)  # a bare command name
    answer = _nsys_or_error(path)
    if isinstance(answer, NsysError):
        raise NsysError(f"{by}: {answer.message}", hint=f"correct {by}, or leave it out to have nsys looked for")
    return answer


def _nsys_or_error(path: Path) -> Nsys | NsysError:
    try:
        return _ask_version(path)
    except NsysError as error:
        return error


def _ask_version(path: Path) -> Nsys:
    try:
        answer = subprocess.run(  # noqa: S603
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NsysError(f"{path} --version gave no answer within {error.timeout:.0f} s") from error
    except OSError as error:
        raise NsysError(f"{path} cannot be run: {error.strerror}") from error
    text = answer.stdout.decode(errors="replace")
    version = Version.parse(text)
    if answer.returncode != 0 or version is None or "Nsight Systems" not in text:
        said = (answer.stderr.decode(errors="replace") + text).strip().splitlines()
        raise NsysError(f"{path} does not answer as Nsight Systems does: {next(reversed(said), 'no answer')[:300]}")
    return Nsys(path, version)


def _head(report: Path) -> bytes:
    try:
        with report.open("rb") as file:
            return file.read(128)
    except OSError as error:
        raise InputError(report, f"cannot be read: {error.strerror}") from error


def check_report(report: Path) -> None:
    """Raise InputError, with what it is instead, where a file is surely no report: nsys need not be asked."""
    head = _head(report)
    if not head:
        raise InputError(
            report, "the file is empty", hint="the capture or the copy did not finish; capture or copy again"
        )
    if head.startswith(b"version https://git-lfs"):
        raise InputError(report, "a pointer of Git LFS, not the report itself", hint="fetch it with git lfs pull")
    if head.startswith(b"SQLite format 3\0"):
        raise InputError(report, "an SQLite file, not a report", hint="if it is an export, name it .sqlite")
    if not head.startswith(_REPORT_HEADER) and _is_text(head):
        raise InputError(report, "a text file, not an Nsight Systems report", hint="give the report, or its export")


def _is_text(head: bytes) -> bool:
    # The first bytes may end within a character.
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head)
    return all(each != "\ufffd" and (each.isprintable() or each in "\t\r\n") for each in text)


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


@contextlib.contextmanager
def _terminated_by_exception() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the process the way Ctrl-C does: through every `finally`.

    By default they end it on the spot, with nsys running on and half an export left behind. Handlers can only be set in
    the main thread, and somebody else's are left alone.
    """
    held = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                held[number] = signal.signal(number, _exit_by_signal)
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)


def _exit_by_signal(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)  # the exit code that a shell gives a process ended by this signal


def _run(command: list[str], progress: Progress, libraries: Path | None = None) -> tuple[int, list[str]]:
    """Runs nsys; returns its exit code and what it said besides its progress bar.

    `libraries` is a folder where the program's libraries lie, which one of 2022.4 does not know by itself.
    """
    progress("starting nsys", None)
    environment = dict(os.environ)
    if libraries is not None:
        known = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{libraries}:{known}" if known else str(libraries)
    try:
        with memory.lifted():
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us; we then end nsys and all that it started
            )
    except OSError as error:
        raise NsysError(f"{command[0]} cannot be run: {error.strerror}", hint=HOW_TO_GET) from error
    said: list[str] = []
    with process:
        try:
            assert process.stdout is not None
            for piece in _pieces(process.stdout):
                found = _PROGRESS.search(piece)
                if found:
                    progress(found["what"].strip(" :") or "exporting", min(int(found["percent"]), 100) / 100)
                rest = _PROGRESS.sub("", piece).strip()  # an error may follow the bar on its line
                if rest and len(said) < _LINES_KEPT:
                    said.append(rest)
            return process.wait(), said
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def _pieces(stream: IO[bytes]) -> Iterator[str]:
    """What comes between carriage returns and line ends, as soon as it is there."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pending = ""
    while chunk := os.read(stream.fileno(), 65536):
        *whole, pending = re.split(r"[\r\n]", pending + decoder.decode(chunk))
        yield from whole
    yield pending
