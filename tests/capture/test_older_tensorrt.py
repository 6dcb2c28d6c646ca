"""What a build asks of TensorRT that no TensorRT-RTX has: precisions and INT8 ranges, until 10, and DLAs.

What is built by a real one, which has the API of 11, is in test_real_tensorrt.py.
"""

from __future__ import annotations

import enum
from types import SimpleNamespace as Made
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nsight_tools.capture.runner import applied, builder, calibration, log, options, toolkit
from nsight_tools.capture.runner.applied import Building
from nsight_tools.capture.runner.outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FLAGS = "FP16 BF16 INT8 FP8 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO GPU_FALLBACK"
KINDS = enum.Enum("DataType", "FLOAT HALF INT8 INT64")  # type: ignore[misc]
FORMATS = enum.IntEnum("TensorFormat", "LINEAR CHW2 HWC8", start=0)  # type: ignore[misc]


class Config:
    """As much of a builder's configuration as keeps what it is told."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.calibration_profile: Any = None

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def get_flag(self, flag: Any) -> bool:
        return flag.name in self.flags

    def set_calibration_profile(self, profile: Any) -> None:
        self.calibration_profile = profile.shapes


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *ends: Any) -> None:
        self.shapes[name] = ends


class Tensor:
    is_shape_tensor, allowed_formats = False, 1

    def __init__(self, name: str, *shape: int, dtype: Any = KINDS.FLOAT) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype
        self.range: Any = None

    def set_dynamic_range(self, low: float, high: float) -> None:
        self.range = low, high


def layer(name: str, kind: str = "CONVOLUTION", dtype: Any = KINDS.FLOAT) -> Any:
    tensor = Tensor(f"{name}'s", dtype=dtype)
    ends = {"num_inputs": 1, "num_outputs": 1, "get_input": lambda _: tensor, "get_output": lambda _: tensor}
    return Made(name=name, type=Made(name=kind), precision=KINDS.FLOAT, **ends)


def building(
    *layers: Any, shape: Sequence[int] = (8, 3), flags: str = FLAGS, capability: tuple[int, int] = (9, 0)
) -> Building:
    x, y = Tensor("x", *shape), Tensor("y", 8, 10, dtype=KINDS.HALF)
    network = {"num_inputs": 1, "get_input": lambda _: x, "num_outputs": 1, "get_output": lambda _: y}
    network |= {"num_layers": len(layers), "get_layer": layers.__getitem__}
    trt = {"BuilderFlag": enum.Enum("BuilderFlag", flags), "DataType": KINDS, "TensorFormat": FORMATS}
    trt |= {"DeviceType": Made(DLA="DLA"), "IInt8EntropyCalibrator2": type("IInt8EntropyCalibrator2", (), {})}
    made = Made(num_DLA_cores=2, create_optimization_profile=Profile)
    module = Made(__name__="tensorrt", __version__="10.13.0", ILogger=type("ILogger", (), {}), **trt)
    return Building(module, made, Made(**network), Config(), capability)


def configure(made: Building, settings: dict[str, Any]) -> set[str]:
    """The flags that settings come to."""
    logger = log.make_logger(made.trt, [], level=log.INFO, verbose=False)
    builder._configure(made, logger, settings)
    flags: set[str] = made.config.flags
    return flags


@pytest.mark.parametrize(
    ("settings", "expected", "where"),
    [
        ({"fp16": True}, "FP16", {}),
        ({"bf16": True, "int8": True}, "BF16 INT8", {}),
        ({"fp8": True}, "FP8", {}),
        ({"best": True}, "FP16 BF16 INT8", {}),
        ({"best": True}, "FP16 INT8", {"capability": (7, 5)}),
        ({"best": True}, "FP16 INT8", {"flags": "FP16 INT8"}),
        ({"precision_constraints": "obey"}, "OBEY_PRECISION_CONSTRAINTS", {}),
        ({"precision_constraints": "prefer"}, "PREFER_PRECISION_CONSTRAINTS", {}),
        ({"precision_constraints": "none"}, "", {}),
        ({"use_dla_core": 1}, "FP16 PREFER_PRECISION_CONSTRAINTS DIRECT_IO", {}),
        ({"use_dla_core": 1, "int8": True}, "INT8 PREFER_PRECISION_CONSTRAINTS DIRECT_IO", {}),
        ({"use_dla_core": 1, "allow_gpu_fallback": True}, "FP16 PREFER_PRECISION_CONSTRAINTS GPU_FALLBACK", {}),
        ({"use_dla_core": 1}, "DIRECT_IO", {"flags": "DIRECT_IO GPU_FALLBACK"}),
    ],
    ids=str,
)
def test_precisions_are_flags(settings: dict[str, Any], expected: str, where: dict[str, Any]) -> None:
    made = building(**where)
    assert configure(made, settings) == set(expected.split())
    if "use_dla_core" in settings:
        assert (made.config.default_device_type, made.config.DLA_core) == ("DLA", 1)


def test_what_tensorrt_logs_as_an_error_is_refused() -> None:
    made = building()
    logger = log.make_logger(made.trt, [], level=log.INFO, verbose=False)
    made.config.set_flag = lambda _: logger.log(1, "Error Code 3: not here") or logger.log(1, "and so on")
    with pytest.raises(Failure, match=r"TensorRT 10\.13\.0 refuses it") as raised:
        builder._configure(made, logger, {"fp16": True})
    assert (raised.value.where, raised.value.log) == ("--fp16", "Error Code 3: not here")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"*conv2": "fp16", "conv2": "int8"}, ["FLOAT", "INT8", "FLOAT"]),
        ({"conv*": "fp32", "*": "fp16"}, ["HALF", "HALF", "FLOAT"]),
        ({"shape_conv": "fp16"}, ["FLOAT", "FLOAT", "HALF"]),
    ],
)
def test_precisions_of_layers(wanted: dict[str, str], expected: list[str]) -> None:
    """A pattern does not mean a layer that works on indices; its own name does."""
    layers = [layer("conv1"), layer("conv2"), layer("shape_conv", dtype=KINDS.INT64)]
    applied.layer_precisions(building(*layers), wanted)
    assert [each.precision.name for each in layers] == expected


def test_a_precision_of_no_layer() -> None:
    with pytest.raises(Failure, match="no layer is called nothing"):
        applied.layer_precisions(building(layer("conv1")), {"nothing": "fp16", "conv1": "fp16"})


def test_types_of_inputs_and_outputs_can_be_others() -> None:
    made = building()
    configure(made, {"input_io_formats": [["fp16", "chw", "hwc8"]], "output_io_formats": [["fp32", "chw"]]})
    ends = [(tensor.dtype.name, tensor.allowed_formats) for tensor in (*made.inputs(), *made.outputs())]
    assert ends == [("HALF", 0b101), ("FLOAT", 0b1)]


@pytest.mark.parametrize("name", ["int8", "best"])
def test_int8_without_ranges_is_refused(name: str) -> None:
    with pytest.raises(Failure, match="the model has no Q/DQ layers and there is no calibration data") as raised:
        calibration.give_ranges(building(layer("conv")), {name: True})
    assert raised.value.where == f"--{name}"
    assert "--placeholder-ranges" in raised.value.hint


def test_int8_gets_placeholders_where_they_are_asked_for() -> None:
    conv = layer("conv")
    made = building(conv)
    found = calibration.give_ranges(made, {"int8": True, "placeholder_ranges": True})
    assert found == {"int8_ranges": "placeholder"}
    assert made.inputs()[0].range == conv.get_output(0).range == (-4.0, 4.0)


@pytest.mark.parametrize("kind", ["QUANTIZE", "DEQUANTIZE"])
def test_a_model_with_q_dq_has_ranges(kind: str) -> None:
    made = building(layer("q", kind))
    assert calibration.give_ranges(made, {"int8": True}) == {"int8_ranges": "model"}
    assert made.inputs()[0].range is None
    assert calibration.give_ranges(made, {"strongly_typed": True}) is None


def calibrated(made: Building, path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[Any]]:
    """What is said of a calibration, and the arrays that TensorRT gets of it, asking as it does."""
    copied: list[Any] = []
    cuda = Made(
        mem_alloc=lambda size: 4096 + size, memcpy_htod=lambda _, array: copied.append((array.dtype.name, array.shape))
    )
    monkeypatch.setattr(toolkit, "cuda", lambda: cuda)
    found = calibration.give_ranges(made, {"int8": True, "calibration_data": str(path)})
    assert found is not None
    calibrator = made.config.int8_calibrator
    if calibrator.read_calibration_cache() is None:
        while (pointers := calibrator.get_batch(["x"])) is not None:
            assert pointers == [4096 + copied[-1][1][0] * copied[-1][1][1] * 4]
        calibrator.write_calibration_cache(b"ranges")
    return found, copied


def batches(folder: Path, *shapes: tuple[int, ...], dtype: str = "float32") -> Path:
    folder.mkdir()
    for number, shape in enumerate(shapes):
        np.savez(folder / f"{number}.npz", x=np.ones(shape, dtype))
    return folder


def test_calibration_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = building(shape=(-1, 3))
    found, copied = calibrated(made, batches(tmp_path / "data", (4, 3), (4, 3)), monkeypatch)
    assert copied == [("float32", (4, 3))] * 2
    assert made.config.int8_calibrator.get_batch_size() == 4
    assert made.config.calibration_profile == {"x": ((4, 3),) * 3}
    assert (found["int8_ranges"], found["calibration_batches"]) == ("calibration", 2)
    assert len(found["calibration_sha256"]) == 64


def test_calibration_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.cache").write_bytes(b"ranges")
    made = building(shape=(-1, 3))
    found, copied = calibrated(made, tmp_path / "old.cache", monkeypatch)
    assert (found["int8_ranges"], copied) == ("calibration cache", [])
    assert made.config.int8_calibrator.read_calibration_cache() == b"ranges"
    assert made.config.calibration_profile is None


def test_one_input_takes_arrays_without_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "batch.npy", np.ones((8, 3), np.float32))
    found, copied = calibrated(building(), tmp_path / "batch.npy", monkeypatch)
    assert (found["calibration_batches"], copied) == (1, [("float32", (8, 3))])


@pytest.mark.parametrize(
    ("shapes", "dtype", "words"),
    [
        ([], "float32", "holds no .npz and no .npy"),
        ([(4, 3)], "float64", "has float64 [4, 3] for input x, which is float32 [-1, 3]"),
        ([(4, 4)], "float32", "has float32 [4, 4] for input x"),
        ([(4, 3), (2, 3)], "float32", "has other shapes than 0.npz"),
    ],
    ids=str,
)
def test_calibration_data_that_is_none(tmp_path: Path, shapes: list[tuple[int, ...]], dtype: str, words: str) -> None:
    data = batches(tmp_path / "data", *shapes, dtype=dtype)
    with pytest.raises(Failure) as raised:
        calibration.give_ranges(building(shape=(-1, 3)), {"int8": True, "calibration_data": str(data)})
    assert words in raised.value.what


@pytest.mark.parametrize("content", [None, b"", b"nothing", b"PK\x03\x04 cut"])
def test_calibration_files_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    data = tmp_path / "batch.npz"
    if content is not None:
        data.write_bytes(content)
    with pytest.raises(Failure, match="does not exist" if content is None else "cannot be read as a batch"):
        calibration.give_ranges(building(), {"int8": True, "calibration_data": str(data)})


def having(wanted: Sequence[str], version: str) -> Any:
    """A TensorRT of a version that has these names, and no other."""
    module = Made(__name__="tensorrt", __version__=version)
    for dotted in wanted:
        at = module
        for name in dotted.split("."):
            at.__dict__.setdefault(name, Made())
            at = getattr(at, name)
    return module


@pytest.mark.parametrize("option", [each for each in options.OPTIONS if each.wanted], ids=lambda each: each.name)
def test_an_option_needs_all_that_it_names(option: options.Option) -> None:
    """Where TensorRT lacks one of them it is refused, and it is said since when, or until when, there was one."""
    options.refuse(having(option.wanted, option.since or "8.5"), {option.name: True})
    told = [("8.0", f": it came with {option.since}")] if option.since else [("8.5", "")]
    told += [("11.0", f": it went with {option.until}")] if option.until else []
    for lacking in option.wanted:
        for version, words in told:
            has = having([name for name in option.wanted if name != lacking], version)
            with pytest.raises(Failure) as raised:
                options.refuse(has, {option.name: True})
            assert raised.value.what == f"TensorRT {version} has no {option.line}{words}"
            assert raised.value.where == option.line


def test_a_library_that_builds_is_missing() -> None:
    """What the bindings make of a null pointer, and not a fault of ours."""
    made = building()
    logger = log.make_logger(made.trt, [], level=log.INFO, verbose=False)

    def none(logger: Any) -> None:
        logger.log(1, "Unable to load library: libnvinfer_builder_resource.so.8.6.0")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    made.trt.Builder = none
    with pytest.raises(Failure, match=r"TensorRT 10\.13\.0 cannot build engines here") as raised:
        builder._bare_builder(made.trt, logger)
    assert "libnvinfer_builder_resource" in str(raised.value.log)
    assert "this TensorRT lacks a library" in raised.value.hint
