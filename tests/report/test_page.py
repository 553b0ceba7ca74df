import base64
import io
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.report.gather import gather


@pytest.fixture(scope="module")
def page(finished):
    return (finished / "work" / "pair" / "page" / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_needs_nothing_else(page):
    tree = ET.fromstring(page.split("\n", 1)[1])
    links = [
        value for node in tree.iter() for key, value in node.attrib.items() if key.split("}")[-1] in ("href", "src")
    ]
    assert links and all(link.startswith("data:") for link in links)
    assert "http" not in page and "<script" not in page and "url(" not in page
    assert tree.find("head/meta[@name='viewport']") is not None and "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_every_section_is_there(page):
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Scores",
        "Differences between runs",
        "What would help most",
        "Classes",
        "Which class is taken for which",
        "Where the errors are",
        "On screen or off",
        "Is activity a probability?",
        "Training",
        "Best and worst clips",
        "How it was made",
    ]
    assert "official baseline, audio-visual" in page and "26.8" in page
    assert "<h1>Two predictors</h1>" in page and "nan" not in page.lower().replace("nano", "")


def test_pictures_and_sounds_are_real(page):
    import cv2

    pictures = re.findall(r'href="data:image/jpeg;base64,([^"]+)"', page)
    sounds = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    assert len(sounds) == 4 and pictures
    for text in pictures:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (90, 160, 3)
    for text in sounds:
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(text)))
        assert rate == 24_000 and abs(len(sound) - 120_000) < 4_000 and np.abs(sound).max() > 0.1


def test_figures_equal_those_of_the_score_step(page, finished):
    import json

    scores = json.loads((finished / "work" / "pair" / "score_sharp" / "scores.json").read_text())
    (run, _) = gather([finished / "work" / "pair"])
    assert run.name == "pair/score_sharp" and run.scores.f_score == pytest.approx(scores["f_score"], abs=1e-12)
    assert f"<b>{100 * scores['f_score']:.1f} %</b>" in page
    assert [made.step for made in run.steps] == ["data", "sharp", "csv_sharp", "score_sharp"]
    assert dict(run.curves())["sharp"][1] == {"epoch": 2.0, "loss": 0.4, "f_score": 0.3}


def test_the_command_takes_a_recipes_folder_and_a_folder_of_csv_files(finished, tmp_path):
    out = tmp_path / "sub" / "r.html"
    work = finished / "work" / "pair"
    done = CliRunner().invoke(main, ["report", str(work / "score_wide"), "--out", str(out), "--examples", "0"])
    assert done.exit_code == 0 and out.exists() and "Best and worst" not in out.read_text()
    labels = finished / "corpus" / "metadata_dev" / "dev-test-tau"
    words = ["report", str(work / "csv_sharp" / "csv"), "--ref", str(labels), "--out", str(out)]
    assert CliRunner().invoke(main, words).exit_code == 0
    text = out.read_text()
    assert "<audio" not in text and "How it was made" not in text and "Best and worst clips" in text
    ET.fromstring(text.split("\n", 1)[1])


@pytest.mark.parametrize(
    ("inside", "said"),
    [("nothing", "does not exist"), ("pair/sharp", "not of a score step"), (".results", "no finished score step")],
)
def test_what_is_no_run_is_refused(finished, inside, said):
    with pytest.raises(SeldError, match=said):
        gather([finished / "work" / inside])


def test_the_same_run_twice_is_refused(finished):
    with pytest.raises(SeldError, match="given twice"):
        gather([finished / "work" / "pair", finished / "work" / "pair"])


def test_one_recipe_run_in_two_work_directories_can_be_compared(finished, tmp_path):
    (tmp_path / "copy").mkdir()
    shutil.copytree(finished / "work", tmp_path / "copy/work2", symlinks=True)
    names = [run.name for run in gather([finished / "work" / "pair", tmp_path / "copy/work2" / "pair"])]
    assert len(set(names)) == len(names) and any(n.startswith("work/") for n in names)
    assert any(n.startswith("work2/") for n in names)
