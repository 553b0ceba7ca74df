import json
import os
import re
import struct
import subprocess
import sys
import warnings
import zipfile

import pytest
import submission_made as make
from submission_made import LABEL_A, LABEL_B

from dcase_seld.core.errors import SeldError
from dcase_seld.submission.archive import MOST_LISTED
from dcase_seld.submission.check import check_submission
from dcase_seld.submission.layout import load_layout

META_A = f"task3a/{LABEL_A}/{LABEL_A}.meta.yaml"
META_B = f"task3b/{LABEL_B}/{LABEL_B}.meta.yaml"
OUT_A = f"task3a/{LABEL_A}/{LABEL_A}/"
OUT_B = f"task3b/{LABEL_B}/{LABEL_B}/"
CSV = OUT_B + "sample3.csv"
CSV_A = OUT_A + "sample3.csv"
REPORT = "task3a/Example_EXU_task3a.technical_report.pdf"
HEADER = b"frame,class,source,azimuth,distance,onscreen\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make.package(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    for kind, suffix in (("stereo_eval", "wav"), ("video_eval", "mp4")):
        (folder / kind / "eval").mkdir(parents=True)
        for clip in make.CLIPS:
            (folder / kind / "eval" / f"{clip}.{suffix}").touch()
    return folder


def check(path, evaluation=None):
    return check_submission(path, load_layout(), evaluation)[0]


def test_a_faultless_package_has_no_findings(good, evaluation):
    findings, summary = check_submission(good, load_layout(), evaluation)
    assert findings.lines() == []
    assert summary == {
        LABEL_A: {"track": "a", "clips": 12, "events": 60},
        LABEL_B: {"track": "b", "clips": 12, "events": 60},
    }


def renamed(old, new):
    def change(files):
        return {name.replace(old, new): data for name, data in files.items()}

    return change


def edited(name, old, new):
    def change(files):
        assert old.encode() in files[name]
        return {**files, name: files[name].replace(old.encode(), new.encode(), 1)}

    return change


def with_file(name, data):
    return lambda files: {**files, name: data}


def with_row(row, name=CSV):
    return lambda files: {**files, name: HEADER + b"1,1,0,4,100,0\n" + row + b"\n"}


def without(*starts):
    return lambda files: {name: data for name, data in files.items() if not name.startswith(starts)}


def fifth_system(files):
    more = {}
    for number in range(2, 6):
        label = LABEL_B.replace("_1", f"_{number}")
        for name, data in files.items():
            if name.startswith(f"task3b/{LABEL_B}/"):
                more[name.replace(LABEL_B, label)] = data.replace(LABEL_B.encode(), label.encode())
    return {**files, **more}


def pdf_of(tmp_path, *lines):
    return make.pdf(tmp_path / "other.pdf", lines).read_bytes()


