"""Where did each TensorRT inference's microseconds go, and what do you change to get them back?

The public names are imported on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nsight_tools.shown import Shown

if TYPE_CHECKING:
    from nsight_tools import figures
    from nsight_tools.analysis import Analysis, Outcome, Status, analyze, registry, select
    from nsight_tools.comparison import Comparison, compare
    from nsight_tools.errors import CouldNotRun, NotApplicable, NsightToolsError
    from nsight_tools.findings import Change, Confidence, Evidence, Finding, Loss, Severity
    from nsight_tools.importer import import_report
    from nsight_tools.ranges import inference, phase
    from nsight_tools.report.compared import headline
    from nsight_tools.run.limits import layer_limits
    from nsight_tools.summary import Summary, summarize
    from nsight_tools.trace import Trace, open_trace
    from nsight_tools.version import __version__

_HOME = {
    "Analysis": "analysis",
    "Outcome": "analysis",
    "Status": "analysis",
    "analyze": "analysis",
    "registry": "analysis",
    "select": "analysis",
    "Comparison": "comparison",
    "compare": "comparison",
    "CouldNotRun": "errors",
    "NotApplicable": "errors",
    "NsightToolsError": "errors",
    "Change": "findings",
    "Confidence": "findings",
    "Evidence": "findings",
    "Finding": "findings",
    "Loss": "findings",
    "Severity": "findings",
    "import_report": "importer",
    "inference": "ranges",
    "phase": "ranges",
    "layer_limits": "run.limits",
    "headline": "report.compared",
    "Summary": "summary",
    "summarize": "summary",
    "Trace": "trace",
    "open_trace": "trace",
    "__version__": "version",
}

__all__ = [
    "Analysis",
    "Change",
    "Comparison",
    "Confidence",
    "CouldNotRun",
    "Evidence",
    "Finding",
    "Loss",
    "NotApplicable",
    "NsightToolsError",
    "Outcome",
    "Severity",
    "Status",
    "Summary",
    "Trace",
    "__version__",
    "analyze",
    "compare",
    "figures",
    "headline",
    "import_report",
    "inference",
    "layer_limits",
    "open_trace",
    "phase",
    "registry",
    "select",
    "summarize",
]


def _html(shown: Shown) -> str:
    """What a notebook shows of an object of the API; that is loaded when one is shown, not before."""
    from nsight_tools.report import notebook

    return notebook.html(shown)


Shown._repr_html_ = _html


def __getattr__(name: str) -> Any:
    if name == "figures":
        return import_module("nsight_tools.figures")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
