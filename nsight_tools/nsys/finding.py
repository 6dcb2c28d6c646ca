"""Where nsys is: as asked for, on PATH, or in a usual place."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from nsight_tools.errors import NsysError
from nsight_tools.nsys.installed import Nsys
from nsight_tools.nsys.running import ENVIRONMENT_VARIABLE, HOW_TO_GET
from nsight_tools.nsys.versions import Version

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
