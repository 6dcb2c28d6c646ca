"""Draws timelines to the dataset's tables: one character is one microsecond (1000 ns).

    tables = draw('''
        stream 7:              ..>>..####%%..
        stream 8:              ............<<
        thread 1:              C.L...l.C..SSS
        nvtx 1:                [inference...]
        nvtx 1 TensorRT:       ..[conv]......
    ''')
    tables["kernels"]["start_ns"]   # 6000, 10000

A line is a label, a colon and a picture. All pictures begin at the same column, the leftmost one in use, which is
time 0. Dots and spaces are idle. An item is a run of one symbol; two that touch are drawn with the two symbols of
their kind. Several lines may have the same label: what overlaps on one thread or stream is drawn on two lines.

Labels: `stream N`, `thread TID`, `nvtx TID [DOMAIN]` (domain `nsight_tools` where none is named, `default` for the
empty one), each with further words `pid P` (1000), `device D` (0, streams only), `start_end` (nvtx only) after it.

    on a stream                              on a thread
    # %   kernel                             L l   kernel launch (cudaLaunchKernel)
    > }   host-to-device copy                C c   copy or set (cudaMemcpyAsync, cudaMemsetAsync)
    < {   device-to-host copy                G g   graph launch (cudaGraphLaunch)
    = ~   device-to-device copy              S s   synchronization (cudaStreamSynchronize)
    0 o   set                                A a   any other call (cudaEventRecord)
    g G   whole graph (graph_launches)
    n m   kernel that ran as a graph's node

    on an nvtx line: `[name...]`, from `[` to and with `]`; dots after the name fill up; without `]` it never ends

Calls and work match in order of start, within a process: the k-th L launches the k-th kernel, the k-th C the k-th
copy or set, the k-th G the k-th whole graph. Where there are node kernels, they are shared out evenly among the G.
What has no partner has no correlation id (work) or one of its own (a call).

Options (a list gives one value for each item in order of start, one value goes for all):

    memory="pinned"          host side of copies, as in `memory_ops`
    size_bytes=1_000_000     of copies and sets
    kernel_names="kernel"    `name` and `short_name` of kernels (node kernels too)
    grid=132                 blocks in x of kernels
    copy_api, sync_api, other_api     names of C, S and A calls (copy_api: also for sets)
    kernel_calls, copy_calls, graph_calls
                             which L, C or G call (counted from 0) each item comes from; None for no call; all
                             processes count together
    names={"e": "ExecutionContext::enqueue"}      long names of nvtx ranges
    stream_kinds={7: "non_blocking"}              kinds of streams; "unknown" where not given
    gpu={"sm_count": 132}    columns of `gpus`
    events=[(1, 7), (1, 8), (1, None)]
                             event and stream of each call that records an event or waits for one, in order of start;
                             None for the stream of a wait of the host

The result has `gpus`, `streams`, `kernels` and `memory_ops` if a stream is drawn, `api_calls` if a thread is,
`nvtx_ranges` if there are nvtx lines, `graph_launches` if there is a whole graph, `event_records` and
`synchronizations` with `events`; rows in the order of the tables.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nsight_tools.cuda_names import communicates, does
from nsight_tools.importer.dialects import meaning
from nsight_tools.tables import TABLES

US = 1000
PID = 1000

_GPU = dict.fromkeys("#%", "kernel") | dict.fromkeys(">}", "h2d") | dict.fromkeys("<{", "d2h")
_GPU |= dict.fromkeys("=~", "d2d") | dict.fromkeys("0o", "memset") | dict.fromkeys("gG", "graph")
_GPU |= dict.fromkeys("nm", "node")
_API = {"L": "kernel", "C": "copy", "G": "graph", "S": "sync", "A": "other"}
_LABEL = re.compile(r"\s*(stream|thread|nvtx)\s+(\d+)\b([^:]*):(.*)")
_RANGE = re.compile(r"\[([^\]\[]*)(\]?)")


@dataclass
class Item:
    """Something drawn: what it is, when (nanoseconds), and what its label says."""

    what: str
    start: int
    end: int | None
    number: int
    pid: int
    device: int
    words: list[str]
    correlation: int | None = None

    @property
    def where(self) -> dict[str, Any]:
        context = self.device + 1
        row = {"start_ns": self.start, "end_ns": self.end, "device": self.device, "context": context}
        return row | {"stream": self.number, "pid": self.pid, "correlation_id": self.correlation}


def draw(text: str, **options: Any) -> dict[str, pa.Table]:
    """The tables that a drawing shows; the module says how to draw."""
    known = set(_DEFAULTS) | {"kernel_calls", "copy_calls", "graph_calls", "names", "stream_kinds", "gpu", "events"}
    if unknown := set(options) - known:
        raise ValueError(f"no such option: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    options = _DEFAULTS | options
    rooms = _parse(text)
    gpu, calls = (sorted(rooms.get(room, []), key=_by_time) for room in ("stream", "thread"))
    _match(gpu, calls, options)
    tables: dict[str, list[dict[str, Any]]] = {}
    if "stream" in rooms:
        tables |= _gpu_tables(gpu, options)
    if "thread" in rooms:
        tables["api_calls"] = _api_calls(calls, gpu, options)
        if "events" in options:
            tables |= _events(tables["api_calls"], options["events"])
    if "nvtx" in rooms:
        tables["nvtx_ranges"] = _nvtx_ranges(rooms["nvtx"], options.get("names", {}))
    return {name: table(name, rows) for name, rows in tables.items()}


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    """A table of the dataset from rows in any order; a column that a row leaves out is null, or 0 or "" if need be.

    What a GPU metric means is told by its name, as the importer does.
    """
    shape = TABLES[name]
    if name == "gpu_metrics":
        rows = [{"means": meaning(row["metric"])} | row for row in rows]
    for column, direction in reversed(shape.order):  # stable sorts, the least important column first; nulls last
        sign = -1 if direction == "descending" else None
        values = [(row.get(column) is None, _signed(row.get(column), sign)) for row in rows]
        rows = [rows[at] for at in sorted(range(len(rows)), key=values.__getitem__)]
    blank = {c.name: None if c.nullable else _nothing(c.type) for c in shape.columns}
    return shape.numbered(pa.Table.from_pylist([blank | row for row in rows], schema=shape.schema))


def with_column(source: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with other values in one column: one for each row, or one for all."""
    field = source.schema.field(name)
    filled = values if isinstance(values, list) else [values] * source.num_rows
    return source.set_column(source.schema.get_field_index(name), field, pa.array(filled, type=field.type))


