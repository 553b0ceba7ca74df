"""`data import`: recordings and the event tables of others become a corpus in the official layout."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.errors import SeldError, first_lines, listing, nearest
from dcase_seld.core.event_files import write_csv
from dcase_seld.core.files import refuse_folder, replace_folder, visible_files, write_csv_table, write_json
from dcase_seld.core.task import SAMPLE_RATE, frames_of
from dcase_seld.core.work import run_threads
from dcase_seld.corpus.ambisonic import NEAR_CM
from dcase_seld.corpus.audio_pack import AudioOptions
from dcase_seld.corpus.check import Wanted, video_problem
from dcase_seld.corpus.splits import SPLIT_FILE
from dcase_seld.corpus.tables import COLUMNS, Row, Span, TableFormat, read_rows, to_events, to_span
from dcase_seld.media.audio import CONTAINERS, SOUNDS, VIDEOS, audio_info, write_wav

MOST_SHOWN = 5
"""Mistakes that are shown at a time."""

PART = "dev-{}-own"
"""The part of imported recordings that train or test."""


@dataclass(frozen=True)
class Job:
    """What to import."""

    # files of events: CSV, TSV, semicolons with a header, or Audacity's labels (one file per recording)
    tables: Sequence[Path]
    audio: Path  # folder of the recordings, sub-folders too
    out: Path  # the corpus, made
    form: TableFormat = field(default_factory=TableFormat)  # what the cells mean
    labels: Mapping[str, str] = field(default_factory=dict)  # label → class; "" leaves its events out
    taxonomy: Taxonomy | None = DCASE2025  # the classes; None: the labels are the classes, ordered by name
    # what to do with recordings that are no stereo at 24 kHz; by default they are refused
    sound: AudioOptions = field(default_factory=AudioOptions)
    link: bool = False  # make links to recordings that are as they must be, instead of copies
    rest: bool = False  # recordings that no table names hold no event; otherwise they are left out
    test: float = 0.0  # share of the recordings that is for testing, where the tables have no column `split`


@dataclass
class Sound:
    """A recording to import: its file, its name in the corpus, its length, its pictures, its events and split."""

    path: Path
    name: str
    samples: int
    seconds: float
    as_it_is: bool
    video: Path | None
    rows: list[Row] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    split: str = ""


def import_tables(job: Job, workers: int = 1, quiet: bool = True) -> dict[str, Any]:
    """Make a corpus of recordings and tables, and return counts and notes.

    Everything is read and checked before anything is written; the corpus appears as a whole. Raises SeldError: names
    the file, the line and the column that cannot be, or what was not declared.
    """
    refuse_folder(job.out, what="an earlier import, or other files")
    notes: list[str] = []
    rows = [row for table in job.tables for row in read_rows(table, job.form)]
    sounds = _find(job, rows, notes, workers, quiet)
    taxonomy = _classes(job, rows)
    left_out = _spans(job, sounds, taxonomy)
    _divide(job, sounds, notes)
    tables = {s.name: to_events(s.name, s.spans, int(frames_of(s.samples, SAMPLE_RATE))) for s in sounds}
    spans = [span for sound in sounds for span in sound.spans]
    farthest = max((span.distance_m for span in spans), default=1.0)
    behind = sum(abs(span.azimuth_deg) > 90 for span in spans)
    alone = all("onscreen" not in span.row.cells for span in spans)
    said = {
        f"{left_out} event(s) were left out, as --map says": left_out,
        f"{behind} event(s) are behind the microphones; they are folded to the front, as stereo hears them": behind,
        f"no distance reaches {NEAR_CM} cm: is the unit right (--distance)?": farthest * 100 < NEAR_CM,
        "no table says what is on screen; 0 is written": alone,
    }
    notes += [text for text, holds in said.items() if holds]
    with replace_folder(job.out) as out:
        for sound in sounds:
            for kind in ("stereo_dev", "metadata_dev", *(["video_dev"] if sound.video else [])):
                (out / kind / _part(sound)).mkdir(parents=True, exist_ok=True)
        run_threads(lambda sound: _put(sound, out, job), sounds, workers, "importing", quiet)
        for sound in sounds:
            write_csv(out / "metadata_dev" / _part(sound) / f"{sound.name}.csv", tables[sound.name])
        if taxonomy.classes != DCASE2025.classes:
            write_json(out / "taxonomy.yaml", taxonomy.to_json())  # JSON is YAML
        if any(sound.split == "val" for sound in sounds):
            write_csv_table(out / SPLIT_FILE, ("name", "split"), [(sound.name, sound.split) for sound in sounds])
    counts = Counter(taxonomy.classes[span.class_index] for span in spans)
    return {
        "recordings": len(sounds),
        "seconds": round(sum(sound.seconds for sound in sounds), 3),
        "events": len(spans),
        "label_rows": sum(map(len, tables.values())),
        "classes": dict(sorted(counts.items())),
        "splits": dict(Counter(sound.split for sound in sounds)),
        "notes": notes,
    }


def _find(job: Job, rows: Sequence[Row], notes: list[str], workers: int, quiet: bool) -> list[Sound]:
    """Return the recordings that the rows name (or all), with their rows, ordered by name."""
    if not job.audio.is_dir():
        raise SeldError(f"The folder of recordings {job.audio} does not exist.", "Give --audio a folder.")
    files = visible_files(job.audio, SOUNDS | CONTAINERS)
    # A video beside a sound of the same name is its pictures, not a recording of its own.
    heard = {path.with_suffix("") for path in files if path.suffix.lower() not in VIDEOS}
    files = [path for path in files if path.suffix.lower() not in VIDEOS or path.with_suffix("") not in heard]
    # A path below the folder goes before a name alone, and both before what has no ending.
    ways: list[dict[str, set[Path]]] = [defaultdict(set) for _ in range(4)]
    for path in files:
        below = path.relative_to(job.audio)
        called = (below.as_posix(), below.with_suffix("").as_posix(), path.name, path.stem)
        for known, way in zip(ways, called, strict=True):
            known[way].add(path)
    by_file: dict[Path, list[Row]] = defaultdict(list)
    for row in rows:
        cell = row.cells["file"]
        tried = (cell, cell, *2 * (re.split(r"[\\/]", cell)[-1],))
        found = next((known[name] for known, name in zip(ways, tried, strict=True) if name in known), set())
        if len(found) != 1:
            hint = nearest(cell, [*ways[0], *ways[1]], " (", ")")
            text = f"{listing(sorted(found))} have this name." if found else f"{job.audio} has no {cell!r}{hint}."
            raise row.wrong("file", text, "Write the path below --audio.")
        by_file[next(iter(found))].append(row)
    unnamed = [path for path in files if path not in by_file]
    if unnamed and not job.rest:
        names = listing([path.name for path in unnamed])
        notes.append(
            f"{len(unnamed)} recording(s) that no table names were left out (--rest empty takes them): {names}"
        )
    chosen = files if job.rest else [path for path in files if path in by_file]
    if not chosen:
        raise SeldError(f"The tables name no recording of {job.audio}.", "Check the tables and --audio.")
    stems = Counter(path.stem for path in chosen)
    sounds = run_threads(lambda path: _sound(path, job, stems[path.stem] == 1), chosen, workers, "", True)
    for sound in sounds:
        sound.rows = by_file.get(sound.path, [])
        if sound.video is not None and (text := video_problem(sound.video, sound.seconds, Wanted())):
            notes.append(f"pictures were left out: {text}")
            sound.video = None
    if double := [name for name, count in Counter(sound.name for sound in sounds).items() if count > 1]:
        raise SeldError(f"Two recordings would be called {double[0]!r}.", "Rename one of them.")
    return sorted(sounds, key=lambda sound: sound.name)


def _sound(path: Path, job: Job, is_alone: bool) -> Sound:
    """Return a recording by its header, or refuse it."""
    info, wanted = audio_info(path), job.sound
    if info.rate != wanted.rate and not wanted.resample:
        raise SeldError(
            f"{path} has a sample rate of {info.rate} Hz; {wanted.rate} Hz is needed.", "Convert it with --resample."
        )
    if info.channels == 1 and wanted.mono == "refuse":
        raise SeldError(
            f"{path} is mono: nothing in it tells a direction.", "Say --mono duplicate to copy it to both channels."
        )
    if info.channels > wanted.channels:
        raise SeldError(
            f"{path} has {info.channels} channels; {wanted.channels} are needed.", "Give stereo recordings."
        )
    below = path.relative_to(job.audio).with_suffix("")
    pictures = [path, *(path.with_suffix(end) for end in (".mp4", ".MP4"))]
    # The header of a compressed sound track only estimates its length.
    seconds = info.seconds if path.suffix.lower() not in CONTAINERS else wanted.read(path).shape[1] / wanted.rate
    return Sound(
        path,
        path.stem if is_alone else "_".join(below.parts),
        round(seconds * wanted.rate),
        seconds,
        path.suffix == ".wav" and (info.rate, info.channels) == (wanted.rate, wanted.channels),
        next((file for file in pictures if file.suffix.lower() == ".mp4" and file.is_file()), None),
    )


def _classes(job: Job, rows: Sequence[Row]) -> Taxonomy:
    """Return the classes; every label must be one, be mapped to one, or be left out."""
    labels: dict[str, Row] = {}
    for row in rows:
        if not _says_nothing(row):
            labels.setdefault(row.cells["label"], row)
    if strange := sorted(set(job.labels) - set(labels)):
        raise SeldError(f"--map names labels that no table has: {listing(strange)}.", f"Labels: {listing(labels, 20)}.")
    if job.taxonomy is None:
        names = {job.labels.get(label, label) for label in labels} - {""}
        return Taxonomy.from_json({"name": job.out.name, "classes": sorted(names)})
    unknown = [
        row.wrong("label", f"{label!r} is none of the {len(job.taxonomy)} classes{_near(target, job.taxonomy)}.")
        for label, row in labels.items()
        if (target := job.labels.get(label, label)) != "" and class_of(target, job.taxonomy) is None
    ]
    _refuse(unknown, "Map it (--map LABEL=CLASS), name other classes (--taxonomy FILE), or take the labels as they are "
                     "(--own-classes).")  # fmt: skip
    return job.taxonomy


def read_pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Return the NAME=VALUE pairs of an option given several times; `--map` takes YAML files of them too.

    Raises:
        SeldError: a pair has no "=", or names a column that there is not.
    """
    from dcase_seld.core.reading import read_yaml

    pairs: dict[str, str] = {}
    for text in given:
        name, mark, value = (part.strip() for part in text.partition("="))
        if option == "--map" and not mark and Path(text).is_file():
            data = read_yaml(Path(text), "The file of labels", "Write `label: class` lines.")
            pairs |= {str(label): "" if target is None else str(target) for label, target in data.items()}
            continue
        if not mark or not name:
            raise SeldError(f"{option} {text!r} is no pair, nor a file of them.", f"Write {option} NAME=VALUE.")
        if option != "--map" and name not in COLUMNS:
            hint = nearest(name, COLUMNS, " (", ")")
            raise SeldError(f"{option} {text}: {name!r} is no name of a column{hint}.", f"Names: {', '.join(COLUMNS)}.")
        pairs[name] = value
    return pairs


