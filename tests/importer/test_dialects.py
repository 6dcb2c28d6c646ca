"""What exports of every version hold that is not as one would like it, and what the dataset makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from exports import (
    DOMAIN,
    EVENT,
    GRAPH,
    KERNEL,
    MARK,
    MEMCPY,
    MEMSET,
    NVTX,
    START_END,
    SYNC,
    call,
    copy,
    domain,
    enum,
    exporter,
    kernel,
    nvtx,
    process,
    thread,
    write_sqlite,
)

from nsight_tools.errors import InputError
from nsight_tools.importer import import_report
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nsight_tools.trace import Trace

    Imported = Callable[..., Trace]
    Rows = Callable[..., list[dict[str, Any]]]

H200 = ("TARGET_INFO_GPU", {"id": 0, "name": "NVIDIA H200", "cuDevice": 0, "clockRate": 1_980_000_000, "smCount": 132})


def only(found: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = found
    return row


class TestText:
    def test_that_is_not_utf8_is_replaced_and_the_rest_stays(self, imported: Imported) -> None:
        trace = imported(
            kernel(0, 1, b"gemm\xff\xfe<float>", shortName="gemm"),
            kernel(2, 3, "plain"),
            nvtx(0, 1, None, text=b"caf\xe9"),
        )
        assert trace.table("kernels")["name"].to_pylist() == ["gemm��<float>", "plain"]
        assert trace.table("kernels")["short_name"].to_pylist() == ["gemm", "plain"]
        assert trace.table("nvtx_ranges")["name"].to_pylist() == ["caf�"]

    def test_unicode_stays(self, rows: Rows) -> None:
        assert only(rows("nvtx_ranges", nvtx(0, 1, "größe µs 推論")))["name"] == "größe µs 推論"

    def test_a_reference_into_nothing_is_said(self, rows: Rows) -> None:
        assert only(rows("kernels", kernel(0, 1, shortName=4711)))["short_name"] == "[name missing from the export]"

    def test_without_names_nothing_can_be_told(self, tmp_path: Path) -> None:
        path = write_sqlite(tmp_path / "a.sqlite", kernel(0, 1), without=["StringIds"])
        with pytest.raises(InputError, match="has no table StringIds"):
            import_report(path)

    @pytest.mark.parametrize(
        ("text", "left"),
        [
            ("/home/jane/model.onnx", "~/model.onnx"),
            ("/Users/jane/model.onnx", "~/model.onnx"),
            (r"C:\Users\jane\model.onnx", r"~\model.onnx"),
            ("load /home/jane: done", "load ~: done"),
            ("/blocks.2/homes/Conv", "/blocks.2/homes/Conv"),
        ],
    )
    def test_home_folders_are_left_out(self, imported: Imported, text: str, left: str) -> None:
        trace = imported(
            kernel(0, 1, text),
            nvtx(0, 1, text),
            nvtx(2, 3, None, text=text),
            ("DIAGNOSTIC_EVENT", {"timestamp": 0, "text": text, "severity": 1, "source": 1}),
        )
        assert trace.table("kernels")["name"].to_pylist() == [left]
        assert trace.table("nvtx_ranges")["name"].to_pylist() == [left, left]
        assert trace.table("diagnostics")["text"].to_pylist() == [left]

    @pytest.mark.parametrize(
        ("text", "left"),
        [("see /nfs/home/jane/a.log", "see ~/a.log"), ("/root/.cache/x", "~/.cache/x"), ("/rooted/x", "/rooted/x")],
    )
    def test_diagnostics_leave_out_homes_anywhere_in_a_path(self, imported: Imported, text: str, left: str) -> None:
        diagnostic = ("DIAGNOSTIC_EVENT", {"timestamp": 0, "text": text, "severity": 1, "source": 1})
        trace = imported(nvtx(0, 1), diagnostic)
        assert trace.table("diagnostics")["text"].to_pylist() == [left]

    def test_layers_within_a_scope_called_home_keep_their_names(self, imported: Imported) -> None:
        trace = imported(nvtx(0, 1, "/encoder/home/block/Conv"))
        assert trace.table("nvtx_ranges")["name"].to_pylist() == ["/encoder/home/block/Conv"]


class TestTimes:
    def test_a_range_that_never_ended(self, imported: Imported) -> None:
        trace = imported(nvtx(0, None, "open"), nvtx(10, 20, "closed"), nvtx(30, None, "open too"))
        found = trace.table("nvtx_ranges").select(["name", "end_ns", "depth", "parent"]).to_pylist()
        assert [tuple(row.values()) for row in found] == [
            ("open", None, 0, None),
            ("closed", 20, 1, 0),
            ("open too", None, 1, 0),
        ]

    def test_an_open_inference_is_none(self, imported: Imported) -> None:
        ours = domain(1, "nsight_tools")
        trace = imported(ours, nvtx(0, 9, "inference", domainId=1), nvtx(10, None, "inference", domainId=1))
        assert trace.rows("inferences") == 1

    def test_a_start_before_the_collection_is_negative(self, rows: Rows) -> None:
        found = rows("nvtx_ranges", nvtx(5, 6, "later"), nvtx(-7000, 20, "earlier"))
        assert [(row["name"], row["start_ns"], row["depth"]) for row in found] == [
            ("earlier", -7000, 0),
            ("later", 5, 1),
        ]

    def test_marks_end_where_they_start_and_have_no_depth(self, rows: Rows) -> None:
        mark, span = rows("nvtx_ranges", nvtx(3, None, "m", eventType=MARK), nvtx(4, 9, "s", eventType=START_END))
        assert (mark["kind"], mark["end_ns"], mark["depth"], mark["parent"]) == ("mark", 3, None, None)
        assert (span["kind"], span["end_ns"], span["depth"], span["parent"]) == ("start_end", 9, None, None)


class TestTables:
    def test_that_are_missing_are_empty_and_the_reason_is_said(self, imported: Imported) -> None:
        trace = imported(nvtx(0, 1))
        for table in TABLES.keys() - {"nvtx_ranges"}:
            assert trace.table(table).num_rows == 0
            assert trace.table(table).schema.names == list(TABLES[table].names)
        assert trace.missing("kernels") == "no CUDA activity was traced; capture with --trace=cuda,nvtx"
        assert trace.missing("nvtx_ranges") is None

    def test_not_there_beside_others_of_cuda_means_there_was_nothing(self, imported: Imported) -> None:
        trace = imported(kernel(0, 1, correlationId=1), call(0, 1, correlationId=1))
        assert trace.missing("memory_ops") is None
        assert trace.manifest["tables"]["memory_ops"]["status"] == "empty"

    def test_kernels_that_were_lost(self, imported: Imported) -> None:
        trace = imported(call(0, 1), call(2, 3))
        assert str(trace.missing("kernels")).startswith("2 launches were traced but no kernel")

    def test_kernels_inside_of_whole_graphs(self, imported: Imported) -> None:
        whole = {"start": 1, "end": 5, "deviceId": 0, "contextId": 1, "streamId": 7, "globalPid": process()}
        trace = imported(call(0, 1, "cudaGraphLaunch", correlationId=3), (GRAPH, whole | {"correlationId": 3}))
        assert trace.rows("graph_launches") == 1
        assert trace.missing("kernels") == (
            "the report traced 1 whole CUDA graphs, not their kernels; capture with --cuda-graph-trace=node"
        )
        assert trace.table("launches")["work"].to_pylist() == ["graph"]

    def test_that_were_traced_and_hold_nothing_are_not_missing(self, imported: Imported) -> None:
        trace = imported(("META_DATA_CAPTURE", {"name": "PROCESS_0:COLLECT_NVTX_TRACE", "value": "true"}), kernel(0, 1))
        assert trace.missing("nvtx_ranges") is None
        assert trace.manifest["capture"]["nvtx_trace"] == "true"

    def test_empty_ones_are_looked_for(self, tmp_path: Path) -> None:
        from nsight_tools.trace import open_trace

        trace = open_trace(write_sqlite(tmp_path / "a.sqlite", kernel(0, 1), tables=[NVTX, "OSRT_API"]))
        assert trace.missing("nvtx_ranges") is None
        assert trace.manifest["tables"]["osrt_calls"]["status"] == "empty"


class TestColumns:
    def test_absent_ones_are_null(self, imported: Imported) -> None:
        trace = imported(
            kernel(0, 1, correlationId=1),
            copy(0, 1),
            nvtx(0, 1),
            without=[f"{KERNEL}.graphNodeId", f"{KERNEL}.correlationId", f"{MEMCPY}.srcDeviceId", f"{NVTX}.jsonTextId"],
        )
        kernels = trace.table("kernels")
        assert kernels["graph_node_id"].to_pylist() == kernels["correlation_id"].to_pylist() == [None]
        assert trace.table("memory_ops")["src_device"].to_pylist() == [None]
        assert trace.rows("nvtx_ranges") == 1

    def test_absent_ones_that_hold_words_are_unknown(self, rows: Rows) -> None:
        found = rows(
            "diagnostics",
            nvtx(0, 1),
            ("DIAGNOSTIC_EVENT", {"timestamp": 1, "text": "t"}),
            without=["DIAGNOSTIC_EVENT.severity", "DIAGNOSTIC_EVENT.source"],
        )
        assert only(found)["text"] == "t"

    @pytest.mark.parametrize("column", ["start", "streamId", "demangledName", "gridX"])
    def test_without_one_that_every_version_writes_it_is_no_export(self, tmp_path: Path, column: str) -> None:
        path = write_sqlite(tmp_path / "a.sqlite", kernel(0, 1), without=[f"{KERNEL}.{column}"])
        with pytest.raises(InputError, match=f"table {KERNEL} has no column {column}"):
            import_report(path)
        assert [left.name for left in tmp_path.iterdir()] == ["a.sqlite"]

    def test_extra_ones_are_passed_over(self, imported: Imported) -> None:
        trace = imported(kernel(0, 1, clusterX=2, tensorSizeMinusOneElements="1,2"), ("A_TABLE_OF_2027", {"x": 1}))
        assert trace.rows("kernels") == 1
        assert trace.table("kernels").schema.names == list(TABLES["kernels"].names)

    def test_a_payload_is_found_under_any_of_its_names(self, rows: Rows) -> None:
        found = rows(
            "nvtx_ranges",
            *(
                nvtx(at, at + 1, **{name: 10 + at})
                for at, name in enumerate(("int64Value", "uint64Value", "int32Value", "uint32Value"))
            ),
        )
        assert [row["payload"] for row in found] == [10, 11, 12, 13]

    def test_a_value_that_cannot_be_is_named(self, tmp_path: Path) -> None:
        path = write_sqlite(tmp_path / "a.sqlite", kernel(0, 1, gridX=1 << 40))
        with pytest.raises(InputError, match=f"table {KERNEL} holds a grid_x that cannot be"):
            import_report(path)


class TestNamesOfCalls:
    @pytest.mark.parametrize(
        ("raw", "name", "kind"),
        [
            ("cudaLaunchKernel_v7000", "cudaLaunchKernel", "runtime"),
            ("cudaMemcpyAsync_ptsz_v7000", "cudaMemcpyAsync", "runtime"),
            ("cuMemcpyHtoDAsync_v2", "cuMemcpyHtoDAsync", "driver"),
            ("cuMemcpyHtoDAsync_v2_ptsz", "cuMemcpyHtoDAsync", "driver"),
            ("cuMemcpyHtoD_v2_ptds", "cuMemcpyHtoD", "driver"),
            ("cuGetProcAddress_v2", "cuGetProcAddress", "driver"),
            ("cudaMemcpy2D", "cudaMemcpy2D", "runtime"),
        ],
    )
    def test_carry_no_version(self, rows: Rows, raw: str, name: str, kind: str) -> None:
        found = only(rows("api_calls", call(0, 1, raw)))
        assert (found["name"], found["kind"]) == (name, kind)

    @pytest.mark.parametrize(
        ("raw", "does"),
        [
            ("cudaLaunchKernel_v7000", "launch"),
            ("cudaMemcpyAsync_ptsz_v7000", "copy"),
            ("cuMemcpyHtoD_v2_ptds", "blocking_copy"),
            ("cudaStreamSynchronize_v3020", "wait"),
            ("cuGetProcAddress_v2", "other"),
        ],
    )
    def test_say_what_a_call_does(self, rows: Rows, raw: str, does: str) -> None:
        assert only(rows("api_calls", call(0, 1, raw)))["does"] == does

    @pytest.mark.parametrize(
        ("name", "communicates"),
        [
            ("ncclDevKernel_AllReduce_Sum_f16_RING_LL(int)", True),
            ("void gemm<float>()", False),
        ],
    )
    def test_say_which_kernels_communicate(self, rows: Rows, name: str, communicates: bool) -> None:
        assert only(rows("kernels", kernel(0, 1, name)))["communicates"] is communicates

    def test_two_versions_of_one_call_are_one_word(self, imported: Imported) -> None:
        names = imported(call(0, 1, "cuLaunchKernel_v2"), call(2, 3, "cuLaunchKernel")).table("api_calls")["name"]
        assert names.chunk(0).dictionary.to_pylist() == ["cuLaunchKernel"]


class TestProcesses:
    def test_one_correlation_id_in_two_processes(self, imported: Imported) -> None:
        trace = imported(
            call(0, 10, correlationId=5),
            call(100, 110, correlationId=5, globalTid=thread(2001, 2000)),
            kernel(20, 30, correlationId=5),
            kernel(120, 130, correlationId=5, globalPid=process(2000)),
        )
        found = trace.table("launches").select(["pid", "tid", "call_start_ns"]).to_pylist()
        assert [tuple(row.values()) for row in found] == [(1000, 1001, 0), (2000, 2001, 100)]

    @pytest.mark.parametrize("machine", [0, 1 << 48, 5 << 48, 0xFF << 56, (0xFF << 56) - (1 << 64)])
    def test_pid_and_tid_are_the_lower_48_bits_of_a_global_id(self, imported: Imported, machine: int) -> None:
        """Whatever machine the upper bits name; the uppermost makes a 64-bit integer negative."""
        signed = machine - (1 << 64) if machine >= 1 << 63 else machine
        trace = imported(
            call(0, 10, correlationId=5, globalTid=thread(0xABCDEF, 0x123456, signed)),
            kernel(20, 30, correlationId=5, globalPid=process(0x123456, signed)),
        )
        found = only(trace.table("launches").to_pylist())
        assert (found["pid"], found["tid"], found["call_start_ns"]) == (0x123456, 0xABCDEF, 0)

    def test_names_of_threads(self, rows: Rows) -> None:
        found = rows(
            "threads",
            ("PROCESSES", {"globalPid": process(), "pid": 1000, "name": "trtexec"}),
            ("ThreadNames", {"nameId": "main", "globalTid": thread(1000)}),
            ("ThreadNames", {"nameId": "worker", "globalTid": thread(1001)}),
        )
        assert [(r["pid"], r["tid"], r["name"], r["process"]) for r in found] == [
            (1000, 1000, "main", "trtexec"),
            (1000, 1001, "worker", "trtexec"),
        ]


class TestEnumerations:
    def test_without_a_table_they_are_cuptis(self, rows: Rows) -> None:
        found = rows("memory_ops", *(copy(at, at + 1, copyKind=kind) for at, kind in enumerate((1, 2, 8, 9, 10, 77))))
        assert [row["kind"] for row in found] == ["h2d", "d2h", "d2d", "h2h", "p2p", "unknown"]

    def test_a_table_with_other_numbers_wins(self, rows: Rows) -> None:
        found = rows(
            "memory_ops",
            enum("ENUM_CUDA_MEMCPY_OPER", {"CUDA_MEMCPY_KIND_HTOD": 2, "CUDA_MEMCPY_KIND_DTOH": 1}),
            enum("ENUM_CUDA_MEM_KIND", {"CUDA_MEMOPR_MEMORY_KIND_PAGEABLE": 1, "CUDA_MEMOPR_MEMORY_KIND_PINNED": 3}),
            copy(0, 1, copyKind=1, srcKind=2, dstKind=1),
            copy(2, 3, copyKind=2, srcKind=3, dstKind=2),
        )
        assert [(r["kind"], r["src_memory"], r["dst_memory"]) for r in found] == [
            ("d2h", "device", "pageable"),
            ("h2d", "pinned", "device"),
        ]

    def test_kinds_of_memory_are_the_exports_and_not_cuptis_own(self, rows: Rows) -> None:
        """CUPTI's own numbering has 1 for pageable and 2 for pinned."""
        found = rows("memory_ops", *(copy(at, at + 1, srcKind=at) for at in range(8)))
        words = ["pageable", "pinned", "device", "array", "managed", "device_static", "managed_static", "unknown"]
        assert [row["src_memory"] for row in found] == words

    def test_sets_have_no_source(self, rows: Rows) -> None:
        place = {"deviceId": 0, "contextId": 1, "streamId": 7, "globalPid": process()}
        found = only(rows("memory_ops", (MEMSET, {"start": 0, "end": 1, "bytes": 64, "memKind": 2} | place)))
        assert (found["kind"], found["size_bytes"], found["src_memory"], found["dst_memory"]) == (
            "memset",
            64,
            None,
            "device",
        )

    def test_a_misspelt_table_disturbs_nothing(self, rows: Rows) -> None:
        """As 2022.4 writes it; what it names is not imported."""
        krenel = enum("ENUM_CUDA_KRENEL_LAUNCH_TYPE", {"CUDA_KERNEL_LAUNCH_TYPE_REGULAR": 1})
        assert len(rows("kernels", krenel, kernel(0, 1, launchType=1))) == 1

    def test_kinds_of_ranges(self, rows: Rows) -> None:
        other = enum("ENUM_NSYS_EVENT_TYPE", {"NvtxPushPopRange": 159, "NvtxDomainCreate": 175})
        found = rows("nvtx_ranges", other, nvtx(0, 9, domainId=3, eventType=159), domain(3, "TensorRT", eventType=175))
        assert [(r["kind"], r["domain"]) for r in found] == [("push_pop", "TensorRT")]