_DEFAULTS: dict[str, Any] = {
    "memory": "pinned",
    "size_bytes": 1_000_000,
    "kernel_names": "kernel",
    "grid": 132,
    "copy_api": None,
    "sync_api": "cudaStreamSynchronize",
    "other_api": "cudaEventRecord",
}


def _signed(value: Any, sign: int | None) -> Any:
    return value if sign is None or value is None else sign * value


def _nothing(kind: pa.DataType) -> str | bool | int:
    return "" if _is_text(kind) else False if pa.types.is_boolean(kind) else 0


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_dictionary(kind)


def _by_time(item: Item) -> tuple[int, int, int]:
    return item.start, -(item.end or 0), item.number


def _parse(text: str) -> defaultdict[str, list[Item]]:
    """Items by the kind of their line: stream, thread, nvtx."""
    matches = [_LABEL.fullmatch(line) for line in text.splitlines() if line.strip()]
    lines = [match for match in matches if match]
    if len(lines) < len(matches) or not lines:
        raise ValueError(f"not a drawing: each line is `stream N: ...`, `thread N: ...` or `nvtx N: ...`\n{text}")
    zero = min(match.start(4) + len(match[4]) - len(match[4].lstrip()) for match in lines if match[4].strip())
    rooms: defaultdict[str, list[Item]] = defaultdict(list)
    for match in lines:
        room, number, words = match[1], int(match[2]), match[3].split()
        pid, device = (_take(words, key, default) for key, default in (("pid", PID), ("device", 0)))
        picture = match.string[zero:]
        rooms[room] += [
            Item(what, start * US, None if end is None else end * US, number, pid, device, words)
            for what, start, end in (_ranges(picture) if room == "nvtx" else _runs(picture, room))
        ]
    return rooms