LONG = "text that goes on and on about the system that we made and its figures " * 6
BROKEN = {
    "columns": (with_row(b"1,1,0,4,100"), CSV, 3),
    "integer": (with_row(b"1,1,0,4.5,100,0"), CSV, 3),
    "number-size": (with_row(b"1,1,0,4,99999999999,0"), CSV, 3),
    "frame-range": (with_row(b"50,1,0,4,100,0"), CSV, 3),
    "class-range": (with_row(b"1,13,0,4,100,0"), CSV, 3),
    "distance-negative": (with_row(b"1,1,0,4,-1,0"), CSV, 3),
    "onscreen-value": (with_row(b"1,1,0,4,100,2"), CSV, 3),
    "onscreen-track": (with_row(b"1,1,0,4,100,1", CSV_A), CSV_A, 3),
    "azimuth-range": (with_row(b"1,1,0,91,100,0"), CSV, 3),
    "duplicate-row": (with_row(b"1,1,0,4,100,0"), CSV, 3),
    "header": (with_file(CSV, b"1,1,0,4,100,0\n"), CSV, 1),
    "empty-file": (with_file(CSV, b""), CSV, 1),
    "nul-byte": (with_file(CSV, HEADER + b"1,1,\0,4,100,0\n"), CSV, 2),
    "encoding": (with_file(CSV, HEADER + b"1,1,\xff,4,100,0\n"), CSV, 2),
    "file-size": (with_file(CSV, os.urandom(1_100_000)), CSV, None),
    "clip-missing": (without(CSV), f"task3b/{LABEL_B}", None),
    "clip-unknown": (with_file(OUT_B + "sample99.csv", HEADER), f"task3b/{LABEL_B}", None),
    "output-missing": (without(OUT_B), f"task3b/{LABEL_B}", None),
    "layout": (with_file("task3b/sample3.csv", HEADER), "task3b/sample3.csv", None),
    "no-system": (without("task3"), "", None),
    "meta-missing": (without(META_B), f"task3b/{LABEL_B}", None),
    "meta-yaml": (edited(META_B, "  label:", "  label: ["), META_B, None),
    "meta-field": (edited(META_B, "machine_learning_method", "method"), META_B, None),
    "meta-label": (edited(META_B, f"label: {LABEL_B}", f"label: {LABEL_A}"), META_B, 5),
    "meta-abbreviation": (edited(META_B, "abbreviation: CMC", "abbreviation: MUCH_TOO_LONG"), META_B, 9),
    "meta-authors": (edited(META_B, "ada@example.org", "nowhere"), META_B, 12),
    "meta-corresponding": (edited(META_B, "corresponding: true", "corresponding: false"), META_B, 12),
    "meta-parameters": (edited(META_B, "total_parameters: 40700", "total_parameters: many"), META_B, None),
    "meta-scores": (edited(META_B, "F_20_1_onoff: 20.0", "F_20_1_onoff: good"), META_B, None),
    "label-format": (renamed(LABEL_B, "Example_task3b"), "task3b/Example_task3b", None),
    "label-task": (renamed(f"task3b/{LABEL_B}", f"task3a/{LABEL_B}"), f"task3a/{LABEL_B}", None),
    "label-number": (renamed(LABEL_B, LABEL_B[:-1] + "7"), f"task3b/{LABEL_B[:-1]}7", None),
    "label-folder": (renamed(OUT_B, OUT_B.replace(f"{LABEL_B}/{LABEL_B}", f"{LABEL_B}/{LABEL_A}")), None, None),
    "task-folder": (renamed("task3b/", "task9/"), f"task9/{LABEL_B}", None),
    "system-count": (fifth_system, "task3b", None),
    "report-missing": (without(REPORT), "task3a", None),
    "report-format": (with_file(REPORT, b"<html>report</html>"), REPORT, None),
    "zip-path": (with_file("../../escape.csv", HEADER), "../../escape.csv", None),
    "zip-bomb": (with_file(CSV, b"0" * 900_000), CSV, None),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_each_way_of_breaking_is_named_with_its_place(good, evaluation, tmp_path, rule):
    change, where, line = BROKEN[rule]
    path = make.rewrite(tmp_path / "broken.zip", change(make.contents(good)))
    findings = check(path, evaluation)
    hits = [finding for finding in findings.kept if finding.rule == rule]
    assert hits and all(hit.severity == "error" and hit.text for hit in hits)
    if where is not None:
        assert any(hit.where == where for hit in hits)
    if line is not None:
        assert any(hit.line == line for hit in hits)


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ("report-text", ["A title of a report", "Ada Example", "Abstract"]),
        ("report-authors", ["A cross-modal system", "Nobody", "Abstract", LONG]),
        ("report-abstract", ["A cross-modal system", "Ada Example", LONG]),
        ("report-title", ["Ada Example", "Abstract", LONG]),
    ],
)
def test_reports_are_read(good, tmp_path, rule, lines):
    path = make.rewrite(tmp_path / "x.zip", {**make.contents(good), REPORT: pdf_of(tmp_path, *lines)})
    assert rule in check(path).rules()


@pytest.mark.parametrize("damage", [slice(0, 200), slice(40, None), slice(0, 20)])
def test_damaged_reports_are_findings(good, tmp_path, damage):
    files = make.contents(good)
    path = make.rewrite(tmp_path / "x.zip", {**files, REPORT: b"%PDF-1.4\n" + files[REPORT][damage]})
    assert {rule for rule in check(path).rules() if rule.startswith("report")}


PATHS = ["/etc/passwd", "C:/x.csv", "a/../../x.csv", "task3a\\x.csv", "task3a/a\nb.csv"]


@pytest.mark.parametrize("name", PATHS)
def test_paths_that_climb_out_are_errors(good, tmp_path, name):
    path = make.rewrite(tmp_path / "x.zip", {**make.contents(good), name: HEADER})
    assert check(path).rules() == {"zip-path"}


def raw_entry(archive, name, **fields):
    info = zipfile.ZipInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    archive.writestr(info, HEADER)


