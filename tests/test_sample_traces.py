"""The sample traces hold what compute_expected.py, which shares no code with the project, says of them."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shared_corpus import once

from nsight_tools import compare
from nsight_tools.comparison.result import Effect, Metric, Verdict
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).resolve().parent.parent / "sample_traces"
EXPORTS = sorted(path.stem for path in FOLDER.glob("*.sqlite"))
CAPTURES = sorted(path.name for path in FOLDER.glob("*.capture"))
NAMES = [*EXPORTS, *CAPTURES]
LIMIT_BYTES = 27_000_000

PRIVATE = {
    "home folder": r"/home/(?!user\b)\w+|/Users/\w+|/root/\S+|[A-Z]:\\Users\\",
    "address of a machine": r"\b(?:10|127|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}\b",
    "mail address": r"[\w.+-]+@[\w-]+\.(?:com|org|net|io|dev)\b",
    "secret": r"(?i)\b(?:api[_-]?key|passw(?:or)?d|secret|bearer|authorization|access[_-]?token)\b\s*[=:]",
    "key": r"-----BEGIN|\b(?:ghp_|hf_|sk-|AKIA)[A-Za-z0-9]{12,}|ssh-(?:rsa|ed25519) ",
    "environment variable": r"\b(?:PATH|HOME|USER|USERNAME|LOGNAME|HOSTNAME|PWD|SSH_\w+|LD_LIBRARY_PATH)=",
    "GPU UUID": r"GPU-[0-9a-f]{8}-[0-9a-f]{4}",
}


def beside(name: str, what: str) -> Path:
    """A file of a sample: beside an export, or in a run directory."""
    return FOLDER / name / what if name in CAPTURES else FOLDER / f"{name}.{what}"


def test_at_least_five_captures() -> None:
    assert len(CAPTURES) >= 5
    files = [path for path in FOLDER.rglob("*") if path.is_file() and ".trace" not in path.parent.suffix]
    assert sum(path.stat().st_size for path in files) <= LIMIT_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_complete_and_described(name: str) -> None:
    assert beside(name, "expected.json").is_file()
    assert beside(name, "layers.json").is_file()
    assert f"`{name}`" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("name", CAPTURES)
def test_captures_say_how_they_were_made(name: str) -> None:
    run = json.loads((FOLDER / name / "run.json").read_text(encoding="utf-8"))
    assert run["status"] == "done"
    assert run["arguments"][0] == "capture"
    assert run["privacy"]["in_the_report"]
    kept = {path.name for path in (FOLDER / name).iterdir() if path.is_file()}
    assert {"report.nsys-rep", "report.sqlite", "layer_pass.sqlite", "telemetry.parquet", "benchmark.parquet"} <= kept


def test_expected_values_can_be_computed_again() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "compute_expected.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_expected_values_are_independent() -> None:
    assert not re.search(r"^\s*(import|from) nsight", (FOLDER / "compute_expected.py").read_text(), re.MULTILINE)


@cache
def texts_of(path: Path) -> list[str]:
    """Every text in an SQLite file, also what deleted rows left in it."""
    with closing(sqlite3.connect(path)) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        cells = [cell for name in names for row in database.execute(f"SELECT * FROM {name}") for cell in row]
    left = re.findall(rb"[\x20-\x7e]{6,}", path.read_bytes())
    return [cell for cell in cells if isinstance(cell, str)] + [text.decode() for text in left]


@pytest.mark.parametrize("what", PRIVATE)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_private(name: str, what: str) -> None:
    if name in EXPORTS:
        texts = texts_of(FOLDER / f"{name}.sqlite")
        texts += [path.read_text() for path in FOLDER.glob(f"{name}.*.json")]
    else:
        texts = [text for path in (FOLDER / name).glob("*.sqlite") for text in texts_of(path)]
        texts += [path.read_text() for path in (FOLDER / name).glob("*.json")]
        texts += [text.decode() for text in words_of(FOLDER / name, "*.parquet")]
        if what != "environment variable":  # nsys embeds that of its own start, which holds nothing of anybody's
            texts += [text.decode() for text in words_of(FOLDER / name, "*.nsys-rep")]
    assert [found[0] for text in texts if (found := re.search(PRIVATE[what], text))] == []


@cache
def words_of(folder: Path, pattern: str) -> list[bytes]:
    return [text for path in folder.glob(pattern) for text in re.findall(rb"[\x20-\x7e]{6,}", path.read_bytes())]


# The dataset against the expected values

cached_expected = cache(lambda name: json.loads(beside(name, "expected.json").read_text()))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def expected(name: str) -> dict[str, Any]:
    return dict(cached_expected(name))


@pytest.fixture(scope="session")
def opened(session_folder: Path) -> Callable[[str], Trace]:
    """Opens a sample; of all processes that test, one imports it."""

    @cache
    def get(name: str) -> Trace:
        return open_trace(once(session_folder / "samples" / f"{name}.trace", partial(imported, name)))

    return get


def imported(name: str, to: Path) -> None:
    """The dataset of a copy of a sample, whose folder may be read only."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / (name if name in CAPTURES else f"{name}.sqlite")
        if name in CAPTURES:
            shutil.copytree(FOLDER / name, source, ignore=shutil.ignore_patterns("*.trace*"))
        else:
            for file in (source.name, f"{name}.layers.json"):
                shutil.copyfile(FOLDER / file, source.with_name(file))
        shutil.move(open_trace(source).path, to)


