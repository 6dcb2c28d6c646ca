"""What the words mean that reports use: `nsight-tools explain WORD` prints them, docs/glossary.md shows them."""

from __future__ import annotations

TERMS = {
    "wall": "The time of one inference, from its first event on the host or the GPU to its last. Also called latency.",
    "period": "The time from the end of one inference to the end of the next. With several under way at once, it is "
    "shorter than the wall, and it is what throughput follows.",
    "exposed": "Of a copy, or of communication between GPUs: the part in which no kernel of the inference computes. "
    "Only that part makes an inference longer; the rest is hidden. Reports call it 'only copies'.",
    "steady": "The part of a run without warm-up and pauses. Medians, shares and what a change is worth are of it.",
    "unattributed": "Time of an inference of which the trace does not say what passed: the GPU does nothing, and no "
    "call that would explain it was traced. The profiler's own work is in it.",
    "straggler": "Of several reports of the same work, one whose inferences take clearly longer than those of the "
    "others.",
    "bound": "The most that a change can save, as 'at most' or '≤'. How much of it comes back, only a measurement "
    "tells. An estimate, as 'about', is firmer, and has an interval.",
}
"""Word to meaning, in plain text."""