def test_links_duplicates_and_junk(good, tmp_path):
    path = make.rewrite(tmp_path / "x.zip", make.contents(good))
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw_entry(archive, "")
        raw_entry(archive, OUT_B + "link.csv", external_attr=0o120777 << 16)
        raw_entry(archive, CSV)
        raw_entry(archive, OUT_B + "SAMPLE4.csv")
        raw_entry(archive, "__MACOSX/._sample1.csv")
    findings = check(path)
    assert (
        findings.rules() == {"zip-link", "zip-duplicate", "zip-path"} and findings.counts["error", "zip-duplicate"] == 2
    )
    assert "zip-junk" in findings.rules("warning")


def test_encrypted_and_damaged_files(good, tmp_path):
    data = bytearray(good.read_bytes())
    place = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 10)
    data[place + 8] |= 1  # the flag of encryption of the second entry
    (tmp_path / "locked.zip").write_bytes(data)
    assert "zip-encrypted" in check(tmp_path / "locked.zip").rules()
    data = bytearray(good.read_bytes())
    with zipfile.ZipFile(good) as archive:
        entry = archive.getinfo(CSV)
    start = entry.header_offset + 30 + len(entry.filename)
    data[start + 5 : start + 15] = b"\x55" * 10
    (tmp_path / "damaged.zip").write_bytes(data)
    findings = check(tmp_path / "damaged.zip")
    assert findings.rules() == {"zip-damaged"} and f"error: {CSV}: cannot be unpacked" in findings.lines()[0]


def test_a_size_that_lies_and_overlapping_files_are_bombs(good, tmp_path):
    big = HEADER + b"1,1,0,4,100,0\n" * 3000
    path = make.rewrite(tmp_path / "x.zip", {**make.contents(good), CSV: big})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(CSV)
        other = archive.getinfo(CSV_A)
    listed = data.rindex(CSV.encode()) - 46
    data[listed + 24 : listed + 28] = struct.pack("<L", 600)  # the size that the list states
    (tmp_path / "lies.zip").write_bytes(data)
    assert check(tmp_path / "lies.zip").rules() & {"zip-damaged", "zip-bomb"}
    data = bytearray(path.read_bytes())
    data[listed + 42 : listed + 46] = struct.pack("<L", other.header_offset)
    (tmp_path / "overlap.zip").write_bytes(data)
    assert "zip-overlap" in check(tmp_path / "overlap.zip").rules()
    assert entry.file_size == len(big)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all" * 50, b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    assert check(tmp_path / "x.zip").rules() <= {"zip-format", "zip-entries"} != set()


def test_truncated_zips_never_crash(good, tmp_path):
    data = good.read_bytes()
    for size in range(0, len(data), len(data) // 23):
        (tmp_path / "x.zip").write_bytes(data[:size])
        assert check(tmp_path / "x.zip").errors


def test_too_many_entries_are_not_even_listed(good, tmp_path):
    layout = load_layout().model_copy(update={"entries": 5})
    assert check_submission(good, layout)[0].rules() == {"zip-entries"}
    data = bytearray(good.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 8 : end + 12] = b"\1\0\1\0"  # a list that says it has one entry is still as long as it is
    (tmp_path / "x.zip").write_bytes(data)
    assert check_submission(tmp_path / "x.zip", layout)[0].rules() == {"zip-entries"}


def test_unpacked_sizes_add_up(good):
    layout = load_layout().model_copy(update={"total_bytes": 1000})
    assert "zip-size" in check_submission(good, layout)[0].rules()


def test_odd_but_allowed_things_are_warnings(good, tmp_path):
    files = make.contents(good)
    files[CSV] = HEADER + b"1,1,0,4,100,0\n1,1,0,9,100,0\n2,1,0,80,100,1\n"
    path = make.rewrite(tmp_path / "x.zip", renamed(LABEL_A, LABEL_A[:-1] + "2")(files))
    files = make.contents(path)
    meta = f"task3a/{LABEL_A[:-1]}2/{LABEL_A[:-1]}2.meta.yaml"
    files[meta] = files[meta].replace(LABEL_A.encode(), LABEL_A[:-1].encode() + b"2")
    findings = check(make.rewrite(path, files))
    assert findings.errors == 0
    assert findings.rules("warning") == {"source-repeated", "onscreen-outside", "label-order", "clip-count"}


def test_all_findings_come_at_once_and_floods_are_counted(good, evaluation, tmp_path):
    files = make.contents(good)
    files[CSV] = HEADER + b"".join(b"%d,1,0,95,100,0\n" % (n % 50) for n in range(MOST_LISTED + 30))
    files[CSV_A] = b""
    del files[META_B], files[REPORT]
    findings = check(make.rewrite(tmp_path / "x.zip", files), evaluation)
    assert findings.rules() == {"azimuth-range", "empty-file", "meta-missing", "report-missing", "duplicate-row"}
    assert findings.counts["error", "azimuth-range"] == MOST_LISTED + 30
    assert sum(finding.rule == "azimuth-range" for finding in findings.kept) == MOST_LISTED
    assert any("30 more" in line for line in findings.lines())


def test_several_mistakes_of_one_file_are_all_named(good, tmp_path):
    files = {**make.contents(good), CSV: HEADER + b"1,1,0\n1,x,0,4,100,0\n60,1,0,4,100,0\n"}
    findings = check(make.rewrite(tmp_path / "x.zip", files))
    assert [(f.rule, f.line) for f in findings.kept if f.where == CSV] == [
        ("columns", 2), ("integer", 3), ("frame-range", 4)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "- a", "a: [", "submission: 3", "submission: {authors: 3}", "submission: {authors: [3]}", "results: []",
     "a: &a [*a]", "a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]", "[" * 5000, "\t", "? !!python/object:os.system x",
     "results: {development_dataset: {overall: 5}}"],
)  # fmt: skip
def test_strange_meta_files_are_findings_not_crashes(good, tmp_path, text):
    path = make.rewrite(tmp_path / "x.zip", {**make.contents(good), META_B: text.encode()})
    assert check(path).rules() & {"meta-yaml", "meta-field", "meta-authors", "meta-scores"}


