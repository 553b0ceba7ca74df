"""`dcase-seld report`, `runs`, `ensemble` and `clean`: what finished work is worth, and what is not used."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click
from pydantic import Field

from dcase_seld.cli import device_option, echo, named_file, own_place, plugin_option, work_option
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.files import follow
from dcase_seld.core.reading import Facts, read_json


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True,
              help="The page.")  # fmt: skip
@click.option("--examples", type=click.IntRange(0, 50), default=3, show_default=True,
              help="Best and worst clips shown.")  # fmt: skip
@click.option("--title", default="", help="Heading; the runs' names by default.")
@click.option("--about", default="", help="A sentence below the heading; the recipe's by default.")
@click.option("--ref", type=click.Path(path_type=Path), help="Reference CSVs, where a RUN is a folder of CSV files: "
              "a folder of them, or a corpus in the official layout, whose sound and videos are then "
              "shown.")  # fmt: skip
@click.option("--track", type=click.Choice(["a", "b"]), default="b", show_default=True, help="Of folders of CSV files.")
@click.option(
    "--task",
    type=click.Choice(["dcase2025", "dcase2024", "dcase2023"]),
    default="dcase2025",
    show_default=True,
    help="The edition that folders of CSV files are of (a recipe's runs know theirs).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["polar", "polar-cm", "cartesian"]),
    help="How CSV files of 2024 and 2023 are written, as for score.",
)
def report(
    runs: tuple[Path, ...],
    out: Path,
    examples: int,
    title: str,
    about: str,
    ref: Path | None,
    track: str,
    task: str,
    form: str | None,
) -> None:
    """Write one self-contained HTML page on one or more runs.

    RUN is a recipe's folder in the work directory (work/quickstart), the result of a score step
    (work/quickstart/score), or, with --ref, a folder of official CSV files, of any system. Further runs are compared
    with the first, clip by clip.
    """
    if out.is_dir():
        raise SeldError(f"{out} is a folder.", f"Give a file, e.g. --out {out / 'report.html'}.")
    from dcase_seld.report.gather import gather
    from dcase_seld.report.page import write_report

    named_file(out, "<title>SELD report: ", runs)
    found = gather(runs, ref, track, task, form)
    write_report(found, out, examples, title, about)
    echo(f"{out}  ({out.stat().st_size / 1e6:.1f} MB; {', '.join(run.name for run in found)})")


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        numbers = tuple(float(item) for item in value.split(","))
        if not (all(0 <= number <= 1e6 for number in numbers) and any(numbers)):
            raise ValueError
        return numbers
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no list of shares such as 1,1,0.5: from 0 to 1,000,000, not all of them 0"
        ) from None


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CKPT...")
@click.option("--data", type=click.Path(path_type=Path), help="Store, or a folder in the official layout, whose "
              "validation clips decide; without it nothing is tuned.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, callback=own_place,
              help="Folder of the ensemble.")  # fmt: skip
@plugin_option
@click.option("--weights", callback=_numbers, help="Share of each member, as 1,1,0.5.")
@click.option("--tta", type=click.Choice(["none", "swap", "rotate"]), default="none", show_default=True,
              help="swap: average with the left-right mirrored input; rotate: over 16 turns of the sphere "
              "(Ambisonics).")  # fmt: skip
@click.option("--select", type=click.Choice(["all", "greedy"]), default="all", show_default=True,
              help="greedy: add members while the validation score rises.")  # fmt: skip
@click.option("--soup", type=click.Choice(["none", "top", "all"]), default="none", show_default=True,
              help="Average weights: of each step's top/, or of all checkpoints.")  # fmt: skip
@click.option("--thresholds", type=click.Choice(["per-class", "common", "none"]), default="per-class",
              show_default=True, help="Activity thresholds that are tuned.")  # fmt: skip
@click.option("--criterion", type=click.Choice(["f_score", "f_score_onscreen"]), default="f_score", show_default=True)
@click.option("--split", type=click.Choice(["val", "train", "test", "eval"]), default="val", show_default=True,
              help="Clips to choose and tune on; test and eval are refused.")  # fmt: skip
@click.option("--tokens", multiple=True, type=click.Path(path_type=Path), help="Folder of an embed step (repeat).")
@device_option
@click.option("--quiet", is_flag=True, help="No live progress.")
def ensemble(
    checkpoints: tuple[Path, ...],
    data: Path | None,
    out: Path,
    tokens: tuple[Path, ...],
    device: str,
    quiet: bool,
    **options: Any,
) -> None:
    """Average several checkpoints, and tune the ensemble on validation data.

    Members may be of different architectures and tracks; their tracks are aligned per frame and class before they are
    averaged. The folder OUT can be given wherever a checkpoint is wanted.
    """
    if options["split"] in ("test", "eval"):
        raise SeldError(
            f"--split {options['split']}: an ensemble that is tuned on the clips it will be judged by proves nothing.",
            "Tune on val; make a store with held-out rooms (prepare, split) if there is no validation split.",
        )
    from dcase_seld.core.config import find_network, parse_config
    from dcase_seld.core.files import refuse_folder
    from dcase_seld.infer.devices import single_device
    from dcase_seld.infer.ensemble import is_unfinished, make_ensemble
    from dcase_seld.infer.settings import EnsembleConfig
    from dcase_seld.stages.data import store_of

    if data is None:
        options |= {"select": "all", "thresholds": "none"}
    refuse_folder(out, is_unfinished(out), "an ensemble, or other files")
    config = parse_config(EnsembleConfig, options, "The command")
    out.mkdir(parents=True, exist_ok=True)
    try:
        facts = make_ensemble(
            config,
            [find_network(folder) for folder in checkpoints],
            None if data is None else store_of(data, out / ".store", quiet),
            out,
            tokens=tokens,
            device=single_device(device),
            quiet=quiet,
        )
    except BaseException:  # what is half made stands in nobody's way; a prepared store is kept for the next attempt
        shutil.rmtree(out / "members", ignore_errors=True)
        if not any(out.iterdir()):
            out.rmdir()
        raise
    _show(facts, checkpoints, out)


def _show(facts: dict[str, Any], checkpoints: tuple[Path, ...], out: Path) -> None:
    """Print the members, their validation scores and what was tuned."""
    scores = facts["scores"]
    if scores:
        echo(f"{scores['criterion']} on {facts['tuned_clips']} {scores['split']} clips (in %):")
        names = [str(path) for path in checkpoints] if len(scores["single"]) == len(checkpoints) else ["soup"]
        for name, score in zip(names, scores["single"], strict=False):
            echo(f"  {100 * score:5.1f}  {name}")
        echo(f"  {100 * scores['average']:5.1f}  average")
        if "tuned" in scores:
            echo(f"  {100 * scores['tuned']:5.1f}  with tuned thresholds (flattered: these clips chose them)")
    echo(
        f"{facts['members']} member(s), {facts['parameters']:,} parameters, tta {facts['tta']}, unify "
        f"{facts['unify_deg']:.0f}°, distances × {facts['distance_scale']:.2f}, thresholds "
        f"{', '.join(f'{limit:.2f}' for limit in facts['thresholds'])}"
    )
    echo(str(out))


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option("--sort", type=click.Choice(["name", "score", "time"]), default="score", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def runs(folders: tuple[Path, ...], sort: str, as_json: bool) -> None:
    """Compare finished training runs in one table.

    FOLDERS are work directories (default: ./work), recipes' folders there, or train steps. Scores are those of the best
    epoch on the validation clips; "differs" names the settings of a run that are not what most of the others use.
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
        echo(json.dumps([{key: run[key] for key in run if key != "settings"} for run in found], indent=1))
    else:
        _print_table(found)
        for folder in places:
            if (folder / "tensorboard").is_dir():
                echo(f"Curves: tensorboard --logdir {folder / 'tensorboard'}")


