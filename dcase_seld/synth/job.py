"""What a simulated corpus is to be: how many clips, in which rooms, under which names, in which split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dcase_seld.synth.config import ClipCounts, PictureConfig, SceneConfig, SoundsConfig
from dcase_seld.task.taxonomy import Taxonomy

PARTS = {"train": "dev-train-synth", "test": "dev-test-synth"}
FOLDS = {"train": 1, "test": 4}
Output = Literal["stereo", "foa"]


@dataclass(frozen=True)
class Job:
    """All that a process needs to make any clip of a corpus.

    Attributes:
        out: the corpus folder.
        taxonomy: the classes.
        sounds: folder of the sound bank, or None for made sounds.
        sound_config: how the bank is divided.
        scene: how scenes are made.
        clips: how many.
        seed: decides everything.
        prior: (C,) class weights.
        output: "stereo" clips in the challenge's layout, or "foa" recordings in STARSS23's, for the converter.
        responses: folder of measured rooms, or None.
        video: what the video shows, or None for sound alone.
        pictures: folder of pictures for the video, or None for drawn ones.
    """

    out: Path
    taxonomy: Taxonomy
    sounds: Path | None
    sound_config: SoundsConfig
    scene: SceneConfig
    clips: ClipCounts
    seed: int
    prior: tuple[float, ...]
    output: Output = "stereo"
    responses: Path | None = None
    video: PictureConfig | None = None
    pictures: Path | None = None

    @property
    def folds(self) -> list[str]:
        """Return the folds ("train", "test") that have clips."""
        return [fold for fold in PARTS if getattr(self.clips, fold)]

    def audio_file(self, fold: str, name: str) -> Path:
        """Return where a clip's sound goes."""
        return self.out / ("stereo_dev" if self.output == "stereo" else "foa_dev") / PARTS[fold] / f"{name}.wav"

    def label_file(self, fold: str, name: str) -> Path:
        """Return where a clip's labels go; it is written last, so where it exists the clip is finished."""
        return self.out / "metadata_dev" / PARTS[fold] / f"{name}.csv"

    def video_file(self, fold: str, name: str) -> Path:
        """Return where a clip's video goes."""
        return self.out / "video_dev" / PARTS[fold] / f"{name}.mp4"

    def room_count(self, fold: str) -> int:
        """Return the number of rooms of a fold."""
        return self.scene.rooms.train if fold == "train" else self.scene.rooms.test

    def room_name(self, fold: str, number: int) -> str:
        """Return a room as clip names spell it; numbers of the test fold go on after those of the training fold."""
        return f"fold{FOLDS[fold]}_room{number + 1 + (self.scene.rooms.train if fold == 'test' else 0)}"

    def clip_name(self, fold: str, index: int) -> str:
        """Return the official name of a clip: rooms take turns; the mix counts the clips of a room."""
        rooms = self.room_count(fold)
        recording = f"{self.room_name(fold, index % rooms)}_mix{index // rooms + 1:03d}"
        return f"{recording}_deg000_start0000" if self.output == "stereo" else recording

    def room_split(self, fold: str, number: int) -> str:
        """Return "train", "val" or "test": whose sounds are heard in a room."""
        if fold == "test":
            return "test"
        rooms, fraction = self.scene.rooms.train, self.scene.rooms.validation_fraction
        held = round(fraction * rooms)
        if fraction > 0 and rooms > 1:
            held = min(max(held, 1), rooms - 1)
        order = np.random.default_rng([self.seed, 3]).permutation(rooms)
        return "val" if number in order[:held] else "train"

    def room_splits(self) -> dict[str, str]:
        """Return every room that has clips, as clip names spell it, and its split."""
        return {
            self.room_name(fold, number): self.room_split(fold, number)
            for fold in self.folds
            for number in range(min(self.room_count(fold), getattr(self.clips, fold)))
        }
