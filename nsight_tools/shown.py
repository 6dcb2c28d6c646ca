"""How the objects of the API show themselves in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable


class Shown:
    """Shows itself as HTML: as the package itself says it, which stands above all that is shown."""

    _repr_html_: ClassVar[Callable[[Shown], str]]
