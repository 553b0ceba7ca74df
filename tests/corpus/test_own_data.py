import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from tiny import MODEL

from dcase_seld import run_recipe, score
from dcase_seld.core.classes import DCASE2025, load_taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import read_csv
from dcase_seld.core.segments import link, to_audacity
from dcase_seld.corpus.audio_pack import AudioOptions
from dcase_seld.corpus.check import Wanted, check_corpus
from dcase_seld.corpus.own_data import Job, import_tables, read_pairs
from dcase_seld.corpus.tables import TableFormat
from dcase_seld.media.audio import audio_info, write_wav

SECONDS = TableFormat("seconds", direction="degrees", positive="left", distance="metres")
HEADER = "file,onset,offset,label,azimuth,distance,onscreen\n"


@pytest.fixture
def audio(tmp_path):
    """Recordings of 12, 5 and 3 seconds."""
    (tmp_path / "audio" / "day2").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, seconds in (("kitchen", 12), ("hall", 5), ("day2/street", 3)):
        write_wav(tmp_path / "audio" / f"{name}.wav", rng.normal(0, 0.1, (2, seconds * 24_000)).astype(np.float32))
    return tmp_path / "audio"


@pytest.fixture
def make(tmp_path, audio):
    def make_corpus(text, form=SECONDS, name="events.csv", **options):
        table = tmp_path / name
        table.write_text(text, encoding="utf-8")
        job = Job([table], audio, tmp_path / "corpus", form, **options)
        return job.out, import_tables(job)

    return make_corpus


def rows_of(corpus, name, part="dev-train-own"):
    text = (corpus / "metadata_dev" / part / f"{name}.csv").read_text()
    return [tuple(map(int, line.split(","))) for line in text.splitlines()[1:]]


def test_a_table_becomes_a_corpus(make):
    corpus, facts = make(
        HEADER
        + "kitchen.wav,0.5,0.72,Bell,30,1.5,1\nkitchen,11.96,12.02,Knock,-120,2,0\nday2/street.wav,1,1.01,bell,0,3,0\n"
    )
    assert rows_of(corpus, "kitchen") == [(5, 11, 0, 30, 150, 1), (6, 11, 0, 30, 150, 1), (119, 12, 0, -60, 200, 0)]
    assert rows_of(corpus, "street") == [(10, 11, 0, 0, 300, 0)], "a short event lasts one frame"
    assert facts["recordings"] == 2 and facts["events"] == 3 and facts["classes"] == {"Bell": 2, "Knock": 1}
    assert any("hall.wav" in note for note in facts["notes"]) and any("behind" in note for note in facts["notes"])
    assert not (corpus / "taxonomy.yaml").exists()
    assert check_corpus(corpus, Wanted(seconds="official")).ok


@pytest.mark.parametrize(
    ("form", "line"),
    [
        (TableFormat("seconds", direction="degrees", positive="right", distance="metres"), "1.0,2.0,Bell,-30,1.5"),
        (TableFormat("milliseconds", direction="degrees", positive="left", distance="metres"), "1000,2000,Bell,30,1.5"),
        (TableFormat("frames", direction="degrees", positive="left", distance="centimetres"), "10,20,Bell,30,150"),
        (TableFormat("frames", 0.02, "degrees", "left", "metres"), "50,100,Bell,30,1.5"),
        (TableFormat("seconds", direction="radians", positive="left", distance="metres"), "1,2,Bell,0.5235988,1.5"),
    ],
)
def test_declared_units_say_the_same(make, form, line):
    corpus, _ = make(f"file,onset,offset,label,azimuth,distance\nhall,{line}\n", form)
    assert rows_of(corpus, "hall") == [(frame, 11, 0, 30, 150, 0) for frame in range(10, 20)]


