"""html: one page with figures."""

EXTRA = ("html", "a page")
"""Of nsight-tools, without which it cannot be made; and what is told to take it."""
