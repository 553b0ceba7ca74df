import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcase_seld.core.csv_rows import HEADER, Limits, parse_careful, parse_clean
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import list_csv, official_rows, read_csv, read_folder, write_csv, write_folder
from dcase_seld.core.events import Events

GOOD = "3,1,0,-45,120,1\n0,12,2,100,5,0\n"


def put(folder, text, name="clip.csv"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows_of(events):
    return np.column_stack([events.clip, official_rows(events)]).tolist()


def test_rows_become_degrees_and_metres_in_file_order(tmp_path):
    events = read_csv(put(tmp_path, f"{HEADER}\n{GOOD}"))
    assert events.clips == ("clip",)
    assert events.frame.tolist() == [3, 0] and events.class_index.tolist() == [1, 12]
    assert events.azimuth_deg.tolist() == [-45.0, 80.0]  # 100° is folded to the front
    assert events.distance_m.tolist() == [1.2, 0.05] and events.onscreen.tolist() == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEADER + "\n" + GOOD,
        (HEADER + "\n" + GOOD).replace("\n", "\r\n"),
        "\ufeff" + (HEADER + "\n" + GOOD).replace("\n", "\r\n"),
        HEADER + "\n" + GOOD.rstrip("\n"),
        HEADER + "\n" + GOOD + "\n\n",
        HEADER.replace(",", ", ") + "\n" + GOOD.replace(",", " , "),
        HEADER + "\n" + GOOD.replace("3,1", "+3,01"),
    ],
    ids=["bom", "crlf", "bom-crlf", "no-last-newline", "blank-end", "spaces", "signs-and-zeros"],
)
def test_harmless_variants_read_the_same(tmp_path, text):
    plain = read_csv(put(tmp_path, f"{HEADER}\n{GOOD}"))
    assert rows_of(read_csv(put(tmp_path, text))) == rows_of(plain)


@pytest.mark.parametrize("azimuth", [-(10**8), -721, -270, -181, -91, 91, 180, 269, 450, 999_999_999])
def test_any_integer_azimuth_is_folded(tmp_path, azimuth):
    (folded,) = read_csv(put(tmp_path, f"{HEADER}\n0,0,0,{azimuth},100,0\n")).azimuth_deg
    assert -90 <= folded <= 90
    assert np.sin(np.radians(folded)) == pytest.approx(np.sin(np.radians(azimuth)), abs=1e-6)


