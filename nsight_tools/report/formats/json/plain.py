"""Values as JSON's own types."""

from __future__ import annotations

import math
from typing import Any


def plain(value: Any) -> Any:
    """`value` of JSON's own types: NumPy's numbers unboxed, not-a-numbers null, broken characters visible."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if hasattr(value, "item"):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
