"""The list of sound classes: the challenge's 13 by default, a user's own from one YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dcase_seld.errors import SeldError, listing


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
        if not self.classes:
            raise SeldError(f"The taxonomy {self.name!r} lists no class.", "List at least one class.")
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
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SeldError(f"The taxonomy file {path} cannot be read: {error}.", "Give a readable YAML file.") from error
    if not isinstance(data, dict):
        raise SeldError(f"The taxonomy file {path} must hold a mapping.", "Write name: and classes: in it.")
    data.setdefault("name", path.stem)
    return Taxonomy.from_json(data)