@pytest.mark.parametrize("positive", ["left", "right"])
def test_positions_give_direction_and_distance(make, positive):
    form = TableFormat("seconds", direction="xy", positive=positive, distance="centimetres")
    corpus, _ = make("file,onset,offset,label,x,y\nhall,0,0.1,Bell,300,400\n", form)
    assert rows_of(corpus, "hall") == [(0, 11, 0, 53 if positive == "left" else -53, 500, 0)]


def test_frames_without_an_offset_are_rows_of_one_frame(make):
    form = TableFormat(
        "frames", direction="degrees", positive="left", distance="centimetres", columns={"onset": "frame"}
    )
    corpus, _ = make("file,frame,label,azimuth,distance\nhall,3,Bell,10,100\nhall,4,Bell,12,100\n", form)
    assert rows_of(corpus, "hall") == [(3, 11, 0, 10, 100, 0), (4, 11, 0, 12, 100, 0)]


@pytest.mark.parametrize(("mark", "name"), [(";", "e.csv"), ("\t", "e.tsv")])
def test_other_separators_names_and_decimal_commas(make, mark, name):
    form = TableFormat(
        *("seconds", 0.1, "degrees", "left", "metres"),
        columns={"label": "class_name", "file": "Recording"},
        values={"distance": "1,5"},
        decimal_comma=True,
    )
    text = "\ufeffrecording;onset;offset;Class_Name;azimuth\r\nhall;0,1;0,3;Bell;12,4\r\n".replace(";", mark)
    corpus, _ = make(text, form, name)
    assert rows_of(corpus, "hall") == [(frame, 11, 0, 12, 150, 0) for frame in (1, 2)]


def test_a_table_without_files_is_named_after_its_recording(make):
    corpus, _ = make("onset,offset,label,azimuth,distance\n0,1,Bell,0,1\n", name="hall.csv")
    assert len(rows_of(corpus, "hall")) == 10


def test_audacity_labels(make, tmp_path):
    """What `predict` writes comes back as it was; plain labels need what they do not say."""
    corpus, _ = make(HEADER + 'hall,0.5,2.1,Bell,-30,1.5,1\nhall,1,1.5,"Walk, footsteps",20,2,0\n')
    before = rows_of(corpus, "hall")
    segments = link(read_csv(corpus / "metadata_dev" / "dev-train-own" / "hall.csv"))
    labels = tmp_path / "labels" / "hall.txt"
    labels.parent.mkdir()
    labels.write_text(to_audacity(segments, DCASE2025), encoding="utf-8")
    audio = tmp_path / "audio"
    import_tables(Job([labels], audio, tmp_path / "again"))
    assert rows_of(tmp_path / "again", "hall") == before

    labels.write_text("1.0\t1.2\tBell\n\\\t100.0\t200.0\n")
    with pytest.raises(SeldError, match="line 1: the label says no azimuth and no distance"):
        import_tables(Job([labels], audio, tmp_path / "third"))
    form = TableFormat(None, 0.1, "degrees", "left", "metres", values={"azimuth": "0", "distance": "2"})
    import_tables(Job([labels], audio, tmp_path / "third", form))
    assert rows_of(tmp_path / "third", "hall") == [(10, 11, 0, 0, 200, 0), (11, 11, 0, 0, 200, 0)]


def test_a_single_recording_is_trained_on_whatever_share_is_to_be_tested_with(make):
    for share, why in ((0.2, "a single one is trained on"), (0.0, "--test 0.2, sets some aside")):
        corpus, facts = make(HEADER + "hall,0,0.3,Bell,30,1,0\n", test=share)
        shutil.rmtree(corpus)
        assert any("no recording is for testing" in note and why in note for note in facts["notes"])


def test_overlapping_events_of_a_class_are_different_sources(make):
    corpus, _ = make(HEADER + "hall,0,0.3,Bell,30,1,0\nhall,0.2,0.4,Bell,-30,1,0\nhall,0.3,0.5,Bell,0,1,0\n")
    assert [(row[0], row[2], row[3]) for row in rows_of(corpus, "hall")] == [
        *((0, 0, 30), (1, 0, 30), (2, 0, 30), (2, 1, -30)),
        *((3, 0, 0), (3, 1, -30), (4, 0, 0)),
    ]


