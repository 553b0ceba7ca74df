"""What turns members' outputs into events, an ensemble's file, and the guard of the clips that it was tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dcase_seld.core.config import Config, parse_config
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import recording
from dcase_seld.core.files import write_json
from dcase_seld.core.reading import read_json


def check_leakage(tuned_on: Sequence[str], clips: Sequence[str], what: str) -> None:
    """Refuse clips that are, or are windows of the same recordings as, those that an ensemble was tuned on.

    Raises:
        SeldError: names the clips.
    """
    used = {recording(name) for name in tuned_on}
    shared = [name for name in clips if recording(name) in used]
    if shared:
        raise SeldError(
            f"{what} on {len(shared)} clip(s) of recordings that this ensemble was tuned on ({listing(shared)}): the "
            "scores would flatter it.",
            "Predict other recordings; or set purpose: tune, if a later step is tuned on these and nothing is scored.",
        )


ENSEMBLE_FILE = "ensemble.json"


class Member(Config):
    """One network of an ensemble."""

    folder: str = Field(
        pattern=r"^[^\x00]+$", description="checkpoint folder; relative paths start at the ensemble's folder"
    )
    weight: float = Field(default=1.0, ge=0, le=1e6, description="share in the average")


class Averaging(Config):
    """What outputs are averaged with beside those of other members."""

    tta: Literal["none", "swap", "rotate"] = Field(
        default="none",
        description="swap: also hear the mirrored input; rotate: all 16 turns of the sphere (Ambisonics)",
    )
    smooth_frames: Annotated[float, Field(ge=0, le=50)] = Field(
        default=0.0,
        description="label frames (a standard deviation) over which directions and distances are averaged; 0: none",
    )


class EnsembleSettings(Averaging):
    """Everything that turns members' outputs into events."""

    members: tuple[Member, ...] = Field(default=(), description="networks")
    thresholds: tuple[float, ...] = Field(
        default=(0.5,), min_length=1, description="activity threshold, one or one per class"
    )
    unify_deg: float = Field(
        default=15.0, ge=0, le=180, description="tracks of a class closer than this are one source"
    )
    onscreen_threshold: float = Field(
        default=0.5, ge=0, le=1, description="probability above which a source is on screen"
    )
    distance_scale: float = Field(default=1.0, gt=0, le=2, description="factor of all distances")
    tuned_on: tuple[str, ...] = Field(default=(), description="names of the clips that the settings were tuned on")

    def class_thresholds(self, n_classes: int) -> list[float]:
        """Return one activity threshold per class."""
        if len(self.thresholds) not in (1, n_classes):
            raise SeldError(
                f"The ensemble has thresholds of {len(self.thresholds)} classes; the data have {n_classes}.",
                "Tune it on data with the same classes.",
            )
        return list(self.thresholds) * (n_classes if len(self.thresholds) == 1 else 1)


class EnsembleConfig(Averaging):
    """How an ensemble is made of checkpoints."""

    split: Literal["val", "train"] = Field(
        default="val", description="clips that it is chosen and tuned on; test and evaluation clips are refused"
    )
    weights: tuple[float, ...] | None = Field(
        default=None, description="one weight per member; null: equal, or found by the greedy choice"
    )
    select: Literal["all", "greedy"] = Field(
        default="all", description="greedy: members are added while the validation score rises"
    )
    most_members: int = Field(default=10, ge=1, le=99, description="choices of the greedy selection, repeats included")
    soup: Literal["none", "top", "all"] = Field(
        default="none",
        description="top: each member becomes the mean of the weights in its top/ (train with keep_top); all: one "
        "network with the mean of all members' weights",
    )
    thresholds: Literal["per-class", "common", "none"] = Field(
        default="per-class", description="activity thresholds that are tuned; none: 0.5"
    )
    unify: bool = Field(default=True, description="tune the angle below which tracks are one source (with thresholds)")
    onscreen: bool = Field(default=True, description="tune the on-screen threshold (with thresholds)")
    distance: bool = Field(default=True, description="tune a factor of all distances (with thresholds)")
    criterion: Literal["f_score", "f_score_onscreen"] = Field(default="f_score", description="score that decides")

    @property
    def needs_data(self) -> bool:
        """Return whether anything is chosen or tuned on clips."""
        return self.select == "greedy" or self.thresholds != "none"


def read_ensemble(folder: Path) -> EnsembleSettings | None:
    """Return the settings in an ensemble folder, member paths made absolute; None if it is no ensemble.

    Raises:
        SeldError: its file is broken.
    """
    path = folder / ENSEMBLE_FILE
    if not path.exists():
        return None
    data = read_json(path, remedy="Make the ensemble again.")
    settings = parse_config(EnsembleSettings, data, str(path))
    members = tuple(m.model_copy(update={"folder": str((folder / m.folder).resolve())}) for m in settings.members)
    return settings.model_copy(update={"members": members})


def write_ensemble(settings: EnsembleSettings, folder: Path) -> None:
    """Write an ensemble's settings into its folder, atomically."""
    write_json(folder / ENSEMBLE_FILE, settings.model_dump(mode="json"))
