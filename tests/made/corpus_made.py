"""A small corpus in the official layout."""

from pathlib import Path

import numpy as np

from dcase_seld.media.audio import write_wav


def write_corpus(root: Path, recordings, windows=3, seconds=0.5, seed=0):
    """Write a small corpus; `recordings` are (part, fold, room, mix). Clip i's labels: class i % 4, azimuth 10 i."""
    rng = np.random.default_rng(seed)
    number = 0
    for part, fold, room, mix in recordings:
        for window in range(windows):
            name = f"fold{fold}_room{room}_mix{mix:03d}_deg{number:03d}_start{window:04d}"
            kind = "eval" if part == "eval" else "dev"
            for folder in ("stereo", "metadata"):
                (root / f"{folder}_{kind}" / part).mkdir(parents=True, exist_ok=True)
            sound = rng.integers(-3000, 3000, (2, int(seconds * 24_000))).astype(np.int16)
            write_wav(root / f"stereo_{kind}" / part / f"{name}.wav", sound)
            if part != "eval":
                rows = ["frame,class,source,azimuth,distance,onscreen", f"0,{number % 4},0,{number * 10 % 90},150,1"]
                rows += [f"1,{number % 4},{source},0,100,0" for source in range(2)]
                (root / f"metadata_{kind}" / part / f"{name}.csv").write_text("\n".join(rows) + "\n")
            number += 1
        if part == "eval":
            (root / "metadata_eval" / "eval").rmdir()
            (root / "metadata_eval").rmdir()
    return root


RECORDINGS = [
    *(("dev-train-tau", 3, room, mix) for room in range(1, 7) for mix in range(2)),
    ("dev-test-tau", 4, 8, 0),
    ("dev-test-sony", 4, 9, 0),
    ("eval", 9, 1, 0),
]
