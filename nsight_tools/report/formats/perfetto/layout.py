"""What all tracks are made from: slices in columns, laid out so that those of a track nest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.report.formats.perfetto.track_events import Annotation, Arrows, Writer
from nsight_tools.timeline.lanes import lanes, sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

    from nsight_tools.timeline.attribution import Words
    from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray


@dataclass
class Slices:
    """Slices that are laid out together: columns of shape (n,); `arrivals` has the arrow that leads to each, or 0."""

    track: IntArray
    start: Int64Array
    end: Int64Array
    name: Int64Array
    category: Int64Array
    annotations: dict[str, Annotation] = field(default_factory=dict)
    arrivals: Int64Array | None = None

    @classmethod
    def joined(cls, parts: list[Slices]) -> Slices:
        """One after the other; an annotation that one lacks is absent there."""
        annotations = {
            key: Annotation.joined([part.annotations.get(key) or part.start.size for part in parts])
            for key in dict.fromkeys(key for part in parts for key in part.annotations)
        }
        arrivals = [np.zeros(p.start.size, np.int64) if p.arrivals is None else p.arrivals for p in parts]
        return cls(
            np.concatenate([part.track for part in parts]),
            np.concatenate([part.start for part in parts]),
            np.concatenate([part.end for part in parts]),
            np.concatenate([part.name for part in parts]),
            np.concatenate([part.category for part in parts]),
            annotations,
            np.concatenate(arrivals),
        )


def laid_out(
    writer: Writer, slices: Slices, new_track: Callable[[int], int], *, nest: bool, arrows: Arrows | None = None
) -> None:
    """Write slices; those that would cross others of their track go to tracks that `beside` declares for it."""
    happens = sequence(slices.start, slices.end)
    lane = lanes(happens, slices.track, nest=nest)
    track = slices.track.astype(np.int64)
    moved = np.flatnonzero(lane)
    if moved.size:
        pairs, which = np.unique(np.stack([track[moved], lane[moved]]), axis=1, return_inverse=True)
        track[moved] = np.array([new_track(track) for track in pairs[0].tolist()], np.int64)[which.ravel()]
    columns = (track, slices.start, slices.end, slices.name, slices.category, slices.annotations)
    writer.slices(*columns, arrows or Arrows(ends=slices.arrivals), happens=happens)


def by(declare: Callable[..., int], *columns: IntArray) -> Int64Array:
    """The track of each row, shape (n,), declared once for each combination of values."""
    which, combinations = combined(columns)
    tracks = np.array([declare(*values) for values in combinations], np.int64)
    return tracks[which] if tracks.size else which


def combined(columns: Iterable[IntArray]) -> tuple[Int64Array, list[tuple[int, ...]]]:
    """Which combination of values each row has, shape (n,), and the combinations."""
    columns = list(columns)
    which = np.zeros(columns[0].size, np.int64)
    for column in columns:
        values, code = np.unique(column, return_inverse=True)
        _, which = np.unique(which * max(values.size, 1) + code.ravel(), return_inverse=True)
        which = which.ravel()
    first = np.zeros(int(which.max(initial=-1)) + 1, np.int64)
    first[which] = np.arange(which.size)
    return which, list(zip(*(column[first].tolist() for column in columns), strict=True))


def coded(intern: Callable[[Iterable[str]], Int64Array], column: Words) -> Int64Array:
    """What `intern` gives for the word of each row; for null, for the empty word."""
    numbers: Int64Array = np.append(intern(column.dictionary), intern([""]))[column.codes]
    return numbers


def text_of(writer: Writer, column: Words) -> Annotation:
    """An annotation with the word of each row; absent for null."""
    codes = np.maximum(column.codes, 0)
    numbers = writer.text(column.dictionary)
    return Annotation(numbers[codes] if numbers.size else codes, column.codes >= 0, text=True)


def category_of(writer: Writer, name: str, table: pa.Table) -> Int64Array:
    """One category for every row of a table."""
    return np.repeat(writer.categories([name]), table.num_rows)


def chosen(slices: Slices, rows: BoolArray) -> Slices:
    """Some of the slices."""
    annotations = {
        key: Annotation(annotation.values[rows], annotation.present[rows], annotation.text)
        for key, annotation in slices.annotations.items()
    }
    return Slices(
        slices.track[rows], slices.start[rows], slices.end[rows], slices.name[rows], slices.category[rows], annotations
    )
