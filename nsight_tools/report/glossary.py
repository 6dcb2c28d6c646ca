"""What the words mean that reports use: `nsight-tools explain WORD` prints them, docs/glossary.md shows them."""

from __future__ import annotations

TERMS = {
    "wall": "The time of one inference, from its first event on the host or the GPU to its last. Also called latency.",
    "period": "The time from the end of one inference to the end of the next. With several under way at once, it is "
    "shorter than the wall, and it is what throughput follows.",
    "exposed": "Of a copy, or of communication between GPUs: the part in which no kernel of the inference computes. "
    "Only that part makes an inference longer; the rest is hidden. Reports call it 'only copies'.",
    "steady": "The part of a run without warm-up and pauses. Medians, shares and what a change is worth are of it.",
}
"""Word to meaning, in plain text."""
