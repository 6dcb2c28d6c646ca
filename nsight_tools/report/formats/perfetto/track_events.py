"""Perfetto's trace format, as far as it is needed here: packets of track events.

Field numbers are those of perfetto's protos/perfetto/trace/trace_packet.proto and what that imports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.report import safe
from nsight_tools.report.formats.perfetto.messages import Message, bytes_field, number_field, text_field
from nsight_tools.timeline.lanes import sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray

BATCH = 1 << 15
"""Packets encoded at a time: their bytes stay in the processor's cache."""

_PACKET = 1  # Trace
_TIMESTAMP, _SEQUENCE_ID, _TRACK_EVENT, _INTERNED, _SEQUENCE_FLAGS, _DESCRIPTOR = 8, 10, 11, 12, 13, 60  # TracePacket
_STATE_CLEARED, _NEEDS_STATE = 1, 2  # TracePacket.SequenceFlags
_CATEGORY, _ANNOTATION, _TYPE, _NAME, _TRACK, _FLOW, _FLOW_END, _VALUE = 3, 4, 9, 10, 11, 47, 48, 44  # TrackEvent
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4  # TrackEvent.Type
_CATEGORIES, _NAMES, _ANNOTATION_NAMES, _TEXTS = 1, 2, 3, 29  # InternedData
_BY_RANK = 3  # TrackDescriptor.ChildTracksOrdering.EXPLICIT

_SEQUENCE = 1
"""All packets are of one sequence, so one table of interned strings serves them."""


@dataclass(frozen=True)
class Annotation:
    """An argument of slices, shape (n,): an integer, or with `text` the number that `Writer.text` gave for a string."""

    values: IntArray
    present: BoolArray
    text: bool = False

    @classmethod
    def of(cls, values: IntArray) -> Annotation:
        """Integers, of which negative ones are absent."""
        return cls(values, values >= 0)

    @classmethod
    def of_text(cls, numbers: IntArray) -> Annotation:
        """A string in every row."""
        return cls(numbers, np.ones(numbers.size, np.bool_), text=True)

    @classmethod
    def joined(cls, parts: Sequence[Annotation | int]) -> Annotation:
        """One after the other; a number stands for so many rows without."""
        pieces = [cls(np.zeros(p, np.int64), np.zeros(p, np.bool_)) if isinstance(p, int) else p for p in parts]
        return cls(
            np.concatenate([piece.values for piece in pieces]),
            np.concatenate([piece.present for piece in pieces]),
            any(piece.text for piece in pieces),
        )


@dataclass(frozen=True)
class Arrows:
    """Flows between slices, by numbers that are unique in the trace.

    `starts` are those that leave slices, in order of row, and `counts`, shape (n,), how many leave each; `ends`, shape
    (n,), has the one that arrives at each, 0 for none.
    """

    starts: Int64Array | None = None
    counts: Int64Array | None = None
    ends: Int64Array | None = None