@pytest.fixture
def trace(opened: Callable[[str], Trace], name: str) -> Trace:
    return opened(name)


def records(trace: Trace, table: str, *columns: str) -> list[dict[str, Any]]:
    return list(trace.table(table, columns=list(columns) or None).to_pylist())


def test_row_counts(trace: Trace, expected: dict[str, Any]) -> None:
    rows = dict(expected["rows"])
    ranges = rows.pop("nvtx_push_pop_ranges")
    assert {table: trace.table(table).num_rows for table in rows} == rows
    assert Counter(r["kind"] for r in records(trace, "nvtx_ranges", "kind"))["push_pop"] == ranges
    assert trace.table("inferences").num_rows == len(expected["inferences"])


def test_streams(trace: Trace, expected: dict[str, Any]) -> None:
    work: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for table in ("kernels", "graph_launches"):
        for r in records(trace, table, "start_ns", "end_ns", "device", "stream"):
            work[r["device"], r["stream"]].append((r["start_ns"], r["end_ns"]))
    found = {key: (len(of), sum(end - start for start, end in of)) for key, of in work.items()}
    assert found == {(s["device"], s["stream"]): (s["count"], s["total_ns"]) for s in expected["streams"]}


def test_gpu_window(trace: Trace, expected: dict[str, Any]) -> None:
    query = """
        WITH work AS (SELECT start_ns, end_ns FROM kernels UNION ALL SELECT start_ns, end_ns FROM graph_launches),
        reached AS (
            SELECT *, max(end_ns) OVER (ORDER BY start_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM work
        )
        SELECT max(end_ns) - min(start_ns) AS span, sum(greatest(start_ns - before, 0)) AS idle FROM reached
    """
    (row,) = trace.sql(query).to_pylist()
    assert row == {"span": expected["gpu_window_ns"], "idle": expected["gpu_idle_ns"]}


def test_copies_and_sets(trace: Trace, expected: dict[str, Any]) -> None:
    found: dict[str, dict[str, int]] = {}
    for r in records(trace, "memory_ops", "start_ns", "end_ns", "kind", "size_bytes", "src_memory", "dst_memory"):
        key = f"{r['kind']} {r['src_memory'] or ''}->{r['dst_memory']}"
        value = found.setdefault(key, {"count": 0, "size_bytes": 0, "total_ns": 0})
        value["count"] += 1
        value["size_bytes"] += r["size_bytes"]
        value["total_ns"] += r["end_ns"] - r["start_ns"]
    assert found == expected["memory_ops"]


def test_calls_and_synchronizations(trace: Trace, expected: dict[str, Any]) -> None:
    assert Counter(r["name"] for r in records(trace, "api_calls", "name")) == expected["api_calls"]
    assert Counter(r["kind"] for r in records(trace, "synchronizations", "kind")) == expected["synchronizations"]


def test_ranges_of_the_runner(trace: Trace, expected: dict[str, Any]) -> None:
    found = Counter(
        f"{r['domain']}/{r['name']}"
        for r in records(trace, "nvtx_ranges", "domain", "name", "kind")
        if r["domain"] != "TensorRT" and r["kind"] == "push_pop"
    )
    assert found == expected["nvtx_ranges"]


