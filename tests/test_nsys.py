"""Finding nsys, exporting and annotating with it: a stand-in for every way to fail, then the real one."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import installed_nsys
import nvtx_program
import pyarrow.parquet as pq
import pytest
from patience import PATIENCE_S, wait_until

from nsight_tools.errors import InputError, NsysError, OutputError
from nsight_tools.nsys import (
    ENVIRONMENT_VARIABLE,
    Ability,
    ExportKind,
    Nsys,
    Version,
    find,
    finding,
    is_report,
    report_version,
)

HEADER = b"NVIDIA Tegra Profiler Report 2023@4@4@54-234433681190v0.\n"
NEWER_HEADER = b"NVIDIA Tegra Profiler Report 2026@1@1@9-1v0.\n"
HEADER_WITHOUT_VERSION = b"NVIDIA Tegra Profiler Report 36398880.\n"  # as the copy in Nsight Compute 2025.3 writes it
MAKE_PARQUET = "os.mkdir(out); open(out + '/StringIds.parquet', 'wb').write(b'PAR1 PAR1')"


def write_script(path: Path, body: str, *, version: str = "2023.4.4.54-234433681190v0") -> Path:
    """An nsys that answers --version, and otherwise runs `body` with `out` (its --output) and `report`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, signal, sys, time\n"
        "if sys.argv[1:] == ['--version']:\n"
        f"    print('NVIDIA Nsight Systems version {version}'); sys.exit()\n"
        "out = next(a for a in sys.argv if a.startswith('--output=')).removeprefix('--output=')\n"
        "report = sys.argv[-1]\n"
        "def say(text): sys.stderr.write(text); sys.stderr.flush()\n" + textwrap.dedent(body)
    )
    path.chmod(0o755)
    return path


def fake(tmp_path: Path, body: str, *, version: str = "2023.4.4.54-234433681190v0") -> Nsys:
    return find(write_script(tmp_path / "fake" / "nsys", body, version=version))


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "reports" / "a größer report.nsys-rep"
    path.parent.mkdir()
    path.write_bytes(HEADER + bytes(500))
    return path


def left_behind(report: Path) -> list[str]:
    return sorted(path.name for path in report.parent.iterdir() if path != report)


# ---- versions and abilities


def test_version_is_a_tuple_that_reads_well() -> None:
    version = Version.parse("NVIDIA Nsight Systems version 2023.4.4.54-234433681190v0")
    assert version == (2023, 4, 4, 54)
    assert str(version) == "2023.4.4.54"
    assert Version.parse("no version here") is None


@pytest.mark.parametrize(
    ("version", "able"),
    [
        ((2020, 4, 3), {"gpu_metrics_device": False, "parquetdir": False}),
        ((2022, 4, 2), {"gpu_metrics_device": True, "parquetdir": False, "cuda_graph_trace": True}),
        ((2023, 4, 4), {"gpu_metrics_device": True, "gpu_metrics_devices": False, "parquetdir": True}),
        ((2024, 6, 2), {"gpu_metrics_device": False, "gpu_metrics_devices": True, "cuda_event_trace": False}),
        ((2025, 1, 1), {"gpu_metrics_devices": True, "cuda_event_trace": True}),
    ],
)
def test_abilities_follow_the_version(version: tuple[int, ...], able: dict[Ability, bool]) -> None:
    nsys = Nsys(Path("nsys"), Version(version))
    assert {ability: nsys.can(ability) for ability in able} == able
    assert nsys.gpu_metrics_option == ("--gpu-metrics-devices" if version >= (2024, 4) else "--gpu-metrics-device")


@pytest.mark.parametrize(
    ("nvtx", "nsys", "loses"),
    [
        ("0.2.11", (2023, 4, 4, 54), False),
        ("0.2.12", (2023, 4, 4, 54), True),
        ("0.2.15", (2024, 2, 3, 38), True),
        ("0.2.15", (2025, 3, 2), False),
        ("0.3", (2023, 4, 4), True),
    ],
)
def test_known_bad_pair_with_python_nvtx(nvtx: str, nsys: tuple[int, ...], *, loses: bool) -> None:
    assert Nsys(Path("nsys"), Version(nsys)).loses_python_nvtx(nvtx) is loses


