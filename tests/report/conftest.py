"""A small corpus with sound, labels and a few videos, run through the real stages with two simple predictors."""

import numpy as np
import pytest
from report_stages import REGISTRY

from dcase_seld.recipe.run import RunOptions, run_recipe

RECIPE = """
about: Predictors whose quality is known.
steps:
  data: {stage: prepare, corpus: corpus, split: {fraction: 0.0}}
  sharp: {stage: blur, data: data, spread_deg: 5}
  wide: {stage: blur, data: data, spread_deg: 40, lost: 0.4}
  csv_sharp: {stage: export, events: sharp}
  csv_wide: {stage: export, events: wide}
  score_sharp: {stage: score, csv: csv_sharp, data: data}
  score_wide: {stage: score, csv: csv_wide, data: data}
  page: {stage: report, scores: [score_sharp, score_wide], examples: 2, title: Two predictors}
"""


def write_corpus(root, clips=10, videos=4):
    """Write an official layout: tones of 5 s with moving sources, and small videos for some clips."""
    from dcase_seld.media.audio import write_wav
    from dcase_seld.media.writing import write_video

    rng = np.random.default_rng(7)
    part = "dev-test-tau"
    for kind in ("stereo_dev", "metadata_dev", "video_dev"):
        (root / kind / part).mkdir(parents=True)
    time = np.arange(120_000) / 24_000
    for number in range(clips):
        name = f"fold4_room{number % 3 + 1}_mix{number % 5 + 1:03d}_deg000_start{number:04d}"
        tone = 0.2 * np.sin(2 * np.pi * (300 + 100 * number) * time)
        write_wav(root / "stereo_dev" / part / f"{name}.wav", np.stack([tone, 0.5 * tone]).astype(np.float32))
        rows = ["frame,class,source,azimuth,distance,onscreen"]
        for source in range(number % 4):
            start, length = rng.integers(0, 20), rng.integers(10, 30)
            azimuth, sound = int(rng.integers(-80, 80)), int(rng.integers(0, 13))
            distance = int(rng.integers(80, 600))
            rows += [
                f"{frame},{sound},{source},{azimuth},{distance},{int(abs(azimuth) < 50)}"
                for frame in range(start, start + length)
            ]
        (root / "metadata_dev" / part / f"{name}.csv").write_text("\n".join(rows) + "\n")
        if number < videos:
            frames = (np.full((90, 160, 3), (40, 90, (k * 3) % 255), np.uint8) for k in range(50))
            write_video(root / "video_dev" / part / f"{name}.mp4", frames, 10.0)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Return the folder in which the recipe was run: recipe `pair`, results under `work`."""
    folder = tmp_path_factory.mktemp("report")
    write_corpus(folder / "corpus")
    (folder / "pair.yaml").write_text(RECIPE)
    run_recipe(folder / "pair.yaml", REGISTRY, folder / "work", options=RunOptions(quiet=True, workers=1))
    return folder
