"""The official CSV, read and written: the one place where centimetres, rounding and 0/1 exist.

A file holds one clip: the header `frame,class,source,azimuth,distance,onscreen`, then integers. Inside the package
the same rows are `Events` in degrees (folded to the front) and metres.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from dcase_seld.core.csv_rows import HEADER, Limits, Mistake, Rows, oversized, parse_files
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import Events, concatenate
from dcase_seld.core.files import write_text
from dcase_seld.core.geometry import fold
from dcase_seld.core.task import CLIP_FRAMES


def read_csv(path: Path, *, n_classes: int = 13, frames: int | None = CLIP_FRAMES) -> Events:
    """Return the events of one official CSV file; the clip is named after the file.

    A byte-order mark, CRLF and rows in any order are accepted; rows keep their order (the official matching breaks ties
    by it). Azimuths are folded to [-90, 90]. Classes are 0 … n_classes - 1; `frames`: label frames of a clip, None for
    any length. Raises SeldError: names the file, the line, what was expected and what was got.
    """
    return read_files([(path.stem, str(path))], Limits(n_classes, frames))


def read_folder(folder: Path, *, n_classes: int = 13, frames: int | None = CLIP_FRAMES) -> Events:
    """Return the events of all `*.csv` in a folder and in its direct sub-folders (splits), clips ordered by name.

    Classes are 0 … n_classes - 1; `frames`: label frames of a clip, None for any length. Raises SeldError: the folder
    cannot be read or holds no CSV, a clip occurs twice, or a file is not as it must be.
    """
    return concatenate(list(in_batches(list_csv(folder), Limits(n_classes, frames))))


BATCH_CLIPS = 256
"""Clips whose events are held in memory at a time where only sums of them are needed."""

Clips = Events | Sequence[tuple[str, str]]
"""Where the events of clips are: in a table, or in files, each as (clip name, path)."""


def names_of(clips: Clips) -> tuple[str, ...]:
    """Return the names of clips."""
    return clips.clips if isinstance(clips, Events) else tuple(name for name, _ in clips)


def in_batches(clips: Clips, limits: Limits, names: Sequence[str] | None = None) -> Iterator[Events]:
    """Yield the events of clips, of all or of the named ones in this order, at most BATCH_CLIPS clips at a time.

    Raises:
        SeldError: a file is not as it must be; how many others are not is said as well.
    """
    chosen = names_of(clips) if names is None else names
    starts = range(0, len(chosen), BATCH_CLIPS)
    if isinstance(clips, Events):
        yield from (clips.select_clips(chosen[start : start + BATCH_CLIPS]) for start in starts)
        return
    paths = dict(clips)
    files = [(name, paths[name]) for name in chosen]
    for start in starts:
        yield read_files(files[start : start + BATCH_CLIPS], limits, files[start + BATCH_CLIPS :])


def labels_in(folder: Path) -> Path:
    """Return where the label files of a folder are: in metadata_dev/ of a corpus in the official layout, else in it."""
    found = sorted(place for place in folder.glob("metadata_*") if place.is_dir())
    return found[0] if found else folder


def list_csv(folder: Path) -> list[tuple[str, str]]:
    """Return (clip name, path) of all CSV files of a folder and its direct sub-folders, ordered by name; or of a file.

    Raises:
        SeldError: the folder cannot be read, holds no CSV, or holds two files of one clip.
    """
    if folder.is_file():
        return [(folder.stem, str(folder))]
    files, folders = _scan(str(folder))
    for sub in sorted(folders):
        files += _scan(sub)[0]
    files.sort()
    if not files:
        raise SeldError(f"{folder} holds no CSV file.", "Give the folder of the official CSV files, one per clip.")
    for (name, path), (other, other_path) in pairwise(files):
        if name == other:
            raise SeldError(
                f"The clip {name} has two files: {path} and {other_path}.",
                "Keep one: a clip belongs to one split folder.",
            )
    return files


def columns_without_header(path: Path) -> int:
    """Return the columns of an event file that has no header, as the editions before 2025 wrote them, else 0."""
    with path.open("rb") as stream:
        first = stream.readline(200).lstrip(b"\xef\xbb\xbf").strip()
    return first.count(b",") + 1 if first[:1].isdigit() else 0


def write_csv(path: Path, events: Events, track: str = "b") -> None:
    """Write the events of one clip to an official CSV file, atomically.

    Track "a" (audio only) writes onscreen 0 in every row.
    """
    if len(events.clips) != 1:
        raise ValueError(f"one clip per file, got {len(events.clips)}")
    write_text(str(path), _texts(events, track)[0])


def write_folder(events: Events, folder: Path, track: str = "b") -> None:
    """Write one official CSV file for EVERY clip of the table (header only where nothing sounds), each atomically.

    Events with elevations are written as the editions before 2025 read them: no header; frame, class, source, azimuth,
    elevation, metres. Track "a" (audio only) writes onscreen 0 in every row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(events.clips, _texts(events, track), strict=True):
        if os.path.basename(name) != name or not name:  # noqa: PTH119 - one call per clip, Path is ten times slower
            raise SeldError(f"{name!r} cannot be a file name.", "Name clips without path separators.")
        write_text(os.path.join(folder, name + ".csv"), text)  # noqa: PTH118


