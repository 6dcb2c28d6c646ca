"""What README, docs, catalogue and picture say is so: commands, links, tables. Blocks run in `test_documented.py`."""

from __future__ import annotations

import html
import re
import runpy
from importlib import import_module
from pathlib import Path

import pytest
from rich.text import Text

import nsight_tools
from nsight_tools import changes
from nsight_tools.analysis import SECTIONS
from nsight_tools.capture.runner.options import BY_NAME
from nsight_tools.cli import COMMANDS, capture
from nsight_tools.report import catalogue, glossary
from nsight_tools.tables import TABLES

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("*.md"))
HOW = (DOCS / "how_it_works.md").read_text(encoding="utf-8")


def test_commands_exist() -> None:
    blocks = [
        block
        for page in (*PAGES, REPOSITORY / "README.md")
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    ]
    used = set(re.findall(r"nsight-tools (?:--debug )?([a-z]+)", "\n".join(blocks)))
    assert used == set(COMMANDS)


def test_tables_are_those_of_the_schema() -> None:
    section = HOW.partition("|table|rows|")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`(\w+)`", section)) == sorted(TABLES)


def test_layout_names_what_is_there() -> None:
    layout = HOW.partition("**The dataset.**")[0]
    for path in (REPOSITORY / "nsight_tools").iterdir():
        if path.name not in {"__init__.py", "__main__.py", "__pycache__", "py.typed"}:
            assert path.name in layout


DOCUMENTS = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "analyses/README.md", "sample_traces/README.md"),
    *(f"docs/{page.name}" for page in PAGES),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = REPOSITORY / document
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if link.startswith("http") or link in MADE:
            continue
        target, _, anchor = link.partition("#")
        assert (path.parent / target).exists(), link
        if anchor:
            assert anchor in anchors(path.parent / target if target else path), link


MADE = {"commands.md", "rules.md", "tables.md", "api.md"}
"""Pages that only the site has; `mkdocs build --strict` checks the links to them."""


def anchors(document: Path) -> set[str]:
    """What links of a document lead to, as GitHub and MkDocs make them of titles."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_each_page_has_its_place_on_the_site() -> None:
    listed = re.findall(r"(\w+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    beside = {"changelog.md", "contributing.md", "families.md", "samples.md"}
    assert sorted(listed) == sorted({*(page.name for page in PAGES), *MADE, *beside})


def test_catalogue_says_what_the_docstrings_say() -> None:
    built_in = [each for each in nsight_tools.registry().values() if "nsight_analyses" in each.function.__module__]
    written = catalogue.render(built_in)
    families = re.findall(r"^## (\w+)\n\n(.*)$", written, re.MULTILINE)
    assert [name for name, about in families if about] == sorted({each.family for each in built_in})
    rules = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", written, re.DOTALL | re.MULTILINE))
    assert sorted(rules) == sorted(each.code for each in built_in)
    for each in built_in:
        said = rules[each.code]
        assert each.summary in said
        assert [part for part in SECTIONS if f"**{part}:**" in said] == list(SECTIONS)
        assert all(str(changes.said(change)) in said for change in each.change)


def test_the_glossary_is_what_explain_prints() -> None:
    said = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert re.findall(r"^\*\*(\w+)\*\*: (.*)$", said, re.MULTILINE) == list(glossary.TERMS.items())


TRTEXEC_11 = """
    accuracyAlgorithm accuracyThreshold adjustForDLA allocationStrategy allowGPUFallback allowWeightStreaming
    asyncFileReader atol avgRuns avgTiming buildDLAStandalone builderOptimizationLevel consistency continue cpuOnly
    decomposableAttentions device directIO distributiveIndependence dryRun dumpKernelText dumpLayerInfo
    dumpOptimizationProfile dumpOutput dumpProfile dumpRawBindingsToFile dumpRefit duration dynamicPlugins
    enablePluginOverride errorOnTimingCacheMiss excludeLeanRuntime exportLayerInfo exportOutput exportProfile
    exportTimes exposeDMA getPlanVersionOnly hardwareCompatibilityLevel help helpBuildRoute idleTime
    ignoreParsedPluginLibs includeDataTransfers infStreams inputIOFormats iterations l2LimitForTiling
    layerDeviceTypes leanDLLPath loadEngine loadInputs loadRefOutputs markDebug markUnfusedTensorsAsDebugTensors
    maxAuxStreams maxShapes maxTactics memPoolSize minShapes monitorMemory noBuilderCache noCompilationCache
    noCudaGraph noDataTransfers noSpinWait noTF32 onnx optShapes outputIOFormats percentile persistentCacheRatio pi
    pluginInstanceNorm plugins preview profile profilingVerbosity refit refitFromOnnx refPair remoteAutoTuningConfig
    reportCapabilityDLA rtol runtimePlatform safe safetyPlugins saveAllDebugTensors saveAllEngines saveDebugTensors
    saveEngine separateProfileRun setBuildRoute setPluginsToSerialize shapes skipInference sleepTime sparsity
    staticPlugins streams stripAllWeights stripWeights stronglyTyped tacticSources tempdir tempfileControls threads
    tilingOptimizationLevel timeDeserialize timeRefit timingCacheFile tuneBuildRouteFile tuneBuildRoutes
    tuningCacheFile tuningSearch tuningTimeOut uint8AsymmetricQuantizationDLA useCudaGraph useDLACore
    useManagedMemory useProfile useRuntime useSpinWait vc verbose versionCompatible warmUp weightStreamingBudget