WRONG = {
    "empty": ("", 1, "empty"),
    "blank": ("\n\n", 1, "empty"),
    "only-bom": ("\ufeff", 1, "empty"),
    "no-header": (GOOD, 1, "header is missing"),
    "other-header": ("frame,class,azimuth\n" + GOOD, 1, "header"),
    "header-order": ("class,frame,source,azimuth,distance,onscreen\n" + GOOD, 1, "header"),
    "five-columns": (f"{HEADER}\n{GOOD}1,2,3,4,5\n", 4, "6 columns, got 5"),
    "seven-columns": (f"{HEADER}\n1,2,3,4,5,0,0\n{GOOD}", 2, "6 columns, got 7"),
    "columns-that-add-up": (f"{HEADER}\n1,2,3,4,5,0,0\n1,2,3,4,5\n", 2, "6 columns, got 7"),
    "empty-line": (f"{HEADER}\n\n{GOOD}", 2, "empty line"),
    "empty-cell": (f"{HEADER}\n{GOOD}1,,0,0,100,0\n", 4, "class must be an integer, got ''"),
    "float": (f"{HEADER}\n1,2,0,4.5,100,0\n", 2, "azimuth must be an integer, got '4.5'"),
    "exponent": (f"{HEADER}\n1,2,0,4,1e2,0\n", 2, "distance must be an integer"),
    "nan": (f"{HEADER}\n1,2,0,nan,100,0\n", 2, "azimuth must be an integer"),
    "word": (f"{HEADER}\n1,Bell,0,4,100,0\n", 2, "class must be an integer"),
    "minus-inside": (f"{HEADER}\n1,2,0,4-4,100,0\n", 2, "azimuth must be an integer"),
    "double-minus": (f"{HEADER}\n1,2,0,--4,100,0\n", 2, "azimuth must be an integer"),
    "lone-minus": (f"{HEADER}\n1,2,0,-,100,0\n", 2, "azimuth must be an integer"),
    "underscore": (f"{HEADER}\n1,2,0,1_0,100,0\n", 2, "azimuth must be an integer"),
    "other-digits": (f"{HEADER}\n1,2,0,٤,100,0\n", 2, "azimuth must be an integer"),
    "semicolons": (HEADER.replace(",", ";") + "\n", 1, "header"),
    "frame-after-end": (f"{HEADER}\n{GOOD}50,2,0,4,100,0\n", 4, "frame 50 is outside the clip (0…49)"),
    "frame-negative": (f"{HEADER}\n-1,2,0,4,100,0\n", 2, "frame -1 is outside"),
    "class-after-end": (f"{HEADER}\n1,13,0,4,100,0\n", 2, "class 13 is outside the list of classes (0…12)"),
    "class-negative": (f"{HEADER}\n1,-1,0,4,100,0\n", 2, "class -1 is outside"),
    "distance-negative": (f"{HEADER}\n1,1,0,4,-100,0\n", 2, "distance -100 cm is negative"),
    "onscreen-two": (f"{HEADER}\n1,1,0,4,100,2\n", 2, "onscreen must be 0 or 1, got 2"),
    "onscreen-negative": (f"{HEADER}\n1,1,0,4,100,-1\n", 2, "onscreen must be 0 or 1"),
    "onscreen-probability": (f"{HEADER}\n1,1,0,4,100,0.7\n", 2, "onscreen must be an integer"),
    "nul": (f"{HEADER}\n{GOOD}1,1,\0,4,100,0\n", 4, "NUL byte"),
    "utf-16": ((HEADER + "\n" + GOOD).encode("utf-16"), 1, "NUL byte"),
    "latin-1": (f"{HEADER}\n{GOOD}".encode() + b"1,1,0,\xe9,100,0\n", 4, "not UTF-8"),
    "huge-number": (f"{HEADER}\n1,1,0,{'9' * 400},100,0\n", 2, "absurdly large"),
    "huge-azimuth": (f"{HEADER}\n1,1,0,{10**9},100,0\n", 2, "absurdly large"),
    "huge-file": (HEADER + "\n" + "1,1,0,4,100,0\n" * 90_000, 1, "1,260,045 bytes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused_by_name_and_line(tmp_path, case):
    text, line, words = WRONG[case]
    path = put(tmp_path / "some", text, "broken.csv")
    put(tmp_path / "some", f"{HEADER}\n{GOOD}", "fine.csv")
    for read in (lambda: read_csv(path), lambda: read_folder(path.parent)):
        with pytest.raises(SeldError) as caught:
            read()
        assert f"{path}, line {line}: " in caught.value.problem
        assert words in caught.value.problem and caught.value.remedy
        assert len(caught.value.problem) < 600


def test_longer_recordings_and_other_class_lists_by_option(tmp_path):
    path = put(tmp_path, f"{HEADER}\n7000,20,0,4,100,0\n")
    assert read_csv(path, n_classes=21, frames=None).frame.tolist() == [7000]
    assert read_csv(path, n_classes=21, frames=7001).class_index.tolist() == [20]
    with pytest.raises(SeldError, match="7000"):
        read_csv(path, n_classes=21, frames=7000)
    with pytest.raises(SeldError, match="class 20"):
        read_csv(path, frames=None)


def test_a_folder_is_read_by_name_flat_or_with_splits(tmp_path):
    put(tmp_path, f"{HEADER}\n1,0,0,0,100,0\n", "dev-test-tau/b.csv")
    put(tmp_path, f"{HEADER}\n2,0,0,0,100,0\n", "dev-test-sony/a.csv")
    put(tmp_path, f"{HEADER}\n", "c.csv")
    for stray in ("notes.txt", "._c.csv", ".hidden/x.csv", "__MACOSX/y.csv"):
        put(tmp_path, "whatever", stray)
    events = read_folder(tmp_path)
    assert events.clips == ("a", "b", "c") and events.frame.tolist() == [2, 1] and events.clip.tolist() == [0, 1]


def test_one_clip_in_two_split_folders_is_refused(tmp_path):
    for part in ("dev-test-tau", "dev-test-sony"):
        put(tmp_path, f"{HEADER}\n", f"{part}/same.csv")
    with pytest.raises(SeldError, match=r"same has two files: .*dev-test-sony.*dev-test-tau"):
        read_folder(tmp_path)


def test_folders_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(SeldError, match="No such file"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "text").write_text("no table")
    with pytest.raises(SeldError, match="header"):
        read_folder(tmp_path / "text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeldError, match="holds no CSV"):
        read_folder(tmp_path / "empty")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SeldError, match="cannot be read"):
        read_folder(tmp_path / "loop")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SeldError, match=r"folder\.csv is not a readable file"):
        read_folder(tmp_path)
    with pytest.raises(SeldError, match="Is a directory"):
        read_csv(tmp_path / "folder.csv")
    with pytest.raises(SeldError, match="No such file"):
        read_csv(tmp_path / "nowhere.csv")
    (tmp_path / "folder.csv").rmdir()
    os.mkfifo(tmp_path / "pipe.csv")  # opening it would wait for ever
    with pytest.raises(SeldError, match=r"pipe\.csv is not a readable file"):
        list_csv(tmp_path)


def test_permissions_are_answered(tmp_path):
    path = put(tmp_path / "closed", HEADER)
    path.chmod(0)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:  # who may read everything
        os.seteuid(65_534)
    try:
        with pytest.raises(SeldError, match="Permission denied"):
            read_csv(path)
    finally:
        if root:
            os.seteuid(0)


def random_events(seed=0, clips=5):
    generator = np.random.default_rng(seed)
    count = 200
    return Events(
        tuple(f"clip{n}" for n in range(clips)),
        generator.integers(0, clips - 1, count).astype(np.int32),  # nothing sounds in the last clip
        generator.integers(0, 50, count).astype(np.int32),
        generator.integers(0, 13, count).astype(np.int32),
        generator.integers(0, 3, count).astype(np.int32),
        generator.uniform(-90, 90, count),
        generator.uniform(0, 9, count),
        generator.random(count) > 0.5,
    )


def test_written_files_hold_every_clip_sorted_and_rounded(tmp_path):
    events = random_events()
    write_folder(events, tmp_path / "csv")
    names = sorted(path.name for path in (tmp_path / "csv").iterdir())
    assert names == [f"clip{n}.csv" for n in range(5)]
    assert (tmp_path / "csv" / "clip4.csv").read_bytes() == f"{HEADER}\n".encode()
    again = read_folder(tmp_path / "csv")
    assert rows_of(again) == rows_of(events.sorted())
    np.testing.assert_allclose(again.distance_m, events.sorted().distance_m, atol=0.00501)
    np.testing.assert_allclose(again.azimuth_deg, events.sorted().azimuth_deg, atol=0.501)
    write_folder(again, tmp_path / "twice")
    for path in (tmp_path / "csv").iterdir():
        assert (tmp_path / "twice" / path.name).read_bytes() == path.read_bytes()


def test_track_a_writes_off_screen(tmp_path):
    events = random_events().select_clips(["clip1"])
    write_csv(tmp_path / "clip1.csv", events, track="a")
    again = read_csv(tmp_path / "clip1.csv")
    assert len(again) == len(events) and not again.onscreen.any()


def test_impossible_values_are_not_written(tmp_path):
    events = random_events()
    events.azimuth_deg[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        write_folder(events, tmp_path)
    with pytest.raises(SeldError, match="cannot be a file name"):
        write_folder(Events.empty(["../outside"]), tmp_path / "csv")
    assert not (tmp_path / "outside.csv").exists()


NUMBER = st.one_of(st.integers(-120, 120), st.integers(-(10**11), 10**11)).map(str)
CELL = st.one_of(NUMBER, st.text("0123456789-+. ,\nx", max_size=4))
LINES = st.lists(st.lists(CELL, min_size=5, max_size=7).map(",".join), max_size=5).map("\n".join)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(LINES)
def test_the_fast_parser_never_accepts_what_the_careful_one_refuses(body):
    limits = Limits(13, 50)
    fast = parse_clean((body + "\n").encode(), limits) if body else None
    careful, mistakes = parse_careful(f"{HEADER}\n{body}\n".encode(), limits)
    if fast is not None:
        assert mistakes == [] and fast.tolist() == careful.tolist()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(*(st.integers(a, b) for a, b in ((0, 49), (0, 12), (-9, 99), (-999, 999), (0, 9999), (0, 1)))))
)
def test_the_fast_parser_reads_every_clean_file(rows):
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    fast = parse_clean(text.encode(), Limits(13, 50))
    assert fast.tolist() == [list(row) for row in rows]
