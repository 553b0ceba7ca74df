"""The official folder layout: audio, labels and video of every clip, paired by name, and what is missing or broken.

A corpus holds `stereo_dev`, `metadata_dev` and `video_dev` with one sub-folder per part (`dev-train-tau`, …), and
`stereo_eval/eval`, `video_eval/eval` without labels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcase_seld.core.errors import SeldError, first_lines, listing
from dcase_seld.core.events import name_parts

KINDS = {
    "audio": (("stereo_dev", "stereo_eval"), (".wav",)),
    "labels": (("metadata_dev", "metadata_eval"), (".csv",)),
    "video": (("video_dev", "video_eval"), (".mp4",)),
}
"""What a clip has → the folders that hold it, and its file extensions."""

FLAT = frozenset({"foa_eval", "video_eval"})
"""Folders that may hold recordings without a sub-folder."""

OFFICIAL_PART = re.compile(r"eval|dev-(train|test)-(tau|sony|synth)")
"""Parts of the challenge's sets, whose clips have names and a length of their own; other parts may hold any."""


@dataclass(frozen=True)
class Clip:
    """The files of one clip; a file that is not there is None."""

    name: str  # file stem
    part: str  # sub-folder, e.g. "dev-train-tau", "dev-test-sony", "eval".
    audio: Path | None  # stereo WAV
    labels: Path | None  # official CSV
    video: Path | None  # MP4


@dataclass(frozen=True)
class Problem:
    """One thing that is missing or broken.

    Attributes:
        kind: "missing-audio", "missing-labels", "missing-video", "empty-file", "duplicate", "name", "unreadable" or
            "stray-file".
        where: the clip's or file's path below the corpus root.
        text: one readable line.
    """

    kind: str
    where: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """The clips of a corpus folder, ordered by part and name, and its problems."""

    root: Path
    clips: tuple[Clip, ...]
    problems: tuple[Problem, ...]


def index_corpus(root: Path, channels: str = "stereo") -> Corpus:
    """Return all clips below a corpus folder, and a list of what is missing, broken or not understood.

    Clips without labels are no problem in parts that no label folder knows (evaluation sets); clips without video are
    none where the corpus has no video of that part. A clip without audio stays in the index (`audio` None). With
    `channels` "foa" sound is in foa_dev and foa_eval, and clips are whole recordings. Raises SeldError: the folder is
    missing, or holds none of the official folders.
    """
    if not root.is_dir():
        raise SeldError(f"The corpus {root} is not a folder.", "Give the folder that holds stereo_dev, metadata_dev, …")
    problems: list[Problem] = []
    files: dict[tuple[str, str], dict[str, Path]] = {}
    parts: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for kind, (folders, suffixes) in KINDS.items():
        for path in _files([root / folder.replace("stereo", channels) for folder in folders], root, problems):
            # STARSS' evaluation recordings lie in foa_eval itself.
            part = "eval" if path.parent.parent == root else path.parent.name
            stem, suffix = path.stem, path.suffix.lower()
            where = str(path.relative_to(root))
            if suffix not in suffixes:
                problems.append(Problem("stray-file", where, f"{where}: expected {' or '.join(suffixes)} files here"))
                continue
            parts[kind].add(part)
            entry = files.setdefault((part, stem), {})
            if kind in entry:
                problems.append(Problem("duplicate", where, f"{where}: the same clip as {entry[kind].name}"))
            entry.setdefault(kind, path)
    if not files:
        wanted = ", ".join(folder.replace("stereo", channels) for names, _ in KINDS.values() for folder in names)
        below = [
            place.parent for place in sorted(root.glob("*/*_dev")) + sorted(root.glob("*/*_eval")) if place.is_dir()
        ]
        kinds = {folder.replace("stereo", channels) for names, _ in KINDS.values() for folder in names}
        if root.name in kinds or root.parent.name in kinds:  # one of its folders, or a part, was given
            up = root.parent if root.name in kinds else root.parent.parent
            advice = f"Give the folder above, {up}."
        elif below:
            advice = f"Give the folder inside it, {below[0]}."
        else:
            advice = f"Give the folder that the official zips were unpacked in, with {channels}_dev and metadata_dev."
        raise SeldError(f"{root} holds no clips in the official layout ({wanted}).", advice)
    clips = tuple(
        Clip(stem, part, entry.get("audio"), entry.get("labels"), entry.get("video"))
        for (part, stem), entry in sorted(files.items())
    )
    problems += _clip_problems(clips, parts)
    if channels != "stereo":
        # Recordings have shorter names, and an empty label file where nothing sounds.
        problems = [p for p in problems if p.kind != "name" and not (p.kind == "empty-file" and p.where[-4:] == ".csv")]
    return Corpus(root, clips, tuple(problems))


