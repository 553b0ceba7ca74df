"""Finding a run: its CSV files, its development scores, and the receipts of all steps that they come from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dcase_seld.core.config import known_networks
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.files import follow
from dcase_seld.core.reading import read_json
from dcase_seld.recipe.provenance import FinishedStep, history, linked_steps, load_scores, read_step
from dcase_seld.recipe.results import has_receipt, read_receipt


@dataclass(frozen=True)
class Network:
    """One of the networks whose outputs are averaged, or one that a training started from."""

    name: str  # of its step, or of the network that was given by a path
    model: dict[str, Any]  # its configuration
    parameters: int | None  # numbers in its weights, or None
    facts: dict[str, Any]  # what its training said of it
    folder: Path  # where it lies
    about: str = ""  # what a network that came along says it learned from


@dataclass(frozen=True)
class Run:
    """What one system of a submission is made from."""

    csv: Path  # folder of the official CSV files
    networks: tuple[Network, ...] = ()  # the networks that answer together
    frozen: tuple[FinishedStep, ...] = ()  # embed, keypoints and detections steps whose findings predictions use
    steps: tuple[FinishedStep, ...] = ()  # all steps that the files come from, trainings included
    # networks without a history here: those that a training started from, or that answer
    carried: tuple[Network, ...] = ()
    twins: tuple[Path, ...] = ()  # ensembles, tuned on held-out clips, whose settings were taken over
    channels: str = "stereo"  # what is heard: stereo, foa or mono
    scores: dict[str, Any] | None = None  # the scores on the development test set as scores.json holds them, or None
    scored: FinishedStep | None = None  # the score step that they are of, or None
    scores_of: str = ""  # where the scores are from, "" where they are of the very files or networks
    versions: dict[str, str] = field(default_factory=dict)  # program → version


def find_run(path: Path, track: str) -> Run:
    """Return the run at a path: a recipe's work folder, an export or score step of one, or a folder of CSV files.

    `track` chooses among several export steps of a recipe. Raises SeldError: there is no run, or it is not clear which
    step is meant.
    """
    folder = follow(path)
    if not folder.is_dir():
        raise SeldError(
            f"There is no run at {path}.", "Give a recipe's folder below work/, an export step, or CSV files."
        )
    step = read_step(folder)
    if step is not None:
        return run_of_steps(*_csv_and_scores(step, path), track=track, near=path.parent)
    if has_receipt(folder):
        raise SeldError(f"The receipt of {path} cannot be read.", "Run its recipe again, which makes it anew.")
    steps = dict(linked_steps(folder))
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
    steps = [step] if step else [one for _, one in linked_steps(folder)] if folder.is_dir() else []
    tracks = {one.facts.get("track") for one in steps if one.produces in ("csv", "scores")}
    return "a" if tracks == {"a"} else "b"


def run_of_steps(csv: FinishedStep, scores: FinishedStep | None, *, track: str, near: Path | None = None) -> Run:
    """Return the run of an export step, with the scores of a score step or of the one that fits best.

    Without `scores` they are looked for, by track, in `near` (a recipe's folder of links) and then beside the step.
    """
    frozen, predict = _seen(csv)
    networks = tuple(_networks(predict.inputs("members"))) if predict is not None else ()
    needed = {str(name) for network in networks for name in words(network.model.get("fusion"))}
    tokens = predict.before("tokens") if predict is not None else []
    # Steps of 0.1 called tokens by their kind, not by a name.
    used = [step for step in tokens if not needed or step.facts.get("name", step.facts.get("kind")) in needed]
    steps = tuple(reversed(history(csv.folder)))
    ensembles = [step for step in steps if step.produces == "ensemble"]
    started = [place for step in steps for place in step.inputs("init", "teacher", "members")]
    carried = [path for path in dict.fromkeys(started) if read_step(path) is None]
    run = Run(
        csv=csv.folder,
        networks=networks,
        frozen=(*used, *frozen),
        steps=steps,
        carried=tuple(_networks(carried)),
        twins=tuple(folder for step in ensembles for folder in step.inputs("settings_of")),
        channels=_channels(predict),
        versions={str(k): str(v) for k, v in (csv.receipt.get("versions") or {}).items()},
    )
    best = scores or _best_scores(csv, run, track, near)
    if best is None:
        return run
    return replace(run, scores=load_scores(best.folder), scored=best, scores_of=_whose(best, csv, run))


def with_scores(run: Run, place: Path, track: str) -> Run:
    """Return the run with development scores that the user names.

    `place`: a scores.json, a score step, or a recipe's folder below work/ with one for the track. Raises SeldError:
    there are no scores, or several.
    """
    folder = follow(place)
    if folder.is_dir() and not (folder / "scores.json").is_file():
        found = {step.folder: name for name, step in linked_steps(folder) if step.produces == "scores"}
        fitting = {f: n for f, n in found.items() if _fits(FinishedStep(f, read_receipt(f) or {}), track)} or found
        if len(fitting) != 1:
            names = listing(sorted(fitting.values())) or "none"
            raise SeldError(
                f"{place} must hold one finished score step for track {track}; it has {names}.",
                "Name the step that is meant, as work/track_a/score, or a scores.json.",
            )
        folder = next(iter(fitting))
    file = folder / "scores.json" if folder.is_dir() else place
    scores = load_scores(file, "Name a scores.json, a score step, or the recipe's folder below work/.")
    if not any(isinstance(scores.get(name), int | float) for name in ("f_score", "F")):
        raise SeldError(
            f"{file} holds no F-score.", "Name what `dcase-seld score --json FILE` or a score step of a recipe wrote."
        )
    return replace(run, scores=scores, scored=read_step(folder), scores_of=str(place))


def collect(csv: Path, scores: Path | None, members: Sequence[Path], track: str) -> Run:
    """Return the run of the folder of an export step, of scores or None, and of networks it may not know of."""
    step = read_step(csv)
    if step is None:
        raise SeldError(f"{csv} has no receipt.", "Give a finished export step.")
    named = None if scores is None else read_step(scores)
    run = run_of_steps(step, named, track=track)
    if scores is not None and named is None:
        run = with_scores(run, scores, track)
    if run.networks:
        return run
    known = {one.folder for one in run.steps}
    above = {one.folder: one for place in members for one in reversed(history(place))}.values()
    return replace(
        run,
        networks=tuple(_networks(members)),
        steps=(*run.steps, *(one for one in above if one.folder not in known)),
    )


def _seen(csv: FinishedStep) -> tuple[list[FinishedStep], FinishedStep | None]:
    """Return the steps that looked at the clips' pictures for the files, and the step that predicted."""
    frozen: list[FinishedStep] = []
    events = next(iter(csv.before("events")), None)
    while events is not None and events.inputs("events"):
        frozen += events.before("keypoints", "detections")
        events = next(iter(events.before("events")), None)
    return frozen, events


def _networks(places: Sequence[Path]) -> Iterator[Network]:
    """Yield the networks of checkpoints and ensembles, of those the ones that were kept."""
    for place in places:
        step = read_step(place)
        ensemble = place / "ensemble.json"
        if step is not None and step.produces == "checkpoint":
            count = step.facts.get("parameters")
            yield Network(
                str(step.receipt.get("step")),
                mapping(step.config.get("model")),
                count if isinstance(count, int) else None,
                step.facts,
                step.folder,
            )
        elif ensemble.is_file():
            members = read_json(ensemble, remedy="Make the ensemble again.").get("members")
            parts = [] if step is None or step.config.get("soup") == "all" else step.inputs("members")
            for member in members if isinstance(members, list) else ():
                inner = Path(str(member.get("folder") if isinstance(member, dict) else ""))
                # Copies of members are numbered as they were named; those that were not chosen are gone.
                number = int(inner.name) if inner.name.isdecimal() else len(parts)
                named = parts[number : number + 1]
                given = Path(os.path.normpath(place / inner))
                yield from _networks(named) if named and read_step(named[0]) else [_given(given)]
        elif step is not None:
            yield from _networks(step.inputs("members"))
        else:
            yield _given(place)


def mapping(value: Any) -> dict[str, Any]:
    """Return a part of a receipt that should be a mapping; what is none tells nothing."""
    return value if isinstance(value, dict) else {}


def words(value: Any) -> list[str]:
    """Return a part of a receipt that should be words or a mapping by words."""
    return [str(item) for item in value] if isinstance(value, (list, dict)) else []


def _given(place: Path) -> Network:
    """Return the network in a folder without a receipt."""
    folder = next((f for f in (place, place / "best", place / "last") if (f / "model.json").is_file()), place)
    try:
        about = read_json(folder / "model.json")
    except SeldError:
        return Network(place.name, {}, None, {}, place)
    card = read_json(place / "about.json") if (place / "about.json").is_file() else {}
    said = card.get("believe")
    known = known_networks().get(place.name) == place
    config, facts, count = about.get("config"), about.get("facts"), about.get("parameters")
    return Network(
        f"dcase_seld's network {place.name}" if known else place.name,
        mapping(config),
        count if isinstance(count, int) else None,
        mapping(facts),
        folder,
        str(said[0]) if isinstance(said, list) and said else "",
    )


def _channels(predict: FinishedStep | None) -> str:
    """Return which channels the store that was predicted has."""
    for folder in predict.inputs("data") if predict is not None else ():
        if (folder / "store.json").is_file():
            task = read_json(folder / "store.json").get("task")
            return str(task.get("channels", "stereo")) if isinstance(task, dict) else "stereo"
    return "stereo"


def _csv_and_scores(step: FinishedStep, path: Path) -> tuple[FinishedStep, FinishedStep | None]:
    if step.produces == "csv":
        return step, None
    if step.produces == "scores":
        for csv in step.before():
            if csv.produces == "csv":
                return csv, step
    raise SeldError(
        f"{path} is a step that makes {step.produces or 'nothing known'}; a system needs an export or score step.",
        "Name such a step, or the recipe's whole folder.",
    )


def _split(csv: FinishedStep) -> str:
    """Return the split that an export step's events were predicted for, or ""."""
    predict = _seen(csv)[1]
    return str(predict.config.get("split", "")) if predict is not None else ""


def _fits(step: FinishedStep, track: str) -> bool:
    """Return whether a score step is of the development test set; track b's scores hold those of track a."""
    tracks = (track, "b")
    return step.facts.get("track", track) in tracks and step.config.get("split", "test") == "test"


def _scored(step: FinishedStep) -> tuple[FinishedStep | None, FinishedStep | None, list[Path]]:
    """Return the export step and the predict step of a score step, and what the latter's networks lie in."""
    csv = next(iter(step.before("csv")), None)
    predict = None if csv is None else _seen(csv)[1]
    return csv, predict, [] if predict is None else predict.inputs("members")


def _whose(score: FinishedStep, csv: FinishedStep, run: Run) -> str:
    """Return "" for scores of these files or networks, else which step they are of."""
    members = _scored(score)[2]
    if csv.folder in score.inputs("csv") or {n.folder for n in _networks(members)} == {n.folder for n in run.networks}:
        return ""
    return f"{score.receipt.get('recipe')}/{score.receipt.get('step')}"


def _best_scores(csv: FinishedStep, run: Run, track: str, near: Path | None) -> FinishedStep | None:
    """Return the score step of these very files, else one of the same networks or of their twin, tuned honestly.

    A network for the evaluation set has heard the test clips; what is known of it are the scores of the networks that
    had not, whose settings it took over.
    """
    nearby = [step for _, step in linked_steps(near)] if near is not None and near.is_dir() else []
    others = (read_step(path.parent) for path in sorted(csv.folder.parent.glob("score-*/receipt.json")))
    candidates = {step.folder: step for step in [*nearby, *others] if step is not None and step.produces == "scores"}
    looks = bool(_seen(csv)[0])
    answering = {network.folder for network in run.networks}
    ranked = []
    for step in candidates.values():
        if not _fits(step, track):
            continue
        scored, _, members = _scored(step)
        same_files = csv.folder in step.inputs("csv")
        same_networks = bool(answering) and answering == {network.folder for network in _networks(members)}
        if not (same_files or same_networks or set(members) & set(run.twins)):
            continue
        official = step.config.get("protocol", "official") == "official" and step.config.get("average") != "micro"
        same_track = step.facts.get("track", track) == track
        alike = scored is not None and bool(_seen(scored)[0]) == looks
        rank = (same_files, official, same_track, same_networks, alike)
        ranked.append((*rank, float(step.receipt.get("finished", 0.0)), str(step.folder)))
    return candidates[Path(max(ranked)[-1])] if ranked else None
