"""A whole corpus looked at: layout, pairs, formats, durations, label ranges; everything that is wrong in one report."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.errors import SeldError, first_lines, listing
from dcase_seld.core.event_files import read_csv
from dcase_seld.core.geometry import fold
from dcase_seld.core.task import (
    CLIP_FRAMES,
    CLIP_SECONDS,
    ONSCREEN_LIMIT_DEG,
    SAMPLE_RATE,
    VIDEO_HEIGHT,
    VIDEO_WIDTH,
    frames_of,
)
from dcase_seld.core.work import duration, run_threads
from dcase_seld.corpus.ambisonic import NEAR_CM, is_all_around, read_metadata
from dcase_seld.corpus.layout import OFFICIAL_PART, Clip, Problem, index_corpus
from dcase_seld.corpus.splits import SPLIT_FILE, SplitConfig, assign
from dcase_seld.media.audio import audio_info, equal_channels, read_audio

VIDEO_TOLERANCE_S = 0.1
"""Video and sound of a clip may differ in length by this."""


@dataclass(frozen=True)
class Wanted:
    """What every clip of a corpus should be."""

    taxonomy: Taxonomy = DCASE2025  # the classes of the labels
    # length of every clip; None: any length; "official": 5 s in the challenge's own parts, any in others
    seconds: float | Literal["official"] | None = CLIP_SECONDS
    rate: int = SAMPLE_RATE  # samples per second
    channels: int = 2  # channels of the sound
    look_into_videos: bool = True  # open every video too, instead of only pairing it
    all_around: bool = False  # Ambisonic recordings of any length, labels with elevations, 360° videos

    def of(self, root: Path) -> Wanted:
        """Return what the clips of a corpus should be: as they are asked for, or Ambisonic where its folders say so."""
        if self.channels == 2 and is_all_around(root):
            seconds = None if self.seconds == "official" else self.seconds
            return replace(self, channels=4, seconds=seconds, all_around=True)
        return self


@dataclass
class Report:
    """What was found."""

    root: str  # the corpus
    parts: dict[str, dict[str, int]] = field(default_factory=dict)  # part → counts of clips, sound, labels and videos
    hours: float = 0.0  # length of all sound that could be read
    events: int = 0  # label rows
    problems: list[Problem] = field(default_factory=list)  # everything that is wrong, ordered by kind and place
    suspicious: list[Problem] = field(default_factory=list)  # what breaks no rule and is hardly meant, see SUSPICIOUS

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "root": self.root,
            "ok": self.ok,
            "clips": sum(part["clips"] for part in self.parts.values()),
            "hours": round(self.hours, 4),
            "events": self.events,
            "parts": self.parts,
            "problem_counts": dict(Counter(problem.kind for problem in self.problems)),
            "problems": [asdict(problem) for problem in self.problems],
            "suspicious_counts": dict(Counter(item.kind for item in self.suspicious)),
            "suspicious": [asdict(item) for item in self.suspicious],
        }

    def lines(self, most: int = 5) -> list[str]:
        """Return the report as readable lines, at most `most` cases of each kind of problem."""
        width = max((len(part) for part in self.parts), default=4)
        out = [
            f"{self.root}: {self.to_json()['clips']:,} clips, {duration(3600 * self.hours)}, {self.events:,} label rows"
        ]
        for part, counts in self.parts.items():
            out.append(f"  {part:{width}}  " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
        out += _cases(self.problems, most)
        if self.suspicious:
            out.append("Suspicious (breaks no rule, but is hardly meant):")
            out += _cases(self.suspicious, most)
        wrong, odd = len(self.problems), len(self.suspicious)
        said = "No problem was found" if self.ok else f"{wrong:,} problem{'s' * (wrong > 1)}"
        out.append(f"{said}; {odd:,} suspicious thing{'s' * (odd > 1)}." if odd else f"{said}.")
        return out


def _cases(items: list[Problem], most: int) -> list[str]:
    """Return each kind with its count, and its first cases."""
    out = []
    for kind in dict.fromkeys(item.kind for item in items):
        cases = [item.text for item in items if item.kind == kind]
        out.append(f"{kind}: {len(cases):,}" + (f" ({SUSPICIOUS[kind]})" if kind in SUSPICIOUS else ""))
        out += [f"  {line}" for line in first_lines(cases, most)]
    return out


SUSPICIOUS = {
    "silent": "a clip without sound",
    "equal-channels": "both channels are the same, so nothing tells a direction",
    "dead-channel": "one channel is silent, the others are not",
    "panned-channels": "one channel is a multiple of the other: mono that was panned, or a plug with exchanged poles",
    "clipped": "more than one sample in a hundred is at full scale",
    "offset": "the mean of the samples is far from 0",
    "sound-twice": "the same sound under several names, in training and in test perhaps",
    "azimuth-range": "degrees beyond ±180",
    "azimuth-behind": "degrees beyond ±90: labels of stereo are folded to the front",
    "distance-zero": "0 cm; the official relative error divides by it",
    "distance-near": "no distance of the clip reaches 20 cm: metres, perhaps",
    "distance-far": "more than 100 m: millimetres, perhaps",
    "onscreen-outside": "on screen, beyond what the camera sees",
    "rows-doubled": "the same source twice in one frame",
    "labels-of-silence": "events in a clip without sound",
    "azimuths-narrow": "no label of the corpus is farther from the front: radians, perhaps",
    "frames-early": "no label of the corpus is later, though its clips are longer: frames in seconds, perhaps",
}
"""Kind of suspicious thing → what it means."""

OF_SOUND = frozenset(("silent", "equal-channels", "dead-channel", "panned-channels", "clipped", "offset"))

CLIPPED, OFFSET, SILENT = 0.01, 0.05, 1e-4
"""Share of samples at full scale and mean of the samples above which, largest sample below which, a clip is odd."""

FAR_CM = 10_000
"""Distances above this are suspicious, as are those of a clip that never reach NEAR_CM."""

ENOUGH = 100
"""Label rows of a corpus from which its units can be judged."""


def oddities(sound: npt.NDArray[np.floating] | None, rows: npt.NDArray[np.integer]) -> dict[str, str]:
    """Return what is suspicious about a clip: kind → an example in words.

    Args:
        sound: (channels, S) in [-1, 1], or None.
        rows: (E, 6) of the official CSV as it is written: frame, class, source, azimuth, distance in cm, on screen.
    """
    found: dict[str, str] = {}
    if sound is not None and sound.size:
        size = np.abs(sound)
        peaks, share = size.max(axis=1), float((size >= 32767 / 32768).mean())
        peak = float(peaks.max())
        mean = float(np.abs(sound.mean(axis=1)).max())
        if peak < SILENT:
            found["silent"] = f"its largest sample is {peak:.2g} of full scale"
            if len(rows):
                found["labels-of-silence"] = f"{len(rows)} label rows"
        elif equal_channels(sound):
            found["equal-channels"] = "the channels are equal"
        elif float(peaks.min()) < SILENT:
            found["dead-channel"] = "the largest samples are " + ", ".join(f"{x:.2g}" for x in peaks)
        elif len(sound) == 2 and peak > 100 / 32768 and (factor := panning(sound)):
            found["panned-channels"] = f"right is {factor:.2f} × left"
        if share > CLIPPED:
            found["clipped"] = f"{share:.0%} of its samples"
        if mean > OFFSET:
            found["offset"] = f"mean {mean:.2f} of full scale"
    if not len(rows):
        return found
    azimuth, distance = rows[:, 3], rows[:, 4]
    outside = (rows[:, 5] == 1) & (np.abs(fold(azimuth.astype(np.float64))) > ONSCREEN_LIMIT_DEG)
    _, counts = np.unique(rows[:, :3], axis=0, return_counts=True)
    copies = len(rows) - len(np.unique(np.delete(rows, 2, axis=1), axis=0))  # under other numbers of the source
    for kind, wrong, shown in (
        ("azimuth-range", np.abs(azimuth) > 180, azimuth),
        ("azimuth-behind", (np.abs(azimuth) > 90) & (np.abs(azimuth) <= 180), azimuth),
        ("distance-zero", distance == 0, distance),
        ("distance-near", np.full(len(rows), 0 < distance.max() < NEAR_CM), distance),
        ("distance-far", distance > FAR_CM, distance),
        ("onscreen-outside", outside, azimuth),
    ):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            found[kind] = f"{int(wrong.sum())} of {len(rows)} rows, as {shown[first]:,} in frame {rows[first, 0]}"
    if (counts > 1).any() or (len(rows) > 10 and 2 * copies >= len(rows)):
        found["rows-doubled"] = f"{max(copies, int((counts - 1).sum()))} of {len(rows)} rows"
    return found


def panning(sound: npt.NDArray[np.floating]) -> float:
    """Return by which factor the right channel of (2, S) is the left one, but for rounding; 0.0: by none."""
    left, right = sound.astype(np.float64)
    factor = float(left @ right / max(float(left @ left), 1e-12))
    # Two samples rounded to 16 bits differ by no more than this.
    return factor if float(np.abs(right - factor * left).max()) <= (1 + abs(factor)) / 32768 else 0.0


def check_corpus(root: Path, wanted: Wanted = Wanted(), workers: int = 4, quiet: bool = True) -> Report:
    """Return a report of every clip. Raises SeldError: the folder is missing, or holds no clips in a known layout."""
    wanted = wanted.of(root)
    corpus = index_corpus(root, "foa" if wanted.all_around else "stereo")
    report = Report(str(root))
    known = {problem.where for problem in corpus.problems}
    found = run_threads(lambda clip: _check_clip(clip, root, wanted), corpus.clips, workers, "checking", quiet)
    for clip in corpus.clips:
        counts = report.parts.setdefault(clip.part, dict.fromkeys(("clips", "sounds", "labels", "videos"), 0))
        for name, there in zip(counts, (True, clip.audio, clip.labels, clip.video), strict=True):
            counts[name] += there is not None
    problems = list(corpus.problems)
    heard: dict[bytes, list[Clip]] = {}
    for clip, checked in zip(corpus.clips, found, strict=True):
        heard.setdefault(checked.content, []).append(clip)
        report.hours += checked.seconds / 3600
        report.events += checked.events
        # An empty file is already known as such.
        problems += [problem for problem in checked.problems if problem.where not in known]
        report.suspicious += checked.suspicious
    azimuth, frame, longest = (max(getattr(one, name) for one in found) for name in ("azimuth", "frame", "seconds"))
    for kind, wrong, text in (
        ("azimuths-narrow", azimuth <= 3, f"all azimuths lie within {azimuth:.0f}°"),
        ("frames-early", longest >= 2 and frame <= longest, f"the last label is in frame {frame:.0f}"),
    ):
        if wrong and report.events >= ENOUGH:
            report.suspicious.append(Problem(kind, str(root), f"{root}: {text}"))
    for same in (clips for content, clips in heard.items() if content and len(clips) > 1):
        names = [str(clip.audio.relative_to(root)) for clip in same if clip.audio is not None]
        report.suspicious.append(Problem("sound-twice", names[0], f"{names[0]}: the same as {listing(names[1:])}"))
    problems += _check_splits(corpus.clips, root)
    report.problems = sorted(problems, key=lambda problem: (problem.kind, problem.where))
    report.suspicious.sort(key=lambda item: (list(SUSPICIOUS).index(item.kind), item.where))
    return report


@dataclass
class _Checked:  # what was found in one clip
    seconds: float = 0.0  # length of its sound
    events: int = 0  # label rows
    problems: list[Problem] = field(default_factory=list)
    suspicious: list[Problem] = field(default_factory=list)
    azimuth: int = 0  # the farthest of its labels from the front, degrees
    frame: int = 0  # the last with a label
    content: bytes = b""  # hash of its sound; empty: there is none, or it is silent


def _check_clip(clip: Clip, root: Path, wanted: Wanted) -> _Checked:
    checked, frames = _Checked(), CLIP_FRAMES
    sound, rows = None, np.zeros((0, 6), np.int64)

    def problem(kind: str, path: Path, text: str) -> None:
        where = str(path.relative_to(root))
        checked.problems.append(Problem(kind, where, text.replace(str(path), where)))

    if clip.audio is not None:
        try:
            info = audio_info(clip.audio)
            checked.seconds = info.seconds
            frames = int(frames_of(info.samples, info.rate))
            wrong = []
            if info.rate != wanted.rate:
                wrong.append(f"sample rate {info.rate} Hz, expected {wanted.rate}")
            if info.channels != wanted.channels:
                wrong.append(f"{info.channels} channel(s), expected {wanted.channels}")
            length = wanted.seconds
            if length == "official":
                length = CLIP_SECONDS if OFFICIAL_PART.fullmatch(clip.part) else None
            if length is not None and info.samples != round(length * info.rate):
                wrong.append(f"{info.samples:,} samples, expected {round(length * info.rate):,} ({length:g} s)")
            sound = read_audio(clip.audio, rate=info.rate, channels=None)
            if wrong:
                problem("sound-format", clip.audio, f"{clip.audio}: {'; '.join(wrong)}")
        except SeldError as error:
            problem("broken-sound", clip.audio, error.problem)
    if clip.labels is not None:
        try:
            if wanted.all_around:
                found = read_metadata(clip.labels, len(wanted.taxonomy), NO_DISTANCE_CM)
                late = found[found[:, 0] >= frames]
                if len(late) and clip.audio is not None:
                    where = f"{len(late)} label rows from frame {late[0, 0]} on"
                    problem("labels-late", clip.labels, f"{clip.labels}: {where}, where the sound has ended")
                rows = np.column_stack([found[:, :4], found[:, 5], np.zeros(len(found), np.int64)])
                checked.events = len(found)
            else:
                checked.events = len(read_csv(clip.labels, n_classes=len(wanted.taxonomy), frames=frames))
                rows = raw_rows(clip.labels)
        except SeldError as error:
            problem("broken-labels", clip.labels, error.problem)
    if clip.video is not None and wanted.look_into_videos:
        text = video_problem(clip.video, checked.seconds, wanted)
        if text:
            problem("broken-video" if "cannot" in text or "holds" in text else "video-format", clip.video, text)
    for kind, text in oddities(sound, rows).items():
        if not (wanted.all_around and kind == "azimuth-behind"):
            about = clip.audio if kind in OF_SOUND else clip.labels
            where = str((about or root).relative_to(root))
            checked.suspicious.append(Problem(kind, where, f"{where}: {text}"))
    if sound is not None and sound.any():
        checked.content = hashlib.sha256(sound.tobytes()).digest()
    checked.azimuth, checked.frame = (int(np.abs(rows[:, column]).max(initial=0)) for column in (3, 0))
    return checked


NO_DISTANCE_CM = 100
"""Stands in checks for distances that labels do not have (2022, and the synthetic folds)."""


def raw_rows(path: Path) -> npt.NDArray[np.int64]:
    """Return the rows (E, 6) of an official CSV that is known to be one, as they are written: azimuths not folded."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()[1:]
    rows = [[int(float(cell)) for cell in line.split(",")] for line in lines if line.strip()]
    return np.asarray(rows, np.int64).reshape(-1, 6)