def test_sources_keep_their_names_numbers(make):
    text = "file,onset,offset,label,azimuth,distance,source\nhall,0,0.1,Bell,1,1,b\nhall,0,0.2,Bell,2,1,a\n"
    corpus, _ = make(text)
    assert [row[2:4] for row in rows_of(corpus, "hall")] == [(0, 1), (1, 2), (1, 2)]


def test_labels_are_mapped_or_become_the_classes(make, tmp_path):
    text = HEADER + "hall,0,1,ding,0,1,0\nhall,1,2,noise,0,1,0\nhall,2,3,Bell,0,1,0\n"
    (tmp_path / "map.yaml").write_text("noise:\n")
    corpus, facts = make(text, labels=read_pairs("--map", ["ding=Bell", str(tmp_path / "map.yaml")]))
    assert facts["classes"] == {"Bell": 2} and "1 event(s) were left out, as --map says" in facts["notes"]
    corpus.rename(tmp_path / "first")
    corpus, facts = make(text, taxonomy=None)
    assert load_taxonomy(corpus / "taxonomy.yaml").classes == ("Bell", "ding", "noise")
    assert yaml.safe_load((corpus / "taxonomy.yaml").read_text())["name"] == "corpus"
    assert [row[1] for row in rows_of(corpus, "hall")[::10]] == [1, 2, 0]


WRONG = [
    ("hall,2,1,Bell,0,1,0", "line 2, column 'offset': 1 s is not after the onset, 2 s"),
    ("hall,-1,1,Bell,0,1,0", "line 2, column 'onset': -1 s is before"),
    ("hall,1,6,Bell,0,1,0", "line 2, column 'offset': 6 s is beyond the end of the recording, 5.000 s"),
    ("hall,1,2,Bell,181,1,0", "line 2, column 'azimuth': 181° is beyond ±180°"),
    ("hall,1,2,Bell,0,0,0", "line 2, column 'distance': the distance is 0 m"),
    ("hall,1,2,Bell,0,-1,0", "line 2, column 'distance'"),
    ("hall,1,2,Bell,0,5000,0", "line 2, column 'distance': the distance is 5000 m"),
    ("hall,1,2,Bell,0,,0", "line 2, column 'distance': a number is missing"),
    ("hall,1,2,Bell,left,1,0", "line 2, column 'azimuth': 'left' is no number"),
    ("hall,1,2,Bell,nan,1,0", "line 2, column 'azimuth': 'nan' is no number"),
    ("hall,1,2,Bell,0,1,perhaps", "line 2, column 'onscreen': 'perhaps' is neither 0 nor 1"),
    ("hall,1,2,Bell,170,1,1", "line 2, column 'onscreen': an event 170° to the side is behind"),
    ("hall,1,2,Bel,0,1,0", "line 2, column 'label': 'Bel' is none of the 13 classes (did you mean 'bell'?)"),
    ("hall,1,2,,0,1,0", "line 2, column 'label': a label is missing"),
    ("hal,1,2,Bell,0,1,0", "line 2, column 'file': "),
    ("hall,1,2,Bell,0,1", "line 2: 6 cells, but the header has 7"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_what_cannot_be_is_named_by_line_and_column(make, tmp_path, line, message):
    with pytest.raises(SeldError) as caught:
        make(HEADER + line + "\n")
    assert f"events.csv, {message}" in str(caught.value) and caught.value.remedy
    assert not (tmp_path / "corpus").exists()


def test_several_mistakes_are_told_at_once(make):
    with pytest.raises(SeldError, match=r"line 2.*\n.*line 3(.*\n)*.*… and 2 more"):
        make(HEADER + "hall,2,1,Bell,0,1,0\n" * 7)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (TableFormat(), "The unit of time is not declared. Say --time seconds|milliseconds|frames"),
        (TableFormat("seconds"), "--direction degrees|radians|xy"),
        (TableFormat("seconds", direction="degrees"), "The side of positive azimuths is not declared. Say --positive"),
        (TableFormat("seconds", direction="degrees", positive="left"), "--distance metres|centimetres"),
        (TableFormat("seconds", direction="xy", positive="left", distance="metres"), "no column x and none y"),
        (
            TableFormat(*("seconds", 0.1, "degrees", "left", "metres"), columns={"label": "kind"}),
            "line 1: there is no column 'kind'; its columns are file, onset",
        ),
        (TableFormat(*("frames", 0.1, "degrees", "left", "metres")), "column 'onset': 0.5 is no whole frame"),
    ],
)
def test_units_and_columns_are_declared_never_guessed(make, form, message):
    with pytest.raises(SeldError) as caught:
        make(HEADER + "hall,0.5,1,Bell,0,1,0\n", form)
    assert message in str(caught.value)


