"""Finding a run: its CSV files, its development scores, and the receipts of all steps that they come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dcase_seld.errors import SeldError, listing


@dataclass(frozen=True)
class Step:
    """A finished step: its folder and its receipt."""

    folder: Path
    receipt: dict[str, Any]

    @property
    def produces(self) -> str:
        """Return the kind of folder."""
        return str(self.receipt.get("produces", ""))

    @property
    def facts(self) -> dict[str, Any]:
        """Return what the step said of its result."""
        return dict(self.receipt.get("facts") or {})

    @property
    def config(self) -> dict[str, Any]:
        """Return the step's configuration."""
        return dict(self.receipt.get("config") or {})

    def inputs(self) -> list[Path]:
        """Return the folders that the step read."""
        names = [name for names in (self.receipt.get("inputs") or {}).values() for name in names]
        return [self.folder.parent / name for name in names]


@dataclass(frozen=True)
class Run:
    """What one system of a submission is made from.

    Attributes:
        csv: folder of the official CSV files.
        predicting: steps that take part in a prediction: all that the files come from, up to the trained networks.
        training: steps that the trained networks come from.
        scores: the scores on the development test set as scores.json holds them, or None.
        versions: program → version.
    """

    csv: Path
    predicting: tuple[Step, ...] = ()
    training: tuple[Step, ...] = ()
    scores: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)


def find_run(path: Path, track: str) -> Run:
    """Return the run at a path: a recipe's work folder, an export or score step of one, or a folder of CSV files.

    Args:
        path: e.g. work/track_b, work/track_b/csv.
        track: "a" or "b", by which a recipe's export step is chosen where it has several.

    Raises:
        SeldError: there is no run, or it is not clear which step is meant.
    """
    folder = follow(path)
    if not folder.is_dir():
        raise SeldError(
            f"There is no run at {path}.", "Give a recipe's folder below work/, an export step, or CSV files."
        )
    step = read_step(folder)
    if step is not None:
        return run_of_steps(*_csv_and_scores(step, path), track=track, near=path.parent)
    steps = dict(_linked_steps(folder))
    exported = {name: step for name, step in steps.items() if step.produces == "csv"}
    if not exported:
        if any(folder.glob("*.csv")) or any(folder.glob("csv/*.csv")):
            return Run(folder)
        raise SeldError(
            f"{path} holds neither a finished export step nor CSV files.",
            "Run the recipe first: dcase-seld run RECIPE.",
        )
    fitting = {name: step for name, step in exported.items() if step.facts.get("track", track) == track} or exported
    evaluation = {name: step for name, step in fitting.items() if _split(step) == "eval"}
    fitting = evaluation or fitting
    if len({step.folder for step in fitting.values()}) > 1:
        raise SeldError(
            f"{path} has several export steps for track {track}: {listing(fitting, 20)}.",
            f"Name the one that is meant, as {path / next(iter(fitting))}.",
        )
    return run_of_steps(next(iter(fitting.values())), None, track=track, near=folder)


def stated_track(path: Path) -> Literal["a", "b"]:
    """Return the track that a run was exported for, or "b" where that is not stated or not clear."""
    folder = follow(path)
    step = read_step(folder) if folder.is_dir() else None
    steps = [step] if step else [one for _, one in _linked_steps(folder)] if folder.is_dir() else []
    tracks = {one.facts.get("track") for one in steps if one.produces in ("csv", "scores")}
    return "a" if tracks == {"a"} else "b"


def run_of_steps(csv: Step, scores: Step | None, *, track: str, near: Path | None = None) -> Run:
    """Return the run of an export step, with the scores of a score step or of the one that fits best.

    Args:
        csv: the export step.
        scores: the score step; None: looked for.
        track: track whose scores are looked for.
        near: a recipe's folder of links to look in first; then all results beside the step.
    """
    predicting = tuple(_upstream([csv], stop=lambda step: step.produces == "checkpoint"))
    networks = [step for step in predicting if step.produces == "checkpoint"]
    known = {step.folder for step in predicting}
    training = tuple(step for step in _upstream(networks) if step.folder not in known)
    best = scores or _best_scores(csv, predicting, track, near)
    return Run(
        csv=csv.folder,
        predicting=predicting,
        training=training,
        scores=None if best is None else _load_scores(best.folder),
        versions={str(k): str(v) for k, v in (csv.receipt.get("versions") or {}).items()},
    )


