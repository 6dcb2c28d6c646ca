"""What the outputs of a run are compared with: those of another capture, of a file, or of ONNX Runtime."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools import run_files
from nsight_tools.accuracy import Accuracy, AccuracyError, judged, limits
from nsight_tools.capture.options import ONNX, Checking
from nsight_tools.capture.runner import outputs as runner_outputs
from nsight_tools.errors import bring

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nsight_tools.accuracy import Array, Limit, Outputs

RUNTIME = "onnxruntime"
_FILES = (".npz", ".npy")
_TYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "int64": "int64", "int32": "int32",
    "int16": "int16", "int8": "int8", "uint8": "uint8", "bool": "bool",
}  # fmt: skip
"""ONNX Runtime's names of types, and NumPy's."""


@dataclass(frozen=True)
class Kept:
    """The outputs that a run kept, as the runner wrote them; large ones are thinned out."""

    arrays: Outputs
    told: Mapping[str, Any]
    """`inputs` and `outputs`: what each is, as the runner says it."""
    folder: Path

    @property
    def inputs(self) -> Outputs:
        """What the engine was given, where that was kept too."""
        return _read(self.folder / run_files.INPUTS)

    @property
    def unread(self) -> set[str]:
        """Outputs that could not be read."""
        return {str(each["name"]) for each in self.told["outputs"] if each.get("not_read")}


def kept(folder: Path) -> Kept:
    """What the capture in this folder, or the runner's process that wrote there, kept of its outputs.

    Raises AccuracyError where it kept none.
    """
    try:
        name = next(each for each in (run_files.RUN, "result.json") if (folder / each).is_file())
        told = json.loads((folder / name).read_text(encoding="utf-8"))["outputs"]
        _ = [(each["name"], each["shape"], each["dtype"]) for end in ("inputs", "outputs") for each in told[end]]
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        hint = "capture it again: captures of an engine keep their outputs"
        raise AccuracyError(f"{folder}: holds no outputs of a run", hint=hint) from error
    return Kept(_read(folder / run_files.OUTPUTS), told, folder)


@dataclass(frozen=True)
class Reference:
    """Where the reference's outputs come from; `outputs` gives them for a run, as that kept its own.

    It raises AccuracyError where they do not fit.
    """

    name: str
    outputs: Callable[[Kept], Outputs]
    needs_inputs: bool = False

    def judge(self, run: Kept, within: Sequence[Limit] = ()) -> Accuracy:
        """The run beside this reference. Raises AccuracyError where the two do not fit."""
        found = {name: array for name, array in self.outputs(run).items() if name not in run.unread}
        return judged(run.arrays, found, self.name, within)


class Check:
    """What becomes of a capture's outputs. Raises AccuracyError where there is no such reference."""

    def __init__(self, asked: Checking, model: Path) -> None:
        self.asked = asked
        self._limits = [limit for text in asked.accuracy for limit in limits(text)]
        self._reference = resolve(asked.reference, model) if asked.reference else None

    @property
    def order(self) -> dict[str, bool]:
        """What the runner's process is asked for that keeps the outputs."""
        return {"outputs": True, "keep_inputs": self._reference is not None and self._reference.needs_inputs}

    def of(self, left: Path, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Keep in `folder` the outputs that a process left in its own; what `run.json` says of them.

        Raises AccuracyError where they do not fit the reference.
        """
        run = kept(left)
        shutil.copy(left / run_files.OUTPUTS, folder / run_files.OUTPUTS)
        if self._reference is None:
            return {"outputs": run.told}
        say(f"comparing outputs with {self._reference.name}")
        return {"outputs": run.told, "accuracy": self._reference.judge(run, self._limits).as_json()}


def resolve(given: str, model: Path) -> Reference:
    """What `--reference` names: onnxruntime, an ONNX model, a capture, or a file of arrays. Reads what can be read.

    Raises AccuracyError where there is no such thing, or `model` is no ONNX model and has to be one.
    """
    path = Path(given)
    if given == RUNTIME or path.suffix == ONNX:
        return _by_runtime(model if given == RUNTIME else path)
    if path.is_dir():
        other = kept(path)
        return Reference(path.name, lambda run: _alike(run, other))
    if path.suffix not in _FILES or not path.is_file():
        what = "is no .npz, .npy or .onnx file and no capture" if path.exists() else "does not exist"
        raise AccuracyError(f"{given}: {what}", hint=f"give --reference {RUNTIME}, a file or a capture's folder")
    arrays = _read(path)
    return Reference(path.name, lambda run: _fitted(run, _only(arrays, run), path.name))


def _read(path: Path) -> Outputs:
    try:
        return runner_outputs.read(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        hint = "write arrays by name, as numpy.savez(file, **outputs) does"
        raise AccuracyError(f"{path}: holds no arrays: {str(error) or 'it is cut off'}", hint=hint) from error


def _only(arrays: Outputs, run: Kept) -> Outputs:
    """Of a file of one array without a name: it is that of the only output."""
    names = [str(each["name"]) for each in run.told["outputs"]]
    return {names[0]: arrays[""]} if list(arrays) == [""] and len(names) == 1 else arrays


def _alike(run: Kept, other: Kept) -> Outputs:
    """The outputs of another run. Raises AccuracyError where that was given something else."""
    sides = [{each["name"]: _given(each) for each in side.told["inputs"]} for side in (run, other)]
    for name in [*sides[0], *sides[1]]:
        mine, theirs = (side.get(name, "not there") for side in sides)
        if mine != theirs:
            raise AccuracyError(
                f"input {name} is {mine}, and {theirs} in {other.folder.name}",
                hint="outputs can only be compared of the same inputs: give the same --shapes and --load-inputs",
            )
    return {name: array for name, array in other.arrays.items() if name not in run.unread}


def _given(tensor: Mapping[str, Any]) -> str:
    """An input as far as it decides what comes out: random numbers are the same ones in each type of float."""
    drawn = str(tensor.get("from", "")).startswith("seed")
    sort = "floats" if drawn and "float" in str(tensor["dtype"]) else tensor["dtype"]
    return f"{'x'.join(map(str, tensor['shape'])) or 'a scalar'} of {sort}, {tensor.get('from')}"


def _fitted(run: Kept, whole: Outputs, name: str) -> Outputs:
    """Outputs that are whole, thinned out as the run's. Raises AccuracyError where one has another shape."""
    return {output: _thinned(array, _told(run, output), output, name) for output, array in whole.items()}


def _told(run: Kept, output: str) -> Mapping[str, Any]:
    return next((tensor for tensor in run.told["outputs"] if tensor["name"] == output), {})


def _thinned(array: Array, told: Mapping[str, Any], output: str, name: str) -> Array:
    step = int(told.get("every") or 1)
    if step == 1 or (array.ndim == 1 and array.size == -(-int(told["values"]) // step)):
        return array
    if list(array.shape) != list(told["shape"]):
        shapes = ["x".join(map(str, shape)) for shape in (told["shape"], array.shape)]
        hint = "give a reference of the same shapes, or run with its --shapes"
        raise AccuracyError(f"output {output} is {shapes[0]}, and {shapes[1]} in {name}", hint=hint)
    return runner_outputs.thinned(array, step)


def _by_runtime(model: Path) -> Reference:
    if model.suffix != ONNX:
        hint = f"name the model that it was built from: --reference MODEL{ONNX}"
        raise AccuracyError(f"--reference {RUNTIME}: {model.name} is no ONNX model", hint=hint)
    if not model.is_file():
        raise AccuracyError(f"{model}: does not exist", hint="check the path")
    if find_spec(RUNTIME) is None:
        raise AccuracyError(f"--reference {RUNTIME}: Python package {RUNTIME} is missing", hint=bring("accuracy"))
    name = f"ONNX Runtime on {model.name}"
    return Reference(name, lambda run: _fitted(run, run_model(model, run.inputs), name), needs_inputs=True)


def run_model(model: Path, inputs: Outputs) -> Outputs:
    """The outputs of an ONNX model for these inputs, by ONNX Runtime on the CPU, in the model's own types.

    Raises AccuracyError where it cannot be run, in ONNX Runtime's words.
    """
    try:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only, which are raised as well
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        types = {each.name: _TYPES.get(each.type[len("tensor(") : -1]) for each in session.get_inputs()}
        if not (lacking := sorted(types.keys() - inputs.keys())):
            given = {name: inputs[name].astype(dtype or inputs[name].dtype) for name, dtype in types.items()}
            names = [each.name for each in session.get_outputs()]
            return dict(zip(names, session.run(names, given), strict=True))
    except ImportError as error:
        raise AccuracyError(f"{RUNTIME} cannot be loaded: {error}", hint=bring("accuracy")) from error
    except Exception as error:  # ONNX Runtime has a dozen classes of its own for them, without a common one
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AccuracyError(f"{model}: ONNX Runtime cannot run it: {reason[:300]}", hint=_SAME) from error
    has = ", ".join(inputs) or "none"
    raise AccuracyError(f"{model}: takes input {', '.join(lacking)}, and the engine has {has}", hint=_SAME)


_SAME = "give the model that the engine was built from"
