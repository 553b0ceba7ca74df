"""A slice of `make soak`: damaged inputs of each kind are read or refused in a sentence."""

import contextlib
import os

import numpy as np
import pytest
from click.testing import CliRunner
from hostile import KINDS, Bench

from dcase_seld.cli.main import main
from dcase_seld.core import registry
from dcase_seld.media.audio import write_wav

FOUND = {"rooms": (1_000_123, 1_000_137), "mp4": (1_000_292,), "step receipt": (1_000_370,), "png": (299,)}
"""Seeds at which the long trial found a fault."""

SEEDS = {"zip": 5, "csv": 30, "mp4": 5, "team": 15, "layout": 20}

ONE_EVENT = b"frame,class,source,azimuth,distance,onscreen\n0,11,0,10,100,0\n"


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_read_or_refused_in_a_sentence(kind, tmp_path, monkeypatch):
    # A recipe with a plug-in brings a stage, which tests after this one shall not find.
    monkeypatch.setattr(registry.STAGES, "_added", dict(registry.STAGES._added))
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    bench = Bench(kind, tmp_path / "bench")
    if kind != "pt":
        bench.read_good()
    found = {
        seed: problem
        for seed in (*FOUND.get(kind, ()), *range(SEEDS.get(kind, 40)))
        if (problem := bench.problem(seed))
    }
    assert not found, f"{len(found)} seeds of {kind}: {next(iter(found.items()))}"


def test_names_that_are_no_text_go_the_whole_way(tmp_path):
    odd = os.fsdecode(b"n\xff")
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 120_000)).astype(np.float32)
    for folder in ("sounds/bell", "heard"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (odd, "plain"):
        write_wav(tmp_path / "sounds" / "bell" / f"{name}.wav", noise[:1, :24_000])
        write_wav(tmp_path / "heard" / f"{name}.wav", noise)
        for folder, suffix in (("stereo_dev", "wav"), ("metadata_dev", "csv")):
            (tmp_path / "corpus" / folder / "dev-train-x").mkdir(parents=True, exist_ok=True)
            file = tmp_path / "corpus" / folder / "dev-train-x" / f"fold3_{name}.{suffix}"
            file.write_bytes((tmp_path / "heard" / f"{name}.wav").read_bytes() if suffix == "wav" else ONE_EVENT)
    (tmp_path / "r.yaml").write_text(f"""
steps:
  scenes: {{stage: simulate, sounds: {tmp_path}/sounds, clips: {{train: 2, test: 0}},
    rooms: {{train: 1, validation_fraction: 0}}, bank: {{test_fraction: 0, validation_fraction: 0}}}}
  data: {{stage: prepare, corpus: {tmp_path}/corpus}}
  events: {{stage: predict, data: data, members: default, split: all, threshold: 0.1}}
  csv: {{stage: export, events: events, track: a}}
  score: {{stage: score, csv: csv, data: data, split: all, track: a}}
  report: {{stage: report, scores: [score]}}
""")
    (tmp_path / "t.csv").write_text("file,onset,offset,label,azimuth,distance\nplain.wav,0,1,Bell,10,1\n")
    usual = "--time seconds --direction degrees --positive left --distance metres --rest empty"
    for words in (
        ["run", "r.yaml", "--workers", "1", "--quiet"],
        ["data", "check", "corpus"],
        ["data", "stats", "corpus"],
        ["data", "import", "t.csv", "--audio", "heard", "--out", "imported", *usual.split()],
        ["score", "--pred", "work/r/csv/csv", "--ref", "corpus/metadata_dev/dev-train-x", "--track", "a"],
        ["predict", "heard", "--out", "out", "--people", "off", "--quiet"],
    ):
        with contextlib.chdir(tmp_path):
            done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (words, done.output, done.exception)
    assert (tmp_path / "out" / f"{odd}.csv").is_file() and (tmp_path / "work/r/csv/csv" / f"fold3_{odd}.csv").is_file()
