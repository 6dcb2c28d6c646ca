"""A folder takes another one's place: whoever looks finds one of the two, whole."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from nsight_tools import files

if TYPE_CHECKING:
    from pathlib import Path


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("exchange", [True, False])
def test_what_was_there_is_replaced_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    target = tmp_path / "target"
    for content in ("first", "second"):
        files.put_in_place(folder(tmp_path / "new", content), target)
        assert (target / "file").read_text(encoding="utf-8") == content
        assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_it_is_there_at_every_moment(tmp_path: Path) -> None:
    target = folder(tmp_path / "target", "0")
    missed, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            if not (target / "file").exists():
                missed.append(1)

    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(200):
        files.put_in_place(folder(tmp_path / "new", str(number)), target)
    done.set()
    watcher.join()
    assert missed == []


def test_what_was_there_comes_back_where_the_new_one_cannot_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    target = folder(tmp_path / "target", "old")
    with pytest.raises(FileNotFoundError):
        files.put_in_place(tmp_path / "missing", target)
    assert (target / "file").read_text(encoding="utf-8") == "old"
