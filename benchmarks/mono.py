"""How often a network knows what sounds where two channels hold one sound: as it is, and as `predict` hears it.

Five seconds of up to `--most` recordings of each class (`--sounds`: a folder with one sub-folder per class; without it
made sounds): the most frequent class among the rows of the answer is right in so many. Rows: the same sound in both
channels, with noise of its own in each, in one channel alone, one turned over, one softer or later.

Run: python benchmarks/mono.py [--sounds DIR] [--most 14] [--network default]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcase_seld import load_model, predict
from dcase_seld.core.classes import DCASE2025
from dcase_seld.infer import recording_source
from dcase_seld.media.audio import read_audio, write_wav
from dcase_seld.simulate.sound_bank import make

Sound = npt.NDArray[np.float64]
SAMPLES, RATE = 120_000, 24_000
rng = np.random.default_rng(0)


def noisy(level_db: float) -> Callable[[Sound], list[Sound]]:
    """Return two channels of one sound, each with noise of its own so far below it."""
    return lambda x: [x + 10 ** (level_db / 20) * x.std() * rng.standard_normal(len(x)) for _ in range(2)]


FORMS: dict[str, Callable[[Sound], list[Sound]]] = {
    "the same": lambda x: [x, x],
    "… with noise at -60 dB": noisy(-60),
    "… at -40 dB": noisy(-40),
    "… at -30 dB": noisy(-30),
    "left alone": lambda x: [x, 0 * x],
    "right turned over": lambda x: [x, -x],
    "right 3 % softer": lambda x: [x, 0.97 * x],
    "… 30 % softer": lambda x: [x, 0.7 * x],
    "… 0.5 ms later": lambda x: [x, np.r_[np.zeros(12), x[:-12]]],
}


def sounds(folder: Path | None, most: int) -> Iterator[tuple[int, Sound]]:
    """Yield class and five seconds of every recording."""
    for index, name in enumerate(DCASE2025.folders):
        if folder is None:
            found = [make(name, 0, number) for number in range(most)]
        else:
            places = [sub for sub in sorted(folder.iterdir()) if DCASE2025.class_of_folder(sub.name) == index]
            files = [file for sub in places for file in sorted(sub.iterdir())][:most]
            found = [read_audio(file, rate=RATE, channels=1, resample=True)[0] for file in files]
        for sound in found:
            padded = np.zeros(SAMPLES)
            padded[: len(sound)] = sound[:SAMPLES]
            yield index, 0.2 * padded / max(float(np.abs(padded).max()), 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", type=Path, help="folder of recordings, one sub-folder per class")
    parser.add_argument("--most", type=int, default=14, help="recordings of a class")
    parser.add_argument("--network", default="default")
    arguments = parser.parse_args()
    network, room = load_model(arguments.network), recording_source.heard_piece
    right: dict[str, list[int]] = {name: [0, 0] for name in FORMS}
    count = 0
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "sound.wav"
        for index, sound in sounds(arguments.sounds, arguments.most):
            count += 1
            for name, form in FORMS.items():
                write_wav(path, np.asarray(form(sound), np.float32))
                for way, heard in enumerate((lambda recording, *piece: recording.read(*piece), room)):
                    recording_source.heard_piece = heard
                    rows = np.bincount(predict(network, path, people="off").class_index, minlength=13)
                    right[name][way] += bool(rows.any()) and int(rows.argmax()) == index
    print(f"{arguments.network}, {count} recordings: class right      as it is   as predict hears it")
    for name, (plain, heard_so) in right.items():
        print(f"  {name:30} {plain:20} {heard_so:20}")


if __name__ == "__main__":
    main()
