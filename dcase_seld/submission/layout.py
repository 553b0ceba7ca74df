"""The layout of a submission zip, as data: names, limits and required fields, from a YAML file users may change."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from dcase_seld.core.config import Config, parse_config
from dcase_seld.core.errors import SeldError
from dcase_seld.core.reading import parse_yaml, read_text

BUILT_IN = Path(__file__).parent / "templates"
"""The templates that come with the package; a folder of one's own may replace any of them, file by file."""

Track = Literal["a", "b"]

SIMULATED = "simulated scenes"
"""What stands there for clips that the simulator made."""

Edition = Literal["dcase2025", "dcase2024"]
"""Editions whose layouts come along."""

RANDOM = "RANDOM weights, never trained"
"""What stands in a meta file behind a network that was made for trials."""


class Layout(Config):
    """What layout.yaml holds; its comments say what each field means."""

    label: str = Field(description="Label of a system.")
    tasks: dict[Track, str] = Field(description="Name of each track in labels and folders.")
    meta: str = Field(description="Path of a system's meta file.")
    output: str = Field(description="Path of a clip's CSV file.")
    report: str = Field(description="Path of the technical report of a track.")
    challenge: str = Field(default="DCASE Challenge, Task 3", description="What the report says of the challenge.")
    rows: Literal["stereo", "sphere"] = Field(default="stereo", description="What a row of a CSV file is.")
    systems_per_track: int = Field(description="Most systems of one track.", ge=1)
    evaluation_clips: int = Field(description="Clips of the evaluation set.", ge=1)
    frames: int = Field(description="Label frames of a clip.", ge=1)
    classes: int = Field(description="Number of classes.", ge=1)
    abbreviation_length: int = Field(description="Most characters of an abbreviation.", ge=1)
    meta_bytes: int = Field(description="Largest meta file, bytes.")
    report_bytes: int = Field(description="Largest report, bytes.")
    total_bytes: int = Field(description="Most bytes of all files, unpacked.")
    entries: int = Field(description="Most files and folders in the zip.")
    meta_fields: tuple[str, ...] = Field(description="Fields that a meta file must have.")
    nullable: tuple[str, ...] = Field(description="Fields among them that may be null.")
    author_fields: tuple[str, ...] = Field(description="Fields that every author must have.")
    scores: dict[Track, dict[str, str]] = Field(description="Name in the meta file → figure, per track.")
    percent: tuple[str, ...] = Field(description="Figures that are given in percent.")

    def path(self, pattern: Literal["meta", "output", "report"], **names: str) -> str:
        """Return the path of a file in the zip."""
        return str(getattr(self, pattern).format(**names))

    def make_label(self, lastname: str, institute: str, track: Track, number: int) -> str:
        """Return the label of a system; accents and everything but letters, digits and hyphens are taken out."""
        task = self.tasks[track]
        return self.label.format(lastname=plain(lastname), institute=plain(institute), task=task, number=number)

    @cached_property
    def label_regex(self) -> re.Pattern[str]:
        """The labels that are allowed, with the groups lastname, institute, task and number."""
        return re.compile(_regex(self.label, {"task": "|".join(self.tasks.values())}))

    def place_regex(self, pattern: Literal["meta", "output", "report"]) -> re.Pattern[str]:
        """Return a regex of paths that stand where such a file belongs, however their label is spelled.

        Repeated names give groups such as label, label_2.
        """
        return re.compile(
            _regex(getattr(self, pattern), {"task": "[^/]*?", "lastname": "[^/]*?", "institute": "[^/]*?"})
        )

    def track_of(self, task: str) -> Track | None:
        """Return the track of a task's name, or None."""
        return next((track for track, name in self.tasks.items() if name == task), None)


def template(name: str, folder: Path | None) -> str:
    """Return the text of a template: the one in `folder` if it is there, else the built-in one.

    Raises:
        SeldError: it cannot be read.
    """
    path = BUILT_IN / name if folder is None or not (folder / name).is_file() else folder / name
    return read_text(path)


def load_layout(folder: Path | None = None, edition: Edition = "dcase2025") -> Layout:
    """Return the layout in a folder of templates, or the built-in one of an edition.

    Raises:
        SeldError: the folder or the file is not as it must be.
    """
    if folder is not None and not folder.is_dir():
        raise SeldError(
            f"The folder of templates {folder} is not there.", "Give a folder with layout.yaml, meta.yaml, …"
        )
    own = folder is not None and (folder / "layout.yaml").is_file()
    name = "layout.yaml" if own or edition == "dcase2025" else f"layout_{edition}.yaml"
    return parse_config(Layout, parse_yaml(template(name, folder), name, QUOTES), name)


QUOTES = "Check indentation, colons and quotes."


def plain(name: str) -> str:
    """Return a name in ASCII letters, digits and hyphens, as labels take it."""
    spelled = name.replace("ß", "ss").replace("ø", "o").replace("Ø", "O").replace("ł", "l").replace("Ł", "L")
    ascii_name = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode()
    short = re.sub(r"[^A-Za-z0-9-]", "", ascii_name)
    if not short:
        raise SeldError(f"{name!r} holds no Latin letter for the label.", "Write it in Latin letters in the team file.")
    return short


