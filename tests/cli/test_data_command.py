import json
import subprocess
import sys

import numpy as np
import pytest

from dcase_seld.media.audio import write_wav


def run(*arguments):
    command = [sys.executable, "-m", "dcase_seld.cli.main", "data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    for number in range(2):
        name = f"fold3_room1_mix001_deg000_start000{number}"
        for kind in ("stereo", "metadata"):
            (root / f"{kind}_dev" / "dev-train-tau").mkdir(parents=True, exist_ok=True)
        write_wav(root / "stereo_dev" / "dev-train-tau" / f"{name}.wav", np.zeros((2, 120_000), np.int16))
        text = "frame,class,source,azimuth,distance,onscreen\n3,12,0,-20,150,1\n"
        (root / "metadata_dev" / "dev-train-tau" / f"{name}.csv").write_text(text)
    return root


def test_check_says_all_is_well(corpus, tmp_path):
    done = run("check", corpus, "--json", tmp_path / "r.json")
    assert done.returncode == 0 and "No problem was found; 4 suspicious things." in done.stdout, "its clips are silent"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["ok"] and report["clips"] == 2 and report["parts"]["dev-train-tau"]["labels"] == 2


def test_check_names_problems_and_exits_with_1(corpus, tmp_path):
    (tmp_path / "four.yaml").write_text("classes: [A, B, C, D]\n")
    done = run("check", corpus, "--taxonomy", tmp_path / "four.yaml", "--seconds", 4, "--json", tmp_path / "r.json")
    assert done.returncode == 1
    assert (
        "broken-labels: 2" in done.stdout
        and "line 2" in done.stdout
        and "120,000 samples, expected 96,000 (4 s)" in done.stdout
    )
    assert json.loads((tmp_path / "r.json").read_text())["problem_counts"] == {"broken-labels": 2, "sound-format": 2}


def test_check_refuses_what_is_no_corpus(tmp_path):
    done = run("check", tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_stats_table_and_picture(corpus, tmp_path):
    done = run("stats", corpus, "--picture", tmp_path / "p.png", "--json", tmp_path / "s.json")
    assert done.returncode == 0 and "Knock" in done.stdout and "100.0%" in done.stdout
    assert "2 clips, 0 of them silent; 2 source frames" in done.stdout
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "s.json").read_text())["source_frames"][12] == 2


def test_convert_refuses_two_ways_of_choosing(tmp_path):
    (tmp_path / "c.csv").write_text("recording,angle_deg,start_frame\n")
    done = run("convert", "--source", tmp_path, "--out", tmp_path / "o", "--clips", tmp_path / "c.csv", "--count", 3)
    assert done.returncode == 2 and "--count does not go with it" in done.stderr


def test_simulate_and_check(tmp_path):
    made = run("simulate", "--out", tmp_path / "c", "--train", 2, "--test", 1, "--workers", 1)
    assert made.returncode == 0, made.stderr
    assert run("check", tmp_path / "c").returncode == 0
    again = ("simulate", "--out", tmp_path / "c", "--train", 2, "--test", 1, "--workers", 1)
    assert run(*again).returncode == 0
    other = run(*again, "--seed", 3)  # clips of two seeds would lie side by side
    assert other.returncode == 1 and "clips of other options" in other.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "taxonomy.yaml").write_text("mine")
    foreign = run("simulate", "--out", tmp_path / "mine", "--train", 2)
    assert foreign.returncode == 1 and "this work did not make" in foreign.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["taxonomy.yaml"]
    config = tmp_path / "s.yaml"
    config.write_text("clips: {train: 2, test: 1}\npolyphonie: {}\n")
    wrong = run("simulate", "--out", tmp_path / "d", "--config", config)
    assert wrong.returncode == 1 and "did you mean 'polyphony'" in wrong.stderr
    config.write_text("clips: true\n")
    wrong = run("simulate", "--out", tmp_path / "d", "--config", config, "--train", 2)
    assert wrong.returncode == 1 and "clips: input should be" in wrong.stderr


def test_help_is_light():
    heavy = ("torch", "scipy", "cv2", "pandas", "matplotlib", "av")
    program = f"import sys; from dcase_seld.cli import data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
