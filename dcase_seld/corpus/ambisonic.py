"""Recordings to convert: first-order Ambisonics, metadata and 360° video in STARSS23's layout, paired by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.event_files import columns_without_header, labels_in, list_csv
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import GEOMETRIES, PEAK_LIMIT, fold, turn
from dcase_seld.core.reading import LARGEST_TABLE, read_table, read_text
from dcase_seld.core.task import CLIP_FRAMES, FARTHEST_M, SAMPLE_RATE, SAMPLES_PER_FRAME
from dcase_seld.media.audio import audio_info

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recording:
    """One recording.

    Attributes:
        name: file stem, as fold3_room4_mix001.
        part: where its clips go, as dev-train-tau.
        foa: wav of W, Y, Z, X at 24 kHz.
        metadata: CSV of frame, class, source, azimuth, elevation, distance in cm.
        video: 360° video, or None.
        frames: label frames of the sound.
    """

    name: str
    part: str
    foa: Path
    metadata: Path
    video: Path | None
    frames: int

    @property
    def starts(self) -> int:
        """Return how many label frames a clip can begin at."""
        return max(0, self.frames - CLIP_FRAMES + 1)


def find_recordings(source: Path, with_video: bool) -> list[Recording]:
    """Return the recordings of a folder that holds foa_dev, metadata_dev and, for videos, video_dev.

    Files lie in sub-folders (dev-train-tau, …) or directly; then fold4 is dev-test-synth, all others dev-train-synth.
    Raises SeldError: a folder or a recording's metadata or video is missing, or sound is not FOA at 24 kHz.
    """
    sounds = _files(source / "foa_dev", (".wav", ".flac"))
    metadata = _files(source / "metadata_dev", (".csv",))
    videos = _files(source / "video_dev", (".mp4", ".mov", ".mkv")) if with_video else {}
    for kind, found in (("metadata", metadata), ("video", videos)):
        missing = sorted(set(sounds) - set(found))
        if missing and (kind == "metadata" or with_video):
            raise SeldError(
                f"{source / (kind + '_dev')} lacks {len(missing)} of {len(sounds)} recordings: {listing(missing)}.",
                "Add the files, or remove these recordings' sound."
                + (" Without video: --no-video." if kind == "video" else ""),
            )
    recordings = []
    for name, path in sounds.items():
        info = audio_info(path)
        if info.channels != 4 or info.rate != SAMPLE_RATE:
            raise SeldError(
                f"{path} has {info.channels} channels at {info.rate} Hz; "
                f"4 (W, Y, Z, X) at {SAMPLE_RATE} Hz are needed.",
                "Give the first-order Ambisonics set (foa), not the microphone array's.",
            )
        recordings.append(
            Recording(
                name,
                _part(path, source / "foa_dev"),
                path,
                metadata[name],
                videos.get(name),
                info.samples // SAMPLES_PER_FRAME,
            )
        )
    return recordings


NEAR_CM, FARTHEST_CM = 20, round(100 * FARTHEST_M)
"""Where no distance of a set reaches the first, they are hardly centimetres; beyond the second no source can be."""

METADATA = (
    ("frame", 0, 10_000_000, "counts tenths of a second from 0"),
    ("class", 0, None, "is a number of the list of classes"),
    ("source", 0, 1_000_000, "is a whole number from 0"),
    ("azimuth", -180, 360, "is in whole degrees"),
    ("elevation", -90, 90, "is in whole degrees"),
    ("distance", 0, FARTHEST_CM, "is in whole centimetres"),
)
"""Column of STARSS23's metadata → smallest and largest value, and what it is."""