class TestDomains:
    def test_are_named_by_the_event_that_created_them_within_its_process(self, rows: Rows) -> None:
        elsewhere = thread(2001, 2000)
        found = rows(
            "nvtx_ranges",
            domain(1, "TensorRT"),
            domain(1, "nsight_tools", globalTid=elsewhere),
            (NVTX, {"start": -1, "eventType": DOMAIN, "globalTid": thread(), "textId": "registered", "domainId": 2}),
            nvtx(0, 9, "a", domainId=1),
            nvtx(1, 9, "b", domainId=1, globalTid=elsewhere),
            nvtx(2, 9, "c", domainId=2),
            nvtx(3, 9, "d", domainId=0),
            nvtx(4, 9, "e", domainId=7),
            nvtx(5, 9, "f", domainId=None),
        )
        assert [row["domain"] for row in found] == ["TensorRT", "nsight_tools", "registered", "", "domain 7", ""]


SYNC_PLACE = {"deviceId": 0, "contextId": 1, "streamId": 7, "globalPid": process()}


def sync(at: int, kind: int, correlation: int | None = None) -> tuple[str, dict[str, Any]]:
    return SYNC, {"start": at, "end": at + 1, "syncType": kind, "correlationId": correlation, **SYNC_PLACE}


class TestSynchronizations:
    @pytest.mark.parametrize("schema", ["2.9.1", "3.16.1", "3.24.14"])
    def test_the_name_of_the_call_tells_the_kind_in_every_version(self, rows: Rows, schema: str) -> None:
        names = {
            "cuStreamSynchronize_ptsz": "stream",
            "cudaStreamWaitEvent_v3020": "stream_wait",
            "cudaEventSynchronize": "event",
            "cudaDeviceSynchronize_v3020": "context",
            "cuCtxSynchronize": "context",
        }
        calls = [call(at, at + 1, name, correlationId=at) for at, name in enumerate(names)]
        found = rows("synchronizations", exporter(schema), calls, (sync(at, at, at) for at in range(len(names))))
        assert [row["kind"] for row in found] == list(names.values())

    @pytest.mark.parametrize(
        ("meta", "meaning"),
        [
            ([], {1: "context", 2: "event", 3: "stream", 4: "unknown"}),
            (exporter("2.9.1", "2022.1.3", "EXPORT_META_DATA"), {1: "context", 2: "event", 3: "stream"}),
            (exporter("3.11.3", "2024.4.2"), {1: "context", 2: "event", 3: "stream"}),
            (exporter("3.16.1", "2024.6.2"), {1: "event", 2: "stream", 4: "context", 3: "unknown"}),
            (exporter("3.20.3", "2025.3.2"), {1: "event", 2: "stream", 4: "context"}),
            (exporter("3.24.14", "2026.1.1"), {1: "event", 2: "stream_wait", 3: "stream", 4: "context"}),
        ],
        ids=["2020", "2022.1", "2024.4", "2024.6", "2025.3", "2026.1"],
    )
    def test_without_the_call_the_type_does_by_what_the_version_means(
        self, rows: Rows, meta: list[Any], meaning: dict[int, str]
    ) -> None:
        found = rows("synchronizations", meta, *(sync(at, kind) for at, kind in enumerate(meaning)))
        assert [row["kind"] for row in found] == list(meaning.values())

    def test_the_event_waited_for_if_any(self, rows: Rows) -> None:
        waited = (SYNC, sync(1, 2)[1] | {"eventId": 12})
        none = (SYNC, sync(3, 2)[1] | {"eventId": 0xFFFFFFFF})
        found = rows("synchronizations", waited, none, sync(5, 3))
        assert [row["event_id"] for row in found] == [12, -1, None]


