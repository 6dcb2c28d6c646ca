"""The timing cache of a build: what it held, and what had to be timed all the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .outcome import Failure, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from .outcome import Result

_SERIALIZED = re.compile(r"Serialized (\d+) timing cache entries")


class TimingCache:
    """The cache of a file, or an empty one where there is none, or TensorRT takes it for another GPU's or version's.

    With `required` both are failures: then nothing would be found in it.
    """

    def __init__(self, config: Any, path: Path, result: Result, *, required: bool) -> None:
        self._path, self._log = path, result.log
        content = _read(path)
        if content is None and required:
            raise _refused(path, "there is no timing cache, so that every tactic would be missing in it")
        self._cache = config.create_timing_cache(content or b"")
        self.fresh = content is None
        if self._cache is None or not config.set_timing_cache(self._cache, ignore_mismatch=False):
            if required:
                raise _refused(path, "the timing cache is of another GPU or TensorRT")
            result.log.append(f"[W] timing cache {path} is of another GPU or TensorRT: started afresh")
            self.fresh = True
            self._cache = config.create_timing_cache(b"")
            config.set_timing_cache(self._cache, ignore_mismatch=False)
        self._before = 0 if self.fresh else self._serialized()[1]

    def _serialized(self) -> tuple[Any, int | None]:
        """The cache's content, and how many tactics' times it holds, which TensorRT logs; null where it does not.

        `ITimingCache.queryKeys` came for caches that can be edited; what it tells of others is not documented.
        """
        lines = len(self._log)
        content = self._cache.serialize()
        told = next((match for line in self._log[lines:] if (match := _SERIALIZED.search(line))), None)
        return content, int(told[1]) if told else None

    def write(self) -> dict[str, Any]:
        """Write the file; what the build found in it, and what it missed.

        Hits are known where there was nothing to find. TensorRT counts what it adds to a cache, not what it reads.
        """
        content, after = self._serialized()
        write_atomically(self._path, memoryview(content))
        misses = None if after is None or self._before is None else after - self._before
        return {
            "file": str(self._path),
            "fresh": self.fresh,
            "entries_before": self._before,
            "entries_after": after,
            "misses": misses,
            "hits": 0 if self._before == 0 else None,
        }


def _refused(path: Path, what: str) -> Failure:
    hint = "build once without --error-on-timing-cache-miss, on this GPU, to fill it"
    return Failure(what, where=str(path), hint=hint)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"cannot be read: {error.strerror}", where=str(path), hint="check the path") from error