def video_problem(path: Path, seconds: float, wanted: Wanted) -> str:
    """Return what is wrong with a video, or nothing."""
    from dcase_seld.media.frames import video_info

    try:
        info = video_info(path)
    except SeldError as error:
        return error.problem
    wrong = []
    if wanted.all_around:
        if info.width != 2 * info.height:
            wrong.append(f"{info.width}x{info.height} pixels, expected twice as wide as high (all around)")
    elif (info.width, info.height) != (VIDEO_WIDTH, VIDEO_HEIGHT):
        wrong.append(f"{info.width}x{info.height} pixels, expected {VIDEO_WIDTH}x{VIDEO_HEIGHT}")
    if seconds and abs(info.duration_s - seconds) > VIDEO_TOLERANCE_S:
        wrong.append(f"{info.duration_s:.2f} s of video beside {seconds:.2f} s of sound")
    return f"{path}: {'; '.join(wrong)}" if wrong else ""


def _check_splits(clips: tuple[Clip, ...], root: Path) -> list[Problem]:
    """Return what is wrong with the corpus' own splits.csv, if it has one."""
    if not (root / SPLIT_FILE).exists():
        return []
    try:
        assign(clips, SplitConfig(by="corpus"), root)
    except SeldError as error:
        return [Problem("splits", SPLIT_FILE, error.problem)]
    return []
