"""Hostile inputs of every kind, made from good ones by a seed, and what reads them.

A kind has a way to make good files in a folder, the file that is damaged, and calls that read it. A call may succeed or
refuse (SeldError, a click error, what the system says of a path); anything else is a fault of the package.
"""

from __future__ import annotations

import copy
import json
import random
import signal
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import click
import numpy as np
from submission_made import package, work
from tiny import MODEL, TASK
from toy_stages import REGISTRY

from dcase_seld.cli.main import REFUSALS, main
from dcase_seld.core.classes import load_taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import read_csv, read_folder
from dcase_seld.core.events import Events
from dcase_seld.core.task import load_task
from dcase_seld.media.audio import audio_info, read_audio, write_wav
from dcase_seld.media.frames import read_frames, read_picture, video_info
from dcase_seld.recipe.plan import make_plan
from dcase_seld.recipe.results import leftovers
from dcase_seld.recipe.run import RunOptions, run_recipe
from dcase_seld.submission.check import check_submission
from dcase_seld.submission.layout import BUILT_IN, load_layout, load_team

SECONDS, BYTES = 30, 2**30
"""What one input may take."""

TOKENS = (
    *("-1", "0", "1e999", "nan", ".inf", "1" * 5_000, "9" * 19, "-9223372036854775809", "0x7fffffff", "null", "true"),
    *("[]", "{}", "[[[[", "{{", "'", '"', "\0", "\ud800", "\ufeff", "&a", "*a", "<<: *a", "!!python/name:os.system"),
    *(
        "../../x",
        "/etc/passwd",
        "a" * 70_000,
        ",",
        ";",
        "\t",
        "\r",
        "\n\n",
        ": ",
        "- ",
        "%s",
        "${X}",
        "#",
        "é",
        "\x1b[",
    ),
)

HEADS = (
    b"",
    b"\0" * 64,
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    b"<!DOCTYPE html><html><body>404</body></html>",
    b"PK\x05\x06" + b"\0" * 18,
    b"\x93NUMPY\x01\x00\xff\xff",
)

VALUES = (
    *(None, True, -1, 0, 1, 2**63, 10**40, 1e308, float("nan"), float("inf"), "", "a", "../x", "\0", "\ud800"),
    *([], {}, [None], [[]], {"a": {}}, ["a"] * 50, [1, "a"], {"kind": 5}, "x" * 5_000, [10**9], 0.5),
)


def damaged_bytes(rng: random.Random, good: bytes) -> bytes:
    """Return bytes with some flipped, cut, doubled, moved, or with another file's head."""
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        place, action = rng.randrange(min(len(data), rng.choice((64, 4_096, 2**40)))), rng.randrange(7)
        length = rng.choice((1, 2, 4, 8, 64, 1_000))
        if action == 0:
            data[place] = rng.randrange(256)
        elif action == 1:
            del data[place:]
        elif action == 2:
            del data[place : place + length]
        elif action == 3:
            data[place:place] = data[place : place + length]
        elif action == 4:
            data[place : place + length] = rng.choice((b"\xff", b"\0", b"\x7f")) * length
        elif action == 5:
            data[place : place + 4] = rng.choice((1, 2**31 - 1, 2**32 - 1, 7)).to_bytes(4, "little")
        else:
            data[place:place] = rng.randbytes(length)
    return rng.choice(HEADS) if rng.random() < 0.03 else bytes(data)


def damaged_text(rng: random.Random, good: bytes) -> bytes:
    """Return a text with words replaced, lines doubled or cut, or with damaged bytes."""
    if rng.random() < 0.2:
        return damaged_bytes(rng, good)
    text = good.decode("utf-8")
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, token = rng.randrange(len(text) + 1), rng.choice(TOKENS)
        end = min(len(text), place + rng.choice((0, 1, 4, 12)))
        text = text[:place] + token + text[end:]
        if rng.random() < 0.2:
            lines = text.split("\n")
            rng.shuffle(lines)
            text = "\n".join(lines[: rng.randrange(len(lines)) + 1] * rng.choice((1, 1, 2)))
    return text.encode("utf-8", "surrogatepass")


def damaged_json(rng: random.Random, good: bytes) -> bytes:
    """Return JSON in which values have other types, are missing, or are nested in themselves."""
    if rng.random() < 0.15:
        return damaged_text(rng, good)
    data = copy.deepcopy(json.loads(good))
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder, node = None, data
        while isinstance(node, (dict, list)) and node and (holder is None or rng.random() < 0.8):
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            holder, node = (node, key), node[key]
        if holder is None:
            break
        place, key = holder
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(data).encode("utf-8", "surrogatepass")


