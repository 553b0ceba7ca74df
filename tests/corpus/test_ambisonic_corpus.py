"""Ambisonic corpora in STARSS23's layout: checked and counted with elevations, distances optional."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dcase_seld.cli.main import main
from dcase_seld.core.config import parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.corpus.check import Wanted, check_corpus
from dcase_seld.corpus.stats import label_stats, read_labels
from dcase_seld.media.audio import write_wav
from dcase_seld.media.writing import write_video
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.data import PREPARE_STAGE
from dcase_seld.store.store import Store

PART = "dev-train-sony"
ROWS = "0,1,0,-170,20,250\n1,1,0,-170,20,250\n1,8,1,95,-85,120\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two recordings of 3 s; the second has nothing annotated and no video."""
    root = tmp_path / "starss"
    for folder in ("foa_dev", "metadata_dev", "video_dev"):
        (root / folder / PART).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, rows in (("fold3_room1_mix001", ROWS), ("fold3_room2_mix001", "")):
        write_wav(root / "foa_dev" / PART / f"{name}.wav", rng.integers(-999, 999, (4, 72_000)).astype(np.int16))
        (root / "metadata_dev" / PART / f"{name}.csv").write_text(rows)
    frames = [np.full((64, 128, 3), 90, np.uint8)] * 30
    write_video(root / "video_dev" / PART / "fold3_room1_mix001.mp4", frames, 10)
    return root


def labels(root: Path, text: str) -> None:
    (root / "metadata_dev" / PART / "fold3_room1_mix001.csv").write_text(text)


def test_a_sound_corpus_has_no_problem_but_the_missing_video(corpus: Path) -> None:
    report = check_corpus(corpus, Wanted(seconds="official"))
    assert [problem.kind for problem in report.problems] == ["missing-video"]
    assert report.suspicious == [] and report.events == 3 and report.hours == pytest.approx(6 / 3600)


@pytest.mark.parametrize(
    "text, kind, words",
    [
        ("0,1,0,10,20,2.5\n", "broken-labels", "Are these metres"),
        ("0,1,0,10,91,250\n", "broken-labels", "elevation is 91"),
        ("0,13,0,10,20,250\n", "broken-labels", "class is 13"),
        ("0,1,0,10,20,250\n30,1,0,10,20,250\n", "labels-late", "1 label rows from frame 30 on"),
    ],
)
def test_what_is_wrong_is_named(corpus: Path, text: str, kind: str, words: str) -> None:
    labels(corpus, text)
    found = [problem for problem in check_corpus(corpus).problems if problem.kind == kind]
    assert len(found) == 1 and words in found[0].text


def test_sound_that_is_not_ambisonic_and_a_flat_video_are_problems(corpus: Path) -> None:
    write_wav(corpus / "foa_dev" / PART / "fold3_room1_mix001.wav", np.ones((2, 72_000), np.int16))
    write_video(corpus / "video_dev" / PART / "fold3_room1_mix001.mp4", [np.zeros((72, 128, 3), np.uint8)] * 30, 10)
    text = " ".join(problem.text for problem in check_corpus(corpus).problems)
    assert "2 channel(s), expected 4" in text and "twice as wide as high" in text


def test_labels_are_counted_on_the_sphere(corpus: Path, tmp_path: Path) -> None:
    options = ["--picture", str(tmp_path / "s.png"), "--json", str(tmp_path / "s.json")]
    done = CliRunner().invoke(main, ["data", "stats", str(corpus), *options])
    assert done.exit_code == 0 and "all around" in done.output and "on screen;" not in done.output
    figures = json.loads((tmp_path / "s.json").read_text())
    sphere = np.array(figures["sphere"])
    assert sphere.shape == (36, 18) and sphere[1, 11] == 2 and sphere[27, 0] == 1 and sphere.sum() == 3
    assert figures["azimuth_edges_deg"][0] == -180 and np.array(figures["azimuth"])[1, 1] == 2
    assert (tmp_path / "s.png").stat().st_size > 10_000
    from dcase_seld.core.classes import DCASE2025

    # A folder of such files alone is known by its first line.
    assert label_stats(*read_labels(corpus / "metadata_dev" / PART, DCASE2025)).sphere is not None


def test_labels_without_distances_serve_2023_alone(corpus: Path, tmp_path: Path) -> None:
    labels(corpus, "0,1,0,-170,20\n1,1,0,-170,20\n")
    assert check_corpus(corpus).events == 2
    for task in ("dcase2023", "dcase2024"):
        config = parse_config(PREPARE_STAGE.config, {"corpus": str(corpus), "task": task}, task)
        (tmp_path / task).mkdir()
        if task == "dcase2024":
            with pytest.raises(SeldError, match="2023 alone goes without"):
                PREPARE_STAGE.run(config, {}, tmp_path / task, Context(workers=1))
        else:
            PREPARE_STAGE.run(config, {}, tmp_path / task, Context(workers=1))
            assert set(Store.open(tmp_path / task).events.distance_m) == {1.0}
