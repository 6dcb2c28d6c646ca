"""The dataset's numbers agree with `nsys stats`, run on the same SQLite export; needs a real Nsight Systems.

Its reports are in whole nanoseconds but for averages, which have one decimal. The exports are newer (2025.3) than the
versions that Debian has: 2023.4.4 and 2024.2.3 read them all the same.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import installed_nsys
import pytest

from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.nsys

SAMPLES = Path(__file__).resolve().parent.parent.parent / "sample_traces"
EAGER = ["classifier_sync", "detector_pageable"]
NAMES = [*EAGER, "classifier_cuda_graph"]
REPORTS_SINCE = (2023,)
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program nsys, in a form in which its `stats` works."""
    nsys = installed_nsys.main()
    if nsys.version < REPORTS_SINCE:
        pytest.skip(f"nsys {nsys.version} names its reports otherwise")
    found = nsys.path
    # Debian's package keeps modules of the reports where the embedded Python does not look for them.
    module = Path("python/lib/nsysstats.py")
    home = found.resolve().parent
    host = home.parent / "host-linux-x64"
    if not (home / module).is_file() or (host / module).is_file() or not host.is_dir():
        return found
    to = tmp_path_factory.mktemp("nsys")
    _link(home, to / home.name, but=found.resolve().name)
    shutil.copy2(found.resolve(), to / home.name / "nsys")  # it looks for the rest from where it really lies
    _link(host, to / host.name, but="python")
    _link(host / "python", to / host.name / "python", but="lib")
    _link(host / "python" / "lib", to / host.name / "python" / "lib")
    for extra in (home / "python" / "lib").glob("*.py"):
        if not (link := to / host.name / "python" / "lib" / extra.name).exists():
            link.symlink_to(extra)
    return to / home.name / "nsys"


def _link(folder: Path, to: Path, but: str = "") -> None:
    to.mkdir(parents=True)
    for entry in folder.resolve().iterdir():
        if entry.name != but:
            (to / entry.name).symlink_to(entry)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a copy of a sample trace, as nsys writes views into what it reads."""
    folder = tmp_path_factory.mktemp("samples")

    def get(name: str) -> Path:
        target = folder / f"{name}.sqlite"
        if not target.exists():
            shutil.copy2(SAMPLES / target.name, target)
        return target

    return get


@pytest.fixture
def stats(program: Path, copies: Callable[[str], Path], name: str) -> Callable[[str], Rows]:
    """Gives the rows of one of `nsys stats`' reports."""

    def run(report: str) -> Rows:
        command = [program, "stats", "-q", "--format", "json", "--report", report, copies(name)]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=300)
        try:
            rows: Rows = json.loads(done.stdout, strict=False)
        except ValueError:
            pytest.skip(f"this nsys has no usable report {report}: {(done.stderr or done.stdout).strip()[:200]}")
        return rows

    return run


