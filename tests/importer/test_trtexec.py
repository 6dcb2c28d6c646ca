"""What trtexec writes as JSON: which of its exports a file is, and what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nsight_tools.errors import InputError
from nsight_tools.importer.trtexec import EngineLayers, InferenceTimes, LayerTimes, Profile, Times, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAYERS: list[Any] = [{"Name": "conv1 + relu1", "LayerType": "CaskConvolution"}, "pool"]
PROFILE = """[
  { "count" : 11 }
, { "name" : "conv1 + relu1", "timeMs" : 16.72, "averageMs" : 1.52, "medianMs" : 1.08902, "percentage" : 100 }
, { "name" : "a constant", "timeMs" : 0, "averageMs" : 0, "medianMs" : 0, "percentage" : 0 }
]
"""
TIMES = """[
  { "startEnqMs" : 3.78918, "endEnqMs" : 3.82194, "startH2dMs" : 3.68, "endH2dMs" : 3.69, "startComputeMs" : 3.7
  , "endComputeMs" : 5.6, "startD2hMs" : 5.61, "endD2hMs" : 5.63, "h2dMs" : 0.01, "computeMs" : 1.9, "d2hMs" : 0.02
  , "latencyMs" : 1.93 }
, { "startEnqMs" : 103.335, "latencyMs" : 2 }
]
"""
FIRST = InferenceTimes(
    start_enqueue_ms=3.78918,
    end_enqueue_ms=3.82194,
    start_h2d_ms=3.68,
    end_h2d_ms=3.69,
    start_compute_ms=3.7,
    end_compute_ms=5.6,
    start_d2h_ms=5.61,
    end_d2h_ms=5.63,
    h2d_ms=0.01,
    compute_ms=1.9,
    d2h_ms=0.02,
    latency_ms=1.93,
)
EXPORTS = {EngineLayers: json.dumps({"Layers": LAYERS, "Bindings": []}), Profile: PROFILE, Times: TIMES}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "export.json"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("value", [{"Layers": LAYERS}, LAYERS])
def test_layers_with_all_that_is_said_of_them_or_by_name(written: Callable[[str], Path], value: Any) -> None:
    assert read(written(json.dumps(value)), EngineLayers).layers == [LAYERS[0], {"Name": "pool"}]


def test_a_profile(written: Callable[[str], Path]) -> None:
    layers = [LayerTimes("conv1 + relu1", 16.72, 1.52, 1.08902, 100), LayerTimes("a constant", 0, 0, 0, 0)]
    assert read(written(PROFILE), Profile) == Profile(11, layers)


def test_names_of_a_profile_can_hold_control_characters(written: Callable[[str], Path]) -> None:
    assert read(written(PROFILE.replace(" + ", "\x1e")), Profile).layers[0].name == "conv1\x1erelu1"


def test_what_an_older_profile_lacks_is_none(written: Callable[[str], Path]) -> None:
    found = read(written('[{"name": "a", "timeMs": 3, "averageMs": 1.5, "percentage": 100}]'), Profile)
    assert found == Profile(None, [LayerTimes("a", 3, 1.5, None, 100)])


def test_times(written: Callable[[str], Path]) -> None:
    second = InferenceTimes(start_enqueue_ms=103.335, latency_ms=2)
    assert read(written(TIMES), Times).inferences == [FIRST, second]


def test_older_versions_name_the_copies_in_and_out(written: Callable[[str], Path]) -> None:
    older = TIMES
    for ours, theirs in {"H2d": "In", "D2h": "Out", "h2dMs": "inMs", "d2hMs": "outMs"}.items():
        older = older.replace(ours, theirs)
    assert older != TIMES
    assert read(written(older), Times).inferences[0] == FIRST


@pytest.mark.parametrize("value", ['"1.9"', "null", "true", "[1]", "9" * 400])
def test_what_is_no_number_is_none(written: Callable[[str], Path], value: str) -> None:
    (inference,) = read(written(f'[{{"latencyMs": 2, "computeMs": {value}}}]'), Times).inferences
    assert inference == InferenceTimes(latency_ms=2)
    (layer,) = read(written(f'[{{"count": {value}}}, {{"name": "a", "timeMs": {value}}}]'), Profile).layers
    assert layer == LayerTimes("a")


@pytest.mark.parametrize("wanted", EXPORTS)
@pytest.mark.parametrize("given", EXPORTS)
def test_each_is_told_from_the_others(written: Callable[[str], Path], wanted: Any, given: Any) -> None:
    path = written(EXPORTS[given])
    if given is wanted:
        assert isinstance(read(path, wanted), wanted)
        return
    with pytest.raises(InputError) as raised:
        read(path, wanted)
    assert raised.value.path == path
    assert raised.value.problem == f"is trtexec's {given.option}: {given.holds}, not {wanted.holds}"
    assert f"trtexec {wanted.option}" in raised.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "[1]",
        '[{"name": "out", "dimensions": "1x8", "values": [0.1]}]',  # --exportOutput
        '[{"Name": "a"}, {"LayerType": "of no name"}]',
    ],
)
@pytest.mark.parametrize("wanted", EXPORTS)
def test_what_is_none_of_them(written: Callable[[str], Path], wanted: Any, text: str) -> None:
    with pytest.raises(InputError, match=f"has no list of {wanted.holds}"):
        read(written(text), wanted)
