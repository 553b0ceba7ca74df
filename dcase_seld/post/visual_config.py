"""The rules of the visual post-processing that a recipe may set. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.task.facts import HORIZONTAL_FOV_DEG, ONSCREEN_LIMIT_DEG

DETECTED = "detected"
"""Key of the weights for classes that are judged by detected objects."""


class PartRule(Config):
    """How a class of sound is looked for on a body."""

    part: Literal["mouth", "wrists", "ankles", "head", "body"] = Field(description="Body part that makes the sound.")
    tolerance_deg: float = Field(default=18.0, gt=0, le=180, description="Angle at which part and sound still agree.")


class LogisticWeights(Config):
    """Weights of one body part, or of detected objects."""

    bias: float = Field(default=-0.5, description="Constant.")
    network: float = Field(default=1.0, description="Weight of the logit of the network's on-screen probability.")
    near: float = Field(default=3.5, description="Weight of the nearness n in [-1, 1].")
    refine: float = Field(
        default=0.9, ge=0, le=1, description="Share of the way to the part, times P(on screen), that azimuth moves."
    )


class VisualConfig(Config):
    """Rules of the visual post-processing."""

    parts: dict[str, PartRule] = Field(
        default={
            "Female speech": PartRule(part="mouth"),
            "Male speech": PartRule(part="mouth"),
            "Clapping": PartRule(part="wrists"),
            "Laughter": PartRule(part="mouth"),
            "Walk, footsteps": PartRule(part="ankles"),
        },
        description="Class name → body part and tolerance; classes that are not listed are left to the network.",
    )
    weights: dict[str, LogisticWeights] = Field(
        default={}, description="Weights by part, or 'detected'; parts not listed have the default weights."
    )
    refine: bool = Field(default=True, description="Move the azimuth of events on screen toward the body part.")
    require_person: bool = Field(default=True, description="No visible person, no sound of these classes on screen.")
    threshold: float = Field(default=0.5, ge=0, le=1, description="On-screen probability from which an event is on.")
    limit_deg: float = Field(
        default=ONSCREEN_LIMIT_DEG, gt=0, le=90, description="Sources beyond this |azimuth| are off screen."
    )
    limit_slack_deg: float = Field(
        default=5.0, ge=0, description="A part within the limit may draw in events that are at most this far beyond it."
    )
    fov_deg: float = Field(default=HORIZONTAL_FOV_DEG, gt=0, lt=180, description="Horizontal field of view (degrees).")
    min_visibility: float = Field(default=0.5, ge=0, le=1, description="Visibility from which a landmark counts.")
    max_gap_s: float = Field(default=0.6, gt=0, description="A sampled frame speaks for this long around it (seconds).")
    smooth_frames: int = Field(default=11, ge=1, description="Label frames over which an event's evidence is averaged.")
    object_tolerance_deg: float = Field(default=15.0, gt=0, description="Tolerance beyond a detected object's edge.")
