"""The figures of a trace and of a comparison, for notebooks: `nsight_tools.report.figures` under a shorter name.

Example:
    >>> from nsight_tools import figures, open_trace
    >>> figure = figures.inference_accounting(open_trace("sample_traces/detector_pageable.sqlite"))
    >>> figure.savefig("accounting.png")
"""

from __future__ import annotations

from nsight_tools.errors import need as _need

_need("html", "nsight_tools.figures")

from nsight_tools.report import figures as _figures  # noqa: E402
from nsight_tools.report.figures import *  # noqa: E402, F403

__all__ = _figures.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
