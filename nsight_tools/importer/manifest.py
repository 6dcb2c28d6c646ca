"""A dataset's manifest, as it is read: checked, since anybody can have written it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nsight_tools.errors import DatasetError
from nsight_tools.tables import DATASET_VERSION

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
STATUSES = ("present", "empty", "not_collected")

_TEXT, _WHOLE, _NUMBER = (str, type(None)), (int, type(None)), (int, float, type(None))
_KINDS: dict[str, tuple[type, ...]] = {"nsys": _TEXT, "system": _TEXT, "capture": _TEXT, "session": _WHOLE}
"""Parts of the manifest, and of what kind each of their values is."""


def read_manifest(dataset: Path) -> dict[str, Any]:
    """The manifest of a dataset. Raises DatasetError where it is missing, damaged or of another version."""
    path = dataset / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["dataset_version"]
        manifest["tables"].items(), manifest["source"]["name"]
    except OSError as error:
        raise DatasetError(
            f"{dataset}: is no dataset: {MANIFEST}: {error.strerror}", hint="import the report again"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{path}: is damaged", hint="import the report again with --force") from error
    if version != DATASET_VERSION:
        raise DatasetError(
            f"{dataset}: is of dataset version {version}, and this tool reads version {DATASET_VERSION}",
            hint="import the report again",
        )
    if (part := _wrong_part(manifest)) is not None:
        raise DatasetError(
            f"{path}: is damaged: no import wrote its {part}", hint="import the report again with --force"
        )
    return manifest


def _wrong_part(manifest: dict[str, Any]) -> str | None:
    """A part of a manifest that is not of the kind that an import writes."""
    for part, kinds in _KINDS.items():
        if not _is_mapping(manifest.get(part, {}), kinds):
            return part
    source, by_order = manifest["source"], manifest.get("layers_by_order")
    names = (source.get("name"), source.get("captured_by") or "", source.get("inference_range") or "")
    if not all(isinstance(name, str) for name in names):
        return "source"
    if not (
        isinstance(manifest.get("run"), (dict, type(None))) and isinstance(manifest.get("clock"), (dict, type(None)))
    ):
        return "run"
    if by_order is not None and not (
        isinstance(by_order, dict)
        and _is_mapping({name: value for name, value in by_order.items() if name != "attributed"}, _NUMBER)
        and _is_mapping(by_order.get("attributed"), (int,))
    ):
        return "layers_by_order"
    return next((f"table {name}" for name, state in manifest["tables"].items() if not _is_state(state)), None)


def _is_mapping(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, dict) and all(isinstance(item, kinds) for item in value.values())


def _is_state(state: object) -> bool:
    if not isinstance(state, dict):
        return False
    rows, reason = state.get("rows"), state.get("reason", "")
    return (
        type(rows) is int
        and rows >= 0
        and state.get("status") in STATUSES
        and (reason is None if rows else isinstance(reason, (str, type(None))) and "reason" in state)
        and isinstance(state.get("remedy", ""), str)
    )
