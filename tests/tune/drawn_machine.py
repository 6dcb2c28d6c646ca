"""A machine that measures settings by a rule, with noise and drift; and a tracer whose findings are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.findings import Change
from nsight_tools.tune.candidates import Chooser
from nsight_tools.tune.ledger import Found, Ledger
from nsight_tools.tune.loop import Loop
from nsight_tools.tune.measuring import Failed, Measurement, Why
from nsight_tools.tune.promises import Promise
from nsight_tools.tune.settings import Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Rule = Callable[[Setting], float]

ABOUT = {
    "model": {"name": "m.engine", "sha256": "0", "size_bytes": 1},
    "given": {"duration": "2"},
    "gpu": "drawn",
    "tensorrt": "8.6",
}
BAD = Setting.of({"pageable": True, "default_stream": True})


def takes_us(setting: Setting) -> float:
    """The time of an input: copies of 400 µs (pinned 150), launches of 300 µs (a graph 20), kernels of 500 µs."""
    copies, launches = (400 if setting.get("pageable") else 150), (20 if setting.get("use_cuda_graph") else 300)
    waits = 10 if setting.get("use_spin_wait") else 60
    if setting.get("overlap_transfers"):
        return max(copies, launches + 500) + waits
    alone = copies + launches + 500 + waits
    return max(alone / setting.get("streams"), 300 if setting.get("use_cuda_graph") else 600)


class Machine:
    """Measures what `rule` says, times e to the noise, while it slows down by `drift` from one run to the next."""

    def __init__(
        self,
        rule: Rule = takes_us,
        *,
        noise: float = 0.003,
        drift: float = 0.0,
        seed: int = 1,
        failing: Mapping[Setting, Why] | None = None,
    ) -> None:
        self.rule, self._noise, self._drift, self._failing = rule, noise, drift, {} if failing is None else failing
        self._random = np.random.default_rng(seed)
        self.asked: list[Setting] = []

    def measure(self, setting: Setting) -> Measurement:
        self.asked.append(setting)
        if why := self._failing.get(setting):
            raise Failed(why, "drawn so")
        took = self.rule(setting) * np.exp(self._noise * self._random.standard_normal() + self._drift * len(self.asked))
        wall = round(1000 * took)
        return Measurement(1000, 1e6 / took, wall, wall, wall, wall, 1_000_000, None)


def promise(
    code: str, change: Change, saves_us: tuple[float, float, float], of_us: float, kind: str = "estimate"
) -> Promise:
    low, point, high = (1000 * each for each in saves_us)
    return Promise(code, "drawn", (change,), kind, "wall", low, point, high, 1000 * of_us, "a drawing")


class Tracer:
    """Promises what the rule says that a change saves, give or take a tenth, of changes that it has a code for."""

    codes = (("PCI001", Change("pageable", value=False)), ("LCH001", Change("use_cuda_graph")))

    def __init__(self, rule: Rule = takes_us) -> None:
        self.rule, self.asked = rule, list[Setting]()

    def trace(self, setting: Setting, number: int) -> Found:
        self.asked.append(setting)
        now = self.rule(setting)
        made = []
        for code, change in self.codes:
            saves = now - self.rule(setting.changed(change))
            if saves > 0 and not setting.has(change):
                made.append(promise(code, change, (0.9 * saves, saves, 1.1 * saves), now))
        return Found(setting, f"{number}.capture", tuple(made), "drawn findings", "m.engine")


def loop(
    start: Setting = BAD, machine: Any = None, tracer: Any = None, goal: str = "throughput", **more: Any
) -> tuple[Loop, list[str]]:
    """A tuning of the drawn machine, and what it says."""
    said: list[str] = []
    chooser = more.pop("chooser", Chooser(goal))
    found = Loop(
        ledger=Ledger(ABOUT, goal, start),
        measurer=machine or Machine(),
        tracer=tracer or Tracer(),
        chooser=chooser,
        keep=more.pop("keep", lambda _: None),
        say=said.append,
        **more,
    )
    return found, said
