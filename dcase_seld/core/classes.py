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
        if len({name.strip() for name in self.classes} - {""}) != len(self.classes):
            raise SeldError(
                f"The taxonomy {self.name!r} has a class twice, or without a name.", "Name each class once."
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


@dataclass(frozen=True)
class ClassProfile:
    """What is known of a class of the challenge beside its sound."""

    name: str  # what the challenge calls it
    folder: str  # what sub-folders of a sound bank call it
    looks: tuple[str, ...]  # what it looks like, in words that a config may replace
    # typical lowest and highest height of its source above the floor, in metres; None: unknown
    source_m: tuple[float, float] | None = None
    person: bool = False  # people make it; they are 1.7 m tall
    height_m: float = 1.7  # height of its drawn and given pictures in metres
    sounds_at: tuple[float, float] = (0.5, 0.5)  # where its picture sounds, as shares of width and height
    generality: int = 0  # its labels are also parents of others: of a clip's classes the least general ones count
    esc50: str = ""  # its categories of ESC-50, which has no ringing telephone: alarm clocks are the nearest
    fsd50k: str = ""  # its labels of FSD50K. A clip has several, parents included: the most special one counts.


PROFILES = (
    ClassProfile("Female speech", "female_speech", looks=("a woman speaking", "a woman's face"), source_m=(1.1, 1.75),
        person=True, sounds_at=(0.5, 0.115), fsd50k="Female_speech_and_woman_speaking"),
    ClassProfile("Male speech", "male_speech", looks=("a man speaking", "a man's face"), source_m=(1.1, 1.8),
        person=True, sounds_at=(0.5, 0.115), fsd50k="Male_speech_and_man_speaking"),
    ClassProfile("Clapping", "clapping", looks=("clapping hands",), source_m=(0.9, 1.4), person=True,
        sounds_at=(0.5, 0.34), esc50="clapping", fsd50k="Clapping Applause"),
    ClassProfile("Telephone", "telephone", looks=("a telephone", "a mobile phone"), source_m=(0.6, 1.2), height_m=0.2,
        esc50="clock_alarm", fsd50k="Telephone Ringtone"),
    ClassProfile("Laughter", "laughter", looks=("a person laughing",), source_m=(1.1, 1.75), person=True,
        sounds_at=(0.5, 0.115), esc50="laughing", fsd50k="Laughter Giggle Chuckle_and_chortle"),
    ClassProfile("Domestic sounds", "domestic_sounds",
        looks=("a vacuum cleaner", "a kitchen appliance", "a blender", "dishes"), source_m=(0.3, 1.1), height_m=0.8,
        generality=3,
        esc50="vacuum_cleaner washing_machine keyboard_typing mouse_click can_opening brushing_teeth toilet_flush "
               "clock_tick",
        fsd50k="Domestic_sounds_and_home_sounds Dishes_and_pots_and_pans Cutlery_and_silverware Frying_(food) "
               "Microwave_oven Blender Mechanical_fan Vacuum_cleaner"),
    ClassProfile("Walk, footsteps", "walk_footsteps", looks=("a person walking", "feet", "shoes"),
        source_m=(0.03, 0.1), person=True, sounds_at=(0.5, 0.97), esc50="footsteps", fsd50k="Walk_and_footsteps"),
    ClassProfile("Door, open or close", "door_open_close", looks=("a door", "a drawer", "a cupboard"),
        source_m=(0.8, 1.2), height_m=2.0, generality=2, esc50="door_wood_creaks",
        fsd50k="Door Slam Cupboard_open_or_close Drawer_open_or_close Sliding_door Squeak"),
    ClassProfile("Music", "music", looks=("a loudspeaker", "a radio", "a television"), source_m=(0.4, 1.6),
        height_m=0.7, generality=3, fsd50k="Music"),
    ClassProfile("Musical instrument", "musical_instrument", looks=("a guitar", "a piano", "a musical instrument"),
        source_m=(0.6, 1.3), height_m=0.9, generality=2,
        fsd50k="Musical_instrument Guitar Piano Violin_and_fiddle Trumpet Drum Marimba_and_xylophone"),
    ClassProfile("Water tap, faucet", "water_tap", looks=("a water tap", "a sink"), source_m=(0.8, 1.1),
        height_m=0.35, esc50="pouring_water", fsd50k="Water_tap_and_faucet Sink_(filling_or_washing)"),
    ClassProfile("Bell", "bell", looks=("a bell", "a doorbell", "an alarm clock"), source_m=(0.7, 2.0), height_m=0.35,
        generality=1, esc50="church_bells", fsd50k="Bell Church_bell Bicycle_bell Doorbell"),
    ClassProfile("Knock", "knock", looks=("a hand knocking on a door", "a door"), source_m=(0.9, 1.5), height_m=2.0,
        esc50="door_wood_knock", fsd50k="Knock"),
)  # fmt: skip
"""The 13 classes of DCASE Challenge Task 3. Source: the challenge's task description, 2025."""

DCASE2025 = Taxonomy("dcase2025_task3", tuple(c.name for c in PROFILES), tuple(c.folder for c in PROFILES))

ESC50 = {label: profile.folder for profile in PROFILES for label in profile.esc50.split()}

FSD50K = {label: profile.folder for profile in PROFILES for label in profile.fsd50k.split()}


def profile_of(folder: str) -> ClassProfile:
    """Return what is known of a class by its folder's name; a user's own classes are things half a metre high."""
    own = ClassProfile(folder, folder, (f"a {folder.replace('_', ' ')}",), height_m=0.5)
    return next((profile for profile in PROFILES if profile.folder == folder), own)


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
    looks = {profile.name: profile.looks for profile in PROFILES}
    words: list[str] = []
    classes: list[int] = []
    for index, name in enumerate(taxonomy.classes):
        for query in own.get(name, looks.get(name, (f"a {name.lower()}",))):
            words.append(query)
            classes.append(index)
    return words, classes