def class_of(label: str, taxonomy: Taxonomy) -> int | None:
    """Return the class of a label: by its name, in any case, or by its folder's name."""
    names = [name.casefold() for name in taxonomy.classes]
    return names.index(label.casefold()) if label.casefold() in names else taxonomy.class_of_folder(label)


def _near(label: str, taxonomy: Taxonomy) -> str:
    return nearest(label.casefold(), [name.casefold() for name in taxonomy.classes], " (", ")")


def _says_nothing(row: Row) -> bool:
    """Return whether a row only names a recording: nothing sounds in it."""
    return not any(row.cells.get(name) for name in ("label", "onset", "offset"))


def _spans(job: Job, sounds: Sequence[Sound], taxonomy: Taxonomy) -> int:
    """Give the recordings their events, and return how many were left out."""
    mistakes: list[SeldError] = []
    left_out = 0
    for sound in sounds:
        for row in sound.rows:
            if _says_nothing(row):
                continue
            label = job.labels.get(row.cells["label"], row.cells["label"])
            number = class_of(label, taxonomy) if label else None
            if number is None and label == "" and row.cells["label"] in job.labels:
                left_out += 1
                continue
            try:
                if number is None:
                    raise row.wrong("label", "a label is missing.")
                sound.spans.append(to_span(row, number, sound.seconds))
            except SeldError as error:
                mistakes.append(error)
    _refuse(mistakes)
    return left_out


