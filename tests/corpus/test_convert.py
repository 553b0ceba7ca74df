import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import write_csv
from dcase_seld.core.geometry import foa_to_stereo, perspective_view
from dcase_seld.corpus import convert as convert_module
from dcase_seld.corpus.convert import Job, convert
from dcase_seld.media.audio import read_audio, write_wav
from dcase_seld.media.frames import read_frames, video_info
from dcase_seld.media.writing import VideoWriter
from dcase_seld.recipe.stage import Context
from dcase_seld.stages.data import CONVERT_STAGE as STAGE
from dcase_seld.stages.data import ConvertConfig

GOLDEN = Path(__file__).parent.parent / "golden" / "convert"
NAME = "fold3_room4_mix001"
ANGLES = (0, 40, 135, 270)
FPS = 10.0
"""Fewer frames than the challenge's 29.97, for speed."""


def picture(number):
    """A small 360° picture whose stripes move with the frame's number."""
    columns, rows = np.meshgrid(np.arange(240), np.arange(120))
    image = np.stack([columns + 2 * number, rows * 2, columns // 2 + rows], -1) % 200
    return image.astype(np.uint8)


def make_source(root, names=(NAME,), repeats=1, video=True, gain=0.1):
    for number, name in enumerate(names):
        for kind in ("foa", "metadata", "video"):
            (root / f"{kind}_dev" / "dev-train-tau").mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(0, gain, (4, 120_000 * repeats)).astype(np.float32)
        write_wav(root / "foa_dev" / "dev-train-tau" / f"{name}.wav", noise.clip(-1, 1))
        lines = (GOLDEN / "source_labels.csv").read_text().split()
        rows = [[int(cell) for cell in line.split(",")] for line in lines]
        moved = [[frame + 50 * again, *rest] for again in range(repeats) for frame, *rest in rows]
        text = "".join(",".join(map(str, row)) + "\n" for row in moved)
        (root / "metadata_dev" / "dev-train-tau" / f"{name}.csv").write_text(text)
        if video:
            with VideoWriter(root / "video_dev" / "dev-train-tau" / f"{name}.mp4", FPS) as writer:
                for frame in range(round(5 * FPS) * repeats):
                    writer.write(picture(frame))
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def silent_source(tmp_path_factory):
    """Two longer recordings without video."""
    return make_source(tmp_path_factory.mktemp("long"), (NAME, "fold4_room9_mix002"), repeats=4, video=False)


def listed(path, rows):
    path.write_text("recording,angle_deg,start_frame\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    return path


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def converted(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    clips = listed(out.parent / "list.csv", [(NAME, angle, 0) for angle in ANGLES])
    facts = convert(Job(source, out, clips=clips))
    assert facts["clips"] == facts["made_now"] == 4 and facts["notes"] == []
    return out


@pytest.mark.parametrize("angle", ANGLES)
def test_labels_are_those_of_the_official_converter(converted, angle):
    made = converted / "metadata_dev" / "dev-train-tau" / f"{NAME}_deg{angle:03d}_start0000.csv"
    assert made.read_text() == (GOLDEN / f"deg{angle:03d}_labels.csv").read_text()


@pytest.mark.parametrize("angle", ANGLES)
def test_sound(converted, source, angle):
    foa = read_audio(source / "foa_dev" / "dev-train-tau" / f"{NAME}.wav", channels=None)
    omni, left, _, front = foa.astype(np.float64)
    side = np.sin(np.radians(angle)) * front + np.cos(np.radians(angle)) * left
    stereo = np.stack([omni + side, omni - side])
    assert np.abs(foa_to_stereo(foa, angle) - stereo).max() < 1e-6
    made = read_audio(converted / "stereo_dev" / "dev-train-tau" / f"{NAME}_deg{angle:03d}_start0000.wav")
    assert made.shape == (2, 120_000) and np.abs(made - stereo).max() < 1.6e-5  # half a step of 16 bits


def test_video(converted):
    for angle in ANGLES:
        path = converted / "video_dev" / "dev-train-tau" / f"{NAME}_deg{angle:03d}_start0000.mp4"
        info = video_info(path)
        assert (info.width, info.height, info.frames) == (640, 360, 50)
        assert info.fps == pytest.approx(FPS, rel=1e-3) and info.duration_s == pytest.approx(5.0, abs=0.05)
        frames = [0, 20, 49]
        shown = read_frames(path, [(number + 0.5) / info.fps for number in frames]).images
        for number, image in zip(frames, shown, strict=True):
            expected = perspective_view(picture(number), angle).astype(int)
            assert np.median(np.abs(image - expected)) < 8  # two lossy codings lie between


def test_clip_in_the_middle(silent_source, tmp_path):
    clips = listed(tmp_path / "c.csv", [(NAME, 40, 63)])
    convert(Job(silent_source, tmp_path / "o", clips=clips, video=False))
    foa = read_audio(silent_source / "foa_dev" / "dev-train-tau" / f"{NAME}.wav", channels=None)
    made = read_audio(tmp_path / "o" / "stereo_dev" / "dev-train-tau" / f"{NAME}_deg040_start0063.wav")
    assert np.abs(made - foa_to_stereo(foa[:, 63 * 2400 : 113 * 2400], 40)).max() < 1.6e-5
    rows = (tmp_path / "o" / "metadata_dev" / "dev-train-tau" / f"{NAME}_deg040_start0063.csv").read_text().split()[1:]
    golden = (GOLDEN / "deg040_labels.csv").read_text().split()[1:]
    # Labels repeat every 50 frames: frame 0 of the clip is frame 13 of the golden labels.
    turned = sorted((int(row.split(",")[0]) - 13) % 50 for row in golden)
    assert sorted(int(row.split(",")[0]) for row in rows) == turned
    first = [row.split(",")[1:] for row in rows if row.startswith("0,")]
    assert first == [row.split(",")[1:] for row in golden if row.startswith("13,")]


def test_same_clips_whatever_the_processes(silent_source, tmp_path):
    one = convert(Job(silent_source, tmp_path / "a", count=12, seed=3, video=False))
    two = convert(Job(silent_source, tmp_path / "b", count=12, seed=3, video=False), workers=2)
    assert one == two and one["clips"] == 12 and one["recordings"] == 2
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    convert(Job(silent_source, tmp_path / "c", count=12, seed=4, video=False))
    assert contents(tmp_path / "a").keys() != contents(tmp_path / "c").keys()


def test_interrupted_conversion_goes_on(source, tmp_path, monkeypatch):
    clips = listed(tmp_path / "list.csv", [(NAME, angle, 0) for angle in ANGLES])
    job = Job(source, tmp_path / "o", clips=clips)
    write, calls = write_csv, []

    def dying(path, events):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(path, events)

    monkeypatch.setattr(convert_module, "write_csv", dying)
    with pytest.raises(KeyboardInterrupt):
        convert(job)
    monkeypatch.undo()
    stale = tmp_path / "o" / "stereo_dev" / "dev-train-tau" / ".x.wav.99.part"
    stale.write_bytes(b"left by a killed process")
    assert convert(job)["made_now"] == 2
    convert(Job(source, tmp_path / "whole", clips=clips))
    assert contents(tmp_path / "o") == contents(tmp_path / "whole")
    assert convert(job)["made_now"] == 0


@pytest.mark.slow
def test_ctrl_c_ends_the_processes_and_keeps_what_is_done(source, tmp_path):
    clips = listed(tmp_path / "list.csv", [(NAME, angle, 0) for angle in range(0, 360, 30)])
    options = ["data", "convert", "--source", source, "--out", tmp_path / "o", "--clips", clips, "--workers", "2"]
    command = [sys.executable, "-m", "dcase_seld.cli.main", *map(str, options)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "o").rglob("*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130 and "interrupted" in said
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "12 clips" in done.stdout
    assert len(list((tmp_path / "o").rglob("*.mp4"))) == len(list((tmp_path / "o").rglob("*.csv"))) - 1 == 12
    assert not list((tmp_path / "o").rglob("*.part"))


def test_too_loud_clips_are_replaced(tmp_path):
    root = make_source(tmp_path / "s", repeats=3, video=False)
    path = root / "foa_dev" / "dev-train-tau" / f"{NAME}.wav"
    foa = read_audio(path, channels=None)
    foa[0, 200_000] = 1.0
    write_wav(path, foa)
    facts = convert(Job(root, tmp_path / "o", count=20, video=False))
    assert facts["clips"] == 20 and facts["discarded_for_peak"] > 0
    loudest = max(np.abs(read_audio(p)).max() for p in (tmp_path / "o").rglob("*.wav"))
    assert loudest <= 0.9999
    # A clip that was asked for is made, with a word about it.
    clips = listed(tmp_path / "c.csv", [(NAME, 0, 60)])
    notes = convert(Job(root, tmp_path / "p", clips=clips, video=False))["notes"]
    assert len(notes) == 1 and "exceeds full scale" in notes[0]


def test_every_clip_too_loud(tmp_path):
    root = make_source(tmp_path / "s", repeats=1, video=False, gain=2.0)
    with pytest.raises(SeldError, match=r"Only 0 of 2 clips.*exceed the peak"):
        convert(Job(root, tmp_path / "o", count=2, video=False))


def test_a_video_that_ends_early_is_told(source, tmp_path):
    root = make_source(tmp_path / "s", repeats=1, video=False)
    with VideoWriter(root / "video_dev" / "dev-train-tau" / f"{NAME}.mp4", 30_000 / 1_001) as writer:
        for number in range(75):
            writer.write(picture(number))
    clips = listed(tmp_path / "c.csv", [(NAME, 0, 0)])
    notes = convert(Job(root, tmp_path / "o", clips=clips))["notes"]
    assert len(notes) == 1 and "of 150 frames are missing" in notes[0]
    assert video_info(next((tmp_path / "o").rglob("*.mp4"))).frames == 150


def test_stage_writes_a_corpus(silent_source, tmp_path):
    from dcase_seld.corpus.layout import index_corpus

    facts = STAGE.run(ConvertConfig(source=str(silent_source), count=3, video=False), {}, tmp_path, Context())
    assert facts["clips"] == 3 and "made_now" not in facts
    corpus = index_corpus(tmp_path)
    assert len(corpus.clips) == 3 and corpus.problems == ()


def test_another_job_does_not_mix_with_what_is_there(silent_source, tmp_path):
    convert(Job(silent_source, tmp_path, count=2, video=False))
    with pytest.raises(SeldError, match="clips of other options"):
        convert(Job(silent_source, tmp_path, count=3, video=False))
    before = sorted(silent_source.rglob("*"))
    with pytest.raises(SeldError, match="this work did not make"):
        convert(Job(silent_source, silent_source, count=2, video=False))
    assert sorted(silent_source.rglob("*")) == before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("fold9", 0, 0)], "line 2: there is no recording 'fold9'"),
        ([(NAME, 0, 0), (NAME, "left", 0)], "line 3: angle_deg and start_frame must be whole numbers"),
        ([(NAME, 0, 151)], r"line 2: start_frame 151 is outside 0 … 150"),
        ([(NAME, 0, 0), (NAME, 360, 0)], "deg000_start0000 twice"),
        ([], "no clip"),
    ],
)
def test_broken_lists(silent_source, tmp_path, rows, message):
    with pytest.raises(SeldError, match=message):
        convert(Job(silent_source, tmp_path / "o", clips=listed(tmp_path / "c.csv", rows), video=False))


def test_list_without_the_columns(silent_source, tmp_path):
    (tmp_path / "c.csv").write_text("recording,angle\n")
    with pytest.raises(SeldError, match="line 1: expected the columns recording,angle_deg,start_frame"):
        convert(Job(silent_source, tmp_path / "o", clips=tmp_path / "c.csv", video=False))


def test_sources_that_are_not_whole(silent_source, tmp_path):
    with pytest.raises(SeldError, match=r"video_dev.* holds no"):
        convert(Job(silent_source, tmp_path / "o", count=1))
    with pytest.raises(SeldError, match=r"foa_dev cannot be read"):
        convert(Job(tmp_path, tmp_path / "o", count=1))
    root = make_source(tmp_path / "s", video=False)
    sound = root / "foa_dev" / "dev-train-tau" / f"{NAME}.wav"
    metadata = root / "metadata_dev" / "dev-train-tau" / f"{NAME}.csv"
    lines = metadata.read_text()
    metadata.write_text(lines + "49,0,0,10,5\n")
    with pytest.raises(SeldError, match=r"line 135: expected frame,class.*A distance"):
        convert(Job(root, tmp_path / "o", count=1, video=False))
    metadata.rename(metadata.with_name("other.csv"))
    with pytest.raises(SeldError, match=f"lacks 1 of 1 recordings: {NAME}"):
        convert(Job(root, tmp_path / "o2", count=1, video=False))
    write_wav(sound, np.zeros((2, 120_000), np.int16))
    metadata.with_name("other.csv").rename(metadata)
    with pytest.raises(SeldError, match="2 channels at 24000 Hz; 4"):
        convert(Job(root, tmp_path / "o2", count=1, video=False))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("49,0,0,10,5,1.53", r"distance is 1.53; it is in whole centimetres.*Are these metres\?"),
        ("4.9,0,0,10,5,153", r"frame is 4.9; it counts tenths of a second.*Are these seconds\?"),
        ("49,0,0,10,5,-153", r"distance is -153; it is in whole centimetres"),
        ("49,15,0,10,5,153", r"class is 15; it is a number of the list of classes, 0 to 12"),
        ("49,0,0,500,5,153", r"azimuth is 500; it is in whole degrees, -180 to 360"),
        ("49,0,0,10,95,153", r"elevation is 95"),
        ("49,0,0,10,5,nan", r"distance is nan"),
        ("49,0,0,ten,5,153", r"expected frame,class,source,azimuth,elevation,distance"),
    ],
)
def test_labels_in_foreign_units_are_refused_before_anything_is_made(tmp_path, row, message):
    root = make_source(tmp_path / "s", video=False)
    metadata = root / "metadata_dev" / "dev-train-tau" / f"{NAME}.csv"
    metadata.write_text(metadata.read_text() + row + "\n")
    with pytest.raises(SeldError, match=rf"{NAME}.csv, line 135: {message}"):
        convert(Job(root, tmp_path / "o", count=1, video=False))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("farthest", "warned"), [(19, True), (20, False)])