class TrainingJson(Facts):
    """What the table of trainings needs of a summary.json."""

    val: dict[str, float | None]
    criterion: str
    seconds: float = Field(ge=0, allow_inf_nan=False)
    parameters: int
    epochs: int
    best_epoch: int = 0
    clips_per_second: float = Field(default=0, allow_inf_nan=False)


def find_runs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what each finished training in a folder says of itself, its name under "run", settings under "settings".

    A result that links lead to (work/RECIPE/STEP) is named by its first link.
    """
    from dcase_seld.recipe.results import is_link

    linked = {follow(place): place.name for place in sorted(folder.iterdir()) if is_link(place)}
    names, results = {one.resolve(): name for one, name in linked.items()}, list[Path]()
    for root, directories, files in chain.from_iterable(map(os.walk, (folder, *linked))):
        here = Path(root)
        for name in sorted(directories):
            path = here / name
            if path.is_symlink():
                names.setdefault(path.resolve(), os.path.relpath(path, folder))
        if {"summary.json", "epochs.csv"} <= set(files):
            results.append(here)
            directories.clear()
        directories[:] = sorted(name for name in directories if not (here / name).is_symlink())
    for result in sorted(results):
        summary = read_json(result / "summary.json", TrainingJson, "Remove that folder.")
        own = os.path.relpath(result, folder) if result != folder else folder.name
        yield {"run": names.get(result.resolve(), own), "folder": str(result), **summary, "settings": _settings(result)}


def _settings(result: Path) -> dict[str, Any]:
    """Return the flat settings in a step's receipt, if it has one."""
    try:
        config = read_json(result / "receipt.json")["config"]
    except (SeldError, KeyError):
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

    from dcase_seld.core.errors import shown as escaped
    from dcase_seld.report.run import brief_figures

    # Names and settings are long: they follow below, by the number of the row, so that 80 columns are enough.
    table = Table(box=None, header_style="bold", pad_edge=False)
    shown = [brief_figures(run["val"]) for run in found]
    headings = list(dict.fromkeys(heading for one in shown for heading in one))
    for heading in ("", "epochs", *headings, "parameters", "clips/s", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, run in enumerate(found, 1):
        seconds = int(run["seconds"])
        table.add_row(
            str(number),
            f"{run.get('best_epoch', 0)}/{run['epochs']}",
            *(shown[number - 1].get(heading, "–") for heading in headings),
            f"{run['parameters']:,}",
            f"{run.get('clips_per_second', 0):,.0f}",
            f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
        )
    names = Table(box=None, header_style="bold", pad_edge=False)
    names.add_column("", justify="right", no_wrap=True)
    names.add_column("run, and in what it differs", overflow="fold")
    for number, run in enumerate(found, 1):
        differs = ", ".join(f"{key} {json.dumps(value)}" for key, value in run["differs"].items())
        names.add_row(str(number), escaped(run["run"] + (f"\n  {differs}" if differs else "")))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print()
    console.print(names)
    console.print("\nScores: validation clips, each training's best epoch by them; test scores are those of `score`.")


@click.command()
@work_option
@click.option("--forget", "recipe", metavar="NAME", help="First give up the recipe NAME: its results count as unused.")
@click.option("--yes", is_flag=True, help="Remove what is listed.")
def clean(work: Path, recipe: str | None, yes: bool) -> None:
    """List the results under WORK that no recipe uses any more.

    In use is what WORK/<recipe>/<step> leads to, and everything that was made from, unfinished results included.
    Nothing is removed without --yes.
    """
    from dcase_seld.recipe.results import forget, leftovers, remove

    if not work.is_dir():
        raise SeldError(f"There is no work directory {work}.", "Give it with --work.")
    if recipe is not None:
        echo(f"gave up {forget(work, recipe)} links of {recipe}")
    found = leftovers(work)
    for item in found:
        echo(f"{item.size / 1e6:10,.1f} MB  {item.folder.name}  {item.step or '(unfinished)'}")
    total = sum(item.size for item in found) / 1e6
    if yes:
        remove(found)
        echo(f"removed {len(found)} results, {total:,.1f} MB")
    else:
        echo(f"{len(found)} unused results, {total:,.1f} MB" + ("; --yes removes them" if found else ""))
