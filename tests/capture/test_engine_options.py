"""Options of how an engine is built and loaded: what the command line takes and refuses, and who else knows them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nsight_tools import changes
from nsight_tools.capture import session
from nsight_tools.capture.options import Build, CaptureError, Load, Recording
from nsight_tools.capture.runner import options, specs
from nsight_tools.capture.supervised import Interrupts
from nsight_tools.cli import capture, program
from nsight_tools.findings import Change

READ = [
    ("--min-shapes", "'a:0':1x3,b:scalar", {"a:0": [1, 3], "b": []}),
    ("--input-io-formats", "fp16:chw+hwc8,int32:chw", [["fp16", "chw", "hwc8"], ["int32", "chw"]]),
    ("--layer-precisions", "*/attn:0:fp16,fc:fp32", {"*/attn:0": "fp16", "fc": "fp32"}),
    ("--mem-pool-size", "workspace:1.5G,dlaSRAM:2,tacticSharedMem:48k", None),
    ("--weight-streaming-budget", "50%", "50%"),
    ("--weight-streaming-budget", "-1", -1),
    ("--weight-streaming-budget", "2M", 2 << 20),
    ("--tactic-sources", "-CUDNN,+cublaslt", ["-CUDNN", "+CUBLAS_LT"]),
    ("--tactic-sources", "+CUBLAS_LT", ["+CUBLAS_LT"]),
    ("--tactic-sources", "0", 0),
    ("--max-aux-streams", "0", 0),
    ("--use-dla-core", "0", 0),
    ("--sparsity", "enable", "enable"),
    ("--dynamic-plugins", "/a/b.so", ["/a/b.so"]),
    ("--static-plugins", "libmine.so", ["libmine.so"]),
    ("--allocation-strategy", "runtime", "runtime"),
    ("--timing-cache-file", "/a/t.cache", "/a/t.cache"),
]


def settings(*arguments: str) -> dict[str, Any]:
    """What the command line makes of these."""
    context = capture.command.make_context("capture", ["model.onnx", *arguments])
    found: Build = capture._build(context.params)
    return found.settings


@pytest.mark.parametrize(("option", "text", "value"), READ)
def test_values_are_read(option: str, text: str, value: object) -> None:
    more = ["--allow-weight-streaming"] if option == "--weight-streaming-budget" else []
    more += ["--precision-constraints", "obey"] if option == "--layer-precisions" else []
    pools = {"workspace": 3 << 29, "dlaSRAM": 2 << 20, "tacticSharedMem": 48 << 10}
    name = option[2:].replace("-", "_")
    assert settings(option, text, *more)[name] == (pools if value is None else value)
    assert settings(f"{option}={text}", *more)[name] == (pools if value is None else value)


def test_what_is_not_given_is_nothing() -> None:
    assert settings() == {}
    assert settings("--fp16", "--int8", "--placeholder-ranges") == {
        "fp16": True, "int8": True, "placeholder_ranges": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input-io-formats", "fp17:chw"], "fp17: is no type; there are fp32, fp16"),
        (["--input-io-formats", "fp16"], "nothing: is no format"),
        (["--output-io-formats", "fp16:chw3"], "chw3: is no format"),
        (["--layer-precisions", "*a*:fp16"], "*a*: a name holds at most one *"),
        (["--shapes", "*a*:1"], "*a*: a name holds at most one *"),
        (["--layer-precisions", "a"], "a: give it as name:value"),
        (["--mem-pool-size", "all:1"], "all: is no memory pool"),
        (["--mem-pool-size", "workspace:-1"], "-1: give a size as"),
        (["--weight-streaming-budget", "101%"], "101%: is more than all"),
        (["--weight-streaming-budget", "-3"], "-3: give a size as"),
        (["--sparsity", "force"], "force overwrites the model's weights"),
        (["--sparsity", "some"], "some: is no sparsity"),
        (["--tactic-sources", "CUDNN"], "CUDNN: give names with + or -"),
        (["--builder-optimization-level", "6"], "6: give a whole number from 0 to 5"),
        (["--max-aux-streams", "-1"], "-1: give a whole number from 0"),
        (["--tiling-optimization-level", "4"], "4: give a whole number from 0 to 3"),
        (["--precision-constraints", "must"], "must: is no value; there are obey, prefer, none"),
        (["--allocation-strategy", "best"], "best: is no value; there are static, profile, runtime"),
        (["--min-shapes", "x:1xN"], "x:1xN: give sizes as 1x3x224x224"),
        (["--fp8", "--int8"], "--fp8 and --int8 do not go together"),
        (["--fp8", "--best"], "--fp8 and --best do not go together"),
        (["--fp16", "--strongly-typed"], "--fp16 and --strongly-typed do not go together"),
        (["--layer-precisions", "a:fp16"], "--layer-precisions goes with --precision-constraints"),
        (["--weight-streaming-budget", "-1"], "--weight-streaming-budget goes with --allow-weight-streaming"),
        (["--allow-gpu-fallback"], "--allow-gpu-fallback goes with --use-dla-core"),
        (["--calibration-data", "x"], "--calibration-data goes with --int8 or --best"),
        (["--placeholder-ranges"], "--placeholder-ranges goes with --int8 or --best"),
        (["--error-on-timing-cache-miss"], "--error-on-timing-cache-miss goes with --timing-cache-file"),
        (
            ["--int8", "--calibration-data", "x", "--placeholder-ranges"],
            "--calibration-data and --placeholder-ranges do not go together",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsight_tools.nsys.find", lambda _named: None)
    result = CliRunner().invoke(program, ["capture", "model.onnx", *arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference", "r.npz", "--accuracy", "cosine:1"], "cosine:1: give a measure and its limit, as cos:0.999"),
        (["--reference", "r.npz", "--accuracy", "rel:0.1", "--accuracy", "cos:2"], "cos:2: the limit of cos is a"),
        (["--accuracy", "cos:0.999"], "--accuracy goes with --reference"),
        (["--reference", "nowhere.npz"], "nowhere.npz: does not exist; give --reference onnxruntime"),
        (["--reference", "onnxruntime"], "model.onnx: does not exist"),
    ],
)
def test_a_reference_is_looked_for_first(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsight_tools.nsys.find", lambda _named: None)
    monkeypatch.setattr("nsight_tools.capture.session.refuse_to_build", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    model = "model.onnx" if "onnxruntime" in arguments else "model.engine"
    if model == "model.engine":
        Path(model).touch()
    result = CliRunner().invoke(program, ["capture", model, *arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == (["model.engine"] if model == "model.engine" else [])


def test_an_engine_is_built_already(tmp_path: Path) -> None:
    model = tmp_path / "model.engine"
    model.touch()
    asked = [Build({option.name: True}) for option in options.OPTIONS if option.of == "build"]
    nsys: Any = None  # it does not come to that
    for build in [*asked, Build(save_engine=Path("x"))]:
        with pytest.raises(CaptureError, match=r"is how an engine is built, and model\.engine is built already"):
            session.capture_engine(
                model,
                tmp_path / "run",
                Load(),
                build,
                Recording(),
                nsys,
                python=Path("python"),
                say=print,
                interrupts=Interrupts(print),
            )
    assert [path.name for path in tmp_path.iterdir()] == ["model.engine"]


def test_every_option_is_on_the_command_line_and_is_a_change() -> None:
    shown = {name for each in capture.command.params for name in each.opts}
    for option in options.OPTIONS:
        assert option.line in shown
        words = changes.said(Change(option.name, True if option.read is None else 3))
        assert words.option == (option.line if option.read is None else f"{option.line} 3")
        assert words.trtexec
        assert words.api
        assert "{" not in f"{words.trtexec}{words.api}"


def test_a_row_names_only_rows() -> None:
    assert len(options.BY_NAME) == len(options.OPTIONS)
    for option in options.OPTIONS:
        assert {*option.requires, *option.excludes} <= options.BY_NAME.keys()
        assert option.read is not None or option.default is None
        assert not option.many or option.read is not None


@pytest.mark.parametrize(
    ("name", "found"),
    [("a", "own"), ("ab", "later"), ("a.b", "later"), ("x.c", "end"), ("b", None), ("", None)],
)
def test_the_last_pattern_that_fits_counts(name: str, found: str | None) -> None:
    assert specs.named({"a*": "first", "a": "own", "a*b": "later", "*.c": "end"}, name) == found
    assert specs.named({"aa*a": "x"}, "aa") is None, "a letter is not both ends"


@pytest.mark.parametrize("option", [each for each in options.OPTIONS if each.read], ids=lambda each: each.name)
@pytest.mark.parametrize("text", ["", ":", ",", "a:", ":b", "a:b", "1", "x", "-", "+", "%", "1%%", "a:1x", "*:fp16"])
def test_readers_raise_nothing_but_value_errors(option: options.Option, text: str) -> None:
    assert option.read is not None
    with contextlib.suppress(ValueError):
        json.dumps(option.read(text))
