"""The figures of a trace and of a comparison, for notebooks: `nsight_tools.report.figures` under a shorter name."""

from __future__ import annotations

from nsight_tools.errors import need as _need

_need("html", "nsight_tools.figures")

from nsight_tools.report import figures as _figures  # noqa: E402
from nsight_tools.report.figures import *  # noqa: E402, F403

__all__ = _figures.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
