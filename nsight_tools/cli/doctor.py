"""`nsight-tools doctor`: what of the surroundings is found, and what is missing without each."""

from __future__ import annotations

import ctypes
import platform
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

import nsight_tools
from nsight_tools.cli import output
from nsight_tools.errors import NsightToolsError, bring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsight_tools.nsys import Nsys

_PACKAGES = (
    (
        "tensorrt",
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"),
        "no engine can be built, run or captured",
        bring("capture"),
    ),
    ("pycuda", ("pycuda",), "the capture's runner cannot start", bring("capture")),
    (
        "nvtx",
        ("nvtx",),
        "captures carry no ranges of ours, and inferences are told apart by TensorRT's own ranges",
        "pip install nvtx",
    ),
    (
        "cuda.bindings",
        ("cuda-bindings", "cuda-python"),
        "the capture's runner cannot use CUDA graphs",
        bring("capture"),
    ),
    (
        "nvidia-ml-py",
        ("nvidia-ml-py", "pynvml"),
        "captures record no clocks, power and reasons for throttling",
        "pip install nvidia-ml-py",
    ),
    (
        "onnxruntime",
        ("onnxruntime", "onnxruntime-gpu"),
        "outputs are compared with no model (--reference onnxruntime)",
        bring("accuracy"),
    ),
    ("jinja2", ("jinja2",), "no page can be written", bring("html")),
    ("matplotlib", ("matplotlib",), "no page can be written, and no figure drawn", bring("html")),
    ("pandas", ("pandas",), "tables are had as Arrow only, not by Trace.frame", bring("pandas")),
    ("pygraphviz", ("pygraphviz",), "pages are without the engine's graph", bring("graph")),
    ("distributed", ("distributed",), "reports are not analyzed on a Dask cluster (--scheduler)", bring("distributed")),
    ("fsspec", ("fsspec",), "reports at a URL are not read", bring("remote")),
)
"""What is imported where it is used; the names of its distributions, what its absence costs, and what brings it."""


@dataclass(frozen=True)
class Check:
    """One thing looked for; `state` is ok, absent (something cannot be done) or problem (something goes wrong)."""

    name: str
    state: str
    found: str
    cost: str = ""
    remedy: str = ""


@click.command(
    "doctor",
    short_help="Show what is found of nsys, driver and TensorRT, and what is missing without each.",
    epilog="""\b
Example:
  nsight-tools doctor
""",
)
@click.option("--nsys", metavar="PATH", type=click.Path(path_type=Path), help="The nsys to look at.")
@output.colour_option
def command(nsys: Path | None, color: str) -> None:
    """Show what is found of Nsight Systems, the driver, TensorRT and its companions, and what is missing without each.

    Nothing of it is needed to analyze a .sqlite export or a dataset.
    """
    from nsight_tools.report.terminal import Page  # rich takes its time; --help goes without

    page = Page(output.look(color))
    colours = {"ok": "green", "absent": "yellow", "problem": "bold red"}
    checks = list(_checks(nsys))
    page.rows(
        [
            page.text(check.state, colours[check.state]),
            page.text(check.name),
            page.text(": ".join(text for text in (check.found, check.cost) if text) + _remedy(check)),
        ]
        for check in checks
    )
    page.blank()
    page.line(page.text(_verdict(checks), "bold"))
    output.show(str(page))


def _remedy(check: Check) -> str:
    return f"; {check.remedy}" if check.remedy else ""


def _verdict(checks: Sequence[Check]) -> str:
    lacking = {check.name for check in checks if check.state != "ok"}
    if lacking & {"analyses", "cache folder"}:
        return "Not ready: see above."
    can = ["analyze .sqlite exports and datasets", *([] if "nsys" in lacking else ["import .nsys-rep reports"])]
    if not lacking & {"nsys", "driver", "tensorrt", "pycuda"}:
        can.append("capture")
    return f"Ready to {', '.join(can)}."


def _checks(nsys: Path | None) -> Iterator[Check]:
    from nsight_tools.nsys import OLDER_NVTX

    yield Check("nsight-tools", "ok", f"{nsight_tools.__version__}, Python {platform.python_version()}")
    yield _analyses()
    yield _cache()
    installed, check = _nsys(nsys)
    yield check
    yield (driver := _driver())
    if driver.state == "ok" and installed:
        yield _counters(installed)
    for name, distributions, cost, brings in _PACKAGES:
        version = _version(distributions)
        older = name == "nvtx" and installed and installed.loses_python_nvtx("0.2.12")
        remedy = OLDER_NVTX if older else brings
        yield Check(name, "ok", version) if version else Check(name, "absent", "not installed", cost, remedy)
        if name == "nvtx" and version and installed and installed.loses_python_nvtx(version):
            yield Check(
                "nvtx and nsys",
                "problem",
                f"nvtx {version} under nsys {installed.version}",
                "every range of a Python program is lost, silently",
                f"{OLDER_NVTX}, or a newer nsys",
            )


def _analyses() -> Check:
    try:
        return Check("analyses", "ok", f"{len(nsight_tools.registry())} installed")
    except NsightToolsError as error:
        return Check("analyses", "problem", error.message, "nothing can be analyzed", error.hint)


def _cache() -> Check:
    from nsight_tools.importer import cache_folder  # pulls in pyarrow; --help goes without

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Check("cache folder", "ok", str(folder))
    except OSError as error:
        cost = "reports in read-only folders cannot be imported without -o"
        return Check(
            "cache folder", "problem", f"{folder}: {error.strerror}", cost, "set XDG_CACHE_HOME to a folder of yours"
        )


def _nsys(explicit: Path | None) -> tuple[Nsys | None, Check]:
    from nsight_tools import nsys  # only this command looks for it

    try:
        installed = nsys.find(explicit)
    except NsightToolsError as error:
        cost = ".nsys-rep reports cannot be read, only their .sqlite exports, and nothing can be captured"
        return None, Check("nsys", "absent", error.message, cost, error.hint)
    return installed, Check("nsys", "ok", f"{installed.version}, {installed.path}")


def _driver() -> Check:
    cost = "nothing can be captured here"
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return Check("driver", "absent", "no libnvidia-ml.so.1", cost, "install NVIDIA's driver, or capture elsewhere")
    if code := nvml.nvmlInit_v2():
        return Check("driver", "problem", f"NVML does not start (error {code})", cost, "see what nvidia-smi says")
    text, gpus = ctypes.create_string_buffer(96), ctypes.c_uint(0)
    nvml.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text)))
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(gpus))
    nvml.nvmlShutdown()
    version = text.value.decode("utf-8", "replace")
    if not gpus.value:
        return Check("driver", "problem", f"{version}, no GPU", cost, "see what nvidia-smi -L says")
    return Check("driver", "ok", f"{version}, {gpus.value} GPU{'s' if gpus.value > 1 else ''}")


def _counters(installed: Nsys) -> Check:
    """Whether nsys may sample GPU metrics here, as it says itself of each GPU."""
    from nsight_tools.capture import gpu_metrics

    if refused := gpu_metrics.too_old(installed) or gpu_metrics.refused_by(installed):
        return Check("GPU metrics", "absent", refused.why, "captures do not tell what limits layers", refused.remedy)
    return Check("GPU metrics", "ok", "allowed: captures sample them")


def _version(distributions: Sequence[str]) -> str:
    versions = (distribution.version for name in distributions for distribution in metadata.distributions(name=name))
    return next(versions, "")
