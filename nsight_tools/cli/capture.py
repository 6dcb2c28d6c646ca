"""`nsight-tools capture`: an engine, or any command, under Nsight Systems, into a run directory."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import nsight_tools
from nsight_tools.capture.gpu_metrics import HZ
from nsight_tools.capture.runner import options as engine_options
from nsight_tools.capture.runner import specs, versions
from nsight_tools.cli import analyze, output
from nsight_tools.errors import NsightToolsError

if TYPE_CHECKING:
    from nsight_tools.capture.options import Build, Checking, Load, Recording
    from nsight_tools.capture.session import Captured
    from nsight_tools.nsys import Nsys

AS_TYPED = "nsight_tools.as_typed"
"""In a context's `meta`: options that are read into other values, as they were typed, by name."""
_ENGINE_ONLY = "of an engine, not of a command"


class WithCommand(click.Command):
    """A command that takes everything behind `--` as the command to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = args[at + 1 :] if at < len(args) else None
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return ["[OPTIONS] MODEL  |  [OPTIONS] -- COMMAND [ARGUMENT]..."]


def _path(**checks: Any) -> click.Path:
    return click.Path(path_type=Path, **checks)


def _read_by(read: specs.Reader) -> Any:
    """A callback that takes a value, or each of several, as the option's own reader does."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        ctx.meta.setdefault(AS_TYPED, {})[param.name] = value
        try:
            return [read(text) for text in value] if isinstance(value, tuple) else value and read(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback


def _files(text: str) -> list[tuple[str, str]]:
    """`input:file,…`, each of which is there: an engine may take minutes to build before they are read."""
    files_by_input = specs.pairs(text)
    for _, file in files_by_input:
        if not Path(file).exists():
            raise ValueError(f"{file}: there is no such file")
    return files_by_input


def _of_engine(option: engine_options.Option) -> Any:
    """A row of the table of options as an option of the command line."""
    first = option.help[:1] if option.help[1:2].isupper() else option.help[:1].lower()
    words = option.help if option.of != "build" else f"ONNX: {first}{option.help[1:]}"
    if option.read is None:
        return click.option(option.line, option.name, is_flag=True, help=words)
    read = _read_by(option.read)
    return click.option(
        option.line, option.name, metavar=option.metavar, callback=read, multiple=option.many, help=words
    )


def _limits(text: str) -> str:
    """Limits of accuracy, as they were given."""
    from nsight_tools import accuracy

    accuracy.limits(text)
    return text


_AT_LEAST_1 = click.IntRange(min=1)
_OPTIONS = (
    click.argument("model", required=False, type=_path()),
    click.option(
        "-o", "--output", "target", metavar="DIR", type=_path(), help="Run directory; default: <name>.capture."
    ),
    click.option("--force", is_flag=True, help="Replace a run directory of that name."),
    click.option("--no-analyze", is_flag=True, help="Capture only; analyze takes the run directory later."),
    # How an engine is run
    click.option(
        "--shapes",
        metavar="SPEC",
        callback=_read_by(specs.shapes),
        help="Shapes of dynamic inputs, as trtexec takes them: input:1x3x224x224,mask:1x128.",
    ),
    click.option("--batch", metavar="N", type=_AT_LEAST_1, help="First dimension of dynamic inputs not in --shapes."),
    click.option(
        "--iterations", metavar="N", type=_AT_LEAST_1, default=100, show_default=True, help="Inferences traced."
    ),
    click.option(
        "--duration",
        metavar="S",
        type=click.FloatRange(min=0),
        default=3.0,
        show_default=True,
        help="Seconds that the untraced benchmark lasts at least; from 10 on it measures energy, too.",
    ),
    click.option(
        "--warm-up",
        metavar="MS",
        type=click.FloatRange(min=0),
        default=200.0,
        show_default=True,
        help="Before each pass.",
    ),
    click.option(
        "--streams", metavar="N", type=_AT_LEAST_1, default=1, show_default=True, help="Contexts, a stream each."
    ),
    click.option(
        "--threads", metavar="N", type=_AT_LEAST_1, default=1, show_default=True, help="Host threads that serve them."
    ),
    click.option("--use-cuda-graph", is_flag=True, help="Capture the engine's work into a CUDA graph and launch that."),
    click.option("--use-spin-wait", is_flag=True, help="Wait by spinning: lower latency, a busy core."),
    click.option("--no-data-transfers", is_flag=True, help="Copy no inputs and outputs."),
    click.option(
        "--overlap-transfers",
        is_flag=True,
        help="Copy beside the previous inference, as trtexec does without --exposeDMA.",
    ),
    click.option(
        "--default-stream", is_flag=True, help="Run on CUDA's default stream: a mistake, to see what it costs."
    ),
    click.option("--pageable", is_flag=True, help="Copy from and to pageable memory: a mistake, to see what it costs."),
    click.option(
        "--idle-time",
        "--sleep-time",
        "idle_time",
        metavar="MS",
        type=click.FloatRange(min=0),
        default=0.0,
        help="Pause between inferences, as trtexec --idleTime.",
    ),
    click.option(
        "--load-inputs",
        metavar="SPEC",
        callback=_read_by(_files),
        help="input:file,… raw bytes or .npy; default: random, never zeros.",
    ),
    click.option(
        "--reference",
        metavar="onnxruntime|FILE",
        help="Compare outputs with those of the model in ONNX Runtime on the CPU, or of an .onnx, .npz or capture.",
    ),
    click.option(
        "--accuracy",
        metavar="SPEC",
        multiple=True,
        callback=_read_by(_limits),
        help="Limits of that: cos:0.999, rel:0.01, l0, l1, l2, lInf, top1; default: rel:0.05. Exit code 1 outside of "
        "them, 2 where no output can be held to one.",
    ),
    click.option(
        "--device", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="CUDA device."
    ),
    # How it is built from ONNX, and loaded
    *map(_of_engine, engine_options.OPTIONS),
    click.option(
        "--runtime",
        type=click.Choice(list(versions.RUNTIMES)),
        default="tensorrt",
        show_default=True,
        help="What builds and runs the engine. TensorRT-RTX builds without a GPU; it runs on GeForce and RTX GPUs.",
    ),
    click.option(
        "--save-engine", metavar="FILE", type=_path(), help="ONNX: where the engine goes; default: run directory."
    ),
    # What is recorded
    click.option("--single-pass", is_flag=True, help="Only the traced pass: no benchmark, no layer pass."),
    click.option(
        "--profiler",
        is_flag=True,
        help="Time the layers by TensorRT's own profiler, too, in a run of its own without nsys.",
    ),
    click.option(
        "--repeat",
        metavar="N",
        type=_AT_LEAST_1,
        default=1,
        show_default=True,
        help="Make the untraced benchmark N times, each in a new process, to see how much equal runs differ.",
    ),
    click.option(
        "--no-untraced",
        "untraced",
        is_flag=True,
        flag_value=False,
        default=True,
        help="COMMAND: trace it at once, for what must run only once; times without the profiler are then estimated.",
    ),
    click.option(
        "--cuda-graph-trace",
        "graphs",
        type=click.Choice(["node", "graph"]),
        default="node",
        show_default=True,
        help="Kernels of CUDA graphs, or graphs as a whole (cheaper).",
    ),
    click.option(
        "--gpu-metrics",
        "gpu_metrics_hz",
        metavar="HZ",
        is_flag=False,
        flag_value=HZ,
        type=_AT_LEAST_1,
        help=f"Sample GPU metrics, {HZ} Hz unless given, or fail; without it they are sampled where that is allowed.",
    ),
    click.option(
        "--no-gpu-metrics",
        "gpu_metrics",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Sample none: what limits each layer is not told then.",
    ),
    click.option(
        "--telemetry-hz",
        metavar="HZ",
        type=click.FloatRange(0, 1000),
        default=50.0,
        show_default=True,
        help="Sample clocks, power and reasons for throttling by NVML; 0 for never.",
    ),
    click.option("--memory-usage", is_flag=True, help="Trace allocations of GPU memory, at a cost."),
    click.option(
        "--capture-range", is_flag=True, help="COMMAND: only from its cudaProfilerStart to its cudaProfilerStop."
    ),
    click.option(
        "--nsys-arg", "nsys_args", metavar="ARG", multiple=True, help="Any option of nsys profile; replaces ours."
    ),
    click.option(
        "--python", metavar="PATH", help="Interpreter that has tensorrt and pycuda; default: this tool's own."
    ),
    click.option("--nsys", metavar="PATH", type=_path(), help="The nsys to capture with."),
    output.colour_option,
)


def _options(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    "capture",
    cls=WithCommand,
    short_help="Run an engine, or any command, under Nsight Systems.",
    epilog="""\b
Example:
  nsight-tools capture model.engine
  nsight-tools capture model.onnx --fp16 --shapes input:8x3x224x224 --use-cuda-graph
  nsight-tools capture --gpu-metrics -- python serve.py
""",
)
@_options
@click.pass_context
def command(ctx: click.Context, /, model: Path | None, target: Path | None, **options: Any) -> None:
    """Run MODEL under Nsight Systems with NVTX ranges and telemetry, and say where its time goes.

    MODEL is a TensorRT engine (.engine, .plan) or .onnx, which is built first. It runs three times: without the
    profiler (the truth), as deployed under it, and eagerly with layer ranges; with --profiler once more, with
    TensorRT's own. A COMMAND runs twice: without the
    profiler, where nsight_tools.inference() and trtexec time themselves, and under it. All goes into a run directory,
    which analyze, import and open_trace take.
    """
    wrapped: list[str] | None = ctx.meta["command"]
    asked = _seen(model, wrapped, options)
    from nsight_tools import nsys
    from nsight_tools.capture import privacy
    from nsight_tools.capture.options import CaptureError

    installed = nsys.find(options["nsys"])
    privacy.hide()
    if wrapped is not None:
        _refuse_engine_options(ctx)
        captured = _command_captured(wrapped, target, options, installed)
    else:
        assert model is not None
        assert asked is not None
        captured = _engine_captured(model, target, asked, options, installed)
    _tell(captured)
    if captured.interrupted:
        ctx.exit(130)
    if not options["no_analyze"]:
        _check_ranges(captured, options["nsys"])
        with contextlib.suppress(click.exceptions.Exit):
            imported = {"nsys": options["nsys"]}
            ctx.invoke(analyze.command, inputs=(str(captured.path),), imported=imported, color=options["color"])
    if status := _inaccurate(captured.run):
        ctx.exit(status)
    if code := captured.exit_code:
        raise CaptureError(
            f"{wrapped[0] if wrapped else model}: ended with exit code {code}",
            hint="what it did until then was captured",
        )


def _command_captured(wrapped: list[str], target: Path | None, options: dict[str, Any], installed: Nsys) -> Captured:
    from nsight_tools import run_files
    from nsight_tools.capture import session, supervised

    target = target or Path(f"{Path(wrapped[0]).name}{run_files.SUFFIX}")
    with supervised.Interrupts(output.say).handled() as interrupts:
        return session.capture_command(
            wrapped,
            target,
            _recording(options),
            installed,
            say=output.say,
            interrupts=interrupts,
            force=options["force"],
        )


def _engine_captured(
    model: Path, target: Path | None, asked: tuple[Load, Build], options: dict[str, Any], installed: Nsys
) -> Captured:
    """`asked` is how it is to be run and built."""
    from nsight_tools import run_files
    from nsight_tools.capture import processes, session, supervised

    python, checking = processes.resolve_python(options["python"], sys.executable), _checking(options)
    target = target or Path(f"{model.stem}{run_files.SUFFIX}")
    with supervised.Interrupts(output.say).handled() as interrupts:
        return session.capture_engine(
            model,
            target,
            *asked,
            _recording(options),
            installed,
            python=python,
            say=output.say,
            interrupts=interrupts,
            force=options["force"],
            checking=checking,
        )


def _seen(model: Path | None, wrapped: list[str] | None, options: dict[str, Any]) -> tuple[Load, Build] | None:
    """How an engine is to be run and built; None of a command.

    Raises what says that it cannot be captured, where that shows before nsys or anything else is looked for.
    """
    if (model is None) == (wrapped is None) or wrapped == []:
        raise click.UsageError("give a MODEL, or a command after --")
    if options["gpu_metrics_hz"] and not options["gpu_metrics"]:
        raise click.UsageError("--gpu-metrics and --no-gpu-metrics contradict each other")
    if model is None:
        return None
    if not options["untraced"]:
        raise click.UsageError("--no-untraced is an option of a command; an engine has --single-pass")
    if options["single_pass"] and options["repeat"] > 1:
        raise click.UsageError("--repeat makes the benchmark again, and --single-pass leaves it out")
    from nsight_tools.capture.options import load_of, model_of

    asked = load_of(options), _build(options)
    model_of(model)
    return asked


def _recording(options: dict[str, Any]) -> Recording:
    from nsight_tools.capture.options import Recording

    return Recording(**{field.name: options[field.name] for field in dataclasses.fields(Recording)})


def _checking(options: dict[str, Any]) -> Checking:
    from nsight_tools.capture.options import Checking

    if options["accuracy"] and not options["reference"]:
        raise click.UsageError("--accuracy goes with --reference: it needs what outputs are compared with")
    return Checking(options["reference"], tuple(options["accuracy"]))


def _build(options: dict[str, Any]) -> Build:
    from nsight_tools.capture.options import Build, settings_of

    settings = settings_of(options)
    if problem := next(engine_options.problems(settings), None):
        raise click.UsageError(problem)
    return Build(settings, options["save_engine"], options["runtime"])


def _refuse_engine_options(ctx: click.Context) -> None:
    of_commands = {
        "target", "force", "no_analyze", "untraced", "graphs", "gpu_metrics", "gpu_metrics_hz", "telemetry_hz",
        "memory_usage", "capture_range", "nsys_args", "nsys", "color",
    }  # fmt: skip
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") is click.core.ParameterSource.COMMANDLINE
        if given and option.name not in of_commands:
            raise click.UsageError(f"{option.opts[0]} is an option {_ENGINE_ONLY}")


def _check_ranges(captured: Captured, nsys: Path | None) -> None:
    """See that the runner's NVTX ranges arrived in the report.

    Raises:
        CaptureError: ranges are missing, which nsys itself does not say.
    """
    expected = captured.run["measured"].get("timing", {}).get("inferences")
    if expected is None:
        return
    from nsight_tools.capture.options import CaptureError
    from nsight_tools.nsys import OLDER_NVTX

    trace = nsight_tools.open_trace(captured.path, nsys=nsys)
    query = "SELECT count(*) AS n FROM nvtx_ranges WHERE domain = 'nsight_tools' AND name = 'inference'"
    arrived = trace.sql(query)["n"][0].as_py()
    if arrived < expected:
        versions = captured.run["versions"]
        raise CaptureError(
            f"{captured.path}: {expected} inferences ran, but {arrived} of their NVTX ranges arrived in the report "
            f"(nsys {versions['nsys']}, Python's nvtx {versions.get('nvtx')})",
            hint=f"use a newer nsys, or an older nvtx: {OLDER_NVTX} where the runner runs",
        )


def _inaccurate(run: dict[str, Any]) -> int:
    """The exit status that the outputs' accuracy gives: 1 where a limit is broken, 2 where one was not judged."""
    from nsight_tools.accuracy import Accuracy

    accuracy = Accuracy.of_json(run.get("accuracy"))
    return 0 if accuracy is None or accuracy.passed else 1 if accuracy.failures else NsightToolsError.exit_code


def _tell_accuracy(run: dict[str, Any]) -> None:
    """How far the outputs are from the reference's, each in a line; what is no number is told without one, too."""
    if "outputs" not in run:
        return
    from nsight_tools import measured
    from nsight_tools.accuracy import Accuracy
    from nsight_tools.report import accurate

    for line in accurate.odd(list(measured.outputs(run))):
        output.say(line)
    if accuracy := Accuracy.of_json(run.get("accuracy")):
        for agreement in accuracy.outputs:
            output.say(f"output {agreement.output} against {accuracy.reference}: {accurate.measures(agreement)}")
        output.say(accurate.verdict(accuracy))


def _with_metrics(run: dict[str, Any]) -> str:
    hz = run.get("gpu_metrics", {}).get("hz")
    return f" with GPU metrics at {hz / 1000:g} kHz" if hz else ""


def _tell(captured: Captured) -> None:
    """What the run directory holds, and what tracing cost."""
    run = captured.run
    tracing = (run.get("tracing") or {}).get("wall_ns")
    if tracing:
        from nsight_tools import units

        more = tracing["added"] / tracing["untraced"] if tracing["untraced"] else 0.0
        output.say(
            f"an inference takes {units.duration(tracing['untraced'])} without the profiler and "
            f"{units.duration(tracing['traced'])} traced{_with_metrics(run)} ({more:+.0%}); median wall"
        )
    _tell_accuracy(run)
    if run.get("untraced", {}).get("timed_processes") == 0:
        output.say("no inference was timed without the profiler: mark them with nsight_tools.inference()")
    if reason := run.get("telemetry", {}).get("reason"):
        output.say(f"no telemetry: {reason}")
    state = "interrupted; what was captured until then is in" if captured.interrupted else "captured into"
    output.say(f"{state} {captured.path}")