# ---- finding


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any nsys: an empty PATH and a root of its own for the usual places."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(finding, "_glob", lambda pattern: sorted(root.glob(pattern.lstrip("/"))))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    return root


def test_order_option_environment_path_usual_places(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = write_script(
        places / "opt/nvidia/nsight-compute/2026.1/host/target-linux-x64/nsys", "", version="2026.1.1"
    )
    assert find().path == compute
    for where, version in (
        ("usr/lib/nsight-systems/bin/nsys", "2023.4.4"),
        ("opt/nvidia/nsight-systems/2024.6.2/bin/nsys", "2024.6.2"),
        ("opt/nvidia/nsight-systems-cli/2025.1.1/target-linux-x64/nsys", "2025.1.1"),
        ("usr/local/cuda-12.4/nsight-systems-2023.4.4/target-linux-x64/nsys", "2023.4.4"),
    ):
        write_script(places / where, "", version=version)
    write_script(places / "usr/local/cuda/bin/nsys", "").write_text("#!/bin/sh\necho not installed; exit 1\n")
    assert find().version == (2025, 1, 1)  # the newest, however newer the copy in Nsight Compute

    on_path = write_script(tmp_path / "bin" / "nsys", "", version="2022.4.2")
    assert find() == Nsys(on_path, Version((2022, 4, 2)))
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(write_script(tmp_path / "env" / "nsys", "", version="2021.3.3")))
    assert find().version == (2021, 3, 3)
    assert find(write_script(tmp_path / "option" / "nsys", "", version="2020.4.3")).version == (2020, 4, 3)
    assert find("nsys").version == (2022, 4, 2)  # a command's name is looked for on PATH


def test_option_may_name_the_installation_folder(tmp_path: Path) -> None:
    inside = write_script(tmp_path / "2024.6.2" / "target-linux-x64" / "nsys", "", version="2024.6.2")
    assert find(tmp_path / "2024.6.2").path == inside


def test_none_found_says_how_to_get_it(places: Path) -> None:
    assert not list(places.iterdir())
    with pytest.raises(NsysError, match=r"nsight-systems-cli.*CUDA toolkit.*developer\.nvidia\.com.*\.sqlite export"):
        find()


def test_broken_one_on_path_gives_way_to_the_usual_places(places: Path, tmp_path: Path) -> None:
    broken = write_script(tmp_path / "bin" / "nsys", "")
    broken.write_text("#!/bin/sh\necho 'error while loading shared libraries: libfoo.so' >&2\nexit 127\n")
    with pytest.raises(NsysError, match=r"no nsys that works.*libfoo\.so.*install the package"):
        find()
    working = write_script(places / "usr/lib/nsight-systems/bin/nsys", "")
    assert find().path == working