def collect(csv: Path, scores: Path | None, members: Sequence[Path], track: str) -> Run:
    """Return the run of the folder of an export step, of a score step or None, and of networks it may not know of."""
    step = read_step(csv)
    if step is None:
        raise SeldError(f"{csv} has no receipt.", "Give a finished export step.")
    run = run_of_steps(step, None if scores is None else read_step(scores), track=track)
    if any(one.produces == "checkpoint" for one in run.predicting):
        return run
    named = [one for one in map(read_step, members) if one is not None]
    networks = tuple(_upstream(named, stop=lambda one: one.produces == "checkpoint"))
    return replace(run, predicting=(*run.predicting, *networks))


def read_step(folder: Path) -> Step | None:
    """Return the finished step in a folder, or None."""
    try:
        receipt = json.loads((folder / "receipt.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Step(folder, receipt) if isinstance(receipt, dict) else None


def follow(path: Path) -> Path:
    """Return the folder that a step's link leads to: a symbolic link, or a small text file where links are refused."""
    if path.is_file() and path.stat().st_size < 4096:
        try:
            return (path.parent / path.read_text(encoding="utf-8").strip()).resolve()
        except UnicodeDecodeError:
            return path
    return path.resolve()


def _csv_and_scores(step: Step, path: Path) -> tuple[Step, Step | None]:
    if step.produces == "csv":
        return step, None
    if step.produces == "scores":
        for folder in step.inputs():
            csv = read_step(folder)
            if csv is not None and csv.produces == "csv":
                return csv, step
    raise SeldError(
        f"{path} is a step that makes {step.produces or 'nothing known'}; a system needs an export or score step.",
        "Name such a step, or the recipe's whole folder.",
    )


def _upstream(starts: list[Step], stop: Callable[[Step], bool] | None = None) -> Iterator[Step]:
    """Yield steps and all that they come from, each once; what a step with `stop(step)` comes from is left out."""
    waiting, seen = list(starts), {step.folder for step in starts}
    while waiting:
        step = waiting.pop(0)
        yield step
        if stop is not None and stop(step):
            continue
        for folder in step.inputs():
            before = read_step(folder)
            if before is not None and folder not in seen:
                seen.add(folder)
                waiting.append(before)


def _linked_steps(folder: Path) -> Iterator[tuple[str, Step]]:
    for place in sorted(folder.iterdir()):
        step = read_step(follow(place))
        if step is not None:
            yield place.name, step


def _split(csv: Step) -> str:
    """Return the split that an export step's events were predicted for, or ""."""
    for step in _upstream([csv], stop=lambda step: step.produces == "checkpoint"):
        if step.produces == "events" and "split" in step.config:
            return str(step.config["split"])
    return ""


def _best_scores(csv: Step, predicting: tuple[Step, ...], track: str, near: Path | None) -> Step | None:
    """Return the score step of these very files, else one of the same networks on the development test set."""
    networks = {step.folder for step in predicting if step.produces == "checkpoint"}
    nearby = [step for _, step in _linked_steps(near)] if near is not None and near.is_dir() else []
    others = (read_step(path.parent) for path in sorted(csv.folder.parent.glob("score-*/receipt.json")))
    candidates = {step.folder: step for step in [*nearby, *others] if step is not None and step.produces == "scores"}
    ranked = []
    for step in candidates.values():
        # Track b's scores hold those of track a.
        if step.facts.get("track", track) not in (track, "b") or step.config.get("split", "test") != "test":
            continue
        same_files = csv.folder in step.inputs()
        source = _upstream([step], stop=lambda one: one.produces == "checkpoint")
        same_networks = networks == {one.folder for one in source if one.produces == "checkpoint"} and bool(networks)
        if same_files or same_networks:
            official = step.config.get("protocol", "official") == "official" and step.config.get("average") != "micro"
            same_track = step.facts.get("track", track) == track
            ranked.append(
                (same_files, official, same_track, float(step.receipt.get("finished", 0.0)), str(step.folder))
            )
    return candidates[Path(max(ranked)[-1])] if ranked else None


def _load_scores(folder: Path) -> dict[str, Any]:
    try:
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SeldError(f"{folder / 'scores.json'} cannot be read: {error}.", "Run the score step again.") from error
    if not isinstance(scores, dict):
        raise SeldError(f"{folder / 'scores.json'} holds no scores.", "Run the score step again.")
    return scores