def test_the_command_prints_everything_and_says_so_by_its_exit_status(good, evaluation, tmp_path):
    def command(*arguments):
        program = [sys.executable, "-m", "dcase_seld.cli.main", "check-submission", *map(str, arguments)]
        done = subprocess.run(program, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    status, text = command(good, "--eval", evaluation, "--json", tmp_path / "ok.json")
    assert status == 0 and "ready to submit" in text
    assert json.loads((tmp_path / "ok.json").read_text())["ok"] is True
    broken = make.rewrite(tmp_path / "x.zip", with_row(b"1,1,0,91,100,0")(make.contents(good)))
    status, text = command(broken, "--json", tmp_path / "bad.json")
    assert status == 1 and f"{CSV}, line 3" in text and "[azimuth-range]" in text and "not ready" in text
    found = json.loads((tmp_path / "bad.json").read_text())
    assert found["ok"] is False and found["errors"][0]["rule"] == "azimuth-range" and found["errors"][0]["line"] == 3
    assert command(tmp_path / "nowhere.zip")[0] == 1
    assert command(good, "--eval", tmp_path / "nowhere")[0] == 1


def test_memory_does_not_grow_with_the_zip(tmp_path):
    """Each process checks a zip; the larger one unpacks to 13 MB more."""

    def peak(files):
        rows = b"".join(b"%d,%d,0,%d,%d,0\n" % (n % 50, n // 50 % 13, n % 180 - 90, n) for n in range(1, 4000))
        path = tmp_path / f"{files}.zip"
        make.rewrite(path, {f"{OUT_B}sample{n}.csv": HEADER + rows for n in range(files)})
        code = (
            "import resource, sys; from pathlib import Path\n"
            "from dcase_seld.submission.check import check_submission\n"
            "from dcase_seld.submission.layout import load_layout\n"
            f"findings, summary = check_submission(Path({str(path)!r}), load_layout())\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, summary)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert f"'clips': {files}, 'events': {files * 3999}" in done.stdout
        return int(done.stdout.split()[0])

    assert peak(260) < peak(60) + 8


def test_evaluation_names_must_be_there(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(SeldError, match="no evaluation clips"):
        check(tmp_path / "x.zip", tmp_path / "empty")


def test_errors_that_no_pair_defines_may_be_open(good, evaluation, tmp_path):
    files = make.contents(good)
    for first, rules in (("0.0", set()), ("3.0", {"meta-scores"})):
        text = files[META_A].decode()
        for name, value in (("F_20_1", first), ("DOAE_CD", "null"), ("RDE_CD", "null")):
            text = re.sub(rf"{name}: [0-9.]+", f"{name}: {value}", text)
        path = make.rewrite(tmp_path / "open.zip", {**files, META_A: text.encode()})
        findings = check(path, evaluation)
        assert findings.rules() == rules and (("meta-scores-open" in findings.rules("warning")) == (not rules))
