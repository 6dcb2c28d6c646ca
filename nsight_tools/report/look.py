"""How a printed page may look."""

from __future__ import annotations

from dataclasses import dataclass

WIDTH = 100
"""Columns where nobody says how many there are."""


@dataclass(frozen=True)
class Look:
    """How a page may look. The default suits a pipe."""

    width: int = WIDTH
    colour: bool = False
    unicode: bool = True
    everything: bool = False
    """Nothing is left out and no name shortened, as long as the page may become."""


USUAL = Look()
