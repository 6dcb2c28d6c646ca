"""The report as one HTML page to explore: nothing is fetched; light or dark; it prints, and reads without scripts."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup, escape

from nsight_tools import units
from nsight_tools.analysis import Status
from nsight_tools.capture import machine
from nsight_tools.capture.runner.options import BY_NAME
from nsight_tools.errors import NothingToShow
from nsight_tools.report import accurate, content, figures, layer_times, measurements, safe, tops, unjudged
from nsight_tools.report.claims import claim
from nsight_tools.report.evidence import SHOWN as EVIDENCE_SHOWN
from nsight_tools.report.evidence import where
from nsight_tools.report.figures.accounting import ROLES
from nsight_tools.report.figures.data import places
from nsight_tools.report.formats.html import engine
from nsight_tools.report.formats.html.explored import policy, timeline
from nsight_tools.report.ncu import HAND_OVER
from nsight_tools.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nsight_tools.findings import Finding
    from nsight_tools.measured import Measured
    from nsight_tools.report.content import TraceReport
    from nsight_tools.trace import Trace

EVERY = 2000
"""Rows of a table of all layers or kernels; what a page of 5 MB has room for."""
LONG = 1200
"""Characters of a cause or a recommendation; names and all else are held to `safe.LIMIT`."""


@dataclass(frozen=True)
class _Picture:
    """A figure that a page can hold, and how to read it."""

    draw: Callable[..., figures.Drawing]
    caption: str
    shows: str = ""
    """In a few words, for who is sent to one further up."""
    of_finding: bool = True
    """Whether it looks where a finding does."""


_ACCOUNTING = _Picture(
    figures.inference_accounting,
    "Real inferences: one near the median and the 99th percentile by time; without the profiler, where there is such a "
    "bar, the first with its parts without GPU work corrected. Every nanosecond from an inference's first event to its "
    "last is in exactly one part. Only copies: no kernel of the inference runs beside them. The parts without "
    "GPU work say what the host did while the GPU ran nothing of the inference (maybe somebody else's work), not that "
    "it was the cause: a gap of about 1 µs between kernels is the GPU's own, though both were launched long before.",
)
_STRIP = _Picture(
    figures.inferences_over_time, "Every inference in the same parts: a trend, a warm-up or outliers show here."
)
_TRANSFERS = _Picture(
    figures.transfers,
    "Above, each copy's rate against the link's theoretical peak, of which pinned copies reach about 85 %; hollow "
    "marks are pageable memory, filled ones page-locked (pinned). Below, a part of the timeline: copies with no kernel "
    "above them make the inference longer.",
    "copies over time and against kernels",
)
_STREAMS = _Picture(
    figures.streams,
    "Each lane is a stream. Where launched work waits while another stream runs, its lane is marked.",
    "the streams' lanes",
)
_CLOCKS = _Picture(
    figures.clocks,
    "What was sampled of the GPU, and the time of the inferences under it: what moves together may belong together.",
    "clocks, power and latency over time",
)
_LAYERS = _Picture(
    figures.inference_layers,
    "The GPU's work by type of layer, or by kernel where no layers are known; on the right each lane's time and count. "
    "The lowest lane is the time between the first and the last work in which nothing of it runs, as traced: the "
    "profiler's own cost is in it.",
    "an inference by type of layer",
    of_finding=False,
)
_LAUNCHES = _Picture(
    figures.launches,
    "The host's CUDA calls over the GPU's work. Where the queue of launched work is empty, the GPU waits for the host.",
    "launches over the GPU's work",
)
_GRIDS = _Picture(
    figures.grids,
    "All kernel time by the size of the grid; orange bars: fewer blocks than half of the GPU's SMs.",
    "kernel time by size of the grid",
)
_ROOFLINE = _Picture(
    figures.roofline,
    "Each circle is a layer; its area is its time. Up: how much it computes, of the peak of the unit that it uses the "
    "most, Tensor Cores or instruction issue. Right: how much it computes for what it moves; 1 is where the GPU would "
    "be at both peaks. The line is the roof, the dashed one 60 % of it, from where on a layer is bound by it. All of "
    "it is measured in shares of peaks, from GPU metrics: no operations are counted.",
    of_finding=False,
)
_LIMITS = _Picture(
    figures.limits,
    "Shares of the hardware's peaks while each kernel runs, from GPU metrics: SMs that have work, instructions issued, "
    "Tensor Cores, device memory; each in the colour of the limit that it shows. Where all are low, the layer waits: "
    "for memory's or instructions' latency, or with too few blocks for the GPU.",
    of_finding=False,
)
_PICTURES = {
    "transfers": _TRANSFERS,
    "streams": _STREAMS,
    "clocks": _CLOCKS,
    "layers": _LAYERS,
    "launches": _LAUNCHES,
    "grids": _GRIDS,
}
"""The figures of findings, by the name that an analysis asks for one by."""


@dataclass(frozen=True)
class Figure:
    """A figure on the page: its SVG, or in its place what is said instead."""

    svg: Markup | None
    caption: str
    note: str = ""


def page(sections: Sequence[str], what: str = "report", overview: str = "") -> str:
    """One page of the sections that `section`, here or of another module, made; `what` they are is its title.

    `overview` is what stands before several of them.
    """
    bars = [(f"of-{role}", role) for role in dict.fromkeys(ROLES.values())]
    palette = rendered("palette.css.j2", colours=figures.COLOURS, bars=bars)
    style = "\n".join([palette, policy.asset("style.css"), engine.style()])
    script = policy.asset("explore.js")
    return rendered(
        "page.html.j2",
        # Constants of ours, and what `section` made, which escapes.
        sections=[Markup(section_text) for section_text in sections],  # noqa: S704
        overview=Markup(overview),  # noqa: S704
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=Markup(policy.policy(style, script)),  # noqa: S704
        what=what,
        version=__version__,
    )


def section(report: TraceReport, trace: Trace, number: int = 1) -> str:
    """What the page says of one trace; `number` tells it from the page's other traces."""
    pictures = _Pictures(
        trace, f"t{number}", {outcome.code: _PICTURES.get(outcome.picture) for outcome in report.outcomes}
    )
    lead = next(iter(report.findings), None)
    without = not report.summary.inferences
    explored = timeline.timeline(trace, report)
    limits = [pictures.draw(_ROOFLINE), pictures.draw(_LIMITS)]
    profiled = report.summary.layer_times
    layers = (
        [(layer, layer_times.share(layer, profiled)) for layer in layer_times.largest(profiled)] if profiled else []
    )
    return rendered(
        "section.html.j2",
        report=report,
        number=number,
        accounting=None if without else pictures.draw(_ACCOUNTING),
        strip=pictures.draw(_STREAMS if without else _STRIP),
        findings=[
            (finding, following, figure)
            for position, finding in enumerate(report.findings, 1)
            for figure in (pictures.of(finding, position),)  # before those of what follows from it
            for following in (
                [(finding_below, pictures.of(finding_below, position)) for finding_below in report.following(finding)],
            )
        ],
        largest=_largest(report),
        tops=[
            (what, title, every[: tops.ROWS], count, every)
            for what, title, rows in (("layers", "Layers", tops.layers), ("kernels", "Kernels", tops.kernels))
            for every, count in (rows(trace, EVERY),)
        ],
        profiled=layers[: layer_times.ROWS],
        profiled_all=layers[:EVERY],
        limits=limits,
        has_limits=any(limit.svg for limit in limits),
        timeline=explored,
        packed=Markup(policy.data(explored.packed())) if explored else None,  # noqa: S704 (made inert there)
        twin=[(window, list(timeline.table(explored, window))) for window in explored.windows] if explored else [],
        looks=lambda finding: _look(explored, finding),
        graph=engine.graph(trace),
        unjudged=report.unjudged(),
        clear=report.with_status(Status.CLEAR),
        capture=[*_capture(report), *_measured(report.summary.measured)],
        missing=_missing(report),
        diagnostics=_diagnostics(trace),
        content=content,
        lead=lead,
        roles={label: ROLES[bucket] for bucket, label in content.BUCKETS.items()},
    )


