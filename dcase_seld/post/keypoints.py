"""People of a clip's sampled frames, and the "keypoints" folder that keeps them.

keypoints.json      format, model, mode, frames per second, landmark names; the last file written
people-00000.npz    a shard of clips, no pickled objects; tables joined by position:
name (n,) text, problem (n,) text, width (n,), height (n,)
frame_clip (F,), frame_time_s (F,), frame_seen (F,)            every sampled frame, seen or not
person_frame (P,), track (P,), score (P,), face_score (P,), keypoints (P, 33, 3) float32 in pixels
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dcase_seld.errors import SeldError
from dcase_seld.post.landmarks import LANDMARKS, Floats
from dcase_seld.post.tracking import track

if TYPE_CHECKING:
    from dcase_seld.post.people import PeopleFinder

FORMAT = 1
INDEX_FILE = "keypoints.json"
CLIPS_PER_SHARD = 64


@dataclass(frozen=True)
class ClipPeople:
    """People of one clip.

    Attributes:
        width: columns of the video's frames.
        height: rows of the video's frames.
        times_s: (V,) times of the sampled frames in seconds.
        seen: (V,) False where the video has no frame.
        frame: (P,) index into `times_s` of each found person.
        track: (P,) number of the person within the clip.
        score: (P,) how sure it is that there is a person.
        face_score: (P,) score of the face, 0 where none was seen.
        keypoints: (P, 33, 3) x and y in pixels, visibility.
        problem: what is wrong with the video, or "".
    """

    width: int
    height: int
    times_s: npt.NDArray[np.float64]
    seen: npt.NDArray[np.bool_]
    frame: npt.NDArray[np.int64]
    track: npt.NDArray[np.int64]
    score: Floats
    face_score: Floats
    keypoints: Floats
    problem: str = ""

    @staticmethod
    def nothing(problem: str, times_s: Sequence[float] = ()) -> ClipPeople:
        """Return the people of a clip without a readable video."""
        count = len(times_s)
        none, ints = np.zeros(0, np.float32), np.zeros(0, np.int64)
        times = np.asarray(times_s, np.float64)
        return ClipPeople(
            0, 0, times, np.zeros(count, bool), ints, ints, none, none, np.zeros((0, 33, 3), np.float32), problem
        )


def sample_times(seconds: float, fps: float) -> npt.NDArray[np.float64]:
    """Return the times of sampled frames in a clip: the middles of steps of 1 / fps seconds."""
    count = max(1, round(seconds * fps))
    return np.asarray((np.arange(count) + 0.5) * (seconds / count))


def find_in_video(finder: PeopleFinder, path: Path | None, times_s: npt.NDArray[np.float64]) -> ClipPeople:
    """Return the people of a video at times in seconds; a missing or damaged video gives its problem, no error."""
    from dcase_seld.media.video import iterate_frames

    if path is None:
        return ClipPeople.nothing("there is no video", times_s.tolist())
    found, seen, size = [], np.zeros(len(times_s), bool), (0, 0)
    problem = ""
    try:
        for index, (image, _) in enumerate(iterate_frames(path, times_s.tolist())):
            found.append(finder.find(image) if image is not None else [])
            if image is not None:
                seen[index], size = True, (image.shape[1], image.shape[0])
    except SeldError as error:
        problem = error.problem.rstrip(".")
    if not seen.any():
        return ClipPeople.nothing(problem or f"{path} has no readable frame", times_s.tolist())
    if not seen.all():
        problem = f"{path} has no readable frame at {int((~seen).sum())} of {len(seen)} times"
    numbers = track([[p.keypoints for p in people] for people in found], times_s)
    people = [
        (index, number, p) for index, ps in enumerate(found) for number, p in zip(numbers[index], ps, strict=True)
    ]
    return ClipPeople(
        *size,
        times_s,
        seen,
        np.array([i for i, _, _ in people], np.int64),
        np.array([n for _, n, _ in people], np.int64),
        np.array([p.score for _, _, p in people], np.float32),
        np.array([p.face_score for _, _, p in people], np.float32),
        np.array([p.keypoints for _, _, p in people], np.float32).reshape(-1, len(LANDMARKS), 3),
        problem,
    )


def write_keypoints(
    folder: Path,
    names: Sequence[str],
    look: Callable[[int], ClipPeople],
    facts: Mapping[str, Any],
    advance: Callable[..., None] = lambda count: None,
) -> None:
    """Write the keypoints folder of clips, a shard at a time; shards that are there are not made again.

    Args:
        folder: where to; may hold the shards of an interrupted attempt for the same names.
        names: clip names.
        look: people of the clip at an index.
        facts: what keypoints.json says beside the format and landmarks.
        advance: called with the number of clips done.
    """
    for shard in pending_shards(folder, len(names)):
        write_shard(folder, names, shard, look, advance)
    finish_keypoints(folder, len(names), facts)


def pending_shards(folder: Path, clips: int) -> list[int]:
    """Return the numbers of the shards that are still to be made."""
    return [shard for shard in range(-(-clips // CLIPS_PER_SHARD)) if not _shard(folder, shard).is_file()]


def write_shard(
    folder: Path,
    names: Sequence[str],
    shard: int,
    look: Callable[[int], ClipPeople],
    advance: Callable[..., None] = lambda count: None,
) -> None:
    """Look at the clips of one shard and write it."""
    start = shard * CLIPS_PER_SHARD
    group = names[start : start + CLIPS_PER_SHARD]
    clips = []
    for offset in range(len(group)):
        clips.append(look(start + offset))
        advance(1)
    _write_shard(_shard(folder, shard), group, clips)


def finish_keypoints(folder: Path, clips: int, facts: Mapping[str, Any]) -> None:
    """Write keypoints.json, which makes the folder complete."""
    index = {"format": FORMAT, "clips": clips, "clips_per_shard": CLIPS_PER_SHARD, "landmarks": list(LANDMARKS)}
    replace_file(folder / INDEX_FILE, lambda part: part.write_text(json.dumps(index | dict(facts), indent=2) + "\n"))


class Keypoints(Mapping[str, ClipPeople]):
    """People of clips by clip name, read from one or several keypoints folders; shards are loaded when needed."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._place: dict[str, tuple[Path, int]] = {}
        self._shard: tuple[Path, list[ClipPeople]] | None = None
        self.facts: list[Mapping[str, Any]] = []
        for folder in folders:
            try:
                facts = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
                if facts["format"] != FORMAT:
                    raise ValueError(f"format {facts['format']}, expected {FORMAT}")
                for shard in range(-(-facts["clips"] // facts["clips_per_shard"])):
                    with np.load(_shard(folder, shard), allow_pickle=False) as archive:
                        for index, name in enumerate(archive["name"].tolist()):
                            self._place[name] = (_shard(folder, shard), index)
            except (OSError, ValueError, KeyError) as error:
                raise SeldError(
                    f"{folder} is no finished keypoints folder ({error}).", "Give the folder of a keypoints step."
                ) from error
            self.facts.append(facts)

    def __getitem__(self, name: str) -> ClipPeople:
        path, index = self._place[name]
        if self._shard is None or self._shard[0] != path:
            self._shard = (path, _read_shard(path))
        return self._shard[1][index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


def _shard(folder: Path, number: int) -> Path:
    return folder / f"people-{number:05d}.npz"


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file under a temporary name, then give it its own."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)


def frame_span(
    frame_clip: npt.NDArray[np.int64], row_frame: npt.NDArray[np.int64], clip: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Return a clip's frames in a shard, the rows (people, boxes) that lie in them, and its first frame."""
    frames = np.flatnonzero(frame_clip == clip)
    first = int(frames[0]) if len(frames) else 0
    return frames, np.flatnonzero((row_frame >= first) & (row_frame < first + len(frames))), first


def _write_shard(path: Path, names: Sequence[str], clips: list[ClipPeople]) -> None:
    first = np.cumsum([0] + [len(c.times_s) for c in clips])
    arrays = {
        "name": np.asarray(names, np.str_),
        "problem": np.asarray([c.problem for c in clips], np.str_),
        "width": np.asarray([c.width for c in clips], np.int64),
        "height": np.asarray([c.height for c in clips], np.int64),
        "frame_clip": np.concatenate([np.full(len(c.times_s), i, np.int64) for i, c in enumerate(clips)]),
        "frame_time_s": np.concatenate([c.times_s for c in clips]),
        "frame_seen": np.concatenate([c.seen for c in clips]),
        "person_frame": np.concatenate([c.frame + first[i] for i, c in enumerate(clips)]),
        "track": np.concatenate([c.track for c in clips]),
        "score": np.concatenate([c.score for c in clips]),
        "face_score": np.concatenate([c.face_score for c in clips]),
        "keypoints": np.concatenate([c.keypoints for c in clips]),
    }

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    replace_file(path, write)


def _read_shard(path: Path) -> list[ClipPeople]:
    with np.load(path, allow_pickle=False) as archive:
        a = {name: archive[name] for name in archive.files}
    clips = []
    for index in range(len(a["name"])):
        frames, rows, first = frame_span(a["frame_clip"], a["person_frame"], index)
        clips.append(
            ClipPeople(
                int(a["width"][index]),
                int(a["height"][index]),
                a["frame_time_s"][frames],
                a["frame_seen"][frames],
                a["person_frame"][rows] - first,
                a["track"][rows],
                a["score"][rows],
                a["face_score"][rows],
                a["keypoints"][rows],
                str(a["problem"][index]),
            )
        )
    return clips
