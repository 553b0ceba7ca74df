"""Who submits: the team file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from dcase_seld.config import Config, parse_config
from dcase_seld.errors import SeldError
from dcase_seld.submission.layout import BUILT_IN, load_yaml


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
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SeldError(
            f"The team file {file} cannot be read: {error}.", "Copy submission/team.yaml and fill it in."
        ) from error
    return parse_config(Team, load_yaml(text, str(file)), str(file))
