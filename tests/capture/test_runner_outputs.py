"""The outputs that the runner keeps of an engine: whose they are, and what is said of them. A made TensorRT and GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from runner_cases import DYNAMIC_X, DYNAMIC_Y, PROFILE, X, Y, engine, run

from nsight_tools import run_files
from nsight_tools.capture.runner import outputs, tensors

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, Any]


def kept(folder: Path, name: str = "1", *, spec: dict[str, Any] | None = None, **task: Any) -> Any:
    """Arrays and what is told of them."""
    (folder / name).mkdir()
    ran = run(folder / name, engine=engine(folder / name, **(spec or {})), **{"outputs": True, **task})
    assert ran.code == 0, ran.stderr
    return outputs.read(ran.output / run_files.OUTPUTS), ran.result["outputs"], ran


def test_they_are_those_of_fixed_inputs(tmp_path: Path) -> None:
    arrays, told, ran = kept(tmp_path, keep_inputs=True)
    assert arrays["y"].dtype == np.float16
    assert arrays["y"].shape == (8, 10)
    x = outputs.read(ran.output / run_files.INPUTS)["x"]
    seed = int(x.reshape(-1).view(np.uint8).sum(dtype=np.int64))
    made = np.random.default_rng([seed, *b"y"]).normal(size=(8, 10)).astype(np.float16)
    assert (arrays["y"] == made).all(), "what the made engine computes from these inputs"
    assert told["inputs"] == [{"name": "x", "shape": [8, 3, 16, 16], "dtype": "float32", "from": "seed 0"}]
    (output,) = told["outputs"]
    assert output == {
        "name": "y", "shape": [8, 10], "dtype": "float16", "values": 80, "not_read": None, "every": 1, "nan": 0,
        "infinite": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "task",
    [
        {"cuda_graph": True},
        {"data_transfers": False},
        {"overlap_transfers": True},
        {"default_stream": True},
        {"pageable": True},
        {"streams": 2, "threads": 2},
        {"task": "benchmark", "throughput": True, "own_cost": True},
    ],
    ids=str,
)
def test_they_are_the_same_however_it_is_run(tmp_path: Path, task: dict[str, Any]) -> None:
    first, _, _ = kept(tmp_path)
    again, _, ran = kept(tmp_path, "2", **task)
    assert (first["y"] == again["y"]).all()
    assert not (ran.output / run_files.INPUTS).exists()
    names = [name for name, _, _ in ran.journal]
    if "profiler_stop" in names:
        assert {"enqueue", "graph_launch"} & set(names[names.index("profiler_stop") :]), "behind what is measured"


def test_an_input_does_not_depend_on_the_others(tmp_path: Path) -> None:
    z = X | {"name": "z"}
    _, _, ran = kept(tmp_path, keep_inputs=True, spec={"tensors": [X, z, Y]})
    _, _, again = kept(tmp_path, "2", keep_inputs=True, spec={"tensors": [z, X, Y]})
    one, other = (outputs.read(each.output / run_files.INPUTS) for each in (ran, again))
    assert (one["x"] == other["x"]).all()
    assert (one["x"] != one["z"]).any()


def test_other_seeds_and_files_are_told(tmp_path: Path) -> None:
    first, _, _ = kept(tmp_path)
    seeded, told, _ = kept(tmp_path, "2", seed=3)
    assert told["inputs"][0]["from"] == "seed 3"
    assert (first["y"] != seeded["y"]).any()
    file = tmp_path / "x.npy"
    np.save(file, np.ones((8, 3, 16, 16), np.float32))
    _, told, _ = kept(tmp_path, "3", inputs={"x": file})
    assert told["inputs"][0]["from"].startswith("sha256 ")


def test_no_outputs_unless_asked_for(tmp_path: Path) -> None:
    ran = run(tmp_path, engine=engine(tmp_path))
    assert "outputs" not in ran.result
    assert not (ran.output / run_files.OUTPUTS).exists()


def test_of_a_dynamic_shape(tmp_path: Path) -> None:
    spec = {"tensors": (DYNAMIC_X, DYNAMIC_Y), "profiles": [PROFILE]}
    arrays, told, _ = kept(tmp_path, spec=spec, batch=3)
    assert arrays["y"].shape == (3, 10)
    assert told["inputs"][0]["shape"] == [3, 3, 16, 16]


def test_values_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    _, told, _ = kept(tmp_path, spec={"nan": 3})
    assert (told["outputs"][0]["nan"], told["outputs"][0]["infinite"]) == (3, 0)


def test_what_is_not_read_is_told(tmp_path: Path) -> None:
    odd = [
        Y | {"name": "a", "format": "HWC8"},
        Y | {"name": "b", "dtype": "FP8"},
        Y | {"name": "file", "dtype": "INT32"},
    ]
    arrays, told, _ = kept(tmp_path, spec={"tensors": [X, *odd]})
    assert list(arrays) == ["file"]
    assert arrays["file"].dtype == np.int32
    reasons = {each["name"]: each["not_read"] for each in told["outputs"]}
    assert reasons == {
        "a": "its format is HWC8, and only LINEAR ones are read", "b": "NumPy has no float8_e4m3", "file": None,
    }  # fmt: skip


def test_an_enqueue_that_fails_is_told(tmp_path: Path) -> None:
    # two of the warm-up, five that are measured, then that of the outputs
    ran = run(tmp_path, engine=engine(tmp_path, fail_at=8), outputs=True, warm_up_ms=0)
    assert ran.code == 2
    error = ran.result["error"]
    assert error["what"] == "outputs: the inference whose outputs are kept could not be enqueued"
    assert "told to" in error["log"]
    assert not (ran.output / run_files.OUTPUTS).exists()


def test_bf16_is_read_as_float32() -> None:
    tensor = tensors.Tensor("y", False, (2, 2), tensors.KINDS["BF16"], False)
    values = np.array([[1.5, -2], [0, 3.25]], np.float32)
    content = (values.view(np.uint32) >> 16).astype(np.uint16).reshape(-1).view(np.uint8)
    found = outputs.as_array(tensor, (2, 2), content)
    assert found.dtype == np.float32
    assert (found == values).all()


@pytest.mark.parametrize("shape", [(4, 64, 1000), (1, 3, 640, 640), (7,), (16, 16), (), (0, 3), (5, 7, 11, 13)])
@pytest.mark.parametrize("most", [1, 10, 1000, 100_000])
def test_large_outputs_are_thinned_out(shape: tuple[int, ...], most: int) -> None:
    """In every dimension each place is met about as often as any other, and not some channels only."""
    step = outputs.every(shape, most)
    whole = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    some = outputs.thinned(whole, step)
    assert step == 1 if whole.size <= most else some.size <= most
    assert (some == (whole if step == 1 else whole.reshape(-1)[::step])).all()
    if step > 1:
        for extent, places in zip(shape, np.unravel_index(some, shape), strict=True):
            met = np.bincount(places, minlength=extent)
            assert some.size < 2 * extent or met.min() > 0


def test_any_name_can_be_written(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {name: np.arange(3) for name in ("file", "allow_pickle", "/model/out:0", "ä b", "y.npy")}
    path = tmp_path / "outputs.npz"
    path.write_bytes(outputs.packed(arrays))
    assert outputs.read(path).keys() == arrays.keys()
