"""Reads a Perfetto trace with Perfetto's own protobuf definitions, the way its trace processor does.

Packets are sorted by time, stably; interned strings come from the packets before in the file; an end closes the slice
that was begun last on its track.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

_CLEARED, _NEEDS = 1, 2


@dataclass
class Slice:
    """A slice or a mark (`end` is None) as the viewer shows it; `depth` counts what is open around it."""

    track: int
    name: str
    category: str
    start: int
    end: int | None
    depth: int
    args: dict[str, Any]
    leaving: list[int]
    arriving: list[int]


@dataclass
class Read:
    """A whole trace: descriptors by number, slices in order of begin, values of counters by track."""

    tracks: dict[int, Any] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    counters: dict[int, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    strings: list[str] = field(default_factory=list)

    def path(self, track: int) -> str:
        """Names of a track and those above it."""
        descriptor = self.tracks[track]
        own = descriptor.name
        return f"{self.path(descriptor.parent_uuid)} / {own}" if descriptor.parent_uuid else own

    def on(self, part: str) -> list[Slice]:
        """Slices of the tracks in whose path `part` occurs."""
        return [one for one in self.slices if part in self.path(one.track)]


def read(data: bytes) -> Read:
    """Decode and check what a reader relies on: one sequence, known tracks, known names, balanced slices."""
    trace = protos.Trace()
    trace.ParseFromString(data)
    found, known = Read(), defaultdict(dict)
    events = []
    assert trace.packet[0].sequence_flags == _CLEARED | _NEEDS
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id == 1
        if packet.HasField("track_descriptor"):
            descriptor = packet.track_descriptor
            assert descriptor.uuid not in found.tracks
            assert not descriptor.parent_uuid or descriptor.parent_uuid in found.tracks
            found.tracks[descriptor.uuid] = descriptor
            found.strings += [descriptor.name, descriptor.description]
        for kind in ("event_names", "event_categories", "debug_annotation_names", "debug_annotation_string_values"):
            for entry in getattr(packet.interned_data, kind):
                text = entry.str.decode() if kind.endswith("values") else entry.name
                assert entry.iid not in known[kind]
                known[kind][entry.iid] = text
                found.strings.append(text)
        if packet.HasField("track_event"):
            assert packet.sequence_flags & _NEEDS
            assert packet.track_event.track_uuid in found.tracks
            events.append((packet.timestamp, packet.track_event))
    events.sort(key=lambda event: event[0])
    _play(found, events, known)
    return found


def _play(found: Read, events: list[Any], known: dict[str, dict[int, str]]) -> None:
    stacks: dict[int, list[Slice]] = defaultdict(list)
    event_type = protos.TrackEvent
    for time, event in events:
        stack = stacks[event.track_uuid]
        is_counter = found.tracks[event.track_uuid].HasField("counter")
        assert is_counter == (event.type == event_type.TYPE_COUNTER)
        if is_counter:
            found.counters[event.track_uuid].append((time, event.double_counter_value))
        elif event.type == event_type.TYPE_SLICE_END:
            stack.pop().end = time
        else:
            args = {}
            for one in event.debug_annotations:
                name = known["debug_annotation_names"][one.name_iid]
                texts = known["debug_annotation_string_values"]
                args[name] = texts[one.string_value_iid] if one.string_value_iid else one.int_value
            (category,) = event.category_iids
            begun = Slice(
                event.track_uuid,
                known["event_names"][event.name_iid],
                known["event_categories"][category],
                time,
                None,
                len(stack),
                args,
                list(event.flow_ids),
                list(event.terminating_flow_ids),
            )
            found.slices.append(begun)
            if event.type == event_type.TYPE_SLICE_BEGIN:
                stack.append(begun)
    assert not any(stacks.values()), "something never ends"
