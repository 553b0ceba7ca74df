"""Public sound collections that come as one folder and a table: which of their labels are which class.

The mappings are data; labels that no class claims are left out. Sources: the vocabularies of ESC-50 (Piczak, 2015) and
FSD50K (Fonseca et al., 2022, AudioSet names).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from dcase_seld.errors import SeldError
from dcase_seld.task.taxonomy import Taxonomy

ESC50 = {
    "clapping": "clapping",
    "laughing": "laughter",
    "footsteps": "walk_footsteps",
    "door_wood_knock": "knock",
    "door_wood_creaks": "door_open_close",
    "church_bells": "bell",
    "clock_alarm": "telephone",
    "vacuum_cleaner": "domestic_sounds",
    "washing_machine": "domestic_sounds",
    "keyboard_typing": "domestic_sounds",
    "mouse_click": "domestic_sounds",
    "can_opening": "domestic_sounds",
    "brushing_teeth": "domestic_sounds",
    "toilet_flush": "domestic_sounds",
    "clock_tick": "domestic_sounds",
    "pouring_water": "water_tap",
}
"""ESC-50 category → folder name of a class. It has no ringing telephone: alarm clocks are the nearest."""

FSD50K = {
    "Female_speech_and_woman_speaking": "female_speech",
    "Male_speech_and_man_speaking": "male_speech",
    "Clapping": "clapping",
    "Applause": "clapping",
    "Telephone": "telephone",
    "Ringtone": "telephone",
    "Laughter": "laughter",
    "Giggle": "laughter",
    "Chuckle_and_chortle": "laughter",
    "Domestic_sounds_and_home_sounds": "domestic_sounds",
    "Dishes_and_pots_and_pans": "domestic_sounds",
    "Cutlery_and_silverware": "domestic_sounds",
    "Frying_(food)": "domestic_sounds",
    "Microwave_oven": "domestic_sounds",
    "Blender": "domestic_sounds",
    "Mechanical_fan": "domestic_sounds",
    "Vacuum_cleaner": "domestic_sounds",
    "Walk_and_footsteps": "walk_footsteps",
    "Door": "door_open_close",
    "Slam": "door_open_close",
    "Cupboard_open_or_close": "door_open_close",
    "Drawer_open_or_close": "door_open_close",
    "Sliding_door": "door_open_close",
    "Squeak": "door_open_close",
    "Music": "music",
    "Musical_instrument": "musical_instrument",
    "Guitar": "musical_instrument",
    "Piano": "musical_instrument",
    "Violin_and_fiddle": "musical_instrument",
    "Trumpet": "musical_instrument",
    "Drum": "musical_instrument",
    "Marimba_and_xylophone": "musical_instrument",
    "Water_tap_and_faucet": "water_tap",
    "Sink_(filling_or_washing)": "water_tap",
    "Bell": "bell",
    "Church_bell": "bell",
    "Bicycle_bell": "bell",
    "Doorbell": "bell",
    "Knock": "knock",
}
"""FSD50K label → folder name of a class. A clip has several labels, parents included: the most special one counts."""

GENERALITY = {"music": 3, "domestic_sounds": 3, "musical_instrument": 2, "door_open_close": 2, "bell": 1}
"""Classes whose labels are also parents of others: of a clip's classes the least general ones count."""


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
            found = {(GENERALITY.get(name, 0), taxonomy.class_of_folder(name)) for name in names}
            ranked = [(general, index) for general, index in found if index is not None]
            special = {index for general, index in ranked if general == min(ranked)[0]}
            # Clips of two classes at once (a laugh over music) would teach the wrong label.
            if len(special) == 1:
                path = f"FSD50K.{table.stem}_audio/{row['fname']}.wav"
                entries.append(Entry(special.pop(), row.get("uploader") or row["fname"], path))
    return entries


def _rows(table: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SeldError(f"{table} cannot be read: {error}.", "Unpack the data set again.") from error
    lacking = [column for column in columns if rows and column not in rows[0]]
    if lacking or not rows:
        raise SeldError(f"{table} lacks {', '.join(lacking) or 'rows'}.", f"Expected columns {', '.join(columns)}.")
    return rows
