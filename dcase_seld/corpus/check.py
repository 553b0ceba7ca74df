"""A whole corpus looked at: layout, pairs, formats, durations, label ranges; everything that is wrong in one report."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.event_files import read_csv
from dcase_seld.core.task import CLIP_FRAMES, CLIP_SECONDS, SAMPLE_RATE, VIDEO_HEIGHT, VIDEO_WIDTH, frames_of
from dcase_seld.core.work import progress
from dcase_seld.corpus.layout import Clip, Problem, index_corpus
from dcase_seld.corpus.splits import SPLIT_FILE, SplitConfig, assign
from dcase_seld.media.audio import audio_info

VIDEO_TOLERANCE_S = 0.1
"""Video and sound of a clip may differ in length by this."""


@dataclass(frozen=True)
class Wanted:
    """What every clip of a corpus should be.

    Attributes:
        taxonomy: the classes of the labels.
        seconds: length of every clip, or None for any length.
        rate: samples per second.
        channels: channels of the sound.
        look_into_videos: open every video too, instead of only pairing it.
    """

    taxonomy: Taxonomy = DCASE2025
    seconds: float | None = CLIP_SECONDS
    rate: int = SAMPLE_RATE
    channels: int = 2
    look_into_videos: bool = True


@dataclass
class Report:
    """What was found.

    Attributes:
        root: the corpus.
        parts: part → counts of clips, sound, labels and videos.
        hours: length of all sound that could be read.
        events: label rows.
        problems: everything that is wrong, ordered by kind and place.
    """

    root: str
    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    hours: float = 0.0
    events: int = 0
    problems: list[Problem] = field(default_factory=list)

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
        }

    def lines(self, most: int = 5) -> list[str]:
        """Return the report as readable lines, at most `most` cases of each kind of problem."""
        width = max((len(part) for part in self.parts), default=4)
        out = [f"{self.root}: {self.to_json()['clips']:,} clips, {self.hours:.2f} hours, {self.events:,} label rows"]
        for part, counts in self.parts.items():
            out.append(f"  {part:{width}}  " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
        for kind in dict.fromkeys(problem.kind for problem in self.problems):
            cases = [problem.text for problem in self.problems if problem.kind == kind]
            out.append(f"{kind}: {len(cases):,}")
            out += [f"  {case}" for case in cases[:most]]
            out += [f"  … and {len(cases) - most:,} more"] if len(cases) > most else []
        out.append("No problem was found." if self.ok else f"{len(self.problems):,} problems.")
        return out


def check_corpus(root: Path, wanted: Wanted = Wanted(), workers: int = 4, quiet: bool = True) -> Report:
    """Return a report of every clip of a corpus.

    Raises:
        SeldError: the folder is missing or holds no clips in the official layout.
    """
    corpus = index_corpus(root)
    report = Report(str(root))
    known = {problem.where for problem in corpus.problems}
    with progress("checking", len(corpus.clips), "clips", quiet) as advance:
        pool = ThreadPoolExecutor(max(1, workers))
        try:
            found = []
            for clip, result in zip(
                corpus.clips, pool.map(lambda clip: _check_clip(clip, root, wanted), corpus.clips), strict=True
            ):
                found.append(result)
                _count(
                    report.parts.setdefault(clip.part, dict.fromkeys(("clips", "sounds", "labels", "videos"), 0)), clip
                )
                advance()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    problems = list(corpus.problems)
    for seconds, events, mine in found:
        report.hours += seconds / 3600
        report.events += events
        # An empty file is already known as such.
        problems += [problem for problem in mine if problem.where not in known]
    problems += _check_splits(corpus.clips, root)
    report.problems = sorted(problems, key=lambda problem: (problem.kind, problem.where))
    return report


def _count(counts: dict[str, int], clip: Clip) -> None:
    for name, there in (("clips", True), ("sounds", clip.audio), ("labels", clip.labels), ("videos", clip.video)):
        counts[name] += there is not None


def _check_clip(clip: Clip, root: Path, wanted: Wanted) -> tuple[float, int, list[Problem]]:
    """Return (seconds, label rows, problems) of one clip."""
    problems: list[Problem] = []
    seconds, events, frames = 0.0, 0, CLIP_FRAMES

    def problem(kind: str, path: Path, text: str) -> None:
        where = str(path.relative_to(root))
        problems.append(Problem(kind, where, text.replace(str(path), where)))

    if clip.audio is not None:
        try:
            info = audio_info(clip.audio)
            seconds = info.seconds
            frames = int(frames_of(info.samples, info.rate))
            wrong = []
            if info.rate != wanted.rate:
                wrong.append(f"sample rate {info.rate} Hz, expected {wanted.rate}")
            if info.channels != wanted.channels:
                wrong.append(f"{info.channels} channel(s), expected {wanted.channels}")
            if wanted.seconds is not None and info.samples != round(wanted.seconds * info.rate):
                wrong.append(f"{info.seconds:.3f} s long, expected {wanted.seconds:g}")
            if wrong:
                problem("sound-format", clip.audio, f"{clip.audio}: {'; '.join(wrong)}")
        except SeldError as error:
            problem("broken-sound", clip.audio, error.problem)
    if clip.labels is not None:
        try:
            events = len(read_csv(clip.labels, n_classes=len(wanted.taxonomy), frames=frames))
        except SeldError as error:
            problem("broken-labels", clip.labels, error.problem)
    if clip.video is not None and wanted.look_into_videos:
        text = _video_problem(clip.video, seconds, wanted)
        if text:
            problem("broken-video" if "cannot" in text or "holds" in text else "video-format", clip.video, text)
    return seconds, events, problems


def _video_problem(path: Path, seconds: float, wanted: Wanted) -> str:
    """Return what is wrong with a video, or nothing."""
    from dcase_seld.media.frames import video_info

    try:
        info = video_info(path)
    except SeldError as error:
        return error.problem
    wrong = []
    if (info.width, info.height) != (VIDEO_WIDTH, VIDEO_HEIGHT):
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
