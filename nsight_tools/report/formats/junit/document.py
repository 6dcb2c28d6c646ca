"""Test cases in suites, as JUnit XML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from nsight_tools.report import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LIMIT = 1200
_TALLIES = {"failure": "failures", "error": "errors", "skipped": "skipped"}


@dataclass(frozen=True)
class Case:
    """A test case: `state` is failure, error or skipped, or empty where it passes."""

    name: str
    state: str = ""
    message: str = ""
    output: str = ""


def document(suites: Iterable[tuple[str, Sequence[Case]]]) -> str:
    """The suites, each a name and its cases."""
    root = ET.Element("testsuites", name="nsight-tools")
    for name, cases in suites:
        shown = safe.visible(name)
        suite = ET.SubElement(root, "testsuite", name=shown, tests=str(len(cases)))
        for state, tally in _TALLIES.items():
            suite.set(tally, str(sum(case.state == state for case in cases)))
        for case in cases:
            element = ET.SubElement(suite, "testcase", classname=shown, name=safe.visible(case.name), time="0")
            if case.state:
                mark = ET.SubElement(element, case.state, message=safe.visible(case.message, LIMIT))
                mark.text = case.output if case.state != "skipped" else None
            elif case.output:
                ET.SubElement(element, "system-out").text = case.output
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'