class Writer:
    """Writes one trace, piece by piece. Times are shifted by `shift_ns`: Perfetto knows none before 0."""

    def __init__(self, write: Callable[[bytes], None], shift_ns: int = 0) -> None:
        self._write = write
        self.shift_ns = shift_ns
        self.events = 0
        self._tracks = 0
        self._known: dict[int, dict[str, int]] = {
            field: {} for field in (_CATEGORIES, _NAMES, _ANNOTATION_NAMES, _TEXTS)
        }
        self._packet(number_field(_SEQUENCE_FLAGS, _STATE_CLEARED | _NEEDS_STATE))

    def track(
        self,
        name: str,
        parent: int = 0,
        *,
        rank: int | None = None,
        description: str = "",
        pid: int | None = None,
        tid: int | None = None,
        unit: str | None = None,
    ) -> int:
        """Declare a track and return its number. With `rank`, tracks of a parent are shown in that order.

        `pid` makes it a process, `pid` and `tid` a thread of one, `unit` a counter. Tracks of one parent and name are
        shown as one. Processes and threads without a number of their own (0 is the kernel's) are tracks like others.
        """
        self._tracks += 1
        shown = safe.visible(name)
        body = number_field(1, self._tracks) + text_field(2, shown) + text_field(14, safe.visible(description, 2000))
        if parent:
            body += number_field(5, parent)
        if rank is not None:
            body += number_field(12, rank)
        if unit is not None:
            body += bytes_field(8, text_field(6, unit))
        elif tid is not None and pid and tid > 0:
            body += bytes_field(4, number_field(1, pid) + number_field(2, tid) + text_field(5, shown))
        elif pid is not None and pid > 0 and tid is None:
            body += bytes_field(3, number_field(1, pid) + text_field(6, shown))
        self._packet(bytes_field(_DESCRIPTOR, body + number_field(11, _BY_RANK)))
        return self._tracks

    def names(self, texts: Iterable[str]) -> Int64Array:
        """Numbers that stand for names of slices."""
        return self._interned(_NAMES, texts)

    def text(self, texts: Iterable[str]) -> Int64Array:
        """Numbers that stand for strings in annotations."""
        return self._interned(_TEXTS, texts, limit=2000)

    def categories(self, texts: Iterable[str]) -> Int64Array:
        """Numbers that stand for categories, by which a viewer filters."""
        return self._interned(_CATEGORIES, texts)

    def slices(
        self,
        track: IntArray,
        start: Int64Array,
        end: Int64Array,
        name: Int64Array,
        category: Int64Array,
        annotations: Mapping[str, Annotation] | None = None,
        arrows: Arrows | None = None,
        happens: IntArray | None = None,
    ) -> None:
        """Write n slices, each column of shape (n,); on a track they have to nest (`timeline.lanes`).

        `happens` is their `sequence`, where the caller has it already.
        """
        happens = sequence(start, end) if happens is None else happens
        times = np.concatenate([start, end])
        fields = self._annotations(annotations)
        first = None if arrows is None or arrows.counts is None else np.cumsum(arrows.counts) - arrows.counts
        for begin in range(0, happens.size, BATCH):
            code = happens[begin : begin + BATCH]
            row, begins = code % start.size, code < start.size
            event = Message(code.size)
            event.number(_TYPE, np.where(begins, _BEGIN, _END))
            event.number(_TRACK, track[row])
            _described(event, row, begins, name, category, fields)
            _with_arrows(event, row, begins, arrows, first)
            self._events(times[code], event)
        self.events += start.size

    def instants(
        self,
        track: IntArray,
        time: Int64Array,
        name: Int64Array,
        category: Int64Array,
        annotations: Mapping[str, Annotation] | None = None,
    ) -> None:
        """Write n marks, each column of shape (n,)."""
        fields = self._annotations(annotations)
        for begin in range(0, time.size, BATCH):
            row = np.arange(begin, min(begin + BATCH, time.size))
            event = Message(row.size)
            event.number(_TYPE, np.full(row.size, _INSTANT))
            event.number(_TRACK, track[row])
            _described(event, row, np.ones(row.size, np.bool_), name, category, fields)
            self._events(time[row], event)
        self.events += time.size

    def counter(self, track: int, time: Int64Array, value: NDArray[np.float64]) -> None:
        """Write n values of one counter, both columns of shape (n,)."""
        for begin in range(0, time.size, BATCH):
            values = np.ascontiguousarray(value[begin : begin + BATCH], "<f8")
            event = Message(values.size)
            event.constant(number_field(_TYPE, _COUNTER) + number_field(_TRACK, track))
            event.fixed64(_VALUE, values)
            self._events(time[begin : begin + BATCH], event)
        self.events += time.size

    def _events(self, time: Int64Array, event: Message) -> None:
        packet = Message(time.size)
        packet.constant(number_field(_SEQUENCE_ID, _SEQUENCE) + number_field(_SEQUENCE_FLAGS, _NEEDS_STATE))
        packet.number(_TIMESTAMP, time + self.shift_ns)
        packet.message(_TRACK_EVENT, event)
        trace = Message(time.size)
        trace.message(_PACKET, packet)
        self._write(trace.encoded())

    def _annotations(self, annotations: Mapping[str, Annotation] | None) -> list[tuple[int, Annotation]]:
        given = annotations or {}
        numbers = self._interned(_ANNOTATION_NAMES, given).tolist()
        return list(zip(numbers, given.values(), strict=True))

    def _interned(self, field: int, texts: Iterable[str], limit: int = safe.LIMIT) -> Int64Array:
        known = self._known[field]
        first = len(known) + 1
        numbers = np.array([known.setdefault(safe.visible(text, limit), len(known) + 1) for text in texts], np.int64)
        fresh = list(known)[first - 1 :]
        for begin in range(0, len(fresh), 1000):
            entries = (
                bytes_field(field, number_field(1, first + begin + at) + text_field(2, text))
                for at, text in enumerate(fresh[begin : begin + 1000])
            )
            self._packet(number_field(_SEQUENCE_FLAGS, _NEEDS_STATE) + bytes_field(_INTERNED, b"".join(entries)))
        return numbers

    def _packet(self, body: bytes) -> None:
        self._write(bytes_field(_PACKET, number_field(_SEQUENCE_ID, _SEQUENCE) + body))


def _described(
    event: Message,
    row: IntArray,
    begins: BoolArray,
    name: Int64Array,
    category: Int64Array,
    annotations: Sequence[tuple[int, Annotation]],
) -> None:
    """What a slice says when it begins."""
    event.number(_NAME, name[row], begins)
    event.number(_CATEGORY, category[row], begins)
    for number, annotation in annotations:
        present = annotation.present[row] & begins
        if present.any():
            inner = Message(row.size)
            inner.constant(number_field(1, number))
            inner.number(17 if annotation.text else 4, annotation.values[row])
            event.message(_ANNOTATION, inner, present)


def _with_arrows(
    event: Message, row: IntArray, begins: BoolArray, arrows: Arrows | None, first: Int64Array | None
) -> None:
    """The arrows that arrive and leave where a slice begins; `first` is the position of each row's among `starts`."""
    if arrows is None:
        return
    if arrows.ends is not None:
        ends = arrows.ends[row]
        event.fixed64(_FLOW_END, ends.astype("<i8"), begins & (ends > 0))
    if arrows.starts is not None and arrows.counts is not None and first is not None:
        counts = np.where(begins, arrows.counts[row], 0)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        leaving = arrows.starts[np.repeat(first[row], counts) + within].astype("<i8")
        event.repeated_fixed64(_FLOW, leaving, counts)