def official_rows(events: Events, track: str = "b") -> Rows:
    """Return (E, 6) integers as the official CSV holds them: degrees, centimetres, 0/1; rows in the table's order."""
    if not (np.isfinite(events.azimuth_deg).all() and np.isfinite(events.distance_m).all()):
        raise ValueError("an event has a direction or distance that is not finite")
    return np.stack(
        [
            events.frame,
            events.class_index,
            events.source,
            np.rint(fold(events.azimuth_deg)).astype(np.int32),
            np.rint(np.maximum(events.distance_m, 0.0) * 100.0).astype(np.int32),
            events.onscreen.astype(np.int32) if track == "b" else np.zeros(len(events), np.int32),
        ],
        axis=1,
    )


def events_of_rows(rows: Rows, clips: Sequence[str], counts: Sequence[int] | np.ndarray) -> Events:
    """Return the table of official rows; `counts` says how many rows each clip has."""
    return Events(
        clips=tuple(clips),
        clip=np.repeat(np.arange(len(clips), dtype=np.int32), counts),
        frame=rows[:, 0].copy(),
        class_index=rows[:, 1].copy(),
        source=rows[:, 2].copy(),
        azimuth_deg=fold(rows[:, 3]),
        distance_m=rows[:, 4] / 100.0,
        onscreen=rows[:, 5] == 1,
    )


def mistake_error(mistakes: Mapping[str, Mistake]) -> SeldError:
    """Return the error that names the first file (path → mistake), the line and what is wrong there, and the others."""
    path, *others = mistakes
    mistake = mistakes[path]
    more = f" ({len(others)} more file(s) have mistakes: {listing(map(os.path.basename, others))}.)" if others else ""
    return SeldError(f"{path}, line {mistake.line}: {mistake.problem}.{more}", mistake.remedy)


def read_files(files: Sequence[tuple[str, str]], limits: Limits, later: Sequence[tuple[str, str]] = ()) -> Events:
    """Return the events of (clip name, path); after a mistake, `later` files with one are named too."""
    rows, counts, mistakes = parse_files([file_content(path, limits) for _, path in files], limits)
    if mistakes:
        wrong = {files[index][1]: mistakes[index] for index in sorted(mistakes)}
        for start in range(0, len(later), BATCH_CLIPS):
            batch = later[start : start + BATCH_CLIPS]
            found = parse_files([file_content(path, limits) for _, path in batch], limits)[2]
            wrong |= {batch[index][1]: found[index] for index in sorted(found)}
        raise mistake_error(wrong)
    return events_of_rows(rows, [name for name, _ in files], counts)


def file_content(path: str, limits: Limits) -> bytes:
    """Return a file's bytes; system calls without Python's file object, which costs more than the reading."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            data = os.read(handle, 65_536)
            if len(data) == 65_536:
                size = os.fstat(handle).st_size
                if size > limits.most_bytes:
                    raise mistake_error({path: oversized(size, limits)})
                while more := os.read(handle, 2**20):
                    data += more
            return data
        finally:
            os.close(handle)
    except OSError as error:
        raise SeldError(
            f"{path} cannot be read: {error.strerror}.", "Check that it is a file and its permissions."
        ) from error


def _scan(folder: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the (stem, path) of CSV files and the sub-folders of one folder; hidden names do not count."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith((".", "__MACOSX")):
                    continue
                if name[-4:].lower() == ".csv":
                    if not entry.is_file():
                        raise SeldError(
                            f"{entry.path} is not a readable file.", "Remove it, or restore the file it stands for."
                        )
                    files.append((name[:-4], entry.path))
                elif entry.is_dir():
                    folders.append(entry.path)
    except OSError as error:
        raise SeldError(
            f"The folder {folder} cannot be read: {error.strerror}.", "Check the path and its permissions."
        ) from error
    return files, folders


def _texts(events: Events, track: str) -> list[str]:
    """Return the text of each clip's file."""
    if track not in ("a", "b"):
        raise ValueError(f"track must be 'a' or 'b', got {track!r}")
    table = events.sorted()
    head, line = HEADER + "\n", "%d,%d,%d,%d,%d,%d\n"
    if table.elevation_deg is None:
        rows = official_rows(table, track).tolist()
    else:
        columns = (table.frame, table.class_index, table.source, table.azimuth_deg, table.elevation_deg)
        rows = np.stack([*columns, np.maximum(table.distance_m, 0.0)], 1).tolist()
        head, line = "", "%d,%d,%d,%.1f,%.1f,%.2f\n"
    ends = np.searchsorted(table.clip, np.arange(len(table.clips)), side="right").tolist()
    starts = [0, *ends[:-1]]
    return [
        head + "".join([line % tuple(row) for row in rows[start:end]]) for start, end in zip(starts, ends, strict=True)
    ]
