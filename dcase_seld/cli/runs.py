"""`dcase-seld runs`: finished trainings side by side."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from dcase_seld.core.errors import SeldError, listing


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option("--sort", type=click.Choice(["name", "score", "time"]), default="score", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def runs(folders: tuple[Path, ...], sort: str, as_json: bool) -> None:
    """Compare finished training runs in one table.

    FOLDERS are work directories, or folders of train steps (default: ./work). Scores are those of the best epoch on the
    validation clips; "differs" names the settings of a run that are not what most of the others use.
    """
    places = folders or (Path("work"),)
    missing = [folder for folder in places if not folder.is_dir()]
    if missing:
        raise SeldError(f"There is no folder {listing(missing)}.", "Name a work directory or folders of train steps.")
    found = [run for folder in places for run in find_runs(folder)]
    if not found:
        raise SeldError(f"There is no finished training in {listing(places)}.", "Run a recipe with a train step first.")
    _add_differences(found)
    keys = {
        "name": lambda run: run["run"],
        "score": lambda run: -(run["val"].get(run["criterion"]) or -1.0),
        "time": lambda run: run["seconds"],
    }
    found.sort(key=keys[sort])
    if as_json:
        click.echo(json.dumps([{key: run[key] for key in run if key != "settings"} for run in found], indent=1))
    else:
        _print_table(found)


def find_runs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what each finished training in a folder says of itself, its name under "run", settings under "settings".

    A result that links lead to (work/RECIPE/STEP) is named by its first link.
    """
    names: dict[Path, str] = {}
    results: list[Path] = []
    for root, directories, files in os.walk(folder):
        here = Path(root)
        for name in sorted(directories):
            path = here / name
            if path.is_symlink():
                names.setdefault(path.resolve(), str(path.relative_to(folder)))
        if {"summary.json", "epochs.csv"} <= set(files):
            results.append(here)
            directories.clear()
        directories[:] = sorted(name for name in directories if not (here / name).is_symlink())
    for result in sorted(results):
        try:
            summary = json.loads((result / "summary.json").read_text(encoding="utf-8"))
            summary["val"], summary["criterion"], summary["seconds"], summary["parameters"], summary["epochs"]
        except (OSError, ValueError, KeyError) as error:
            raise SeldError(f"{result / 'summary.json'} cannot be read ({error}).", "Remove that folder.") from error
        own = str(result.relative_to(folder)) if result != folder else folder.name
        yield {"run": names.get(result.resolve(), own), "folder": str(result), **summary, "settings": _settings(result)}


def _settings(result: Path) -> dict[str, Any]:
    """Return the flat settings in a step's receipt, if it has one."""
    try:
        config = json.loads((result / "receipt.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError):
        return {}
    flat: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        else:
            flat[path] = value

    walk(config, "")
    return flat


def _add_differences(found: list[dict[str, Any]]) -> None:
    """Give every run, under "differs", its settings that are not what most of the runs that have them use."""
    keys = sorted({key for run in found for key in run["settings"]})
    for run in found:
        run["differs"] = {}
    for key in keys:
        having = [run for run in found if key in run["settings"]]
        counts = Counter(json.dumps(run["settings"][key]) for run in having)
        if len(counts) < 2:
            continue
        (usual, times), (_, second), *_ = counts.most_common()
        for run in having:
            # Where no value is more usual than the others, all are shown.
            if json.dumps(run["settings"][key]) != usual or times == second:
                run["differs"][key] = run["settings"][key]


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from dcase_seld.report.gather import brief_figures

    # Names and settings are long: they follow below, by the number of the row, so that 80 columns are enough.
    table = Table(box=None, header_style="bold", pad_edge=False)
    shown = [brief_figures(run["val"]) for run in found]
    for heading in ("", "epochs", *shown[0], "parameters", "clips/s", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, run in enumerate(found, 1):
        seconds = int(run["seconds"])
        table.add_row(
            str(number),
            f"{run.get('best_epoch', 0)}/{run['epochs']}",
            *shown[number - 1].values(),
            f"{run['parameters']:,}",
            f"{run.get('clips_per_second', 0):,.0f}",
            f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
        )
    names = Table(box=None, header_style="bold", pad_edge=False)
    names.add_column("", justify="right", no_wrap=True)
    names.add_column("run, and in what it differs", overflow="fold")
    for number, run in enumerate(found, 1):
        differs = ", ".join(f"{key} {json.dumps(value)}" for key, value in run["differs"].items())
        names.add_row(str(number), run["run"] + (f"\n  {differs}" if differs else ""))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print()
    console.print(names)