"""
"""Every flag that trtexec of TensorRT 11 reads."""
UNTIL_10 = """
    fp16 bf16 int8 fp8 int4 best calib layerPrecisions layerOutputTypes precisionConstraints minShapesCalib
    optShapesCalib maxShapesCalib restricted heuristic minTiming
"""


def test_the_table_of_trtexec_is_complete() -> None:
    said = (REPOSITORY / "docs" / "trtexec.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--(\w[\w-]*)", said))
    theirs, earlier = (set(words.split()) for words in (TRTEXEC_11, UNTIL_10))
    ours = {name[2:] for each in capture.command.params for name in each.opts if name.startswith("--")}
    assert sorted(theirs - named) == []
    assert sorted(named - theirs - earlier - ours - {"debug"}) == []
    assert sorted(option.line for option in BY_NAME.values() if option.line[2:] not in named) == []
    rows = [line.strip("|").split("|") for line in said.splitlines() if line.startswith("|")]
    assert all(row[-1].strip() for row in rows), "a row says what it is about, and something of it"


def test_best_practices_name_what_is_there() -> None:
    said = (REPOSITORY / "docs" / "best_practices.md").read_text(encoding="utf-8")
    commands = [import_module(f"nsight_tools.cli.{module}").command for module in COMMANDS.values()]
    ours = {name for each in commands for param in each.params for name in param.opts}
    assert sorted(set(re.findall(r"--\w[\w-]*", said)) - ours) == []
    assert sorted(set(re.findall(r"\b[A-Z]{3}\d{3}\b", said)) - set(nsight_tools.registry())) == []
    rows = [line.strip("|").split("|") for line in said.splitlines() if line.startswith("|")]
    assert len(rows) > 100
    assert all(len(row) == 2 and all(cell.strip() for cell in row) for row in rows)


def test_each_of_nvidias_sections_that_a_rule_names_is_among_the_best_practices() -> None:
    said = (REPOSITORY / "docs" / "best_practices.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^#+ (.*)$", said, re.MULTILINE))
    named = {
        section
        for each in nsight_tools.registry().values()
        for quoted in re.findall(r'TensorRT Best\s+Practices,((?:[\s,]|and|"[^"]*")+)', each.doc)
        for section in re.findall(r'"([^"]*)"', " ".join(quoted.split()))
    }
    assert len(named) > 10
    assert sorted(named - sections) == []


def test_each_rule_serves_some_best_practice() -> None:
    said = (REPOSITORY / "docs" / "best_practices.md").read_text(encoding="utf-8")
    built_in = [each for each in nsight_tools.registry().values() if "nsight_analyses" in each.function.__module__]
    assert sorted(each.code for each in built_in if each.code not in said) == ["LCH008", "MEM002"]


def test_picture_shows_what_is_printed() -> None:
    picture = runpy.run_path(str(REPOSITORY / "docs" / "picture.py"))
    printed = "".join(Text.from_ansi(line).plain for line in picture["output"]())
    drawn = html.unescape("".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture["TARGET"].read_text("utf-8"))))
    # How many analyses there are, and which found nothing, changes with each new one.
    shown, there = (re.sub(r"\dof\d+analyses", "", "".join(part.split())) for part in (printed, drawn))
    assert shown.partition("Couldnotbejudged")[0] in there, "run: python docs/picture.py"
