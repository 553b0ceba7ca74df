"""Why a step would run: the readable difference between what it depends on now and what its last result did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dcase_seld.recipe.fingerprint import OutsideData
from dcase_seld.recipe.graph import Step
from dcase_seld.recipe.receipt import read_receipt

MOST = 6
_ABSENT = object()


def latest_result(results: Path, recipe: str, step: str, stage: str) -> dict[str, Any] | None:
    """Return the most recent receipt of a step of a recipe, or None."""
    latest: dict[str, Any] | None = None
    for folder in results.glob(f"{stage}-*"):
        receipt = read_receipt(folder)
        if receipt is None or receipt.get("recipe") != recipe or receipt.get("step") != step:
            continue
        if latest is None or receipt["finished"] > latest["finished"]:
            latest = receipt
    return latest


def difference(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    inputs: Mapping[str, list[str]],
    step: Step,
    outside: Mapping[Path, OutsideData],
) -> str:
    """Return what changed since a receipt: "epochs: 3 → 5; reads another 'dev'", or "" when nothing did.

    Args:
        before: the receipt of the earlier result.
        now: the identity of the result that is wanted.
        inputs: folder names that would be read, by field.
        step: the step as it is now.
        outside: what is known of the outside data.
    """
    then = before.get("identity", {})
    said = []
    if then.get("version") != now["version"]:
        said.append(f"the stage's version: {then.get('version')} → {now['version']}")
    old, new = dict(flatten(then.get("config", {}))), dict(flatten(now["config"]))
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if a == b:
            continue
        field = next((mark.name for mark in step.fields if key == mark.name or key.startswith(f"{mark.name}.")), "")
        if _is(a, "step:") and _is(b, "step:"):
            continue
        if _is(a, "outside:") and _is(b, "outside:"):
            said.append(_outside_change(field, before, step, outside))
        else:
            said.append(f"{key}: {_show(a)} → {_show(b)}")
    for field, folders in inputs.items():
        read = step.reads.get(field, ())
        if read and before.get("inputs", {}).get(field) != folders:
            said.append(f"{field}: another result of {', '.join(read)}")
    said = list(dict.fromkeys(said))
    return "; ".join(said[:MOST]) + (f"; and {len(said) - MOST} more" if len(said) > MOST else "")


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, leaf) of nested plain data; lists of plain values are leaves."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(item, (dict, list)) for item in tree):
        for index, value in enumerate(tree):
            yield from flatten(value, f"{prefix}.{index}")
    else:
        yield prefix, tree


def _outside_change(field: str, before: Mapping[str, Any], step: Step, outside: Mapping[Path, OutsideData]) -> str:
    entries = before.get("outside", {}).get(field, [])
    files, size = sum(e["files"] for e in entries), sum(e["bytes"] for e in entries)
    paths = step.outside.get(field, ())
    files_now, size_now = sum(outside[p].files for p in paths), sum(outside[p].size for p in paths)
    if (files, size) == (files_now, size_now):
        return f"{field}: the content of a file of {', '.join(p.name for p in paths)} changed"
    return f"{field}: {files:,} files, {size:,} bytes → {files_now:,} files, {size_now:,} bytes"


def _is(value: Any, prefix: str) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, str) and first.startswith(prefix)


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "(not there)"
    if _is(value, "step:"):
        return "a step's result"
    if _is(value, "outside:"):
        return "outside data"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"