def test_recordings_of_other_kinds_are_refused_or_converted(make, audio, tmp_path):
    write_wav(audio / "phone.wav", np.random.default_rng(0).normal(0, 0.1, (1, 48_000)).astype(np.float32), 48_000)
    text = HEADER + "phone,0.2,0.4,Bell,0,1,0\n"
    with pytest.raises(SeldError, match=r"48000 Hz; 24000 Hz is needed. Convert it with --resample"):
        make(text)
    with pytest.raises(SeldError, match=r"mono.*--mono duplicate"):
        make(text, sound=AudioOptions(resample=True))
    corpus, _ = make(text, sound=AudioOptions(resample=True, mono="duplicate"))
    info = audio_info(corpus / "stereo_dev" / "dev-train-own" / "phone.wav")
    assert (info.rate, info.channels, info.samples) == (24_000, 2, 24_000)


def test_links_rest_and_splits(make, audio):
    text = "file,onset,offset,label,azimuth,distance,split\nhall,0,1,Bell,0,1,test\nkitchen,,,,,,val\n"
    corpus, facts = make(text, link=True, rest=True)
    link_ = corpus / "stereo_dev" / "dev-test-own" / "hall.wav"
    assert link_.is_symlink() and link_.samefile(audio / "hall.wav")
    assert facts["splits"] == {"test": 1, "val": 1, "train": 1} and rows_of(corpus, "kitchen") == []
    assert (corpus / "splits.csv").read_text() == "name,split\nhall,test\nkitchen,val\nstreet,train\n"
    assert check_corpus(corpus, Wanted(seconds="official")).ok
    with pytest.raises(SeldError, match="holds an earlier import, or other files"):
        make(text)


