import base64
import io
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from report_stages import REGISTRY

from dcase_seld.cli.main import main
from dcase_seld.core.errors import SeldError
from dcase_seld.core.files import follow
from dcase_seld.recipe.run import RunOptions, run_recipe
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
    assert [made.name for made in run.steps] == ["data", "sharp", "csv_sharp", "score_sharp"]
    assert dict(run.curves())["sharp"][1] == {"epoch": 2.0, "loss": 0.4, "f_score": 0.3}


def test_the_command_takes_a_recipes_folder_and_a_folder_of_csv_files(finished, tmp_path):
    out = tmp_path / "sub" / "r.html"
    work = finished / "work" / "pair"
    done = CliRunner().invoke(main, ["report", str(work / "score_wide"), "--out", str(out), "--examples", "0"])
    assert done.exit_code == 0 and out.exists() and "Best and worst" not in out.read_text()
    labels = shutil.copytree(finished / "corpus" / "metadata_dev" / "dev-test-tau", tmp_path / "labels")
    words = ["report", str(work / "csv_sharp" / "csv"), "--ref", str(labels), "--out", str(out)]
    assert CliRunner().invoke(main, words).exit_code == 0
    text = out.read_text()
    assert "<audio" not in text and "How it was made" not in text and "Best and worst clips" in text
    ET.fromstring(text.split("\n", 1)[1])


def test_a_page_says_what_it_is_and_when_it_was_scored(page, finished):
    tree = ET.fromstring(page.split("\n", 1)[1])
    head = " ".join(tree.find("body/header").itertext())
    assert tree.find("head/title").text == "SELD report: Two predictors"
    assert "Predictors whose quality is known." in head and re.search(r"Scored 20\d\d-\d\d-\d\d \(UTC\)", head)
    tiles = tree.findall("body/header/ul")
    assert [one.attrib["aria-label"] for one in tiles] == [
        "figures of pair/score_sharp", "figures of pair/score_wide"
    ]  # fmt: skip
    assert not re.search(r">-0(\.0*)?( %|°)?<", page)


def test_every_picture_says_in_words_what_it_shows(page, finished):
    tree = ET.fromstring(page.split("\n", 1)[1])
    texts = [node.attrib["aria-label"] for node in tree.iter() if node.attrib.get("role") == "img"]
    assert len(texts) > 20 and all(text.count(";") >= 1 for text in texts)
    (run, wide) = gather([finished / "work" / "pair"])
    bars = next(text for text in texts if text.startswith("F20/1 % by class"))
    assert f"Knock {100 * run.scores.classwise['f_score'][12]:.1f}" in bars and wide.name in bars
    assert any(text.startswith("azimuth over time; annotated: ") and " s " in text for text in texts)
    assert any(text.startswith("frame at") and "annotated: " in text and "predicted: " in text for text in texts)


SIMULATED = """
about: a simulated set
steps:
  made: {stage: simulate, clips: {train: 3, test: 3}}
  data: {stage: prepare, corpus: made, split: {fraction: 0.0}}
  sharp: {stage: blur, data: data, spread_deg: 5, untrained: true}
  csv: {stage: export, events: sharp}
  score: {stage: score, csv: csv, data: data}
  other: {stage: prepare, corpus: CORPUS, split: {fraction: 0.0}}
  sharp2: {stage: blur, data: other, spread_deg: 5}
  csv2: {stage: export, events: sharp2}
  score2: {stage: score, csv: csv2, data: other}
"""


def test_made_scenes_and_untrained_networks_are_said_at_the_head(finished, tmp_path):
    recipe = tmp_path / "made.yaml"
    recipe.write_text(SIMULATED.replace("CORPUS", str(finished / "corpus")))
    run_recipe(recipe, REGISTRY, tmp_path / "work", options=RunOptions(quiet=True, workers=1))

    def head_of(*runs):
        words = ["report", *map(str, runs), "--out", str(tmp_path / "r.html"), "--examples", "0"]
        done = CliRunner().invoke(main, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        tree = ET.fromstring((tmp_path / "r.html").read_text().split("\n", 1)[1])
        published = [node for node in tree.iter("tr") if node.attrib.get("class") == "published"]
        return " ".join(tree.find("body/header").itertext()), published

    work = tmp_path / "work" / "made"
    head, published = head_of(work / "score")
    assert "a simulated set" in head and "made scenes" in head and not published
    assert "never trained: blurred" in head
    head, published = head_of(work / "score2")
    assert "made scenes" not in head and "never trained" not in head and published
    head, published = head_of(work / "score2", work / "score")
    assert "made/score: The scored clips are made scenes" in head and not published
    (follow(work / "sharp") / "receipt.json").write_text("{")
    head, _ = head_of(work / "score")
    assert "never trained" not in head and f"is not known: {follow(work / 'sharp').name}" in head
    # The same scenes as CSV files of another system, and as a corpus of another recipe.
    again, labels = work / "csv" / "csv", work / "made"
    head, published = head_of(again, "--ref", labels)
    assert "made scenes" in head and not published
    assert "3 of 6 clips with references have no file" in head
    outside = tmp_path / "outside.yaml"
    steps = SIMULATED.split("  other:")[0].replace("  made: {stage: simulate, clips: {train: 3, test: 3}}\n", "")
    outside.write_text(steps.replace("corpus: made", f"corpus: {work / 'made'}"))
    run_recipe(outside, REGISTRY, tmp_path / "work", options=RunOptions(quiet=True, workers=1))
    assert "made scenes" in head_of(tmp_path / "work" / "outside")[0]


def test_systems_of_others_are_compared_with_the_corpus_sound(finished, tmp_path):
    """Folders of CSV files of two systems, against a corpus: its labels, its classes, its sound and videos."""
    work, corpus = finished / "work" / "pair", tmp_path / "corpus"
    shutil.copytree(finished / "corpus", corpus)
    for name in ("sharp", "wide"):
        shutil.copytree(work / f"csv_{name}" / "csv", tmp_path / name / "csv")
    for ref in (corpus, corpus / "metadata_dev", corpus / "metadata_dev" / "dev-test-tau"):
        words = ["report", str(tmp_path / "sharp" / "csv"), str(tmp_path / "wide" / "csv"), "--ref", str(ref)]
        out = tmp_path / "r.html"
        assert CliRunner().invoke(main, [*words, "--out", str(out), "--examples", "2"]).exit_code == 0
        text = out.read_text()
        assert text.count("<audio") == 4 and "data:image/jpeg" in text and "sharp/csv minus" not in text
        assert "wide/csv minus sharp/csv" in text
    named = [run.name for run in gather([tmp_path / "wide", work / "csv_sharp"], corpus)]
    assert named == ["wide", "csv_sharp"]  # folders that hold csv/, also those of export steps
    (corpus / "taxonomy.yaml").write_text("classes: [" + ", ".join(f"Sound {k}" for k in range(13)) + "]\n")
    assert CliRunner().invoke(main, [*words, "--out", str(out), "--examples", "0"]).exit_code == 0
    assert "Sound 12" in out.read_text() and "Knock" not in out.read_text()
    (tmp_path / "sharp" / "csv" / "stranger.csv").write_text("frame,class,source,azimuth,distance,onscreen\n")
    with pytest.raises(SeldError, match="stranger"):
        gather([tmp_path / "sharp" / "csv"], corpus)


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