def _take(words: list[str], key: str, default: int) -> int:
    """The number after a word of a label, both taken out of it."""
    if key not in words:
        return default
    at = words.index(key)
    value = int(words[at + 1])
    del words[at : at + 2]
    return value


def _runs(picture: str, room: str) -> list[tuple[str, int, int]]:
    found = []
    for run in re.finditer(r"([^. ])\1*", picture):
        what = _GPU.get(run[1]) if room == "stream" else _API.get(run[1].upper())
        if what is None:
            raise ValueError(f"{run[1]!r} is no symbol of a {room} line: {picture}")
        found.append((what, run.start(), run.end()))
    return found


def _ranges(picture: str) -> list[tuple[str, int, int | None]]:
    return [(r[1].rstrip(". "), r.start(), r.end() if r[2] else None) for r in _RANGE.finditer(picture)]


def _match(gpu: list[Item], calls: list[Item], options: dict[str, Any]) -> None:
    """Give calls and the work that they launch the same correlation id."""
    for number, call in enumerate(calls, start=1):
        call.correlation = number
    kinds = {"kernel": ("kernel",), "copy": ("h2d", "d2h", "d2d", "memset"), "graph": ("graph",)}
    for kind, of in kinds.items():
        chosen = options.get(f"{kind}_calls")
        for pid in {item.pid for item in gpu} if chosen is None else {None}:
            launches = [c for c in calls if c.what == kind and pid in {c.pid, None}]
            items = [item for item in gpu if item.what in of and pid in {item.pid, None}]
            for item, at in zip(items, range(len(items)) if chosen is None else chosen, strict=True):
                if at is not None and (chosen is not None or at < len(launches)):
                    item.correlation = launches[at].correlation
    _match_nodes(gpu, [c for c in calls if c.what == "graph"])