@pytest.mark.slow
def test_import_prepare_train_and_score(audio, tmp_path):
    """The command, then the line: checked, prepared, one epoch, and perfect against itself."""
    (tmp_path / "e.csv").write_text(
        "file,onset,offset,label,azimuth,distance,split\nkitchen.wav,1,9,Kettle,20,1,train\n"
        "street.wav,1,2,Dishes,-20,2,val\nhall.wav,1,4,Kettle,-60,1,test\n"
    )
    units = "--time seconds --direction degrees --positive left --distance metres --own-classes --workers 1"
    words = ["import", tmp_path / "e.csv", "--audio", audio, "--out", tmp_path / "own", *units.split()]
    for more in (words, ["check", tmp_path / "own"]):
        done = subprocess.run(
            [sys.executable, "-m", "dcase_seld", "data", *map(str, more)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "No problem was found." in done.stdout
    model = {**MODEL, "track": "a"}
    (tmp_path / "r.yaml").write_text(
        "steps:\n"
        f"  data: {{stage: prepare, corpus: {tmp_path / 'own'}}}\n"
        f"  net: {{stage: train, data: data, epochs: 1, batch_size: 2, model: {json.dumps(model)}}}\n"
    )
    folders = run_recipe(tmp_path / "r.yaml", work=tmp_path / "work", workers=1, quiet=True, device="cpu")
    facts = json.loads((folders["data"] / "store.json").read_text())
    assert facts["splits"] == {"test": 1, "train": 1, "val": 1} and facts["clips"] == 3
    assert facts["task"]["classes"]["classes"] == ["Dishes", "Kettle"] and (folders["net"] / "best").is_dir()
    own = tmp_path / "own" / "metadata_dev"
    scores = score(own, own, frames=None)
    assert scores.f_score == 1.0 and scores.doa_error_deg == 0


def test_videos_bring_their_sound_and_pictures_of_the_right_size(make, audio):
    """One video is a recording of its own; another lies beside its sound; a third has pictures of another size."""
    from dcase_seld.media.writing import write_video

    sound = np.random.default_rng(1).normal(0, 0.1, (2, 48_000)).astype(np.float32)
    write_video(audio / "film.mp4", [np.zeros((360, 640, 3), np.uint8)] * 20, 10.0, sound, 24_000)
    write_video(audio / "day2" / "street.mp4", [np.zeros((360, 640, 3), np.uint8)] * 30, 10.0)
    write_video(audio / "hall.mp4", [np.zeros((180, 320, 3), np.uint8)] * 50, 10.0)
    rows = "film.mp4,0,1,Bell,0,1,1\nday2/street.wav,0,1,Bell,0,1,0\nhall,0,1,Bell,0,1,0\n"
    corpus, facts = make(HEADER + rows)
    videos = sorted(path.name for path in (corpus / "video_dev" / "dev-train-own").iterdir())
    assert videos == ["film.mp4", "street.mp4"]
    assert any("pictures were left out" in note and "320x180" in note for note in facts["notes"])
    info = audio_info(corpus / "stereo_dev" / "dev-train-own" / "film.wav")
    assert (info.rate, info.channels) == (24_000, 2) and info.seconds == pytest.approx(2, abs=0.05)
    assert check_corpus(corpus, Wanted(seconds="official")).ok, "in parts of one's own a video may be missing"


def test_recordings_of_one_name_are_told_apart_by_their_folders(make, audio):
    shutil.copytree(audio / "day2", audio / "day3")
    with pytest.raises(SeldError, match=r"line 2, column 'file': .*day2/street.wav, .*day3/street.wav have this name"):
        make(HEADER + "street,0,1,Bell,0,1,0\n")
    write_wav(audio / "street.wav", np.random.default_rng(2).normal(0, 0.1, (2, 48_000)).astype(np.float32))
    corpus, _ = make(HEADER + "street.wav,0,1,Bell,0,1,0\nday2/street.wav,0,0.1,Bell,0,1,0\n")
    assert (len(rows_of(corpus, "street")), len(rows_of(corpus, "day2_street"))) == (10, 1)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--column", "labl=x", "'labl' is no name of a column (did you mean 'label'?)"),
        ("--value", "distance", "--value 'distance' is no pair"),
        ("--map", "nowhere.yaml", "--map 'nowhere.yaml' is no pair, nor a file of them"),
    ],
)
def test_pairs_that_are_none(option, text, message):
    with pytest.raises(SeldError) as caught:
        read_pairs(option, [text])
    assert message in str(caught.value) and caught.value.remedy


def test_a_map_of_labels_that_are_not_there_and_an_empty_table(make):
    with pytest.raises(SeldError, match=r"--map names labels that no table has: dign. Labels: ding"):
        make(HEADER + "hall,0,1,ding,0,1,0\n", labels={"dign": "Bell"})
    with pytest.raises(SeldError, match="line 1: there is no column onset"):
        make("")
    with pytest.raises(SeldError, match="The tables name no recording"):
        make(HEADER)
