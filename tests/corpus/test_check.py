import os
import shutil

import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.corpus.check import OF_SOUND, SUSPICIOUS, Wanted, check_corpus
from dcase_seld.media.audio import write_wav
from dcase_seld.media.writing import write_video

SMALL = [("dev-train-tau", 3, 1, 0), ("dev-test-tau", 4, 8, 0)]
HALF = Wanted(seconds=0.5)


@pytest.fixture
def corpus(tmp_path, make_corpus):
    root = make_corpus(tmp_path / "corpus", SMALL)
    for wav in sorted((root / "stereo_dev").rglob("*.wav")):
        folder = root / "video_dev" / wav.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"{wav.stem}.mp4", [np.zeros((360, 640, 3), np.uint8)] * 5, 10.0)
    return root


def files(root, kind):
    return sorted(path for path in (root / f"{kind}_dev" / "dev-train-tau").iterdir())


def kinds(report):
    return [problem.kind for problem in report.problems]


def test_good_corpus(corpus):
    report = check_corpus(corpus, HALF)
    assert report.ok and report.problems == []
    assert report.parts == {
        part: {"clips": 3, "sounds": 3, "labels": 3, "videos": 3} for part in ("dev-train-tau", "dev-test-tau")
    }
    assert report.to_json()["clips"] == 6 and report.events == 18
    assert report.hours == pytest.approx(6 * 0.5 / 3600)
    assert report.lines()[-1] == "No problem was found."


def test_missing_video_is_named(corpus):
    gone = files(corpus, "video")[1]
    gone.unlink()
    report = check_corpus(corpus, HALF)
    assert kinds(report) == ["missing-video"] and gone.stem in report.problems[0].text


def test_truncated_wav(corpus):
    path = files(corpus, "stereo")[0]
    path.write_bytes(path.read_bytes()[:999])
    report = check_corpus(corpus, HALF)
    assert kinds(report) == ["broken-sound"] and "cut short" in report.problems[0].text
    assert report.problems[0].where == f"stereo_dev/dev-train-tau/{path.name}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("5,1,0,0,100,0", "line 5"),
        ("0,13,0,0,100,0", "line 5"),
        ("0,1,0,0,-5,0", "line 5"),
        ("0,1,0,0,100,2", "line 5"),
    ],
)
def test_label_out_of_range(corpus, row, message):
    path = files(corpus, "metadata")[0]
    path.write_text(path.read_text() + row + "\n")
    report = check_corpus(corpus, HALF)
    assert kinds(report) == ["broken-labels"] and message in report.problems[0].text


def test_formats(corpus):
    first, second, third = files(corpus, "stereo")
    write_wav(first, np.zeros((1, 12_000), np.int16))
    write_wav(second, np.zeros((2, 22_050), np.int16), 44_100)
    write_wav(third, np.zeros((2, 24_000), np.int16))
    texts = " | ".join(problem.text for problem in check_corpus(corpus, HALF).problems)
    for expected in ("1 channel(s), expected 2", "44100 Hz, expected 24000", "24,000 samples, expected 12,000 (0.5 s)"):
        assert expected in texts
    assert "0.50 s of video beside 1.00 s of sound" in texts
    assert "24,000 samples" not in str(check_corpus(corpus, Wanted(seconds=None)).problems)


def test_videos(corpus):
    first, second, _ = files(corpus, "video")
    first.write_text("no video")
    write_video(second, [np.zeros((180, 320, 3), np.uint8)] * 5, 10.0)
    report = check_corpus(corpus, HALF)
    assert kinds(report) == ["broken-video", "video-format"] and "320x180" in report.problems[1].text
    assert check_corpus(corpus, Wanted(seconds=0.5, look_into_videos=False)).ok


def test_two_files_of_one_stem_and_empty_files(corpus):
    path = files(corpus, "stereo")[0]
    (corpus / "stereo_dev" / "dev-test-tau" / path.name).write_bytes(path.read_bytes())
    files(corpus, "metadata")[1].write_bytes(b"")
    report = check_corpus(corpus, HALF)
    assert kinds(report).count("duplicate") == 1 and "also in" in str(report.problems)
    assert kinds(report).count("empty-file") == 1 and "broken-labels" not in kinds(report)


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_unreadable_folder(corpus):
    folder = corpus / "metadata_dev" / "dev-train-tau"
    folder.chmod(0)
    try:
        assert "unreadable" in kinds(check_corpus(corpus, HALF))
    finally:
        folder.chmod(0o755)


def test_folder_that_is_a_link_to_itself(corpus):
    (corpus / "stereo_dev" / "dev-train-sony").symlink_to("dev-train-sony")
    report = check_corpus(corpus, HALF)
    assert kinds(report) == ["unreadable"] and report.problems[0].where == "stereo_dev/dev-train-sony"


def test_dangling_link_is_unreadable(corpus):
    path = files(corpus, "stereo")[0]
    path.unlink()
    path.symlink_to(corpus / "nowhere.wav")
    found = kinds(check_corpus(corpus, HALF))
    assert "unreadable" in found and "missing-audio" in found


