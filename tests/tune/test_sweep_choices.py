"""Which settings a sweep has, which are left, and which of those that were measured nobody else beats."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measured_before import MeasuredBefore

from nsight_tools.errors import InputError
from nsight_tools.findings import Change
from nsight_tools.measured import Energy, Measured, Memory, Speed
from nsight_tools.report import swept
from nsight_tools.tune import kept, measuring, sweep
from nsight_tools.tune.measuring import Failed, Measurement, Row, Why
from nsight_tools.tune.settings import Setting, capture_command, conflict, of_api, product, trtexec_command

if TYPE_CHECKING:
    from pathlib import Path


def measured(rate: float, p99_us: int) -> Measurement:
    p99 = 1000 * p99_us
    return Measurement(1000, rate, p99 // 2, p99 - 2, p99 - 1, p99, 1_000_000, None)


def streams(count: int) -> Setting:
    return Setting.of({"streams": count})


def points(*of: tuple[float, int]) -> list[sweep.Point]:
    return sweep.points([Row(streams(number), measured(*each)) for number, each in enumerate(of, 1)])


def test_settings_that_do_the_same_are_equal() -> None:
    assert Setting.of({"streams": 1, "pageable": False, "batch": None}) == Setting()
    assert Setting.of({"streams": 2, "pageable": True}) == Setting.of({"pageable": True, "streams": 2})
    bad = Setting.of({"pageable": True, "default_stream": True})
    assert bad.changed(Change("pageable", value=False)).flags == "--default-stream"
    assert bad.has(Change("pageable"))
    assert not bad.has(Change("use_cuda_graph"))
    assert str(Setting()) == "as by default"


def test_a_product_holds_each_combination_once() -> None:
    found = product({"streams": (1, 2), "use_cuda_graph": (False, True)})
    assert [each.flags for each in found] == ["", "--use-cuda-graph", "--streams 2", "--streams 2 --use-cuda-graph"]
    assert product({}) == [Setting()]
    assert product({"streams": (1, 1)}) == [Setting()]


@pytest.mark.parametrize(
    ("more", "word"),
    [({"use_cuda_graph": True}, "--use-cuda-graph"), ({"streams": 2}, "--streams"), ({}, None)],
    ids=str,
)
def test_the_default_stream_is_one_stream(more: dict[str, bool | int], word: str | None) -> None:
    found = conflict(Setting.of({"default_stream": True, "pageable": True} | more))
    assert (found is None) if word is None else (word in str(found))


def test_a_setting_is_told_in_everybodys_words() -> None:
    setting = Setting.of({"streams": 4, "use_cuda_graph": True, "fp16": True})
    given = {"shapes": "x:8x3", "duration": "2"}
    ours = "nsight-tools capture m.onnx --shapes x:8x3 --duration 2 --fp16 --streams 4 --use-cuda-graph"
    assert capture_command("m.onnx", setting, given) == ours
    theirs = "trtexec --onnx=m.onnx --shapes=x:8x3 --fp16 --infStreams=4 --useCudaGraph --exposeDMA"
    assert trtexec_command("m.onnx", setting, given) == theirs
    overlapped = setting.changed(Change("overlap_transfers"))
    assert "--exposeDMA" not in trtexec_command("m.engine", overlapped, {})
    assert trtexec_command("m.onnx", setting, given, "10.13.2") == theirs
    batch = trtexec_command("m.onnx", Setting.of({"batch": 8}), {})
    assert batch == "trtexec --onnx=m.onnx --exposeDMA # and --shapes with 8 as first dimension"
    shapes = {"x": (8, 3), "mask:0": [8], "scale": []}
    known = trtexec_command("m.onnx", Setting.of({"batch": 8}), given, shapes=shapes)
    assert known == """trtexec --onnx=m.onnx --shapes='x:8x3,'"'"'mask:0'"'"':8,scale:scalar' --exposeDMA"""
    assert "".join(shlex.split(known)[2:3]) == "--shapes=x:8x3,'mask:0':8,scale:scalar"
    assert "shapes" not in trtexec_command("m.onnx", Setting.of({"batch": 8}), {}, shapes={})  # it has static ones
    told = "--noSpinWait --includeDataTransfers --exposeDMA"  # trtexec 11 spins and copies nothing by itself
    assert trtexec_command("m.onnx", setting, given, "11.0.0") == theirs.replace("--exposeDMA", told)
    assert any("cudaStreamBeginCapture" in each for each in of_api(setting))
    assert any("cudaHostAlloc" in each for each in of_api(setting))
    assert not any("cudaHostAlloc" in each for each in of_api(Setting.of({"pageable": True})))


def test_all_are_measured_once_before_any_again_and_failures_once() -> None:
    settings = [streams(1), streams(2), streams(4)]
    rows: list[Row] = []

    class Counting:
        def measure(self, setting: Setting) -> Measurement:
            if setting == streams(2):
                raise Failed(Why.MEMORY, "no buffers")
            return measured(100.0, 10)

    kept_rows: list[int] = []
    made = list(sweep.measured(settings, 2, Counting(), rows, lambda all_: kept_rows.append(len(all_))))
    assert [row.setting for row in made] == [streams(1), streams(2), streams(4), streams(1), streams(4)]
    assert kept_rows == [1, 2, 3, 4, 5]
    assert [row.why for row in rows] == [None, Why.MEMORY, None, None, None]
    assert sweep.left(settings, rows, 2) == []
    assert sweep.left(settings, rows[:2], 1) == [streams(4)]
    assert sweep.left(settings, rows, 3) == [streams(1), streams(4)]
    again = sweep.without_failed(settings[:2], rows)
    assert sweep.left(settings, again, 2) == [streams(2), streams(2)]
    assert sweep.without_failed(settings[:1], rows) == rows


def test_a_point_is_the_median_of_its_runs() -> None:
    rows = [Row(streams(1), measured(rate, p99)) for rate, p99 in ((100.0, 10), (110.0, 30), (90.0, 20))]
    (point,) = sweep.points(rows)
    assert (point.middle.throughput_per_s, point.middle.p99_ns, point.runs) == (100.0, 20_000, 3)
    assert point.spread == pytest.approx(0.2)
    assert point.middle.energy_j is None


def test_a_limit_that_is_just_missed_is_not_told_as_kept() -> None:
    point = sweep.Point(Setting(), measured(100.0, 1003))
    said = list(swept.answers(swept.Swept({}, [point], limit_ns=1e6)))
    assert "no setting keeps a p99 of 1.00 ms: the least is 1.00 ms, 3.00 µs more" in said


def test_a_batch_counts_its_inputs() -> None:
    speed = Speed(inferences=100, throughput_per_s=50.0, p50_ns=1, p90_ns=2, p95_ns=3, p99_ns=4)
    memory = Memory(process_peak=7)
    found = Measurement.of(Measured(speed, memory=memory, energy=Energy(joules_per_inference=4.0)), 8, taken_bytes=5)
    assert found is not None
    assert (found.throughput_per_s, found.energy_j, found.p99_ns, found.memory_bytes) == (400.0, 0.5, 4, 7)
    without = Measurement.of(Measured(speed), 1, taken_bytes=5)
    assert without is not None
    assert (without.memory_bytes, without.energy_j) == (5, None)
    assert Measurement.of(Measured(), 1, taken_bytes=5) is None


def test_the_front_holds_what_nobody_beats() -> None:
    found = points((100, 10), (90, 12), (200, 20), (200, 25), (300, 80), (50, 10))
    assert [point.setting for point in sweep.front(found)] == [streams(1), streams(3), streams(5)]
    assert sweep.front([]) == []


def test_the_knee_is_where_the_front_bends_most() -> None:
    knee = sweep.knee(sweep.front(points((100, 10), (280, 20), (300, 80))))
    assert knee is not None
    assert knee.setting == streams(2)
    assert sweep.knee(sweep.front(points((100, 10), (120, 70), (300, 80)))) is None
    assert sweep.knee(sweep.front(points((100, 10), (300, 80)))) is None


def test_the_best_within_a_limit() -> None:
    found = points((100, 10), (280, 20), (300, 80))
    best = sweep.best_within(found, 20_000)
    assert best is not None
    assert best.setting == streams(2)
    assert sweep.best_within(found, 9_000) is None


def test_a_table_gives_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    rows = [
        Row(streams(1), measured(100.0, 10)),
        Row(streams(2), None, Why.MEMORY, "no buffers"),
        Row(streams(1), measured(102.0, 11)),
    ]
    measuring.write_rows(tmp_path / "t.parquet", rows)
    assert measuring.read_rows(tmp_path / "t.parquet") == rows
    table = MeasuredBefore(tmp_path / "t.parquet")
    assert [table.measure(Setting()).throughput_per_s for _ in range(3)] == [100.0, 102.0, 100.0]
    with pytest.raises(Failed, match="no buffers") as failed:
        table.measure(streams(2))
    assert failed.value.why is Why.MEMORY
    with pytest.raises(InputError, match="has no measurement of --streams 4"):
        table.measure(streams(4))


def test_what_is_no_table_of_measurements(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no parquet", "utf-8")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other")
    for name in ("text", "other", "absent"):
        with pytest.raises(InputError, match="is no table of measurements"):
            measuring.read_rows(tmp_path / name)


def test_a_folder_is_of_one_model_and_one_set_of_conditions(tmp_path: Path) -> None:
    model = tmp_path / "m.engine"
    model.write_bytes(b"1")
    folder = tmp_path / "m.sweep"
    what = kept.about("sweep", model, {"duration": "2"}, {"device": {"name": "H200"}})
    with kept.opened(folder, what, force=False):
        (folder / "measurements.parquet").write_bytes(b"kept")
        with pytest.raises(kept.OutputError, match="another run"), kept.opened(folder, what, force=False):
            pass
    model.write_bytes(b"2")
    others = {
        "another model": kept.about("sweep", model, {"duration": "2"}, {"device": {"name": "H200"}}),
        "another --duration": what | {"given": {"duration": "3"}},
        "another gpu: H200": what | {"gpu": "L4"},
    }
    for words, other in others.items():
        with pytest.raises(kept.OutputError, match=words), kept.opened(folder, other, force=False):
            pass
    assert (folder / "measurements.parquet").exists()
    with kept.opened(folder, others["another gpu: H200"], force=True):
        assert not (folder / "measurements.parquet").exists()
    assert not folder.exists(), "nothing was measured"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    model = tmp_path / "m.engine"
    model.write_bytes(b"1")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "picture").write_bytes(b"")
    for force in (False, True):
        what = kept.about("sweep", model, {}, {})
        with (
            pytest.raises(kept.OutputError, match="something else"),
            kept.opened(tmp_path / "holiday", what, force=force),
        ):
            pass
    assert (tmp_path / "holiday" / "picture").exists()
