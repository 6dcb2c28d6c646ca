"""No two modules import each other, by whatever detour, and no two packages that stand beside each other."""

from __future__ import annotations

from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import grimp
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOTS = ("nsight_tools", "nsight_analyses")
BY_NAME = {
    "nsight_tools.cli": ("nsight_tools.cli.",),
    "nsight_tools.report.formats": ("nsight_tools.report.formats.", "nsight_tools.fleet.formats."),
}
"""Who loads modules by name, and how these names begin."""


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """What each module imports: inside of functions, and for a type alone, too."""
    graph = grimp.build_graph(*ROOTS, exclude_type_checking_imports=False)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def circle(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """Modules of which each imports the next, and the last is the first; empty where there are none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def siblings(imports: Mapping[str, Iterable[str]]) -> dict[str, dict[str, set[str]]]:
    """Of each package, which of its members need which others of them."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for module, others in imports.items():
        for other in others:
            mine, its = module.split("."), other.split(".")
            shared = next((at for at, pair in enumerate(zip(mine, its, strict=False)) if len(set(pair)) > 1), 0)
            if shared:
                found[".".join(mine[:shared])][mine[shared]].add(its[shared])
    return found


def test_no_two_modules_import_each_other(imports: dict[str, set[str]]) -> None:
    assert len(imports) > 300
    assert not circle(imports)


def test_what_is_loaded_by_name_does_not_import_who_loads_it(imports: dict[str, set[str]]) -> None:
    loaded = {loader: {name for name in imports if name.startswith(begin)} for loader, begin in BY_NAME.items()}
    assert all(len(names) > 10 for names in loaded.values())
    assert not circle({module: others | loaded.get(module, set()) for module, others in imports.items()})


def test_no_two_packages_import_each_other(imports: dict[str, set[str]]) -> None:
    assert {"nsight_tools", "nsight_tools.report"} < siblings(imports).keys()
    assert not {package: found for package, of in siblings(imports).items() if (found := circle(of))}


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})[:2] in [["a", "b"], ["b", "c"], ["c", "a"]]
    one = {"p.a.x": {"p.b.y"}, "p.b.z": {"p.a.w"}, "p.a": set(), "p.b": {"q"}}
    assert not circle(one)
    assert circle(siblings(one)["p"]) in (["a", "b", "a"], ["b", "a", "b"])
