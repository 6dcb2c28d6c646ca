"""Whether an import writes what it wrote before a change: every table value by value, and the manifest.

    python tests/benchmarks/same_import.py CHECKOUT EXPORT [EXPORT ...]

CHECKOUT is a folder with the code before the change (`git worktree add`, or an unpacked `git archive`). Each export is
copied, imported by that code and by the code beside this script, and the two datasets are compared. Which rows make a
row group, how values are encoded, and in which order a dictionary lists its words, is not compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parents[2]
IMPORT = "import sys; from nsight_tools import import_report; import_report(sys.argv[1], sys.argv[2])"


def imported(code: Path, export: Path, folder: Path) -> Path | str:
    """The dataset that `code` makes of `export`, or the last line of its error."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(code), str(code / "analyses")])}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(export), str(folder)],
        env=environment,
        cwd=code,
        capture_output=True,
        text=True,
        check=False,
    )
    return folder / f"{export.name}.trace" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def plain(table: pa.Table) -> pa.Table:
    """`table` with words in place of codes, in one piece."""
    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns]
    return pa.table(columns, names=table.column_names).combine_chunks()


def differences(before: Path, after: Path) -> list[str]:
    """What differs between two datasets; none where they are the same."""
    found = []
    files = sorted({path.name for folder in (before, after) for path in folder.iterdir()})
    for name in files:
        if not (before / name).exists() or not (after / name).exists():
            found.append(f"{name} is in one only")
        elif name.endswith(".parquet"):
            old, new = (pq.read_table(folder / name) for folder in (before, after))
            if not old.schema.equals(new.schema, check_metadata=True):
                found.append(f"{name} has another schema")
            elif not plain(old).equals(plain(new)):
                apart = [column for column in old.column_names if not plain(old)[column].equals(plain(new)[column])]
                found.append(f"{name} differs in {', '.join(apart)} ({old.num_rows} and {new.num_rows} rows)")
        else:
            old, new = (json.loads((folder / name).read_text("utf-8")) for folder in (before, after))
            found += [f"{name} differs in {key}" for key in sorted(old | new) if old.get(key) != new.get(key)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=Path, help="the code before the change")
    parser.add_argument("exports", type=Path, nargs="+")
    arguments = parser.parse_args()
    failed = 0
    for export in arguments.exports:
        with tempfile.TemporaryDirectory() as scratch:
            copied = Path(scratch) / export.name
            shutil.copy2(export, copied)  # where nothing stands beside it
            before, after = (
                imported(code, copied, Path(scratch) / name)
                for name, code in (("before", arguments.checkout.resolve()), ("after", HERE))
            )
            if isinstance(before, Path) and isinstance(after, Path):
                found = differences(before, after)
            else:
                found = [] if str(before) == str(after) else [f"before: {before}", f"after: {after}"]
        failed += bool(found)
        what = "; ".join(found) or ("the same" if isinstance(before, Path) else f"the same error: {before}")
        print(f"{export.name}: {what}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