def recorded(correlation: int | None, event: int, **values: Any) -> tuple[str, dict[str, Any]]:
    return EVENT, {"correlationId": correlation, "eventId": event, **SYNC_PLACE, **values}


class TestEvents:
    RECORD = "cudaEventRecord_v3020"

    def test_are_recorded_when_their_call_starts_in_its_process(self, rows: Rows) -> None:
        elsewhere = process(2000)
        found = rows(
            "event_records",
            call(30, 40, self.RECORD, correlationId=7),
            call(31, 39, "cuEventRecord", correlationId=7),
            call(10, 12, "cudaEventRecordWithFlags_v11010", correlationId=7, globalTid=thread(2001, 2000)),
            recorded(7, 3, streamId=14),
            recorded(7, 3, globalPid=elsewhere),
        )
        assert [(row["time_ns"], row["pid"], row["stream"], row["event_id"]) for row in found] == [
            (10, 2000, 7, 3),
            (30, 1000, 14, 3),
        ]
        assert [row["correlation_id"] for row in found] == [7, 7]

    def test_whose_call_is_not_in_the_report_have_no_place_in_time(self, imported: Imported) -> None:
        calls = [call(1, 2, self.RECORD, correlationId=1), call(3, 4, correlationId=2)]
        trace = imported(calls, recorded(1, 5), recorded(2, 6), recorded(None, 7), recorded(9, 8))
        assert trace.table("event_records")["event_id"].to_pylist() == [5]
        assert trace.missing("event_records") is None

    def test_come_in_order_however_many_there_are(self, imported: Imported) -> None:
        many = 70_000  # more than two pieces, and listed from the last to the first
        calls = [call(at, at + 1, self.RECORD, correlationId=at) for at in range(1, many + 1)]
        trace = imported(calls, (recorded(at, at % 5) for at in range(many, 0, -1)))
        assert trace.numbers("event_records", "time_ns").tolist() == list(range(1, many + 1))
        assert trace.numbers("event_records", "event_id").tolist() == [at % 5 for at in range(1, many + 1)]

    def test_a_report_without_them_says_why(self, imported: Imported) -> None:
        named = [call(at, at + 1, self.RECORD, correlationId=at) for at in range(3)]
        assert (imported(named).missing("event_records") or "").startswith("3 calls recorded an event, and the report ")

    def test_a_program_that_records_none_lacks_none(self, imported: Imported) -> None:
        assert imported(call(0, 1, correlationId=1), kernel(2, 3, correlationId=1)).missing("event_records") is None

    def test_without_any_call_none_can_be_told(self, imported: Imported) -> None:
        assert "no CUDA call" in (imported(kernel(2, 3), recorded(1, 5)).missing("event_records") or "")