def test_own_splits_that_do_not_fit(corpus):
    (corpus / "splits.csv").write_text("name,split\nfold3_room1,train\n")
    report = check_corpus(corpus, HALF)
    assert kinds(report) == ["splits"] and "nothing of 3 clip(s)" in report.problems[0].text


def test_no_corpus(tmp_path):
    with pytest.raises(SeldError, match="official layout"):
        check_corpus(tmp_path)
    with pytest.raises(SeldError, match="not a folder"):
        check_corpus(tmp_path / "no")


NOISE = np.random.default_rng(5).normal(0, 0.1, (2, 12_000)).astype(np.float32)
GOOD = ["0,1,0,20,150,1", "1,1,0,20,150,1"]
ODD = {
    "silent": (0 * NOISE, []),
    "equal-channels": (np.stack([NOISE[0], NOISE[0]]), GOOD),
    "clipped": (np.clip(NOISE * 20, -1, 1), GOOD),
    "offset": (NOISE + 0.1, GOOD),
    "azimuth-range": (NOISE, [*GOOD, "2,1,0,190,150,0"]),
    "azimuth-behind": (NOISE, [*GOOD, "2,1,0,-95,150,0"]),
    "distance-zero": (NOISE, [*GOOD, "2,1,0,20,0,0"]),
    "distance-near": (NOISE, ["0,1,0,20,19,0", "1,1,0,20,2,0"]),
    "distance-far": (NOISE, [*GOOD, "2,1,0,20,10001,0"]),
    "onscreen-outside": (NOISE, [*GOOD, "2,1,0,52,150,1"]),
    "rows-doubled": (NOISE, [*GOOD, GOOD[1]]),
    "labels-of-silence": (0 * NOISE, GOOD),
    "dead-channel": (NOISE * [[1], [0]], GOOD),
    "panned-channels": (np.stack([NOISE[0], -0.7 * NOISE[0]]), GOOD),
    "sound-twice": (NOISE, GOOD),
    "azimuths-narrow": (NOISE, [f"{f},{c},{s},{f + s - 3},150,1" for f in range(5) for c in range(13) for s in (0, 1)]),
    "frames-early": (
        np.tile(NOISE, 8),
        [f"{f},{c},{s},{9 * s},150,1" for f in range(4) for c in range(13) for s in (0, 1)],
    ),
}
"""Kind of suspicious thing → sound and label rows of a clip that has it."""


def odd_clip(root, sound, rows):
    """Write a corpus of one clip."""
    for kind in ("stereo", "metadata"):
        (root / f"{kind}_dev" / "dev-train-own").mkdir(parents=True)
    write_wav(root / "stereo_dev" / "dev-train-own" / "clip.wav", sound.astype(np.float32))
    text = "\n".join(["frame,class,source,azimuth,distance,onscreen", *rows]) + "\n"
    (root / "metadata_dev" / "dev-train-own" / "clip.csv").write_text(text)
    return root


@pytest.mark.parametrize("kind", SUSPICIOUS)
def test_every_kind_of_suspicious_thing_is_found_alone(tmp_path, kind):
    root = odd_clip(tmp_path / "c", *ODD[kind])
    if kind == "sound-twice":
        for path in root.glob("*_dev/*/clip.*"):
            shutil.copy(path, path.with_stem("other"))
    report = check_corpus(root, Wanted(seconds="official"))
    expected = {"labels-of-silence": ["silent", "labels-of-silence"]}.get(kind, [kind])
    assert [item.kind for item in report.suspicious] == expected and report.ok
    of = {"azimuths-narrow": str(tmp_path / "c"), "frames-early": str(tmp_path / "c")}
    of |= dict.fromkeys((*OF_SOUND, "sound-twice"), "stereo_dev/dev-train-own/clip.wav")
    assert report.suspicious[-1].where == of.get(kind, "metadata_dev/dev-train-own/clip.csv")
    assert SUSPICIOUS[kind] in "\n".join(report.lines()) and report.to_json()["suspicious_counts"][kind] == 1


def test_rows_that_are_doubled_under_other_numbers_are_found(tmp_path):
    rows = [f"{frame % 5},{frame // 5},{source},20,150,1" for frame in range(20) for source in (0, 7)]
    report = check_corpus(odd_clip(tmp_path / "c", NOISE, rows), Wanted(seconds="official"))
    assert [item.kind for item in report.suspicious] == ["rows-doubled"]


def test_what_is_just_allowed_is_not_suspicious(tmp_path):
    rows = ["0,1,0,90,10000,0", "1,1,0,-51,20,1", "2,1,0,0,1,0"]
    sound = NOISE.copy()
    sound[:, ::101] = 1.0
    report = check_corpus(odd_clip(tmp_path / "c", sound, rows), Wanted(seconds="official"))
    assert report.suspicious == [] and report.ok


def test_parts_of_ones_own_have_names_and_lengths_of_their_own(tmp_path):
    root = odd_clip(tmp_path / "c", NOISE, GOOD)
    assert kinds(check_corpus(root)) == ["sound-format"], "asked for 5 seconds, it says so"
    for kind in ("stereo", "metadata"):
        (root / f"{kind}_dev" / "dev-train-own").rename(root / f"{kind}_dev" / "dev-train-tau")
    assert kinds(check_corpus(root, Wanted(seconds="official"))) == ["name", "sound-format"]
