"""What a user chooses about simulated scenes. Imports nothing heavy."""

from __future__ import annotations

from math import inf
from sys import float_info
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from dcase_seld.core.config import Config
from dcase_seld.core.task import CLIP_SECONDS

Share = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(ge=0, le=24)]
Interval = Annotated[tuple[float, float], Field(description="smallest and largest value")]


def _within(low: float, high: float, remedy: str) -> AfterValidator:
    """Return a check that two numbers are in order and within bounds."""

    def check(value: tuple[float, float]) -> tuple[float, float]:
        if not low <= value[0] <= value[1] <= high:
            raise ValueError(remedy)
        return value

    return AfterValidator(check)


Positive = Annotated[Interval, _within(float_info.min, inf, "write [smallest, largest], both above 0")]
Elevations = Annotated[tuple[float, float], _within(-80, 80, "write [lowest, highest], within -80 and 80")]
Ordered = Annotated[Interval, _within(-inf, inf, "write [smallest, largest]")]


class ClipCounts(Config):
    """How many clips to make."""

    train: int = Field(default=600, ge=0, le=10**6, description="clips of dev-train-synth (fold1), validation too")
    test: int = Field(default=120, ge=0, le=10**6, description="clips of dev-test-synth (fold4)")


class RoomsConfig(Config):
    """Sizes, reverberation and numbers of simulated shoebox rooms. Lengths in metres, times in seconds."""

    train: int = Field(default=24, ge=1, le=10_000, description="rooms of the training fold, validation rooms included")
    test: int = Field(default=8, ge=1, le=10_000, description="rooms of the test fold")
    validation_fraction: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="share of the training rooms that are for validation: they use their own sounds",
    )
    length_m: Positive = Field(default=(4.0, 11.0), description="longer side of the floor")
    width_m: Positive = Field(default=(3.0, 8.0), description="shorter side of the floor")
    height_m: Positive = Field(default=(2.4, 4.5), description="height of the ceiling")
    rt60_s: Positive = Field(default=(0.2, 0.9), description="reverberation time at 1 kHz")
    distance_m: Positive = Field(default=(0.5, 8.0), description="distance of a source from the microphone")
    source_height_m: Positive = Field(
        default=(0.2, 2.2), description="height above the floor of sources whose class has no typical height"
    )
    elevation_deg: Elevations | None = Field(
        default=None,
        description="lowest and highest elevation of sources, -80 to 80 degrees, all alike often whatever the class; "
        "null: heights decide, and most sources are near the horizon",
    )
    reflections: int = Field(default=8, ge=1, le=20, description="image-source order of the early part")
    measured_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="with `responses`: share of every split's rooms that are its measured ones, taken in turn; null: "
        "each measured room is one room",
    )

    @model_validator(mode="after")
    def _large_enough(self) -> RoomsConfig:
        if min(self.length_m[0], self.width_m[0], self.height_m[0]) < 2.0:
            raise ValueError("rooms need at least 2 m in every direction")
        return self


class PolyphonyConfig(Config):
    """How many sources sound together."""

    weights: tuple[float, ...] = Field(
        default=(0.02, 0.38, 0.36, 0.18, 0.06),
        description="how often a clip has 0, 1, 2, … layers of events; a layer holds one event at a time",
    )
    pause_s: Interval = Field(default=(0.1, 1.5), description="silence between two events of a layer, in seconds")
    event_s: Interval = Field(default=(0.3, 5.0), description="shortest and longest event, in seconds")

    @field_validator("weights")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or min(value) < 0 or sum(value) <= 0 or len(value) > 7:
            raise ValueError("give 1 to 7 weights, none negative, not all 0")
        return value


class LevelsConfig(Config):
    """Levels in dB."""

    source_db: Ordered = Field(
        default=(-38.0, -22.0), description="level of a source heard at 1 m, dB below full scale"
    )
    snr_db: Ordered = Field(default=(8.0, 35.0), description="power of the mean event over the ambience")
    floor_db: float = Field(default=-75.0, description="ambience of a clip without events, dB below full scale")


class VariationConfig(Config):
    """What makes one recording sound like several. Only training rooms vary; what is tested on stays as recorded."""

    speed: Annotated[Interval, _within(0.5, 2.0, "write [slowest, fastest], within 0.5 and 2")] = Field(
        default=(1.0, 1.0),
        description="playing speeds, which change pitch and length together; [0.9, 1.1] is two semitones down to "
        "nearly two up",
    )
    equaliser_db: Spread = Field(
        default=0.0,
        description="standard deviation in dB of a random smooth equaliser, as other microphones and distances of "
        "recording would be",
    )
    dynamics_db: Spread = Field(
        default=0.0, description="standard deviation in dB of a slow random swell of the level within an event"
    )
    directivity: Share = Field(
        default=0.0,
        description="how strongly sources radiate to where they happen to face, at most; 0: to all sides alike. The "
        "higher the frequency the more, as of mouths and loudspeakers",
    )
    microphone_db: Spread = Field(
        default=0.0,
        description="standard deviation in dB of a random smooth spectrum of a clip's microphones; they differ from "
        "one another by a tenth of it",
    )


class SoundsConfig(Config):
    """How recordings are grouped and divided."""

    group_by: Literal["collection", "recording", "folder"] = Field(
        default="collection",
        description="what never crosses a split: the file name before its first '_' (collection or speaker), every "
        "file alone (recording), or the sub-folder of the class folder",
    )
    groups: str | None = Field(
        default=None, description="CSV file inside the sounds folder with the columns file,group; overrides group_by"
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        description="decides which groups are in which split; not the scenes' seed, so that two sets "
        "simulated from one folder agree about what is held out",
    )
    test_fraction: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="share of a class's recordings for the test fold; 0: all of them train, with `clips: {test: 0}`",
    )
    validation_fraction: float = Field(default=0.15, ge=0, lt=1, description="share for validation rooms")
    reuse_single: bool = Field(
        default=False,
        description="let a class with a single group sound in the test fold too (its figures then mean little)",
    )
    procedural_recordings: int = Field(
        default=60, ge=3, le=10_000, description="without a folder: made recordings per class (same fractions apply)"
    )


class PictureConfig(Config):
    """What the video of a scene shows beside the room."""

    visible: Literal["clip", "sounding"] = Field(
        default="clip",
        description="on-screen sources are in the picture during the whole clip, or only while they sound",
    )
    silent_people: Annotated[tuple[int, int], _within(0, 10, "write [fewest, most], 0 to 10")] = Field(
        default=(0, 0), description="fewest and most people who are in the room and make no sound"
    )


class SceneConfig(Config):
    """Everything that decides one scene."""

    rooms: RoomsConfig = Field(default=RoomsConfig(), description="the rooms")
    polyphony: PolyphonyConfig = Field(default=PolyphonyConfig(), description="overlapping events")
    levels: LevelsConfig = Field(default=LevelsConfig(), description="levels and noise")
    vary: VariationConfig = Field(default=VariationConfig(), description="variation of the dry sounds in training")
    seconds: int = Field(
        default=CLIP_SECONDS, ge=1, le=600, description="length of a clip; the challenge's clips have 5 s"
    )
    moving: Share = Field(default=0.15, description="share of events whose source moves")
