"""The colours of figures, for light and dark pages.

They are those of Okabe and Ito, which colour-blind readers can tell apart. A figure is drawn in those for light pages;
`inline.svg` turns each into a CSS variable, so that a page can give it another value in the dark.
"""

from __future__ import annotations

COLOURS = {
    "text": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9198a1"),
    "grid": ("#d8dee4", "#343b44"),
    "paper": ("#fffffe", "#0d1117"),
    "compute": ("#0072b2", "#3b9ede"),
    "communication": ("#8c564b", "#c49c94"),
    "h2d": ("#e69f00", "#f0ad1f"),
    "d2h": ("#d55e00", "#ff8244"),
    "copy": ("#cc79a7", "#e08dbb"),
    "accelerator": ("#6a8a1f", "#a3c94a"),
    "other": ("#7a5195", "#a97fc6"),
    "launch": ("#009e73", "#23c497"),
    "sync": ("#56b4e9", "#a5d8ff"),
    "host": ("#cdb80a", "#f0e442"),
    "ink": ("#10151b", "#10151a"),  # on the bright ones, on any page
    "unknown": ("#a8b0b8", "#6e7681"),
    "alarm": ("#b3174b", "#ff6f91"),
    "before": ("#6b6375", "#a9a2b3"),
    "after": ("#0071b3", "#3b9edf"),
}
"""What each role is drawn in on a light and on a dark page. No two roles share a light colour: `svg` tells by it."""