def _look(explored: timeline.Timeline | None, finding: Finding) -> int | None:
    """The look at the longest place of a finding that its timeline has."""
    if explored is None:
        return None
    looks = (explored.by_place.get((lo, hi)) for _, lo, hi in sorted(places(finding), reverse=True))
    return next((look for look in looks if look is not None), None)


def drawn(draw: Callable[[], figures.Drawing], prefix: str, caption: str) -> Figure:
    """What `draw` draws, its ids beginning with `prefix`; where it has nothing to show, the reason."""
    try:
        drawing = draw()
    except NothingToShow as nothing:
        return Figure(None, f"No figure: {nothing}.")
    svg = figures.svg(drawing, prefix, caption)
    return Figure(Markup(svg), caption, drawing.note)  # noqa: S704 (matplotlib's, which escapes names)


class _Pictures:
    """The figures of one section, drawn as they are asked for; one that is there already is referred to."""

    def __init__(self, trace: Trace, prefix: str, by_code: Mapping[str, _Picture | None]) -> None:
        self._trace, self._prefix, self._by_code = trace, prefix, by_code
        self._drawn: dict[str, int] = {}
        self._count = 0

    def draw(self, picture: _Picture, *finding: Finding) -> Figure:
        self._count += 1
        return drawn(
            lambda: picture.draw(self._trace, *(finding if picture.of_finding else ())),
            f"{self._prefix}f{self._count}",
            picture.caption,
        )

    def of(self, finding: Finding, position: int) -> Figure | None:
        """The figure of the finding at this position of the page."""
        picture = self._by_code.get(finding.code)
        if picture is None:
            return None
        # Launches are looked at in the inference that a finding is about; the others show all of its family.
        places = {(e.start_ns, e.end_ns) for e in finding.evidence} if picture is _LAUNCHES else ""
        key = f"{picture.draw.__name__} {places}"
        if key in self._drawn:
            shown = "above" if self._drawn[key] == position else f"under finding {self._drawn[key]}"
            return Figure(None, f"See the figure {shown}: {picture.shows}.")
        self._drawn[key] = position
        return self.draw(picture, finding)


