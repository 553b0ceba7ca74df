"""A folder of recordings as a sound bank: class sub-folders, ESC-50 or FSD50K, divided by collection.

The mappings are data; labels that no class claims are left out. Sources: the vocabularies of ESC-50 (Piczak, 2015) and
FSD50K (Fonseca et al., 2022, AudioSet names).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dcase_seld.core.classes import ESC50, FSD50K, Taxonomy, profile_of
from dcase_seld.core.errors import SeldError, listing, sift
from dcase_seld.core.files import visible_files
from dcase_seld.core.reading import read_table
from dcase_seld.core.work import say
from dcase_seld.simulate.config import SoundsConfig
from dcase_seld.simulate.sound_bank import LONGEST_S, SUFFIXES, Recording, SoundBank
from dcase_seld.simulate.synthesis import Sound


@dataclass(frozen=True)
class Entry:
    """One recording of a known data set: class, group, path below the folder."""

    class_index: int
    group: str
    path: str


@dataclass(frozen=True)
class Dataset:
    """A recognised data set and its recordings of the taxonomy's classes."""

    name: str
    entries: tuple[Entry, ...]


def find_dataset(folder: Path, taxonomy: Taxonomy) -> Dataset | None:
    """Return the recordings of an ESC-50 or FSD50K folder, or None where the folder is neither.

    Raises:
        SeldError: the data set's table cannot be read or lacks a column.
    """
    if (folder / "meta" / "esc50.csv").is_file():
        return Dataset("ESC-50", tuple(_esc50(folder, taxonomy)))
    tables = sorted(folder.glob("FSD50K.ground_truth/*.csv"))
    tables = [table for table in tables if table.stem in ("dev", "eval")]
    return Dataset("FSD50K", tuple(_fsd50k(folder, tables, taxonomy))) if tables else None


def _esc50(folder: Path, taxonomy: Taxonomy) -> list[Entry]:
    """Clips cut from one upload share `src_file`: that is the group."""
    entries = []
    for row in _rows(folder / "meta" / "esc50.csv", ("filename", "category", "src_file")):
        class_index = taxonomy.class_of_folder(ESC50.get(row["category"], row["category"]))
        if class_index is not None:
            entries.append(Entry(class_index, row["src_file"], f"audio/{row['filename']}"))
    return entries


def _fsd50k(folder: Path, tables: list[Path], taxonomy: Taxonomy) -> list[Entry]:
    """Every clip is an upload of its own; where an uploader is given, the uploader is the group."""
    entries = []
    for table in tables:
        for row in _rows(table, ("fname", "labels")):
            names = [FSD50K.get(label, label) for label in row["labels"].split(",")]
            found = {(profile_of(name).generality, taxonomy.class_of_folder(name)) for name in names}
            ranked = [(general, index) for general, index in found if index is not None]
            special = {index for general, index in ranked if general == min(ranked)[0]}
            # Clips of two classes at once (a laugh over music) would teach the wrong label.
            if len(special) == 1:
                path = f"FSD50K.{table.stem}_audio/{row['fname']}.wav"
                entries.append(Entry(special.pop(), row.get("uploader") or row["fname"], path))
    return entries


