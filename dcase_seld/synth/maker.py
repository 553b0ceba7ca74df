"""Making single clips of a job: plan, sound, video, labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcase_seld.synth.bank import SoundBank, procedural_bank
from dcase_seld.synth.config import SoundsConfig
from dcase_seld.synth.job import FOLDS, Job
from dcase_seld.synth.measured import MeasuredRoom, load_rooms
from dcase_seld.synth.pictures import PictureBank, open_pictures
from dcase_seld.synth.render import Heard, hear_scene, label_scene, render_scene, to_stereo
from dcase_seld.synth.rooms import AnyRoom, sample_room
from dcase_seld.synth.scenes import Scene, plan_scene
from dcase_seld.task.taxonomy import Taxonomy

QUALITY, PRESET = 26, "ultrafast"
"""How the videos are coded: most of their frames repeat, so that time matters more than size."""


class Maker:
    """Makes clips of one job in one process: keeps the sound bank, the rooms and the pictures."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.bank = open_bank(job.sounds, job.taxonomy, job.sound_config, job.seed)
        self.pictures: PictureBank | None = None
        if job.video is not None:
            self.pictures = open_pictures(job.pictures, job.taxonomy, job.sound_config.split_seed)
        self._measured = divide_measured(job)
        self._rooms: dict[tuple[str, int], AnyRoom] = {}

    def scene(self, fold: str, index: int) -> Scene:
        """Return the plan of clip `index` of the fold "train" or "test"."""
        job = self.job
        number = index % job.room_count(fold)
        split = job.room_split(fold, number)
        rng = np.random.default_rng([job.seed, FOLDS[fold], index, 2])
        name = job.clip_name(fold, index)
        return plan_scene(name, split, self.room(fold, number), self.bank, job.prior, job.scene, job.taxonomy, rng)

    def room(self, fold: str, number: int) -> AnyRoom:
        """Return a room of a fold: measured rooms of its split first, simulated ones after them."""
        job = self.job
        if (fold, number) not in self._rooms:
            split = job.room_split(fold, number)
            before = sum(job.room_split(fold, other) == split for other in range(number))
            measured = self._measured[split]
            if before < len(measured):
                self._rooms[fold, number] = measured[before]
            else:
                rng = np.random.default_rng([job.seed, FOLDS[fold], number, 1])
                self._rooms[fold, number] = sample_room(job.scene.rooms, rng)
        return self._rooms[fold, number]

    def make(self, fold: str, index: int) -> None:
        """Write one clip: sound, video if asked for, labels last."""
        from dcase_seld.media.audio import write_wav

        job, scene = self.job, self.scene(fold, index)
        heard = hear_scene(scene, self.bank)
        channels = 2 if job.output == "stereo" else 4
        mix = render_scene(scene, self.bank, heard, job.scene.levels.floor_db, channels)
        write_wav(job.audio_file(fold, scene.name), to_stereo(mix) if channels == 2 else mix)
        if self.pictures is not None:
            self._film(fold, index, scene)
        self._label(job.label_file(fold, scene.name), scene, heard)

    def _film(self, fold: str, index: int, scene: Scene) -> None:
        from dcase_seld.media.video import write_video
        from dcase_seld.synth.camera import PANORAMA, PERSPECTIVE
        from dcase_seld.synth.compose import compose
        from dcase_seld.task.facts import VIDEO_FPS

        job = self.job
        assert self.pictures is not None and job.video is not None
        view = PERSPECTIVE if job.output == "stereo" else PANORAMA
        look = job.seed * 1000 + FOLDS[fold] * 100_003 + index % job.room_count(fold)
        frames = compose(scene, self.bank, self.pictures, job.video, job.scene.rooms, view, look)
        path = job.video_file(fold, scene.name)
        write_video(path, frames, VIDEO_FPS, quality=QUALITY, preset=PRESET)

    def _label(self, path: Path, scene: Scene, heard: Heard) -> None:
        from dcase_seld.task.dcase_csv import write_csv

        if self.job.output == "stereo":
            write_csv(path, label_scene(scene, heard))
            return
        columns = (heard.frame, heard.class_index, heard.source, heard.azimuth_deg, heard.elevation_deg)
        rows = np.rint(np.stack([*columns, 100.0 * heard.distance_m], axis=1)).astype(np.int64)
        rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
        temporary = path.with_name(path.name + ".part")
        temporary.write_text("".join(",".join(map(str, row)) + "\n" for row in rows.tolist()), encoding="utf-8")
        temporary.replace(path)


def open_bank(sounds: Path | None, taxonomy: Taxonomy, config: SoundsConfig, seed: int) -> SoundBank:
    """Return the bank of a folder of recordings, or of made sounds (`sounds` None; `seed` makes them)."""
    if sounds is None:
        return procedural_bank(taxonomy, config, seed)
    from dcase_seld.synth.folder_bank import folder_bank

    return folder_bank(sounds, taxonomy, config)


def divide_measured(job: Job) -> dict[str, list[MeasuredRoom]]:
    """Return the measured rooms of every split: one room trains, of two one tests, of three one validates."""
    rooms = load_rooms(job.responses) if job.responses is not None else []
    sounds = job.sound_config
    order = [rooms[i] for i in np.random.default_rng([sounds.split_seed, 7]).permutation(len(rooms))]
    tests = max(1, round(sounds.test_fraction * len(order))) if len(order) > 1 else 0
    validations = max(1, round(sounds.validation_fraction * len(order))) if len(order) > 2 else 0
    return {"test": order[:tests], "val": order[tests : tests + validations], "train": order[tests + validations :]}
