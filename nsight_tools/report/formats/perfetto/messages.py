"""Protobuf messages, encoded column by column: one for each row of a batch.

Each field is a block of bytes of shape (rows, width), and a row leaves out the fields that it lacks. So that a block is
rectangular, all varints of a column take as many bytes as its largest one; protobuf's decoders read a varint that is
longer than it needs to be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray

Bytes = NDArray[np.uint8]

_VARINT, _FIXED64, _LENGTH = 0, 1, 2
"""Wire types."""


class Message:
    """One message for each of n rows: blocks of bytes, each with the rows that have it."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.blocks: list[tuple[Bytes, BoolArray | None]] = []
        self.tail: tuple[Bytes, Int64Array] | None = None
        """What follows the blocks: entries of one width, in order of row, and how many each row has."""

    @property
    def length(self) -> Int64Array:
        """Bytes of each row's message."""
        fixed = sum(block.shape[1] for block, present in self.blocks if present is None)
        length = np.full(self.rows, fixed, np.int64)
        for block, present in self.blocks:
            if present is not None:
                length += block.shape[1] * present
        if self.tail is not None:
            length += self.tail[0].shape[1] * self.tail[1]
        return length

    def constant(self, data: bytes, present: BoolArray | None = None) -> None:
        """The same bytes in every row that is present."""
        self.blocks.append((np.frombuffer(data, np.uint8)[np.newaxis], present))

    def number(self, field: int, values: IntArray, present: BoolArray | None = None) -> None:
        """A varint field."""
        self.constant(_tag(field, _VARINT), present)
        self.blocks.append((varints(values), present))

    def fixed64(self, field: int, values: NDArray[Any], present: BoolArray | None = None) -> None:
        """A field of eight bytes."""
        self.constant(_tag(field, _FIXED64), present)
        self.blocks.append((values.view(np.uint8).reshape(-1, 8), present))

    def message(self, field: int, inner: Message, present: BoolArray | None = None) -> None:
        """A message in a field; one with a tail has to be the last."""
        self.constant(_tag(field, _LENGTH), present)
        self.blocks.append((varints(inner.length), present))
        for block, has in inner.blocks:
            self.blocks.append((block, has if present is None else present if has is None else has & present))
        if inner.tail is not None:
            self.tail = inner.tail

    def repeated_fixed64(self, field: int, values: NDArray[Any], counts: Int64Array) -> None:
        """A repeated field, the last of the message: `values` in order of row, `counts` of them each."""
        data = np.empty((values.size, len(_tag(field, _FIXED64)) + 8), np.uint8)
        data[:, :-8] = np.frombuffer(_tag(field, _FIXED64), np.uint8)
        data[:, -8:] = values.view(np.uint8).reshape(-1, 8)
        self.tail = data, counts

    def encoded(self) -> bytes:
        """All rows, one behind the other."""
        matrix = np.concatenate([np.broadcast_to(b, (self.rows, b.shape[1])) for b, _ in self.blocks], axis=1)
        has = np.ones(matrix.shape, np.bool_)
        at = 0
        for block, present in self.blocks:
            if present is not None:
                has[:, at : at + block.shape[1]] = present[:, np.newaxis]
            at += block.shape[1]
        fixed = matrix[has]
        if self.tail is None or not self.tail[0].size:
            return fixed.tobytes()
        entries, counts = self.tail
        lengths = np.stack([has.sum(axis=1), counts * entries.shape[1]], axis=1).ravel()
        in_tail = np.repeat(np.arange(lengths.size) % 2 == 1, lengths)
        whole = np.empty(in_tail.size, np.uint8)
        whole[~in_tail], whole[in_tail] = fixed, entries.ravel()
        return whole.tobytes()


def varints(values: IntArray) -> Bytes:
    """Each value as a varint, shape (n, width): all as long as the longest. Negative ones take ten bytes."""
    left = values.astype(np.uint64)
    width = max(1, -(-int(left.max(initial=0)).bit_length() // 7))
    data = np.empty((left.size, width), np.uint8)
    for at in range(width):
        data[:, at] = (left & np.uint64(0x7F)).astype(np.uint8) | (0x80 if at < width - 1 else 0)
        left >>= np.uint64(7)
    return data


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _tag(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def number_field(field: int, value: int) -> bytes:
    """A varint field of one message."""
    return _tag(field, _VARINT) + _varint(value)


def bytes_field(field: int, data: bytes) -> bytes:
    """A field of one message that holds bytes, or another message."""
    return _tag(field, _LENGTH) + _varint(len(data)) + data


def text_field(field: int, text: str) -> bytes:
    """A string field of one message; nothing for the empty one."""
    return bytes_field(field, text.encode()) if text else b""