def _largest(report: TraceReport) -> list[tuple[str, int]]:
    """The three parts of the median inference that take the most time."""
    parts = [(bucket.label, bucket.median) for bucket in report.buckets() if bucket.median]
    return sorted(parts, key=lambda share: -share[1])[:3]


def _capture(report: TraceReport) -> list[tuple[str, str]]:
    """How it was captured, as labels and values."""
    s = report.summary
    known = [
        ("Input", report.name),
        ("Report", s.source),
        ("Nsight Systems", s.nsys_version),
        ("Export schema", s.schema_version),
        *_run(s.run or {}),
        ("Driver", s.driver),
        ("CUDA", s.cuda),
        ("CPU", s.cpu),
        ("Operating system", s.os),
        *((f"GPU {gpu.get('device')}", _gpu(gpu)) for gpu in s.gpus),
        ("Traced", units.duration(s.duration_ns)),
    ]
    return [(label, str(value)) for label, value in known if value]


def _measured(measured: Measured) -> list[tuple[str, str]]:
    """What it measured without the profiler, as labels and values."""
    return [*measurements.every(measured), *accurate.every(measured.outputs, measured.accuracy)]


def _run(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a capture says of the engine and of how it was run: what a trace does not know."""
    model, options, versions = (_mapping(run.get(name)) for name in ("model", "options", "versions"))
    if model.get("name"):
        hashed = f", SHA-256 {str(model['sha256'])[:16]}…" if model.get("sha256") else ""
        yield "Engine", f"{model['name']}{hashed}"
    names = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX", "cuda_runtime": "CUDA runtime"}
    names |= {"python": "Python", "pycuda": "PyCUDA"}
    yield "Versions", ", ".join(f"{name} {versions[key]}" for key, name in names.items() if versions.get(key))
    yield "Driver mode", "; ".join(machine.modes(_mapping(_mapping(run.get("machine")).get("before"))))
    ran = (f"{name.replace('_', ' ')} {_plain(value)}" for name, value in options.items() if name in _RAN)
    yield "Run with", ", ".join(ran)
    build = _mapping(run.get("build"))
    phases = ((name, seconds) for name, seconds in _mapping(build.get("phases_s")).items() if _is_number(seconds))
    yield "Built in", ", ".join(f"{name.replace('_', ' ')} {units.duration(1e9 * took)}" for name, took in phases)


_RAN = (
    *("shapes", "batch", "precision", *BY_NAME, "streams", "threads", "cuda_graph", "spin_wait"),
    *("data_transfers", "overlap_transfers", "default_stream", "pageable", "sleep_ms", "iterations", "warm_up_ms"),
)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: object) -> str:
    if value is None or value == {}:
        return "as built"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _gpu(gpu: dict[str, Any]) -> str:
    texts = [gpu.get("name") or "unnamed"]
    if gpu.get("sm_count"):
        texts.append(f"{gpu['sm_count']} SMs")
    if gpu.get("memory_bytes"):
        texts.append(units.size(gpu["memory_bytes"]))
    if gpu.get("max_sm_clock_mhz"):
        texts.append(f"up to {gpu['max_sm_clock_mhz']:,.0f} MHz")
    return ", ".join(texts)


def _missing(report: TraceReport) -> list[tuple[str, str]]:
    """Reasons for which tables have no data, each with the tables."""
    by_reason: dict[str, list[str]] = {}
    missing = dict(report.summary.missing)
    if "telemetry" not in missing:
        missing.pop("nvml_metrics", None)  # the same, by the capture itself
    for table, reason in missing.items():
        by_reason.setdefault(reason, []).append(table)
    return [(", ".join(tables), reason) for reason, tables in by_reason.items()]


def _diagnostics(trace: Trace) -> list[str]:
    """What Nsight Systems itself warned of; the first few."""
    rows = trace.table("diagnostics", ["severity", "text"]).to_pylist()
    return list(dict.fromkeys(row["text"] for row in rows if row["severity"] in {"warning", "error"}))[:6]


def _worth(finding: Finding) -> str:
    """What a finding could give back, in the fewest words."""
    if finding.recoverable_ns == 0:
        return "nothing by itself"
    if finding.recoverable_ns_per_inference is not None:
        what = "an inference" if finding.per == "wall" else "from one to the next"
        return f"{claim(finding)} {units.duration(finding.recoverable_ns_per_inference)} {what}"
    if finding.recoverable_ns is None:
        return "none claimed"
    return f"{claim(finding)} {units.duration(finding.recoverable_ns)} in all"


class _Inert(str):
    """Text that is harmless to show already, but not yet escaped."""

    __slots__ = ()


def _inert(value: object, limit: int = safe.LIMIT) -> object:
    """Whatever a template prints goes through here before it is escaped."""
    return value if isinstance(value, (_Inert, Markup)) else _Inert(units.tied(safe.visible(value, limit)))


_OPTION = re.compile(r"--[a-z][\w-]*")


def _long(text: object) -> Markup:
    """A sentence, in which no line ends within the name of an option: browsers break lines after `--`."""
    whole = '<span class="nowrap">\\g<0></span>'
    return Markup(_OPTION.sub(whole, str(escape(_inert(text, LONG)))))  # noqa: S704 (escaped)


def rendered(template: str, **values: Any) -> str:
    """One of the templates with these values."""
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> jinja2.Environment:
    """Where the templates of every page come from: what they print is made inert, then escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nsight_tools.report.formats.html"),
        autoescape=True,
        finalize=_inert,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        matter=unjudged.matter,
        sentence=units.sentence,
        worth=_worth,
        long=_long,
        at_most=_inert,
        duration=units.duration,
        moment=units.moment,
        share=units.share,
        number=units.number,
        quantity=lambda evidence: units.quantity(evidence.value, evidence.unit),
        where=where,
        percent=lambda ratio: f"{100 * min(max(ratio or 0.0, 0.0), 1.0):.2f}",
    )
    environment.globals.update(EVIDENCE_SHOWN=EVIDENCE_SHOWN, HAND_OVER=HAND_OVER)
    return environment