class TestGraphs:
    def test_layers_come_from_the_capture_of_the_node(self, imported: Imported) -> None:
        def node(at: int, number: int, original: int | None = None) -> tuple[str, dict[str, Any]]:
            row = {"start": at, "end": at, "globalTid": thread(), "nameId": "cudaGraphAddKernelNode"}
            return "CUDA_GRAPH_NODE_EVENTS", row | {"graphNodeId": number, "originalGraphNodeId": original}

        trace = imported(
            domain(1, "TensorRT"),
            nvtx(0, 10, "conv1", domainId=1),
            node(5, 1),
            node(50, 2, 1),
            call(60, 61, "cudaGraphLaunch_v10000", correlationId=9),
            kernel(70, 80, correlationId=9, graphNodeId=2),
        )
        found = only(trace.table("launches").select(["layer", "layer_source", "call_start_ns"]).to_pylist())
        assert found == {"layer": "conv1", "layer_source": "graph_node", "call_start_ns": 60}

    def test_of_2022_4_stand_in_one_table_with_the_graphs(self, rows: Rows) -> None:
        both = {"start": 1, "end": 1, "globalTid": thread(), "nameId": "cudaGraphAddKernelNode"}
        found = rows(
            "graph_nodes",
            ("CUDA_GRAPH_EVENTS", both | {"graphNodeId": 5, "originalGraphNodeId": None}),
            ("CUDA_GRAPH_EVENTS", both | {"graphNodeId": None}),
        )
        assert [row["graph_node_id"] for row in found] == [5]


