"""The programs of docs/frameworks.md run, as far as a CPU goes and where the framework is installed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import nsight_tools

if TYPE_CHECKING:
    from typing_extensions import Self

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "frameworks.md"
TEXT = DOCUMENT.read_text("utf-8")


def program(title: str) -> str:
    """The program under a heading."""
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    (found,) = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is marked as an inference, or as a part of one, in order."""
    seen: list[str] = []
    real = nsight_tools.inference

    class Counted:
        def __init__(self) -> None:
            self.one = real()

        def __enter__(self) -> Self:
            self.one.__enter__()
            seen.append("inference")
            return self

        def __exit__(self, *error: object) -> None:
            self.one.__exit__(None, None, None)

        def phase(self, name: str) -> Any:
            seen.append(name)
            return self.one.phase(name)

    monkeypatch.setattr(nsight_tools, "inference", Counted)
    return seen


def run(title: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(program(title), title, "exec"), names)  # noqa: S102 (our own document)
    return names


def test_every_program_is_python() -> None:
    titles = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert titles == ["PyTorch", "Torch-TensorRT", "ONNX Runtime", "Triton"]
    for title in titles:
        assert "nsight_tools" in compile(program(title), title, "exec").co_names
        assert "nsight_tools.inference()" in program(title)


def test_pytorch(marked: list[str]) -> None:
    pytest.importorskip("torch")
    assert run("PyTorch")["result"].shape == (1, 10)
    assert marked == ["inference", "h2d", "forward", "d2h"] * 20


def test_onnx_runtime(marked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    of, kind = onnx.helper, onnx.TensorProto.FLOAT
    ends = [of.make_tensor_value_info(name, kind, [1, 4]) for name in ("x", "y")]
    graph = of.make_graph([of.make_node("Relu", ["x"], ["y"])], "relu", ends[:1], ends[1:])
    made = of.make_model(graph, opset_imports=[of.make_opsetid("", 13)], ir_version=8)
    monkeypatch.chdir(tmp_path)
    onnx.save(made, "model.onnx")
    assert run("ONNX Runtime")["outputs"][0].shape == (1, 4)
    assert marked == ["inference"] * 20


def test_triton(marked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    its = ModuleType("triton_python_backend_utils")
    its.__dict__.update(
        get_input_tensor_by_name=lambda request, name: SimpleNamespace(as_numpy=lambda: request[name]),
        Tensor=lambda name, values: (name, values),
        InferenceResponse=list,
    )
    monkeypatch.setitem(sys.modules, its.__name__, its)
    model = run("Triton")["TritonPythonModel"]()
    assert model.execute([{"INPUT": 3}, {"INPUT": 4}]) == [[("OUTPUT", 6)], [("OUTPUT", 8)]]
    assert marked == ["inference", "forward"] * 2