def _files(folders: list[Path], root: Path, problems: list[Problem]) -> Iterator[Path]:
    """Yield the files in the sub-folders of `folders`; empty and unreadable ones become problems.

    Evaluation recordings of the editions before 2025 lie in the folder itself.
    """
    for folder in folders:
        if not folder.exists():
            continue
        flat: list[os.DirEntry[str]] = []
        for part in _scan(folder, root, problems):
            try:
                is_folder = part.is_dir()
            except OSError as error:  # a link that leads in a circle
                where = f"{folder.name}/{part.name}"
                problems.append(Problem("unreadable", where, f"{where}: {error.strerror}"))
                continue
            if not is_folder and folder.name in FLAT:
                flat.append(part)
                continue
            if not is_folder:
                problems.append(
                    Problem("stray-file", part.name, f"{folder.name}/{part.name}: expected sub-folders such as eval")
                )
                continue
            yield from _readable(_scan(Path(part.path), root, problems), root, problems)
        yield from _readable(flat, root, problems)


def _readable(entries: list[os.DirEntry[str]], root: Path, problems: list[Problem]) -> Iterator[Path]:
    """Yield the files among entries of a folder; empty and unreadable ones become problems."""
    for entry in entries:
        path = Path(entry.path)
        where = str(path.relative_to(root))
        try:
            size = entry.stat().st_size if entry.is_file() else -1
        except OSError:
            size = -1
        if size < 0:
            problems.append(Problem("unreadable", where, f"{where}: not a readable file"))
            continue
        if size == 0:
            problems.append(Problem("empty-file", where, f"{where}: the file is empty"))
        yield path


def _scan(folder: Path, root: Path, problems: list[Problem]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith((".", "__MACOSX"))), key=lambda e: e.name)
    except OSError as error:
        where = str(folder.relative_to(root))
        problems.append(Problem("unreadable", where, f"{where}: {error.strerror}"))
        return []


def _clip_problems(clips: tuple[Clip, ...], parts: dict[str, set[str]]) -> list[Problem]:
    problems = []
    first: dict[str, str] = {}
    for clip in clips:
        where = f"{clip.part}/{clip.name}"
        if clip.name in first:
            text = f"{where}: a clip of this name is also in {first[clip.name]}"
            problems.append(Problem("duplicate", where, text))
        first.setdefault(clip.name, clip.part)
        for kind in KINDS:
            asked = clip.part in parts[kind] and (kind != "video" or OFFICIAL_PART.fullmatch(clip.part))
            if getattr(clip, kind) is None and (kind == "audio" or asked):
                problems.append(Problem(f"missing-{kind}", where, f"{where}: no {kind}"))
        if clip.part != "eval" and OFFICIAL_PART.fullmatch(clip.part) and name_parts(clip.name) is None:
            text = f"{where}: expected a name such as fold4_room15_mix012_deg179_start2495"
            problems.append(Problem("name", where, text))
    return problems


FATAL = ("missing-audio", "duplicate", "empty-file", "unreadable")
"""Kinds of problems that a store cannot be built with; the others (no video, stray files, odd names) are only told."""


def usable_clips(
    corpus: Corpus, *, parts: Sequence[str] | None = None, need_video: bool = False, skip_broken: bool = False
) -> tuple[list[Clip], list[str]]:
    """Return the clips of a corpus that have sound, each name once, and readable lines of all problems.

    With `need_video` a clip without one is fatal too; with `skip_broken` what is broken is left out, and of clips with
    one name the first stays. Raises SeldError: a part is not there, no clip is left, or there are fatal problems and
    `skip_broken` is False.
    """
    clips = list(corpus.clips)
    problems = list(corpus.problems)
    if parts is not None:
        there = sorted({clip.part for clip in clips})
        unknown = [part for part in parts if part not in there]
        if unknown:
            raise SeldError(f"{corpus.root} has no part {listing(unknown)}.", f"Choose of {listing(there, 20)}.")
        clips = [clip for clip in clips if clip.part in parts]
        others = [part for part in there if part not in parts]
        problems = [p for p in problems if not any(f"{part}/" in p.where for part in others)]
    fatal = [problem for problem in problems if problem.kind in FATAL]
    lines = [problem.text for problem in problems]
    if need_video:
        without = [clip for clip in clips if clip.video is None]
        if without and not skip_broken:
            names = listing(clip.name for clip in without)
            raise SeldError(
                f"{len(without)} of {len(clips)} clips of {corpus.root} have no video: {names}.",
                "Add the videos, or use `video: if_there`.",
            )
        clips = [clip for clip in clips if clip.video is not None]
    if fatal and not skip_broken:
        raise SeldError(
            "\n  ".join([f"{corpus.root} has {len(fatal)} problem(s):", *first_lines([one.text for one in fatal], 20)]),
            "Mend them (`dcase-seld data check` lists all), or leave such clips out with `broken: skip`.",
        )
    seen: set[str] = set()
    good = []
    for clip in clips:
        if clip.audio is not None and clip.name not in seen:
            seen.add(clip.name)
            good.append(clip)
    if not good:
        raise SeldError(f"{corpus.root} has no clip with sound.", "Check the folder with `dcase-seld data check`.")
    return good, lines
