"""Run the notebooks on copies of the sample traces, and keep in them what they print: for readers on the web.

    python analyses/notebooks/keep_outputs.py            # all of them
    python analyses/notebooks/keep_outputs.py first_look_at_a_trace

What is kept is scrubbed: no numbers of executions, no times of cells, no paths of this machine; figures are small PNGs.
The test of the notebooks says which of them print something else by now.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import shutil
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent.parent / "sample_traces"
COLOURS = 48
"""Of a figure: lines and text lose nothing, and a figure takes a third."""
AS_PNG = """
from io import BytesIO
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

def _png(figure):
    FigureCanvasAgg(figure)
    kept = BytesIO()
    figure.savefig(kept, format="png", dpi=110, facecolor="white")
    return kept.getvalue()

get_ipython().display_formatter.formatters["image/png"].for_type(Figure, _png)
get_ipython().display_formatter.formatters["image/svg+xml"].enabled = False
"""
"""A cell before all others: the web shows PNGs everywhere, and SVGs not everywhere."""
KINDS = ("image/png", "text/plain", "text/html")
"""What is kept of an output."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_STYLE = re.compile(r"<style scoped>.*?</style>\s*", re.DOTALL)


def executed(notebook: Path) -> nbformat.NotebookNode:
    """The notebook with what it prints on the sample traces, scrubbed."""
    book = nbformat.read(notebook, as_version=4)
    setup = nbformat.v4.new_code_cell(AS_PNG)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "analyses" / "notebooks"
        folder.mkdir(parents=True)
        shutil.copytree(SAMPLES, Path(scratch) / "sample_traces", ignore=shutil.ignore_patterns("*.trace*"))
        book.cells.insert(0, setup)
        NotebookClient(book, timeout=600, kernel_name="python3", coalesce_streams=True).execute(cwd=str(folder))
        book.cells.remove(setup)
        for cell in book.cells:
            cell.metadata = {}
            if cell.cell_type == "code":
                cell.execution_count = None
                cell.outputs = [scrubbed(each, scratch) for each in cell.outputs]
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return book


def scrubbed(output: nbformat.NotebookNode, folder: str) -> nbformat.NotebookNode:
    """An output without what changes from run to run, or belongs to this machine."""
    if output.output_type == "stream":
        output.text = output.text.replace(folder, "")
        return output
    output.metadata = {}
    if "execution_count" in output:
        output.execution_count = None
    data = {kind: output.data[kind] for kind in KINDS if kind in output.data}
    if "image/png" in data:
        data = {"image/png": _small(data["image/png"]), "text/plain": "<Figure>"}
    for kind in ("text/plain", "text/html"):
        if kind in data:
            data[kind] = _STYLE.sub("", _ADDRESS.sub("", data[kind].replace(folder, "")))
    output.data = data
    return output


def _small(png: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(COLOURS)
    kept = io.BytesIO()
    image.save(kept, format="PNG", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


def main() -> None:
    """Write the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names
    for notebook in sorted(HERE.glob("*.ipynb")):
        if not names or notebook.stem in names:
            nbformat.write(executed(notebook), notebook)
            print(f"{notebook.name}: {notebook.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