class TestDevices:
    def test_cuda_visible_devices_renumbers_gpus_for_a_process(self, imported: Imported) -> None:
        mapping = [
            ("TARGET_INFO_CUDA_DEVICE", {"gpuId": gpu, "cudaId": cuda, "pid": pid})
            for gpu, cuda, pid in ((1, 0, 1000), (0, 1, 1000), (0, 0, 2000), (None, 2, 1000))
        ]
        trace = imported(
            mapping,
            kernel(0, 1, deviceId=0),
            kernel(2, 3, deviceId=1),
            kernel(4, 5, deviceId=0, globalPid=process(2000)),
            copy(6, 7, deviceId=0, srcDeviceId=0, dstDeviceId=1),
        )
        assert trace.table("kernels")["device"].to_pylist() == [1, 0, 0]
        moved = only(trace.table("memory_ops").to_pylist())
        assert (moved["device"], moved["src_device"], moved["dst_device"]) == (1, 1, 0)

    def test_gpus(self, rows: Rows) -> None:
        found = only(rows("gpus", H200))
        assert (found["device"], found["name"], found["max_sm_clock_mhz"], found["sm_count"]) == (
            0,
            "NVIDIA H200",
            1980,
            132,
        )
        assert (found["chip"], found["integrated"]) == (None, None)

    def test_gpus_that_share_the_memory_of_the_cpu(self, rows: Rows) -> None:
        orin = ("TARGET_INFO_GPU", {"id": 1, "name": "Orin", "cuDevice": 1, "isDiscrete": 0})
        found = rows("gpus", (H200[0], H200[1] | {"isDiscrete": 1}), orin)
        assert [gpu["integrated"] for gpu in found] == [False, True]

    T4 = (
        ("TARGET_INFO_GPU", {"vmId": 1, "deviceId": 0, "name": "Tesla T4", "busLocation": "0000:00:1e.0"}),
        (
            "TARGET_INFO_CUDA_GPU",
            {
                "deviceId": 0,
                "name": "Tesla T4",
                "numMultiprocessors": 40,
                "l2CacheSize": 4 << 20,
                "globalMemorySize": 15 << 30,
                "maxWarpsPerMultiprocessor": 32,
                "computeCapabilityMajor": 7,
                "computeCapabilityMinor": 5,
                "numMemcpyEngines": 3,
            },
        ),
    )

    def test_gpus_of_2020_have_their_properties_in_a_table_of_cuda(self, rows: Rows) -> None:
        found = only(rows("gpus", nvtx(0, 1), self.T4))
        assert (found["device"], found["name"], found["bus_id"]) == (0, "Tesla T4", "0000:00:1e.0")
        assert (found["sm_count"], found["l2_cache_bytes"], found["max_warps_per_sm"]) == (40, 4 << 20, 32)
        assert found["memory_bytes"] == 15 << 30

    def test_gpus_of_2020_name_some_after_cuptis_record_of_a_device(self, rows: Rows) -> None:
        found = only(rows("gpus", nvtx(0, 1), self.T4))
        assert (found["compute_major"], found["compute_minor"], found["async_engines"]) == (7, 5, 3)

    @pytest.mark.parametrize(
        "null_stream",
        [
            ("TARGET_INFO_CUDA_CONTEXT_INFO", {"nullStreamId": 7, "processId": 1000, "contextId": 1}),
            ("TARGET_INFO_CUDA_NULL_STREAM", {"streamId": 7, "processId": 1000, "contextId": 1}),
        ],
        ids=["from 2023.4 on", "before"],
    )
    def test_streams(self, rows: Rows, null_stream: tuple[str, dict[str, Any]]) -> None:
        created = [
            (
                "TARGET_INFO_CUDA_STREAM",
                {"streamId": 12 + flag, "processId": 1000, "contextId": 1, "flag": flag, "priority": -1},
            )
            for flag in range(4)
        ]
        found = rows("streams", null_stream, created)
        assert [(r["stream"], r["kind"], r["priority"]) for r in found] == [
            (7, "legacy_default", None),
            (12, "unknown", -1),
            (13, "blocking", -1),
            (14, "non_blocking", -1),
            (15, "legacy_default", -1),
        ]

    def test_an_id_of_all_ones_is_none(self, rows: Rows) -> None:
        assert only(rows("kernels", kernel(0, 1, streamId=0xFFFFFFFF)))["stream"] == -1


