"""Processes and their threads: API calls, NVTX ranges, waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.report.formats.perfetto.layout import Slices, by, category_of, chosen, coded, laid_out
from nsight_tools.report.formats.perfetto.track_events import Annotation, Arrows

if TYPE_CHECKING:
    from nsight_tools.report.formats.perfetto.track_events import Writer
    from nsight_tools.trace import Trace


class Host:
    """Processes and threads: API calls on a thread's own track, all else on tracks below it."""

    def __init__(self, writer: Writer, trace: Trace) -> None:
        self._writer, self._trace = writer, trace
        names = trace.table("threads", ["pid", "tid", "name", "process"]).to_pylist()
        self._process_names = {row["pid"]: row["process"] for row in names if row["process"]}
        self._thread_names = {(row["pid"], row["tid"]): row["name"] for row in names if row["name"]}
        self._processes: dict[int, int] = {}
        self._threads: dict[tuple[int, int], int] = {}

    def write(self, last: int) -> None:
        """Everything; ranges that never ended reach to `last`."""
        self._api_calls()
        self._ranges(last)
        for table, label in (("osrt_calls", "OS runtime"), ("profiler_overhead", "profiler overhead")):
            self._calls(table, label)

    def _process(self, pid: int) -> int:
        if pid not in self._processes:
            name = self._process_names.get(pid) or f"process {pid}"
            self._processes[pid] = self._writer.track(name, pid=pid)
        return self._processes[pid]

    def _thread(self, pid: int, tid: int) -> int:
        if (pid, tid) not in self._threads:
            name = self._thread_names.get((pid, tid)) or f"thread {tid}"
            self._threads[pid, tid] = self._writer.track(name, self._process(pid), pid=pid, tid=tid)
        return self._threads[pid, tid]

    def _api_calls(self) -> None:
        trace, writer = self._trace, self._writer
        if not trace.rows("api_calls"):
            return
        table = trace.table("api_calls", ["start_ns", "end_ns", "pid", "tid", "name", "kind", "return_value"])
        track = by(self._thread, ints(table["pid"]), ints(table["tid"]))
        returned = ints(table["return_value"], null=0)
        slices = Slices(
            track,
            ints(table["start_ns"]),
            ints(table["end_ns"]),
            coded(writer.names, words(table["name"])),
            coded(writer.categories, words(table["kind"])),
            {"return value": Annotation(returned, returned != 0)},
        )
        # The n-th row of `launches` is arrow n + 1. None leads back in time.
        launches = trace.table("launches", ["api_call", "start_ns", "call_start_ns"])
        call = ints(launches["api_call"])
        arrow = np.flatnonzero((call >= 0) & (ints(launches["start_ns"]) >= ints(launches["call_start_ns"])))
        arrow = arrow[np.argsort(call[arrow], kind="stable")]
        arrows = Arrows(arrow + 1, np.bincount(call[arrow], minlength=table.num_rows))
        laid_out(writer, slices, lambda track: writer.track("CUDA API", track), nest=True, arrows=arrows)

    def _ranges(self, last: int) -> None:
        """NVTX: a track for each thread and domain; below the process, where ranges may cross threads."""
        trace, writer = self._trace, self._writer
        if not trace.rows("nvtx_ranges"):
            return
        table = trace.table("nvtx_ranges", ["start_ns", "end_ns", "pid", "tid", "domain", "name", "kind", "payload"])
        domain, kind = words(table["domain"]), words(table["kind"])
        start, end = ints(table["start_ns"]), ints(table["end_ns"], null=np.iinfo(np.int64).min)
        open_ended = end < start
        pushed, mark = kind.among("push_pop") & ~open_ended, kind.among("mark")
        labels: dict[int, tuple[str, int]] = {}

        def declare(pid: int, tid: int, code: int, on_thread: int) -> int:
            name = f"NVTX {domain.dictionary[code] if code >= 0 else ''}".rstrip()
            labels_of = (name, self._thread(pid, tid)) if on_thread else (f"{name} start/end", self._process(pid))
            track = writer.track(*labels_of)
            labels[track] = labels_of
            return track

        on_thread = pushed | mark
        tid = np.where(on_thread, ints(table["tid"]), -1)
        track = by(declare, ints(table["pid"]), tid, domain.codes, on_thread.astype(np.int8))
        payload = ints(table["payload"])
        annotations = {
            "payload": Annotation(payload, table["payload"].is_valid().to_numpy()),
            "never ended": Annotation(open_ended.astype(np.int64), open_ended),
        }
        columns = (track, start, np.where(open_ended, max(last, 1), end), coded(writer.names, words(table["name"])))
        slices = Slices(*columns, category_of(writer, "nvtx", table), annotations)
        for rows, nest in ((pushed, True), (~on_thread, False)):
            if rows.any():
                laid_out(writer, chosen(slices, rows), lambda track: writer.track(*labels[track]), nest=nest)
        if mark.any():
            marks = chosen(slices, mark)
            writer.instants(marks.track, marks.start, marks.name, marks.category, marks.annotations)

    def _calls(self, name: str, label: str) -> None:
        trace, writer = self._trace, self._writer
        if not trace.rows(name):
            return
        table = trace.table(name, ["start_ns", "end_ns", "pid", "tid", "name"])
        parents: dict[int, int] = {}

        def declare(pid: int, tid: int) -> int:
            track = writer.track(label, self._thread(pid, tid))
            parents[track] = self._thread(pid, tid)
            return track

        track = by(declare, ints(table["pid"]), ints(table["tid"]))
        columns = (track, ints(table["start_ns"]), ints(table["end_ns"]), coded(writer.names, words(table["name"])))
        slices = Slices(*columns, category_of(writer, label, table))
        laid_out(writer, slices, lambda track: writer.track(label, parents[track]), nest=True)