def kernels_by_layer(trace: Trace, *sources: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for r in records(trace, "launches", "work", "layer", "layer_source", "start_ns", "end_ns"):
        if r["work"] == "kernel" and r["layer_source"] in sources:
            layer = found.setdefault(r["layer"], {"kernels": 0, "ns": 0})
            layer["kernels"] += 1
            layer["ns"] += r["end_ns"] - r["start_ns"]
    return found


def test_layers_of_kernels(trace: Trace, expected: dict[str, Any]) -> None:
    """By the ranges around their launch; and by their order, as in the layer pass."""
    assert kernels_by_layer(trace, "range", "graph_node") == expected["layers"]
    if "layers_in_order" in expected:
        assert kernels_by_layer(trace, "order") == expected["layers_in_order"]
        assert sum(layer["kernels"] for layer in expected["layers_in_order"].values()) == expected["rows"]["kernels"]


def test_layers_around_a_graphs_capture(opened: Callable[[str], Trace], tmp_path: Path) -> None:
    """The sample's graph was captured before the ranges were on; here they stand around the nodes' creations."""
    name = "classifier_cuda_graph.capture"
    in_order, path = opened(name), tmp_path / "report.sqlite"
    shutil.copyfile(beside(name, "report.sqlite"), path)
    kernel_nodes = [row["graph_node_id"] for row in records(in_order, "kernels", "graph_node_id")]
    launched = records(in_order, "launches", "work", "row", "layer")
    layer = {kernel_nodes[row["row"]]: row["layer"] for row in launched if row["work"] == "kernel"}
    with closing(sqlite3.connect(path)) as database, database:
        ((domain,),) = database.execute("SELECT domainId FROM NVTX_EVENTS WHERE text = 'TensorRT'")
        captured = """
            SELECT captured.start, captured.globalTid, run.graphNodeId
            FROM CUDA_GRAPH_NODE_EVENTS AS run
            JOIN CUDA_GRAPH_NODE_EVENTS AS captured ON captured.graphNodeId = run.originalGraphNodeId
        """
        ranges = [(at, at + 1, thread, layer[node], domain) for at, thread, node in database.execute(captured)]
        database.executemany(
            "INSERT INTO NVTX_EVENTS (start, end, eventType, globalTid, text, domainId) VALUES (?, ?, 59, ?, ?, ?)",
            ranges,
        )
    found = open_trace(path)
    assert kernels_by_layer(found, "graph_node") == cached_expected(name)["layers_in_order"]
    assert kernels_by_layer(found, "range", "order") == {}


def test_layers_by_the_engines_list(opened: Callable[[str], Trace]) -> None:
    """Without a layer pass: what has a layer comes in the engine's order, and bears the names of its tactics."""
    trace = opened("classifier_cuda_graph")
    inspected = json.loads(beside("classifier_cuda_graph", "layers.json").read_text(), strict=False)["Layers"]
    place = {layer["Name"]: at for at, layer in enumerate(inspected)}
    kernels = records(trace, "kernels", "name")
    rows = records(trace, "launches", "work", "row", "layer", "layer_source", "inference")
    told = [(row, kernels[row["row"]]["name"]) for row in rows if row["layer_source"] == "order"]
    assert told
    for inference in {row["inference"] for row, _ in told}:
        order = [place[row["layer"]] for row, _ in told if row["inference"] == inference]
        assert order == sorted(order)
        assert len(order) == 96  # of 102; the others are second kernels of layers
    for row, kernel in told:
        layer = inspected[place[row["layer"]]]
        bare = kernel.removeprefix("void ")
        if layer.get("TacticName"):
            assert bare.startswith(layer["TacticName"])
        else:
            assert ("Reformat" in layer["LayerType"]) == ("genericReformat" in bare)


def test_layers_of_the_engine(trace: Trace, name: str, expected: dict[str, Any]) -> None:
    """TensorRT's file is not strict JSON: it separates fused layers by a raw 0x1E."""
    inspected = json.loads(beside(name, "layers.json").read_text(), strict=False)["Layers"]
    layers = records(trace, "layers", "layer", "name", "source")
    assert [layer["name"] for layer in layers] == [layer["Name"] for layer in inspected]
    assert {layer["source"] for layer in layers} == {"inspector"}
    assert expected["layers"].keys() <= {layer["name"] for layer in layers}


def test_inferences(trace: Trace, expected: dict[str, Any]) -> None:
    """Windows, counts, and where each nanosecond went."""
    inferences = records(trace, "inferences")
    for number, want in enumerate(expected["inferences"]):
        found = inferences[number]
        assert {key: found[key] for key in want} == want, number


def test_several_in_flight_are_judged_by_both_verdicts(opened: Callable[[str], Trace]) -> None:
    """Four streams in turn make more inferences a second than a graph alone, each of which takes longer."""
    compared = compare(opened("classifier_streams.capture"), opened("classifier_cuda_graph.capture"))
    assert [each.aspect for each in compared.setup if each.effect is Effect.BLOCKS] == []
    assert compared.leads is Metric.THROUGHPUT
    assert compared.throughput.verdict is Verdict.SLOWER
    assert compared.latency.verdict is Verdict.FASTER
