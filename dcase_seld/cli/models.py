"""`dcase-seld models`, the frozen models and where they come from, and `model-summary`, what a network is made of."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcase_seld.cli import (
    Commands,
    answer,
    complete_recipe,
    complete_step,
    echo,
    named_file,
    own_place,
    plugin_option,
    set_option,
)
from dcase_seld.core.classes import load_taxonomy
from dcase_seld.core.errors import SeldError, listing, near_names
from dcase_seld.core.task import Task, load_task
from dcase_seld.core.work import say
from dcase_seld.pretrained.catalogue import KNOWN_MODELS, cache_folder, pulled_others
from dcase_seld.pretrained.fetch import check_model, pull_model, wanted_model

if TYPE_CHECKING:
    from dcase_seld.model.summary import Summary


@click.group(cls=Commands)
def models() -> None:
    """List, fetch and check pre-trained models; make models with random weights for trials."""


@models.command("list")
@click.option("--kind", help="Only this kind: clap, vision, pose, ….")
def list_models(kind: str | None) -> None:
    """Show every known model: licence, size, whether it is there, what for, from where."""
    for model in KNOWN_MODELS:
        if kind not in (None, model.kind):
            continue
        state = check_model(model, contents=False).state
        echo(f"{model.name:20} {model.kind:8} {state:8} {model.size_bytes / 1e6:7,.0f} MB  {model.licence}")
        echo(f"{'':20} {model.about}\n{'':20} {model.source}")
    for name in pulled_others() if kind is None else ():
        echo(f"{name:20} {'pulled besides; check it with: dcase-seld models check ' + name}")
    echo(f"cache: {cache_folder()} (set DCASE_SELD_CACHE to move it)")


@models.command()
@click.argument("names", nargs=-1, required=True)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def pull(names: tuple[str, ...], quiet: bool) -> None:
    """Fetch known models, or any model OWNER/NAME of the model hub, into the cache."""
    failed = []
    for model in [wanted_model(name) for name in names]:
        say(f"{model.name}: {model.source}, licence {model.licence}, about {model.size_bytes / 1e6:,.0f} MB")
        try:
            echo(pull_model(model, quiet))
        except SeldError as error:
            if len(names) == 1:
                raise
            echo(f"error: {error}", err=True)
            failed.append(model.name)
    if failed:
        again = f"`dcase-seld models pull {' '.join(failed)}` tries them again."
        raise SeldError(f"{len(failed)} of {len(names)} models could not be fetched (see above).", again)


@models.command()
@click.argument("names", nargs=-1)
def check(names: tuple[str, ...]) -> None:
    """Compare pulled models with the checksums of their pull: the NAMES given, or all that are there.

    Exit status 1 where a named model is missing, or one is broken.
    """
    bad = False
    for name in names or [*(model.name for model in KNOWN_MODELS), *pulled_others()]:
        model = wanted_model(name)
        found = check_model(model)
        bad = bad or found.state == "broken" or (found.state == "missing" and bool(names))
        echo(f"{model.name:20} {found.state:8} {found.size_bytes / 1e6:7,.0f} MB  {found.folder}")
        for problem in found.problems:
            echo(f"{'':20} {problem}")
        if found.state in ("missing", "broken") and names:
            echo(f"{'':20} fetch it with: dcase-seld models pull {model.name}")
    if bad:
        sys.exit(1)


@models.command("make-random")
@click.argument("kind", type=click.Choice(["clap", "owlvit"]))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), callback=own_place)
@click.option("--tiny/--full", default=True, help="A tiny network (default), or one of the real size.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Seed of the weights.")
def make_random(kind: str, folder: Path, tiny: bool, seed: int) -> None:
    """Write a model with RANDOM weights to FOLDER, for trying the pipeline without a download.

    It is marked so, every receipt that it touches says so, and no submission is packaged from it.
    """
    from dcase_seld.pretrained.transformers_models import make_random_model

    make_random_model(kind, folder, tiny, seed)
    say("warning: these weights are random; what they say means nothing.")
    echo(folder)


@click.command("model-summary")
@click.argument("source", metavar="RECIPE|MODEL", type=click.Path(path_type=Path), shell_complete=complete_recipe)
@plugin_option
@click.option("--step", "wanted", multiple=True, shell_complete=complete_step,
              help="Only this train step of the recipe (may be repeated).")  # fmt: skip
@set_option
@click.option("--batch", type=click.IntRange(1, 65_536), help="Clips of the training step.  [default: the "
              "step's batch_size, or 8]")  # fmt: skip
@click.option("--depth", type=click.IntRange(1, 8), default=3, show_default=True, help="Levels of modules to list.")
@click.option("--video-frames", type=click.IntRange(1), default=5, show_default=True,
              help="Video frames of a 5-s clip.")  # fmt: skip
@click.option("--video-tokens", type=click.IntRange(1), default=577, show_default=True, help="Tokens per video frame.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the numbers to this file; -: "
              "print them as JSON.")  # fmt: skip
def model_summary(
    source: Path,
    wanted: tuple[str, ...],
    overrides: tuple[str, ...],
    batch: int | None,
    depth: int,
    video_frames: int,
    video_tokens: int,
    json_file: Path | None,
) -> None:
    """Show the networks of a RECIPE's train steps, or the one in a trained MODEL's folder.

    Steps with the same network are shown once. Multiply-adds count matrix products and convolutions of one clip,
    without the front end's Fourier transforms. Memory is that of one training step in float32: weights, gradients,
    AdamW's two moments, and the activations that the backward pass needs.
    """
    from dcase_seld.model.summary import summarise

    named_file(json_file, r'\A\{\s*"[^"]*":\s*\{\s*"layers": \[', (source,))
    written: dict[str, Any] = {}
    for name, config, task, clips in _networks(source, wanted, overrides):
        summary = summarise(
            config, task, clips=batch or clips, video_frames=video_frames, tokens_per_frame=video_tokens, depth=depth
        )
        if str(json_file) != "-":
            _print(name, summary)
        written[name] = {**asdict(summary), "training_bytes": summary.training_bytes}
    answer("", written, json_file)


def _networks(source: Path, wanted: tuple[str, ...], overrides: tuple[str, ...]) -> list[tuple[str, Any, Task, int]]:
    """Return (names of steps, model configuration, task, batch size) of every different network of a source."""
    from dcase_seld.model.config import parse_model_config

    if source.is_dir():
        from dcase_seld.model.weights import FACTS_FILE, read_facts

        folder = source if (source / FACTS_FILE).exists() or not (source / "best").is_dir() else source / "best"
        about = read_facts(folder)
        config = parse_model_config(about["config"], str(folder / FACTS_FILE))
        return [(str(source), config, Task.from_json(about["task"]), 8)]
    from dcase_seld.recipe.load import load_recipe

    recipe = load_recipe(source, overrides)
    steps = {name: data for name, data in recipe.steps.items() if data.get("stage") == "train"}
    unknown = [name for name in wanted if name not in steps]
    if unknown or not steps:
        raise SeldError(
            f"{source} has no train step {listing(unknown)}." if unknown else f"{source} has no train step.",
            near_names(unknown[0] if unknown else "", steps),
        )
    found: dict[tuple[str, ...], tuple[str, Any, Task, int]] = {}
    for name, data in steps.items():
        if wanted and name not in wanted:
            continue
        config = parse_model_config(data.get("model", {}), f"{source}, step {name}")
        task = _task(recipe.steps, data, source)
        clips = data.get("batch_size", 8)
        clips = clips // data.get("accumulate", 1) if isinstance(clips, int) else 8
        key = (config.model_dump_json(), str(task))
        label = f"{found[key][0]}, {name}" if key in found else name
        found[key] = (label, config, task, max(1, clips))
    return list(found.values())


def _task(steps: dict[str, dict[str, Any]], train: dict[str, Any], source: Path) -> Task:
    """Return the task of the data that a train step reads, as far as the recipe says it."""
    names = train.get("data", [])
    for name in [names] if isinstance(names, str) else names:
        step = steps.get(name, {})
        task = load_task(str(step.get("task", "dcase2025")), window_s=step.get("window_s"))
        given = step.get("taxonomy")
        if isinstance(given, str):
            path = Path(given)
            task = replace(task, classes=load_taxonomy(path if path.exists() else source.parent / path))
        return task
    return Task()


def _print(name: str, summary: Summary) -> None:
    """Print one network's layers and totals."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110)
    for title, layers in ((f"{name}: layers", summary.layers), (f"{name}: parts", summary.parts)):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in ("layer", "kind", "output shape (B = 1)", "parameters", "multiply-adds"):
            table.add_column(column, justify="right" if column in ("parameters", "multiply-adds") else "left")
        for layer in layers:
            shape = " × ".join(map(str, layer.shape))
            table.add_row(layer.name, layer.kind, shape, f"{layer.parameters:,}", _short(layer.multiply_adds))
        console.print(table)
        console.print()
    echo(f"parameters          {summary.parameters:,}")
    echo(f"multiply-adds       {_short(summary.multiply_adds)} per clip")
    echo(
        f"training step       {summary.training_bytes / 2**30:.2f} GiB at {summary.clips} clips in float32: "
        f"{summary.weights_bytes / 2**30:.2f} weights, gradients, moments + "
        f"{summary.activations_bytes / 2**30:.2f} activations"
    )
    echo()


def _short(count: int) -> str:
    """Return a count with a unit of at most three digits before it."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)
