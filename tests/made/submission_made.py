"""Small real runs and packages for the tests of this folder."""

import json
import zipfile
from pathlib import Path

import numpy as np

from dcase_seld.core.event_files import write_folder
from dcase_seld.core.events import Events
from dcase_seld.recipe.results import write_receipt
from dcase_seld.submission.layout import load_layout, load_team
from dcase_seld.submission.package import make_entries, write_package
from dcase_seld.submission.systems import find_run

CLIPS = tuple(f"sample{number}" for number in range(12))
LABEL_A, LABEL_B = "Example_EXU_task3a_1", "Example_EXU_task3b_1"


def events(seed=0, clips=CLIPS):
    generator = np.random.default_rng(seed)
    count = 60
    clip = np.sort(generator.integers(0, len(clips) - 1, count))
    return Events(
        clips,
        clip.astype(np.int32),
        generator.permutation(50)[np.arange(count) % 50].astype(np.int32),
        generator.integers(0, 13, count).astype(np.int32),
        np.arange(count, dtype=np.int32) % 3,
        generator.uniform(-50, 50, count),
        generator.uniform(0.3, 6, count),
        generator.random(count) > 0.5,
    )


def scores(**changes):
    one = {
        "track": "b", "average": "macro", "protocol": "official", "clips": 9, "f_score": 0.45678,
        "f_score_onscreen": 0.2, "doa_error_deg": 15.123456, "distance_error_cm": 80.0,
        "relative_distance_error": 0.3, "onscreen_accuracy": 0.81,
        "classwise": {"f_score": [0.1 * (n % 10) for n in range(13)], "doa_error_deg": [None] * 13}, "jackknife": None,
    }  # fmt: skip
    return {**one, **changes}


def step(results, name, produces, inputs=None, config=None, facts=None, outside=None, finished=1.0):
    """Write the receipt of a finished step, as the recipe runner does, and return its folder."""
    folder = results / name
    folder.mkdir(parents=True, exist_ok=True)
    write_receipt(
        folder,
        {
            "stage": name.rpartition("-")[0], "produces": produces, "recipe": "r", "step": name, "fingerprint": name,
            "config": config or {}, "identity": {}, "inputs": inputs or {}, "outside": outside or {},
            "facts": facts or {}, "finished": finished, "seconds": 1.0,
        },
    )  # fmt: skip
    return folder


FRONT_END = {"features": ["log_mel", "ild"], "sample_rate": 24000}


def work(root, random_weights=(), evaluation=True):
    """Make the work folder of an audio-visual recipe: two members, tokens, an evaluation and a test export."""
    results = root / ".results"
    step(results, "simulate-1", "corpus", facts={"clips": 3})
    step(results, "prepare-1", "store", {"corpus": ["simulate-1"]})
    store = step(
        results, "prepare-2", "store", outside={"corpus": [{"path": "/data/DCASE25", "files": 90000, "bytes": 1}]}
    )
    parts = np.array(["dev-train-tau", "dev-test-sony", "eval"])
    np.savez(store / "clips.npz", part=parts, split=np.array(["train", "test", "eval"]))
    step(results, "train-0", "checkpoint", {"data": ["prepare-1"]}, facts={"parameters": 5_000_000})
    token_facts = {
        "name": "owlvit", "kind": "owlvit", "gives": "image", "model": "owlvit:base", "weights": "w1",
        "random_weights": list(random_weights), "encoder_parameters": 700,
    }  # fmt: skip
    read, config = {"data": ["prepare-2"]}, {"model": {"kind": "owlvit", "name": None, "path": "/weights/base"}}
    outside = {"model.path": [{"path": "/weights/base", "files": 3, "bytes": 1}]}
    step(results, "embed-1", "tokens", read, config, token_facts, outside)
    for number in (1, 2):
        model = {"kind": "conformer", "frontend": FRONT_END, "encoder": {"kind": "conformer"}, "fusion": {"owlvit": {}}}
        read = {"data": ["prepare-2"], "init": ["train-0"], "tokens": ["embed-1"]}
        config = {"model": model, "augment": {"swap": 0.5, "gain": 0.0, "gain_db": 6.0, "mixup": 0.1}}
        folder = step(results, f"train-{number}", "checkpoint", read, config, {"parameters": 20_000})
        (folder / "curves.png").write_bytes(b"\x89PNG")
    recipe = root / "demo"
    recipe.mkdir()
    for split in ("test", "eval") if evaluation else ("test",):
        members = {"data": ["prepare-2"], "members": ["train-1", "train-2"], "tokens": ["embed-1"]}
        step(results, f"predict-{split}", "events", members, {"split": split}, {"parameters": 40_000})
        csv = step(results, f"export-{split}", "csv", {"events": [f"predict-{split}"]}, facts={"track": "b"})
        write_folder(events(seed=len(split)), csv / "csv")
        (recipe / f"csv_{split}").symlink_to(csv)
    score = step(results, "score-1", "scores", {"csv": ["export-test"]}, {"split": "test"}, {"track": "b"})
    (score / "scores.json").write_text(json.dumps(scores()))
    (recipe / "score").symlink_to(score)
    return recipe


def package(folder, name="ok.zip", report=True):
    """Write a faultless package of one system per track and return its path."""
    recipe = work(folder / "work")
    systems = [(find_run(recipe, "b"), track) for track in ("a", "b")]
    path = pdf(folder / "report.pdf")
    entries = make_entries(systems, load_team(None), load_layout())
    reports = {"a": path, "b": path} if report else {}
    write_package(folder / name, entries, load_team(None), reports=reports)
    return folder / name


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def rewrite(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


GOOD_TEXT = (
    "A cross-modal system for stereo sound events", "Ada Example, Example University", "Abstract",
    *["We describe a system that finds and locates sound events in ordinary video, and its scores."] * 6,
)  # fmt: skip


def pdf(path, lines=GOOD_TEXT):
    """Write a one-page PDF with lines of text."""
    shown = "".join(f"({line}) Tj 0 -16 Td\n" for line in lines)
    stream = f"BT /F1 11 Tf 50 780 Td\n{shown}ET".encode("latin-1")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    Path(path).write_bytes(data)
    return Path(path)
