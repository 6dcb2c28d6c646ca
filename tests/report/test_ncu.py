"""The commands for Nsight Compute: which kernel they name, and by which number."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_trace import drawn
from report import fakes
from report.inert import Page
from report.test_html import page_of

from nsight_tools.report import ncu
from nsight_tools.report.content import TraceReport

if TYPE_CHECKING:
    from nsight_tools import Trace

PICTURE = """
    nvtx 1:            [i...................].[i...................].[i...................]
    nvtx 1 TensorRT:   ....[conv][tail]........[conv][tail]...........[conv][tail].........
    thread 1:          .....L.....Ll............L.....Ll...............L.....Ll............
    stream 7:          ......###...#.####........####..#.####...........####..#.####.......
"""


def trace(**options: Any) -> Trace:
    return drawn(PICTURE, **options)


def parts(command: str) -> dict[str, str]:
    """The options of a command that has words for values, and the program."""
    words = shlex.split(command)
    given = {words[at]: words[at + 1] for at in range(1, len(words) - 1) if words[at].startswith("--")}
    return given | {"program": command.partition("--force-overwrite ")[2]}


def test_the_longest_layer_comes_first_with_its_longest_kernel() -> None:
    """All kernels have one name here: the third of each inference is the tail's longest."""
    first, second = ncu.hand_over(trace())
    assert (first.layer, second.layer) == ("tail", "conv")
    judged = trace().table("inferences").to_pylist()
    before = 3 * sum(each["mark"] is not None for each in judged)
    assert parts(first.command)["--launch-skip"] == str(before + 2)
    assert parts(second.command)["--launch-skip"] == str(before)
    assert first.time_ns == 5_000
    assert first.share == pytest.approx(5 / 9, abs=0.03)
    for each in (first, second):
        assert parts(each.command)["--launch-count"] == "1"
        assert parts(each.command)["--kernel-name"] == each.kernel
        assert parts(each.command)["program"] == ncu.PROGRAM


def of_engine(**options: Any) -> Trace:
    found = trace(tables={"layers": table("layers", [])})
    found.manifest["run"] = {"kind": "engine", "model": {"name": "det.engine"}, "options": options}
    return found


def test_a_captured_engine_is_run_by_trtexec() -> None:
    """The third inference there: two are let pass, with three kernels of the name each."""
    given = {"shapes": {"x": [1, 3, 8, 8], "y": [2]}, "cuda_graph": True, "dynamic_plugins": ["a.so", "b c.so"]}
    command = ncu.hand_over(of_engine(**given))[0].command
    assert parts(command)["--launch-skip"] == "8"
    assert shlex.split(parts(command)["program"]) == [
        "trtexec",
        "--loadEngine=det.engine",
        "--shapes=x:1x3x8x8,y:2",
        "--dynamicPlugins=a.so",
        "--dynamicPlugins=b c.so",
        "--iterations=4",
        "--warmUp=0",
        "--duration=0",
    ]


def test_a_built_model_is_the_engine_that_it_became() -> None:
    found = of_engine()
    found.manifest["run"]["model"]["name"] = "nets/det.v2.onnx"
    assert "--loadEngine=det.v2.engine " in ncu.hand_over(found)[0].command


def test_shapes_of_a_batch_come_from_the_layers() -> None:
    tensors = [{"name": name, "dtype": "FP16", "shape": [8, 3], "format": None} for name in ("x", "y")]
    row = {"layer": 0, "name": "conv", "inputs": tensors[:1], "outputs": tensors[1:], "source": "nvtx"}
    found = trace(tables={"layers": table("layers", [row])})
    found.manifest["run"] = {"kind": "engine", "model": {"name": "m.plan"}, "options": {"batch": 8}}
    assert "--shapes=x:8x3 " in ncu.hand_over(found)[0].command


@pytest.mark.parametrize("odd", [None, 3, {"kind": "engine"}, {"kind": "engine", "model": [], "options": 1}])
def test_what_is_odd_in_a_capture_leaves_the_program_open(odd: object) -> None:
    found = trace()
    found.manifest["run"] = odd
    assert ncu.hand_over(found)[0].command.endswith(ncu.PROGRAM)


def test_a_captured_range_is_counted_from_its_start() -> None:
    found = trace()
    found.manifest["run"] = {"kind": "command", "options": {"capture_range": True}}
    assert ncu.hand_over(found)[0].command.endswith(f" --profile-from-start off {ncu.PROGRAM}")


def test_names_are_words_of_a_shell() -> None:
    """Nothing in a name is a command; what cannot be seen is not offered to be run."""
    evil = "$(reboot); `id` 'x'"
    command = ncu.hand_over(trace(kernel_names=evil))[0].command
    assert shlex.split(command)[shlex.split(command).index("--kernel-name") + 1] == evil
    found = of_engine()
    found.manifest["run"]["model"]["name"] = "a\u202eb.engine"
    assert ncu.hand_over(found)[0].command.endswith(ncu.PROGRAM)
    assert ncu.hand_over(trace(kernel_names="a\u202eb\n")) == []


def test_nothing_to_hand_over() -> None:
    assert ncu.hand_over(drawn("thread 1: .C.C.C.")) == []


def test_the_page_has_the_commands() -> None:
    given = ncu.hand_over(trace())
    text = Page(page_of(TraceReport(**{**vars(fakes.report()), "hand_over": given}))).text
    assert re.sub(r"\s+", " ", given[0].command) in re.sub(r"\s+", " ", text)
    assert "kernel.ncu-rep" in text