def read_metadata(path: Path, n_classes: int = 13, distance_cm: int | None = None) -> Ints:
    """Return (rows, 6): frame, class, source, azimuth, elevation in degrees, distance in cm, in file order.

    Nothing is guessed: metres, seconds and unknown classes are refused. Classes are 0 … n_classes - 1; `distance_cm`
    stands where labels have no distance (five columns, as in 2022), which are refused with None. Raises SeldError:
    names the file, the line and the column that cannot be.
    """
    lines = read_text(path, LARGEST_TABLE, "Give the recording's metadata CSV.").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = line.split(",")
        if not line.strip() or (number == 1 and cells[0].strip().lower().startswith("frame")):
            continue
        try:
            values = [float(cell) for cell in cells]
        except (ValueError, OverflowError):
            values = []
        if len(values) == 5 and distance_cm is not None:
            values.append(distance_cm)
        if len(values) != 6:
            hint = " A distance (the sixth column) is needed here; 2023 alone goes without." if len(values) == 5 else ""
            raise SeldError(
                f"{path}, line {number}: expected frame,class,source,azimuth,elevation,distance, got {line[:80]!r}."
                f"{hint}",
                "Give STARSS23's metadata.",
            )
        for (name, low, high, what), value in zip(METADATA, values, strict=True):
            most = n_classes - 1 if high is None else high
            if not (low <= value <= most and value % 1 == 0):
                asked = {"distance": " Are these metres?", "frame": " Are these seconds?"}
                hint = asked.get(name, "") if value % 1 > 0 else ""
                raise SeldError(
                    f"{path}, line {number}: {name} is {value:g}; it {what}, {low} to {most:,}.{hint}",
                    "Write the column in the units of STARSS23, for all recordings.",
                )
        rows.append([int(value) for value in values])
    return np.array(rows, np.int64).reshape(-1, 6)


def events_of_metadata(name: str, rows: Ints) -> Events:
    """Return the labels of a recording, rows of `read_metadata`, with directions all around."""
    clips, frame, sound, source = (
        column.astype(np.int32) for column in (np.zeros(len(rows)), rows[:, 0], rows[:, 1], rows[:, 2])
    )
    azimuth, elevation = GEOMETRIES["sphere"].canonical(rows[:, 3], rows[:, 4])
    return Events(
        (name,), clips, frame, sound, source, azimuth, rows[:, 5] / 100.0, np.zeros(len(rows), np.bool_),
        elevation_deg=elevation,
    )  # fmt: skip


def is_all_around(folder: Path) -> bool:
    """Return whether a folder is a corpus of Ambisonic recordings, or holds label files as these have, headless."""
    if (folder / "foa_dev").is_dir() or (folder / "foa_eval").is_dir():
        return not (folder / "stereo_dev").is_dir()
    if any(folder.glob("stereo_*")) or not folder.is_dir():
        return False
    try:
        labels = list_csv(labels_in(folder))
    except SeldError:  # no labels, so nothing that tells; what reads the corpus says what it lacks
        return False
    for _, path in labels:
        if Path(path).stat().st_size:
            return columns_without_header(Path(path)) in (5, 6)
    return False


def clip_labels(name: str, metadata: Ints, viewing_angle_deg: int, start_frame: int) -> Events:
    """Return the labels of a clip: frames from its start, azimuths turned and folded, on screen by the table."""
    from dcase_seld.core.geometry import is_onscreen

    frame = metadata[:, 0] - start_frame
    rows = metadata[(frame >= 0) & (frame < CLIP_FRAMES)]
    azimuth = turn(rows[:, 3], viewing_angle_deg)
    return Events(
        (name,),
        np.zeros(len(rows), np.int32),
        (rows[:, 0] - start_frame).astype(np.int32),
        rows[:, 1].astype(np.int32),
        rows[:, 2].astype(np.int32),
        fold(azimuth),
        rows[:, 5] / 100.0,
        is_onscreen(azimuth, rows[:, 4]),
    )


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return stem → path of the files in a folder and its sub-folders, ordered by stem."""
    try:
        entries = [*folder.iterdir()]
        entries += [path for entry in entries if entry.is_dir() for path in entry.iterdir()]
    except OSError as error:
        raise SeldError(
            f"The folder {folder} cannot be read: {error.strerror}.",
            "Give a --source with foa_dev, metadata_dev and video_dev (no video: --no-video).",
        ) from error
    found: dict[str, Path] = {}
    for path in sorted(entries):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.stem in found:
                raise SeldError(f"{path} and {found[path.stem]} have one name.", "Keep one of them.")
            found[path.stem] = path
    if not found:
        raise SeldError(f"{folder} holds no {' or '.join(suffixes)} files.", "Give a --source in STARSS23's layout.")
    return dict(sorted(found.items()))


def _part(path: Path, folder: Path) -> str:
    """Return the part of a recording's clips: its sub-folder, or by its fold."""
    if path.parent != folder:
        return path.parent.name
    return "dev-test-synth" if path.stem.startswith("fold4_") else "dev-train-synth"