def test_a_set_without_any_distance_of_20_cm_is_warned_of(tmp_path, capsys, farthest, warned):
    root = make_source(tmp_path / "s", video=False)
    rows = f"0,0,0,10,5,{farthest}\n1,0,0,10,5,2\n"
    (root / "metadata_dev" / "dev-train-tau" / f"{NAME}.csv").write_text(rows)
    assert convert(Job(root, tmp_path / "o", count=1, video=False))["clips"] == 1
    assert ("no distance in" in capsys.readouterr().err) == warned


def test_a_source_with_classes_of_its_own_is_held_against_them(tmp_path):
    root = make_source(tmp_path / "s", video=False)
    metadata = root / "metadata_dev" / "dev-train-tau" / f"{NAME}.csv"
    metadata.write_text("0,13,0,10,5,153\n")
    (root / "taxonomy.yaml").write_text(f"classes: [{', '.join(f'Class {n}' for n in range(14))}]\n")
    assert (
        convert(Job(root, tmp_path / "o", clips=listed(tmp_path / "c.csv", [(NAME, 0, 0)]), video=False))["clips"] == 1
    )
    assert ",13,0," in (tmp_path / "o/metadata_dev/dev-train-tau" / f"{NAME}_deg000_start0000.csv").read_text()
    metadata.write_text("0,14,0,10,5,153\n")
    with pytest.raises(SeldError, match="class is 14; it is a number of the list of classes, 0 to 13"):
        convert(Job(root, tmp_path / "o2", count=1, video=False))
