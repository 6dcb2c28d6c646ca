"""What outputs are compared with: captures, files of arrays, ONNX Runtime; and what does not fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nsight_tools import run_files
from nsight_tools.accuracy import AccuracyError
from nsight_tools.capture.options import Checking
from nsight_tools.capture.reference import Check, kept, resolve, run_model
from nsight_tools.capture.runner import outputs

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, Any]

X = {"name": "x", "shape": [8, 16], "dtype": "float32", "from": "seed 0"}


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def left(folder: Path, arrays: dict[str, Array], *inputs: dict[str, Any], **said: Any) -> Path:
    """What the runner left in this folder: whole outputs, of which `said` says something else."""
    folder.mkdir()
    told = [
        {"name": name, "shape": list(array.shape), "dtype": str(array.dtype), "values": array.size, "every": 1} | said
        for name, array in arrays.items()
    ]
    result = {"outputs": {"inputs": list(inputs or [X]), "outputs": told}}
    (folder / "result.json").write_text(json.dumps(result), "utf-8")
    (folder / run_files.OUTPUTS).write_bytes(outputs.packed(arrays))
    return folder


def captured(folder: Path, arrays: dict[str, Array], *inputs: dict[str, Any]) -> Path:
    path = left(folder, arrays, *inputs)
    (path / "result.json").rename(path / run_files.RUN)
    return path


Y = {"y": normal(1, 8, 10)}


def test_another_capture(tmp_path: Path) -> None:
    run = kept(left(tmp_path / "run", {"y": Y["y"].astype(np.float16)}))
    reference = resolve(str(captured(tmp_path / "before.capture", Y)), tmp_path / "m.engine")
    assert (reference.name, reference.needs_inputs) == ("before.capture", False)
    found = reference.judge(run)
    assert found.passed
    assert found.reference == "before.capture"
    assert found.outputs[0].top1 == 1


OTHER_INPUTS = [
    ([X | {"from": "seed 1"}], "input x is 8x16 of floats, seed 0, and 8x16 of floats, seed 1 in before"),
    ([X | {"shape": [4, 16]}], "input x is 8x16 of floats, seed 0, and 4x16 of floats, seed 0 in before"),
    ([X | {"dtype": "int8"}], "input x is 8x16 of floats, seed 0, and 8x16 of int8, seed 0 in before"),
    ([X, X | {"name": "z"}], "input z is not there, and 8x16 of floats, seed 0 in before"),
]


@pytest.mark.parametrize(("inputs", "words"), OTHER_INPUTS)
def test_of_other_inputs_nothing_is_concluded(tmp_path: Path, inputs: list[dict[str, Any]], words: str) -> None:
    run, other = kept(left(tmp_path / "run", Y)), captured(tmp_path / "before", Y, *inputs)
    with pytest.raises(AccuracyError) as raised:
        resolve(str(other), tmp_path).judge(run)
    assert str(raised.value).startswith(words)


def test_inputs_are_the_same_in_another_float(tmp_path: Path) -> None:
    run = kept(left(tmp_path / "run", Y, X | {"dtype": "float16"}))
    assert resolve(str(captured(tmp_path / "before", Y)), tmp_path).judge(run).passed


def test_a_file_of_arrays(tmp_path: Path) -> None:
    run = kept(left(tmp_path / "run", Y))
    np.savez(tmp_path / "ref.npz", **Y)
    np.save(tmp_path / "ref.npy", Y["y"])
    for name in ("ref.npz", "ref.npy"):
        assert resolve(str(tmp_path / name), tmp_path).judge(run).outputs[0].lInf == 0
    two = kept(left(tmp_path / "two", {"y": Y["y"], "z": Y["y"]}))
    with pytest.raises(AccuracyError, match=r"ref\.npz has no output z: it has y"):
        resolve(str(tmp_path / "ref.npz"), tmp_path).judge(two)


def test_a_whole_reference_is_thinned_out_as_the_run_is(tmp_path: Path) -> None:
    whole = normal(3, 4, 100)
    path = left(tmp_path / "run", {"y": outputs.thinned(whole, 7)}, shape=[4, 100], values=400, every=7)
    run = kept(path)
    np.savez(tmp_path / "ref.npz", y=whole)
    np.savez(tmp_path / "thin.npz", y=outputs.thinned(whole, 7))
    np.savez(tmp_path / "other.npz", y=whole.T)
    for name in ("ref.npz", "thin.npz"):
        (found,) = resolve(str(tmp_path / name), tmp_path).judge(run).outputs
        assert (found.lInf, found.values) == (0, 58)
    with pytest.raises(AccuracyError, match=r"output y is 4x100, and 100x4 in other\.npz"):
        resolve(str(tmp_path / "other.npz"), tmp_path).judge(run)


def test_what_was_not_read_is_not_compared(tmp_path: Path) -> None:
    path = left(tmp_path / "run", Y)
    result = json.loads((path / "result.json").read_text("utf-8"))
    result["outputs"]["outputs"].append({"name": "z", "shape": [3], "dtype": "float8_e4m3", "not_read": "why"})
    (path / "result.json").write_text(json.dumps(result), "utf-8")
    np.savez(tmp_path / "ref.npz", z=normal(1, 3), **Y)
    assert [each.output for each in resolve(str(tmp_path / "ref.npz"), tmp_path).judge(kept(path)).outputs] == ["y"]


def test_what_is_no_reference(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / "y.npz").write_bytes(b"")
    (tmp_path / "z.raw").write_bytes(b"abc")
    np.savez(tmp_path / "objects.npz", y=np.array([{}], dtype=object))
    old = captured(tmp_path / "old", Y)
    (old / run_files.RUN).write_text('{"version": 1}', "utf-8")
    half = captured(tmp_path / "half", Y)
    (half / run_files.OUTPUTS).unlink()
    cases = {
        "nowhere.npz": "nowhere.npz: does not exist; give --reference onnxruntime, a file or a capture's folder",
        "z.raw": "z.raw: is no .npz, .npy or .onnx file and no capture",
        "empty": "empty: holds no outputs of a run; capture it again",
        "old": "old: holds no outputs of a run",
        "half": "half/outputs.npz: holds no arrays",
        "x.npz": "x.npz: holds no arrays",
        "y.npz": "y.npz: holds no arrays",
        "objects.npz": "objects.npz: holds no arrays",
        "nowhere.onnx": "nowhere.onnx: does not exist",
    }
    for name, words in cases.items():
        with pytest.raises(AccuracyError) as raised:
            resolve(str(tmp_path / name), tmp_path / "m.engine")
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(AccuracyError, match=r"m\.engine is no ONNX model; name the model that it was built from"):
        resolve("onnxruntime", tmp_path / "m.engine")


def test_without_onnx_runtime_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").touch()
    monkeypatch.setattr("nsight_tools.capture.reference.find_spec", lambda _name: None)
    with pytest.raises(AccuracyError, match=r"package onnxruntime is missing; pip install 'nsight-tools\[accuracy\]'"):
        resolve("onnxruntime", tmp_path / "m.onnx")


def test_a_check_keeps_the_outputs(tmp_path: Path) -> None:
    run, target = left(tmp_path / "run", Y), tmp_path / "target"
    target.mkdir()
    said: list[str] = []
    alone = Check(Checking(), tmp_path / "m.engine")
    assert alone.order == {"outputs": True, "keep_inputs": False}
    assert alone.of(run, target, said.append).keys() == {"outputs"}
    assert outputs.read(target / run_files.OUTPUTS).keys() == {"y"}
    before = captured(tmp_path / "before", {"y": Y["y"] + 1})
    found = Check(Checking(str(before), ("cos:0.5,lInf:0.5", "l1:2")), tmp_path).of(run, target, said.append)
    assert said == ["comparing outputs with before"]
    assert found["accuracy"]["passed"] is False
    assert found["accuracy"]["failures"][-1] == "output y: lInf is 1, and must be at most 0.5"


onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def network(folder: Path, name: str = "m.onnx", *, scale: float | None = None, half: bool = False) -> Path:
    """Eight layers of MatMul and Tanh; in FP16, or with each result in INT8 of this scale."""
    helper, kinds = onnx.helper, onnx.TensorProto
    kind = kinds.FLOAT16 if half else kinds.FLOAT
    weights, nodes, last = [], [], "x"
    if half:
        nodes.append(helper.make_node("Cast", ["x"], ["x16"], to=kind))
        last = "x16"
    for layer in range(8):
        weight = normal(layer, 16, 16) / 4
        weights.append(onnx.numpy_helper.from_array(weight.astype(np.float16 if half else np.float32), f"w{layer}"))
        nodes += [
            helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Tanh", [f"m{layer}"], [f"t{layer}"]),
        ]
        last = f"t{layer}"
        if scale is not None:
            nodes += [
                helper.make_node("QuantizeLinear", [last, "scale", "zero"], [f"q{layer}"]),
                helper.make_node("DequantizeLinear", [f"q{layer}", "scale", "zero"], [f"d{layer}"]),
            ]
            last = f"d{layer}"
    nodes.append(helper.make_node("Cast", [last], ["y"], to=kinds.FLOAT))
    if scale is not None:
        weights += [
            onnx.numpy_helper.from_array(np.array(scale, np.float32), "scale"),
            onnx.numpy_helper.from_array(np.array(0, np.int8), "zero"),
        ]
    ends = [[helper.make_tensor_value_info(end, kinds.FLOAT, ["n", 16])] for end in ("x", "y")]
    graph = helper.make_graph(nodes, "network", ends[0], ends[1], weights)
    path = folder / name
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_onnx_runtime_runs_the_model_on_the_same_inputs(tmp_path: Path) -> None:
    x, model = normal(7, 8, 16), network(tmp_path)
    y = x
    for layer in range(8):
        y = np.tanh(y @ (normal(layer, 16, 16) / 4))
    path = left(tmp_path / "run", {"y": y})
    (path / run_files.INPUTS).write_bytes(outputs.packed({"x": x}))
    for given in ("onnxruntime", str(model)):
        reference = resolve(given, model)
        assert reference.needs_inputs
        found = reference.judge(kept(path))
        assert found.outputs[0].rel == pytest.approx(0, abs=1e-5)
    assert found.reference == "ONNX Runtime on m.onnx"
    # An engine whose inputs are FP16 has rounded ones; the model takes its own type.
    assert run_model(model, {"x": x.astype(np.float16)})["y"].dtype == np.float32


def test_fp16_passes_and_a_broken_int8_does_not(tmp_path: Path) -> None:
    """By default; the reference is the model in FP32."""
    x = normal(7, 64, 16)
    (tmp_path / "made").mkdir()
    cases: dict[str, tuple[bool, dict[str, Any]]] = {
        "fp16": (True, {"half": True}),
        "int8, ranges as they are": (True, {"scale": 1 / 127}),
        "int8, ranges 4 times too small": (False, {"scale": 0.25 / 127}),
        "int8, ranges 30 times too large": (False, {"scale": 30 / 127}),
    }
    model = network(tmp_path)
    for name, (passes, options) in cases.items():
        y = run_model(network(tmp_path / "made", **options), {"x": x})
        path = left(tmp_path / name, y)
        (path / run_files.INPUTS).write_bytes(outputs.packed({"x": x}))
        assert resolve("onnxruntime", model).judge(kept(path)).passed is passes, name


def test_a_model_that_does_not_fit(tmp_path: Path) -> None:
    model = network(tmp_path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    cases = [
        (model, {"z": normal(1, 8, 16)}, "m.onnx: takes input x, and the engine has z; give the model that the engine"),
        (model, {"x": normal(1, 8, 3)}, "m.onnx: ONNX Runtime cannot run it: "),
        (broken, {"x": normal(1, 8, 16)}, "broken.onnx: ONNX Runtime cannot run it: "),
    ]
    for path, inputs, words in cases:
        with pytest.raises(AccuracyError) as raised:
            run_model(path, inputs)
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)
