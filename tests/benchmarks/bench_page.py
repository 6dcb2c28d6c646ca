"""How a report's page moves in a browser: how long frames take while it is scrolled, zoomed, panned and pointed at.

    python tests/benchmarks/bench_page.py PAGE.html [--width 1400]

It needs a Chromium, as `tests/report/browser.py` finds one, which draws without a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from report.browser import Browser

RECORD = """(() => { window.frames_ms = []; let last = performance.now();
    const tick = () => {
        const now = performance.now(); frames_ms.push(now - last); last = now; requestAnimationFrame(tick); };
    requestAnimationFrame(tick); })()"""
CANVAS = "document.querySelector('.explore canvas')"
STALL_MS = 100
HEIGHT = 900


class Page:
    """A page of a report, and what frames took of each act on it."""

    def __init__(self, browser: Browser, page: Path, width: int) -> None:
        self._browser, self._width = browser, width
        self.frames: list[float] = []
        browser.look(width=width, height=HEIGHT)
        browser.show(page.resolve())
        browser.ask(RECORD)

    def wait(self, ms: int = 300) -> None:
        """Let it draw."""
        self._browser.ask(f"new Promise(done => setTimeout(done, {ms}))")

    def told(self, act: str) -> None:
        """Print the frames since the last call."""
        self.wait()
        frames = sorted(self._browser.ask("frames_ms.splice(0)"))
        self.frames += frames
        self.line(act, frames)

    def line(self, act: str, frames: list[float]) -> None:
        """Print what frames took: how many there were, and milliseconds."""
        ordered = sorted(frames)
        last = ordered[int(0.99 * (len(ordered) - 1))]
        stalls = sum(each > STALL_MS for each in ordered)
        print(f"{act:24} {len(ordered):6} {statistics.median(ordered):8.1f} {last:8.1f} {ordered[-1]:8.1f} {stalls:6}")

    def scroll(self) -> None:
        """To the end and back, wheel by wheel."""
        for by in (240, -240):
            for _ in range(0, self._browser.ask("document.documentElement.scrollHeight"), 240):
                self._browser.mouse("mouseWheel", 20, 20, deltaX=0, deltaY=by)

    def explore(self, window: int) -> None:
        """Choose a window of the timeline, zoom into it and out, pan, and point at its pieces."""
        ask, mouse = self._browser.ask, self._browser.mouse
        ask(f"{CANVAS}.scrollIntoView({{ block: 'center' }})")
        self.wait()
        chosen = f"choice.value = {window}; choice.dispatchEvent(new Event('change'))"
        ask(f"(choice => {{ {chosen} }})(document.querySelector('.explore select'))")
        self.wait()
        left, top, width = ask(f"(({{ x, y, width }}) => [x, y, width])({CANVAS}.getBoundingClientRect())")
        middle, high = left + 0.6 * width, top + 60
        for by in (-60, 60):
            for _ in range(60):
                mouse("mouseWheel", middle, high, deltaX=0, deltaY=by, modifiers=2)
        for _ in range(3):
            mouse("mousePressed", middle, high, button="left", clickCount=1)
            for step in range(30):
                mouse("mouseMoved", middle - 0.01 * step * width, high, button="left", buttons=1)
            mouse("mouseReleased", middle, high, button="left", clickCount=1)
        for step in range(70):
            mouse("mouseMoved", left + (0.2 + 0.01 * step) * width, high + 15 * (step % 7))


def main() -> None:
    """Measure one page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--width", type=int, default=1400)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        page = Page(browser, given.page, given.width)
        print(f"{'ms of a frame':24} {'frames':>6} {'median':>8} {'p99':>8} {'most':>8} {'> 100':>6}")
        page.wait(1500)
        page.told("nothing is done")
        page.scroll()
        page.told("scroll")
        for window in range(browser.ask("document.querySelector('.explore select').options.length")):
            page.explore(window)
            page.told(f"window {window}")
        page.line("all", page.frames)
        browser.close()


if __name__ == "__main__":
    main()