def _match_nodes(gpu: list[Item], launches: list[Item]) -> None:
    nodes = [item for item in gpu if item.what == "node"]
    if nodes and launches:
        share, rest = divmod(len(nodes), len(launches))
        if rest:
            raise ValueError(f"{len(nodes)} node kernels cannot be shared out among {len(launches)} graph launches")
        for at, node in enumerate(nodes):
            node.correlation = launches[at // share].correlation


def _each(value: Any, at: int) -> Any:
    return value[at] if isinstance(value, (list, tuple)) else value


def _gpu_tables(gpu: list[Item], options: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    kernels, copies, graphs = [], [], []
    nodes: defaultdict[int | None, int] = defaultdict(int)
    for item in gpu:
        if item.what in {"kernel", "node"}:
            name = _each(options["kernel_names"], len(kernels))
            row = item.where | {
                "name": name,
                "short_name": name,
                "communicates": communicates(name),
                "grid_x": _each(options["grid"], len(kernels)),
            }
            row |= dict.fromkeys(("grid_y", "grid_z", "block_y", "block_z"), 1) | {"block_x": 128, "registers": 32}
            if item.what == "node":
                row["graph_node_id"] = nodes[item.correlation]
                nodes[item.correlation] += 1
            kernels.append(row)
        elif item.what == "graph":
            graphs.append(item.where | {"graph_id": 1, "graph_exec_id": 2})
        else:
            copies.append(_memory_op(item, _each(options["memory"], len(copies)), options, len(copies)))
    kinds = options.get("stream_kinds", {})
    used = {(item.pid, item.device + 1, item.number) for item in gpu}
    tables = {
        "kernels": kernels,
        "memory_ops": copies,
        "streams": [
            {"pid": pid, "context": context, "stream": stream, "kind": kinds.get(stream, "unknown")}
            for pid, context, stream in used
        ],
        "gpus": [{"device": device} | options.get("gpu", {}) for device in {item.device for item in gpu} or {0}],
    }
    return tables | ({"graph_launches": graphs} if graphs else {})


def _memory_op(item: Item, host: str, options: dict[str, Any], at: int) -> dict[str, Any]:
    sides = {"h2d": (host, "device"), "d2h": ("device", host), "d2d": ("device", "device"), "memset": (None, "device")}
    source, target = sides[item.what]
    size = _each(options["size_bytes"], at)
    return item.where | {"kind": item.what, "size_bytes": size, "src_memory": source, "dst_memory": target}


def _api_calls(calls: list[Item], gpu: list[Item], options: dict[str, Any]) -> list[dict[str, Any]]:
    sets = {item.correlation for item in gpu if item.what == "memset"}
    count: defaultdict[str, int] = defaultdict(int)
    rows = []
    for call in calls:
        copy = options["copy_api"] or ("cudaMemsetAsync" if call.correlation in sets else "cudaMemcpyAsync")
        names = {"kernel": "cudaLaunchKernel", "graph": "cudaGraphLaunch", "copy": copy}
        names |= {"sync": options["sync_api"], "other": options["other_api"]}
        name = _each(names[call.what], count[call.what])
        count[call.what] += 1
        row = {"start_ns": call.start, "end_ns": call.end, "pid": call.pid, "tid": call.number, "name": name}
        kind = "runtime" if name.startswith("cuda") else "driver"
        rows.append(row | {"correlation_id": call.correlation, "kind": kind, "return_value": 0, "does": does(name)})
    return rows


def _events(calls: list[dict[str, Any]], events: list[tuple[int, int | None]]) -> dict[str, list[dict[str, Any]]]:
    named = [call for call in calls if re.search("EventRecord|WaitEvent|EventSynchronize", call["name"])]
    records, waits = [], []
    for call, (event, stream) in zip(named, events, strict=True):
        row = {"context": 1, "stream": -1 if stream is None else stream, "event_id": event}
        row |= {name: call[name] for name in ("pid", "correlation_id")}
        if call["does"] == "record":
            records.append(row | {"time_ns": call["start_ns"]})
        else:
            kind = "event" if stream is None else "stream_wait"
            waits.append(row | {"start_ns": call["start_ns"], "end_ns": call["end_ns"], "kind": kind})
    return {"event_records": records, "synchronizations": waits}


def _nvtx_ranges(items: list[Item], names: dict[str, str]) -> list[dict[str, Any]]:
    """Rows with depth and parent, by the plain loop: every range against every other."""
    rows = []
    for item in items:
        kind = "start_end" if "start_end" in item.words else "push_pop"
        domain = next((word for word in item.words if word != "start_end"), "nsight_tools")
        row = {"start_ns": item.start, "end_ns": item.end, "pid": item.pid, "tid": item.number, "kind": kind}
        rows.append(row | {"domain": "" if domain == "default" else domain, "name": names.get(item.what, item.what)})
    rows.sort(key=lambda r: (r["start_ns"], -(r["end_ns"] or 0), r["pid"], r["tid"], r["domain"], r["name"]))
    for at, row in enumerate(rows):
        if row["kind"] != "push_pop" or row["end_ns"] is None:
            continue
        parent = [
            before
            for before, other in enumerate(rows[:at])
            if other["kind"] == "push_pop"
            and (other["pid"], other["tid"]) == (row["pid"], row["tid"])
            and (other["end_ns"] or 0) >= row["end_ns"]
        ]
        row["parent"] = parent[-1] if parent else None
        row["depth"] = rows[parent[-1]]["depth"] + 1 if parent else 0
    return rows
