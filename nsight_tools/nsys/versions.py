"""Versions of Nsight Systems, and what each can do."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

Ability: TypeAlias = Literal[
    "parquetdir",
    "cuda_graph_trace",
    "gpu_metrics_device",
    "gpu_metrics_devices",
    "cuda_event_trace",
    "python_gil",
]
_VERSION = re.compile(r"\b(\d{4}(?:\.\d+)+)")


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
ABILITIES: dict[Ability, tuple[tuple[int, ...], tuple[int, ...] | None]] = {
    "parquetdir": ((2023, 4), None),  # export --type=parquetdir; seen in 2023.4.4 and 2024.2.3
    "cuda_graph_trace": ((2022, 1), None),  # profile --cuda-graph-trace=graph|node; may be a little older
    # 2024.2.3 knows the first and refuses the second, later ones the other way round; 2024.3 was not tried.
    "gpu_metrics_device": ((2021, 2), (2024, 4)),  # profile --gpu-metrics-device=
    "gpu_metrics_devices": ((2024, 4), None),  # profile --gpu-metrics-devices=
    "cuda_event_trace": ((2025,), None),  # profile --cuda-event-trace=auto|true|false
    "python_gil": ((2023, 4), None),  # profile --trace=python-gil; seen in 2023.4.4, and not in 2022.4.2
}