METRICS = 1 << 48 | 0x123400
"""A metric set's type: its lowest byte is the GPU."""


class TestMetrics:
    def named(self, number: int, name: str, gpu: int = 0) -> tuple[str, dict[str, Any]]:
        return "TARGET_INFO_GPU_METRICS", {"typeId": METRICS + gpu, "metricId": number, "metricName": name}

    def sample(self, at: int, number: int, value: float, gpu: int = 0) -> tuple[str, dict[str, Any]]:
        return "GPU_METRICS", {"timestamp": at, "typeId": METRICS + gpu, "metricId": number, "value": value}

    def test_a_clock_labelled_mhz_is_in_mhz_also_where_the_export_has_hertz(self, rows: Rows) -> None:
        found = rows(
            "gpu_metrics",
            self.named(0, "GPC Clock Frequency [MHz]"),
            self.named(1, "SMs Active [Throughput %]"),
            self.named(0, "GPC Clock Frequency [MHz]", gpu=1),
            self.sample(10, 0, 1_979_730_000),
            self.sample(10, 1, 97),
            self.sample(20, 0, 1980),
            self.sample(20, 0, 345_000_000, gpu=1),
            self.sample(30, 9, 1),
        )
        assert [(r["time_ns"], r["device"], r["metric"], r["means"], r["value"]) for r in found] == [
            (10, 0, "GPC Clock Frequency [MHz]", "sm_clock", 1979.73),
            (10, 0, "SMs Active [Throughput %]", "sms_active", 97),
            (20, 0, "GPC Clock Frequency [MHz]", "sm_clock", 1980),
            (20, 1, "GPC Clock Frequency [MHz]", "sm_clock", 345),
            (30, 0, "metric 9", None, 1),
        ]

    def test_as_json_among_the_generic_events(self, rows: Rows) -> None:
        def event(at: int, data: str | None) -> tuple[str, dict[str, Any]]:
            return "GENERIC_EVENTS", {"timestamp": at, "typeId": METRICS, "data": data}

        found = rows(
            "gpu_metrics",
            nvtx(0, 1),
            event(10, '{"GPC Clock Frequency [MHz]":"1410","SMs Active [Throughput %]":"97"}'),
            event(20, '{"GPC Clock Frequency [MHz]":"1395","SMs Active [Throughput %]":"not a number"}'),
            event(30, None),
            event(40, "something else"),
        )
        assert [(r["time_ns"], r["metric"], r["value"]) for r in found] == [
            (10, "GPC Clock Frequency [MHz]", 1410),
            (10, "SMs Active [Throughput %]", 97),
            (20, "GPC Clock Frequency [MHz]", 1395),
        ]

    @pytest.mark.parametrize(("gpus", "device"), [(1, 0), (2, None)], ids=["one GPU", "two GPUs"])
    def test_of_the_nvml_plugin(self, rows: Rows, gpus: int, device: int | None) -> None:
        kind = 1 << 48 | 1
        fields = [
            ("GENERIC_EVENT_TYPE_FIELDS", {"typeId": kind, "fieldIdx": at, "fieldNameId": name})
            for at, name in enumerate(("Power", "Temperature", "Something"))
        ]
        values = [(1, 0, 184), (1, 1, 42), (1, 2, 5), (2, 0, 632)]
        found = rows(
            "nvml_metrics",
            [("TARGET_INFO_GPU", {"id": at, "name": "GPU", "cuDevice": at}) for at in range(gpus)],
            fields,
            [("GENERIC_EVENTS", {"genericEventId": at, "timestamp": 10 * at, "typeId": kind}) for at in (1, 2)],
            [("GENERIC_EVENT_DATA", {"genericEventId": i, "fieldIdx": f, "uintVal": v}) for i, f, v in values],
        )
        assert [tuple(r.values()) for r in found] == [
            (10, device, "Power", "W", 184),
            (10, device, "Temperature", "C", 42),
            (20, device, "Power", "W", 632),
        ]