COLUMNS = ("recording", "angle_deg", "start_frame")
"""Columns of a list of clips."""


@dataclass(frozen=True, order=True)
class Cut:
    """Which clip of a recording: viewing angle in degrees, 0 … 359, and first label frame."""

    recording: str
    angle_deg: int
    start_frame: int

    @property
    def name(self) -> str:
        """Return the clip's file stem."""
        return f"{self.recording}_deg{self.angle_deg:03d}_start{self.start_frame:04d}"


def read_cuts(path: Path, recordings: dict[str, Recording]) -> list[Cut]:
    """Return the clips listed in a CSV with the columns recording, angle_deg, start_frame.

    Raises:
        SeldError: names the line that is wrong, or the clip that occurs twice.
    """
    header, rows = read_table(path, f"Give a CSV with {','.join(COLUMNS)}.")
    if not set(COLUMNS) <= set(header):
        raise SeldError(f"{path}, line 1: expected the columns {','.join(COLUMNS)}, got {','.join(header)}.")
    cuts = []
    for line, row in rows:
        recording = recordings.get(row["recording"].strip())
        if recording is None:
            raise SeldError(f"{path}, line {line}: there is no recording {row['recording']!r}.", "Check its name.")
        try:
            angle, start = int(row["angle_deg"]) % 360, int(row["start_frame"])
        except (TypeError, ValueError):
            raise SeldError(f"{path}, line {line}: angle_deg and start_frame must be whole numbers.") from None
        if not 0 <= start < recording.starts:
            raise SeldError(
                f"{path}, line {line}: start_frame {start} is outside 0 … {recording.starts - 1}, "
                f"where a clip of {CLIP_FRAMES} frames of {recording.name} can begin.",
                "Label frames are 100 ms.",
            )
        cuts.append(Cut(recording.name, angle, start))
    double = [cut.name for cut in cuts if cuts.count(cut) > 1] if len(set(cuts)) < len(cuts) else []
    if double or not cuts:
        raise SeldError(f"{path} lists {listing(sorted(set(double))) + ' twice' if double else 'no clip'}.")
    return cuts


def sample_cuts(
    recordings: Sequence[Recording], count: int, seed: int, is_good: Callable[[Cut], bool], workers: int = 1
) -> tuple[list[Cut], int]:
    """Return `count` different clips and how many were discarded; recordings are drawn by their length.

    Start and angle (whole degrees) are uniform. A clip that `is_good` refuses is replaced by another. Raises SeldError:
    there are not so many clips.
    """
    usable = [recording for recording in recordings if recording.starts]
    if not usable:
        raise SeldError("No recording is 5 seconds long.", "Give longer recordings.")
    starts = np.array([recording.starts for recording in usable])
    rng = np.random.default_rng(seed)
    chosen: dict[Cut, None] = {}
    refused: set[Cut] = set()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for _ in range(200):
            draws = rng.choice(len(usable), count - len(chosen), p=starts / starts.sum())
            angles = rng.integers(0, 360, len(draws))
            places = rng.random(len(draws)) * starts[draws]
            drawn = (
                Cut(usable[index].name, angle, int(place))
                for index, angle, place in zip(draws.tolist(), angles.tolist(), places, strict=True)
            )
            new = [cut for cut in dict.fromkeys(drawn) if cut not in chosen and cut not in refused]
            for cut, good in zip(new, pool.map(is_good, new), strict=True):
                if good:
                    chosen[cut] = None
                else:
                    refused.add(cut)
            if len(chosen) == count:
                return list(chosen), len(refused)
    raise SeldError(
        f"Only {len(chosen)} of {count} clips could be drawn ({len(refused)} exceed the peak {PEAK_LIMIT}).",
        "Ask for fewer clips, or give softer or more recordings.",
    )
