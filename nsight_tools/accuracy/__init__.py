"""How far the outputs of a run are from those of a reference, and whether that is near enough.

Only NumPy is needed: outputs are arrays by name, wherever they come from. `judged` is what most ask.
"""

from nsight_tools.accuracy.limits import DEFAULT, Accuracy, Limit, judged, limits
from nsight_tools.accuracy.measures import MEASURES, AccuracyError, Agreement, Array, Outputs, classes, compared

__all__ = [
    "DEFAULT",
    "MEASURES",
    "Accuracy",
    "AccuracyError",
    "Agreement",
    "Array",
    "Limit",
    "Outputs",
    "classes",
    "compared",
    "judged",
    "limits",
]