@pytest.fixture
def trace(name: str, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    copy = tmp_path_factory.mktemp("imported") / f"{name}.sqlite"
    shutil.copy2(SAMPLES / copy.name, copy)
    return open_trace(copy)


KERNELS = """
    select launches.*, name, l.row_number as at from launches
    join (select name, row_number() over () - 1 as row_number from kernels) l on launches.row = l.row_number
    where work = 'kernel'
"""


@pytest.mark.parametrize("name", NAMES)
def test_cuda_gpu_kern_sum(stats: Callable[[str], Rows], trace: Trace) -> None:
    ours = trace.sql("""
        select name, count(*) as n, sum(end_ns - start_ns)::bigint as total, min(end_ns - start_ns) as low,
            max(end_ns - start_ns) as high, median(end_ns - start_ns) as middle from kernels group by name
    """).to_pylist()
    theirs = stats("cuda_gpu_kern_sum")
    assert sorted(tuple(row.values()) for row in ours) == sorted(
        (
            row["Name"],
            row["Instances"],
            row["Total Time (ns)"],
            row["Min (ns)"],
            row["Max (ns)"],
            row["Med (ns)"],
        )
        for row in theirs
    )


@pytest.mark.parametrize("name", EAGER)
def test_cuda_kern_exec_sum(stats: Callable[[str], Rows], trace: Trace) -> None:
    """API time, queue time (from the call's end to the kernel's start, where positive), kernel time, and all of it."""
    ours = trace.sql(f"""
        with kernel as ({KERNELS}), call as (select name, row_number() over () - 1 as row_number from api_calls)
        select call.name as api, kernel.name as kernel, count(*) as n,
            count(*) filter (start_ns > call_end_ns) as queued,
            max(start_ns - call_end_ns) filter (start_ns > call_end_ns) as queue,
            min(call_end_ns - call_start_ns) as low, max(call_end_ns - call_start_ns) as high,
            median(end_ns - start_ns) as middle, max(greatest(end_ns, call_end_ns) - call_start_ns) as whole
        from kernel join call on api_call = call.row_number group by all
    """).to_pylist()
    columns = ("API Name", "Kernel Name", "Count", "QCount", "QMax (ns)", "AMin (ns)", "AMax (ns)", "KMed (ns)")
    theirs = stats("cuda_kern_exec_sum")
    assert len(ours) > 10
    assert sorted(tuple(row.values()) for row in ours) == sorted(
        tuple(row[column] for column in (*columns, "TMax (ns)")) for row in theirs
    )


@pytest.mark.parametrize("name", EAGER)
def test_nvtx_kern_sum_of_layers(stats: Callable[[str], Rows], trace: Trace) -> None:
    """Nsight Systems counts a kernel in each range around it; the innermost of TensorRT is the layer."""
    ours = trace.sql(f"""
        select layer, name, count(*) as n, sum(end_ns - start_ns)::bigint as total from ({KERNELS}) group by all
    """).to_pylist()
    layers = {f"TensorRT:{row['layer']}" for row in ours}
    theirs = [row for row in stats("nvtx_kern_sum") if row["NVTX Range"] in layers]
    assert len(layers) > 80
    assert sorted((f"TensorRT:{r['layer']}", r["name"], r["n"], r["total"]) for r in ours) == sorted(
        (row["NVTX Range"], row["Kernel Name"], row["Kern Inst"], row["Total Time (ns)"]) for row in theirs
    )


@pytest.mark.parametrize("name", NAMES)
def test_nvtx_kern_sum_of_inferences(stats: Callable[[str], Rows], trace: Trace) -> None:
    ours = trace.sql(f"""
        select name, count(*) as n, sum(end_ns - start_ns)::bigint as total from ({KERNELS})
        where inference is not null group by all
    """).to_pylist()
    theirs = [row for row in stats("nvtx_kern_sum") if row["NVTX Range"] == "nsight_tools:inference"]
    assert ours
    assert sorted(tuple(row.values()) for row in ours) == sorted(
        (row["Kernel Name"], row["Kern Inst"], row["Total Time (ns)"]) for row in theirs
    )


@pytest.mark.parametrize("name", NAMES)
def test_nvtx_gpu_proj_sum_of_inferences(stats: Callable[[str], Rows], trace: Trace) -> None:
    """A range's projection reaches from the first start to the last end of the GPU work launched in it.

    An operation is what one call launched: a CUDA graph counts once, however many nodes it has.
    """
    (ours,) = trace.sql("""
        select count(*) as n, sum(span)::bigint as total, min(span) as low, max(span) as high, sum(ops)::bigint as ops
        from (
            select max(end_ns) - min(start_ns) as span, count(distinct api_call) as ops from launches
            where inference is not null group by inference
        )
    """).to_pylist()
    (theirs,) = [row for row in stats("nvtx_gpu_proj_sum") if row["Range"] == "nsight_tools:inference"]
    assert ours == {
        "n": theirs["Range Instances"],
        "total": theirs["Total Proj Time (ns)"],
        "low": theirs["Proj Min (ns)"],
        "high": theirs["Proj Max (ns)"],
        "ops": theirs["Total GPU Ops"],
    }
