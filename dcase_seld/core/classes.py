"""The sound classes, the challenge's 13 or a user's own, and all that is known of a class beside its sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcase_seld.core.errors import SeldError, listing

MOST_CLASSES = 1_000


@dataclass(frozen=True)
class Taxonomy:
    """An ordered list of classes; a class's index is its position.

    `folders` are the names that a sound bank's sub-folders use (lower case, underscores); a folder may carry a
    leading index ("03_telephone").
    """

    name: str
    classes: tuple[str, ...]
    folders: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise SeldError(
                f"The taxonomy {self.name!r} lists {len(self.classes) or 'no'} class(es).",
                f"List 1 to {MOST_CLASSES:,} classes.",
            )
        if len(self.folders) != len(self.classes) or len(set(self.folders)) != len(self.classes):
            raise SeldError(
                f"The taxonomy {self.name!r} needs one distinct folder name per class: "
                f"{len(self.classes)} classes, folders {listing(self.folders, 20)}.",
                "Give every class its own folder name.",
            )

    def __len__(self) -> int:
        return len(self.classes)

    def class_of_folder(self, folder: str) -> int | None:
        """Return the class index of a sub-folder's name, or None if the name is no class."""
        name = folder.lower().replace("-", "_").replace(" ", "_")
        head, _, rest = name.partition("_")
        for candidate in (name, rest if head.isdigit() else name):
            if candidate in self.folders:
                return self.folders.index(candidate)
        return None

    def to_json(self) -> dict[str, object]:
        """Return the taxonomy as plain data for a JSON or YAML file."""
        return {"name": self.name, "classes": list(self.classes), "folders": list(self.folders)}

    @staticmethod
    def from_json(data: dict[str, object]) -> Taxonomy:
        """Return the taxonomy that `to_json` wrote, or one from a user's {name, classes[, folders]}."""
        classes = data.get("classes")
        if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
            raise SeldError(
                f"A taxonomy needs 'classes', a list of names; got {classes!r}.", "Write classes: [Speech, Music, ...]."
            )
        default = [c.lower().replace(",", "").replace("-", "_").replace(" ", "_") for c in classes]
        folders = data.get("folders", default)
        if not isinstance(folders, list):
            raise SeldError(f"A taxonomy's 'folders' must be a list; got {folders!r}.", "Write one name per class.")
        return Taxonomy(str(data.get("name", "custom")), tuple(classes), tuple(str(f) for f in folders))


DCASE2025 = Taxonomy(
    "dcase2025_task3",
    (
        "Female speech",
        "Male speech",
        "Clapping",
        "Telephone",
        "Laughter",
        "Domestic sounds",
        "Walk, footsteps",
        "Door, open or close",
        "Music",
        "Musical instrument",
        "Water tap, faucet",
        "Bell",
        "Knock",
    ),
    (
        "female_speech",
        "male_speech",
        "clapping",
        "telephone",
        "laughter",
        "domestic_sounds",
        "walk_footsteps",
        "door_open_close",
        "music",
        "musical_instrument",
        "water_tap",
        "bell",
        "knock",
    ),
)
"""The 13 classes of DCASE Challenge Task 3. Source: the challenge's task description, 2025."""


def load_taxonomy(path: Path | None) -> Taxonomy:
    """Return the taxonomy in a YAML file, or the challenge's 13 classes if `path` is None.

    Raises:
        SeldError: the file cannot be read or lists no classes.
    """
    if path is None:
        return DCASE2025
    from dcase_seld.core.reading import read_yaml

    data = read_yaml(path, "The taxonomy file", "Write name: and classes: in it.")
    data.setdefault("name", path.stem)
    return Taxonomy.from_json(data)


def taxonomy_beside(folder: Path) -> Path | None:
    """Return the taxonomy.yaml of the corpus that a folder of labels is of: in it, or beside metadata_dev/."""
    inner = [
        parent.parent for parent in (folder, *folder.absolute().parents[:1]) if parent.name.startswith("metadata_")
    ]
    return next((file for place in (folder, *inner) if (file := place / "taxonomy.yaml").is_file()), None)


QUERIES: dict[str, tuple[str, ...]] = {
    "Female speech": ("a woman speaking", "a woman's face"),
    "Male speech": ("a man speaking", "a man's face"),
    "Clapping": ("clapping hands",),
    "Telephone": ("a telephone", "a mobile phone"),
    "Laughter": ("a person laughing",),
    "Domestic sounds": ("a vacuum cleaner", "a kitchen appliance", "a blender", "dishes"),
    "Walk, footsteps": ("a person walking", "feet", "shoes"),
    "Door, open or close": ("a door", "a drawer", "a cupboard"),
    "Music": ("a loudspeaker", "a radio", "a television"),
    "Musical instrument": ("a guitar", "a piano", "a musical instrument"),
    "Water tap, faucet": ("a water tap", "a sink"),
    "Bell": ("a bell", "a doorbell", "an alarm clock"),
    "Knock": ("a hand knocking on a door", "a door"),
}
"""Class name → what it looks like, in words that a config may replace."""


def queries_of(taxonomy: Taxonomy, own: Mapping[str, Sequence[str]]) -> tuple[list[str], list[int]]:
    """Return the text queries and the class of each; `own` replaces the default words of the classes it names.

    Raises:
        SeldError: `own` names a class that the taxonomy does not have.
    """
    unknown = [name for name in own if name not in taxonomy.classes]
    if unknown:
        raise SeldError(
            f"The queries name the class {unknown[0]!r}, which the taxonomy {taxonomy.name!r} does not have.",
            "Use the taxonomy's class names.",
        )
    words: list[str] = []
    classes: list[int] = []
    for index, name in enumerate(taxonomy.classes):
        for query in own.get(name, QUERIES.get(name, (f"a {name.lower()}",))):
            words.append(query)
            classes.append(index)
    return words, classes


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

PEOPLE = ("female_speech", "male_speech", "clapping", "laughter", "walk_footsteps")
"""Folder names of the classes that people make."""

HEIGHTS_M = {
    **dict.fromkeys(PEOPLE, 1.7),
    "telephone": 0.2,
    "domestic_sounds": 0.8,
    "door_open_close": 2.0,
    "music": 0.7,
    "musical_instrument": 0.9,
    "water_tap": 0.35,
    "bell": 0.35,
    "knock": 2.0,
}
"""Heights of drawn and given pictures of a class in metres; classes that are not named get half a metre."""

SOUNDING_POINT = {
    "female_speech": (0.5, 0.115),
    "male_speech": (0.5, 0.115),
    "laughter": (0.5, 0.115),
    "clapping": (0.5, 0.34),
    "walk_footsteps": (0.5, 0.97),
}
"""Where a class's picture sounds, as shares of its width and height; the middle for classes that are not named."""

SOURCE_HEIGHTS_M = {
    "female_speech": (1.1, 1.75),
    "male_speech": (1.1, 1.8),
    "laughter": (1.1, 1.75),
    "clapping": (0.9, 1.4),
    "telephone": (0.6, 1.2),
    "domestic_sounds": (0.3, 1.1),
    "walk_footsteps": (0.03, 0.1),
    "door_open_close": (0.8, 1.2),
    "music": (0.4, 1.6),
    "musical_instrument": (0.6, 1.3),
    "water_tap": (0.8, 1.1),
    "bell": (0.7, 2.0),
    "knock": (0.9, 1.5),
}
"""Typical heights of sources above the floor in metres, by the class's folder name."""