@dataclass
class Kind:
    """A kind of input: `make` fills a folder and returns the file that is damaged; `read` calls take that file."""

    make: Callable[[Path], Path]
    damage: Callable[[random.Random, bytes], bytes]
    read: tuple[Callable[[Path], object], ...]
    heavy: bool = False


def command(*arguments: str) -> Callable[[Path], object]:
    """Return a call of a command; {} stands for the file, {dir} for its folder."""
    return lambda path: main(
        [a.replace("{}", str(path)).replace("{dir}", str(path.parent)) for a in arguments], standalone_mode=False
    )


def _text(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        folder.joinpath(name).write_text(content, encoding="utf-8")
        return folder / name

    return make


def _rows() -> str:
    rows = [f"{frame},{frame % 13},0,{frame * 3 - 70},{100 + frame},{frame % 2}" for frame in range(50)]
    return "\n".join(["frame,class,source,azimuth,distance,onscreen", *rows]) + "\n"


def _csv(folder: Path) -> Path:
    (folder / "reference").mkdir()
    (folder / "reference" / "a.csv").write_text(_rows())
    (folder / "prediction").mkdir()
    return _text("a.csv", _rows())(folder / "prediction")


RECIPE = """about: numbers
steps:
  a: &a {stage: numbers, values: [1, 2], scale: {factor: 2.0}}
  b: {<<: *a, values: [3]}
  c: {stage: sum, numbers: [a, b], rate: ${RATE:-1.5}}
"""


def _receipt(folder: Path) -> Path:
    recipe = _text("r.yaml", RECIPE)(folder)
    plan, _ = run_recipe(recipe, REGISTRY, folder / "work", options=RunOptions(quiet=True))
    return plan.steps["c"].folder / "receipt.json"


def _model(folder: Path) -> Path:
    from dcase_seld.model.config import parse_model_config
    from dcase_seld.model.network import build_model
    from dcase_seld.model.weights import save_model

    facts = {"tokens": {}, "random_weights": [], "epoch": 1}
    save_model(build_model(parse_model_config(MODEL), TASK), folder, facts)
    return folder / "model.json"


def _load_model(path: Path) -> object:
    from dcase_seld.model.weights import load_model

    return load_model(path.parent)


def _ensemble(folder: Path) -> Path:
    from dcase_seld.infer.settings import EnsembleSettings, Member, write_ensemble

    write_ensemble(EnsembleSettings(members=(Member(folder="a"),), tuned_on=("x",)), folder)
    return folder / "ensemble.json"


def _read_ensemble(path: Path) -> object:
    from dcase_seld.infer.settings import read_ensemble

    return read_ensemble(path.parent)


def _events(folder: Path) -> Path:
    read_csv(_text("a.csv", _rows())(folder)).save(folder / "events.npz")
    return folder / "events.npz"


def _store(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from noise import noise_store

        return noise_store(folder, 3, rows=5) / name

    return make


def _read_store(path: Path) -> object:
    from dcase_seld.store.store import Store

    store = Store.open(path.parent)
    return store.events, store.read_many(np.arange(min(3, len(store))), samples=100), store.identity


def _tokens(folder: Path) -> Path:
    from dcase_seld.store.tokens import TokenSpec, TokenWriter

    writer = TokenWriter(folder, TokenSpec("clap", "sound", "m", "f", True, (1, 4)), ["a", "b"])
    for shard, names in writer.pending():
        writer.write(shard, np.zeros((len(names), 1, 4), np.float16))
    writer.finish()
    return folder / "tokens.json"


def _read_tokens(path: Path) -> object:
    from dcase_seld.store.tokens import TokenReader

    return TokenReader.open(path.parent).read(["a"])


def _onnx(folder: Path) -> Path:
    from onnx_made import FLOAT, model, node

    weights = {"w": np.ones((8, 3), np.float32)}
    (folder / "m.onnx").write_bytes(
        model(node("MatMul", ["x", "w"], "y"), [("x", FLOAT, ["n", 8])], ("y", FLOAT, ["n", 3]), weights)
    )
    return folder / "m.onnx"


def _read_onnx(path: Path) -> object:
    import torch

    from dcase_seld.pretrained.encoder import OnnxTokensConfig
    from dcase_seld.pretrained.onnx import OnnxEncoder

    encoder = OnnxEncoder(OnnxTokensConfig(path=str(path), sample_rate=8_000, patch_s=0.001, hop_s=0.001), 8_000)
    return encoder.encode(torch.zeros(1, 2, 32))


def _pt(folder: Path) -> Path:
    import torch

    names = {f"audio_branch.layers.0.blocks.0.x{n}": torch.zeros(3, 4) for n in range(5)}
    torch.save({"state_dict": names, "epoch": 3}, folder / "m.pt")
    return folder / "m.pt"


def _read_pt(path: Path) -> object:
    from dcase_seld.pretrained.clap import read_laion_checkpoint

    return read_laion_checkpoint(path)


def _sound(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import soundfile

        sound = np.random.default_rng(0).normal(0, 0.1, (4_800, 2)).astype(np.float32)
        if suffix == "wav":
            write_wav(folder / "a.wav", sound.T)
        else:
            soundfile.write(folder / f"a.{suffix}", sound, 24_000)
        return folder / f"a.{suffix}"

    return make


def _video(folder: Path) -> Path:
    from dcase_seld.media.writing import write_video

    pictures = (np.full((48, 64, 3), 10 * number, np.uint8) for number in range(10))
    write_video(folder / "a.mp4", pictures, 10.0, audio=np.zeros((2, 24_000), np.float32), rate=24_000)
    return folder / "a.mp4"


def _picture(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import cv2

        cv2.imwrite(str(folder / f"a.{suffix}"), np.zeros((20, 30, 3), np.uint8))
        return folder / f"a.{suffix}"

    return make


def read_loose(path: Path) -> object:
    """Read a sound of any rate and number of channels, as `predict` does."""
    return read_audio(path, channels=None, resample=True)


def _check(path: Path) -> object:
    return check_submission(path, load_layout())


def _state(folder: Path) -> Path:
    import torch

    from dcase_seld.train.state import Position, save_state

    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_state(folder / "state", network, optimizer, None, {"scale": 1.0}, Position(epoch=2, top=[[0.3, 1]]))
    return next((folder / "state").glob("*.json"))


def _read_state(path: Path) -> object:
    import torch

    from dcase_seld.train.state import load_state

    network = torch.nn.Linear(3, 2)
    return load_state(path.parent, network, torch.optim.AdamW(network.parameters()), None)


def _seen(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from people_made import clip_people

        from dcase_seld.vision.keypoints import KEYPOINTS

        KEYPOINTS.write(folder, ["a", "b"], lambda index: clip_people([[10.0 * index]] * 10), {"fps": 2.0})
        return next(folder.glob(name))

    return make


def _read_seen(path: Path) -> object:
    from dcase_seld.vision.keypoints import Keypoints

    people = Keypoints([path.parent])
    return [people[name] for name in people]


def _summary(folder: Path) -> Path:
    result = folder / "work" / ".results" / "train-0"
    result.mkdir(parents=True)
    val = {"f_score": 0.3, "f_score_onscreen": None, "doa_error_deg": 12.5, "relative_distance_error": 0.4}
    facts = {"val": val, "criterion": "f_score", "seconds": 7.5, "parameters": 12, "epochs": 9, "best_epoch": 7}
    (result / "epochs.csv").write_text("epoch\n")
    (result / "receipt.json").write_text(json.dumps({"config": {"lr": 0.1}}))
    (result / "summary.json").write_text(json.dumps({**facts, "clips_per_second": 40.2}))
    return result / "summary.json"


def _scores(folder: Path) -> Path:
    return work(folder / "work").parent / ".results" / "score-1" / "scores.json"


def _step_receipt(folder: Path) -> Path:
    return work(folder / "work").parent / ".results" / "train-1" / "receipt.json"


def _package(path: Path) -> object:
    return command(
        "package-submission", "--system", str(path.parents[2] / "demo"), "--out", f"{path.parents[2]}/o.zip"
    )(path)


def _around(folder: Path) -> Path:
    """A recording of four channels and its metadata, as STARSS23 has them."""
    for kind in ("foa", "metadata"):
        (folder / f"{kind}_dev" / "dev-train-x").mkdir(parents=True)
    write_wav(folder / "foa_dev" / "dev-train-x" / "a.wav", np.full((4, 48_000), 0.1, np.float32))
    rows = "".join(f"{frame},{frame % 13},0,{9 * frame},{frame},{100 + frame}\n" for frame in range(20))
    return _text("a.csv", rows)(folder / "metadata_dev" / "dev-train-x")


def _read_around(path: Path) -> object:
    from dcase_seld.corpus.ambisonic import events_of_metadata, read_metadata

    rows = read_metadata(path, 13, 100)
    return events_of_metadata("a", rows), _check_all(path.parents[2])


def _check_all(root: Path) -> object:
    from dcase_seld.corpus.check import check_corpus

    return check_corpus(root, workers=1).lines()


def _foa(folder: Path) -> Path:
    return _around(folder).parents[2] / "foa_dev" / "dev-train-x" / "a.wav"


def _corpus(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from corpus_made import write_corpus

        write_corpus(folder, [("dev-train-tau", 1, 1, 1), ("dev-test-tau", 4, 2, 1)], windows=1)
        (folder / "splits.csv").write_text("name,split\nfold1_room1,train\nfold4_room2,test\n")
        (folder / "taxonomy.yaml").write_text("classes: [A, B, C, D, E, F, G, H, I, J, K, L, M]\n")
        return next(folder.rglob(name))

    return make


TABLE = "file,onset,offset,label,azimuth,distance,onscreen\n" + "".join(
    f"a.wav,{n / 10},{n / 10 + 1.5},{'Speech' if n % 2 else 'Bell'},{n * 7 - 60},{1 + n / 9},{n % 2}\n"
    for n in range(20)
)


def _table(folder: Path) -> Path:
    write_wav(folder / "a.wav", np.full((2, 240_000), 0.1, np.float32))
    return _text("t.csv", TABLE)(folder)


def _import(path: Path) -> object:
    import shutil

    out = path.parent / "work"  # what is made may stay there
    shutil.rmtree(out, ignore_errors=True)
    units = ("--time", "seconds", "--direction", "degrees", "--positive", "left", "--distance", "metres")
    return command("data", "import", "{}", "--audio", "{dir}", "--out", str(out), *units, "--own-classes", "-q")(path)


def _audacity(folder: Path) -> Path:
    return _text("a.txt", "0.5\t1.5\tSpeech\n\\\t100.0\t200.0\n2.0\t3.25\tBell\n")(folder)


def _read_table(path: Path) -> object:
    from dcase_seld.corpus.tables import TableFormat, read_rows

    form = TableFormat("seconds", 0.1, "degrees", "left", "metres", {}, {"azimuth": "10", "distance": "1"})
    return list(read_rows(path, form))


def _cuts(folder: Path) -> Path:
    return _text("clips.csv", "recording,angle_deg,start_frame\na,0,0\na,90,10\n")(folder)


def _read_cuts(path: Path) -> object:
    from dcase_seld.corpus.ambisonic import Recording, read_cuts

    return read_cuts(path, {"a": Recording("a", "x", path, path, None, 100)})


def _rooms(folder: Path) -> Path:
    from dcase_seld.simulate.measured_rooms import TABLE as NAME

    response = np.zeros((2, 2_400), np.float32)
    response[:, 0] = 0.5
    write_wav(folder / "r.wav", response)
    rows = "".join(f"r.wav,{10 * n},0,1.5,kitchen\n" for n in range(5))
    return _text(NAME, "file,azimuth,elevation,distance,room\n" + rows)(folder)


def _read_rooms(path: Path) -> object:
    from dcase_seld.simulate.measured_rooms import load_rooms

    return load_rooms(path.parent)


def _real_recipe(folder: Path) -> Path:
    recipes = Path(__file__).parent.parent.parent / "recipes"
    return _text("q.yaml", (recipes / "quickstart.yaml").read_text(encoding="utf-8"))(folder)


def _plan(path: Path) -> object:
    from dcase_seld.cli.recipes import registry

    return make_plan(path, registry(), path.parent / "work")


def _track(suffix: str, codec: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import av

        path = folder / f"a.{suffix}"
        with av.open(str(path), "w", format="adts" if suffix == "aac" else None) as out:
            track = out.add_stream(codec, rate=48_000)
            track.layout = "stereo"
            for number in range(50):
                block = np.random.default_rng(number).normal(0, 0.1, (2, 960)).astype(np.float32)
                if codec == "pcm_s16le":
                    block = (block.T.reshape(1, -1) * 32_767).astype(np.int16)
                form = {"pcm_s16le": "s16", "libopus": "flt"}.get(codec, "fltp")
                block = np.ascontiguousarray(block.T.reshape(1, -1)) if form == "flt" else block
                frame = av.AudioFrame.from_ndarray(block, format=form, layout="stereo")
                frame.sample_rate, frame.pts = 48_000, 960 * number
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
        return path

    return make


def _other_sound(suffix: str, **how: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import soundfile

        sound = np.random.default_rng(0).normal(0, 0.1, (48_000, 2)).astype(np.float32)
        soundfile.write(folder / f"a.{suffix}", sound, 48_000, **how)
        return folder / f"a.{suffix}"

    return make


PLUGIN = """from dcase_seld import Config, stage


class Mine(Config):
    count: int = 1
    names: list[str] = []


@stage("mine", produces="numbers", config=Mine)
def mine(config: Mine, inputs, out, context):
    return {}
"""


def _with_plugin(folder: Path) -> Path:
    from dcase_seld.core.registry import load_plugins
    from dcase_seld.stages import stage_names

    file = _text("hostile_plugin.py", PLUGIN)(folder)
    if "mine" not in stage_names():
        load_plugins([str(file)])
    return _text("r.yaml", "steps:\n  a: {stage: mine, count: 3, names: [x, y]}\n")(folder)


TAXONOMY = "name: mine\nclasses: [Speech, Music, 'Bell, small']\nfolders: [speech, music, bell]\n"

KINDS = {
    "csv": Kind(
        _csv,
        damaged_text,
        (read_csv, lambda p: read_folder(p.parent), command("score", "--pred", "{dir}", "--ref", "{dir}/../reference")),
    ),
    "recipe": Kind(_text("r.yaml", RECIPE), damaged_text, (lambda p: make_plan(p, REGISTRY, p.parent / "work"),)),
    "taxonomy": Kind(_text("taxonomy.yaml", TAXONOMY), damaged_text, (load_taxonomy,)),
    "task": Kind(
        _text("t.yaml", "name: t\nwindow_s: 5\ntracks: 3\nsample_rate: 24000\n"),
        damaged_text,
        (lambda p: load_task(str(p)),),
    ),
    "team": Kind(_text("team.yaml", (BUILT_IN / "team.yaml").read_text(encoding="utf-8")), damaged_text, (load_team,)),
    "layout": Kind(
        _text("layout.yaml", (BUILT_IN / "layout.yaml").read_text(encoding="utf-8")),
        damaged_text,
        (lambda p: load_layout(p.parent),),
    ),
    "zip": Kind(package, damaged_bytes, (_check, command("check-submission", "{}"))),
    "receipt": Kind(
        _receipt,
        damaged_json,
        (lambda p: make_plan(p.parents[3] / "r.yaml", REGISTRY, p.parents[2]), lambda p: leftovers(p.parents[2])),
    ),
    "model.json": Kind(_model, damaged_json, (_load_model, command("model-summary", "{dir}"))),
    "safetensors": Kind(lambda folder: _model(folder).with_name("model.safetensors"), damaged_bytes, (_load_model,)),
    "ensemble.json": Kind(_ensemble, damaged_json, (_read_ensemble,)),
    "events.npz": Kind(_events, damaged_bytes, (Events.load,)),
    "store.json": Kind(_store("store.json"), damaged_json, (_read_store,)),
    "clips.npz": Kind(_store("clips.npz"), damaged_bytes, (_read_store,)),
    "tokens.json": Kind(_tokens, damaged_json, (_read_tokens,)),
    "onnx": Kind(_onnx, damaged_bytes, (_read_onnx,), heavy=True),
    "state": Kind(_state, damaged_json, (_read_state,), heavy=True),
    "keypoints.json": Kind(_seen("*.json"), damaged_json, (_read_seen,)),
    "keypoints.npz": Kind(_seen("*.npz"), damaged_bytes, (_read_seen,)),
    "summary.json": Kind(_summary, damaged_json, (command("runs", "{dir}"), command("runs", "--json", "{dir}"))),
    "scores.json": Kind(_scores, damaged_json, (_package,)),
    "step receipt": Kind(_step_receipt, damaged_json, (_package,)),
    "foa labels": Kind(_around, damaged_text, (_read_around,)),
    "foa": Kind(_foa, damaged_bytes, (lambda p: _check_all(p.parents[2]),)),
    "corpus labels": Kind(_corpus("*_start*.csv"), damaged_text, (lambda p: _check_all(p.parents[2]),)),
    "splits.csv": Kind(_corpus("splits.csv"), damaged_text, (lambda p: _check_all(p.parent),)),
    "corpus taxonomy": Kind(_corpus("taxonomy.yaml"), damaged_text, (command("data", "stats", "{dir}"),)),
    "table": Kind(_table, damaged_text, (_import,)),
    "audacity": Kind(_audacity, damaged_text, (_read_table,)),
    "cuts": Kind(_cuts, damaged_text, (_read_cuts,)),
    "rooms": Kind(_rooms, damaged_text, (_read_rooms,)),
    "real recipe": Kind(_real_recipe, damaged_text, (_plan,)),
    "recipe with plug-in": Kind(_with_plugin, damaged_text, (_plan,)),
    "mkv": Kind(_track("mkv", "pcm_s16le"), damaged_bytes, (audio_info, read_loose), heavy=True),
    "webm": Kind(_track("webm", "libopus"), damaged_bytes, (audio_info, read_loose), heavy=True),
    "avi": Kind(_track("avi", "pcm_s16le"), damaged_bytes, (audio_info, read_loose), heavy=True),
    "aac": Kind(_track("aac", "aac"), damaged_bytes, (audio_info, read_loose), heavy=True),
    "m4a": Kind(_track("m4a", "aac"), damaged_bytes, (audio_info, read_loose), heavy=True),
    "rf64": Kind(_other_sound("wav", format="RF64"), damaged_bytes, (audio_info, read_loose)),
    "float wav": Kind(_other_sound("wav", subtype="FLOAT"), damaged_bytes, (audio_info, read_loose)),
    "aiff": Kind(_other_sound("aiff"), damaged_bytes, (audio_info, read_loose)),
    "mp3": Kind(_other_sound("mp3"), damaged_bytes, (audio_info, read_loose)),
    "opus": Kind(_other_sound("opus", format="OGG", subtype="OPUS"), damaged_bytes, (audio_info, read_loose)),
    "webp": Kind(_picture("webp"), damaged_bytes, (read_picture,)),
    "bmp": Kind(_picture("bmp"), damaged_bytes, (read_picture,)),
    "tiff": Kind(_picture("tiff"), damaged_bytes, (read_picture,)),
    "pt": Kind(_pt, damaged_bytes, (_read_pt,), heavy=True),
    "wav": Kind(_sound("wav"), damaged_bytes, (audio_info, read_audio)),
    "flac": Kind(_sound("flac"), damaged_bytes, (audio_info, read_audio)),
    "ogg": Kind(_sound("ogg"), damaged_bytes, (audio_info, read_audio)),
    "mp4": Kind(_video, damaged_bytes, (video_info, lambda p: read_frames(p, [0.1, 0.5]), read_audio), heavy=True),
    "png": Kind(_picture("png"), damaged_bytes, (read_picture,)),
    "jpg": Kind(_picture("jpg"), damaged_bytes, (read_picture,)),
}


def allowed(error: BaseException) -> bool:
    """Return whether the command line answers an error with a sentence."""
    if isinstance(error, SystemExit):  # of check-submission, which has printed its findings
        return error.code in (0, 1)
    refused = isinstance(error, OSError) and error.errno in REFUSALS and bool(error.filename)
    return refused or isinstance(error, (SeldError, click.ClickException, click.exceptions.Exit, click.Abort))


def _late(*_: object) -> None:
    raise TimeoutError(f"took longer than {SECONDS} s")


class Bench:
    """A folder with the good files of one kind, in which damaged ones are tried one after the other."""

    def __init__(self, name: str, folder: Path) -> None:
        self.kind, self.folder = KINDS[name], folder
        folder.mkdir(parents=True, exist_ok=True)
        self.target = self.kind.make(folder)
        self.good = self.target.read_bytes()
        self.files = self._listing()

    def _listing(self) -> set[str]:
        return {str(p.relative_to(self.folder)) for p in self.folder.parent.rglob("*") if p.is_relative_to(self.folder)}

    def read_good(self) -> None:
        """Read the undamaged file: only weights that are of no known network may be refused."""
        for read in self.kind.read:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                read(self.target)

    def problem(self, seed: int) -> str:
        """Return what went wrong with the input of a seed, or "" if it was read or refused."""
        rng = random.Random(f"{self.target.name} {seed}")
        self.target.write_bytes(self.kind.damage(rng, self.good))
        signal.signal(signal.SIGALRM, _late)
        for read in self.kind.read:
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                    warnings.simplefilter("ignore")
                    read(self.target)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if not allowed(error):
                    return "".join(traceback.format_exception(error)[-4:])
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        more = {name for name in self._listing() - self.files if not name.startswith("work")}
        return f"it left {sorted(more)[:5]}" if more else ""