class TestSession:
    @pytest.mark.parametrize(
        ("table", "version", "schema"),
        [("META_DATA_EXPORT", "2025.3.2.0", "3.20.3"), ("EXPORT_META_DATA", "2022.1.3.18", "2.9.1")],
    )
    def test_versions(self, imported: Imported, table: str, version: str, schema: str) -> None:
        trace = imported(exporter(schema, version, table), kernel(0, 1))
        assert trace.manifest["nsys"] == {"version": version, "schema_version": schema}

    def test_a_report_that_does_not_say(self, imported: Imported) -> None:
        assert imported(kernel(0, 1)).manifest["nsys"] == {"version": None, "schema_version": None}

    @pytest.mark.parametrize(
        ("raw", "driver", "cuda"),
        [(("580.159.04", "13000"), "580.159.04", "13.0"), (("4952905", "11050"), "495.29.05", "11.5")],
    )
    def test_the_machine(self, imported: Imported, raw: tuple[str, str], driver: str, cuda: str) -> None:
        facts = dict(zip(("NvDriverVersion", "CudaDriverVersion"), raw, strict=True))
        rows = [("TARGET_INFO_SYSTEM_ENV", {"name": name, "value": value}) for name, value in facts.items()]
        system = imported(rows, kernel(0, 1)).manifest["system"]
        assert (system["driver"], system["cuda"]) == (driver, cuda)

    @pytest.mark.parametrize(
        ("raw", "driver"),
        [
            ("5103901", "510.39.01"),  # as exported: seven digits, eight, nine
            ("47014103", "470.141.03"),
            ("52512506", "525.125.06"),
            ("580159004", "580.159.04"),
            ("0", None),
            ("531.29", "531.29"),
            ("39077", "39077"),  # of no known form
        ],
    )
    def test_drivers_that_are_written_as_one_number(self, imported: Imported, raw: str, driver: str | None) -> None:
        row = ("TARGET_INFO_SYSTEM_ENV", {"name": "NvDriverVersion", "value": raw})
        assert imported(row, kernel(0, 1)).manifest["system"]["driver"] == driver

    def test_options_of_the_capture_stand_with_or_without_the_process(self, imported: Imported) -> None:
        options = {"PROCESS_3:CUDA_GRAPH_TRACE_OPTIONS:MODE": "node", "RATE_HZ": "1000"}
        rows = [("META_DATA_CAPTURE", {"name": name, "value": value}) for name, value in options.items()]
        capture = imported(rows, kernel(0, 1)).manifest["capture"]
        assert (capture["graph_trace"], capture["cpu_sampling_hz"], capture["memory_usage"]) == ("node", "1000", None)