def _refuse(mistakes: Sequence[SeldError], remedy: str = "") -> None:
    """Raise one error of the first of several mistakes."""
    if not mistakes:
        return
    shown = first_lines([mistake.problem for mistake in mistakes], MOST_SHOWN)
    raise SeldError("\n  ".join(shown), remedy or mistakes[0].remedy)


def _divide(job: Job, sounds: Sequence[Sound], notes: list[str]) -> None:
    """Give every recording its split: what the tables say, else a share for testing by the names' hashes."""
    for sound in sounds:
        for row in sound.rows:
            said = row.cells.get("split", "")
            if said not in ("", "train", "val", "test") or (said and sound.split not in ("", said)):
                raise row.wrong("split", f"{said!r}; train, val or test can be, one for all rows of a recording.")
            sound.split = sound.split or said
    if all(not sound.split for sound in sounds):
        order = sorted(sounds, key=lambda sound: hashlib.sha256(sound.name.encode("utf-8", "surrogatepass")).digest())
        count = min(max(1, round(job.test * len(sounds))), len(sounds) - 1) if job.test else 0
        for sound in order[:count]:
            sound.split = "test"
    for sound in sounds:
        sound.split = sound.split or "train"
    if not any(sound.split == "test" for sound in sounds):
        how = "a single one is trained on" if job.test else "a column `split`, or --test 0.2, sets some aside"
        notes.append(f"no recording is for testing ({how})")


def _part(sound: Sound) -> str:
    return PART.format("test" if sound.split == "test" else "train")


def _put(sound: Sound, out: Path, job: Job) -> None:
    """Write, copy or link one recording and its pictures."""
    target = out / "stereo_dev" / _part(sound) / f"{sound.name}.wav"
    if not sound.as_it_is:
        write_wav(target, job.sound.read(sound.path), job.sound.rate)
    else:
        _bring(sound.path, target, job.link)
    if sound.video is not None:
        _bring(sound.video, out / "video_dev" / _part(sound) / f"{sound.name}.mp4", job.link)


def _bring(source: Path, target: Path, link: bool) -> None:
    if link:
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)
