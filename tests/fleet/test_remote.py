"""URLs: what fsspec reads and writes, against a server that is like S3, and in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import fsspec
import pytest
from fleet.test_analyze_many import FEW, analyze
from fleet.test_runners import environment

from nsight_tools.errors import InputError, NsightToolsError
from nsight_tools.fleet import remote
from nsight_tools.fleet.members import expanded, labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def s3(ranks: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """The URL of a bucket with two ranks, and what stops it and says what it holds.

    Whatever is started finds its server by the environment.
    """
    pytest.importorskip("moto")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    command = [sys.executable, "-m", "fleet.s3_server", str(ranks(2))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def held() -> list[str]:
            stdin.close()
            return stdout.read().decode().split()

        address = server.stdout.readline().decode().strip()
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield "s3://bucket", held
        stdin.close()


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder in memory that no other test sees."""
    fs, folder = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    yield f"memory:/{folder}"
    fs.rm(folder, recursive=True)


def write(url: str, content: bytes = b"") -> None:
    with fsspec.open(url, "wb") as file:
        file.write(content)


def test_reports_of_a_bucket_and_results_into_it(cache: Path, s3: tuple[str, Callable[[], list[str]]]) -> None:
    bucket, held = s3
    few = (*FEW, "--jobs", 1, "--dataset", f"{bucket}/fleet")
    there = analyze(f"{bucket}/run/*.sqlite", *few, "--format", "markdown").stdout
    assert there.startswith("## nsight-tools: many reports\n\n**2 reports**\n")
    # A second time what was fetched is used again, and the dataset replaced.
    made = {path: path.stat().st_mtime_ns for path in cache.rglob("*.parquet")}
    assert made
    analyze(f"{bucket}/run", *few, "-o", f"{bucket}/fleet.txt")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.parquet")} == made
    written = {"reports.parquet", "findings.parquet", "api_calls/report=rank0/part-0.parquet"}
    assert {f"fleet/{name}" for name in written} | {"fleet.txt"} <= set(held())


def test_what_changed_is_fetched_again(cache: Path, memory: str) -> None:
    write(f"{memory}/rank0.sqlite", b"one")
    write(f"{memory}/rank0.layers.json", b"[]")
    first = remote.fetched(f"{memory}/rank0.sqlite")
    assert (first.name, first.read_bytes()) == ("rank0.sqlite", b"one")
    assert (first.parent / "rank0.layers.json").read_bytes() == b"[]"
    first.with_name("made_of_it").touch()
    assert remote.fetched(f"{memory}/rank0.sqlite") == first
    assert first.with_name("made_of_it").exists()
    write(f"{memory}/rank0.sqlite", b"other")
    assert remote.fetched(f"{memory}/rank0.sqlite").read_bytes() == b"other"
    assert not first.with_name("made_of_it").exists()
    assert [path.name for path in (cache / "nsight-tools" / "fetched").iterdir()] == [first.parent.name]


@pytest.mark.usefixtures("cache")
def test_a_run_directory_is_fetched_whole(memory: str) -> None:
    for name in ("run.json", "report.sqlite", "deep/file"):
        write(f"{memory}/model.capture/{name}", name.encode())
    here = remote.fetched(f"{memory}/model.capture")
    assert here.name == "model.capture"
    assert sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()) == [
        *("deep/file", "report.sqlite", "run.json"),
    ]


def test_a_folder_and_a_pattern_name_what_is_there(memory: str) -> None:
    for name in ("rank0.nsys-rep", "rank1.sqlite", "notes.md", "x.capture/run.json"):
        write(f"{memory}/{name}")
    labels = [each.label for each in labelled(expanded(memory))]
    assert labels == ["rank0", "rank1", "x"]
    assert [each.label for each in labelled(expanded(f"{memory}/rank*"))] == ["rank0", "rank1"]
    write(f"{memory}/runs.txt", b"rank1.sqlite\t9\n")
    assert [each.label for each in labelled(expanded(f"{memory}/runs.txt"))] == ["rank9"]
    with pytest.raises(InputError, match="names no report"):
        expanded(f"{memory}/*.qdrep")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://nothing/rank0.sqlite", "does not exist"),
        ("nonsense://bucket/rank0.sqlite", "cannot be opened: Protocol not known: nonsense"),
        ("s3:///", "cannot be"),
    ],
)
def test_what_cannot_be_read_is_an_error_about_its_url(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        remote.fetched(url)
    assert str(raised.value).startswith(url)


def test_without_fsspec_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(NsightToolsError, match=r"takes fsspec; pip install 'nsight-tools\[remote\]'"):
        remote.fetched("memory://x/rank0.sqlite")


def test_nothing_half_fetched_is_left(cache: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"{memory}/rank0.sqlite", b"one")

    def torn(*_: object, **__: object) -> None:
        raise ConnectionResetError(104, os.strerror(104))

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "get_file", torn)
    with pytest.raises(InputError, match="cannot be read: Connection reset by peer"):
        remote.fetched(f"{memory}/rank0.sqlite")
    assert list((cache / "nsight-tools" / "fetched").iterdir()) == []