def _rows(table: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    header, rows = read_table(table, "Unpack the data set again.")
    lacking = [column for column in columns if rows and column not in header]
    if lacking or not rows:
        raise SeldError(f"{table} lacks {', '.join(lacking) or 'rows'}.", f"Expected columns {', '.join(columns)}.")
    return [row for _, row in rows]


PASSED_OVER = (".m4a", ".aac", ".wma", ".aif", ".aiff", ".opus", ".mp4", ".mov", ".mkv", ".webm", ".amr", ".caf")
"""Files that hold sound too, and are named where they are passed over."""

SILENT = 1e-4
"""A recording whose largest sample is below this share of full scale is silent."""

SHORTEST = 2400
"""Samples of silence in place of a recording that has none."""


@dataclass(frozen=True)
class File:
    """One sound file of a bank: its class, the group that it may not be parted from, its path below the bank."""

    class_index: int
    group: str
    path: str


def folder_bank(folder: Path, taxonomy: Taxonomy, config: SoundsConfig) -> SoundBank:
    """Return the bank of a folder's recordings, divided by group so that no group is in two splits.

    Files whose header cannot be read are left out, and named. What turns out to be damaged when it is first heard is
    silent: by then scenes are planned with it, and nothing is labelled where nothing sounds.

    Raises:
        SeldError: the folder cannot be read, or holds no recording of any class.
    """
    from dcase_seld.media.audio import audio_info

    files, notes = list_files(folder, taxonomy, config)
    kept, problems = sift(files, lambda file: audio_info(folder / file.path))
    if problems:
        notes.append(f"sounds that cannot be read were left out: {listing(problems)}")
    if not kept:
        raise SeldError(f"No sound in {folder} can be read: {problems[0]}", "Give files of wav, flac, ogg or mp3.")
    recordings, divided = divide(kept, taxonomy, config)

    return SoundBank(tuple(recordings), partial(_load, folder), (*notes, *divided))


def _load(folder: Path, recording: Recording) -> Sound:
    from dcase_seld.media.audio import read_audio

    path = folder / recording.source
    try:
        sound = read_audio(path, channels=1, resample=True)[0]
        problem = f"{path} is silent" if not sound.size or float(np.abs(sound).max()) < SILENT else ""
    except SeldError as error:
        sound, problem = np.zeros(0, np.float32), error.problem.rstrip(".")
    if problem:
        say(f"note: {problem}: nothing is labelled where it would sound")
    return np.asarray(sound[: round(LONGEST_S * 24_000)] if sound.size else np.zeros(SHORTEST), dtype=np.float32)


def list_files(folder: Path, taxonomy: Taxonomy, config: SoundsConfig) -> tuple[list[File], list[str]]:
    """Return a folder's sound files with class and group, ordered by path, and notes on what was passed over."""
    if not folder.is_dir():
        raise SeldError(f"The sounds folder {folder} does not exist.", "Give a folder with one sub-folder per class.")
    files: list[File] = []
    notes: list[str] = []
    known = find_dataset(folder, taxonomy)
    if known is not None:
        files = [File(entry.class_index, entry.group, entry.path) for entry in known.entries]
        notes.append(f"{folder} is read as {known.name}: {len(files)} recordings of the taxonomy's classes")
    else:
        unknown, passed = [], list[Path]()
        for sub in sorted(entry for entry in _entries(folder) if entry.is_dir()):
            class_index = taxonomy.class_of_folder(sub.name)
            if class_index is None:
                unknown.append(sub.name)
                continue
            passed += visible_files(sub, PASSED_OVER)
            for path in visible_files(sub, SUFFIXES):
                if not path.is_file():  # a broken link, a pipe
                    passed.append(path)
                    continue
                files.append(File(class_index, _group(path, sub, config), str(path.relative_to(folder))))
        passed += [path for path in _entries(folder) if path.suffix.lower() in PASSED_OVER and path.is_file()]
        loose = [path.name for path in _entries(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]
        if loose:
            notes.append(f"sounds beside the class folders were left out: {listing(sorted(loose))}")
        if passed:
            names = [str(path.relative_to(folder)) for path in passed]
            notes.append(f"files that are not read were left out; convert them to wav or flac: {listing(names)}")
        if unknown:
            notes.append(f"folders of no class in the taxonomy were left out: {listing(unknown)}")
    if not files:
        raise SeldError(
            f"{folder} holds no sound of any class: expected sub-folders such as {listing(taxonomy.folders)} with "
            f"{', '.join(SUFFIXES)} files.",
            "Name one sub-folder after each class, or give a taxonomy whose folders are those of the bank.",
        )
    if config.groups is not None:
        files = _regroup(files, folder / config.groups)
    return sorted(files, key=lambda file: file.path), notes


def divide(files: Sequence[File], taxonomy: Taxonomy, config: SoundsConfig) -> tuple[list[Recording], list[str]]:
    """Return every file with a split, and notes on classes with few groups.

    A group keeps its split in every class: a person who speaks in the test fold does not laugh in the training fold.
    Classes with the fewest groups choose first.
    """
    by_class: dict[int, dict[str, list[File]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        by_class[file.class_index][file.group].append(file)
    rng = np.random.default_rng([config.split_seed, 4])
    split_of: dict[str, str] = {}
    notes: list[str] = []
    for class_index in sorted(by_class, key=lambda c: (len(by_class[c]), c)):
        groups = by_class[class_index]
        _divide_class(groups, split_of, config, rng)
        notes += _notes(taxonomy.classes[class_index], groups, split_of, config)
    missing = [taxonomy.classes[c] for c in range(len(taxonomy)) if c not in by_class]
    if missing:
        notes.append(f"classes without any recording: {', '.join(missing)}")
    recordings = [Recording(f.class_index, split_of[f.group], f.group, f.path) for f in files]
    if config.reuse_single:
        for class_index, groups in by_class.items():
            splits = {split_of[group] for group in groups}
            for split in {"train", "val", "test"} - splits if len(groups) == 1 else set():
                recordings += [Recording(class_index, split, f.group, f.path) for g in groups.values() for f in g]
    return recordings, notes


def _divide_class(
    groups: dict[str, list[File]], split_of: dict[str, str], config: SoundsConfig, rng: np.random.Generator
) -> None:
    """Give a split to the groups of a class that have none yet: test first, then validation, the rest trains."""
    order = [str(name) for name in rng.permutation(sorted(groups))]
    total = sum(len(group) for group in groups.values())
    for split, fraction, least in (
        ("test", config.test_fraction, 2),
        ("val", config.validation_fraction, 3),
    ):
        if fraction <= 0 or len(groups) < least:
            continue
        held = sum(len(groups[g]) for g in groups if split_of.get(g) == split)
        free = [g for g in order if g not in split_of]
        # One group at least must stay for training, and one for validation where there are three.
        later = (
            ["train", "val"] if split == "test" and config.validation_fraction > 0 and len(groups) > 2 else ["train"]
        )
        spare = len(free) - sum(not any(split_of.get(g) == other for g in groups) for other in later)
        for group in free:
            if spare <= 0:
                break
            size = len(groups[group])
            if abs(held + size - fraction * total) < abs(held - fraction * total):
                split_of[group] = split
                held += size
                spare -= 1
        if not held and spare > 0:
            split_of[min(free, key=lambda g: len(groups[g]))] = split
    for group in order:
        split_of.setdefault(group, "train")


def _notes(name: str, groups: dict[str, list[File]], split_of: dict[str, str], config: SoundsConfig) -> list[str]:
    splits = {split_of[group] for group in groups}
    if len(groups) == 1 and config.reuse_single:
        return [f"{name}: one group only, {next(iter(groups))!r}; it sounds in every split, its figures mean little"]
    absent = [split for split in ("train", "val", "test") if split not in splits]
    wanted = {"train": 1.0, "val": config.validation_fraction, "test": config.test_fraction}
    absent = [split for split in absent if wanted[split] > 0]
    if not absent:
        return []
    return [f"{name}: {len(groups)} group(s) ({listing(sorted(groups))}), none of them in {' or '.join(absent)}"]


def _group(path: Path, class_folder: Path, config: SoundsConfig) -> str:
    """Return the group of a file by its sub-folder, its name, or alone."""
    inside = path.relative_to(class_folder)
    if config.group_by == "recording":
        return str(Path(class_folder.name) / inside)
    if len(inside.parts) > 1:
        return inside.parts[0]
    if config.group_by == "folder":
        return class_folder.name
    return path.stem.split("_")[0]


def _regroup(files: Sequence[File], table: Path) -> list[File]:
    """Return the files with the groups of a user's CSV (file,group); files that it does not name keep theirs."""
    header, rows = read_table(table, "Give a CSV with the columns file and group.")
    if not {"file", "group"} <= set(header):
        raise SeldError(f"The groups file {table} needs the columns file and group.", "Write the header file,group.")
    groups = {os.path.normpath(row["file"]): row["group"] for _, row in rows}
    paths = {file.path for file in files}
    strange = [name for name in groups if name not in paths]
    if strange:
        raise SeldError(
            f"{table} names files that are no recordings of the bank: {listing(strange)}.",
            "Write paths relative to the sounds folder, such as knock/door1.wav.",
        )
    return [File(file.class_index, groups.get(file.path, file.group), file.path) for file in files]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SeldError(f"{folder} cannot be read: {error.strerror}.", "Check the folder's permissions.") from error