def _regex(pattern: str, groups: dict[str, str]) -> str:
    """Return a regex of a pattern with {names}; the second use of a name becomes name_2."""
    kinds = {
        "lastname": "[A-Za-z0-9-]+", "institute": "[A-Za-z0-9-]+", "number": "[0-9]+", "label": "[^/]+", "clip": "[^/]+"
    }  # fmt: skip
    seen: dict[str, int] = {}
    parts = []
    for piece in re.split(r"(\{\w+\})", pattern):
        if not piece.startswith("{"):
            parts.append(re.escape(piece))
            continue
        name = piece[1:-1]
        if name not in {**kinds, "task": ""}:
            raise SeldError(f"layout.yaml: {pattern!r} uses {piece}.", f"Use {', '.join(kinds)} or task.")
        seen[name] = seen.get(name, 0) + 1
        group = name if seen[name] == 1 else f"{name}_{seen[name]}"
        parts.append(f"(?P<{group}>{groups.get(name) or kinds[name]})")
    return "".join(parts)


class Affiliation(Config):
    """Where an author works."""

    abbreviation: str = Field(description="Short name of the institute, used in labels.", min_length=1)
    institute: str = Field(description="Full name of the institute.", min_length=1)
    department: str | None = Field(default=None, description="Department, if any.")
    location: str = Field(description="City and country.", min_length=1)


class Author(Config):
    """One author."""

    lastname: str = Field(description="Last name.", min_length=1)
    firstname: str = Field(description="First name.", min_length=1)
    email: str = Field(description="Address.", pattern=r"^[^@\s]+@[^@\s]+$")
    corresponding: bool = Field(default=False, description="Whether questions go to this author.")
    affiliation: Affiliation = Field(description="Where the author works.")


class SystemNames(Config):
    """What one system says differently."""

    name: str | None = Field(default=None, description="Full name of the system.")
    abbreviation: str | None = Field(default=None, description="Short name of the system.")
    description: dict[str, Any] = Field(default={}, description="Fields of the meta file that replace what is known.")


class Team(Config):
    """What the team file holds."""

    name: str = Field(description="Full name of the systems.", min_length=1)
    abbreviation: str = Field(description="Short name of the systems.", min_length=1)
    authors: tuple[Author, ...] = Field(description="In the order of the report.", min_length=1)
    source_code: str | None = Field(default=None, description="Address of the source code.")
    title: str = Field(default="Technical report", description="Title of the technical report.")
    abstract: str = Field(default="", description="Abstract of the technical report.")
    systems: dict[str, SystemNames] = Field(default={}, description="a1, a2, …, b1, … → what differs there.")

    @model_validator(mode="after")
    def _one_corresponds(self) -> Self:
        count = sum(author.corresponding for author in self.authors)
        if count != 1:
            raise ValueError(f"exactly one author must be corresponding, found {count}")
        return self

    @property
    def corresponding(self) -> Author:
        """Return the corresponding author, whose name labels begin with."""
        return next(author for author in self.authors if author.corresponding)


def load_team(path: Path | None) -> Team:
    """Return the team in a YAML file; None: the built-in example.

    Raises:
        SeldError: lists everything that is wrong in the file.
    """
    file = path or BUILT_IN / "team.yaml"
    text = read_text(file, remedy=f"Copy {BUILT_IN / 'team.yaml'} and fill it in.")
    return parse_config(Team, parse_yaml(text, str(file), QUOTES), str(file))


_NAME = re.compile(r"\$\{(\w+)\}")

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "°": r"\textdegree{}", "–": "--",
}  # fmt: skip


def fill_yaml(text: str, values: Mapping[str, Any], where: str) -> str:
    """Return a YAML template with its names replaced by values; None becomes `!!null`.

    Raises:
        SeldError: the template uses a name that is not known.
    """
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 2)

        def written(value: Any, indent: str = indent) -> str:
            return yaml_value(value, indent)

        filled = line if line.lstrip().startswith("#") else fill_text(line, values, where, written)
        lines.append(filled.replace(": \n", ":\n"))
    return "\n".join(lines)


def fill_text(text: str, values: Mapping[str, Any], where: str, written: Callable[[Any], str] = str) -> str:
    """Return a template with its names replaced by `written(value)`.

    Raises:
        SeldError: the template uses a name that is not known.
    """
    unknown = sorted({name for name in _NAME.findall(text) if name not in values})
    if unknown:
        raise SeldError(
            f"The template {where} uses ${{{unknown[0]}}}, which is not known.",
            f"Use one of: {', '.join(sorted(values))}.",
        )
    return _NAME.sub(lambda found: written(values[found.group(1)]), text)


def yaml_value(value: Any, indent: str) -> str:
    """Return a value as it stands behind a YAML key; tables go to lines of their own, indented."""
    if value is None:
        return "!!null"
    nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
    if nested and value:
        block = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1_000)
        return "\n" + "\n".join(indent + line for line in block.rstrip("\n").split("\n"))
    flow = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=100_000)
    return flow.removesuffix("\n").removesuffix("\n...")


def latex(text: str) -> str:
    """Return a text with LaTeX's special characters written so that they show."""
    return "".join(_LATEX.get(character, character) for character in text)
