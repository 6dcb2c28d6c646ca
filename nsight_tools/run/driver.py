"""How the driver ran each GPU, as a capture recorded it before its run; of other traces nothing is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsight_tools.run_files import bus_id

if TYPE_CHECKING:
    from nsight_tools.run import Run


@dataclass(frozen=True)
class DriverMode:
    """What is recorded of a GPU; None where it is not."""

    model: str | None = None
    """WDDM, TCC or MCDM: Windows alone has them."""
    served: int | None = None
    """Programs that CUDA's Multi-Process Service ran on the GPU before this one; None where it did not run."""


def mode_of(run: Run, device: int) -> DriverMode:
    """How the driver ran a GPU of the report: by its place on the PCI bus, or where both know of one GPU only."""
    recorded = run.trace.manifest.get("run")
    state = _mapping(_mapping(_mapping(recorded).get("machine")).get("before"))
    gpus = [gpu for gpu in state.get("gpus") or [] if isinstance(gpu, dict)]
    rows = run.trace.table("gpus", ["device", "bus_id"]).to_pylist()
    where = next((row["bus_id"] for row in rows if row["device"] == device), None)
    mine = [gpu for gpu in gpus if where and gpu.get("bus_id") and bus_id(str(gpu["bus_id"])) == bus_id(where)]
    if not where and len(gpus) == len(rows) == 1:
        mine = gpus
    gpu = mine[0] if mine else {}
    served = gpu.get("mps_processes") if _mapping(state.get("mps")).get("running") else None
    model = gpu.get("driver_model")
    return DriverMode(model if isinstance(model, str) else None, served if isinstance(served, int) else None)


def _mapping(value: Any) -> dict[str, Any]:
    """What a file should have as an object; nothing where it has something else."""
    return value if isinstance(value, dict) else {}