@pytest.mark.parametrize("by", ["--nsys", ENVIRONMENT_VARIABLE])
@pytest.mark.parametrize("kind", ["missing", "no execute permission", "another program", "empty folder"])
def test_one_that_was_asked_for_must_work(
    by: str, kind: str, places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_script(places / "usr/lib/nsight-systems/bin/nsys", "")  # works, and must not be used
    asked = tmp_path / "asked" / "nsys"
    if kind == "no execute permission":
        write_script(asked, "").chmod(0o644)
    elif kind == "another program":
        write_script(asked, "").write_text("#!/bin/sh\necho NVIDIA Nsight Compute 2024.1.1\n")
    elif kind == "empty folder":
        asked.mkdir(parents=True)
    if by == ENVIRONMENT_VARIABLE:
        monkeypatch.setenv(by, str(asked))
    with pytest.raises(NsysError, match=f"^{by}: .*{asked}.*(cannot be run|does not answer).*correct {by}"):
        find(asked if by == "--nsys" else None)


# ---- exporting, with a stand-in


def test_export_chooses_the_kind_and_reports_progress(tmp_path: Path, report: Path) -> None:
    nsys = fake(
        tmp_path,
        f"""
        assert sys.argv[1] == 'export' and '--type=parquetdir' in sys.argv
        for percent in (1, 45, 100):
            say('\\rProcessing 2730 events: [' + '=' * (percent // 9) + str(percent) + '%      ]'); time.sleep(0.01)
        say('\\n')
        {MAKE_PARQUET}
        """,
    )
    seen: list[tuple[str, float | None]] = []
    to = report.with_suffix(".parquetdir")
    assert nsys.export(report, to, progress=lambda what, share: seen.append((what, share))) == to
    assert seen[0] == ("starting nsys", None)
    assert seen[1:] == [("Processing 2730 events", share) for share in (0.01, 0.45, 1.0)]
    assert left_behind(report) == [to.name]


def test_progress_arrives_while_nsys_runs(tmp_path: Path, report: Path) -> None:
    go_on = tmp_path / "go on"
    nsys = fake(
        tmp_path,
        f"""
        say('\\r[=10%  ]\\r[=20%  ]\\r')
        while not os.path.exists({str(go_on)!r}): time.sleep(0.01)
        {MAKE_PARQUET}
        """,
    )

    def progress(_what: str, share: float | None) -> None:
        if share == 0.2:
            go_on.touch()

    nsys.export(report, report.with_suffix(".out"), progress=progress)


def test_older_nsys_exports_sqlite(tmp_path: Path, report: Path) -> None:
    body = "assert '--type=sqlite' in sys.argv; open(out, 'wb').write(b'SQLite format 3\\0...')"
    nsys = fake(tmp_path, body, version="2022.4.2.1")
    assert nsys.export(report, report.with_suffix(".sqlite")).read_bytes().startswith(b"SQLite")
    with pytest.raises(NsysError, match=r"2022\.4\.2\.1 cannot export to Parquet; export to sqlite, or use 2023\.4\+"):
        nsys.export(report, report.with_suffix(".parquetdir"), kind="parquetdir")


SAY_NEWER = """
say('Exportation error: Report was created in Nsight Systems version (2024.2.3.38-242334140272v0), newer than')
say(' your current version (2023.4.4.54-234433681190v0).\\nPlease update'); sys.exit(1)
"""
FAILURES = {
    "newer": (
        SAY_NEWER,
        NsysError,
        r"captured by Nsight Systems 2024\.2\.3\.38, newer than .*\(2023\.4\.4\.54\); name an nsys 2024\.2\.3",
    ),
    "corrupt": (
        "os.mkdir(out); say('Exportation error: LZN decompression failed.'); sys.exit(1)",
        InputError,
        r"corrupt or cut short \(nsys: LZN decompression failed\.\); copy it again",
    ),
    "full disk, SQLite": (
        "open(out, 'wb').write(b'x'); say('\\r[9% ]\\nExportation error: database or disk is full'); sys.exit(1)",
        OutputError,
        r"disk is full.* MB free; nsys: database or disk is full\); free some space",
    ),
    "full disk, Parquet, exit code 0": (
        MAKE_PARQUET + "; say('\\r[=====100%]Error writing bytes to file\\n' * 300)",
        OutputError,
        r"disk is full.*Error writing bytes to file",
    ),
    "cut short without a word": (
        "os.mkdir(out); open(out + '/NVTX_EVENTS.parquet', 'wb').write(b'PAR1 and then nothing')",
        OutputError,
        r"only a part of NVTX_EVENTS\.parquet",
    ),
    "nothing written": ("pass", NsysError, r"exported nothing and gave no reason"),
    "an empty folder": ("os.mkdir(out)", NsysError, r"exported nothing and gave no reason"),
    "killed": ("os.mkdir(out); os.kill(os.getpid(), signal.SIGKILL)", NsysError, r"killed by signal 9, out of memory"),
    "something else": (
        "say('a\\nunrecognised option \\xff\\n'); sys.exit(7)",
        NsysError,
        r"exit code 7: unrecognised option.*by hand: .*export --type=sqlite '.*größer report\.nsys-rep'",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failure_becomes_our_error_and_leaves_nothing(case: str, tmp_path: Path, report: Path) -> None:
    body, error, message = FAILURES[case]
    with pytest.raises(error, match=message) as raised:
        fake(tmp_path, body).export(report, report.with_suffix(".out"))
    assert str(report if error is not OutputError else report.with_suffix(".out")) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert left_behind(report) == []


def test_header_names_a_newer_report_when_nsys_words_it_otherwise(tmp_path: Path, report: Path) -> None:
    report.write_bytes(NEWER_HEADER)
    assert report_version(report) == (2026, 1, 1, 9)
    with pytest.raises(NsysError, match=r"captured by Nsight Systems 2026\.1\.1\.9, newer than .*2023\.4\.4\.54"):
        fake(tmp_path, "say('Unsupported file'); sys.exit(1)").export(report, report.with_suffix(".out"))


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ("Version not supported: 36398880", NsysError, r"\(2023\.4\.4\.54\) does not know its format.*newer"),
        ("SessionState is missing required fields: Type", NsysError, r"does not know its format.*name a newer nsys"),
        ("Section Table Reference magic number mismatch.", InputError, "the report is corrupt or cut short"),
        ("unrecognised option", NsysError, "failed with exit code 1: unrecognised option"),
    ],
)
def test_report_whose_header_names_no_version(
    said: str, error: type[Exception], message: str, tmp_path: Path, report: Path
) -> None:
    report.write_bytes(HEADER_WITHOUT_VERSION + bytes(500))
    assert is_report(report)
    assert report_version(report) is None
    with pytest.raises(error, match=message):
        fake(tmp_path, f"say('Exportation error: {said}'); sys.exit(1)").export(report, report.with_suffix(".out"))
    assert left_behind(report) == []


def test_fields_that_are_missing_from_a_report_of_the_same_version(tmp_path: Path, report: Path) -> None:
    nsys = fake(tmp_path, "say('Protobuf: missing required fields: Type'); sys.exit(1)")
    with pytest.raises(InputError, match="the report is corrupt or cut short"):
        nsys.export(report, report.with_suffix(".out"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read: No such file"),
        (b"", r"the file is empty; the capture or the copy did not finish"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"Git LFS.*git lfs pull"),
        (
            b"hello, it\xe2\x80\x99s me\n" * 50,
            r"a text file, not an Nsight Systems report; give the report, or its export",
        ),
        (b"SQLite format 3\0" + bytes(50), r"an SQLite file, not a report; .* name it \.sqlite"),
        (b"\1hello", r"not an Nsight Systems report \(nsys: Version tag is not found"),
    ],
)
def test_not_a_report(content: bytes | None, message: str, tmp_path: Path, report: Path) -> None:
    report.unlink()
    if content is not None:
        report.write_bytes(content)
    nsys = fake(tmp_path, "say('Exportation error: Version tag is not found in the stream.'); sys.exit(1)")
    with pytest.raises(InputError, match=message):
        nsys.export(report, report.with_suffix(".out"))
    assert left_behind(report) == []


def test_output_that_exists_is_not_touched(tmp_path: Path, report: Path) -> None:
    to = report.with_suffix(".out")
    to.write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        fake(tmp_path, MAKE_PARQUET).export(report, to)
    assert to.read_text() == "mine"


def test_output_folder_that_is_missing(tmp_path: Path, report: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        fake(tmp_path, MAKE_PARQUET).export(report, tmp_path / "missing" / "out")


def test_output_that_appears_meanwhile_is_not_touched(tmp_path: Path, report: Path) -> None:
    to = report.with_suffix(".out")
    nsys = fake(tmp_path, f"{MAKE_PARQUET}; os.mkdir({str(to)!r}); open({str(to / 'mine')!r}, 'w')")
    with pytest.raises(OutputError, match="cannot be written"):
        nsys.export(report, to)
    assert [path.name for path in to.iterdir()] == ["mine"]
    assert left_behind(report) == [to.name]


def test_nsys_that_went_away(tmp_path: Path, report: Path) -> None:
    nsys = fake(tmp_path, MAKE_PARQUET)
    nsys.path.chmod(0o644)
    with pytest.raises(NsysError, match="cannot be run: Permission denied"):
        nsys.export(report, report.with_suffix(".out"))
    assert left_behind(report) == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


STUCK = """
    os.mkdir(out)
    child = os.fork()
    if child:
        open({pids!r} + '.new', 'w').write(f'{{os.getpid()}} {{child}}')
        os.rename({pids!r} + '.new', {pids!r})
    say('\\r[=10%  ]\\r')
    time.sleep(3600)
"""


def test_an_exception_in_progress_ends_nsys_and_what_it_started(tmp_path: Path, report: Path) -> None:
    pids = tmp_path / "pids"
    nsys = fake(tmp_path, STUCK.format(pids=str(pids)))

    def progress(_what: str, share: float | None) -> None:
        if share is not None:
            wait_until(pids.exists)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nsys.export(report, report.with_suffix(".out"), progress=progress)
    wait_until(lambda: not any(map(alive, map(int, pids.read_text().split()))))
    assert left_behind(report) == []


EXPORTER = """
import sys
from pathlib import Path
from nsight_tools.nsys import find
report, to = map(Path, sys.argv[2:])
find(sys.argv[1]).export(report, to, progress=lambda what, share: print(what, share, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_orphan_and_no_output(number: signal.Signals, tmp_path: Path, report: Path) -> None:
    pids = tmp_path / "pids"
    nsys = fake(tmp_path, STUCK.format(pids=str(pids)))
    command: list[str | Path] = [sys.executable, "-c", EXPORTER, nsys.path, report, report.with_suffix(".out")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as exporter:
        wait_until(pids.exists)
        assert [name.endswith(".partial") for name in left_behind(report)] == [True]
        exporter.send_signal(number)
        code = exporter.wait(PATIENCE_S)
    assert code == (-number if number == signal.SIGINT else 128 + number)
    wait_until(lambda: not any(map(alive, map(int, pids.read_text().split()))))
    assert left_behind(report) == []


def test_signal_handlers_are_given_back(tmp_path: Path, report: Path) -> None:
    fake(tmp_path, MAKE_PARQUET).export(report, report.with_suffix(".out"))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# ---- events into a report


def fake_host(tmp_path: Path, body: str) -> Nsys:
    """An nsys with an ImportNvtxt in the folder beside its own, which runs `body` with its options in `given`."""
    program = tmp_path / "host-linux-x64" / "ImportNvtxt"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\ngiven = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n" + textwrap.dedent(body)
    )
    program.chmod(0o755)
    return find(write_script(tmp_path / "target-linux-x64" / "nsys", ""))


TAKES = """
    assert given["--cmd"] == "merge"
    events = open(given["-n"]).read()
    open(given["-o"], "wb").write(open(given["-i"], "rb").read() + events.encode())
    print("Importing nvtxt file\\n          %d events imported" % events.count("Marker"))
"""
NONE_IN_SESSION = """
    print("3 events skipped because outside the profiling session window")
    print("0 events imported")
    print("Output file was not created because no events were imported.")
"""


def test_events_are_added_to_a_copy(tmp_path: Path, report: Path) -> None:
    to = tmp_path / "annotated.nsys-rep"
    before = report.read_bytes()
    assert fake_host(tmp_path, TAKES).import_nvtxt(report, "Marker\nMarker\n", to) == 2
    assert to.read_bytes() == before + b"Marker\nMarker\n"
    assert report.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (NONE_IN_SESSION, NsysError, "took none of the events"),
        ("sys.exit('Target is required for merging with multitarget report.')", InputError, "several targets"),
        ("sys.exit('m.nvtxt: Parsing error at line 10')", NsysError, "failed with exit code 1"),
        ("sys.exit('No space left on device')", OutputError, "disk is full"),
    ],
)
def test_events_that_are_not_added(
    body: str, error: type[Exception], message: str, tmp_path: Path, report: Path
) -> None:
    to = tmp_path / "annotated.nsys-rep"
    with pytest.raises(error, match=message):
        fake_host(tmp_path, body).import_nvtxt(report, "", to)
    assert not to.exists()
    assert not list(tmp_path.glob("*.partial"))


def test_import_nvtxt_finds_the_libraries_beside_it(
    tmp_path: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    nsys = fake_host(tmp_path, "import os; sys.exit(os.environ['LD_LIBRARY_PATH'])")
    with pytest.raises(NsysError, match=f"exit code 1: {tmp_path}/host-linux-x64:/mine;"):
        nsys.import_nvtxt(report, "", tmp_path / "annotated.nsys-rep")


def test_an_nsys_without_import_nvtxt_says_who_has_it(tmp_path: Path, report: Path) -> None:
    with pytest.raises(NsysError, match=r"brings no ImportNvtxt; the full Nsight Systems has it"):
        fake(tmp_path, "").import_nvtxt(report, "", tmp_path / "annotated.nsys-rep")


# ---- the real one


@pytest.fixture(scope="module")
def real() -> Nsys:
    return installed_nsys.main()


@pytest.fixture(scope="module")
def real_report(real: Nsys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = tmp_path_factory.mktemp("real") / "report.nsys-rep"
    return installed_nsys.profile(real, report, [sys.executable, nvtx_program.__file__], nvtx_program.EVENTS)


@pytest.fixture(scope="module")
def big_report(real: Nsys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose export takes long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("big")
    program = folder / "ranges.py"
    program.write_text(
        "import nvtx\nfor i in range(400_000):\n    nvtx.push_range(f'{i % 100}')\n    nvtx.pop_range()\n"
    )
    return installed_nsys.profile(real, folder / "report.nsys-rep", [sys.executable, program], 400_000, traces="nvtx")


def nvtx_counts(export: Path) -> dict[int, int]:
    if export.is_dir():
        events = pq.read_table(export / "NVTX_EVENTS.parquet", columns=["eventType"]).column(0).to_pylist()
        return {kind: events.count(kind) for kind in set(events)}
    connection = sqlite3.connect(export)
    try:
        return dict(connection.execute("SELECT eventType, count(*) FROM NVTX_EVENTS GROUP BY 1"))
    finally:
        connection.close()


@pytest.mark.nsys
@pytest.mark.parametrize("kind", ["parquetdir", "sqlite"])
def test_real_export_of_both_kinds(kind: ExportKind, real: Nsys, real_report: Path, tmp_path: Path) -> None:
    if kind == "parquetdir" and not real.can("parquetdir"):
        pytest.skip(f"nsys {real.version} has no parquetdir")
    shares: list[float | None] = []
    to = real.export(real_report, tmp_path / "export", kind=kind, progress=lambda _what, share: shares.append(share))
    counts = nvtx_counts(to)
    assert (counts[59], counts[60], counts[34]) == (
        nvtx_program.PUSH_POP_RANGES,
        nvtx_program.START_END_RANGES,
        nvtx_program.MARKS,
    )
    known = [share for share in shares if share is not None]
    assert known == sorted(known)
    assert known[-1] == 1
    assert os.listdir(tmp_path) == ["export"]  # noqa: PTH208
    assert os.listdir(real_report.parent) == [real_report.name]  # noqa: PTH208  # and nothing beside the report


@pytest.mark.nsys
def test_real_export_from_a_read_only_folder_without_a_home(
    real: Nsys, real_report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    folder = tmp_path / "read only"
    folder.mkdir()
    report = Path(shutil.copy(real_report, folder))
    folder.chmod(0o555)
    try:
        assert real.export(report, tmp_path / "export").exists()
    finally:
        folder.chmod(0o755)


@pytest.mark.nsys
@pytest.mark.parametrize("kind", ["parquetdir", "sqlite"])
def test_real_full_disk(kind: ExportKind, real: Nsys, big_report: Path, tmp_path: Path) -> None:
    if kind == "parquetdir" and not real.can("parquetdir"):
        pytest.skip(f"nsys {real.version} has no parquetdir")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if not mount or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can only be mounted by root")
    try:
        with pytest.raises(OutputError, match=r"disk is full.*MB free"):
            real.export(big_report, disk / "export", kind=kind)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S607


@pytest.mark.nsys
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_real_export_interrupted(number: signal.Signals, real: Nsys, big_report: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-c", EXPORTER, real.path, big_report, tmp_path / "export"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as exporter:
        assert exporter.stdout is not None
        while " 0." not in exporter.stdout.readline():
            pass
        children = Path(f"/proc/{exporter.pid}/task/{exporter.pid}/children").read_text().split()
        exporter.send_signal(number)
        exporter.stdout.read()
        assert exporter.wait(PATIENCE_S) == (-number if number == signal.SIGINT else 128 + number)
    assert children
    wait_until(lambda: not any(map(alive, map(int, children))))
    assert list(tmp_path.iterdir()) == []
